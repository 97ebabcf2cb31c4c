"""Which planner splits a sentence.

Offline unless the user has configured an endpoint for DreamLayer, or asks for another planner by name. The local model
is handed in by who has it: loading it takes packages that the nodes do without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..errors import InputError
from .endpoint import EndpointPlanner
from .objects365 import propose, proposed_prompt
from .offline import split_sentence
from .plan import LayerPlan
from .planner import USUAL_LIMIT, Cancel, Planner, check_request, stop_if
from .settings import EndpointSettings, find_settings, require_settings

__all__ = ["PLANNERS", "OfflinePlanner", "choose_planner", "plan_sentence"]

PLANNERS = ("offline", "endpoint", "local")


@dataclass(frozen=True)
class OfflinePlanner:
    """The embedded splitter: no model, no network, at once."""

    def plan(self, sentence: str, *, limit: int, proposing: bool = False, cancel: Cancel | None = None) -> LayerPlan:
        """See `Planner.plan`."""
        check_request(sentence, limit)
        stop_if(cancel)
        if not proposing:
            return split_sentence(sentence, limit=limit)
        proposed = proposed_prompt(sentence)  # of no kind that the sentence names
        plan = split_sentence(sentence, limit=limit, proposed=proposed)
        needed = [layer.prompt for layer in plan.foregrounds] == [proposed]
        return propose(plan.background) if needed else plan


def choose_planner(
    name: str | None = None, *, settings: EndpointSettings | None = None, local: Callable[[], Planner] | None = None
) -> Planner:
    """A planner by its name; None is the configured endpoint if there is one, else offline.

    ``settings`` are those of the endpoint, by default what is configured; ``local`` loads the local model. Raises
    InputError for an unknown name, and for an endpoint or a model that is not there.
    """
    if name is None:
        settings = settings or find_settings()
        name = "endpoint" if settings is not None and settings.chosen else "offline"
    if name == "offline":
        return OfflinePlanner()
    if name == "endpoint":
        return EndpointPlanner(settings=settings or require_settings())
    if name == "local" and local is not None:
        return local()
    if name == "local":
        raise InputError("got the planner 'local' without a model; give the folder of an instruct model")
    raise InputError(f"got the planner {name!r}; give one of {', '.join(PLANNERS)}")


def plan_sentence(
    sentence: str,
    *,
    planner: Planner | None = None,
    limit: int = USUAL_LIMIT,
    proposing: bool = False,
    cancel: Cancel | None = None,
) -> LayerPlan:
    """The plan of a sentence, by the planner that `choose_planner` chooses unless one is given. Raises as
    `Planner.plan`.
    """
    return (planner or choose_planner()).plan(sentence, limit=limit, proposing=proposing, cancel=cancel)
