"""A German sentence to a scene."""

from __future__ import annotations

from typing import cast

from ..chunks import Kind
from ..ellipsis import with_nouns
from ..plain_chunker import Tongue, chunks
from ..reader import read
from ..scene import Scene, Thing
from ..tables import Fixed
from ..tokens import tokens
from . import words
from .noun_phrase import complete, describe, noun_phrase

__all__ = ["many", "scene"]

_SPELLED = "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf".split()
_TONGUE = Tongue(
    fixed=cast(dict[Kind, Fixed], words.FIXED),
    prepositions=words.PREPOSITIONS,
    single=cast(dict[str, Kind], words.KINDS),
    verbs=words.VERBS,
    adjectives=words.ADJECTIVES,
    pictures=words.PICTURES,
    of=frozenset(("von", "vom", "mit", "eines", "einer", "des", "der")),
    noun_phrase=noun_phrase,
)


def scene(text: str) -> Scene:
    found = Scene(plain="ein schlichter neutraler Hintergrund", joiner=" und ", owning="mit")
    read(with_nouns(chunks(_TONGUE, tokens(text)), complete), found, describe)
    return found


def many(thing: Thing, number: int) -> str:
    """ "fünf rote Bälle"."""
    spelled = _SPELLED[number] if number < len(_SPELLED) else str(number)
    return " ".join([spelled, thing.phrase.plural, *thing.extras])
