"""Operator graphs against the golden figures of the authors' code and of Keras."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from munas.arch.footprint import describe, peak_memory, problem_of
from munas.arch.graph import (
    INPUT,
    Graph,
    Kind,
    Mode,
    Operator,
    build_graph,
    graph_from_layers,
    graph_of_entry,
)
from munas.arch.space import (
    Architecture,
    ArchitectureError,
    Block,
    DenseLayer,
    Layer,
    LayerType,
    MlpArchitecture,
    Pooling,
    PoolType,
    parse_architecture,
    random_cnn,
    random_mlp,
)
from munas.memory.peak import best_schedule
from munas.memory.problem import order_peak

KERAS_KINDS = {
    "Conv2D": Kind.CONV,
    "DepthwiseConv2D": Kind.DEPTHWISE,
    "Dense": Kind.DENSE,
    "MaxPooling2D": Kind.POOL,
    "AveragePooling2D": Kind.POOL,
}


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((shared / "golden" / "munas.json").read_text())
    return loaded


class TestGolden:
    def test_reference_figures(self, golden: dict[str, Any]) -> None:
        for entry in golden["cnn"] + golden["mlp"] + golden["graphs"]:
            graph = graph_of_entry(entry, "paper")
            description = describe(graph)
            facts = entry["facts"]
            assert description["operators"] == entry["layers"], entry["id"]
            assert [list(layer) for layer in description["operators"]] == [list(layer) for layer in entry["layers"]]
            assert description["macs"] == facts["macs"]
            assert description["model_size"] == facts["model_size"]
            assert description["peak_memory"] == facts["pmu_excl_input"]
            assert description["peak_memory_with_input"] == facts["pmu_incl_input"]
            assert sum(op.loads + op.macs for op in graph.operators) == facts["latency_w_mem1_comp1"]

    def test_what_building_does_to_the_filters_of_a_branch(self, golden: dict[str, Any]) -> None:
        for entry in golden["cnn"]:
            after = entry | {"architecture": entry["architecture_after_build"]}
            assert graph_of_entry(entry) == graph_of_entry(after)

    def test_deployed_graph_is_the_keras_model(self, golden: dict[str, Any]) -> None:
        for entry in golden["cnn"]:
            graph, keras = graph_of_entry(entry), entry["keras"]
            costly = [op for op in graph.operators if op.kind in (Kind.CONV, Kind.DEPTHWISE, Kind.DENSE)]
            assert graph.model_size == keras["conv_dense_params"]
            assert sum(op.macs for op in costly) == keras["conv_dense_macs"]
            shapes = Counter((KERAS_KINDS[k], tuple(shape)) for k, shape in keras["shapes"] if k in KERAS_KINDS)
            assert Counter((op.kind, op.out_shape) for op in graph.operators if op.kind is not Kind.ADD) == shapes

    def test_pruned_layers(self, golden: dict[str, Any]) -> None:
        for entry in golden["pruned"]:
            graph = graph_from_layers(entry["layers_pruned"])
            assert describe(graph)["operators"] == entry["layers_pruned"]
            assert graph.macs == entry["facts_pruned"]["macs"]
            assert graph.model_size == entry["facts_pruned"]["model_size"]
            assert peak_memory(graph) == entry["facts_pruned"]["pmu_excl_input"]


def conv(filters: int, kernel: int = 3, stride: int = 1, **attributes: bool) -> Layer:
    return Layer(LayerType.CONV, kernel, filters, stride, **attributes)


def network(*blocks: Block, pooling: Pooling | None = None) -> Architecture:
    return Architecture(blocks, pooling, (DenseLayer(10),))


def shapes(graph: Graph) -> list[tuple[int, ...]]:
    return [op.out_shape for op in graph.operators]


class TestBuilding:
    def test_kernel_is_clipped_to_the_feature_map(self) -> None:
        graph = build_graph(network(Block((conv(4, kernel=7),))), (5, 9, 2), 10)
        assert graph.operators[0].kernel == 5
        assert graph.operators[0].out_shape == (1, 5, 4)
        assert graph.operators[0].macs == 5 * 4 * 5 * 5 * 2
        assert graph.operators[0].weight_bytes == 5 * 5 * 2 * 4 + 4

    def test_pre_pool_is_clipped_and_left_out_at_one_by_one(self) -> None:
        layers = tuple(Layer(LayerType.POINTWISE, filters=2, pre_pool=True) for _ in range(3))
        graph = build_graph(network(Block(layers)), (2, 4, 1), 10)
        assert [op.pool for op in graph.operators if op.kind is Kind.POOL] == [(2, 2), (1, 2)]
        assert shapes(graph)[:5] == [(1, 2, 1), (1, 2, 2), (1, 1, 2), (1, 1, 2), (1, 1, 2)]

    @pytest.mark.parametrize(("mode", "expected"), [("deployed", (2, 3, 3)), ("paper", (3, 4, 3))])
    def test_pooling_rounds(self, mode: Mode, expected: tuple[int, ...]) -> None:
        architecture = network(Block((Layer(LayerType.POINTWISE, filters=3),)), pooling=Pooling(PoolType.AVG, 2))
        pool = build_graph(architecture, (5, 7, 1), 10, mode).operators[1]
        assert (pool.out_shape, pool.pool, pool.pool_type) == (expected, (2, 2), "avg")

    def test_depthwise_branch_is_followed_by_a_plain_pointwise_convolution(self) -> None:
        depthwise = Layer(LayerType.DEPTHWISE, kernel=3, relu=True, batch_norm=True)
        graph = build_graph(network(Block((conv(4),)), Block((depthwise,), is_branch=True)), (6, 6, 3), 10)
        _, first, second, add, *_ = graph.operators
        assert (first.kind, first.activation, first.batch_norm) == (Kind.DEPTHWISE, "relu", True)
        assert (second.kind, second.kernel, second.activation, second.batch_norm) == (Kind.CONV, 1, None, False)
        assert second.out_shape == add.out_shape == (4, 4, 4)
        assert add.in_place_inputs == (0, 2)

    def test_branches_read_the_input_of_the_main_block_before_them(self) -> None:
        branch = Block((conv(9),), is_branch=True)
        graph = build_graph(network(Block((conv(4),)), branch, Block((conv(5),)), branch, branch), (9, 9, 3), 10)
        inputs = [op.inputs for op in graph.operators if op.kind is Kind.CONV]
        assert inputs == [(INPUT,), (INPUT,), (2,), (2,), (2,)]
        assert [op.out_shape[-1] for op in graph.operators if op.kind is Kind.CONV] == [4, 4, 5, 5, 5]

    def test_merge_pools_what_is_larger_and_pads_what_is_smaller(self) -> None:
        # 8x8 beside 3x4 (ratios 2.67 -> 3 and 2): pooled to 2x4, so that both are padded to 3x4.
        main, branch = Block((Layer(LayerType.POINTWISE, filters=2),)), Block((conv(1, 5, 1),), is_branch=True)
        graph = build_graph(network(main, branch), (8, 8, 1), 10)
        assert shapes(graph)[:4] == [(8, 8, 2), (4, 4, 2), (4, 4, 2), (4, 4, 2)]
        strided = Block((conv(1, 3, 2, pre_pool=False), conv(1, 3, 1)), is_branch=True)
        graph = build_graph(network(main, strided), (12, 7, 1), 10)
        # Branch: 12x7 -> 5x3 -> 3x1, main 12x7 pooled by (4, 7) -> 3x1.
        pool = next(op for op in graph.operators if op.kind is Kind.POOL)
        assert (pool.pool, pool.out_shape) == ((4, 7), (3, 1, 2))

    def test_padded_addition(self) -> None:
        main, branch = Block((conv(2),)), Block((conv(1, 5),), is_branch=True)
        add = build_graph(network(main, branch), (9, 9, 1), 10).operators[2]
        assert add.in_shapes == ((7, 7, 2), (5, 5, 2))
        assert add.out_shape == (7, 7, 2)
        assert add.in_place_inputs == (0,)
        assert add.macs == 98

    def test_sum_of_three(self) -> None:
        branch = Block((conv(1),), is_branch=True)
        architecture = network(Block((conv(4),)), branch, branch)
        chain, at_once = (build_graph(architecture, (9, 9, 1), 10, mode) for mode in get_args(Mode))
        assert [op.inputs for op in chain.operators if op.kind is Kind.ADD] == [(0, 1), (3, 2)]
        assert [op.name for op in chain.operators if op.kind is Kind.ADD] == ["add", "add_1"]
        assert [op.inputs for op in at_once.operators if op.kind is Kind.ADD] == [(0, 1, 2)]
        assert chain.macs == at_once.macs

    @pytest.mark.parametrize(("classes", "logits"), [(2, 1), (3, 3), (10, 10)])
    def test_two_classes_give_one_logit(self, classes: int, logits: int) -> None:
        graph = build_graph(MlpArchitecture((10,)), (4,), classes)
        assert graph.output_shape == (logits,)
        assert [op.activation for op in graph.operators] == ["relu", None]

    @pytest.mark.parametrize("mode", get_args(Mode))
    def test_random_networks_are_well_formed(self, mode: Mode) -> None:
        rng = np.random.Generator(np.random.PCG64(11))
        for index in range(300):
            shape = tuple(int(size) for size in rng.integers(1, 40, 3))
            architecture = random_mlp(rng) if index % 10 == 0 else random_cnn(rng)
            self.check(build_graph(architecture, shape, int(rng.integers(2, 20)), mode))

    @staticmethod
    def check(graph: Graph) -> None:
        known = {INPUT: graph.input_shape}
        for index, op in enumerate(graph.operators):
            assert op.in_shapes == tuple(known[producer] for producer in op.inputs)
            assert min(op.out_shape) >= 1
            known[index] = op.out_shape
            if op.kind is Kind.ADD:
                assert all(np.less_equal(shape, op.out_shape).all() for shape in op.in_shapes)
        assert len({op.name for op in graph.operators}) == len(graph.operators)
        read = {producer for op in graph.operators for producer in op.inputs}
        assert read == {INPUT, *range(len(graph.operators) - 1)}


class TestErrors:
    @pytest.mark.parametrize("shape", [[], [0, 3, 3], [3, 3], [3.0, 3, 3], [True, 3, 3], "333", 5, None])
    def test_input_shape(self, shape: object) -> None:
        with pytest.raises(ArchitectureError, match="input_shape"):
            build_graph(network(Block((conv(4),))), shape, 10)  # type: ignore[arg-type]

    @pytest.mark.parametrize("classes", [0, 1, True, 2.0, "10", None])
    def test_classes(self, classes: object) -> None:
        with pytest.raises(ArchitectureError, match="num_classes"):
            build_graph(MlpArchitecture((10,)), (4,), classes)  # type: ignore[arg-type]

    def test_mode(self) -> None:
        with pytest.raises(ValueError, match="'keras' is not one of deployed, paper"):
            build_graph(MlpArchitecture((10,)), (4,), 10, "keras")  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            (3, "expected an object"),
            ({}, "missing input_shape, num_classes, architecture"),
            ({"layers": 3}, "layers: expected a list"),
            ({"layers": []}, "layers: expected a list"),
            ({"layers": [{}]}, r"layers\[0\]: KeyError: 'inputs'"),
            ({"layers": ["x"]}, r"layers\[0\]: "),
            (
                {"layers": [{"op": "Dense", "name": "a", "inputs": ["b"], "in_shapes": [[1, 2]], "out_shape": [1, 2]}]},
                r"layers\[0\]: KeyError: 'b'",
            ),
            (
                {"layers": [{"op": "FFT", "name": "a", "inputs": ["INPUT"], "in_shapes": [[1, 2]], "out_shape": [1]}]},
                r"layers\[0\]: ValueError",
            ),
        ],
    )
    def test_entries(self, entry: object, message: str) -> None:
        with pytest.raises(ArchitectureError, match=message):
            graph_of_entry(entry)


class TestDescribe:
    def test_order_has_the_stated_peak(self) -> None:
        rng = np.random.Generator(np.random.PCG64(3))
        for _ in range(60):
            graph = build_graph(random_cnn(rng), (32, 32, 3), 10)
            description = describe(graph)
            names = [op.name for op in graph.operators]
            order = [names.index(name) for name in description["order"]]
            assert order_peak(problem_of(graph), order) == description["peak_memory"]
            counted = problem_of(graph, count_input=True)
            assert description["peak_memory_with_input"] == best_schedule(counted).peak <= order_peak(counted, order)

    def test_json(self) -> None:
        description = describe(build_graph(MlpArchitecture((10,)), (4, 4, 1), 3))
        assert json.loads(json.dumps(description)) == description
        assert list(description) == [
            "macs",
            "model_size",
            "peak_memory",
            "peak_memory_with_input",
            "order",
            "operators",
        ]
        assert description["macs"] == 160 + 30
        assert description["model_size"] == 170 + 33
        assert (description["peak_memory"], description["peak_memory_with_input"]) == (13, 26)

    def test_operators_can_be_read_back(self) -> None:
        graph = build_graph(random_cnn(np.random.Generator(np.random.PCG64(8))), (49, 40, 1), 12, "paper")
        assert graph_from_layers(describe(graph)["operators"]) == graph


def test_operator_is_immutable() -> None:
    op = Operator(Kind.DENSE, "dense", (INPUT,), ((4,),), (3,))
    assert (op.macs, op.weight_bytes, op.loads) == (12, 15, 27)
    with pytest.raises(AttributeError):
        op.macs = 0  # type: ignore[misc]


def test_parse_then_build_accepts_golden_entries(golden: dict[str, Any]) -> None:
    entry = golden["mlp"][0]
    direct = build_graph(parse_architecture(entry["architecture"]), entry["input_shape"], entry["num_classes"])
    assert graph_of_entry(entry) == direct
