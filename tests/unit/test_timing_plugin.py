"""Compiling the plugin on demand, and which emulators take it."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from hil.cycle_model import native
from hil.cycle_model.options import EngineOptions, Lines
from hil.cycle_model.plugin import Plugin, find_plugin, unavailable_reason
from hil.errors import BuildError, RunnerError, ToolMissing

QEMU = "qemu-system-arm"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(folder))
    find_plugin.cache_clear()
    return folder


@pytest.fixture(autouse=True)
def _forget() -> None:
    find_plugin.cache_clear()


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_compiled_once_for_each_interface(cache: Path) -> None:
    first = native.build_plugin(1)
    written = first.stat().st_mtime_ns
    assert native.build_plugin(1) == first
    assert first.stat().st_mtime_ns == written
    assert native.build_plugin(3) != first
    assert first.is_relative_to(cache)


@pytest.mark.slow
@pytest.mark.parametrize("api", [2, 3, 4, 5])
def test_later_interfaces_compile(api: int, cache: Path) -> None:
    """They cannot be run here; that they compile without a warning is all this shows."""
    assert native.build_plugin(api).is_file()


def test_without_a_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-cc")
    with pytest.raises(ToolMissing, match="apt-get install gcc"):
        native.build_plugin(1)
    reason = unavailable_reason(QEMU)
    assert reason is not None
    assert "no-such-cc" in reason


def test_a_failing_compiler_is_a_build_error(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = script(tmp_path / "cc", '[ "$1" = --version ] && echo cc 1 && exit 0; echo "x.c:1: error: no" >&2; exit 1')
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(BuildError, match="error: no"):
        native.build_plugin(1)
    assert list((cache / "timing").iterdir()) == []


def test_the_environment_of_compilers_is_not_the_users(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their headers and programs would be in the plugin, and it in the cache under the key of another."""
    planted = tmp_path / "planted"
    planted.mkdir()
    for name in ("stdint.h", "string.h", "stdlib.h"):
        (planted / name).write_text("#error planted\n", encoding="ascii")
    for name in ("as", "ld", "collect2", "cc1"):
        script(planted / name, "echo planted: error >&2; exit 1")
    for variable in ("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX"):
        monkeypatch.setenv(variable, f"{planted}/")
    assert native.build_library().is_file()


@pytest.mark.qemu
def test_this_emulator_takes_it(cache: Path) -> None:
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    assert find_plugin(QEMU).path.is_file()
    assert unavailable_reason(QEMU) is None


def test_an_emulator_that_wants_another_interface_gets_it(cache: Path, tmp_path: Path) -> None:
    """What QEMU says when it refuses, word for word; the fake loads version 2 and nothing else."""
    wants = "Could not load plugin: plugin requires API version 1, but this QEMU supports only a minimum version of 2"
    fake = script(
        tmp_path / "qemu",
        f'case "$*" in *--version*) echo "QEMU emulator version 8.9.0";; *{native.build_plugin(2)}*) '
        f'echo "timing plugin: loads" >&2; exit 1;; *) echo "{wants}" >&2; exit 1;; esac',
    )
    assert find_plugin(str(fake)).api == 2


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("QEMU emulator version 5.2.0", "too old"),
        ("something else", "does not name a version"),
        ("QEMU emulator version 9.0.0", "-plugin: invalid option"),
    ],
)
def test_emulators_that_do_not(said: str, message: str, cache: Path, tmp_path: Path) -> None:
    fake = script(
        tmp_path / "qemu",
        f'case "$*" in *--version*) echo "{said}";; *) echo "qemu: -plugin: invalid option" >&2; exit 1;; esac',
    )
    with pytest.raises(RunnerError, match=message):
        find_plugin(str(fake))


def test_no_emulator_at_all(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="cannot be run"):
        find_plugin(str(tmp_path / "none"))


def test_arguments_survive_commas() -> None:
    options = EngineOptions(core=4, inference=16, layers=(32, 48), data=Lines(32, 8, 0))
    flag, text = Plugin(Path("/a,b/plugin.so"), 1).arguments(options, Path("/tmp/x,y"))
    assert flag == "-plugin"
    assert text.startswith("/a,,b/plugin.so,core=4,inference=16,")
    assert text.endswith("layer=32,layer=48,out=/tmp/x,,y")
    assert "data_lines=8" in text
