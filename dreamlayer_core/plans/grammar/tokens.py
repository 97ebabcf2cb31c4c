"""Text to tokens, in linear time. Markup, addresses, quotations and weights are one token each and never become grammar."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Token", "TokenKind", "clean", "tokens"]

TokenKind = Literal["word", "number", "comma", "stop", "quote", "other"]

# Every alternative begins with a character of its own and repeats one class at most: no backtracking over the text.
_PATTERN = re.compile(
    r"(?P<address>https?://\S+)"
    r"|(?P<markup></?[A-Za-z!][^<>]{0,300}>)"
    r"|(?P<quote>\"[^\"\n]{0,300}\"|“[^”\n]{0,300}”|«[^»\n]{0,300}»|„[^“”\n]{0,300}[“”])"
    r"|(?P<weight>:\d+(?:\.\d+)?)"
    r"|(?P<number>\d+(?!\w)|\d+(?=(?!st|nd|rd|th)[A-Za-z]{3}))"  # "3 girls", "1girl", but not "4k", "18th-century"
    r"|(?P<word>\w+(?:[-'’]\w+)*[’']?)"
    r"|(?P<comma>[,()\[\]|–—，、])"
    r"|(?P<stop>[.;:!?{}\n。；：！？…])"
    r"|(?P<other>\S)"
)
_GONE = {"address", "markup", "weight", "other"}


@dataclass(frozen=True)
class Token:
    kind: TokenKind
    text: str

    @property
    def lower(self) -> str:
        return self.text.lower().replace("’", "'")


def clean(sentence: str) -> str:
    """Control characters become spaces, runs of white space one space each; everything else stays as it was typed."""
    shown = "".join(c if c.isprintable() or c in "\u200d\ufe0f" else " " for c in sentence)
    return " ".join(shown.split())


def tokens(text: str) -> list[Token]:
    found: list[Token] = []
    for match in _PATTERN.finditer(text):
        kind = match.lastgroup or "other"
        if kind in ("markup", "address"):
            found.append(Token("stop", match.group()))
        elif kind in _GONE:
            found.append(Token("other", match.group()))
        else:
            found.append(Token(kind, match.group()))  # pyright: ignore[reportArgumentType]
    return found
