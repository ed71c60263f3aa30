"""One row for each kernel and shape: modelled cycles, instructions and bytes of code, in all and a MAC.

    python -m tests.firmware.bench_kernels [-o FILE.json] [--against FILE.json] [--board NAME]... [--only TEXT]

`make bench-kernels` runs it. Networks of one layer are measured on two boards via QEMU, by the interpreter of
TensorFlow Lite Micro too where that is installed. `--against` adds how many times as fast a row is as it was in a file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hil.boards.board import load_board
from hil.codegen.plan import make_plan
from hil.errors import ToolMissing, UsageError
from hil.model.load import parse_model
from hil.runtimes.tflm.detect import find_tflm
from tests.firmware.operators import Network

BOARDS = ("nucleo-l4r5zi", "nucleo-f746zg")

Rows = dict[str, dict[str, Any]]

SHAPES: dict[str, tuple[tuple[int, int, int], Callable[[Network], int]]] = {
    "conv 3x3, 32x32x3 to 16, same": ((32, 32, 3), lambda n: n.conv(n.input, 16, (3, 3), same=True)),
    "conv 3x3, 32x32x16 to 16, same": ((32, 32, 16), lambda n: n.conv(n.input, 16, (3, 3), same=True)),
    "conv 3x3, 8x8x64 to 64, same": ((8, 8, 64), lambda n: n.conv(n.input, 64, (3, 3), same=True)),
    "conv 3x3, 28x28x1 to 8": ((28, 28, 1), lambda n: n.conv(n.input, 8, (3, 3))),
    "conv 3x3, 13x13x10 to 14": ((13, 13, 10), lambda n: n.conv(n.input, 14, (3, 3))),
    "conv 10x4, 49x10x1 to 64, stride 2, same": (
        (49, 10, 1),
        lambda n: n.conv(n.input, 64, (10, 4), (2, 2), same=True),
    ),
    "conv 1x1, 25x5x64 to 64": ((25, 5, 64), lambda n: n.conv(n.input, 64, (1, 1))),
    "conv 1x1, 12x12x17 to 13": ((12, 12, 17), lambda n: n.conv(n.input, 13, (1, 1))),
    "conv 1x1, 3x3x256 to 256": ((3, 3, 256), lambda n: n.conv(n.input, 256, (1, 1))),
    "dw 3x3, 25x5x64, same": ((25, 5, 64), lambda n: n.depthwise(n.input, 1, (3, 3), same=True)),
    "dw 3x3, 48x48x16, same": ((48, 48, 16), lambda n: n.depthwise(n.input, 1, (3, 3), same=True)),
    "dw 3x3, 13x13x10": ((13, 13, 10), lambda n: n.depthwise(n.input, 1, (3, 3))),
    "dw 5x5, 13x13x10": ((13, 13, 10), lambda n: n.depthwise(n.input, 1, (5, 5))),
    "dw 10x8, 49x40x1 to 8, stride 2, same": (
        (49, 40, 1),
        lambda n: n.depthwise(n.input, 8, (10, 8), (2, 2), same=True),
    ),
    "dw 3x3, 12x12x4 to 8": ((12, 12, 4), lambda n: n.depthwise(n.input, 2, (3, 3))),
    "dense 640 to 128": ((640,), lambda n: n.dense(n.input, 128)),  # type: ignore[dict-item]
    "dense 100 to 10": ((100,), lambda n: n.dense(n.input, 10)),  # type: ignore[dict-item]
    "max pool 2x2, 24x24x16": ((24, 24, 16), lambda n: n.pool(n.input, (2, 2), (2, 2), average=False)),
    "average pool 25x5, 25x5x64": ((25, 5, 64), lambda n: n.pool(n.input, (25, 5), (1, 1), average=True)),
    "add 16x16x32": ((16, 16, 32), lambda n: n.add(n.input, n.requantize(n.input))),
}
"""Size of the input, and what makes the layer that is measured: the last one."""


def networks(only: str) -> Iterator[tuple[str, bytes]]:
    """Files of the shapes whose names contain `only`, each by its name."""
    for seed, (name, (shape, layer)) in enumerate(SHAPES.items()):
        if only in name:
            network = Network(seed, shape)
            yield name, network.finish(layer(network))


def measure(board: str, only: str) -> Rows:
    """One row a shape, and one more for each runtime that is installed beside ours."""
    with tempfile.TemporaryDirectory() as folder:
        files, variants = {}, {}
        for number, (name, data) in enumerate(networks(only)):
            path = Path(folder) / f"{number:02}.tflite"
            path.write_bytes(data)
            files[path.stem] = name
            variants[path.stem] = make_plan(parse_model(data, path.stem)).steps[-1]
        command = [sys.executable, "-c", "from hil.cli.main import main; main()", "measure"]
        command += [*sorted(str(path) for path in Path(folder).iterdir()), "--board", board, "--via", "qemu", "--json"]
        command += ["--flash", "1M", "--sram", "256K", "--runtime", "both" if _has_tflm(board) else "cmsis-nn"]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    rows: Rows = {}
    for found in json.loads(done.stdout):
        step = variants[found["model"]]
        suffix = "" if found["runtime"] == "cmsis-nn" else f" ({found['runtime']})"
        rows[files[found["model"]] + suffix] = {
            "variant": step.variant.value,
            "macs": step.work.macs,
            "cycles": found["modelled"]["layers"][-1]["cycles"],
            "instructions": found["layers"][-1]["median"],
            "code": found["memory"]["flash_code"],
            "mismatched": found["outputs"]["mismatched"],
        }
    return rows


def _has_tflm(board: str) -> bool:
    try:
        find_tflm(load_board(board).core)
    except (ToolMissing, UsageError):
        return False
    return True


def table(rows: Rows, before: Rows) -> Iterator[str]:
    """Lines of text."""
    yield f"{'':46} {'variant':16} {'cycles':>10} {'a MAC':>6} {'instr.':>10} {'a MAC':>6} {'code':>7} {'times':>6}"
    for name, row in rows.items():
        macs = row["macs"] or 1
        times = f"{before[name]['cycles'] / row['cycles']:6.2f}" if name in before else ""
        wrong = " WRONG" if row["mismatched"] else ""
        yield (
            f"{name:46} {row['variant']:16} {row['cycles']:10,} {row['cycles'] / macs:6.2f} "
            f"{row['instructions']:10,.0f} {row['instructions'] / macs:6.2f} {row['code']:7,} {times}{wrong}"
        )


def main() -> int:
    """Status 1 when an output was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--board", action="append")
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    before = json.loads(asked.against.read_text()) if asked.against else {}
    found = {}
    for board in asked.board or BOARDS:
        found[board] = measure(board, asked.only)
        print(f"\n{board}: modelled cycles; code is that of the whole image, runtime included")
        print("\n".join(table(found[board], before.get(board, {}))))
    if asked.output:
        asked.output.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(row["mismatched"] for rows in found.values() for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
