"""The search: proposals, halving, summary, resuming, and what it refuses to begin with."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from munas.arch.space import random_cnn
from munas.cost.calibration import MemoryModel
from munas.cost.resources import Assessor
from munas.errors import SearchError, SearchStoreError
from munas.search.evolve import RandomSearch, Space
from munas.search.halving import MIN_SEEN, Halving
from munas.search.metrics import Metric, features
from munas.search.objective import Bounds, meets
from munas.search.proposals import Proposer
from munas.search.store import SearchStore
from munas.search.study import (
    MAX_FAILURES_IN_A_ROW,
    Final,
    FinalJob,
    Outcome,
    SearchSettings,
    StudySummary,
    check,
    run_finals,
    run_search,
)
from munas.search.study_summary import Tally
from munas.search.trial import Epoch, Rung, Task, Trained, Trial, TrialResult
from tests.stub_trainer import ASSESSOR, BOUNDS, INPUT_SHAPE, NUM_CLASSES, PRELOAD, StubTrainer, trained

pytestmark = pytest.mark.slow  # whole searches, each of them seconds

SETTINGS = SearchSettings("stub", BOUNDS, population=8, sample=3, trials=20, workers=1, seed=1)


@dataclass
class Notes:
    """A watcher that keeps what it is told, and can do something at a number of trials."""

    resumed: Sequence[TrialResult] = ()
    trials: list[TrialResult] = field(default_factory=list)
    summaries: list[StudySummary] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    totals: tuple[int, int] = (-1, -1)
    ended: int = 0
    at: int = -1
    act: Any = None

    def started(self, settings: Any, resumed: Any, summary: StudySummary | None = None) -> None:
        if summary is None:
            self.totals = (settings, resumed)
        else:
            self.resumed, self.summaries = resumed, [summary]

    def trial_done(self, trial_result: TrialResult, summary: StudySummary) -> None:
        self.trials.append(trial_result)
        self.summaries.append(summary)
        if len(self.trials) == self.at:
            self.act()

    def trained(self, final: Final) -> None:
        self.finals.append(final)

    def finished(self) -> None:
        self.ended += 1


def search(folder: Path, settings: SearchSettings = SETTINGS, notes: Notes | None = None, **stub: Any) -> Outcome:
    with SearchStore(folder / "search.sqlite") as store:
        return run_search(settings, store, ASSESSOR, StubTrainer(**stub), notes or Notes(), preload=PRELOAD)


def stored(folder: Path) -> tuple[list[Task], list[TrialResult]]:
    """Tasks by index, trials as they finished; times, which no two runs share, set to 0."""
    with SearchStore(folder / "search.sqlite") as store:
        return list(store.tasks()), [replace(item, seconds=0, finished_s=0) for item in store.results()]


def trial(index: int, sparsity: float = 0.0) -> Trial:
    return Trial(index, random_cnn(np.random.default_rng(index)), sparsity, index, None, "random")


def trial_result(index: int, error: float, history: Sequence[float] = ()) -> TrialResult:
    done = replace(
        trained(Task(trial(index), (), 1.0)), error=error, history=tuple(Epoch(1.0, item, 1.0) for item in history)
    )
    return TrialResult(trial(index), "ok", done, ASSESSOR.assess(done.architecture), "", 1.0, 1.0)


# -- the whole of it --


def test_a_search_runs_to_its_end(tmp_path: Path) -> None:
    notes = Notes()
    outcome = search(tmp_path, replace(SETTINGS, workers=2), notes, trouble={4: "raise"})
    tasks, trials = stored(tmp_path)
    assert outcome.stopped == "trials"
    assert (outcome.trials, outcome.summary.ok, outcome.summary.failed) == (20, 19, 1)
    assert [task.trial.index for task in tasks] == list(range(20))
    assert [replace(item, seconds=0, finished_s=0) for item in notes.trials] == trials
    assert notes.ended == 1
    failed = next(item for item in trials if item.trial.index == 4)
    assert (failed.status, failed.trained, failed.message) == ("failed", None, "the loss is not a number")
    assert failed.resources == ASSESSOR.assess(tasks[4].trial.architecture)
    elapsed = [item.finished_s for item in notes.trials]
    assert elapsed == sorted(elapsed)


def test_a_seed_decides_a_search_with_one_worker(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (5, 5, 6), strict=True):
        folder.mkdir()
        search(folder, replace(SETTINGS, seed=seed, sparsity=(0.1, 0.5), rung_epochs=(1,)))
    assert stored(folders[0]) == stored(folders[1])
    assert stored(folders[0])[0] != stored(folders[2])[0]


def test_more_trials_go_on_where_fewer_ended(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for trials in (7, 13, 20):
        notes = Notes()
        outcome = search(tmp_path / "parts", replace(SETTINGS, trials=trials), notes)
        assert outcome.trials == trials
    assert len(notes.resumed) == 13
    assert notes.summaries[0].ok == 13
    assert notes.summaries[0].elapsed_s >= notes.resumed[-1].finished_s
    search(tmp_path)
    assert stored(tmp_path) == stored(tmp_path / "parts")
    again = Notes()
    search(tmp_path, notes=again)
    assert again.trials == []


def test_ctrl_c_and_resume_are_the_same_search(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    (tmp_path / "cut").mkdir()
    notes = Notes(at=9, act=interrupt)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "cut", notes=notes)
    assert notes.ended == 1
    search(tmp_path / "cut")
    search(tmp_path)
    assert stored(tmp_path) == stored(tmp_path / "cut")


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "cut" / "search.sqlite"
    path.parent.mkdir()
    with SearchStore(path) as store:
        # The page limit is SQLite's own way to run out of space: same error, and no root needed.
        notes = Notes(at=6, act=lambda: store._database.connection.execute("PRAGMA max_page_count = 1"))
        with pytest.raises(SearchStoreError, match="free space and run the same command again"):
            run_search(SETTINGS, store, ASSESSOR, StubTrainer(blob_bytes=50_000), notes, preload=PRELOAD)
    assert 6 <= len(stored(path.parent)[1]) < 20
    search(path.parent, blob_bytes=50_000)
    search(tmp_path, blob_bytes=50_000)
    assert stored(tmp_path) == stored(path.parent)


def test_the_time_ends_a_search_and_counts_over_resumes(tmp_path: Path) -> None:
    short = replace(SETTINGS, seconds=2.0, trials=10_000, workers=2)
    outcome = search(tmp_path, short, seconds=0.05)
    assert outcome.stopped == "time"
    assert outcome.summary.elapsed_s >= 2.0
    done = len(stored(tmp_path)[1])
    assert search(tmp_path, short).trials == done  # the time is over
    longer = search(tmp_path, replace(short, seconds=None, trials=done + 3))
    assert longer.trials == done + 3


def test_another_search_is_refused(tmp_path: Path) -> None:
    search(tmp_path, replace(SETTINGS, trials=2))
    with pytest.raises(SearchError, match="holds another search: seed 1 there, 2 here"):
        search(tmp_path, replace(SETTINGS, seed=2))
    with SearchStore(tmp_path / "search.sqlite") as store, pytest.raises(SearchError, match="board"):
        run_search(SETTINGS, store, ASSESSOR, StubTrainer(), identity={"board": "mps2-an386"})


def test_failures_without_end_are_no_search(tmp_path: Path) -> None:
    always = dict.fromkeys(range(100), "raise")
    with pytest.raises(SearchError, match=f"{MAX_FAILURES_IN_A_ROW} trials in a row have failed; the last one: the"):
        search(tmp_path, replace(SETTINGS, trials=100), trouble=always)
    assert len(stored(tmp_path)[1]) == MAX_FAILURES_IN_A_ROW


def test_an_error_that_is_no_number_is_a_failure(tmp_path: Path) -> None:
    outcome = search(tmp_path, replace(SETTINGS, trials=3), trouble={1: "nan"})
    assert (outcome.summary.ok, outcome.summary.failed) == (2, 1)
    assert stored(tmp_path)[1][1].message == "the validation error is nan"


@pytest.mark.slow
@pytest.mark.timeout(1800)  # 43 s of processor time: 4 minutes were seen beside other work
def test_the_main_process_stays_small_over_a_thousand_trials(tmp_path: Path) -> None:
    """1,000 trials whose blobs are 100 MB together."""

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    sizes: dict[int, int] = {}

    class Scale(Notes):
        def trial_done(self, trial_result: TrialResult, summary: StudySummary) -> None:
            sizes[summary.ok] = resident_bytes()

    settings = replace(SETTINGS, population=100, sample=25, trials=1000, rung_epochs=(1, 2), workers=2)
    search(tmp_path, settings, Scale(), blob_bytes=50_000)
    assert sizes[1000] - sizes[200] < 12 << 20, f"{sizes[200]} bytes after 200, {sizes[1000]} after 1,000"


# -- what is refused --


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "genetic"}, "unknown strategy genetic; known are evolution, random"),
        ({"population": 0}, "population must be above 0"),
        ({"workers": 0}, "workers must be above 0"),
        ({"time_limit_s": 0.0}, "time limit s must be above 0"),
        ({"effort": 0.0}, "effort must be"),
        ({"effort": 1.5}, "effort must be"),
        ({"sparsity": (0.5, 0.2)}, "sparsity must be"),
        ({"sparsity": (0.5, 1.0)}, "sparsity must be"),
        ({"bounds": Bounds({Metric.RAM: 100})}, "no network has a RAM of 100"),
        ({"bounds": Bounds({Metric.ERROR: 0.0})}, "no network has an error of 0"),
        ({"bounds": Bounds({Metric.LATENCY: 1e9})}, "a bound on latency needs a calibration"),
        ({"bounds": Bounds({Metric.PEAK_MEMORY: 1e6})}, "needs an assessor that gives the proxies"),
        ({"hard_budget": Bounds({Metric.FLASH: 5_000})}, "no network has a flash of 5,000"),
        ({"hard_budget": Bounds({Metric.ERROR: 0.1})}, "cannot reject a network before it is trained"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SearchError, match=message.replace(".", r"\.")):
        check(replace(SETTINGS, **change), ASSESSOR)


# -- proposals --


@pytest.mark.parametrize("sparsity", [None, (0.3, 0.8)])
def test_only_what_fits_is_proposed(sparsity: tuple[float, float] | None) -> None:
    budget = Bounds({Metric.RAM: 16_000, Metric.FLASH: 30_000})
    proposer = Proposer(RandomSearch(Space(sparsity=sparsity)), ASSESSOR, budget, np.random.default_rng(0))
    proposed = [proposer.propose(index) for index in range(20)]
    for item in proposed:
        assert meets(features(None, ASSESSOR.assess(item.architecture)), budget)  # before it is pruned
    assert {item.change for item in proposed} == {"random", "random, made narrower"}
    assert [item.index for item in proposed] == list(range(20))
    assert proposer.rejected > 0


@pytest.mark.parametrize(("flash", "change"), [(17_900, "made narrower"), (17_600, "made narrower, made smaller")])
def test_where_no_random_network_fits_one_is_made_to(flash: int, change: str) -> None:
    tight = Bounds({Metric.RAM: 4_700, Metric.FLASH: flash})
    assessor = replace(ASSESSOR, num_classes=4)
    proposer = Proposer(RandomSearch(Space()), assessor, tight, np.random.default_rng(0))
    found = proposer.propose(0)
    assert found.change == f"random, {change}"
    assert meets(features(None, assessor.assess(found.architecture)), tight)


def test_a_budget_out_of_reach_is_said() -> None:
    proposer = Proposer(RandomSearch(Space(mlp=True)), ASSESSOR, Bounds({Metric.RAM: 4_300}), np.random.default_rng(0))
    with pytest.raises(SearchError, match="no network within the hard budget was found: the closest needs 1"):
        proposer.propose(0)


def test_a_search_with_a_budget_counts_what_it_rejects(tmp_path: Path) -> None:
    settings = replace(SETTINGS, hard_budget=Bounds({Metric.FLASH: 30_000}), trials=6)
    first = search(tmp_path, settings)
    assert first.summary.rejected > 0
    notes = Notes()
    second = search(tmp_path, replace(settings, trials=12), notes)
    assert notes.summaries[0].rejected == first.summary.rejected
    assert second.summary.rejected >= first.summary.rejected
    for item in stored(tmp_path)[1]:
        assert item.resources is not None
        assert item.resources.flash <= 30_000


# -- halving --


def test_the_best_half_passes_a_rung() -> None:
    halving = Halving((2, 4))
    for index in range(MIN_SEEN - 1):
        halving.tell(trial_result(index, 0.5, (0.9, 0.1 * index)))
    assert halving.rungs() == ()
    halving.tell(trial_result(9, 0.5, (0.0, 0.75, 0.0, 0.0)))
    (rung,) = halving.rungs()  # the second has seen one
    assert rung.epoch == 2
    assert rung.worst_error == pytest.approx(0.3)  # 0, .1, .2, .3 | .4, .5, .6, .75


def test_a_rung_compares_with_networks_that_cost_no_more() -> None:
    """Ten large networks of 10 % and ten small ones of 40 %: a small one of 45 % is not held against the large ones."""
    halving = Halving((1,))
    for index in range(10):
        halving.tell(trial_result(index, 0.1, (0.1, 0.1)), 0.9)
        halving.tell(trial_result(20 + index, 0.4, (0.4 + index / 100, 0.4)), 0.3)
    assert halving.rungs(0.3) == (Rung(1, 0.44),)
    assert halving.rungs(0.9) == (Rung(1, 0.1),)  # all are comparable: half of twenty
    assert halving.rungs(0.2) == ()  # nobody costs so little


def test_failures_and_what_never_got_there_do_not_count() -> None:
    halving = Halving((3,))
    for index in range(20):
        halving.tell(TrialResult(trial(index), "failed", None, None, "died", 1.0, 1.0))
        halving.tell(trial_result(index, 0.5, (0.5, 0.5)))
        halving.tell(trial_result(index, 0.5, (0.5, 0.5, math.nan)))
    assert halving.rungs() == ()


def test_rungs_stop_trials_of_a_search(tmp_path: Path) -> None:
    search(tmp_path, replace(SETTINGS, rung_epochs=(1, 3), trials=40, population=20))
    tasks, trials = stored(tmp_path)
    assert tasks[0].rungs == ()
    assert isinstance(tasks[-1].rungs[0], Rung)
    stopped = [item for item in trials if item.trained is not None and item.trained.stopped]
    assert 1 <= len(stopped) <= 32  # with these trials larger networks are better: few are beaten by cheaper ones
    assert {item.trained.epochs for item in stopped if item.trained} <= {1, 3}


# -- summary --


def test_the_best_meets_all_bounds_but_the_errors() -> None:
    tally = Tally(Bounds({Metric.ERROR: 0.01, Metric.RAM: 10_000, Metric.FLASH: 20_000}))

    def tell(index: int, error: float, ram: int, flash_bytes: int) -> None:
        item = trial_result(index, error)
        assert item.resources is not None
        tally.tell(replace(item, resources=replace(item.resources, ram=ram, flash=flash_bytes)))

    tell(0, 0.05, 99_999, 99_999)
    assert tally.summary(0, 1.0).best is None
    tell(1, 0.3, 9_999, 99_999)
    tell(2, 0.2, 10_001, 20_000)
    tell(3, 0.6, 10_000, 20_000)
    tell(4, 0.5, 9_000, 10_000)
    tell(5, 0.5, 9_000, 10_000)
    tally.tell(TrialResult(trial(6), "failed", None, None, "died", 1.0, 1.0))
    summary = tally.summary(7, 2.0)
    assert (summary.ok, summary.failed, summary.rejected, summary.elapsed_s) == (6, 1, 7, 2.0)
    assert summary.best is not None
    assert summary.best.trial.index == 4  # the first of the two
    assert {metric: item.trial.index for metric, item in summary.best_under.items()} == {
        Metric.RAM: 1, Metric.FLASH: 2,
    }  # fmt: skip


# -- re-training --


def test_finals_are_done_once_and_failures_tried_again(tmp_path: Path) -> None:
    search(tmp_path, replace(SETTINGS, trials=4))
    jobs = [FinalJob(item.trial, seed, 0.5) for item in stored(tmp_path)[1][:3] for seed in (1, 2)]

    def finals(notes: Notes, **stub: Any) -> list[Final]:
        with SearchStore(tmp_path / "search.sqlite") as store:
            return run_finals(store, jobs, StubTrainer(**stub), workers=2, preload=PRELOAD, watcher=notes)

    first = Notes()
    found = finals(first, trouble={1: "raise"}, blob_bytes=5000)
    assert [item.job for item in found] == jobs
    assert [item.message for item in found] == ["", "", "the loss is not a number", "the loss is not a number", "", ""]
    assert found[0].trained == trained(jobs[0].task, blob_bytes=5000)
    assert isinstance(found[1].trained, Trained)
    assert found[0].trained != found[1].trained  # another seed
    assert (first.totals, len(first.finals), first.ended) == ((6, 0), 6, 1)
    second = Notes()
    again = finals(second, blob_bytes=5000)
    assert (second.totals, len(second.finals)) == ((6, 4), 2)
    assert all(item.trained is not None for item in again)
    assert again[0] == found[0]


def test_a_calibration_of_the_memory_decides_what_fits() -> None:
    """The assessor is the only one who knows the board."""
    larger = Assessor(MemoryModel(29_000, (), 2_000, 2_048, 1_000), None, INPUT_SHAPE, NUM_CLASSES)
    budget = Bounds({Metric.FLASH: 28_000})
    assert Proposer(RandomSearch(Space()), ASSESSOR, budget, np.random.default_rng(0)).propose(0)
    with pytest.raises(SearchError, match="no network has a flash"):
        check(replace(SETTINGS, hard_budget=budget), larger)
