"""Inputs from outside for a fuzz run: sound ones of every kind, and what becomes of them by hostile hands."""

from __future__ import annotations

import copy
import io
import json
import pickle
import random
import sqlite3
import tarfile
import tempfile
import tomllib
import wave
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from hil.api.harness import Harness
from hil.calibration.options import CalibrateOptions
from hil.errors import HilError
from hil.jobs.store import Result, Run, Store
from hil.measure.arena import ArenaBuffer, ArenaMap, ArenaStep
from hil.measure.dataset import Takes, load_dataset
from hil.measure.measurement import Build, Latency, LayerTime, Measurement, Memory, Outputs, measurement_from_json
from hil.measure.result import MeasuredNetwork, MeasurementResult
from hil.model.load import parse_model
from hil.model.network import DType
from hil.options import config_text
from hil.resources import boards_dir
from hil.search.options import SearchOptions
from munas.cost.calibration_file import CalibrationError, load_calibration, write_calibration
from munas.data import own
from munas.data.archive import members
from munas.data.idx import read_idx
from munas.data.pickled import PickledArray, read_pickled
from munas.errors import DatasetError, SearchError, SearchStoreError
from munas.search.store import SearchStore
from tests.calibration_results import IDENTITY, calibration_result
from tests.networks import small_network
from tests.search_results import search_result
from tests.search_stub import stub_calibration

HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 2**63 - 1, 2**63, 10**300, 10**4299, -0.0, 1e308, 5e-324, "", "x" * 100_000, "\x1b[31m\x07",
    "::error::forged", "\n::error::forged", "‮", "$(reboot)", "../../etc/passwd", "/dev/zero", "<script>", "{}",
    [], {}, [[]], {"a": {}}, [1, "a", None], "9" * 5000, "nan", "inf", "-1%", "1e400%", "%", "0x10", "99999999G",
)  # fmt: skip
TOKENS = tuple(
    text.encode()
    for text in (
        "[" * 3000, "9" * 5000, "1e400", "NaN", "Infinity", "-", '"', "'", "{", "}", "]", ",", ":", "=", "\\u0000",
        "\\ud800", "\x1b[2J", "::error::", "\n", "\r", "\0", "null", "true", "0x" + "f" * 40, "a." * 500, '"""',
        "1979-13-99", "inf", "nan", "\\",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file: a sound one's `bytes` and name; `words` of the command line that read FILE, with the statuses
    that may come out, or `read`, which may raise `errors` only."""

    name: str
    file: str
    sound: bytes
    words: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    read: Callable[[Path], object] | None = None
    errors: tuple[type[Exception], ...] = ()
    environment: Mapping[str, str] | None = None


def measurement_documents() -> list[dict[str, Any]]:
    """As `measure --json` prints them."""
    memory = Memory(1000, 990, 300, 2048, 400, 3448, 5000, 9000, 14_500)
    layers = (LayerTime(0, "CONV_2D", "c", 5.0), LayerTime(1, "FULLY_CONNECTED", "d", 7.5))
    return [
        Measurement(
            name, f"sha-{name}", IDENTITY, Latency("instructions", (10_000, 10_002)), layers, memory, Outputs(8, 0),
            Build("b", "e", "gcc", "-O2", "k"), {"boot": 0.5},
        ).to_json()
        for name in ("one", "two")
    ]  # fmt: skip


def _store(folder: Path) -> bytes:
    path = folder / "sound.sqlite"
    with Store(path) as store:
        run = store.run_id(Run("calibrate", {"board": "x"}, 1, {"n": 2}))
        for index, item in enumerate(measurement_documents()):
            store.insert(run, Result(index, "ok", [1], item["sha256"], "", {"measurement": item}))
    return path.read_bytes()


def _search_store(folder: Path) -> bytes:
    path = folder / "search.sqlite"
    with SearchStore(path) as store:
        store.begin({"seed": 1, "mode": "deployed"})
        store.put_document("a", {"b": [1, 2.5, None]})
    return path.read_bytes()


def _npz() -> bytes:
    raw = io.BytesIO()
    np.savez_compressed(raw, x=np.zeros((6, 8, 8, 1), np.int8), y=np.arange(6) % 3)
    return raw.getvalue()


def _arena() -> ArenaMap:
    steps = (ArenaStep(0, "CONV_2D", "conv", 300), ArenaStep(1, "FULLY_CONNECTED", "dense", 200))
    buffers = (ArenaBuffer("input", "input", 0, 100, 0, 0), ArenaBuffer("0", "activation", 100, 200, 0, 1))
    return ArenaMap("one", "", 300, 300, steps, buffers)


def _own_npz() -> bytes:
    raw, rng = io.BytesIO(), np.random.default_rng(1)
    arrays = {"x_train": rng.integers(0, 256, (24, 8, 8, 1), np.uint8), "y_train": np.arange(24) % 3}
    np.savez_compressed(raw, **arrays, x_test=arrays["x_train"][:6], y_test=np.arange(6) % 3, classes=["a", "b", "c"])
    return raw.getvalue()


def _picture(first: int = 0) -> bytes:
    from PIL import Image

    raw = io.BytesIO()
    Image.fromarray(np.arange(first, first + 192, dtype=np.uint8).reshape(8, 8, 3)).save(raw, "PNG")
    return raw.getvalue()


def _recording(level: int = 0) -> bytes:
    raw = io.BytesIO()
    with wave.open(raw, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(16_000)
        written.writeframes(np.tile(np.array([level, -level], "<i2"), 1000).tobytes())
    return raw.getvalue()


def _tar() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for number in range(3):
            member = tarfile.TarInfo(f"class/{number}.bin")
            member.size = 600
            archive.addfile(member, io.BytesIO(bytes(600)))
    return raw.getvalue()


def _read_pickled(path: Path) -> None:
    batch = read_pickled(path.read_bytes(), path)
    if isinstance(batch.get("data"), PickledArray):
        with suppress(ValueError):  # as its caller does
            batch["data"].to_numpy()


def _read_own(path: Path) -> None:
    own.read(own.find(path))


def _read_class_folders(path: Path) -> None:
    """A folder of two classes, with the file at `path` thrice in each and thrice another: training examples that are
    all the same are refused."""
    other = _recording(900) if path.suffix == ".wav" else _picture(60)
    with tempfile.TemporaryDirectory() as name:
        for index in range(12):
            folder = Path(name) / f"class{index % 2}"
            folder.mkdir(exist_ok=True)
            (folder / f"{index}{path.suffix}").write_bytes(path.read_bytes() if index < 6 else other)
        own.read(own.find(Path(name)))


def _read_search_store(path: Path) -> None:
    with SearchStore(path) as store:
        store.identity()
        store.state()
        list(store.tasks())
        list(store.results())
        store.document("a")


def _read_npz(path: Path) -> None:
    load_dataset(path, Takes((1, 8, 8, 1), DType.INT8, 0.1, 0), 3)


def kinds(folder: Path) -> tuple[Kind, ...]:
    """All kinds; `folder` holds sound files that others are compared with."""
    sound = json.dumps(measurement_documents()).encode()
    (folder / "sound.json").write_bytes(sound)
    (folder / "sound.tflite").write_bytes(small_network(2))
    policy = b'differing = ["compiler"]\nallow_missing = true\n[model]\nlatency = "1%"\nram_total = 0\n'
    bench = b'[[device]]\nboard = "nucleo-f746zg"\nserial_number = "1"\nport = "/dev/null"\nbaud = 9600\n'
    bench += b'flash = "pyocd"\n'
    result = json.dumps(calibration_result(30).to_json()).encode()
    search = json.dumps(search_result(30).to_json()).encode()
    written = MeasuredNetwork(measurement_from_json(measurement_documents()[0]), _arena())
    measured = json.dumps(MeasurementResult((written,)).to_json()).encode()
    options = [config_text(model, "x").encode() for model in (CalibrateOptions, SearchOptions)]
    rtt = b'[[device]]\nboard = "nucleo-f746zg"\nserial_number = "1"\nport = "socket://localhost:9"\nflash = "gdb"\n'
    rtt += b'gdb = "localhost:3333"\ngdb_server = "openocd"\nlink = "rtt"\n'
    identity = asdict(Harness("mps2-an386", via="qemu").identity)
    calibration = write_calibration(replace(stub_calibration(), identity=identity)).encode()
    graph = json.dumps([{"input_shape": [8, 8, 1], "num_classes": 3, "architecture": [{"units": 4}]}]).encode()
    network = str(folder / "sound.tflite")
    known, again = str(folder / "sound.json"), str(folder / "report.html")
    return (
        Kind("board file", "b.toml", (boards_dir() / "netduinoplus2.toml").read_bytes(), ("boards", "FILE"), (0, 2)),
        Kind("policy", "p.toml", policy, ("compare", known, known, "--policy", "FILE"), (0, 1, 2)),
        Kind("bench file", "n.toml", bench, ("boards", "--detect"), (0, 2), environment={"MUNAS_HIL_BENCH": "FILE"}),
        Kind("calibrate --check", "c.json", json.dumps(calibration_result(30).summary_json()).encode(),
             ("calibrate", "--check", "FILE", "--junit", "/nowhere/at/all.xml"), (2,)),
        Kind("measurements", "m.json", sound, ("compare", known, "FILE"), (0, 1, 2)),
        Kind("run folder", "store.sqlite", _store(folder), ("compare", known, "FOLDER"), (0, 1, 2, 3)),
        Kind("result.json", "r.json", result, ("report", "FILE", "-o", again), (0, 2)),
        Kind("search.json", "s.json", search, ("report", "FILE", "-o", again), (0, 2)),
        Kind("graph", "g.json", graph, ("graph", "FILE"), (0, 2)),
        Kind("calibration.toml", "calibration.toml", write_calibration(stub_calibration()).encode(),
             read=load_calibration, errors=(CalibrationError,)),
        Kind("search store", "search.sqlite", _search_store(folder), read=_read_search_store,
             errors=(SearchStoreError, SearchError)),
        Kind("data .npz", "d.npz", _npz(), read=_read_npz, errors=(HilError,)),
        Kind("measure -o, compared", "result.json", measured, ("compare", "FOLDER", "FILE"), (0, 1, 2)),
        Kind("measure -o, reported", "result.json", measured, ("report", "FOLDER", "-o", again), (0, 2)),
        Kind("bench file, RTT", "n.toml", rtt, ("boards", "--detect"), (0, 2), environment={"MUNAS_HIL_BENCH": "FILE"}),
        Kind("calibrate --config", "c.toml", options[0],
             ("calibrate", "--config", "FILE", "--check", "/nowhere"), (2,)),
        Kind("search --config", "s.toml", options[1], ("search", "--config", "FILE", "--dataset", "/nowhere"), (2,)),
        Kind("calibration, estimate", "calibration.toml", calibration,
             ("estimate", network, "--board", "mps2-an386", "--via", "qemu", "--calibration", "FILE"), (0, 2)),
        Kind("search --dataset .npz", "o.npz", _own_npz(), read=_read_own, errors=(DatasetError,)),
        Kind("pictures in a folder", "p.png", _picture(), read=_read_class_folders, errors=(DatasetError,)),
        Kind("recordings in a folder", "r.wav", _recording(), read=_read_class_folders, errors=(DatasetError,)),
        Kind("tar archive", "t.tar.gz", _tar(), read=lambda path: list(members(path, 1 << 20)), errors=(DatasetError,)),
        Kind("pickled batch", "batch", pickle.dumps({b"data": np.zeros((2, 4), np.uint8), b"labels": [0, 1]}, 2),
             read=_read_pickled, errors=(DatasetError,)),
        Kind("IDX", "i", bytes((0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28)) + bytes(2 * 28 * 28),
             read=lambda path: read_idx(path, 3), errors=(DatasetError,)),
        Kind(".tflite", "m.tflite", small_network(2), read=lambda path: parse_model(path.read_bytes(), "m"),
             errors=(HilError,)),
    )  # fmt: skip


def mutated(kind: Kind, rng: random.Random, folder: Path) -> bytes:
    """The sound file, changed: a value of the document, a value of a table, or bytes."""
    if kind.file.endswith((".json", ".toml")) and rng.random() < 0.5:
        document = json.loads(kind.sound) if kind.file.endswith(".json") else tomllib.loads(kind.sound.decode())
        return _document(kind, document, rng)
    if kind.file.endswith(".sqlite") and rng.random() < 0.5:
        return _database(kind.sound, rng, folder)
    if kind.file.endswith(".npz") and rng.random() < 0.5:
        return _archive(kind.sound, rng)
    return _bytes(kind.sound, rng)


def _document(kind: Kind, document: Any, rng: random.Random) -> bytes:
    made = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        place = made
        while isinstance(place, dict | list) and place:
            key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
            below = place[key]
            if isinstance(below, dict | list) and below and rng.random() < 0.85:
                place = below
                continue
            if rng.random() < 0.15:
                del place[key]
            else:
                place[key] = copy.deepcopy(rng.choice(HOSTILE))
            break
    try:
        if kind.file.endswith(".json"):
            return json.dumps(made).encode()
        return tomli_w.dumps(made).encode()
    except (TypeError, ValueError, UnicodeError, AttributeError):  # what TOML or Python cannot write
        return _bytes(kind.sound, rng)


def _database(sound: bytes, rng: random.Random, folder: Path) -> bytes:
    path = folder / "mutated.sqlite"
    for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        name.unlink(missing_ok=True)
    path.write_bytes(sound)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = DELETE")
        schema = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall()
        tables = [name for kind, name, _ in schema if kind == "table" and not name.startswith("sqlite_")]
        table = rng.choice(tables)
        (column,) = rng.choice(connection.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchall())
        for kind, name, _ in schema:
            if kind == "trigger":
                connection.execute(f"DROP TRIGGER {name}")
        value = rng.choice(HOSTILE)
        value = json.dumps(value) if isinstance(value, list | dict) or rng.random() < 0.3 else value
        value = b"\xff\0" if rng.random() < 0.1 else value
        statement = rng.choice([
            f"UPDATE {table} SET {column} = ?", f"UPDATE {table} SET {column} = replace({column}, '1', ?)",
        ])  # fmt: skip
        if rng.random() < 0.2:
            endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
            connection.execute(f"DROP TABLE {table}")
            connection.execute(f"CREATE VIEW {table} AS {endless}")
        else:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(statement, (value,))
        for kind, _, sql in schema:
            if kind == "trigger" and rng.random() < 0.97:
                connection.execute(sql)
    except (sqlite3.Error, OverflowError):
        pass  # what SQLite itself refuses
    finally:
        connection.close()
    return path.read_bytes()


def _archive(sound: bytes, rng: random.Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice(list(members))
    members[name] = _bytes(members[name], rng)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, raw in members.items():
            archive.writestr(member if rng.random() < 0.9 else f"../{member}", raw)
    return made.getvalue()


def _bytes(sound: bytes, rng: random.Random) -> bytes:
    raw = bytearray(sound)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(raw) + 1)
        match rng.randrange(6):
            case 0 if raw:
                raw[min(place, len(raw) - 1)] = rng.randrange(256)
            case 1:
                raw[place:place] = rng.choice(TOKENS)
            case 2:
                del raw[place : place + rng.randint(1, 40)]
            case 3:
                raw = raw[:place]
            case 4:
                start = rng.randrange(len(raw) + 1)
                raw[place:place] = raw[start : start + rng.randint(1, 200)]
            case _:
                end = min(len(raw), place + rng.randint(1, 8))
                raw[place:end] = rng.choice(TOKENS)
    return bytes(raw)
