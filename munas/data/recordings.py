"""WAV files as clips of one second: mono, 16 bits, 16 kHz, as the MFCC front end takes them."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from munas.data.mfcc import RATE_HZ, SAMPLES
from munas.data.streams import read_all
from munas.errors import DatasetError
from munas.files import FOREIGN

MAX_BYTES = 64 << 20
"""Of a recording; the longest one of Speech Commands' noise has 3 MB."""

_BATCH = 128
_NEEDED = f"mono, 16 bits, {RATE_HZ // 1000} kHz is needed: ffmpeg -i in.wav -ac 1 -ar {RATE_HZ} -c:a pcm_s16le out.wav"


def recording(path: Path, most: int | None = None) -> NDArray[np.float32]:
    """Samples in -1..1 of a mono recording of 16 bits at 16 kHz, at most `most` of them. Raises DatasetError."""
    try:
        with wave.open(io.BytesIO(read_all(path, MAX_BYTES)), "rb") as found:
            kind = (found.getnchannels(), found.getsampwidth(), found.getframerate())
            frames = found.getnframes()
            raw = found.readframes(frames if most is None else min(frames, most))
    except (wave.Error, *FOREIGN, EOFError, RuntimeError) as error:
        if str(error).startswith("unknown"):  # floats, for one
            raise DatasetError(f"{path} has another encoding than PCM ({error}); {_NEEDED}") from error
        raise DatasetError(f"{path} is no readable WAV file: {error or 'it ends early'}; get it again") from error
    if kind != (1, 2, RATE_HZ):
        channels = {1: "1 channel", 2: "2 channels (stereo)"}.get(kind[0], f"{kind[0]} channels")
        raise DatasetError(f"{path} has {channels} of {8 * kind[1]} bits at {kind[2]} Hz; {_NEEDED}")
    if len(raw) != 2 * (frames if most is None else min(frames, most)) or not raw:
        raise DatasetError(f"{path} is truncated: {frames} samples announced, {len(raw) // 2} found; get it again")
    return np.frombuffer(raw, "<i2").astype(np.float32) / np.float32(32768)


def clips(paths: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    """Batches of clips, (n, 16000): a recording's first second, padded with zeros where it is shorter."""
    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        found = np.zeros((len(batch), SAMPLES), np.float32)
        for clip, path in zip(found, batch, strict=True):
            samples = recording(path, SAMPLES)
            clip[: len(samples)] = samples
        yield found
