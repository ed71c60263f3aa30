"""`munas-hil search` before anything is trained: options, bounds, calibrations, and what is refused."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from hil.boards.board import load_board
from hil.cli import main as cli
from hil.errors import HilError, ToolMissing, UsageError
from hil.measure.harness import Harness, Options
from hil.measure.measurement import Identity
from hil.search import prepare
from hil.search.bounds import BoundOptions, clock_of, limits_of
from hil.search.options import SearchOptions
from hil.search.prepare import check, request_of
from munas.cost.calibration import Calibration
from munas.cost.calibration_file import write_calibration
from munas.cost.estimate import works_of
from munas.cost.optimise import RUNTIME_CODE, Optimise, kernel_code
from munas.data import DATASETS
from munas.search.metrics import Metric
from munas.search.objective import PRESETS
from munas.search.store import SearchStore
from tests.calibration_results import IDENTITY
from tests.network_trainer import INPUT_SHAPE
from tests.networks import every_operator
from tests.search_stub import stub_calibration, stub_dataset, stub_training

ROOT = Path(__file__).resolve().parents[2]
BOARD = load_board("nucleo-f746zg")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["munas-hil", "search", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def timed(timer: str, unit: str) -> Calibration:
    """A calibration with that timer."""
    known = stub_calibration()
    return replace(known, identity={**known.identity, "timer": timer}, latency=replace(known.latency, unit=unit))


def without_tensorflow(name: str) -> object:
    """In the place of `importlib.util.find_spec`."""
    return None if name == "tensorflow" else FIND_SPEC(name)


FIND_SPEC = importlib.util.find_spec
CYCLES = timed("modelled-cycles", "cycles")
INSTRUCTIONS = timed("icount-instructions", "instructions")


# -- the command line --


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--dataset", "imagenet"],
        ["-d", "digits", "--board", "no-such-board"],
        ["-d", "digits", "--strategy", "bayes"],
        ["-d", "digits", "--space", "transformer"],
        ["-d", "digits", "--mode", "sloppy"],
        ["-d", "digits", "--effort", "0"],
        ["-d", "digits", "--final-effort", "1.5"],
        ["-d", "digits", "--effort", "nan"],
        ["-d", "digits", "--minutes", "0"],
        ["-d", "digits", "--minutes", "inf"],
        ["-d", "digits", "--trials", "0"],
        ["-d", "digits", "--seeds", "0"],
        ["-d", "digits", "--population", "0"],
        ["-d", "digits", "--time-limit", "-3"],
        ["-d", "digits", "--memory-limit", "10M"],
        ["-d", "digits", "--memory-limit", "much"],
        ["-d", "digits", "--teacher", "missing.keras"],
        ["-d", "digits", "--teacher", __file__],
        ["-d", "digits", "-o", __file__],
        ["-d", "digits", "--timer", "sundial"],
        ["-d", "digits", "--via", "pigeon"],
        ["-d", "digits", "--calibration", "missing.toml"],
        ["-d", "digits", "--max-ram", "lots"],
        ["-d", "digits", "--source", "missing"],
        ["-d", "digits", "--recalibrate"],
        ["-d", "digits", "--max-ram", "4100"],
        ["-d", "digits", "--trials", "9" * 400],
        ["-d", "digits", "--population", "9" * 30],
        ["-d", "digits", "--sample", "9" * 30],
        ["-d", "digits", "--workers", "1000000"],
        ["-d", "digits", "-o", "a" * 300],
        ["-d", "digits", "--calibration", "/dev/zero"],
        ["-d", "digits", "--calibration", "a" * 300],
        ["-d", "digits", "--teacher", "a" * 300],
    ],
)
def test_usage_errors_are_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MUNAS_HIL_DATA", str(tmp_path))
    status = run(monkeypatch, *arguments, *([] if "--via" in arguments else ["--via", "qemu"]))
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert len([line for line in err.splitlines() if line.startswith("munas-hil: ")]) == 1
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_without_tensorflow_the_command_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare.importlib.util, "find_spec", without_tensorflow)
    assert run(monkeypatch, "-d", "digits", "--via", "qemu") == 3
    assert "make install-search" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["search", "--help"], ["search", "-d", "digits", "--max-error", "2", "--via", "qemu"]]
)
def test_nothing_loads_tensorflow_before_it_trains(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import sys\nfrom hil.cli.main import main\ntry:\n    main()\nfinally:\n"
        "    print(sorted({'tensorflow', 'keras'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "[]"


# -- bounds --


def test_by_default_the_boards_budget_and_the_data_sets_error() -> None:
    limits = limits_of(BoundOptions(), "fashion-mnist", BOARD, None)
    assert limits.bounds.to_json() == {"error": 0.1, "ram": 65536.0, "flash": 65536.0}
    assert limits.hard.to_json() == {"ram": 65536.0, "flash": 65536.0}
    assert not limits.is_error_asked
    assert limits_of(BoundOptions(), "cifar10", BOARD, None).bounds.values[Metric.ERROR] == 0.18


def test_every_data_set_has_an_error_to_aim_at() -> None:
    for name in DATASETS:
        assert 0 < limits_of(BoundOptions(), name, BOARD, None).bounds.values[Metric.ERROR] < 1


def test_what_the_user_gives_is_hard_but_for_the_error() -> None:
    bound_options = BoundOptions(error=0.2, ram="32K", flash="48K", macs="1.5M", weights="10k", latency="2M")
    limits = limits_of(bound_options, "digits", BOARD, INSTRUCTIONS)
    expected = {"ram": 32768.0, "flash": 49152.0, "flash_weights": 10240.0, "latency": 2e6, "macs": 1.5e6}
    assert limits.hard.to_json() == expected
    assert limits.bounds.to_json() == {"error": 0.2, **expected}


def test_a_preset_brings_the_papers_bounds() -> None:
    limits = limits_of(BoundOptions(preset="munas-fashion"), "fashion-mnist", BOARD, None)
    assert limits.bounds == PRESETS["munas-fashion"].bounds
    assert limits.hard.to_json() == {**limits.bounds.resources.to_json(), "ram": 65536.0, "flash": 65536.0}
    mixed = limits_of(BoundOptions(preset="munas-mnist", error=0.05, ram="8K"), "mnist-5k", BOARD, None).bounds
    assert mixed.to_json() == {**PRESETS["munas-mnist"].bounds.to_json(), "error": 0.05, "ram": 8192.0}


@pytest.mark.parametrize(
    ("bound_options", "message"),
    [
        (BoundOptions(preset="munas-imagenet"), "does not exist.*munas-fashion"),
        (BoundOptions(preset="munas-mnist"), "is for --dataset mnist, not for digits"),
        (BoundOptions(error=1.0), "fraction"),
        (BoundOptions(error=float("nan")), "fraction"),
        (BoundOptions(ram="0"), "positive"),
        (BoundOptions(ram="1M"), "more than the 65536 bytes.*--sram"),
        (BoundOptions(flash="a lot"), "not a size"),
        (BoundOptions(macs="-3"), "positive number"),
        (BoundOptions(macs="nan"), "positive number"),
        (BoundOptions(weights="0k"), "positive size"),
        (BoundOptions(latency="5M"), "needs a calibration.*--max-macs"),
    ],
)
def test_bounds_that_make_no_sense(bound_options: BoundOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        limits_of(bound_options, "digits", BOARD, None)


@pytest.mark.parametrize(
    ("text", "calibration", "value"),
    [
        ("50ms", CYCLES, 50 * 216_000.0),
        ("2.5 ms", CYCLES, 540_000.0),
        ("700us", CYCLES, 151_200.0),
        ("1s", CYCLES, 216e6),
        ("5M", CYCLES, 5e6),
        ("5M", INSTRUCTIONS, 5e6),
        ("250k", INSTRUCTIONS, 250e3),
        ("123456", INSTRUCTIONS, 123_456.0),
    ],
)
def test_latency_in_milliseconds_or_in_the_calibrations_unit(text: str, calibration: Calibration, value: float) -> None:
    limits = limits_of(BoundOptions(latency=text), "digits", BOARD, calibration)
    assert limits.bounds.values[Metric.LATENCY] == pytest.approx(value)


@pytest.mark.parametrize("text", ["50 m", "fast", "-1ms", "0ms", "1e3", ""])
def test_latencies_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="not a positive time"):
        limits_of(BoundOptions(latency=text), "digits", BOARD, CYCLES)


def test_instructions_are_no_milliseconds() -> None:
    with pytest.raises(UsageError, match=r"icount-instructions.*no time.*number of instructions such as 5M.*modelled"):
        limits_of(BoundOptions(latency="50ms"), "digits", BOARD, INSTRUCTIONS)


def test_modelled_cycles_without_evidence_are_no_milliseconds() -> None:
    board = load_board("mps2-an386")
    assert clock_of(board, CYCLES).ms_per_unit is None
    with pytest.raises(UsageError, match="no evidence"):
        limits_of(BoundOptions(latency="50ms"), "digits", board, CYCLES)
    l4r5 = load_board("nucleo-l4r5zi")
    assert clock_of(l4r5, CYCLES).ms_per_unit == pytest.approx(1 / 120_000)
    assert "uses SRAM2" in clock_of(l4r5.with_budget(None, 193 * 1024), CYCLES).why
    assert clock_of(BOARD, timed("dwt-cycles", "cycles")).ms_per_unit == pytest.approx(1 / 216_000)


# -- the request --


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(prepare, "training_setup", stub_training)
    monkeypatch.setattr(prepare, "load_dataset", lambda *_: stub_dataset())
    monkeypatch.setattr(prepare, "require_training", lambda: None)
    monkeypatch.setattr("hil.search.scale._IMPROVED", 2)  # networks that time is judged by: half a second each
    return []


def request(told: list[str], folder: Path, typed: SearchOptions, identity: Identity = IDENTITY) -> Any:
    return request_of(typed, BOARD, identity, folder / "calibration.toml", folder, dict, told.append)


def test_without_a_calibration_the_search_is_cautious_and_says_so(told: list[str], tmp_path: Path) -> None:
    found = request(told, tmp_path, SearchOptions(dataset="digits"))
    assert found.calibration is None
    assert "munas-hil calibrate --board nucleo-f746zg" in told[0]
    costs = found.assessor.assess(_architecture())
    assert (costs.latency, costs.unit) == (None, "")
    assert costs.flash - costs.flash_weights == 17 * 1024
    assert found.assessor.input_shape == INPUT_SHAPE


def test_a_cautious_search_keeps_room_for_the_code_of_every_setting(told: list[str], tmp_path: Path) -> None:
    """Without a calibration too: of every kernel of the space at once."""
    for optimise in Optimise:
        typed, asked = SearchOptions(dataset="digits"), BOARD.optimised(optimise)
        found = request_of(typed, asked, IDENTITY, tmp_path / "calibration.toml", tmp_path, dict, told.append)
        costs = found.assessor.assess(_architecture())
        kernels = kernel_code({work.variant for work in works_of(every_operator(), optimise=optimise)}, optimise)
        assert costs.flash - costs.flash_weights >= RUNTIME_CODE + kernels


def _architecture() -> Any:
    import numpy as np

    from munas.arch.space import random_cnn

    return random_cnn(np.random.default_rng(1))


def test_the_boards_calibration_is_used(told: list[str], tmp_path: Path) -> None:
    (tmp_path / "calibration.toml").write_text(write_calibration(stub_calibration()))
    found = request(told, tmp_path, SearchOptions(dataset="digits", max_latency="3M"))
    assert len(told) == 1  # how large the search is
    assert found.calibration == stub_calibration()
    assert found.settings.hard_budget.values[Metric.LATENCY] == 3e6


def test_a_calibration_that_has_not_seen_every_kernel_says_so(told: list[str], tmp_path: Path) -> None:
    known = stub_calibration()
    few = {path: costs for path, costs in known.latency.paths.items() if path != "add-padded"}
    certain = {path: spread for path, spread in known.latency.certainty.items() if path in few}
    text = write_calibration(replace(known, latency=replace(known.latency, paths=few, certainty=certain)))
    (tmp_path / "calibration.toml").write_text(text)
    assert request(told, tmp_path, SearchOptions(dataset="digits")).calibration is not None
    assert "add-padded" in told[0]


def test_a_calibration_of_another_board_is_refused(told: list[str], tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(write_calibration(stub_calibration()))
    other = replace(IDENTITY, board="nucleo-l4r5zi")
    with pytest.raises(UsageError, match="board is 'nucleo-f746zg' there and 'nucleo-l4r5zi' here"):
        request(told, tmp_path, SearchOptions(dataset="digits", calibration=tmp_path / "other.toml"), other)


def test_a_calibration_whose_unit_is_not_its_timers_is_refused(told: list[str], tmp_path: Path) -> None:
    known = stub_calibration()
    text = write_calibration(replace(known, latency=replace(known.latency, unit="cycles")))
    (tmp_path / "calibration.toml").write_text(text)
    with pytest.raises(UsageError, match="'cycles', and icount-instructions counts instructions"):
        request(told, tmp_path, SearchOptions(dataset="digits", max_latency="5ms"))


def test_minutes_are_shared_with_the_hand_over(told: list[str], tmp_path: Path) -> None:
    found = request(told, tmp_path, SearchOptions(dataset="digits", minutes=10))
    assert found.seconds == 600
    assert 360 <= found.settings.seconds <= 420
    assert found.settings.trials > 10_000
    assert request(told, tmp_path, SearchOptions(dataset="digits")).settings.trials == 2000


def test_in_few_minutes_networks_are_small(told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.search.prepare._load", lambda: 0.0)
    brief = SearchOptions(dataset="digits", minutes=2, workers=1)
    found = request(told, tmp_path, brief)
    most = found.limits.hard.values[Metric.MACS]
    assert 20_000 <= most < 1_000_000
    assert found.settings.hard_budget == found.limits.hard
    assert Metric.MACS not in found.limits.bounds.values
    assert any(f"more than {most / 1000:,.0f} K MACs are not trained" in line for line in told)
    others: tuple[dict[str, Any], ...] = (
        {"minutes": 600},
        {"minutes": None, "trials": 20},
        {"reject_infeasible": False},
    )
    for other in others:
        hard = request(told, tmp_path, brief.model_copy(update=other)).settings.hard_budget
        assert hard is None or Metric.MACS not in hard.values
    asked = request(told, tmp_path, brief.model_copy(update={"max_macs": "10K"}))
    assert asked.limits.hard.values[Metric.MACS] == asked.limits.bounds.values[Metric.MACS] < 20_000
    with SearchStore(tmp_path / "search.sqlite") as store:
        store.begin({**found.identity(IDENTITY), **found.settings.identity()})
    for goes_on in ({"minutes": 600}, {"minutes": None, "trials": 50}):  # it is the same search
        longer = request(told, tmp_path, brief.model_copy(update=goes_on))
        assert longer.settings.hard_budget == found.settings.hard_budget


def test_switches(told: list[str], tmp_path: Path) -> None:
    plain = request(
        told, tmp_path, SearchOptions(dataset="digits", pruning=False, reject_infeasible=False, space="mlp")
    )
    assert (plain.settings.sparsity, plain.settings.hard_budget, plain.settings.mlp) == (None, None, True)
    usual = request(told, tmp_path, SearchOptions(dataset="digits", workers=3, memory_limit="2G"))
    assert (usual.settings.sparsity, usual.settings.hard_budget) == ((0.0, 0.5), usual.limits.hard)
    assert (usual.settings.workers, usual.settings.memory_limit_bytes) == (3, 2 << 30)
    assert request(told, tmp_path, SearchOptions(dataset="digits", strategy="random")).settings.strategy == "random"


def test_inputs_that_the_board_cannot_hold(told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = replace(DATASETS["digits"], input_shape=(256, 256, 3))
    monkeypatch.setitem(DATASETS, "digits", big)
    with pytest.raises(UsageError, match=r"digits \(256x256x3, 10 classes\) on nucleo-f746zg: no network has a RAM"):
        request(told, tmp_path, SearchOptions(dataset="digits"))


def test_recalibration_needs_the_measurements(told: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run calibrate first"):
        request(told, tmp_path, SearchOptions(dataset="digits", recalibrate=True))
    (tmp_path / "calibration.toml").write_text(write_calibration(stub_calibration()))
    with pytest.raises(UsageError, match=r"no store\.sqlite beside it"):
        request(told, tmp_path, SearchOptions(dataset="digits", recalibrate=True))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare.importlib.util, "find_spec", without_tensorflow)
    with pytest.raises(ToolMissing, match=r"TensorFlow.*install-search") as missing:
        prepare.require_training()
    assert isinstance(missing.value, HilError)


def test_a_sound_request_passes_the_first_check() -> None:
    check(SearchOptions(dataset="digits"))
    check(SearchOptions(dataset="digits", strategy="ageing", memory_limit="512M", minutes=0.5))


@pytest.mark.firmware
def test_the_rigs_identity_is_the_calibrations(told: list[str], tmp_path: Path) -> None:
    identity = Harness(BOARD, Options()).identity
    known = replace(stub_calibration(), identity=asdict(identity))
    (tmp_path / "calibration.toml").write_text(write_calibration(known))
    assert request(told, tmp_path, SearchOptions(dataset="digits"), identity).calibration == known


def test_a_pipe_is_no_calibration(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    assert run(monkeypatch, "-d", "digits", "--via", "qemu", "--calibration", "pipe") == 2
    assert "pipe is not a file" in capsys.readouterr().err


def test_nohup_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.getsignal(signal.SIGTERM)]
    try:
        run(monkeypatch, "--help")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])
