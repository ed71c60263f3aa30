"""The documentation: its examples run, its reference has every public name, its links lead somewhere, and it builds."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import hil
import munas
from hil.cli.main import app
from tests.networks import small_network

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


def examples() -> list[tuple[str, str]]:
    """Where each example stands, and its code."""
    return [
        (f"{page.name}-{number}", code)
        for page in PAGES
        for number, code in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8")))
    ]


def as_program(code: str) -> list[str]:
    """How to run an example: tests by pytest, everything else by Python."""
    if "def test_" in code:
        Path("test_example.py").write_text(code, encoding="utf-8")
        return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_example.py"]
    return [sys.executable, "-c", code.replace("samples=200", "samples=20")]  # the fewest that can be fitted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all examples, so that the calibration of one is there for the next."""
    return tmp_path_factory.mktemp("examples")


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize(("where", "code"), examples(), ids=[where for where, _ in examples()])
def test_an_example_runs(where: str, code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("model.tflite").write_bytes(small_network(1))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(as_program(code), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_examples() -> None:
    assert {where.split("-")[0] for where, _ in examples()} >= {"README.md", "python.md", "ci.md"}


@pytest.mark.parametrize("module", [hil, munas], ids=["hil", "munas"])
def test_the_reference_has_every_public_name(module: object) -> None:
    name = module.__name__  # type: ignore[attr-defined]
    text = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    homes = {item: home for home, items in module._HOMES.items() for item in items}  # type: ignore[attr-defined]
    assert listed == [f"{homes[item]}.{item}" for item in module.__all__ if item in homes]  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / link).exists(), link


_QUOTED = re.compile(r"`([^`\n]+)`|^ {4}(.+)$", re.MULTILINE)
_FILE = re.compile(r"(?<![\w./-])(?:hil|munas|tests|docs|firmware|boards|ci)/[\w./*-]+")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def named_in(page: Path) -> list[str]:
    """What stands in code type, a command's continued lines as one."""
    text = page.read_text(encoding="utf-8").replace("\\\n", "")
    return [first or second for first, second in _QUOTED.findall(text)]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_files_and_targets_that_are_named_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for text in named_in(page):
        for name in _FILE.findall(text):
            assert "NAME" in name or list(ROOT.glob(name.rstrip("."))), name
        assert set(re.findall(r"\bmake ([a-z][a-z-]*)", text)) <= targets, text


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_commands_and_options_that_are_named_exist(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for text in named_in(page):
        name, _, rest = text.partition("munas-hil ")[2].partition(" ")
        if not name or name.startswith("-") or name == "COMMAND":
            continue
        assert name in commands, text
        inner = getattr(commands[name], "commands", {}).values()
        known = {
            flag for item in (commands[name], *inner) for one in item.params for flag in one.opts + one.secondary_opts
        }
        assert set(_OPTION.findall(rest.partition("#")[0])) <= known | {"--help"}, text


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "calibrate" in (tmp_path / "reference" / "hil" / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "docs/commands.md"])
def test_every_command_is_in_the_table(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for command in app.registered_commands:
        name = command.name or command.callback.__name__  # type: ignore[union-attr]
        assert f"`munas-hil {name}" in text, name
