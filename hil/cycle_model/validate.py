"""Published figures against the model: which of them can be compared at all, and how far the model is off."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.cycle_model.model import Milliseconds
from hil.errors import InfrastructureError

# The board of ours that has the same chip at the same clock, by words in the published board's name.
_SAME_CHIP = (("l4r5zi", 120, "nucleo-l4r5zi"), ("f746", 216, "nucleo-f746zg"))

_MOSTLY = 0.8  # part of the cycles that has to be in the same kernels

# Runtimes whose kernels are not those that we run, by words in their names; the rest of the sentence.
_OTHER_KERNELS = (
    ("x-cube-ai", "X-CUBE-AI has kernels of its own (closed)"),
    ("plumerai", "Plumerai has kernels of its own (closed)"),
    ("(hale)", "HALE generates code for each layer; these rows are among those the constants were fitted to"),
    ("onnc", "ONNC does not say which kernels it calls"),
)


@dataclass(frozen=True, slots=True)
class Published:
    """One measurement that somebody published. `mhz` is the core's clock, `source` cites the log."""

    model: str
    sha256: str
    board: str
    mhz: float
    milliseconds: float
    submitter: str
    runtime: str
    compiler: str
    source: str


@dataclass(frozen=True, slots=True)
class Modelled:
    """What the model says of one network with one of our runtimes (``cmsis-nn`` or ``tflm``) on one of our boards.

    `cmsis_share` is the part of its cycles that are in CMSIS-NN's kernels; the rest is in ours, which took their place.
    """

    sha256: str
    board: str
    runtime: str
    milliseconds: Milliseconds
    cmsis_share: float = 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """A published figure beside ours, `modelled`, which is None where we have none.

    `comparable` is true when chip, clock, network and kernel library are the same, and most cycles are in that
    library's kernels; `cmsis_share` is what part, where the library is the same. `why` says what differs then still, or
    what rules the comparison out.
    """

    published: Published
    board: str | None
    runtime: str | None
    modelled: Milliseconds | None
    comparable: bool
    why: str
    cmsis_share: float | None = None

    @property
    def ratio(self) -> float | None:
        """Model / published."""
        return None if self.modelled is None else self.modelled.estimate / self.published.milliseconds

    @property
    def inside(self) -> bool | None:
        """Whether the published figure is inside of the model's interval."""
        time = self.modelled
        return None if time is None else time.low <= self.published.milliseconds <= time.high

    def to_json(self) -> dict[str, Any]:
        """One row of `timing validate --json`."""
        figure, time = self.published, self.modelled
        return {
            "model": figure.model, "sha256": figure.sha256, "published_board": figure.board, "mhz": figure.mhz,
            "published_ms": figure.milliseconds, "submitter": figure.submitter, "published_runtime": figure.runtime,
            "compiler": figure.compiler, "source": figure.source, "board": self.board, "runtime": self.runtime,
            "model_ms": None if time is None else {"value": time.estimate, "low": time.low, "high": time.high},
            "ratio": self.ratio, "inside": self.inside, "comparable": self.comparable, "why": self.why,
            "cmsis_nn_share": self.cmsis_share,
        }  # fmt: skip


def published_file() -> Path:
    """The figures that come with the project."""
    return Path(__file__).with_name("published.json")


def load_published(path: Path) -> tuple[Published, ...]:
    """All figures in the JSON file `path`. Raises InfrastructureError when it is not such a file."""
    try:
        models = json.loads(path.read_text(encoding="utf-8"))
        return tuple(_published(model, row) for model in models for row in model.get("published", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InfrastructureError(f"{path} is not a file of published figures: {error}") from error


def _published(model: Mapping[str, Any], row: Mapping[str, Any]) -> Published:
    return Published(
        model=str(model["model"]), sha256=str(model["sha256"]), board=str(row["board"]), mhz=float(row["mhz"]),
        milliseconds=float(row["ms"]), submitter=str(row["submitter"]), runtime=str(row["runtime"]),
        compiler=str(row["compiler"]), source=str(row["citation"]),
    )  # fmt: skip


def validate(published: Iterable[Published], modelled: Iterable[Modelled]) -> tuple[Row, ...]:
    """A row for every published figure, in their order. Where several of our runtimes fit, there are several rows."""
    by_network: dict[tuple[str, str], list[Modelled]] = {}
    for item in modelled:
        by_network.setdefault((item.sha256, item.board), []).append(item)
    rows: list[Row] = []
    for figure in published:
        board = our_board(figure)
        candidates = by_network.get((figure.sha256, board), []) if board else []
        chosen = [item for item in candidates if _same_kernels(figure, item.runtime)] or candidates
        rows += [_row(figure, board, item) for item in chosen] or [_unmatched(figure, board)]
    return tuple(rows)


def modelled_boards() -> tuple[str, ...]:
    """Our boards that figures have been published for, by name."""
    return tuple(ours for _, _, ours in _SAME_CHIP)


def our_board(figure: Published) -> str | None:
    """The board with the same chip at the same clock, None when we model none."""
    name = figure.board.lower().replace("_", "-")
    return next((ours for word, mhz, ours in _SAME_CHIP if word in name and mhz == figure.mhz), None)


def _same_kernels(figure: Published, runtime: str) -> bool:
    return _tvm_with_cmsis(figure) and runtime == "cmsis-nn"


def _tvm_with_cmsis(figure: Published) -> bool:
    board = figure.board.lower().replace("_", "-")
    return "microtvm" in figure.runtime.lower() and "cmsis" in board


def _difference(figure: Published, item: Modelled) -> str:
    """Why a figure and a run of ours are not of the same software, or what may still differ."""
    name = figure.runtime.lower()
    for word, text in _OTHER_KERNELS:
        if word in name:
            return text
    if "microtvm" in name:
        if not _tvm_with_cmsis(figure):
            return "TVM's own generated kernels"
        compiler = figure.compiler or "an unnamed compiler"
        ours = f"ours is {item.runtime} with {'its own version' if item.runtime == 'tflm' else '4.0.0'}"
        if item.cmsis_share < _MOSTLY:
            ours += ", and spends much of its time in kernels of our own that took the place of CMSIS-NN's"
        return f"CMSIS-NN of TVM's version called from TVM's code, built by {compiler}; {ours}"
    if "tensorflow" in name:
        return f"an older TFLM with its kernels of that time, built by {figure.compiler or 'an unnamed compiler'}"
    return "unknown software"


def _row(figure: Published, board: str | None, item: Modelled) -> Row:
    same = _same_kernels(figure, item.runtime)
    comparable = same and item.cmsis_share >= _MOSTLY
    share = item.cmsis_share if same else None
    return Row(figure, board, item.runtime, item.milliseconds, comparable, _difference(figure, item), share)


def _unmatched(figure: Published, board: str | None) -> Row:
    missing = "no board of ours has this chip at this clock" if board is None else f"not run on {board} here"
    return Row(figure, board, None, None, False, missing)
