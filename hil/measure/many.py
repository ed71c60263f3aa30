"""Many networks, measured: one after the other, or several at a time by workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hil.boards.board import Board
from hil.errors import HilError, TargetFaultError, UsageError
from hil.jobs.supervise import Execution, UsesDevices, supervised
from hil.measure.harness import Harness, Measured, Options, read_model
from hil.measure.workers import HarnessFactory, NodeHarnessFactory, workers_of

PRELOAD = (__name__,)


@dataclass(frozen=True, slots=True)
class FilesFactory:
    """Makes, inside a worker, what measures file number `n`."""

    measurer: HarnessFactory | NodeHarnessFactory
    names: tuple[str, ...]
    contents: tuple[bytes, ...]

    def __call__(self) -> Callable[[int], Measured]:
        measure = self.measurer()
        return lambda number: measure(self.contents[number], self.names[number])

    def without(self, device: str) -> FilesFactory | None:
        """See `hil.jobs.supervise.UsesDevices`."""
        measurer = self.measurer.without(device) if isinstance(self.measurer, UsesDevices) else None
        return None if measurer is None else replace(self, measurer=measurer)


def measure_files(
    paths: Sequence[Path],
    board: Board,
    options: Options,
    refused: Callable[[HilError], None],
    *,
    workers: int | None = 1,
    tell: Callable[[str], None] = lambda message: None,
    cluster: str | None = None,
) -> list[Measured]:
    """Measure the files, in their order, `workers` at a time (None: as many as there is room for), on the Ray `cluster`
    if there is one. `refused` hears of each that cannot be imported, does not fit, or faults; `tell` of boards that are
    lost.

    Raises ModelError for a file that cannot be read, before anything runs; InfrastructureError at the first one of a
    single worker, and of several after what `supervised` has tried.
    """
    contents = tuple(read_model(path) for path in paths)  # all of them first: a wrong name is no reason to wait
    harness = Harness(board, options)  # here: what every file needs is missed, and built, once
    measurer, execution = workers_of(board, options, cluster, workers)
    if cluster is not None or min(execution.workers, len(paths)) > 1:
        factory = FilesFactory(measurer, tuple(path.stem for path in paths), contents)
        return _side_by_side(factory, replace(execution, preload=PRELOAD), refused, tell)
    results = []
    for path, content in zip(paths, contents, strict=True):
        try:
            results.append(harness.measure(content, path.stem))
        except (UsageError, TargetFaultError) as error:
            refused(error)
    return results


def _side_by_side(
    factory: FilesFactory, execution: Execution, refused: Callable[[HilError], None], tell: Callable[[str], None]
) -> list[Measured]:
    outcomes = {}
    for outcome in supervised(range(len(factory.names)), factory, execution, tell):
        outcomes[outcome.job] = outcome
    results = []
    for _, outcome in sorted(outcomes.items()):
        if outcome.error is not None:
            raise outcome.error
        if isinstance(outcome.cause, HilError):
            refused(outcome.cause)
        else:
            assert isinstance(outcome.value, Measured)
            results.append(outcome.value)
    return results
