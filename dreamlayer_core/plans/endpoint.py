"""A planner that asks a language model over the OpenAI protocol (`POST {base URL}/chat/completions`): hosted or on the
user's machine.

Structured output is asked for where the server has it: a JSON schema, else any JSON object, else free text. What comes
is read the same way in all cases (`free_text`), and an answer that is no plan is told to the model once, for another.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import FormatError
from .conversation import Message, converse
from .plan import LayerPlan
from .planner import ANSWER_SCHEMA, Cancel, NothingToPlace, PlannerError, check_request, plain, stop_if
from .settings import EndpointSettings
from .transport import Answer, Patience, post

__all__ = ["EndpointPlanner"]

_REJECTED = {400, 415, 422, 501}  # what servers say of request fields that they do not know
_SECRET = 8  # characters: a shorter key is a placeholder, such as "none", and may well stand in a prompt
_TELLING = 24  # characters: of a long key the beginning tells enough, since names in notes are cut

Fields = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EndpointPlanner:
    """Asks the endpoint of ``settings``. Its ``plan`` is `Planner.plan`: the same sentence gives the same request."""

    settings: EndpointSettings
    patience: Patience = field(default_factory=Patience)

    def plan(self, sentence: str, *, limit: int, proposing: bool = False, cancel: Cancel | None = None) -> LayerPlan:
        """The plan that the model makes. Raises as `Planner.plan`; no error holds the key, whatever the server says."""
        text = check_request(sentence, limit)
        stop_if(cancel)
        try:
            plan = converse(_Line(self.settings, self.patience, cancel).ask, text, limit=limit, proposing=proposing)
        except FormatError as error:
            problem = PlannerError(self.settings.hidden(f"the model's answer is no plan: {error}"))
        except NothingToPlace as nothing:
            problem = NothingToPlace(self.settings.hidden(nothing.background))
        else:
            self._check_secrets(plan)
            return plan
        raise problem  # here, and not above: the frames of those errors hold the answer

    def _check_secrets(self, plan: LayerPlan) -> None:
        for text in _texts(plan):
            _check_secret(self.settings, text)


def _check_secret(settings: EndpointSettings, text: str) -> None:
    """Plans are stored in workflows and pictures: raises PlannerError where a server says the key in one."""
    if len(settings.key) >= _SECRET and settings.key[:_TELLING] in plain(text):
        raise PlannerError(
            "the endpoint's answer repeats the key, which would be stored with the plan; do not trust this server"
        )


def _texts(plan: LayerPlan) -> Iterator[str]:
    yield from (plan.background, plan.whole, plan.negative, *plan.notes)
    for layer in plan.foregrounds:
        yield from (layer.name, layer.prompt)


def _styles() -> Iterator[Fields]:
    """Ways to ask, the strictest first; the last one any server understands."""
    schema = {"name": "layer_plan", "strict": True, "schema": ANSWER_SCHEMA}
    formats: list[Fields] = [{"type": "json_schema", "json_schema": schema}, {"type": "json_object"}]
    for form in (*({"response_format": one} for one in formats), Fields()):
        yield form | {"temperature": 0}
        yield form


class _Line:
    """One conversation: the time that is left, and the way of asking that the server has accepted."""

    def __init__(self, settings: EndpointSettings, patience: Patience, cancel: Cancel | None) -> None:
        self._settings, self._patience, self._cancel = settings, patience, cancel
        self._deadline = time.monotonic() + patience.total
        self._styles = list(_styles())

    def ask(self, talk: list[Message]) -> str:
        """What the model says to all that was said."""
        answer = self._accepted(talk)
        content = _content(answer)
        if content is None:
            raise PlannerError(
                f"the endpoint answers, but not as a chat ({self._said(answer)}); check that it speaks OpenAI's protocol"
            )
        _check_secret(self._settings, content)
        return content

    def _accepted(self, talk: list[Message]) -> Answer:
        while True:
            values = {"model": self._settings.model, "messages": talk, "stream": False} | self._styles[0]
            answer = post(
                self._settings,
                "/chat/completions",
                values,
                patience=self._patience,
                deadline=self._deadline,
                cancel=self._cancel,
            )
            if answer.status == 200:
                return answer
            if answer.status not in _REJECTED or len(self._styles) == 1:
                raise PlannerError(
                    f"the endpoint refuses the request ({self._said(answer)}); check the model's name and the server"
                )
            self._next_style(answer)

    def _next_style(self, answer: Answer) -> None:
        """Without the temperature if that is what the server does not take (models that reason), else less structured.
        """
        of_temperature = b"temperature" in answer.body and "temperature" in self._styles[0]
        self._styles = self._styles[1:] if of_temperature or len(self._styles) == 2 else self._styles[2:]

    def _said(self, answer: Answer) -> str:
        return self._settings.hidden(plain(f"HTTP {answer.status}: {answer.body.decode(errors='replace')}"))[:300]


def _content(answer: Answer) -> str | None:
    """The text of the first choice; None for anything that is no chat completion. Raises PlannerError for a refusal."""
    values = answer.values()
    choices = values.get("choices") if isinstance(values, dict) else None
    message = (
        choices[0].get("message") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    )
    if not isinstance(message, dict):
        return None
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        raise PlannerError("the model refuses to plan this sentence; change it, or plan offline")
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None
