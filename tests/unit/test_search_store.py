"""The store of a search: complete after every transaction, and clear about what it cannot do."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from munas.arch.space import AnyArchitecture, MlpArchitecture, random_cnn
from munas.errors import SearchError, SearchStoreError
from munas.search.store import SearchStore, State
from munas.search.trial import Epoch, Rung, Task, Trial, TrialResult
from tests.stub_trainer import ASSESSOR, trained

IDENTITY = {"board": "mps2-an386", "bounds": {"error": 0.1}, "seed": 3}
STATE = State(np.random.PCG64(1).state, 17)


def task(index: int, architecture: AnyArchitecture | None = None, parent: int | None = None) -> Task:
    network = architecture or random_cnn(np.random.default_rng(index))
    change = "random" if parent is None else "units +1"
    return Task(Trial(index, network, 0.1 + 0.2, 2**31 - 1 - index, parent, change), (Rung(2, 1 / 3),), 0.05)


def trial_result(item: Task, failed: bool = False) -> TrialResult:
    if failed:
        return TrialResult(item.trial, "failed", None, None, "the worker died:\nµ", 0.1, 0.7)
    done = trained(item, blob_bytes=5000)
    return TrialResult(item.trial, "ok", done, ASSESSOR.assess(done.architecture), "", 1 / 3, 2 / 3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SearchStore]:
    with SearchStore(tmp_path / "s.sqlite") as opened:
        opened.begin(IDENTITY)
        yield opened


def test_everything_comes_back_as_it_was(store: SearchStore) -> None:
    tasks = [task(0), task(1, MlpArchitecture((10, 256))), task(2, parent=0)]
    for item in tasks:
        store.add_trial(item, STATE)
    finished = [trial_result(tasks[2]), trial_result(tasks[0], failed=True), trial_result(tasks[1])]
    for result in finished:
        store.add_result(result)
    assert list(store.tasks()) == tasks
    without = [replace(item, trained=item.trained and item.trained.without_blobs()) for item in finished]
    assert list(store.results()) == without  # in the order in which they finished
    assert store.trained(2) == finished[0].trained
    assert store.trained(0) is None
    assert store.trained(99) is None
    assert store.state() == STATE
    assert store.identity() == IDENTITY


def test_not_a_number_comes_back(store: SearchStore) -> None:
    store.add_trial(task(0), STATE)
    done = trained(task(0))
    history = (*done.history, Epoch(math.nan, math.inf, 1.0))
    store.add_result(replace(trial_result(task(0)), trained=replace(done, history=history)))
    (found,) = store.results()
    assert found.trained is not None
    assert math.isnan(found.trained.history[-1].loss)
    assert math.isinf(found.trained.history[-1].error)


def test_the_state_is_that_after_the_last_trial(store: SearchStore) -> None:
    rng = np.random.default_rng(5)
    assert store.state() is None
    for index in range(3):
        rng.random()
        store.add_trial(task(index), State(rng.bit_generator.state, index))
    found = store.state()
    assert found is not None
    assert found.rejected == 2
    other = np.random.default_rng(0)
    other.bit_generator.state = dict(found.generator)
    assert other.random() == rng.random()


def test_what_was_under_way_is_known(store: SearchStore) -> None:
    tasks = [task(index) for index in range(4)]
    for item in tasks:
        store.add_trial(item, STATE)
    store.add_result(trial_result(tasks[2]))
    store.add_result(trial_result(tasks[0], failed=True))
    assert store.pending() == [tasks[1], tasks[3]]


def test_nothing_is_stored_twice(store: SearchStore) -> None:
    store.add_trial(task(0), STATE)
    with pytest.raises(SearchStoreError, match="UNIQUE"):
        store.add_trial(task(0), replace(STATE, rejected=99))
    assert store.state() == STATE  # nothing of the transaction stays
    store.add_result(trial_result(task(0)))
    with pytest.raises(SearchStoreError, match="UNIQUE"):
        store.add_result(trial_result(task(0), failed=True))
    assert [item.status for item in store.results()] == ["ok"]


def test_an_result_needs_its_trial(store: SearchStore) -> None:
    with pytest.raises(SearchStoreError, match="FOREIGN KEY"):
        store.add_result(trial_result(task(0)))


@pytest.mark.parametrize("table", ["search", "candidates", "evaluations", "blobs", "finals"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET rowid = 7", "DELETE FROM {}"])
def test_what_is_stored_does_not_change(store: SearchStore, tmp_path: Path, table: str, statement: str) -> None:
    store.add_trial(task(0), STATE)
    store.add_result(trial_result(task(0)))
    store.add_final(0, 1, 0.5, trained(task(0)), 1.0)
    connection = sqlite3.connect(tmp_path / "s.sqlite")
    try:
        with pytest.raises(sqlite3.IntegrityError, match="insert-only"):
            connection.execute(statement.format(table))
    finally:
        connection.close()


def test_finals_and_documents(store: SearchStore) -> None:
    store.add_trial(task(0), STATE)
    done = trained(task(0), blob_bytes=100_000)
    assert store.final(0, 1, 0.1) is None
    store.add_final(0, 1, 0.1, done, 2.5)
    assert store.final(0, 1, 0.1) == (done, 2.5)
    assert store.final(0, 2, 0.1) is None
    assert store.final(0, 1, 0.2) is None
    assert store.document("front") is None
    store.put_document("front", [1, 2])
    store.put_document("front", {"members": [3]})
    assert store.document("front") == {"members": [3]}


def test_the_same_search_goes_on(store: SearchStore, tmp_path: Path) -> None:
    store.close()
    with SearchStore(tmp_path / "s.sqlite") as again:
        again.begin(dict(reversed(IDENTITY.items())))
        assert again.started()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 4}, "seed 3 there, 4 here"),
        ({"bounds": {"error": 0.2}}, 'bounds {"error":0.1} there, {"error":0.2} here'),
        ({"board": "x" * 500}, "board differs"),
        ({"extra": 1}, "extra null there, 1 here"),
    ],
)
def test_another_search_is_refused_and_the_difference_named(
    store: SearchStore, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    store.close()
    with SearchStore(tmp_path / "s.sqlite") as again:
        with pytest.raises(SearchError) as error:
            again.begin({**IDENTITY, **change})
        assert message in str(error.value)
        assert again.identity() == IDENTITY


def test_two_processes_cannot_run_one_search(store: SearchStore, tmp_path: Path) -> None:
    store.add_trial(task(0), STATE)
    with SearchStore(tmp_path / "s.sqlite") as reader:
        assert len(list(reader.tasks())) == 1  # reading is fine
        with pytest.raises(SearchStoreError, match="another process"):
            reader.begin(IDENTITY)
    store.close()
    with SearchStore(tmp_path / "s.sqlite") as again:
        again.begin(IDENTITY)


def test_a_reader_sees_what_is_stored_meanwhile(store: SearchStore, tmp_path: Path) -> None:
    with SearchStore(tmp_path / "s.sqlite") as reader:
        store.add_trial(task(0), STATE)
        assert len(list(reader.tasks())) == 1
        store.add_result(trial_result(task(0)))
        assert len(list(reader.results())) == 1


def test_a_full_disk_is_said_and_loses_nothing(store: SearchStore, tmp_path: Path) -> None:
    store.add_trial(task(0), STATE)
    store.add_result(trial_result(task(0)))
    store.add_trial(task(1), STATE)
    # The page limit is SQLite's own way to run out of space: same error, and no root needed.
    store._database.connection.execute("PRAGMA max_page_count = 1")
    large = replace(trial_result(task(1)), trained=trained(task(1), blob_bytes=200_000))
    with pytest.raises(SearchStoreError, match="free space and run the same command again"):
        store.add_result(large)
    store.close()
    with SearchStore(tmp_path / "s.sqlite") as again:
        assert [item.trial.index for item in again.results()] == [0]
        assert again.pending() == [task(1)]
        again.add_result(large)
        assert again.trained(1) == large.trained


@pytest.mark.parametrize("content", [b"hello, I am not a database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.sqlite"
    path.write_bytes(content)
    with pytest.raises(SearchStoreError, match="not a search store; it was left as it is: move it away"):
        SearchStore(path)
    assert path.read_bytes() == content


def test_a_results_store_is_no_search_store(tmp_path: Path) -> None:
    hil_store = pytest.importorskip("hil.jobs.store")
    hil_store.Store(tmp_path / "s.sqlite").close()
    with pytest.raises(SearchStoreError, match="another program's database, not a search store"):
        SearchStore(tmp_path / "s.sqlite")


def test_a_truncated_store_is_an_error_with_advice(store: SearchStore, tmp_path: Path) -> None:
    for index in range(20):
        store.add_trial(task(index), STATE)
        store.add_result(trial_result(task(index)))
    store.close()
    path = tmp_path / "s.sqlite"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SearchStoreError, match="corrupt"):
        SearchStore(path)


def test_a_damaged_record_is_an_error_with_advice(store: SearchStore) -> None:
    store.add_trial(task(0), STATE)
    store._database.execute("DROP TRIGGER candidates_UPDATE")
    store._database.execute("UPDATE candidates SET architecture = '{\"conv_blocks\": 3}'")
    with pytest.raises(SearchStoreError, match="damaged record"):
        list(store.tasks())


def test_a_missing_folder_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(SearchStoreError, match="folder exists"):
        SearchStore(tmp_path / "nowhere" / "s.sqlite")


@pytest.mark.parametrize(("written", "today"), [("faithful", "deployed"), ("reference", "paper")])
def test_a_store_in_older_words_is_the_same_search(tmp_path: Path, written: str, today: str) -> None:
    with SearchStore(tmp_path / "old.sqlite") as opened:
        text = json.dumps({**IDENTITY, "mode": written})
        opened._database.execute("INSERT INTO search (id, identity) VALUES (1, ?)", (text,))
    with SearchStore(tmp_path / "old.sqlite") as opened:
        opened.begin({**IDENTITY, "mode": today})
        assert opened.identity() == {**IDENTITY, "mode": today}


def test_the_text_of_a_calibration_may_be_written_otherwise(tmp_path: Path) -> None:
    with SearchStore(tmp_path / "old.sqlite") as opened:
        text = json.dumps({**IDENTITY, "calibration": "seed = 1\n\n[latency]\n\n[latency.paths.fc]\ncalls = 1.0\n"})
        opened._database.execute("INSERT INTO search (id, identity) VALUES (1, ?)", (text,))
        opened.begin({**IDENTITY, "calibration": "seed = 1\n\n[latency.paths.fc]\ncalls = 1.0\n"})
        with pytest.raises(SearchError, match="calibration"):
            opened.begin({**IDENTITY, "calibration": "seed = 2\n\n[latency.paths.fc]\ncalls = 1.0\n"})


def test_a_search_without_a_calibration_goes_on_with_newer_firmware(tmp_path: Path) -> None:
    board = {"board": "nucleo-f746zg", "via": "qemu", "firmware": "0" * 16, "compiler": "12.2"}
    newer = {**board, "firmware": "1" * 16}
    with SearchStore(tmp_path / "search.sqlite") as store:
        store.begin({"board": board, "calibration": None, "seed": 0})
        store.begin({"board": newer, "calibration": None, "seed": 0})
        with pytest.raises(SearchError, match="board"):
            store.begin({"board": {**board, "via": "renode"}, "calibration": None, "seed": 0})
    with SearchStore(tmp_path / "calibrated.sqlite") as store:
        store.begin({"board": board, "calibration": "samples = 3", "seed": 0})
        with pytest.raises(SearchError, match="board"):
            store.begin({"board": newer, "calibration": "samples = 3", "seed": 0})
