"""The model that ships: whole, small, offline, and its autoencoder and decoder as good as its card says."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from dreamlayer_core.config import HarmonizationConfig, SamplingConfig
from dreamlayer_core.model_files import EMBEDDED
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.scenes import make_scene

SCENES = [make_scene(seed, split="test") for seed in range(6)]


@pytest.fixture(scope="module")
def model() -> DreamLayer:
    return DreamLayer.from_files("embedded")


def _channels_first(pictures) -> torch.Tensor:
    return torch.from_numpy(pictures).movedim(-1, -3).float()


def test_it_is_small_and_in_half_precision():
    files = [file for file in EMBEDDED.rglob("*") if file.is_file()]
    assert 0 < sum(file.stat().st_size for file in files) <= 40_000_000
    for path in EMBEDDED.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            assert {str(file.get_tensor(name).dtype) for name in file.keys()} <= {"torch.float16", "torch.int64"}


def test_it_is_of_stable_diffusions_kind(model):
    assert model.vae.config["latent_channels"] == model.unet.config["in_channels"] == 4
    widths = [*model.unet.config["block_out_channels"], *model.vae.config["block_out_channels"]]
    assert not [width for width in widths if width % 32]
    assert sum(kind.startswith("CrossAttn") for kind in model.unet.config["down_block_types"]) >= 3
    assert model.adapter is not None and model.adapter.settings.base_family == "dreamlayer-embedded"


@torch.no_grad()
def test_the_autoencoder_keeps_held_out_scenes(model):
    pictures = torch.stack([_channels_first(scene.picture) for scene in SCENES])
    decoded = (model.vae.decode(model.vae.encode(pictures * 2 - 1).latent_dist.mean).sample / 2 + 0.5).clamp(0, 1)
    assert float(-10 * torch.log10((decoded - pictures).square().mean())) > 28  # 29.6 over 100 scenes


@torch.no_grad()
def test_the_decoder_finds_alpha_again(model):
    colors = torch.cat([_channels_first(scene.colors) for scene in SCENES])
    alphas = torch.cat([torch.from_numpy(scene.alphas)[:, None].float() for scene in SCENES])
    gray = colors * alphas + 0.5 * (1 - alphas)
    latents = model.vae.encode(gray * 2 - 1).latent_dist.mean
    found = model.decoder.decode(model.vae.decode(latents).sample.div(2).add(0.5).clamp(0, 1), latents, views=1)[:, 3:]
    union = torch.maximum(found, alphas).sum((1, 2, 3))
    assert float((torch.minimum(found, alphas).sum((1, 2, 3)) / union).mean()) > 0.87  # 0.943 over 244 objects


def test_every_part_of_the_method_runs_on_it(model):
    prompts = LayerPrompts("a green meadow under a blue sky", ("a white house", "a red ball"))
    result = model.generate(prompts, sampling=SamplingConfig(steps=10), harmonization=HarmonizationConfig(), views=1)
    again = model.generate(prompts, sampling=SamplingConfig(steps=10), views=1)
    assert torch.equal(result.latents, again.latents)
    assert result.context_maps.shape == (1, 2, 16, 16) and result.context_maps.std() > 0.01
    assert result.harmonized.shape == (1, 3, 128, 128)
    assert all(layer.alpha.mean() < 0.5 for layer in result.stacks[0].foregrounds)
