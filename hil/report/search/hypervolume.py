"""How good the front was over the time of the search: the hypervolume below the bounds."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from hil.report.charts import axes, numbers, svg
from hil.report.search.progress import is_time, time_unit
from hil.report.search.series import is_error
from hil.search.result import Point, SearchResult
from munas.search.hypervolume import hypervolume
from munas.search.metrics import Metric, features

IDENT = "hypervolume"
NAME = "Hypervolume of the front over the time of the search"
HEIGHT = 320
_KEYS = ("op", "mac")  # of two runs; as in the other figures that compare them
Run = tuple[str, SearchResult]


def volumes_over_time(result: SearchResult) -> tuple[tuple[float, float], ...]:
    """(time in seconds, hypervolume 0..1) after each trial that enlarged it.

    Of the networks trained to the end, over the error, from 1, and every bounded resource, from its bound: 1 would be
    no error at no cost. What is above a bound adds nothing.
    """
    bounds = {Metric(key): value for key, value in result.bounds.items() if key != Metric.ERROR}
    front: list[tuple[float, ...]] = []
    steps: list[tuple[float, float]] = []
    reference = (1.0,) * (1 + len(bounds))
    for item in sorted(result.points, key=lambda item: (item.finished_s, item.index)):
        point = _shares(item, bounds)
        if point is None or any(all(a <= b for a, b in zip(other, point, strict=True)) for other in front):
            continue
        front = [other for other in front if not all(a <= b for a, b in zip(point, other, strict=True))] + [point]
        volume = hypervolume(front, reference)
        if not steps or volume > steps[-1][1]:
            steps.append((item.finished_s, volume))
    return tuple(steps)


def _shares(item: Point, bounds: dict[Metric, float]) -> tuple[float, ...] | None:
    """Error, and each resource over its bound; None for what is stopped, failed, unknown or outside."""
    if item.resources is None or item.stopped or item.error is None:
        return None
    if not (is_error(item.error) and is_time(item.finished_s)):
        return None
    known = features(item.error, item.resources)
    if any(metric not in known or not bound > 0 for metric, bound in bounds.items()):
        return None
    shares = (item.error, *(known[metric] / bound for metric, bound in bounds.items()))
    return shares if all(0 <= share < 1 for share in shares) else None


def hypervolume_figure(runs: Sequence[Run]) -> Markup:
    """A line for each run, by its name; at most two."""
    lines = [(name, volumes_over_time(result), result) for name, result in runs]
    drawn = [steps for _, steps, _ in lines if steps]
    if not drawn:
        return svg.empty(IDENT, axes.WIDTH, 200, NAME, "no network within the bounds was trained to the end")
    ends = [_end(result) for _, _, result in lines]
    span, unit = time_unit(max(ends))
    highest = max(steps[-1][1] for steps in drawn)
    area = axes.panel(
        IDENT, (0.0, max(ends) / span * 1.01 or 1.0), (0.0, min(1.0, highest * 1.15)), height=HEIGHT, top=30, right=24
    )
    words = "; ".join(f"{name}: {steps[-1][1]:.3f}" if steps else f"{name}: none" for name, steps, _ in lines)
    return svg.drawing(
        IDENT, area.width, area.height, NAME, f"{words}.",
        svg.text(0, area.top - 12, "Hypervolume below the bounds, 0 to 1", "axis-name"),
        area.x_ticks(area.x.ticks(6), grid=False), area.y_ticks(area.y.ticks(5)),
        area.base_line(), area.x_name(f"Time of the search, {unit}"),
        *(_line(area, steps, end, span, key) for (_, steps, _), end, key in zip(lines, ends, _KEYS, strict=False)),
        *(_label(area, row, f"{name}: {_last(steps)}", key)
          for row, ((name, steps, _), key) in enumerate(zip(lines, _KEYS, strict=False))),
    )  # fmt: skip


def _end(result: SearchResult) -> float:
    return max((item.finished_s for item in result.points if is_time(item.finished_s)), default=0.0)


def _last(steps: Sequence[tuple[float, float]]) -> str:
    return numbers.fixed(steps[-1][1], 3) if steps else "none within the bounds"


def _line(area: axes.Panel, steps: Sequence[tuple[float, float]], end: float, span: float, key: str) -> Markup:
    if not steps:
        return Markup("")
    points = [(area.x(steps[0][0] / span), area.y(0.0))]
    for seconds, volume in steps:
        points += [(area.x(seconds / span), points[-1][1]), (area.x(seconds / span), area.y(volume))]
    points.append((area.x(end / span), points[-1][1]))
    return svg.tag("path", d=svg.points_path(points), class_=f"curve {key}")


def _label(area: axes.Panel, row: int, text: str, key: str) -> Markup:
    return svg.text(area.right - 6, area.bottom - 12 - 17 * row, text, f"strong halo {key}-ink", "end")
