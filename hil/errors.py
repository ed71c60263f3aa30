"""Every error that munas-hil raises on purpose.

    HilError                          exit status
     ├── UsageError                    2   wrong option, name or file
     │    ├── BoardError                   board file or board name
     │    ├── ModelError                   the .tflite cannot be used
     │    │    └── ReferenceDied           LiteRT's reference kernels end their process on it
     │    ├── BudgetError                  the network does not fit the flash or SRAM budget
     │    ├── DeviceAmbiguous              several boards of that name are connected
     │    └── CalibrationMismatch          calibration or record of another identity
     ├── InfrastructureError           3   the surroundings failed, not the network
     │    ├── ToolMissing                  a program or package is not installed
     │    ├── BuildError                   the toolchain failed
     │    │    └── ImagesDiffer            two ways to build one image do not make the same
     │    ├── RunnerError                  emulator or probe failed
     │    │    ├── DeviceMissing           no such board is connected
     │    │    ├── DeviceBusy              another session uses the board
     │    │    ├── DeviceLost              a connected board that does not work
     │    │    ├── FlashError              the image did not get onto the board
     │    │    └── NeverBooted             the core locked up before the firmware said anything
     │    ├── LinkError                    the serial link failed
     │    │    ├── LinkTimeout             nothing (or too little) came back in time
     │    │    └── ProtocolError           what came back is not the protocol
     │    ├── TargetFaultError             the firmware faulted (HardFault, stack overflow)
     │    │    └── CoreLockedUp            ... in its fault handler, or before it had one
     │    └── StoreError                   results file corrupt, disk full
     └── CheckFailed                   1   a verification or a limit failed

A message says what was tried, on which board, and what to do. Foreign exceptions are mapped where the foreign
library is called, with ``from``.
"""

from __future__ import annotations

from typing import ClassVar

from munas.errors import PlaceUnfit


class HilError(Exception):
    """Base of all errors raised on purpose; `exit_status` is what the command line returns.

    `transcript` is the file with what went over the serial line, where something did.
    """

    exit_status: ClassVar[int] = 3
    transcript: str = ""


class UsageError(HilError):
    """The request itself is wrong: option, name, file content."""

    exit_status = 2


class BoardError(UsageError):
    """Unknown board, or a board file that does not validate."""


class ModelError(UsageError):
    """The .tflite is corrupt, not int8, or uses something unsupported; `model` is its name, where that is said."""

    def __init__(self, message: str, model: str = "") -> None:
        super().__init__(f"{model}: {message}" if model else message)
        self.model, self.reason = model, message

    def __reduce__(self) -> tuple[type[ModelError], tuple[str, str]]:
        return type(self), (self.reason, self.model)


class ReferenceDied(ModelError):
    """LiteRT's reference kernels abort, hang or take all memory: what the network must answer is not known."""


class BudgetError(UsageError):
    """The network does not fit; `shortfall_bytes` maps the region (``FLASH``, ``RAM``) to bytes missing."""

    def __init__(self, message: str, shortfall_bytes: dict[str, int] | None = None) -> None:
        super().__init__(message)
        self.shortfall_bytes = dict(shortfall_bytes or {})

    def __reduce__(self) -> tuple[type[BudgetError], tuple[str, dict[str, int]]]:
        return type(self), (str(self), self.shortfall_bytes)


class DeviceAmbiguous(UsageError):
    """Several boards of that name are connected and none was chosen; the message lists their ids."""


class CalibrationMismatch(UsageError):
    """Two identities differ that must be equal; the message names the difference."""


class InfrastructureError(HilError):
    """Toolchain, emulator, board or link failed."""


class ToolMissing(InfrastructureError, PlaceUnfit):
    """A program or package is missing here, though another node may have it; `install` is the command that installs
    it."""

    def __init__(self, tool: str, install: str) -> None:
        super().__init__(f"{tool} is not installed; install it with: {install}")
        self.tool = tool
        self.install = install

    def __reduce__(self) -> tuple[type[ToolMissing], tuple[str, str]]:
        return type(self), (self.tool, self.install)


class BuildError(InfrastructureError):
    """Compiler or linker failed for another reason than the budget."""


class ImagesDiffer(BuildError):
    """Two ways to build one image do not make the same."""


class RunnerError(InfrastructureError):
    """The emulator or the probe failed or died."""


class DeviceMissing(RunnerError):
    """No board of that name (or no device of that id) is connected."""


class DeviceBusy(RunnerError):
    """Another session, perhaps of another process, holds the board's lock."""


class DeviceLost(RunnerError):
    """A connected board does not work: whatever it was to run is not to blame. `device` is its serial number."""

    def __init__(self, device: str, message: str) -> None:
        super().__init__(message)
        self.device = device

    def __reduce__(self) -> tuple[type[DeviceLost], tuple[str, str]]:
        return type(self), (self.device, str(self))


class NeverBooted(RunnerError):
    """The core locked up before its boot message: the build is broken, and no network of it is to blame."""


class FlashError(RunnerError):
    """The image did not get onto the board: what the drive or the flashing program said."""


class LinkError(InfrastructureError):
    """The serial link failed."""


class LinkTimeout(LinkError):
    """The device stayed silent, or did not finish, for longer than the time-out."""


class ProtocolError(LinkError):
    """The device answered something that is not the protocol, or a checksum was wrong after all retries."""


class TargetFaultError(InfrastructureError):
    """The firmware stopped in a fault handler. `registers` holds pc, lr, cfsr, hfsr, bfar, mmfar."""

    def __init__(self, message: str, registers: dict[str, int] | None = None) -> None:
        super().__init__(message)
        self.registers = dict(registers or {})

    def __reduce__(self) -> tuple[type[TargetFaultError], tuple[str, dict[str, int]]]:
        return type(self), (str(self), self.registers)


class CoreLockedUp(TargetFaultError):
    """The core locked up: it faulted in its fault handler, or before there was one."""


class StoreError(InfrastructureError):
    """The results store is corrupt or cannot be written."""


class CheckFailed(HilError):
    """Outputs differ, a limit is exceeded, or a figure got worse."""

    exit_status = 1
