"""Flashing through a GDB server: many images one after another, and how long each fault takes to be told, as a table.

``python -m tests.faults.gdb_table --server qemu`` (or ``renode``, with RENODE_PATH). Exit status 1 when an image did
not run as it was written, or a fault came late or under another's name. Time-outs are those that users have.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from hil.boards.board import load_board
from hil.errors import FlashError, HilError
from hil.link.device import Device, Timeouts
from hil.link.transport import open_port
from hil.patterns import Pattern, PatternKind
from hil.targets.flash import GdbServer
from tests.firmware import images
from tests.gdb_board import GdbBoard, Kind, dying_server, faulty_server, free_port, gdb_board

RANDOM = Pattern(PatternKind.RANDOM, 1)
TOLD_WITHIN_S = 10.0
BOARDS: Mapping[Kind, str] = {"qemu": "mps2-an386", "renode": "nucleo-f746zg"}
OTHERS: Mapping[Kind, str] = {"qemu": "nucleo-f746zg", "renode": "mps2-an386"}
"""Whose memory the board of a server does not have."""
MODEL = """
volatile const int8_t added[{size}] = {{ {value} }};
int hil_model_infer(hil_mark_fn mark)
{{
    for (uint32_t layer = 0; layer < hil_model.layers; layer++) {{
        for (uint32_t i = 0; i < hil_model.output_size; i++)
            hil_arena[i] = (int8_t)(hil_arena[hil_model.input_offset + i] + added[0] + added[{size} - 1]);
        if (mark) mark(layer);
    }}
    return 0;
}}
"""


class Bench:
    """Images for the board of a kind of server, and the server."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.board = load_board(BOARDS[kind])
        self.target = self.board.target(kind)
        self.objects = images.compiled_for(self.board, kind, folder / "objects")

    def image(self, value: int, size: int = 2, memory_of: str | None = None) -> Path:
        """An image that adds `value` to its input, with a constant of `size` bytes."""
        target = self.target if memory_of is None else load_board(memory_of).target("qemu")
        if memory_of is not None and load_board(memory_of).hardware:
            target = load_board(memory_of).target("hardware")
        text = images.header() + MODEL.format(value=value, size=size)
        folder = self.folder / f"{value}-{size}-{memory_of}"
        return images.link(text, self.objects, folder, core=self.board.core, memory=images.memory_of(target))

    def flasher(self, address: str) -> GdbServer:
        """As a user's bench file makes it."""
        return GdbServer(address, self.kind, self.target.flash.origin)

    def runs(self, server: GdbBoard, value: int, size: int) -> bool:
        """Whether the image with `value` is flashed and then adds it."""
        flasher = self.flasher(server.address)
        flasher.flash(self.image(value, size))
        link = open_port(server.port)
        try:
            flasher.reset(link)
            device = Device(link, Timeouts(60.0, 30.0, 60.0))
            device.wait_ready()
            return device.run(RANDOM).output == bytes((byte + value) & 0xFF for byte in RANDOM.data(10))
        finally:
            link.close()


def campaign(bench: Bench, count: int, seed: int) -> int:
    """Flash and run `count` images at one server; how many ran as they should. Prints the slowest and the mean."""
    drawn = random.Random(seed)
    right, times = 0, []
    with gdb_board(bench.kind, BOARDS[bench.kind]) as server:
        for number in range(count):
            value, size = 1 + number % 120, drawn.randrange(2, 40_000)
            started = time.monotonic()
            try:
                good = bench.runs(server, value, size)
            except HilError as error:
                good = False
                print(f"image {number} ({size} bytes of constants): {error}", flush=True)
            right += good
            times.append(time.monotonic() - started)
            if (number + 1) % 10 == 0:  # whoever stops it knows how far it came
                print(f"{right} of {number + 1}, the last in {times[-1]:.1f} s", flush=True)
    mean_s = sum(times) / count
    print(f"{right} of {count} images ran as written; mean {mean_s:.2f} s, slowest {max(times):.2f} s", flush=True)
    return right


def _stopped(server: GdbBoard) -> None:
    os.killpg(server.pid, signal.SIGSTOP)


def _killed(server: GdbBoard) -> None:
    os.killpg(server.pid, signal.SIGKILL)


@contextmanager
def _nothing() -> Iterator[str]:
    yield f"127.0.0.1:{free_port()}"


def faults(bench: Bench) -> Iterator[tuple[str, Callable[[GdbBoard], AbstractContextManager[str]], Path, str]]:
    """Fault, the way to the server that has it, the image, and words that only its error has."""
    good = bench.image(3, 20_000)
    text = bench.folder / "text"
    text.write_text("no ELF")

    def whole(server: GdbBoard) -> AbstractContextManager[str]:
        return dying_server(server.address, sys.maxsize, lambda: None)

    def after(count: int, how: Callable[[GdbBoard], None]) -> Callable[[GdbBoard], AbstractContextManager[str]]:
        return lambda server: dying_server(server.address, count, lambda: how(server))

    yield "no server", lambda _: _nothing(), good, "no GDB server can be used"
    yield "a file that is no program", whole, text, "text cannot be read"
    yield "a program for another processor", whole, Path("/bin/sh"), "is not for Arm"
    yield "an image for another board", whole, bench.image(3, memory_of=OTHERS[bench.kind]), "does not hold the image"
    yield "the server dies as it is greeted", after(0, _killed), good, "died during|can be used"
    yield "the server dies during the writing", after(6000, _killed), good, "died during '-target-download'"
    yield "the server hangs during the writing", after(6000, _stopped), good, "hangs: '-target-download'"
    yield "a server that says nothing", lambda _: faulty_server("silent"), good, "does not halt within"
    yield "a target that does not halt", lambda _: faulty_server("does not halt"), good, "does not halt within"


def told(bench: Bench) -> bool:
    """Try every fault; whether each was told in time and in its own words."""
    print("\n| fault | told after | error |\n|---|---|---|", flush=True)
    all_well = True
    for name, way, image, words in faults(bench):
        with gdb_board(bench.kind, BOARDS[bench.kind]) as server, way(server) as address:
            started = time.monotonic()
            try:
                bench.flasher(address).flash(image)
                said = "(none)"
            except FlashError as error:
                said = str(error)
            took_s = time.monotonic() - started
        well = took_s < TOLD_WITHIN_S and any(word in said for word in words.split("|"))
        all_well &= well
        print(f"| {name} | {took_s:.1f} s{'' if well else ' WRONG'} | {said[:160]} |", flush=True)
    return all_well


def main() -> int:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=list(BOARDS), default="qemu")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.server, Path(folder))
        right = campaign(bench, options.images, options.seed) if options.images else 0
        well = told(bench)
    return int(right != options.images or not well)


if __name__ == "__main__":
    sys.exit(main())
