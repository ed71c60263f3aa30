"""A search as JSON lines, for machines: ``start``, one ``trial`` or ``final`` each, ``result``.

Errors are fractions, sizes bytes, latencies in the calibration's unit, times seconds.
"""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TextIO

from hil.errors import InfrastructureError
from munas.arch.space import to_dict
from munas.search.trial import TrialResult

if TYPE_CHECKING:
    from hil.search.result import SearchResult
    from munas.search.study import Final, SearchSettings, StudySummary


class JsonLines:
    """Writes one JSON document a line, at once, so that a reader sees it while the search goes on."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, event: str, **fields: Any) -> None:
        """One line. Raises InfrastructureError when the stream is closed or full, BrokenPipeError when nobody reads."""
        text = json.dumps({"event": event, **_finite(fields)}, allow_nan=False)
        try:
            if self._stream is None:
                raise OSError(errno.EBADF, "it is closed")
            self._stream.write(f"{text}\n")
            self._stream.flush()
        except BrokenPipeError:  # the reader has seen enough: click ends quietly
            raise
        except (OSError, ValueError) as error:  # ValueError: closed by us
            self._stream = None
            reason = error.strerror if isinstance(error, OSError) else "it is closed"
            raise InfrastructureError(f"standard output cannot be written: {reason}") from error

    def result(self, result: SearchResult, report: str) -> None:
        """The last line: what the search found, without its trials; `report` is the path of the page."""
        self.write("result", **result.summary_json(), report=report)


def _finite(value: Any) -> Any:
    """`value` with null for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


class SearchLines:
    """Writes a line when a search starts and one for each trial."""

    def __init__(self, lines: JsonLines) -> None:
        self._lines = lines

    def started(self, settings: SearchSettings, resumed: Sequence[TrialResult], summary: StudySummary) -> None:
        """The settings, and how many trials are there already."""
        hard = settings.hard_budget
        fields = asdict(settings) | {
            "bounds": settings.bounds.to_json(), "hard_budget": None if hard is None else hard.to_json(),
        }  # fmt: skip
        self._lines.write("start", resumed=len(resumed), elapsed_s=summary.elapsed_s, **fields)

    def trial_done(self, trial_result: TrialResult, summary: StudySummary) -> None:
        """The trial, what it costs, and the best so far."""
        trial, trained = trial_result.trial, trial_result.trained
        best = summary.best
        self._lines.write(
            "trial", index=trial.index, status=trial_result.status, message=trial_result.message,
            parent=trial.parent, change=trial.change, seed=trial.seed, sparsity=trial.sparsity,
            error=None if trained is None else trained.error,
            float_error=None if trained is None else trained.float_error,
            epochs=0 if trained is None else trained.epochs, stopped=trained is not None and trained.stopped,
            images_per_second=None if trained is None else trained.images_per_second,
            resources=None if trial_result.resources is None else asdict(trial_result.resources),
            architecture=to_dict(trial.architecture if trained is None else trained.architecture),
            seconds=trial_result.seconds, finished_s=trial_result.finished_s, ok=summary.ok, failed=summary.failed,
            rejected=summary.rejected, best=None if best is None else best.trial.index,
            best_error=None if best is None or best.trained is None else best.trained.error,
        )  # fmt: skip

    def finished(self) -> None:
        """Nothing: the last line is the result's."""


class FinalLines:
    """Writes a line for each re-training."""

    def __init__(self, lines: JsonLines) -> None:
        self._lines = lines

    def started(self, total: int, resumed: int) -> None:
        """How many there are."""
        self._lines.write("finals", total=total, resumed=resumed)

    def trained(self, final: Final) -> None:
        """One re-training."""
        job, found = final.job, final.trained
        self._lines.write(
            "final", index=job.trial.index, seed=job.seed, effort=job.effort, message=final.message,
            error=None if found is None else found.error, float_error=None if found is None else found.float_error,
            seconds=final.seconds,
        )  # fmt: skip

    def finished(self) -> None:
        """Nothing: the last line is the result's."""
