"""Layers to layers: one row of a picture is sampled again, or anew, while the others are replayed as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import comfy.model_patcher
import comfy.sd
import torch
from comfy_api.latest import io
from einops import rearrange
from torch import Tensor

from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.layers import renamed
from ..dreamlayer_core.prompts import MAX_FOREGROUNDS
from ..dreamlayer_core.sampling import initial_noise
from .comfy_model.encode import encode_plan
from .comfy_model.layer_control import change_controls
from .comfy_model.layered_sampling import run_sigmas, sample_run
from .comfy_model.replay import RowReplay
from .sampling import check_rows
from .shared_inputs import run_inputs
from .sockets import LAYERS_KEY, LayerPlan, SampledTrajectory, TrajectorySocket, latent_layers

__all__ = ["NODES"]

_CATEGORY = "DreamLayer/sampling"
_BACKGROUND = "background"


class RegenerateLayer(io.ComfyNode):
    """One layer sampled anew among the others."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerRegenerateLayer",
            display_name="Regenerate Layer (DreamLayer)",
            category=_CATEGORY,
            description="Samples one layer anew, with another prompt or seed. The others keep their latents bit for bit, and the "
                        "new one sees them while it is sampled; the whole picture follows.",
            search_aliases=["dreamlayer", "replace layer", "change background", "reroll layer", "variation"],
            inputs=[
                io.Model.Input("model", tooltip="From Patch Model: the same as in Layered KSampler."),
                io.Clip.Input("clip", tooltip="The text encoder of the base model."),
                TrajectorySocket.Input("trajectory", tooltip="Of the run that the layer is in: from Layered KSampler, Noise "
                                                             "Layers, or this node."),
                io.String.Input("layer", default="1", tooltip="Which one: its name, or its number. 0 or background is the "
                                                              "background, 1 the lowest foreground."),
                io.String.Input("prompt", multiline=True, default="",
                                tooltip="What the layer shows now. Empty: what it showed, by another seed."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                             tooltip="Of the layer's noise."),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, clip: comfy.sd.CLIP, trajectory: SampledTrajectory, layer: str,
        prompt: str = "", seed: int = 0,
    ) -> io.NodeOutput:
        plan = _plan(trajectory)
        row = _row(plan, layer)
        return _sampled(model, clip, trajectory, _with_prompt(plan, row, prompt) if prompt.strip() else plan, row, seed)


class AddLayer(io.ComfyNode):
    """One more foreground, sampled among the layers that are there."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerAddLayer",
            display_name="Add Layer by Prompt (DreamLayer)",
            category=_CATEGORY,
            description="Adds a foreground by its prompt. The layers that are there keep their latents bit for bit, and the new "
                        "one sees them while it is sampled; the whole picture follows.",
            search_aliases=["dreamlayer", "insert layer", "new layer", "add object", "extend"],
            inputs=[
                io.Model.Input("model", tooltip="From Patch Model: the same as in Layered KSampler."),
                io.Clip.Input("clip", tooltip="The text encoder of the base model."),
                TrajectorySocket.Input("trajectory", tooltip="Of the run that is extended: from Layered KSampler, Noise Layers, "
                                                             "Regenerate Layer, or this node."),
                io.String.Input("prompt", multiline=True, default="", tooltip="What the new layer shows, and nothing else."),
                io.String.Input("name", default="", tooltip="Its name in the layer editor, PSD or ORA. Empty: its prompt."),
                io.Int.Input("position", default=0, min=0, max=MAX_FOREGROUNDS,
                             tooltip="Its number: 1 is right above the background. 0: on top of all."),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                             tooltip="Of the new layer's noise."),
            ],
            outputs=_outputs(),
        )

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, clip: comfy.sd.CLIP, trajectory: SampledTrajectory, prompt: str,
        name: str = "", position: int = 0, seed: int = 0,
    ) -> io.NodeOutput:
        plan = _plan(trajectory)
        place = position or plan.rows - 1
        plan = _with_layer(plan, place, prompt, name)
        return _sampled(model, clip, _with_row(trajectory, place), plan, place, seed)


class NoiseLayers(io.ComfyNode):
    """The trajectory of layers that were not sampled."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerNoiseLayers",
            display_name="Noise Layers (DreamLayer)",
            category=_CATEGORY,
            description="Your own layers as if they had been sampled: noised to every level of a run, so that Harmonize Layers, "
                        "Regenerate Layer and Add Layer by Prompt can go on from them. Nothing is sampled here.",
            search_aliases=["dreamlayer", "trajectory", "add noise", "psd to trajectory"],
            inputs=[
                *run_inputs(),
                io.Latent.Input("latent_image", tooltip="From Encode RGBA Layers."),
            ],
            outputs=[TrajectorySocket.Output(
                "trajectory", display_name="trajectory",
                tooltip="For Harmonize Layers, Regenerate Layer and Add Layer by Prompt.")],
        )

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, seed: int, steps: int, cfg: float, sampler_name: str, scheduler: str,
        positive: list[Any], negative: list[Any], latent_image: dict[str, Any],
    ) -> io.NodeOutput:
        layers, samples = latent_layers(latent_image), latent_image["samples"]
        check_rows(positive, layers)
        clean = model.get_model_object("latent_format").process_in(samples.to("cpu", torch.float32))
        sigmas = run_sigmas(model, sampler_name, scheduler, steps).cpu()
        noise = _noise(samples, layers.rows, seed)
        scaling = model.get_model_object("model_sampling").noise_scaling
        return io.NodeOutput(SampledTrajectory(
            latents=tuple(scaling(sigma, noise, clean) for sigma in sigmas[:-1]), sigmas=sigmas, rows=layers.rows,
            positive=positive, negative=negative, cfg=cfg, sampler=sampler_name, seed=seed, layers=layers, final=samples))


def _outputs() -> list[io.Output]:
    return [
        io.Latent.Output("latent", display_name="layered latent", tooltip="For Decode Layers."),
        TrajectorySocket.Output("trajectory", display_name="trajectory",
                                tooltip="For Harmonize Layers, and to change the next layer."),
        io.Image.Output("context_maps", display_name="context maps",
                        tooltip="Where the whole picture has each foreground: one picture for each, black without CACA."),
    ]


def _sampled(
    model: comfy.model_patcher.ModelPatcher, clip: comfy.sd.CLIP, trajectory: SampledTrajectory, plan: LayerPlan, row: int,
    seed: int,
) -> io.NodeOutput:
    """The run again with one row sampled from new noise, the others replayed; the whole picture from where it started."""
    replay = RowReplay.of(trajectory, [one for one in range(plan.rows - 1) if one != row], start=[plan.rows - 1])
    _check_channels(model, trajectory)
    run = replace(
        trajectory, positive=_encoded(model, clip, trajectory, plan), seed=seed,
        layers=replace(trajectory.layers, plan=plan, rows=plan.rows),
        start=trajectory.start or {"samples": torch.zeros_like(trajectory.latents[0])})
    return io.NodeOutput(*sample_run(model, run, _noise(trajectory.latents[0], plan.rows, seed), replay))


def _noise(latents: Tensor, rows: int, seed: int) -> Tensor:
    return initial_noise((rows, *latents.shape[1:]), seed, stacks=len(latents) // rows).flatten(0, 1)


def _plan(trajectory: SampledTrajectory) -> LayerPlan:
    plan = trajectory.layers.plan
    if plan is None or plan.rows != trajectory.rows:
        raise InputError(
            f"got a trajectory of {trajectory.rows} rows without their prompts; sample a latent that has a plan (Empty Layered "
            "Latent, or Encode RGBA Layers with a plan)")
    return plan


def _row(plan: LayerPlan, layer: str) -> int:
    """The number of a layer by its name or number. InputError for none, and for several of one name."""
    wanted = layer.strip().casefold()
    named = [row for row, name in enumerate(plan.names, 1) if name.strip().casefold() == wanted]
    if len(named) > 1:
        raise InputError(f"got layer {layer.strip()!r}, as layers {', '.join(map(str, named))} are called; give the number")
    if named:
        return named[0]
    number = 0 if wanted == _BACKGROUND else int(wanted) if wanted.isdecimal() else -1
    if not 0 <= number < plan.rows - 1:
        raise InputError(
            f"got layer {layer.strip()!r} of a picture whose layers are 0 (background), "
            + ", ".join(f"{row} ({name})" for row, name in enumerate(plan.names, 1)) + "; give one of their numbers or names")
    return number


def _with_prompt(plan: LayerPlan, row: int, prompt: str) -> LayerPlan:
    texts = list(plan.prompts.layers)
    old, texts[row] = texts[row], prompt
    names = tuple(name if number != row else renamed(name, row, old, prompt) for number, name in enumerate(plan.names, 1))
    prompts = replace(plan.prompts, background=texts[0], foregrounds=tuple(texts[1:]))
    return replace(plan, prompts=prompts, names=names)


def _with_layer(plan: LayerPlan, place: int, prompt: str, name: str) -> LayerPlan:
    count = len(plan.names)
    if count == MAX_FOREGROUNDS:
        raise InputError(f"got a picture of {count} foregrounds, which is as many as there can be; make one without some of them")
    if not 1 <= place <= count + 1:
        raise InputError(
            f"got position {place} for a new layer; give 1 (right above the background) to {count + 1}, or 0 (on top)")
    prompts = replace(plan.prompts, foregrounds=_inserted(plan.prompts.foregrounds, place, prompt))
    name = name.strip() or prompt.strip() or f"layer {place}"
    return LayerPlan(
        prompts=prompts, names=_inserted(plan.names, place, name), weights=_inserted(plan.weights, place, 1.0))


def _inserted(values: Sequence[Any], place: int, value: Any) -> tuple[Any, ...]:
    """The foregrounds' values with one more, 1 = the lowest."""
    return (*values[: place - 1], value, *values[place - 1 :])


def _with_row(trajectory: SampledTrajectory, place: int) -> SampledTrajectory:
    """With one row more, of which nothing is known yet. InputError for runs that give it nothing to start from."""
    if trajectory.denoise < 1 or (trajectory.start and trajectory.start.get("noise_mask") is not None):
        raise InputError(
            f"got a run with a denoise of {trajectory.denoise:g}{'' if trajectory.denoise < 1 else ' under a mask'}, in which a "
            "new layer has nothing to start from; sample with a denoise of 1 and no mask, or connect Noise Layers")

    def extended(latents: Tensor) -> Tensor:
        stacked = rearrange(latents, "(stack row) c h w -> stack row c h w", row=trajectory.rows)
        new = torch.zeros_like(stacked[:, :1])
        return torch.cat([stacked[:, :place], new, stacked[:, place:]], 1).flatten(0, 1)

    start = trajectory.start and {**trajectory.start, "samples": extended(trajectory.start["samples"])}
    final = None if trajectory.final is None else extended(trajectory.final)
    positive, negative = change_controls(
        (trajectory.positive, trajectory.negative), lambda control: control.with_row(place))
    layer_cfg = {row + (row >= place): cfg for row, cfg in trajectory.layer_cfg.items()}
    return replace(
        trajectory, latents=tuple(map(extended, trajectory.latents)), rows=trajectory.rows + 1, final=final, start=start,
        layer_cfg=layer_cfg,
        positive=positive, negative=negative,
        between={sigma: tuple(map(extended, calls)) for sigma, calls in trajectory.between.items()})


def _check_channels(model: comfy.model_patcher.ModelPatcher, trajectory: SampledTrajectory) -> None:
    found, wanted = trajectory.latents[0].shape[1], model.get_model_object("latent_format").latent_channels
    if found != wanted:
        raise InputError(
            f"got a trajectory of {found} latent channels for a model of {wanted}; it was sampled with another: connect that one")


def _encoded(
    model: comfy.model_patcher.ModelPatcher, clip: comfy.sd.CLIP, trajectory: SampledTrajectory, plan: LayerPlan
) -> list[Any]:
    """The run's positive conditioning with other prompts; what other nodes have put on it stays."""
    if clip is None:
        raise InputError("got no text encoder (the checkpoint has none); load one with Load CLIP")
    layered = [text for text, extra in trajectory.positive if LAYERS_KEY in extra]
    if len(layered) != 1:
        raise InputError(
            f"got a run of {len(layered)} combined layer conditionings, in which one prompt cannot be changed; sample with one "
            "Encode Layers")
    patch = model.get_attachment(LAYERS_KEY)
    assign = None if patch is None or patch.adapter is None else patch.adapter.model.layer_assign.cpu()
    ((text, about),), _ = encode_plan(clip, plan, assign)
    if text.shape[-1] != layered[0].shape[-1]:
        raise InputError(
            f"got a text encoder of width {text.shape[-1]} for a run with prompts of width {layered[0].shape[-1]}; it was "
            "sampled with another model: connect that one, and its CLIP")
    return [[text, {**extra, **about}] if LAYERS_KEY in extra else [old, extra] for old, extra in trajectory.positive]


NODES: list[type[io.ComfyNode]] = [RegenerateLayer, AddLayer, NoiseLayers]
