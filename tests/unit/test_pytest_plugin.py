"""The pytest plugin, in pytest runs of its own: options, fixtures, and hardware tests that are off unless asked for."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest

from hil import cache
from hil.cli.pytest_plugin import DEFAULT_BOARD as PLUGIN_BOARD
from hil.cli.pytest_plugin import VIAS
from hil.measure.options import DEFAULT_BOARD
from hil.targets import place
from tests.firmware import images
from tests.networks import small_network

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
CACHE = cache.cache_dir()  # before pytester moves the home folder
STRICT = ("-W", "error", "--strict-markers", "-p", "no:cacheprovider", "-rs")


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for an inner run that has the plugin, whether or not munas-hil is installed, and no other."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


def run(inner: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return inner.runpytest_subprocess(*STRICT, "-p", "hil.cli.pytest_plugin", *arguments, timeout=200)


def test_it_agrees_with_the_command_line() -> None:
    assert PLUGIN_BOARD == DEFAULT_BOARD
    assert set(VIAS) == set(place.VIAS) - {"auto"}


def test_the_entry_point_loads_it(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installation has it: a .dist-info with the entry points of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = inner.path / "site" / "munas_hil_under_test-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: munas-hil-under-test\nVersion: 1\n")
    lines = [f"{name} = {module}" for name, module in project["entry-points"]["pytest11"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines, ""]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(inner.path / "site"), str(ROOT)]))
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    inner.makepyfile("def test_board(hil_board): assert hil_board.name == 'nucleo-f746zg'")
    inner.runpytest_subprocess(*STRICT, timeout=200).assert_outcomes(passed=1)


def test_unused_it_imports_nothing_heavy(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        "import sys\ndef test_modules():\n"
        "    loaded = {name for name in sys.modules if name.split('.')[0] in ('hil', 'munas')}\n"
        "    assert loaded == {'hil', 'hil.cli', 'hil.cli.pytest_plugin', 'hil.version', 'munas', 'munas.lazy'}\n"
        "    assert not {'numpy', 'pydantic', 'serial', 'rich'} & set(sys.modules)\n"
    )
    run(inner).assert_outcomes(passed=1)


HARDWARE = """
import pytest

@pytest.mark.hil_hardware
def test_on_the_desk(): pass

@pytest.mark.hil_hardware
class TestMore:
    def test_too(self): pass

def test_anywhere(): pass
"""


def test_hardware_tests_are_skipped_unless_asked_for(inner: pytest.Pytester) -> None:
    inner.makepyfile(HARDWARE)
    for via in ((), ("--hil-via", "renode")):
        found = run(inner, *via)
        found.assert_outcomes(passed=1, skipped=2)
        found.stdout.fnmatch_lines(["*needs a connected board: run with --hil-via hardware*"])
    run(inner, "--hil-via", "hardware").assert_outcomes(passed=3)


def test_the_board_is_the_one_asked_for(inner: pytest.Pytester) -> None:
    inner.makepyfile("def test_board(hil_board): assert hil_board.name == 'mps2-an386'")
    run(inner, "--hil-board", "MPS2_AN386").assert_outcomes(passed=1)
    found = run(inner, "--hil-board", "no-such-board")
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines(["*BoardError*no-such-board*"])


def test_a_place_that_does_not_exist_is_a_usage_error(inner: pytest.Pytester) -> None:
    inner.makepyfile("def test_nothing(): pass")
    assert run(inner, "--hil-via", "auto").ret == pytest.ExitCode.USAGE_ERROR


@pytest.mark.firmware
@pytest.mark.qemu
@pytest.mark.slow
def test_networks_are_measured_under_qemu(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    images.need_toolchain()
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(CACHE))
    (inner.path / "one.tflite").write_bytes(small_network(1))
    inner.makepyfile(
        """
        from pathlib import Path
        import pytest
        from hil.errors import BudgetError

        def test_path_and_bytes(hil_measure):
            first, second = hil_measure("one.tflite"), hil_measure(Path("one.tflite").read_bytes(), "again")
            assert (first.measurement.model, second.measurement.model) == ("one", "again")
            assert (first.measurement.outputs.checked, first.measurement.outputs.mismatched) == (8, 0)
            assert first.measurement.latency == second.measurement.latency
            assert first.measurement.identity.board == "mps2-an386"
            assert first.measurement.identity.timer == "icount-instructions"

        def test_another_budget(hil_board, hil_measure):
            with pytest.raises(BudgetError):
                hil_measure("one.tflite", board=hil_board.with_budget(8192, None))
        """
    )
    run(inner, "--hil-board", "mps2-an386").assert_outcomes(passed=2)


@pytest.mark.firmware
@pytest.mark.slow
def test_a_board_that_fails_under_xdist(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test that measures fails with the board's own error; no worker is lost, and the other tests pass."""
    images.need_toolchain()
    pytest.importorskip("xdist")
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(CACHE))
    emulator = inner.path / "bin" / "qemu-system-arm"
    emulator.parent.mkdir()
    emulator.write_text("#!/bin/sh\ncase $* in *--version*) echo 'QEMU emulator version 7.2.0';; esac\nexit 7\n")
    emulator.chmod(0o755)
    monkeypatch.setenv("PATH", f"{emulator.parent}{os.pathsep}{os.environ['PATH']}")
    (inner.path / "one.tflite").write_bytes(small_network(1))
    inner.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_measures(hil_measure, number): hil_measure("one.tflite")

        @pytest.mark.parametrize("number", range(4))
        def test_measures_nothing(hil_board, number): assert hil_board.name == "mps2-an386"
        """
    )
    found = run(inner, "--hil-board", "mps2-an386", "-p", "xdist.plugin", "-n", "2")
    found.assert_outcomes(failed=4, passed=4)
    found.stdout.fnmatch_lines(["*RunnerError*"])
    found.stdout.no_fnmatch_line("*crashed*")
    found.stdout.no_fnmatch_line("*INTERNALERROR*")


@pytest.mark.slow
def test_no_board_under_xdist(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is connected: an error of each test that measures, in every worker."""
    pytest.importorskip("xdist")
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(inner.path / "cache"))
    inner.makepyfile(
        "import pytest\n\n@pytest.mark.parametrize('number', range(4))\ndef test_measures(hil_measure, number): pass\n"
    )
    found = run(inner, "--hil-via", "hardware", "-p", "xdist.plugin", "-n", "2")
    found.assert_outcomes(errors=4)
    found.stdout.fnmatch_lines(["*DeviceMissing*"])
