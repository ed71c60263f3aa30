"""A search on disk: one SQLite file that a kill -9 at any moment leaves complete.

A trial is stored, with the state of the random generator after it was drawn, before it runs; its result is
stored when it is done. Each is one synced transaction. So a search that is resumed knows what was under way, does that
again, and goes on with the same random numbers. Triggers refuse updates and deletions of what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from munas.arch.graph import mode_of
from munas.arch.space import parse_architecture, to_dict
from munas.closing import Closing
from munas.cost.resources import Resources
from munas.database import Database, Format
from munas.errors import SearchError, SearchStoreError
from munas.files import FOREIGN, parse_json, parse_toml
from munas.search.trial import Epoch, Rung, Task, Trained, Trial, TrialResult

APPLICATION_ID = 0x6D754E41  # "muNA": tells our file from another program's SQLite file
SCHEMA_VERSION = 1

P = ParamSpec("P")
T = TypeVar("T")

# A trial is a row of `candidates` and its result one of `evaluations`: the names that schema 1 gave them.
_TABLES = """
CREATE TABLE search (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    identity TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
);
CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), generator TEXT NOT NULL, rejected INTEGER NOT NULL);
CREATE TABLE candidates (
    number INTEGER PRIMARY KEY,
    architecture TEXT NOT NULL,
    sparsity REAL NOT NULL,
    seed INTEGER NOT NULL,
    parent INTEGER REFERENCES candidates (number),
    change TEXT NOT NULL,
    rungs TEXT NOT NULL,
    effort REAL NOT NULL
);
CREATE TABLE evaluations (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    number INTEGER NOT NULL UNIQUE REFERENCES candidates (number),
    status TEXT NOT NULL CHECK (status IN ('ok', 'failed')),
    trained TEXT,
    resources TEXT,
    message TEXT NOT NULL,
    seconds REAL NOT NULL,
    finished_s REAL NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
);
CREATE TABLE blobs (
    number INTEGER PRIMARY KEY REFERENCES candidates (number), tflite BLOB NOT NULL, weights BLOB NOT NULL
);
CREATE TABLE finals (
    number INTEGER NOT NULL REFERENCES candidates (number),
    seed INTEGER NOT NULL,
    effort REAL NOT NULL,
    trained TEXT NOT NULL,
    tflite BLOB NOT NULL,
    weights BLOB NOT NULL,
    seconds REAL NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (number, seed, effort)
);
CREATE TABLE documents (key TEXT PRIMARY KEY, document TEXT NOT NULL);
"""

_FIXED = ("search", "candidates", "evaluations", "blobs", "finals")
_SCHEMA = _TABLES + "".join(
    f"CREATE TRIGGER {table}_{what} BEFORE {what} ON {table}"
    f" BEGIN SELECT RAISE(ABORT, '{table} are insert-only'); END;\n"
    for table in _FIXED
    for what in ("UPDATE", "DELETE")
)
_FORMAT = Format("search store", APPLICATION_ID, SCHEMA_VERSION, _SCHEMA, SearchStoreError)


@dataclass(frozen=True, slots=True)
class State:
    """Of a search after the last trial was drawn: numpy's bit generator, and how many were rejected so far."""

    generator: Mapping[str, Any]
    rejected: int


class SearchStore(Closing):
    """One search in one SQLite file. Close it, or use it as a context manager.

    Every method raises SearchStoreError only; `begin` also SearchError. Any number of processes may read while one
    runs the search.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`, or create it. A file of another program or version is refused untouched."""
        self.path = path
        self._database = Database(path, _FORMAT)

    def close(self) -> None:
        """Close the file; what is stored stays."""
        self._database.close()

    # -- the search --

    def lock(self) -> None:
        """Be the one process that writes, until `close`; the system ends that when the process dies."""
        self._database.lock()

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Make this the store of the search with that identity (JSON), or check that it is.

        Raises SearchError, naming what differs, for the store of another search.
        """
        self.lock()
        text = _dumps(dict(identity))
        self._database.execute("INSERT INTO search (id, identity) VALUES (1, ?) ON CONFLICT DO NOTHING", (text,))
        found = self.identity() or {}
        if found != (asked := _identity(text)):
            raise SearchError(f"{self.path} holds another search: {_difference(found, asked)}")

    def identity(self) -> dict[str, Any] | None:
        """What `begin` was given first; None before that."""
        rows = self._database.rows("SELECT identity FROM search")
        return self._read(_identity, rows[0][0]) if rows else None

    def started(self) -> str | None:
        """When the search began, ISO 8601 in UTC."""
        rows = self._database.rows("SELECT created FROM search")
        return str(rows[0][0]) if rows else None

    def state(self) -> State | None:
        """The state after the last trial; None before the first."""
        rows = self._database.rows("SELECT generator, rejected FROM state")
        return State(self._read(_table, rows[0][0]), rows[0][1]) if rows else None

    def add_trial(self, task: Task, state: State) -> None:
        """Store a trial that is about to run, and the state after it was drawn."""
        item = task.trial
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO candidates VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    item.index, _dumps(to_dict(item.architecture)), item.sparsity, item.seed, item.parent, item.change,
                    _dumps([[rung.epoch, rung.worst_error] for rung in task.rungs]), task.effort,
                ),
            )  # fmt: skip
            self._database.execute(
                "INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (_dumps(dict(state.generator)), state.rejected)
            )

    def add_result(self, trial_result: TrialResult) -> None:
        """Store a finished trial with its blobs. Storing one twice is an error."""
        trained, number = trial_result.trained, trial_result.trial.index
        resources = None if trial_result.resources is None else _dumps(asdict(trial_result.resources))
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO evaluations (number, status, trained, resources, message, seconds, finished_s)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    number, trial_result.status, None if trained is None else _trained_text(trained), resources,
                    trial_result.message, trial_result.seconds, trial_result.finished_s,
                ),
            )  # fmt: skip
            if trained is not None:
                self._database.execute("INSERT INTO blobs VALUES (?, ?, ?)", (number, trained.tflite, trained.weights))

    # -- reading it --

    def tasks(self) -> Iterator[Task]:
        """All trials, as they were given to workers, by index."""
        for row in self._database.stream(f"SELECT {_TRIAL} FROM candidates ORDER BY number"):
            yield self._read(_task, row)

    def pending(self) -> list[Task]:
        """The trials that were drawn and not finished, by index."""
        query = f"SELECT {_TRIAL} FROM candidates WHERE number NOT IN (SELECT number FROM evaluations)"
        return [self._read(_task, row) for row in self._database.rows(f"{query} ORDER BY number")]

    def results(self) -> Iterator[TrialResult]:
        """The results of all trials in the order in which they finished, without tflite and weights. Read one before
        writing."""
        query = (
            f"SELECT {_TRIAL}, status, trained, resources, message, seconds, finished_s"
            " FROM evaluations JOIN candidates USING (number) ORDER BY place"
        )
        for row in self._database.stream(query):
            yield self._read(_trial_result, row)

    def trained(self, index: int) -> Trained | None:
        """What became of a trial, with tflite and weights; None when it failed or is not finished."""
        query = "SELECT trained, tflite, weights FROM evaluations JOIN blobs USING (number) WHERE number = ?"
        rows = self._database.rows(query, (index,))
        return self._read(_trained, *rows[0]) if rows else None

    # -- re-trainings and documents --

    def add_final(self, index: int, seed: int, effort: float, trained: Trained, seconds: float) -> None:
        """Store the re-training of a trial."""
        self._database.execute(
            "INSERT INTO finals (number, seed, effort, trained, tflite, weights, seconds) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (index, seed, effort, _trained_text(trained), trained.tflite, trained.weights, seconds),
        )

    def final(self, index: int, seed: int, effort: float) -> tuple[Trained, float] | None:
        """A stored re-training with its blobs, and its seconds; None when it is not there."""
        query = "SELECT trained, tflite, weights, seconds FROM finals WHERE number = ? AND seed = ? AND effort = ?"
        rows = self._database.rows(query, (index, seed, effort))
        return (self._read(_trained, *rows[0][:3]), float(rows[0][3])) if rows else None

    def put_document(self, key: str, document: Any) -> None:
        """Store a JSON document under a key; what was there is replaced."""
        self._database.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (key, _dumps(document)))

    def document(self, key: str) -> Any:
        """The document under a key; None when there is none."""
        rows = self._database.rows("SELECT document FROM documents WHERE key = ?", (key,))
        return self._database.json(rows[0][0]) if rows else None

    def _read(self, decode: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return decode(*args, **kwargs)
        except FOREIGN as error:
            self._database.damaged(error)


# -- rows and JSON; floats come back as they were, not-a-number too --

_TRAINED = ("error", "float_error", "epochs", "images_per_second")
_PLACE = ("board", "via", "timer", "runtime")  # of a board's identity: where figures come from
_TRIAL = "number, architecture, sparsity, seed, parent, change, rungs, effort"


def _dumps(document: Any) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _table(text: str) -> dict[str, Any]:
    document = parse_json(text, own=True)
    if not isinstance(document, dict):
        raise ValueError(f"a {type(document).__name__} in place of an object")
    return document


def _figures(made: Any, *names: str) -> None:
    """Raise TypeError where a field of `made` is no number (or, for those that may be absent, not None)."""
    for name in names:
        value = getattr(made, name)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise TypeError(f"{name} of a {type(made).__name__.lower()} is no number")


def _identity(text: str) -> dict[str, Any]:
    known = _table(text)
    if "mode" in known:  # older versions had other words
        known["mode"] = mode_of(known["mode"])
    if isinstance(known.get("calibration"), str):  # its text, which versions may write otherwise
        known["calibration"] = parse_toml(known["calibration"].encode())
    board = known.get("board")
    if "calibration" in known and known["calibration"] is None and isinstance(board, dict):
        # Nothing in such a search rests on the firmware or the compiler, which may be newer when it goes on.
        known["board"] = {name: board[name] for name in _PLACE if name in board}
    return known


def _task(row: Sequence[Any]) -> Task:
    number, architecture, sparsity, seed, parent, change, rungs, effort = row
    trial = Trial(number, parse_architecture(parse_json(architecture, own=True)), sparsity, seed, parent, change)
    steps = tuple(Rung(*rung) for rung in parse_json(rungs, own=True))
    for step in steps:
        _figures(step, "epoch", "worst_error")
    return Task(trial, steps, effort)


def _trial_result(row: Sequence[Any]) -> TrialResult:
    status, trained, costs, message, seconds, finished_s = row[8:]
    resources = None if costs is None else Resources(**_table(costs))
    if resources is not None:
        _figures(resources, *(item.name for item in fields(Resources) if item.name != "unit"))
    return TrialResult(
        trial=_task(row[:8]).trial,
        status=status,
        trained=None if trained is None else _trained(trained, b"", b""),
        resources=resources,
        message=message,
        seconds=seconds,
        finished_s=finished_s,
    )


def _trained_text(trained: Trained) -> str:
    fields = {
        "architecture": to_dict(trained.architecture),
        "error": trained.error,
        "float_error": trained.float_error,
        "epochs": trained.epochs,
        "stopped": trained.stopped,
        "history": [[epoch.loss, epoch.error, epoch.kept] for epoch in trained.history],
        "images_per_second": trained.images_per_second,
    }
    return _dumps(fields | ({"int8_cause": trained.int8_cause} if trained.int8_cause else {}))


def _trained(text: str, tflite: bytes, weights: bytes) -> Trained:
    known = _table(text)
    architecture = parse_architecture(known.pop("architecture"))
    history = tuple(Epoch(*epoch) for epoch in known.pop("history"))
    trained = Trained(architecture=architecture, history=history, tflite=tflite, weights=weights, **known)
    if not isinstance(trained.int8_cause, str):
        raise TypeError("int8_cause is no text")
    for made, names in ((trained, _TRAINED), *((epoch, ("loss", "error", "kept")) for epoch in history)):
        _figures(made, *names)
    return trained


def _difference(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What differs, by key; values where they are short."""
    parts = []
    for key in sorted(stored.keys() | asked.keys()):
        old, new = _dumps(stored.get(key)), _dumps(asked.get(key))
        if old != new:
            parts.append(f"{key} {old} there, {new} here" if len(old) + len(new) < 160 else f"{key} differs")
    return "; ".join(parts) + "; name another run folder"
