"""Folding, order, arena, and that the plan of a .tflite is what µNAS predicts from the graph."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hil.codegen.layer import Arena
from hil.codegen.plan import Buffer, Plan, make_plan
from hil.errors import ModelError
from hil.model.load import parse_model
from hil.model.network import OpKind
from munas.arch.footprint import problem_of
from munas.arch.graph import Graph, build_graph
from munas.arch.space import random_cnn, random_mlp
from munas.cost import kernels
from munas.cost.estimate import table_bytes, weights_bytes, works_of
from munas.cost.gathers import Window
from munas.cost.kernels import KernelVariant
from munas.cost.operators import scratch_bytes
from munas.memory.layout import plan_memory
from munas.tflite.file import Code, Options, TfliteFile
from munas.tflite.flatbuffer import write_tflite
from tests.firmware.operators import Network
from tests.networks import every_operator


def plan_of(network: Network, output: int) -> Plan:
    return make_plan(parse_model(network.finish(output), "test"))


def random_graph(seed: int) -> Graph:
    """A graph of the search space whose .tflite is written in milliseconds."""
    rng = np.random.default_rng(seed)
    while True:
        if rng.random() < 0.1:
            return build_graph(random_mlp(rng), (10, 10, 1), 10)
        shape = [(28, 28, 1), (32, 32, 3), (49, 40, 1), (17, 9, 2)][rng.integers(4)]
        graph = build_graph(random_cnn(rng), shape, int(rng.integers(2, 12)))
        if graph.macs < 3_000_000 and graph.model_size < 60_000:
            return graph


@pytest.mark.parametrize("seed", range(25))
def test_the_plan_is_what_munas_predicts(seed: int) -> None:
    graph = random_graph(seed)
    plan = make_plan(parse_model(write_tflite(graph, seed), "random"))
    problem = problem_of(graph, count_input=True, align=4, scratch=scratch_bytes)
    _, layout = plan_memory(problem)
    assert plan.arena_bytes == layout.arena
    assert plan.lower_bound_bytes == layout.lower_bound
    assert plan.macs == graph.macs
    works = works_of(graph)
    # How often a dense layer's outputs come near a half is only known with its scales.
    planned, predicted = ([replace(work, unsure=0) for work in its] for its in ((s.work for s in plan.steps), works))
    assert sorted(map(repr, planned)) == sorted(map(repr, predicted))
    assert (plan.weights_bytes, plan.table_bytes) == (weights_bytes(works), table_bytes(works))


@pytest.mark.parametrize("seed", range(10))
def test_nothing_that_is_live_overlaps(seed: int) -> None:
    plan = make_plan(parse_model(write_tflite(random_graph(seed), seed), "random"))
    top = 0
    for index, one in enumerate(plan.buffers):
        assert one.offset % 4 == 0
        top = max(top, one.offset + one.size)
        for other in plan.buffers[:index]:
            assert not _meet(one, other) or _taken_over(plan, one, other), (one, other)
    assert top == plan.arena_bytes
    assert plan.lower_bound_bytes <= plan.arena_bytes


def _meet(one: Buffer, other: Buffer) -> bool:
    """Whether both are in use at some step and share a byte."""
    in_time = one.first <= other.last and other.first <= one.last
    return in_time and one.offset < other.offset + other.size and other.offset < one.offset + one.size


def _taken_over(plan: Plan, one: Buffer, other: Buffer) -> bool:
    """Whether the step that writes the later one does so in place of the other, which ends there."""
    later, earlier = (one, other) if one.first >= other.first else (other, one)
    step = plan.steps[later.first]
    return (
        step.in_place and step.output == later.label and earlier.label in step.inputs and earlier.last == later.first
        and earlier.offset == later.offset and earlier.size == later.size
    )  # fmt: skip


def test_order_respects_dependencies() -> None:
    plan = make_plan(parse_model(write_tflite(every_operator(), 1), "all"))
    done = {plan.input.storage}
    for step in plan.steps:
        assert set(step.inputs) <= done
        done.add(step.output)
    assert plan.output.storage in done
    assert [step.index for step in plan.steps] == list(range(len(plan.steps)))


def test_reshape_costs_nothing() -> None:
    network = Network(1, (4, 4, 3))
    plan = plan_of(network, network.dense(network.reshape(network.input, (48,)), 5))
    assert [step.kind for step in plan.steps] == [OpKind.FULLY_CONNECTED]
    assert plan.steps[0].inputs == (plan.input.storage,)
    assert plan.arena_bytes == 48 + 8


def test_a_pad_in_front_of_an_add_disappears() -> None:
    network = Network(2, (6, 6, 4))
    small = network.pool(network.input, (2, 2), (2, 2), average=False)
    plan = plan_of(network, network.add(network.pad(small, ((0, 3), (0, 3), (0, 0))), network.input))
    assert [step.variant for step in plan.steps] == [KernelVariant.MAX_POOL, KernelVariant.ADD_PADDED]
    assert plan.steps[1].in_place, "the sum goes where the input is"
    assert plan.arena_bytes == 6 * 6 * 4 + 3 * 3 * 4


@pytest.mark.parametrize("amounts", [((1, 0), (0, 0), (0, 0)), ((0, 0), (1, 2), (0, 0)), ((0, 0), (0, 0), (1, 0))])
def test_a_pad_on_the_other_side_stays(amounts: tuple[tuple[int, int], ...]) -> None:
    network = Network(3, (4, 4, 4))
    grown = network.pad(network.input, amounts)
    other = network.pad(network.requantize(network.input), amounts)
    plan = plan_of(network, network.add(grown, other))
    assert [step.variant for step in plan.steps].count(KernelVariant.PAD) == 2


def test_a_pad_that_others_read_stays() -> None:
    network = Network(4, (4, 4, 4))
    grown = network.pad(network.input, ((0, 2), (0, 2), (0, 0)))
    plan = plan_of(network, network.add(grown, network.requantize(grown)))
    assert KernelVariant.PAD in plan.paths


@pytest.mark.parametrize(
    ("amount", "path"),
    [
        ((1, 1), KernelVariant.DW_3X3),
        ((2, 0), KernelVariant.DW_3X3),
        ((0, 2), KernelVariant.DW_3X3),
        ((3, 0), KernelVariant.PAD),
        ((0, 3), KernelVariant.PAD),
    ],
)
def test_a_convolution_absorbs_padding_up_to_its_reach(amount: tuple[int, int], path: KernelVariant) -> None:
    network = Network(5, (6, 6, 4))
    padded = network.pad(network.input, (amount, (0, 0), (0, 0)))
    plan = plan_of(network, network.depthwise(padded, 1, (3, 3)))
    assert plan.steps[0].variant is path
    assert len(plan.steps) == (2 if path is KernelVariant.PAD else 1)


def test_what_nobody_reads_does_not_run() -> None:
    file = TfliteFile()
    source = file.activation("x", (1, 8), 0.1)
    used, unused = file.activation("y", (1, 8), 0.1), file.activation("z", (1, 8), 0.1)
    file.operator(Code.RELU, [source], used)
    file.operator(Code.RELU, [source], unused)
    plan = make_plan(parse_model(file.finish([source], [used]), "dead"))
    assert [step.name for step in plan.steps] == ["y"]


def test_several_inputs_and_outputs_are_one_buffer_each() -> None:
    file = TfliteFile()
    inputs = [file.activation(f"x{size}", (1, size), 0.1) for size in (5, 8)]
    outputs = [file.activation(f"y{size}", (1, size), 0.1) for size in (5, 8)]
    for pair in zip(inputs, outputs, strict=True):
        file.operator(Code.RELU, [pair[0]], pair[1])
    plan = make_plan(parse_model(file.finish(inputs, [*outputs, inputs[0]]), "two"))
    assert [step.variant for step in plan.steps].count(KernelVariant.CONCAT) == 1
    assert plan.steps[-1].variant is KernelVariant.CONCAT
    assert [port.offset - plan.input.offset for port in plan.inputs] == [0, 8]  # each begins at a word
    assert (plan.input.size, plan.input.storage) == (16, plan.inputs[1].storage)
    assert [port.offset - plan.output.offset for port in plan.outputs] == [0, 5, 13]
    assert plan.output.size == 18
    assert not any(step.in_place for step in plan.steps), "an input of several is not overwritten"


def test_a_network_that_only_renames_its_input_copies_it() -> None:
    network = Network(6, (2, 2, 2))
    plan = plan_of(network, network.reshape(network.input, (8,)))
    assert [step.variant for step in plan.steps] == [KernelVariant.CONCAT]


def test_parts_that_lie_together_need_no_copy() -> None:
    network = Network(9, (3, 2, 8))
    parts = [network.activation((1, 2, 8), *network.scales[network.input]) for _ in range(3)]
    axis = network.file.constant("axis", np.array(1, np.int32))
    network.file.operator(Code.SPLIT, [axis, network.input], parts, Options(35, ((0, "Int32", 3),)))
    plan = plan_of(network, network.add(parts[2], parts[1]))
    assert [step.variant for step in plan.steps] == [KernelVariant.ADD]
    (add,) = plan.steps
    assert dict(add.layer.fields)["first"] == Arena(add.inputs[0], 32)
    assert dict(add.layer.fields)["second"] == Arena(add.inputs[0], 16)
    assert not add.in_place


def test_a_limit_of_the_kernels_names_the_operator() -> None:
    network = Network(7, (1, 300, 1))
    with pytest.raises(ModelError, match=r"operator 0 \(CONV_2D\): kernel size of 300"):
        plan_of(network, network.conv(network.input, 2, (1, 300)))


def test_softmax_and_friends_run_in_place() -> None:
    network = Network(8, (10,))
    plan = plan_of(network, network.softmax(network.requantize(network.input)))
    assert all(step.in_place for step in plan.steps)
    assert plan.arena_bytes == 12


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_window_positions_are_counted_exactly(seed: int, same: bool) -> None:
    rng = np.random.default_rng(seed)
    size, kernel, stride = (int(rng.integers(low, high)) for low, high in ((5, 12), (1, 6), (1, 4)))
    network = Network(seed, (size, size + 1, 3))
    plan = plan_of(network, network.pool(network.input, (kernel, kernel), (stride, stride), average=True, same=same))
    top, _, left, _ = _padding(size, kernel, stride, same), 0, _padding(size + 1, kernel, stride, same), 0
    counted = sum(
        0 <= y * stride - top + i < size and 0 <= x * stride - left + j < size + 1
        for y in range(_outputs(size, kernel, stride, same)) for x in range(_outputs(size + 1, kernel, stride, same))
        for i in range(kernel) for j in range(kernel)
    )  # fmt: skip
    assert plan.steps[0].work.inputs == counted * 3


def _outputs(size: int, kernel: int, stride: int, same: bool) -> int:
    return math.ceil(size / stride) if same else (size - kernel) // stride + 1


def _padding(size: int, kernel: int, stride: int, same: bool) -> int:
    return max(0, (_outputs(size, kernel, stride, same) - 1) * stride + kernel - size) // 2 if same else 0


def test_paths_by_geometry() -> None:
    def depthwise(multiplier: int, **window: object) -> KernelVariant:
        return kernels.depthwise_variant(Window((3, 3), **window), multiplier, 8, 9)  # type: ignore[arg-type]

    assert depthwise(1) is KernelVariant.DW_3X3
    assert depthwise(1, padding=(1, 1, 1, 1)) is KernelVariant.DW_3X3
    assert depthwise(1, padding=(0, 2, 0, 0)) is KernelVariant.DW_3X3
    assert depthwise(1, dilation=(2, 2)) is KernelVariant.DW
    assert depthwise(1, stride=(1, 2)) is KernelVariant.DW
    assert kernels.depthwise_variant(Window((3, 3)), 1, 3, 9) is KernelVariant.DW
    assert kernels.depthwise_variant(Window((3, 3)), 1, 8, kernels.PLANE_PIXELS - 1) is KernelVariant.DW
    assert kernels.depthwise_variant(Window((9, 7)), 1, 8, 9) is KernelVariant.DW
    assert kernels.depthwise_variant(Window((1, 8)), 1, 8, 9) is KernelVariant.DW_GENERIC
    assert kernels.depthwise_variant(Window((30, 7)), 1, 8, 9) is KernelVariant.DW_GENERIC
    assert depthwise(8) is KernelVariant.DW_MULT4
    assert depthwise(2) is KernelVariant.DW_GENERIC
    assert kernels.conv_variant(Window((1, 1))) is KernelVariant.CONV_1X1
    assert kernels.conv_variant(Window((1, 1), (2, 1))) is KernelVariant.CONV_1X1
    assert kernels.conv_variant(Window((1, 1), padding=(0, 1, 0, 0))) is KernelVariant.CONV_IM2COL


def test_merging_axes() -> None:
    assert kernels.merge_axes([(3, 4, 5), (3, 4, 5)]) == [(1, 1, 60), (1, 1, 60)]
    assert kernels.merge_axes([(3, 2, 5), (3, 4, 5)]) == [(1, 3, 10), (1, 3, 20)]
    assert kernels.merge_axes([(3, 4, 4), (3, 4, 5)]) == [(3, 4, 4), (3, 4, 5)]
    assert kernels.merge_axes([(1, 2, 40000), (1, 3, 40000)]) == [(1, 2, 40000), (1, 3, 40000)]
