"""The planner that needs no model and no network: a sentence is split by grammar.

English by a full grammar; German, French, Chinese and Japanese by smaller ones. The language is told from the script and the
function words. The same sentence always gives the same plan.
"""

from __future__ import annotations

from dataclasses import replace

from ..errors import InputError
from .grammar.assembly import assemble
from .grammar.languages import Grammar, grammar_of
from .grammar.scene import Phrase, Scene
from .grammar.tokens import clean
from .plan import LONGEST_PROMPT, MOST_FOREGROUNDS, LayerPlan

__all__ = ["split_sentence"]

_QUOTES = "\"'“”„«»"


def split_sentence(
    sentence: str, *, limit: int = 8, language: str | None = None, proposed: str | None = None, spread: bool = False
) -> LayerPlan:
    """Background, foregrounds from bottom to top, and the whole picture of one sentence.

    ``sentence``: 1 to 4000 characters, data throughout: what reads like an instruction, markup or JSON is prompt text.
    ``limit``: 1 to 16 foregrounds; beyond it the smallest things share a layer, and ``notes`` says so.
    ``language``: "en", "de", "fr", "zh" or "ja"; None tells it from the sentence.
    ``proposed``: the thing to use where the sentence names only a place; without it that is an error.
    ``spread``: "several birds" become three layers of one bird, "many" five, instead of one layer of "several birds".
    Raises InputError for an empty, overlong or thingless sentence, a limit out of range and an unknown language.
    Time is bounded by the length allowed: looking back for what "the ball" means costs words times things.
    """
    if not 1 <= limit <= MOST_FOREGROUNDS:
        raise InputError(f"got a limit of {limit} layers; give 1 to {MOST_FOREGROUNDS}")
    if len(sentence) > 16 * LONGEST_PROMPT:
        raise _too_long(len(sentence))
    lines = [line for line in map(clean, sentence.splitlines()) if line]
    whole = " ".join(lines)
    if not whole:
        raise InputError(
            'got an empty sentence; describe a picture, as in "two red balls in front of a blue cube on a beach"'
        )
    if len(whole) > LONGEST_PROMPT:
        raise _too_long(len(whole))
    grammar = grammar_of(whole, language)
    scene = grammar.scene("\n".join(lines))
    if not scene.things:
        scene = _unread(grammar, whole)
    _settle_vague(scene, spread)
    return assemble(scene, whole=whole, limit=limit, proposed=proposed, many=grammar.many)


def _settle_vague(scene: Scene, spread: bool) -> None:
    """A number that the sentence leaves open is either ours or no number; ``notes`` says which."""
    for thing in scene.things:
        phrase = thing.phrase
        if phrase.stated or phrase.count < 2:
            continue
        shown = phrase.spoken or phrase.plural
        if spread:
            scene.notes.append(f"{shown!r} states no number: {phrase.count} were taken")
        else:
            thing.phrase = replace(phrase, prompt=shown, count=1)
            scene.notes.append(f"{shown!r} states no number: they share one layer")


def _unread(grammar: Grammar, whole: str) -> Scene:
    """A text without a noun phrase: what its quotation marks hold, else the text itself as one thing."""
    scene = grammar.scene("".join(" " if c in _QUOTES else c for c in whole))
    if not scene.things:
        scene.add(Phrase(prompt=whole, head=whole[:40]))
        scene.notes.append("no noun was recognised: the whole text is one layer")
    return scene


def _too_long(length: int) -> InputError:
    return InputError(f"got a sentence of {length} characters; give at most {LONGEST_PROMPT}, or a plan as JSON")
