"""Data sets of the user's own: what is found in a file or folder, and one line for whatever is wrong."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hil.search.prepare import introduced
from munas.data import DATASETS, Dataset, is_own, load_dataset, own_name
from munas.errors import DatasetError
from munas.training.train import KerasTraining
from tests.own_data import RNG, X, Y, loaded, said, saved, write_pictures


def test_arrays_are_split_scaled_and_remembered(tmp_path: Path) -> None:
    data = loaded(tmp_path, x=X, y=Y * 10)
    assert (data.name, data.input_shape, data.num_classes, data.classes) == ("own", (8, 9, 1), 3, ("0", "10", "20"))
    assert data.is_own
    assert [len(part) for part in (data.train, data.validation, data.test)] == [42, 6, 12]
    assert sorted(np.concatenate([data.train.labels, data.validation.labels, data.test.labels])) == sorted(Y)
    seen = scaled(data)
    assert seen.mean() == pytest.approx(0, abs=1e-6)
    assert seen.std() == pytest.approx(1, abs=1e-6)
    again = pickle.loads(pickle.dumps(data))
    assert (again.classes, again.is_own, again.folder) == (data.classes, True, data.folder)
    assert KerasTraining(again).used_recipe.cycle is not None


def scaled(data: Dataset) -> NDArray[np.float64]:
    return data.train.inputs.astype(np.float64) * data.scale + data.offset


def test_the_smallest_arrays_are_brought_to_deviation_1(tmp_path: Path) -> None:
    seen = scaled(loaded(tmp_path, x=X * 1e-12, y=Y))
    assert seen.std() == pytest.approx(1, abs=1e-6)


def test_a_channel_without_variation_is_0(tmp_path: Path) -> None:
    seen = scaled(loaded(tmp_path, x=np.stack([X, np.full_like(X, 200), np.zeros_like(X)], axis=-1), y=Y))
    assert seen.std(axis=(0, 1, 2)) == pytest.approx([1, 0, 0], abs=1e-6)
    assert seen.mean(axis=(0, 1, 2)) == pytest.approx([0, 0, 0], abs=1e-6)


def test_a_channel_that_is_quiet_in_a_part_is_no_other_scale(tmp_path: Path) -> None:
    both, quiet = np.stack([X, X], axis=-1), np.stack([X, np.zeros_like(X)], axis=-1)
    assert len(loaded(tmp_path, x_train=both, y_train=Y, x_test=quiet, y_test=Y).test) == 60


@pytest.mark.parametrize(
    "names",
    [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels"),
     ("X_train", "Y_train", "X_test", "Y_test")],
)  # fmt: skip
def test_parts_that_are_there_are_kept(names: tuple[str, ...], tmp_path: Path) -> None:
    data = loaded(tmp_path, **dict(zip(names, (X[:40], Y[:40, None], X[40:], Y[40:, None]), strict=True)))
    np.testing.assert_array_equal(data.test.inputs[..., 0], X[40:])
    assert [len(part) for part in (data.train, data.validation, data.test)] == [37, 3, 20]  # one of each class


def test_text_and_floats_are_taken_as_they_are(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "bird"])
    data = loaded(tmp_path, inputs=X.astype(np.float64) / 7, labels=names[Y])
    assert data.classes == ("bird", "cat", "dog")
    assert data.train.inputs.dtype == np.float32
    text = introduced(data, saved(tmp_path, x=X, y=Y))[0]
    assert text.startswith(
        f"{tmp_path}/own.npz: arrays of numbers of 8x9x1 in 3 classes (bird 20, cat 20, dog 20); 42 train"
    )
    named = loaded(tmp_path, x=X.astype(np.int32), y=Y.astype(np.float16), class_names=names)
    assert named.classes == ("cat", "dog", "bird")
    assert named.train.inputs.dtype == np.uint8


def test_the_type_is_that_of_all_parts(tmp_path: Path) -> None:
    wide = X.astype(np.uint16)
    for test, dtype in ((wide + 1, np.float32), (wide, np.uint8), (wide / 1, np.float32)):
        data = loaded(tmp_path, x_train=wide, y_train=Y, x_test=test, y_test=Y)
        assert {part.inputs.dtype for part in (data.train, data.validation, data.test)} == {np.dtype(dtype)}
        np.testing.assert_array_equal(data.test.inputs[..., 0], test)


def test_names_of_classes_belong_to_their_labels(tmp_path: Path) -> None:
    text = np.array(["cat", "dog", "bird"])
    assert loaded(tmp_path, x=X, y=text[Y], classes=text).classes == ("bird", "cat", "dog")
    assert loaded(tmp_path, x=X, y=Y * 5, classes=np.array([10, 0, 5])).classes == ("0", "5", "10")
    assert loaded(tmp_path, x=X, y=Y, classes=np.array([b"cat", b"dog", "vögel".encode()])).classes[1:] == (
        "dog",
        "vögel",
    )


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    many, labels = RNG.integers(0, 256, (2000, 4, 4), np.uint8), np.arange(2000) % 2
    path = Path(saved(tmp_path, x=many, y=labels, x_mean=many[0], ids=labels, classes=["a", "b"]))
    assert said(path) == ["left out: 2 arrays (x_mean, ids)"]
    assert said(Path(saved(tmp_path, x=many, y=labels))) == []
    root = tmp_path / "pets"
    write_pictures(root / "train", {"cat": 8, "dog": 8, "_cow": 8})
    write_pictures(root / "train" / "dog", {"brown": 1})
    (root / "train" / "cat" / "a.gif").write_bytes(b"")
    (root / "train" / "cat" / ".hidden").write_bytes(b"")
    (root / "labels.csv").write_bytes(b"")
    assert said(root)[0] == "left out: 2 folders and 2 files (labels.csv, train/_cow, train/cat/a.gif, train/dog/brown)"


def test_parts_of_few_examples_are_said(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, x_train=X, y_train=Y, x_val=X[:3], y_val=Y[:3], x_test=np.tile(X, (2, 1, 1))[:100],
                      y_test=np.tile(Y, 2)[:100]))  # fmt: skip
    assert said(path) == ["validation has 3 examples: its accuracy says little"]


def test_channels_that_may_be_first_are_said(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, x=RNG.integers(0, 256, (60, 3, 16, 16), np.uint8), y=Y))
    assert said(path)[0] == "height 3, width 16, 16 channels: channels come last; if not, transpose them"


def test_the_start_obeys_no_name(tmp_path: Path) -> None:
    path = saved(tmp_path, x=X, y=np.array(["cat\n::error::", "dog\x1b[2J", "bird"])[Y], **{"a\nb": Y})
    first, second, *_ = introduced(load_dataset(path, None, tmp_path / "cache"), path)
    assert "(bird 20, cat\\n::error:: 20, dog\\x1b[2J 20)" in first
    assert second.endswith("left out: 1 array (a\\nb)")


def test_names() -> None:
    assert is_own("some/folder")
    assert is_own("x.npz")
    assert not is_own("imagenet")
    assert own_name("data/My flowers (2).npz") == "My-flowers-2"
    assert own_name("/data/pets/") == "pets"


def test_a_name_of_a_known_data_set_is_not_taken(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", x=X, y=Y)
    data = load_dataset(str(tmp_path / "mnist.npz"), None, tmp_path / "cache")
    assert data.name == "mnist-own"
    assert data.name not in DATASETS


def with_nan() -> NDArray[np.float64]:
    values = X.astype(np.float64)
    values[17, 2, 3] = np.nan
    return values


BAD_ARRAYS: list[tuple[dict[str, Any], str]] = [
    ({"x": with_nan(), "y": Y}, r"train part: input 17 has values that are not finite"),
    ({"x": X, "y": np.where(np.arange(60) == 5, 7, Y)}, r"class 7 has 1 example in the train part; it needs 3"),
    ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, r"class 0 is in the train part and not in the test"),
    ({"x_train": X, "y_train": Y, "x_test": X[:, :7], "y_test": Y}, r"test part are 7x9x1, and .* 8x9x1"),
    ({"x": X, "y": Y[:50]}, r"60 inputs and 50 labels"),
    ({"x": X, "y": np.zeros(60, int)}, r"has 1 class;"),
    ({"x": X, "y": np.eye(3)[Y]}, r"labels of the train part are an array of 60x3"),
    ({"x": X, "y": Y + 0.5}, r"labels of the train part are float64"),
    ({"x": X.reshape(60, -1), "y": Y}, r"an array of 60x72 instead of \(N, height, width"),
    ({"x": X.astype(complex), "y": Y}, r"complex128"),
    ({"a": X, "b": Y}, r"no arrays x_train and y_train \(it has a, b\)"),
    ({"a": X, "y": Y}, r"has y without the inputs to it, such as x_train"),
    ({"x": X, "y": Y, "x_test": X}, r"has x_test without the labels to it, such as y_test"),
    ({"x": X, "y": Y, "val_labels": Y}, r"has val_labels without the inputs to it, such as x_val"),
    ({"x": X, "X": X, "y": Y}, r"has two arrays x \(capitals make no difference\)"),
    ({"x_train": X, "train_images": X, "y": Y}, r"for the inputs of the train part, train_images and x_train;"),
    (
        {"x": X, "y": Y, "x_test": X, "y_test": Y, "test_labels": Y},
        r"for the labels of the test part, test_labels and y",
    ),
    ({"x": X, "y": Y, "x_dev": X, "y_dev": Y}, r"has the array x_dev, which is of no part that is known \(train, "),
    ({"x": X, "y": Y, "classes": ["a", "b"]}, r"array classes has 2 names, and the labels have 3 values"),
    ({"x": X, "y": Y, "classes": ["a", "b", "a"]}, r"array classes has the name a twice"),
    ({"x": X, "y": Y, "classes": ["a", "b", "c"], "names": ["a", "b", "c"]}, r"names, classes and names; leave one"),
    ({"x": X, "y": Y, "classes": [[1], [2], [3]]}, r"array classes is 3x1 of int64; classes have a list of names"),
    ({"x": X, "y": Y, "classes": [0.5, 1, 2]}, r"array classes is 3 of float64"),
    ({"x": X, "y": Y, "classes": [b"a", b"b", b"\xff"]}, r"array classes: 'utf-8' codec"),
    ({"x": X, "y": np.array(["a", "b", "c"])[Y], "classes": ["a", "b", "d"]}, r"classes does not have the label c"),
    ({"x": X[:0], "y": Y[:0]}, r"train part: it has no examples"),
    ({"x": X, "y": Y, "x_val": [], "y_val": []}, r"validation part: it has no examples"),
    ({"x": X, "y": Y, "x_test": X[:0] / 7, "y_test": Y[:0]}, r"test part: it has no examples"),
    ({"x": np.zeros((60, 0, 5)), "y": Y}, r"inputs of 0x5x1; at most 1024"),
    (
        {"x": RNG.random((60, 3, 32, 32)), "y": Y},
        r"3x32x32; at most 1024x1024x16 can be used; channels come last: \(N, h",
    ),
    ({"x": X, "y": np.array([None] * 60)}, r"array y.npy: Object arrays"),
    ({"x": np.zeros((60, 1, 2000), np.uint8), "y": Y}, r"inputs of 1x2000x1; at most 1024"),
    ({"x": np.full((60, 2, 2), 1e300), "y": Y}, r"32-bit floats cannot hold"),
    ({"x": X, "y": Y * 1e300}, r"labels of the train part are float64"),  # which int64 would make two classes of
    ({"x": X, "y": np.array(["a" * 300, "b", "c"])[Y]}, r"a class whose name has more than 255"),
    ({"x": X, "y": np.full(240, 0xFF, np.uint8).view("<U1")}, r"array y.npy: "),  # beyond the last character
    ({"x": X, "y": np.full(60, 0xD800, "<u4").view("<U1")}, r"array y.npy: .*surrogates"),
    ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y.astype(str)}, r"text in one part and numbers in another"),
    ({"x": np.full_like(X, 7), "y": Y}, r"all inputs of the train part are the same; there is nothing to learn"),
    ({"x": np.repeat(X[:1], 60, axis=0), "y": Y}, r"all inputs of the train part are the same"),
    ({"x": 1e6 + X / 500, "y": Y}, r"about 1e\+06, vary by less than a millionth"),
    ({"x": X * 1e-40, "y": Y}, r"too small or too large for 32-bit floats"),
    ({"x": X * 1e33, "y": Y}, r"too small or too large for 32-bit floats"),
    (
        {"x_train": X / 255, "y_train": Y, "x_test": X * 1.0, "y_test": Y},
        r"test part has values of 0 to 255, .* 0 to 1;",
    ),
    (
        {"x_train": X * 1.0, "y_train": Y, "x_val": X / 255, "y_val": Y},
        r"validation part has values of 0 to 1, .* 255;",
    ),
    ({"x_train": X / 255, "y_train": Y, "x_val": X / 255 + 9, "y_val": Y}, r"part has values of 9 to 10, .* 0 to 1;"),
]


@pytest.mark.parametrize(("arrays", "text"), BAD_ARRAYS, ids=range(len(BAD_ARRAYS)))
def test_bad_arrays_are_one_line(arrays: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=text) as caught:
        loaded(tmp_path, **arrays)
    assert "\n" not in str(caught.value)
    assert "own.npz" in str(caught.value)


def header(text: str) -> bytes:
    raw = text.encode()
    return b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw


SHAPED = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }\n"


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize(
    "member",
    [
        header(SHAPED % f"({10**30},)"),
        header(SHAPED % "(-1,)"),
        header("'''\n"),
        header(SHAPED % ("(" * 3000)),
        b"",
        None,
    ],
    ids=["huge", "negative", "unended", "deep", "empty", "damaged"],
)
def test_hostile_members_are_one_line(member: bytes | None, method: int, tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", bytes(5000) if member is None else member)
    if member is None:
        raw = path.read_bytes()
        path.write_bytes(raw[:50] + bytes(value ^ 0x55 for value in raw[50:56]) + raw[56:])
    with pytest.raises(DatasetError, match=r"own\.npz") as caught:
        load_dataset(str(path), None, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_a_name_in_an_archive_that_is_no_text(tmp_path: Path) -> None:
    path = Path(saved(tmp_path, x=X, y=Y))
    raw = bytearray(path.read_bytes())
    entry = raw.index(b"PK\x01\x02")
    raw[entry + 9] |= 8  # UTF-8, it says
    raw[entry + 46] = 0xFF
    path.write_bytes(raw)
    with pytest.raises(DatasetError, match=r"no readable \.npz file: 'utf-8' codec"):
        load_dataset(str(path), None, tmp_path / "cache")


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "own.npz").write_bytes(b"PK and nothing")
    with pytest.raises(DatasetError, match=r"own.npz is no readable .npz file"):
        load_dataset(str(tmp_path / "own.npz"), None, tmp_path / "cache")
