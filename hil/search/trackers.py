"""The trials of a search as a study of Optuna's, or an experiment of MLflow's: for the viewers that people have.

Neither package is a dependency: whoever exports to it has it.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hil.errors import StoreError, ToolMissing, UsageError
from hil.search.errors import mapped
from hil.search.request import STORE_FILE
from hil.search.result import SearchResult, read_search_result
from munas.arch.space import to_dict
from munas.search.metrics import METRICS, Metric, features
from munas.search.store import SearchStore
from munas.search.trial import TrialResult

TARGETS = {"optuna": "optuna.sqlite", "mlflow": "mlflow.sqlite"}
"""By tracker, the file in the run folder that is written where no other was named."""


def export(run: Path, tracker: str, target: Path | None = None) -> tuple[Path, int]:
    """Write the trials of the run folder `run` for `tracker`; where, and how many.

    Raises UsageError for what is no search or a target that exists, ToolMissing where the tracker is not installed, and
    StoreError when nothing can be written.
    """
    write = _WRITERS.get(tracker)
    if write is None:
        raise UsageError(f"--to {tracker}: choose {' or '.join(TARGETS)}")
    result, folder = read_search_result(run), run if run.is_dir() else run.parent
    path = target or folder / TARGETS[tracker]
    if not (store := folder / STORE_FILE).is_file():
        raise UsageError(f"{folder} has no {STORE_FILE}, which has the trials")
    if path.exists():
        raise UsageError(f"{path} is there already; name another one with -o, or remove it")
    if importlib.util.find_spec(tracker) is None:
        raise ToolMissing(tracker, f"pip install {'mlflow-skinny' if tracker == 'mlflow' else tracker}")
    with mapped(), SearchStore(store) as opened:
        trials = list(opened.results())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is new in them, and old
            write(result, trials, path)
    except Exception as error:  # databases of theirs raise what they like
        path.unlink(missing_ok=True)  # half of it is no use
        raise StoreError(f"{path} could not be written by {tracker}: {' '.join(str(error).split())[:300]}") from error
    return path, len(trials)


def _objectives(result: SearchResult) -> list[Metric]:
    """The error, and every resource that is bounded."""
    return [Metric.ERROR, *(metric for metric in METRICS if metric is not Metric.ERROR and metric in result.bounds)]


def _known(item: TrialResult) -> dict[Metric, float]:
    """Figures of a trial that was trained; empty for one that failed."""
    if item.trained is None or item.resources is None:
        return {}
    return features(item.trained.error, item.resources)


def _about(item: TrialResult) -> dict[str, Any]:
    """What else is known of a trial: texts and numbers."""
    trial, trained = item.trial, item.trained
    found: dict[str, Any] = {
        "index": trial.index, "seed": trial.seed, "parent": -1 if trial.parent is None else trial.parent,
        "change": trial.change, "architecture": json.dumps(to_dict(trial.architecture)), "seconds": item.seconds,
        "finished_s": item.finished_s, "message": item.message,
    }  # fmt: skip
    if trained is not None:
        found |= {
            "float_error": trained.float_error, "epochs": trained.epochs, "stopped": trained.stopped,
            "emitted": json.dumps(to_dict(trained.architecture)),
        }  # fmt: skip
    return found | {metric.value: value for metric, value in _known(item).items()}


def _to_optuna(result: SearchResult, trials: list[TrialResult], path: Path) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    objectives, low, high = _objectives(result), 0.0, 1.0
    study = optuna.create_study(
        storage=f"sqlite:///{path.absolute()}", study_name=_title(result), directions=["minimize"] * len(objectives)
    )
    study.set_metric_names([METRICS[metric].name for metric in objectives])
    for key, value in (("command", result.command), ("board", result.board), ("bounds", result.bounds)):
        study.set_user_attr(key, value)
    states, made = optuna.trial.TrialState, []
    for item in trials:
        known = _known(item)
        complete = all(metric in known for metric in objectives)
        made.append(
            optuna.trial.create_trial(
                state=states.COMPLETE if complete else states.FAIL,
                values=[known[metric] for metric in objectives] if complete else None,
                params={"sparsity": item.trial.sparsity},
                distributions={"sparsity": optuna.distributions.FloatDistribution(low, high)},
                user_attrs=_about(item),
            )
        )
    study.add_trials(made)


def _to_mlflow(result: SearchResult, trials: list[TrialResult], path: Path) -> None:
    from mlflow.entities import Metric as Logged
    from mlflow.entities import Param, RunTag
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{path.absolute()}")
    experiment = client.create_experiment(_title(result))
    began_ms = int(datetime.fromisoformat(result.started).timestamp() * 1000)
    for item in trials:
        ended_ms = began_ms + int(1000 * item.finished_s)
        run = client.create_run(experiment, ended_ms - int(1000 * item.seconds), run_name=f"#{item.trial.index}")
        about = _about(item)
        numbers = {key: float(value) for key, value in about.items() if isinstance(value, int | float)}
        texts = {key: value for key, value in about.items() if isinstance(value, str)}
        logged = [Logged(key, value, ended_ms, 0) for key, value in numbers.items()]
        history = () if item.trained is None else item.trained.history
        for step, epoch in enumerate(history, start=1):
            logged += [
                Logged("epoch_loss", epoch.loss, ended_ms, step),
                Logged("epoch_error", epoch.error, ended_ms, step),
            ]
        tags = [RunTag(key, text[:5000]) for key, text in texts.items() if text]
        client.log_batch(run.info.run_id, logged[:1000], [Param("sparsity", str(item.trial.sparsity))], tags)
        client.set_terminated(run.info.run_id, "FINISHED" if item.status == "ok" else "FAILED", ended_ms)


def _title(result: SearchResult) -> str:
    return f"{result.dataset} on {result.board}, seed {result.seed}"


_WRITERS: Mapping[str, Callable[[SearchResult, list[TrialResult], Path], None]] = {
    "optuna": _to_optuna,
    "mlflow": _to_mlflow,
}
