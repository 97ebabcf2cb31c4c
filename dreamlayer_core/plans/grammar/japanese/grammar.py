"""A Japanese sentence to a scene: "の上に" and its like are turned into prepositions, which the reader knows."""

from __future__ import annotations

from dataclasses import replace

from ..chunks import Chunk
from ..facts import facts_of
from ..reader import read
from ..scene import Phrase, Scene, Thing
from ..segments import Segment, segments
from ..tokens import tokens
from . import words

__all__ = ["many", "scene"]

_SIZES = {"大きな": "large", "大きい": "large", "巨大な": "huge", "小さな": "small", "小さい": "small"}
_INSIDE = ("adjective", "noun", "unknown")


class _Clause:
    """What stands between two marks of punctuation. ``subject``: the chunk that が or は marked."""

    def __init__(self, found: list[Segment], out: list[Chunk]) -> None:
        self.words, self.out, self.i = found, out, 0
        self.held = ""  # 帽子をかぶった, for the noun to come
        self.phrase: int | None = None  # where the latest noun phrase is in ``out``
        self.subject: int | None = None

    def _kind(self, ahead: int = 0) -> str:
        return self.words[self.i + ahead].kind if self.i + ahead < len(self.words) else ""

    def run(self) -> None:
        while self.i < len(self.words):
            before = self.i
            self._step()
            self.i = max(self.i, before + 1)

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
        targets: list[Phrase] = []
        start = self.i
        while (phrase := self._phrase()) is not None:
            targets.append(phrase)
            if self._kind() != "and":
                break
            self.i += 1
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
        text = "".join(word.text for word in self.words[start : self.i])
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
        self.out.append(Chunk("prep", text, relation))
        for k, target in enumerate(targets):
            self.out += [Chunk("and")] if k else []
            self.out.append(Chunk("np", phrase=target))
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
        text = (held.spoken if held else "") + "".join(word.text for word in self.words[self.i : end])
        self.i = end
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
        return self._described(body, count, stated, "".join(word.text for word in self.words[start : self.i]))

    def _is_place(self, body: list[Segment]) -> bool:
        return facts_of(_meaning(body[-1].text)).get("place") == "place" and self._kind(1) in (
            "noun",
            "adjective",
            "number",
        )

    def _described(self, body: list[Segment], count: int, stated: bool, spoken: str) -> Phrase:
        text = "".join(word.text for word in body)
        sizes = tuple(_SIZES[word.text] for word in body if word.text in _SIZES)
        return Phrase(
            prompt=text, head=body[-1].text, plural=text, spoken=spoken, count=max(count, 1), stated=stated, definite=not count,
            modifiers=tuple(word.text for word in body[:-1] if word.kind == "adjective"), bare=not count, many=count > 1,
            **facts_of(_meaning(body[-1].text), sizes),
        )  # fmt: skip


def _meaning(noun: str) -> str:
    return next((words.NOUNS[noun[k:]] for k in range(len(noun)) if noun[k:] in words.NOUNS), "")


def _clean(found: list[Segment]) -> list[Segment]:
    """Without what is about the picture: ...の油絵."""
    while found and found[-1].kind == "style":
        found = found[:-1]
        while found and found[-1].kind == "of":
            found = found[:-1]
    return found


def scene(text: str) -> Scene:
    chunks: list[Chunk] = []
    for piece in _pieces(text):
        if isinstance(piece, Chunk):
            chunks.append(piece)
        else:
            _Clause(_clean(segments(piece, words.DICTIONARY)), chunks).run()
    found = Scene(plain="無地の背景", joiner="と", owning="", space="")
    read(chunks, found, _describe)
    return found


def _pieces(text: str) -> list[Chunk | str]:
    found: list[Chunk | str] = []
    for token in tokens(text):
        if token.kind in ("comma", "stop", "quote"):
            found.append(Chunk(token.kind, token.text))
        elif found and isinstance(found[-1], str):
            found[-1] += token.text
        elif token.kind != "other":
            found.append(token.text)
    return found


def _describe(phrase: Phrase, adjective: str) -> Phrase:
    return replace(phrase, prompt=adjective + phrase.prompt)


def many(thing: Thing, number: int) -> str:
    """ "5つの赤いボール"."""
    return "".join([f"{number}つの", thing.phrase.plural, *thing.extras])
