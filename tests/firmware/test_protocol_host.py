"""The firmware's command parser, compiled for the host with sanitisers, against random and mangled commands."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hil.errors import ProtocolError
from hil.link import protocol
from tests.faults.host_device import FIRMWARE, sources

LINE = re.compile(
    r"m-ready|m-timestamp-mode-performance|m-init-done|m-lap-us-\d+|m-load-done|m-warmup-start-\d+|m-warmup-done"
    r"|m-infer-start-\d+|m-infer-done|m-results-\[-?\d+\.\d{3}(,-?\d+\.\d{3})*\]|m-buffer(-[0-9a-f]{2}){1,8}"
    r"|m-\[Expecting \d+ bytes\]|m-name-dut-\[munas-hil\]|m-profile-\[[^]]+\]|m-model-\[ad01\]|[a-z ]+"
    r"|e-\[[ -~]{1,80}\]"
)


@pytest.fixture(scope="module", params=[1024, 0], ids=["spare", "no-spare"])
def parser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime as a program: commands on standard input, replies on standard output."""
    if shutil.which("gcc") is None:
        pytest.skip("no compiler for the host")
    program = tmp_path_factory.mktemp("host") / "parser"
    command = [
        "gcc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all", f"-DHOST_SPARE={request.param}u", f"-I{FIRMWARE / 'runtime'}",
        *sources(), "-o", str(program),
    ]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stderr
    return program


SEQUENCE = 0xBEEF  # of all framed commands


def extension(line: str) -> tuple[str, list[str]] | None:
    """An extension line that answers a command with SEQUENCE, or one without a frame."""
    try:
        return protocol.parse_extension(line, SEQUENCE)
    except ProtocolError:
        return protocol.parse_extension(line)


def dialogue(parser: Path, sent: bytes) -> list[str]:
    """Lines that the firmware answers; it must end well."""
    run = subprocess.run([parser], input=sent, capture_output=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    return run.stdout.decode("ascii").splitlines()


def random_command(rng: random.Random) -> bytes:
    """A command that is right, nearly right, or noise."""
    data = rng.randbytes(rng.choice([1, 4, 31, 100, protocol.CHUNK_BYTES]))
    offset = rng.choice([0, 1, 50, 99, 100, 2**32 - 1])
    choices = [
        "name", "profile", "help", "timestamp", "results", "db print", f"db load {rng.choice([0, 1, 400, 10**9])}",
        f"db load 100%db {data.hex()}", f"db {data.hex()}", f"infer {rng.randrange(4)} {rng.randrange(3)}", "hil id",
        "hil input", "hil memory", "hil profile", f"hil run {rng.getrandbits(32)} {rng.randrange(7)}", "hil run",
        f"hil infer {rng.randrange(40)} 1", f"hil fill {rng.getrandbits(33)} {rng.randrange(5)}",
        f"hil get {offset} {rng.randrange(12)}", protocol.put_command(offset, data),
        " ".join(["hil"] * rng.randrange(12)),
        "x" * rng.randrange(700),
    ]  # fmt: skip
    text = rng.choice(choices)
    command = bytearray((protocol.frame(text, SEQUENCE) if rng.random() < 0.5 else text).encode())
    if rng.random() < 0.3 and command and b"infer" not in command:
        for _ in range(rng.randrange(1, 4)):
            command[rng.randrange(len(command))] = rng.choice([rng.randrange(256), 0x20, 0])
    return bytes(command) + b"%"


@pytest.mark.parametrize("seed", range(4))
def test_random_commands_are_answered_in_step(parser: Path, seed: int) -> None:
    rng = random.Random(seed)
    commands = [random_command(rng) for _ in range(400)]
    sent = b"".join(commands)
    lines = dialogue(parser, sent)
    assert lines.count(protocol.READY) == sent.count(b"%") + 1
    assert lines[-1] == protocol.READY
    for line in lines:
        if extension(line) is None:
            assert LINE.fullmatch(line), line


def test_noise_is_answered_only_at_its_terminators(parser: Path) -> None:
    noise = random.Random(5).randbytes(100_000)
    lines = dialogue(parser, noise)
    assert lines.count(protocol.READY) == noise.count(b"%") + 1


def test_dialogue_of_this_test_reaches_every_command(parser: Path) -> None:
    """The random commands are worth something: over all seeds every kind of reply occurs."""
    lines: list[str] = []
    for seed in range(4):
        rng = random.Random(seed)
        lines += dialogue(parser, b"".join(random_command(rng) for _ in range(400)))
    keys = {found[0] for line in lines if (found := extension(line)) is not None}
    assert keys == set(protocol.KEYS.values())
    assert {"m-load-done", "m-infer-done", f"e-[{protocol.RefusalCode.DAMAGED.value}]"} <= set(lines)
    assert any(line.startswith("m-results-[") for line in lines)


@pytest.mark.slow
def test_replies_carry_the_tag_of_their_command(parser: Path) -> None:
    sent = f"hil id%{protocol.frame('hil id', 1)}%hil id%{protocol.frame('hil id', 0xFFFF)}%".encode()
    lines = [line for line in dialogue(parser, sent) if line.startswith("m-hil-id-")]
    for line, sequence in zip(lines, (0, 1, 0, 0xFFFF), strict=True):
        assert protocol.parse_extension(line, sequence) is not None
    framed = protocol.frame("hil run 5 0", 77)
    for place in range(len(framed)):
        for bit in range(7):
            damaged = framed[:place] + chr(ord(framed[place]) ^ 1 << bit) + framed[place + 1 :]
            if "%" not in damaged and damaged.lower() != framed:  # a digit in upper case is the same digit
                lines = dialogue_lines(damaged, parser)
                assert not any(line.startswith("m-hil-") for line in lines), damaged


def dialogue_lines(command: str, parser: Path) -> list[str]:
    """What is answered to one command."""
    return dialogue(parser, command.encode() + b"%")[4:]


def test_the_refusals_that_ask_for_the_input_again_are_the_firmwares(parser: Path) -> None:
    said = (FIRMWARE / "runtime" / "input.c").read_text()
    assert all(f'hil_error("{code.value}' in said for code in protocol.INPUT_LOST)
