"""One session a device: locks between threads and processes, which the system frees when their owner dies."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from hil.cache import cache_dir, make_private
from hil.errors import DeviceBusy, InfrastructureError

_POLL_S = 0.1


def _open(device: str) -> int:
    # Hashed, because a serial number may be a path.
    path = cache_dir() / "locks" / f"{hashlib.sha256(device.encode()).hexdigest()[:16]}.lock"
    try:
        make_private(path.parent)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InfrastructureError(f"cannot make the lock file {path}: {error.strerror or error}") from error


def _owner(lock: int) -> str:
    text = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
    return f" by process {text}" if text else ""


@contextmanager
def any_device(devices: tuple[str, ...], wait_s: float = 0.0) -> Iterator[str]:
    """Hold the lock of the first of `devices` (serial numbers) that is free, waiting up to `wait_s` seconds for one.

    Gives back which it is. Raises DeviceBusy naming the owners.
    """
    with ExitStack() as opened:
        locks = {}
        for device in devices:
            locks[device] = _open(device)
            opened.callback(os.close, locks[device])  # which also unlocks
        yield _first_free(locks, wait_s)


def hold(device: str, wait_s: float = 0.0) -> int:
    """As `any_device`, for one: a descriptor, which keeps the lock until it and all that other processes have of it are
    closed."""
    lock = _open(device)
    try:
        _first_free({device: lock}, wait_s)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _first_free(locks: Mapping[str, int], wait_s: float) -> str:
    deadline = time.monotonic() + wait_s
    while (taken := next((device for device, lock in locks.items() if _try(lock)), None)) is None:
        if time.monotonic() >= deadline:
            owners = ", ".join(f"{device} is used{_owner(lock)}" for device, lock in locks.items())
            raise DeviceBusy(f"no device is free: {owners}; wait for it, or choose another with --device")
        time.sleep(_POLL_S)  # one lock can be waited for, any of several cannot
    return taken


def _try(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return True
