"""Image prompts against diffusers' own IP-Adapter, row by row, on the same file."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from dreamlayer_core.config import LayerAttentionConfig, SamplingConfig
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.errors import InputError, WeightsError
from dreamlayer_core.guidance import Guided
from dreamlayer_core.image_encoder import clip_pixels, embed_picture, load_image_encoder
from dreamlayer_core.image_prompts import (
    ImageAdapter,
    image_additions,
    image_attention,
    load_image_adapter,
    read_image_adapter,
)
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.row_weights import Additions, RowAddition, RowDelta, joined_additions

from .tiny import CHANNELS, LATENT_SIDE, sd15_shaped_unet, seeded, tiny_unet

PROMPTS = LayerPrompts("a hill", ("a ball", "a box"), negative="gray")
ALONE = LayerAttentionConfig(caca=False, lssa=False)
EMBEDDING, TOKENS, ROWS = 24, 4, 4
UNETS = {"tiny": tiny_unet, "SD1.5's structure": sd15_shaped_unet}


def _published(widths: Sequence[int], *, context: int = CHANNELS, embedding: int = EMBEDDING, tokens: int = TOKENS) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the base form."""
    shapes: dict[str, tuple[int, ...]] = {
        "image_proj.proj.weight": (tokens * context, embedding), "image_proj.proj.bias": (tokens * context,),
        "image_proj.norm.weight": (context,), "image_proj.norm.bias": (context,)}
    for place, width in enumerate(widths):
        shapes |= {f"ip_adapter.{2 * place + 1}.to_{part}_ip.weight": (width, context) for part in "kv"}
    return shapes


def _drawn(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    with seeded(seed):
        return {name: torch.randn(shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 1) for name, shape in shapes.items()}


def _crossed(unet: UNet2DConditionModel) -> dict[str, nn.Module]:
    modules: Any = cast(Any, unet).named_modules()
    return {name: module for name, module in modules if name.endswith("attn2")}


def _file(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """The layers of diffusers' `attn_processors`, in their order."""
    names = [name for name in cast(Any, unet).attn_processors if "attn2" in name]
    widths = [int(cast(Any, unet.get_submodule(name.removesuffix(".processor"))).to_q.out_features) for name in names]
    return _drawn(_published(widths))


@pytest.fixture(scope="module", params=UNETS.values(), ids=UNETS)
def model(request: pytest.FixtureRequest, tiny_dreamlayer: DreamLayer) -> DreamLayer:
    return replace(tiny_dreamlayer, adapter=None, unet=request.param())


@pytest.fixture(scope="module")
def picture() -> Tensor:
    """Embeddings of two pictures, which count together."""
    return _drawn({"e": (2, EMBEDDING)}, 5)["e"] * 5


def _latents(stacks: int = 1) -> Tensor:
    return _drawn({"z": (stacks, ROWS, 4, LATENT_SIDE, LATENT_SIDE)}, 6)["z"] * LATENT_SIDE**0.5


def _guided(model: DreamLayer, additions: Additions, *, joint: bool = True, stacks: int = 1) -> Tensor:
    sampling = SamplingConfig(guidance=3.0, joint_guidance=joint)
    embeddings = model.encode([PROMPTS] * stacks)
    with torch.no_grad(), layer_attention(model.unet, embeddings, ALONE, additions=additions) as run:
        return Guided(model, run, embeddings, [PROMPTS] * stacks, sampling)(_latents(stacks), 500)


def _additions(model: DreamLayer, picture: Tensor, row: Any = 1, **settings: Any) -> dict[str, list[RowAddition]]:
    prompt = read_image_adapter(_file(model.unet)).prompt(picture)
    return image_additions(_crossed(model.unet), prompt, row, **settings)


def _with_diffusers(unet: UNet2DConditionModel, tensors: Mapping[str, Tensor], scale: float) -> Any:
    told: Any = copy.deepcopy(unet)
    parts = {part: {name.removeprefix(f"{part}."): w for name, w in tensors.items() if name.startswith(f"{part}.")}
             for part in ("image_proj", "ip_adapter")}
    told._load_ip_adapter_weights([parts], low_cpu_mem_usage=False)
    for processor in told.attn_processors.values():
        if hasattr(processor, "to_k_ip"):
            processor.scale = [scale]
    return told


def _reference(model: DreamLayer, told: Any, picture: Tensor, row: int) -> Tensor:
    """One row with guidance, as diffusers' pipelines run an IP-Adapter: zeros in the unconditional half."""
    embeddings = model.encode([PROMPTS])
    texts = [model.negative([PROMPTS], ROWS, embeddings[0].length).embeddings[row], embeddings[0].embeddings[row]]
    with torch.no_grad():
        negative, positive = (
            told(_latents()[0, row][None], 500, text[None], added_cond_kwargs={"image_embeds": [image[None]]}).sample
            for text, image in zip(texts, (torch.zeros_like(picture), picture), strict=True))
    return (negative + 3.0 * (positive - negative))[0]


@pytest.mark.parametrize("joint", [True, False], ids=["in one call", "in two"])
def test_a_row_is_what_diffusers_makes_of_it(model: DreamLayer, picture: Tensor, joint: bool) -> None:
    plain, found = (_guided(model, one, joint=joint) for one in ({}, _additions(model, picture, strength=0.7)))
    expected = _reference(model, _with_diffusers(model.unet, _file(model.unet), 0.7), picture, 1)
    torch.testing.assert_close(found[0, 1], expected, rtol=1e-4, atol=1e-4)
    assert float((found - plain)[0, 1].abs().max()) > 0.1, "the picture says nothing"
    assert torch.equal(found[0, [0, 2, 3]], plain[0, [0, 2, 3]])


def test_rows_of_every_stack(model: DreamLayer, picture: Tensor) -> None:
    found, alone = (_guided(model, _additions(model, picture, 2), stacks=stacks) for stacks in (2, 1))
    plain = _guided(model, {}, stacks=2)
    assert torch.equal(found[:, [0, 1, 3]], plain[:, [0, 1, 3]]) and float((found - plain)[:, 2].abs().amax((1, 2, 3)).min()) > 0.1
    assert not torch.isclose(found[0, 2], alone[0, 2]).all(), "other noise, so another output"


def test_weights_of_the_same_row_count_for_the_picture_too(model: DreamLayer, picture: Tensor) -> None:
    """As merged into the layers: queries and outputs of the picture's attention are the row's own."""
    deltas, merged = dict[str, list[RowAddition]](), copy.deepcopy(model.unet)
    for number, name in enumerate(_crossed(model.unet)):
        for part in ("to_q", "to_k", "to_out.0"):
            weight = cast(Any, merged.get_submodule(f"{name}.{part}")).weight
            delta = _drawn({"w": tuple(weight.shape)}, 100 + number)["w"] * 0.3
            deltas[f"{name}.{part}"] = [RowDelta(rows=1, up=delta)]
            weight.add_(delta)
    found = _guided(model, joined_additions(_additions(model, picture), deltas))
    told = _with_diffusers(merged, _file(model.unet), 1.0)
    torch.testing.assert_close(found[0, 1], _reference(model, told, picture, 1), rtol=1e-4, atol=1e-4)
    assert not torch.isclose(found[0, 1], _guided(model, _additions(model, picture))[0, 1], atol=1e-2).all()


def test_several_prompts_add_up(model: DreamLayer, picture: Tensor) -> None:
    """With the other's strength at 0 each is what it is alone."""
    other = picture.flip(0) + 1
    both, first = (_guided(model, joined_additions(_additions(model, picture), _additions(model, other, strength=strength)))
                   for strength in (1.0, 0.0))
    assert torch.equal(first, _guided(model, _additions(model, picture)))
    assert not torch.isclose(both[0, 1], first[0, 1], atol=1e-2).all()


@pytest.mark.parametrize("settings", [{"strength": 0.0}, {"halves": lambda: None}])
def test_switched_off_every_bit_stays(model: DreamLayer, picture: Tensor, settings: dict[str, Any]) -> None:
    assert torch.equal(_guided(model, _additions(model, picture, **settings)), _guided(model, {}))


def test_generate_gives_the_picture_to_its_layer_alone(tiny_dreamlayer: DreamLayer, picture: Tensor) -> None:
    def latents(additions: Additions) -> Tensor:
        return tiny_dreamlayer.generate(
            PROMPTS, seed=2, sampling=SamplingConfig(steps=2, guidance=3.0), attention=ALONE, views=1, additions=additions).latents

    plain, found = latents({}), latents(additions := _additions(tiny_dreamlayer, picture))
    assert torch.equal(found[:, [0, 2, 3]], plain[:, [0, 2, 3]]) and not torch.isclose(found[:, 1], plain[:, 1], atol=0.05).all()
    assert all(cast(Any, one).part.query is None for own in additions.values() for one in own)
    assert torch.equal(latents({}), plain)


def test_attention_is_a_weighted_mean_of_values() -> None:
    query, key, value = (_drawn({"x": (2, tokens, 6)}, seed)["x"] for tokens, seed in ((10, 1), (3, 2), (3, 3)))
    found = image_attention(query.unflatten(1, (2, 5)), key, value, 2)
    for stack in range(2):
        for head in (slice(0, 3), slice(3, 6)):
            weights = (query[stack, :, head] @ key[stack, :, head].T / 3**0.5).softmax(-1)
            torch.testing.assert_close(found[stack].flatten(0, 1)[:, head], weights @ value[stack, :, head])


# ---- files

SD15 = [320] * 4 + [640] * 4 + [1280] * 4  # which layer has which width matters to no reader


@pytest.mark.parametrize(("shapes", "layers", "width"), [
    (_published(SD15 + [1280] * 4, context=768, embedding=1024), 16, 1024),
    (_published([640] * 10 + [1280] * 60, context=2048, embedding=1280), 70, 1280),
    (_published([640] * 10 + [1280] * 60, context=2048, embedding=1024), 70, 1024),
], ids=["ip-adapter_sd15", "ip-adapter_sdxl", "ip-adapter_sdxl_vit-h"])
def test_published_names_and_shapes(shapes: dict[str, tuple[int, ...]], layers: int, width: int) -> None:
    adapter = read_image_adapter({name: torch.empty(shape, device="meta", dtype=torch.float16) for name, shape in shapes.items()})
    assert len(adapter.keys) == len(adapter.values) == layers
    assert adapter.projection.proj.in_features == width and adapter.projection.proj.out_features == 4 * shapes["image_proj.norm.weight"][0]


def test_a_file_is_read_in_its_own_precision(tmp_path: Path, picture: Tensor) -> None:
    tensors = _drawn(_published([32, 32]))
    save_file({name: tensor.half() for name, tensor in tensors.items()}, path := tmp_path / "ip-adapter.safetensors")
    found, expected = (one.prompt(picture) for one in (load_image_adapter(path), read_image_adapter(tensors)))
    for one, other in zip((*found.keys, *found.values), (*expected.keys, *expected.values), strict=True):
        assert one.shape == (2, 2 * TOKENS, 32) and one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02)


def _changed(name: str, shape: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, Any] = _published([32, 32]) | {name: shape}
    return {name: shape for name, shape in shapes.items() if shape is not None}


@pytest.mark.parametrize(("name", "shape", "words"), [
    ("image_proj.latents", (1, 16, 32), "of the form Plus, which reads all patches of a picture; give one of the base form (ip-adapter_sd15,"),
    ("image_proj.proj.3.weight", (32,), "of the form Full Face"),
    ("image_proj.proj.0.weight", (64, 512), "of the form FaceID, which goes by a face's identity"),
    ("ip_adapter.1.to_q_lora.down.weight", (8, 32), "of the form FaceID"),
    ("image_proj.perceiver_resampler.proj_in.weight", (8, 32), "of the form FaceID Plus"),
    ("ip_adapter.1.to_v_ip.weight", None, "missing ip_adapter.1.to_v_ip.weight"),
    ("ip_adapter.3.to_k_ip.weight", None, "missing ip_adapter.3.to_k_ip.weight"),
    ("ip_adapter.2.to_k_ip.weight", (32, 32), "unexpected ip_adapter.2.to_k_ip.weight"),
    ("ip_adapter.3.to_v_ip.weight", (16, 32), "ip_adapter.3.to_v_ip.weight has shape (16, 32), expected (32, 32)"),
    ("ip_adapter.3.to_k_ip.weight", (), "ip_adapter.3.to_k_ip.weight has shape (), expected (0, 32)"),
    ("image_proj.proj.weight", (100, EMBEDDING), "image_proj.proj.weight has shape (100, 24), expected (96, 24)"),
    ("image_proj.norm.weight", None, "missing image_proj.norm.weight; the file is incomplete, or no IP-Adapter for Stable Diffusion"),
])
def test_other_files_are_refused_with_a_reason(name: str, shape: tuple[int, ...] | None, words: str, tmp_path: Path) -> None:
    save_file(_drawn(_changed(name, shape)), path := tmp_path / "file.safetensors")
    with pytest.raises(WeightsError, match=re.escape(words)) as error:
        load_image_adapter(path)
    assert str(error.value).startswith(str(path))


def test_files_that_are_no_ip_adapter_at_all(tmp_path: Path) -> None:
    save_file({"lora_unet_mid.lora_up.weight": torch.zeros(4, 4)}, path := tmp_path / "lora.safetensors")
    with pytest.raises(WeightsError, match="this is a LoRA; give an IP-Adapter"):
        load_image_adapter(path)


def _adapter(**settings: Any) -> ImageAdapter:
    return read_image_adapter(_drawn(_published(**({"widths": [CHANNELS] * 10} | settings))))


@pytest.mark.parametrize(("settings", "words"), [
    ({"widths": [32] * 9}, "for 9 cross-attention layers, but this UNet has 10"),
    ({"context": 64}, "for text embeddings of 64 channels, but this UNet takes 32"),
])
def test_of_another_base(settings: dict[str, Any], words: str, tiny_dreamlayer: DreamLayer, picture: Tensor) -> None:
    with pytest.raises(WeightsError, match=words):
        image_additions(_crossed(tiny_dreamlayer.unet), _adapter(**settings).prompt(picture), 1)


def test_of_other_widths(tiny_dreamlayer: DreamLayer, picture: Tensor) -> None:
    additions = image_additions(_crossed(tiny_dreamlayer.unet), _adapter(widths=[64] * 10).prompt(picture), 1)
    with pytest.raises(WeightsError, match="an image prompt of 64 channels for queries of 32"):
        tiny_dreamlayer.generate(PROMPTS, additions=additions)


@pytest.mark.parametrize("strength", [-0.1, 11.0, float("nan")])
def test_strengths_have_a_range(strength: float, tiny_dreamlayer: DreamLayer, picture: Tensor) -> None:
    with pytest.raises(InputError, match="for an image prompt; give 0"):
        image_additions(_crossed(tiny_dreamlayer.unet), _adapter().prompt(picture), 1, strength=strength)


@pytest.mark.parametrize("shape", [(1, 25), (24,), (0, 24)])
def test_embeddings_of_another_encoder(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=re.escape(f"got embeddings of shape {shape}, expected 24 channels a picture; encode it with")):
        _adapter().prompt(torch.zeros(shape))


# ---- the picture's encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8, projection_dim=EMBEDDING)
    with seeded(9):
        model: Any = CLIPVisionModelWithProjection(config)
    model.save_pretrained(folder := tmp_path_factory.mktemp("encoder"))
    return folder


@pytest.mark.parametrize("size", [(32, 32), (50, 40), (33, 97), (500, 64)])
def test_pixels_are_those_of_clip(size: tuple[int, int]) -> None:
    with seeded(3):
        pixels = (torch.rand(3, size[1], size[0]) * 255).round().to(torch.uint8)
    image = Image.fromarray(pixels.movedim(0, -1).numpy())
    processor: Any = cast(Any, CLIPImageProcessor)(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    expected = torch.as_tensor(processor(image, return_tensors="np")["pixel_values"])
    found = clip_pixels(pixels / 255, 32)
    assert found.shape == (1, 3, 32, 32) and float((found - expected).abs().mean()) < 0.02, "of about 1: eight bits and rounding apart"


def test_a_folder_encodes_a_picture(encoder: Path) -> None:
    picture = _drawn({"p": (3, 40, 60)}, 1)["p"].sigmoid()
    found = embed_picture(load_image_encoder(encoder), picture)
    reference: Any = cast(Any, CLIPVisionModelWithProjection).from_pretrained(encoder).eval()
    torch.testing.assert_close(found, reference(clip_pixels(picture, 32)).image_embeds)
    assert found.shape == (1, EMBEDDING)


def test_folders_of_other_models(tiny_folder: Path, tmp_path: Path) -> None:
    for folder, words in ((tmp_path / "none", "config.json: cannot be read"), (tiny_folder / "text_encoder", "a model of type clip_text_model")):
        with pytest.raises(WeightsError, match=words):
            load_image_encoder(folder)
