"""SQLite files that survive kill -9 and say clearly what is wrong with them.

What the stores of results have in common: opening (another program's or version's file is refused untouched), durable
settings (WAL, synced on every commit), transactions, and the one place where SQLite's exceptions become ours.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

BUSY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Format:
    """What kind of file it is. `noun` names it in messages, `error` makes the exception out of a message."""

    noun: str
    application_id: int
    version: int
    schema: str
    error: Callable[[str], Exception]


class Database:
    """An open file of a format. Everything that it raises is made by the format's `error`."""

    def __init__(self, path: Path, form: Format, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Open `path`, or create it. A file of another program or version is refused untouched."""
        self.path = path
        self._form = form
        self._busy_timeout_s = busy_timeout_s
        self.connection = self.guard(self._open)()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self.connection.close()

    def guard(self, call: Callable[P, R]) -> Callable[P, R]:
        """`call` with the exceptions of SQLite and of the file system mapped."""

        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return call(*args, **kwargs)
            except sqlite3.Error as error:
                raise self._form.error(f"{self._form.noun} {self.path}: {error}; {self._advice(error)}") from error
            except OSError as error:
                raise self._form.error(
                    f"{self._form.noun} {self.path}: {error}; check the folder and the disk"
                ) from error

        return guarded

    def rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.guard(self._rows)(query, values)

    def stream(self, query: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, one at a time. The file may not be written to before the last one."""
        with closing(self.guard(self.connection.execute)(query, tuple(values))) as cursor:
            while (row := self.guard(cursor.fetchone)()) is not None:
                yield row

    def execute(self, statement: str, values: Sequence[object] = ()) -> int:
        """Run a statement; the number of rows that it changed. Outside a transaction it is durable at once."""
        return self.guard(self.connection.execute)(statement, tuple(values)).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is executed inside, durably, or nothing of it."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:  # a full disk may have rolled it back already
                self.execute("ROLLBACK")
            raise

    def damaged(self, error: Exception) -> NoReturn:
        """Raise for a stored record that does not read back."""
        raise self._form.error(
            f"{self._form.noun} {self.path} holds a damaged record: {error}; move the file away and run again"
        ) from error

    def _rows(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        return self.connection.execute(query, tuple(values)).fetchall()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        form = self._form
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and application != form.application_id:
            raise form.error(f"{self.path} is another program's database, not a {form.noun}; name another run folder")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if not tables:
            self._create(connection)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != form.version:
            raise form.error(
                f"{self.path} has format {version}, this program uses {form.version}; name another run folder"
            )
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"database disk image is malformed: {verdict.splitlines()[-1]}")

    def _create(self, connection: sqlite3.Connection) -> None:
        # Two processes may both see an empty file: the second waits here, then finds the tables.
        with closing(connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                (tables,) = cursor.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                if not tables:
                    for statement in _statements(self._form.schema):
                        cursor.execute(statement)
                    cursor.execute(f"PRAGMA application_id = {self._form.application_id}")
                    cursor.execute(f"PRAGMA user_version = {self._form.version}")
                cursor.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    def _advice(self, error: sqlite3.Error) -> str:
        text = str(error)
        if "disk is full" in text or "disk I/O" in text:
            return "the disk is full or failing: free space and run the same command again, all stored results are kept"
        if "locked" in text or "busy" in text:
            return (
                f"another process has held it for {self._busy_timeout_s:.0f} s: let it finish or end it, then run again"
            )
        if "unable to open" in text:
            return "check that the folder exists and may be written"
        if "readonly" in text or "read-only" in text:
            return "the file or its folder is read-only: make it writable"
        if "not a database" in text or "malformed" in text:
            what = f"it is corrupt or not a {self._form.noun}"
            return f"{what}; it was left as it is: move it away, or name another run folder"
        return "it was left as it is"


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
