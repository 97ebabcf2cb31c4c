"""From one sentence to a layer plan, and plans as JSON."""

from __future__ import annotations

import hashlib
import hmac
import secrets

import comfy.model_management
from comfy_api.latest import io

from ..dreamlayer_core.errors import Cancelled
from ..dreamlayer_core.plans.choose import choose_planner, plan_sentence
from ..dreamlayer_core.plans.free_text import find_plan
from ..dreamlayer_core.plans.objects365 import propose as propose_for
from ..dreamlayer_core.plans.plan import MOST_FOREGROUNDS
from ..dreamlayer_core.plans.plan import LayerPlan as CorePlan
from ..dreamlayer_core.plans.planner import USUAL_LIMIT, NothingToPlace, merge_to_limit, with_whole
from ..dreamlayer_core.plans.settings import chosen_settings, find_settings
from .plan_values import plan_outputs, read_plan, told_of_plan
from .sockets import PlanSocket

__all__ = ["NODES"]

_OFFLINE, _ENDPOINT = "offline", "endpoint"
_SALT = secrets.token_bytes(16)  # fingerprints stand in workflows: without this an address could be guessed from one


class PlanLayers(io.ComfyNode):
    """One sentence, a text model's answer, or an edited plan as a layer plan."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerPlan",
            display_name="Plan Layers (DreamLayer)",
            category="DreamLayer",
            description="Splits one sentence into a background and foregrounds from bottom to top. Works offline; a "
                        "language model can do it instead, and the plan can be edited before it is used.",
            search_aliases=["dreamlayer", "layer plan", "prompt to layers", "split prompt", "llm planner"],
            inputs=[
                io.String.Input("sentence", multiline=True, default="two red balls in front of a blue cube on a beach",
                                tooltip="What the picture shows, in one sentence."),
                io.Combo.Input("planner", options=[_OFFLINE, _ENDPOINT], default=_OFFLINE,
                               tooltip="offline: by grammar, at once, nothing leaves this machine. endpoint: the language model "
                                       "whose address and key stand in the environment or the configuration file, never here."),
                io.Int.Input("limit", default=USUAL_LIMIT, min=1, max=MOST_FOREGROUNDS,
                             tooltip="Foregrounds at most. Where the sentence has more, the smallest share a layer."),
                io.Boolean.Input("propose", default=False,
                                 tooltip="Where the sentence names no thing, add one that fits the scene."),
                io.String.Input("answer", optional=True, force_input=True,
                                tooltip="Optional: the text of a text generation node. The plan in it is found and checked, and "
                                        "the planner is not asked."),
                io.String.Input("edited_plan", optional=True, multiline=True, default="",
                                tooltip="Optional: a plan as JSON, such as this node's own output with changes. Where it is "
                                        "filled, nothing else counts."),
            ],
            outputs=[
                PlanSocket.Output("plan", display_name="layer plan", tooltip="For Encode Layers and Empty Layered Latent."),
                io.String.Output("text", display_name="text", tooltip="The plan in words, a line for each layer, and what the planner "
                                                                      "did of its own accord."),
                io.String.Output("json", display_name="plan JSON", tooltip="The plan to edit, to save, or for the command line."),
            ],
        )

    @classmethod
    def validate_inputs(cls, edited_plan: str | None = None) -> bool | str:
        return told_of_plan(edited_plan)

    @classmethod
    def fingerprint_inputs(cls, planner: str | None = None, **_: object) -> str:
        """The same until another endpoint is configured: an answer is asked for once, and stays in ComfyUI's cache."""
        settings = find_settings() if planner == _ENDPOINT else None
        asked = "" if settings is None else f"{settings.url}\n{settings.model}"
        return hmac.new(_SALT, asked.encode(), hashlib.sha256).hexdigest()

    @classmethod
    def execute(
        cls, sentence: str, planner: str = _OFFLINE, limit: int = USUAL_LIMIT, propose: bool = False, answer: str | None = None,
        edited_plan: str = "",
    ) -> io.NodeOutput:
        if edited_plan.strip():
            plan = with_whole(read_plan(edited_plan))
        elif answer is not None:
            plan = with_whole(merge_to_limit(_found(answer, propose), limit))
        else:
            plan = _asked(sentence, planner, limit, propose)
        return plan_outputs(plan)


def _found(answer: str, propose: bool) -> CorePlan:
    try:
        return find_plan(answer)
    except NothingToPlace as nothing:
        if not propose:
            raise
        return propose_for(nothing.background)


def _asked(sentence: str, planner: str, limit: int, propose: bool) -> CorePlan:
    management = comfy.model_management
    chosen = choose_planner(planner, settings=chosen_settings() if planner == _ENDPOINT else None)
    try:
        return plan_sentence(
            sentence, planner=chosen, limit=limit, proposing=propose, cancel=management.processing_interrupted)
    except Cancelled:
        management.throw_exception_if_processing_interrupted()
        raise


NODES: list[type[io.ComfyNode]] = [PlanLayers]
