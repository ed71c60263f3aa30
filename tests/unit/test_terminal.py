"""The one console: nothing that it prints is obeyed by a terminal or a CI log, whoever calls it and however."""

from __future__ import annotations

import ast
import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hil.cli.main import _exhausted
from hil.terminal import SafeConsole, inert, printable
from tests.signals import INTERRUPTIBLE

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "\x1b[31mred\x1b]0;title\x07\r\u202eltr\x9b2J"


def printed(*things: object, width: int = 200) -> str:
    output = io.StringIO()
    SafeConsole(file=output, width=width).print(*things)
    return output.getvalue()


def table_of(text: str) -> Table:
    table = Table(text, box=None, pad_edge=False)
    table.add_row(text)
    table.caption = text
    return table


@pytest.mark.parametrize("wrap", [str, Text, table_of, lambda text: Text.assemble((text, "red"))])
@settings(deadline=None)
@given(st.text(max_size=60) | st.just(HOSTILE) | st.text("\x1b[]:#;\r\n \x07a", max_size=40))
def test_whatever_is_printed_is_inert(wrap: object, text: str) -> None:
    shown = printed(wrap(text))  # type: ignore[operator]
    assert all(char == "\n" or char.isprintable() for char in shown)
    assert not any(line.strip().startswith(("::", "##[")) for line in shown.split("\n"))


def test_text_that_is_harmless_stays_as_it_is() -> None:
    assert printed("µNAS: 3 µs [bold] :smile: ok") == "µNAS: 3 µs [bold] :smile: ok\n"
    assert printed("a\n::error::b") == "a\n\\::error::b\n"
    assert printable("a\nb") == "a\\nb"
    assert inert("  ##[error]x\ny ::z") == "  \\##[error]x\ny ::z"


def test_a_line_that_goes_on_is_not_changed() -> None:
    output = io.StringIO()
    console = SafeConsole(file=output)
    console.print("Class", end="")
    console.print("::method")
    assert output.getvalue() == "Class::method\n"


def test_our_own_commands_are_what_they_are() -> None:
    output = io.StringIO()
    SafeConsole(file=output).command("::error title=x::y\x1b\n::error::forged")
    assert output.getvalue() == "::error title=x::y\\x1b\\n::error::forged\n"


def test_no_module_prints_by_another_way() -> None:
    """rich's own Console, print() and typer.echo would let text through."""
    for path in sorted((ROOT / "hil").rglob("*.py")):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("Console", "rich.print", "typer.echo", "typer.secho", "click.echo"), path
                assert name != "print" or "printable(" in path.read_text(encoding="utf-8"), path


def test_an_interrupt_while_it_starts_is_no_traceback() -> None:
    """At several moments of the start: before, in and after the imports of the commands."""
    code = "import os; os.write(2, b'up\\n'); import sys; sys.argv = ['munas-hil', 'doctor']; "
    words = [*INTERRUPTIBLE, sys.executable, "-c", f"from hil.entry import main; {code}main()"]
    for delay_s in (0.05, 0.3, 1.0):
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert process.stderr.readline() == "up\n"
            time.sleep(delay_s)
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
        assert "Traceback" not in said
        # the signal itself where the interpreter is taking down its handlers: a shell shows 130 for it, too
        assert process.returncode in (130, -signal.SIGINT, 0, 3), said


def test_a_small_memory_limit_is_a_message() -> None:
    for megabytes in (150, 400):
        done = subprocess.run(
            ["bash", "-c", f"ulimit -v {megabytes * 1024}; exec {sys.executable} -m hil boards"],
            cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode in (0, 3), (megabytes, done.stderr[-500:])
        if done.returncode:
            assert done.stderr.startswith("munas-hil: "), (megabytes, done.stderr[-500:])


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [280, 340, 450])
def test_a_library_that_memory_is_too_small_for_is_a_message(megabytes: int) -> None:
    """numpy's are loaded by the command; a library that cannot be mapped is an ImportError."""
    program = f"ulimit -v {megabytes * 1024}; exec {sys.executable} -m hil measure absent.tflite"
    done = subprocess.run(["bash", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (2, 3)
    assert done.stderr.splitlines()[-1].startswith("munas-hil: ")
    assert "BUG" not in done.stderr, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


WIDE_TABLES = ("model", "median instructions", "modelled ms", "arena", "stack", "static", "RAM", "weights", "outputs")


@pytest.mark.parametrize("width", [32, 40, 60, 80, 100, 160])
def test_no_figure_is_ever_cut(width: int) -> None:
    """Whatever the width: all figures are there in full, in a table of a group too."""
    figures = ["6,412,338", "12.345 ± 0.678", "65,536", "640", "916", "3,072", "1,234,567", "8/8 equal"]
    table = Table(*WIDE_TABLES, title="networks", caption="sizes in bytes")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("a-network-with-a-long-name" * 3, *figures)
    said = io.StringIO()
    SafeConsole(width=width, file=said).print(Group(table))
    assert all(figure in said.getvalue() for figure in figures), said.getvalue()
    assert "…" not in said.getvalue()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (MemoryError(), "ulimit -v"),
        (OSError(errno.ENOMEM, "x"), "ulimit -v"),
        (BlockingIOError(errno.EAGAIN, "fork"), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(errno.EMFILE, "x"), "ulimit -n"),
    ],
)
def test_a_limit_of_the_machine_is_named(error: Exception, advice: str) -> None:
    wrapped = ValueError("wrapped")
    wrapped.__cause__ = error
    assert advice in str(_exhausted(error))
    assert advice in str(_exhausted(wrapped))
    assert _exhausted(ValueError("other")) is None
