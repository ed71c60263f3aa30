"""Hostile and damaged source files: bounded work, and an error that names the file."""

from __future__ import annotations

import gzip
import pickle
import struct
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from munas.data import archive, load_dataset, packaged_csv, streams
from munas.data.idx import read_idx
from munas.errors import DatasetError
from tests import data_files

IMAGES, LABELS = data_files.labelled(40, (28, 28), 10, 255, 1)
GENUINE = data_files.idx(IMAGES)


def _header(magic: bytes, *shape: int) -> bytes:
    return magic + struct.pack(f">{len(shape)}I", *shape)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x00\x00\x08\x01" + GENUINE[4:], "no IDX file"),
        (b"\x00\x00\x0d\x03" + GENUINE[4:], "no IDX file"),
        (b"\x01" + GENUINE[1:], "no IDX file"),
        (GENUINE + b"\x00", "goes on"),
        (GENUINE[:-1], "truncated"),
        (_header(b"\x00\x00\x08\x03", 40, 28, 27) + GENUINE[16:], "40x28x27"),
        (_header(b"\x00\x00\x08\x03", 0xFFFFFFFF, 28, 28) + GENUINE[16:], "4294967295x28x28"),
        (gzip.compress(GENUINE)[:-5], "damaged"),
        (gzip.compress(GENUINE)[:9000] + b"\xff\xff\xff" + gzip.compress(GENUINE)[9003:], "damaged"),
        (gzip.compress(GENUINE) + b"rubbish", "damaged"),
    ],
)
def test_wrong_idx_file_is_named(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(raw)
    with pytest.raises(DatasetError, match=message) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_idx_bomb_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(GENUINE + bytes(200 << 20), 1))
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match="goes on"):
            read_idx(path, 3)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def _mnist_with(folder: Path, name: str, array: np.ndarray) -> Path:
    data_files.write_idx_set(folder)
    (folder / name).write_bytes(data_files.idx(array))
    return folder


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1-ubyte", np.zeros(199, np.uint8), "200 images but .* 199 labels"),
        ("train-labels-idx1-ubyte", np.full(200, 10, np.uint8), "label 10 is outside 0..9"),
        ("train-labels-idx1-ubyte", np.arange(200, dtype=np.uint8) % 9, "classes"),
        ("train-labels-idx1-ubyte", np.minimum(np.arange(200, dtype=np.uint8), 9)[::-1].copy(), "class 0"),
    ],
)
def test_labels_that_cannot_be_are_refused(name: str, array: np.ndarray, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    with pytest.raises(DatasetError, match=message):
        load_dataset("mnist", _mnist_with(folder, name, array), tmp_path)


def test_empty_test_part_is_refused(tmp_path: Path) -> None:
    data_files.write_idx_set(tmp_path, test=0)
    with pytest.raises(DatasetError, match=r"test part.*no examples"):
        load_dataset("mnist", tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "empty"),
        (b"1,2,3\n", "3 columns"),
        (b"1,2,x\n", "no table"),
        (b"1,2\n1,2,3\n", "no table"),
        (b"\xff\xfe\n", "no table"),
        (b",".join([b"0.5"] * 65) + b"\n", "no table"),
        (b",".join([b"17"] * 65) + b"\n", "0..16"),
        (b",".join([b"-1"] * 65) + b"\n", "0..16"),
        (b",".join([b"9" * 30] * 65) + b"\n", "no table"),
        (b",".join([b"3"] * 65) + b"\n", "class 3 has fewer than 2"),
        (b"\n".join([b",".join([b"12"] * 65)] * 20) + b"\n", "label 12 is outside"),
    ],
)
def test_wrong_table_is_named(text: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "digits.csv.gz").write_bytes(gzip.compress(text))
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset("digits", tmp_path, tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_table_that_decompresses_to_too_much_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_csv, "MAX_BYTES", 1000)
    (tmp_path / "digits.csv.gz").write_bytes(gzip.compress(b"0," * 1000))
    with pytest.raises(DatasetError, match=r"digits\.csv\.gz holds more than the 1000 bytes"):
        load_dataset("digits", tmp_path, tmp_path)


@pytest.mark.parametrize("name", ["../data_batch_1.bin", "/data_batch_1.bin", "a/../../data_batch_1.bin"])
def test_archive_with_a_name_outside_of_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    path = data_files.tar_of_members(tmp_path / "cifar-10-binary.tar.gz", [(name, b"x")])
    with pytest.raises(DatasetError, match="outside of its folder") as caught:
        load_dataset("cifar10", path, tmp_path)
    assert path.name in str(caught.value)


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    (tmp_path / "secret").write_bytes(bytes(3073))
    with tarfile.open(path, "w:gz") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            info = tarfile.TarInfo("data_batch_1.bin")
            info.type, info.linkname = kind, str(tmp_path / "secret")
            tar.addfile(info)
    assert list(archive.members(path, 1000)) == []
    with pytest.raises(DatasetError, match="does not have all six batches"):
        load_dataset("cifar10", path, tmp_path)


def _huge_member() -> bytes:
    info = tarfile.TarInfo("data_batch_1.bin")
    info.size = 1 << 40
    return info.tobuf()


def _pax_bomb() -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 32
    return info.tobuf() + bytes(4 << 20)


def _many_members() -> bytes:
    return tarfile.TarInfo("a").tobuf() * 5000


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (_huge_member, "more than"),
        (_pax_bomb, "decompresses to far more"),
        (lambda: tarfile.TarInfo("a").tobuf() + bytes(4 << 20), "decompresses to far more"),
        (_many_members, "more than 1000 members"),
        (lambda: b"no archive" * 100, "no readable tar"),
        (lambda: b"", "no readable tar"),
    ],
)
def test_archive_bombs_are_bounded(
    raw: Callable[[], bytes], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MIN_BYTES", 3 << 20)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 1000)
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(raw(), 9))
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset("cifar10", path, tmp_path)
    assert path.name in str(caught.value)


def test_cifar_batches_must_be_alike(tmp_path: Path) -> None:
    data_files.write_cifar_binary(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[: 3073 * 7])
    with pytest.raises(DatasetError, match=r"data_batch_3\.bin': 7"):
        load_dataset("cifar10", tmp_path, tmp_path)


def test_cifar_names_the_batch_that_is_missing(tmp_path: Path) -> None:
    data_files.write_cifar_python(tmp_path)
    (tmp_path / "data_batch_4").unlink()
    with pytest.raises(DatasetError, match=r"no data_batch_4 in .*; download"):
        load_dataset("cifar10", tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({b"labels": [1], b"data": [1]}, "no array 'data'"),
        ({b"labels": 1, b"data": np.zeros((1, 3072), np.uint8)}, "no array 'data' and list"),
        ({b"labels": [1, 2], b"data": np.zeros((1, 3072), np.uint8)}, "2 labels"),
        ({b"labels": [1], b"data": np.zeros((1, 3071), np.uint8)}, "3071"),
        ({b"labels": [1], b"data": np.zeros((1, 3072), np.float32)}, "unsigned bytes"),
        ({b"labels": [10], b"data": np.zeros((1, 3072), np.uint8)}, "0..9"),
        ({b"labels": ["a"], b"data": np.zeros((1, 3072), np.uint8)}, "0..9"),
    ],
)
def test_wrong_python_batch_is_named(content: object, message: str, tmp_path: Path) -> None:
    data_files.write_cifar_python(tmp_path)
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset("cifar10", tmp_path, tmp_path)
    assert "data_batch_2" in str(caught.value)


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


PNG = data_files.png(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"GIF89a" + PNG, "does not start like one"),
        (PNG[:8], "no readable PNG"),
        (PNG[:8] + _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)), "100000 x 100000"),
        (PNG[:8] + _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)) + PNG[33:], "no readable PNG"),
        (PNG[:45] + bytes([PNG[45] ^ 1]) + PNG[46:], "damaged"),
        (PNG[:33] + _png_chunk(b"IDAT", zlib.compress(b"\0")) + _png_chunk(b"IEND", b""), "no readable PNG"),
        (PNG[:33] + _png_chunk(b"IDAT", b"no zlib") + _png_chunk(b"IEND", b""), "no readable PNG"),
        (PNG[:33] + struct.pack(">I", 0xFFFFFFFF) + PNG[37:], "no readable PNG"),
    ],
)
def test_wrong_picture_is_named(raw: bytes, message: str, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    data_files.write_chars74k(tmp_path)
    path = tmp_path / "English" / "Img" / "GoodImg" / "Bmp" / "Sample062" / "img062-00003.png"
    path.write_bytes(raw)
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset("chars74k", tmp_path, tmp_path)
    assert path.name in str(caught.value)


def test_reading_stops_at_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(10))
    assert streams.read_all(path, 10) == bytes(10)
    with pytest.raises(DatasetError, match="more than the 9 bytes"):
        streams.read_all(path, 9)
    with pytest.raises(DatasetError, match="cannot read"):
        streams.read_all(tmp_path, 9)


def test_damage_while_an_archive_is_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    data_files.tar_of_members(path, [("a/b", np.random.default_rng(0).bytes(5000)), ("a/c", b"x")])
    raw = bytearray(path.read_bytes())
    raw[3000] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(DatasetError, match=r"a\.tar\.gz"):
        list(archive.members(path, 10_000))
