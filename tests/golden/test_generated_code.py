"""The code generated for one small network, kept as files: a change of it has to be looked at.

After a deliberate change: MUNAS_HIL_UPDATE_GOLDEN=1 pytest tests/golden/test_generated_code.py, then read the diff.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.build.sources import find_cmsis
from hil.codegen.plan import make_plan
from hil.codegen.project import render
from hil.model.load import parse_model
from tests.firmware.operators import Network

FOLDER = Path(__file__).resolve().parent / "project"
FILES = ("board.h", "memory.x", "model.c", "plan.h", "weights.h")


def small_network() -> bytes:
    """A bit of everything that shapes the generated code: scratch, in place, parts, constants of both kinds."""
    network = Network(5, (5, 5, 2))
    left = network.conv(network.input, 3, (3, 3))
    right = network.pool(left, (2, 2), (1, 1), average=False)
    total = network.add(network.pad(right, ((0, 1), (0, 1), (0, 0))), left)
    joined = network.concat(
        [network.pool(total, (1, 1), (1, 1), average=True), network.pool(total, (1, 1), (1, 1), average=False)], 3
    )
    return network.finish(network.softmax(network.dense(joined, 4)))


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = make_plan(parse_model(small_network(), "small"))
    return render(plan, load_board("mps2-an386"), "qemu", find_cmsis(), tmp_path_factory.mktemp("project")).folder


@pytest.mark.parametrize("name", FILES)
def test_the_generated_file_is_the_kept_one(generated: Path, name: str) -> None:
    text = (generated / name).read_text("ascii")
    if os.environ.get("MUNAS_HIL_UPDATE_GOLDEN"):
        (FOLDER / name).write_text(text, encoding="ascii")
    assert text == (FOLDER / name).read_text("ascii")
