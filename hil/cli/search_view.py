"""A search as it goes, on stderr: a live display on a terminal, now and then a line in a log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hil.report.charts import numbers
from hil.report.search.series import milliseconds
from hil.search.lines import FinalLines, JsonLines, SearchLines
from hil.terminal import printable
from munas.search.metrics import METRICS, Form, Metric, MetricSpec
from munas.search.trial import TrialResult

if TYPE_CHECKING:
    from munas.search.study import Final, FinalsWatcher, SearchSettings, StudySummary, Watcher

LOG_INTERVAL_S = 30.0
REFRESH_PER_S = 4.0
BAR_WIDTH = 44
_COSTS = tuple(row for row in METRICS.values() if row.is_shown and row.form is not Form.FRACTION)
RECENT_S = 600.0  # the rate that the time left is judged by is of the last so many seconds


@dataclass(frozen=True, slots=True)
class Display:
    """Who is told of the two stages of a search: the trials, and the re-training of the front."""

    search: Watcher
    finals: FinalsWatcher


def display_of(
    console: Console, title: str, milliseconds_per_unit: float | None = None, lines: JsonLines | None = None
) -> Display:
    """The display of a command: people read `console`; `lines` go to machines as well, where there are any."""
    view, finals = SearchView(console, title, milliseconds_per_unit), FinalsView(console)
    if lines is None:
        return Display(view, finals)
    return Display(_BothSearch((view, SearchLines(lines))), _BothFinals((finals, FinalLines(lines))))


@dataclass(slots=True)
class Progress:
    """Counts and rates of a search; times in seconds of a monotonic clock."""

    settings: SearchSettings
    summary: StudySummary
    began: float  # when this process went on with it
    resumed: int
    done: int
    stopped: int
    last: TrialResult | None = None
    recent: tuple[float, ...] = ()

    def per_minute(self, now: float) -> float:
        """Trials a minute, over the last ten minutes of this process."""
        window = min(max(now - self.began, 1e-9), RECENT_S)
        return 60.0 * sum(at > now - RECENT_S for at in self.recent) / window

    def seconds_left(self, now: float, elapsed_s: float) -> float | None:
        """Until the trials are done or the time is over; None while nobody can know."""
        rate, limit = self.per_minute(now) / 60, self.settings.seconds
        by_time = None if limit is None else max(limit - elapsed_s, 0.0)
        by_count = (self.settings.trials - self.done) / rate if rate > 0 else None
        known = [value for value in (by_time, by_count) if value is not None]
        return min(known, default=None)

    def share_done(self, elapsed_s: float) -> float:
        """How much of the search is over, 0..1."""
        by_count = self.done / max(self.settings.trials, 1)
        by_time = elapsed_s / self.settings.seconds if self.settings.seconds else 0.0
        return min(max(by_count, by_time), 1.0)


class SearchView:
    """Shows the trials of a search as they finish."""

    def __init__(self, console: Console, title: str, milliseconds_per_unit: float | None = None) -> None:
        self._console, self._title, self._factor = console, printable(title), milliseconds_per_unit
        self._live: Live | None = None
        self._progress: Progress | None = None
        self._logged = self._told_s = 0.0

    def started(self, settings: SearchSettings, resumed: Sequence[TrialResult], summary: StudySummary) -> None:
        """Begin: `resumed` are there already."""
        now = time.monotonic()
        early = sum(item.trained is not None and item.trained.stopped for item in resumed)
        self._progress = Progress(settings, summary, now, len(resumed), len(resumed), early)
        self._logged = self._told_s = now
        if resumed:
            text = f"{len(resumed)} trials are there already ({numbers.seconds(summary.elapsed_s)}), going on"
            self._say(text)
        if self._console.is_terminal:
            self._live = Live(
                get_renderable=self._picture, console=self._console, refresh_per_second=REFRESH_PER_S, transient=True
            )
            self._live.start()

    def trial_done(self, trial_result: TrialResult, summary: StudySummary) -> None:
        """One trial finished."""
        progress, now = self._progress, time.monotonic()
        if progress is None:
            return
        is_best = summary.best is not None and summary.best.trial.index == trial_result.trial.index
        progress.summary, progress.last = summary, trial_result
        progress.done += 1
        progress.stopped += trial_result.trained is not None and trial_result.trained.stopped
        progress.recent = (*(at for at in progress.recent if at > now - RECENT_S), now)
        self._told_s = now
        if trial_result.status == "failed":
            self._say(f"trial {trial_result.trial.index} failed: {printable(trial_result.message)}")
        if self._live is None and (is_best or now - self._logged >= LOG_INTERVAL_S):
            self._logged = now
            self._say(("new best: " if is_best else "") + self._line(progress, now))

    def finished(self) -> None:
        """End, however the search ended."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._progress is not None:
            self._say(self._line(self._progress, time.monotonic()))
            self._progress = None

    def _say(self, text: str) -> None:
        self._console.print(f"search: {text}", highlight=False, markup=False, soft_wrap=True)

    def _elapsed_s(self, progress: Progress, now: float) -> float:
        return progress.summary.elapsed_s + max(now - self._told_s, 0.0)

    def _line(self, progress: Progress, now: float) -> str:
        """The state in one line, for a log."""
        left = progress.seconds_left(now, self._elapsed_s(progress, now))
        words = [_amount(progress), f"{progress.per_minute(now):.1f}/min", _counts_text(progress)]
        best = progress.summary.best
        words.append("nothing within the bounds yet" if best is None else f"best {self._short(best)}")
        if left is not None and left > 0:
            words.append(f"{_whole_seconds(left)} left")
        return ", ".join(words)

    def _short(self, found: TrialResult) -> str:
        cells = self._cells(found)
        known = [f"{row.name} {cells[row.name]}" for row in _COSTS if cells.get(row.name)]
        return f"{cells['error']} ({', '.join(known[:3])})"

    def _cells(self, found: TrialResult) -> dict[str, str]:
        """Figures of a result as text."""
        cells = {"error": numbers.MISSING if found.trained is None else numbers.percent(found.trained.error)}
        costs = found.resources
        if costs is None:
            return cells
        known = {row.name: (row, row.read(costs)) for row in METRICS.values()}
        return cells | {name: self._text(row, value) for name, (row, value) in known.items() if value is not None}

    def _picture(self) -> RenderableType:
        """What the live display shows now."""
        progress, now = self._progress, time.monotonic()
        if progress is None:
            return Text()
        elapsed_s = self._elapsed_s(progress, now)
        left = progress.seconds_left(now, elapsed_s)
        head = Text(self._title, style="bold")
        head.append(f"  {_plural(progress.settings.workers, 'worker')}, seed {progress.settings.seed}", "not bold dim")
        limit = "" if progress.settings.seconds is None else f" of {numbers.seconds(progress.settings.seconds)}"
        over = f"  {_amount(progress)} · {numbers.seconds(elapsed_s)}{limit} · "
        over += "time left unknown" if left is None else f"{_whole_seconds(left)} left"
        bar = Table.grid(padding=0)
        bar.add_row(ProgressBar(100.0, 100.0 * progress.share_done(elapsed_s), width=BAR_WIDTH), Text(over))
        rate = Text(f"{progress.per_minute(now):.1f} trials/min", "bold")
        rate.append(f"  {_counts_text(progress)}", "default not bold")
        return Group(head, bar, rate, Text(), self._table(progress))

    def _table(self, progress: Progress) -> Table:
        """The best within all bounds, under each bound alone, and the last trial."""
        bounds = progress.settings.bounds.values
        columns = [row.name for metric, row in METRICS.items() if row.is_shown or metric in bounds]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(Text("best so far", "dim"))
        for name in columns:
            title = f"{name}, {self._unit(progress)}" if name == METRICS[Metric.LATENCY].name else name
            table.add_column(Text(title, "dim"), justify="right", no_wrap=True)
        table.add_column(Text("trial", "dim"), justify="right", no_wrap=True)
        summary = progress.summary
        wanted = bounds.get(Metric.ERROR)
        within = "within all bounds" if wanted is None else f"within all, error ≤ {numbers.percent(wanted)}"
        met = summary.best is not None and summary.best.trained is not None and (
            wanted is None or summary.best.trained.error <= wanted
        )  # fmt: skip
        self._row(table, columns, within, summary.best, "bold green" if met else "bold yellow")
        for metric, found in summary.best_under.items():
            name = f"{METRICS[metric].name} ≤ {self._text(METRICS[metric], bounds[metric])}"
            self._row(table, columns, name, found, "")
        if progress.last is not None:
            name = "last" if progress.last.status == "ok" else "last, failed"
            self._row(table, columns, name, progress.last, "dim")
        return table

    def _unit(self, progress: Progress) -> str:
        """What latencies are in, where it is known by now."""
        if self._factor is not None:
            return "time"
        costs = None if progress.last is None else progress.last.resources
        return "" if costs is None else costs.unit

    def _text(self, row: MetricSpec, value: float) -> str:
        if row.form is Form.BYTES:
            return numbers.size(value)
        if row.form is Form.FRACTION:
            return numbers.percent(value)
        if row.form is Form.TIME and self._factor is not None:
            return milliseconds(value * self._factor)
        return numbers.significant(value)

    def _row(self, table: Table, columns: Sequence[str], name: str, found: TrialResult | None, style: str) -> None:
        cells = {} if found is None else self._cells(found)
        index = numbers.MISSING if found is None else f"#{found.trial.index}"
        texts = (name, *(cells.get(key, numbers.MISSING) for key in columns), index)
        table.add_row(*(Text(text, style) for text in texts))


def _whole_seconds(seconds: float) -> str:
    return f"{seconds:.0f}{numbers.NBSP}s" if seconds < 59.5 else numbers.seconds(round(seconds))


def _amount(progress: Progress) -> str:
    """``412/2,000``; without the total where minutes end the search and the total means nothing."""
    total = progress.settings.trials
    is_open = progress.settings.seconds is not None and total > 100_000
    return f"{progress.done:,}" + (" trials" if is_open else f"/{total:,}")


def _counts_text(progress: Progress) -> str:
    summary = progress.summary
    return f"{progress.stopped} stopped, {summary.failed} failed, {summary.rejected:,} rejected"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


class FinalsView:
    """Shows the re-training of the front: a line for each that is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = self._done = 0

    def started(self, total: int, resumed: int) -> None:
        """Begin: `resumed` of `total` are there already."""
        self._total, self._done = total, resumed
        self._say(f"{total} to train" + (f", {resumed} of them are there already" if resumed else ""))

    def trained(self, final: Final) -> None:
        """One re-training finished."""
        self._done += 1
        job, found = final.job, final.trained
        name = f"{self._done}/{self._total}: network {job.trial.index}, seed {job.seed}"
        if found is None:
            self._say(f"{name} failed: {printable(final.message)}")
        else:
            self._say(f"{name}: error {numbers.percent(found.error)} in {numbers.seconds(final.seconds)}")

    def finished(self) -> None:
        """Nothing is left open."""

    def _say(self, text: str) -> None:
        self._console.print(f"re-training: {text}", highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _BothSearch:
    """Tells several watchers."""

    watchers: tuple[Watcher, ...]

    def started(self, settings: SearchSettings, resumed: Sequence[TrialResult], summary: StudySummary) -> None:
        for item in self.watchers:
            item.started(settings, resumed, summary)

    def trial_done(self, trial_result: TrialResult, summary: StudySummary) -> None:
        for item in self.watchers:
            item.trial_done(trial_result, summary)

    def finished(self) -> None:
        for item in self.watchers:
            item.finished()


@dataclass(frozen=True, slots=True)
class _BothFinals:
    """Tells several watchers of re-trainings."""

    watchers: tuple[FinalsWatcher, ...]

    def started(self, total: int, resumed: int) -> None:
        for item in self.watchers:
            item.started(total, resumed)

    def trained(self, final: Final) -> None:
        for item in self.watchers:
            item.trained(final)

    def finished(self) -> None:
        for item in self.watchers:
            item.finished()
