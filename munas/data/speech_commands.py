"""Speech Commands v0.02 from its original folder: ten words, silence and unknown words as 49x40 MFCC.

The parts are those of validation_list.txt and testing_list.txt; all else is for training. As in Warden's "Speech
Commands" (arXiv 1804.03209), each part gets silence and unknown words of 10 % of its words each: unknown words are a
seeded draw from the other 25 folders, silence are seeded cuts of _background_noise_ at a random volume. Noise is cut
from the first 80 % of each recording for training, the next 10 % for validation and the last 10 % for testing.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from munas.data.loader import Labelled, Loader, Parts, Sources, candidates, missing
from munas.data.mfcc import COEFFICIENTS, SAMPLES, STEPS, mfcc
from munas.data.recordings import MAX_BYTES, clips, recording
from munas.data.streams import read_all
from munas.errors import DatasetError

NAME = "speech-commands"
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
SILENCE = len(WORDS)
UNKNOWN = len(WORDS) + 1
NUM_CLASSES = len(WORDS) + 2
NOISE_FOLDER = "_background_noise_"
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
PARTS = ("train", "validation", "test")

EXTRA_SHARE = 0.1
"""Of a part's words: how much silence, and how many unknown words, it gets."""

NOISE_SHARES = {"train": (0.0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1.0)}
SEED = 0
FOLDERS = ("", "speech_commands_v0.02")
INSTRUCTION = (
    "download the 'Speech Commands v0.02' archive (speech_commands_v0.02.tar.gz) and unpack it into that folder, or "
    "name the folder that has validation_list.txt as the source"
)

_BATCH = 128


def find(source: Path | None) -> Sources:
    """The two lists, the noise and every clip that is used, in a fixed order. Raises DatasetError if one is missing."""
    places = candidates(NAME, source)
    for folder in (place / below for place in places for below in FOLDERS):
        if all((folder / name).is_file() for name in LISTS.values()):
            names = (*LISTS.values(), *_wav_names(folder, NOISE_FOLDER), *_selected(folder))
            return Sources(folder, tuple(folder / name for name in names))
    missing(NAME, " and ".join(LISTS.values()), places, INSTRUCTION)


def read(sources: Sources) -> Parts:
    """All three parts as standardised MFCC. `constants` has the mean and deviation of each coefficient before that."""
    listed = _listed(sources.root)
    recordings = sources.files[len(LISTS) :]
    noise = [recording(path) for path in recordings if path.parent.name == NOISE_FOLDER]
    rng = np.random.default_rng(SEED)
    parts: dict[str, Labelled] = {}
    for part in PARTS:
        spoken = [path for path in recordings[len(noise) :] if _part(f"{path.parent.name}/{path.name}", listed) == part]
        words = sum(path.parent.name in WORDS for path in spoken)
        parts[part] = _features(spoken, _silence(part, noise, _extra(words), rng))
    mean, deviation = standardise_coefficients(parts)
    constants = {"mfcc_mean": tuple(mean.tolist()), "mfcc_deviation": tuple(deviation.tolist())}
    return Parts(parts["train"], parts["validation"], parts["test"], (1.0,), (0.0,), constants)


LOADER = Loader(NAME, (STEPS, COEFFICIENTS, 1), NUM_CLASSES, find, read, entry=NAME)


def _extra(words: int) -> int:
    return max(1, round(EXTRA_SHARE * words))


def _listed(root: Path) -> dict[str, str]:
    """Which part each clip in the two lists belongs to, by the clip's name in them: folder/file."""
    listed: dict[str, str] = {}
    for part, name in LISTS.items():
        path = root / name
        try:
            lines = read_all(path, MAX_BYTES).decode("ascii").split()
        except UnicodeDecodeError as error:
            raise DatasetError(f"{path} is no list of files: {error}") from error
        for line in lines:
            if listed.setdefault(line, part) != part:
                raise DatasetError(f"{path} lists {line}, which is in the other list too")
    return listed


def _part(name: str, listed: dict[str, str]) -> str:
    return listed.get(name, "train")


def _wav_names(root: Path, folder: str) -> list[str]:
    """The recordings in a folder, sorted, as the lists name them: paths would take seconds to make for all 105,000."""
    try:
        found = [f"{folder}/{name}" for name in sorted(os.listdir(root / folder)) if name.endswith(".wav")]
    except OSError as error:
        raise DatasetError(f"cannot read {root / folder}: {error.strerror}; {INSTRUCTION}") from error
    if not found:
        raise DatasetError(f"{root / folder} has no .wav files; {INSTRUCTION}")
    return found


def _selected(root: Path) -> Iterator[str]:
    """Every clip of the ten words and the drawn ones of the others. Raises DatasetError if a listed one is missing."""
    listed = _listed(root)
    words = [name for word in WORDS for name in _wav_names(root, word)]
    others = sorted(path.name for path in root.iterdir() if path.name not in WORDS and path.is_dir())
    unknown = [name for word in others if not word.startswith((".", "_")) for name in _wav_names(root, word)]
    absent = listed.keys() - {*words, *unknown}
    if absent:
        clip = min(absent)
        raise DatasetError(f"{root / LISTS[listed[clip]]} lists {clip}, which is not there; {INSTRUCTION}")
    yield from words
    rng = np.random.default_rng(SEED)
    for part in PARTS:
        count = _extra(sum(_part(name, listed) == part for name in words))
        pool = [name for name in unknown if _part(name, listed) == part]
        if len(pool) < count:
            raise DatasetError(f"{root} has {len(pool)} unknown words for {part} instead of {count}; {INSTRUCTION}")
        yield from (pool[index] for index in np.sort(rng.choice(len(pool), count, replace=False)))


def _silence(
    part: str, noise: Sequence[NDArray[np.float32]], count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """`count` cuts of one second, (count, 16000)."""
    cuts = np.empty((count, SAMPLES), np.float32)
    first, last = NOISE_SHARES[part]
    for cut in cuts:
        longer = noise[int(rng.integers(len(noise)))]
        if len(longer) < SAMPLES:
            raise DatasetError(f"a recording in {NOISE_FOLDER} is shorter than a second; {INSTRUCTION}")
        # A share of less than a second reaches back into the one before it, which only happens in short recordings.
        latest = max(0, int(last * len(longer)) - SAMPLES)
        start = int(rng.integers(min(int(first * len(longer)), latest), latest + 1))
        cut[:] = longer[start : start + SAMPLES] * np.float32(rng.uniform())
    return cuts


def _features(paths: Sequence[Path], silence: NDArray[np.float32]) -> Labelled:
    """MFCC of all clips, then of the silence; (N, 49, 40, 1)."""
    inputs = np.empty((len(paths) + len(silence), STEPS, COEFFICIENTS, 1), np.float32)
    filled = 0
    for batch in itertools.chain(clips(paths), (silence[at : at + _BATCH] for at in range(0, len(silence), _BATCH))):
        inputs[filled : filled + len(batch), ..., 0] = mfcc(batch)
        filled += len(batch)
    labels = [WORDS.index(path.parent.name) if path.parent.name in WORDS else UNKNOWN for path in paths]
    return inputs, np.array([*labels, *[SILENCE] * len(silence)], np.int64)


def standardise_coefficients(parts: Mapping[str, Labelled]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gives each coefficient mean 0 and deviation 1 over the training part, in place; returns what they were, (40,)."""
    train = parts["train"][0]
    mean = train.mean(axis=(0, 1, 3), dtype=np.float64)
    deviation = np.maximum(train.std(axis=(0, 1, 3), dtype=np.float64), 1e-6)
    for inputs, _ in parts.values():
        inputs -= mean.astype(np.float32)[:, np.newaxis]
        inputs /= deviation.astype(np.float32)[:, np.newaxis]
    return mean, deviation
