"""The page of a run folder, whichever kind of run it holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

from hil.calibration.calibrate import relocated
from hil.calibration.result import CalibrationResult, read_result
from hil.errors import UsageError
from hil.files import read_json, sweep, write_text
from hil.measure.result import RESULT_FILE as MEASUREMENT_FILE
from hil.measure.result import MeasurementResult, is_measurement_document, read_measurement_result
from hil.report.calibration.page import render
from hil.report.measurement.page import render_measurement
from hil.report.search.page import render_search
from hil.search.request import STORE_FILE
from hil.search.result import RESULT_FILE, SearchResult, is_search_document, read_search_result

REPORT_FILE = "report.html"

_UNSHOWABLE = (TypeError, ValueError, AttributeError, ArithmeticError, LookupError)


def is_search(run: Path) -> bool:
    """Whether `run` is the run folder of a search, or its result file."""
    if run.is_dir():
        return (run / RESULT_FILE).exists()
    try:
        return is_search_document(read_json(run))
    except UsageError:
        return False  # whoever reads it as a calibration says what is wrong


def is_measurement(run: Path) -> bool:
    """Whether `run` is what `measure -o` left, or the result file in it."""
    file = run / MEASUREMENT_FILE if run.is_dir() else run
    try:
        return is_measurement_document(read_json(file))
    except UsageError:
        return False


def page_of(run: Path, beside: Path | None = None) -> str:
    """The HTML report of the run folder or result file `run`; `beside` is another search to compare it with.

    Raises UsageError for what is no run, and for runs that cannot be compared.
    """
    if is_measurement(run):
        if beside is not None:
            raise UsageError(f"--beside compares two searches, and {run} is none")
        return _measurement_page(run)
    if not is_search(run):
        if beside is not None:
            raise UsageError(f"--beside compares two searches, and {run} is none")
        if (run / STORE_FILE).is_file():
            raise UsageError(f"the search in {run} has not ended; go on with it by the command that began it")
        if run.is_dir() and not (run / MEASUREMENT_FILE).exists():
            raise UsageError(
                f"{run} holds no run that has ended: neither {RESULT_FILE} nor {MEASUREMENT_FILE} is in it"
            )
        return _calibration_page(run)
    result = read_search_result(run)
    other = None if beside is None else read_search_result(beside)
    try:
        return render_search(result, other)
    except _UNSHOWABLE as error:
        raise UsageError(f"{run} has a figure that cannot be shown ({error}); run the search again") from error


def write_calibration_report(result: CalibrationResult) -> None:
    """Write the page of a calibration that has just ended into its run folder. Raises StoreError."""
    write_text(Path(result.report_path), render(result))


def write_search_report(folder: Path, result: SearchResult) -> Path:
    """Write the page of a search that has just ended into its run `folder`; where it is. Raises StoreError."""
    sweep(folder, REPORT_FILE)
    page = folder / REPORT_FILE
    write_text(page, render_search(result))
    return page


def require_measurement_folder(folder: Path) -> None:
    """Raise UsageError where `write_measurement` would: to be asked before hours of measuring. Makes nothing."""
    file = folder / MEASUREMENT_FILE
    try:
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            what = "cannot be written to" if nearest.is_dir() else "is not a folder"
            raise UsageError(f"{nearest} {what}; name another one with --output")
        is_other = is_search(folder) or (file.exists() and not is_measurement(folder))
    except OSError as error:
        raise UsageError(f"{folder} cannot be a folder: {error.strerror or error}; name another one") from error
    if is_other:
        raise UsageError(f"{folder} holds another run; name another folder")


def write_measurement(folder: Path, result: MeasurementResult) -> Path:
    """Write result.json and the page of `result` into `folder`; where the page is.

    Raises UsageError for the folder of another kind of run, StoreError when it cannot be written.
    """
    require_measurement_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be a folder: {error.strerror or error}; name another one") from error
    sweep(folder, MEASUREMENT_FILE, REPORT_FILE)
    write_text(folder / MEASUREMENT_FILE, json.dumps(result.to_json(), allow_nan=False) + "\n")
    write_text(folder / REPORT_FILE, render_measurement(result))
    return folder / REPORT_FILE


def _measurement_page(run: Path) -> str:
    result = read_measurement_result(run)
    try:
        return render_measurement(result)
    except _UNSHOWABLE as error:
        raise UsageError(f"{run} has a figure that cannot be shown ({error}); measure again") from error


def _calibration_page(run: Path) -> str:
    result = relocated(read_result(run), run if run.is_dir() else run.parent)
    try:
        return render(result)
    except _UNSHOWABLE as error:
        raise UsageError(f"{run} has a figure that cannot be shown ({error}); calibrate again") from error
