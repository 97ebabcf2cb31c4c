"""What the core's diffusers path makes of given noise, for ComfyUI's path to be held against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from dreamlayer_core.adapter import LayerAdapter
from dreamlayer_core.attention.steering import ContextSteering, box_mask
from dreamlayer_core.config import (
    HarmonizationConfig,
    InversionConfig,
    LayerAttentionConfig,
    MapRefinement,
    SamplingConfig,
)
from dreamlayer_core.decomposition import decompose
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.editing import LayerChange, RunSettings, edit_layers, harmonize_stack
from dreamlayer_core.edits import LayerEdit
from dreamlayer_core.model_files import EMBEDDED
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayeredEmbedding, LayerPrompts, TokenSpan
from dreamlayer_core.regeneration import add_layer, regenerate_layer
from dreamlayer_core.sampling import FINAL, DdimStepper, sample_layers
from dreamlayer_core.scenes import make_scene
from dreamlayer_core.schedule import NoiseSchedule
from dreamlayer_core.stack_latents import stack_trajectory
from dreamlayer_core.weights import AdapterSettings

from .inside import sd15

PROMPTS = LayerPrompts("green grass under a blue sky", ("a red ball", "a shiny blue cube"), "a sunny picture", "gray")
CASES: dict[str, dict[str, Any]] = {
    "both": {},
    "split": {"joint": False},
    "caca": {"lssa": False},
    "lssa": {"caca": False},
    "training_free": {"adapter": False},
    "refined": {"adapter": False, "refinement": MapRefinement(smoothing=0.8, floor=0.2, self_attention=1)},
    "two_stacks": {"stacks": 2},
    "unguided": {"guidance": 1.0},
}
INVERSIONS: dict[str, dict[str, Any]] = {
    "replay": {},
    "ddim": {"method": "ddim", "guidance": 3.0},
    "unmasked": {"method": "ddim", "masked": False},
    "global_queries": {"method": "ddim", "mask_queries": "global"},
    "fixed_point": {"method": "fixed-point", "iterations": 3},
    "exact": {"method": "exact"},
}
EDITS: dict[str, dict[str, Any]] = {
    "onto_cells": {"op": LayerEdit(dx=8, dy=-4)},
    "between_cells": {"op": LayerEdit(dx=5)},
    "snapped": {"op": LayerEdit(dx=5), "snap": True},
    "turned": {"op": LayerEdit(degrees=25, scale_x=1.3, scale_y=1.3, flip_horizontal=True)},
    "hidden": {"visible": False},
    "deleted": {"delete": True},
    "faded": {"opacity": 0.4},
    "reordered": {"position": 2},
    "background": {"layer": 0, "op": LayerEdit(dx=12)},
}
BOX = (20, 12, 30, 24)  # x, y, width, height in pixels


@torch.no_grad()
def write_reference(path: Path) -> None:
    """Embeddings, latents after 10 DDIM steps for every case, the harmonised picture, and decoded layers of one; noise and
    latents of a picture that is taken apart by every method."""
    model = DreamLayer.from_files(EMBEDDED)
    tensors: dict[str, Tensor] = {}
    for name, case in CASES.items():
        tensors |= {f"{name}/{key}": value for key, value in _run(model, case).items()}
    tensors |= _decompositions(model)
    tensors |= _layers_to_layers(model)
    tensors |= _edits(model)
    tensors["sd15/latents"], shapes = _sd15()
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, {"sd15": json.dumps(shapes)})


def _decompositions(model: DreamLayer) -> dict[str, Tensor]:
    """Of a picture that fills no whole cells, by every method; and of two, one layer under a box, one under a mask."""
    pictures = torch.stack([_scene_picture(seed) for seed in (1, 2)])
    height, width = pictures.shape[-2:]
    mask = (pictures[0].mean(0) > 0.5).float()
    box = ContextSteering(mask=box_mask([BOX], width, height), mode="multiply")
    runs = [(name, pictures[:1], InversionConfig(**case), {}) for name, case in INVERSIONS.items()]
    runs += [("steered", pictures, InversionConfig(), {1: box, 2: ContextSteering(mask=mask)})]
    tensors = {"pictures": pictures, "mask": mask}
    for name, some, config, steering in runs:
        found = decompose(
            model, some, [PROMPTS] * len(some), inversion=config, sampling=SamplingConfig(steps=6, guidance=4.0),
            steering=steering, views=1)
        tensors |= {f"decompose/{name}/noise": found.inversion.noise, f"decompose/{name}/latents": found.result.latents}
    return tensors


def _scene_picture(seed: int) -> Tensor:
    """(3, 45, 60): two objects with their shadows."""
    return torch.from_numpy(make_scene(seed, foregrounds=2, size=(60, 45), split="test").picture).movedim(-1, 0)


def _edits(model: DreamLayer) -> dict[str, Tensor]:
    """A run of 90x60 pixels, which fill no whole cells: its latents and layers, and the picture after each edit of layer 1."""
    sampling = SamplingConfig(steps=10, guidance=4.0)
    made = model.generate([PROMPTS], seed=3, views=1, size=(90, 60), sampling=sampling, harmonization=HarmonizationConfig())
    stack, settings = made.stacks[0], RunSettings(sampling=sampling, views=1, negative=PROMPTS.negative)
    tensors = {f"edits/latents/{t}": z[0] for t, z in made.trajectory.latents.items()}
    tensors["edits/layers"] = torch.stack([layer.rgba for layer in stack.layers])
    for name, case in EDITS.items():
        change = LayerChange(**({"layer": 1} | {key: value for key, value in case.items() if key != "snap"}))
        edited = edit_layers(
            model, made.trajectory, stack, [change], between_cells="snap" if case.get("snap") else "encode", seed=7)
        tensors[f"edits/{name}"] = harmonize_stack(model, edited, settings)
    return tensors


def _layers_to_layers(model: DreamLayer) -> dict[str, Tensor]:
    """Latents (rows, c, h, w) after a layer of a run was sampled anew, and after one was added; those of its pixels, noised."""
    sampling = SamplingConfig(steps=10, guidance=4.0)
    made = model.generate([PROMPTS], seed=3, views=1, size=(96, 64), sampling=sampling, keep_all=True)
    stack, settings = made.stacks[0], RunSettings(sampling=sampling, harmonization=None, views=1, negative=PROMPTS.negative)
    regenerated = regenerate_layer(model, made.trajectory, stack, 2, prompt="a green cone", seed=7, settings=settings)
    added = add_layer(model, made.trajectory, stack, "a green cone", position=1, seed=7, settings=settings)
    noised = stack_trajectory(model, stack, [901, 501, FINAL], seed=7).latents
    return {
        "regenerated/latents": regenerated.trajectory.latents[FINAL][0], "added/latents": added.trajectory.latents[FINAL][0],
        **{f"noised/{t}": z[0] for t, z in noised.items()}}


def _sd15() -> tuple[Tensor, dict[str, list[int]]]:
    """Latents after 10 guided DDIM steps of an SD1.5-shaped random model with a random adapter, and its weights' shapes."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sd15.CONFIG)
    shapes = {name: list(value.shape) for name, value in unet.state_dict().items()}
    weights = sd15.unet_weights(shapes)
    unet.load_state_dict(weights, assign=True)
    adapter = LayerAdapter(
        AdapterSettings(**sd15.ADAPTER), sd15.adapter_weights(weights, "shared"), sd15.adapter_weights(weights, "foreground"))
    embedding = LayeredEmbedding(
        sd15.embeddings(), tuple(TokenSpan(*one) for one in sd15.OWN_SPANS), tuple(TokenSpan(*one) for one in sd15.SPANS),
        TokenSpan(10, 0))
    text = torch.cat([sd15.negative().expand(sd15.ROWS, -1, -1), sd15.embeddings()])
    with layer_attention(unet.eval(), [embedding], None, adapter.eval()) as run:
        def denoise(latents: Tensor, timestep: int) -> Tensor:
            run.begin(timestep, (sd15.CELLS, sd15.CELLS), ("unconditional", "conditional"))
            output = unet(torch.cat([latents[0], latents[0]]), timestep, text).sample
            negative, positive = output.chunk(2)
            return (negative + sd15.GUIDANCE * (positive - negative))[None]

        return sample_layers(denoise, sd15.noise()[None], DdimStepper(NoiseSchedule(), sd15.STEPS))[0][0], shapes


def _run(model: DreamLayer, case: dict[str, Any]) -> dict[str, Tensor]:
    if not case.get("adapter", True):
        model = DreamLayer.from_files(EMBEDDED, use_adapter=False)
    stacks = case.get("stacks", 1)
    attention = LayerAttentionConfig(
        caca=case.get("caca", True), lssa=case.get("lssa", True), refinement=case.get("refinement"),
        downscale=case.get("downscale"))
    result = model.generate(
        [PROMPTS] * stacks, seed=3, views=1, size=(96, 64), attention=attention, harmonization=HarmonizationConfig(),
        sampling=SamplingConfig(
            steps=10, guidance=case.get("guidance", 4.0), joint_guidance=case.get("joint", True)))
    made = {"latents": result.latents.flatten(0, 1), "embedding": model.encode([PROMPTS])[0].embeddings}
    if result.context_maps is not None:
        made["maps"] = result.context_maps
    if result.harmonized is not None:
        made["harmonized"] = result.harmonized
    first = result.stacks[0]
    made["colors"] = torch.stack([layer.color for layer in first.layers])
    made["alphas"] = torch.stack([layer.alpha for layer in first.layers])
    return made
