"""A few seconds of each fuzzer. Minutes by hand: python -m tests.faults.fuzz_firmware (or fuzz_host)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.faults import fuzz_firmware, fuzz_host

SECONDS = 4


@pytest.fixture(scope="module")
def clang() -> None:
    if not fuzz_firmware.available():
        pytest.skip("not run: clang with libFuzzer is not installed (sudo apt-get install clang)")


@pytest.mark.slow
def test_firmware(clang: None, tmp_path: Path) -> None:
    program = fuzz_firmware.build(tmp_path)
    runs, edges, found = fuzz_firmware.fuzz(program, tmp_path, SECONDS, seed=1)
    assert found == ""
    assert runs > 500
    assert edges > 200  # of the parser, the extension and the base protocol


@pytest.mark.slow
def test_the_fuzzer_finds_what_is_there(clang: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a command buffer that is one byte short of what the parser believes."""
    broken = tmp_path / "command.c"
    (original,) = (Path(path) for path in fuzz_firmware.sources() if path.endswith("/command.c"))
    broken.write_text(original.read_text().replace("line[HIL_WIRE_LINE_MAX + 1u]", "line[HIL_WIRE_LINE_MAX]"))
    listed = [str(broken) if path == str(original) else path for path in fuzz_firmware.sources()]
    assert str(broken) in listed
    monkeypatch.setattr(fuzz_firmware, "sources", lambda: listed)
    _, _, found = fuzz_firmware.fuzz(fuzz_firmware.build(tmp_path), tmp_path, 20, seed=1)
    assert "global-buffer-overflow" in found or "index 319 out of bounds" in found


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler for the host")
def test_host() -> None:
    counts = fuzz_host.fuzz(SECONDS, seed=3, conversations=30)
    assert counts["conversations"] >= 30
    assert counts["right"] > 20
    assert counts["lines"] > 1000


def test_clang_without_libfuzzer_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess(args=[], returncode=1)
    monkeypatch.setattr(shutil, "which", lambda _: "clang")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    assert not fuzz_firmware.available()
