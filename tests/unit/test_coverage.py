"""`coverage` never ends at one file, and says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.boards.board import load_board
from hil.calibration.coverage import by_operator, covered, files_of
from hil.errors import UsageError
from hil.measure.harness import Harness, Options
from munas.tflite.file import Code, TfliteFile
from tests.firmware import images
from tests.tflite_samples import every_operator

pytestmark = pytest.mark.firmware


def unsupported() -> bytes:
    """An operator of a version that LiteRT knows and the importer does not take: softmax without options."""
    file = TfliteFile()
    x, y = file.activation("x", (1, 4), 0.1), file.activation("y", (1, 4), 1 / 256, -128)
    file.operator(Code.SOFTMAX, [x], y)
    return file.finish([x], [y])


def test_each_file_gets_its_row(tmp_path: Path) -> None:
    images.need_toolchain()
    (tmp_path / "deep").mkdir()
    files = {"good": every_operator(), "noise": b"\x00" * 50, "empty": b"", "odd": unsupported()}
    for name, data in files.items():
        (tmp_path / "deep" / f"{name}.tflite").write_bytes(data)
    board = load_board("nucleo-f746zg")
    harness = Harness(board, Options())
    found = [*files_of([tmp_path]), tmp_path / "absent.tflite"]  # removed meanwhile
    assert len(found) == 5
    rows = {Path(row.file).stem: row for row in (covered(path, board, harness, None) for path in found)}
    assert (rows["good"].imports, rows["good"].fits, rows["good"].estimable) == (True, True, None)
    assert "CONV_2D" in rows["good"].operators
    for name in ("noise", "empty", "absent"):
        assert (rows[name].imports, rows[name].fits, rows[name].operators) == (False, None, ())
        assert rows[name].missing
    assert (rows["odd"].imports, rows["odd"].blocker) == (False, "SOFTMAX")
    table = {name: counts for name, *counts in by_operator(rows.values())}
    assert table["SOFTMAX"][0] >= 1
    assert table["SOFTMAX"][2] == 1
    small = covered(tmp_path / "deep" / "good.tflite", board.with_budget(18 * 1024, None), harness, None)
    assert small.fits is False
    assert "bytes of flash" in small.missing


def test_a_folder_is_no_model_and_letters_may_be_capital(tmp_path: Path) -> None:
    (tmp_path / "zoo.tflite").mkdir()
    for name in ("zoo.tflite/a.tflite", "B.TFLITE", "c.tflite.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "broken.tflite").symlink_to("absent")  # is said to be broken, not left out
    assert [path.name for path in files_of([tmp_path])] == ["B.TFLITE", "broken.tflite", "a.tflite"]


def test_a_folder_without_models_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no \.tflite"):
        files_of([tmp_path])
    with pytest.raises(UsageError, match="absent does not exist"):
        files_of([tmp_path, tmp_path / "absent"])
