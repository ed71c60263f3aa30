"""The least memory that is in use when a given move runs, in whatever order: a minimum cut.

The bytes live after a set of moves are a sum over the tensors that the set produces and not all of whose readers it
has: a cut of a network with an arc for each tensor. Its minimum over the sets that have all that a move needs, but not
the move, is a maximum flow. No order of the moves has a lower peak than the largest of these minima.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from itertools import pairwise

from munas.memory.moves import Move, bits

_ENDLESS = 1 << 62
_DONE, _TO_DO = -1, -2  # source and sink: moves that the set has in any case, moves that it cannot have


class LeastBytes:
    """Minimum cuts of one problem."""

    def __init__(self, moves: Sequence[Move]) -> None:
        self._moves = moves
        self._needs = [move.needs for move in moves]
        self._readers = [0] * len(moves)
        for index, needs in enumerate(self._needs):
            for source in bits(needs):
                self._readers[source] |= 1 << index
        # (move that produces it, mask of moves that read it, bytes); no reader: it stays
        self._tensors = [
            (index, 0 if move.keeps else self._readers[index], move.size)
            for index, move in enumerate(moves)
            if move.size and (move.keeps or self._readers[index])
        ]
        produced = {move.output for move in moves}
        inputs = {
            tensor: freed
            for move in moves
            for tensor, freed in zip(move.reads, move.frees, strict=True)
            if tensor not in produced
        }
        self._tensors += [(_DONE, mask, size) for mask, size in inputs.values() if size]

    def in_use(self, v: int) -> tuple[int, int]:
        """The least bytes in use while move `v` runs, and the mask of a set of moves after which it uses no more."""
        move = self._moves[v]
        above, below = _reached(self._needs, move.needs), _reached(self._readers, 1 << v)
        live, chosen = self._live(above, below)
        ways = [(move.hill + live, chosen)]
        for readers in move.in_place:  # its output takes over a buffer that all others have read
            others = _reached(self._needs, readers & ~(1 << v)) | above
            if not others & below:
                live, chosen = self._live(others, below)
                ways.append((move.hill_in_place + live, chosen))
        return min(ways)

    def _live(self, done: int, to_do: int) -> tuple[int, int]:
        """The least bytes live after a set of moves that has all of `done` and none of `to_do`, and such a set."""

        def node(move: int) -> int:
            return _DONE if move < 0 or done >> move & 1 else _TO_DO if to_do >> move & 1 else move

        arcs: dict[int, dict[int, int]] = {_DONE: {}, _TO_DO: {}}

        def arc(start: int, end: int, capacity: int) -> None:
            arcs.setdefault(start, {})[end] = arcs.setdefault(start, {}).get(end, 0) + capacity
            arcs.setdefault(end, {}).setdefault(start, 0)

        live = 0
        for number, (producer, mask, size) in enumerate(self._tensors):
            start = node(producer)
            ends = {node(reader) for reader in bits(mask)} - {_DONE} if mask else {_TO_DO}
            if start == _TO_DO or not ends:
                continue
            if _TO_DO not in ends and len(ends) > 1:
                shared = len(self._moves) + number  # the set has this one only with all the readers
                for end in ends:
                    arc(shared, end, _ENDLESS)
                ends = {shared}
            end = _TO_DO if _TO_DO in ends else ends.pop()
            if (start, end) == (_DONE, _TO_DO):
                live += size
            else:
                arc(start, end, size)
        for index, needs in enumerate(self._needs):
            for source in bits(needs) if node(index) == index else ():
                if node(source) == source:
                    arc(index, source, _ENDLESS)  # no move without what it needs
        flow, reached = _max_flow(arcs)
        return live + flow, done | sum(1 << index for index in reached if 0 <= index < len(self._moves))


def _reached(masks: Sequence[int], start: int) -> int:
    """The moves of `start` and all that the masks lead to from them."""
    found, to_visit = start, start
    while to_visit:
        index = to_visit.bit_length() - 1
        to_visit ^= 1 << index
        fresh = masks[index] & ~found
        found |= fresh
        to_visit |= fresh
    return found


def _max_flow(arcs: dict[int, dict[int, int]]) -> tuple[int, Collection[int]]:
    """Maximum flow by shortest augmenting paths, and the nodes on the source's side of the minimum cut.

    `arcs` (residual capacities) are used up.
    """
    total = 0
    while True:
        came_from = {_DONE: _DONE}
        queue = deque([_DONE])
        while queue and _TO_DO not in came_from:
            here = queue.popleft()
            for there, capacity in arcs[here].items():
                if capacity and there not in came_from:
                    came_from[there] = here
                    queue.append(there)
        if _TO_DO not in came_from:
            return total, came_from
        path = [_TO_DO]
        while path[-1] != _DONE:
            path.append(came_from[path[-1]])
        steps = [(start, end) for end, start in pairwise(path)]
        flow = min(arcs[start][end] for start, end in steps)
        for start, end in steps:
            arcs[start][end] -= flow
            arcs[end][start] += flow
        total += flow
