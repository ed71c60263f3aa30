"""What every runtime has to do, however it executes a network. A new runtime gets a subclass."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hil.boards.board import Board, load_board
from hil.codegen.render import Options as Shape
from hil.errors import BudgetError, ModelError
from hil.measure.harness import Harness, Options, make_runtime
from hil.runtimes.base import Runtime
from hil.runtimes.registry import RUNTIMES
from hil.runtimes.tflm.detect import ROOT_VARIABLE
from tests.networks import small_network
from tests.tflm import every_operator, needs_tflm

SEEDS = range(3)


class RuntimeContract:
    """Subclasses give `name`."""

    name: str

    @pytest.fixture
    def board(self) -> Board:
        return load_board("mps2-an386").with_budget(256 * 1024, 128 * 1024)

    @pytest.fixture
    def runtime(self, board: Board) -> Runtime:
        return make_runtime(board, Options(runtime=self.name))

    @pytest.fixture
    def harness(self, board: Board) -> Harness:
        return Harness(board, Options(runtime=self.name))

    def test_it_is_registered_under_its_name(self, runtime: Runtime) -> None:
        assert self.name in RUNTIMES
        assert runtime.name == self.name

    def test_ports_lie_in_the_arena(self, runtime: Runtime) -> None:
        for seed in SEEDS:
            plan = runtime.deploy(small_network(seed), "net")
            for port in (plan.input, plan.output):
                assert 0 <= port.offset <= port.offset + port.size <= plan.arena_bytes
            assert plan.lower_bound_bytes <= plan.arena_bytes
            assert [step.index for step in plan.steps] == list(range(len(plan.steps)))

    def test_what_the_importer_refuses_is_refused(self, runtime: Runtime) -> None:
        with pytest.raises(ModelError):
            runtime.deploy(b"no model", "net")

    def test_emission_is_deterministic_and_needs_nothing_but_the_compilers_name(
        self, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("TFLM_ROOT", raising=False)
        plan = runtime.deploy(small_network(1), "net")
        shape = Shape(standalone=True, compiler="gcc")
        projects = [runtime.render(plan, tmp_path / name, shape) for name in ("one", "two")]
        assert projects[0].build_id == projects[1].build_id
        texts = [
            {path.relative_to(project.folder): path.read_bytes() for path in project.folder.rglob("*.*")}
            for project in projects
        ]
        assert texts[0] == texts[1]
        assert Path("CMakeLists.txt") in texts[0]

    @pytest.mark.firmware
    @pytest.mark.qemu
    def test_outputs_layers_and_memory_of_small_networks(self, harness: Harness) -> None:
        for seed in SEEDS:
            measured = harness.measure(small_network(seed), f"net{seed}")
            item = measured.measurement
            assert item.outputs.checked == len(measured.answers) == 8
            assert item.outputs.mismatched == 0
            assert [layer.op for layer in item.layers] == [step.kind.value for step in measured.plan.steps]
            assert 0 < sum(layer.median for layer in item.layers) <= 1.2 * item.latency.median
            assert 0 < item.memory.arena_used <= item.memory.arena_planned == measured.plan.arena_bytes
            assert item.memory.flash_weights >= measured.plan.weights_bytes + measured.plan.table_bytes
            assert item.memory.stack_used < item.memory.stack_reserved

    @pytest.mark.firmware
    @pytest.mark.qemu
    def test_every_operator_gives_litert_s_outputs(self, harness: Harness) -> None:
        outputs = harness.measure(every_operator(), "all").measurement.outputs
        assert (outputs.mismatched, outputs.litert_mismatched) == (0, 0)

    @pytest.mark.firmware
    def test_a_network_over_budget_fails_with_the_shortfall(self, board: Board) -> None:
        harness = Harness(board.with_budget(256 * 1024, 5 * 1024), Options(runtime=self.name))
        with pytest.raises(BudgetError, match="overflows RAM by") as caught:
            harness.measure(small_network(1), "too-large")
        assert caught.value.shortfall_bytes["RAM"] > 0

    @pytest.mark.firmware
    def test_its_identity_names_it(self, harness: Harness) -> None:
        assert harness.identity.runtime == self.name
        assert harness.identity.kernels


class TestCmsisNn(RuntimeContract):
    name = "cmsis-nn"


class TestTflm(RuntimeContract):
    """Emission runs everywhere; what is built is only tested where TFLM is."""

    name = "tflm"

    @pytest.fixture
    def harness(self, board: Board) -> Harness:
        if not os.environ.get(ROOT_VARIABLE):
            pytest.skip(f"{ROOT_VARIABLE} is not set: TensorFlow Lite Micro is not here")
        return Harness(board, Options(runtime=self.name))

    @pytest.mark.firmware
    @needs_tflm
    def test_a_network_over_budget_fails_with_the_shortfall(self, board: Board) -> None:
        super().test_a_network_over_budget_fails_with_the_shortfall(board)

    @needs_tflm
    def test_the_library_is_part_of_the_identity(self, board: Board, runtime: Runtime) -> None:
        digest = runtime.kernels.split()[1].strip(",")
        assert len(digest) == 12
        assert int(digest, 16) >= 0
