"""A French sentence to a scene."""

from __future__ import annotations

from typing import cast

from ..chunks import Kind
from ..ellipsis import with_nouns
from ..plain_chunker import Tongue, chunks
from ..reader import read
from ..scene import Scene, Thing
from ..tables import Fixed
from ..tokens import Token, tokens
from . import words
from .noun_phrase import complete, describe, noun_phrase

__all__ = ["many", "scene"]

_SPELLED = "zéro un deux trois quatre cinq six sept huit neuf dix onze douze".split()
_ELIDED = ("l'", "d'", "qu'", "j'", "n'", "s'", "c'", "m'", "t'")
_TONGUE = Tongue(
    fixed=cast(dict[Kind, Fixed], words.FIXED),
    prepositions=words.PREPOSITIONS,
    single=cast(dict[str, Kind], words.KINDS),
    verbs=words.VERBS,
    adjectives=words.COLOURS | words.BEFORE,
    pictures=words.PICTURES,
    of=frozenset(("de", "d'", "du", "des", "montrant", "avec")),
    noun_phrase=noun_phrase,
)


def _split_elisions(found: list[Token]) -> list[Token]:
    """ "l'herbe" is two words."""
    split: list[Token] = []
    for token in found:
        cut = next((len(elided) for elided in _ELIDED if token.kind == "word" and token.lower.startswith(elided)), 0)
        if cut and len(token.text) > cut:
            split += [Token("word", token.text[:cut]), Token("word", token.text[cut:])]
        else:
            split.append(token)
    return split


def scene(text: str) -> Scene:
    found = Scene(plain="un fond neutre uni", joiner=" et ", owning="avec")
    read(with_nouns(chunks(_TONGUE, _split_elisions(tokens(text))), complete), found, describe)
    return found


def many(thing: Thing, number: int) -> str:
    """ "cinq balles rouges"."""
    spelled = _SPELLED[number] if number < len(_SPELLED) else str(number)
    return " ".join([spelled, thing.phrase.plural, *thing.extras])
