"""`--via` and `--device`: which place is taken, and that it says why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hil.boards.board import load_board
from hil.errors import BoardError, DeviceAmbiguous, DeviceMissing, InfrastructureError, ToolMissing, UsageError
from hil.targets.detect import Connected
from hil.targets.place import Place, choose_place, make_runner
from hil.targets.runners.hardware import HardwareRunner
from hil.targets.runners.qemu import QemuRunner
from hil.targets.runners.renode import RenodeRunner

NUCLEO, MPS2 = load_board("nucleo-f746zg"), load_board("mps2-an386")
ONE, TWO = (Connected(number, (NUCLEO.name,), f"/dev/ttyACM{number}") for number in "12")


def missing() -> object:
    raise ToolMissing("renode", "somehow")


def place(
    via: str = "auto",
    *devices: Connected,
    renode: Callable[[], object] = missing,
    has_qemu: bool = True,
    **more: object,
) -> Place:
    return choose_place(
        NUCLEO, via, connected=lambda: devices, qemu=lambda: has_qemu, renode=renode, **more  # type: ignore[arg-type]
    )  # fmt: skip


def test_auto_takes_the_board_then_qemu_then_renode() -> None:
    assert (place("auto", ONE).via, place("auto", ONE).devices) == ("hardware", (ONE,))
    assert "1 at /dev/ttyACM1" in place("auto", ONE).reason
    qemu, renode = place("auto", renode=list), place("auto", renode=list, has_qemu=False)
    assert (qemu.via, qemu.reason) == ("qemu", "no such board is connected")
    assert (renode.via, renode.reason) == (
        "renode", "no such board is connected; of the emulators Renode is installed"
    )  # fmt: skip
    assert place("auto", has_qemu=False).via == "qemu"  # which will say how to install it
    assert [item.simulated for item in (place("auto", ONE), renode, qemu)] == [False, True, True]


def test_auto_with_modelled_cycles_is_qemu() -> None:
    for devices in ((), (ONE,), (ONE, TWO)):
        found = place("auto", *devices, renode=list, has_qemu=False, timer="modelled-cycles")
        assert (found.via, found.reason) == ("qemu", "only qemu has modelled-cycles")
    assert place("auto", ONE, renode=list, timer="renode-instructions").via == "renode"
    assert place("hardware", ONE, timer="modelled-cycles").via == "hardware"  # refused where the timer is chosen
    assert place("auto", ONE, timer="nonsense").via == "hardware"  # likewise


def test_auto_with_a_broken_detection_says_so() -> None:
    def broken() -> tuple[Connected, ...]:
        raise InfrastructureError("udev is not there")

    found = choose_place(NUCLEO, connected=broken, qemu=lambda: True, renode=missing)
    assert found.via == "qemu"
    assert "udev is not there" in found.reason


def test_auto_never_asks_for_boards_that_exist_only_in_qemu() -> None:
    def never() -> tuple[Connected, ...]:
        raise AssertionError

    assert choose_place(MPS2, connected=never, renode=never).via == "qemu"


def test_several_boards_are_an_error_unless_all_are_wanted() -> None:
    for via in ("auto", "hardware"):
        with pytest.raises(DeviceAmbiguous):
            place(via, ONE, TWO)
        assert place(via, ONE, TWO, several=True).devices == (ONE, TWO)
        assert place(via, ONE, TWO, several=True, device="2").devices == (TWO,)


def test_device_means_hardware() -> None:
    assert place("auto", ONE, TWO, device="2").devices == (TWO,)
    with pytest.raises(UsageError, match="--device 2 is for --via hardware"):
        place("qemu", ONE, device="2")


def test_what_is_asked_for_is_not_replaced_by_something_else() -> None:
    with pytest.raises(DeviceMissing):
        place("hardware", renode=list)
    with pytest.raises(ToolMissing):
        place("renode", ONE)
    assert place("qemu", ONE, renode=list).via == "qemu"
    with pytest.raises(UsageError, match="known: auto, hardware, renode, qemu"):
        place("simics")
    for via in ("hardware", "renode"):
        with pytest.raises(BoardError):
            choose_place(MPS2, via, connected=tuple, renode=list)


def test_runners() -> None:
    assert isinstance(make_runner("qemu"), QemuRunner)
    assert isinstance(make_runner("renode"), RenodeRunner)
    assert isinstance(make_runner("hardware", (ONE,)), HardwareRunner)
