"""A stand-in for Renode's monitor: it reads the generated script and runs the image under QEMU instead."""

from __future__ import annotations

import re
import select
import stat
import subprocess
import sys
from pathlib import Path

from tests.fake_board import FakeBoard

MACHINE = (
    r"logLevel 3",
    r"using sysbus",
    r'mach create "munas-hil"',
    r"machine LoadPlatformDescription @(?P<platform>\S+)",
    r'emulation SetGlobalQuantum "0\.\d+"',
    r'emulation CreateUartPtyTerminal "uart" "(?P<link>(?:[^"\\]|\\.)+)"',
    r"connector Connect sysbus\.vcp uart",
    r'echo "(?P<done>[^"]+)"',
)
LOAD = (
    r"machine Reset",
    r"flash ZeroAll",
    r"sram ZeroAll",
    r"sysbus LoadELF @(?P<image>\S+)",
    r"cpu VectorTableOffset 0x[0-9a-f]{8}",
    r'echo "(?P<done>[^"]+)"',
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
    """The monitor on the standard streams, which repeats what it hears as Renode's does."""
    if arguments != ["--disable-xwt", "--console", "--plain"]:
        sys.exit(f"error: unknown options {arguments}")
    (board.folder / "starts").open("a").write(f"{sys.argv[0]}\n")
    emulator: subprocess.Popen[bytes] | None = None
    link: Path | None = None  # to the line of its machine
    while True:
        if emulator is not None and emulator.poll() is not None:
            sys.exit("error: the machine is gone")
        if not select.select([sys.stdin], [], [], 0.05)[0]:
            continue
        command = sys.stdin.buffer.raw.readline().decode().strip()  # type: ignore[attr-defined]
        print(f"\r(monitor) {command}", flush=True)
        word, _, rest = command.partition(" ")
        if word == "echo":
            print(rest.strip('"'), end="\r\r\n", flush=True)
        elif command == "include @machine.resc":
            print("12:00:00.0000 [WARNING] a normal warning", flush=True)
            assert link is None, "the machine is there already"
            link = _make()
        elif command == "include @load.resc":
            assert link is not None, "no machine is there"
            assert emulator is None, "the machine runs"
            emulator = _load(board, link)
        elif word == "start":
            board.reset()
        elif word in ("pause", "Clear"):
            emulator = _end(emulator)
            link = link if word == "pause" else None
        elif command == "cpu PC":
            print("0x100", flush=True)
        else:
            sys.exit(0)  # the end of its input, too


def _understood(script: Path, expected: tuple[str, ...]) -> dict[str, str]:
    """What stands in a script at the places that `expected` names; nothing when it is another one."""
    found = dict[str, str]()
    for line, pattern in zip(script.read_text().splitlines(), expected, strict=True):
        match = re.fullmatch(pattern, line)
        if match is None:
            print(f"There was an error executing command '{line}'\r\nNo such command or device", flush=True)
            return {}
        found |= match.groupdict()
    return found


def _make() -> Path | None:
    found = _understood(Path("machine.resc"), MACHINE)
    if not found:
        return None
    if "vcp: UART.STM32F7_USART" not in Path(found["platform"]).read_text():
        print("There was an error executing command 'connector'\r\nsysbus.vcp does not exist", flush=True)
        return None
    print(found["done"], flush=True)
    return Path(found["link"].replace('\\"', '"'))


def _load(board: FakeBoard, link: Path) -> subprocess.Popen[bytes] | None:
    found = _understood(Path("load.resc"), LOAD)
    if not found:
        return None
    emulator = board.flash(Path(found["image"]), own_session=False)
    link.unlink(missing_ok=True)
    link.symlink_to(board.port.resolve())
    print(found["done"], flush=True)
    return emulator


def _end(emulator: subprocess.Popen[bytes] | None) -> None:
    if emulator is not None:
        emulator.kill()
        emulator.wait()
