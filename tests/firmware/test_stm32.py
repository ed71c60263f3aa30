"""The STM32 ports: all compile, the clock trees are what the reference manuals ask for, the F405's runs under QEMU."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hil.boards.board import Via, load_board
from hil.boards.core import load_core
from hil.boards.machines import HIGHEST_BAUD, LOWEST_BAUD, PORTS_OF_ONE_BAUD, USUAL_BAUD
from hil.build.sources import find_cmsis, library
from hil.link.device import Device, Timeouts
from hil.measure.harness import Harness, Options
from hil.patterns import Pattern, PatternKind
from hil.targets.runners.qemu import QEMU, QemuRunner
from hil.targets.runners.renode import platform_file
from tests.firmware import images
from tests.firmware.stm32_registers import ADC_PAGES, READ_ONLY, RESETS

PORT = images.FIRMWARE / "port"
STRICT = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow", "-Wundef")
NUCLEOS = ("nucleo-f746zg", "nucleo-l4r5zi", "nucleo-h743zi")


@pytest.mark.firmware
@pytest.mark.parametrize("name", [*NUCLEOS, "netduinoplus2"])
@pytest.mark.parametrize("via", ["hardware", "renode", "qemu"])
def test_every_port_compiles_without_a_warning(name: str, via: Via, tmp_path: Path) -> None:
    images.need_toolchain()
    board = load_board(name)
    if via != "qemu" and board.hardware is None:
        pytest.skip(f"{name} is QEMU's only")
    ported = library(board, board.target(via), find_cmsis())
    (group,) = (group for group in ported.groups if group.name == "port")
    for source in group.files:
        command = [images.GCC, *ported.compile_flags(group), *STRICT, "-c", source, "-o", tmp_path / "port.o"]
        subprocess.run([str(word) for word in command], check=True, timeout=60)


@pytest.mark.firmware
@pytest.mark.parametrize("port", ["stm32f4", "stm32l4", "stm32f7", "stm32h7"])
@pytest.mark.parametrize("defines", [(), ("-DHIL_RENODE=1",)])
def test_the_ports_name_their_timer(port: str, defines: tuple[str, ...], tmp_path: Path) -> None:
    images.need_toolchain()
    core = "cortex-m4" if port[5:] in ("f4", "l4") else "cortex-m7"
    command = [images.GCC, *load_core(core).flags, *images.FLAGS, *STRICT, *defines, f"-I{images.FIRMWARE}/runtime"]
    out = tmp_path / "port.o"
    subprocess.run([*command, "-c", str(PORT / f"{port}.c"), "-o", str(out)], check=True, timeout=60)
    assert (b"renode-instructions" if defines else b"dwt-cycles") + b"\x00" in out.read_bytes()


# --- clock trees, against a model of the registers --------------------------------------------------------------------

Registers = dict[str, int]
FAMILIES = {"stm32f4": 4, "stm32l4": 5, "stm32f7": 7, "stm32h7": 8}
FULL_HZ = {"stm32f4": 168_000_000, "stm32l4": 120_000_000, "stm32f7": 216_000_000, "stm32h7": 400_000_000}
RESET_HZ = {"stm32f4": 16_000_000, "stm32l4": 4_000_000, "stm32f7": 16_000_000, "stm32h7": 64_000_000}
Simulation = Callable[..., Registers]


@pytest.fixture(scope="module")
def simulate(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """Registers after hil_port_init, by address in hexadecimal; the second argument breaks a part of the chip, further
    ones are the content of registers that are plain memory (ADDRESS=VALUE)."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no compiler for the host")
    folder = tmp_path_factory.mktemp("stm32")

    def run(port: str, broken: int = 0, *memory: str, rate: int = USUAL_BAUD) -> Registers:
        program = folder / f"{port}-{rate}"
        if not program.exists():
            source = Path(__file__).with_name("stm32_sim.c")
            command = [compiler, "-std=gnu11", "-O1", f'-DPORT="{port}.c"', f"-DFAMILY={FAMILIES[port]}"]
            command += [] if rate == USUAL_BAUD else [f"-DHIL_BAUD={rate}"]
            command += [f"-I{PORT}", f"-I{images.FIRMWARE / 'runtime'}", str(source), "-o", str(program)]
            subprocess.run(command, check=True, timeout=60)
        done = subprocess.run([program, str(broken), *memory], check=True, timeout=60, capture_output=True, text=True)
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    return run


def bits(value: int, high: int, low: int) -> int:
    return value >> low & ((1 << (high - low + 1)) - 1)


def divided(code: int) -> int:
    """APB prescalers of all families: 0xx: 1, 100: 2, 101: 4, 110: 8, 111: 16."""
    return 1 if code < 4 else 2 << (code - 4)


def baud(clock_hz: float, divisor: int, scale: int = 1) -> float:
    return scale * clock_hz / divisor


@pytest.mark.parametrize(("port", "hse_hz", "waits"), [("stm32f4", 25e6, 5), ("stm32f7", 8e6, 7)])
def test_clocks_of_the_f4_and_f7(simulate: Simulation, port: str, hse_hz: float, waits: int) -> None:
    """RM0090 7.3, RM0385 5.3: PLL input 1 to 2 MHz, VCO 100 to 432 MHz, APB1 at most 42 (54) MHz, APB2 84 (108)."""
    found = simulate(port, 0)
    pll, cfgr = found["40023804"], found["40023808"]
    assert bits(pll, 22, 22) == 1
    assert bits(cfgr, 3, 2) == 2
    vco_in = hse_hz / bits(pll, 5, 0)
    vco = vco_in * bits(pll, 14, 6)
    core = vco / (2 * bits(pll, 17, 16) + 2)
    assert 1e6 <= vco_in <= 2e6
    assert 100e6 <= vco <= 432e6
    assert vco / bits(pll, 27, 24) == 48e6
    assert core == found["hz"] == FULL_HZ[port]
    apb1, apb2 = core / divided(bits(cfgr, 12, 10)), core / divided(bits(cfgr, 15, 13))
    assert apb1 <= (42e6 if port == "stm32f4" else 54e6)
    assert apb2 <= (84e6 if port == "stm32f4" else 108e6)
    assert bits(cfgr, 7, 4) == 0
    assert bits(found["40023c00"], 3, 0) == waits
    if port == "stm32f4":
        assert baud(apb2, found["40011008"]) == pytest.approx(115_200, rel=0.005)
        assert bits(found["40023c00"], 10, 8) == 7
    else:
        assert baud(apb1, found["4000480c"]) == pytest.approx(115_200, rel=0.005)
        assert bits(found["40007000"], 17, 14) == 0b1111  # over-drive, scale 1
        assert bits(found["e000ed14"], 17, 16) == 3  # both caches
    assert found["coarse"] == 2**36 * 2 * core / (2 * 2 * apb1)  # TIM2 runs at twice a divided APB1


def test_clocks_of_the_l4(simulate: Simulation) -> None:
    """RM0432 6.2: PLL input 2.66 to 16 MHz, VCO 64 to 344 MHz; boost mode and 5 wait states for 120 MHz."""
    found = simulate("stm32l4", 0)
    pll, cfgr, acr = found["4002100c"], found["40021008"], found["40022000"]
    assert (bits(pll, 1, 0), bits(pll, 24, 24)) == (2, 1)
    vco_in = 16e6 / (bits(pll, 7, 4) + 1)
    vco = vco_in * bits(pll, 14, 8)
    assert 2.66e6 <= vco_in <= 16e6
    assert 64e6 <= vco <= 344e6
    core = vco / (2 * bits(pll, 26, 25) + 2)
    assert core == found["hz"] == FULL_HZ["stm32l4"]
    assert cfgr == 0b1111  # PLL, and no divider left
    assert bits(found["40007080"], 8, 8) == 0
    assert bits(found["40007000"], 10, 9) == 1
    assert bits(found["40007004"], 9, 9) == 1
    assert (bits(acr, 3, 0), bits(acr, 10, 8)) == (5, 7)
    assert baud(core, found["4000800c"], 256) == pytest.approx(115_200, rel=0.005)
    assert found["coarse"] == 2**36


def test_clocks_of_the_h7(simulate: Simulation) -> None:
    """RM0433 8.5: wide VCO 192 to 836 MHz, AXI at most 200 MHz, APB 100 MHz; 2 wait states at scale 1."""
    found = simulate("stm32h7", 0)
    base = 0x58024400
    read = {offset: found[f"{base + offset:08x}"] for offset in (0x10, 0x18, 0x1C, 0x20, 0x28, 0x2C, 0x30)}
    assert (bits(read[0x28], 1, 0), bits(read[0x2C], 3, 2), bits(read[0x2C], 1, 1)) == (2, 1, 0)
    vco_in = 8e6 / bits(read[0x28], 9, 4)
    vco = vco_in * (bits(read[0x30], 8, 0) + 1)
    assert 2e6 <= vco_in <= 4e6
    assert 192e6 <= vco <= 836e6
    assert bits(read[0x2C], 16, 16) == 1
    core = vco / (bits(read[0x30], 15, 9) + 1)
    assert core == found["hz"] == FULL_HZ["stm32h7"]
    assert bits(read[0x10], 5, 3) == 3
    assert bits(read[0x18], 11, 8) == 0
    axi = core / {8: 2}[bits(read[0x18], 3, 0)]
    apb = [divided(bits(read[0x18], 6, 4)), divided(bits(read[0x1C], 6, 4)), divided(bits(read[0x1C], 10, 8)),
           divided(bits(read[0x20], 6, 4))]  # fmt: skip
    assert axi == 200e6
    assert [axi / divider for divider in apb] == [100e6] * 4
    assert found["52002000"] == 0x22
    assert baud(100e6, found["4000480c"]) == pytest.approx(115_200, rel=0.005)
    assert bits(found["e000ed14"], 17, 16) == 3
    assert found["coarse"] == 2**37


def test_the_axi_sram_of_an_old_h7_is_read_one_by_one(simulate: Simulation) -> None:
    """ES0392 2.2.9: reads from it may be corrupt in revision Y (REV_ID 0x1003), and are not in V (0x2003)."""
    assert "51008108" not in simulate("stm32h7", 0)
    old = simulate("stm32h7", 5)
    assert (old["51008108"], old["hz"]) == (1, FULL_HZ["stm32h7"])


@pytest.mark.parametrize("port", FAMILIES)
@pytest.mark.parametrize("broken", [1, 2, 3, 4])
def test_a_part_that_never_gets_ready_is_told(simulate: Simulation, port: str, broken: int) -> None:
    """No endless wait: the port says that the core runs at its reset clock, and its serial port works at that."""
    if port == "stm32f4" and broken == 3:
        pytest.skip("the F405 waits for no voltage")
    found = simulate(port, broken)
    assert found["hz"] == RESET_HZ[port]
    divisor = {"stm32f4": "40011008", "stm32l4": "4000800c"}.get(port, "4000480c")
    scale = 256 if port == "stm32l4" else 1
    assert baud(found["hz"], found[divisor], scale) == pytest.approx(115_200, rel=0.01)
    assert found["coarse"] == 2**36


@pytest.mark.parametrize("port", FAMILIES)
def test_ticks_go_on_over_a_wrap(simulate: Simulation, port: str) -> None:
    assert simulate(port, 0)["continued"] == [1] * 7


@pytest.mark.parametrize(("port", "revision", "expected"), [
    # 100 of 400 above 30 degrees, of 80 or 100 degrees; the L4's factory had 3.0 V: 1100 are 1210 of its steps
    ("stm32f4", 0, 50_000), ("stm32f7", 0, 50_000), ("stm32l4", 0, 82_500),
    ("stm32h7", 0x1003, 50_000), ("stm32h7", 0x2003, 55_000),  # revisions Y and V
])  # fmt: skip
def test_the_temperature_is_read_from_the_sensor(simulate: Simulation, port: str, revision: int, expected: int) -> None:
    """RM0090 13.10, RM0385 15.10, RM0432 21.4.32, RM0433 25.4.33: on, sampled long enough, clocked within limits."""
    found = simulate(port, 0, f"+5c001000={revision << 16 | 0x450:x}")
    assert (found["uncalibrated"], found["measured"], found["millidegrees"]) == (0, 1, expected)
    broken = simulate(port, 6)
    assert (broken["uncalibrated"], broken["measured"]) == (0, 0)


@pytest.mark.parametrize(("port", "usart_hz", "scale"), [
    ("stm32f4", 84e6, 1), ("stm32f7", 54e6, 1), ("stm32h7", 100e6, 1), ("stm32l4", 120e6, 256),
])  # fmt: skip
def test_a_higher_rate_of_the_serial_port(simulate: Simulation, port: str, usart_hz: float, scale: int) -> None:
    found = simulate(port)
    assert baud(usart_hz, found["divisor"], scale) == pytest.approx(921_600, rel=0.01)
    assert found["rate"] == pytest.approx(baud(usart_hz, found["divisor"], scale), rel=0.001)


@pytest.mark.parametrize("rate", [LOWEST_BAUD, 9_600, 38_399, 38_400, 57_600, 230_400, HIGHEST_BAUD])
@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize("port", FAMILIES)
def test_the_rate_that_a_board_asks_for(simulate: Simulation, port: str, broken: int, rate: int) -> None:
    """At full speed, and where the clock tree did not start; the divisor fits its register: 20 bits, and at least
    0x300, of the low-power UART (RM0432, LPUART_BRR), 16 bits and at least 16 of the others."""
    found = simulate(port, broken, rate=rate)
    divisor = found[{"stm32f4": "40011008", "stm32l4": "4000800c"}.get(port, "4000480c")]
    full = {"stm32f4": 84e6, "stm32f7": 54e6, "stm32h7": 100e6, "stm32l4": 120e6}[port]
    hz, (least, most) = full if found["hz"] == FULL_HZ[port] else RESET_HZ[port], (16, 0xFFFF)
    if port == "stm32l4":
        least, most = 0x300, 0xFFFFF
        if (slow := bits(found.get("40021088", 0), 11, 10)) != 0:
            assert (slow, rate < 38_400, bits(found["40021000"], 10, 10)) == (2, True, 1)  # HSI16, and it is ready
            hz = 16e6
    assert least <= divisor <= most
    assert baud(hz, divisor, 256 if port == "stm32l4" else 1) == pytest.approx(rate, rel=0.025)


def test_every_port_of_a_board_has_all_rates_or_one() -> None:
    sources = {path.stem for path in PORT.glob("*.c") if path.stem != "rtt"}
    assert {name for name in sources if "HIL_BAUD" not in (PORT / f"{name}.c").read_text()} == set(PORTS_OF_ONE_BAUD)


@pytest.mark.parametrize("port", RESETS)
@pytest.mark.parametrize("broken", [0, 1, 2])
@pytest.mark.parametrize("rate", [USUAL_BAUD, 9_600])
def test_only_the_fields_that_are_meant_leave_their_reset_value(
    simulate: Simulation, port: str, broken: int, rate: int
) -> None:
    """Reserved bits are to be kept, and nobody else's fields are touched: also when the oscillator or the PLL fails."""
    known = RESETS[port]
    found = simulate(port, broken, *(f"+{address}={reset:x}" for address, (reset, _) in known.items()), rate=rate)
    touched = {key: value for key, value in found.items() if re.fullmatch("[0-9a-f]{8}", key)}
    assert {key for key in touched if key[:5] not in ADC_PAGES} <= set(known) | READ_ONLY
    strayed = {key: hex((touched[key] ^ reset) & ~fields) for key, (reset, fields) in known.items() if key in touched}
    assert {key: bits for key, bits in strayed.items() if bits != "0x0"} == {}


# --- against Renode's platforms ---------------------------------------------------------------------------------------

# Of Renode's models that say their size themselves.
SIZES = {"NVIC": 0x1000, "DWT": 0x1000, "STM32F7_USART": 0x400, "STM32_Timer": 0x400}
_PERIPHERAL = re.compile(r"^\w+: \w+\.(\w+) @ sysbus <?(0x\w+)(?:, \+(0x\w+)>)?\n((?:    .*\n?)*)", re.MULTILINE)


@pytest.mark.parametrize("name", [*NUCLEOS, "netduinoplus2"])
def test_a_port_finds_all_it_needs_on_renodes_platform(simulate: Simulation, name: str) -> None:
    """Whatever it touches is there, and memory with ready bits brings it to full speed."""
    board = load_board(name)
    assert board.hardware is not None
    regions, memory = [], []
    for model, where, length, properties in _PERIPHERAL.findall(platform_file(board).read_text()):
        base = int(where, 16)
        size = re.search(r"^    size: (\w+)", properties, re.MULTILINE)
        regions.append(range(base, base + (int(size[1] if size else length, 16) if size or length else SIZES[model])))
        found = re.findall(r"WriteDoubleWord (\w+) (\w+)", properties)
        memory += [f"{base + int(offset, 16):x}={int(value, 16):x}" for offset, value in found]
    registers = simulate(board.hardware.port, 0, *memory)
    assert registers["hz"] == board.clock_hz
    touched = [int(key, 16) for key in registers if re.fullmatch("[0-9a-f]{8}", key)]
    assert len(touched) > 20
    assert [f"{address:08x}" for address in touched if not any(address in region for region in regions)] == []


# --- the real thing, as far as QEMU has it ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def netduino(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    images.need_toolchain()
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    folder = tmp_path_factory.mktemp("stm32f4")
    sources = [*sorted((images.FIRMWARE / "runtime").glob("*.c")), PORT / "stm32f4.c"]
    flags = [*load_core("cortex-m4").flags, *images.FLAGS, "-DHIL_QEMU=1", f"-I{images.FIRMWARE / 'runtime'}"]
    subprocess.run([images.GCC, *flags, "-c", *map(str, sources)], cwd=folder, check=True, timeout=120)
    return tuple(folder / f"{source.stem}.o" for source in sources)


MEMORY = """
MEMORY { FLASH (rx) : ORIGIN = 0x08000000, LENGTH = 64K  RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 64K }
_stack_size = 2048;
_ram_physical_end = 0x20020000;
"""


@pytest.mark.firmware
@pytest.mark.qemu
@pytest.mark.parametrize("rounds", [1, 1000, 1_000_000])
def test_instructions_are_counted_exactly(netduino: tuple[Path, ...], tmp_path: Path, rounds: int) -> None:
    """The TIM2 of QEMU, where the counter of the MPS2 board counts the same loop."""
    image = images.link(images.header() + images.countdown(rounds), netduino, tmp_path, memory=MEMORY)
    with QemuRunner(timeouts=Timeouts(20.0, 10.0, 20.0)).open(image, load_board("netduinoplus2")) as session:
        device = Device(session.port, session.timeouts)
        device.wait_ready()
        ticks = {device.run(Pattern(PatternKind.RANDOM, 1)).ticks for _ in range(3)}
        assert device.identity().ticks_hz == 976_562
    assert {session.ticks_to_units(tick) for tick in ticks} == {2 * rounds + 2}


@pytest.mark.firmware
@pytest.mark.qemu
@pytest.mark.parametrize("name", ["hello_world_int8", "ad01_int8", "micro_speech_quantized"])
def test_a_network_is_exact_on_a_real_usart(shared: Path, name: str) -> None:
    """Bit for bit, and in as many instructions as on the other Cortex-M4."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed")
    images.need_toolchain()
    data = (shared / "models" / f"{name}.tflite").read_bytes()
    medians = []
    for board in ("netduinoplus2", "mps2-an386"):
        found = Harness(load_board(board).with_budget(1 << 20, 64 << 10), Options()).measure(data, name).measurement
        assert (found.outputs.checked, found.outputs.mismatched) == (8, 0)
        medians.append(found.latency.median)
    assert medians[0] == pytest.approx(medians[1], abs=1)


def test_a_changed_header_is_another_firmware(tmp_path: Path) -> None:
    """The cache and the identity of a measurement see the header beside a port, too."""
    board = load_board("nucleo-f746zg")
    copy = shutil.copytree(images.FIRMWARE, tmp_path / "firmware")
    before = library(board, board.target("hardware"), find_cmsis(), copy).digest()
    header = copy / "port" / "stm32.h"
    header.write_text(header.read_text() + "/* another */\n")
    assert library(board, board.target("hardware"), find_cmsis(), copy).digest() != before
