"""Flashing and reset through any GDB server: the debugger writes, compares, starts; servers differ in a few words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hil.errors import FlashError
from hil.targets.flash.base import FLASH_TIMEOUT_S, Breakable, segments_of
from hil.targets.flash.gdb_mi import Gdb, GdbRefused, GdbSilent, quoted

_SETTINGS = ("set confirm off", "set architecture arm", "set tcp auto-retry off")
START_S = 60.0  # of the debugger alone: 0.3 s, more than 8 s on a machine that is very busy
ANSWER_S = 8.0  # for what is asked of the server, but the writing itself
WRITING_S = 5.0  # silence of an emulator that is written to: it erases nothing
ERASING_S = 30.0  # nothing is heard while a chip erases: 16 sectors of 128 KB, 1 to 2 s each (STM32F7, STM32H7)
_DIED = re.compile(r"connection closed|connection reset|remote connection|broken pipe|not being run", re.IGNORECASE)
_NO_MEMORY = re.compile(r"memory fault|cannot access memory", re.IGNORECASE)  # Renode's; QEMU reads zeros there
_SECTION = re.compile(r"Section ([^\s,]+), range \w+ -- \w+: (matched|MIS-MATCHED)")


@dataclass(frozen=True, slots=True)
class Dialect:
    """Commands of the debugger's console for one kind of server.

    `attach` comes after connecting; `halt` brings the core to a stop at reset; `keep` keeps it halted when the debugger
    leaves; `run` starts the image. In `run`, ``{vectors}`` is the address of the image's vector table. `source` is
    where they come from. While it writes, a server may be silent for `silent_s`; an emulator erases nothing. `first_s`
    is what the first of these commands may take of a server that has answered the debugger: it is known to be alive.
    """

    halt: tuple[str, ...]
    run: tuple[str, ...]
    source: str
    attach: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    silent_s: float = ERASING_S
    first_s: float = ANSWER_S


DIALECTS: Mapping[str, Dialect] = {
    "openocd": Dialect(("monitor reset halt",), ("monitor reset run",), "OpenOCD User's Guide, 20.5; never run"),
    "pyocd": Dialect(("monitor reset halt",), ("monitor reset",), "pyOCD docs, remote monitor commands; never run"),
    "probe-rs": Dialect(("monitor reset halt",), ("monitor reset",), "probe-rs gdb-server; never run"),
    "j-link": Dialect(("monitor reset",), ("monitor reset", "monitor go"), "SEGGER UM08001, 3.3; never run"),
    "st-link": Dialect(("monitor reset",), ("monitor reset",), "ST UM2576; never run"),
    "black-magic": Dialect(
        (), ("kill",), "Black Magic Probe, usage; never run", attach=("monitor swdp_scan", "attach 1")
    ),
    "qemu": Dialect((), ("monitor system_reset",), "run: QEMU 7.2", silent_s=WRITING_S),
    "renode": Dialect(
        (),
        ("monitor machine Reset", "monitor cpu VectorTableOffset {vectors}", "monitor cpu IsHalted false"),
        "run: Renode 1.16.1",
        keep=("monitor cpu IsHalted true",),  # it lets the core go on when the debugger leaves, however that leaves
        silent_s=WRITING_S,
        first_s=60.0,  # it compiles its monitor then: 1.1 s of a core, more than 30 s on two that 24 wanted
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
        segments_of(image)  # what is no image for Arm is refused before anything is touched
        with self._connected(image) as gdb:
            self._ask(gdb, "-target-download", long=True)
            self._require_equal(self._ask(gdb, "compare-sections", long=True))
            self._ask_all(gdb, self._dialect.keep)
            self._ask(gdb, "disconnect")  # `detach` would let the core go on

    def reset(self, port: Breakable) -> None:
        """See `Flasher.reset`."""
        with self._connected(None) as gdb:
            vectors = f"0x{self.vectors:08x}"
            self._ask_all(gdb, [command.format(vectors=vectors) for command in self._dialect.run])
            if self._dialect.run[-1] != "kill":
                self._ask(gdb, "detach")

    @property
    def _dialect(self) -> Dialect:
        return DIALECTS[self.kind]

    @contextmanager
    def _connected(self, image: Path | None) -> Iterator[Gdb]:
        """A debugger at the server, the core halted at its reset."""
        with Gdb() as gdb:
            for command in _SETTINGS:
                gdb.run(command, START_S)
            self._expect_packets(gdb, self.answer_s)
            if image is not None:
                gdb.run(f"-file-exec-and-symbols {quoted(str(image.resolve()))}", START_S)
            try:
                gdb.run(f"-target-select extended-remote {self.address}", self.answer_s)
            except GdbSilent as error:
                raise FlashError(
                    f"the GDB server at {self.address} takes connections, but its target does not halt within "
                    f"{self.answer_s:g} s: {error}"
                ) from error
            except GdbRefused as error:
                raise FlashError(f"no GDB server can be used at {self.address}: {error}") from error
            self._ask_all(gdb, (*self._dialect.attach, *self._dialect.halt))
            yield gdb

    def _ask_all(self, gdb: Gdb, commands: Sequence[str]) -> None:
        """In their order; the first may take longer, where this is such a server."""
        wait_s = max(self.answer_s, self._dialect.first_s)
        for command in commands:
            self._expect_packets(gdb, wait_s)
            self._ask(gdb, command, wait_s)
            wait_s = self.answer_s
        if commands:
            self._expect_packets(gdb, self.answer_s)

    @staticmethod
    def _expect_packets(gdb: Gdb, within_s: float) -> None:
        """After a fourth of `within_s` without a packet it asks again, and after all of it gives up."""
        gdb.run(f"set remotetimeout {max(1, round(within_s / 4))}", START_S)

    def _ask(self, gdb: Gdb, command: str, answer_s: float | None = None, *, long: bool = False) -> str:
        try:
            if long:
                return gdb.run(command, self.timeout_s, self._dialect.silent_s)
            return gdb.run(command, answer_s or self.answer_s)
        except GdbSilent as error:
            raise FlashError(f"the GDB server at {self.address} hangs: {error}") from error
        except GdbRefused as error:
            if _DIED.search(str(error)):
                raise FlashError(f"the GDB server at {self.address} died during {command!r}: {error}") from error
            if long and _NO_MEMORY.search(str(error)):
                raise FlashError(
                    f"the target at {self.address} does not hold the image: {command!r}: {error}"
                ) from error
            raise FlashError(f"the GDB server at {self.address} refused {command!r}: {error}") from error

    def _require_equal(self, said: str) -> None:
        compared = dict(_SECTION.findall(said))
        wrong = [name for name, how in compared.items() if how != "matched"]
        if wrong or not compared:
            what = f"section {', '.join(wrong)} differs" if wrong else f"nothing could be compared: {said[:200]}"
            raise FlashError(f"the target at {self.address} does not hold the image after it was written: {what}")
