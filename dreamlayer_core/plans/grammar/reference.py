"""Which things definite phrases and pronouns mean."""

from __future__ import annotations

from collections.abc import Sequence

from .english.kinds import KINDS
from .scene import Phrase, Scene, Thing

__all__ = ["meant", "mentioned"]


def mentioned(scene: Scene, phrase: Phrase, *, joined: bool = False) -> list[Thing]:
    """The thing already mentioned that a definite phrase means ("a red ball ... the ball"), else a new one."""
    if phrase.definite:
        wanted = set(phrase.modifiers)
        same = [t for t in scene.things if t.phrase.head == phrase.head and wanted <= set(t.phrase.modifiers)]
        if phrase.many and len(same) > 1:
            return same
        if not same and not joined:  # "a convertible ... the car", but "a van and the car"
            kinds = KINDS.get(phrase.head, frozenset())
            same = [thing for thing in scene.things if thing.phrase.head in kinds and not phrase.many]
        if same:
            return [same[-1]]
    return [scene.add(phrase)]


def meant(scene: Scene, topic: Sequence[Thing], sources: Sequence[Thing], *, who: str = "it") -> list[Thing]:
    """What "it" is: the clause's topic; where that is a place ("a room with a couch, a table in front of it"), the last thing."""
    if who == "all":  # "behind everything a willow"
        return [thing for thing in scene.things if thing.phrase.place != "place" and thing not in sources]
    others = [thing for thing in topic if thing not in sources]
    things = [thing for thing in others if thing.phrase.place != "place"]
    if who == "them" and len(things) == 1 and not things[0].phrase.many and things[0].phrase.count == 1:
        several = [thing for thing in scene.things if thing.phrase.animate and thing not in sources]
        return several if len(several) > 1 and things[0] in several else things
    if who == "it":
        things = [thing for thing in things if not thing.phrase.many and thing.phrase.count == 1]
    first = min((thing.index for thing in sources), default=0)
    before = [thing for thing in scene.things[:first] if thing.phrase.place != "place"]
    if who == "him":  # "a knight rides a horse while a jester juggles behind him"
        people = [thing for thing in before if thing.phrase.animate and thing not in sources]
        subjects = [thing for thing in people if not any(edge.target == thing.index for edge in scene.edges)]
        return [thing for thing in things if thing.phrase.animate] or subjects[-1:] or people[-1:]
    if who == "it":
        before = [thing for thing in before if not thing.phrase.many and thing.phrase.count == 1] or before
    return things or before[-1:] or others
