"""`verify` on the data of strangers: what LiteRT itself, fed the same way, answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hil.boards.board import load_board
from hil.errors import ModelError, UsageError
from hil.measure.harness import Harness, Options
from hil.measure.verify import Request, Verification, verify
from hil.model.litert import LiteRt
from tests.firmware import images
from tests.firmware.test_verify import Counted

pytestmark = [pytest.mark.firmware, pytest.mark.qemu, pytest.mark.slow]


@pytest.fixture(scope="module")
def harness() -> Harness:
    images.need_toolchain()
    return Harness(load_board("nucleo-f746zg").with_budget(None, 256 * 1024), Options())


def verified(harness: Harness, model: Path, data: Path, folder: Path) -> Verification:
    return verify(harness, Request(model.read_bytes(), model.stem, data, folder / "verify.sqlite"), Counted())


@pytest.mark.parametrize("name", ["verify_float_ties", "verify_uint8_input"])
def test_the_file_itself_is_what_host_and_device_run(harness: Harness, shared: Path, tmp_path: Path, name: str) -> None:
    """Labels are LiteRT's answers to the inputs as the file takes them (those in the uint8 case are another file's)."""
    model, given = shared / "cases" / f"{name}.tflite", np.load(shared / "cases" / f"{name}.npz")
    litert = LiteRt(model.read_bytes())
    source, result = litert.interpreter.get_input_details()[0], litert.interpreter.get_output_details()[0]
    labels = []
    for values in given["x"]:
        litert.run([(source["index"], values.reshape(source["shape"]))])
        labels.append(litert.read(result["index"]).argmax())
    np.savez(tmp_path / "data.npz", x=given["x"], y=np.array(labels))
    found = verified(harness, model, tmp_path / "data.npz", tmp_path)
    assert (found.device_correct, found.host_correct, found.mismatched) == (len(labels), len(labels), ())


def test_data_of_another_scale_is_refused(harness: Harness, shared: Path, tmp_path: Path) -> None:
    model = shared / "cases" / "verify_float_unscaled.tflite"
    with pytest.raises(UsageError, match=r"from 0 to 255, but the network takes 0 to 1: 99\.\d%"):
        verified(harness, model, model.with_suffix(".npz"), tmp_path)


def test_an_input_that_litert_cannot_run_is_told_and_the_others_are_kept(
    harness: Harness, shared: Path, tmp_path: Path
) -> None:
    model = shared / "cases" / "softmax_512_classes.tflite"
    x = np.random.default_rng(0).integers(-128, 128, (3, 512), np.int8)
    x[2] = 5
    np.savez(tmp_path / "data.npz", x=x, y=np.zeros(3, np.int64))
    with pytest.raises(ModelError, match=r"^softmax_512_classes: LiteRT.*input 2 of the data"):
        verified(harness, model, tmp_path / "data.npz", tmp_path)
