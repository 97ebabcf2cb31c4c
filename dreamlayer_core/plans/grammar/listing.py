"""What "and" and commas go on with: another part of the same thing, another thing in the same place, or something new."""

from __future__ import annotations

from collections.abc import Sequence

from .belonging import Use
from .chunks import Chunk
from .lookahead import Lookahead
from .scene import Phrase, Thing

__all__ = ["WORN", "Listing"]

WORN = frozenset({"part", "body", "clothing"})


class Listing(Lookahead):
    def __init__(self, chunks: Sequence[Chunk]) -> None:
        super().__init__(chunks)
        self.subject: list[Thing] = []  # of the clause
        self.targets: list[Thing] = []  # the anchor that the latest noun phrase left
        self.last: Use | None = None
        self.last_phrase: Phrase | None = None
        self.glue = ""

    def _goes_on(self, phrase: Phrase) -> bool:
        """Whether the phrase shares the role of the one before it: "between a cube [and a cone]"."""
        last, before = self.last, self.last_phrase
        if last is None or before is None or not self.glue or (last.how == "front" and not self.subject):
            inverted = self._next().value == "stay" and self._next(2).kind == "np"  # "behind the shed and the barn stands a tree"
            return last is not None and last.how == "front" and self.glue == "and" and (inverted or not self._has_predicate())
        if phrase.bare and self.glue == "and" and phrase.role == before.role == "clothing":
            return True  # "a man in a red tie and blue shirt shaking hands"
        if last.relation == "between" and self.glue == "and":
            return True
        if last.how == "with":
            return self._has_too(phrase, before)
        if self._has_predicate() or (phrase.place == "place") != (before.place == "place"):
            return False
        return self.glue == "and" and not (last.how == "own" and phrase.animate)

    def _has_too(self, phrase: Phrase, before: Phrase) -> bool:
        """Whether what had the phrase before has this one as well."""
        bearers = self.last.sources if self.last else ()
        if phrase.head in (thing.phrase.head for thing in bearers) or self._next().value in ("with", "against"):
            return False  # "a vase with lilies and a vase with irises"
        if {phrase.role, before.role} <= WORN and (self.glue == "and" or self._next().kind != "prep"):
            return self._next(2).kind != "it"  # "a book with gold edges, a ribbon and a clasp on a desk"
        if phrase.animate and not before.animate and before.role in WORN:
            return False  # "a man with a beard and a woman"
        if self.glue == "comma" and (before.bare and not phrase.bare or before.many > phrase.many or not self._list_closes()):
            return False  # "a grill with skewers, a cooler"
        inside = any(thing.phrase.place == "building" and thing not in self.targets for thing in bearers)
        if self.glue == "comma" and self.targets and inside:
            return False  # "a cabin with a hammock, charts on a table"
        if self._next().kind == "prep":
            return not (self._next(2).phrase is not None and self.glue == "comma")
        if {phrase.place, before.place} == {"place", "scenery"}:
            return self.glue == "and"  # "a room with a wooden floor and a red wall"
        return not self._has_predicate() and (phrase.place == "place") == (before.place == "place")

    def _list_closes(self) -> bool:
        """Whether the list that goes on here ends with "and", and says nothing else of its members before."""
        place = self.at + 1
        while place + 1 < len(self.chunks) and self.chunks[place].kind == "comma" and self.chunks[place + 1].kind == "np":
            place += 2
        return place < len(self.chunks) and (self.chunks[place].kind == "and" or self._next().kind != "comma")
