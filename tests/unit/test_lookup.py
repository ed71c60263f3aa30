"""Functions of one int8: all 256 values of each table against LiteRT, at random scales."""

from __future__ import annotations

import numpy as np
import pytest

from hil.errors import ModelError
from hil.model.load import parse_model
from hil.model.network import LookupParams
from hil.model.reference import Reference
from munas.tflite.file import Code
from tests.firmware.operators import Network
from tests.firmware.random_plain import FUNCTIONS, function_of

ALL = np.arange(-128, 128, dtype=np.int8)


@pytest.mark.parametrize("code", FUNCTIONS, ids=lambda code: code.name)
def test_a_table_is_what_litert_computes(code: Code) -> None:
    seen = 0
    for seed in range(25):
        network = Network(seed, (256,))
        scale, zero_point = float(np.exp(network.rng.uniform(-6, 0))), int(network.rng.integers(-128, 128))
        if code is Code.EXP:
            scale = min(scale, 0.05)
        network.input = network.activation((256,), scale, zero_point)
        data = network.finish(function_of(network, code))
        try:
            model = parse_model(data, code.name)
        except ModelError as error:
            assert "too small" in str(error)  # noqa: PT017 - some random scales are none that LiteRT takes
            continue
        (op,) = model.ops
        assert isinstance(op.params, LookupParams)
        expected = Reference(data, model).run([ALL])[0].reshape(-1)
        assert np.array_equal(np.frombuffer(op.params.table, np.int8), expected), f"seed {seed}"
        seen += 1
    assert seen >= 15
