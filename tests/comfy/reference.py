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
from dreamlayer_core.config import HarmonizationConfig, LayerAttentionConfig, SamplingConfig
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.model_files import EMBEDDED
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayeredEmbedding, LayerPrompts, TokenSpan
from dreamlayer_core.sampling import DdimStepper, sample_layers
from dreamlayer_core.schedule import NoiseSchedule
from dreamlayer_core.weights import AdapterSettings

from .inside import sd15

PROMPTS = LayerPrompts("green grass under a blue sky", ("a red ball", "a shiny blue cube"), "a sunny picture", "gray")
CASES: dict[str, dict[str, Any]] = {
    "both": {},
    "split": {"joint": False},
    "caca": {"lssa": False},
    "lssa": {"caca": False},
    "training_free": {"adapter": False, "smoothing": 0.8, "downscale": 2},
    "two_stacks": {"stacks": 2},
    "unguided": {"guidance": 1.0},
}


@torch.no_grad()
def write_reference(path: Path) -> None:
    """Embeddings, latents after 10 DDIM steps for every case, the harmonised picture, and decoded layers of one."""
    model = DreamLayer.from_files(EMBEDDED)
    tensors: dict[str, Tensor] = {}
    for name, case in CASES.items():
        tensors |= {f"{name}/{key}": value for key, value in _run(model, case).items()}
    tensors["sd15/latents"], shapes = _sd15()
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, {"sd15": json.dumps(shapes)})


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
        caca=case.get("caca", True), lssa=case.get("lssa", True), smoothing=case.get("smoothing", 0.0),
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
