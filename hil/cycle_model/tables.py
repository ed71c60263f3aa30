"""Renders the description as `thumb2_tables.h`, the only generated source of the timing plugin."""

from __future__ import annotations

from hil.cycle_model.description import EARLY, ISSUES, KINDS, UNITS, Description, Encoding, InstructionClass, Operand

_BANKS = ("core", "single", "double", "sized", "fixed")
_MAX_OPERANDS = 6


def render_tables(description: Description) -> str:
    """C source: enums of classes, groups, kinds and banks, and the tables `encodings16`, `encodings32`, `classes`."""
    parts = [
        "/* Generated from thumb2.txt and classes.txt by hil/cycle_model/tables.py. */",
        "#ifndef THUMB2_TABLES_H",
        "#define THUMB2_TABLES_H",
        '#include "decode.h"',
        _enum("CLASS", tuple(item.name for item in description.classes)),
        _enum("GROUP", description.groups),
        _enum("RULE", ("NONE", "L", "I", "D", "W", "M")),
        _enum("ISSUE", ISSUES),
        _enum("EARLY", EARLY),
        _enum("UNIT", UNITS),
        _enum("BANK", _BANKS),
        _enum("KIND", tuple(_kind_name(kind) for kind in KINDS)),
        _class_table(description),
        _encoding_table("encodings16", description, 16),
        _encoding_table("encodings32", description, 32),
        "#endif",
    ]
    return "\n".join(parts) + "\n"


def _kind_name(kind: str) -> str:
    return kind.replace("*", "_LIST").replace("#", "_RANGE")


def _enum(prefix: str, names: tuple[str, ...]) -> str:
    body = ", ".join(f"{prefix}_{name.upper()}" for name in names)
    return f"enum {{ {body}, {prefix}_COUNT }};"


def _class_table(description: Description) -> str:
    rows = "\n".join(f"    {_class_row(item)}," for item in description.classes)
    groups = ", ".join(f'"{name}"' for name in description.groups)
    return (
        f"static const char *const group_names[GROUP_COUNT] = {{ {groups} }};\n"
        f"static const class_info_t classes[CLASS_COUNT] = {{\n{rows}\n}};"
    )


def _class_row(item: InstructionClass) -> str:
    uses = ", ".join(str(item.m7_units.count(unit)) for unit in UNITS)
    return (
        f'{{ "{item.name}", GROUP_{item.group.upper()}, {item.m4_base}, {item.m4_per_register}, {int(item.m4_refill)}, '
        f"RULE_{item.m4_rule or 'NONE'}, {int(item.m4_accumulates)}, {int(item.m4_long)}, "
        f"{{ {uses} }}, {item.m7_latency}, ISSUE_{item.m7_issue.upper()}, "
        f"{item.m7_hold}, {int(item.m7_free_shift)}, EARLY_{item.m7_early.upper()}, {int(item.m7_load_wait)}, "
        f"{item.m33_base}, {item.m33_per_register}, RULE_{item.m33_rule or 'NONE'}, {item.m33_latency} }}"
    )


def _encoding_table(name: str, description: Description, width_bits: int) -> str:
    chosen = [item for item in description.encodings if len(item.bits) == width_bits]
    rows = "\n".join(f"    {_encoding_row(item)}," for item in chosen)
    return f"static const encoding_t {name}[{len(chosen)}] = {{\n{rows}\n}};"


def _encoding_row(item: Encoding) -> str:
    if len(item.operands) > _MAX_OPERANDS:
        raise ValueError(f"{item.mnemonic}: more than {_MAX_OPERANDS} operands")
    operands = ", ".join(_operand(item, operand) for operand in item.operands)
    sets = "FLAGS_ALWAYS" if "F" in item.flags else "FLAGS_BY_S" if "S" in item.flags else "FLAGS_KEPT"
    flag_bit = (item.positions("S") or (255,))[0]
    size_bit = (item.positions("z") or (255,))[0]
    fields = (
        f"0x{item.mask:08x}u", f"0x{item.value:08x}u", f'"{item.mnemonic}"', f"CLASS_{item.cls.upper()}",
        str(item.access_bytes), sets, str(int("C" in item.flags)), str(flag_bit), str(size_bit),
        str(len(item.operands)), f"{{ {operands or '{ 0 }'} }}",
    )  # fmt: skip
    return f"{{ {', '.join(fields)} }}"


def _operand(item: Encoding, operand: Operand) -> str:
    kind, bank = f"KIND_{_kind_name(operand.kind).upper()}", f"BANK_{operand.bank.upper()}"
    if operand.bank == "fixed":
        return f"{{ {kind}, {bank}, {operand.register}, 0, {{ 0 }}, 255 }}"
    upper = (item.positions(operand.register.upper()) or (255,))[0]
    return f"{{ {kind}, {bank}, 0, {operand.plus}, {_field(item, operand.register)}, {upper} }}"


def _field(item: Encoding, letter: str) -> str:
    """Two runs of neighbouring bits, `{ shift, length, shift, length }`, the first one the higher."""
    runs: list[list[int]] = []
    for position in item.positions(letter):
        if runs and runs[-1][-1] == position + 1:
            runs[-1].append(position)
        else:
            runs.append([position])
    if len(runs) > 2:
        raise ValueError(f"{item.mnemonic}: field {letter!r} lies in more than two runs")
    numbers = [number for run in runs for number in (run[-1], len(run))]
    return "{ " + ", ".join(str(number) for number in [0, 0, *numbers][-4:]) + " }"
