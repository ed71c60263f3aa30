"""What a sampled network is predicted to need before anything is built, by runtime: its work, its constants, its arena.

Generated code is predicted from the architecture. TFLM keeps the whole .tflite in flash, and its arena depends on every
tensor in it, so its prediction is made from the file, which is written from the architecture in milliseconds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hil.boards.sizes import KIB
from hil.calibration.sample import Limits, Sample
from hil.runtimes.tflm.network import make_network
from munas.cost.estimate import arena_bytes, table_bytes, weights_bytes, works_of
from munas.cost.kernels import Work
from munas.cost.optimise import Optimise
from munas.tflite.flatbuffer import write_tflite


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes. `constants` is flash that is not code."""

    works: tuple[Work, ...]
    constants: int
    arena: int


@dataclass(frozen=True, slots=True)
class Reserve:
    """Bytes kept free for what a network's weights and activations leave out, before there is a calibration."""

    flash: int
    sram: int


RESERVES: Mapping[str, Reserve] = {
    "cmsis-nn": Reserve(flash=17 * KIB, sram=4 * KIB),  # code is 16 KB at most; static RAM and stack
    "tflm": Reserve(flash=108 * KIB, sram=48 * KIB),  # code, shapes and scales; interpreter, and a looser arena
}
CODE: Mapping[str, Reserve] = {"cmsis-nn": RESERVES["cmsis-nn"], "tflm": Reserve(flash=92 * KIB, sram=5 * KIB)}
"""What a network needs besides its constants and its arena, before there is a calibration: code, static RAM, stack."""
SPEED_CODE = 2 * KIB
"""What `--optimise speed`, which no limit holds, may need beyond: 17,936 bytes by the table of kernels."""
_SHARES = (0.7, 0.5, 0.35, 0.25)
CODE_ALIGNMENT: Mapping[str, int] = {"cmsis-nn": 1, "tflm": 16}
"""What weights behind the code begin at a multiple of: a flatbuffer is aligned to 16 (firmware/link.ld)."""


def kept_free(reserves: Mapping[str, Reserve], runtime: str, optimise: str) -> Reserve:
    """Of `reserves` that of a runtime, whose kernels are chosen by `optimise`."""
    reserve = reserves[runtime]
    more = SPEED_CODE if runtime == "cmsis-nn" and optimise == Optimise.SPEED else 0
    return Reserve(reserve.flash + more, reserve.sram)


@functools.lru_cache(maxsize=4)
def tflite_of(sample: Sample) -> bytes:
    """The int8 .tflite of a sample. Kept for a moment: what is measured was looked at before (`fitting`)."""
    return write_tflite(sample.graph(), sample.weight_seed, dense_per_channel=sample.dense_per_channel)


def fitting(draw: Callable[[int, int, Limits], Sample], seed: int, index: int, limits: Limits, runtime: str) -> Sample:
    """Sample `index` of a seed. Limits leave a usual share for what is not weights and activations: where TFLM needs
    more, as its file and its arena show, the sample is drawn within narrower ones.
    """
    sample = draw(seed, index, limits)
    if runtime != "tflm":
        return sample
    reserve, code = RESERVES[runtime], CODE[runtime]
    flash, sram = (limits.constants_bytes + reserve.flash - code.flash, limits.arena_bytes + reserve.sram - code.sram)
    for share in _SHARES:
        needs = forecast(sample, runtime)
        if needs.constants <= flash and needs.arena <= sram:
            break
        least = Limits(max(4096, int(limits.constants_bytes * share)), max(8192, int(limits.arena_bytes * share)))
        sample = draw(seed, index, least)
    return sample


def forecast(sample: Sample, runtime: str, optimise: str = Optimise.BALANCED) -> Forecast:
    """The forecast of `sample` for the runtime of that name, whose kernels are chosen by `optimise`."""
    return _FORECASTERS[runtime](sample, Optimise(optimise))


def _generated(sample: Sample, optimise: Optimise) -> Forecast:
    graph = sample.graph()
    works = works_of(graph, dense_per_channel=sample.dense_per_channel, optimise=optimise)
    return Forecast(works, weights_bytes(works) + table_bytes(works), arena_bytes(graph, works))


def _interpreted(sample: Sample, optimise: Optimise) -> Forecast:
    network = make_network(tflite_of(sample), sample.name)
    return Forecast(tuple(step.work for step in network.steps), network.weights_bytes, network.arena_bytes)


_FORECASTERS: Mapping[str, Callable[[Sample, Optimise], Forecast]] = {"cmsis-nn": _generated, "tflm": _interpreted}
