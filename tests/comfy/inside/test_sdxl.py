"""A tiny model of SDXL's structure through our nodes: two text encoders, and a pooled vector for every row."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import pytest
import torch
from graph import apart, denoise, draw

WIDTH = 64  # channels of each text encoder: one head
UNET = {
    "image_size": 8, "use_spatial_transformer": True, "legacy": False, "num_classes": "sequential", "adm_in_channels": WIDTH + 6 * 256,
    "in_channels": 4, "out_channels": 4, "model_channels": 64, "channel_mult": [1, 1, 1], "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 1, 1, 2, 2], "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2], "transformer_depth_middle": 2,
    "context_dim": 2 * WIDTH, "use_linear_in_transformer": True, "use_temporal_attention": False, "use_temporal_resblock": False,
    "num_heads": -1, "num_head_channels": 64,
}


def text_config(activation: str) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 1, "hidden_act": activation,
        "max_position_embeddings": 77, "bos_token_id": 49406, "eos_token_id": 49407, "vocab_size": 49408}


class TinyText(comfy.sdxl_clip.SDXLClipModel):
    """SDXL's two encoders, narrow."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
        torch.nn.Module.__init__(self)

        def encoder(activation: str, pad: int) -> comfy.sd1_clip.SDClipModel:
            return comfy.sd1_clip.SDClipModel(
                layer="hidden", layer_idx=-2, device=device, dtype=dtype, layer_norm_hidden_state=False,
                textmodel_json_config=text_config(activation), special_tokens={"start": 49406, "end": 49407, "pad": pad},
                model_options=model_options or {})

        self.clip_l, self.clip_g, self.dtypes = encoder("quick_gelu", 49407), encoder("gelu", 0), {dtype}


def fill(module: torch.nn.Module) -> None:
    """Seeded weights: ComfyUI's modules have none of their own."""
    for number, (name, parameter) in enumerate(module.named_parameters()):
        values = draw(*parameter.shape, seed=number)
        if parameter.ndim > 1 and "embedding" not in name:
            values *= parameter[0].numel() ** -0.5
        elif parameter.ndim == 1:
            values = 0.1 * values + (1.0 if name.endswith("weight") else 0.0)
        parameter.data.copy_(values)


@pytest.fixture(scope="module")
def clip():
    target = comfy.supported_models_base.ClipTarget(comfy.sdxl_clip.SDXLTokenizer, TinyText)
    with torch.inference_mode():
        made = comfy.sd.CLIP(target, parameters=1)
        fill(made.cond_stage_model)
    return made


@pytest.fixture(scope="module")
def model():
    config = comfy.supported_models.SDXL(dict(UNET))
    config.set_inference_dtype(torch.float32, None)
    with torch.inference_mode():
        base = config.get_model({}, "")
        fill(base.diffusion_model)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(base, load_device=device, offload_device=device)


@pytest.fixture(scope="module")
def encoded(graph, clip):
    with torch.inference_mode():
        return graph.call("Encode", clip=clip, plan=graph.usual_plan(), adapter=None)


def alone(clip, text: str) -> tuple[torch.Tensor, torch.Tensor]:
    return clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)


def test_rows_are_the_texts_of_both_encoders_with_their_pooled_vectors(graph, clip, encoded):
    ((rows, extra),), ((negative, of_negative),) = encoded
    prompts = graph.usual_plan().prompts
    assert rows.shape == (4, 77, 2 * WIDTH) and extra["pooled_output"].shape == (4, WIDTH)
    for row, text in enumerate(prompts.layers):
        embedding, pooled = alone(clip, text)
        assert torch.equal(rows[row], embedding[0]) and torch.equal(extra["pooled_output"][row], pooled[0])
    embedding, pooled = alone(clip, prompts.negative)
    assert torch.equal(negative, embedding) and torch.equal(of_negative["pooled_output"], pooled)
    assert torch.equal(extra["pooled_output"][-1:], alone(clip, prompts.whole)[1])


def test_spans_hold_in_both_encoders(encoded):
    ((rows, extra),), _ = encoded
    embedding = extra["dreamlayer"]
    for layer, (own, placed) in enumerate(zip(embedding.own_spans, embedding.global_spans, strict=True)):
        assert torch.equal(rows[-1, placed.start : placed.stop], rows[layer, own.start : own.stop])
        for channels in (slice(0, WIDTH), slice(WIDTH, None)):
            assert own.length > 0 and rows[layer, own.start : own.stop, channels].std() > 0.01


def test_without_a_prompt_of_the_whole_its_pooled_vector_is_of_all_layers(graph, clip):
    (_, extra), = graph.call("Encode", clip=clip, plan=graph.plan("a ball", background="grass"), adapter=None)[0]
    assert torch.equal(extra["pooled_output"][-1:], alone(clip, "grass, a ball")[1])


def test_every_row_is_sampled_as_if_it_were_alone_with_its_own_text(graph, model, clip, encoded):
    noise, prompts = draw(4, 4, 8, 8), graph.usual_plan().prompts
    together = denoise(graph.patch(model, adapter=None, caca=False, lssa=False), encoded, noise)
    negative = encoded[1]
    for row, text in enumerate(prompts.layers):
        embedding, pooled = alone(clip, text)
        single = denoise(model, ([[embedding, {"pooled_output": pooled}]], negative), noise[row : row + 1])
        assert apart(together[row : row + 1], single) < 1e-4
        other = denoise(model, ([[embedding, {"pooled_output": -pooled}]], negative), noise[row : row + 1])
        assert apart(together[row : row + 1], other) > 1e-3


def test_layers_are_sampled_and_harmonised(graph, model, encoded, core, module):
    patched = graph.patch(model, adapter=None)
    latent, trajectory, maps = graph.sample(patched, encoded, graph.latent())
    plain = graph.sample(graph.patch(model, adapter=None, caca=False, lssa=False), encoded, graph.latent())[0]
    assert latent["samples"].isfinite().all() and apart(latent["samples"], plain["samples"]) > 1e-3
    assert maps.shape[0] == 2 and maps.std() > 0
    found = module("nodes.comfy_model.harmonize").harmonize(
        patched, trajectory, torch.full((1, 2, 1, 64, 64), 0.5), core("config").HarmonizationConfig(high=1000, low=0), 1.0)
    assert found.shape == (1, *latent["samples"].shape[1:]) and found.isfinite().all()
