"""The table of metrics: every member has a row, and every row is read where the table says."""

from __future__ import annotations

import dataclasses

import pytest

from hil.report.search.series import metrics_of
from hil.report.search.tables import bounds_table
from hil.search.result import MeasuredFigures
from munas.cost.resources import Resources
from munas.search.metrics import METRICS, Form, Metric, MetricSpec, features
from tests.search_results import search_result

COSTS = Resources(5, 7, 11, 13, 17, 19, 23.0, 22.0, 24.0, "cycles")


def test_every_metric_has_a_row() -> None:
    assert set(METRICS) == set(Metric)
    assert all(row.metric is metric and row.name and row.title and row.phrase for metric, row in METRICS.items())


def test_every_row_reads_its_own_figure() -> None:
    assert features(0.25, COSTS) == {
        Metric.ERROR: 0.25, Metric.PEAK_MEMORY: 11, Metric.MODEL_SIZE: 7, Metric.MACS: 5, Metric.RAM: 13,
        Metric.FLASH: 17, Metric.WEIGHTS: 19, Metric.LATENCY: 23.0,
    }  # fmt: skip
    unknown = dataclasses.replace(COSTS, peak_memory=-1, latency=None)
    assert set(Metric) - set(features(None, unknown)) == {Metric.ERROR, Metric.PEAK_MEMORY, Metric.LATENCY}


@pytest.mark.parametrize("row", METRICS.values(), ids=lambda row: str(row.metric))
def test_what_a_device_says_is_kept(row: MetricSpec) -> None:
    kept = {field.name for field in dataclasses.fields(MeasuredFigures)}
    assert row.is_measured == (row.metric.value in kept)
    assert not row.never_above or row.is_measured
    assert not row.fills_region or (row.region and row.option)
    assert (row.region is None) or row.form is Form.BYTES


@pytest.mark.parametrize("row", METRICS.values(), ids=lambda row: str(row.metric))
def test_a_bound_on_any_metric_is_reported(row: MetricSpec) -> None:
    result = dataclasses.replace(search_result(20), bounds={row.metric.value: 0.5}, hard_budget=None)
    (line,) = bounds_table(result).rows
    assert line[0] == row.title
    drawn = {measure.key for measure in metrics_of(result)}
    shown = row.form is not Form.FRACTION and (row.is_shown or row.is_counted)
    assert (row.metric.value in drawn) == shown
