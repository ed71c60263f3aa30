"""Calibration end to end on a simulated device: every stage but the board is real."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest

from hil.boards.board import load_board
from hil.calibration.analyse import cycle_shares
from hil.calibration.calibrate import Request, calibrate, calibration_for, relocated, tflite_of
from hil.calibration.probes import PROBES
from hil.calibration.record import from_result
from hil.calibration.result import CalibrationResult, read_result, result_from_json
from hil.calibration.sample import Limits, draw_sample
from hil.codegen.plan import Plan, make_plan
from hil.cycle_model.modelled import ModelledLatency
from hil.cycle_model.record import Counters
from hil.errors import BudgetError, CalibrationMismatch, InfrastructureError, LinkTimeout, UsageError
from hil.jobs.store import Result, Store
from hil.measure.measurement import Build, Identity, Latency, LayerTime, Measurement, Memory, Outputs
from hil.model.load import parse_model
from hil.report.run import write_calibration_report
from hil.timers import MODELLED
from munas.cost.estimate import estimate_works
from munas.cost.variants import loop_counts

pytestmark = pytest.mark.slow  # forty networks are calibrated first

IDENTITY = Identity(
    "mps2-an386", "cortex-m4", "cmsis-nn", "qemu", True, "icount-instructions", 25_000_000, "gcc 12", "-O2", "k", "f"
)
STATIC, STACK, BASE = 420, 1536, 6000


@dataclass(frozen=True)
class Ran:
    """What a measurer gives back."""

    measurement: Measurement
    plan: Plan
    functions: dict[str, int]


@dataclass(frozen=True)
class Device:
    """A device whose every loop costs 7 instructions (12 on depthwise convolutions), within a per mille."""

    trouble: dict[str, Exception] | None = None  # by the end of a model's name
    wrong: str = "never"

    def __call__(self) -> Callable[[bytes, str], Ran]:
        return self._measure

    def _measure(self, data: bytes, name: str) -> Ran:
        for ending, error in (self.trouble or {}).items():
            if name.startswith(ending):
                raise error
        plan = make_plan(parse_model(data, name))
        rng = np.random.default_rng(len(data))
        times = [
            round(sum(loop_counts(step.work)) * (12 if step.variant == "dw" else 7) * (1 + 1e-3 * rng.random()))
            for step in plan.steps
        ]
        weights, code = plan.weights_bytes + plan.table_bytes, BASE + 200 * len(plan.paths)
        memory = Memory(
            plan.arena_bytes, plan.arena_bytes - 4, 500, STACK, STATIC, plan.arena_bytes + STATIC + STACK,
            weights, code, weights + code,
        )  # fmt: skip
        measurement = Measurement(
            name,
            hashlib.sha256(data).hexdigest(),
            IDENTITY,
            Latency("instructions", (sum(times) + 300,) * 3),
            tuple(LayerTime(i, step.kind.value, step.name, times[i]) for i, step in enumerate(plan.steps)),
            memory,
            Outputs(8, int(name.startswith(self.wrong))),
            Build("b" * 32, "e" * 64, "gcc 12", "-O2", "k"),
            {"plan": 0.1, "run": 0.2},
        )
        return Ran(measurement, plan, {str(path): 200 for path in plan.paths})


def request(folder: Path, device: Device = Device(), samples: int = 40) -> Request:
    return Request(load_board("mps2-an386"), IDENTITY, device, folder, samples=samples, seed=3)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CalibrationResult]:
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = calibrate(request(folder))
    write_calibration_report(result)
    return folder, result


def test_the_folder_has_everything_and_it_reads_back(calibrated: tuple[Path, CalibrationResult]) -> None:
    folder, result = calibrated
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["calibration.toml", "report.html", "result.json", "store.sqlite", "store.sqlite.lock"]
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")
    assert read_result(folder) == result
    assert result_from_json(json.loads(json.dumps(result.to_json()))) == result
    assert relocated(result, folder) == result


def test_a_store_of_version_0_1_is_read(calibrated: tuple[Path, CalibrationResult]) -> None:
    """Its kernels' variants are called ``path``."""
    folder, _ = calibrated
    with Store(folder / "store.sqlite") as store:
        result = next(store.results(store.run_id(request(folder).run)))
    works = [{"path" if key == "variant" else key: value for key, value in item.items()}
             for item in result.record["works"]]  # fmt: skip
    assert all("path" in item for item in works)
    old = replace(result, record={**result.record, "works": works})
    assert from_result(old) == from_result(result)


def _modelled(result: Result, cycles: int) -> Result:
    """`result` as the timing model would have it: two thirds of `cycles` are loads, the first layer takes half."""
    found = from_result(result)
    layers = (cycles // 2, *(0 for _ in found.works[1:]))
    counters = Counters(*(0 for _ in fields(Counters)))
    shares = {"load": cycles * 2 // 3, "pipeline": cycles // 3} if result.sample else {"load": cycles}
    modelled = ModelledLatency((cycles,), None, counters, layers, shares, "constants", None)
    identity = replace(IDENTITY, timer=MODELLED)
    measurement = replace(found.measurement, identity=identity, modelled=modelled)
    return replace(result, record=dict(result.record) | {"measurement": measurement.to_json()})


def test_where_modelled_cycles_go(calibrated: tuple[Path, CalibrationResult]) -> None:
    folder, result = calibrated
    assert result.cycles is None
    with Store(folder / "store.sqlite") as store:
        results = list(store.results(store.run_id(request(folder).run)))[:6]
    records = [from_result(_modelled(item, 3000 * (item.sample + 1))) for item in results]
    found = cycle_shares(records)
    assert found is not None
    assert found.networks == 6
    assert [item.name for item in found.classes] == ["load", "pipeline"]
    load, pipeline = found.classes
    assert (load.mean, load.least, load.most) == pytest.approx(((1 + 5 * 2 / 3) / 6, 2 / 3, 1))
    assert (pipeline.mean, pipeline.least, pipeline.most) == pytest.approx((5 / 18, 0, 1 / 3))
    assert found.layers[0].share == pytest.approx(0.5)
    shown = next(item for item in records if item.sample.name == found.model)
    assert [item.path for item in found.layers] == [work.variant.value for work in shown.works]
    with_cycles = replace(result, cycles=found)
    assert result_from_json(json.loads(json.dumps(with_cycles.to_json()))) == with_cycles


def test_results_from_before_there_were_modelled_cycles(calibrated: tuple[Path, CalibrationResult]) -> None:
    document = calibrated[1].to_json()
    del document["cycles"]
    assert result_from_json(json.loads(json.dumps(document))) == calibrated[1]


def test_the_figures_are_those_of_the_device(calibrated: tuple[Path, CalibrationResult]) -> None:
    _, result = calibrated
    assert len(result.samples) == 40
    assert result.failed == ()
    # 0.0307: 40 samples tell few loops apart, and the stand-in's time is not by our loops.
    assert result.per_operator.metrics.mape < 0.035
    assert result.mac_only.metrics.mape > result.per_operator.metrics.mape
    assert (result.memory.arena_max_error, result.memory.ram_max_error) == (0, 0)
    assert (result.memory.arena_under, result.memory.ram_under) == (0, 0)
    assert result.outputs_checked == 8 * (40 + PROBES)
    assert result.outputs_mismatched == 0
    assert list(result.stage_seconds) == ["draw", "write", "plan", "run"]
    assert result.stage_seconds["run"] == pytest.approx(0.2)
    assert result.arena_map is not None
    assert max(step.live_bytes for step in result.arena_map.steps) <= result.arena_map.arena_bytes
    assert sum(path.time_share for path in result.paths) == pytest.approx(1.0)
    assert result.worst[0] == max(result.samples, key=lambda item: abs(item.error_op)).index


def test_the_json_has_the_keys_of_the_design(calibrated: tuple[Path, CalibrationResult]) -> None:
    document = calibrated[1].summary_json()
    assert list(document) == [
        "board", "runtime", "via", "timer", "samples", "failed", "fits", "memory", "population", "macs_r2",
        "models_per_minute", "calibration", "report",
    ]  # fmt: skip
    assert list(document["fits"]) == ["mac_only", "per_operator"]
    for fit in document["fits"].values():
        assert list(fit) == ["mape", "max_ape", "within_10pct", "r2", "spearman"]
    assert list(document["memory"]) == ["arena_max_error", "ram_max_error", "flash_max_error"]
    assert document["samples"] == 40
    assert Path(document["calibration"]).is_file()
    assert Path(document["report"]).is_file()


def test_the_calibration_predicts_a_network_that_it_has_not_seen(calibrated: tuple[Path, CalibrationResult]) -> None:
    folder, _ = calibrated
    calibration = calibration_for(folder / "calibration.toml", IDENTITY)
    sample = draw_sample(99, 5, Limits(30_000, 50_000))
    ran = Device()()(tflite_of(sample), "unseen")
    works = tuple(step.work for step in ran.plan.steps)
    found = estimate_works(
        works, calibration, arena=ran.plan.arena_bytes, weights=ran.plan.weights_bytes, tables=ran.plan.table_bytes
    )
    assert found.latency.latency == pytest.approx(ran.measurement.latency.median, rel=0.05)
    assert found.flash_total >= ran.measurement.memory.flash_total
    assert found.ram_total == ran.measurement.memory.ram_total


@pytest.mark.parametrize("change", [{"board": "nucleo-f746zg"}, {"compiler": "gcc 13"}, {"timer": "dwt-cycles"}])
def test_a_calibration_of_another_identity_is_refused(
    calibrated: tuple[Path, CalibrationResult], change: dict[str, str]
) -> None:
    other = replace(IDENTITY, **change)  # type: ignore[arg-type]
    with pytest.raises(CalibrationMismatch, match=next(iter(change))):
        calibration_for(calibrated[0] / "calibration.toml", other)


def test_a_larger_run_goes_on_with_a_smaller_one(tmp_path: Path) -> None:
    calibrate(request(tmp_path, samples=22))
    # A device on which the samples that are there already would fail: they are not done again.
    poisoned = Device(trouble={f"sample-{index:05d}": LinkTimeout("silent") for index in range(22)})
    result = calibrate(request(tmp_path, poisoned, samples=30))
    assert len(result.samples) == 30
    assert result.failed == ()
    again = calibrate(request(tmp_path, poisoned, samples=22))
    assert len(again.samples) == 22
    # Nothing was measured: the rate is that of the stored times of the stages, so another look gives the same one.
    assert again.models_per_minute == calibrate(request(tmp_path, poisoned, samples=22)).models_per_minute
    assert 0 < again.models_per_minute < 400  # 0.3 s a model on each of two workers, and what drawing it took


def test_failed_samples_are_told_and_left_out(tmp_path: Path) -> None:
    trouble: dict[str, Exception] = {"sample-00004": BudgetError("FLASH short by 12 bytes", {"FLASH": 12})}
    result = calibrate(request(tmp_path, Device(trouble, wrong="sample-00009"), samples=24))
    assert [failure.index for failure in result.failed] == [4, 9]
    assert "short by 12" in result.failed[0].error
    assert "1 of 8 outputs differ" in result.failed[1].error
    assert result.failed[0].summary.count("|") > 0
    assert (result.outputs_checked, result.outputs_mismatched) == (8 * (23 + PROBES), 1)
    assert {4, 9}.isdisjoint(sample.index for sample in result.samples)
    with Store(tmp_path / "store.sqlite") as store:
        assert sum(status == "failed" for status in store.samples(1).values()) == 2


def test_a_worker_that_measures_with_another_build_is_stopped(tmp_path: Path) -> None:
    other = replace(IDENTITY, firmware="changed meanwhile")
    with pytest.raises(InfrastructureError, match="changed while calibrating"):
        calibrate(replace(request(tmp_path), identity=other))
    with Store(tmp_path / "store.sqlite") as store:
        assert store.samples(1) == {}


def test_too_few_samples_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--samples 5"):
        calibrate(request(tmp_path, samples=5))


def test_a_budget_without_room_is_a_usage_error(tmp_path: Path) -> None:
    small = load_board("mps2-an386").with_budget(20 * 1024, None)
    with pytest.raises(UsageError, match="--flash"):
        calibrate(replace(request(tmp_path), board=small))


def test_when_nothing_can_be_measured_the_first_error_is_told(tmp_path: Path) -> None:
    broken = Device(trouble={"sample": BudgetError("FLASH short by 12 bytes")})
    with pytest.raises(InfrastructureError, match=r"only 0 of 20.*short by 12 bytes"):
        calibrate(request(tmp_path, broken, samples=20))


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="name another folder"):
        calibrate(request(tmp_path / "file" / "run"))
