"""The linker alone makes what the compiler's driver does, and is taken only where the driver says what it runs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.build.image import build_library, compile_model, link
from hil.build.linker import DirectLinker, _marked
from hil.build.sources import Project
from hil.build.toolchain import Toolchain, find_toolchain
from hil.codegen.render import Options
from hil.errors import BudgetError
from hil.runtimes.cmsis_nn import CmsisNn
from tests.networks import small_network

pytestmark = pytest.mark.firmware


def project(folder: Path, board: str = "nucleo-f746zg", seed: int = 1, flash: int | None = None) -> Project:
    found = load_board(board)
    if flash is not None:
        found = found.model_copy(update={"budget": found.budget.model_copy(update={"flash": flash})})
    runtime = CmsisNn(found, "qemu")
    return runtime.render(runtime.deploy(small_network(seed), "net"), folder, Options())


def images(made: Project, toolchain: Toolchain, direct: DirectLinker) -> tuple[str, str]:
    """Of the driver, and of `direct`."""
    archive = build_library(made.library, toolchain)
    model = compile_model(made, toolchain)
    driven, alone = (link(made, model, archive, toolchain, how) for how in (None, direct))
    assert replace(driven, sha256="") == replace(alone, sha256="")
    return driven.sha256, alone.sha256


@pytest.mark.parametrize("board", ["nucleo-f746zg", "microbit", "mps3-an547"])
def test_it_makes_the_same_image(board: str, tmp_path: Path) -> None:
    toolchain = find_toolchain()
    direct = DirectLinker(toolchain)
    for number, name in enumerate(("plain", "with a space", "-L and $quotes'", "plain again")):
        made = project(tmp_path / name, board, seed=number)
        driven, alone = images(made, toolchain, direct)
        assert driven == alone
        (tmp_path / name / "firmware.elf").unlink()


@pytest.mark.parametrize("name", ["with a space", "$HOME", 'a"b', "a\\b", "a\\$b", "it's"])
def test_the_driver_is_understood_in_any_folder(name: str, tmp_path: Path) -> None:
    toolchain = find_toolchain()
    direct = DirectLinker(toolchain)
    for number in range(2):
        made = project(tmp_path / name / str(number), seed=number)
        driven, alone = images(made, toolchain, direct)
        assert driven == alone
    assert list(direct._known.values()) != [None]


def test_a_name_that_the_driver_writes_otherwise_is_seen() -> None:
    """Or the second link would take the first one's memory and objects."""
    places = {"/a/memory": "\0000", "-L/a/memory": "\0L0", "/a/m.o": "\0001", "-L/a/m.o": "\0L1"}
    key = ("gcc", "\0L0", "\0001")
    assert _marked(["ld", "-L/a/memory", "/a/m.o"], places, key) == ("ld", "\0L0", "\0001")
    assert _marked(["ld", "-L/b/../a/memory", "/a/m.o"], places, key) is None
    assert _marked(["ld", "-L/elsewhere", "/a/m.o"], places, key) is None


def test_the_driver_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolchain = find_toolchain()
    direct = DirectLinker(toolchain)
    asked = []
    real = DirectLinker._asked

    def counted(self: DirectLinker, words: list[str]) -> list[str] | None:
        asked.append(words)
        return real(self, words)

    monkeypatch.setattr(DirectLinker, "_asked", counted)
    for number in range(3):
        driven, alone = images(project(tmp_path / str(number), seed=number), toolchain, direct)
        assert driven == alone
    assert len(asked) == 1


def test_what_does_not_fit_is_told_with_the_same_bytes(tmp_path: Path) -> None:
    toolchain = find_toolchain()
    made = project(tmp_path, flash=4096)
    archive, model = build_library(made.library, toolchain), compile_model(made, toolchain)
    told = []
    for direct in (None, DirectLinker(toolchain)):
        with pytest.raises(BudgetError, match="overflows FLASH") as caught:
            link(made, model, archive, toolchain, direct)
        told.append((str(caught.value), caught.value.shortfall_bytes))
        assert not (tmp_path / "firmware.elf").exists()
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("case", "says"),
    [("-'###'", "echo nothing of the kind; exit 0"), ("-'###'", "exit 1"), ("-print-prog-name=ld", "echo ld; exit 0")],
)
def test_a_driver_that_does_not_say_what_it_runs_is_run_itself(case: str, says: str, tmp_path: Path) -> None:
    real = find_toolchain()
    driver = tmp_path / "driver-gcc"
    driver.write_text(f'#!/bin/sh\nfor word; do case "$word" in {case}) {says};; esac; done\nexec {real.gcc} "$@"\n')
    driver.chmod(0o755)
    toolchain = replace(real, gcc=driver)
    direct = DirectLinker(toolchain)
    command = [driver, "-nostartfiles", tmp_path / "a.o", "-o", tmp_path / "a.elf"]
    (tmp_path / "a.o").write_bytes(b"")
    assert direct.command(command, command[2:]) == list(map(os.fspath, command))
