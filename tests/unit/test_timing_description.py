"""The readable description of Thumb-2 and the C tables made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.cycle_model.description import DescriptionError, load_description, parse_class, parse_encoding
from hil.cycle_model.native import engine_dir
from hil.cycle_model.tables import render_tables


def test_choices_multiply() -> None:
    made = parse_encoding("smla{0}{1} mla 111110110001nnnn aaaadddd00<b=0|t=1><b=0|t=1>mmmm  w:d r:n r:m k:a")
    assert [item.mnemonic for item in made] == ["smlabb", "smlabt", "smlatb", "smlatt"]
    assert [item.value & 0x30 for item in made] == [0x00, 0x10, 0x20, 0x30]
    assert {item.mask for item in made} == {0xFFF000F0}


def test_a_choice_can_carry_a_second_name() -> None:
    half, byte = parse_encoding("{0} lds 1000<ldrh/2=1|ldrb/1=0>iiiiinnnttt  w:t a:n m{0'}")
    assert (half.mnemonic, half.access_bytes, byte.mnemonic, byte.access_bytes) == ("ldrh", 2, "ldrb", 1)


def test_a_field_may_lie_in_two_places() -> None:
    (item,) = parse_encoding("add alu 01000100dmmmmddd  w:d r:d r:m")
    assert item.positions("d") == (7, 2, 1, 0)
    assert item.positions("m") == (6, 5, 4, 3)


@pytest.mark.parametrize(
    "line",
    [
        "add alu 0100010dmmmmddd w:d",  # 15 bits
        "add alu 01000100dmmmmddd w:q",  # no such field
        "add alu 01000100dmmmmddd z:d",  # no such kind
        "add alu 01000100dmmmm?dd w:d",
    ],
)
def test_malformed_encodings_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"bits|operand"):
        parse_encoding(line)


@pytest.mark.parametrize(
    "line",
    [
        "x alu 1+Q alu 1 any - 1/1",
        "x alu 1 fpu 1 any - 1/1",
        "x alu 1 alu 1 both - 1/1",
        "x alu 1 alu 1 any - 1+P/1",
        "x alu 1 alu 1 any - 1",
        "x alu 1 alu 1 any -",
    ],
)
def test_malformed_classes_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"class|unpack"):
        parse_class(line)


def test_an_error_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("alu alu 1 alu 1 any - 1/1\n", encoding="ascii")
    (tmp_path / "thumb2.txt").write_text("# comment\nadd alu 0\n", encoding="ascii")
    with pytest.raises(DescriptionError, match=r"thumb2\.txt:2"):
        load_description(tmp_path)
    (tmp_path / "thumb2.txt").write_text("add mystery 01000100dmmmmddd w:d\n", encoding="ascii")
    with pytest.raises(DescriptionError, match="mystery"):
        load_description(tmp_path)


def test_no_encoding_hides_a_later_one() -> None:
    """An encoding whose every word an earlier one takes would be dead."""
    encodings = load_description(engine_dir()).encodings
    for index, late in enumerate(encodings):
        for early in encodings[:index]:
            takes_all = len(early.bits) == len(late.bits) and early.mask & late.mask == early.mask
            assert not (takes_all and late.value & early.mask == early.value), (early, late)


def test_every_class_is_used() -> None:
    description = load_description(engine_dir())
    assert {item.cls for item in description.encodings} == {item.name for item in description.classes}


def test_costs_of_the_table_that_timing_rests_on() -> None:
    """Arm's table for the Cortex-M4, by class: (base, per register, refill, rule)."""
    found = {
        item.name: (item.m4_base, item.m4_per_register, item.m4_refill, item.m4_rule)
        for item in load_description(engine_dir()).classes
    }
    expected = {
        "alu": (1, 0, False, ""), "mla": (1, 0, False, ""), "mlal": (1, 0, False, ""), "ext": (1, 0, False, ""),
        "div": (0, 0, False, "D"), "ld": (0, 0, False, "L"), "st": (1, 0, False, "W"), "ldm": (1, 1, False, ""),
        "stm": (1, 1, False, ""), "ldmpc": (1, 1, True, ""), "b": (1, 0, True, ""), "bl": (1, 0, True, ""),
        "cbz": (1, 0, True, ""), "it": (0, 0, False, "I"), "vdiv": (14, 0, False, ""), "vsqrt": (14, 0, False, ""),
        "vld": (2, 0, False, ""), "valu": (1, 0, False, ""),
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected


def test_rendering_is_deterministic_and_complete() -> None:
    description = load_description(engine_dir())
    text = render_tables(description)
    assert text == render_tables(load_description(engine_dir()))
    assert text.isascii()
    assert text.count("CLASS_") >= len(description.encodings) + len(description.classes)
