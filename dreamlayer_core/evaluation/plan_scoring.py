"""Comparing one predicted layer plan with the plan that its sentence was given by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ..plans.plan import LayerPlan
from .plan_gold import Language, PlanSentence, WantedObject
from .plan_prompts import prompt_flaws
from .plan_words import Words, content_units, has_phrase, same_text, split_words, trimmed, without_phrases

__all__ = ["PlanScore", "assign_layers", "score_plan"]

_NUMBERS = frozenset("two three four five six seven eight nine ten eleven twelve dozen couple pair several 2 3 4 5 6 7 8 9 10 "
                     "11 12".split())


@dataclass(frozen=True, kw_only=True)
class PlanScore:
    """What was right in one plan: one value, 0 or 1, for everything of a sort; ``remarks`` says what was wrong."""

    layers: tuple[int, ...]  # per predicted layer: it shows an object that was wanted
    objects: tuple[int, ...]  # per layer that was wanted: there is one for it
    attributes: tuple[int, ...]  # per matched layer, as are the next four
    complete: tuple[int, ...]
    pure: tuple[int, ...]
    number: tuple[int, ...]
    clean: tuple[int, ...]
    order: tuple[int, ...]  # per pair of the order
    background: int
    background_head: int | None  # None where the sentence gives no place
    whole: int
    remarks: tuple[str, ...]

    @property
    def perfect(self) -> int:
        """Whether every part is right but the whole prompt."""
        return int(all((*self.layers, *self.objects, *self.attributes, *self.clean, *self.order, self.background)))


@dataclass(frozen=True)
class _Object:
    """An object with its texts split into words."""

    wanted: WantedObject
    heads: tuple[Words, ...]
    attributes: tuple[tuple[Words, ...], ...]

    @property
    def own_words(self) -> frozenset[str]:
        phrases = (*self.heads, *(phrase for choice in self.attributes for phrase in choice))
        return frozenset(word for phrase in phrases for word in phrase)


@dataclass(frozen=True)
class _Layer:
    """A predicted layer beside the object that it may be."""

    missing: tuple[str, ...]
    leaked: tuple[str, ...]
    right_number: bool

    @property
    def quality(self) -> float:
        return float(self.right_number) - len(self.missing) - 2 * len(self.leaked)


class _Scorer:
    """One sentence's gold, split into words once."""

    def __init__(self, gold: PlanSentence) -> None:
        self.gold = gold
        self.language: Language = gold.language
        self.objects = [
            _Object(o, tuple(map(self.split, o.head)), tuple(tuple(map(self.split, choice)) for choice in o.attributes))
            for o in gold.objects]
        styles = [self.split(text) for text in gold.style]
        self.styles = {*styles, *(trimmed(style, self.language) for style in styles)} - {()}
        # The heads too: Chinese and Japanese units are whole phrases, and "beach" leaks of "calm beach" as well.
        self.scenery = {unit for text in (*gold.background[:1], *gold.background_heads) for unit in self.units(self.split(text))}

    def split(self, text: str) -> Words:
        return split_words(text, self.language)

    def join(self, words: Words) -> str:
        return ("" if self.language in ("zh", "ja") else " ").join(words)

    def units(self, phrase: Words) -> set[Words]:
        """What can leak of a phrase: style words cannot."""
        style = {unit for text in self.styles for unit in content_units(text, self.language)}
        return content_units(phrase, self.language) - style

    def names(self, words: Words, item: _Object) -> bool:
        return any(has_phrase(words, head, self.language, any_number=True) for head in item.heads)

    def names_another(self, words: Words, item: _Object) -> bool:
        """Whether the words name an object beside ``item``, in other words than its own."""
        return any(
            has_phrase(words, head, self.language, any_number=True) and not self._within(head, item)
            for other in self.objects if other is not item for head in other.heads)

    def _within(self, phrase: Words, item: _Object) -> bool:
        return all(any(has_phrase((own,), (word,), self.language, any_number=True) for own in item.own_words)
                   for word in phrase)

    def look(self, words: Words, item: _Object) -> _Layer | None:
        """A layer as ``item``; None where it cannot be that: it does not name it, or names another object too."""
        if not self.names(words, item) or self.names_another(words, item):
            return None
        missing = [choice[0] for choice, phrases in zip(item.wanted.attributes, item.attributes, strict=True)
                   if not any(has_phrase(words, phrase, self.language) for phrase in phrases)]
        foreign = set(self.scenery)
        for other in self.objects:
            if other is not item:
                foreign |= {unit for choice in other.attributes for phrase in choice for unit in self.units(phrase)}
        leaked = [unit for unit in foreign if has_phrase(words, unit, self.language) and not self._within(unit, item)]
        return _Layer(tuple(missing), tuple(sorted(self.join(unit) for unit in leaked)), self._right_number(words, item))

    def _right_number(self, words: Words, item: _Object) -> bool:
        """In English: the head is there in its own number, and no numeral beside a thing that has layers of its own."""
        if self.language != "en":
            return True
        counted = item.wanted.count > 1 and any(w in _NUMBERS and w not in item.own_words for w in words)
        return not counted and any(has_phrase(words, head, self.language) for head in item.heads)

    def flaws(self, prompt: str, item: int) -> tuple[str, ...]:
        """What is wrong with the words of a layer that is the object of this number."""
        wanted = self.objects[item]
        return prompt_flaws(prompt, self.gold.sentence, wanted.heads, wanted.attributes, self.language)

    def background(self, text: str) -> tuple[int, int | None, list[str]]:
        """Whether the background is right, and its head (None without a gold one), and what is wrong."""
        words = self.split(text)
        named = [item.wanted.title for item in self.objects
                 if self.names(words, item) and not self._is_scenery(item)]
        remarks = [f"the background {text!r} names {title}" for title in named]
        if not self.gold.background:
            return int(not named), None, remarks
        plain = without_phrases(words, self.styles, self.language)
        accepted = [self.split(choice) for choice in self.gold.background]
        accepted += [without_phrases(choice, self.styles, self.language) for choice in accepted]
        exact = not named and any(same_text(given, choice, self.language) for given in (words, plain) for choice in accepted)
        head = not named and any(has_phrase(words, self.split(h), self.language) for h in self.gold.background_heads)
        if not exact and not named:
            remarks.append(f"the background is {text!r}, not {self.gold.background[0]!r}")
        return int(exact), int(head), remarks

    def _is_scenery(self, item: _Object) -> bool:
        """Whether the right background itself holds the object's noun: boats in a boat yard."""
        return any(self.names(self.split(choice), item) for choice in self.gold.background)

    def whole(self, text: str) -> list[str]:
        """What the whole prompt does not mention: objects, the background's head, style."""
        words = self.split(text)
        missing = [item.wanted.title for item in self.objects if not self.names(words, item)]
        missing += [self.join(s) for s in self.styles if not has_phrase(words, trimmed(s, self.language), self.language)]
        heads = [self.split(head) for head in self.gold.background_heads]
        if heads and not any(has_phrase(words, head, self.language) for head in heads):
            missing.append(self.gold.background_heads[0])
        return sorted(set(missing))


def assign_layers(quality: Sequence[Sequence[float | None]], counts: Sequence[int]) -> list[int | None]:
    """For every layer the object that it is, or None: as many matches as there can be, and among those the best sum.

    ``quality`` is (layers, objects), None where they cannot match; each object takes up to its count. Exact; ties go to the
    earlier object.
    """

    @cache
    def best(layer: int, left: tuple[int, ...]) -> tuple[int, float, tuple[int | None, ...]]:
        if layer == len(quality):
            return 0, 0.0, ()
        matched, total, rest = best(layer + 1, left)
        chosen = (matched, total, (None, *rest))
        for item, value in enumerate(quality[layer]):
            if value is None or not left[item]:
                continue
            matched, total, rest = best(layer + 1, (*left[:item], left[item] - 1, *left[item + 1:]))
            if (matched + 1, total + value) > chosen[:2]:
                chosen = (matched + 1, total + value, (item, *rest))
        return chosen

    return list(best(0, tuple(counts))[2])


def _order(gold: PlanSentence, assigned: Sequence[int | None]) -> tuple[list[int], list[str]]:
    """Per pair, whether every layer of the lower object is under every one of the upper object."""
    titles = [wanted.title for wanted in gold.objects]
    right: list[int] = []
    for lower, upper in gold.order:
        under = [place for place, item in enumerate(assigned) if item == titles.index(lower)]
        over = [place for place, item in enumerate(assigned) if item == titles.index(upper)]
        right.append(int(bool(under) and bool(over) and max(under) < min(over)))
    wrong = [pair for pair, good in zip(gold.order, right, strict=True) if not good]
    return right, [f"{lower} is not under {upper}" for lower, upper in wrong]


def score_plan(gold: PlanSentence, plan: LayerPlan | None) -> PlanScore:
    """Score a plan against its sentence's; None is the plan of a planner that refused, in which nothing is right."""
    scorer = _Scorer(gold)
    prompts = [] if plan is None else [layer.prompt for layer in plan.foregrounds]
    looks = [[scorer.look(scorer.split(prompt), item) for item in scorer.objects] for prompt in prompts]
    counts = [wanted.count for wanted in gold.objects]
    assigned = assign_layers([[look and look.quality for look in row] for row in looks], counts)
    matched = [(place, item, look) for place, item in enumerate(assigned)
               if item is not None and (look := looks[place][item]) is not None]
    found = [sum(item == number for item in assigned) for number in range(len(counts))]
    order, order_remarks = _order(gold, assigned)
    background, head, background_remarks = scorer.background(plan.background) if plan else (
        0, 0 if gold.background else None, ["no plan"])
    unsaid = scorer.whole(plan.whole if plan else "")
    remarks = [f"{wanted.title}: {count - got} of {count} missed"
               for wanted, count, got in zip(gold.objects, counts, found, strict=True) if got < count]
    flaws = [scorer.flaws(prompts[place], item) for place, item, _ in matched]
    remarks += [f"layer {prompts[place]!r}: {flaw}"
                for (place, _, _), found_flaws in zip(matched, flaws, strict=True) for flaw in found_flaws]
    remarks += [f"layer {prompt!r} is none that is wanted"
                for prompt, item in zip(prompts, assigned, strict=True) if item is None]
    for place, _, look in matched:
        remarks += [f"layer {prompts[place]!r} lacks {text!r}" for text in look.missing]
        remarks += [f"layer {prompts[place]!r} has {text!r} of something else" for text in look.leaked]
        remarks += [] if look.right_number else [f"layer {prompts[place]!r} has the wrong number"]
    return PlanScore(
        layers=tuple(int(item is not None) for item in assigned),
        objects=tuple(value for count, got in zip(counts, found, strict=True) for value in [1] * got + [0] * (count - got)),
        attributes=tuple(int(not look.missing and not look.leaked and look.right_number) for _, _, look in matched),
        complete=tuple(int(not look.missing) for _, _, look in matched),
        pure=tuple(int(not look.leaked) for _, _, look in matched),
        number=tuple(int(look.right_number) for _, _, look in matched),
        clean=tuple(int(not found_flaws) for found_flaws in flaws),
        order=tuple(order),
        background=background,
        background_head=head,
        whole=int(not unsaid),
        remarks=(*remarks, *order_remarks, *background_remarks, *(f"the whole prompt lacks {text!r}" for text in unsaid)),
    )
