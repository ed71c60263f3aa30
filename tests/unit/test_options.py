"""Options as a model: the command line is made of it, a file sets the same, and every number has a range."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from hil.boards.board import load_board
from hil.calibration.options import CalibrateOptions
from hil.cli import app, config, loop, search
from hil.cli import main as cli
from hil.errors import UsageError
from hil.options import OptionsModel, config_text, fields_of, read_options
from hil.runtimes.registry import DEFAULT_RUNTIME
from hil.search.options import SearchOptions
from munas.arch.graph import mode_of
from munas.search.metrics import METRICS
from munas.search.strategies import STRATEGIES

COMMANDS: dict[str, type[OptionsModel]] = {"search": SearchOptions, "calibrate": CalibrateOptions}
GIVEN = {"search": {"dataset": "digits"}, "calibrate": {}}


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["munas-hil", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The options that a command was run with, instead of running it."""
    found: list[Any] = []

    def board(name: str, flash: str | None, sram: str | None, *_: Any, **__: Any) -> Any:
        raise UsageError(f"board {name}, {flash}, {sram}")

    for module in (loop, search):
        monkeypatch.setattr(module, "chosen_board", board)
    plain = OptionsModel.__init__

    def noted(self: OptionsModel, **values: Any) -> None:
        plain(self, **values)
        found.append(self)

    monkeypatch.setattr(OptionsModel, "__init__", noted)
    return found


@pytest.mark.parametrize("model", COMMANDS.values())
def test_every_number_has_a_range_and_every_option_help(model: type[OptionsModel]) -> None:
    for field in fields_of(model):
        assert field.help.endswith("."), field.name
        if field.base in (int, float):
            assert field.least is not None or field.above is not None, field.name
            assert field.most is not None or field.below is not None, field.name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_printed_file_holds_all_options_and_reads_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    assert run(monkeypatch, "config", name) == 0
    text = capsys.readouterr().out
    model = COMMANDS[name]
    named = re.findall(r"^(?:# )?(\w+) = ", text, flags=re.M)
    assert named == [field.name for field in fields_of(model)]
    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    assert read_options(model, GIVEN[name], tmp_path / "all.toml") == model(**GIVEN[name])
    active = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.M)
    assert set(tomllib.loads(active)) == {field.name for field in fields_of(model)}


def test_config_knows_its_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "config", "measure") == 2
    assert " or ".join(config.MODELS) in capsys.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line_takes_every_option_with_its_default(
    monkeypatch: pytest.MonkeyPatch, seen: list[Any], name: str
) -> None:
    model, given = COMMANDS[name], GIVEN[name]
    expected = model(**given)
    seen.clear()
    assert run(monkeypatch, name, *(f"--{key}={value}" for key, value in given.items())) == 2
    assert seen == [expected]
    values = {bool: "", int: "=7", float: "=0.5", str: "=x", Path: "=x"}
    for field in fields_of(model):
        for flag in (part for flags in field.flags for part in flags.split("/")):
            argument = flag + values[field.base] if flag.startswith("--") else flag + values[field.base].strip("=")
            assert run(monkeypatch, name, argument, "--help") == 0, argument


def test_the_command_line_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, seen: list[Any], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        'dataset = "digits"\nseed = 4\nmax_ram = 32768\nhalving = false\nbackend = "qemu"\n'
    )
    wanted = SearchOptions(dataset="digits", seed=5, max_ram="32768", halving=True, backend="qemu")
    seen.clear()
    assert run(monkeypatch, "search", "--config", str(tmp_path / "c.toml"), "--seed", "5", "--halving") == 2
    assert seen == [wanted]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 1", "unknown option 'sed'"),
        ("seed = -1", "c.toml: seed -1:.*greater than or equal to 0"),
        ("seed = true", "seed is true, which is no number"),
        ("seed = 1.5", "c.toml: seed 1.5"),
        ("effort = nan", "not finite"),
        ("minutes = inf", "not finite"),
        ("trials = 100000000000000", "trials"),
        ("front = []", "front"),
        ("strategy = 'bayes'", "'ageing', 'evolution', 'random' or 'nsga2'"),
        ("dataset = 3", None),
        ("[search]\nseed = 1", "unknown option 'search'"),
        ("seed = ", "cannot be read"),
    ],
)
def test_a_wrong_file_names_the_option(tmp_path: Path, text: str, message: str | None) -> None:
    file = tmp_path / "c.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_options(SearchOptions, GIVEN["search"] if message else {}, file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        read_options(CalibrateOptions, {}, tmp_path / "none.toml")


def test_what_must_be_given_is_named() -> None:
    with pytest.raises(UsageError, match="--dataset is missing"):
        read_options(SearchOptions, {})


@pytest.mark.parametrize("samples", ["0", "99999999999999", "-1", "nan", "9" * 400])
def test_counts_have_an_upper_bound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], samples: str
) -> None:
    for command in ("calibrate", "bench"):
        assert run(monkeypatch, command, "--samples", samples, "--via", "qemu") == 2
        assert "--samples" in capsys.readouterr().err


def test_limits_that_are_no_part_of_the_range_are_said_and_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"0": "greater than 0", "1.5": "less than or equal to 1", "nan": "should be a number"}
    for effort, problem in words.items():
        assert run(monkeypatch, "search", "-d", "digits", "--effort", effort) == 2
        assert problem in capsys.readouterr().err
    assert run(monkeypatch, "search", "--help") == 0
    assert "[above 0, at most 1]" in capsys.readouterr().out


def test_the_models_choices_are_those_that_exist() -> None:
    assert {row.option for row in METRICS.values() if row.option} <= set(SearchOptions.model_fields)
    bounds = {name for name in SearchOptions.model_fields if name.startswith("max_")}
    assert bounds == {row.option for row in METRICS.values() if row.option}
    for name in ("faithful", "deployed", "reference", "paper"):
        assert SearchOptions(dataset="digits", mode=name).mode == mode_of(name)  # type: ignore[arg-type]
    for strategy in ("ageing", "evolution", "random"):
        chosen = SearchOptions(dataset="digits", strategy=strategy).strategy  # type: ignore[arg-type]
        assert {"ageing": "evolution"}.get(chosen, chosen) in STRATEGIES


def test_the_default_runtime_is_one() -> None:
    assert {DEFAULT_RUNTIME, app.DEFAULT_RUNTIME} == {CalibrateOptions().runtime}


def test_a_default_stands_in_the_help_and_in_the_file() -> None:
    assert "\nsamples = 200" in config_text(CalibrateOptions, "munas-hil calibrate")
    assert "(1 to 100,000)" in config_text(CalibrateOptions, "munas-hil calibrate")
    assert "(above 0, at most 1)" in config_text(SearchOptions, "munas-hil search")


@pytest.mark.parametrize(
    ("board", "flash", "runtime", "budget"),
    [
        ("nucleo-f746zg", None, "cmsis-nn", (64 * 1024, 64 * 1024)),
        ("nucleo-f746zg", None, "tflm", (256 * 1024, 128 * 1024)),
        ("nucleo-f746zg", "100K", "tflm", (100 * 1024, 128 * 1024)),
    ],
)
def test_the_usual_budget_is_the_runtimes(board: str, flash: str | None, runtime: str, budget: tuple[int, int]) -> None:
    chosen = app.chosen_board(board, flash, runtime=runtime)
    assert (chosen.budget.flash, chosen.budget.sram) == budget


def test_the_usual_budget_is_no_more_than_the_chip_has(monkeypatch: pytest.MonkeyPatch) -> None:
    small = load_board("nucleo-f746zg")
    monkeypatch.setattr(type(small), "most", lambda self, region: 96 * 1024)
    chosen = app.chosen_board("nucleo-f746zg", runtime="tflm")
    assert (chosen.budget.flash, chosen.budget.sram) == (96 * 1024, 96 * 1024)
