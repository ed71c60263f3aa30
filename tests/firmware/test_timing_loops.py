"""Hand-written code with known cycle counts, run under QEMU with the timing plugin: exact for the Cortex-M4's table.

Every snippet is entered by a BL (whose refill of 2 belongs to it) and left by BX LR, 1 cycle. Costs are Arm's table at
zero wait states as in engine/classes.txt: they are written out here once more, by hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.cycle_model.options import Lines
from tests.firmware.timing_loops import run

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]

ENTRY, LEAVE = 2, 1
POINTERS = "movw r1, #:lower16:buffer; movt r1, #:upper16:buffer; mov r2, r1; "  # 3 cycles, and no load
P = 2

# name: (code without its BX LR, cycles)
STRAIGHT = {
    "data processing": ("adds r0, #1; add r0, r0, r3, lsl #2; mvn r0, r0; lsrs r0, r0, #3; ubfx r0, r0, #1, #8; "
                        "bfi r0, r3, #2, #3; clz r0, r0; rev r0, r0; movw r0, #7; ssat r0, #8, r0", 10),
    "dsp": ("sxtb16 r0, r0; sadd16 r0, r0, r0; qadd r0, r0, r0; pkhbt r0, r0, r3, lsl #16; usad8 r0, r0, r0; "
            "sel r0, r0, r0", 6),
    "multiply": ("muls r0, r3, r0; mla r0, r0, r0, r0; mls r0, r0, r0, r0; smlad r0, r0, r0, r0; "
                 "smlabb r0, r0, r0, r0; smull r0, r3, r0, r0; smlal r0, r3, r2, r2; umaal r0, r3, r2, r2; "
                 "smmul r0, r0, r0", 9),
    "one load": (POINTERS + "ldr r0, [r1]", 3 + 2),
    "loads pipeline": (POINTERS + "ldr r0, [r1]; ldr r3, [r2]; ldrb r0, [r1, #3]; ldrsh r3, [r2, #2]",
                       3 + 2 + 1 + 1 + 1),
    "load into its own base pipelines behind": (POINTERS + "ldr r0, [r1]; ldr r1, [r2]", 3 + 2 + 1),
    "address from the load before": (POINTERS + "str r2, [r1]; ldr r0, [r1]; ldr r3, [r0]; ldr r3, [r0]",
                                     3 + 2 + 2 + 2 + 1),
    "load, other work, load": (POINTERS + "ldr r0, [r1]; mov r3, r3; ldr r0, [r1]", 3 + 2 + 1 + 2),
    "writeback pipelines": (POINTERS + "ldr r0, [r1], #4; ldr r3, [r1], #4; ldr r3, [r1, #4]!", 3 + 2 + 1 + 1),
    "store after load": (POINTERS + "ldr r0, [r1]; str r0, [r2, #4]", 3 + 2 + 1),
    "nothing pipelines after a store, which waits": (POINTERS + "str r0, [r1]; ldr r0, [r2]", 3 + 2 + 2),
    "nor do several loads": (POINTERS + "str r0, [r1]; ldrd r0, r3, [r2]; str r0, [r1]; ldm r2, {r0, r3}",
                             3 + 2 + 3 + 2 + 3),
    "a store behind a store, or work between": (POINTERS + "str r0, [r1]; str r0, [r2]; nop; ldr r0, [r2]",
                                                3 + 1 + 1 + 1 + 2),
    "stores": (POINTERS + "str r0, [r1]; strb r0, [r2, #1]; strh r0, [r1, #2]; movs r3, #4; str r0, [r1, r3]", 3 + 5),
    "doubles": (POINTERS + "ldrd r3, r0, [r1]; strd r3, r0, [r2, #8]; ldr r0, [r1]; ldrd r3, r0, [r2]",
                3 + 3 + 3 + 2 + 3),
    "multiple": (POINTERS + "stm r1, {r0, r3, ip}; ldm r1, {r0, r3, ip}; ldm r2!, {r0, r3}; push {r0-r3}; pop {r0-r3}",
                 3 + 4 + 4 + 3 + 5 + 5),
    "literals": ("ldr r0, =0x12345678; ldr r3, =0x87654321; movs r0, #1", 2 + 1 + 1),
    "not taken": ("movs r0, #1; cbz r0, 1f; cmp r0, #1; bne 1f; bne.w 1f\n1: nop", 1 + 1 + 1 + 1 + 1 + 1),
    "taken": ("movs r0, #0; cbz r0, 1f; nop\n1: cmp r0, #0; beq 2f; nop\n2: b 3f; nop\n3: nop",
              1 + (1 + P) + 1 + (1 + P) + (1 + P) + 1),
    "calls": ("mov ip, lr; bl 1f; b 2f\n.thumb_func\n1: bx lr\n2: mov lr, ip", 1 + (1 + P) + (1 + P) + (1 + P) + 1),
    "call by register": ("mov ip, lr; adr r0, 1f; adds r0, #1; blx r0; b 2f\n.align 2\n1: bx lr\n2: mov lr, ip",
                         3 + (1 + P) + (1 + P) + (1 + P) + 1),
    "return by pop": ("push {r4, lr}; bl 1f; pop {r4, lr}; b 2f\n.thumb_func\n1: push {r4-r6, lr}; pop {r4-r6, pc}\n"
                      "2: nop",
                      3 + (1 + P) + 5 + (1 + 4 + P) + 3 + (1 + P) + 1),
    "conditional return that is not taken": ("push {r4-r6, lr}; cmp r0, r0; it ne; popne {r4-r6, pc}; pop {r4-r6, lr}",
                                             5 + 1 + 0 + 1 + 5),
    "table branch": ("movs r0, #0; tbb [pc, r0]; .byte 1, 0; nop", 1 + (2 + P) + 1),
    "load into pc": ("adr r0, 1f; adds r0, #1; push {r0}; ldr pc, [sp], #4; .align 2\n1: nop", 2 + 2 + (2 + P) + 1),
    "it is folded behind two bytes": ("cmp r0, r0; it eq; moveq r0, r3", 1 + 0 + 1),
    "it is not folded behind four bytes": ("cmp.w r0, r0; it eq; moveq r0, r3", 1 + 1 + 1),
    "skipped by it": ("cmp r0, r0; ite ne; movne r0, r3; moveq r3, r0", 1 + 0 + 1 + 1),
    "float": ("vadd.f32 s0, s1, s2; vmul.f32 s0, s1, s2; vabs.f32 s0, s1; vcmp.f32 s0, s1; vmrs APSR_nzcv, fpscr; "
              "vcvt.f32.s32 s0, s0; vmov s0, r0; vmov.f32 s1, #1.0", 8),
    "float, slow": ("vmov.f32 s1, #1.0; vdiv.f32 s0, s1, s1; vsqrt.f32 s0, s1; vmla.f32 s0, s1, s1; "
                    "vfma.f32 s0, s1, s1; vmov r0, r3, s0, s1", 1 + 14 + 14 + 3 + 3 + 2),
    "float loads": (POINTERS + "vldr s0, [r1]; vldr d1, [r1]; vldm r1, {s0-s3}; vstr s0, [r2]; vstr d0, [r2]; "
                    "vpush {s0-s2}; vpop {s0-s2}", 3 + 2 + 3 + 5 + 2 + 3 + 4 + 4),
}  # fmt: skip


def body(code: str) -> str:
    return code.replace("; ", "\n") + "\n    bx lr\n"


@pytest.mark.parametrize("name", STRAIGHT)
def test_straight_code_costs_what_the_table_says(name: str, tmp_path: Path) -> None:
    code, cycles = STRAIGHT[name]
    assert run(body(code), tmp_path).total.cycles == ENTRY + cycles + LEAVE


def test_the_cortex_m3_multiplies_more_slowly(tmp_path: Path) -> None:
    """Arm 100165: MUL 1, MLA and MLS 2, long ones 3 to 5, with an accumulator 4 to 7; all else as on the Cortex-M4."""
    multiplications = (
        "muls r0, r3, r0; mla r0, r0, r0, r0; mls r0, r0, r0, r0; umull r0, r3, r2, r2; smlal r0, r3, r2, r2"
    )
    total = run(body(multiplications), tmp_path, core=3).total
    assert total.cycles == ENTRY + 1 + 2 + 2 + 4 + 5 + LEAVE
    assert run(body(multiplications), tmp_path).total.cycles == ENTRY + 5 + LEAVE
    code, cycles = STRAIGHT["loads pipeline"]
    assert run(body(code), tmp_path, core=3).total.cycles == ENTRY + cycles + LEAVE


@pytest.mark.parametrize("core", [3, 4])
def test_divides_cost_what_the_core_says(core: int, tmp_path: Path) -> None:
    total = run(body("movs r0, #1; sdiv r0, r0, r0; udiv r3, r0, r0"), tmp_path, core=core).total
    assert total.cycles == ENTRY + 1 + 2 * 7 + LEAVE


@pytest.mark.parametrize("divide", [2, 12])
def test_divides_cost_what_the_board_says(divide: int, tmp_path: Path) -> None:
    total = run(body("movs r0, #1; sdiv r0, r0, r0; udiv r3, r0, r0"), tmp_path, divide=divide).total
    assert total.cycles == ENTRY + 1 + 2 * divide + LEAVE
    assert total.divide == 2


# A loop of four 2-byte instructions (8 bytes) starting at 0 or 2 modulo 4, its first one of 2 or 4 bytes.
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("wide", [False, True])
def test_taken_branches_at_both_alignments(shift: int, wide: bool, tmp_path: Path) -> None:
    """At both alignments P is 2; with `refill_split` 3, the 4-byte target across two words costs one more."""
    first = "add.w r3, r3, #1" if wide else "adds r3, #1"
    code = "movs r0, #50; " + "nop; " * (1 - shift) + f"\n1: {first}; subs r0, #1; bne 1b"
    plain = run(body(code), tmp_path).total
    assert plain.cycles == ENTRY + 1 + (1 - shift) + 50 * 3 + 49 * P + LEAVE
    assert plain.taken == 49 + 1
    split = run(body(code), tmp_path, refill_split=3).total
    assert split.cycles - plain.cycles == (49 if wide and shift else 0)


def test_a_loop_pipelines_within_but_not_over_its_end(tmp_path: Path) -> None:
    code = POINTERS + "movs r0, #10\n1: ldr r3, [r1]; ldr ip, [r2]; subs r0, #1; bne 1b"
    assert run(body(code), tmp_path).total.cycles == ENTRY + 4 + 10 * (2 + 1 + 1 + 1) + 9 * P + LEAVE


def test_words_and_half_words_across_words_cost_more(tmp_path: Path) -> None:
    code = POINTERS + "ldr r0, [r1, #1]; mov r3, r3; ldr r0, [r1, #2]; mov r3, r3; ldrh r0, [r1, #3]; ldrh r0, [r1, #2]"
    total = run(body(code), tmp_path).total
    assert total.unaligned == 2 + 1 + 1
    assert total.cycles == ENTRY + 3 + 2 + 1 + 2 + 1 + 2 + 1 + 4 + LEAVE


def test_an_address_just_computed_costs_what_the_board_says(tmp_path: Path) -> None:
    code = POINTERS + "ldr r0, [r2]; add r1, r1, #4; ldr r0, [r1]; nop; ldr r0, [r1]"
    without = run(body(code), tmp_path).total.cycles
    assert run(body(code), tmp_path, address_stall=1).total.cycles == without + 2  # r2 by mov, r1 by add


@pytest.mark.slow
@pytest.mark.parametrize("position", range(690, 740, 2))
def test_where_the_emulator_cuts_blocks_does_not_matter(position: int, tmp_path: Path) -> None:
    """QEMU ends a block at the end of a 1 KiB page; loads pipeline and IT folds across that."""
    tail = "ldr r0, [r1]; ldr r3, [r2]; ldr r0, [r1]; cmp r0, r0; it eq; moveq r0, r3; ldr r0, [r1]"
    lead = POINTERS + "nop; " * (position // 2)
    cycles = run(body(lead + tail), tmp_path).total.cycles
    assert cycles == ENTRY + 3 + position // 2 + (2 + 1 + 1 + 1 + 0 + 1 + 2) + LEAVE


def test_layers_are_the_named_functions_and_all_since_the_one_before(tmp_path: Path) -> None:
    code = """
    push {r4, lr}
    nop
    bl one
    nop
    bl two
    bl one
    pop {r4, pc}
    .thumb_func
one: nop
    bx lr
    .thumb_func
two: push {r4, lr}
    bl one
    pop {r4, pc}
"""
    record = run(code, tmp_path, layers=("one", "two"))
    call = 1 + P
    one = 1 + 1  # nop, bx
    cycles = [layer.counters.cycles for layer in record.layers]
    # The refill of a return belongs to what comes after it.
    assert cycles == [ENTRY + 3 + 1 + call + one, P + 1 + call + 3 + call + one + P + 3, P + call + one]
    assert record.layers[0].function == record.layers[2].function != record.layers[1].function
    assert record.total.cycles == sum(cycles) + P + 1 + 2  # back, and the last pop


def test_lines_of_code_and_data(tmp_path: Path) -> None:
    """Two rounds over 1 KiB of flash through 8 lines of 32 bytes: every line is missed twice; RAM is free."""
    code = """
    ldr r1, =table
    movs r3, #2
2:  movs r0, #255
1:  ldr r2, [r1, r0, lsl #2]
    subs r0, #1
    bpl 1b
    subs r3, #1
    bne 2b
    ldr r1, =buffer
    ldr r2, [r1]
    bx lr
"""
    few = run(code, tmp_path, code=Lines(32, 32, 0), data=Lines(32, 8, 0)).total
    assert few.data_reads == 2 * 256 + 2  # and two literals
    assert few.flash_misses == 2 * 32 + 2  # both literals lie in one line, which is pushed out in between
    assert few.code_misses == 1
    many = run(code, tmp_path, code=Lines(32, 32, 0), data=Lines(32, 64, 4)).total
    assert many.flash_misses == 32 + 1
    with_ram = run(code, tmp_path, data=Lines(32, 64, 4), data_covers_ram=True).total
    assert (with_ram.data_reads, with_ram.flash_misses, with_ram.ram_misses) == (2 * 256 + 3, 32 + 1, 1)


# Cortex-M7: (code, cycles of issue). The BL's block and ours never share an issue group.
DUAL = {
    "independent pairs": ("adds r0, #1; add r3, r3, r2; mov r2, r1; mov ip, r1", 2),
    "a result is there in the next cycle": ("eor r0, r0, #1; eor r0, r0, #1; eor r0, r0, #1", 3),
    "one multiplier": ("smlad r0, r1, r1, r0; smlad r3, r1, r1, r3", 2),
    "accumulator is read late": ("mul r0, r1, r1; mla r0, r1, r1, r0; mla r0, r1, r1, r0", 3),
    "multiplier's result": ("mul r0, r1, r1; add r0, r0, #1", 3),
    "multiply beside a load": ("ldr r0, [sp]; smlad r3, r1, r1, r3; ldr r2, [sp, #4]; smlad ip, r1, r1, ip", 2),
    "two loads": ("ldr r0, [sp]; ldr r2, [sp, #4]; ldr r3, [sp]; ldr ip, [sp]", 2),
    "byte loads take longer": ("ldrb r0, [sp]; add r0, r0, #1", 3),
    "address from a load": ("str sp, [sp, #-8]; nop; nop; nop; ldr r0, [sp, #-8]; ldr r0, [r0]", 2 + 3),
    "a plain shift goes round the shifter in the younger slot": ("add r3, r3, r1, lsl #2; lsls r2, r1, #3", 1),
    "but not in the older": ("lsls r2, r1, #3; add r3, r3, r1, lsl #2", 2),
    "add in the older slot gives its result at once": ("add r0, r1, r2; eor r3, r3, r0", 1),
    "sub does": ("sub r0, r1, r2; eor r3, r3, r0", 1),
    "flags never": ("adds r0, r1, r2; adc r3, r3, r1", 2),
    "other logic does not": ("eor r0, r1, r2; eor r3, r3, r0", 2),
    "nor add in the younger": ("mov ip, r1; add r0, r1, r2; eor r3, r3, r0; mov ip, r1", 2),
    "a shift does in either": ("mov ip, r1; lsls r0, r1, #3; eor r3, r3, r0; mov ip, r1", 2),
    "only when its operands are early": ("eor r1, r1, r2; nop; add r0, r1, r2; eor r3, r3, r0", 3),
    "a shifted operand waits for a loaded word": ("ldr r0, [sp]; nop; add r3, r0, r1, lsl #2", 3),
    "so does extend-and-add": ("ldr r0, [sp]; nop; uxtab r3, r0, r1", 3),
    "a byte is late, but none waits longer for it": ("ldrb r0, [sp]; nop; add r3, r0, r1, lsl #2", 3),
    "nor a multiplication for a half-word": ("ldrh r0, [sp]; nop; mul r3, r0, r1", 3),
    "a plain one does not": ("ldr r0, [sp]; nop; add r3, r0, r1", 2),
    "multiplication waits for a loaded word": ("ldr r0, [sp]; nop; mul r3, r0, r1", 3),
    "store and multiplication": ("str r0, [sp, #-4]; mul r3, r1, r2", 2),
    "simd in the first slot": ("sxtb16 r0, r1; sxtb16 r2, r1; mov r3, r1", 2),
    "shifted operand is needed early": ("eor r0, r1, r2; add r3, r3, r0, lsl #2", 3),
    "which the early ALU gives": ("mov r0, r1; add r3, r3, r0, lsl #2", 2),
    "one store": ("str r0, [sp, #-4]; str r0, [sp, #-8]", 2),
    "divides hold everything": ("mov r0, r1; sdiv r0, r1, r1; mov r0, r1", 1 + 7 + 1),
    "multiple transfers alone": ("mov r2, r1; push {r0-r3}; pop {r0-r3}; mov r2, r1", 1 + 2 + 2 + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", DUAL)
def test_m7_pairs(name: str, tmp_path: Path) -> None:
    code, cycles = DUAL[name]
    assert run(body(code + "; dsb"), tmp_path, core=7).total.cycles == cycles + 2  # dsb and bx issue alone


def test_m7_predicts_branches(tmp_path: Path) -> None:
    """A loop of one issue cycle, longer than the history: wrong at its end."""
    code = "movs r0, #100\n1: subs r0, #1; bne 1b; bx lr"
    total = run(code, tmp_path, core=7, mispredict=0).total
    assert total.mispredicted == 1
    assert run(code, tmp_path, core=7).total.cycles == total.cycles + 7


def test_m7_reads_across_words_cost_more(tmp_path: Path) -> None:
    across = run(body(POINTERS + "ldr r0, [r1, #1]; dsb"), tmp_path, core=7).total
    assert across.unaligned == 1
    assert across.cycles == run(body(POINTERS + "ldr r0, [r1]; dsb"), tmp_path, core=7).total.cycles + 3


# Cortex-M33: (code, cycles). What a branch costs is known when it has gone somewhere: BL and BX LR are not part of it.
SINGLE = {
    "one a cycle": ("adds r0, #1; add r0, r0, r3; mvn r0, r0; lsrs r0, r0, #3; bfi r0, r3, #2, #3", 5),
    "a loaded value is there a cycle later": ("ldr r0, [sp]; add r0, r0, r3; ldr r0, [sp]; nop; add r0, r0, r3", 3 + 3),
    "but not as an accumulator": ("ldr r0, [sp]; mla r0, r2, r2, r0", 2),
    "nor to be stored": ("ldr r0, [sp]; str r0, [sp, #-4]", 2),
    "a load or a store behind a load": ("ldr r0, [sp]; ldrb r3, [sp]; str r2, [sp, #-4]; ldr r0, [sp]", 4),
    "address from a load": ("str sp, [sp, #-8]; ldr r0, [sp, #-8]; ldr r0, [r0]", 1 + 2 + 1),
    "multiplications chain": ("mul r0, r2, r2; mla r0, r2, r2, r0; smlad r0, r2, r2, r0; smlabb r0, r2, r2, r0", 4),
    "their results are a cycle late": ("mul r0, r2, r2; add r0, r0, r3; smlad r0, r2, r2, r0; eor r0, r0, r3", 3 + 3),
    "divides": ("sdiv r0, r2, r2; udiv r0, r2, r2", 7 + 7),
    "two bytes that multiply take two cycles": ("muls r0, r3, r0; mov.w r2, r2", 3),
    "shifted operands and DSP": ("add r0, r0, r3, lsl #2; eor r0, r0, r3; sadd16 r0, r0, r0; eor r0, r0, r3", 3 + 3),
    "transfers": ("push {r0-r3}; pop {r0-r3}; ldrd r0, r3, [sp]; strd r0, r2, [sp, #-8]", 4 + 4 + 2 + 2),
    "it pairs with two bytes": ("cmp r0, r0; it eq; moveq r0, r3; mov.w r2, r2", 1 + 0 + 1 + 1),
    "and not with four": ("cmp.w r0, r0; it eq; moveq r0, r3; mov.w r2, r2", 1 + 1 + 1 + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_m33_issues_one_a_cycle(name: str, tmp_path: Path) -> None:
    code, cycles = SINGLE[name]
    assert run(body(code + "; mov.w r2, r2"), tmp_path, core=33).total.cycles == cycles + 1


# Ten rounds of a loop: (what is in front of the branch, cycles of a round that goes round, of the last one)
@pytest.mark.parametrize(
    ("front", "taken", "last"),
    [
        ("subs r0, #1; ", 1 + 2, 1 + 0),
        ("subs.w r0, r0, #1; ", 1 + 2, 1 + 1),
        ("subs.w r0, r0, #1; mov r2, r2; ", 1 + 1 + 1, 1 + 1 + 0),
    ],
)
def test_m33_branches_pair(front: str, taken: int, last: int, tmp_path: Path) -> None:
    """A 2-byte branch costs nothing beside a 2-byte instruction; not when it is taken and that one set the flags."""
    code = "mov.w r0, #10; mov.w r2, r2\n1: " + front + "bne 1b\n    mov.w r2, r2"
    assert run(body(code), tmp_path, core=33).total.cycles == 2 + 9 * taken + last + 1


@pytest.mark.parametrize("position", range(696, 730, 2))
def test_m33_does_not_mind_where_the_emulator_cuts(position: int, tmp_path: Path) -> None:
    tail = "ldr r0, [sp]; add r0, r0, r3; cmp r0, r0; it eq; moveq r0, r3; mul r0, r2, r2; eor r0, r0, r3; mov.w r2, r2"
    cycles = run(body("nop; " * (position // 2) + tail), tmp_path, core=33).total.cycles
    assert cycles == position // 2 + 3 + (1 + 0 + 1) + 3 + 1
