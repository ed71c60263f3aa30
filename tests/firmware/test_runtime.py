"""The runtime on an emulated core: exact counts, memory marks, inputs, faults, both protocols."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from hil.boards.board import load_board
from hil.errors import LinkTimeout, ProtocolError, TargetFaultError
from hil.link import protocol
from hil.link.device import Device, Timeouts
from hil.patterns import Pattern, PatternKind
from hil.targets.runners.base import Session
from hil.targets.runners.qemu import QemuRunner
from munas.tflite.quantise import quantised
from tests.firmware import images
from tests.firmware.images import ADDER, header

pytestmark = [pytest.mark.firmware, pytest.mark.qemu]

Build = Callable[..., Path]
Boot = Callable[..., AbstractContextManager[tuple[Session, Device]]]
RANDOM = Pattern(PatternKind.RANDOM, 11)


def add(data: bytes, by: int = 3) -> bytes:
    """What ADDER makes of its input: 0 + 1 + 2 added to each of the first ten bytes."""
    return bytes((value + by) & 0xFF for value in data[:10])


@pytest.mark.parametrize("count", [1, 12345])
def test_count_is_exact_and_the_same_in_every_run(build: Build, boot: Boot, core: str, count: int) -> None:
    image = build(header(layers=1) + images.countdown(count), core)
    for _ in range(2):
        with boot(image, core) as (session, device):
            ticks = [*device.infer(40, 1), device.run(RANDOM).ticks, device.run().ticks]
            assert {session.ticks_to_units(value) for value in ticks} == {2 * count + 2}


@pytest.mark.slow
def test_count_is_exact_past_the_wrap_of_the_counter(build: Build, boot: Boot) -> None:
    count = 100_000_000  # 2e8 instructions are 5.1e9 ticks, more than 2^32
    with boot(build(header(layers=1) + images.countdown(count))) as (session, device):
        assert session.ticks_to_units(device.run(RANDOM).ticks) == 2 * count + 2


def test_layers_are_counted_without_the_marks(build: Build, boot: Boot, core: str) -> None:
    counts = [2002, 1002, 4, 600]
    image = build(header(layers=4) + images.counted_layers(counts), core)
    with boot(image, core) as (session, device):
        assert [session.ticks_to_units(value) for value in device.profile()] == counts
        # four instructions enter and leave the network
        assert session.ticks_to_units(device.run(RANDOM).ticks) == sum(counts) + 4


def test_more_layers_than_slots_take_more_inferences(build: Build, boot: Boot) -> None:
    counts = [4 + 2 * (i % 5) for i in range(protocol.PROFILE_SLOTS * 2 + 3)]
    with boot(build(header(layers=len(counts)) + images.counted_layers(counts))) as (session, device):
        assert [session.ticks_to_units(value) for value in device.profile()] == counts


def test_identity_and_map_are_those_of_the_image(build: Build, boot: Boot, core: str) -> None:
    with boot(build(header(profile="kws01") + ADDER, core), core) as (session, device):
        identity, memory = device.identity(), device.memory_map()
        assert identity == protocol.DeviceIdentity(
            protocol.VERSION, "0123456789abcdef" * 2, "kws01", session.timer, 25_000_000, 3, 4096, 100, 10, -3, 5
        )
        assert (memory.stack_address, memory.stack_bytes) == (0x20000000, 2048)
        assert memory.arena_address % 16 == 0
        assert memory.spare_bytes == 0x20400000 - memory.arena_address - 4096
        assert (device.name(), device.model(), device.has_extension()) == ("munas-hil", "kws01", True)


@pytest.mark.parametrize("kind", list(PatternKind))
def test_patterns_are_the_hosts(build: Build, boot: Boot, kind: PatternKind) -> None:
    with boot(build(header() + ADDER)) as (_, device):
        pattern = Pattern(kind, 0xFFFFFFFF)
        data = pattern.data(100, -3)
        assert device.fill(pattern) == protocol.crc32(data)
        assert device.run(pattern).output == add(data)
        assert device.download() == add(data)


OVERLAP = {"arena": 100, "input_offset": 0, "output_offset": 0}  # the network overwrites its input


def test_an_overwritten_input_is_put_back(build: Build, boot: Boot) -> None:
    data = bytes(range(100))
    with boot(build(header(**OVERLAP) + ADDER)) as (_, device):
        assert device.run(RANDOM).output == add(RANDOM.data(100))
        device.infer(3, 1)
        assert device.download() == add(RANDOM.data(100))
        device.upload(data)
        for _ in range(2):
            assert device.run().output == add(data)
        assert device.base_infer(3, 2).results == tuple((value - 5) * 0.5 for value in add(data))


def test_without_spare_memory_an_upload_lasts_for_one_inference_and_is_repeated(build: Build, boot: Boot) -> None:
    data = bytes(range(100))
    image = build(header(**OVERLAP) + ADDER, memory=images.memory_x(physical_end=None, ram="3100"))
    with boot(image) as (_, device):
        assert device.memory_map().spare_bytes < 100
        device.upload(data)
        assert device.retries == 0
        for _ in range(2):
            assert device.run().output == add(data)
        assert len(device.infer(1, 0)) == 1
        assert len(device.profile()) == 3
        assert device.retries == 3  # each time the host has sent the input again
        for action in (lambda: device.infer(2, 0), device.memory):
            with pytest.raises(ProtocolError, match="Input spent"):
                action()
        device.upload(data)
        with pytest.raises(ProtocolError, match="Input spent"):
            device.base_infer(2, 0)
        assert device.base_infer(1, 0).results[0] == (3 - 5) * 0.5
        assert device.run(RANDOM).output == add(RANDOM.data(100))  # a pattern always lasts
        assert len(device.infer(3, 1)) == 3


@pytest.mark.parametrize(("top", "used"), [(0, 1124), (2000, 2001), (4095, 4096), (4096, 4097)])
@pytest.mark.parametrize("value", [0x5A, 0xA5, 0])
def test_arena_mark_is_the_highest_byte_touched(build: Build, boot: Boot, top: int, used: int, value: int) -> None:
    """Whatever is written there, the poisons included, and one byte too far as well; the input ends at 1124."""
    body = f"""
int hil_model_infer(hil_mark_fn mark)
{{
    static volatile uint32_t top = {top};
    (void)mark;
    ((volatile uint8_t *)hil_arena)[top] = {value};
    return 0;
}}"""
    with boot(build(header() + body)) as (_, device):
        assert device.memory().arena_used == used


def test_arena_mark_counts_input_and_output_that_hold_the_poison(build: Build, boot: Boot) -> None:
    idle = "int hil_model_infer(hil_mark_fn mark) { (void)mark; return 0; }"
    with boot(build(header(output_offset=3000) + idle)) as (_, device):
        device.upload(b"\x5a\xa5" * 50)
        assert device.memory().arena_used == 3010


def test_stack_mark_is_exact(build: Build, boot: Boot, core: str) -> None:
    """Two networks whose frames differ by 512 bytes differ by 512 bytes."""
    body = """
__attribute__((noinline)) static int use(volatile unsigned char *p) {{ p[0] = 1; return p[0] - 1; }}
int hil_model_infer(hil_mark_fn mark) {{ volatile unsigned char frame[{size}]; (void)mark; return use(frame); }}"""
    marks = []
    for size in (8, 520):
        with boot(build(header() + body.format(size=size), core), core) as (_, device):
            reports = [device.memory() for _ in range(3)]
            assert len({report.stack_used for report in reports}) == 1
            assert reports[0].stack_peak >= reports[0].stack_used
            marks.append(reports[0].stack_used)
    assert marks[1] - marks[0] == 512
    assert marks[0] < 512


def test_large_outputs_are_downloaded_in_parts(build: Build, boot: Boot) -> None:
    with boot(build(header(output_size=700, input_size=700) + ADDER)) as (_, device):
        reply = device.run(RANDOM)
        assert reply.output is None
        output = device.download()
        assert output == bytes((value + 3) & 0xFF for value in RANDOM.data(700))
        assert protocol.crc32(output) == reply.output_crc


FAULT_WORDS = {
    "nowhere": "instruction fetch forbidden",
    "bus": "bus error at bfar",
    "undefined": "undefined instruction",
    "recursion": "the stack overflowed",
    "frame": "the stack overflowed",
    "lockup": "locked up",
}


@pytest.mark.parametrize("name", sorted(FAULT_WORDS))
def test_faults_are_named_and_located(build: Build, boot: Boot, core: str, name: str) -> None:
    image = build(header() + images.FAULTS[name], core)
    code = images.symbol(image, "_text_start"), images.symbol(image, "_text_end")
    with pytest.raises(TargetFaultError, match=FAULT_WORDS[name]) as caught, boot(image, core) as (_, device):
        device.run(RANDOM)
    assert ("stack overflowed" in str(caught.value)) == (name in ("recursion", "frame"))
    pc = caught.value.registers["pc"]
    if name == "nowhere":
        assert pc == 0xE0000000
        assert code[0] <= caught.value.registers["lr"] < code[1]
    else:
        assert code[0] <= pc < code[1]
    if name == "bus":
        assert caught.value.registers["bfar"] == 0x50000000


def test_a_fault_at_start_up_is_a_fault(build: Build, boot: Boot) -> None:
    """Not a time-out. Here RAM is where the board has none, so that not even the handler has a stack."""
    memory = images.memory_x(physical_end=None).replace("0x20000000", "0x50000000")
    with pytest.raises(TargetFaultError, match="locked up"), boot(build(header() + ADDER, memory=memory)):
        pass


@pytest.mark.slow
def test_an_endless_loop_is_a_time_out_that_says_where(build: Build, boot: Boot) -> None:
    image = build(header() + images.ENDLESS)
    short = Timeouts(boot_s=20.0, inference_s=0.3)
    with (
        pytest.raises(LinkTimeout, match="core still runs, at pc 0x0000") as caught,
        boot(image, timeouts=short) as (
            _,
            device,
        ),
    ):
        device.run(RANDOM)
    assert "hil run" in str(caught.value)


def test_a_kernel_that_refuses_is_named(build: Build, boot: Boot) -> None:
    with boot(build(header() + images.REFUSING)) as (_, device):
        for action in (lambda: device.run(RANDOM), device.memory, device.profile, lambda: device.base_infer(1, 0)):
            with pytest.raises(ProtocolError, match="Kernel refused: layer 2"):
                action()
        assert device.name() == "munas-hil"  # still in step


def test_mlperf_inputs_by_model(build: Build, boot: Boot) -> None:
    """Images come as uint8, the autoencoder's spectrum as float32, speech as int8."""
    pixels = bytes(range(156, 256))
    for profile in ("ic01", "vww01"):
        with boot(build(header(profile=profile) + ADDER)) as (_, device):
            device.load(pixels)
            assert device.run().output == add(bytes(value ^ 0x80 for value in pixels))
    with boot(build(header(profile="kws01") + ADDER)) as (_, device):
        device.load(pixels)
        assert device.run().output == add(pixels)
    floats = [0.0, 0.25, -0.25, 0.125, -0.125, 1e9, -1e9, float("nan"), 32.4, -31.2, np.nextafter(np.float32(0.125), 0)]
    floats += np.random.default_rng(0).uniform(-40, 40, 89).tolist()
    wanted = quantised(np.nan_to_num(np.array(floats), nan=-1e9), 0.25, -3).tolist()
    assert wanted[:7] == [-3, -2, -4, -2, -4, 127, -128]  # half away from zero, and then the zero point
    assert wanted[8:11] == [127, -128, -3]
    with boot(build(header(profile="ad01") + ADDER)) as (_, device):
        device.load(struct.pack("<100f", *floats))
        assert device.run().output == add(struct.pack("100b", *wanted))


def test_mlperf_dialogue(build: Build, boot: Boot) -> None:
    with boot(build(header() + ADDER)) as (_, device):
        assert device.command("profile")[0] == "m-profile-[ULPMark for tinyML Firmware V0.0.1]"
        assert device.command("help")
        assert device.command("results") == ["e-[No output yet]"]
        assert device.command("db load 100") == ["m-[Expecting 100 bytes]"]
        assert device.command("db " + "01" * 31) == []
        assert device.command("infer 1 0") == ["e-[Input incomplete]"]
        assert device.command("db " + "02" * 31) == []
        assert device.command("db " + "03" * 38) == ["m-load-done"]
        assert device.command("db 00") == ["e-[Past db load]"]
        shown = device.command("db print")
        assert shown[0] == "m-buffer-" + "-".join(["01"] * 8)
        assert (len(shown), shown[-1]) == (13, "m-buffer-03-03-03-03")
        lines = device.command("infer 3 2")
        assert lines[:3] == ["m-warmup-start-2", "m-warmup-done", "m-infer-start-3"]
        assert lines[5] == "m-infer-done"
        laps = [int(line.removeprefix("m-lap-us-")) for line in lines[3:5]]
        expected_us = 3 * device.run().ticks / 25
        assert abs(laps[1] - laps[0] - expected_us) <= 2
        assert lines[6] == f"m-results-[{','.join(['-0.500'] * 10)}]"
        assert device.command("results") == lines[6:]
        later = int(device.command("timestamp")[0].removeprefix("m-lap-us-"))
        assert later > laps[1]


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("", "e-[Unknown command: ]"),
        ("nonsense 1 2", "e-[Unknown command: nonsense]"),
        ("hil", "e-[Bad hil command: ]"),
        ("hil run 1", "e-[Bad hil command: run]"),
        ("hil run x 0", "e-[Bad number: x]"),
        ("hil run 4294967296 0", "e-[Bad number: 4294967296]"),
        ("hil run -1 0", "e-[Bad number: -1]"),
        ("hil get 5 6", "e-[Out of range]"),
        ("hil get 4294967295 2", "e-[Out of range]"),
        ("hil put 0 0102 00000000", "e-[Wrong CRC]"),
        ("hil put 0 01020 b6cc4292", "e-[Bad put]"),
        ("hil put 99 0102 b6cc4292", "e-[Out of range]"),
        ("hil put 4294967295 0102 b6cc4292", "e-[Out of range]"),
        ("infer 0", "e-[Bad iterations]"),
        ("infer 1 x", "e-[Bad warmup]"),
        ("db", "e-[Bad db]"),
        ("db load 99", "e-[Input bytes: 100]"),
        ("db load 4294967295", "e-[Input bytes: 100]"),
        ("db 0g", "e-[Bad hex]"),
        ("db 123", "e-[Bad hex]"),
        ("db 12", "e-[Past db load]"),
        (protocol.frame("hil input", 7)[:-1], "e-[Damaged command]"),
        (protocol.frame("hil input", 7).replace("input", "infer"), "e-[Damaged command]"),
        ("hil input #", "e-[Damaged command]"),
        ("hil #", "e-[Damaged command]"),
        ("x" * (protocol.LINE_MAX + 1), "e-[Command too long or not text]"),
        ("x" * 2000, "e-[Command too long or not text]"),
        ("name\x01", "e-[Command too long or not text]"),
        ("x" * 40 + "\x7f", "e-[Command too long or not text]"),
        ("y" * 60, f"e-[Unknown command: {'y' * 32}]"),
    ],
)
def test_bad_commands_are_refused_in_step(command: str, answer: str, device_of_adder: Device) -> None:
    assert device_of_adder.command(command) == [answer]
    assert device_of_adder.name() == "munas-hil"


@pytest.fixture(scope="module")
def device_of_adder(runtime_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """One booted device for all bad commands: they must not wear it out."""
    objects = images.runtime("cortex-m4", runtime_folder / "cortex-m4")
    image = images.link(header() + ADDER, objects, tmp_path_factory.mktemp("adder"))
    with QemuRunner().open(image, load_board("mps2-an386")) as session:
        device = Device(session.port, session.timeouts)
        device.wait_ready()
        yield device


def test_line_ends_of_a_terminal_are_ignored(device_of_adder: Device) -> None:
    assert device_of_adder.command("\r\nna\nme\r\n") == ["m-name-dut-[munas-hil]"]


def test_half_a_command_is_finished_by_synchronising(device_of_adder: Device) -> None:
    device_of_adder._exchange.port.write(b"hil run 1")
    device_of_adder.synchronise()
    assert device_of_adder.name() == "munas-hil"
