"""SDXL's two text encoders, pooled vectors and sizes, against diffusers' pipeline and the stock UNet; all families in half precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor
from transformers import CLIPTokenizer

from dreamlayer_core.base_options import BaseOptions
from dreamlayer_core.config import HarmonizationConfig, InversionConfig, LayerAttentionConfig, SamplingConfig
from dreamlayer_core.decomposition import decompose
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.guidance import Guided
from dreamlayer_core.pipeline import DreamLayer, LayeredResult
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.sampling import initial_noise

from .tiny import tiny_tokenizer
from .tiny_checkpoints import NAMES, TEXT, WORDS, Name, TinyBase, save_checkpoint, save_decoder, tiny_base

PROMPTS = LayerPrompts("a green field", ("a red cube", "a blue ball"), negative="blurry")
METHOD = LayerAttentionConfig(context_threshold=600)  # the first of four steps is at timestep 751
OFF = LayerAttentionConfig(caca=False, lssa=False)
SIZE = (64, 64)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdxl")
    tiny_tokenizer(folder / "tokenizer")
    save_decoder(folder / "decoder.safetensors")
    for name in NAMES:
        save_checkpoint(tiny_base(name).checkpoint(), folder / f"{name}.safetensors")
    return folder


def load(files: Path, name: Name = "SDXL", dtype: torch.dtype = torch.float32) -> DreamLayer:
    options = BaseOptions(layer_decoder=files / "decoder.safetensors", tokenizer=files / "tokenizer")
    return DreamLayer.from_files(files / f"{name}.safetensors", options=options, dtype=dtype)


@pytest.fixture(scope="module")
def model(files: Path) -> DreamLayer:
    return load(files)


def generate(model: DreamLayer, **options: Any) -> LayeredResult:
    given: dict[str, Any] = {
        "size": SIZE, "seed": 5, "views": 1, "sampling": SamplingConfig(steps=4, guidance=3.0), "attention": METHOD,
        "harmonization": HarmonizationConfig(high=760, low=240)}
    return model.generate(PROMPTS, **{**given, **options})


# ---- the texts


@pytest.fixture(scope="module")
def stock(files: Path, tmp_path_factory: pytest.TempPathFactory) -> StableDiffusionXLPipeline:
    """diffusers' pipeline of the same models."""
    base: TinyBase = tiny_base("SDXL")
    folder = base.save_folder(tmp_path_factory.mktemp("stock"))
    first, second = (cast(Any, CLIPTokenizer).from_pretrained(folder / part, model_max_length=77) for part in ("tokenizer", "tokenizer_2"))
    assert second.pad_token_id == 0 and first.pad_token_id == WORDS - 1
    return cast(Any, StableDiffusionXLPipeline)(
        vae=base.vae, text_encoder=base.first, text_encoder_2=base.second, tokenizer=first, tokenizer_2=second, unet=base.unet,
        scheduler=DDIMScheduler())


@pytest.mark.parametrize("text", ["a red cube", "", "ein großer Würfel", "b" * 75])
def test_texts_are_encoded_as_diffusers_encodes_them(model: DreamLayer, stock: StableDiffusionXLPipeline, text: str) -> None:
    with torch.no_grad():
        positive, negative, pooled, negative_pooled = cast(Any, stock).encode_prompt("a dog", negative_prompt=text)
        swapped = cast(Any, stock).encode_prompt(text, do_classifier_free_guidance=False)
        (ours,) = model.text_encoders.encode([text])
        (other,) = model.text_encoders.encode(["a dog"])
    assert ours.embedding.shape == (77, 2 * TEXT) and ours.pooled is not None and other.pooled is not None
    assert torch.equal(ours.embedding, negative[0]) and torch.equal(ours.pooled, negative_pooled[0])
    assert torch.equal(ours.embedding, swapped[0][0]) and torch.equal(ours.pooled, swapped[2][0])
    assert torch.equal(other.embedding, positive[0]) and torch.equal(other.pooled, pooled[0])


def test_spans_hold_in_both_encoders(model: DreamLayer) -> None:
    long = LayerPrompts("a green field", ("a red cube, " * 8, "ball"), whole="all of it")
    with torch.no_grad():
        result = model.encode([long])[0]
    assert result.embeddings.shape == (4, 2 * 77, 2 * TEXT)
    for layer, (own, placed) in enumerate(zip(result.own_spans, result.global_spans, strict=True)):
        assert own.length == len(model.text_encoders.ids(long.layers[layer])) > 0
        for channels in (slice(0, TEXT), slice(TEXT, None)):  # each encoder's
            row, whole = result.embeddings[layer, :, channels], result.embeddings[-1, :, channels]
            assert torch.equal(whole[placed.start : placed.stop], row[own.start : own.stop]) and row.std() > 0.1


@pytest.mark.parametrize(("whole", "said"), [("a picture", "a picture"), ("  ", "a green field, a red cube, a blue ball")])
def test_every_row_has_the_pooled_vector_of_its_own_text(model: DreamLayer, whole: str, said: str) -> None:
    prompts = replace(PROMPTS, whole=whole)
    with torch.no_grad():
        pooled = model.encode([prompts])[0].pooled
        alone = [text.pooled for text in model.text_encoders.encode([*prompts.layers, said])]
        negative = model.negative([prompts], 3, 77).pooled
        (blurry,) = model.text_encoders.encode(["blurry"])
    assert pooled is not None and negative is not None and blurry.pooled is not None
    torch.testing.assert_close(pooled, torch.stack(cast("list[Tensor]", alone)))
    torch.testing.assert_close(negative, blurry.pooled.expand(3, -1))


@pytest.mark.parametrize("name", ["SD1", "SD2"])
def test_other_families_have_no_pooled_vector(files: Path, name: Name) -> None:
    model = load(files, name)
    with torch.no_grad():
        assert model.encode([PROMPTS])[0].pooled is None and model.negative([PROMPTS], 1, 77).pooled is None


# ---- the pictures


def stock_step(model: DreamLayer, latents: Tensor, timestep: int, text: Tensor, pooled: Tensor, height: int, width: int) -> Tensor:
    """One guided call of the stock UNet: negative rows, then positive ones."""
    sizes = torch.tensor([[height, width, 0, 0, height, width]] * len(text))
    both = cast(Any, model.unet)(
        torch.cat([latents, latents]), timestep, text, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample
    negative, positive = both.chunk(2)
    return negative + 3.0 * (positive - negative)


def test_with_everything_off_every_row_is_an_ordinary_picture(model: DreamLayer) -> None:
    """Bit by bit what a plain loop over the stock UNet makes, each row told of its own text and of the picture's size."""
    found = generate(model, attention=OFF, harmonization=None, size=(96, 64))
    with torch.no_grad():
        rows, empty = model.encode([PROMPTS])[0].rows, model.negative([PROMPTS], 4, 77)
        assert rows.pooled is not None and empty.pooled is not None
        text, pooled = torch.cat([empty.embeddings, rows.embeddings]), torch.cat([empty.pooled, rows.pooled])
        latents, timesteps = initial_noise((4, 4, 8, 12), 5)[0], model.schedule.timesteps(4)
        for t, previous in zip(timesteps, [*timesteps[1:], -1], strict=True):
            latents = model.schedule.ddim_step(stock_step(model, latents, t, text, pooled, 64, 96), latents, t, previous)
    assert torch.equal(found.latents[0], latents)


def test_the_method_and_harmonisation_run_and_show(model: DreamLayer) -> None:
    results = {(caca, lssa): generate(model, attention=replace(METHOD, caca=caca, lssa=lssa)) for caca in (False, True) for lssa in (False, True)}
    full = results[True, True]
    assert full.harmonized is not None and full.harmonized.shape == (1, 3, 64, 64)
    assert full.context_maps is not None and full.context_maps.shape == (1, 2, 2, 2)  # the stage at a quarter of the latent
    assert bool(full.latents.isfinite().all() and full.harmonized.isfinite().all())
    apart = [float((a.latents - b.latents).abs().max()) for i, a in enumerate(results.values()) for b in list(results.values())[:i]]
    assert min(apart) > 1e-3


def test_guidance_in_one_call_and_in_two_is_the_same(model: DreamLayer) -> None:
    one, two = (generate(model, sampling=SamplingConfig(steps=4, guidance=3.0, joint_guidance=joint)) for joint in (True, False))
    torch.testing.assert_close(one.latents, two.latents, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(one.harmonized, two.harmonized, rtol=1e-3, atol=1e-3)


def test_harmonisation_is_told_of_the_whole_picture(model: DreamLayer) -> None:
    with torch.no_grad():
        embeddings = model.encode([PROMPTS])
    with layer_attention(model.unet, None, OFF) as run:
        guided = Guided(model, run, embeddings, [PROMPTS], SamplingConfig(), global_row=True)
    assert embeddings[0].pooled is not None and guided.positive.pooled is not None
    assert torch.equal(guided.positive.embeddings, embeddings[0].embeddings[-1:])
    assert torch.equal(guided.positive.pooled, embeddings[0].pooled[-1:])
    assert guided.negative.pooled is not None and len(guided.negative.pooled) == 1


def test_size_and_pooled_vector_reach_the_unet(model: DreamLayer) -> None:
    with torch.no_grad():
        rows = model.encode([PROMPTS])[0].rows
        latents = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        said = model.predict(latents, 500, rows)
        assert rows.pooled is not None
        swapped = model.predict(latents, 500, replace(rows, pooled=rows.pooled.flip(0)))
    changed = (said - swapped).flatten(1).abs().amax(1)
    assert bool((changed > 1e-4).all())


def test_a_picture_is_inverted_back_to_itself(model: DreamLayer) -> None:
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(2))
    found = decompose(
        model, picture, PROMPTS, sampling=SamplingConfig(steps=2, guidance=1.0), inversion=InversionConfig(method="exact", masked=False),
        attention=replace(METHOD, caca=False), views=1)
    clean = model.encode_pictures(picture[None])
    torch.testing.assert_close(found.result.latents[0], clean.expand(4, -1, -1, -1), rtol=1e-3, atol=1e-3)


# ---- precision


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 0.005), (torch.bfloat16, 0.04)])
def test_half_precision_is_near(files: Path, name: Name, dtype: torch.dtype, bound: float) -> None:
    """The method's latents and harmonised picture within 0.5 % of fp32's in fp16, 4 % in bf16; alphas within twice that."""
    wide, narrow = generate(load(files, name)), generate(load(files, name, dtype))

    def error(found: Tensor | None, expected: Tensor | None) -> float:
        assert found is not None and expected is not None
        return float((found - expected).norm() / expected.norm())

    assert 1e-5 < error(narrow.latents, wide.latents) < bound
    assert error(narrow.harmonized, wide.harmonized) < bound
    assert error(narrow.stacks[0].layers[1].alpha, wide.stacks[0].layers[1].alpha) < 2 * bound
