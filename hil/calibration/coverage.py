"""`munas-hil coverage`: which files can be imported, fit the board, and can be estimated; what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hil.boards.board import Board
from hil.calibration.estimates import estimate_model
from hil.calibration.forecast import RESERVES, kept_free
from hil.errors import HilError, UsageError
from hil.measure.harness import Harness, read_model
from hil.model.tflite.container import read_container
from munas.cost.calibration import Calibration


@dataclass(frozen=True, slots=True)
class Coverage:
    """One file. `fits` and `estimable` are None where it is not known; `missing` says what is in the way, or is empty.

    `operators` are the file's, by the schema's names; `blocker` is the one that its import stopped at, if it was one.
    """

    file: str
    imports: bool
    fits: bool | None
    estimable: bool | None
    missing: str
    operators: tuple[str, ...] = ()
    blocker: str = ""

    def to_json(self) -> dict[str, Any]:
        """One entry of ``coverage --json``."""
        return asdict(self)


def files_of(paths: Sequence[Path]) -> list[Path]:
    """The files named, and every .tflite below the folders named. Raises UsageError when there are none,
    or where a name is of nothing."""
    if missing := [path for path in paths if not path.exists()]:
        raise UsageError(f"{missing[0]} does not exist")
    found = [file for path in paths for file in (sorted(_models(path)) if path.is_dir() else [path])]
    if not found:
        raise UsageError(f"there is no .tflite in {', '.join(map(str, paths))}")
    return list(dict.fromkeys(found))


def _models(folder: Path) -> Iterator[Path]:
    """Whatever below a folder is named as a model, in any case of letters, but for folders."""
    return (file for file in folder.rglob("*") if file.suffix.lower() == ".tflite" and not file.is_dir())


def covered(path: Path, board: Board, harness: Harness, calibration: Calibration | None) -> Coverage:
    """What can be done with one file. Never raises for what is in it."""
    operators: tuple[str, ...] = ()
    try:
        data = read_model(path)
        operators = _operators(data)
        plan = harness.deploy(data, path.stem)
        linked = harness.linked_for(plan)
    except (HilError, RecursionError) as error:
        blocker = next((name for name in operators if f"({name})" in str(error)), "")
        return Coverage(str(path), False, None, None, str(error), operators, blocker)
    reserve, budget = kept_free(RESERVES, harness.identity.runtime, board.optimise), board.budget
    flash = plan.weights_bytes + plan.table_bytes + (reserve.flash if linked is None else linked.code)
    ram = plan.arena_bytes + reserve.sram
    missing = ""
    estimable = None if calibration is None else True
    if calibration is not None:
        try:
            found = estimate_model(data, path.stem, board, calibration, harness).estimate
            flash, ram = found.flash_total, found.ram_total
        except HilError as error:
            estimable, missing = False, str(error)
    short = [
        f"{need - have:,} bytes of {what}"
        for what, need, have in (("flash", flash, budget.flash), ("RAM", ram, budget.sram))
        if need > have
    ]
    missing = "; ".join(filter(None, [missing, f"it lacks {' and '.join(short)}" if short else ""]))
    return Coverage(str(path), True, not short, estimable, missing, operators)


def _operators(data: bytes) -> tuple[str, ...]:
    """Names of the file's operators, each once; none where the file cannot be read so far."""
    try:
        return tuple(sorted({operator.name for operator in read_container(data).operators}))
    except HilError:
        return ()


def by_operator(rows: Iterable[Coverage]) -> list[tuple[str, int, int, int]]:
    """(operator, files that have it, of these imported, files whose import stopped at it), the most frequent first."""
    have, imported, stopped = Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        have.update(row.operators)
        imported.update(row.operators if row.imports else ())
        stopped.update([row.blocker] if row.blocker else [])
    return [(name, count, imported[name], stopped[name]) for name, count in sorted(have.items(), key=_most_first)]


def _most_first(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]
