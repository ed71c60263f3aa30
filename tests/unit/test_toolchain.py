"""What a failed tool's output becomes: one line, or the symbols that a linker misses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hil.build.toolchain import find_toolchain, run_tool
from hil.errors import BuildError

pytestmark = pytest.mark.firmware


def _link(folder: Path, functions: list[str]) -> str:
    """What is said of a program that calls `functions`, each twice, and has none of them."""
    source = folder / "caller.c"
    calls = "".join(f"void {name}(void);" for name in functions) + "void _start(void) {"
    source.write_text(calls + "".join(f"{name}(); {name}();" for name in functions) + "}\n")
    gcc = find_toolchain().gcc
    subprocess.run([gcc, "-mcpu=cortex-m4", "-mthumb", "-c", source, "-o", folder / "caller.o"], check=True)
    with pytest.raises(BuildError) as caught:
        run_tool([gcc, "-mcpu=cortex-m4", "-mthumb", "-nostdlib", folder / "caller.o", "-o", folder / "a.elf"])
    return str(caught.value)


def test_every_symbol_that_is_missing_is_named_once_and_who_wants_it(tmp_path: Path) -> None:
    said = _link(tmp_path, ["_sbrk", "_kill", "abort"])
    for name in ("_sbrk", "_kill", "abort"):
        assert said.count(name) == 1
    assert said.count("(in caller.c)") == 3


def test_of_many_symbols_ten_lines_are_shown(tmp_path: Path) -> None:
    said = _link(tmp_path, [f"function_{index}" for index in range(30)])
    assert len(said.splitlines()) == 10
    assert said.endswith("and 21 more")
