"""A teacher's labels: computed once, in the right form, and worth something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow")

import keras

from munas.arch.graph import build_graph
from munas.arch.space import MlpArchitecture
from munas.data import Dataset
from munas.errors import SearchError
from munas.training import distill
from munas.training.backend import no_warnings
from munas.training.distill import soft_labels
from munas.training.network import build_keras, save_keras
from munas.training.parameters import initial_weights
from munas.training.quantise import scaled
from munas.training.train import KerasTraining
from tests.training.tiny import RECIPE, branched, dataset, task

pytestmark = pytest.mark.slow
DATA = dataset()


def teacher(folder: Path, data: Dataset, *, softmax: bool = False) -> Path:
    graph = build_graph(MlpArchitecture((16,)), data.input_shape, data.num_classes)
    model = build_keras(graph, initial_weights(graph, 3))
    if softmax:
        model = keras.Model(model.inputs, keras.layers.Softmax()(model.outputs[0]))
    path = folder / f"teacher{softmax}.keras"
    save_keras(model, path)
    return path


def test_logits_and_probabilities_mean_the_same(tmp_path: Path) -> None:
    logits, probabilities = (soft_labels(teacher(tmp_path, DATA, softmax=s), DATA, tmp_path) for s in (False, True))
    assert logits.shape == (480, 4)
    np.testing.assert_allclose(logits, probabilities, atol=1e-5)
    np.testing.assert_allclose(logits.sum(axis=1), 1, atol=1e-5)
    model = distill._loaded(teacher(tmp_path, DATA, softmax=True), DATA)
    inputs = scaled(DATA.train.inputs[:7], DATA.scale, DATA.offset)
    with no_warnings():
        expected = model(inputs, training=False)
    np.testing.assert_allclose(probabilities[:7], expected, atol=1e-5)


def test_labels_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = teacher(tmp_path, DATA)
    first = soft_labels(path, DATA, tmp_path)
    monkeypatch.setattr(distill, "_loaded", lambda *_: pytest.fail("computed again"))
    np.testing.assert_array_equal(first, soft_labels(path, DATA, tmp_path))


def test_one_logit_becomes_a_probability(tmp_path: Path) -> None:
    data = dataset(classes=2)
    found = soft_labels(teacher(tmp_path, data), data, tmp_path)
    assert found.shape == (480, 1)
    assert ((found > 0) & (found < 1)).all()


def test_a_student_learns_from_its_teacher(tmp_path: Path) -> None:
    path = teacher(tmp_path, DATA)
    alone = KerasTraining(DATA, RECIPE)()(task(branched(), effort=0.5))
    taught = KerasTraining(DATA, RECIPE, path, tmp_path)()(task(branched(), effort=0.5))
    assert taught.history[0].loss > alone.history[0].loss  # an untrained teacher contradicts the labels
    assert taught.tflite != alone.tflite


def test_what_is_no_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="cannot read"):
        soft_labels(tmp_path / "none.keras", DATA, tmp_path)
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(SearchError, match="is no"):
        soft_labels(tmp_path / "text.keras", DATA, tmp_path)
    other = teacher(tmp_path, dataset(classes=3))
    with pytest.raises(SearchError, match="needs"):
        soft_labels(other, DATA, tmp_path)
