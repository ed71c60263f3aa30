"""Data sets of the user's own: an .npz of arrays, or a folder with a folder for each class.

Shape, classes and scaling are found, nothing is asked for. Whatever is wrong is one DatasetError that names it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from munas.data.loader import Sources
from munas.data.own_arrays import arrays_left_out, from_arrays
from munas.data.own_checks import Own
from munas.data.own_folders import entries_left_out, files_of, from_folders
from munas.errors import DatasetError


def is_own(name: str) -> bool:
    """Whether `name` is that of a file or folder, rather than of a data set that we know."""
    return name.endswith(".npz") or os.sep in name or (os.path.isdir(name) and name != "")


def own_name(name: str) -> str:
    """What an own data set is called in files and reports: by its file or folder, with plain characters only."""
    path = Path(name)
    stem = path.stem if path.suffix == ".npz" else path.absolute().name
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:60] or "own"


def find(path: Path) -> Sources:
    """The file, or the files of the class folders, in a fixed order."""
    if path.is_file():
        if path.suffix != ".npz":
            raise DatasetError(f"{path} is neither an .npz file nor a folder of class folders")
        return Sources(path.parent, (path,))
    if not path.is_dir():
        raise DatasetError(f"there is no data set {path}: name an .npz file, or a folder of class folders")
    return Sources(path, files_of(path))


def read(sources: Sources) -> Own:
    """All of it, checked."""
    if len(sources.files) == 1 and sources.files[0].suffix == ".npz":
        return from_arrays(sources.files[0])
    return from_folders(sources.root)


def left_out(path: Path) -> str:
    """What is in a file or folder that `read` takes and is no part of the data set, counted and named; or nothing."""
    return arrays_left_out(path) if path.is_file() else entries_left_out(path)
