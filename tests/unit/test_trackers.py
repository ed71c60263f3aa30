"""The trials of a search while it runs, on a page of its own; and afterwards in other people's databases."""

from __future__ import annotations

import http.client
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hil.cli.live import live_page
from hil.errors import StoreError, ToolMissing, UsageError
from hil.report.search.page import render_search
from hil.search import trackers
from hil.search.live import so_far
from munas.search.evolve import RandomSearch, Space
from munas.search.store import SearchStore, State
from munas.search.trial import Task, TrialResult
from tests.calibration_results import IDENTITY
from tests.network_trainer import StubTrainer
from tests.report_page import assert_sound
from tests.search_results import search_result
from tests.unit.test_export import World

TRIALS = 5


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A run folder with a store of five trials, one of which failed, and one more in training."""
    (tmp_path / "journal").mkdir()
    made = World(tmp_path / "run", tmp_path / "journal")
    made.folder.mkdir()
    request, rng = made.request(), np.random.default_rng(0)
    space, train = RandomSearch(Space(sparsity=(0.1, 0.5))), StubTrainer()()
    with SearchStore(made.folder / "search.sqlite") as store:
        store.begin({"dataset": "digits"})
        for index in range(TRIALS + 1):
            task = Task(space.ask(rng, index), (), 0.5)
            store.add_trial(task, State(rng.bit_generator.state, 7))
            if index == TRIALS:
                break
            done = None if index == 2 else train(task)
            resources = None if done is None else request.assessor.assess(done.architecture)
            message = "the worker died" if done is None else ""
            status = "failed" if done is None else "ok"
            at = 10.0 * (index + 1)
            store.add_result(TrialResult(task.trial, status, done, resources, message, 9.0, at))  # type: ignore[arg-type]
    return made


def finish(world: World) -> None:
    result = replace(search_result(20), dataset="digits")
    (world.folder / "search.json").write_text(json.dumps(result.to_json()))


def test_a_running_search_has_a_page(world: World) -> None:
    found = so_far(world.request(), IDENTITY)
    assert (len(found.points), found.failed, found.rejected, found.stop_reason) == (TRIALS, 1, 7, "running")
    text = assert_sound(render_search(found)).visible
    assert f"The search is running. In training: #{TRIALS} (random)." in text
    assert "it is running" in text


def get(port: int, path: str = "/", host: str | None = None) -> tuple[int, str, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{port}"})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, answer.getheader("Cache-Control")


def test_the_page_is_on_loopback_for_as_long_as_the_search(world: World) -> None:
    request, seen = world.request(), []

    def make() -> str:
        seen.append(1)
        if len(seen) > 2:
            raise StoreError("the store cannot be read")
        return render_search(so_far(request, IDENTITY))

    with live_page(0, make) as address:
        port = int(address.rsplit(":", 1)[1].rstrip("/"))
        assert address == f"http://127.0.0.1:{port}/"
        status, page, cache = get(port)
        assert (status, cache) == (200, "no-store")
        assert '<meta http-equiv="refresh" content="10">' in page
        assert get(port, host=f"localhost:{port}")[0] == 200
        assert get(port, "/search.sqlite")[0] == 404
        assert get(port, host="evil.example")[0] == 403
        status, page, _ = get(port)
        assert status == 503
        assert "the store cannot be read" in page
        assert '<meta http-equiv="refresh" content="10">' in page
        with pytest.raises(UsageError, match=f"--serve {port}"), live_page(port, make):
            pass
    with pytest.raises(OSError, match="refused"):
        get(port)


def test_the_result_file_stands_for_its_run_folder(world: World) -> None:
    finish(world)
    target = world.folder / "there"
    target.touch()
    for run in (world.folder, world.folder / "search.json"):
        with pytest.raises(UsageError, match="there already"):
            trackers.export(run, "optuna", target)


def test_a_page_before_there_is_a_store_and_of_a_damaged_one_says_so(world: World, tmp_path: Path) -> None:
    request = replace(world.request(), folder=tmp_path / "new")
    for problem in ("has not begun yet", "search.sqlite"):
        with live_page(0, lambda: render_search(so_far(request, IDENTITY))) as address:
            status, page, _ = get(int(address.rsplit(":", 1)[1].rstrip("/")))
        assert status == 503
        assert problem in page
        request.folder.mkdir(exist_ok=True)
        (request.folder / "search.sqlite").write_bytes(b"no database" * 99)


@pytest.mark.slow
def test_a_study_of_optunas_has_the_front_of_the_search(world: World) -> None:
    optuna = pytest.importorskip("optuna")
    finish(world)
    path, count = trackers.export(world.folder, "optuna")
    assert (path, count) == (world.folder / "optuna.sqlite", TRIALS)
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{path}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.metric_names[0] == "error"
    with SearchStore(world.folder / "search.sqlite") as store:
        for trial, item in zip(study.trials, store.results(), strict=True):
            assert trial.params["sparsity"] == item.trial.sparsity
            assert trial.user_attrs["change"] == item.trial.change
            if item.trained is not None:
                assert trial.values[0] == item.trained.error
                assert json.loads(trial.user_attrs["architecture"])
    assert study.best_trials
    with pytest.raises(UsageError, match="is there already"):
        trackers.export(world.folder, "optuna")


@pytest.mark.slow
def test_an_experiment_of_mlflows_has_a_run_for_each_trial(world: World) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    pytest.importorskip("sqlalchemy")
    finish(world)
    path, _ = trackers.export(world.folder, "mlflow", world.folder / "mine.sqlite")
    client = tracking.MlflowClient(tracking_uri=f"sqlite:///{path}")
    (experiment,) = [item for item in client.search_experiments() if item.name.startswith("digits")]
    runs = sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.data.metrics["index"])
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED", "FAILED", "FINISHED", "FINISHED"]
    with SearchStore(world.folder / "search.sqlite") as store:
        for run, item in zip(runs, sorted(store.results(), key=lambda item: item.trial.index), strict=True):
            assert item.trained is None or run.data.metrics["error"] == item.trained.error
            assert run.data.tags["change"] == item.trial.change


def test_what_cannot_be_exported_is_one_line(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"search\.json"):
        trackers.export(world.folder, "optuna")
    finish(world)
    with pytest.raises(UsageError, match="--to tensorboard: choose optuna or mlflow"):
        trackers.export(world.folder, "tensorboard")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match="pip install optuna"):
        trackers.export(world.folder, "optuna")
    (world.folder / "search.sqlite").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"has no search\.sqlite"):
        trackers.export(world.folder, "optuna")
