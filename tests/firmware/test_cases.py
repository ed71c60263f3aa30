"""The shared cases of strangers' networks: measured with equal outputs, or refused with a remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.errors import ModelError
from hil.measure.harness import Harness, Options

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]

REFUSED = {
    "float_model_names_operator_first": "not int8: it is float32; quantise it with full-integer quantisation",
    "sparse_weights": r"\(DENSIFY\).*convert again without Optimize.EXPERIMENTAL_SPARSITY",
}
EQUAL = (
    "add_constant", "add_rank1_operand", "batchnorm_at_input_mul", "dense_on_sequence",
    "dilated_conv_dynamic_batch", "flatten_over_65535", "gap1d_mean_axis1", "group_conv", "int16x8",
    "keras3_flatten_dynamic_batch", "only_reshape", "op_gmp", "op_leaky", "op_lstm_unroll", "op_mean_ch",
    "op_padv2", "op_sigmoid_out", "op_squeeze_excite", "op_strided_slice", "op_sub", "op_tanh", "op_transpose_conv",
    "passthrough_output", "two_outputs",
)  # fmt: skip


@pytest.fixture(scope="module")
def harness() -> Harness:
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    return Harness(load_board("nucleo-f746zg").with_budget(1 << 20, 320 << 10), Options(via="qemu"))


@pytest.mark.parametrize("name", EQUAL)
def test_a_strangers_network_is_bit_equal(harness: Harness, shared: Path, name: str) -> None:
    data = (shared / "cases" / f"{name}.tflite").read_bytes()
    outputs = harness.measure(data, name).measurement.outputs
    assert (outputs.checked, outputs.mismatched) == (8, 0)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_helps(harness: Harness, shared: Path, name: str) -> None:
    data = (shared / "cases" / f"{name}.tflite").read_bytes()
    with pytest.raises(ModelError, match=REFUSED[name]):
        harness.deploy(data, name)
