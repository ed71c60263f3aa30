"""The same networks under both runtimes, side by side: what an interpreter costs, layer by layer.

Layers are matched by operator and by the name of their result in the file: generated code folds PAD into the operator
behind it and has no RESHAPE, so some of TFLM's layers have no partner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hil.boards.board import Board
from hil.errors import HilError, TargetFaultError, UsageError
from hil.measure.harness import Harness, Measured, Options, read_model
from hil.measure.measurement import LayerTime

BOTH = "both"
PAIR_RUNTIMES = ("cmsis-nn", "tflm")


@dataclass(frozen=True, slots=True)
class Pair:
    """One network, measured with generated code and with TFLM."""

    generated: Measured
    interpreted: Measured

    @property
    def results(self) -> tuple[Measured, Measured]:
        """Generated code first."""
        return self.generated, self.interpreted

    @property
    def differing_answers(self) -> int:
        """Inputs on which the two devices answered differently."""
        return sum(a != b for a, b in zip(self.generated.answers, self.interpreted.answers, strict=True))


@dataclass(frozen=True, slots=True)
class LayerPair:
    """One layer of either runtime; None where the other one has none."""

    generated: LayerTime | None
    interpreted: LayerTime | None


def measure_pairs(
    paths: Sequence[Path], board: Board, options: Options, refused: Callable[[HilError], None]
) -> list[Pair]:
    """Measure each file with both runtimes. `refused` hears of each that one of them does not take, cannot fit, or
    faults on: it is in no pair.

    Raises ModelError for a file that cannot be read, before anything runs, and InfrastructureError at the first one.
    """
    data = [read_model(path) for path in paths]
    harnesses = [Harness(board, replace(options, runtime=runtime)) for runtime in PAIR_RUNTIMES]
    pairs = []
    for path, content in zip(paths, data, strict=True):
        measured = []
        for harness in harnesses:
            try:
                measured.append(harness.measure(content, path.stem))
            except (UsageError, TargetFaultError) as error:
                refused(error)
                break
        if len(measured) == len(harnesses):
            pairs.append(Pair(*measured))
    return pairs


def layer_pairs(pair: Pair) -> Iterator[LayerPair]:
    """Layers in TFLM's order, which is the file's; those of generated code without a partner last."""
    generated, interpreted = (result.measurement.layers for result in pair.results)
    unmatched = {(layer.op, layer.name): layer for layer in generated}
    for layer in interpreted:
        yield LayerPair(unmatched.pop((layer.op, layer.name), None), layer)
    for layer in unmatched.values():
        yield LayerPair(layer, None)


def pairs_json(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """The documents of `measure --json`, two a network, each with `differs_from_other`: inputs, of those checked."""
    return [
        {**result.measurement.to_json(), "differs_from_other": pair.differing_answers}
        for pair in pairs
        for result in pair.results
    ]
