"""What a user gets: sdist, the wheel made of it, and every command in an empty environment and an empty folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.cache import cache_dir
from hil.version import VERSION
from tests.networks import small_network

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("hil", "munas", "boards", "firmware", "tests", "ci", "docs")
NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
PRINTS_VERSION = "from importlib.metadata import version; print(version('munas-hil'))"

pytestmark = [pytest.mark.slow, pytest.mark.firmware]

Run = Callable[..., str]


def built(kind: str, source: Path, into: Path) -> Path:
    """The `kind` ("sdist" or "wheel") of the project at `source`, by its build backend; no network, no isolation."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(into)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return into / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy, into = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in COPIED:
        shutil.copytree(ROOT / name, copy / name, ignore=NOT_COPIED)
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, copy)
    return built("sdist", copy, into)


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return built("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with the wheel alone; what it depends on comes from the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    found = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(found), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")  # no .pth of there is read
    return found


@pytest.fixture(scope="module")
def run(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a program of the environment in one empty folder; gives standard output."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "model.tflite").write_bytes(small_network(1))
    kept = ("PATH", "HOME", "LANG", "TMPDIR")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment["MUNAS_HIL_CACHE"] = str(cache_dir())  # objects of the same sources need not be compiled again

    def runs(program: str, *arguments: str, status: int = 0) -> str:
        command = [str(python.with_name(program)), *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return runs


def parsed(text: str) -> Any:
    return json.loads(text)


def test_the_wheel_has_what_is_no_python_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for folder in ("boards", "firmware"):
        ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()}
        prefix = f"hil/shipped/{folder}/"
        assert {name.removeprefix("hil/shipped/") for name in names if name.startswith(prefix)} == ours
    assert {"hil/py.typed", "munas/py.typed", "hil/cycle_model/published.json"} <= names
    assert {name.split("/")[0] for name in names} == {"hil", "munas", f"munas_hil-{VERSION}.dist-info"}


def test_one_version(run: Run) -> None:
    assert run("munas-hil", "--version") == f"munas-hil {VERSION}\n"
    assert run("python", "-c", PRINTS_VERSION) == f"{VERSION}\n"
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == VERSION


def test_it_is_the_wheel_that_runs(run: Run, python: Path) -> None:
    found = run("python", "-c", "import hil, munas; print(hil.__file__, munas.__file__)").split()
    assert all(Path(path).is_relative_to(python.parents[1]) for path in found)


def test_doctor_and_boards(run: Run) -> None:
    assert all(check["found"] for check in parsed(run("munas-hil", "doctor", "--json")) if check["needed"])
    names = [board["name"] for board in parsed(run("munas-hil", "boards", "--json"))]
    assert names == sorted(path.stem for path in (ROOT / "boards").glob("*.toml"))


def test_generate(run: Run) -> None:
    files = parsed(run("munas-hil", "generate", "model.tflite", "-o", "project", "--json"))["files"]
    assert {"CMakeLists.txt", "model.c"} <= {Path(name).name for name in files}


def test_the_loop(run: Run) -> None:
    """Measure with modelled cycles (the plugin is compiled), calibrate, estimate, report."""
    board = ("--board", "mps2-an386", "--via", "qemu")
    (measured,) = parsed(run("munas-hil", "measure", "model.tflite", "--timing", *board, "--json"))
    assert measured["outputs"]["mismatched"] == 0
    assert measured["modelled"]["cycles"]["median"] > 0
    calibrated = parsed(run("munas-hil", "calibrate", "--samples", "20", *board, "--json"))
    assert calibrated["samples"] == 20
    (estimated,) = parsed(run("munas-hil", "estimate", "model.tflite", *board, "--json"))
    assert estimated["memory"]["ram_total"] >= measured["memory"]["ram_total"]
    folder = Path(calibrated["report"]).parent
    run("munas-hil", "report", str(folder), "-o", "again.html")
    compares = f"assert open({calibrated['report']!r}).read() == open('again.html').read()"
    run("python", "-c", compares)


def test_the_pytest_plugin(run: Run) -> None:
    test = "def test_it(hil_measure):\n    assert hil_measure('model.tflite').measurement.outputs.mismatched == 0\n"
    run("python", "-c", f"open('test_it.py', 'w').write({test!r})")
    run("python", "-m", "pytest", "-q", "test_it.py", "--hil-board", "mps2-an386")


def test_a_search(run: Run) -> None:
    """With the extra [search]: workers are programs of the environment too, and what they find is measured."""
    for name in ("tensorflow", "keras", "sklearn"):
        pytest.importorskip(name)
    small = ("--trials", "4", "--population", "3", "--sample", "2", "--effort", "0.05", "--final-effort", "0.1")
    few = ("--front", "1", "--seeds", "1", "--workers", "1", "-o", "found", "--json")
    place = ("--board", "mps2-an386", "--via", "qemu")
    *_, last = run("munas-hil", "search", "--dataset", "digits", *place, *small, *few).splitlines()
    result = parsed(last)
    assert result["trials"] == 4
    assert result["finalists"][0]["measured"]["latency"] > 0
    run("munas-hil", "report", "found", "-o", "found.html")
