"""Pickles from anywhere: the arrays of genuine ones come out, nothing in a hostile one is run."""

from __future__ import annotations

import os
import pickle
import random
import struct
from pathlib import Path

import numpy as np
import pytest

from munas.data.pickled import PickledArray, read_pickled
from munas.errors import DatasetError
from tests import data_files

PATH = Path("data_batch_1")
PLANES, LABELS = data_files.labelled(6, (3072,), 10, 255, 1)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, function: object, *arguments: object) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> object:
        return self._call


def _bound(content: object) -> bytes:
    return pickle.dumps(content, protocol=2)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_batch_of_python_3_comes_out_as_it_went_in(protocol: int) -> None:
    content = read_pickled(data_files.cifar_pickle(PLANES, LABELS, protocol), PATH)
    np.testing.assert_array_equal(content["data"].to_numpy(), PLANES)
    assert content["labels"] == LABELS.tolist()


def test_batch_of_python_2_comes_out_as_it_went_in() -> None:
    raw = data_files.cifar_pickle_of_python_2(PLANES, LABELS)
    genuine = pickle.loads(raw, encoding="bytes")  # the writer writes what Python and numpy take for such a batch
    np.testing.assert_array_equal(genuine[b"data"], PLANES)
    content = read_pickled(raw, PATH)
    np.testing.assert_array_equal(content["data"].to_numpy(), PLANES)
    assert content["labels"] == genuine[b"labels"]


@pytest.mark.parametrize(
    "evil",
    [
        Evil(os.system, "touch pwned"),
        Evil(eval, "open('pwned', 'w')"),
        Evil(np.zeros, (10**6, 10**6)),
        Evil(getattr, PATH, "name"),
        Evil(bytearray, 1 << 40),
    ],
    ids=lambda evil: evil._call[0].__name__,
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_no_other_function_is_called(
    evil: Evil, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match="data_batch_1"):
        read_pickled(pickle.dumps({b"data": evil}, protocol=protocol), PATH)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not a pickle", id="text"),
        pytest.param(b"\x80\x02.", id="nothing on the stack"),
        pytest.param(b"\x80\x02K\x01.", id="a number"),
        pytest.param(_bound([1, 2]), id="a list"),
        pytest.param(pickle.dumps({b"a": 1}, protocol=0), id="text protocol"),
        pytest.param(b"\x80\x02}(" + b")" + b"\x85" * 100_000 + b"K\x01u.", id="tuples nested deeply as a key"),
        pytest.param(b"\x80\x02cnumpy\ndtype\n}U\x01aK\x01sb.", id="changes an allowed function"),
        pytest.param(b"\x80\x02cnumpy\ndtype\nN}U\x08__call__K\x01s\x86b.", id="changes its slots"),
        pytest.param(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00bz2\x86R.", id="another codec"),
        pytest.param(b"\x80\x02T\xff\xff\xff\x7f.", id="a string longer than the file"),
        pytest.param(b"\x80\x02U\x01aQ.", id="persistent id"),
        pytest.param(b"\x80\x02\x82\x01.", id="extension registry"),
        pytest.param(b"\x80\x05\x97.", id="out-of-band buffer"),
        pytest.param(b"\x80\x04\x8c\x02os\x8c\x06system\x93.", id="stack global"),
    ],
)
def test_anything_else_is_an_error_that_names_the_file(raw: bytes) -> None:
    with pytest.raises(DatasetError, match="data_batch_1"):
        read_pickled(raw, PATH)


@pytest.mark.parametrize(
    "state",
    [
        (1, (2, 3), np.dtype("f4"), False, bytes(24)),
        (1, (2, 3), np.dtype("u1"), True, bytes(6)),
        (1, (2, 3), np.dtype("u1"), False, bytes(5)),
        (1, (-2, -3), np.dtype("u1"), False, bytes(6)),
        (1, (1 << 62, 1 << 62), np.dtype("u1"), False, bytes(6)),
        (1, (), np.dtype("u1"), False, bytes(1)),
        (1, (True, 6), np.dtype("u1"), False, bytes(6)),
        (1, (2, 3), np.dtype("O"), False, [None] * 6),
        None,
        (1,),
    ],
)
def test_array_that_is_not_of_bytes_or_has_no_proper_shape_is_refused(state: object) -> None:
    class Odd:
        def __reduce__(self) -> object:
            return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), state

    array = read_pickled(pickle.dumps({b"data": Odd()}, protocol=2), PATH)["data"]
    assert isinstance(array, PickledArray)
    with pytest.raises(ValueError, match=r"array|reshape"):
        array.to_numpy()


def test_random_damage_is_an_error_or_goes_unnoticed_but_never_worse() -> None:
    genuine = data_files.cifar_pickle_of_python_2(PLANES[:, :20], LABELS)
    rng = random.Random(0)
    refused = 0
    for _ in range(3000):
        raw = bytearray(genuine)
        for _ in range(rng.randint(1, 4)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        try:
            content = read_pickled(bytes(raw), PATH)
        except DatasetError:
            refused += 1
        else:
            assert isinstance(content, dict)
    assert refused > 300


def test_claim_of_a_huge_memo_costs_nothing() -> None:
    with pytest.raises(DatasetError):
        read_pickled(b"\x80\x02}r" + struct.pack("<I", 0xFFFFFFFF) + b".", PATH)
