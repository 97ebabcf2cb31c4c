"""The order of the layers from what the sentence says of their depth."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from .scene import Edge, Relation, Thing

__all__ = ["bottom_to_top", "covers"]

_SUBJECT_ON_TOP: frozenset[Relation] = frozenset({"on", "in", "front", "above", "against", "between"})
_SUBJECT_BELOW: frozenset[Relation] = frozenset({"behind", "under"})


def covers(edge: Edge) -> tuple[int, int] | None:
    """(lower, upper) of an edge, or None where it says nothing of depth ("next to").

    What lies on, in, against or between things is seen in front of them; what is under or behind a thing is hidden by it.
    """
    if edge.relation in _SUBJECT_ON_TOP:
        return edge.target, edge.subject
    if edge.relation in _SUBJECT_BELOW:
        return edge.subject, edge.target
    return None


def bottom_to_top(things: Sequence[Thing], edges: Iterable[Edge]) -> tuple[list[Thing], bool]:
    """Things by depth, and whether the sentence contradicts itself. n log n.

    Where it says nothing of two things, "in the background" comes first, "in the foreground" last, and otherwise the one
    mentioned first lies lower: reading order is painting order.
    """
    by_index = {thing.index: thing for thing in things}
    upper: dict[int, set[int]] = {index: set() for index in by_index}
    waits: dict[int, int] = dict.fromkeys(by_index, 0)
    for pair in map(covers, edges):
        if (
            pair
            and pair[0] in by_index
            and pair[1] in by_index
            and pair[0] != pair[1]
            and pair[1] not in upper[pair[0]]
        ):
            upper[pair[0]].add(pair[1])
            waits[pair[1]] += 1
    left = sorted((thing.level, thing.index) for thing in things)  # sorted lists are heaps
    ready = [(thing.level, thing.index) for thing in things if not waits[thing.index]]
    heapq.heapify(ready)
    order: list[Thing] = []
    done: set[int] = set()
    contradiction, cursor = False, 0
    while len(order) < len(things):
        if not ready:  # a circle: open it at the first thing that is left
            contradiction = True
            while left[cursor][1] in done:
                cursor += 1
            heapq.heappush(ready, left[cursor])
        index = heapq.heappop(ready)[1]
        if index in done:
            continue
        done.add(index)
        order.append(by_index[index])
        for above in upper[index]:
            waits[above] -= 1
            if not waits[above] and above not in done:
                heapq.heappush(ready, (by_index[above].level, above))
    return order, contradiction
