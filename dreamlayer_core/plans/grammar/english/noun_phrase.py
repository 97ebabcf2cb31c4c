"""One English noun phrase: quantity, modifiers, head, and what "of" adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..scene import Phrase
from ..tokens import Token
from . import nouns, words
from .guess import can_modify, is_content, looks_adjective, noun_follows
from .inflection import article, is_plural, singular, verb
from .lexicon import is_adjective, is_colour, is_noun, noun_facts, size_of
from .noun_end import ends_noun
from .quantity import Quantity, number_of, quantity_at, word_at

__all__ = ["LONGEST_OF", "Parsed", "complete", "describe", "noun_phrase"]

LONGEST_OF = 3  # "a stack of boxes of books of ..." is followed this deep


@dataclass(frozen=True)
class Parsed:
    phrases: tuple[Phrase, ...]  # several only for "red and blue cubes"
    after: int
    headless: bool = False


def _is_noun_here(tokens: Sequence[Token], i: int) -> bool:
    """Whether a word within a noun phrase is noun-like, and not an adjective, colour or participle before its noun."""
    word = word_at(tokens, i)
    if is_adjective(word) and not is_plural(word):
        return False
    form = verb(word)
    return not (form is not None and form.form in ("ing", "ed") and not is_noun(word))


def _modifiers(tokens: Sequence[Token], i: int, one: bool) -> tuple[list[str], int, bool, list[list[str]]]:
    """(words as they stand, where they end, whether a noun is among them, colours given as alternatives)."""
    found: list[str] = []
    groups: list[list[str]] = [[]]
    has_noun, sure, last = False, False, word_at(tokens, i - 1) if i else ""  # sure: a noun that is listed; an unknown word may yet turn out to be an adjective
    while i < len(tokens):
        described = one or (bool(groups[0]) and is_adjective(groups[0][0]))
        glue = "" if sure or (has_noun and not (described and looks_adjective(last))) else _joins_adjectives(tokens, i, bool(found))
        if glue:
            found.append(glue)
            groups.append([])
            has_noun = False  # an unknown word before it was an adjective after all
            i += 1 + (word_at(tokens, i + 1) == "and" and tokens[i].kind == "comma")
            continue
        word = word_at(tokens, i)
        light = not has_noun and _is_adverb(word, word_at(tokens, i + 1))
        if not light and (
            ends_noun(tokens, i, has_noun, last, one) or (found and not has_noun and number_of(word) and word != "one")
        ):
            break
        if word == "one" and found and not has_noun:
            break
        shade = is_colour(word) and not is_content(word_at(tokens, i + 1))  # "one jet black"
        if has_noun and is_adjective(word) and not is_noun(word) and "'" not in word and not shade and not noun_follows(tokens, i + 1):
            break
        found.append(tokens[i].text)
        groups[-1].append(word)
        has_noun = has_noun or (not light and _is_noun_here(tokens, i))
        sure = sure or (has_noun and is_noun(word))
        last, i = word, i + 1
    return found, i, has_noun, groups


def _is_adverb(word: str, following: str) -> bool:
    """ "very", "dimly [lit]": before an adjective."""
    if word in words.LIGHT_ADVERBS:
        return following != ""
    form = verb(following)
    participle = form is not None and form.form in ("ed", "ing")
    return (
        word.endswith("ly")
        and word not in words.ADJECTIVES
        and (is_adjective(following) or participle or following == "lit")
    )


def _joins_adjectives(tokens: Sequence[Token], i: int, begun: bool) -> str:
    """ "," or "and" between two adjectives of one noun: "big, red", "red and white"."""
    if not begun or i >= len(tokens):
        return ""
    comma = tokens[i].kind == "comma" and tokens[i].text == ","
    after = i + 1 + (comma and word_at(tokens, i + 1) == "and")
    if not comma and word_at(tokens, i) != "and":
        return ""
    word = word_at(tokens, after)
    listed = is_adjective(word)
    if word in ("left", "right") or not (listed or (comma and can_modify(tokens, after))):
        return ""
    following = word_at(tokens, after + 1)
    more = after + 2 < len(tokens) and tokens[after + 1].kind == "comma" and can_modify(tokens, after + 2)
    goes_on = more or is_content(following) or following in ("and", "like")
    return ("," if comma and after == i + 1 else "and") if goes_on or word in words.COLOURS else ""


def noun_phrase(tokens: Sequence[Token], i: int, *, depth: int = 0) -> Parsed | None:
    """The noun phrase that begins at token i, or None. Linear in its own length. ``depth`` counts the "of" before it."""
    quantity = quantity_at(tokens, i)
    found, after, has_noun, groups = _modifiers(
        tokens, quantity.after, quantity.count == 1 and quantity.determiner in ("a", "an")
    )
    pronoun = word_at(tokens, after) in ("one", "ones") and bool(found or quantity.determiner) and not has_noun
    if not found:
        alone = quantity.determiner == "another" or (
            quantity.after > i and quantity.determiner not in words.POSSESSIVES
        )
        counted = quantity.count > 1 or (number_of(word_at(tokens, i)) and not word_at(tokens, i).isdecimal())
        if not (alone and (pronoun or counted)):
            return None
    if not has_noun and found and not pronoun:
        has_noun = _last_is_noun(tokens, after, groups, quantity)
    if not has_noun or (len(found) > 1 and quantity.determiner and is_colour(found[-1]) and not is_noun(found[-1])):
        phrase = _phrase(found, "", quantity)
        return Parsed((phrase,), after + pronoun, headless=True) if quantity.determiner or pronoun else None
    distributed = _distributed(found, groups, quantity)
    if distributed:
        return Parsed(distributed, after)
    phrase = _phrase(found[:-1], found[-1], quantity)
    phrase = replace(phrase, spoken=_spoken(tokens[i:after]))
    return _bearer(tokens, i, phrase, after) or _with_of(tokens, phrase, after, depth)


def _bearer(tokens: Sequence[Token], i: int, phrase: Phrase, after: int) -> Parsed | None:
    """ "on his sister's shoulders", "on the merchant's glove": on her, on him."""
    before = word_at(tokens, i - 1) if i else ""
    place = next((k for k in range(i, after) if word_at(tokens, k).endswith("'s")), after)
    owner = word_at(tokens, place)[:-2]
    placed = words.PREPOSITIONS.get(before) in ("on", "in", "against")
    if not placed or phrase.role not in ("body", "clothing") or not noun_facts(owner, owner)["animate"]:
        return None
    named = Token("word", tokens[place].text[:-2])
    whole = noun_phrase([*tokens[i:place], named], 0)
    return None if whole is None or whole.headless else Parsed(whole.phrases, after)


def _last_is_noun(tokens: Sequence[Token], after: int, groups: list[list[str]], quantity: Quantity) -> bool:
    """Whether what looks like adjectives only ends in a noun after all: "an orange", "a square", "the stranded"."""
    last = groups[-1][-1] if groups[-1] else ""
    if not last or last.endswith("'s"):
        return False
    next_word = word_at(tokens, after)
    listed = next_word == "and" or (after < len(tokens) and tokens[after].kind == "comma")
    if not next_word and not listed and quantity.determiner and last.endswith("ing") and not is_adjective(last):
        return True  # "a dusty bullring"
    if listed or not next_word:
        return is_noun(last) and (
            not is_colour(last) or (len(groups[-1]) == 1 and quantity.determiner in ("a", "an") and not listed)
        )
    return (
        is_noun(last) if is_colour(last) or not quantity.determiner else last not in words.ADJECTIVES or is_noun(last)
    )


def _distributed(found: list[str], groups: list[list[str]], quantity: Quantity) -> tuple[Phrase, ...]:
    """ "red and blue cubes" are red cubes and blue cubes; "two red and blue cubes" one of each."""
    if len(groups) < 2 or not is_plural(found[-1]) or not all(group and is_colour(group[-1]) for group in groups[:-1]):
        return ()
    colour = next((word for word in groups[-1] if is_colour(word)), "")
    if not colour or quantity.count not in (1, len(groups)):
        return ()
    tail = groups[-1][groups[-1].index(colour) + 1 :]
    heads = [*(list(group) for group in groups[:-1]), groups[-1][: groups[-1].index(colour) + 1]]
    each = replace(quantity, count=1, determiner="a" if quantity.count > 1 else quantity.determiner)
    last = singular(tail[-1]) if quantity.count > 1 else tail[-1]
    return tuple(_phrase([*head, *tail[:-1]], last, each) for head in heads)


def _phrase(modifiers: list[str], noun: str, quantity: Quantity) -> Phrase:
    head = singular(noun).lower()
    flat = tuple(word.lower() for word in modifiers if word not in (",", "and"))
    mass = bool(noun) and not is_plural(noun) and noun.lower() not in nouns.SAME_PLURAL
    if not quantity.stated and mass:
        quantity = replace(quantity, count=1, stated=True, determiner="")  # "some cheese"
    several = quantity.count > 1
    plural = bool(noun) and (is_plural(noun) or several)
    shown = singular(noun) if several else noun
    facts: dict[str, Any] = noun_facts(head, noun)
    if modifiers and f"{modifiers[-1].lower()} {noun.lower()}" in nouns.COMPOUND_PLACES:
        facts |= {"place": "place", "role": ""}
    if modifiers and f"{modifiers[-1].lower()} {noun.lower()}" in nouns.COMPOUND_THINGS:
        facts["place"] = ""
    if words.TOYS & set(flat):
        facts["animate"] = False
    if facts["role"] == "mood" and quantity.determiner in ("a", "an") and head in nouns.PARTS:
        facts["role"] = "part"  # "a stained-glass shade"
    if facts["role"] == "abstract" and _is_concrete(head, modifiers, quantity):
        facts["role"] = ""
    return Phrase(
        prompt=_prompt(modifiers, shown, quantity, plural), head=head, plural=_joined([*modifiers, noun]), modifiers=flat,
        count=quantity.count, stated=quantity.stated, definite=quantity.determiner in ("the", "this", "that", "these", "those"),
        bare=not quantity.determiner, owned=quantity.determiner in words.POSSESSIVES, many=plural, size=size_of(head, flat), **facts,
    )  # fmt: skip


def _is_concrete(head: str, modifiers: list[str], quantity: Quantity) -> bool:
    """ "a power line", "a vintage camera" are things; "in a line", "the camera" are not."""
    named = bool(modifiers) and not is_adjective(modifiers[-1])
    return (head in nouns.CONCRETE_NAMED and named) or (head == "camera" and quantity.determiner != "the")


def _joined(parts: Sequence[str]) -> str:
    return " ".join(part for part in parts if part).replace(" ,", ",")


def _prompt(modifiers: list[str], noun: str, quantity: Quantity, plural: bool) -> str:
    text = _joined([*modifiers, noun])
    determiner = quantity.determiner
    if quantity.count > 1 or determiner in (
        "another",
        "each",
        "every",
        "one",
        "a",
        "an",
        "this",
        "that",
        "any",
        "either",
    ):
        determiner = article(text) if quantity.count > 1 or not plural else ""
    elif determiner in words.POSSESSIVES or determiner in ("some", "these", "those", "our"):
        determiner = "" if plural or noun.lower() in nouns.MASS else article(text)
    return f"{determiner} {text}".strip()


def _with_of(tokens: Sequence[Token], phrase: Phrase, after: int, depth: int) -> Parsed:
    """ "a bowl of fruit" is one thing, "a group of three dogs" three."""
    if word_at(tokens, after) != "of" or depth >= LONGEST_OF:
        return Parsed((phrase,), after)
    inner = noun_phrase(tokens, after + 1, depth=depth + 1)
    if inner is None or inner.headless:
        return Parsed((phrase,), after)
    content = inner.phrases[-1]
    if phrase.head in nouns.GROUPS and content.count > 1:
        return Parsed(inner.phrases, inner.after)
    if phrase.role in ("body", "part") and not phrase.place and not content.place and phrase.definite:
        return inner  # "on the shoulders of a man": on the man
    tail = _spoken(tokens[after : inner.after])
    whole = replace(
        phrase, prompt=f"{phrase.prompt} {tail}", plural=f"{phrase.plural} {tail}", spoken=f"{phrase.spoken} {tail}",
    )  # fmt: skip
    if phrase.place == "scenery" and content.place == "building":
        whole = replace(whole, place="place")  # "the bridge of a starship"
    if phrase.head in nouns.GROUPS or phrase.role == "abstract" or phrase.head in nouns.ING_NOUNS:
        whole = replace(
            whole, head=content.head, place=content.place, animate=content.animate, size=content.size, role=content.role,
            modifiers=(*phrase.modifiers, phrase.head, "of", *content.modifiers) if phrase.role != "abstract" else content.modifiers,
        )  # fmt: skip
    return Parsed((whole,), inner.after)


def _spoken(tokens: Sequence[Token]) -> str:
    return " ".join(token.text for token in tokens).replace(" ,", ",")


def complete(phrase: Phrase, noun: Phrase) -> Phrase:
    """A phrase without a noun takes that of another: "a red [ball]"."""
    shown = noun.plural.split()[-1] if noun.plural and (phrase.many and phrase.count == 1) else noun.head
    modifiers = [word for word in phrase.modifiers if word != "other"]
    text = _joined([*modifiers, shown])
    prompt = text if phrase.bare else f"{article(text)} {text}"
    return replace(
        noun, prompt=prompt, plural=_joined([*modifiers, noun.plural.split()[-1] if noun.many and noun.plural else noun.head]),
        modifiers=tuple(modifiers), count=phrase.count, stated=phrase.stated, many=False, definite=False, bare=phrase.bare,
    )  # fmt: skip


def describe(phrase: Phrase, adjective: str) -> Phrase:
    """ "The ball is red": a red ball."""
    if adjective in phrase.modifiers:
        return phrase
    first, _, rest = phrase.prompt.partition(" ")
    if first in ("a", "an"):
        prompt = f"{article(adjective)} {adjective} {rest}"
    elif first in ("the",):
        prompt = f"the {adjective} {rest}"
    else:
        prompt = f"{adjective} {phrase.prompt}"
    return replace(
        phrase, prompt=prompt, plural=f"{adjective} {phrase.plural}", modifiers=(*phrase.modifiers, adjective)
    )
