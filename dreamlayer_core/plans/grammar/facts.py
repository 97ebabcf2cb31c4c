"""What is known of a noun, in any language: by the English noun that its lexicon gives as its meaning."""

from __future__ import annotations

from typing import Any

from .english.inflection import is_plural, singular
from .english.lexicon import noun_facts, size_of

__all__ = ["facts_of"]


def facts_of(meaning: str, sizes: tuple[str, ...] = ()) -> dict[str, Any]:
    """place, animate, role and size for Phrase. ``meaning``: an English noun, or "" where it is not known."""
    if not meaning:
        return {}
    head = singular(meaning) if is_plural(meaning) else meaning
    return {**noun_facts(head, meaning), "size": size_of(head, sizes)}
