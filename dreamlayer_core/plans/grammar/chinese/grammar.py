"""A Chinese sentence to a scene: its postposed places ("桌子上") are turned into prepositions, which the reader knows."""

from __future__ import annotations

from ..chunks import Chunk
from ..scene import Phrase, Scene, Thing
from ..segments import Segment, segments
from ..unspaced import Clause, described, is_place, read_clauses
from . import words

__all__ = ["many", "scene"]

_SIZES = {"大": "large", "巨大": "huge", "巨型": "huge", "小": "small"}
_INSIDE = ("adjective", "noun", "unknown", "measure")
_DIGITS = "零一二三四五六七八九十"


class _Clause(Clause):
    def __init__(self, found: list[Segment], out: list[Chunk]) -> None:
        super().__init__(found, out)
        self.has_subject = False
        self.holders: list[Phrase] = []  # 客厅 of 客厅的沙发: where the next phrase is

    def run(self) -> None:
        if not self._background():
            super().run()

    def _background(self) -> bool:
        """背景是雪山, 以雪山为背景."""
        texts = [word.text for word in self.words]
        if texts[:1] == ["背景"] and self._kind(1) == "be":
            self.i = 2
        elif texts[:1] == ["以"] and texts[-2:] == ["为", "背景"]:
            self.i = 1
        else:
            return False
        phrase = self._phrase()
        if phrase is not None:
            self.out += [Chunk("np", phrase=phrase), Chunk("spot", value="background")]
        return phrase is not None

    def _step(self) -> None:
        self._chunk()
        for holder in self.holders:
            self._place([holder], "in", "")
        self.holders = []

    def _chunk(self) -> None:
        word, kind = self.words[self.i], self._kind()
        if kind == "at":
            self.i += 1
            self._located()
        elif kind == "and":
            self.out.append(Chunk("and"))
            self.i += 1
        elif kind == "spot" or (kind == "after" and word.text in words.SPOTS and not self.has_subject):
            self.out.append(Chunk("spot", value=word.value if kind == "spot" else words.SPOTS[word.text]))
            self.i += 1
        elif kind == "mood":
            self.out.append(Chunk("mood", text="，" + word.text))
            self.i += 1
        elif kind == "have":
            if self.has_subject:
                self.out.append(Chunk("have", word.text))
            self.i += 1
        elif kind == "holding" and self.has_subject:
            self._holding()
        elif kind in ("number", "vague", "this", "holding", *_INSIDE):
            self._nouns()

    def _located(self) -> None:
        """在 B 上: a place, or where the subject is; 在 B 上的 A: where A is."""
        targets, relation, text = self._targets()
        if not targets:
            return
        if self._kind() == "of":
            self._owner()
        elif not self.has_subject:
            self._front(targets, relation, text)
            return
        self._place(targets, relation, text)

    def _targets(self) -> tuple[list[Phrase], str, str]:
        start = self.i
        targets = self._phrases()
        if self._kind() in ("after", "spot") and targets:
            word = self.words[self.i]
            relation = words.PLACES_AFTER.get(word.text, "in")
            self.i += 1
            return targets, relation, self._text_from(start)
        return targets, "in", ""

    def _owner(self) -> bool:
        """Past 的: whether a noun follows, which becomes the subject."""
        self.i += 1
        owner = self._phrase()
        if owner is not None:
            self.out.append(Chunk("np", phrase=owner))
            self.has_subject = True
        return owner is not None

    def _front(self, targets: list[Phrase], relation: str, text: str) -> None:
        if self.out and self.out[-1].kind != "comma":
            self.out.append(Chunk("comma"))
        self._place(targets, relation, text)
        self.out.append(Chunk("comma"))

    def _nouns(self) -> None:
        """A noun phrase, and what follows it: 上 makes it a place, 上的 a modifier of the next one."""
        start = self.i
        phrase = self._phrase()
        if phrase is None:
            return
        if self._kind() == "after" and not (self.words[self.i].text in words.SPOTS and self._kind(1) == ""):
            self.i = start
            targets, relation, text = self._targets()
            if self._kind() == "of":
                if self._owner():
                    self._place(targets, relation, text)
                return
            if self.out and self.out[-1].kind != "stop" and not self._pending():
                self.out.append(Chunk("stop"))
            self._front(targets, relation, text)
            self.has_subject = False
            return
        self.out.append(Chunk("np", phrase=phrase))
        self.has_subject = True

    def _pending(self) -> bool:
        """Whether all that was said so far waits for its subject: 沙滩上，立方体前面有…"""
        recent = list(self.out)
        while recent and recent[-1].kind != "stop":
            chunk = recent.pop()
            if chunk.kind == "np" and (not recent or recent[-1].kind not in ("prep", "and")):
                return False
        return True

    def _holding(self) -> None:
        verb = self.words[self.i].text
        self.i += 1
        if self._kind() == "empty":
            verb += self.words[self.i].text
            self.i += 1
        phrase = self._phrase()
        if phrase is not None:
            self.out += [Chunk("verb", verb, "own", finite=True), Chunk("np", phrase=phrase)]

    def _phrase(self) -> Phrase | None:
        """[number measure] [modifiers 的] noun. Holding something (穿着红裙子的女孩) is a modifier."""
        start = self.i
        count, stated, measure = self._quantity()
        body: list[Segment] = []
        held = False
        while self._kind() in (*_INSIDE, "of", "holding", "empty") or (self._kind() == "number" and held):
            if self._kind() == "holding" and (held or not self._is_modifier()):
                break
            if self._kind() == "empty" and not held:
                break
            if self._kind() == "of" and not self._noun_follows():
                break
            held = held or self._kind() == "holding"
            body.append(self.words[self.i])
            self.i += 1
            if self._kind() == "of" and not count and self._noun_follows() and is_place(body[-1].text, words.NOUNS):
                text = "".join(word.text for word in body)
                self.holders.append(self._described(body, 0, True, "", text))
                self.i += 1
                count, stated, measure = self._quantity()
                start, body = self.i, []
        while body and body[-1].kind in ("of", "empty", "measure"):
            body.pop()
            self.i -= 1
        if not body:
            self.i = start
            return None
        return self._described(body, count, stated, measure, self._text_from(start))

    def _is_modifier(self) -> bool:
        """Whether 的 and a noun follow the verb before the clause ends."""
        for word in self.words[self.i + 1 :]:
            if word.kind in ("at", "have", "after", "and"):
                return False
            if word.kind == "of":
                return True
        return False

    def _noun_follows(self) -> bool:
        return self._kind(1) in ("noun", "adjective", "unknown", "number")

    def _quantity(self) -> tuple[int, bool, str]:
        if self._kind() == "this":
            self.i += 1
        if self._kind() not in ("number", "vague"):
            return 0, True, ""
        word = self.words[self.i]
        self.i += 1
        measure = ""
        if self._kind() == "measure":
            measure = self.words[self.i].text
            self.i += 1
        return int(word.value), word.kind == "number", measure or ("个" if word.kind == "vague" else "")

    def _described(self, body: list[Segment], count: int, stated: bool, measure: str, spoken: str) -> Phrase:
        text = "".join(word.text for word in body)
        single = count if measure not in ("双", "群", "排", "堆", "束", "串") else min(count, 1)
        prompt = f"一{measure}{text}" if single > 1 or (count == 1 and measure) else spoken if count else text
        return Phrase(
            prompt=prompt, head=body[-1].text, plural=f"{measure}{text}", spoken=spoken, count=max(single, 1), stated=stated,
            definite=not count, bare=not count, many=single > 1, **described(body, words.NOUNS, _SIZES),
        )  # fmt: skip


def _clean(found: list[Segment]) -> list[Segment]:
    """Without what is about the picture: 画一幅…的油画, 照片里有…."""
    while found and found[0].text in words.LEADS:
        found = found[1:]
    if found and found[-1].kind == "style":
        while found and found[-1].kind in ("style", "of"):
            found = found[:-1]
        if len(found) > 1 and found[0].kind == "number" and found[1].text in ("幅", "张", "个"):
            follows_noun = len(found) > 2 and found[2].kind in ("number", "vague", "at")
            found = found[2:] if follows_noun or found[1].text != "个" else found
    return found


def _read_clause(text: str, out: list[Chunk]) -> None:
    _Clause(_clean(segments(text, words.DICTIONARY)), out).run()


def scene(text: str) -> Scene:
    found = Scene(plain="纯净的中性背景", joiner="和", owning="", space="")
    return read_clauses(text, found, _read_clause, conjunction="、")


def many(thing: Thing, number: int) -> str:
    """ "五个红球"."""
    spelled = "两" if number == 2 else _DIGITS[number] if number <= 10 else str(number)
    return "".join([spelled, thing.phrase.plural, *thing.extras])
