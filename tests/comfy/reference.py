"""What the core's diffusers path makes of given noise, for ComfyUI's path to be held against."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
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
from dreamlayer_core.controls import LayerControl
from dreamlayer_core.decomposition import decompose
from dreamlayer_core.diffusers_unet import find_sites, layer_attention
from dreamlayer_core.editing import LayerChange, RunSettings, edit_layers, harmonize_stack
from dreamlayer_core.edits import LayerEdit
from dreamlayer_core.image_prompts import image_additions, read_image_adapter
from dreamlayer_core.layer_loras import LayerLora
from dreamlayer_core.layerdiffuse_files import read_layerdiffuse
from dreamlayer_core.layerdiffuse_unet import layerdiffuse_additions
from dreamlayer_core.model_files import EMBEDDED
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayeredEmbedding, LayerPrompts, TokenSpan
from dreamlayer_core.regeneration import add_layer, regenerate_layer
from dreamlayer_core.sampling import FINAL, DdimStepper, initial_noise, sample_layers
from dreamlayer_core.scenes import make_scene
from dreamlayer_core.schedule import NoiseSchedule
from dreamlayer_core.stack_latents import stack_trajectory
from dreamlayer_core.starting import start_rows
from dreamlayer_core.weights import Adapter, AdapterSettings

from ..core.layerdiffuse_reference import attention_shapes, drawn
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
    tensors |= _row_weights(model)
    tensors |= _layer_pictures(model)
    tensors |= row_guidance(model)
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


def _row_weights(model: DreamLayer) -> dict[str, Tensor]:
    """Latents with a LoRA on the second foreground, and with LayerDiffuse's weights of every kind; and these files, and the finished layer."""
    unet, text = dict(model.unet.named_modules()), model.text_encoders.models
    lora = _lora(unet, "lora_unet_") | _lora(dict(text[0].named_modules()), "lora_te_text_model_")
    loaded, sampling = LayerLora(lora, {}), SamplingConfig(steps=10, guidance=4.0)
    given: dict[str, dict[str, Any]] = {"lora": {
        "additions": loaded.additions(unet, 2, 0.8), "text_additions": loaded.text_additions(text, 2, 0.8)}}
    files, sites = {"lora": lora}, sorted(find_sites(model.unet, None).all, key=lambda site: site.startswith("mid_block"))
    widths = [unet[site].to_q.in_features for site in sites]
    picture = torch.from_numpy(make_scene(4, size=(96, 64)).picture).movedim(-1, 0)
    for name, frames in (("layerdiffuse", 1), ("joint", 3), ("bg2fg", 2), ("fg2bg", 2)):
        control = (8, 8, 16, 32) if frames == 2 else None
        files[name] = drawn(attention_shapes(
            frames, widths=widths, context=model.unet.config["cross_attention_dim"], rank=4, control=control))
        given[name] = {"additions": layerdiffuse_additions(
            model.unet, read_layerdiffuse(files[name]), 2 if frames == 1 else 1, picture=None if control is None else picture,
            given="foreground" if name == "fg2bg" else "background")}
    one = replace(PROMPTS, foregrounds=PROMPTS.foregrounds[:1])
    tensors = {f"{name}/latents": model.generate(
        [PROMPTS if name in ("lora", "layerdiffuse") else one], seed=3, views=1, size=(96, 64), sampling=sampling, **kinds).latents[0]
        for name, kinds in given.items()}
    tensors["given/picture"] = picture
    return tensors | {f"{name}/file/{key}": value for name, file in files.items() for key, value in file.items()}


def _layer_pictures(model: DreamLayer) -> dict[str, Tensor]:
    """Latents with an image prompt on the first foreground, and with hints of a ControlNet on the second and the whole; and these files."""
    modules = {name: module for name, module in model.unet.named_modules() if name.endswith("attn2")}
    context = int(model.unet.config["cross_attention_dim"])
    shapes: dict[str, tuple[int, ...]] = {
        "image_proj.proj.weight": (4 * context, 24), "image_proj.proj.bias": (4 * context,), "image_proj.norm.weight": (context,),
        "image_proj.norm.bias": (context,)}
    for place, module in enumerate(sorted(modules, key=lambda name: name.startswith("mid_block"))):
        width = cast(Any, modules[module]).to_q.in_features
        shapes |= {f"ip_adapter.{2 * place + 1}.to_{part}_ip.weight": (width, context) for part in "kv"}
    adapter = {name: sd15.random(name, *shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 1) for name, shape in shapes.items()}
    picture, hint = sd15.random("picture", 1, 24), sd15.random("hint", 3, 64, 96).sigmoid()
    net = cast(Any, ControlNetModel).from_unet(model.unet).eval()
    for name, weight in net.named_parameters():
        if name.startswith("controlnet"):  # what is trained from zero
            weight.copy_(sd15.random(name, *weight.shape) * (weight[0].numel() ** -0.5 if weight.ndim > 1 else 0.1))
    given: dict[str, dict[str, Any]] = {
        "image_prompt": {"additions": image_additions(modules, read_image_adapter(adapter).prompt(picture), 1, strength=0.8)},
        "control": {"controls": [LayerControl(model=net, rows=2, hint=hint, strength=0.5), LayerControl(model=net, rows=3, hint=hint.flip(2))]}}
    tensors = {f"{name}/latents": model.generate(
        [PROMPTS], seed=3, views=1, size=(96, 64), sampling=SamplingConfig(steps=10, guidance=4.0), **kinds).latents[0]
        for name, kinds in given.items()}
    files = {"image_prompt": adapter, "control": net.state_dict()}
    return tensors | {f"{name}/file/{key}": value for name, file in files.items() for key, value in file.items()} | {
        "image_prompt/picture": picture, "control/hint": hint}


def row_guidance(model: DreamLayer) -> dict[str, Tensor]:
    """Latents with a CFG of their own for some rows, with guidance between two timesteps alone, and with both; and with rows
    that start from these latents."""
    plain = SamplingConfig(steps=10, guidance=4.0)
    cases: dict[str, SamplingConfig] = {
        "row_cfg": replace(plain, layer_guidance={0: 1.5, 2: 7.0}), "interval": replace(plain, guidance_interval=(250, 750)),
        "row_cfg_interval": replace(plain, layer_guidance={0: 1.0, 3: 6.0}, guidance_interval=(250, 750))}
    clean = sd15.random("clean", 4, 4, 16, 24)
    starts = start_rows(
        model.schedule, clean[None], initial_noise((4, 4, 16, 24), 3), model.schedule.timesteps(10), {0: 0.5, 1: 0.3, 2: 0.0})
    runs = {name: model.generate([PROMPTS], seed=3, views=1, size=(96, 64), sampling=one) for name, one in cases.items()}
    runs["row_starts"] = model.generate([PROMPTS], seed=3, views=1, size=(96, 64), sampling=plain, replay=starts)
    return {"row_starts/clean": clean, **{f"{name}/latents": run.latents[0] for name, run in runs.items()}}


def _lora(modules: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    """kohya's, rank 4, on some kinds of layers."""
    tensors = dict[str, Tensor]()
    for name, module in modules.items():
        if name.endswith(("to_q", "attn2.to_v", "net.0.proj", "conv1", "downsamplers.0.conv", "q_proj", "fc1")):
            key, (out, *inputs) = prefix + name.removeprefix("text_model.").replace(".", "_"), module.weight.shape
            tensors |= {f"{key}.lora_up.weight": 0.3 * sd15.random(f"{key} up", out, 4, *[1] * (len(inputs) - 1)),
                        f"{key}.lora_down.weight": sd15.random(f"{key} down", 4, *inputs) / torch.Size(inputs).numel() ** 0.5,
                        f"{key}.alpha": torch.tensor(2.0)}
    return tensors


def _sd15() -> tuple[Tensor, dict[str, list[int]]]:
    """Latents after 10 guided DDIM steps of an SD1.5-shaped random model with a random adapter, and its weights' shapes."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sd15.CONFIG)
    shapes = {name: list(value.shape) for name, value in unet.state_dict().items()}
    weights = sd15.unet_weights(shapes)
    unet.load_state_dict(weights, assign=True)
    adapter = LayerAdapter.from_weights(Adapter(
        settings=AdapterSettings(**sd15.ADAPTER), layer_assign=torch.zeros(0, 768), context_layers={},
        shared_kv=sd15.adapter_weights(weights, "shared"), foreground_kv=sd15.adapter_weights(weights, "foreground"),
        cell_attention=sd15.cell_attention(weights)))
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
