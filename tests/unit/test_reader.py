"""What a booted device says of itself is held against what the host assumes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from hil.errors import FlashError, HilError, InfrastructureError
from hil.link.protocol import DeviceIdentity
from hil.measure.reader import Reader
from hil.targets.runners.base import Session

SAID = DeviceIdentity(2, "build", "kws01", "icount-instructions", 25_000_000, 1, 64, 16, 4, 0, 0)


def reader(ticks_hz: int | None) -> Reader:
    session = Session(cast(Any, None), "qemu", True, "icount-instructions", ticks_hz=ticks_hz)
    parts = cast(Any, SimpleNamespace(build_id="build"))
    return Reader(session, parts, parts, parts, parts)


@pytest.mark.parametrize("ticks_hz", [None, 25_000_000])
def test_a_device_that_is_what_was_flashed_passes(ticks_hz: int | None) -> None:
    reader(ticks_hz).check(SAID)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"ticks_hz": 976_562}, InfrastructureError, "timer runs at 976562 Hz, 25000000 Hz was expected"),
        ({"timer": "dwt-cycles"}, InfrastructureError, "times with dwt-cycles, icount-instructions was expected"),
        ({"build_id": "other"}, FlashError, "runs build other"),
    ],
)
def test_another_tick_timer_or_build_is_refused(change: dict[str, Any], kind: type[HilError], message: str) -> None:
    said = DeviceIdentity(**{name: change.get(name, getattr(SAID, name)) for name in DeviceIdentity.__slots__})
    with pytest.raises(kind, match=message):
        reader(25_000_000).check(said)
