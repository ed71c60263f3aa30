"""Equalising channels leaves the float function as it is, to the bit, and brings an unequal network through int8."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("tensorflow")

from hil.codegen.plan import make_plan
from hil.model.load import parse_model
from munas.arch.graph import Graph, Kind, build_graph
from munas.cost.kernels import KernelVariant
from munas.training import equalise as equalisation
from munas.training.equalise import MAX_SHIFT, channel_ranges, equalised, multipliers
from munas.training.int8_loss import explained, layer_losses
from munas.training.network import infer, infer_all
from munas.training.parameters import Floats, Layer, fold_batch_norm
from munas.training.quantise import int8_logits, to_int8
from tests.networks import every_operator
from tests.training.tiny import branched, trained_like

GRAPHS = (every_operator(), build_graph(branched(), (12, 12, 1), 4))


def images(graph: Graph, count: int = 60) -> Floats:
    return np.random.default_rng(2).random((count, *graph.input_shape), dtype=np.float32)


def unequal(graph: Graph, seed: int = 0) -> list[Layer]:
    """Folded weights whose function is a plain network's and whose channels differ by up to 2^10 all the same."""
    rng, folded = np.random.default_rng(seed), fold_batch_norm(graph, trained_like(graph, seed))
    for index, operator in enumerate(graph.operators[:-1]):
        readers = [i for i, other in enumerate(graph.operators) if index in other.inputs]
        if operator.kind is not Kind.CONV or any(graph.operators[i].kind is not Kind.CONV for i in readers):
            continue
        scale = np.exp2(rng.integers(-5, 6, operator.out_shape[-1])).astype(np.float32)
        folded[index] = {name: values * scale for name, values in folded[index].items()}
        for reader in readers:
            folded[reader]["kernel"] = folded[reader]["kernel"] / scale[:, None]
    return folded


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("seed", range(3))
def test_the_float_function_is_the_same_to_the_bit(graph: Graph, seed: int) -> None:
    folded, inputs = unequal(graph, seed), images(graph)
    found = equalised(graph, folded, channel_ranges(graph, folded, inputs))
    assert any(not np.array_equal(a["kernel"], b["kernel"]) for a, b in zip(folded, found, strict=True) if a)
    before, after = infer(graph, folded, inputs).numpy(), infer(graph, found, inputs).numpy()
    assert np.array_equal(before, after)


def test_channels_come_nearer_to_each_other() -> None:
    graph = GRAPHS[1]
    folded, inputs = unequal(graph), images(graph)
    ranges = channel_ranges(graph, folded, inputs)
    found = equalised(graph, folded, ranges)
    changed = channel_ranges(graph, found, inputs)

    def spread(size: NDArray[np.float64]) -> float:
        alive = size[size > 0]
        return float(np.log2(alive).std())

    pairs = [(a.sizes, b.sizes) for a, b in zip(ranges, changed, strict=True)]
    assert sum(spread(b) for _, b in pairs) < sum(spread(a) for a, _ in pairs)
    factors = [b[a > 0] / a[a > 0] for a, b in pairs]
    assert all(bool((np.log2(factor) == np.rint(np.log2(factor))).all()) for factor in factors)
    assert max(float(np.abs(np.log2(factor)).max()) for factor in factors) <= MAX_SHIFT


def test_an_unequal_network_survives_int8() -> None:
    """Its outputs are nearer to the float network's than those of a conversion without equalisation."""
    graph = GRAPHS[1]
    folded, inputs = unequal(graph), images(graph)
    weights = _as_weights(graph, folded)
    exact = infer_all(graph, folded, inputs)[-1].numpy()
    errors = []
    for equalise in (False, True):
        tflite = to_int8(graph, weights, inputs, equalise=equalise)
        outputs = int8_logits(tflite, inputs).astype(np.float64)
        slope = np.polyfit(outputs.reshape(-1), exact.reshape(-1), 1)
        errors.append(float(np.sqrt(np.mean((np.polyval(slope, outputs) - exact) ** 2))))
    assert errors[1] < 0.7 * errors[0]


def nearly_dead(graph: Graph, seed: int) -> list[Layer]:
    """Folded weights where every second channel behind a ReLU is above zero on few inputs, and hardly so."""
    folded, inputs = fold_batch_norm(graph, trained_like(graph, seed)), images(graph)
    for index, operator in enumerate(graph.operators):
        if operator.kind in (Kind.CONV, Kind.DEPTHWISE) and operator.activation == "relu":
            high = channel_ranges(graph, folded, inputs)[index].high
            down = np.where(np.arange(high.size) % 2, 0.0, 0.995 * high).astype(np.float32)
            folded[index] = {**folded[index], "bias": folded[index]["bias"] - down}
    return folded


def slow_layers(graph: Graph, folded: list[Layer], inputs: Floats) -> set[int]:
    """Convolutions with a multiplier that the fast kernels do not have."""
    ranges = channel_ranges(graph, folded, inputs)
    found = multipliers(graph, folded, ranges, [np.zeros(item.low.size) for item in ranges])
    return {index for index, values in found.items() if (values >= 0.5).any()}


def test_equalising_leaves_the_kernels_that_the_search_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, unlimited = GRAPHS[1], 0
    inputs = images(graph)
    for seed in range(4):
        folded = nearly_dead(graph, seed)
        ranges = channel_ranges(graph, folded, inputs)
        with monkeypatch.context() as patch:
            patch.setattr(equalisation, "_kept_fast", lambda *arguments: arguments[-1])
            unlimited += len(slow_layers(graph, equalised(graph, folded, ranges), inputs))
        found = equalised(graph, folded, ranges)
        assert not slow_layers(graph, found, inputs)
        assert np.array_equal(infer(graph, folded, inputs).numpy(), infer(graph, found, inputs).numpy())
        tflite = to_int8(graph, _as_weights(graph, folded), inputs)
        plan = make_plan(parse_model(tflite, "m"), keep_constant_channels=True)
        assert {step.variant for step in plan.steps}.isdisjoint({KernelVariant.CONV_ANY, KernelVariant.DW_ANY})
    assert unlimited, "the examples show nothing"


def _as_weights(graph: Graph, folded: list[Layer]) -> list[Layer]:
    """Weights with batch norm whose folding gives `folded`."""
    result = []
    for operator, layer in zip(graph.operators, folded, strict=True):
        whole = dict(layer)
        if operator.batch_norm:
            channels = operator.out_shape[-1]
            ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
            whole |= {"gamma": ones, "beta": zeros, "mean": zeros, "variance": np.full(channels, 0.999, np.float32)}
        result.append(whole)
    return result


def test_a_loss_is_explained_by_the_layer_that_causes_it() -> None:
    graph = GRAPHS[1]
    folded, inputs = fold_batch_norm(graph, trained_like(graph, 1)), images(graph, 400)
    culprit = 1
    operator = graph.operators[culprit]
    assert operator.inputs == (0,)
    broken = [dict(layer) for layer in folded]
    for name in ("kernel", "bias"):  # a channel that is always zero ...
        broken[0][name] = broken[0][name] * (np.arange(broken[0][name].shape[-1]) > 0).astype(np.float32)
    kernel = broken[culprit]["kernel"].copy()
    kernel[:, :, 0] = 3000.0 * np.abs(kernel).max()  # ... and whose weights leave no steps for the others
    broken[culprit]["kernel"] = kernel
    labels = np.argmax(infer(graph, broken, inputs).numpy(), axis=1)
    losses = layer_losses(graph, broken, inputs[:60], inputs, labels.astype(np.int64))
    assert losses[0].layer == operator.name
    assert losses[0].loss > 0.01
    assert explained(losses).startswith(f"{operator.name} alone costs ")
