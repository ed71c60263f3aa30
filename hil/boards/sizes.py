"""Sizes of memory as people write them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from hil.errors import UsageError

KIB = 1024
_SIZE = re.compile(r"^\s*([0-9]{1,12})\s*([kKmM]?)(?:i?[bB])?\s*$")
_FACTORS = {"": 1, "k": KIB, "m": KIB * KIB}


def parse_size_bytes(value: object) -> int:
    """Bytes from an integer or from ``"64K"``, ``"1M"`` (binary multiples). Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size; write bytes, or a number with K or M such as 64K")
    return int(match[1]) * _FACTORS[match[2].lower()]


def typed_size_bytes(option: str, text: str) -> int:
    """Positive bytes from what was typed behind `option`. Raises UsageError."""
    try:
        size_bytes = parse_size_bytes(int(text) if text.isdecimal() else text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
    if size_bytes <= 0:
        raise UsageError(f"{option}: {text} is not a positive size")
    return size_bytes


SizeBytes = Annotated[int, BeforeValidator(parse_size_bytes), Field(gt=0, lt=2**32)]
