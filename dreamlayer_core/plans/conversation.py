"""What is said to a language model, wherever it runs: the task, the sentence, and one correction."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import FormatError
from .free_text import find_plan
from .objects365 import propose
from .plan import LayerPlan, PlannedLayer
from .planner import NothingToPlace, correction, instructions, merge_to_limit, question, with_whole

__all__ = ["Ask", "Message", "converse"]

Message = dict[str, str]
"""``role`` and ``content``, as chat models take them."""

Ask = Callable[[list[Message]], str]
"""The conversation so far -> the model's answer."""


def converse(ask: Ask, sentence: str, *, limit: int, proposing: bool) -> LayerPlan:
    """The plan of a checked sentence. An answer that is no plan is told to the model once, with what is wrong, for
    another. Where its ``whole`` does not mention every layer, the sentence is the whole.

    Raises FormatError if that is none either, NothingToPlace for a scene without things unless ``proposing``, and what
    ``ask`` raises.
    """
    talk: list[Message] = [
        {"role": "system", "content": instructions(limit)},
        {"role": "user", "content": question(sentence)},
    ]
    answer = ask(talk)
    try:
        try:
            found = find_plan(answer)
        except FormatError as error:
            talk += [{"role": "assistant", "content": answer}, {"role": "user", "content": correction(str(error))}]
            found = find_plan(ask(talk))
    except NothingToPlace as nothing:
        if not proposing:
            raise
        return with_whole(merge_to_limit(propose(nothing.background), limit))
    if not all(_mentions(found.whole, layer) for layer in found.foregrounds):
        found = found.model_copy(update={"whole": sentence})
    return merge_to_limit(found, limit)


def _mentions(text: str, layer: PlannedLayer) -> bool:
    """Whether a text holds the last word of a layer's name, in the singular or with an "s". Plurals of other kinds are
    not known: the sentence, which is taken then, is a good whole as well.
    """
    names = re.findall(r"[^\W\d_]+", layer.name.casefold())
    if not names:
        return layer.name.casefold() in text.casefold()
    head, words = names[-1], re.findall(r"[^\W\d_]+", text.casefold())
    unspaced = not head.isascii() and head in text.casefold()  # Chinese and Japanese
    return unspaced or any(form in words for form in (head, f"{head}s", f"{head}es", head.removesuffix("s")))
