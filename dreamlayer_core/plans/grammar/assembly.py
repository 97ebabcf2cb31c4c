"""A scene to a layer plan: background, copies, order, the limit on layers, names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import InputError
from ..plan import LONGEST_PROMPT, LayerPlan, PlannedLayer
from .backdrop import backdrop, background_prompt
from .depth import bottom_to_top
from .scene import Phrase, Scene, Thing

__all__ = ["Many", "assemble"]

Many = Callable[[Thing, int], str]
"""(thing, number) -> what that many of it are called: "five red balls"."""


@dataclass(frozen=True)
class _Layer:
    parts: tuple[tuple[Thing, int], ...]  # things and how many of each: one thing, once, unless layers were merged

    @property
    def size(self) -> int:
        return max(thing.phrase.size for thing, _ in self.parts)

    def prompt(self, many: Many, joiner: str) -> str:
        return joiner.join(thing.prompt if number == 1 else many(thing, number) for thing, number in self.parts)

    def name(self, joiner: str) -> str:
        return joiner.join(dict.fromkeys(thing.name for thing, _ in self.parts))[:60]


def assemble(scene: Scene, *, whole: str, limit: int, proposed: str | None, many: Many) -> LayerPlan:
    """Raises InputError where the sentence names no thing and none is ``proposed``."""
    places = backdrop(scene)
    ground = {place.index for place in places}
    notes = list(scene.notes)
    things = _pictured(scene, ground) or _proposed(whole, proposed, notes)
    if not places:
        notes.append(f"no place is named: the background is {scene.plain!r}")
    order, contradiction = bottom_to_top(things, scene.edges)
    if contradiction:
        notes.append("the sentence contradicts itself about what is in front: reading order decided")
    layers = _merge([layer for thing in order for layer in _copies(thing, limit)], limit, many, scene.joiner, notes)
    background = background_prompt(scene, places)[:LONGEST_PROMPT]
    foregrounds = _planned(layers, many, scene.joiner)
    return LayerPlan(background=background, foregrounds=foregrounds, whole=whole, notes=tuple(notes))


def _pictured(scene: Scene, ground: set[int]) -> list[Thing]:
    """The things of the foreground; words like "instruction" or "style" only where there is nothing else."""
    things = [thing for thing in scene.things if thing.index not in ground]
    return [thing for thing in things if thing.phrase.role not in ("abstract", "style", "mood")] or things


def _proposed(whole: str, proposed: str | None, notes: list[str]) -> list[Thing]:
    if not proposed:
        raise InputError(
            f"got {_short(whole)!r}, which names no thing to put on a layer of its own; name at least one, "
            'as in "a red ball on a beach", or ask for one to be proposed'
        )
    notes.append(f"the sentence names no thing: {proposed!r} was proposed")
    return [Thing(-1, Phrase(prompt=proposed, head=proposed))]


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _copies(thing: Thing, limit: int) -> list[_Layer]:
    """One layer a copy. What is beyond the limit stays together in the last one: a million balls are not a million layers."""
    count = max(1, thing.phrase.count)
    singles = min(count, limit + 1)
    return [_Layer(((thing, 1),)) for _ in range(singles - 1)] + [_Layer(((thing, count - singles + 1),))]


def _merge(layers: list[_Layer], limit: int, many: Many, joiner: str, notes: list[str]) -> list[_Layer]:
    """At most ``limit`` layers: the smallest things share one, where the topmost of them was."""
    surplus = len(layers) - limit
    if surplus <= 0:
        return layers
    by_size = sorted(range(len(layers)), key=lambda i: (layers[i].size, -i))
    merged = sorted(by_size[: surplus + 1])
    shared = _together([layers[i] for i in merged])
    notes.append(f"more than {limit} layers: {_short(shared.prompt(many, joiner))!r} share one")
    gone, last = set(merged[:-1]), merged[-1]
    return [shared if i == last else layer for i, layer in enumerate(layers) if i not in gone]


def _together(layers: Sequence[_Layer]) -> _Layer:
    numbers: dict[int, int] = {}
    things: dict[int, Thing] = {}
    for layer in layers:
        for thing, number in layer.parts:
            things[thing.index] = thing
            numbers[thing.index] = numbers.get(thing.index, 0) + number
    return _Layer(tuple((things[index], number) for index, number in numbers.items()))


def _planned(layers: Sequence[_Layer], many: Many, joiner: str) -> tuple[PlannedLayer, ...]:
    names = [layer.name(joiner) for layer in layers]
    often, met = Counter(names), Counter[str]()
    planned: list[PlannedLayer] = []
    for layer, name in zip(layers, names, strict=True):
        met[name] += 1
        shown = f"{name} {met[name]}" if often[name] > 1 else name
        box = layer.parts[0][0].box if len(layer.parts) == 1 else None
        planned.append(PlannedLayer(name=shown, prompt=layer.prompt(many, joiner)[:LONGEST_PROMPT], box=box))
    return tuple(planned)
