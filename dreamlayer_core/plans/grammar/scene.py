"""What a sentence says, whatever its language: things, how they lie to each other, and the mood of the picture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Box", "Edge", "Phrase", "Place", "Relation", "Scene", "Thing"]

Box = tuple[float, float, float, float]

Relation = Literal[
    "on", "in", "front", "above", "behind", "under", "against", "between", "beside", "along", "with", "none"
]

Place = Literal["", "scenery", "building", "globe", "place"]


@dataclass(frozen=True)
class Phrase:
    """A noun phrase. ``prompt`` describes one copy; ``plural`` is what several are called ("red balls").

    ``spoken``: as it stands in the sentence. ``size``: 0 tiny to 5 huge. ``place``: "" never a place (a table is a thing), "scenery"
    for what is before or on it (a wall) where no other place is named, "building" for what is in it, "globe" for what is on it,
    "place" always (a beach).
    """

    prompt: str
    head: str
    plural: str = ""
    spoken: str = ""
    modifiers: tuple[str, ...] = ()
    count: int = 1
    stated: bool = True  # False: "several" and the like, whose number is ours
    definite: bool = False
    bare: bool = False  # no article, number or possessive
    owned: bool = False  # "its", "his"
    many: bool = False  # the head is a plural
    place: Place = ""
    size: int = 2
    animate: bool = False
    role: Literal["", "part", "body", "clothing", "mood", "style", "abstract", "container", "contents"] = ""


@dataclass
class Thing:
    """One noun phrase of the scene, with what the sentence adds to it as it goes on."""

    index: int
    phrase: Phrase
    extras: list[str] = field(default_factory=list[str])
    box: Box | None = None
    space: str = " "
    level: int = 0  # -2 "in the background", -1 "further back", 1 "in the foreground"

    @property
    def prompt(self) -> str:
        return self.space.join([self.phrase.prompt, *self.extras])

    @property
    def name(self) -> str:
        return (
            self.space.join([*self.phrase.modifiers[-2:], self.phrase.head]) if self.phrase.head else self.phrase.prompt
        )


@dataclass(frozen=True)
class Edge:
    """``subject`` is ``relation`` ``target``: "a ball (subject) on (relation) a box (target)"; ``text`` is the preposition."""

    subject: int
    relation: Relation
    target: int
    text: str


@dataclass
class Scene:
    things: list[Thing] = field(default_factory=list[Thing])
    edges: list[Edge] = field(default_factory=list[Edge])
    moods: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])
    plain: str = "a plain neutral background"  # where the sentence names no place
    joiner: str = " and "
    space: str = " "  # between words
    owning: str = "with"  # links a thing and a part named after it: "a girl, red hair"

    def add(self, phrase: Phrase) -> Thing:
        thing = Thing(len(self.things), phrase, space=self.space)
        self.things.append(thing)
        return thing
