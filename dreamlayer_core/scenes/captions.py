"""Many wordings for what a scene shows."""

from __future__ import annotations

import numpy as np

__all__ = ["background_caption", "object_caption", "whole_caption"]

_GROUND_WORDS = {
    "meadow": ("a green meadow", "a grassy field", "green grass", "a lawn"),
    "beach": ("a sandy beach", "yellow sand", "a sand beach", "a sandy shore"),
    "snow": ("a snowy field", "fresh snow", "a snow covered plain", "white snow"),
    "lake": ("a calm lake", "still water", "the surface of a lake", "a quiet lake"),
    "plaza": ("a stone plaza", "a paved square", "gray stone ground", "a stone square"),
    "wood": ("a wooden floor", "wood planks", "a floor of wood", "brown floorboards"),
    "tiles": ("a tiled floor", "checkered tiles", "a floor of tiles", "a checkerboard floor"),
    "marble": ("a marble floor", "polished marble", "a shiny marble floor", "white marble"),
}
_SKY_WORDS = {
    "day": ("under a blue sky", "on a clear day", "in daylight", "on a sunny day"),
    "sunset": ("at sunset", "in the evening", "under an orange sky", "at dusk"),
    "night": ("at night", "under the stars", "by night", "under a dark starry sky"),
    "overcast": ("under gray clouds", "on an overcast day", "under a cloudy sky", "on a dull day"),
}
_WALL_WORDS = ("with a {} wall", "in front of a {} wall", "in a {} room", "and a {} wall")
_MATERIAL_WORDS = {
    "matte": ("", "matte ", "plain ", ""),
    "shiny": ("shiny ", "glossy ", "shiny ", "polished "),
    "metallic": ("metallic ", "metal ", "metallic ", "chrome "),
    "striped": ("striped ", "banded ", "striped ", "stripy "),
}
_KIND_WORDS = {
    "ball": ("ball", "sphere"), "cube": ("cube", "block"), "cone": ("cone", "cone"), "cylinder": ("cylinder", "cylinder"),
    "vase": ("vase", "vase"), "mug": ("mug", "cup"), "mushroom": ("mushroom", "toadstool"), "tree": ("tree", "tree"),
    "house": ("house", "cottage"), "duck": ("duck", "rubber duck"), "car": ("car", "toy car"), "gift": ("gift", "present"),
}


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _with_article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def background_caption(ground: str, backdrop: str, indoors: bool, rng: np.random.Generator) -> str:
    """One wording for an empty background."""
    place = _pick(rng, _GROUND_WORDS[ground])
    where = _pick(rng, _WALL_WORDS).format(backdrop) if indoors else _pick(rng, _SKY_WORDS[backdrop])
    return f"{place} {where}"


def object_caption(kind: str, color: str, material: str, size: str, rng: np.random.Generator) -> str:
    """One wording for one object; ``size`` is ``"small"``, ``"large"`` or empty, and is often left unsaid."""
    noun, surface = _pick(rng, _KIND_WORDS[kind]), _pick(rng, _MATERIAL_WORDS[material])
    if rng.random() < 0.3 and material in ("matte", "shiny"):
        surface = ""
    word = f"{size} " if size and rng.random() < 0.5 else ""
    form = int(rng.integers(5))
    if form < 3:
        return _with_article(f"{word}{surface}{color} {noun}")
    if form == 3:
        return f"{word}{color} {surface}{noun}"
    return f"one {word}{color} {surface}{noun}" if word else _with_article(f"{color} {surface}{noun}")


def whole_caption(background: str, objects: list[str], rng: np.random.Generator) -> str:
    """One wording for the whole picture."""
    if not objects:
        return background
    listed = objects[0] if len(objects) == 1 else ", ".join(objects[:-1]) + " and " + objects[-1]
    forms = ("{o} on {b}", "{b} with {o}", "{o}, {b}", "a picture of {o} on {b}")
    return _pick(rng, forms).format(o=listed, b=background)
