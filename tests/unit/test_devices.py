"""What a campaign says of its boards: clocks, warm-up, spread, drift. And that emulators are left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from hil.calibration.calibrate import FIRST_AGAIN, FIRST_PROBE, Request, SampleJobFactory, calibrate
from hil.calibration.devices import device_reports
from hil.calibration.result import CalibrationResult, read_result
from hil.cli.calibration_summary import render_text_summary
from hil.cli.tables import measurement_table
from hil.jobs.store import Store
from hil.measure.measurement import Measurement, Repeatability, measurement_from_json
from hil.report.calibration.page import render
from hil.targets.clock import ClockReading
from tests.unit import test_calibrate as stand_in

READING = ClockReading("A1", 25_000_000, 25_002_500, 2.0, 0.001, "2026-01-01T00:00:00+00:00", 31.0)
BOARDS = replace(stand_in.IDENTITY, via="hardware", simulated=False, timer="dwt-cycles")


class Drifting:
    """Two boards in turn. The second is disturbed, and B2's figures grow by a per mille with each one."""

    def __init__(self) -> None:
        self._inner, self._count = stand_in.Device()(), 0

    def __call__(self, data: bytes, name: str) -> stand_in.Ran:
        ran, device = self._inner(data, name), ("A1", "B2")[self._count % 2]
        self._count += 1
        base = round(ran.measurement.latency.median)
        grown = round(base * (1 + 1e-3 * self._count)) if device == "B2" else base
        times = (grown, grown + (40 if device == "B2" else 1), grown)
        clock = replace(READING, device=device, celsius=31.0 if device == "A1" else None)
        measurement = replace(
            ran.measurement, identity=BOARDS, device=device, repeatability=Repeatability(round(1.1 * base), times),
            clock=clock,
        )  # fmt: skip
        return replace(ran, measurement=measurement)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> CalibrationResult:
    folder = tmp_path_factory.mktemp("runs") / "run"
    later = replace(READING, measured_hz=24_995_000, celsius=47.0)
    request = replace(
        stand_in.request(folder), identity=BOARDS, measurer=Drifting, workers=1, probes=10, clocks=lambda: (later,)
    )
    found = calibrate(request)
    assert read_result(folder) == found
    with Store(folder / "store.sqlite") as store:
        stored = store.samples(store.run_id(request.run))
    assert len([number for number in stored if number >= FIRST_AGAIN]) == 4
    return found


@pytest.mark.slow
def test_what_a_calibration_says_of_its_boards(result: CalibrationResult) -> None:
    one, two = result.devices
    assert (one.device, two.device) == ("A1", "B2")
    assert one.measurements + two.measurements == 40 + 10 + 4
    assert (one.unsteady, two.unsteady) == (0, two.measurements)
    assert one.warm_up == pytest.approx(0.1, abs=1e-3)
    assert [item.measured_hz for item in one.clocks] == [25_002_500, 24_995_000]
    assert one.celsius == (31.0, 47.0)
    assert (len(two.clocks), two.celsius) == (1, ())
    assert len(one.first_network) + len(two.first_network) == 4
    assert one.drift in (None, 0.0)
    assert {item.unsteady > 0 for item in result.samples} == {True, False}


@pytest.mark.slow
def test_it_is_in_report_summary_and_json(result: CalibrationResult) -> None:
    page = render(result)
    assert "How the boards behaved" in page
    assert "✗ misses target: none" in page
    assert "31 to 47" in page
    console = Console(width=160, record=True)
    console.print(render_text_summary(result))
    assert "Unsteady measurements" in console.export_text()
    assert [item["device"] for item in result.summary_json()["devices"]] == ["A1", "B2"]
    assert "How the boards behaved" not in render(replace(result, devices=()))


def test_a_drift_is_the_largest_and_has_a_sign() -> None:
    measured = [_measured("A1", time) for time in (1000, 1001, 980, 1002)]
    (found,) = device_reports(measured, measured)
    assert found.drift == pytest.approx(-0.02)
    assert device_reports([_measured(None, 5)], []) == ()


def test_an_emulator_measures_nothing_twice(tmp_path: Path) -> None:
    plain = stand_in.request(tmp_path)
    assert plain.indices == (*range(40), *range(FIRST_PROBE, FIRST_PROBE + plain.probes))
    boards = replace(plain, identity=BOARDS, samples=45, probes=0)
    assert boards.indices[:2] == (FIRST_AGAIN, 0)
    assert boards.indices[-2:] == (44, FIRST_AGAIN + 3)
    assert [index - FIRST_AGAIN for index in boards.indices if index >= FIRST_AGAIN] == [0, 1, 2, 3]
    longer = replace(boards, samples=200)
    assert set(boards.indices) <= set(longer.indices)  # a larger calibration goes on with a smaller one
    factory = SampleJobFactory(stand_in.Device(), 3, plain.limits)
    first, again = factory._drawn(0), factory._drawn(FIRST_AGAIN + 7)
    assert (again[1], again[2]()) == (first[1], first[2]())


def _measured(device: str | None, time: int) -> Measurement:
    made = stand_in.Device()()(_network(), "sample").measurement
    return replace(made, device=device, repeatability=Repeatability(2 * time, (time,) * 3))


def _network() -> bytes:
    request = Request(stand_in.load_board("mps2-an386"), BOARDS, stand_in.Device(), Path())
    return SampleJobFactory(request.measurer, 3, request.limits)._drawn(0)[2]()


def test_a_measurement_that_is_unsteady_is_marked() -> None:
    steady = _measured("A1", 1000)
    disturbed = replace(steady, repeatability=Repeatability(1500, (1000, 1000, 1003)))
    assert disturbed.to_json()["repeatability"] == {
        "cold": 1500, "times": [1000, 1000, 1003], "median": 1000.0, "spread": 3, "warm_up": 0.5, "steady": False,
    }  # fmt: skip
    assert measurement_from_json(disturbed.to_json()) == disturbed
    console = Console(width=200, record=True)
    console.print(measurement_table([steady, disturbed]))
    text = console.export_text()
    assert "3 !" in text
    assert "more than the 2 that the timer explains" in " ".join(text.split())
    console.print(measurement_table([replace(steady, repeatability=None)]))
    assert "spread" not in console.export_text()
