"""Results on disk: one SQLite file, insert-only, safe for several processes and for kill -9.

A *run* is what makes results comparable and resumable: its kind (``calibrate``, ...), identity, seed and parameters.
A *result* is one sample of one run. Every insert is one committed transaction, synced before `insert` returns, so
whatever a caller was told is stored survives the process. Triggers refuse updates and deletions: a stored figure never
changes.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, ParamSpec, Self, TypeVar

from hil.errors import StoreError

Status = Literal["ok", "failed"]
P = ParamSpec("P")
R = TypeVar("R")

APPLICATION_ID = 0x6D754E53  # "muNS": tells our file from another program's SQLite file
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 30.0

_SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    identity TEXT NOT NULL,
    seed INTEGER NOT NULL,
    parameters TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))
);
CREATE TABLE results (
    run INTEGER NOT NULL REFERENCES runs (id),
    sample INTEGER NOT NULL CHECK (sample >= 0),
    status TEXT NOT NULL CHECK (status IN ('ok', 'failed')),
    architecture TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    error TEXT NOT NULL,
    record TEXT NOT NULL,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    PRIMARY KEY (run, sample)
) WITHOUT ROWID;
CREATE TRIGGER runs_fixed BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'runs are insert-only'); END;
CREATE TRIGGER runs_kept BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'runs are insert-only'); END;
CREATE TRIGGER results_fixed BEFORE UPDATE ON results BEGIN SELECT RAISE(ABORT, 'results are insert-only'); END;
CREATE TRIGGER results_kept BEFORE DELETE ON results BEGIN SELECT RAISE(ABORT, 'results are insert-only'); END;
"""


@dataclass(frozen=True, slots=True)
class Run:
    """What a run is. Two runs with equal fields are the same run, and one resumes the other."""

    kind: str
    identity: Mapping[str, Any]
    seed: int
    parameters: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON of all fields."""
        text = _canonical([self.kind, dict(self.identity), self.seed, dict(self.parameters)])
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Result:
    """One sample: `architecture` and `record` are JSON documents; `error` is empty when `status` is ``ok``."""

    sample: int
    status: Status
    architecture: Any = None
    sha256: str = ""
    error: str = ""
    record: Mapping[str, Any] = field(default_factory=dict)


def _canonical(document: Any) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _compact(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), allow_nan=False)


def _advice(error: sqlite3.Error) -> str:
    text = str(error)
    if "disk is full" in text or "disk I/O" in text:
        return "the disk is full or failing: free space and run the same command again, all stored results are kept"
    if "locked" in text or "busy" in text:
        return f"another process has held it for {BUSY_TIMEOUT_S:.0f} s: let it finish or end it, then run again"
    if "unable to open" in text:
        return "check that the folder exists and may be written"
    if "readonly" in text or "read-only" in text:
        return "the file or its folder is read-only: make it writable"
    if "not a database" in text or "malformed" in text:
        return "it is corrupt or not a results store; it was left as it is: move it away, or name another run folder"
    return "it was left as it is"


class Store:
    """An open results store. Close it, or use it as a context manager. Every method raises StoreError only."""

    def __init__(self, path: Path) -> None:
        """Open `path`, or create it. A file of another program or version is refused untouched."""
        self.path = path
        self._connection = self._guard(self._open)()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; committed results stay."""
        self._connection.close()

    def run_id(self, run: Run) -> int:
        """The number of `run`, registered now when the store does not know it."""
        return self._guard(self._run_id)(run)

    def find_run(self, run: Run) -> int | None:
        """The number of `run`, or None when the store does not know it."""
        rows = self._guard(self._rows)("SELECT id FROM runs WHERE digest = ?", (run.digest,))
        return int(rows[0][0]) if rows else None

    def runs(self) -> dict[int, Run]:
        """All runs by number, oldest first."""
        rows = self._guard(self._rows)("SELECT id, kind, identity, seed, parameters FROM runs ORDER BY id", ())
        return {row[0]: Run(row[1], self._json(row[2]), row[3], self._json(row[4])) for row in rows}

    def insert(self, run_id: int, result: Result) -> bool:
        """Store `result` durably; False (and nothing stored) when that sample of that run is there already."""
        return self._guard(self._insert)(run_id, result)

    def samples(self, run_id: int) -> dict[int, Status]:
        """Status of every stored sample of a run."""
        rows = self._guard(self._rows)("SELECT sample, status FROM results WHERE run = ?", (run_id,))
        return dict(rows)

    def results(self, run_id: int) -> Iterator[Result]:
        """All results of a run by sample number."""
        query = "SELECT sample, status, architecture, sha256, error, record FROM results WHERE run = ? ORDER BY sample"
        for row in self._guard(self._rows)(query, (run_id,)):
            yield Result(row[0], row[1], self._json(row[2]), row[3], row[4], self._json(row[5]))

    # -- SQLite below; every call goes through _guard, the one place where its exceptions are mapped --

    def _guard(self, call: Callable[P, R]) -> Callable[P, R]:
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return call(*args, **kwargs)
            except sqlite3.Error as error:
                raise StoreError(f"results store {self.path}: {error}; {_advice(error)}") from error
            except OSError as error:
                raise StoreError(f"results store {self.path}: {error}; check the folder and the disk") from error

        return guarded

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and application != APPLICATION_ID:
            raise StoreError(f"{self.path} is another program's database, not a results store; name another run folder")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if not tables:
            self._create(connection)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has format {version}, this program uses {SCHEMA_VERSION}; name another run folder"
            )
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"database disk image is malformed: {verdict.splitlines()[-1]}")

    @staticmethod
    def _create(connection: sqlite3.Connection) -> None:
        # Two processes may both see an empty file: the second waits here, then finds the tables.
        with closing(connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                (tables,) = cursor.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                if not tables:
                    for statement in _statements(_SCHEMA):
                        cursor.execute(statement)
                    cursor.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    cursor.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                cursor.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    def _rows(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def _run_id(self, run: Run) -> int:
        self._connection.execute(
            "INSERT INTO runs (digest, kind, identity, seed, parameters) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (digest) DO NOTHING",
            (run.digest, run.kind, _canonical(dict(run.identity)), run.seed, _canonical(dict(run.parameters))),
        )
        return int(self._rows("SELECT id FROM runs WHERE digest = ?", (run.digest,))[0][0])

    def _insert(self, run_id: int, result: Result) -> bool:
        cursor = self._connection.execute(
            "INSERT INTO results (run, sample, status, architecture, sha256, error, record)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, sample) DO NOTHING",
            (
                run_id, result.sample, result.status, _compact(result.architecture), result.sha256, result.error,
                _compact(dict(result.record)),
            ),
        )  # fmt: skip
        return cursor.rowcount == 1

    def _json(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (TypeError, ValueError) as error:
            raise StoreError(f"results store {self.path} holds a damaged record: {error}; {_MOVE}") from error


_MOVE = "move the file away and run again"


def _statements(script: str) -> list[str]:
    """The statements of `script`; executescript would commit the transaction around them."""
    statements: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending.strip())
            pending = ""
    return statements
