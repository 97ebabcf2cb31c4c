"""How a noun phrase begins where articles and numbers are tables: German and French."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .tokens import Token

__all__ = ["Start", "article_at", "lower_at", "start_at"]


@dataclass(frozen=True)
class Start:
    """Article and number of a noun phrase; its adjectives begin at ``after``."""

    after: int
    article: str = ""
    count: int = 1
    stated: bool = True


def lower_at(tokens: Sequence[Token], i: int) -> str:
    return tokens[i].lower if i < len(tokens) and tokens[i].kind in ("word", "number") else ""


def article_at(tokens: Sequence[Token], i: int, articles: frozenset[str]) -> tuple[str, int]:
    """(the article at i or "", the index after it)."""
    word = lower_at(tokens, i)
    return (word, i + 1) if word in articles else ("", i)


def start_at(
    tokens: Sequence[Token], i: int, article: str, numbers: Mapping[str, int], vague: Mapping[str, int]
) -> Start:
    """Reads the number at i, which follows the article; without one the count is 1."""
    word = lower_at(tokens, i)
    number = int(word) if word.isdecimal() and len(word) < 7 else numbers.get(word, 0)
    if number:
        return Start(i + 1, article, number)
    if word in vague:
        return Start(i + 1, article, vague[word], False)
    return Start(i, article)
