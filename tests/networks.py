"""Networks for tests: small, seeded, in the µNAS space."""

from __future__ import annotations

import functools

import numpy as np

from munas.arch.graph import Graph, build_graph
from munas.arch.space import parse_architecture, random_cnn
from munas.tflite.flatbuffer import write_tflite

SMALL_MACS = 300_000
SMALL_WEIGHTS = 12_000


@functools.cache
def small_network(seed: int, *, dense_per_channel: bool = True) -> bytes:
    """A random int8 .tflite that fits 64 KB/64 KB with room to spare and runs in milliseconds."""
    rng = np.random.default_rng([7, seed])
    while True:
        graph = build_graph(random_cnn(rng), (16, 16, 2), 10)
        if graph.macs < SMALL_MACS and graph.model_size < SMALL_WEIGHTS:
            return write_tflite(graph, seed, dense_per_channel=dense_per_channel)


def every_operator() -> Graph:
    """One network that uses every operator of the µNAS space, on every kernel path that it can take."""

    def conv(kind: str, filters: int, **more: object) -> dict[str, object]:
        layer = {"type": kind, "filters": filters, "has_bn": True, "has_relu": True, "has_prepool": False}
        if kind != "1x1Conv2D":
            layer |= {"ker_size": 3, "2x_stride": False}
        if kind == "DWConv2D":
            del layer["filters"]
        return {**layer, **more}

    blocks = [
        {"is_branch": False, "layers": [conv("Conv2D", 8)]},
        {"is_branch": True, "layers": [conv("1x1Conv2D", 8), conv("DWConv2D", 0, ker_size=5)]},
        {"is_branch": True, "layers": [conv("1x1Conv2D", 8)]},
        {"is_branch": False, "layers": [conv("DWConv2D", 0), conv("1x1Conv2D", 12, has_prepool=True)]},
    ]
    document = {
        "conv_blocks": blocks,
        "pooling": {"type": "avg", "pool_size": 2},
        "dense_blocks": [{"units": 16, "activation": "relu"}],
    }
    return build_graph(parse_architecture(document), (20, 20, 3), 10)
