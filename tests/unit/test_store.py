"""The results store: insert-only, exact-once, safe for several processes, and clear about what is wrong with a file."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from pathlib import Path

import pytest

from hil.errors import StoreError
from hil.jobs.store import Result, Run, Store

RUN = Run("calibrate", {"board": "mps2-an386", "clock_hz": 1}, 7, {"samples": 10})


def stored(path: Path) -> list[Result]:
    with Store(path) as store:
        return list(store.results(store.run_id(RUN)))


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    result = Result(3, "ok", {"blocks": [1, 2]}, "ab" * 32, "", {"latency": 1.5, "text": "µ"})
    failed = Result(1, "failed", None, "", "no such tool; install it")
    with Store(tmp_path / "s.sqlite") as store:
        run = store.run_id(RUN)
        assert store.insert(run, result)
        assert store.insert(run, failed)
        assert store.samples(run) == {1: "failed", 3: "ok"}
    assert stored(tmp_path / "s.sqlite") == [failed, result]


def test_a_sample_is_stored_once_and_the_first_stays(tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        run = store.run_id(RUN)
        assert store.insert(run, Result(0, "ok", record={"time": 1}))
        assert not store.insert(run, Result(0, "ok", record={"time": 2}))
        assert [result.record for result in store.results(run)] == [{"time": 1}]


@pytest.mark.parametrize(
    "other",
    [
        Run("search", RUN.identity, RUN.seed, RUN.parameters),
        Run(RUN.kind, {**RUN.identity, "clock_hz": 2}, RUN.seed, RUN.parameters),
        Run(RUN.kind, RUN.identity, 8, RUN.parameters),
        Run(RUN.kind, RUN.identity, RUN.seed, {"samples": 11}),
    ],
)
def test_runs_that_differ_do_not_mix(tmp_path: Path, other: Run) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        first, second = store.run_id(RUN), store.run_id(other)
        store.insert(first, Result(0, "ok"))
        assert first != second
        assert store.samples(second) == {}
        assert store.run_id(Run(RUN.kind, dict(reversed(RUN.identity.items())), RUN.seed, RUN.parameters)) == first
        assert store.runs() == {first: RUN, second: other}


@pytest.mark.parametrize("table", ["results", "runs"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET created = ''", "DELETE FROM {}"])
def test_stored_figures_cannot_be_changed(tmp_path: Path, statement: str, table: str) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.insert(store.run_id(RUN), Result(0, "ok", record={"a": 1}))
    connection = sqlite3.connect(path)
    try:
        with pytest.raises(sqlite3.IntegrityError, match="insert-only"):
            connection.execute(statement.format(table))
    finally:
        connection.close()
    assert len(stored(path)) == 1


@pytest.mark.parametrize("content", [b"hello, I am not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="move it away"):
        Store(path)
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE precious (x)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store(path)
    assert path.read_bytes() == before


def test_a_store_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    Store(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="format 99"):
        Store(path)


@pytest.mark.parametrize("keep", [0.3, 0.7])
def test_a_truncated_store_is_an_error_with_advice(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        run = store.run_id(RUN)
        for sample in range(200):
            store.insert(run, Result(sample, "ok", record={"data": "x" * 500}))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(StoreError, match="corrupt"):
        Store(path)


def test_a_missing_folder_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="folder exists"):
        Store(tmp_path / "nowhere" / "s.sqlite")


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        run = store.run_id(RUN)
        assert store.insert(run, Result(0, "ok", record={"a": 1}))
        # The page limit is SQLite's own way to run out of space: same error, and no root needed.
        store._database.connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StoreError, match="free space"):
            store.insert(run, Result(1, "ok", record={"data": "x" * 100_000}))
    assert [result.sample for result in stored(path)] == [0]


def test_a_store_held_by_another_process_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.sqlite"
    Store(path).close()
    monkeypatch.setattr("hil.jobs.store.BUSY_TIMEOUT_S", 0.1)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with Store(path) as store, pytest.raises(StoreError, match="another process"):
            store.run_id(RUN)
    finally:
        holder.close()


def _insert_many(path: Path, start: int, counts: multiprocessing.Queue[int]) -> None:
    with Store(path) as store:
        run = store.run_id(RUN)
        mine = [Result(sample, "ok", record={"by": os.getpid()}) for sample in range(start, 60)]
        counts.put(sum(store.insert(run, result) for result in mine))


def test_several_processes_store_every_sample_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    counts = context.Queue()
    path = tmp_path / "s.sqlite"
    processes = [context.Process(target=_insert_many, args=(path, start, counts)) for start in (0, 20, 0)]
    for process in processes:
        process.start()
    total = sum(counts.get(timeout=240) for _ in processes)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert total == 60
    assert [result.sample for result in stored(path)] == list(range(60))
