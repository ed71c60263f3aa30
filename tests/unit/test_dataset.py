"""A stranger's .npz: what is taken, and that nothing else is, whatever it claims to be."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from hil.errors import UsageError
from hil.measure.dataset import Takes, load_dataset
from hil.model.network import DType

TAKES = Takes((1, 2, 3, 1), DType.INT8, scale=0.5, zero_point=10)
X = np.arange(-12, 12, dtype=np.int8).reshape(4, 2, 3)
Y = np.array([0, 1, 2, 1])


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def member(array: np.ndarray[Any, Any], **changes: Any) -> bytes:
    """An .npy whose header tells something else about `array`."""
    out = io.BytesIO()
    npy.write_array_header_1_0(out, {**npy.header_data_from_array_1_0(array), **changes})
    return out.getvalue() + array.tobytes()


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def test_int8_is_taken_as_it_is(tmp_path: Path) -> None:
    data = load_dataset(saved(tmp_path / "d.npz", x=X, y=Y), TAKES, 3)
    assert np.array_equal(data.inputs, X.reshape(4, 6))
    assert data.labels.tolist() == Y.tolist()
    assert len(data.sha256) == 64
    assert len(load_dataset(tmp_path / "d.npz", TAKES, 3, limit=2)) == 2


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_quantised_half_away_from_zero(tmp_path: Path, dtype: type) -> None:
    x = np.array([[[0.0, 0.25, -0.25], [0.2, 58.5, -69.0]]], dtype)
    data = load_dataset(saved(tmp_path / "d.npz", x=x, y=np.array([[1]], np.uint8)), TAKES, 3)
    assert data.inputs.tolist() == [[10, 11, 9, 10, 127, -128]]


@pytest.mark.parametrize("order", "<>")
def test_numbers_are_taken_in_both_orders_of_their_bytes(tmp_path: Path, order: str) -> None:
    takes = Takes((1, 2, 3, 1), DType.INT16, scale=0.5, zero_point=0, dtype=DType.INT16)
    x = X.astype(np.int16) * 1000
    for values in (x.astype(f"{order}i2"), (x * 0.5).astype(f"{order}f4")):
        data = load_dataset(saved(tmp_path / "d.npz", x=values, y=Y.astype(f"{order}i4")), takes, 3)
        assert np.array_equal(data.inputs.view(np.int16), x.reshape(4, 6))
        assert data.labels.tolist() == Y.tolist()


def test_uint8_is_taken_where_the_network_takes_it(tmp_path: Path) -> None:
    x = X.view(np.uint8) ^ 128
    path = saved(tmp_path / "d.npz", x=x, y=Y)
    data = load_dataset(path, Takes((1, 2, 3, 1), DType.UINT8, 0.5, 10), 3)
    assert np.array_equal(data.inputs, X.reshape(4, 6))
    with pytest.raises(UsageError, match="is uint8; int8 and floats"):
        load_dataset(path, TAKES, 3)


def test_outliers_are_saturated_and_another_scale_is_refused(tmp_path: Path) -> None:
    takes = Takes((1, 8, 8, 1), DType.INT8, scale=1 / 255, zero_point=-128)
    rng = np.random.default_rng(0)
    x, y = rng.random((20, 8, 8)), np.zeros(20, np.int64)
    x.flat[:12] = [7.0, -7.0] * 6  # 0.94 %
    data = load_dataset(saved(tmp_path / "d.npz", x=x, y=y), takes, 3)
    assert data.inputs.reshape(-1)[:2].tolist() == [127, -128]
    x.flat[:14] = 7.0  # 1.09 %
    with pytest.raises(UsageError, match=r"values from 0\.\d+ to 7, but the network takes 0 to 1: 1\.1% of them"):
        load_dataset(saved(tmp_path / "d.npz", x=x, y=y), takes, 3)
    with pytest.raises(UsageError, match=r"to 255, but"):
        load_dataset(saved(tmp_path / "d.npz", x=rng.integers(0, 256, x.shape) * 1.0, y=y), takes, 3)
    with pytest.raises(UsageError, match="not finite"):
        load_dataset(saved(tmp_path / "d.npz", x=x * 1e300, y=y), takes, 3)


COLOUR = Takes((1, 8, 6, 3), DType.INT8, 0.5, 0)


@pytest.mark.parametrize("shape", [(4, 8, 6, 3), (4, 1, 8, 6, 3)])
def test_shapes_that_are_the_networks(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape)).reshape(shape).astype(np.int8)
    data = load_dataset(saved(tmp_path / "d.npz", x=x, y=np.zeros(4, np.int64)), COLOUR, 3)
    assert np.array_equal(data.inputs, x.reshape(4, -1))


def test_a_single_input_needs_no_dimension_of_inputs(tmp_path: Path) -> None:
    x = np.arange(8 * 6 * 3).reshape(8, 6, 3).astype(np.int8)
    data = load_dataset(saved(tmp_path / "d.npz", x=x, y=np.array([2])), COLOUR, 3)
    assert np.array_equal(data.inputs, x.reshape(1, -1))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((4, 3, 8, 6), r"shape 3x8x6; the network takes 8x6x3; it has the channels first: x\.transpose\(0, 2, 3, 1\)"),
        ((4, 6, 8, 3), r"shape 6x8x3; the network takes 8x6x3; if its values lie in that order"),
        ((4, 144), r"x\.reshape\(-1, 8, 6, 3\)"),
        ((4, 8, 6), "shape 8x6; the network takes 8x6x3$"),
        ((4, 8, 6, 4), "shape 8x6x4; the network takes 8x6x3$"),
    ],
)
def test_shapes_that_are_not_the_networks(tmp_path: Path, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_dataset(saved(tmp_path / "d.npz", x=np.zeros(shape, np.int8), y=np.zeros(4, np.int64)), COLOUR, 3)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": X}, "no arrays 'y'"),
        ({"x": X, "y": Y[:3]}, "4 inputs and 3 labels"),
        ({"x": X[:, :1], "y": Y}, "the network takes 2x3x1"),
        ({"x": X[:0], "y": Y[:0]}, "has 0 inputs"),
        ({"x": X.astype(np.int64), "y": Y}, "is int64; int8"),
        ({"x": X * 1j, "y": Y}, "complex"),
        ({"x": X.astype(np.longdouble), "y": Y}, "not of numbers"),
        ({"x": np.where(X > 0, np.nan, 0.0), "y": Y}, "not finite"),
        ({"x": X, "y": Y + 1}, "classes 1 to 3"),
        ({"x": X, "y": Y - 1}, "classes -1 to 1"),
        ({"x": X, "y": Y * 1.0}, "float64"),
        ({"x": X, "y": np.eye(4, 3, dtype=np.int8)}, "one whole number an input"),
        ({"x": np.int8(3), "y": Y}, "has the shape"),
        ({"x": np.array([object()] * 4), "y": Y}, "not of numbers"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_dataset(saved(tmp_path / "d.npz", **arrays), TAKES, 3)


def test_one_output_has_no_classes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no classes"):
        load_dataset(saved(tmp_path / "d.npz", x=X, y=Y), TAKES, 1)


@pytest.mark.parametrize(
    "x",
    [
        member(X, shape=(1 << 40, 6)),
        member(X, shape=(4, 2, 2)),
        member(X, shape=(-4, 6)),
        member(X, shape=(1,) * 20),
        member(X)[:40],
        member(X)[:-1],
        member(X).replace(b"NUMPY", b"NUMPI"),
        member(X).replace(b"'descr'", b"'descx'"),
        b"\x93NUMPY\x09\x00" + member(X)[8:],
        b"",
    ],
)
def test_headers_that_lie_are_refused(tmp_path: Path, x: bytes) -> None:
    with pytest.raises(UsageError):
        load_dataset(zipped(tmp_path / "d.npz", x=x, y=member(Y)), TAKES, 3)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.measure.dataset.MAX_ARRAY_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", member(np.zeros((1 << 20, 6), np.int8)))
        archive.writestr("y.npy", member(Y))
    assert (tmp_path / "d.npz").stat().st_size < 20_000
    with pytest.raises(UsageError, match="larger than"):
        load_dataset(tmp_path / "d.npz", TAKES, 3)


@pytest.mark.parametrize(
    "damage",
    [lambda data, rng: data[: rng.randrange(len(data))], lambda data, rng: rng.randbytes(rng.randrange(200))],
    ids=["truncated", "noise"],
)
def test_broken_files_are_refused(tmp_path: Path, damage: Callable[[bytes, random.Random], bytes]) -> None:
    rng, whole = random.Random(1), saved(tmp_path / "d.npz", x=X, y=Y).read_bytes()
    for _ in range(100):
        (tmp_path / "d.npz").write_bytes(damage(whole, rng))
        with pytest.raises(UsageError):
            load_dataset(tmp_path / "d.npz", TAKES, 3)


def test_damaged_lzma_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", member(np.zeros((400, 2, 3), np.int8)))
    raw = path.read_bytes()
    path.write_bytes(raw[:48] + b"\xaa" * 8 + raw[56:])
    with pytest.raises(UsageError, match="not a sound"):
        load_dataset(path, TAKES, 3)


def test_flipped_bytes_are_refused_or_harmless(tmp_path: Path) -> None:
    rng, whole = random.Random(2), saved(tmp_path / "d.npz", x=X, y=Y).read_bytes()
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        (tmp_path / "d.npz").write_bytes(damaged)
        try:
            data = load_dataset(tmp_path / "d.npz", TAKES, 3)
        except UsageError:
            refused += 1
        else:
            assert np.array_equal(data.inputs, X.reshape(4, 6))
            assert data.labels.tolist() == Y.tolist()
    assert refused > 100


def test_absent_and_unreadable_files(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.npz", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            load_dataset(path, TAKES, 3)
