"""The firmware's command parser under libFuzzer, with address and undefined-behaviour sanitisers.

By hand: ``python -m tests.faults.fuzz_firmware --seconds 600``. Needs clang with libFuzzer (apt-get install clang).
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from hil.link import protocol
from tests.faults.host_device import FIRMWARE, sources

WORDS = (
    "hil ", "name", "timestamp", "profile", "help", "db ", "db load ", "db print", "infer ", "results", "%", " ", " #",
    "0", "1", "100", "400", "4294967295", "4294967296", "ff", *(f"hil {text}" for text in protocol.COMMANDS.values()),
)  # fmt: skip
_STATE = re.compile(r"#(\d+).*cov: (\d+)")


def build(folder: Path) -> Path:
    """Compile the fuzzer. Raises FileNotFoundError without clang, CalledProcessError without libFuzzer."""
    program = folder / "fuzz"
    options = ["-std=c11", "-O1", "-g", "-DHOST_FUZZ", "-DHOST_SPARE=1024u", f"-I{FIRMWARE / 'runtime'}"]
    sanitise = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
    command = ["clang", *options, *sanitise, *sources(), "-o", str(program)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
    return program


def corpus(folder: Path) -> None:
    """Whole dialogues to begin with, with and without frames."""
    rng, data = random.Random(1), bytes(range(100))
    dialogues = [
        "name%profile%timestamp%help%", "db load 100%" + "".join(f"{text}%" for text in protocol.db_commands(data)[1:]),
        "db print%infer 3 1%results%", "hil id%hil fill 5 0%hil run%hil get 0 10%", "hil infer 20 2%hil profile%",
        "hil memory%hil run 7 0%hil input%", f"{protocol.put_command(0, data)}%hil input%hil run%",
        f"{protocol.frame('hil id', 9)}%", f"db load 400%db {rng.randbytes(128).hex()}%", "x" * 400 + "%",
    ]  # fmt: skip
    for index, text in enumerate(dialogues):
        for mode in (b"\x00", b"\x01"):
            (folder / f"{index}-{mode[0]}").write_bytes(mode + text.encode())


def fuzz(program: Path, folder: Path, seconds: int, seed: int) -> tuple[int, int, str]:
    """Runs done, code edges covered, and what was found (empty: nothing)."""
    (folder / "corpus").mkdir(exist_ok=True)
    corpus(folder / "corpus")
    (folder / "words").write_text("".join(f'"{word}"\n' for word in WORDS))
    options = [
        f"-max_total_time={seconds}", f"-seed={seed}", "-close_fd_mask=1", "-timeout=60", "-max_len=2048",
        f"-dict={folder / 'words'}", f"-artifact_prefix={folder}/",
    ]  # fmt: skip
    command = [str(program), *options, str(folder / "corpus")]
    run = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds + 120, check=False)
    states = _STATE.findall(run.stderr)
    runs, edges = (int(value) for value in states[-1]) if states else (0, 0)
    return runs, edges, "" if run.returncode == 0 else run.stderr[-4000:]


def available() -> bool:
    """Whether clang and its libFuzzer are there."""
    if shutil.which("clang") is None:
        return False
    test = "#include <stdint.h>\n#include <stddef.h>\nint LLVMFuzzerTestOneInput(const uint8_t *d, size_t n)"
    with tempfile.TemporaryDirectory() as folder:
        command = ["clang", "-fsanitize=fuzzer,address,undefined", "-x", "c", "-", "-o", f"{folder}/t"]
        text = test + "{ return d == 0 && n == 1; }"
        return subprocess.run(command, input=text, text=True, capture_output=True, check=False).returncode == 0


def main() -> int:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not available():
        print("not run: clang with libFuzzer is not installed; install it with: sudo apt-get install clang")
        return 3
    with tempfile.TemporaryDirectory(prefix="munas-hil-fuzz-") as name:
        folder = Path(name)
        runs, edges, found = fuzz(build(folder), folder, options.seconds, options.seed)
    print(f"firmware command parser: {runs:,} inputs in {options.seconds} s, {edges} edges, {found or 'no finding'}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
