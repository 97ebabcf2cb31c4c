"""What is said to a language model, wherever it runs: the task, the sentence, and one correction."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import FormatError
from .free_text import find_plan
from .objects365 import propose
from .plan import LayerPlan
from .planner import NothingToPlace, correction, instructions, merge_to_limit, question, with_whole

__all__ = ["Ask", "Message", "converse"]

Message = dict[str, str]
"""``role`` and ``content``, as chat models take them."""

Ask = Callable[[list[Message]], str]
"""The conversation so far -> the model's answer."""


def converse(ask: Ask, sentence: str, *, limit: int, proposing: bool) -> LayerPlan:
    """The plan of a checked sentence. An answer that is no plan is told to the model once, with what is wrong, for
    another.

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
        found = propose(nothing.background)
    return with_whole(merge_to_limit(found, limit))
