"""A wall clock that is set back and forward: no wait ends early or never, and nothing that is kept gets lost by it."""

from __future__ import annotations

import ast
import itertools
import os
import time
from pathlib import Path

import pytest

from hil.cache import cached_folder
from hil.errors import DeviceBusy, LinkError
from hil.jobs.store import Result, Run, Store
from hil.link import transcript
from hil.link.device import Device, Timeouts
from hil.link.transcript import Transcript
from hil.targets.locks import any_device
from munas import cache
from munas.scratch import scratch_folder, sweep_scratch
from tests.unit.test_transcript import DeafPort

ROOT = Path(__file__).resolve().parents[2]
YEAR_S = 365 * 86_400
DATED = {
    "hil/search/summary.py", "hil/calibration/calibrate.py", "hil/bring_up/clock.py", "hil/link/transcript.py",
}  # fmt: skip
"""Modules that say in a file when it was written."""

SETTLED = {"munas/data/fingerprint.py"}
"""Holds a file's time against the clock, and remembers nothing where the file is younger."""


@pytest.fixture(autouse=True)
def jumping(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ten years forward and back, at every look."""
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path / "cache"))
    steps, real = itertools.cycle((10 * YEAR_S, -10 * YEAR_S)), time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(steps))
    monkeypatch.setattr(time, "time_ns", lambda: int((real() + next(steps)) * 1e9))


def _reads_the_wall_clock(path: Path) -> bool:
    names = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in names
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    )


def test_the_wall_clock_only_dates_what_is_written() -> None:
    files = [path for package in ("hil", "munas") for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if _reads_the_wall_clock(path)}
    assert found == DATED | SETTLED


def test_waits_take_as_long_as_they_should() -> None:
    device = Device(DeafPort(), Timeouts(boot_s=0.2, command_s=0.2))
    device.wait_ready()
    started = time.monotonic()
    with pytest.raises(LinkError):
        device.command("name")
    with any_device(("A",)), pytest.raises(DeviceBusy), any_device(("A",), 0.2):
        pass
    assert 0.3 < time.monotonic() - started < 30


@pytest.mark.parametrize("when", [0, 1, 4_000_000_000])
def test_what_is_cached_and_in_use_stays(tmp_path: Path, when: int) -> None:
    """Whatever the times of the files say: content and process count."""
    folder = cached_folder("library", "00", lambda entry: (entry / "libhil.a").write_bytes(b"sound"))
    with scratch_folder("test") as used:
        for path in (*folder.rglob("*"), folder, used):
            os.utime(path, (when, when))
        cache._verified.clear()
        assert cached_folder("library", "00", lambda entry: pytest.fail("it was there")) == folder
        sweep_scratch(used.parent)
        assert used.is_dir()


def test_stores_go_on(tmp_path: Path) -> None:
    run = Run("test", {}, 0, {})
    for sample in range(3):
        with Store(tmp_path / "s.sqlite") as store:
            assert store.insert(store.run_id(run), Result(sample, "ok", record={"sample": sample}))
        os.utime(tmp_path / "s.sqlite", (0, 0))
    with Store(tmp_path / "s.sqlite") as store:
        assert [result.sample for result in store.results(store.run_id(run))] == [0, 1, 2]


def test_the_transcript_that_was_just_written_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error names its file; others may have times that are still to come."""
    monkeypatch.setattr(transcript, "MAX_FILES", 3)
    for number in range(5):
        later = tmp_path / f"{number}{transcript.SUFFIX}"
        later.write_text("of next year")
        os.utime(later, (4_000_000_000 + number,) * 2)
    written = Transcript().save(tmp_path, "net")
    assert written is not None
    assert written.is_file()
    assert sorted(path.name for path in tmp_path.iterdir() if path != written) == ["3.serial.log", "4.serial.log"]
