"""The protocol as text: patterns, checksums, replies, and the header that the firmware gets."""

from __future__ import annotations

import contextlib
import pickle
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.errors import HilError, ProtocolError
from hil.link import protocol
from hil.link.session import InputRefused, Refused
from hil.patterns import Pattern, PatternKind, pattern, verification_patterns

HEADER = Path(__file__).resolve().parents[2] / "firmware" / "runtime" / "hil_wire.h"


def test_header_is_up_to_date() -> None:
    assert HEADER.read_text() == protocol.render_header(), "write it anew: hil/link/protocol.py, render_header"


def random_byte(seed: int, index: int) -> int:
    """The firmware's algorithm (input.c, random_byte), one byte at a time in unbounded integers."""
    word = ((index // 4 + 1) * 0x9E3779B1 + seed) & 0xFFFFFFFF
    word ^= word >> 16
    word = word * 0x85EBCA6B & 0xFFFFFFFF
    word ^= word >> 13
    word = word * 0xC2B2AE35 & 0xFFFFFFFF
    word ^= word >> 16
    return word >> 8 * (index % 4) & 0xFF


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(0, 70))
def test_random_pattern_is_the_firmwares(seed: int, size: int) -> None:
    expected = bytes(random_byte(seed, index) for index in range(size))
    assert pattern(PatternKind.RANDOM, seed, size) == expected


def test_random_pattern_is_spread() -> None:
    counts = [pattern(PatternKind.RANDOM, 7, 1 << 16).count(value) for value in range(256)]
    assert 180 < min(counts) < max(counts) < 340  # 256 expected, standard deviation 16


def test_extreme_patterns() -> None:
    assert pattern(PatternKind.MIN, 1, 3) == b"\x80\x80\x80"
    assert pattern(PatternKind.MAX, 1, 3) == b"\x7f\x7f\x7f"
    assert pattern(PatternKind.ALTERNATING, 1, 3) == b"\x80\x7f\x80"
    assert pattern(PatternKind.ZERO_POINT, 1, 2, zero_point=-5) == b"\xfb\xfb"


def test_verification_has_every_extreme_and_distinct_random_inputs() -> None:
    patterns = verification_patterns(8, seed=2**32 - 2)
    assert {item.kind for item in patterns} == set(PatternKind)
    assert patterns[0].kind is PatternKind.RANDOM
    assert len({item.data(64) for item in patterns}) == 8
    assert all(0 <= item.seed < 2**32 for item in patterns)


def test_every_command_fits_the_devices_buffer() -> None:
    longest = protocol.put_command(2**32 - 1, bytes(protocol.CHUNK_BYTES))
    assert len(longest) <= protocol.LINE_MAX
    assert all(len(command) <= 79 for command in protocol.db_commands(bytes(1000)))  # stock firmware's buffer


def test_put_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="129 bytes"):
        protocol.put_command(0, bytes(protocol.CHUNK_BYTES + 1))


def test_db_commands_send_all_bytes_once() -> None:
    data = bytes(range(100))
    first, *rest = protocol.db_commands(data)
    assert first == "db load 100"
    assert b"".join(bytes.fromhex(command.removeprefix("db ")) for command in rest) == data


def test_extension_line_round_trip() -> None:
    line = protocol.extension_line("run", 12, "ab")
    assert line == f"m-hil-run-[12,ab]-{zlib.crc32(b'm-hil-run-[12,ab]'):08x}"
    assert protocol.parse_extension(line) == ("run", ["12", "ab"])
    assert protocol.parse_extension("m-ready") is None


@given(sequence=st.integers(0, 0xFFFF), other=st.integers(0, 0xFFFF))
def test_a_reply_to_another_command_never_fits(sequence: int, other: int) -> None:
    line = protocol.extension_line("ticks", 0, 123456, sequence=sequence)
    assert protocol.parse_extension(line, sequence) == ("ticks", ["0", "123456"])
    if other != sequence:
        with pytest.raises(ProtocolError, match="wrong CRC"):
            protocol.parse_extension(line, other)


@given(sequence=st.integers(1, 0xFFFF), position=st.integers(0, 22), bit=st.integers(0, 6))
def test_a_damaged_command_is_not_taken_for_another(sequence: int, position: int, bit: int) -> None:
    text = protocol.frame("hil run 5 0", sequence)
    assert protocol.unframe(text) == ("hil run 5 0", sequence)
    damaged = text[:position] + chr(ord(text[position]) ^ (1 << bit)) + text[position + 1 :]
    found = protocol.unframe(damaged)
    assert found is None or found == (damaged, 0)  # it has lost its frame, and its reply the sequence


def test_series_must_be_whole_and_in_order() -> None:
    assert protocol.parse_series("ticks", [["0", "5", "6"], ["2", "7"]], 3) == [5, 6, 7]
    for lines in ([["0", "5", "6"]], [["2", "7"], ["0", "5", "6"]], [["0", "5", "6"], ["0", "5", "6"]], [["0"]]):
        with pytest.raises(ProtocolError):
            protocol.parse_series("ticks", lines, 3)


@given(position=st.integers(0, 21), bit=st.integers(0, 6))
def test_one_flipped_bit_is_noticed(position: int, bit: int) -> None:
    line = protocol.extension_line("ticks", 123456)
    damaged = line[:position] + chr(ord(line[position]) ^ (1 << bit)) + line[position + 1 :]
    with contextlib.suppress(ProtocolError):
        assert protocol.parse_extension(damaged) is None  # no longer a line of ours at all


@given(st.text(alphabet=st.characters(min_codepoint=0, max_codepoint=255), max_size=80))
def test_no_line_does_worse_than_a_protocol_error(text: str) -> None:
    for line in (text, f"m-hil-{text}", f"e-[{text}]", f"e-[fault {text}]"):
        protocol.parse_refusal(line)
        if protocol.is_fault(line):
            assert isinstance(protocol.fault_error(line), HilError)
        with contextlib.suppress(ProtocolError):
            protocol.parse_extension(line)


@given(st.lists(st.text(max_size=8), max_size=13))
def test_no_fields_do_worse_than_a_protocol_error(values: list[str]) -> None:
    parsers = (
        protocol.parse_identity, protocol.parse_map, protocol.parse_memory, protocol.parse_input,
        lambda fields: protocol.parse_run(fields, 4),
        lambda fields: protocol.parse_series("ticks", [fields, fields], 2),
    )  # fmt: skip
    for parse in parsers:
        with contextlib.suppress(ProtocolError):
            parse(values)


def test_run_reply_checks_the_output() -> None:
    output = b"\x01\xff"
    fields = ["99", "1", str(zlib.crc32(output)), output.hex()]
    assert protocol.parse_run(fields, 2) == protocol.RunReply(99, 1, zlib.crc32(output), output)
    with pytest.raises(ProtocolError, match="CRC"):
        protocol.parse_run([*fields[:3], "01fe"], 2)
    with pytest.raises(ProtocolError, match="2 bytes came back instead of 3"):
        protocol.parse_run(fields, 3)
    assert protocol.parse_run(["99", "1", "2", ""], protocol.INLINE_OUTPUT_BYTES + 1).output is None


FAULT = "e-[fault pc={pc} lr=0000000b sp=20000010 cfsr={cfsr} hfsr=40000000 bfar=0000dead mmfar=00000000 stack={stack}"


@pytest.mark.parametrize(
    ("cfsr", "stack", "words"),
    [
        ("00008200", 0, "bus error at bfar"),
        ("00010000", 0, "undefined instruction"),
        ("00020000", 0, "invalid state"),
        ("02000000", 0, "division by zero"),
        ("00000000", 0, "HardFault"),
        ("00000092", 1, "the stack overflowed"),
    ],
)
def test_fault_lines_become_words_and_registers(cfsr: str, stack: int, words: str) -> None:
    said = FAULT.format(pc="00000abc", cfsr=cfsr, stack=f"{stack:08x}")
    line = f"{said} crc={zlib.crc32(said.encode()):08x}]"
    assert protocol.is_fault(line)
    error = protocol.fault_error(line)
    assert words in str(error)
    assert ("stack overflowed" in str(error)) == bool(stack)
    assert error.registers == {
        "pc": 0xABC, "lr": 0xB, "sp": 0x20000010, "cfsr": int(cfsr, 16), "hfsr": 0x40000000, "bfar": 0xDEAD, "mmfar": 0,
    }  # fmt: skip


def test_a_damaged_fault_line_has_no_registers() -> None:
    said = FAULT.format(pc="00000abc", cfsr="00010000", stack="00000000")
    line = f"{said} crc={zlib.crc32(said.encode()):08x}]"
    for damaged in (line.replace("abc", "abd"), line[:-4] + "]", line[:60]):
        error = protocol.fault_error(damaged)
        assert error.registers == {}
        assert "damaged" in str(error)


def test_pattern_by_name_is_pattern_by_function() -> None:
    assert Pattern(PatternKind.RANDOM, 3).data(10) == pattern(PatternKind.RANDOM, 3, 10)


@pytest.mark.parametrize(
    ("line", "code", "about"),
    [
        ("e-[Damaged command]", protocol.RefusalCode.DAMAGED, ""),
        ("e-[Unknown command: hil]", protocol.RefusalCode.UNKNOWN_COMMAND, "hil"),
        ("e-[Input incomplete]", protocol.RefusalCode.INPUT_INCOMPLETE, ""),
        ("e-[Input spent: no RAM keeps it, load it again]", protocol.RefusalCode.INPUT_SPENT, None),
        ("e-[No output yet]", protocol.RefusalCode.OTHER, "No output yet"),
        ("e-[the device refused: Damaged command]", protocol.RefusalCode.OTHER, None),
    ],
)
def test_a_refusal_has_a_code(line: str, code: protocol.RefusalCode, about: str | None) -> None:
    found = protocol.parse_refusal(line)
    assert found is not None
    assert found.code is code
    assert found.text == line[3:-1]
    assert about is None or found.about == about
    assert protocol.parse_refusal("m-ready") is None


@pytest.mark.parametrize("kind", [Refused, InputRefused])
def test_a_refusal_survives_the_way_to_another_process(kind: type[Refused]) -> None:
    sent = kind("the device refused 'hil run'", protocol.Refusal(protocol.RefusalCode.INPUT_SPENT, "Input spent"))
    found = pickle.loads(pickle.dumps(sent))
    assert (type(found), str(found), found.refusal) == (kind, str(sent), sent.refusal)
