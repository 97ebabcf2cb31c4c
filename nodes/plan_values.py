"""Plans between the core's JSON and the plan sockets, for the nodes that read and write them."""

from __future__ import annotations

from comfy_api.latest import io

from ..dreamlayer_core.errors import DreamLayerError
from ..dreamlayer_core.plans.files import as_json, checked_plan, prompts_of
from ..dreamlayer_core.plans.free_text import find_plan
from ..dreamlayer_core.plans.plan import LayerPlan as CorePlan
from .sockets import LayerPlan

__all__ = ["core_plan", "plan_outputs", "read_plan", "socket_plan", "told_of_plan"]


def socket_plan(plan: CorePlan) -> LayerPlan:
    """A core plan as what goes through plan sockets. Boxes and notes stay behind: the nodes have no use for them."""
    weights = tuple(layer.weight for layer in plan.foregrounds)
    plain = plan.model_copy(update={"foregrounds": tuple(layer.model_copy(update={"weight": 1.0}) for layer in plan.foregrounds)})
    return LayerPlan(prompts=prompts_of(plain), names=tuple(layer.name for layer in plan.foregrounds), weights=weights)


def core_plan(plan: LayerPlan, *, what: str) -> CorePlan:
    """The other way; `socket_plan` of it is the plan again. Raises FormatError for what the schema refuses."""
    prompts = plan.prompts
    layers = [
        {"name": name, "prompt": prompt, "weight": weight}
        for name, prompt, weight in zip(plan.names, prompts.foregrounds, plan.weights, strict=True)]
    return checked_plan({
        "background": prompts.background, "foregrounds": layers, "whole": prompts.whole, "negative": prompts.negative}, what=what)


def read_plan(text: str) -> CorePlan:
    """A plan that somebody has written or changed. Raises DreamLayerError for all that is no whole plan: nothing is left out."""
    return find_plan(text, strict=True)


def told_of_plan(text: str | None) -> bool | str:
    """For ComfyUI's validation: True, or what is wrong. Nothing is where the field is empty, or (None) a wire fills it later."""
    if text is None or not text.strip():
        return True
    try:
        read_plan(text)
    except DreamLayerError as error:
        return str(error)
    return True


def plan_outputs(plan: CorePlan) -> io.NodeOutput:
    """Layer plan, the plan in words with its notes, and the plan as JSON."""
    shown = socket_plan(plan)
    return io.NodeOutput(shown, "\n".join([str(shown), *(f"note: {note}" for note in plan.notes)]), as_json(plan))
