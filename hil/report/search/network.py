"""Picture of a network: its layers top-down, branches side by side, meeting in the addition.

A lane is a column: the main path is the leftmost one, every branch takes a free lane where it leaves the main path and
gives it back where it is added. A rank is a row: one more than the deepest of a layer's inputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hil.report.charts import numbers, svg
from hil.search.result import Box

LANE_WIDTH, LANE_GAP = 164.0, 18.0
LAYER_HEIGHT, POOL_HEIGHT, ADD_RADIUS = 37.0, 21.0, 10.0
ROW_GAP = 15.0
MARGIN = 3.0
MOST_LAYERS = 200  # of a network of the space: 10 blocks of 3 layers with their pools, additions and the dense tail
SHARE_SHOWN = 0.005


@dataclass(frozen=True, slots=True)
class Node:
    """One shape of the picture. `box` is None for the network's input; `inputs` are positions of nodes."""

    box: Box | None
    inputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """A node with its place: `x` is its middle, `y` its top, drawing units."""

    node: Node
    lane: int
    x: float
    y: float
    height: float

    @property
    def bottom(self) -> float:
        """y of the lower edge, in px."""
        return self.y + self.height

    @property
    def middle(self) -> float:
        """y of the middle, in px."""
        return self.y + self.height / 2


def nodes_of(layers: Sequence[Box]) -> tuple[Node, ...]:
    """The input and all layers; a chain of two-input additions is one node with all of its terms."""
    consumers = Counter(source for box in layers for source in box.inputs)
    absorbed: dict[int, tuple[int, ...]] = {}  # addition -> its terms, as positions in `layers`
    hidden: set[int] = set()
    for position, box in enumerate(layers):
        if box.kind != "Add":
            continue
        first = box.inputs[0]
        if first in absorbed and consumers[first] == 1:
            hidden.add(first)
            absorbed[position] = (*absorbed[first], *box.inputs[1:])
        else:
            absorbed[position] = box.inputs
    found = [Node(None, ())]
    place = {-1: 0}
    for position, box in enumerate(layers):
        if position not in hidden:
            place[position] = len(found)
            found.append(Node(box, tuple(place[item] for item in absorbed.get(position, box.inputs))))
    return tuple(found)


def lanes_of(nodes: Sequence[Node]) -> tuple[int, ...]:
    """Lane of every node."""
    lanes: list[int] = [0]
    tails = {0: 0}  # lane in use -> its last node
    for position, node in enumerate(nodes[1:], start=1):
        lane = lanes[node.inputs[0]]
        if len(node.inputs) > 1:
            for source in node.inputs[1:]:
                tails.pop(lanes[source], None)
        elif tails.get(lane) != node.inputs[0]:
            lane = next(free for free in range(len(nodes)) if free not in tails)
        tails[lane] = position
        lanes.append(lane)
    return tuple(lanes)


def height_of(node: Node) -> float:
    """Height of a node's shape."""
    if node.box is None or node.box.kind == "Pool":
        return POOL_HEIGHT
    return 2 * ADD_RADIUS if node.box.kind == "Add" else LAYER_HEIGHT


def placed_nodes(nodes: Sequence[Node]) -> tuple[Placed, ...]:
    """All nodes with their places; rows are as high as their highest node."""
    ranks = [0]
    for node in nodes[1:]:
        ranks.append(1 + max(ranks[source] for source in node.inputs))
    heights = [0.0] * (max(ranks) + 1)
    for node, rank in zip(nodes, ranks, strict=True):
        heights[rank] = max(heights[rank], height_of(node))
    tops = [MARGIN + sum(heights[:rank]) + rank * ROW_GAP for rank in range(len(heights))]
    return tuple(
        Placed(
            node, lane, MARGIN + lane * (LANE_WIDTH + LANE_GAP) + LANE_WIDTH / 2,
            tops[rank] + (heights[rank] - height_of(node)) / 2, height_of(node),
        )
        for node, lane, rank in zip(nodes, lanes_of(nodes), ranks, strict=True)
    )  # fmt: skip


def network_picture(ident: str, layers: Sequence[Box], input_shape: tuple[int, ...], name: str) -> Markup:
    """The picture, unscaled: one drawing unit is one pixel."""
    if not layers or len(layers) > MOST_LAYERS:
        return svg.empty(ident, 320, 80, name, "no layers known" if not layers else "too many layers to draw")
    places = placed_nodes(nodes_of(layers))
    width = (max(item.lane for item in places) + 1) * (LANE_WIDTH + LANE_GAP) - LANE_GAP + 2 * MARGIN
    height = max(item.bottom for item in places) + MARGIN
    total = sum(box.macs for box in layers)
    description = "; ".join(_described(box) for box in layers)
    return svg.tag(
        "svg", svg.tag("title", name, id=f"{ident}-t"), svg.tag("desc", description, id=f"{ident}-d"),
        *(_edge(places[source], item) for item in places for source in item.node.inputs),
        *(_shape(item, input_shape, total, is_last=item is places[-1]) for item in places),
        class_="network", viewBox=f"0 0 {svg.coordinate(width)} {svg.coordinate(height)}", width=width, height=height,
        role="img", aria_labelledby=f"{ident}-t {ident}-d", id=ident,
    )  # fmt: skip


def _edge(source: Placed, target: Placed) -> Markup:
    """From the bottom of `source` into the top of `target`, or into the side of an addition from another lane."""
    at = svg.coordinate
    is_add = target.node.box is not None and target.node.box.kind == "Add"
    if source.lane == target.lane:
        path = f"M{at(source.x)} {at(source.bottom)}V{at(target.y)}"
    elif is_add:
        side = target.x + (ADD_RADIUS if source.x > target.x else -ADD_RADIUS)
        path = f"M{at(source.x)} {at(source.bottom)}V{at(target.middle)}H{at(side)}"
    else:
        turn = source.bottom + ROW_GAP / 2
        path = f"M{at(source.x)} {at(source.bottom)}V{at(turn)}H{at(target.x)}V{at(target.y)}"
    return svg.tag("path", d=path, class_="edge")


def _shape(item: Placed, input_shape: tuple[int, ...], total_macs: int, *, is_last: bool) -> Markup:
    box = item.node.box
    if box is None:
        return _flat(item, f"Input {numbers.shape(input_shape)}", "input")
    if box.kind == "Add":
        return _addition(item, box)
    if box.kind == "Pool":
        return _flat(item, f"{_pool_name(box)} → {numbers.shape(box.out_shape)}", "pool", _title(item, total_macs))
    return _layer(item, box, total_macs, is_last=is_last)


def _flat(item: Placed, label: str, class_: str, title: str = "") -> Markup:
    inside = (svg.title(title),) if title else ()
    frame = svg.rect(item.x - LANE_WIDTH / 2, item.y, LANE_WIDTH, item.height, f"node {class_}", *inside)
    return frame + svg.text(item.x, item.middle + 4, label, "node-note", "middle")


def _addition(item: Placed, box: Box) -> Markup:
    terms = len(item.node.inputs)
    circle = svg.tag(
        "circle", svg.title(f"Sum of {terms} outputs, zero-padded to {numbers.shape(box.out_shape)}"),
        cx=item.x, cy=item.middle, r=ADD_RADIUS, class_="node add",
    )  # fmt: skip
    cross = svg.line(item.x - 4.5, item.middle, item.x + 4.5, item.middle, "cross")
    cross += svg.line(item.x, item.middle - 4.5, item.x, item.middle + 4.5, "cross")
    return circle + cross + svg.text(item.x - 16, item.middle + 4, numbers.shape(box.out_shape), "node-note", "end")


def _layer(item: Placed, box: Box, total_macs: int, *, is_last: bool) -> Markup:
    left, part = item.x - LANE_WIDTH / 2, box.macs / total_macs if total_macs > 0 else 0.0
    below = [numbers.shape(box.out_shape) if len(box.out_shape) > 1 else "logits" if is_last else ""]
    below += [word for word, is_there in (("BN", box.batch_norm), ("ReLU", box.relu)) if is_there]
    share = svg.text(left + LANE_WIDTH - 8, item.y + 15, f"{part * 100:.0f}{numbers.NBSP}%", "node-note", "end")
    hover = svg.title(_title(item, total_macs))
    return svg.join([
        svg.rect(left, item.y, LANE_WIDTH, item.height, f"node {layer_class(box)}", hover),
        svg.rect(left, item.bottom - 3, LANE_WIDTH * min(part, 1.0), 3, f"load {layer_class(box)}"),
        svg.text(left + 8, item.y + 15, layer_name(box), "node-name"),
        share if part >= SHARE_SHOWN else "",
        svg.text(left + 8, item.y + 29, " · ".join(word for word in below if word), "node-note"),
    ])  # fmt: skip


def layer_class(box: Box) -> str:
    """What a layer is coloured by."""
    if box.kind == "Conv2D":
        return "pointwise" if box.kernel == 1 else "conv"
    return {"DWConv2D": "depthwise", "Dense": "dense"}.get(box.kind, "pool")


def layer_name(box: Box) -> str:
    """``Conv 3×3, 16 /2``: kernel, filters, stride."""  # noqa: RUF002
    stride = f" /{box.stride}" if box.stride > 1 else ""
    window = numbers.shape((box.kernel, box.kernel))
    if box.kind == "Conv2D":
        return f"Conv {window}, {box.out_shape[-1]}{stride}"
    return f"Depthwise {window}{stride}" if box.kind == "DWConv2D" else f"Dense {box.out_shape[-1]}"


def _pool_name(box: Box) -> str:
    kind = {"max": "Max", "avg": "Avg"}.get(box.pool_type or "", "")
    return f"{kind} pool {numbers.shape(box.pool or ())}".strip()


def _title(item: Placed, total_macs: int) -> str:
    box = item.node.box
    assert box is not None
    part = f" ({numbers.percent(box.macs / total_macs)})" if total_macs > 0 else ""
    return f"{numbers.significant(box.macs)} MACs{part}, {numbers.plural(box.weights, 'weight')} and biases"


def _described(box: Box) -> str:
    name = "Add" if box.kind == "Add" else _pool_name(box) if box.kind == "Pool" else layer_name(box)
    return f"{name} to {numbers.shape(box.out_shape)}"
