"""Bad input through the command line: one line that says what is wrong, the right status, no traceback, no hang."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from hil.build.toolchain import find_toolchain, run_tool
from hil.cli import main as cli
from hil.cli.app import _console
from hil.errors import BudgetError, BuildError, ToolMissing
from hil.terminal import printable
from tests.calibration_results import calibration_result

ROOT = Path(__file__).resolve().parents[2]
BOARD = (ROOT / "boards" / "netduinoplus2.toml").read_text(encoding="utf-8")
MANY_DIGITS = "9" * 5000  # Python refuses to make an integer of them
LAYER = {
    "op": "Conv2D", "name": "a", "inputs": ["INPUT"], "in_shapes": [[1, 8, 8, 3]], "out_shape": [1, 8, 8, 4],
    "kernel_size": 3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run of the command line left."""

    status: int
    out: str
    err: str

    def is_one_line(self, status: int) -> bool:
        """Whether it failed with `status`, one error line, nothing on standard output and no traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("munas-hil: ")]
        return self.status == status and not self.out and len(lines) == 1 and "Traceback" not in self.err


Cli = Callable[..., Answer]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    """Runs the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Answer:
        monkeypatch.setattr(sys, "argv", ["munas-hil", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return Answer(int(stop.value.code or 0), *capsys.readouterr())

    return call


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs `command`, where HIL is the command line, in a process of its own."""
    code = "from hil.cli.main import main; main()"
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT), "HIL": f"{sys.executable} -c '{code}'"}
    return subprocess.run(
        ["bash", "-c", f'hil() {{ eval "$HIL" \'"$@"\'; }}; {command}'],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


# -- files that are not files --


@pytest.mark.timeout(120)
@pytest.mark.parametrize("command", ["graph", "boards", "report"])
def test_devices_and_pipes_are_refused(run: Cli, tmp_path: Path, command: str) -> None:
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        answer = run(command, path)
        assert answer.is_one_line(2)
        assert "not a regular file" in answer.err


@pytest.mark.parametrize("name", ["/dev/null", "pipe"])
def test_report_replaces_no_device(run: Cli, tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    if not target.exists():
        os.mkfifo(target)
    assert run("report", tmp_path, "--output", target).is_one_line(2)
    assert target.exists()
    assert not target.is_file()


# -- boards --


@pytest.mark.parametrize(
    "text",
    [
        BOARD.replace("1024", MANY_DIGITS),
        BOARD.replace('"1M"', f'"{MANY_DIGITS}K"'),
        BOARD.replace('"1M"', '"\u0664M"'),
        "a = " + "[" * 5000,
        "\x00",
    ],
    ids=["endless-number", "endless-size", "arabic-digit", "deep", "binary"],
)
def test_board_file(run: Cli, tmp_path: Path, text: str) -> None:
    assert text != BOARD
    (tmp_path / "board.toml").write_text(text, encoding="utf-8")
    assert run("boards", tmp_path / "board.toml").is_one_line(2)


def test_text_of_a_board_is_neither_markup_nor_obeyed_by_the_terminal(run: Cli, tmp_path: Path) -> None:
    text = BOARD.replace("Netduino Plus 2", "[red]x[/blue] \\u001b[31m")
    (tmp_path / "board.toml").write_text(text, encoding="utf-8")
    answer = run("boards", tmp_path / "board.toml")
    assert answer.status == 0
    assert "[/blue]" in answer.err
    assert "\x1b" not in answer.err
    (tmp_path / "board.toml").write_text(BOARD + '"\\u001b[31m" = 1\n', encoding="utf-8")
    answer = run("boards", tmp_path / "board.toml")
    assert answer.is_one_line(2)
    assert "\x1b" not in answer.err


def test_empty_board_name_is_no_list(run: Cli) -> None:
    assert run("boards", "").is_one_line(2)


@pytest.mark.parametrize("size", ["5M", "99999999999999999999M", MANY_DIGITS])
def test_budget_larger_than_the_board(run: Cli, size: str) -> None:
    assert run("measure", "none.tflite", "--board", "mps2-an386", "--sram", size).is_one_line(2)


def test_one_byte_over_budget_is_a_budget_error(tmp_path: Path) -> None:
    linker = tmp_path / "ld"
    linker.write_text('#!/bin/sh\necho "ld: region \\`RAM\' overflowed by 1 byte" >&2\nexit 1\n', encoding="utf-8")
    linker.chmod(0o755)
    with pytest.raises(BudgetError, match="RAM by 1 byte;") as stop:
        run_tool([linker])
    assert stop.value.shortfall_bytes == {"RAM": 1}


def test_temporary_files_of_a_killed_compiler_lie_beside_its_output(tmp_path: Path) -> None:
    compiler = tmp_path / "gcc"
    compiler.write_text("#!/bin/sh\necho $TMPDIR\n", encoding="utf-8")
    compiler.chmod(0o755)
    folder = tmp_path / "project"
    folder.mkdir()
    assert run_tool([compiler, "-c", "model.c", "-o", folder / "model.o"]).strip() == str(folder)


def test_a_failed_link_shows_what_the_linker_said(tmp_path: Path) -> None:
    compiler = tmp_path / "gcc"
    said = "arm-none-eabi/bin/ld: cannot find libhil.a: No such file\ncollect2: error: ld returned 1 exit status"
    compiler.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n", encoding="utf-8")
    compiler.chmod(0o755)
    with pytest.raises(BuildError, match="cannot find libhil"):
        run_tool([compiler])


def test_missing_archiver_is_named(run: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("arm-none-eabi-gcc", "sh"):
        (tmp_path / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match="arm-none-eabi-gcc-ar is not installed"):
        find_toolchain()


def test_names_in_tables_are_neither_markup_nor_obeyed_by_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("model")
    table.add_row(printable("[/nope]\x1b[31m\u202e\n"))
    _console().print(table)
    assert "[/nope]\\x1b[31m\\u202e\\n" in capsys.readouterr().err


# -- graphs --


def entry(**changes: Any) -> dict[str, Any]:
    return {"input_shape": [8, 8, 1], "num_classes": 10, "architecture": [{"units": 4}], **changes}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(entry()).replace("10", MANY_DIGITS),
        json.dumps(entry()).replace("10", "1" + "0" * 4000),
        json.dumps(entry(input_shape=[10**4000, 10**4000, 1])),
        json.dumps(entry(input_shape=[1] * 10000)),
        json.dumps({"layers": [{**LAYER, "op": "Pool"}]}),
        json.dumps({"layers": [{**LAYER, "op": "Pool", "pool_size": [-5, 1], "type": "max"}]}),
        json.dumps({"layers": [{**LAYER, "kernel_size": -3}]}),
        json.dumps({"layers": [{**LAYER, "kernel_size": 2.5}]}),
        json.dumps({"layers": [{**LAYER, "kernel_size": 10**300}]}),
        "[" * 100_000,
    ],
    ids=[
        "endless-number", "huge-classes", "huge-shape", "long-shape", "pool-without-size", "negative-pool",
        "negative-kernel", "fractional-kernel", "huge-kernel", "deep",
    ],
)  # fmt: skip
def test_graph_file(run: Cli, tmp_path: Path, text: str) -> None:
    (tmp_path / "graph.json").write_text(text, encoding="utf-8")
    answer = run("graph", tmp_path / "graph.json", "--json")
    assert answer.is_one_line(2)
    assert len(answer.err) < 400


# -- calibrations and results --


@pytest.mark.parametrize("text", [f"format = {MANY_DIGITS}", "format = 1\na = " + "[" * 5000, "\x00"])
def test_calibration_file(tmp_path: Path, text: str) -> None:
    from munas.cost.calibration_file import CalibrationError, load_calibration

    (tmp_path / "calibration.toml").write_text(text, encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"calibration\.toml"):
        load_calibration(tmp_path / "calibration.toml")


@pytest.mark.parametrize("value", ["null", '"x"', "[]", "1e308", "NaN", "Infinity"])
@pytest.mark.parametrize("key", ["budget_flash", "interval_coverage", "unit"])
def test_result_with_a_foreign_value(run: Cli, tmp_path: Path, key: str, value: str) -> None:
    document = calibration_result(30).to_json() | {key: "@"}
    (tmp_path / "result.json").write_text(json.dumps(document).replace('"@"', value), encoding="utf-8")
    answer = run("report", tmp_path)
    assert answer.status in (0, 2)
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("text", ["[" * 100_000, "\x00", MANY_DIGITS, "null"])
def test_result_file(run: Cli, tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text, encoding="utf-8")
    assert run("report", tmp_path).is_one_line(2)


# -- standard output and standard error --


@pytest.mark.parametrize("where", [">&-", "> /dev/full"])
def test_standard_output_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    done = shell(f"hil boards --json {where}", tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("munas-hil: standard output cannot be written: ")
    assert len(done.stderr.splitlines()) == 1


def test_status_survives_a_full_standard_error(tmp_path: Path) -> None:
    assert shell("hil boards no-such-board 2> /dev/full", tmp_path).returncode == 2


def test_a_bug_is_not_a_failed_check(run: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.cli.inspect.board_names", lambda: 1 / 0)
    answer = run("boards")
    assert answer.status == 3
    assert "Traceback" in answer.err
    assert answer.err.splitlines()[-1].startswith("munas-hil: BUG: ZeroDivisionError")
