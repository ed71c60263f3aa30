"""The one reader of files from outside: whatever they hold, the answer is a document or one kind of error."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import StoreError, UsageError
from hil.files import read_json, read_toml
from hil.jobs.store import Result, Run, Store
from munas.files import MAX_DEPTH, MAX_VALUES, FileError, opened_regular, parse_json, parse_toml, read_regular

HOSTILE_JSON = {
    "deep": "[" * 100_000,
    "as deep as Python parses": "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
    "5,000 digits": "9" * 5000,
    "300 digits": "9" * 300,
    "beyond 64 bits": "9223372036854775808",
    "endless": "1e400",
    "minus endless": "-1e400",
    "not a number": "NaN",
    "Infinity": "[Infinity]",
    "half a character": '"\\ud800"',
    "half a character as a key": '{"\\udfff": 1}',
    "NUL": '{"a": "\\u0000"}',
    "too many values": "[" + "1," * MAX_VALUES + "1]",
    "nothing": "",
}
HOSTILE_TOML = {
    "deep": "a = " + "[" * 5000,
    "deep and closed": "a = " + "[" * 900 + "]" * 900,
    "5,000 digits": "a = " + "9" * 5000,
    "300 digits": "a = " + "9" * 300,
    "hexadecimal": "a = 0x" + "f" * 300,
    "endless": "a = 1e400",
    "inf": "a = inf",
    "nan": "a = nan",
    "NUL": 'a = "\\u0000"',
    "a key of many parts": "a." * 100_000 + "b = 1",
    "no date": "a = 2000-13-01",
}


@pytest.mark.parametrize("text", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_hostile_json_is_one_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"file\.json cannot be read: "):
        read_json(path)


@pytest.mark.parametrize("text", HOSTILE_TOML.values(), ids=HOSTILE_TOML)
def test_hostile_toml_is_one_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=r"policy .*file\.toml cannot be read: "):
        read_toml(path, "policy")


@given(st.binary(max_size=300) | st.text("[]{}\",:=.\n 019eENaInfty#'\\u\x00-+", max_size=300).map(str.encode))
def test_any_bytes_are_a_document_or_one_error(raw: bytes) -> None:
    for parse in (parse_json, parse_toml):
        with contextlib.suppress(FileError):
            parse(raw)


def test_a_record_of_ours_may_hold_a_generators_state() -> None:
    assert parse_json(f"[{2**128 - 1}, NaN]", own=True)[0] == 2**128 - 1
    for text in (str(2**128), "9" * 5000, "[" * 100_000):
        with pytest.raises(FileError):
            parse_json(text, own=True)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    pipe, listening = tmp_path / "pipe", tmp_path / "socket"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(listening))
        for path in (pipe, listening, Path("/dev/zero"), Path("/dev/null"), tmp_path, tmp_path / "none", Path("a\0b")):
            failed: list[OSError] = []
            reader = threading.Thread(target=_catch, args=(path, failed), daemon=True)
            reader.start()
            reader.join(60)
            assert not reader.is_alive(), path
            assert failed, path


def _catch(path: Path, failed: list[OSError]) -> None:
    try:
        with opened_regular(path):
            pass
    except OSError as error:
        failed.append(error)


def test_a_size_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    assert read_regular(path, 8) == b"12345678"
    with pytest.raises(OSError, match="larger than 7"):
        read_regular(path, 7)


def stored(path: Path) -> None:
    with Store(path) as store:
        run = store.run_id(Run("verify", {"a": 1}, 0, {}))
        store.insert(run, Result(0, "ok", record={"device": "00"}))


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS id, '' AS digest FROM n"
DAMAGE: dict[str, tuple[str, ...]] = {
    "a view in place of a table": ("DROP TABLE results", f"CREATE VIEW results AS {ENDLESS}"),
    "another view": (f"CREATE VIEW more AS {ENDLESS}",),
    "a trigger": ("CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT 1; END",),
    "no trigger": ("DROP TRIGGER runs_fixed",),
    "another table": ("CREATE TABLE more (a)",),
    "another column": ("ALTER TABLE runs ADD COLUMN more",),
    "text for a number": ("DROP TRIGGER results_fixed", "UPDATE results SET sample = 'x'", "TRIGGER"),
    "bytes for text": ("DROP TRIGGER results_fixed", "UPDATE results SET record = x'00'", "TRIGGER"),
    "no JSON": ("DROP TRIGGER results_fixed", "UPDATE results SET record = '{'", "TRIGGER"),
    "a list": ("DROP TRIGGER results_fixed", "UPDATE results SET record = '[]'", "TRIGGER"),
    "5,000 digits": ("DROP TRIGGER results_fixed", f"UPDATE results SET record = '{{\"a\":{'9' * 5000}}}'", "TRIGGER"),
    "deep": ("DROP TRIGGER results_fixed", f"UPDATE results SET record = '{'[' * 100_000}'", "TRIGGER"),
}
TRIGGER = (
    "CREATE TRIGGER results_fixed BEFORE UPDATE ON results BEGIN SELECT RAISE(ABORT, 'results are insert-only'); END"
)


@pytest.mark.parametrize("statements", DAMAGE.values(), ids=DAMAGE)
def test_a_crafted_store_is_refused_and_left_alone(tmp_path: Path, statements: tuple[str, ...]) -> None:
    path = tmp_path / "store.sqlite"
    stored(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        for statement in statements:
            connection.execute(TRIGGER if statement == "TRIGGER" else statement)
    connection.close()
    with pytest.raises(StoreError):
        _read_all(path)


def _read_all(path: Path) -> None:
    with Store(path) as store:
        for run in store.runs():
            store.samples(run)
            list(store.results(run))


def test_our_own_store_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    stored(path)
    _read_all(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_a_store_that_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "store.sqlite")
    with pytest.raises(StoreError):
        Store(tmp_path / "store.sqlite")
