"""Word lists as text: one place that turns them into sets and maps. All lists of this package were written for it."""

from __future__ import annotations

from collections.abc import Sequence

from .tokens import Token

__all__ = ["Fixed", "listed", "mapped", "match_at", "sequences"]

Fixed = dict[str, list[tuple[tuple[str, ...], str]]]
"""First word -> (all words, value), longest first: phrases that are recognised as they stand."""


def listed(text: str) -> frozenset[str]:
    return frozenset(text.split())


def mapped(text: str) -> dict[str, str]:
    """``"men:man mice:mouse"`` -> ``{"men": "man", "mice": "mouse"}``."""
    return dict(pair.split(":", 1) for pair in text.split() if ":" in pair)


def sequences(table: dict[str, str]) -> Fixed:
    """Values -> phrases (separated by ``;``), turned round and indexed by the first word."""
    found: Fixed = {}
    for value, phrases in table.items():
        for phrase in phrases.split(";"):
            words = tuple(phrase.split())
            if words:
                found.setdefault(words[0], []).append((words, value))
    for entries in found.values():
        entries.sort(key=lambda entry: (-len(entry[0]), entry[0]))
    return found


def match_at(table: Fixed, tokens: Sequence[Token], i: int) -> tuple[int, str] | None:
    """(number of words, value) of the longest phrase of the table that begins at token i."""
    for phrase, value in table.get(tokens[i].lower, ()) if i < len(tokens) else ():
        if i + len(phrase) <= len(tokens) and all(tokens[i + k].lower == word for k, word in enumerate(phrase)):
            return len(phrase), value
    return None
