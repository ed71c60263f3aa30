"""Reads a pickled dictionary of byte arrays and plain values without running anything that is in the file.

A pickle is a program. This one may only build dicts, lists, tuples, numbers and strings, and call two constructors,
neither of which is numpy's: stand-ins record what an array was made from, which is then checked like any other input.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from munas.errors import DatasetError

_ALLOWED_OPCODES = (
    "PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BUILD NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 "
    "BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINUNICODE SHORT_BINUNICODE "
    "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS "
    "BINPUT LONG_BINPUT BINGET LONG_BINGET MEMOIZE"
)
"""Names, separated by blanks: what the protocols 2 to 5 need for such a dictionary."""

_OPCODES = frozenset(_ALLOWED_OPCODES.split())

_MAX_TUPLES = 64
"""A batch has six. Hashing tuples nested thousands deep would overflow the interpreter's stack."""

_MAX_DIMENSIONS = 4


class PickledArray:
    """What the file says an array is; `to_numpy` believes it only as far as it can be checked."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def to_numpy(self) -> NDArray[np.uint8]:
        """The array, which must be of unsigned bytes in C order. Raises ValueError otherwise."""
        match self._state:
            case (int(), tuple(shape), _PickledType(code="u1"), False, bytes(raw)):
                if not 0 < len(shape) <= _MAX_DIMENSIONS or not all(type(n) is int and n >= 0 for n in shape):
                    raise ValueError("an array has no proper shape")
                return np.frombuffer(raw, np.uint8).reshape(shape)
        raise ValueError("an array is not of unsigned bytes in C order")


class _PickledType:
    """Stands for a numpy.dtype, of which only the code matters: bytes have no order."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass


class _Callable:
    """One of the functions that a file may call. It has no attributes that the file could change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function has no state")


def _array(*_: Any) -> PickledArray:
    return PickledArray()


def _type(code: Any, *_: Any) -> _PickledType:
    return _PickledType(code.decode("latin-1") if isinstance(code, bytes) else str(code))


def _encode(text: Any, encoding: Any) -> bytes:
    """``_codecs.encode``, by which Python 3 writes bytes in the old protocols."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("only bytes may be encoded")
    return text.encode("latin-1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy", "ndarray"): _array,
    ("numpy", "dtype"): _type,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _Callable(_ALLOWED[module, name])
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no such file needs") from None


def read_pickled(raw: bytes, path: Path) -> dict[str, Any]:
    """The dictionary pickled in `raw`, arrays as PickledArray, strings of Python 2 as bytes; its keys as str.

    Raises DatasetError, naming `path`, for anything else.
    """
    try:
        _check_opcodes(raw)
        content = _Unpickler(io.BytesIO(raw), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise DatasetError(f"{path} is no readable pickle of arrays: {error or type(error).__name__}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} holds a pickled {type(content).__name__} instead of a dictionary")
    return {key.decode("latin-1") if isinstance(key, bytes) else str(key): value for key, value in content.items()}


def _check_opcodes(raw: bytes) -> None:
    tuples = 0
    for opcode, argument, _ in pickletools.genops(raw):
        if opcode.name not in _OPCODES:
            raise pickle.UnpicklingError(f"it has the instruction {opcode.name}, which no such file needs")
        if opcode.name == "LONG_BINPUT" and isinstance(argument, int) and argument > len(raw):
            raise pickle.UnpicklingError(f"it keeps a value as number {argument}")  # in a list of that length
        tuples += "TUPLE" in opcode.name
    if tuples > _MAX_TUPLES:
        raise pickle.UnpicklingError(f"it has {tuples} tuples")
