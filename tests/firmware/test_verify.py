"""`verify` on an emulated core: accuracy, agreement, resuming, a device that answers wrongly."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hil.boards.board import load_board
from hil.cli import main as cli
from hil.errors import DeviceLost, LinkTimeout, StoreError, UsageError
from hil.jobs.store import Store
from hil.jobs.supervise import Execution
from hil.link.device import Device
from hil.measure.dataset import Dataset
from hil.measure.harness import Harness, Options
from hil.measure.verify import Request, _shared_out, verify
from hil.measure.workers import HarnessFactory
from hil.model.load import parse_model
from hil.model.reference import Reference
from munas.tflite.file import Code, dense_options
from munas.tflite.flatbuffer import write_tflite
from tests.firmware import images
from tests.firmware.operators import Network
from tests.networks import every_operator

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]

COUNT = 12


@dataclass
class Counted:
    """Progress that remembers."""

    started: list[tuple[int, int]] = field(default_factory=list)
    advanced: int = 0

    def start(self, total: int, resumed: int) -> None:
        self.started.append((total, resumed))

    def advance(self) -> None:
        self.advanced += 1

    def stop(self) -> None:
        pass


@pytest.fixture(scope="module")
def model() -> bytes:
    return write_tflite(every_operator(), 3)


@pytest.fixture(scope="module")
def harness() -> Harness:
    images.need_toolchain()
    return Harness(load_board("nucleo-f746zg"), Options())


@pytest.fixture
def request_(model: bytes, tmp_path: Path) -> Request:
    """Inputs whose labels are LiteRT's answers, but for every fourth."""
    network = parse_model(model, "all")
    reference, shape = Reference(model, network), network.tensors[network.inputs[0]].shape
    x = np.random.default_rng(1).integers(-128, 128, (COUNT, *shape[1:]), np.int8)
    y = np.array([reference.run([values])[0].argmax() for values in x])
    y[::4] = (y[::4] + 1) % network.tensors[network.outputs[0]].elements
    np.savez(tmp_path / "data.npz", x=x, y=y)
    return Request(model, "all", tmp_path / "data.npz", tmp_path / "verify.sqlite")


def test_accuracy_and_agreement(harness: Harness, request_: Request) -> None:
    progress = Counted()
    result = verify(harness, request_, progress)
    assert (result.inputs, result.device_correct, result.host_correct) == (COUNT, 9, 9)
    assert (result.mismatched, result.litert_mismatched) == ((), ())
    assert (progress.started, progress.advanced) == ([(COUNT, 0)], COUNT)
    again = verify(harness, request_, progress)
    assert (again.device_accuracy, again.host_accuracy, again.resumed) == (0.75, 0.75, COUNT)
    assert progress.advanced == COUNT


def test_networks_of_sixteen_bits_take_whole_numbers_and_floats(harness: Harness, tmp_path: Path) -> None:
    network = Network(3, (6, 5, 2))
    entry = network.input = network.activation((6, 5, 2), 2e-4, 0, wide=True)
    weights = network.file.constant("w", network.rng.integers(-127, 128, (4, 60)).astype(np.int8), [0.01])
    bias = network.file.constant("b", np.arange(4).astype("<i8"), [2e-6])
    output = network.activation((4,), 1e-3, 0, wide=True)
    network.file.operator(Code.FULLY_CONNECTED, [entry, weights, bias], output, dense_options(), 12)
    data = network.finish(output)
    model = parse_model(data, "wide")
    reference = Reference(data, model)
    x = network.rng.integers(-32768, 32768, (COUNT, 6, 5, 2)).astype(np.int16)
    answers = [reference.run([values.reshape(-1).view(np.int8)])[0].reshape(-1) for values in x]
    y = np.array([values.argmax() for values in answers])
    assert len(set(y)) > 1
    y[::4] = (y[::4] + 1) % 4
    for name, values in (("whole", x), ("floats", x.astype(np.float32) * np.float32(2e-4))):
        np.savez(tmp_path / f"{name}.npz", x=values, y=y)
        request = Request(data, "wide", tmp_path / f"{name}.npz", tmp_path / f"{name}.sqlite")
        result = verify(harness, request, Counted())
        assert (result.device_correct, result.host_correct, result.litert_mismatched) == (9, 9, ())
    np.savez(tmp_path / "bytes.npz", x=x.astype(np.int8), y=y)
    with pytest.raises(UsageError, match="is int8; int16 and floats are taken"):
        verify(harness, Request(data, "wide", tmp_path / "bytes.npz", tmp_path / "b.sqlite"), Counted())


def test_several_devices_say_what_one_says(harness: Harness, request_: Request) -> None:
    """Inputs that are there already are nobody's."""
    progress = Counted()
    verify(harness, replace(request_, limit=2), progress)
    shared = verify(harness, request_, progress, workers=2)
    assert (progress.started, progress.advanced) == ([(2, 0), (COUNT, 2)], COUNT)
    alone = verify(harness, replace(request_, store=request_.store.with_name("alone.sqlite")), Counted())
    assert replace(shared, resumed=0) == alone
    assert (alone.inputs, alone.device_correct, alone.mismatched) == (COUNT, 9, ())


def test_what_several_devices_fail_at_is_an_error(harness: Harness, request_: Request) -> None:
    broken = replace(harness.options, runtime="nonsense")
    factory = HarnessFactory(harness.board, broken)
    data = Dataset(np.zeros((4, 8), np.int8), np.zeros(4, int), "")
    with pytest.raises(UsageError, match="unknown runtime 'nonsense'"):
        list(_shared_out(factory, Execution(2), request_, data, range(4)))


def test_a_wrong_output_is_reported_and_stays_reported(
    harness: Harness, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, calls = Device.answer, iter(range(1000))

    def wrong(self: Device) -> tuple[int, bytes]:
        ticks, output = answer(self)
        return ticks, bytes([output[0] ^ 1, *output[1:]]) if next(calls) == 5 else output

    monkeypatch.setattr(Device, "answer", wrong)
    assert verify(harness, request_, Counted()).mismatched == (5,)
    monkeypatch.undo()
    result = verify(harness, request_, Counted())
    assert (result.mismatched, result.litert_mismatched, result.resumed) == ((5,), (5,), COUNT)


def test_a_device_that_dies_is_booted_again_and_nothing_is_done_twice(
    harness: Harness, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload, calls = Device.upload, iter(range(1000))

    def dying(self: Device, data: bytes) -> None:
        if next(calls) in (0, 1, 6):
            raise LinkTimeout("it is gone")
        upload(self, data)

    monkeypatch.setattr(Device, "upload", dying)
    progress = Counted()
    assert verify(harness, request_, progress).mismatched == ()
    assert progress.advanced == COUNT
    monkeypatch.setattr(Device, "upload", lambda *_: dying(*_) or (_ for _ in ()).throw(LinkTimeout("for good")))
    other = Request(request_.model, "all", request_.data, request_.store.with_name("other.sqlite"))
    with pytest.raises(LinkTimeout):
        verify(harness, other, Counted())


def test_a_lost_board_is_not_waited_for_again(
    harness: Harness, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def lost(self: Device, data: bytes) -> None:
        asked.append(data)
        raise DeviceLost("A1", "device A1 does not work, tried twice")

    monkeypatch.setattr(Device, "upload", lost)
    with pytest.raises(DeviceLost):
        verify(harness, request_, Counted())
    assert len(asked) == 1


def test_a_foreign_record_is_a_store_error(harness: Harness, request_: Request) -> None:
    verify(harness, Request(request_.model, "all", request_.data, request_.store, limit=1), Counted())
    with Store(request_.store) as store:
        (run,) = store.runs().values()
        from hil.jobs.store import Result

        store.insert(store.run_id(run), Result(1, "ok", record={"device": "00", "host": "00", "same": True}))
    with pytest.raises(StoreError, match="not one of verify"):
        verify(harness, Request(request_.model, "all", request_.data, request_.store, limit=2), Counted())


def test_wrong_data_is_refused_before_anything_is_built(harness: Harness, request_: Request) -> None:
    np.savez(request_.data, x=np.zeros((1, 3), np.int8), y=np.zeros(1, np.int8))
    with pytest.raises(UsageError, match="the network takes"):
        verify(harness, request_, Counted())


def test_command(request_: Request, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = request_.data.with_name("all.tflite")
    model.write_bytes(request_.model)
    arguments = ["verify", str(model), "--data", str(request_.data), "-o", str(request_.store), "--json"]
    monkeypatch.setattr(sys, "argv", ["munas-hil", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["device"] == document["host"] == {"correct": 9, "accuracy": 0.75}
    assert document["outputs"]["checked"] == COUNT
