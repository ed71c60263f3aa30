"""The short form of `make edges`: damaged files to all readers, and kill -9 with most results stored."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.errors import UsageError
from hil.measure.harness import Options, generate_project
from tests.faults import edge_kills
from tests.faults import test_search_kill as search_program
from tests.faults.edge_inputs import Kind
from tests.faults.edges import Tried, by_command, fuzz, try_one
from tests.networks import small_network

ROOT = Path(__file__).resolve().parents[2]
WORDS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "bench": (("boards", "--detect"), {"MUNAS_HIL_BENCH": "FILE"}),
    "board": (("boards", "FILE"), {}),
    "cmp": (("compare", "FILE", "FILE"), {}),
    "gate": (("calibrate", "--check", "FILE"), {}),
    "pol": (("compare", "FILE", "FILE", "--policy", "FILE"), {}),
}


@pytest.mark.slow
@pytest.mark.qemu
def test_damaged_files_of_every_kind() -> None:
    wrong = [text for tried in fuzz(260, 7) for text in tried.wrong]
    assert wrong == []


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("kill", [edge_kills.verify, edge_kills.search])
def test_kill_minus_nine_with_most_results_stored(
    kill: Callable[[int, int], edge_kills.Killed], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_kills, "INPUTS", 150)  # half of them take longer than to see it
    monkeypatch.setattr(edge_kills, "TRIALS", 24)
    found = kill(2, 3)
    assert found.sound, found


def test_the_inputs_of_the_report(shared: Path) -> None:
    """Every file that once made a traceback, a wrong figure or raw text."""
    for path in sorted((shared / "cases" / "edges").iterdir()):
        words, environment = WORDS[path.name.partition("_")[0]]
        statuses = (0, 2) if path.name == "bench_esc.toml" else (0, 1) if path.name == "cmp_esc_compiler.json" else (2,)
        kind = Kind(path.name, path.name, b"", words, statuses, environment=environment)
        tried = Tried(path.name)
        try_one(kind, path, tried)
        assert tried.wrong == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), os.mkdir])
def test_a_bench_file_that_is_no_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "bench.toml")
    kind = Kind("bench", "bench.toml", b"", ("boards", "--detect"), (2,), environment={"MUNAS_HIL_BENCH": "FILE"})
    assert by_command(kind, tmp_path / "bench.toml") == ("2", "")


@pytest.mark.parametrize("name", ["a;b", "a?b", "a\nb", "a\x1bb", "$(reboot)", "a:b", "50%", 'a"b', "a\\b", "[a]"])
def test_a_folder_that_cmake_cannot_build_in_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "net.tflite").write_bytes(small_network(2))
    board, options = load_board("mps2-an386"), Options()
    with pytest.raises(UsageError, match="CMake cannot build"):
        generate_project(tmp_path / "net.tflite", board, options, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["net.tflite"]


@pytest.mark.slow
def test_a_disk_that_is_full_during_a_search_loses_nothing(tmp_path: Path) -> None:
    """A limit on file sizes stands for the disk."""
    program = Path(search_program.__file__)
    folder, whole = tmp_path / "full", tmp_path / "whole"
    for run in (folder, whole):
        run.mkdir()
    words = f"ulimit -f 120; exec {sys.executable} {program} {folder} 14 1 -1"
    done = subprocess.run(
        ["bash", "-c", words], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "SearchStoreError" in done.stderr
    assert 0 < len(search_program.stored(folder)[1]) < 14
    search_program.finish(folder, 14, 1)
    search_program.finish(whole, 14, 1)
    assert search_program.stored(folder) == search_program.stored(whole)
