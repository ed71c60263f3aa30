"""Speech Commands: what becomes of clips, noise and lists; the MFCC against an independent computation."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.signal

from munas.data import load_dataset
from munas.data.mfcc import BANDS, RATE_HZ, mel_bands, mfcc
from munas.data.speech_commands import SILENCE, UNKNOWN, WORDS, find
from munas.errors import DatasetError
from tests import data_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_files.write_speech_commands(tmp_path_factory.mktemp("speech"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "speech"
    folder.mkdir()
    return data_files.write_speech_commands(folder)


def test_parts_are_those_of_the_lists_with_a_tenth_of_silence_and_unknown_words(folder: Path, tmp_path: Path) -> None:
    dataset = load_dataset("speech-commands", folder, tmp_path)
    for part, clips in ((dataset.train, 6), (dataset.validation, 2), (dataset.test, 2)):
        counts = np.bincount(part.labels)
        assert counts[: len(WORDS)].tolist() == [clips] * len(WORDS)
        assert counts[SILENCE] == counts[UNKNOWN] == clips  # a tenth of ten words
    assert dataset.input_shape == (49, 40, 1)


def test_training_features_are_standardised_with_the_constants_kept(folder: Path, tmp_path: Path) -> None:
    dataset = load_dataset("speech-commands", folder, tmp_path)
    np.testing.assert_allclose(dataset.train.inputs.mean(axis=(0, 1, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(dataset.train.inputs.std(axis=(0, 1, 3)), 1, atol=1e-4)
    first = next(path for path in find(folder).files if path.parent.name == "yes" and path.name.startswith("00000004"))
    samples = np.frombuffer(first.read_bytes()[44:], "<i2").astype(np.float32) / 32768
    expected = mfcc(samples[np.newaxis])[0] - np.float32(dataset.constants["mfcc_mean"])
    expected /= np.float32(dataset.constants["mfcc_deviation"])
    yes = dataset.train.inputs[dataset.train.labels == WORDS.index("yes"), ..., 0]
    assert min(np.abs(expected - features).max() for features in yes) < 1e-3


def test_mfcc_is_the_usual_chain() -> None:
    clips = np.random.default_rng(0).uniform(-0.5, 0.5, (3, RATE_HZ))
    _, _, spectra = scipy.signal.stft(
        clips, RATE_HZ, "hann", 480, 320, nfft=512, boundary=None, padded=False, scaling="spectrum"
    )
    power = np.abs(spectra * scipy.signal.get_window("hann", 480).sum()) ** 2  # (3, 257, 98)
    bands = np.log(np.einsum("nft,fb->ntb", power, mel_bands().astype(np.float64)) + 1e-6)
    pairs = (bands[:, 0::2] + bands[:, 1::2]) / 2
    expected = scipy.fft.dct(pairs, type=2, norm="ortho", axis=-1)
    got = mfcc(clips.astype(np.float32))
    assert got.shape == (3, 49, 40)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-3)


@pytest.mark.parametrize("hz", [200, 1000, 3000, 7000])
def test_tone_is_loudest_in_the_band_around_it(hz: int) -> None:
    tone = np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ).astype(np.float32)
    bands = scipy.fft.idct(mfcc(tone[np.newaxis])[0, 20], norm="ortho")
    low, high = (1127 * math.log1p(edge / 700) for edge in (20, 7600))
    expected = (1127 * math.log1p(hz / 700) - low) / (high - low) * (BANDS + 1) - 1
    assert abs(int(np.argmax(bands)) - expected) <= 1


def test_mel_bands_overlap_to_one() -> None:
    weights = mel_bands().sum(axis=1)
    bins_hz = np.arange(257) * RATE_HZ / 512
    inside = (bins_hz > 120) & (bins_hz < 7000)
    np.testing.assert_allclose(weights[inside], 1, atol=1e-5)


def test_silence_is_finite() -> None:
    assert np.isfinite(mfcc(np.zeros((2, RATE_HZ), np.float32))).all()


def test_noise_of_one_part_is_not_heard_in_another(copy: Path, tmp_path: Path) -> None:
    for path in (copy / "_background_noise_").glob("*.wav"):
        ramp = np.linspace(-30_000, 30_000, 60 * RATE_HZ)
        path.write_bytes(data_files.wav(np.where(np.arange(len(ramp)) < 0.8 * len(ramp), 0, ramp).astype(np.int16)))
    dataset = load_dataset("speech-commands", copy, tmp_path)
    mean, deviation = (np.array(dataset.constants[f"mfcc_{name}"]) for name in ("mean", "deviation"))

    def loudness(labels: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return (inputs[labels == SILENCE, :, 0, 0] * deviation[0] + mean[0]).mean(axis=1)

    assert loudness(dataset.train.labels, dataset.train.inputs).max() < -80  # digital silence
    assert loudness(dataset.test.labels, dataset.test.inputs).min() > -80


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (data_files.wav(np.zeros(100), rate_hz=8000), "8000 Hz"),
        (data_files.wav(np.zeros(100), channels=2), "2 channels"),
        (data_files.wav(np.zeros(0)), "truncated"),
        (b"RIFF" + bytes(100), "no readable WAV"),
        (data_files.wav(np.zeros(100))[:40] + struct.pack("<I", 0xFFFFFFF0) + bytes(200), "truncated"),
        (b"ID3", "no readable WAV"),
    ],
)
def test_wrong_recording_is_named(raw: bytes, message: str, copy: Path, tmp_path: Path) -> None:
    path = copy / "stop" / "00000005_nohash_0.wav"
    path.write_bytes(raw)
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset("speech-commands", copy, tmp_path)
    assert str(path) in str(caught.value)


def test_short_noise_is_an_error(copy: Path, tmp_path: Path) -> None:
    for path in (copy / "_background_noise_").glob("*.wav"):
        path.write_bytes(data_files.wav(np.zeros(1000)))
    with pytest.raises(DatasetError, match="shorter than a second"):
        load_dataset("speech-commands", copy, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "go" / "00000001_nohash_0.wav").unlink(), r"validation_list\.txt lists go/00000001"),
        (lambda folder: (folder / "testing_list.txt").write_text("../../etc/passwd\n"), r"lists \.\./\.\./etc/passwd"),
        (lambda folder: (folder / "testing_list.txt").write_bytes(b"\xff\xfe"), "no list of files"),
        (
            lambda folder: (folder / "testing_list.txt").write_text((folder / "validation_list.txt").read_text()),
            "in the other list too",
        ),
        (lambda folder: (folder / "yes").rename(folder / "yeah"), "cannot read .*yes"),
        (lambda folder: [path.unlink() for path in (folder / "zero").iterdir()], r"zero has no \.wav files"),
        (
            lambda folder: [path.unlink() for path in (folder / "_background_noise_").glob("*.wav")],
            r"_background_noise_ has no \.wav files",
        ),
        (
            lambda folder: [
                (folder / "testing_list.txt").write_text("no/00000009_nohash_0.wav\n"),
                (folder / "validation_list.txt").write_text(
                    "".join(f"{word}/{index:08x}_nohash_0.wav\n" for word in ("bed", "zero") for index in range(10))
                ),
            ],
            "unknown words for train",
        ),
    ],
)
def test_folder_that_does_not_fit_its_lists_is_an_error(
    change: object, message: str, copy: Path, tmp_path: Path
) -> None:
    assert callable(change)
    change(copy)
    with pytest.raises(DatasetError, match=message):
        load_dataset("speech-commands", copy, tmp_path)


def test_clip_drawn_as_unknown_is_the_same_every_time(folder: Path) -> None:
    assert find(folder) == find(folder)
    drawn = [path for path in find(folder).files if path.parent.name in ("bed", "zero")]
    assert len(drawn) == 6 + 2 + 2
