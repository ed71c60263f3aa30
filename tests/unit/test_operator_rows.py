"""An operator or kernel variant of which a piece is missing: each test names the piece and who lacks it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from hil.codegen.lower import LOWERINGS
from hil.model.network import OpKind, Params, ReshapeParams
from hil.model.tflite.operators import IMPORTERS
from hil.model.tflite.schema import OPERATORS
from hil.model.tflite.states import STATE_KINDS
from munas.cost.interpreted import INTERPRETED
from munas.cost.kernels import KernelVariant
from munas.cost.variants import SPECS
from tests.firmware import random_networks

HEADER = (Path(__file__).parents[2] / "firmware/kernels/hil_kernels.h").read_text(encoding="utf-8")
ELSEWHERE = {OpKind.DEQUANTIZE, OpKind.SPACE_TO_BATCH_ND, OpKind.BATCH_TO_SPACE_ND, *STATE_KINDS}
NO_LAYER = {ReshapeParams}  # another name for its input


@pytest.mark.parametrize("kind", OpKind)
def test_every_operator_has_its_pieces(kind: OpKind) -> None:
    assert kind in OPERATORS, f"{kind} has no row in hil/model/tflite/schema.py"
    assert kind in ELSEWHERE or kind in IMPORTERS, f"{kind} has no importer in hil/model/tflite/operators.py"


@pytest.mark.parametrize("params", get_args(Params), ids=lambda item: item.__name__)
def test_all_parameters_have_a_layer(params: type) -> None:
    assert params in NO_LAYER or params in LOWERINGS, f"{params.__name__} has no lowering in hil/codegen/lower.py"


def test_operator_codes_are_those_of_the_schema() -> None:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    assert {kind.value: row.code for kind, row in OPERATORS.items()} == {
        kind.value: getattr(BuiltinOperator, kind.value) for kind in OPERATORS
    }


@pytest.mark.parametrize("variant", [variant for variant in KernelVariant if variant not in INTERPRETED])
def test_every_variant_has_its_pieces(variant: KernelVariant) -> None:
    assert variant in SPECS, f"{variant} has no row in munas/cost/variants.py"
    spec = SPECS[variant]
    assert re.search(rf"^int {spec.function}\(const void \*", HEADER, re.M), f"hil_kernels.h lacks {spec.function}"
    assert f"}} {spec.struct};" in HEADER, f"hil_kernels.h does not define {spec.struct}"
    asserted = re.search(rf"sizeof\({spec.struct}\) == (\d+)", HEADER)
    assert asserted, f"hil_kernels.h does not assert the size of {spec.struct}"
    assert int(asserted[1]) == spec.struct_bytes, f"{variant} has another struct_bytes in munas/cost/variants.py"
    assert spec.costs_as is None or SPECS[spec.costs_as].loops.names == spec.loops.names  # fitted together


def test_every_kind_of_random_network_has_seeds_of_its_own() -> None:
    names = [kind.__name__ for kind in random_networks.KINDS]
    assert len(set(names)) == len(names)
