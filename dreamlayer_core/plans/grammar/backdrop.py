"""Which of a scene's phrases are its background, and how they read as one prompt."""

from __future__ import annotations

from .scene import Edge, Phrase, Relation, Scene, Thing

__all__ = ["backdrop", "background_prompt"]

_HOLDS: frozenset[Relation] = frozenset({"on", "in", "against", "front", "along", "above"})
# Built into a place: "in a library ... on the floor, by the wall" names the library once.
_FIXTURES = frozenset({
    "floor", "ground", "wall", "ceiling", "window", "doorway", "windowsill", "sill", "ledge", "doorstep", "corner", "boden", "sol",
    "地上", "地面", "床",
})  # fmt: skip
_HANGINGS = frozenset({"curtain", "drape", "drapery"})  # things, but where they furnish a place
_INDOORS = frozenset(
    "bed bunk cot crib hammock table desk sofa couch armchair chair wardrobe dresser stove fireplace bookshelf bookcase shelf counter "
    "piano rug carpet chandelier bathtub altar workbench".split()
)
_LANDSCAPE = frozenset({"hill", "mountain", "peak", "ridge", "hilltop"})  # the background even where it is "behind" things
_WOODS = frozenset({"tree", "pine", "fir", "oak", "palm", "birch", "star", "light"})


def backdrop(scene: Scene) -> list[Thing]:
    """The places of a scene, in the order of the sentence.

    Places (a beach, the inside of a church) always; else scenery "in the background"; else scenery (a wall, a hill) that
    carries the rest without itself lying on anything. Furniture is a thing: "a cup on a table" has two layers.
    """
    strong = [thing for thing in scene.things if _is_place(scene, thing)]
    far = [thing for thing in scene.things if thing.level == -2 and _is_far_scenery(thing.phrase)]
    fixed = [thing for thing in scene.things if _is_fixture(thing.phrase) or _furnishes(scene, thing, strong)]
    if strong:
        carriers = _carriers(scene) if _only_overhead(scene, strong) else []
        chosen = [*strong, *far, *fixed, *carriers]
        return _leaving_some(scene, [thing for thing in scene.things if thing in chosen])
    if far and len(far) < len(scene.things):
        return far
    return _carriers(scene)


def _is_far_scenery(phrase: Phrase) -> bool:
    """Hills and woods in the distance; a single tree there is a thing."""
    return phrase.place == "scenery" or (phrase.many and phrase.count == 1 and phrase.head in _WOODS)


def _furnishes(scene: Scene, thing: Thing, places: list[Thing]) -> bool:
    """ "a stage with red curtains"."""
    of = {place.index for place in places}
    owned = any(edge.target == thing.index and edge.relation == "with" and edge.subject in of for edge in scene.edges)
    return owned and thing.phrase.place == "scenery"


def _is_fixture(phrase: Phrase) -> bool:
    return phrase.definite and phrase.head in _FIXTURES


def _is_place(scene: Scene, thing: Thing) -> bool:
    inside = {"building": "in", "globe": "on"}.get(thing.phrase.place)
    if inside:
        holds = any(edge.target == thing.index and edge.relation == inside for edge in scene.edges)
        return holds or any(edge.subject == thing.index and _is_furniture(scene, edge) for edge in scene.edges)
    return thing.phrase.place == "place"


def _is_furniture(scene: Scene, edge: Edge) -> bool:
    """ "A ship's cabin with a hammock"."""
    return edge.relation == "with" and scene.things[edge.target].phrase.head in _INDOORS


def _only_overhead(scene: Scene, strong: list[Thing]) -> bool:
    """Whether every place is a sky that things are under: then there is ground to be found."""
    under = {edge.target for edge in scene.edges if edge.relation == "under"}
    return all(place.index in under for place in strong)


def _leaving_some(scene: Scene, places: list[Thing]) -> list[Thing]:
    """Where everything is a place, what could be a thing (mountains behind a lake) is one."""
    if len(places) < len(scene.things):
        return places
    return [place for place in places if place.phrase.place == "place"]


def _carriers(scene: Scene) -> list[Thing]:
    weak = [thing for thing in scene.things
            if thing.phrase.place == "scenery" and thing.phrase.count == 1 and thing.phrase.head not in _HANGINGS]  # fmt: skip
    placed = {edge.subject for edge in scene.edges if edge.relation in _HOLDS or edge.relation == "behind"}
    found = [thing for thing in weak if thing.index not in placed and _carries(scene, thing)]
    owners = {edge.target for edge in scene.edges if edge.relation == "with"}
    found = found or [thing for thing in weak if thing.index not in placed and thing.index in owners]
    found = found or [thing for thing in weak if thing.phrase.head in _LANDSCAPE or _is_tail(scene, thing)]
    return found if len(found) < len(scene.things) else []


def _is_tail(scene: Scene, thing: Thing) -> bool:
    """ "A coat on a hook, plain white wall"."""
    alone = all(thing.index not in (edge.subject, edge.target) for edge in scene.edges)
    return alone and thing.phrase.bare and bool(thing.phrase.modifiers) and thing.index == len(scene.things) - 1


def _carries(scene: Scene, thing: Thing) -> bool:
    return any(edge.target == thing.index and edge.relation in _HOLDS for edge in scene.edges)


def background_prompt(scene: Scene, places: list[Thing]) -> str:
    """ "a beach", "a beach under a blue sky", "a street at night"; plain ground where no place is named."""
    text = scene.plain
    named = [place for place in places if not _is_fixture(place.phrase)]
    places = named or places  # "in a library ... on the floor": the library
    if places:
        text = places[0].prompt
        for before, place in zip(places, places[1:], strict=False):
            text += _link(scene, before, place) + place.prompt
    for mood in scene.moods:
        text += mood
    return text


def _link(scene: Scene, before: Thing, place: Thing) -> str:
    first, second = _edge(scene, before), _edge(scene, place)
    if second is None or not second.text:
        return scene.joiner
    if first and first.text == second.text and second.subject != before.index:
        if second.subject != first.subject or second.relation == "with":  # "a room with a floor and a wall"
            return scene.joiner
    space = "" if second.text.endswith("'") else " "
    return f" {second.text}{space}" if scene.space else scene.joiner


def _edge(scene: Scene, place: Thing) -> Edge | None:
    return next((edge for edge in scene.edges if edge.target == place.index), None)
