"""Finding TFLM: what is missing is said, and a library for another core or ABI is refused before any linking."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.cli.doctor import examine
from hil.errors import BuildError, ModelError, ToolMissing
from hil.model.network import OpKind
from hil.runtimes.tflm.adders import call_of
from hil.runtimes.tflm.archive import NotALibrary
from hil.runtimes.tflm.detect import LIBRARY_NAME, UnfitError, find_tflm, installed
from hil.runtimes.tflm.elf import read_targets
from hil.runtimes.tflm.guide import make_command
from hil.runtimes.tflm.headers import read_registry

RESOLVER = """
  TfLiteStatus AddAdd(const TFLMRegistration& registration = Register_ADD()) {
    return AddBuiltin(BuiltinOperator_ADD, registration, ParseAdd);
  }
  TfLiteStatus AddPadV2() {
    return AddBuiltin(BuiltinOperator_PADV2, Register_PADV2(), ParsePadV2);
  }
  TfLiteStatus AddRfft() { return AddCustom("SignalRfft", tflm_signal::Register_RFFT()); }
"""
HEADERS = {
    "tensorflow/lite/micro/micro_interpreter.h": "",
    "tensorflow/lite/micro/micro_mutable_op_resolver.h": RESOLVER,
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
        path.write_text(HEADERS[name])
    return tmp_path


CODE = """
enum e { A };
float f(float x, enum e y) { return x * (float)y; }
void _ZN6tflite12Register_ADDEv(void) {}
void _ZN6tflite14Register_PADV2Ev(void) {}
void _ZN6tflite11tflm_signal13Register_RFFTEv(void) {}
void _ZN6tflite17Register_ADD_INT8Ev(void) {}
void _ZN6tflite19Register_L2NORM_REFEv(void) {}
"""
LOG, KERNELS = "void _Z11MicroPrintfPKcz(void) {}\n", "void arm_convolve_s8(void) {}\n"


def add_library(root: Path, build: str, flags: tuple[str, ...], code: str = CODE + LOG + KERNELS) -> Path:
    """A library of one object, compiled with `flags`, where TFLM's build of the name `build` would leave it."""
    library = root / "gen" / build / "lib" / LIBRARY_NAME
    library.parent.mkdir(parents=True)
    source = library.with_name("one.c")
    source.write_text(code)
    objects = library.with_name("one_with_a_name_that_is_long.o")
    subprocess.run(["arm-none-eabi-gcc", "-mthumb", *flags, "-c", source, "-o", objects], check=True)
    subprocess.run(["arm-none-eabi-ar", "rc", library, objects], check=True)
    return library


def test_without_a_root_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFLM_ROOT", raising=False)
    with pytest.raises(ToolMissing, match=r"TFLM_ROOT is not set.*TARGET_ARCH=cortex-m4\+fp .*TFLM_ROOT has to name"):
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


M7_DOUBLE = ("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-d16")


@pytest.mark.firmware
def test_double_precision_is_for_chips_that_have_it_and_the_option_against_it_is_named(root: Path) -> None:
    library = add_library(root, "some_build", M7_DOUBLE)
    assert find_tflm("cortex-m7", str(root), double_precision=True).library == library
    with pytest.raises(BuildError, match=r"FPU=fpv5-sp-d16 makes one that does not.*build it: make.*FPU=fpv5-sp-d16"):
        find_tflm("cortex-m7", str(root))
    assert load_board("nucleo-h743zi").double_precision
    assert not load_board("nucleo-f746zg").double_precision


@pytest.mark.parametrize(
    ("core", "words"),
    [
        ("cortex-m4", "TARGET_ARCH=cortex-m4+fp OPTIMIZED_KERNEL_DIR=cmsis_nn BUILD_TYPE=release_with_logs"),
        ("cortex-m7", "TARGET_ARCH=cortex-m7+fp FPU=fpv5-sp-d16 OPTIMIZED_KERNEL_DIR=cmsis_nn"),
        ("cortex-m3", "TARGET_ARCH=cortex-m3 OPTIMIZED"),
    ],
)
def test_what_to_build_names_target_core_build_type_and_fpu(core: str, words: str) -> None:
    command = make_command(core)
    assert words in command
    assert command.startswith("make -f tensorflow/lite/micro/tools/make/Makefile TARGET=cortex_m_generic ")
    assert "FPU" not in make_command(core, double_precision=True)


@pytest.mark.firmware
@pytest.mark.parametrize(
    ("code", "defines", "shown"),
    [
        (CODE + LOG + KERNELS, ("-DTF_LITE_STATIC_MEMORY", "-DCMSIS_NN"), "CMSIS-NN;"),
        (CODE + KERNELS, ("-DTF_LITE_STATIC_MEMORY", "-DCMSIS_NN", "-DTF_LITE_STRIP_ERROR_STRINGS"), "no strings"),
        (CODE + LOG, ("-DTF_LITE_STATIC_MEMORY",), "portable kernels"),
    ],
)
def test_our_sources_are_compiled_as_the_library_was(
    root: Path, code: str, defines: tuple[str, ...], shown: str
) -> None:
    add_library(root, "cortex_m_generic_cortex-m4+fp_release_cmsis_nn_gcc", M4, code)
    found = find_tflm("cortex-m4", str(root))
    assert found.defines == defines
    assert shown in str(found)
    for part in (found.version, found.build, "Armv7E-M, VFPv4, single precision, hard-float ABI", "GCC"):
        assert part in str(found)


@pytest.mark.firmware
def test_a_library_of_another_version_than_the_headers_is_refused(root: Path) -> None:
    newer = CODE + LOG + KERNELS + "void _ZN6tflite15Register_DECODEEv(void) {}\n"
    add_library(root, "some_build", M4, newer)
    with pytest.raises(BuildError, match=r"different versions.*does not name Register_DECODE, which the library has"):
        find_tflm("cortex-m4", str(root))


@pytest.mark.firmware
def test_a_library_older_than_the_headers_is_refused(root: Path) -> None:
    add_library(root, "some_build", M4, CODE.replace("PADV2", "PADV1") + LOG + KERNELS)
    (root / "tensorflow/lite/micro/kernels").mkdir()
    (root / "tensorflow/lite/micro/kernels/micro_ops.h").write_text("TFLMRegistration Register_PADV1();")
    with pytest.raises(BuildError, match=r"different versions.*wants Register_PADV2, which the library lacks"):
        find_tflm("cortex-m4", str(root))


@pytest.mark.firmware
def test_big_endian_objects_are_refused(root: Path) -> None:
    add_library(root, "some_build", ("-mcpu=cortex-m4", "-mfloat-abi=soft", "-mbig-endian"))
    with pytest.raises(BuildError, match="it is big-endian"):
        find_tflm("cortex-m4", str(root))


@pytest.mark.firmware
def test_all_cores_that_have_a_library_are_listed(root: Path) -> None:
    add_library(root, "for_m4", M4)
    add_library(root, "for_m7", M7_DOUBLE)
    assert list(installed(str(root))) == ["cortex-m4", "cortex-m7"]


@pytest.mark.firmware
def test_doctor_says_which_cores_have_a_library_and_which_have_none(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_library(root, "for_m4", M4)
    monkeypatch.setenv("TFLM_ROOT", str(root))
    (check,) = [check for check in examine() if check.name == "TensorFlow Lite Micro"]
    assert check.found
    assert check.detail.startswith("cortex-m4: ")
    assert check.detail.endswith("none for cortex-m0, cortex-m3, cortex-m33, cortex-m55, cortex-m7")


def test_doctor_says_what_to_build_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFLM_ROOT", raising=False)
    (check,) = [check for check in examine() if check.name == "TensorFlow Lite Micro"]
    assert not check.found
    assert "TensorFlow Lite Micro for cortex-m4 (TFLM_ROOT is not set)" in check.detail
    assert check.install.startswith("make -f ")
    assert "TARGET_ARCH=cortex-m4+fp" in check.install


def test_operators_are_those_of_the_installed_headers(root: Path) -> None:
    registry = read_registry(root)
    assert registry.adders == {"ADD": "AddAdd", "PADV2": "AddPadV2", "SignalRfft": "AddRfft"}
    assert call_of(OpKind.ADD, registry, wide=False) == ("AddAdd", "")  # no int8 registration there
    assert call_of(OpKind.ADD, None, wide=False) == ("AddAdd", "tflite::Register_ADD_INT8()")
    assert call_of(OpKind.PADV2, None, wide=False) == ("AddPadV2", "")
    with pytest.raises(ModelError, match="does not register CONV_2D"):
        call_of(OpKind.CONV_2D, registry, wide=False)


@pytest.mark.parametrize("content", [b"", b"!<arch>\n", b"!<arch>\nrubbish" * 9, b"\x7fELF" + bytes(60)])
def test_what_is_no_library_is_refused(root: Path, content: bytes) -> None:
    library = root / LIBRARY_NAME
    library.write_bytes(content)
    with pytest.raises(NotALibrary):
        read_targets(library)
    with pytest.raises(BuildError, match=LIBRARY_NAME):
        find_tflm("cortex-m4", str(root))


@pytest.mark.timeout(60)  # it waited for somebody to write
def test_a_pipe_is_no_library(root: Path) -> None:
    os.mkfifo(root / LIBRARY_NAME)
    with pytest.raises(UnfitError, match=f"{LIBRARY_NAME}: it cannot be read: not a regular file"):
        find_tflm("cortex-m4", str(root))


@pytest.mark.firmware
def test_a_truncated_library_is_refused_not_crashed_on(root: Path) -> None:
    library = add_library(root, "some_build", M4)
    whole = library.read_bytes()
    for length in range(68, len(whole) - 1, max(1, len(whole) // 40)):
        library.write_bytes(whole[:length])
        with pytest.raises(NotALibrary):
            read_targets(library)


@pytest.mark.firmware
def test_a_library_that_was_cut_off_between_two_members_is_refused(root: Path) -> None:
    library = add_library(root, "some_build", M4)
    second = library.with_name("another_object_with_a_long_name.o")
    source = library.with_name("two.c")
    source.write_text("int behind(void) { return 1; }\n")
    subprocess.run(["arm-none-eabi-gcc", "-mthumb", *M4, "-c", source, "-o", second], check=True)
    subprocess.run(["arm-none-eabi-ar", "r", library, second], check=True)
    last = 60 + second.stat().st_size + second.stat().st_size % 2
    library.write_bytes(library.read_bytes()[:-last])
    assert read_targets(library)  # what is left of it can be read
    with pytest.raises(UnfitError, match="it is truncated: its index names objects behind its end"):
        find_tflm("cortex-m4", str(root))
