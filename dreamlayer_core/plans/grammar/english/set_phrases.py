"""English set phrases: of several words, recognised as they stand."""

from __future__ import annotations

from collections.abc import Sequence

from ..chunks import Chunk, Kind
from ..tables import Fixed, match_at
from ..tokens import Token
from . import words
from .lexicon import is_adjective, is_noun
from .quantity import number_of, word_at

__all__ = ["beside_it", "label_at", "set_phrase"]

_SET_PHRASES: tuple[tuple[Kind, Fixed], ...] = (
    ("style", words.STYLE_PHRASES), ("mood", words.MOOD_PHRASES), ("prep", words.PREPOSITION_PHRASES),
    ("spot", words.SPOTS), ("verb", words.LEADS), ("verb", words.ATTRIBUTES), ("it", words.EVERYTHING), ("and", words.JOINS), ("which", words.WHICH),
    ("skip", words.EMPHASES),
)  # fmt: skip

_OWNERS = {"its": "it", "his": "him", "her": "him", "their": "them"}


def set_phrase(tokens: Sequence[Token], i: int) -> tuple[Chunk, int] | None:
    """The longest set phrase at i, of any table."""
    best: tuple[Chunk, int] | None = None
    for kind, table in _SET_PHRASES:
        match = match_at(table, tokens, i)
        if match is not None and (best is None or match[0] > best[1] - i):
            text = " ".join(token.lower for token in tokens[i : i + match[0]])
            best = Chunk(kind, text, match[1]), i + match[0]
    return best


def beside_it(tokens: Sequence[Token], i: int) -> tuple[Chunk, ...]:
    """ "At its foot", "to his left", three tokens: beside it. A bottle lies "on its side", though."""
    preposition, owner, side = (word_at(tokens, i + k) for k in range(3))
    if preposition not in ("at", "to", "by") or owner not in _OWNERS or side not in words.SIDES:
        return ()
    return Chunk("prep", "beside", "beside"), Chunk("it", owner, _OWNERS[owner])


def label_at(tokens: Sequence[Token], i: int) -> str:
    """ "front: a pie; back: a jar": the spot that heads a clause."""
    colon = i + 1 < len(tokens) and tokens[i + 1].text == ":"
    first = word_at(tokens, i + 2)
    thing = first in words.DETERMINERS or number_of(first) or is_noun(first) or is_adjective(first)
    return words.LABELS.get(word_at(tokens, i), "") if colon and thing else ""
