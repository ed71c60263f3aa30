"""Progress of a campaign: what a log and a terminal show."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hil.cli.progress import CampaignProgress
from hil.jobs.store import Result


def shown(terminal: bool) -> str:
    output = io.StringIO()
    progress = CampaignProgress(Console(file=output, force_terminal=terminal, width=120), "measuring")
    progress.start(5, 2)
    progress.advance(Result(2, "ok"))
    progress.advance(Result(3, "failed", error="FLASH short by [12] bytes"))
    progress.advance(Result(4, "ok"))
    progress.stop()
    progress.stop()  # a campaign that ends with an error may say so twice
    return output.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_resumed_and_failed_samples_are_told(terminal: bool) -> None:
    text = shown(terminal)
    assert "2 of 5 samples are there already" in text
    assert "sample 3 failed: FLASH short by [12] bytes" in text  # brackets are text, not markup


def test_a_terminal_gets_a_bar_with_counts() -> None:
    text = shown(terminal=True)
    assert "5/5" in text
    assert "1 failed" in text


def test_a_log_gets_a_line_now_and_then_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "3/5" not in shown(terminal=False)
    monkeypatch.setattr("hil.cli.progress.LOG_INTERVAL_S", 0.0)
    text = shown(terminal=False)
    assert "measuring: 3/5, 0 failed" in text
    assert "measuring: 5/5, 1 failed" in text
    assert "\x1b" not in text
