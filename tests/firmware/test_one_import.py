"""A network is imported and planned once on its way, from a file to a measurement and from a search to its export."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.boards.board import load_board
from hil.measure.harness import Harness, Options
from hil.measure.many import measure_files
from hil.measure.verify import Request, verify
from hil.model import load
from hil.runtimes import cmsis_nn
from hil.search.emit import Network, verified
from munas.arch.space import MlpArchitecture
from munas.search.store import SearchStore
from tests.networks import small_network

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]

BOARD = load_board("mps2-an386")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a file was imported, and a network planned."""
    counted: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        plain = getattr(module, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            counted[name] += 1
            return plain(*arguments, **named)

        monkeypatch.setattr(module, name, counting)

    count(load, "import_model")
    count(cmsis_nn, "make_plan")
    return counted


def test_from_a_file_to_a_measurement(calls: Counter[str], tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(small_network(3))
    (found,) = measure_files([tmp_path / "a.tflite"], BOARD, Options(), lambda error: None)
    assert found.measurement.outputs.mismatched == 0
    assert calls == {"import_model": 1, "make_plan": 1}


def test_from_a_labelled_set_to_an_accuracy(calls: Counter[str], tmp_path: Path) -> None:
    harness, data = Harness(BOARD), small_network(3)
    model = harness.deploy(data, "a").imported
    calls.clear()
    shape = model.tensors[model.inputs[0]].shape
    inputs = np.random.default_rng(1).integers(-128, 128, (3, *shape[1:]), np.int8)
    np.savez(tmp_path / "d.npz", x=inputs, y=np.zeros(3, np.int64))

    class Silent:
        def start(self, total: int, resumed: int) -> None: ...
        def advance(self) -> None: ...
        def stop(self) -> None: ...

    found = verify(harness, Request(data, "a", tmp_path / "d.npz", tmp_path / "s.sqlite"), Silent())
    assert found.inputs == 3
    assert calls == {"import_model": 1, "make_plan": 1}


def test_from_a_search_to_its_export(calls: Counter[str], tmp_path: Path) -> None:
    architecture = MlpArchitecture((4,))
    data = small_network(5)
    network = Network("digits-00005", architecture, (8, 8, 1), 10, data, tmp_path / "networks" / "00005")
    network.folder.mkdir(parents=True)
    with SearchStore(tmp_path / "search.sqlite") as store:
        found = verified(network, Harness(BOARD), store)
    assert not isinstance(found, str)
    assert found.measurement.sha256 == network.sha256
    assert (network.folder / "firmware").is_dir()
    assert calls == {"import_model": 1, "make_plan": 1}
