"""A stand-in for Renode's command line: it reads the generated script and runs the image under QEMU instead."""

from __future__ import annotations

import re
import select
import stat
import sys
from pathlib import Path

from tests.fake_board import FakeBoard

EXPECTED = (
    r"using sysbus",
    r'mach create "munas-hil"',
    r"machine LoadPlatformDescription @(?P<platform>\S+)",
    r'emulation CreateUartPtyTerminal "uart" "(?P<link>\S+)"',
    r"connector Connect sysbus\.vcp uart",
    r"emulation SetAdvanceImmediately true",
    r"sysbus LoadELF @(?P<image>\S+)",
    r"cpu VectorTableOffset 0x[0-9a-f]{8}",
)


def install(folder: Path, machine: str) -> Path:
    """A program called renode in `folder`/bin; its emulator's files are in `folder`."""
    binaries = folder / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    script = binaries / "renode"
    root = Path(__file__).resolve().parent.parent
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\nfrom pathlib import Path\n"
        "from tests.fake_board import FakeBoard\nfrom tests.fake_renode import main\n"
        f"main(FakeBoard(Path({str(folder)!r}), {machine!r}), sys.argv[1:])\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def main(board: FakeBoard, arguments: list[str]) -> None:
    """Options, then -e "include @SCRIPT"; `start` and `quit` on standard input."""
    *options, execute, include = arguments
    if options != ["--disable-xwt", "--console", "--plain"] or execute != "-e":
        sys.exit(f"error: unknown options {arguments}")
    lines = Path(include.removeprefix("include @")).read_text().splitlines()
    found = {}
    for line, pattern in zip(lines, EXPECTED, strict=True):
        match = re.fullmatch(pattern, line)
        if match is None:
            sys.exit(f"error: no such command or device: {line}")
        found |= match.groupdict()
    if "vcp: UART.STM32F7_USART" not in Path(found["platform"]).read_text():
        sys.exit("error: sysbus.vcp does not exist")
    emulator = board.flash(Path(found["image"]), own_session=False)
    Path(found["link"]).symlink_to(board.port.resolve())
    while emulator.poll() is None:
        if not select.select([sys.stdin], [], [], 0.05)[0]:
            continue
        command = sys.stdin.buffer.raw.readline().strip()  # type: ignore[attr-defined]
        if command == b"start":
            board.reset()
        else:
            emulator.kill()
            emulator.wait()
            sys.exit(0)
    sys.exit("error: the machine is gone")
