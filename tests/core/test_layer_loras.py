from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dreamlayer_core.config import HarmonizationConfig, LayerAttentionConfig, SamplingConfig
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.editing import RunSettings
from dreamlayer_core.errors import WeightsError
from dreamlayer_core.layer_loras import LayerLora, load_lora
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.regeneration import regenerate_layer
from dreamlayer_core.row_weights import Additions, Rows

from .command_line import Run
from .tiny import CHANNELS, sd15_shaped_unet, tiny_embedding

PROMPTS = LayerPrompts("a green hill", ("a red ball", "a blue box"), whole="a ball and a box")
SAMPLING = SamplingConfig(steps=3, guidance=3.0)
ALONE = LayerAttentionConfig(caca=False, lssa=False)
RANK, ALPHA, STRENGTH = 4, 2.0, 0.7

# Layers of SD1.5's UNet in both namings, as published checkpoints and their conversions have them.
PLACES = {
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q": "input_blocks.1.1.transformer_blocks.0.attn1.to_q",
    "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_v": "input_blocks.2.1.transformer_blocks.0.attn2.to_v",
    "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_k": "input_blocks.8.1.transformer_blocks.0.attn2.to_k",
    "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj": "middle_block.1.transformer_blocks.0.ff.net.0.proj",
    "up_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0": "output_blocks.3.1.transformer_blocks.0.attn1.to_out.0",
    "up_blocks.3.attentions.2.proj_out": "output_blocks.11.1.proj_out",
    "down_blocks.1.resnets.0.conv1": "input_blocks.4.0.in_layers.2",
    "down_blocks.1.resnets.0.conv_shortcut": "input_blocks.4.0.skip_connection",
    "up_blocks.2.resnets.0.time_emb_proj": "output_blocks.6.0.emb_layers.1",
    "mid_block.resnets.1.conv2": "middle_block.2.out_layers.3",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.3.0.op",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.2.1.conv",
    "up_blocks.1.upsamplers.0.conv": "output_blocks.5.2.conv",
    "time_embedding.linear_1": "time_embed.0",
    "conv_in": "input_blocks.0.0",
}
Tensors = dict[str, Tensor]


def _draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * shape[-1] ** -0.5


def _factors(model: Any, names: Mapping[str, Any] | list[str], seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    """(up, down) for layers of a model, shaped as trainers shape them."""
    found = dict[str, tuple[Tensor, Tensor]]()
    for number, name in enumerate(names, seed):
        shape = tuple(model.get_submodule(name).weight.shape)
        ones = (1,) * (len(shape) - 2)
        found[name] = _draw(shape[0], RANK, *ones, seed=2 * number), _draw(RANK, *shape[1:], seed=2 * number + 1)
    return found


def _kohya(factors: Mapping[str, tuple[Tensor, Tensor]], prefix: str = "lora_unet_", named: Mapping[str, str] | None = None) -> Tensors:
    tensors = Tensors()
    for name, (up, down) in factors.items():
        key = prefix + (named[name] if named else name).replace(".", "_")
        tensors |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down, f"{key}.alpha": torch.tensor(ALPHA)}
    return tensors


def _peft(factors: Mapping[str, tuple[Tensor, Tensor]], prefix: str = "unet.") -> Tensors:
    return {f"{prefix}{name}.lora_{side}.weight": factor for name, pair in factors.items()
            for side, factor in zip("BA", pair, strict=True)}


def _processors(factors: Mapping[str, tuple[Tensor, Tensor]]) -> Tensors:
    """As early diffusers wrote attention layers; all others as kohya's."""
    tensors = Tensors()
    for name, (up, down) in factors.items():
        if ".attn" in name:
            block, _, part = name.removesuffix(".0").rpartition(".to_")
            key = f"unet.{block}.processor.to_{part}_lora"
            tensors |= {f"{key}.up.weight": up, f"{key}.down.weight": down}
        else:
            scaled = _kohya({name: (up / ALPHA * RANK, down)})
            tensors |= scaled
    return tensors


FORMATS: dict[str, tuple[Callable[[Mapping[str, tuple[Tensor, Tensor]]], Tensors], float]] = {
    "kohya": (_kohya, ALPHA / RANK),
    "ldm": (lambda factors: _kohya(factors, named=PLACES), ALPHA / RANK),
    "peft": (_peft, 1.0),
    "processors": (_processors, 1.0),
}


def _merged(model: Any, factors: Mapping[str, tuple[Tensor, Tensor]], scale: float) -> Any:
    """The model with the deltas in its weights."""
    merged = copy.deepcopy(model)
    for name, (up, down) in factors.items():
        weight = merged.get_submodule(name).weight
        weight.data += scale * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    return merged


@pytest.fixture(scope="module")
def unet() -> Any:
    return sd15_shaped_unet()


@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("rows", [2, "global"])
def test_a_row_is_what_the_merged_model_makes_of_it(layout: str, rows: Rows, unet: Any) -> None:
    write, scale = FORMATS[layout]
    factors = _factors(unet, PLACES)
    additions = LayerLora(write(factors), {}).additions(dict(unet.named_modules()), rows, STRENGTH)
    embedding = tiny_embedding([1, 2])
    latents = _draw(8, 4, 16, 16, seed=7)  # two sides of the guidance
    texts = embedding.embeddings.repeat(2, 1, 1)
    plain = unet(latents, 500, texts).sample
    with layer_attention(unet, [embedding], ALONE, additions=additions):
        found = unet(latents, 500, texts).sample
    merged, chosen = _merged(unet, factors, scale * STRENGTH), 2 if rows == 2 else 3
    for row in range(8):
        if row % 4 == chosen:
            expected = merged(latents[row : row + 1], 500, texts[row : row + 1]).sample
            torch.testing.assert_close(found[row : row + 1], expected, rtol=1e-4, atol=1e-4)
            assert float((found[row] - plain[row]).abs().max()) > 0.01
        else:
            assert torch.equal(found[row], plain[row])
    assert torch.equal(unet(latents, 500, texts).sample, plain)


@pytest.mark.parametrize(("noted", "scale"), [
    ({"unet.lora_alpha": 8, "unet.r": RANK}, 8 / RANK),
    ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 8 / RANK**0.5),
    ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 3}}, 3 / RANK),
    ({"text_encoder.lora_alpha": 8}, 1.0),
    ([], 1.0),
])
def test_what_peft_notes_scales(noted: Any, scale: float, unet: Any) -> None:
    lora = LayerLora(_peft(_factors(unet, [next(iter(PLACES))])), {"lora_adapter_metadata": json.dumps(noted)})
    assert list(lora.scales.values()) == pytest.approx([scale])  # pyright: ignore[reportUnknownMemberType]


# ---- the whole pipeline


def _lora(model: DreamLayer, seed: int = 0) -> Tensors:
    """Attention layers of the UNet, and the text encoder."""
    sites = [name for name, _ in cast(Any, model.unet).named_modules() if name.endswith(("attn1.to_q", "attn2.to_v", "conv2"))]
    return (_kohya(_factors(model.unet, sites, seed))
            | _kohya(_text_factors(model), "lora_te_text_model_", {name: name.removeprefix("text_model.") for name in _text_factors(model)}))


def _text_factors(model: DreamLayer) -> dict[str, tuple[Tensor, Tensor]]:
    encoder = model.text_encoders.models[0]
    return _factors(encoder, [name for name, _ in encoder.named_modules() if name.endswith(("q_proj", "fc1"))], seed=90)


def _given(model: DreamLayer, rows: Rows, strength: float = 1.0) -> dict[str, Any]:
    lora = LayerLora(_lora(model), {})
    return {"additions": lora.additions(dict(cast(Any, model.unet).named_modules()), rows, strength),
            "text_additions": lora.text_additions(model.text_encoders.models, rows, strength)}


def _generate(model: DreamLayer, given: Mapping[str, Any], **settings: Any) -> Any:
    usual: dict[str, Any] = {"seed": 5, "sampling": SAMPLING, "attention": ALONE, "views": 1}
    return model.generate(PROMPTS, **(usual | settings), **given)


def test_other_layers_keep_every_bit_until_layers_mix(tiny_dreamlayer: DreamLayer) -> None:
    model, given = tiny_dreamlayer, _given(tiny_dreamlayer, 1)
    plain = _generate(model, {}).latents
    # A layer's words stand in the global row, too: without the text's part nothing else has changed.
    alone = _generate(model, {"additions": given["additions"]}).latents
    assert torch.equal(alone[:, [0, 2, 3]], plain[:, [0, 2, 3]]) and not torch.isclose(alone, plain)[:, 1].all()
    both = _generate(model, given).latents
    assert torch.equal(both[:, [0, 2]], plain[:, [0, 2]]) and not torch.equal(both[:, 1], alone[:, 1])
    mixed, shared = (_generate(model, one, attention=LayerAttentionConfig(caca=False)).latents for one in ({}, given))
    assert float((mixed - shared).abs().amax((2, 3, 4)).min()) > 1e-3
    assert torch.equal(_generate(model, {}).latents, plain)


def test_the_text_of_a_layer_is_that_of_the_merged_encoder(tiny_dreamlayer: DreamLayer) -> None:
    model = tiny_dreamlayer
    ((plain,), (found,)) = (model.encode([PROMPTS], given) for given in ((), _given(model, 1, STRENGTH)["text_additions"]))
    encoders = copy.deepcopy(model.text_encoders)
    cast(Any, encoders.encoders[0]).model = _merged(model.text_encoders.models[0], _text_factors(model), STRENGTH * ALPHA / RANK)
    (expected,), (stock,) = (one.encode(["a red ball"]) for one in (encoders, model.text_encoders))
    assert not torch.isclose(expected.embedding, stock.embedding, atol=1e-3).all()
    own, placed = found.own_spans[1], found.global_spans[1]
    torch.testing.assert_close(found.embeddings[1] - plain.embeddings[1], expected.embedding - stock.embedding, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.embeddings[3, placed.start : placed.stop], found.embeddings[1, own.start : own.stop])
    outside = [i for i in range(found.length) if not placed.start <= i < placed.stop]
    assert torch.equal(found.embeddings[[0, 2]], plain.embeddings[[0, 2]])
    assert torch.equal(found.embeddings[3, outside], plain.embeddings[3, outside])


def test_the_whole_is_harmonised_with_its_own(tiny_dreamlayer: DreamLayer) -> None:
    irh = HarmonizationConfig(high=1000, low=0)
    unet = {"additions": _given(tiny_dreamlayer, "global")["additions"]}
    by_number = {"additions": _given(tiny_dreamlayer, 3)["additions"]}
    plain, found, numbered = (_generate(tiny_dreamlayer, one, harmonization=irh) for one in ({}, unet, by_number))
    assert torch.equal(found.latents[:, :3], plain.latents[:, :3])
    assert not torch.isclose(found.harmonized, plain.harmonized, atol=1e-2).all()
    assert torch.equal(found.harmonized, numbered.harmonized)


def test_layers_keep_theirs_where_others_are_hidden(tiny_dreamlayer: DreamLayer) -> None:
    made = _generate(tiny_dreamlayer, {}, keep_all=True)
    stack = made.stacks[0].with_layer(1, visible=False)

    def again(rows: Rows | None) -> Tensor:
        given: Additions = {} if rows is None else _given(tiny_dreamlayer, rows)["additions"]
        settings = RunSettings(sampling=SAMPLING, attention=ALONE, harmonization=None, views=1, additions=given)
        edited = regenerate_layer(tiny_dreamlayer, made.trajectory, stack, 2, seed=8, settings=settings)
        return edited.stack.layers[2].color

    plain, hidden, own = (again(rows) for rows in (None, 1, 2))
    assert torch.equal(hidden, plain) and not torch.isclose(own, plain, atol=1e-3).all()


# ---- files


def _save(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    save_file(tensors, path, metadata)
    return path


def _renamed(tensors: Tensors, old: str, new: str) -> Tensors:
    return {name.replace(old, new): tensor for name, tensor in tensors.items()}


BAD: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "dora": (lambda t: t | {"lora_unet_conv_in.dora_scale": torch.ones(32, 1)}, "this is a DoRA, which single rows cannot have"),
    "loha": (lambda t: t | {"lora_unet_conv_in.hada_w1_a": torch.ones(2, 2)}, "this is a LoHa"),
    "lokr": (lambda t: t | {"lora_unet_conv_in.lokr_w1": torch.ones(2, 2)}, "this is a LoKr"),
    "tucker": (lambda t: t | {"lora_unet_conv_in.lora_mid.weight": torch.ones(4, 4, 3, 3)}, "a LoRA of three factors"),
    "unknown": (lambda t: t | {"bundle_emb.style": torch.ones(2)}, "it has bundle_emb.style, which no LoRA"),
    "half": (lambda t: {n: v for n, v in t.items() if "lora_up" not in n}, "has no lora_up; the file is incomplete"),
    "nan": (lambda t: {n: v * float("nan") for n, v in t.items()}, "NaN or infinite"),
    "ranks": (lambda t: {n: v[:1] if "lora_down" in n else v for n, v in t.items()}, "which do not fit; fetch"),
}


@pytest.mark.parametrize("case", BAD)
def test_other_kinds_of_files_are_named(case: str, tmp_path: Path, tiny_dreamlayer: DreamLayer) -> None:
    change, words = BAD[case]
    path = _save(tmp_path / "l.safetensors", change(_lora(tiny_dreamlayer)))
    with pytest.raises(WeightsError, match=words) as error:
        load_lora(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_a_lora_of_another_base_is_named(tmp_path: Path, tiny_dreamlayer: DreamLayer, unet: Any) -> None:
    modules = dict(cast(Any, tiny_dreamlayer.unet).named_modules())
    xl = _renamed(_kohya(_factors(unet, [list(PLACES)[2]])), "down_blocks_2", "down_blocks_9")
    xl = {name: v.repeat(1, 2048 // CHANNELS) if "lora_down" in name else v for name, v in xl.items()}
    with pytest.raises(WeightsError, match="a LoRA for SDXL, with weights for unet/down_blocks_9.*give a LoRA made for this base"):
        load_lora(_save(tmp_path / "xl.safetensors", xl)).additions(modules, 1)
    wide = _kohya({"up_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k": (torch.ones(32, RANK), torch.ones(RANK, 768))})
    with pytest.raises(WeightsError, match=r"a LoRA for SD1; unet/up_blocks.* a delta of \(32, 768\) for a weight of \(32, 32\)"):
        load_lora(_save(tmp_path / "sd1.safetensors", wide)).additions(modules, 1)
    second = _renamed(_lora(tiny_dreamlayer), "lora_te_", "lora_te2_")
    with pytest.raises(WeightsError, match="a LoRA for SDXL, with weights for a second text encoder"):
        load_lora(_save(tmp_path / "te2.safetensors", second)).text_additions(tiny_dreamlayer.text_encoders.models, 1)


def test_the_command_line_takes_loras_and_notes_them(tiny_folder: Path, tiny_dreamlayer: DreamLayer, tmp_path: Path) -> None:
    lora = _save(tmp_path / "l.safetensors", _lora(tiny_dreamlayer))
    arguments = ("generate", "--model", tiny_folder, "--background", "a hill", "--foreground", "a ball", "--steps", "2",
                 "--no-harmonize", "--views", "1", "--json")
    report = Run(tmp_path, *arguments, "--lora", f"1={lora}:0.8", "--lora", f"global={lora}", "--out", tmp_path / "out").json()
    assert report["settings"]["loras"] == [f"1={lora}:0.8", f"global={lora}:1"]
    added = Run(tmp_path, "add", tmp_path / "out", "--prompt", "a box", "--position", "1", "--no-harmonize", "--views", "1",
                "--json", "--out", tmp_path / "added").json()
    assert added["settings"]["loras"] == [f"2={lora}:0.8", f"global={lora}:1"]
    for code, given, words in ((2, f"2={lora}", "got --lora for layer 2 of 2"), (2, "ball", "got --lora 'ball'"),
                               (1, f"1={tmp_path / 'none.safetensors'}", "none.safetensors")):
        Run(tmp_path, *arguments, "--lora", given, "--out", tmp_path / "other").assert_fails(code, words)


def test_without_loras_nothing_is_added(tiny_dreamlayer: DreamLayer) -> None:
    model = replace(tiny_dreamlayer)
    assert torch.equal(_generate(model, {"additions": {}, "text_additions": [{}]}).latents, _generate(model, {}).latents)
