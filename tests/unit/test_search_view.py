"""A search as it goes: what a terminal, a log and a machine are told."""

from __future__ import annotations

import errno
import io
import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console

from hil.cli.search_view import FinalsView, Progress, SearchView, display_of
from hil.errors import InfrastructureError
from hil.search.lines import FinalLines, JsonLines, SearchLines
from munas.arch.space import Architecture, Block, DenseLayer, Layer, LayerType
from munas.cost.resources import Resources
from munas.search.metrics import Metric
from munas.search.objective import Bounds
from munas.search.study import Final, FinalJob, SearchSettings, Watcher
from munas.search.study_summary import StudySummary, Tally
from munas.search.trial import Epoch, Trained, Trial, TrialResult
from tests.search_results import search_result

ARCHITECTURE = Architecture((Block((Layer(LayerType.CONV, 3, 8),)),), None, (DenseLayer(10),))
BOUNDS = Bounds({Metric.ERROR: 0.12, Metric.RAM: 65536, Metric.FLASH: 65536, Metric.LATENCY: 4e6})
SETTINGS = SearchSettings("fashion-mnist", BOUNDS, trials=20, workers=2, seed=3)
JOB = FinalJob(Trial(4, ARCHITECTURE, 0.0, 1, None, "random"), 11, 1.0)


def trial(index: int) -> Trial:
    return Trial(index, ARCHITECTURE, 0.3, index + 100, None, "random")


def resources(ram: int = 30_000) -> Resources:
    return Resources(100_000, 5_000, -1, ram, 40_000, 6_000, 1.2e6, 1.1e6, 1.3e6, "instructions")


def trained(error: float, stopped: bool = False) -> Trained:
    return Trained(ARCHITECTURE, error, error, 5, stopped, (Epoch(1.0, error, 1.0),), b"", b"", 20_000.0)


def trial_result(index: int, error: float, *, stopped: bool = False, ram: int = 30_000) -> TrialResult:
    return TrialResult(trial(index), "ok", trained(error, stopped), resources(ram), "", 4.0, 5.0 * index)


def failure(index: int, message: str) -> TrialResult:
    return TrialResult(trial(index), "failed", None, resources(), message, 4.0, 5.0 * index)


def run(watcher: Watcher, trials: Sequence[TrialResult], resumed: Sequence[TrialResult] = ()) -> None:
    """What `munas.search.study.run_search` tells a watcher."""
    tally = Tally(BOUNDS)
    for item in resumed:
        tally.tell(item)
    watcher.started(SETTINGS, resumed, tally.summary(3, 60.0))
    for number, item in enumerate(trials):
        tally.tell(item)
        watcher.trial_done(item, tally.summary(3, 60.0 + number))
    watcher.finished()


EVALUATIONS = (
    trial_result(0, 0.4, stopped=True), trial_result(1, 0.15), failure(2, "over the limit of [600] s\x1b[31m"),
    trial_result(3, 0.091), trial_result(4, 0.2), trial_result(5, 0.05, ram=99_000),
)  # fmt: skip


def shown(terminal: bool, *, resumed: Sequence[TrialResult] = (), factor: float | None = None) -> str:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=150, height=40, color_system=None)
    run(SearchView(console, "fashion-mnist on nucleo-f746zg", factor), EVALUATIONS, resumed)
    return output.getvalue().replace("\u202f", " ").replace("\u00a0", " ")


def test_a_log_gets_every_new_best_and_the_end_but_not_every_trial() -> None:
    lines = shown(terminal=False).splitlines()
    assert [line.split(",")[0] for line in lines if "new best" in line] == [
        "search: new best: 1/20", "search: new best: 2/20", "search: new best: 4/20"
    ]  # fmt: skip
    assert "6/20" in lines[-1]
    assert "best 9.1 % (RAM 29.3 KB, flash 39.1 KB, latency 1.20 M)" in lines[-1]
    assert "1 stopped, 1 failed, 3 rejected" in lines[-1]
    assert not any("5/20" in line for line in lines)
    assert "\x1b" not in "".join(lines)


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.cli.search_view.LOG_INTERVAL_S", 0.0)
    assert "search: 5/20" in shown(terminal=False)


@pytest.mark.parametrize("terminal", [True, False])
def test_failures_are_told_and_what_is_in_them_is_only_text(terminal: bool) -> None:
    text = shown(terminal)
    assert "trial 2 failed: over the limit of [600] s\\x1b[31m" in text


def test_latencies_are_milliseconds_where_the_unit_is_a_time() -> None:
    assert "latency 5.56 ms" in shown(terminal=False, factor=1e3 / 216e6)


def test_a_resumed_search_says_so_and_counts_on() -> None:
    text = shown(terminal=False, resumed=[trial_result(10, 0.3), trial_result(11, 0.31, stopped=True)])
    assert "2 trials are there already (1 min), going on" in text
    assert "search: 8/20" in text.splitlines()[-1]
    assert "2 stopped" in text.splitlines()[-1]


def test_a_terminal_shows_the_best_under_every_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=150, height=40, color_system=None)
    view = SearchView(console, "fashion-mnist on nucleo-f746zg")
    tally = Tally(BOUNDS)
    view.started(SETTINGS, [], tally.summary(0, 0.0))
    for item in EVALUATIONS:
        tally.tell(item)
        view.trial_done(item, tally.summary(3, 30.0))
    still = Console(file=io.StringIO(), width=150, color_system=None)
    still.print(view._picture())
    view.finished()
    assert isinstance(still.file, io.StringIO)
    text = still.file.getvalue().replace("\u202f", " ")
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert "fashion-mnist on nucleo-f746zg  2 workers, seed 3" in text
    assert "6/20" in text
    assert "1 stopped, 1 failed, 3 rejected" in text
    assert "9.1 %" in rows["within all, error ≤ 12.0 %"]
    assert "#3" in rows["within all, error ≤ 12.0 %"]
    assert "#3" in rows["RAM ≤ 64 KB"]
    assert "#5" in rows["flash ≤ 64 KB"]  # over the bound on RAM, but not over this one
    assert "5.0 %" in rows["flash ≤ 64 KB"]
    assert "#5" in rows["last"]
    assert output.getvalue().endswith("\n")


def test_a_view_that_never_started_can_be_ended() -> None:
    view = SearchView(Console(file=io.StringIO()), "x")
    view.finished()
    view.finished()


def progress(**changes: Any) -> Progress:
    values: dict[str, Any] = {
        "settings": SETTINGS, "summary": StudySummary(0, 0, 0, 0.0, None, {}), "began": 1000.0, "resumed": 0, "done": 0,
        "stopped": 0,
    }  # fmt: skip
    return Progress(**{**values, **changes})


def test_the_time_left_is_of_what_ends_first() -> None:
    limited = SearchSettings("digits", BOUNDS, trials=100, seconds=600.0)
    recent = tuple(1000.0 + 6 * number for number in range(1, 11))  # ten in a minute
    going = progress(settings=limited, done=10, recent=recent)
    assert going.per_minute(1060.0) == pytest.approx(10.0)
    assert going.seconds_left(1060.0, 60.0) == pytest.approx(540.0)  # 90 at 10 a minute, and 540 s of 600
    assert going.seconds_left(1060.0, 560.0) == pytest.approx(40.0)
    assert progress(settings=SETTINGS).seconds_left(1060.0, 60.0) is None
    assert going.share_done(300.0) == pytest.approx(0.5)


def test_what_was_resumed_is_not_counted_into_the_rate() -> None:
    assert progress(done=500, resumed=500).per_minute(1060.0) == 0.0


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_are_a_start_every_result_and_a_result() -> None:
    stream = io.StringIO()
    lines = JsonLines(stream)
    run(SearchLines(lines), EVALUATIONS, [trial_result(10, 0.3)])
    result = search_result(30)
    lines.result(result, "runs/x/report.html")
    found = lines_of(stream)
    assert [item["event"] for item in found] == ["start", *["trial"] * 6, "result"]
    assert found[0]["resumed"] == 1
    assert found[0]["bounds"] == {"error": 0.12, "ram": 65536, "flash": 65536, "latency": 4e6}
    assert found[1]["stopped"] is True
    assert found[1]["architecture"]["conv_blocks"][0]["layers"][0]["filters"] == 8
    assert found[3]["status"] == "failed"
    assert found[3]["error"] is None
    assert found[4]["best"] == 3
    assert found[4]["best_error"] == 0.091
    assert found[4]["resources"]["ram"] == 30_000
    assert found[-1]["winner"] == result.winner
    assert found[-1]["report"] == "runs/x/report.html"


def test_what_is_no_number_in_json_is_null() -> None:
    stream = io.StringIO()
    JsonLines(stream).write("x", a=math.nan, b=[math.inf, 1.5], c={1: -math.inf})
    assert lines_of(stream) == [{"event": "x", "a": None, "b": [None, 1.5], "c": {"1": None}}]


def test_both_stages_reach_people_and_machines() -> None:
    stream, output = io.StringIO(), io.StringIO()
    console = Console(file=output, width=150)
    display = display_of(console, "digits", lines=JsonLines(stream))
    run(display.search, EVALUATIONS)
    display.finals.started(3, 1)
    display.finals.trained(Final(JOB, trained(0.08), "", 12.0))
    display.finals.trained(Final(JOB, None, "out of memory", 1.0))
    display.finals.finished()
    text = output.getvalue().replace("\u202f", " ")
    assert "re-training: 3 to train, 1 of them are there already" in text
    assert "re-training: 2/3: network 4, seed 11: error 8.0 % in 12.0 s" in text
    assert "re-training: 3/3: network 4, seed 11 failed: out of memory" in text
    assert [item["event"] for item in lines_of(stream)] == ["start", *["trial"] * 6, "finals", "final", "final"]


def test_without_machines_only_people_are_told() -> None:
    display = display_of(Console(file=io.StringIO()), "digits")
    assert isinstance(display.search, SearchView)
    assert isinstance(display.finals, FinalsView)


class Full(io.StringIO):
    """A disk without room."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_told_once_and_clearly() -> None:
    lines = FinalLines(JsonLines(Full()))
    with pytest.raises(InfrastructureError, match="No space left"):
        lines.started(1, 0)


def test_a_closed_output_is_told_clearly() -> None:
    stream = io.StringIO()
    stream.close()
    with pytest.raises(InfrastructureError, match="it is closed"):
        JsonLines(stream).write("start")
    with pytest.raises(InfrastructureError, match="it is closed"):
        JsonLines(None).write("start")


class Gone(io.StringIO):
    """A reader that has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    with pytest.raises(BrokenPipeError):
        JsonLines(Gone()).write("start")
