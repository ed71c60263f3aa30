"""The report of a calibration: `render` for a browser and for print, `render_text_summary` for a terminal."""

from __future__ import annotations

from hil.report.calibration.page import render
from hil.report.calibration.summary import render_text_summary

__all__ = ["render", "render_text_summary"]
