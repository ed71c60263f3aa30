"""Flashing and reset through any GDB server: the debugger writes, compares, starts; servers differ in a few words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hil.errors import FlashError
from hil.targets.flash.base import FLASH_TIMEOUT_S, Breakable, flat_binary
from hil.targets.flash.gdb_mi import Gdb, GdbRefused, GdbSilent, quoted

_SETTINGS = ("set confirm off", "set architecture arm", "set tcp auto-retry off")
ANSWER_S = 8.0  # for anything but the writing itself
_DIED = re.compile(r"connection closed|connection reset|remote connection|broken pipe|not being run", re.IGNORECASE)
_SECTION = re.compile(r"Section ([^\s,]+), range \w+ -- \w+: (matched|MIS-MATCHED)")


@dataclass(frozen=True, slots=True)
class Dialect:
    """Commands of the debugger's console for one kind of server.

    `attach` comes after connecting; `halt` brings the core to a stop at reset; `run` starts the image. In `run`,
    ``{vectors}`` is the address of the image's vector table. `source` is where they come from.
    """

    halt: tuple[str, ...]
    run: tuple[str, ...]
    source: str
    attach: tuple[str, ...] = ()


# What a core does at reset, for servers whose own reset does not do it (B1.5.5 of the Armv7-M manual).
_AS_RESET = ("set $sp = *(unsigned int *){vectors}", "set $pc = *(unsigned int *)({vectors} + 4) & ~1")
DIALECTS: Mapping[str, Dialect] = {
    "openocd": Dialect(("monitor reset halt",), ("monitor reset run",), "OpenOCD User's Guide, 20.5; never run"),
    "pyocd": Dialect(("monitor reset halt",), ("monitor reset",), "pyOCD docs, remote monitor commands; never run"),
    "probe-rs": Dialect(("monitor reset halt",), ("monitor reset",), "probe-rs gdb-server; never run"),
    "j-link": Dialect(("monitor reset",), ("monitor reset", "monitor go"), "SEGGER UM08001, 3.3; never run"),
    "st-link": Dialect(("monitor reset",), ("monitor reset",), "ST UM2576; never run"),
    "black-magic": Dialect(
        (), ("kill",), "Black Magic Probe, usage; never run", attach=("monitor swdp_scan", "attach 1")
    ),
    "qemu": Dialect((), ("monitor system_reset",), "run: QEMU 7.2"),
    "renode": Dialect(
        ("monitor cpu IsHalted true",),  # it lets the core go on when the debugger leaves, however that leaves
        ("monitor cpu VectorTableOffset {vectors}", *_AS_RESET, "monitor cpu IsHalted false"),
        "run: Renode 1.16.1",
    ),
}


@dataclass(frozen=True, slots=True)
class GdbServer:
    """Flasher for the core behind the GDB server at `address` (``HOST:PORT``), whose `kind` is a key of DIALECTS.

    `vectors` is where the image's vector table will be: the start of the board's flash.
    """

    address: str
    kind: str
    vectors: int
    timeout_s: float = FLASH_TIMEOUT_S
    answer_s: float = ANSWER_S

    def flash(self, image: Path) -> None:
        """See `Flasher.flash`. The core is left halted."""
        flat_binary(image)  # what is no image for Arm is refused before anything is touched
        with self._connected(image) as gdb:
            self._ask(gdb, "-target-download", self.timeout_s)
            self._require_equal(self._ask(gdb, "compare-sections", self.timeout_s))
            self._ask(gdb, "disconnect")  # `detach` would let the core go on

    def reset(self, port: Breakable) -> None:
        """See `Flasher.reset`."""
        with self._connected(None) as gdb:
            for command in self._dialect.run:
                self._ask(gdb, command.format(vectors=f"0x{self.vectors:08x}"))
            if self._dialect.run[-1] != "kill":
                self._ask(gdb, "detach")

    @property
    def _dialect(self) -> Dialect:
        return DIALECTS[self.kind]

    @contextmanager
    def _connected(self, image: Path | None) -> Iterator[Gdb]:
        """A debugger at the server, the core halted at its reset."""
        with Gdb() as gdb:
            for command in (*_SETTINGS, f"set remotetimeout {max(1, round(self.answer_s / 4))}"):
                gdb.run(command, self.answer_s)
            if image is not None:
                gdb.run(f"-file-exec-and-symbols {quoted(str(image.resolve()))}", self.answer_s)
            try:
                gdb.run(f"-target-select extended-remote {self.address}", self.answer_s)
            except GdbSilent as error:
                raise FlashError(
                    f"the GDB server at {self.address} takes connections, but its target does not halt within "
                    f"{self.answer_s:g} s: {error}"
                ) from error
            except GdbRefused as error:
                raise FlashError(f"no GDB server can be used at {self.address}: {error}") from error
            for command in (*self._dialect.attach, *self._dialect.halt):
                self._ask(gdb, command)
            yield gdb

    def _ask(self, gdb: Gdb, command: str, timeout_s: float | None = None) -> str:
        try:
            return gdb.run(command, timeout_s or self.answer_s)
        except GdbSilent as error:
            raise FlashError(f"the GDB server at {self.address} hangs: {error}") from error
        except GdbRefused as error:
            if _DIED.search(str(error)):
                raise FlashError(f"the GDB server at {self.address} died during {command!r}: {error}") from error
            raise FlashError(f"the GDB server at {self.address} refused {command!r}: {error}") from error

    def _require_equal(self, said: str) -> None:
        compared = dict(_SECTION.findall(said))
        wrong = [name for name, how in compared.items() if how != "matched"]
        if wrong or not compared:
            what = f"section {', '.join(wrong)} differs" if wrong else f"nothing could be compared: {said[:200]}"
            raise FlashError(f"the target at {self.address} does not hold the image after it was written: {what}")
