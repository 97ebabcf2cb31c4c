"""Many layers and large pictures: bounded attention, approximated keys, and tiles."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from dreamlayer_core.attention.inversion import inversion_mask
from dreamlayer_core.cli.request import GenerateRequest
from dreamlayer_core.config import LayerAttentionConfig, TilingConfig
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.errors import InputError
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayeredEmbedding, LayerPrompts
from dreamlayer_core.scenes import make_scene
from dreamlayer_core.tiles import decode_tiles, tile_spans, vae_in_tiles

from .command_line import Run
from .tiny import CACA_DOWNSCALE, sd15_shaped_unet, tiny_embedding, tiny_unet, tiny_vae

SIZES = [(16, 16), (10, 14), (6, 22)]  # cells; odd at deeper stages
EXACT = LayerAttentionConfig(downscale=CACA_DOWNSCALE)
SMALL_TILES = TilingConfig(above=64, tile=128, overlap=32)


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return tiny_unet()


@torch.no_grad()
def _step(
    unet: UNet2DConditionModel, embeddings: list[LayeredEmbedding], latents: Tensor, config: LayerAttentionConfig,
    **options: Any,
) -> Tensor:
    """Both halves of the guidance at a noise level where context maps act; two stacks."""
    text = torch.cat([e.embeddings for e in embeddings])
    with layer_attention(unet, embeddings, config, **options) as run:
        run.begin(900, (latents.shape[-2], latents.shape[-1]), ("unconditional", "conditional"))
        return cast(Any, unet)(torch.cat([latents, latents]), 900, torch.cat([text.flip(0), text])).sample


def _two_stacks(size: tuple[int, int]) -> tuple[list[LayeredEmbedding], Tensor]:
    embeddings = [tiny_embedding([1, 2]), tiny_embedding([3, 4], background=5)]
    return embeddings, torch.randn(8, 4, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
def test_bounded_attention_is_the_same(unet: UNet2DConditionModel, size: tuple[int, int], backend: SDPBackend) -> None:
    stacks = _two_stacks(size)
    with sdpa_kernel(backend):
        exact = _step(unet, *stacks, EXACT)
        bounded = _step(unet, *stacks, replace(EXACT, attention_memory=1))
    torch.testing.assert_close(bounded, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_regions_of_every_cell_are_exact(unet: UNet2DConditionModel, size: tuple[int, int]) -> None:
    stacks = _two_stacks(size)
    everywhere = replace(EXACT, cross_keys="region", region_threshold=0.0)
    torch.testing.assert_close(_step(unet, *stacks, everywhere), _step(unet, *stacks, EXACT), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "size"), [(tiny_unet, SIZES[1]), (tiny_unet, SIZES[2]), (sd15_shaped_unet, SIZES[1])])
@pytest.mark.parametrize("keys", ["pooled", "region"])
def test_approximated_keys_go_by_every_stack_and_half(shape: Any, size: tuple[int, int], keys: Any) -> None:
    unet, (embeddings, latents) = shape(), _two_stacks(size)
    config = replace(EXACT, cross_keys=keys, region_threshold=0.3)
    exact, found = _step(unet, embeddings, latents, EXACT), _step(unet, embeddings, latents, config)
    assert not torch.allclose(found, exact, atol=1e-3)
    alone = _step(unet, embeddings[1:], latents[4:], config)
    torch.testing.assert_close(found[12:], alone[4:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("keys", ["exact", "pooled", "region"])
def test_under_the_inversion_mask_the_global_row_is_alone(unet: UNet2DConditionModel, keys: Any) -> None:
    embeddings, latents = _two_stacks((10, 14))
    config = replace(EXACT, cross_keys=keys)
    mask = partial(inversion_mask, queries="global")
    found = _step(unet, embeddings, latents, config, mask=mask)
    disturbed = latents.clone()
    disturbed[[0, 1, 2]] += 1
    again = _step(unet, embeddings, disturbed, config, mask=mask)
    assert torch.equal(again[[3, 7, 11, 15]], found[[3, 7, 11, 15]])
    assert not torch.allclose(again[:3], found[:3], atol=1e-2)


def test_regions_need_context_maps() -> None:
    with pytest.raises(InputError, match="by region with CACA off"):
        LayerAttentionConfig(cross_keys="region", caca=False)
    with pytest.raises(InputError, match="give one of exact, pooled, region"):
        LayerAttentionConfig(cross_keys=cast(Any, "tiled"))


# ---- tiles

@pytest.mark.parametrize("multiple", [1, 8, 64])
@pytest.mark.parametrize("tiling", [TilingConfig(), TilingConfig(tile=256, overlap=32), TilingConfig(tile=100, overlap=99)])
def test_tiles_cover_a_side_and_overlap(tiling: TilingConfig, multiple: int) -> None:
    for length in range(multiple, 4096, multiple * 7):
        spans = tile_spans(length, tiling, multiple)
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(start % multiple == stop % multiple == 0 for start, stop in spans)
        assert all(b[0] > a[0] and a[1] - b[0] >= tiling.overlap for a, b in zip(spans, spans[1:], strict=False))
        assert len({stop - start for start, stop in spans}) == 1
        assert len(spans) == 1 or spans[0][1] <= max(tiling.tile, -(-tiling.overlap // multiple) * multiple + multiple)


@pytest.mark.parametrize("size", [(64, 96), (48, 200), (8, 8)])
def test_blended_tiles_of_what_does_not_look_around_are_exact(size: tuple[int, int]) -> None:
    picture = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    latent = picture[..., ::4, ::4]

    def decode(picture: Tensor, latent: Tensor) -> Tensor:
        return torch.cat([picture * 2, latent.repeat_interleave(4, -2).repeat_interleave(4, -1)], 1)

    tiled = decode_tiles(decode, picture, latent, TilingConfig(tile=40, overlap=12), 8)
    torch.testing.assert_close(tiled, decode(picture, latent))


def test_an_edge_between_tiles_is_a_ramp() -> None:
    calls = iter(range(2))
    black = torch.zeros(1, 1, 8, 64)
    tiled = decode_tiles(lambda picture, _: picture + next(calls), black, black, TilingConfig(tile=40, overlap=16), 8)
    steps = tiled[0, 0, 0].diff()
    assert float(tiled.min()) == 0 and float(tiled.max()) == 1 and bool((steps >= 0).all()) and float(steps.max()) < 0.08


def test_only_large_pictures_are_decoded_in_tiles_and_the_vae_is_as_before() -> None:
    vae = cast(Any, tiny_vae())
    before = (vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size, vae.tile_overlap_factor)
    with vae_in_tiles(vae, (64, 64), 4, SMALL_TILES):
        assert not vae.use_tiling
    with pytest.raises(InputError), vae_in_tiles(vae, (64, 65), 4, SMALL_TILES):
        assert (vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size) == (True, 128, 32)
        raise InputError("")
    assert before == (vae.use_tiling, vae.tile_sample_min_size, vae.tile_latent_min_size, vae.tile_overlap_factor)
    assert not TilingConfig(above=None).splits((4096, 4096))


@pytest.mark.parametrize(("tile", "overlap"), [(96, 40), (48, 40), (50, 13), (8, 1), (5, 4)])
def test_any_tiles_of_the_vae_make_up_the_whole_picture(tile: int, overlap: int) -> None:
    vae, flat = cast(Any, tiny_vae()), torch.ones(1, 3, 128, 96)
    before = vae.encode(flat).latent_dist.mean
    with torch.no_grad(), vae_in_tiles(vae, (128, 96), 4, TilingConfig(above=64, tile=tile, overlap=overlap)):
        latent = vae.encode(flat).latent_dist.mean
        assert latent.shape == before.shape and vae.decode(latent).sample.shape == flat.shape


def test_tiling_differs_little_from_decoding_whole(embedded: DreamLayer) -> None:
    """Four tiles of a 224-pixel picture by trained weights: an object's colours on gray, and its alpha."""
    scene = make_scene(0, size=(224, 224), foregrounds=1, split="test")
    color, truth = torch.from_numpy(scene.colors[0]).movedim(-1, 0).float(), torch.from_numpy(scene.alphas[0]).float()
    picture = (color * truth + 0.5 * (1 - truth))[None]
    tiled = replace(embedded, tiling=SMALL_TILES)
    latents = embedded.encode_pictures(picture)
    whole, parts = embedded.decode_pictures(latents), tiled.decode_pictures(latents)
    assert 0 < float((parts - whole).abs().mean()) < 0.03
    decode = partial(embedded.decoder.decode, whole, latents / float(embedded.vae.config["scaling_factor"]), views=1)
    alphas = [decode(tiling=tiling)[0, 3] for tiling in (None, SMALL_TILES)]
    assert 0 < float((alphas[0] - alphas[1]).abs().mean()) < 0.01
    errors = [float((alpha - truth).abs().mean()) for alpha in alphas]
    assert errors[1] < errors[0] + 0.003
    assert float((tiled.encode_pictures(picture) - latents).abs().mean() / latents.abs().mean()) < 0.25


LAYERS = ("--background", "a hill", "--foreground", "a red ball", "--no-harmonize", "--views", "1", "--steps", "4")


def test_the_command_line_bounds_memory(tiny_folder: Path, tmp_path: Path) -> None:
    """Chunks of queries change nothing but rounding; tiles do change what these random weights decode to."""
    saved = list[Path]()
    for name, options in (("plain", ()), ("chunks", ("--attention-memory", "1")), ("tiles", ("--tile", "32"))):
        line = ("generate", *LAYERS, "--model", tiny_folder, *options, "--json", "--out", tmp_path / name)
        settings = Run(tmp_path, *line).json()["settings"]
        assert [settings["attention_memory"], settings["tile"]] == {"plain": [None, None], "chunks": [1, None], "tiles": [None, 32]}[name]
        saved.append(tmp_path / name / "composite.png")
    plain, chunks, tiles = (torch.from_numpy(np.asarray(Image.open(path)).astype(np.float32)) for path in saved)
    assert (chunks - plain).abs().max() <= 1
    request = GenerateRequest(background="a hill", foregrounds=("a ball",), attention_memory=1, out=tmp_path)
    assert request.attention.attention_bytes == 2**20  # of which other tests say what it does
    assert (tiles - plain).abs().mean() > 1


@pytest.mark.parametrize(("options", "words"), [
    (("--tile", "1"), ("tiles of 1 pixels",)), (("--tile", "0"), ("tiles above 0 pixels",)), (("--attention-memory", "0"), ("attention-memory",))])
def test_unusable_bounds_are_told_before_the_model_is_loaded(
    tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    Run(tmp_path, "generate", *LAYERS, *options, "--model", tmp_path / "no-model").assert_fails(2, *words)


PROMPTS = LayerPrompts("a sandy beach on a clear day", ("a blue cube", "a shiny yellow duck", "a red mug"))


@pytest.mark.parametrize(("config", "least", "most"), [
    ({"cross_keys": "pooled"}, 0.0, 0.07), ({"cross_keys": "region"}, 0.0, 0.13), ({"lssa": False}, 0.05, 1.0)])
def test_what_approximated_keys_cost_the_embedded_model(
    embedded: DreamLayer, config: dict[str, Any], least: float, most: float
) -> None:
    """Relative change of its output for four layers half-way through, where scenes are noised."""
    pictures = torch.stack([torch.from_numpy(make_scene(seed, size=(128, 128)).picture).movedim(-1, 0) for seed in range(5)])
    clean, noise = embedded.encode_pictures(pictures.float()), torch.randn(5, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    latents, embeddings = embedded.schedule.add_noise(clean, noise, 500), embedded.encode([PROMPTS])

    def step(config: LayerAttentionConfig) -> Tensor:
        with torch.no_grad(), layer_attention(embedded.unet, embeddings, config, embedded.adapter) as run:
            run.begin(500, (32, 32))
            return embedded.predict(latents, 500, embeddings[0].rows)

    exact, found = step(LayerAttentionConfig()), step(LayerAttentionConfig(**config))
    assert least < float((found - exact).norm() / exact.norm()) < most


@pytest.fixture(scope="module")
def embedded() -> DreamLayer:
    return DreamLayer.from_files("embedded")
