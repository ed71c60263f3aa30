"""The command line: exit statuses, one-line errors, JSON on stdout and nothing else there."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from hil.cli import main as cli
from hil.cli.doctor import examine
from hil.cli.main import app
from hil.errors import (
    BoardError,
    BudgetError,
    BuildError,
    CheckFailed,
    DeviceLost,
    HilError,
    LinkTimeout,
    StoreError,
    TargetFaultError,
    ToolMissing,
)
from munas.tflite.flatbuffer import write_tflite
from tests.networks import every_operator, small_network

ROOT = Path(__file__).resolve().parents[2]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["munas-hil", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.mark.parametrize("url", ["bogus://x", "socket://", "rfc2217://lab", "socket://h:99999"])
def test_a_port_that_is_no_url_of_a_server(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "measure", "--protocol", "mlperf", "--port", url) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"munas-hil: --port: .*(is not (socket|rfc2217)://HOST:PORT|not known)\n", said)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nucleo-l4r5zi", "± 7.8 %, by 13 published figures that nothing was fitted to, off by 2.2 % in the mean"),
        ("nucleo-l4r5zi", "none for networks in SRAM2, SRAM3"),
        ("nucleo-l4r5zi", "+3.9 %  5.6593 ms  published image of Bosch HALE, ad"),
        ("raspberry-pi-pico-2", "without milliseconds, there is no evidence"),
        ("mps3-an547", "instruction counts only"),
    ],
)
def test_a_board_shows_its_evidence(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "boards", name) == 0
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "vias"), [("nucleo-f746zg", ("hardware", "renode", "qemu")), ("mps2-an386", ("qemu",))]
)
def test_a_board_says_every_way_to_run_it(
    name: str, vias: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "boards", name) == 0
    said = capsys.readouterr().err
    assert [via for via in ("hardware", "renode", "qemu") if via in said.partition("modelled")[0]] == list(vias)


@pytest.mark.parametrize(("place", "origin"), [("arena=dtcm", "0x20000000"), ("arena=sram1", "0x20010000")])
def test_a_project_has_its_ram_where_it_was_placed(
    place: str, origin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.tflite").write_bytes(small_network(2))
    where = ("--board", "nucleo-f746zg", "--place", f"{place},weights=ram")
    assert run(monkeypatch, "generate", str(tmp_path / "net.tflite"), "-o", str(tmp_path / "project"), *where) == 0
    assert f"RAM (rwx) : ORIGIN = {origin}" in (tmp_path / "project" / "memory.x").read_text("utf-8")
    assert '".data.hil_weights."' in (tmp_path / "project" / "weights.h").read_text("utf-8")


def test_generate_says_what_was_given_up_for_small_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.tflite").write_bytes(write_tflite(every_operator(), 1))
    for optimise, smaller in (("size", True), ("speed", False)):
        where = ("-o", str(tmp_path / optimise), "--optimise", optimise, "--json")
        assert run(monkeypatch, "generate", str(tmp_path / "net.tflite"), *where) == 0
        shown = capsys.readouterr()
        found = json.loads(shown.out)["given_up"]
        assert bool(found) is smaller
        assert all(item["code_bytes"] > 0 and item["cycles"] > 0 for item in found)
        assert shown.err.count(f"(--optimise {optimise})") == len(found)


@pytest.mark.parametrize(
    "arguments",
    [
        ["measure", "a.tflite"],
        ["verify", "a.tflite", "--data", "a.npz"],
        ["calibrate"],
        ["search", "--dataset", "digits"],
        ["generate", "a.tflite", "-o", "a"],
        ["bring-up", "--board", "mps2-an386"],
        ["estimate", "a.tflite"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_command_with_firmware_takes_a_link(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments, "--link", "swo") == 2
    assert "--link swo does not exist (known: uart, rtt)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["boards", "no-such-board"],
        ["measure", "missing.tflite"],
        ["measure", __file__],
        ["measure", "missing.tflite", "--flash", "lots"],
        ["measure", "missing.tflite", "--sram=-1"],
        ["measure", "missing.tflite", "--via", "pigeon"],
        ["measure"],
        ["graph", __file__],
        ["graph", "missing.json"],
        ["calibrate", "--samples", "0"],
        ["calibrate", "--board", "no-such-board"],
        ["calibrate", "--check", "missing.json"],
        ["calibrate", "--check", __file__],
        ["calibrate", "--junit", "missing/checks.xml"],
        ["calibrate", "--junit", "."],
        ["calibrate", "--output", __file__],
        ["estimate", "missing.tflite", "--calibration", "missing.toml"],
        ["report", "missing"],
        ["report", str(ROOT / "hil")],
    ],
)
def test_usage_errors_are_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len([line for line in err.splitlines() if line.startswith("munas-hil: ")]) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["timing"]])
def test_help_without_a_command_is_readable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: ")
    assert len(err.splitlines()) > 6


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["measure", "missing.tflite", "-o", __file__], "test_cli.py is not a folder"),
        (["measure", "missing.tflite", "-o", f"{__file__}/below"], "test_cli.py is not a folder"),
        (["bring-up", "--board", "mps2-an386", "-o", "."], "is a folder; name a file"),
        (["coverage", "missing"], "missing does not exist"),
    ],
)
def test_outputs_are_looked_at_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert text in capsys.readouterr().err


def test_boards_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "boards", "NUCLEO_F746ZG", "--json") == 0
    board = json.loads(capsys.readouterr().out)
    assert (board["name"], board["core"], board["clock_hz"]) == ("nucleo-f746zg", "cortex-m7", 216_000_000)


def test_doctor_finds_renode_as_the_runner_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = "whose cycle counter is not exact: 1.16 is the oldest"
    for value, says, found, detail in (
        (tmp_path, "Renode v1.16.1.19220", True, "Renode v1.16.1"),
        (tmp_path, "Renode v2.0", True, "Renode v2.0"),
        (tmp_path, "Renode v1.15.3.6542", False, old),
        (tmp_path, "1.9.0", False, old),
        (tmp_path, "no idea", False, "cannot be told"),
        (tmp_path / "no", "", False, "RENODE_PATH="),
    ):
        (tmp_path / "renode").write_text(f"#!/bin/sh\necho {says}\n")
        (tmp_path / "renode").chmod(0o755)
        monkeypatch.setenv("RENODE_PATH", str(value))
        (check,) = [check for check in examine() if check.name == "renode"]
        assert check.found == found
        assert detail in check.detail
        assert bool(check.install) == (not found)


def test_doctor_says_3_when_something_needed_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert run(monkeypatch, "doctor", "--json") == 3
    missing = [item for item in json.loads(capsys.readouterr().out) if item["needed"] and not item["found"]]
    assert {item["name"] for item in missing} >= {"arm-none-eabi-gcc", "qemu-system-arm"}
    assert all("apt-get install" in item["install"] for item in missing)


ARCHITECTURE = {
    "conv_blocks": [
        {
            "is_branch": False,
            "layers": [
                {
                    "type": "Conv2D", "ker_size": 3, "filters": 4, "2x_stride": False, "has_bn": True,
                    "has_relu": True, "has_prepool": False,
                }
            ],
        }
    ],
    "pooling": None,
    "dense_blocks": [{"units": 10, "activation": "relu"}],
}  # fmt: skip


@pytest.mark.parametrize("mode", ["deployed", "paper", "faithful", "reference"])
def test_graph_prints_a_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, mode: str
) -> None:
    entry = {"input_shape": [8, 8, 1], "num_classes": 10, "architecture": ARCHITECTURE}
    for document, count in ((entry, 1), ([entry, entry], 2)):
        (tmp_path / "a.json").write_text(json.dumps(document))
        assert run(monkeypatch, "graph", str(tmp_path / "a.json"), "--mode", mode, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert len(found) == count
        # 6x6x4 outputs of 3x3x1 windows, then 144 -> 10 -> 10
        assert found[0]["macs"] == 36 * 4 * 9 + 144 * 10 + 10 * 10
        assert found[0]["model_size"] == 4 * 9 + 4 + 1450 + 110
        assert found[0]["peak_memory"] == 154
        assert found[0]["peak_memory_with_input"] == 64 + 144
        assert [item["op"] for item in found[0]["operators"]] == ["Conv2D", "Dense", "Dense"]
        assert len(found[0]["order"]) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_shape": [8, 8, -1]}, "input_shape"),
        ({"input_shape": "8x8"}, "input_shape"),
        ({"num_classes": 1}, "num_classes"),
        ({"num_classes": True}, "num_classes"),
        ({"architecture": {"conv_blocks": []}}, r"\[0\]"),
        ({"architecture": 7}, r"\[0\]"),
    ],
)
def test_graph_names_the_mistake(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    change: dict[str, Any],
    message: str,
) -> None:
    entry = {"input_shape": [8, 8, 1], "num_classes": 10, "architecture": ARCHITECTURE} | change
    (tmp_path / "a.json").write_text(json.dumps([entry]))
    assert run(monkeypatch, "graph", str(tmp_path / "a.json"), "--json") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.search(message, err)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (CheckFailed("x"), 1),
        (BoardError("x"), 2),
        (BudgetError("x", {"FLASH": 3}), 2),
        (ToolMissing("x", "y"), 3),
        (BuildError("x"), 3),
        (LinkTimeout("x"), 3),
        (TargetFaultError("x", {"pc": 1}), 3),
        (StoreError("x"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("hil.cli.doctor.examine", fail)
    assert run(monkeypatch, "doctor") == status
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [BudgetError("m", {"RAM": 4}), ToolMissing("t", "i"), TargetFaultError("m", {"pc": 2}), DeviceLost("A1", "m")],
)
def test_errors_travel_between_processes(error: HilError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_a_closed_stdout_is_no_traceback() -> None:
    """``munas-hil boards --json | head -0``"""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", "from hil.cli.main import main; main()", "boards", "--json"],
        stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    os.close(writer)
    assert "Traceback" not in done.stderr


def test_help_is_quick_and_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from hil.cli.main import main; main()", "--help"],
        capture_output=True, text=True, cwd=ROOT, check=True, timeout=120,
    )  # fmt: skip
    for name in ("doctor", "boards", "graph", "generate", "measure", "calibrate", "estimate", "report", "bench"):
        assert name in done.stdout


def numbers_of(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every option or argument of `command` and of what is below it that takes a number."""
    for parameter in command.params:
        kind = getattr(parameter, "type_descriptor", None)
        if kind is not None and kind.annotation in (int, float) and not parameter.count:
            yield f"{name} {parameter.opts[0]}", parameter
    for below, inner in getattr(command, "commands", {}).items():
        yield from numbers_of(inner, f"{name} {below}")


def test_every_number_has_a_range() -> None:
    """What a machine can bear: `--samples 99999999999999` is a usage error, not ten gigabytes."""
    found = list(numbers_of(typer.main.get_command(app), ""))
    assert len(found) > 20
    modelled = (" search ", " calibrate ")  # their ranges are those of the model: tests/unit/test_options.py
    loose = [name for name, parameter in found if None in (parameter.min, parameter.max)]
    assert [name for name in loose if not name.startswith(modelled)] == []
