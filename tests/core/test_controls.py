"""Hints of single rows against diffusers' own ControlNet path, row by row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dreamlayer_core.config import HarmonizationConfig, LayerAttentionConfig, SamplingConfig
from dreamlayer_core.control_files import load_controlnet
from dreamlayer_core.controls import LayerControl, fit_controls, fit_hint, lone_row_controls
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.errors import InputError, WeightsError
from dreamlayer_core.guidance import Guided
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.row_weights import Rows

from .tiny import LATENT_SIDE, PIXELS_PER_CELL, sd15_shaped_unet, seeded, tiny_unet

PROMPTS = LayerPrompts("a hill", ("a ball", "a box"), negative="gray")
ALONE = LayerAttentionConfig(caca=False, lssa=False)
ROWS, SIDE = 4, LATENT_SIDE * PIXELS_PER_CELL
WIDTHS = (8, 16, 16)  # that a hint goes through: four of its pixels a cell


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _controlnet(unet: Any, widths: Sequence[int] = WIDTHS, seed: int = 11) -> ControlNetModel:
    """Of the UNet's own weights, with convolutions that let through what is trained from zero."""
    with seeded(seed):
        net: Any = cast(Any, ControlNetModel).from_unet(unet, conditioning_embedding_out_channels=tuple(widths))
        for module in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
            nn.init.normal_(module.weight, std=0.2)
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module", params=[tiny_unet, sd15_shaped_unet], ids=["tiny", "SD1.5's structure"])
def model(request: pytest.FixtureRequest, tiny_dreamlayer: DreamLayer) -> DreamLayer:
    return replace(tiny_dreamlayer, adapter=None, unet=request.param())


@pytest.fixture(scope="module")
def net(model: DreamLayer) -> ControlNetModel:
    return _controlnet(model.unet)


def _hint(seed: int = 1) -> Tensor:
    return _draw(3, SIDE, SIDE, seed=seed).sigmoid()


def _guided(model: DreamLayer, controls: Sequence[LayerControl], *, stacks: int = 1, joint: bool = True) -> Tensor:
    sampling = SamplingConfig(guidance=3.0, joint_guidance=joint)
    embeddings = model.encode([PROMPTS] * stacks)
    with torch.no_grad(), layer_attention(model.unet, embeddings, ALONE) as run:
        return Guided(model, run, embeddings, [PROMPTS] * stacks, sampling, controls=controls)(_latents(stacks), 500)


def _latents(stacks: int = 1) -> Tensor:
    return _draw(stacks, ROWS, 4, LATENT_SIDE, LATENT_SIDE, seed=6)


def _reference(model: DreamLayer, net: Any, row: int, hint: Tensor, strength: float) -> Tensor:
    """One row with guidance, as diffusers' pipelines run a ControlNet."""
    embeddings = model.encode([PROMPTS])
    texts = torch.stack([model.negative([PROMPTS], ROWS, embeddings[0].length).embeddings[row], embeddings[0].embeddings[row]])
    latents = _latents()[:, row].repeat(2, 1, 1, 1)
    with torch.no_grad():
        down, middle = net(latents, 500, encoder_hidden_states=texts, controlnet_cond=hint[None].repeat(2, 1, 1, 1),
                           conditioning_scale=strength, return_dict=False)
        negative, positive = cast(Any, model.unet)(
            latents, 500, texts, down_block_additional_residuals=down, mid_block_additional_residual=middle).sample
    return negative + 3.0 * (positive - negative)


@pytest.mark.parametrize("joint", [True, False], ids=["in one call", "in two"])
def test_a_row_is_what_diffusers_makes_of_it(model: DreamLayer, net: ControlNetModel, joint: bool) -> None:
    plain = _guided(model, [], joint=joint)
    found = _guided(model, [LayerControl(model=net, rows=2, hint=_hint(), strength=0.8)], joint=joint)
    torch.testing.assert_close(found[0, 2], _reference(model, net, 2, _hint(), 0.8), rtol=1e-4, atol=1e-4)
    assert float((found - plain)[0, 2].abs().max()) > 0.1, "the hint says nothing"
    assert torch.equal(found[0, [0, 1, 3]], plain[0, [0, 1, 3]])


def test_hints_of_several_rows_and_of_one_row(model: DreamLayer, net: ControlNetModel) -> None:
    one, other = (LayerControl(model=net, rows=row, hint=_hint(row)) for row in (1, 2))
    found = _guided(model, [one, other])
    assert torch.equal(found[0, 1], _guided(model, [one])[0, 1]) and torch.equal(found[0, 2], _guided(model, [other])[0, 2])
    halves = [replace(one, strength=0.5), replace(one, strength=0.5)]
    torch.testing.assert_close(_guided(model, halves), _guided(model, [one]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rows", "chosen"), [("background", [0]), ("foreground", [1, 2]), ("global", [3]), (3, [3])])
def test_rows_of_every_stack(model: DreamLayer, net: ControlNetModel, rows: Rows, chosen: list[int]) -> None:
    changed = (_guided(model, [LayerControl(model=net, rows=rows, hint=_hint())], stacks=2) - _guided(model, [], stacks=2)).abs()
    assert [row for row in range(ROWS) if float(changed[:, row].max()) > 0] == chosen
    assert float(changed[:, chosen].amax((2, 3, 4)).min()) > 0.01


def test_strength_0_leaves_every_bit(model: DreamLayer, net: ControlNetModel) -> None:
    assert torch.equal(_guided(model, [LayerControl(model=net, rows=1, hint=_hint(), strength=0.0)]), _guided(model, []))


def test_generate_takes_hints_of_any_size(tiny_dreamlayer: DreamLayer) -> None:
    def latents(*controls: LayerControl) -> Tensor:
        return tiny_dreamlayer.generate(
            PROMPTS, size=(52, 60), seed=2, sampling=SamplingConfig(steps=2, guidance=3.0), attention=ALONE, views=1,
            controls=controls).latents

    control = LayerControl(model=_controlnet(tiny_dreamlayer.unet), rows=1, hint=_draw(3, 90, 78).sigmoid())
    plain, found = latents(), latents(control)
    assert torch.equal(found[:, [0, 2, 3]], plain[:, [0, 2, 3]]) and not torch.isclose(found[:, 1], plain[:, 1], atol=0.05).all()


def test_the_global_rows_hint_harmonises_too(tiny_dreamlayer: DreamLayer) -> None:
    def harmonized(*controls: LayerControl) -> Tensor | None:
        return tiny_dreamlayer.generate(
            PROMPTS, seed=2, sampling=SamplingConfig(steps=4, guidance=3.0), attention=ALONE, views=1,
            harmonization=HarmonizationConfig(), controls=controls).harmonized

    net = _controlnet(tiny_dreamlayer.unet)
    plain, found = harmonized(), harmonized(LayerControl(model=net, rows="global", hint=_hint()))
    assert plain is not None and found is not None and float((found - plain).abs().max()) > 0.01


def test_of_a_pass_with_one_row(net: ControlNetModel) -> None:
    controls = [LayerControl(model=net, rows=rows, hint=_hint()) for rows in (0, "global", "foreground", 3, range(1, 4))]
    assert [control.rows for control in lone_row_controls(controls, ROWS)] == ["global"] * 3


@pytest.mark.parametrize(("size", "expected"), [((6, 4), (slice(0, 4), slice(0, 6))), ((4, 4), (slice(0, 4), slice(1, 5))),
                                                ((6, 2), (slice(1, 3), slice(0, 6)))])
def test_a_hints_middle_is_kept(size: tuple[int, int], expected: tuple[slice, slice]) -> None:
    hint = _draw(3, 4, 6)
    assert torch.equal(fit_hint(hint, size), hint[:, expected[0], expected[1]])
    assert torch.equal(fit_hint(hint, (2 * size[0], 2 * size[1])), fit_hint(hint, size).repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_a_hint_lies_on_the_picture_not_on_what_pads_it(model: DreamLayer, net: ControlNetModel) -> None:
    """Latents of whole cells reach beyond a picture of 40x60; the hint is continued there by its edges."""
    hint = _draw(3, 60, 40).sigmoid()
    fitted = fit_controls([LayerControl(model=net, rows=1, hint=hint)], model.unet, ROWS, (40, 60), (16, 16), PIXELS_PER_CELL)[0].hint
    assert fitted.shape == (3, 64, 64) and torch.equal(fitted[:, :60, :40], hint)
    assert torch.equal(fitted[:, :60, 40:], hint[:, :, -1:].expand(-1, -1, 24))


def test_what_cannot_be(model: DreamLayer, net: ControlNetModel) -> None:
    with pytest.raises(InputError, match="got rows 4 for stacks of 4 rows"):
        model.generate(PROMPTS, controls=[LayerControl(model=net, rows=4, hint=_hint())])
    with pytest.raises(InputError, match=re.escape("got a hint of shape (1, 3, 64, 64); give a picture, (3, height, width)")):
        LayerControl(model=net, rows=1, hint=_hint()[None])
    with pytest.raises(InputError, match="got a strength of 11 for a ControlNet; give 0"):
        LayerControl(model=net, rows=1, hint=_hint(), strength=11)
    other = _controlnet(tiny_unet() if net.config["block_out_channels"][0] != net.config["block_out_channels"][1] else sd15_shaped_unet())
    with pytest.raises(WeightsError, match=r"a ControlNet with block_out_channels \[.*\], but this UNet has \[.*\]; give one made"):
        model.generate(PROMPTS, controls=[LayerControl(model=other, rows=1, hint=_hint())])


# ---- files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the UNet with SD1.5's structure, and with the usual eight pixels a cell."""
    cast(Any, _controlnet(sd15_shaped_unet(), (8, 8, 16, 16))).save_pretrained(folder := tmp_path_factory.mktemp("controlnet"))
    return folder


def _original(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of the published files, for SD1.5's structure: two layers a stage."""
    embedding = {"conv_in": 0, **{f"blocks.{block}": 2 * block + 2 for block in range(6)}, "conv_out": 14}
    resnet = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
              "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}

    def named(name: str) -> str:
        if name.startswith("controlnet_cond_embedding."):
            part, end = name.removeprefix("controlnet_cond_embedding.").rsplit(".", 1)
            return f"input_hint_block.{embedding[part]}.{end}"
        if found := re.match(r"controlnet_down_blocks\.(\d+)\.(.+)", name):
            return f"zero_convs.{found[1]}.0.{found[2]}"
        if found := re.match(r"down_blocks\.(\d)\.(resnets|attentions|downsamplers)\.(\d)\.(.+)", name):
            block, rest = 3 * int(found[1]) + int(found[3]) + 1, found[4]
            if found[2] == "downsamplers":
                return f"input_blocks.{3 * int(found[1]) + 3}.0.op.{rest.removeprefix('conv.')}"
            part, _, end = rest.rpartition(".")
            return f"input_blocks.{block}.{'0.' + resnet[part] + '.' + end if found[2] == 'resnets' else '1.' + rest}"
        if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
            part, _, end = found[3].rpartition(".")
            return f"middle_block.{2 * int(found[2])}.{resnet[part]}.{end}" if found[1] == "resnets" else f"middle_block.1.{found[3]}"
        replaced = name.replace("controlnet_mid_block", "middle_block_out.0").replace("conv_in.", "input_blocks.0.0.")
        return replaced.replace("time_embedding.linear_1", "time_embed.0").replace("time_embedding.linear_2", "time_embed.2")

    return {f"control_model.{named(name)}": tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("layout", ["folder", "diffusers' file", "original file", "fp16 folder"])
def test_every_layout_loads_the_same(layout: str, folder: Path, tmp_path: Path) -> None:
    tensors, path = load_file(folder / "diffusion_pytorch_model.safetensors"), folder
    if layout == "fp16 folder":
        path = tmp_path
        (path / "config.json").write_bytes((folder / "config.json").read_bytes())
        save_file({name: tensor.half() for name, tensor in tensors.items()}, path / "diffusion_pytorch_model.fp16.safetensors")
    elif layout != "folder":
        path = tmp_path / "control.safetensors"
        save_file(_original(tensors) if layout == "original file" else tensors, path)
    found = load_controlnet(path, sd15_shaped_unet())
    state: dict[str, Tensor] = cast(Any, found).state_dict()
    assert state.keys() == tensors.keys() and not found.training
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, tensors[name], rtol=1e-3, atol=1e-3 if "fp16" in layout else 0)
    hint, kwargs = _draw(1, 3, 64, 64), {"encoder_hidden_states": _draw(1, 5, 32), "return_dict": False}
    reference: Any = cast(Any, ControlNetModel).from_pretrained(folder)
    for one, other in zip(*(net(_draw(1, 4, 8, 8), 300, controlnet_cond=hint, **kwargs)[0] for net in (cast(Any, found), reference)), strict=True):
        torch.testing.assert_close(one, other, rtol=0.02 if "fp16" in layout else 1e-4, atol=0.02 if "fp16" in layout else 1e-4)


def _without(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if key != name}


@pytest.mark.parametrize(("change", "words"), [
    (lambda tensors: tensors | {"task_embedding": torch.zeros(6, 4)}, "a ControlNet Union, of several kinds of hints; give a plain"),
    (lambda tensors: tensors | {"lora_controlnet": torch.zeros(1)}, "a Control-LoRA; give a plain ControlNet"),
    (lambda tensors: tensors | {"lllite_unet.down.weight": torch.zeros(4, 4)}, "a ControlNet-LLLite"),
    (lambda tensors: _without(tensors, "mid_block.resnets.0.conv1.weight"), "missing mid_block.resnets.0.conv1.weight"),
    (lambda tensors: _without(tensors, "controlnet_cond_embedding.conv_in.weight") | {"controlnet_cond_embedding.x": torch.zeros(1)},
     "missing controlnet_cond_embedding.conv_in.weight"),
    (lambda tensors: {name: torch.zeros(64, 48) if name.endswith("attn2.to_k.weight") else w for name, w in tensors.items()},
     "for text embeddings of 48 channels, but this UNet takes 32"),
    (lambda tensors: tensors | {"conv_in.bias": torch.full((32,), torch.nan)}, "conv_in.bias has 32 NaN"),
    (lambda tensors: {name: w for name, w in tensors.items() if not name.startswith("control")}, "give a ControlNet"),
])
def test_other_files_are_refused_with_a_reason(change: Any, words: str, folder: Path, tmp_path: Path) -> None:
    save_file(change(load_file(folder / "diffusion_pytorch_model.safetensors")), path := tmp_path / "control.safetensors")
    with pytest.raises(WeightsError, match=re.escape(words)) as error:
        load_controlnet(path, sd15_shaped_unet())
    assert str(error.value).startswith(str(path))


def test_folders_of_another_base_and_without_a_file(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=re.escape("a ControlNet with block_out_channels [32, 64, 64, 64], but this UNet has [32, 32, 32, 32]")):
        load_controlnet(folder, tiny_unet())
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model\.safetensors: no such file"):
        load_controlnet(tmp_path, tiny_unet())
