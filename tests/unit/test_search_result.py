"""Results of a search as documents: what is written is read back, what is foreign is refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hil.errors import UsageError
from hil.search.result import RESULT_FILE, boxes_of, is_search_document, read_search_result, search_result_from_json
from munas.arch.graph import build_graph
from munas.arch.space import parse_architecture
from tests.calibration_results import calibration_result
from tests.search_results import INPUT_SHAPE, hardware, search_result

Change = Callable[[dict[str, Any]], Any]


def document(points: int = 60) -> dict[str, Any]:
    text: dict[str, Any] = json.loads(json.dumps(search_result(points).to_json(), allow_nan=False))
    return text


@pytest.mark.parametrize("pruned", [True, False])
def test_a_result_survives_its_json(pruned: bool) -> None:
    result = search_result(60, pruned=pruned)
    assert result.finalists
    assert search_result_from_json(json.loads(json.dumps(result.to_json()))) == result


def test_a_result_is_read_from_its_folder_and_from_its_file(tmp_path: Path) -> None:
    result = hardware(search_result(30))
    (tmp_path / RESULT_FILE).write_text(json.dumps(result.to_json()), encoding="utf-8")
    assert read_search_result(tmp_path) == result
    assert read_search_result(tmp_path / RESULT_FILE) == result


def test_a_result_of_version_1_is_read() -> None:
    """It was written by the last program that said members and evaluations."""
    old = Path(__file__).resolve().parent.parent / "golden" / "search_version_1.json"
    assert '"members"' in old.read_text(encoding="utf-8")
    found = read_search_result(old)
    assert found == search_result(12)
    document = json.loads(old.read_text(encoding="utf-8"))
    assert search_result_from_json({**document, "stop_reason": "evaluations"}).stop_reason == "trials"


def test_searches_and_calibrations_are_told_apart() -> None:
    assert is_search_document(document(5))
    assert not is_search_document(calibration_result(5).to_json())
    assert not is_search_document([])


def _set(*path: Any, value: Any) -> Change:
    def change(found: dict[str, Any]) -> None:
        at: Any = found
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("points"), "points"),
        (_set("search_version", value=99), "version 99"),
        (lambda found: found.update(colour="red"), "colour"),
        (_set("points", 0, "status", value="lost"), "points.0.status: .*'ok' or 'failed'"),
        (_set("points", 0, "resources", value={"macs": 1}), "points.0.resources.model_size: Field required"),
        (_set("front", value=[4711]), r"no points: \[4711\]"),
        (_set("winner", value=4711), "winner 4711"),
        (_set("finalists", 0, "layers", 0, "inputs", value=[5]), "layer 0 reads"),
        (_set("finalists", 0, "layers", 0, "inputs", value=[]), "layer 0 reads"),
        (_set("finalists", 0, "seed_errors", value=[[1]]), "seed_errors|unpack"),
        (_set("identity", value=None), "identity"),
        (lambda found: found["points"].append(found["points"][0]), "twice"),
    ],
)
def test_a_broken_document_is_refused_with_its_reason(change: Change, message: str) -> None:
    broken = document()
    change(broken)
    with pytest.raises(UsageError, match=message):
        search_result_from_json(broken)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 100_000, '{"search_version": 1}'])
def test_a_file_that_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / RESULT_FILE
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError):
        read_search_result(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"search\.json cannot be read"):
        read_search_result(tmp_path)


def test_layers_of_the_picture_are_the_operators_of_the_network() -> None:
    finalist = search_result(60).finalists[0]
    graph = build_graph(parse_architecture(finalist.architecture), INPUT_SHAPE, 10)
    assert finalist.layers == boxes_of(graph)
    assert sum(box.macs for box in finalist.layers) == graph.macs
    assert sum(box.weights for box in finalist.layers) == graph.model_size


def test_the_summary_leaves_out_what_only_the_report_needs() -> None:
    result = search_result(60)
    summary = result.summary_json()
    json.dumps(summary, allow_nan=False)
    assert summary["winner"] == result.winner
    assert summary["trials"] == 60
    assert summary["simulated"] is True
    assert "points" not in summary
    assert "layers" not in summary["finalists"][0]
    assert len(json.dumps(summary)) < 20_000
