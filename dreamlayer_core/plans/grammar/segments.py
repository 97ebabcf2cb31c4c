"""Words of scripts without spaces: forward maximum matching over a dictionary. Linear: no word is longer than a few characters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Segment", "segments"]


@dataclass(frozen=True)
class Segment:
    text: str
    kind: str  # "unknown" for what the dictionary lacks
    value: str = ""


def segments(text: str, dictionary: Mapping[str, tuple[str, str]]) -> list[Segment]:
    """Dictionary: word -> (kind, value). Characters that no word begins with are joined to unknown words."""
    longest = max(map(len, dictionary))
    found: list[Segment] = []
    at = 0
    while at < len(text):
        size = next((n for n in range(min(longest, len(text) - at), 0, -1) if text[at : at + n] in dictionary), 0)
        if size:
            found.append(Segment(text[at : at + size], *dictionary[text[at : at + size]]))
        elif found and found[-1].kind == "unknown":
            found[-1] = Segment(found[-1].text + text[at], "unknown")
        else:
            found.append(Segment(text[at], "unknown"))
        at += size or 1
    return found
