"""Which things definite phrases and pronouns mean."""

from __future__ import annotations

from collections.abc import Sequence

from .scene import Phrase, Scene, Thing

__all__ = ["meant", "mentioned"]


def mentioned(scene: Scene, phrase: Phrase) -> list[Thing]:
    """The thing already mentioned that a definite phrase means ("a red ball ... the ball"), else a new one."""
    if phrase.definite:
        wanted = set(phrase.modifiers)
        same = [t for t in scene.things if t.phrase.head == phrase.head and wanted <= set(t.phrase.modifiers)]
        if phrase.many and len(same) > 1:
            return same
        if same:
            return [same[-1]]
    return [scene.add(phrase)]


def meant(scene: Scene, topic: Sequence[Thing], sources: Sequence[Thing], *, living: bool = False) -> list[Thing]:
    """What "it" is: the clause's topic; where that is a place ("a room with a couch, a table in front of it"), the last thing."""
    others = [thing for thing in topic if thing not in sources]
    things = [thing for thing in others if thing.phrase.place != "place"]
    first = min((thing.index for thing in sources), default=0)
    before = [thing for thing in scene.things[:first] if thing.phrase.place != "place"]
    if living:  # "a knight rides a horse while a jester juggles behind him"
        people = [thing for thing in before if thing.phrase.animate and thing not in sources]
        subjects = [thing for thing in people if not any(edge.target == thing.index for edge in scene.edges)]
        return [thing for thing in things if thing.phrase.animate] or subjects[-1:] or people[-1:]
    return things or before[-1:] or others
