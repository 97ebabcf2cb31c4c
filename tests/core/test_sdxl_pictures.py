"""Image prompts and hints of single rows on SDXL's structure, against diffusers' path with pooled texts and sizes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dreamlayer_core.base_options import BaseOptions
from dreamlayer_core.config import LayerAttentionConfig, SamplingConfig
from dreamlayer_core.control_files import load_controlnet
from dreamlayer_core.controls import LayerControl
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.guidance import Guided
from dreamlayer_core.image_prompts import image_additions, read_image_adapter
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts

from .tiny import seeded, tiny_tokenizer
from .tiny_checkpoints import save_checkpoint, save_decoder, tiny_base

PROMPTS = LayerPrompts("a green field", ("a red cube", "a blue ball"), negative="blurry")
ROWS, CELLS, EMBEDDING = 4, 8, 24
OFF = LayerAttentionConfig(caca=False, lssa=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DreamLayer:
    folder = tmp_path_factory.mktemp("sdxl")
    tiny_tokenizer(folder / "tokenizer")
    save_decoder(folder / "decoder.safetensors")
    save_checkpoint(tiny_base("SDXL").checkpoint(), folder / "base.safetensors")
    return DreamLayer.from_files(folder / "base.safetensors", options=BaseOptions(
        layer_decoder=folder / "decoder.safetensors", tokenizer=folder / "tokenizer"))


def _latents() -> Tensor:
    return torch.randn(1, ROWS, 4, CELLS, CELLS, generator=torch.Generator().manual_seed(3))


def _guided(model: DreamLayer, controls: Sequence[LayerControl] = (), **bound: Any) -> Tensor:
    embeddings = model.encode([PROMPTS])
    with torch.no_grad(), layer_attention(model.unet, embeddings, OFF, **bound) as run:
        return Guided(model, run, embeddings, [PROMPTS], SamplingConfig(guidance=3.0), controls=controls)(_latents(), 500)[0]


def _stock(model: DreamLayer, unet: Any, row: int, images: tuple[Tensor, Tensor] | None = None, net: Any = None, hint: Any = None) -> Tensor:
    """One row with guidance, as diffusers' pipelines call an SDXL model."""
    (embedding,) = model.encode([PROMPTS])
    sides = (model.negative([PROMPTS], ROWS, embedding.length), embedding.rows)
    side = CELLS * model.vae_scale
    outputs = list[Tensor]()
    for place, text in enumerate(sides):
        assert text.pooled is not None
        added: dict[str, Any] = {"text_embeds": text.pooled[row][None], "time_ids": torch.tensor([[side, side, 0, 0, side, side]]).float()}
        call: dict[str, Any] = {"encoder_hidden_states": text.embeddings[row][None], "added_cond_kwargs": added}
        if net is not None:
            down, middle = net(_latents()[:, row], 500, controlnet_cond=hint[None], conditioning_scale=0.6, return_dict=False, **call)
            call |= {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        if images is not None:
            added["image_embeds"] = [images[place][None]]
        with torch.no_grad():
            outputs.append(unet(_latents()[:, row], 500, **call).sample[0])
    return outputs[0] + 3.0 * (outputs[1] - outputs[0])


def test_an_image_prompt(model: DreamLayer) -> None:
    modules: Any = cast(Any, model.unet).named_modules()
    layers: dict[str, nn.Module] = {name: module for name, module in modules if name.endswith("attn2")}
    context, names = int(cast(Any, model.unet.config).cross_attention_dim), [n for n in cast(Any, model.unet).attn_processors if "attn2" in n]
    with seeded(4):
        parts = {"image_proj": {"proj.weight": torch.randn(4 * context, EMBEDDING) / 4, "proj.bias": torch.randn(4 * context),
                                "norm.weight": torch.ones(context), "norm.bias": torch.zeros(context)}, "ip_adapter": dict[str, Tensor]()}
        for place, name in enumerate(names):
            width = cast(Any, layers[name.removesuffix(".processor")]).to_q.out_features
            parts["ip_adapter"] |= {f"{2 * place + 1}.to_{part}_ip.weight": torch.randn(width, context) / context**0.5 for part in "kv"}
        picture = torch.randn(1, EMBEDDING)
    told: Any = copy.deepcopy(model.unet)
    told._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    file = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
    plain = _guided(model)
    found = _guided(model, additions=image_additions(layers, read_image_adapter(file).prompt(picture), 2))
    torch.testing.assert_close(found[2], _stock(model, told, 2, (torch.zeros_like(picture), picture)), rtol=1e-4, atol=1e-4)
    assert float((found - plain)[2].abs().max()) > 0.01 and torch.equal(found[[0, 1, 3]], plain[[0, 1, 3]])


def test_a_hint(model: DreamLayer, tmp_path: Path) -> None:
    with seeded(5):
        made: Any = cast(Any, ControlNetModel).from_unet(model.unet)
        for module in (*made.controlnet_down_blocks, made.controlnet_mid_block, made.controlnet_cond_embedding.conv_out):
            nn.init.normal_(module.weight, std=0.2)
        hint = torch.rand(3, 8 * CELLS, 8 * CELLS)
    made.save_pretrained(tmp_path)
    save_file(load_file(tmp_path / "diffusion_pytorch_model.safetensors"), lone := tmp_path / "lone.safetensors")
    plain = _guided(model)
    for path in (tmp_path, lone):
        found = _guided(model, [LayerControl(model=load_controlnet(path, model.unet), rows=1, hint=hint, strength=0.6)])
        torch.testing.assert_close(found[1], _stock(model, model.unet, 1, net=made.eval(), hint=hint), rtol=1e-4, atol=1e-4)
        assert float((found - plain)[1].abs().max()) > 0.01 and torch.equal(found[[0, 2, 3]], plain[[0, 2, 3]])
