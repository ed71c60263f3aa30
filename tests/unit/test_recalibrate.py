"""What a network of a search adds to the fit of memory, by runtime."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hil.measure.measurement import Build, Identity, Latency, LayerTime, Measurement, Memory, Outputs
from hil.runtimes.tflm.network import make_network
from hil.search.recalibrate import Verified
from munas.arch.space import Architecture, Block, DenseLayer, Layer, LayerType
from munas.cost.kernels import KernelVariant
from tests.networks import small_network

IDENTITY = Identity(
    "mps2-an386", "cortex-m4", "cmsis-nn", "qemu", True, "icount-instructions", 25_000_000, "gcc", "-O2", "4.0.0", "f"
)
ARCHITECTURE = Architecture((Block((Layer(LayerType.CONV, 3, 4, 1),)),), None, (DenseLayer(4),))


@pytest.mark.parametrize("runtime", ["cmsis-nn", "tflm"])
def test_constants_are_the_file_where_it_is_kept_as_it_is(runtime: str) -> None:
    works = tuple(step.work for step in make_network(small_network(1), "net").steps)
    measurement = Measurement(
        model="net",
        sha256="0" * 64,
        identity=replace(IDENTITY, runtime=runtime),
        latency=Latency("instructions", (200, 210)),
        layers=(LayerTime(0, "CONV_2D", "a", 100.0),),
        memory=Memory(16, 16, 300, 2048, 900, 3000, 1234, 8000, 9234),
        outputs=Outputs(8, 0),
        build=Build("id", "sha", "gcc", "-O2", "4.0.0"),
    )
    image = Verified(ARCHITECTURE, b"", measurement, works, {"f": 8}).image((8, 8, 1), 10)
    names = {path.value.partition("-")[0] for path in image.paths}
    if runtime == "tflm":
        assert names == {"tflm"}
        assert (image.constants, image.code) == (1234, 8000)
    else:
        assert image.constants != 1234
        assert KernelVariant.FC_PER_CHANNEL in image.paths
