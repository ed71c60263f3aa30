"""The hypervolume of a front: how much of the space below a reference point it dominates (all is minimised).

Exact, by what each point adds to those after it (While, Bradstreet and Barone's WFG algorithm, 2012). Of the fronts of
a search, some dozen points in two to five dimensions, it takes milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from munas.search.objective import pareto_front

Point = tuple[float, ...]


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """Volume between the reference point and the points that are below it everywhere; others add nothing."""
    inside = [
        tuple(point) for point in points if all(value < most for value, most in zip(point, reference, strict=True))
    ]
    return _volume(_front(inside), tuple(reference))


def _front(points: Sequence[Point]) -> list[Point]:
    """Worst in the last dimension first, which leaves the least to the recursion."""
    return sorted((points[place] for place in pareto_front(points)), key=lambda point: point[::-1], reverse=True)


def _volume(front: Sequence[Point], reference: Point) -> float:
    if len(reference) == 2:
        return _area(front, reference)
    return sum(_added(front, place, reference) for place in range(len(front)))


def _added(front: Sequence[Point], place: int, reference: Point) -> float:
    """What one point dominates and none of those after it do."""
    point = front[place]
    own = math.prod(most - value for value, most in zip(point, reference, strict=True))
    limited = [tuple(map(max, point, other)) for other in front[place + 1 :]]
    return own - _volume(_front(limited), reference) if limited else own


def _area(front: Sequence[Point], reference: Point) -> float:
    area, height = 0.0, reference[1]
    for x, y in sorted(front):
        if y < height:
            area += (reference[0] - x) * (height - y)
            height = y
    return area
