"""Progress of a campaign on stderr: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from hil.jobs.store import Result
from hil.terminal import printable

LOG_INTERVAL_S = 10.0


class CampaignProgress:
    """Shows a campaign's samples as they finish: done, failed, models a minute, time left."""

    def __init__(self, console: Console, title: str) -> None:
        self._console, self._title = console, title
        self._bar: Bar | None = None
        self._task = TaskID(0)
        self._total = self._done = self._failed = self._resumed = 0
        self._started = self._logged = 0.0

    def start(self, total: int, resumed: int) -> None:
        """Begin: `resumed` of `total` samples are there already."""
        self._total, self._done, self._resumed = total, resumed, resumed
        self._started = self._logged = time.monotonic()
        if resumed:
            text = f"{self._title}: {resumed} of {total} samples are there already, going on"
            self._console.print(text, highlight=False)
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[rate]:.0f}/min, {task.fields[failed]} failed, left"), TimeRemainingColumn(),
            )  # fmt: skip
            self._bar = Bar(*columns, console=self._console)
            self._task = self._bar.add_task(self._title, total=total, completed=resumed, rate=0.0, failed=0)
            self._bar.start()

    def advance(self, result: Result) -> None:
        """One sample finished."""
        self._done += 1
        self._failed += result.status == "failed"
        if result.status == "failed":
            text = f"sample {result.sample} failed: {_one_line(result.error)}"
            self._console.print(text, highlight=False, markup=False)
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=self._rate(), failed=self._failed)
        elif (now := time.monotonic()) - self._logged >= LOG_INTERVAL_S:
            self._logged = now
            self._console.print(
                f"{self._title}: {self._done}/{self._total}, {self._failed} failed, {self._rate():.0f}/min",
                highlight=False,
            )

    def tell(self, message: str) -> None:
        """Something that whoever waits should know at once."""
        self._console.print(f"{self._title}: {_one_line(message)}", highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """End, however the campaign ended."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _rate(self) -> float:
        elapsed = time.monotonic() - self._started
        return 60.0 * (self._done - self._resumed) / elapsed if elapsed > 0 else 0.0


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))
