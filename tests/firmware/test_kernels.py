"""Every kernel on an emulated core, bit for bit against LiteRT's reference kernels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hil.codegen.plan import STATE_CODE_BYTES, Plan
from hil.errors import ModelError
from munas.arch.graph import build_graph
from munas.arch.space import random_cnn
from munas.cost.kernels import KernelVariant
from munas.cost.variants import SPECS
from munas.tflite.file import Code, Options, TfliteFile
from munas.tflite.flatbuffer import write_tflite
from tests.firmware import random_networks
from tests.firmware.bench import BOARDS, Bench, Case, case
from tests.networks import every_operator

pytestmark = [pytest.mark.firmware, pytest.mark.qemu]

SEEDS = {"cortex-m4": range(12), "cortex-m7": range(100, 104), "cortex-m55": range(200, 204)}
FEW_SEEDS = {
    "cortex-m4": range(6),
    "cortex-m7": range(3),
    "cortex-m55": range(3),
}  # of kinds that the search space does not have
FIRST_SEED = {kind.__name__: 1000 * index for index, kind in enumerate(random_networks.KINDS)}


FIRST_CORE = "cortex-m4"
CORES = [pytest.param(core, marks=[] if core == FIRST_CORE else [pytest.mark.slow]) for core in sorted(BOARDS)]


@pytest.fixture(scope="module", params=CORES)
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Kernels compiled for a core."""
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    return Bench(tmp_path_factory.mktemp(request.param), request.param)


def cases_of(kind: str, core: str) -> list[Case]:
    build = next(item for item in random_networks.KINDS if item.__name__ == kind)
    seeds = [FIRST_SEED[kind] + seed for seed in (SEEDS if build in random_networks.SPACE_KINDS else FEW_SEEDS)[core]]
    return [case(f"{kind} {seed}", random_networks.network(build, seed), seed) for seed in seeds]


@pytest.mark.parametrize("kind", FIRST_SEED)
def test_a_kernel_is_bit_equal_to_the_reference(bench: Bench, kind: str) -> None:
    cases = cases_of(kind, bench.board.core)
    assert bench.mismatches(cases) == []
    outputs = np.concatenate([item.expected().reshape(-1) for item in cases])
    least = 12 if bench.board.core == "cortex-m4" else 6  # one more has the least varied kind, means of few networks
    assert len(np.unique(outputs)) > least, "a comparison of constants proves nothing"


def test_logarithms_of_many_classes_are_bit_equal(bench: Bench) -> None:
    """Sums up to the largest that fit 12 integer bits, of equal logits, too; one class more would overflow."""

    def network(classes: int, scale: float) -> bytes:
        file = TfliteFile()
        x, y = file.activation("x", (1, classes), scale), file.activation("y", (1, classes), 1 / 16, 127)
        file.operator(Code.LOG_SOFTMAX, [x], y, Options(36))
        return file.finish([x], [y])

    cases = [case(f"{classes}", network(classes, scale)) for classes in (1, 700, 4095) for scale in (1e-6, 0.05, 5.0)]
    assert bench.mismatches(cases) == []
    with pytest.raises(ModelError, match="4096 classes"):
        case("4096", network(4096, 0.05))


def test_the_cases_take_every_path() -> None:
    paths = {path for kind in FIRST_SEED for item in cases_of(kind, "cortex-m4") for path in item.plan.paths}
    assert paths == set(SPECS)


@pytest.mark.parametrize("kind", ["conv", "conv_pointwise", "depthwise"])
def test_the_twins_in_c_are_bit_equal_too(bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written in assembly has a twin for scales that it does not do; it does the others as well."""
    monkeypatch.setattr("hil.codegen.lower.fits_fast_rows", lambda *_: False)
    cases = cases_of(kind, bench.board.core)
    paths = {path for item in cases for path in item.plan.paths}
    assert paths <= {KernelVariant.CONV_ANY, KernelVariant.DW_ANY, KernelVariant.DW_GENERIC}
    assert bench.mismatches(cases) == []


def test_the_cases_run_in_place_and_not() -> None:
    steps = [step for kind in ("add", "add_padded") for item in cases_of(kind, "cortex-m4") for step in item.plan.steps]
    sums = [step.in_place for step in steps if step.variant in (KernelVariant.ADD, KernelVariant.ADD_PADDED)]
    assert any(sums)
    assert not all(sums)


def test_networks_of_the_search_space_are_bit_equal(bench: Bench) -> None:
    """Branches, partial sums in place, buffers that move about: what single operators do not show."""
    cases = [case("every operator", write_tflite(every_operator(), 1))]
    rng = np.random.default_rng(4)
    while len(cases) < 8:
        graph = build_graph(random_cnn(rng), (16, 15, 3), 10)
        if 50_000 < graph.macs < 1_000_000 and graph.model_size < 30_000:
            data = write_tflite(graph, len(cases), dense_per_channel=len(cases) % 2 == 0)
            cases.append(case(f"network {len(cases)}", data))
    assert bench.mismatches(cases) == []


def symbols(path: Path) -> dict[str, int]:
    """Sizes of the defined symbols of an object file, in bytes."""
    text = subprocess.run(["arm-none-eabi-nm", "-S", str(path)], check=True, capture_output=True, text=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return {row[3]: int(row[1], 16) for row in rows if len(row) == 4}


def undefined(path: Path) -> set[str]:
    text = subprocess.run(["arm-none-eabi-nm", "-u", str(path)], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1] for line in text.splitlines()}


def assert_sizes(plan: Plan, found: dict[str, int]) -> None:
    constants = {f"{constant.role}_{step.index}" for step in plan.steps for constant in step.layer.constants}
    weights = sum(size for name, size in found.items() if name in constants)
    tables = sum(size for name, size in found.items() if name.startswith(("layer_", "parts_", "hil_steps")))
    states = sum(size for name, size in found.items() if name == "states" or name.startswith("initial_"))
    code = STATE_CODE_BYTES if plan.states else 0  # what puts states back is in another object file
    assert weights + tables + states == plan.weights_bytes + plan.table_bytes - code
    assert next(size for name, size in found.items() if name.startswith("hil_arena")) == plan.arena_bytes


@pytest.mark.parametrize("kind", FIRST_SEED)
def test_the_plan_says_what_the_object_file_takes(bench: Bench, kind: str) -> None:
    for index, item in enumerate(cases_of(kind, bench.board.core)[:3]):
        assert_sizes(item.plan, symbols(bench.compile_model(item.plan, index)))


def test_inner_loops_call_nothing(bench: Bench) -> None:
    """GCC that calls memcpy for each word that a loop reads makes a network 3.5 times slower."""
    allowed = {
        "arm_depthwise_conv_s8": set(),
        "quads": set(),
        "taps": set(),
        "planes": set(),
        "depthwise_3x3": {"hil_planes"},
        "rows": set(),
        "conv": {
            "hil_quads",
            "hil_quads_any",
            "hil_rest_of_rows",
            "hil_gather",
            "hil_gather_fours",
        },
        "gather": set(),
        "dense": {"hil_dense_quads"},
        "dense_quads": {"hil_dense_finish"},  # where a double's last bits decide
        "helium": {"hil_dense_finish"},
        "pool": set(),
        "add": set(),
        "scale": set(),
        "memory": set(),
    }
    found = {path.stem: undefined(path) for path in bench.objects}
    assert {name: found[name] - calls for name, calls in allowed.items() if found[name] - calls} == {}
