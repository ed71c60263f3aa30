"""The page of the paper's table and figure, with nothing run and with some; and the command that runs the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hil.cli import main as cli
from hil.cli import search as search_command
from hil.errors import CheckFailed, UsageError
from hil.options import read_options
from hil.report.paper import render_paper
from hil.resources import boards_dir
from hil.search.bounds import limits_of
from hil.search.options import SearchOptions
from hil.search.paper import EXPERIMENTS, Asked, chosen, entries_of
from hil.search.prepare import bound_options
from hil.search.result import SearchResult
from tests.report_page import assert_sound
from tests.search_results import search_result


def put(folder: Path, key: str, result: SearchResult, seed: int = 0) -> None:
    (folder / key).mkdir(parents=True)
    found = replace(result, seed=seed, dataset=EXPERIMENTS[key].dataset, settings={**result.settings, "minutes": 60.0})
    (folder / key / "search.json").write_text(json.dumps(found.to_json()))


def rendered(folder: Path) -> str:
    return render_paper(entries_of(folder), Asked(folder))


@pytest.mark.parametrize("key", EXPERIMENTS)
def test_every_search_has_options_that_can_be_run(key: str) -> None:
    from hil.boards.board import load_board

    experiment = EXPERIMENTS[key]
    options = read_options(SearchOptions, dict(experiment.options), None)
    limits = limits_of(bound_options(options), options.dataset, load_board("nucleo-f746zg"), None)
    assert options.dataset == experiment.dataset
    assert limits.hard.values
    assert key.startswith(experiment.dataset)


def test_a_page_without_a_run_says_what_to_run(tmp_path: Path) -> None:
    text = assert_sound(rendered(tmp_path)).visible
    assert f"0 of {len(EXPERIMENTS)} searches have been run" in text
    assert "µNAS (paper) 77.49 % 685 B 909 B 41.2 K" in text
    assert "SpArSe (as others quote it) 98.64 % 2.8 KB < 2 KB" in text
    for key, experiment in EXPERIMENTS.items():
        assert f"munas-hil paper {experiment.part} --only {key} --minutes 60" in text
    assert "mnist-pruned and mnist-dense have not been run" in text
    assert "fashion-mnist: nothing has been run yet" in text


def test_what_was_run_stands_beside_what_was_published(tmp_path: Path) -> None:
    result = search_result(60)
    put(tmp_path, "cifar10-binary-paper", result)
    put(tmp_path, "mnist-pruned", result)
    put(tmp_path, "mnist-dense", search_result(50, 2, pruned=False))
    html = rendered(tmp_path)
    text, best = assert_sound(html).visible, result.best()
    assert best is not None
    assert best.test_accuracy is not None
    assert f"ours, counted as the paper does {best.test_accuracy * 100:.2f} %" in text
    assert "the same on nucleo-f746zg, simulated" in text
    assert 'id="mnist-beside-flash_weights"' in html
    assert "fashion-mnist-pruned and fashion-mnist-dense have not been run" in text
    assert "Runs behind this page" in text
    assert rendered(tmp_path) == html


def test_a_search_without_a_winner_is_said(tmp_path: Path) -> None:
    put(tmp_path, "mnist-paper", replace(search_result(30), winner=None))
    assert "ours: no network within the bounds" in assert_sound(rendered(tmp_path)).visible


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (json.dumps(search_result(20).to_json()), "mnist-paper is a search on fashion-mnist, not on mnist"),
        (json.dumps(search_result(20).to_json() | {"search_version": 99}), "search.json: result has version 99"),
        ("{", "search.json cannot be read"),
    ],
)
def test_a_result_that_cannot_be_shown_is_named_and_the_others_are_shown(
    tmp_path: Path, document: str, why: str
) -> None:
    put(tmp_path, "cifar10-device", search_result(20))
    (tmp_path / "mnist-paper").mkdir()
    (tmp_path / "mnist-paper" / "search.json").write_text(document)
    found = {item.experiment.key: item for item in entries_of(tmp_path)}
    assert found["cifar10-device"].result is not None
    assert found["mnist-paper"].result is None
    assert why in found["mnist-paper"].why
    assert why in assert_sound(rendered(tmp_path)).visible
    with pytest.raises(UsageError, match=why):
        Asked(tmp_path).is_done(EXPERIMENTS["mnist-paper"])


def test_what_has_had_its_time_is_done(tmp_path: Path) -> None:
    put(tmp_path, "mnist-paper", search_result(20))
    for board in ("nucleo-f746zg", str(boards_dir() / "nucleo-f746zg.toml")):
        assert Asked(tmp_path, board=board).is_done(EXPERIMENTS["mnist-paper"])
    assert not Asked(tmp_path, 90.0).is_done(EXPERIMENTS["mnist-paper"])
    assert not Asked(tmp_path, 1.0).is_done(EXPERIMENTS["mnist-device"])
    for other in (Asked(tmp_path, seed=7), Asked(tmp_path, board="nucleo-l4r5zi")):
        with pytest.raises(UsageError, match=r"for nucleo-f746zg with seed 0, not for .*; name another"):
            other.is_done(EXPERIMENTS["mnist-paper"])
    with pytest.raises(UsageError, match="--only mnist-dense is not of the table"):
        chosen("table", ["mnist-dense"])


def test_the_page_names_the_command_as_it_was_given() -> None:
    asked, experiment = Asked(Path("my runs"), 5, 7, "nucleo-l4r5zi"), EXPERIMENTS["mnist-dense"]
    assert asked.command(experiment) == (
        "munas-hil paper pruning --only mnist-dense --minutes 5 --folder 'my runs' --seed 7 --board nucleo-l4r5zi"
    )
    assert Asked().command(experiment) == "munas-hil paper pruning --only mnist-dense --minutes 60"


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["munas-hil", "paper", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_the_command_runs_what_is_left_and_goes_on_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, "mnist-paper", search_result(20), seed=3)
    put(tmp_path, "mnist-device", search_result(20))
    seen: list[str] = []

    def searched(options: Any, as_json: bool = False) -> None:
        seen.append(options.output.name)
        assert (options.minutes, options.seed, options.workers) == (2.0, 3, 1)
        if options.dataset == "cifar10":
            raise CheckFailed("the best validation error is 40 %")
        put(tmp_path, options.output.name, search_result(20), seed=3)

    monkeypatch.setattr(search_command, "run_search", searched)
    words = ("table", "--folder", str(tmp_path), "--minutes", "2", "--workers", "1", "--seed", "3")
    names = ("mnist-paper", "mnist-device", "cifar10-device", "cifar10-binary-device")
    assert command(monkeypatch, *words, *(word for name in names for word in ("--only", name))) == 1
    assert seen == ["cifar10-device", "cifar10-binary-device"]
    text = capfd.readouterr().err
    assert "mnist-paper: has been run for 2 minutes or more" in text
    assert "not run, or not as asked: mnist-device, cifar10-device;" in text
    page = (tmp_path / "paper.html").read_text()
    assert "the best validation error is 40 %" in page
    assert "with seed 0, not for nucleo-f746zg with seed 3" in page
    assert command(monkeypatch, *words, "--only", "cifar10-binary-device") == 0
    assert command(monkeypatch, "pruning", "--folder", str(tmp_path), "--page-only") == 0
    assert command(monkeypatch, "figures", "--folder", str(tmp_path)) == 2
