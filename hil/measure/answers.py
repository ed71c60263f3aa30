"""The inputs that a network is verified with, and what it must answer to each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as numbers

import numpy as np

from hil.codegen.plan import Port
from hil.errors import ModelError, ReferenceDied
from hil.measure.measurement import Outputs
from hil.measure.rounding import RULE, TOLERANCE, largest_error
from hil.patterns import FloatPattern, Pattern, PatternKind, float_patterns, verification_patterns
from hil.runtimes.base import Expected

_FEW = 64  # of the 256 values of one byte


@dataclass(frozen=True, slots=True)
class Answers:
    """`litert` and `own` (what the runtime's kernels must compute) are parallel to `patterns`, bytes of all outputs.

    `undefined` are the extreme inputs without an answer, by name; random inputs have taken their place.
    """

    patterns: tuple[Pattern | FloatPattern, ...]
    litert: tuple[bytes, ...]
    own: tuple[bytes, ...]
    undefined: tuple[str, ...]

    def compared(self, answers: Sequence[bytes], outputs: Sequence[Port]) -> Outputs:
        """On how many inputs the device answered otherwise; `outputs` are the network's."""
        if any(port.is_float for port in outputs):
            return self._rounded(answers, [port.size for port in outputs])
        mismatched, litert = _differing(answers, self.own), _differing(answers, self.litert)
        return Outputs(len(answers), mismatched, litert, self.undefined)

    def _rounded(self, answers: Sequence[bytes], sizes: Sequence[int]) -> Outputs:
        errors = [largest_error(answer, wanted, sizes) for answer, wanted in zip(answers, self.litert, strict=True)]
        wrong = sum(error > TOLERANCE for error in errors)
        seen = max((error for error in errors if math.isfinite(error)), default=0.0)
        return Outputs(len(answers), wrong, wrong, self.undefined, RULE, seen)


def _differing(answers: Sequence[bytes], wanted: Sequence[bytes]) -> int:
    return sum(answer != other for answer, other in zip(answers, wanted, strict=True))


def reference_answers(litert: Expected, own: Expected | None, port: Port, count: int, seed: int) -> Answers:
    """Answers to `count` inputs, random and extreme; `own` is None where the runtime is held against LiteRT.

    LiteRT's kernels abort on inputs that some networks never see. An extreme one is then replaced; for random ones
    there is no excuse. Of one byte several extremes are the same: random ones take their place as well, so that time,
    which depends on the data a little, is not that of one input thrice. Raises ModelError.
    """
    if port.is_float:
        return _float_answers(litert, port, count, seed)
    chosen: list[Pattern] = []
    answers: list[tuple[bytes, bytes]] = []
    undefined: list[str] = []
    seen: set[bytes] = set()
    spare = _random_patterns(seed + count)
    for pattern in verification_patterns(count, seed):
        while port.size == 1 and count <= _FEW and pattern.data(1, port.zero_point) in seen:
            pattern = next(spare)
        seen.add(pattern.data(1, port.zero_point))
        try:
            answer = _both(litert, own, pattern, port)
        except ReferenceDied as error:
            if pattern.kind is PatternKind.RANDOM:
                raise ModelError(f"{error}; it did so on a random input, so that nothing can be verified") from error
            undefined.append(pattern.kind.name.lower().replace("_", " "))
            pattern = next(spare)
            answer = _both(litert, own, pattern, port)
        chosen.append(pattern)
        answers.append(answer)
    first, second = zip(*answers, strict=True)
    return Answers(tuple(chosen), first, second, tuple(undefined))


def _float_answers(litert: Expected, port: Port, count: int, seed: int) -> Answers:
    patterns = float_patterns(count, seed)
    answers = tuple(_both(litert, None, pattern, port)[0] for pattern in patterns)
    return Answers(patterns, answers, answers, ())


def _random_patterns(seed: int) -> Iterator[Pattern]:
    return (Pattern(PatternKind.RANDOM, number & 0xFFFFFFFF) for number in numbers(seed))


def _both(litert: Expected, own: Expected | None, pattern: Pattern | FloatPattern, port: Port) -> tuple[bytes, bytes]:
    values = np.frombuffer(pattern.data(port.size, port.zero_point), np.int8)
    answer = litert.run([values])[0].tobytes()
    return answer, answer if own is None else own.run([values])[0].tobytes()
