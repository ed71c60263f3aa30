"""Results on disk: one SQLite file, insert-only, safe for several processes and for kill -9.

A *run* is what makes results comparable and resumable: its kind (``calibrate``, ...), identity, seed and parameters.
A *result* is one sample of one run. Every insert is one committed transaction, synced before `insert` returns, so
whatever a caller was told is stored survives the process. Triggers refuse updates and deletions: a stored figure never
changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hil.errors import StoreError
from munas.closing import Closing
from munas.database import Database, Format

Status = Literal["ok", "failed"]

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


_FORMAT = Format("results store", APPLICATION_ID, SCHEMA_VERSION, _SCHEMA, StoreError)


class Store(Closing):
    """An open results store. Close it, or use it as a context manager. Every method raises StoreError only."""

    def __init__(self, path: Path) -> None:
        """Open `path`, or create it. A file of another program or version is refused untouched."""
        self.path = path
        self._database = Database(path, _FORMAT, BUSY_TIMEOUT_S)

    def close(self) -> None:
        """Close the file; committed results stay."""
        self._database.close()

    def lock(self) -> None:
        """Be the one process that runs a campaign of this store, until `close`."""
        self._database.lock()

    def run_id(self, run: Run) -> int:
        """The number of `run`, registered now when the store does not know it."""
        self._database.execute(
            "INSERT INTO runs (digest, kind, identity, seed, parameters) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (digest) DO NOTHING",
            (run.digest, run.kind, _canonical(dict(run.identity)), run.seed, _canonical(dict(run.parameters))),
        )
        number = self.find_run(run)
        assert number is not None
        return number

    def find_run(self, run: Run) -> int | None:
        """The number of `run`, or None when the store does not know it."""
        rows = self._database.rows("SELECT id FROM runs WHERE digest = ?", (run.digest,))
        return int(rows[0][0]) if rows else None

    def runs(self) -> dict[int, Run]:
        """All runs by number, oldest first."""
        rows = self._database.rows("SELECT id, kind, identity, seed, parameters FROM runs ORDER BY id")
        return {row[0]: Run(row[1], self._table(row[2]), row[3], self._table(row[4])) for row in rows}

    def insert(self, run_id: int, result: Result) -> bool:
        """Store `result` durably; False (and nothing stored) when that sample of that run is there already."""
        changed = self._database.execute(
            "INSERT INTO results (run, sample, status, architecture, sha256, error, record)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run, sample) DO NOTHING",
            (
                run_id, result.sample, result.status, _compact(result.architecture), result.sha256, result.error,
                _compact(dict(result.record)),
            ),
        )  # fmt: skip
        return changed == 1

    def samples(self, run_id: int) -> dict[int, Status]:
        """Status of every stored sample of a run."""
        rows = self._database.rows("SELECT sample, status FROM results WHERE run = ?", (run_id,))
        return dict(rows)

    def results(self, run_id: int) -> Iterator[Result]:
        """All results of a run by sample number."""
        query = "SELECT sample, status, architecture, sha256, error, record FROM results WHERE run = ? ORDER BY sample"
        for row in self._database.rows(query, (run_id,)):
            yield Result(row[0], row[1], self._database.json(row[2]), row[3], row[4], self._table(row[5]))

    def _table(self, text: str) -> dict[str, Any]:
        document = self._database.json(text)
        if not isinstance(document, dict):
            self._database.damaged(ValueError(f"a {type(document).__name__} in place of an object"))
        return document
