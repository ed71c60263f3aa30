"""A network's object file, written by us, is linked to the very image that the compiler's is linked to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hil.boards.board import Board, load_board
from hil.build.image import build_library, compile_model, link, link_objects
from hil.build.layouts import Layouts
from hil.build.object_file import TableLayouts
from hil.build.sources import Project
from hil.build.toolchain import find_toolchain
from hil.build.written import WrittenObjects
from hil.calibration.forecast import fitting, tflite_of
from hil.calibration.population import DEFAULT_POPULATION, POPULATIONS
from hil.calibration.probe import Room
from hil.calibration.probes import PROBES, probe_tflite
from hil.calibration.sample import Limits
from hil.codegen.render import Options
from hil.errors import BudgetError, BuildError, ImagesDiffer
from hil.runtimes.cmsis_nn import CmsisNn

pytestmark = pytest.mark.firmware

LIMITS = Limits(44_000, 52_000)


def networks(samples: int, probes: int) -> Iterator[bytes]:
    """Of a calibration: `samples` as it draws them, and every so many of its probes."""
    for index in range(samples):
        yield tflite_of(fitting(POPULATIONS[DEFAULT_POPULATION].draw, 3, index, LIMITS, "cmsis-nn"))
    room = Room.within(LIMITS.constants_bytes, LIMITS.arena_bytes)
    for number in range(0, PROBES, PROBES // probes):
        yield probe_tflite(3, number, room)


class Builder:
    """Both ways to build on one board."""

    def __init__(self, board: Board, folder: Path) -> None:
        self.runtime, self.folder = CmsisNn(board, "qemu"), folder
        self.toolchain = find_toolchain()
        self.archive = build_library(self.runtime.library, self.toolchain)
        self.layouts = Layouts(self.runtime.library, self.toolchain)

    def project(self, data: bytes) -> Project:
        plan = self.runtime.deploy(data, "net", keep_constant_channels=True)
        return self.runtime.render(plan, self.folder, Options(compiler=self.toolchain.version))

    def image(self, project: Project, model_object: Path) -> bytes:
        elf = self.folder / "firmware.elf"
        link_objects(project, [model_object], self.folder, self.archive, self.toolchain, elf)
        return elf.read_bytes()

    def compiled(self, project: Project) -> bytes:
        return self.image(project, compile_model(project, self.toolchain))

    def written(self, project: Project) -> bytes:
        assert project.network is not None
        path = self.folder / "written.o"
        path.write_bytes(project.network(self.layouts))
        return self.image(project, path)

    def kernels(self, project: Project) -> set[str]:
        text = (project.folder / "model.c").read_text()
        return {line.strip(" {").partition(",")[0] for line in text.splitlines() if line.startswith("    {hil_")}


def require_same(builder: Builder, samples: int, probes: int) -> set[str]:
    """The kernels of the networks that were compared."""
    seen: set[str] = set()
    for data in networks(samples, probes):
        project = builder.project(data)
        if project.network is None:
            assert "hil_model_reset" in (project.folder / "model.c").read_text()
            continue
        try:
            compiled = builder.compiled(project)
        except BudgetError:
            continue
        assert builder.written(project) == compiled, project.build_id
        seen |= builder.kernels(project)
    return seen


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(load_board("nucleo-f746zg"), tmp_path)


def test_it_is_linked_to_what_the_compilers_object_is_linked_to(builder: Builder) -> None:
    assert len(require_same(builder, 3, 4)) > 6


@pytest.mark.slow
def test_every_probe_and_more_samples(builder: Builder) -> None:
    assert len(require_same(builder, 20, PROBES)) > 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("board", "optimise"),
    [("microbit", None), ("mps2-an385", None), ("mps2-an505", None), ("mps3-an547", None), ("mps2-an386", "speed")],
)
def test_other_cores_and_other_flags(board: str, optimise: str | None, tmp_path: Path) -> None:
    assert require_same(Builder(load_board(board).optimised(optimise), tmp_path), 2, 12)


def test_for_small_code_networks_are_compiled(tmp_path: Path) -> None:
    builder = Builder(load_board("mps2-an386").optimised("size"), tmp_path)
    assert first_project(builder).network is None


def first_project(builder: Builder) -> Project:
    return builder.project(next(networks(1, 1)))


def wrong(project: Project, builder: Builder) -> Project:
    """One whose object has another byte than it should, in a weight."""
    assert project.network is not None
    found = bytearray(project.network(builder.layouts))
    found[len(found) // 2] ^= 1
    return replace(project, network=lambda layouts: bytes(found))


def test_objects_that_the_compiler_makes_otherwise_are_compiled(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path / "cache"))
    project = first_project(builder)
    for attempt in (wrong(project, builder), project):  # the verdict lasts
        objects = WrittenObjects(project.library, builder.archive, builder.toolchain)
        assert objects.object_of(attempt) is None
    assert sum(1 for _ in (tmp_path / "cache" / "written").iterdir()) == 1


def test_one_in_so_many_is_compiled_as_well_and_a_difference_is_an_error(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path / "cache"))
    objects = WrittenObjects(builder.runtime.library, builder.archive, builder.toolchain, check_every=2)
    project = first_project(builder)

    def build(of: Project) -> None:
        path = objects.object_of(of)
        assert path is not None
        objects.check(of, link(of, path, builder.archive, builder.toolchain))

    build(project)
    build(wrong(project, builder))  # the second one is not looked at
    with pytest.raises(ImagesDiffer, match=r"is the image [0-9a-f]{64} as we lay it out, and [0-9a-f]{64} as"):
        build(wrong(project, builder))
    build(project)


def test_a_value_that_does_not_fit_its_field_is_refused(builder: Builder) -> None:
    def network(layouts: TableLayouts) -> bytes:
        return (1 << 40).to_bytes(4, "little")

    objects = WrittenObjects(builder.runtime.library, builder.archive, builder.toolchain)
    project = first_project(builder)
    assert objects.object_of(project) is not None
    with pytest.raises(BuildError, match="BUG: a table cannot be laid out"):
        objects.object_of(replace(project, network=network))
