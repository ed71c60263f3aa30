"""Mel-frequency cepstral coefficients of one-second clips: 49 time steps of 40 coefficients.

Windows of 30 ms every 10 ms (munas.md) give 98 frames, whose log-mel energies are averaged in pairs to 49 steps: half
the memory on the device for the same audio. The rest is the usual chain of Davis and Mermelstein (1980): Hann window,
power spectrum of 512 points, 40 triangular mel bands from 20 Hz to 7,600 Hz, natural logarithm, orthonormal DCT-II.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

RATE_HZ = 16_000
SAMPLES = RATE_HZ
WINDOW = RATE_HZ * 30 // 1000
HOP = RATE_HZ * 10 // 1000
FFT = 512
BANDS = 40
COEFFICIENTS = 40
FRAMES_A_STEP = 2
STEPS = ((SAMPLES - WINDOW) // HOP + 1) // FRAMES_A_STEP
LOWEST_HZ, HIGHEST_HZ = 20.0, 7600.0

FLOOR = 1e-6
"""Added to a band's energy: 16-bit digital silence has none, and its logarithm would be infinite."""


def mfcc(clips: NDArray[np.float32]) -> NDArray[np.float32]:
    """Clips in -1..1, float32 (N, 16000), to coefficients, float32 (N, 49, 40)."""
    frames = sliding_window_view(clips, WINDOW, axis=1)[:, ::HOP]
    spectrum = np.fft.rfft(frames * _hann(), n=FFT, axis=-1)
    power = (np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float32)
    energies = np.log(power @ mel_bands() + np.float32(FLOOR))
    steps = energies.reshape(len(clips), STEPS, FRAMES_A_STEP, BANDS).mean(axis=2)
    return np.asarray(steps @ _dct(), dtype=np.float32)


@cache
def _hann() -> NDArray[np.float32]:
    """(480,), periodic."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


@cache
def mel_bands() -> NDArray[np.float32]:
    """(257, 40): the weight of each bin of the spectrum in each band, triangles on the scale 1127 ln(1 + f/700 Hz)."""
    lowest, highest = (1127 * math.log1p(hz / 700) for hz in (LOWEST_HZ, HIGHEST_HZ))
    corners = np.linspace(lowest, highest, BANDS + 2)
    bins = 1127 * np.log1p(np.arange(FFT // 2 + 1) * RATE_HZ / FFT / 700)
    rising = (bins[:, np.newaxis] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins[:, np.newaxis]) / (corners[2:] - corners[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)), np.float32)


@cache
def _dct() -> NDArray[np.float32]:
    """(40 bands, 40 coefficients): the orthonormal DCT-II as a matrix."""
    band, order = np.arange(BANDS)[:, np.newaxis], np.arange(COEFFICIENTS)
    matrix = np.sqrt(2 / BANDS) * np.cos(np.pi * (band + 0.5) * order / BANDS)
    matrix[:, 0] /= math.sqrt(2)
    return np.asarray(matrix, np.float32)
