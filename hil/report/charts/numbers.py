"""Figures as text: SI prefixes, bytes, per cent, with no-break spaces and a real minus sign.

Every function accepts NaN and infinity and answers `MISSING`, so that an empty or failed run still makes a page.
"""

from __future__ import annotations

import math
import unicodedata

MISSING = "–"  # noqa: RUF001 (an en dash, on purpose)
NBSP = "\u202f"  # narrow no-break space between a number and its unit
MINUS = "\u2212"
REPLACEMENT = "\ufffd"
KIB = 1024
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_KEPT_WHITESPACE = frozenset("\t\n")


def finite(value: float) -> bool:
    """Whether `value` is a number that can be drawn."""
    return math.isfinite(value)


def clean(text: str, limit: int = 600) -> str:
    """`text` (of unknown origin) made safe to print: no control or format characters, no surrogates, bounded length.

    Format characters go because bidirectional overrides would reorder the text around them.
    """
    kept = "".join(
        REPLACEMENT if unicodedata.category(char) in {"Cc", "Cf", "Cs"} and char not in _KEPT_WHITESPACE else char
        for char in text[:limit]
    )
    return kept + "…" if len(text) > limit else kept


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters of cleaned `text`, with an ellipsis where something was cut."""
    text = clean(text)
    return text if len(text) <= limit else text[: max(limit - 1, 0)].rstrip() + "…"


def minus(text: str) -> str:
    """`text` of a number with a real minus sign."""
    return text.replace("-", MINUS)


def fixed(value: float, digits: int) -> str:
    """`value` with `digits` decimals."""
    return minus(f"{value:,.{digits}f}") if finite(value) else MISSING


def count(value: float) -> str:
    """A whole number with thousands separators."""
    return fixed(value, 0)


def plural(value: int, noun: str) -> str:
    """``1 network``, ``1,000 networks``."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def significant(value: float, digits: int = 3) -> str:
    """`value` with an SI prefix and `digits` significant digits: 1234567 is ``1.23 M``."""
    if not finite(value):
        return MISSING
    if value == 0:
        return "0"
    scaled, prefix = _scaled(float(f"{value:.{digits}g}"))
    if abs(scaled) < 0.001:
        return minus(f"{scaled:.{digits - 1}e}")
    decimals = max(digits - 1 - math.floor(math.log10(abs(scaled))), 0)
    return minus(f"{scaled:.{decimals}f}") + (NBSP + prefix if prefix else "")


def tick(value: float) -> str:
    """An axis label: SI prefix, no trailing zeros."""
    scaled, prefix = _scaled(value)
    return minus(f"{scaled:.4g}") + (NBSP + prefix if prefix else "")


def _scaled(value: float) -> tuple[float, str]:
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return value / factor, prefix
    return value, ""


def size(value: float) -> str:
    """Bytes: ``512 B``, ``12.3 KB``, ``1.25 MB`` (1 KB is 1024 bytes, as everywhere in the field)."""
    if not finite(value):
        return MISSING
    if abs(value) < KIB:
        return f"{count(value)}{NBSP}B"
    if abs(value) < KIB * KIB:
        return f"{fixed(value / KIB, 0 if value % KIB == 0 else 1)}{NBSP}KB"
    return f"{fixed(value / KIB / KIB, 0 if value % (KIB * KIB) == 0 else 2)}{NBSP}MB"


def percent(fraction: float, *, signed: bool = False) -> str:
    """A fraction as per cent with one decimal, two below 1 %."""
    if not finite(fraction):
        return MISSING
    value = fraction * 100
    digits = 2 if 0 < abs(value) < 0.995 else 1
    text = minus(f"{value:,.{digits}f}")
    return ("+" if signed and value > 0 else "") + text + NBSP + "%"


def share(fraction: float) -> str:
    """A part of a whole as per cent, rounded down: 99.96 % of the networks is not all of them."""
    if not finite(fraction):
        return MISSING
    value = math.floor(fraction * 1000 + 1e-9) / 10
    return f"{value:.0f}{NBSP}%" if value == 100 else f"{value:.1f}{NBSP}%"


def seconds(value: float) -> str:
    """A duration on the host: ``340 ms``, ``12.4 s``, ``8 min 20 s``."""
    if not finite(value):
        return MISSING
    if value < 1:
        return f"{value * 1000:.0f}{NBSP}ms"
    if value < 60:
        return f"{value:.1f}{NBSP}s"
    whole = round(value)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}{NBSP}h {minutes}{NBSP}min"
    return f"{minutes}{NBSP}min" + (f" {rest}{NBSP}s" if rest else "")


def frequency(hertz: float) -> str:
    """``216 MHz``."""
    if not finite(hertz):
        return MISSING
    text = tick(hertz)
    return f"{text}{'' if NBSP in text else NBSP}Hz"


def correlation(value: float) -> str:
    """Four decimals, towards zero: 0.99999 is not 1."""
    return fixed(math.trunc(value * 10_000) / 10_000, 4) if finite(value) else MISSING


def shape(dimensions: tuple[int, ...]) -> str:
    """``32x32x3`` with a multiplication sign."""
    return "×".join(str(item) for item in dimensions) or MISSING  # noqa: RUF001


def relative_error(predicted: float, measured: float) -> float:
    """Signed relative error; NaN where there is none (nothing measured, or not a number)."""
    if not (math.isfinite(predicted) and math.isfinite(measured)) or measured == 0:
        return math.nan
    return predicted / measured - 1.0
