"""SQLite files that survive kill -9 and say clearly what is wrong with them.

What the stores of results have in common: opening (another program's or version's file is refused untouched, and so is
one with other tables, views or triggers than ours, or other types in their columns), durable settings (WAL, synced on
every commit), transactions, and the one place where the exceptions of SQLite and of our JSON become ours.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

from munas.files import FileError, opened_regular, parse_json

P = ParamSpec("P")
R = TypeVar("R")

BUSY_TIMEOUT_S = 30.0
MAX_VALUE_BYTES = 256 << 20  # of one row
# A row of ours needs none of these; a crafted file could make much of them.
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MAX_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 2,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 2,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 100,
}
_STORED_AS = {"INTEGER": "'integer'", "REAL": "'real'", "TEXT": "'text'", "BLOB": "'blob'"}


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
        self._lock: int | None = None
        self.connection = self.guard(self._open)()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self.connection.close()
        if self._lock is not None:
            os.close(self._lock)  # which also unlocks
            self._lock = None

    def lock(self) -> None:
        """Be the one process whose jobs fill the file, until `close`; the system ends that when the process dies."""
        if self._lock is not None:
            return
        # Not the file itself: SQLite loses its own locks when another descriptor of it is closed.
        path = self.path.with_name(f"{self.path.name}.lock")
        lock = self.guard(os.open)(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise self._form.error(
                f"{self.path}: another process works for this {self._form.noun}; let it finish or end it"
            ) from error
        self._lock = lock

    def guard(self, call: Callable[P, R]) -> Callable[P, R]:
        """`call` with the exceptions of SQLite and of the file system mapped."""

        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return call(*args, **kwargs)
            except sqlite3.Error as error:
                raise self._form.error(f"{self._form.noun} {self.path}: {error}; {self._advice(error)}") from error
            except (UnicodeError, OverflowError) as error:  # of names and numbers in a damaged file
                raise self._form.error(
                    f"{self._form.noun} {self.path}: {error}; it is corrupt, and was left as it is: move it away"
                ) from error
            except MemoryError as error:
                raise self._form.error(f"{self._form.noun} {self.path} needs more memory than there is") from error
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

    def json(self, text: str) -> Any:
        """The JSON document in a stored `text`."""
        try:
            return parse_json(text, own=True)
        except FileError as error:
            self.damaged(error)

    def _open(self) -> sqlite3.Connection:
        with suppress(FileNotFoundError), opened_regular(self.path):  # SQLite would wait for a pipe
            pass
        connection = sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        form = self._form
        for category, most in _LIMITS.items():
            connection.setlimit(category, most)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and application != form.application_id:
            raise form.error(f"{self.path} is another program's database, not a {form.noun}; name another run folder")
        if tables:
            self._require_version(connection)
            self._require_schema(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if not tables:
            self._create(connection)
        self._require_version(connection)  # another process may have made them meanwhile
        self._require_schema(connection)
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(f"database disk image is malformed: {verdict.splitlines()[-1]}")
        self._require_types(connection)

    def _require_version(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != self._form.version:
            raise self._form.error(
                f"{self.path} has format {version}, this program uses {self._form.version}; name another run folder"
            )

    def _require_schema(self, connection: sqlite3.Connection) -> None:
        """That there are our tables and triggers only: a stranger's view or trigger runs what he likes."""
        with closing(sqlite3.connect(":memory:")) as fresh:
            fresh.executescript(self._form.schema)
            expected = _schema_of(fresh)
        if _schema_of(connection) != expected:
            raise self._form.error(
                f"{self.path} does not have the tables of a {self._form.noun}; it was left as it is: move it away, or "
                "name another run folder"
            )

    def _require_types(self, connection: sqlite3.Connection) -> None:
        """That columns hold what they are declared for, which SQLite itself does not see to."""
        for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            columns = connection.execute(f"SELECT name, type FROM pragma_table_info('{table}')").fetchall()
            # Where NULL may not be, quick_check has found it.
            wrong = [
                f"typeof({name}) NOT IN ('null', {_STORED_AS[kind]})" for name, kind in columns if kind in _STORED_AS
            ]
            if wrong and connection.execute(f"SELECT 1 FROM {table} WHERE {' OR '.join(wrong)} LIMIT 1").fetchone():
                self.damaged(ValueError(f"a column of {table} holds another type than it is declared with"))

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


def _schema_of(connection: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Kind, name, table and definition (white space apart) of all that a file defines."""
    rows = connection.execute("SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema").fetchall()
    return {(*map(str, row[:3]), " ".join(str(row[3]).split())) for row in rows}


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
