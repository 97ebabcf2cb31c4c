"""A Japanese sentence to a scene: "の上に" and its like are turned into prepositions, which the reader knows."""

from __future__ import annotations

from dataclasses import replace

from ..chunks import Chunk
from ..scene import Phrase, Scene, Thing
from ..segments import Segment, segments
from ..unspaced import Clause, described, is_place, read_clauses
from . import words

__all__ = ["many", "scene"]

_SIZES = {"大きな": "large", "大きい": "large", "巨大な": "huge", "小さな": "small", "小さい": "small"}
_INSIDE = ("adjective", "noun", "unknown")


class _Clause(Clause):
    """``subject``: the chunk that が or は marked."""

    def __init__(self, found: list[Segment], out: list[Chunk]) -> None:
        super().__init__(found, out)
        self.held = ""  # 帽子をかぶった, for the noun to come
        self.phrase: int | None = None  # where the latest noun phrase is in ``out``
        self.subject: int | None = None

    def _step(self) -> None:
        word, kind = self.words[self.i], self._kind()
        if kind == "and":
            self.out.append(Chunk("and"))
        elif kind == "mark":
            self.subject = self.phrase
        elif kind == "mood":
            self.out.append(Chunk("mood", text="、" + word.text))
            self.i += 1
            self.i += self._kind() in ("of", "at")
        elif kind in ("spot", "after"):
            self._spot(word)
        elif kind in ("number", "vague") and self.subject is not None and not self._noun_follows():
            self._count_after(int(word.value))
        elif kind in ("number", "vague", *_INSIDE):
            self._nouns()

    def _spot(self, word: Segment) -> None:
        spot = word.value if word.kind == "spot" else words.SPOTS.get(word.text, "")
        if spot:
            self.out.append(Chunk("spot", value=spot))

    def _noun_follows(self) -> bool:
        ahead = 1 + (self._kind(1) == "of")
        return self._kind(ahead) in _INSIDE

    def _count_after(self, count: int) -> None:
        """赤いボールが二つ: the number comes last."""
        place = self.subject
        if place is not None and (phrase := self.out[place].phrase) is not None:
            self.out[place] = replace(
                self.out[place], phrase=replace(phrase, count=count, many=count > 1, definite=False)
            )

    def _nouns(self) -> None:
        start = self.i
        targets = self._phrases()
        if targets and self._located(targets, start):
            return
        for phrase in targets:
            if phrase is not targets[0]:
                self.out.append(Chunk("and"))
            self._put(phrase)
        if self._kind() == "object":
            self._object()

    def _put(self, phrase: Phrase) -> None:
        if self.held:
            phrase, self.held = replace(phrase, prompt=self.held + phrase.prompt, plural=self.held + phrase.plural), ""
        self.phrase = len(self.out)
        self.out.append(Chunk("np", phrase=phrase))

    def _located(self, targets: list[Phrase], start: int) -> bool:
        """Whether the phrase says where something is: B の上に, B で; emits it as a preposition."""
        after = self._kind() == "of" and (self._kind(1) == "after" or (self._kind(1) == "spot" and self._after(1)))
        if after:
            relation = self._after(1)
            self.i += 2
        elif self._kind() == "at" or (self._kind() == "of" and targets[-1].place == "place" and len(targets) == 1):
            relation = "in"
        else:
            return False
        text = self._text_from(start)
        at = self._kind()
        self.i += at in ("at", "of")
        self.i += self._kind() == "mark" and at == "at"
        for word in self.words[self.i :]:  # ソファの上で寝ている猫
            if word.kind not in ("doing", "empty"):
                break
            self.i += 1
        self._place(targets, relation, text)
        return True

    def _after(self, ahead: int) -> str:
        return words.PLACES_AFTER.get(self.words[self.i + ahead].text, "")

    def _place(self, targets: list[Phrase], relation: str, text: str) -> None:
        fronted = self.subject is None
        if fronted and self.out and self.out[-1].kind not in ("comma", "stop"):
            self.out.append(Chunk("comma"))
        super()._place(targets, relation, text)
        self.out.append(Chunk("comma"))  # what follows is about the subject again

    def _object(self) -> None:
        """傘を持った女性 and 女性が傘を持っている: what is held, worn or read describes its holder."""
        verb = self.i + 1
        if verb >= len(self.words) or self.words[verb].kind != "holding":
            return
        end = verb + 1
        while end < len(self.words) and self.words[end].kind == "empty":
            end += 1
        held = self.out.pop().phrase
        start, self.i = self.i, end
        text = (held.spoken if held else "") + self._text_from(start)
        if self.subject is not None and self._kind() not in _INSIDE:
            owner = self.out[self.subject].phrase
            if owner is not None:
                self.out[self.subject] = replace(
                    self.out[self.subject], phrase=replace(owner, prompt=text + owner.prompt)
                )
        else:
            self.held = text

    def _phrase(self) -> Phrase | None:
        """[number の] (adjective | noun の)* noun [number]."""
        start, count, stated = self.i, 0, True
        body: list[Segment] = []
        while self.i < len(self.words):
            kind = self._kind()
            if kind in ("number", "vague") and not body and not count:
                count, stated = int(self.words[self.i].value), kind == "number"
                self.i += 1
                self.i += self._kind() == "of"
                continue
            if kind == "of" and (not body or self._kind(1) not in (*_INSIDE, "number") or self._is_place(body)):
                break
            if kind not in (*_INSIDE, "of") and not (kind == "number" and body and body[-1].kind == "of"):
                break
            if kind == "number":
                count = int(self.words[self.i].value)
                self.i += 1 + (self._kind(1) == "of")
                body = []
                continue
            body.append(self.words[self.i])
            self.i += 1
        if not body:
            self.i = start
            return None
        if not count and self._kind() == "number" and body[-1].kind != "of":
            count = int(self.words[self.i].value)
            self.i += 1
        return self._described(body, count, stated, self._text_from(start))

    def _is_place(self, body: list[Segment]) -> bool:
        return self._kind(1) in ("noun", "adjective", "number") and is_place(body[-1].text, words.NOUNS)

    def _described(self, body: list[Segment], count: int, stated: bool, spoken: str) -> Phrase:
        text = "".join(word.text for word in body)
        return Phrase(
            prompt=text, head=body[-1].text, plural=text, spoken=spoken, count=max(count, 1), stated=stated,
            definite=not count, bare=not count, many=count > 1, **described(body, words.NOUNS, _SIZES),
        )  # fmt: skip


def _clean(found: list[Segment]) -> list[Segment]:
    """Without what is about the picture: ...の油絵."""
    while found and found[-1].kind == "style":
        found = found[:-1]
        while found and found[-1].kind == "of":
            found = found[:-1]
    return found


def _read_clause(text: str, out: list[Chunk]) -> None:
    _Clause(_clean(segments(text, words.DICTIONARY)), out).run()


def scene(text: str) -> Scene:
    return read_clauses(text, Scene(plain="無地の背景", joiner="と", owning="", space=""), _read_clause)


def many(thing: Thing, number: int) -> str:
    """ "5つの赤いボール"."""
    return "".join([f"{number}つの", thing.phrase.plural, *thing.extras])
