"""The inputs that a network is verified with, and what it must answer to each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count as numbers

import numpy as np

from hil.codegen.plan import Port
from hil.errors import ModelError, ReferenceDied
from hil.measure.measurement import Outputs
from hil.patterns import Pattern, PatternKind, verification_patterns
from hil.runtimes.base import Expected


@dataclass(frozen=True, slots=True)
class Answers:
    """`litert` and `own` (what the runtime's kernels must compute) are parallel to `patterns`, bytes of int8 outputs.

    `undefined` are the extreme inputs without an answer, by name; random inputs have taken their place.
    """

    patterns: tuple[Pattern, ...]
    litert: tuple[bytes, ...]
    own: tuple[bytes, ...]
    undefined: tuple[str, ...]

    def compared(self, answers: Sequence[bytes]) -> Outputs:
        """On how many inputs the device answered otherwise."""
        mismatched, litert = _differing(answers, self.own), _differing(answers, self.litert)
        return Outputs(len(answers), mismatched, litert, self.undefined)


def _differing(answers: Sequence[bytes], wanted: Sequence[bytes]) -> int:
    return sum(answer != other for answer, other in zip(answers, wanted, strict=True))


def reference_answers(litert: Expected, own: Expected | None, port: Port, count: int, seed: int) -> Answers:
    """Answers to `count` inputs, random and extreme; `own` is None where the runtime computes what LiteRT does.

    LiteRT's kernels abort on inputs that some networks never see. An extreme one is then replaced; for random ones
    there is no excuse. Raises ModelError.
    """
    chosen: list[Pattern] = []
    answers: list[tuple[bytes, bytes]] = []
    undefined: list[str] = []
    spare = _random_patterns(seed + count)
    for pattern in verification_patterns(count, seed):
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


def _random_patterns(seed: int) -> Iterator[Pattern]:
    return (Pattern(PatternKind.RANDOM, number & 0xFFFFFFFF) for number in numbers(seed))


def _both(litert: Expected, own: Expected | None, pattern: Pattern, port: Port) -> tuple[bytes, bytes]:
    values = np.frombuffer(pattern.data(port.size, port.zero_point), np.int8)
    answer = litert.run([values])[0].tobytes()
    return answer, answer if own is None else own.run([values])[0].tobytes()
