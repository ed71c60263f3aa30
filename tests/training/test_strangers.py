"""Networks that TensorFlow's converter wrote, not we: bit-equal to LiteRT, or refused for a stated limit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.firmware.bench import Bench
from tests.training.random_keras import judged, mutated, random_model

pytestmark = [pytest.mark.slow, pytest.mark.qemu, pytest.mark.filterwarnings("ignore")]  # Keras warns of much

COUNT = 6


def test_random_keras_networks_are_bit_equal_or_refused(tmp_path: Path) -> None:
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    files = [(f"keras {seed}", random_model(seed)) for seed in range(COUNT)]
    changed = [(f"mutated {seed}", mutated(data, seed)) for seed, (_, data) in enumerate(files)]
    found = judged(Bench(tmp_path, "cortex-m4"), iter(files + changed))
    assert found["WRONG"] == 0
    assert found["equal"] > COUNT, dict(found)
