"""Phrases that borrow their noun: "a red and a white ball", "two cats, one black and one white"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .chunks import Chunk
from .scene import Phrase

__all__ = ["Complete", "with_nouns", "with_owners", "without_collective"]

Complete = Callable[[Phrase, Phrase], Phrase]
"""(phrase without a noun, phrase with one) -> the first with the noun of the second."""

_GLUE = ("and", "comma")


def with_nouns(chunks: Sequence[Chunk], complete: Complete) -> list[Chunk]:
    """Every headless chunk becomes a noun phrase: with the noun to come in its list, else with the latest one before."""
    found: list[Chunk] = []
    noun: Phrase | None = None  # of the list to the right, walking backwards
    for chunk in reversed(chunks):
        if chunk.kind == "headless" and noun is not None and chunk.phrase is not None:
            chunk = replace(chunk, kind="np", phrase=complete(chunk.phrase, noun))
        elif chunk.kind not in _GLUE:
            noun = chunk.phrase if chunk.kind == "np" else None
        found.append(chunk)
    found.reverse()
    return _from_before(found, complete)


def without_collective(chunks: Sequence[Chunk], generic: frozenset[str]) -> list[Chunk]:
    """ "two children, a boy in blue and a girl in red": the children are the boy and the girl."""
    found: list[Chunk] = []
    for i, chunk in enumerate(chunks):
        phrase = chunk.phrase
        if phrase is not None and phrase.head in generic and phrase.count > 1 and _lists(chunks, i + 1, phrase.count):
            continue
        if chunk.kind in ("comma", "stop") and i and chunks[i - 1] not in found[-1:]:
            continue  # the comma after the group that was left out
        found.append(chunk)
    return found


def with_owners(chunks: Sequence[Chunk], describe: Callable[[Phrase, str], Phrase], link: str) -> list[Chunk]:
    """ "a child whose coat is yellow": a child with a yellow coat."""
    found: list[Chunk] = []
    i = 0
    while i < len(chunks):
        part = chunks[i + 1].phrase if i + 2 < len(chunks) else None
        kinds = [chunk.kind for chunk in chunks[i : i + 4]]
        if part is not None and chunks[i].text == "whose" and kinds == ["which", "np", "be", "adjective"]:
            spoken = describe(replace(part, prompt=part.spoken), chunks[i + 3].text).prompt
            described = replace(part, prompt=spoken, spoken=spoken, modifiers=(chunks[i + 3].text,))
            found += [Chunk("prep", link, "with"), Chunk("np", phrase=described)]
            i += 4
        elif part is not None and chunks[i].text == "whose" and kinds[1] == "np" and _stands_alone(part, chunks[i + 2 : i + 6]):
            found.append(Chunk("and"))  # "a boy whose kite hangs in a tree"
            i += 1
        elif part is not None and chunks[i].text == "whose" and kinds[1] == "np":
            said, after = _said(chunks, i + 2)
            spoken = " ".join([part.spoken or part.prompt, *said])
            found += [Chunk("prep", link, "with"), Chunk("np", phrase=replace(part, prompt=spoken, spoken=spoken, role="part"))]
            i = after
        else:
            found.append(chunks[i])
            i += 1
    return found


def _stands_alone(phrase: Phrase, after: Sequence[Chunk]) -> bool:
    kinds = [chunk.kind for chunk in after if chunk.kind != "be"]
    return phrase.role not in ("body", "part", "clothing") and kinds[:3] == ["verb", "prep", "np"]


def _said(chunks: Sequence[Chunk], i: int) -> tuple[list[str], int]:
    """What is said of "whose face": a verb and the object that is its own ("is covered in foam")."""
    said: list[str] = []
    i += i < len(chunks) and chunks[i].kind == "be"
    if i < len(chunks) and chunks[i].kind in ("verb", "have"):
        said.append(chunks[i].text)
        own = chunks[i].value in ("own", "with")
        i += 1
        if own and i < len(chunks) and (phrase := chunks[i].phrase) is not None:
            said.append(phrase.spoken or phrase.prompt)
            i += 1
    return said, i


def _lists(chunks: Sequence[Chunk], i: int, count: int) -> bool:
    """Whether a comma or colon and phrases for ``count`` singles follow, joined by "and" or commas."""
    if i + 1 >= len(chunks) or chunks[i].kind not in ("comma", "stop") or chunks[i + 1].kind != "np":
        return False
    singles, start = 0, True
    for chunk in chunks[i + 1 :]:
        if chunk.kind == "stop":
            break
        if chunk.kind == "np" and start and chunk.phrase is not None:
            singles += 0 if chunk.phrase.many and chunk.phrase.count == 1 else chunk.phrase.count
        start = chunk.kind in _GLUE
    return singles == count


def _from_before(chunks: list[Chunk], complete: Complete) -> list[Chunk]:
    parts: dict[int, list[Chunk]] = {}  # group -> the phrases that tell its members apart
    taken: dict[int, int] = {}  # group -> how many of it stand elsewhere: "two cats, one on a sofa"
    kept: list[Chunk] = []
    group: int | None = None
    subject: int | None = None  # the first phrase of the clause
    for i, chunk in enumerate(chunks):
        if chunk.kind == "np":
            group = len(kept)
            subject = group if subject is None else subject
        elif chunk.kind == "headless" and subject is not None and _starts_over(chunks, i):
            group = subject
        if chunk.kind != "headless" or chunk.phrase is None:
            kept.append(chunk)
            continue
        group = _placed_alike(kept, group)
        before = kept[group].phrase if group is not None else None
        if before is None or group is None:
            continue
        told = replace(chunk, kind="np", phrase=complete(chunk.phrase, before))
        if before.many and kept[group + 1 : group + 2] and kept[group + 1].kind in ("comma", "stop") and _is_told_of(chunks, i):
            taken[group] = taken.get(group, 0) + (chunk.phrase.count if chunk.phrase else 1)
            kept.append(told)
        elif before.many:
            parts.setdefault(group, []).append(told)
            _drop_glue(kept, group)
        else:
            kept.append(told)
    gone = {group + k for group, number in taken.items() for k in (0, 1) if _count(kept[group]) <= number}
    kept = [_fewer(chunk, taken.get(i, 0)) for i, chunk in enumerate(kept)]
    return [member for i, chunk in enumerate(kept) if i not in gone for member in _members(chunk, parts.get(i, []))]


def _placed_alike(kept: Sequence[Chunk], group: int | None) -> int | None:
    """ "A cowboy on a black horse and a sheriff on a white one": the noun that stands after the same preposition."""
    if not kept or kept[-1].kind != "prep":
        return group
    alike = (k for k in range(len(kept) - 2, 0, -1) if kept[k].kind == "np" and kept[k - 1] == kept[-1])
    return next(alike, group)


def _is_told_of(chunks: Sequence[Chunk], i: int) -> bool:
    return i + 1 < len(chunks) and chunks[i + 1].kind in ("prep", "verb", "be", "have")


def _count(chunk: Chunk) -> int:
    return chunk.phrase.count if chunk.phrase else 0


def _fewer(chunk: Chunk, number: int) -> Chunk:
    if not number or chunk.phrase is None:
        return chunk
    return replace(chunk, phrase=replace(chunk.phrase, count=max(1, chunk.phrase.count - number)))


def _starts_over(chunks: Sequence[Chunk], i: int) -> bool:
    """ "The black cat lies on a chair, [the grey one] on a sofa": the noun of the subject, not of the chair."""
    after = chunks[i + 1].kind if i + 1 < len(chunks) else "stop"
    placed = any(chunk.kind in ("prep", "verb") for chunk in chunks[:i])
    return placed and chunks[i - 1].kind in ("and", "comma", "stop", "which") and after in ("prep", "verb", "be")


def _drop_glue(kept: list[Chunk], group: int) -> None:
    while len(kept) > group + 1 and kept[-1].kind in _GLUE:
        kept.pop()


def _members(chunk: Chunk, told: list[Chunk]) -> list[Chunk]:
    if not told or chunk.phrase is None:
        return [chunk]
    rest = chunk.phrase.count - sum(part.phrase.count for part in told if part.phrase)
    left = [replace(chunk, phrase=replace(chunk.phrase, count=rest))] if rest > 0 else []
    listed: list[Chunk] = []
    for part in [*left, *told]:
        listed += [Chunk("and"), part] if listed else [part]
    return listed
