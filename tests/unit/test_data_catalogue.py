"""Finding, splitting, caching and the tasks made of other tasks; and the real files of installed packages."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from munas.data import DATASETS, Dataset, Examples, catalogue, load_dataset
from munas.data.fingerprint import fingerprint
from munas.data.loader import Sources, data_folder
from munas.data.split import stratified
from munas.errors import DatasetError
from tests import data_files


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_split_holds_out_the_share_of_every_class(share: float) -> None:
    labels = np.random.default_rng(1).integers(0, 10, 5000)
    rest, held_out = stratified(labels, share)
    assert sorted([*rest, *held_out]) == list(range(5000))
    for label in range(10):
        assert abs(np.sum(labels[held_out] == label) - share * np.sum(labels == label)) <= 0.5
    again = stratified(labels, share)[1]
    np.testing.assert_array_equal(again, held_out)
    assert not np.array_equal(stratified(labels, share, seed=1)[1], held_out)


def test_split_leaves_every_class_in_both_parts() -> None:
    rest, held_out = stratified(np.array([0, 0, 1, 1, 1]), 0.01)
    assert len(held_out) == 2
    rest, held_out = stratified(np.array([0, 0, 1, 1, 1]), 0.99)
    assert len(rest) == 2
    with pytest.raises(ValueError, match="class 1 has fewer than 2"):
        stratified(np.array([0, 0, 1]), 0.1)


@pytest.mark.parametrize(("name", "below"), [("mnist", 5), ("cifar10", 5), ("chars74k", 31)])
def test_binary_task_asks_whether_the_label_is_below(name: str, below: int, tmp_path: Path) -> None:
    if name == "chars74k":
        pytest.importorskip("PIL")
    folder = tmp_path / "files"
    folder.mkdir()
    {"mnist": data_files.write_idx_set, "cifar10": data_files.write_cifar_binary,
     "chars74k": data_files.write_chars74k}[name](folder)  # fmt: skip
    base, binary = (load_dataset(kind, folder, tmp_path) for kind in (name, f"{name}-binary"))
    for part in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(binary, part).labels, getattr(base, part).labels < below)
        if name == "chars74k":  # whose binary task has smaller pictures
            assert getattr(binary, part).inputs.shape[1:] == binary.input_shape == (32, 32, 3)
        else:
            assert getattr(binary, part).inputs.filename == getattr(base, part).inputs.filename
    assert binary.num_classes == 2


def test_unknown_name_is_an_error_that_lists_the_names() -> None:
    with pytest.raises(DatasetError, match=r"'imagenet'; there are digits, .*speech-commands"):
        load_dataset("imagenet")


def test_data_folder_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUNAS_HIL_DATA", str(tmp_path))
    monkeypatch.setenv("MUNAS_HIL_CACHE", str(tmp_path / "cache"))
    assert data_folder("mnist") == tmp_path / "mnist"
    with pytest.raises(DatasetError, match=str(tmp_path / "mnist")):
        load_dataset("mnist")
    (tmp_path / "mnist").mkdir()
    data_files.write_idx_set(tmp_path / "mnist")
    dataset = load_dataset("mnist")
    assert dataset.folder is not None
    assert dataset.folder.is_relative_to(tmp_path / "cache" / "datasets")


def test_channels_of_cifar_are_red_green_blue(tmp_path: Path) -> None:
    for number, name in enumerate(data_files.cifar_batches()):
        planes, labels = data_files.cifar_batches()[name]
        planes[:, :1024], planes[:, 1024:2048] = 10, 20
        planes[:, 2048] = number
        (tmp_path / f"{name}.bin").write_bytes(data_files.cifar_binary(planes, labels))
    dataset = load_dataset("cifar10", tmp_path, tmp_path)
    assert (dataset.test.inputs[..., 0] == 10).all()
    assert (dataset.test.inputs[..., 1] == 20).all()
    assert (dataset.test.inputs[:, 0, 0, 2] == 5).all()  # the batch called test_batch
    assert len(dataset.train) + len(dataset.validation) == 200


def test_cifar_is_scaled_to_mean_0_and_deviation_1_a_channel(tmp_path: Path) -> None:
    dataset = load_dataset("cifar10", data_files.write_cifar_binary(tmp_path), tmp_path)
    scaled = dataset.train.inputs * np.array(dataset.scale) + np.array(dataset.offset)
    np.testing.assert_allclose(scaled.mean(axis=(0, 1, 2)), 0, atol=1e-9)
    np.testing.assert_allclose(scaled.std(axis=(0, 1, 2)), 1, atol=1e-9)


def test_both_kinds_of_cifar_files_give_the_same(tmp_path: Path) -> None:
    datasets = []
    for kind in ("binary", "python", "binary_archive", "python_archive"):
        folder = tmp_path / kind
        folder.mkdir()
        datasets.append(load_dataset("cifar10", getattr(data_files, f"write_cifar_{kind}")(folder), tmp_path))
    for other in datasets[1:]:
        for part in ("train", "validation", "test"):
            np.testing.assert_array_equal(getattr(datasets[0], part).inputs, getattr(other, part).inputs)
            np.testing.assert_array_equal(getattr(datasets[0], part).labels, getattr(other, part).labels)


def test_folder_and_archive_of_chars74k_give_the_same(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    archive = data_files.write_chars74k_archive(tmp_path)
    one, other = (
        load_dataset("chars74k", source, tmp_path) for source in (tmp_path / "EnglishImg.tgz", tmp_path / "unpacked")
    )
    assert archive.is_file()
    np.testing.assert_array_equal(one.train.inputs, other.train.inputs)
    np.testing.assert_array_equal(one.test.labels, other.test.labels)


def test_missing_pillow_is_an_instruction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DatasetError, match="pip install pillow"):
        load_dataset("chars74k", data_files.write_chars74k(tmp_path), tmp_path)


def test_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_files.write_digits(tmp_path)
    sums = iter(["0" * 64, "1" * 64])
    monkeypatch.setattr(catalogue, "fingerprint", lambda *_: next(sums))
    with pytest.raises(DatasetError, match="changed while they were read"):
        load_dataset("digits", tmp_path, tmp_path)
    assert not list((tmp_path / "datasets").iterdir())


def test_fingerprint_is_remembered_only_for_files_that_have_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    sources = Sources(tmp_path, (path,))
    memory = tmp_path / "memory"
    monkeypatch.setattr("munas.data.fingerprint.SETTLED_S", 3600.0)
    first = fingerprint(sources, memory)
    assert not memory.exists()  # changed less than that ago
    monkeypatch.setattr("munas.data.fingerprint.SETTLED_S", -3600.0)
    assert fingerprint(sources, memory) == first
    (note,) = (memory / "fingerprints").iterdir()
    note.write_text("f" * 64)
    assert fingerprint(sources, memory) == "f" * 64  # read from the note
    note.write_text("rubbish")
    assert fingerprint(sources, memory) == first
    state = path.stat()
    path.write_bytes(b"two")
    while path.stat().st_ctime_ns == state.st_ctime_ns:  # as long as the file system's clock is too coarse to tell
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert fingerprint(sources, memory) != first  # same name, size and time, but the inode was changed later


def test_damage_that_cannot_be_repaired_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data_files.write_digits(tmp_path)
    monkeypatch.setattr(catalogue, "write_entry", lambda folder, *_: (folder / "dataset.json").write_text("{"))
    with pytest.raises(DatasetError, match="remove it"):
        load_dataset("digits", tmp_path, tmp_path)


def test_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, header: object, parts: object) -> None:
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    data_files.write_digits(tmp_path)
    monkeypatch.setattr(catalogue, "write_entry", full)
    with pytest.raises(DatasetError, match=r"No space left on device; free some room or set MUNAS_HIL_CACHE"):
        load_dataset("digits", tmp_path, tmp_path)
    assert not list((tmp_path / "datasets").iterdir())


def test_data_set_made_in_memory_pickles_by_value() -> None:
    part = Examples(np.zeros((2, 1, 1, 1), np.uint8), np.array([0, 1]))
    again = pickle.loads(pickle.dumps(Dataset("made", (1, 1, 1), 2, part, part, part, (1.0,), (0.0,), "0" * 64)))
    assert again.name == "made"
    np.testing.assert_array_equal(again.test.labels, [0, 1])


def test_pickle_of_an_entry_that_has_gone_says_so(tmp_path: Path) -> None:
    dataset = load_dataset("digits", data_files.write_digits(tmp_path), tmp_path)
    pickled = pickle.dumps(dataset)
    shutil.rmtree(tmp_path / "datasets")
    with pytest.raises(pickle.UnpicklingError, match="digits has gone"):
        pickle.loads(pickled)


@pytest.mark.parametrize(
    ("name", "counts", "mean"),
    [
        ("digits", (1295, 143, 359), 4.9),
        ("mnist-5k", (3600, 400, 1000), 33.4),
        ("fashion-mnist", (54_000, 6_000, 10_000), 72.9),
    ],
)
def test_real_files_of_an_installed_package(
    name: str, counts: tuple[int, int, int], mean: float, tmp_path: Path
) -> None:
    try:
        DATASETS[name].find(None)
    except DatasetError as error:
        pytest.skip(str(error))
    dataset = load_dataset(name, cache=tmp_path)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == counts
    assert dataset.train.inputs.mean() == pytest.approx(mean, abs=0.3)
