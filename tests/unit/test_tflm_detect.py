"""Finding TFLM: what is missing is said, and a library for another core or ABI is refused before any linking."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hil.errors import BuildError, ToolMissing
from hil.runtimes.tflm.detect import LIBRARY_NAME, find_tflm
from hil.runtimes.tflm.elf import NotALibrary, read_targets

HEADERS = {
    "tensorflow/lite/micro/micro_interpreter.h": "",
    "tensorflow/lite/micro/tools/make/downloads/flatbuffers/include/flatbuffers/flatbuffers.h": "",
    "tensorflow/lite/micro/tools/make/downloads/gemmlowp/fixedpoint/fixedpoint.h": "",
    "tensorflow/lite/micro/tools/make/downloads/ruy/ruy/profiler/instrumentation.h": "",
}
M4 = ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
M7 = ("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with TFLM's headers and no library."""
    for name in HEADERS:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def add_library(root: Path, build: str, flags: tuple[str, ...]) -> Path:
    """A library of one object, compiled with `flags`, where TFLM's build of the name `build` would leave it."""
    library = root / "gen" / build / "lib" / LIBRARY_NAME
    library.parent.mkdir(parents=True)
    source = library.with_name("one.c")
    source.write_text("enum e { A }; float f(float x, enum e y) { return x * (float)y; }\n")
    objects = library.with_name("one_with_a_name_that_is_long.o")
    subprocess.run(["arm-none-eabi-gcc", "-mthumb", *flags, "-c", source, "-o", objects], check=True)
    subprocess.run(["arm-none-eabi-ar", "rc", library, objects], check=True)
    return library


def test_without_a_root_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFLM_ROOT", raising=False)
    with pytest.raises(ToolMissing, match=r"TFLM_ROOT is not set.*cortex_m_generic/README\.md"):
        find_tflm("cortex-m4")


def test_a_root_that_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TFLM_ROOT", str(tmp_path / "gone"))
    with pytest.raises(ToolMissing, match="no folder"):
        find_tflm("cortex-m4")


@pytest.mark.parametrize("name", HEADERS)
def test_a_missing_header_is_named(root: Path, name: str) -> None:
    (root / name).unlink()
    with pytest.raises(ToolMissing, match=Path(name).name):
        find_tflm("cortex-m4", str(root))


def test_headers_without_a_library(root: Path) -> None:
    with pytest.raises(ToolMissing, match=f"no {LIBRARY_NAME}"):
        find_tflm("cortex-m4", str(root))


@pytest.mark.firmware
def test_each_core_gets_its_library(root: Path) -> None:
    libraries = {
        "cortex-m4": add_library(root, "cortex_m_generic_cortex-m4+fp_default_cmsis_nn_gcc", M4),
        "cortex-m7": add_library(root, "cortex_m_generic_cortex-m7+fp_default_cmsis_nn_gcc", M7),
    }
    found = {core: find_tflm(core, str(root)) for core in libraries}
    assert {core: item.library for core, item in found.items()} == libraries
    assert found["cortex-m4"].version != found["cortex-m7"].version
    for name in HEADERS:
        assert any((folder / Path(name).name).is_file() for folder in _below(found["cortex-m4"].include_dirs))


def _below(folders: tuple[Path, ...]) -> list[Path]:
    return [path for folder in folders for path in (folder, *folder.rglob("*")) if path.is_dir()]


@pytest.mark.firmware
def test_a_release_build_with_its_log_is_preferred(root: Path) -> None:
    add_library(root, "cortex_m_generic_cortex-m4+fp_default_cmsis_nn_gcc", M4)
    wanted = add_library(root, "cortex_m_generic_cortex-m4+fp_release_with_logs_cmsis_nn_gcc", M4)
    add_library(root, "cortex_m_generic_cortex-m4+fp_release_cmsis_nn_gcc", M4)
    assert find_tflm("cortex-m4", str(root)).library == wanted


@pytest.mark.firmware
@pytest.mark.parametrize(
    ("core", "flags", "reason"),
    [
        ("cortex-m4", M7, "it is for cortex-m7"),
        ("cortex-m7", M4, "it is for cortex-m4"),
        ("cortex-m4", ("-mcpu=cortex-m4", "-mfloat-abi=soft"), "soft-float ABI"),
        ("cortex-m4", ("-mcpu=cortex-m4", "-mfloat-abi=softfp", "-mfpu=fpv4-sp-d16"), "soft-float ABI"),
        ("cortex-m7", ("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-d16"), "double precision"),
        ("cortex-m4", ("-mcpu=cortex-m33", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"), "it is for cortex-m33"),
        ("cortex-m4", (*M4, "-fno-short-enums"), "enumerations"),
    ],
)
def test_a_library_for_something_else_is_refused(root: Path, core: str, flags: tuple[str, ...], reason: str) -> None:
    add_library(root, "some_build", flags)
    with pytest.raises(BuildError, match=f"no library for {core}.*{reason}"):
        find_tflm(core, str(root))


@pytest.mark.parametrize("content", [b"", b"!<arch>\n", b"!<arch>\nrubbish" * 9, b"\x7fELF" + bytes(60)])
def test_what_is_no_library_is_refused(root: Path, content: bytes) -> None:
    library = root / LIBRARY_NAME
    library.write_bytes(content)
    with pytest.raises(NotALibrary):
        read_targets(library)
    with pytest.raises(BuildError, match=LIBRARY_NAME):
        find_tflm("cortex-m4", str(root))


@pytest.mark.firmware
def test_a_truncated_library_is_refused_not_crashed_on(root: Path) -> None:
    library = add_library(root, "some_build", M4)
    whole = library.read_bytes()
    for length in range(68, len(whole) - 1, max(1, len(whole) // 40)):
        library.write_bytes(whole[:length])
        with pytest.raises(NotALibrary):
            read_targets(library)
