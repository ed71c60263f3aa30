"""One session a device, between processes too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hil.errors import DeviceBusy
from hil.targets.locks import any_device

HOLDER = """
import sys, time
from hil.targets.locks import any_device
with any_device(("A",)):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path))


def test_a_held_device_is_busy_and_another_is_taken() -> None:
    with any_device(("A", "B")) as first, any_device(("A", "B")) as second:
        assert (first, second) == ("A", "B")
        with pytest.raises(DeviceBusy, match=rf"A is used by process {os.getpid()}, B is used"), any_device(("A", "B")):
            pass
    with any_device(("A",)):
        pass


def test_waiting_for_a_device() -> None:
    taken = threading.Event()

    def hold() -> None:
        with any_device(("A",)):
            taken.set()
            time.sleep(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(60)
    with any_device(("A",), wait_s=60.0) as device:
        assert device == "A"
    thread.join()


def test_the_lock_of_a_killed_process_is_free() -> None:
    root = Path(__file__).resolve().parents[2]
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, cwd=root)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(DeviceBusy, match=f"A is used by process {holder.pid}"), any_device(("A",)):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with any_device(("A",)):
        pass


def test_a_device_may_be_named_like_a_path() -> None:
    with any_device(("/dev/ttyACM0",)) as device:
        assert device == "/dev/ttyACM0"
