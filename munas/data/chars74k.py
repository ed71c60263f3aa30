"""Chars74K's 7,705 good natural images of English characters: 0-9, A-Z and a-z, 62 classes.

Read from the original folders (English/Img/GoodImg/Bmp/Sample001 to Sample062 with PNG files) or EnglishImg.tgz. Every
picture is resized to 48x48x3 (32x32x3 for the binary task) without keeping its aspect ratio. The set has no test part:
one is split off, seeded.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.data.archive import is_archive, members
from munas.data.loader import Loader, Parts, Sources, candidates, file_named, missing
from munas.data.streams import read_all
from munas.errors import DatasetError

NAME = "chars74k"
SIDE = 48
BINARY_SIDE = 32
NUM_CLASSES = 62
ARCHIVE = "EnglishImg.tgz"
FOLDERS = ("English/Img/GoodImg/Bmp", "Img/GoodImg/Bmp", "GoodImg/Bmp", "")

MAX_FILE_BYTES = 16 << 20
MAX_PIXELS = 1 << 24
"""Of one picture, which are crops of photographs: 200 times the usual one, and 50 MB once decoded."""

MAX_IMAGES = 100_000

INSTRUCTION = (
    "download EnglishImg.tgz ('English characters, natural images') from the Chars74K page into that folder, unpacked "
    "or not, or name the archive or folder as the source"
)

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_SAMPLE = re.compile(r"Sample(\d{3})")


def find(source: Path | None) -> Sources:
    """All PNG files of the 62 folders, sorted, or the archive. Raises DatasetError when a folder is not there."""
    if source is not None and source.is_file():
        return Sources(source.parent, (source,))
    places = candidates(NAME, source)
    for folder in (place / below for place in places for below in FOLDERS):
        if (folder / "Sample001").is_dir():
            return Sources(folder, tuple(_pictures(folder)))
    archive = file_named(places, ARCHIVE)
    if archive is None:
        missing(NAME, f"folder English/Img/GoodImg/Bmp and no {ARCHIVE}", places, INSTRUCTION)
    return Sources(archive.parent, (archive,))


def read(sources: Sources, side: int = SIDE) -> Parts:
    """All pictures as one part, in the order of their names; a value is a byte's share of 255."""
    if len(sources.files) == 1:
        named = sorted(_decoded(_archived(sources.files[0]), side), key=lambda item: item[0])
    else:
        named = list(_decoded(((path, read_all(path, MAX_FILE_BYTES)) for path in sources.files), side))
    labels = np.array([_label(name) for name, _ in named], dtype=np.int64)
    return Parts(train=(np.stack([image for _, image in named]), labels), scale=(1 / 255,) * 3, offset=(0.0,) * 3)


LOADER = Loader(NAME, (SIDE, SIDE, 3), NUM_CLASSES, find, read, entry=NAME)
BINARY = Loader(
    f"{NAME}-binary", (BINARY_SIDE, BINARY_SIDE, 3), 2, find, partial(read, side=BINARY_SIDE),
    entry=f"{NAME}-{BINARY_SIDE}", positive_below=31, base_classes=NUM_CLASSES,
)  # fmt: skip


def _pictures(folder: Path) -> Iterator[Path]:
    for number in range(1, NUM_CLASSES + 1):
        sample = folder / f"Sample{number:03d}"
        try:
            names = sorted(path for path in sample.iterdir() if path.suffix == ".png")
        except OSError as error:
            raise DatasetError(f"cannot read {sample}: {error.strerror}; {INSTRUCTION}") from error
        if not names:
            raise DatasetError(f"{sample} has no pictures; {INSTRUCTION}")
        yield from names


def _archived(archive: Path) -> Iterator[tuple[PurePath, bytes]]:
    if not is_archive(archive):
        raise DatasetError(f"{archive} is not called like an archive (.tgz); name {ARCHIVE} or its unpacked folder")
    count = 0
    for name, raw in members(archive, MAX_FILE_BYTES):
        if name.suffix == ".png" and name.parts[-4:-2] == ("GoodImg", "Bmp") and _SAMPLE.fullmatch(name.parent.name):
            count += 1
            if count > MAX_IMAGES:
                raise DatasetError(f"{archive} has more than {MAX_IMAGES} pictures")
            yield archive / name, raw
    if not count:
        raise DatasetError(f"{archive} has no pictures in English/Img/GoodImg/Bmp")


def _label(name: PurePath) -> int:
    match = _SAMPLE.fullmatch(name.parent.name)
    number = int(match[1]) if match else 0
    if not 1 <= number <= NUM_CLASSES:
        raise DatasetError(f"{name} is in no folder Sample001 to Sample{NUM_CLASSES:03d}")
    return number - 1


def _decoded(files: Iterable[tuple[PurePath, bytes]], side: int) -> Iterator[tuple[PurePath, NDArray[np.uint8]]]:
    try:
        from PIL import Image  # takes time to import and is needed for this data set only
    except ImportError as error:
        raise DatasetError(f"data set {NAME} needs Pillow to read its pictures (pip install pillow)") from error
    for name, raw in files:
        yield name, _decode(Image, name, raw, side)


def _decode(image_module: Any, name: PurePath, raw: bytes, side: int) -> NDArray[np.uint8]:
    """One picture, (side, side, 3). Raises DatasetError for what is no PNG, is damaged or is absurdly large."""
    try:
        _check_png(raw)
        with image_module.open(io.BytesIO(raw), formats=("PNG",)) as image:
            picture = image.convert("RGB").resize((side, side), image_module.Resampling.BILINEAR)
            return np.asarray(picture, dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error) as error:
        raise DatasetError(f"{name} is no readable PNG: {error}; get it again") from error


def _check_png(raw: bytes) -> None:
    """Checks every chunk's CRC and the picture's size before Pillow sees the file. Raises ValueError.

    Pillow takes damaged and truncated chunks as they are, and only warns of a picture that decodes to gigabytes.
    """
    if not raw.startswith(_PNG_MAGIC):
        raise ValueError("it does not start like one")
    at, kind = len(_PNG_MAGIC), b""
    while kind != b"IEND":
        size, kind = struct.unpack_from(">I4s", raw, at)
        if at == len(_PNG_MAGIC):
            width, height = struct.unpack_from(">II", raw, at + 8)
            if kind != b"IHDR" or width * height > MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels are more than any picture of the set has")
        content, (crc,) = raw[at + 4 : at + 8 + size], struct.unpack_from(">I", raw, at + 8 + size)
        if zlib.crc32(content) != crc:
            raise ValueError(f"its chunk {kind!r} is damaged")
        at += 12 + size
