"""Results and measurements as documents: types as declared, nothing unknown, and what older versions wrote is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hil.files import from_document, to_document
from hil.measure.measurement import Build, LayerTime, Measurement, Memory, Outputs, measurement_from_json
from hil.measure.measurement import Latency as Times
from munas.cost.resources import Resources
from tests.calibration_results import IDENTITY

MEMORY = Memory(100, 90, 50, 1024, 200, 1324, 3000, 9000, 12000)
MEASURED = Measurement(
    model="a", sha256="0" * 64, identity=IDENTITY, latency=Times("instructions", (5, 7, 6)),
    layers=(LayerTime(0, "CONV_2D", "first", 6.0),), memory=MEMORY, outputs=Outputs(8, 0, 1, ("ones",)),
    build=Build("0" * 32, "0" * 64, "gcc", "-O2", "kernels"), seconds={"plan": 0.5}, device="0123",
)  # fmt: skip


def document() -> dict[str, Any]:
    text: dict[str, Any] = json.loads(json.dumps(MEASURED.to_json()))
    return text


def test_a_measurement_survives_its_json() -> None:
    assert measurement_from_json(document()) == MEASURED


def test_a_measurement_of_an_older_version_is_read() -> None:
    old = document()
    for key in ("device", "modelled", "seconds"):
        del old[key]
    for key in ("undefined", "litert_mismatched"):
        del old["outputs"][key]
    for key in ("tick_ns", "cycle_model"):
        old["identity"].pop(key, None)
    found = measurement_from_json(old)
    assert (found.latency, found.memory, found.device, found.modelled) == (MEASURED.latency, MEMORY, None, None)
    assert (found.outputs.checked, found.outputs.undefined) == (8, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found["memory"].update(arena_used="90"), "memory.arena_used"),
        (lambda found: found["memory"].update(colour="red"), "memory.colour"),
        (lambda found: found["memory"].pop("ram_total"), "memory.ram_total"),
        (lambda found: found["latency"].update(samples=[1, 2.5]), "latency.samples.1"),
        (lambda found: found["identity"].update(timer="sundial"), "identity.timer"),
        (lambda found: found["identity"].update(simulated=1), "identity.simulated"),
        (lambda found: found.update(layers=[[]]), "layers.0"),
        (lambda found: found.update(layers=None), "layers"),
    ],
)
def test_a_wrong_measurement_names_the_field(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    found = document()
    change(found)
    with pytest.raises(ValueError, match=message):
        measurement_from_json(found)


def test_documents_of_dataclasses_come_back() -> None:
    costs = Resources(1, 2, 3, 4, 5, 6, 7.5, None, None, "cycles")
    assert from_document(Resources, json.loads(json.dumps(to_document(costs)))) == costs
    with pytest.raises(ValueError, match="Resources"):
        from_document(Resources, [1, 2])
