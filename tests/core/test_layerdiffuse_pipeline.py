from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from dreamlayer_core.base_options import BaseOptions
from dreamlayer_core.config import LayerAttentionConfig, SamplingConfig
from dreamlayer_core.editing import encoded_row
from dreamlayer_core.errors import WeightsError
from dreamlayer_core.layerdiffuse_encoder import TransparentEncoder
from dreamlayer_core.layerdiffuse_files import read_layerdiffuse
from dreamlayer_core.layers import Layer, LayerStack
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.sampling import FINAL
from dreamlayer_core.stack_latents import stack_pictures, stack_trajectory

from .command_line import Run
from .layerdiffuse_reference import attention_shapes, drawn, encoder_shapes, offset
from .tiny import CHANNELS, seeded

PROMPTS = LayerPrompts("a green hill", ("a red ball", "a blue box"), whole="a ball and a box")
SAMPLING = SamplingConfig(steps=3, guidance=3.0)
ALONE = LayerAttentionConfig(caca=False, lssa=False)
WIDTHS = (4, 4, 4, 8, 8, 16, 16, 16)  # of a transparent encoder for four pixels a cell


def _file(frames: int = 1) -> dict[str, Tensor]:
    """For the tiny UNet: 20 attention layers, all of one width."""
    return drawn(attention_shapes(frames, widths=[CHANNELS] * 20, context=CHANNELS, rank=4))


@pytest.fixture(scope="module")
def model(tiny_dreamlayer: DreamLayer) -> DreamLayer:
    return replace(tiny_dreamlayer, layerdiffuse=read_layerdiffuse(_file()))


def _latents(model: DreamLayer, attention: LayerAttentionConfig) -> Tensor:
    return model.generate(PROMPTS, seed=5, sampling=SAMPLING, attention=attention, views=1).latents


def _hooks(model: DreamLayer) -> int:
    modules: Any = cast(Any, model.unet).modules()
    return sum(len(module._forward_hooks) for module in modules)


def test_generate_gives_the_weights_to_foregrounds_alone(tiny_dreamlayer: DreamLayer, model: DreamLayer) -> None:
    plain, found = (_latents(one, ALONE) for one in (tiny_dreamlayer, model))
    assert torch.equal(found[:, [0, 3]], plain[:, [0, 3]])
    assert float((found - plain)[:, 1:3].abs().amax((2, 3, 4)).min()) > 0.1
    assert not _hooks(model) and torch.equal(_latents(tiny_dreamlayer, ALONE), plain)


def test_other_rows_see_the_foregrounds_through_shared_attention(tiny_dreamlayer: DreamLayer, model: DreamLayer) -> None:
    plain, found = (_latents(one, LayerAttentionConfig(caca=False)) for one in (tiny_dreamlayer, model))
    assert float((found - plain).abs().amax((2, 3, 4)).min()) > 0.01


def test_weights_that_do_not_fit_are_refused_at_once(tiny_dreamlayer: DreamLayer) -> None:
    wide = drawn(attention_shapes(1, widths=[2 * CHANNELS] * 20, context=CHANNELS, rank=4))
    with pytest.raises(WeightsError, match=r"to_q: a delta of \(64, 64\) for a weight of \(32, 32\)"):
        replace(tiny_dreamlayer, layerdiffuse=read_layerdiffuse(wide))
    conditional = drawn(attention_shapes(2, widths=[CHANNELS] * 20, context=CHANNELS, rank=4, control=(8, 16, 32)))
    with pytest.raises(WeightsError, match="conditional weights, which go by .*; else give layer_sd15_transparent_attn or layer_sd15_joint"):
        replace(tiny_dreamlayer, layerdiffuse=read_layerdiffuse(conditional))
    two = drawn(attention_shapes(2, widths=[CHANNELS] * 20, context=CHANNELS, rank=4))
    with pytest.raises(WeightsError, match="weights of 2 frames; give layer_sd15_joint, layer_sd15_fg2bg"):
        replace(tiny_dreamlayer, layerdiffuse=read_layerdiffuse(two))
    with pytest.raises(WeightsError, match="encoder for 2 pixels per latent cell, but the VAE has 4"):
        replace(tiny_dreamlayer, encoder=TransparentEncoder((4, 8), scale=1))


def test_files_come_with_the_model(tiny_folder: Path, tmp_path: Path, model: DreamLayer) -> None:
    options = BaseOptions(layerdiffuse=tmp_path / "w.safetensors", layer_encoder=tmp_path / "vae_transparent_encoder.safetensors")
    save_file({name: tensor.half() for name, tensor in _file().items()}, tmp_path / "w.safetensors")
    save_file(drawn(encoder_shapes(WIDTHS)), tmp_path / "vae_transparent_encoder.safetensors")
    loaded = DreamLayer.from_files(tiny_folder, options=options)
    assert loaded.encoder is not None and loaded.encoder.scale == 1
    torch.testing.assert_close(_latents(loaded, ALONE), _latents(model, ALONE), rtol=0.05, atol=0.05)
    assert BaseOptions.from_noted(options.noted()) == options


def test_the_command_line_takes_the_files_and_notes_them(tiny_folder: Path, tmp_path: Path) -> None:
    save_file(_file(), weights := tmp_path / "w.safetensors")
    arguments = ("generate", "--model", tiny_folder, "--background", "a hill", "--foreground", "a ball", "--steps", "2",
                 "--no-harmonize", "--views", "1", "--json", "--layerdiffuse")
    save_file(drawn(encoder_shapes(WIDTHS)), encoder := tmp_path / "vae_transparent_encoder.safetensors")
    report = Run(tmp_path, *arguments, weights, "--layer-encoder", encoder, "--out", tmp_path / "out").json()
    assert (report["settings"]["layerdiffuse"], report["settings"]["layer_encoder"]) == (str(weights), str(encoder))
    save_file(_file(3), weights)
    assert Run(tmp_path, *arguments, weights, "--out", tmp_path / "joint").json()["layers"]
    Run(tmp_path, *arguments, weights, "--out", tmp_path / "other", "--foreground", "a box").assert_fails(
        2, "weights of 3 frames for a picture of 2 foregrounds; they are for one")


# ---- transparent encoder


@pytest.fixture(scope="module")
def stack() -> LayerStack:
    with seeded(8):
        colors, alpha = torch.rand(3, 3, 60, 52), (torch.rand(2, 1, 60, 52) * 2 - 0.5).clamp(0, 1)
    return LayerStack(width=52, height=60, layers=(
        Layer(name="hill", prompt="a hill", color=colors[0], alpha=torch.ones(1, 60, 52)),
        Layer(name="ball", prompt="a ball", color=colors[1], alpha=alpha[0]),
        Layer(name="box", prompt="a box", color=colors[2], alpha=alpha[1])))


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_alpha_moves_the_latents_of_foregrounds(scale: float, tiny_dreamlayer: DreamLayer, stack: LayerStack) -> None:
    tensors = drawn(encoder_shapes(WIDTHS))
    encoder = TransparentEncoder(WIDTHS, scale=scale).requires_grad_(False)
    encoder.load_state_dict(tensors)
    model = replace(tiny_dreamlayer, encoder=encoder)
    plain, found = (stack_trajectory(one, stack, [FINAL]).latents[FINAL][0] for one in (tiny_dreamlayer, model))
    assert torch.equal(found[[0, 3]], plain[[0, 3]])
    edges, pictures = (0, 12, 0, 4), stack_pictures(stack)
    for row in (1, 2):
        picture = functional.pad(pictures[row][None], edges, mode="replicate") * 2 - 1
        posterior = cast(Any, model.vae).encode(picture).latent_dist
        rgba = functional.pad(stack.layers[row].rgba[None], edges, mode="replicate")[0]
        expected = (posterior.mean + posterior.std * _offset(tensors, rgba, scale)[None])[0] * 0.5  # the VAE's factor
        torch.testing.assert_close(found[row] / scale, expected / scale, rtol=1e-4, atol=1e-4)
        alone = encoded_row(model, stack.layers[row], row, (52, 60), [FINAL], 0)[FINAL]
        torch.testing.assert_close(alone, found[row])
    background = encoded_row(model, stack.layers[0], 0, (52, 60), [FINAL], 0)[FINAL]
    torch.testing.assert_close(background, plain[0])


def _offset(tensors: dict[str, Tensor], rgba: Tensor, scale: float) -> Tensor:
    return offset(tensors, rgba, scale, strides=(1, 1, 1, 2, 1, 2, 1, 1, 1))
