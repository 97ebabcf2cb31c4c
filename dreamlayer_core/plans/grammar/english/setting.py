"""What the preposition before an English noun phrase makes of it: a place, what is worn, or a thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..chunks import Chunk
from ..scene import Phrase
from ..tables import listed
from ..tokens import Token
from . import nouns
from .guess import is_content
from .inflection import verb
from .lexicon import is_colour, is_noun
from .quantity import word_at

__all__ = ["headed", "placed", "shade_at", "wears"]

_OUTSIDE = ("outside", "in front of", "behind", "next to", "beside", "near", "by")
_PLACING = (
    "inside", "inside of", "through", "across", "throughout", "within", "down", "along", "in the middle of", "at the edge of",
)  # fmt: skip
_PLACES_BY = ("in", "on", "at", "inside", "by", "near", "next", "under", "against", "walking", "standing", "sitting")
_LARGE = 3  # a size that no vessel holds
_FABRICS = listed("""
    lace silk velvet satin linen denim leather tweed wool cotton chiffon tulle fur furs rags fleece flannel cashmere corduroy khaki
    camouflage chainmail taffeta brocade sackcloth
""")


def placed(phrase: Phrase, before: Sequence[Chunk], following: str) -> Phrase:
    """Names after "in" are places ("in Ravenna"); so is whatever a text begins inside of, and what no list has."""
    last = before[-1] if before else None
    if last is None or last.kind != "prep":
        return phrase
    if (last.text in _OUTSIDE or last.value in ("front", "behind")) and phrase.head in nouns.BUILDINGS | nouns.HOUSES:
        return replace(phrase, place="building")
    if phrase.role == "style" and phrase.place:
        return replace(phrase, role="")  # "against a flowery wallpaper"
    if phrase.place == "place" or phrase.role == "container":
        return phrase
    name = last.text in ("in", "at") and phrase.bare and phrase.spoken[:1].isupper() and phrase.role == ""
    inside = last.text in ("inside", "inside of") and len(before) == 1
    if name or inside:
        return replace(phrase, place="place")
    owner = before[-2].phrase if len(before) > 1 else None
    if last.value == "none" and phrase.definite and not is_noun(phrase.head) and _names_deed(phrase.head):
        return replace(phrase, role="abstract")  # "exhausted after the climb"
    if last.text == "in" and phrase.head in _FABRICS and owner is not None and (owner.animate or not owner.head):
        return replace(phrase, role="clothing")  # "a bride in ivory lace"
    return _unknown_target(phrase, owner, last, following) if _is_unknown(phrase) else phrase


def headed(chunks: Sequence[Chunk]) -> list[Chunk]:
    """ "A pet shop: a clerk ...": a building before the first colon is what the rest is inside of."""
    head = next((i for i, chunk in enumerate(chunks) if chunk.kind not in ("mood", "style", "comma")), len(chunks))
    after = next((chunk for chunk in chunks[head + 1 :] if chunk.kind != "mood"), None)
    phrase = chunks[head].phrase if head < len(chunks) else None
    if phrase is None or phrase.place != "building" or after is None or after.text != ":":
        return list(chunks)
    return [*chunks[:head], replace(chunks[head], phrase=replace(phrase, place="place")), *chunks[head + 1 :]]


def shade_at(tokens: Sequence[Token], i: int) -> bool:
    """Whether a colour of two words begins at i: "is [cherry red]"."""
    first, second, third = (word_at(tokens, i + k) for k in range(3))
    return is_content(first) and is_colour(second) and not is_content(third)


def wears(before: Sequence[Chunk]) -> bool:
    """ "Violinists in [black]"."""
    owner = before[-2].phrase if len(before) > 1 else None
    return owner is not None and owner.animate and before[-1].text == "in"


def _is_unknown(phrase: Phrase) -> bool:
    return not (phrase.place or phrase.animate or phrase.role or phrase.count > 1 or is_noun(phrase.head))


def _names_deed(word: str) -> bool:
    form = verb(word)
    return form is not None and form.form == "base"


def _unknown_target(phrase: Phrase, owner: Phrase | None, before: Chunk, following: str) -> Phrase:
    """ "At a qanat" is a place; "a woman in a kaftan on a boat" wears it; "spoons in a ceramic crock" need no other place."""
    nested = following in _PLACES_BY and not before.text.startswith("inside")  # "through a dustbin in an alley"
    if (before.text in _PLACING and not nested) or (before.text == "at" and before.value == "in" and not phrase.owned):
        return replace(phrase, place="place")
    if before.text != "in":
        return phrase
    several = phrase.bare or phrase.many
    coloured = any(is_colour(word) for word in phrase.modifiers)
    if owner is not None and owner.animate and (several or coloured or following in _PLACES_BY):
        return replace(phrase, role="clothing")
    vessel = owner is not None and not owner.animate and owner.size < _LARGE
    return phrase if several or vessel else replace(phrase, place="place")


