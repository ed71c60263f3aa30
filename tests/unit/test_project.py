"""Generated projects: deterministic, free of a model's text, and identified by everything that they are built from."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from hil.boards.board import Board, load_board
from hil.build.sources import CmsisRoots, find_cmsis, library
from hil.codegen.plan import Plan, make_plan
from hil.codegen.project import DEFAULTS, Options, Project, render
from hil.errors import BoardError, InfrastructureError, ToolMissing, UsageError
from hil.model.load import parse_model
from munas.tflite.file import Code, TfliteFile
from munas.tflite.flatbuffer import write_tflite
from tests.firmware.operators import Network
from tests.networks import every_operator

EVIL = '*/ #include "/etc/passwd" \n%> {{ 7*7 }} \\\n" ; int main(){system("x");} //'


@pytest.fixture(scope="module")
def board() -> Board:
    return load_board("nucleo-f746zg")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(parse_model(write_tflite(every_operator(), 3), "all"))


def texts(project: Project) -> dict[str, str]:
    return {path.name: path.read_text("ascii") for path in project.files}


def test_rendering_is_deterministic(plan: Plan, board: Board, tmp_path: Path) -> None:
    one = render(plan, board, "qemu", find_cmsis(), tmp_path / "one")
    other = render(plan, board, "qemu", find_cmsis(), tmp_path / "other")
    assert texts(one) == texts(other)
    assert one.build_id == other.build_id
    assert re.fullmatch("[0-9a-f]{32}", one.build_id)
    assert f'#define HIL_BUILD_ID "{one.build_id}"' in texts(one)["build.h"]
    assert set(texts(one)) == {"model.c", "weights.h", "plan.h", "board.h", "build.h", "memory.x"}


def test_the_build_id_covers_every_input(plan: Plan, board: Board, tmp_path: Path) -> None:
    def build_id(plan: Plan = plan, board: Board = board, options: Options = DEFAULTS) -> str:
        return render(plan, board, "qemu", find_cmsis(), tmp_path, options).build_id

    other_weights = make_plan(parse_model(write_tflite(every_operator(), 4), "all"))
    ids = [
        build_id(),
        build_id(plan=other_weights),
        build_id(board=load_board("nucleo-l4r5zi")),
        build_id(board=board.with_budget(1 << 17, None)),
        build_id(board=board.with_budget(None, 1 << 17)),
        build_id(options=Options(compiler="gcc 99")),
        build_id(options=Options(profile="kws01")),
        build_id(options=Options(stack_bytes=4096)),
    ]
    assert len(set(ids)) == len(ids)


def test_the_library_digest_covers_sources_headers_and_flags(board: Board, tmp_path: Path) -> None:
    target, cmsis = board.target("qemu"), find_cmsis()
    plain = library(board, target, cmsis).digest()
    assert library(load_board("mps2-an386"), target, cmsis).digest() != plain  # another core
    defined = target.model_copy(update={"defines": {"HIL_X": 1}})
    assert library(board, defined, cmsis).digest() != plain
    copied = render_standalone(board, tmp_path)
    assert library(board, target, copied, tmp_path / "firmware").digest() == plain, "folders do not count"
    ours = ("firmware/kernels/pool.c", "firmware/kernels/hil_kernels.h", "firmware/link.ld")
    theirs = ("cmsis-nn/Source/ConvolutionFunctions/arm_depthwise_conv_s8.c", "cmsis-core/Include/cmsis_gcc.h")
    for changed in (*ours, *theirs):
        path = tmp_path / changed
        text = path.read_text()
        path.write_text(text + "\n")
        assert library(board, target, copied, tmp_path / "firmware").digest() != plain, changed
        path.write_text(text)


def render_standalone(board: Board, folder: Path) -> CmsisRoots:
    network = Network(1, (4,))
    small = make_plan(parse_model(network.finish(network.dense(network.input, 3)), "small"))
    render(small, board, "qemu", find_cmsis(), folder, Options(standalone=True))
    return CmsisRoots(folder / "cmsis-nn", folder / "cmsis-core")


def test_a_standalone_project_needs_nothing_else(board: Board, tmp_path: Path) -> None:
    render_standalone(board, tmp_path)
    lists = (tmp_path / "CMakeLists.txt").read_text("ascii")
    assert str(tmp_path) not in lists
    assert not re.search(r"(?<![\w}])/(?!work)\w+/\w+", lists), "an absolute path"
    named = re.findall(r"^  ([\w./-]+\.c)$", lists, re.MULTILINE)
    assert len(named) > 15
    assert all((tmp_path / name).is_file() for name in named)
    assert (tmp_path / "cmsis-nn" / "LICENSE.txt").is_file()
    assert (tmp_path / "cmsis-core" / "LICENSE.txt").is_file()
    assert not list(tmp_path.rglob("*.j2"))


def relu_named(name: str) -> Plan:
    file = TfliteFile(name)
    source, output = (file.activation(name + str(index), (1, 8), 0.1) for index in range(2))
    file.operator(Code.RELU, [source], output)
    return make_plan(parse_model(file.finish([source], [output]), name))


def test_no_text_of_a_model_reaches_the_code(board: Board, tmp_path: Path) -> None:
    evil = render(relu_named(EVIL), board, "qemu", find_cmsis(), tmp_path / "evil")
    tame = render(relu_named("tame"), board, "qemu", find_cmsis(), tmp_path / "tame")
    assert texts(evil) == texts(tame)
    assert "tame" not in "".join(texts(tame).values())


def test_memory_is_the_budget(plan: Plan, board: Board, tmp_path: Path) -> None:
    limited = board.with_budget(50_000, 40_000)
    memory = texts(render(plan, limited, "qemu", find_cmsis(), tmp_path))["memory.x"]
    assert "FLASH (rx) : ORIGIN = 0x00000000, LENGTH = 50000" in memory
    assert "RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 40000" in memory
    assert "_ram_physical_end = 0x20400000;" in memory


def test_a_target_that_does_not_exist(plan: Plan, board: Board, tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="no target"):
        render(plan, load_board("mps2-an386"), "hardware", find_cmsis(), tmp_path)
    target = board.target("qemu").model_copy(update={"port": "abacus"})
    with pytest.raises(BoardError, match=r"firmware/port/abacus\.c"):
        render(plan, board.model_copy(update={"qemu": target}), "qemu", find_cmsis(), tmp_path)


def test_a_folder_that_cannot_be_written(plan: Plan, board: Board, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="cannot write"):
        render(plan, board, "qemu", find_cmsis(), tmp_path / "file")


@pytest.mark.parametrize("profile", ["", "KWS01", 'a"b', "x" * 17])
def test_a_profile_is_plain(plan: Plan, board: Board, tmp_path: Path, profile: str) -> None:
    with pytest.raises(ValueError, match="profile"):
        render(plan, board, "qemu", find_cmsis(), tmp_path, Options(profile=profile))


def test_another_cmsis_nn_is_refused_by_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(find_cmsis().nn, newer)
    monkeypatch.setenv("CMSIS_NN_ROOT", str(newer))
    assert find_cmsis().nn == newer
    header = newer / "Include" / "arm_nnfunctions.h"
    header.write_text(header.read_text().replace("V.11.2.0", "V.19.1.0").replace("7 November 2022", "27 March 2026"))
    with pytest.raises(
        UsageError, match=r"another CMSIS-NN of 27 March 2026 \(arm_nnfunctions\.h V\.19\.1\.0\) than 4"
    ):
        find_cmsis()


def test_cmsis_from_named_roots(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    packaged = find_cmsis()
    monkeypatch.setenv("CMSIS_NN_ROOT", str(packaged.nn))
    monkeypatch.setenv("CMSIS_CORE_ROOT", str(packaged.core))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as if the wheel were not installed
    assert find_cmsis() == packaged
    monkeypatch.setenv("CMSIS_NN_ROOT", str(tmp_path))
    with pytest.raises(UsageError, match="CMSIS_NN_ROOT"):
        find_cmsis()
    monkeypatch.delenv("CMSIS_NN_ROOT")
    with pytest.raises(ToolMissing, match="pip install bakenn"):
        find_cmsis()
