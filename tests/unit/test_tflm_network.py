"""A network as TFLM gets it: the int8 core as a file of its own, its text in C and C++, and what is refused."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest

from hil.errors import ModelError
from hil.model.load import parse_model
from hil.model.network import OpKind
from hil.model.reference import Reference
from hil.model.tflite.container import read_container
from hil.runtimes.tflm.extract import core_of, extract
from hil.runtimes.tflm.network import make_network
from hil.runtimes.tflm.project import model_struct, texts
from hil.runtimes.tflm.work import converted_work_of
from munas.cost.interpreted import INTERPRETED
from munas.cost.kernels import KernelVariant
from munas.tflite.file import Code, Element, concat_options
from tests import tflite_samples
from tests.networks import small_network
from tests.tflite_samples import Chain
from tests.tflm import every_operator


def test_a_network_with_int8_ports_is_given_to_tflm_as_it_is() -> None:
    data = small_network(1)
    assert make_network(data, "net").flatbuffer is data


@pytest.mark.parametrize("edge", [Element.FLOAT32, Element.UINT8])
def test_edges_are_cut_off_and_the_core_computes_the_same(edge: Element) -> None:
    whole = tflite_samples.every_operator(edge)
    model = parse_model(whole, "net")
    core = core_of(whole, model)
    cut = parse_model(core, "net")
    assert [op.kind for op in cut.ops] == [op.kind for op in model.ops]
    assert len(read_container(core).tensors) == len(read_container(whole).tensors) - 2
    values = np.random.default_rng(1).integers(-128, 128, (1, 12, 10, 2), np.int8)
    expected, found = (Reference(*pair).run([values])[0] for pair in ((whole, model), (core, cut)))
    assert found.tobytes() == expected.tobytes()


def test_the_parts_of_a_network_compute_what_it_computes() -> None:
    data = every_operator()
    container = read_container(data)
    cut = 7
    made = {operator.outputs[0] for operator in container.operators[:cut]}
    read = dict.fromkeys(tensor for operator in container.operators[cut:] for tensor in operator.inputs)
    between_them = [tensor for tensor in read if tensor in made]
    first = extract(data, range(cut), container.inputs, between_them)
    second = extract(data, range(cut, len(container.operators)), between_them, container.outputs)
    values = np.random.default_rng(2).integers(-128, 128, (1, 12, 10, 2), np.int8)
    between = Reference(first, parse_model(first, "first")).run([values])
    found = Reference(second, parse_model(second, "second")).run(between)[0]
    assert found.tobytes() == Reference(data, parse_model(data, "all")).run([values])[0].tobytes()


def test_exactly_the_operators_used_are_registered_int8_only_where_tflm_has_it() -> None:
    network = make_network(every_operator(), "net")
    files = dict(texts(network, None))
    added = re.findall(r"op_resolver\.Add(\w+)\((?:tflite::Register_(\w+)\(\))?\)", files["operators.cc"])
    assert len(added) == len(network.operators) == 14
    assert "constexpr int kOperators = 14;" in files["operators.h"]
    assert dict(added) == {
        "Add": "ADD_INT8", "AveragePool2D": "AVERAGE_POOL_2D_INT8", "Concatenation": "", "Conv2D": "CONV_2D_INT8",
        "DepthwiseConv2D": "DEPTHWISE_CONV_2D_INT8", "FullyConnected": "FULLY_CONNECTED_INT8",
        "MaxPool2D": "MAX_POOL_2D_INT8", "Mean": "", "Pad": "", "Quantize": "", "Relu": "", "Relu6": "",
        "Reshape": "", "Softmax": "SOFTMAX_INT8",
    }  # fmt: skip
    measured = re.findall(r"one\.Add(\w+)\((?:tflite::Register_(\w+)\(\))?\)", files["entries.cc"])
    assert measured == added


def test_the_bytes_in_c_are_the_file() -> None:
    data = small_network(2) + b"xyz"  # not a whole line
    network = make_network(small_network(2), "net")
    object.__setattr__(network, "flatbuffer", data)
    text = dict(texts(network, None))["model.cc"]
    assert bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", text)) == data
    assert f"g_model_len = {len(data)};" in text
    assert "alignas(16)" in text


def test_the_struct_that_is_put_into_an_image_has_the_figures_of_the_c_that_is_generated() -> None:
    network = make_network(small_network(1), "net")
    layers, arena, offset, size, out_offset, out_size, zero, out_zero, out_scale, scale, kept, variables = (
        struct.unpack("<H2x5I2b2x2f2I", model_struct(network))
    )
    assert (arena, offset, out_offset, kept, variables) == (0, 0, 0, 0, 0)  # the device says
    assert (layers, size, out_size) == (len(network.steps), network.input.size, network.output.size)
    assert (zero, out_zero) == (network.input.zero_point, network.output.zero_point)
    assert np.float32(scale) == np.float32(network.input.scale)
    assert np.float32(out_scale) == np.float32(network.output.scale)


def test_work_has_a_count_for_every_name_and_a_variant_of_its_operator() -> None:
    for step in make_network(every_operator(), "net").steps:
        operator, names = INTERPRETED[step.work.variant]
        assert len(step.work.trips) == len(names)
        assert operator == step.kind
        assert step.work.trips[0] == 1  # the call itself


def test_trips_of_a_convolution_by_hand() -> None:
    """3x3 over 5x4x2 with SAME padding, stride 2, to 3x2 pixels of 5 rows: 18 products for one output."""
    chain = Chain()
    entry = chain.tensor((1, 5, 4, 2))
    data = chain.file.finish([entry], [chain.convolution(entry, 5, 3, same=True, stride=(2, 2))])
    (step,) = make_network(data, "net").steps
    assert step.work.variant is KernelVariant.TFLM_CONV
    found = dict(zip(INTERPRETED[step.work.variant][1], step.work.trips, strict=True))
    assert (found["pixels"], found["window_rows"]) == (6, 18)
    # Down: 2, 3 and 2 of 3 rows are inside; along, padded by 0 before and 1 behind: 3 and 2 columns.
    assert (found["copies"], found["fills"]) == (7 * 5, 54 - 35)
    assert (found["copies_halves"], found["copies_bytes"], found["copies_words"]) == (35, 0, 0)
    assert (found["pixel_pairs"], found["squares"], found["square_fours"], found["square_ones"]) == (3, 6, 24, 12)
    assert (found["last_rows"], found["last_row_fours"], found["last_pixel"]) == (3, 12, 0)


def test_a_depthwise_convolution_of_one_channel_is_converted_to_an_ordinary_one() -> None:
    chain = Chain()
    entry = chain.tensor((1, 6, 6, 1))
    network = make_network(chain.file.finish([entry], [chain.depthwise(entry, 3, multiplier=1, same=False)]), "net")
    (op,) = network.model.ops
    assert network.steps[0].work.variant is KernelVariant.TFLM_DW_3X3
    work = converted_work_of(op, network.model)
    assert work is not None
    assert (work.variant, work.columns) == (KernelVariant.TFLM_CONV, 9)


def test_an_arena_is_only_stated_where_every_operator_is_known() -> None:
    known = make_network(small_network(1), "net")
    assert known.is_arena_known
    assert f"kTensorArenaSize = {known.arena_bytes};" in dict(texts(known, None))["network.cc"]
    chain = Chain()
    entry = chain.tensor((1, 4, 4, 2))
    unknown = make_network(
        chain.file.finish([entry], [chain.same_scale(Code.TANH, [entry], (1, 4, 4, 2), None, 1 / 128, 0)]), "net"
    )
    assert not unknown.is_arena_known
    assert "A guess" in dict(texts(unknown, None))["network.cc"]


def test_texts_are_deterministic_and_hold_nothing_of_the_models_names() -> None:
    data = every_operator()
    once, again = (dict(texts(make_network(data, name), None)) for name in ("one", "two"))
    assert once == again
    for text in once.values():
        assert text.isascii()
        assert "image" not in text


def test_layers_are_the_files_operators_with_their_work() -> None:
    network = make_network(every_operator(), "net")
    kinds = [operator.kind for operator in network.container.operators]
    assert [step.kind for step in network.steps] == kinds
    assert OpKind.RESHAPE in kinds
    assert all(step.work.outputs > 0 for step in network.steps)


def test_several_inputs_and_outputs_lie_one_behind_the_other() -> None:
    chain = Chain()
    entries = [chain.tensor((1, 3, 2, 2)), chain.tensor((1, 5))]
    results = [
        chain.same_scale(Code.RELU, [entry], shape, None, 0.05, -128)
        for entry, shape in zip(entries, ((1, 3, 2, 2), (1, 5)), strict=True)
    ]
    network = make_network(chain.file.finish(entries, results), "net")
    assert [(port.offset, port.size) for port in network.inputs] == [(0, 12), (12, 5)]
    assert [(port.offset, port.size) for port in network.outputs] == [(0, 12), (12, 5)]
    assert (network.input.size, network.output.shape) == (17, (17,))
    assert not network.is_wide


def test_operators_that_the_importer_folds_are_registered_as_well() -> None:
    """SHAPE, of which the importer knows the result."""
    chain = Chain()
    entry = chain.tensor((1, 4, 3))
    shape = chain.file.activation("shape", (3,), None, element=Element.INT32)
    chain.file.operator(Code.SHAPE, [entry], shape)
    flat = chain.same_scale(Code.RESHAPE, [entry, shape], (1, 4, 3), None, 1 / 64, 3)
    network = make_network(chain.file.finish([entry], [flat]), "net")
    assert network.operators == ("RESHAPE", "SHAPE")
    assert "op_resolver.AddShape()" in dict(texts(network, None))["operators.cc"]
    assert not network.is_arena_known


def test_more_inputs_than_tflms_concatenation_takes_are_refused() -> None:
    chain = Chain()
    entry = chain.tensor((1, 4, 4, 2))
    joined = chain.same_scale(Code.CONCATENATION, [entry] * 11, (1, 4, 4, 22), concat_options(-1), 1 / 64, 3)
    with pytest.raises(ModelError, match=r"CONCATENATION.*11 inputs.*at most 10"):
        make_network(chain.file.finish([entry], [joined]), "net")
