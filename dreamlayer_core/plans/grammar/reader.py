"""Reads chunks from left to right into a scene: who is where, whose attribute is what. One pass, one lookahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from .belonging import Use, belongs
from .boxes import spot_box
from .chunks import Chunk
from .listing import WORN, Listing
from .lookahead import LARGE
from .reference import meant, mentioned
from .scene import Edge, Phrase, Relation, Scene, Thing

__all__ = ["Describe", "read"]

_SHOWING = ("painted", "decorated", "adorned", "shaped", "in the shape", "in the form", "carved", "embroidered", "printed", "engraved")
Describe = Callable[[Phrase, str], Phrase]
"""(phrase, predicative adjective) -> the phrase with it: "the ball is red"."""

class _Reader(Listing):
    def __init__(self, chunks: Sequence[Chunk], scene: Scene, describe: Describe) -> None:
        super().__init__(chunks)
        self.scene, self.describe = scene, describe
        self.anchor: list[Thing] = []  # what the next preposition is about
        self.listing: list[Thing] = []  # the same with what "and" joins: "trees and hills in the background"
        self.topic: list[Thing] = []  # what "it" means
        self.kept_topic = False  # "behind it a vase, in front of it a cup": both of the same "it"
        self.pending: list[Use] = []  # "behind the house [stands a tree]"
        self.spots: list[str] = []  # "on the left [is a tree]"
        self.use: Use | None = None
        self.main: list[Thing] = []  # the subject that a relative clause interrupts
        self.clause_has_verb = False
        self.wider: list[Thing] = []  # the subject with what "and" joined to it later
        self.open = False  # the subject group may still grow

    def run(self) -> None:
        steps: dict[str, Callable[[Chunk], None]] = {
            "np": self._noun_phrase, "prep": self._preposition, "verb": self._verb, "be": self._be, "have": self._have,
            "and": self._and, "comma": self._comma, "stop": self._stop, "which": self._which, "it": self._pronoun,
            "spot": self._spot, "adjective": self._adjective, "mood": self._mood, "quote": self._quote,
        }  # fmt: skip
        for at, chunk in enumerate(self.chunks):
            self.at = at
            if chunk.kind in steps:
                steps[chunk.kind](chunk)

    # --- noun phrases

    def _noun_phrase(self, chunk: Chunk) -> None:
        phrase = chunk.phrase
        if phrase is None:
            return
        listed = self.use is None and self._goes_on(phrase)
        use, before = self.last if listed else self.use, self.listing
        self.use = None
        if use is None and phrase.role in ("mood", "style"):
            if phrase.role == "mood":
                self.scene.moods.append(f", {phrase.prompt}" if self.scene.space else f"，{phrase.prompt}")
        elif use is None:
            self._new(phrase)
        else:
            self._apply(use, phrase)
        self.listing = [*before, *self.anchor] if listed and self.anchor is not before else self.anchor
        self.targets = self.anchor
        self.last, self.last_phrase, self.glue = use, phrase, ""

    def _new(self, phrase: Phrase) -> None:
        own = phrase.owned and (phrase.role == "body" or self.glue != "and")  # but "a violin and its bow"
        if self.topic and ((phrase.role in WORN and own) or self._is_tag(phrase)):
            self._extra(self.topic, f"{self.scene.owning} {phrase.spoken or phrase.prompt}".strip())
            return
        thing = mentioned(self.scene, phrase, joined=bool(self.glue))
        no_place = phrase.place != "place" and all(thing.phrase.place != "place" for thing in self.subject)
        group = self.open and self.glue in ("and", "comma") and no_place
        joined = self.glue in ("and", "comma") and not self.pending
        self.wider = [*self.wider, *thing] if joined else thing
        self.subject = [*self.subject, *thing] if group else thing
        self.anchor, self.open = self.subject, True
        if not self.kept_topic:
            self.topic = self.subject
        self.kept_topic = False
        for use in self.pending:
            self._edges(thing, use)
        for spot in self.spots:
            self._place(thing, spot)
        if not (self._next().kind in ("and", "comma") and self._next(2).kind == "np"):
            self.pending, self.spots = [], []

    def _is_tag(self, phrase: Phrase) -> bool:
        """ "1 girl, red hair, white dress": bare phrases after commas."""
        if not phrase.bare or self.glue != "comma" or phrase.animate:
            return False
        borne = self._next().kind == "prep" and (part := self._next(2).phrase) is not None and part.owned and part.role == "body"
        living = self.topic[-1].phrase.animate
        listed = phrase.role == "clothing" and any(thing.extras for thing in self.topic)
        part = phrase.role == "part" and phrase.many and not phrase.place and not living
        return phrase.role == "body" or listed or part or (borne and living)

    def _apply(self, use: Use, phrase: Phrase) -> None:
        sources = list(use.sources)
        if use.how == "without":
            return
        if phrase.role in ("mood", "style", "abstract") and use.how in ("prep", "front", "with", "object"):
            if phrase.role == "mood":
                self.scene.moods.append(f" {use.text} {phrase.prompt}")
            return
        others = [thing for thing in self.topic if thing not in sources] or self._kin(sources)
        if use.how == "prep" and phrase.owned and phrase.role == "body" and others:
            for target in others:  # "an elephant with a monkey on its back"
                self.scene.edges += [Edge(source.index, use.relation, target.index, "") for source in sources]
            return
        shown = use.text.split(" ")[-1] in ("as", "like") or use.text.startswith(_SHOWING)
        owns = use.how == "own" and (not phrase.animate or shown)
        if owns or (sources and belongs(use, phrase, sources, self._placing(sources, phrase))):
            alike = len({thing.phrase.animate for thing in sources}) == 1  # "a boy and a girl with umbrellas"
            bearers = sources if phrase.many and len(sources) == 2 and alike or use.how == "own" else sources[-1:]
            self._extra(bearers, f"{use.text}{self.scene.space}{phrase.spoken or phrase.prompt}".strip())
            self.anchor = sources or self.anchor
            return
        things = mentioned(self.scene, phrase)
        if use.how == "front":
            self.pending.append(replace(use, sources=tuple(things)))
        else:
            for target in things:
                crossed = use.how == "object" and target.phrase.place == "scenery"  # "crossing a bridge"
                relation, text = "along" if crossed else use.relation, "" if use.how == "object" else use.text
                self.scene.edges += [Edge(source.index, relation, target.index, text) for source in sources]
        self.anchor = things

    def _kin(self, sources: list[Thing]) -> list[Thing]:
        """ "A grandfather, his grandson on his knees": on the grandfather's."""
        first = sources[0] if sources and sources[0].phrase.owned else None
        return [thing for thing in self.scene.things[: first.index] if thing.phrase.animate][-1:] if first else []

    def _placing(self, sources: list[Thing], phrase: Phrase) -> Chunk:
        """The preposition after a phrase, where it is about the phrase: "a boy with a tree behind him", not "behind a fence"."""
        sizes = [thing.phrase.size for thing in sources if not thing.phrase.animate]
        if self._carries_it(max(sizes, default=0)) or (sizes and not phrase.bare and self._carries_it(LARGE)):
            return Chunk("prep", value="beside")
        living = all(thing.phrase.animate for thing in sources)
        other = living and self._next(2).kind == "it" and self._next(2).value == "it"  # "a stall, a man with a bag in front of it"
        return Chunk("stop") if other or self._next(2).kind in ("np", "quote") else self._next()

    def _edges(self, things: list[Thing], use: Use) -> None:
        for target in use.sources:
            self.scene.edges += [Edge(thing.index, use.relation, target.index, use.text) for thing in things]

    def _extra(self, things: list[Thing], text: str) -> None:
        for thing in things:
            thing.extras.append(text)

    # --- what links them

    def _preposition(self, chunk: Chunk) -> None:
        relation = cast(Relation, chunk.value)
        if chunk.value == "without":
            self.use = Use("without") if self._next().kind == "np" else None
            return
        if self._is_fronted():
            self.subject, self.anchor = [], []
        if self._next().kind == "which":  # "a table on which a vase stands"
            self.pending.append(Use("front", tuple(self.anchor), relation, chunk.text))
            self.main, self.clause_has_verb = self.subject, False
            return
        sources = tuple(self._described_things(relation))
        if self._next().kind not in ("np", "it", "quote", "adjective"):
            self._adverb(relation, chunk.text)
        elif not sources:
            self.use = Use("front", (), relation, chunk.text)
        else:
            doing = self._next(-1).kind == "verb"
            self.use = Use("with" if relation == "with" else "prep", sources, relation, chunk.text, doing)
        self.open = False

    def _described_things(self, relation: Relation) -> list[Thing]:
        """ "A ball on a floor with a blue wall": the floor has the wall. "A cart, a herd behind her": the herd is behind her."""
        target = self._next().phrase
        if relation == "with" and target is not None and target.place in ("scenery", "place") and self.anchor:
            return self.anchor
        things = self._located_things()
        tells_apart = self._next().kind == "it" and all(thing in things for thing in self.topic)
        return things[-1:] if tells_apart and self._next(-1).kind == "np" else things

    def _located_things(self) -> list[Thing]:
        """What a preposition is about: the nearest things, but never a place while there is a subject to place."""
        nearest = self.anchor or self.subject
        on_ground = all(thing.phrase.place == "place" for thing in nearest)
        if on_ground and self.subject:
            return self.subject
        return [*self._company(), *nearest]

    def _company(self) -> list[Thing]:
        """Who is where the nearest things are: "a bowl with a pear on a table", "a knight fights a dragon in front of a castle"."""
        target = self._next().phrase
        if self.last is None or self.last.how not in ("with", "object") or target is None or target.owned or self.glue:
            return []
        with_all = self.last.how == "with" or self._next(0).value in ("front", "behind")
        company = (*(self.wider if with_all and not self.clause_has_verb else ()), *self.last.sources, *self.listing)
        return [thing for thing in company if with_all and thing.phrase.place != "place" and thing not in self.anchor]

    def _adverb(self, relation: Relation, text: str) -> None:
        """A preposition without an object: "with a ball in front" is in front of what has it."""
        last = self.last
        owners = last.sources if last is not None and last.how == "with" else self.subject  # "an iceberg with a bear on top"
        owner = [thing for thing in owners if thing not in self.anchor]
        for target in owner:
            self.scene.edges += [Edge(thing.index, relation, target.index, text) for thing in self.anchor]

    def _verb(self, chunk: Chunk) -> None:
        if chunk.value == "lead":
            self.subject, self.anchor, self.open = [], [], False
            return
        self.open = False
        if chunk.finite:
            self._finite()
        if chunk.plural and not (len(self.subject) == 1 and self.subject[0].phrase.many) and len(self.wider) > len(self.subject):
            self.subject = self.wider  # "a cat in a hat and a dog in a coat play"
        sources = self._doers(chunk)
        if not sources:
            return
        if chunk.value == "own" and chunk.finite and self._next().kind == "np" and all(thing.phrase.place == "place" for thing in sources):
            self.subject, self.anchor = [], []  # "the garage holds a car"
            return
        held = self._next().phrase
        if chunk.value == "own" and not chunk.finite and held is not None and not held.many:
            sources = sources[-1:]  # "a cat and a man wearing a hat": one hat; but "holding hands" is of both
        self.anchor = sources
        if self._next().kind in ("np", "it"):
            self.use = Use("own" if chunk.value == "own" else "object", tuple(sources), "none", chunk.text)
        elif self._next().kind == "quote":
            self._extra(sources, chunk.text)
        elif chunk.value == "drop" or (self._next().text == "by" and not chunk.text.endswith("ing")):
            return  # "flanked by two guards": they say it
        elif chunk.value != "stay" or all(thing.phrase.animate for thing in sources):
            self._extra([thing for thing in sources if thing.phrase.place != "place"], chunk.text)

    def _doers(self, chunk: Chunk) -> list[Thing]:
        if chunk.finite or self.glue or (self.at and self.chunks[self.at - 1].kind == "be"):
            return self.subject
        nearest = self.anchor or self.subject
        if len(nearest) > 1 and self._is_of_last(chunk, nearest[-1]):
            return nearest[-1:]
        if any(thing.phrase.animate for thing in nearest) or not any(thing.phrase.animate for thing in self.subject):
            return nearest
        return self.subject if chunk.text.endswith("ing") else nearest

    def _is_of_last(self, chunk: Chunk, last: Thing) -> bool:
        """ "A rat, a board full of formulas", "a calendar and a radio playing": not of the whole list."""
        listed = self._next(-1).kind == "np" and not last.phrase.bare and not last.phrase.many
        return listed and not last.phrase.animate and (chunk.value != "stay" or self._next(-2).kind == "comma")

    def _finite(self) -> None:
        """The second verb after "which" is the main clause's again."""
        if self.main and self.clause_has_verb and not self.glue:
            self.subject, self.main = self.main, []
            self.anchor = self.subject
        self.clause_has_verb = True

    def _be(self, chunk: Chunk) -> None:
        self._finite()
        self.anchor, self.open = self.subject, False

    def _have(self, chunk: Chunk) -> None:
        self.use, self.open = Use("with", tuple(self.subject), "with", chunk.text), False

    def _adjective(self, chunk: Chunk) -> None:
        for thing in self.subject if self._previous_is_be() else []:
            thing.phrase = self.describe(thing.phrase, chunk.text)

    def _previous_is_be(self) -> bool:
        place = self.at - 1
        while place >= 0 and self.chunks[place].kind in ("and", "adjective", "comma"):
            place -= 1
        return place >= 0 and self.chunks[place].kind == "be"

    def _and(self, chunk: Chunk) -> None:
        self.glue = self.glue or "and"
        if self.last is not None and self.last.sources:
            self.anchor = list(self.last.sources)

    def _comma(self, chunk: Chunk) -> None:
        self.glue, self.use = "comma", None
        self.anchor = self.subject

    def _stop(self, chunk: Chunk) -> None:
        self.subject, self.anchor, self.pending, self.spots = [], [], [], []
        self.use, self.last, self.glue, self.open = None, None, "", False
        self.main, self.wider, self.targets, self.listing = [], [], [], []

    def _which(self, chunk: Chunk) -> None:
        if self.pending and self.at and self.chunks[self.at - 1].kind == "prep":
            self.subject, self.open, self.glue, self.use = [], False, "", None
            return
        self.main, self.clause_has_verb = self.subject, False
        self.subject, self.open, self.glue = self.targets or self.anchor, False, ""

    def _pronoun(self, chunk: Chunk) -> None:
        use, self.use = self.use, None
        if use is None:
            self.subject = self.anchor = self.topic
        elif use.how == "front":
            self.pending.append(replace(use, sources=tuple(meant(self.scene, self.topic, (), who=chunk.value) or self.topic)))
            self.kept_topic, self.last = True, None
        else:
            for target in self._owners(chunk.value) or meant(self.scene, self.topic, use.sources, who=chunk.value):
                self.scene.edges += [Edge(source.index, use.relation, target.index, "") for source in use.sources]

    def _owners(self, who: str) -> list[Thing]:
        """ "On a table with a vase on it": the table."""
        if self.last is None or self.last.how != "with" or self._next(-3).value != "with":
            return []
        owners = list(self.last.sources)
        fits = {"him": any(thing.phrase.animate for thing in owners), "them": len(owners) > 1 or any(thing.phrase.many for thing in owners)}
        return owners if fits.get(who, True) else []

    def _spot(self, chunk: Chunk) -> None:
        things = (self.listing if self.anchor is self.targets else self.anchor) or self.subject
        series = self._next(-2) if self._next(-2).kind != "and" else self._next(-3)
        if self._next(-1).kind == "np" and series.kind == "comma":
            things = things[-1:]  # "a trough, a windmill in the background"
        if things and not self._inverted():
            self._place(things, chunk.value)
        else:
            self.spots.append(chunk.value)
        self.open = False

    def _place(self, things: list[Thing], spot: str) -> None:
        for thing in things:
            thing.level = {"background": -2, "midground": -1, "foreground": 1}.get(spot, thing.level)
            thing.box = thing.box or spot_box(spot)

    def _mood(self, chunk: Chunk) -> None:
        self.scene.moods.append(chunk.text)

    def _quote(self, chunk: Chunk) -> None:
        self._extra(self.anchor or self.subject, chunk.text)
        self.use = None


def read(chunks: Sequence[Chunk], scene: Scene, describe: Describe) -> None:
    """Fills ``scene`` from the chunks of a text."""
    _Reader(chunks, scene, describe).run()
