import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from dreamlayer_core.adapter import LayerAdapter
from dreamlayer_core.attention.inversion import inversion_mask
from dreamlayer_core.config import TRAINING_FREE, LayerAttentionConfig, MapRefinement
from dreamlayer_core.diffusers_unet import find_sites, kv_projections, layer_attention
from dreamlayer_core.errors import InputError, WeightsError
from dreamlayer_core.layer_run import Half, LayerRun
from dreamlayer_core.prompts import LayeredEmbedding, TokenSpan

from .naive import Naive, naive_layers
from .tiny import (
    CACA_DOWNSCALE,
    CACA_SITE,
    CHANNELS,
    CONTEXT_THRESHOLD,
    sd15_shaped_unet,
    seeded,
    tiny_adapter,
    tiny_embedding,
    tiny_unet,
)

SIZE = (16, 16)
GRIDS = {256: (16, 16), 64: (8, 8), 16: (4, 4), 4: (2, 2)}
OFF = LayerAttentionConfig(caca=False, lssa=False)
ON = LayerAttentionConfig(downscale=CACA_DOWNSCALE, refinement=MapRefinement())  # the plain method, at the tiny UNet's stage
BOTH: tuple[Half, ...] = ("unconditional", "conditional")
EARLY, LATE = 900, 300  # on either side of T_G


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    return tiny_unet()


@pytest.fixture(scope="module")
def adapter(unet: UNet2DConditionModel) -> LayerAdapter:
    return LayerAdapter.from_weights(tiny_adapter(unet))


def _latents(rows: int, size: tuple[int, int] = SIZE, seed: int = 0) -> Tensor:
    return torch.randn(rows, 4, *size, generator=torch.Generator().manual_seed(seed))


def _text(embeddings: Sequence[LayeredEmbedding]) -> Tensor:
    return torch.cat([e.embeddings for e in embeddings])


def _stock(unet: UNet2DConditionModel, latents: Tensor, timestep: int, text: Tensor) -> Tensor:
    return cast(Any, unet)(latents, timestep, text).sample


def _call(
    unet: UNet2DConditionModel, run: LayerRun, latents: Tensor, timestep: int, text: Tensor,
    halves: tuple[Half, ...] = ("conditional",),
) -> Tensor:
    run.begin(timestep, (latents.shape[-2], latents.shape[-1]), halves)
    return _stock(unet, latents, timestep, text)


def _bound(
    unet: UNet2DConditionModel, latents: Tensor, timestep: int, embeddings: Sequence[LayeredEmbedding],
    config: LayerAttentionConfig = ON, adapter: LayerAdapter | None = None, **options: Any,
) -> Tensor:
    """The conditional output of whole stacks."""
    with torch.no_grad(), layer_attention(unet, embeddings, config, adapter, **options) as run:
        return _call(unet, run, latents, timestep, _text(embeddings))


def _processors(unet: UNet2DConditionModel) -> dict[str, Any]:
    return dict(unet.attn_processors)


def _same_objects(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(first[name] is second[name] for name in first)


# ---- where each part acts


def test_sites_of_the_tiny_unet(unet: UNet2DConditionModel) -> None:
    sites = find_sites(unet, CACA_DOWNSCALE)
    assert sites.context == (CACA_SITE,) and sites.context_channels == CHANNELS
    assert len(sites.all) == 2 * 10  # three down blocks of 1, the middle, three up blocks of 2
    assert len(sites.shared) == 6 and all(n.startswith("up_blocks.") and n.endswith("attn1") for n in sites.shared)


def test_sites_of_sd15s_shape() -> None:
    sites = find_sites(sd15_shaped_unet(), 4)
    assert sites.context == tuple(f"down_blocks.2.attentions.{j}.transformer_blocks.0.attn2" for j in (0, 1))
    assert len(sites.all) == 32 and len(sites.shared) == 9  # SD1.5: 16 transformer blocks, 9 of them in up blocks
    assert len(kv_projections(sd15_shaped_unet())) == 64


@pytest.mark.parametrize("downscale", [1, 3, 16])
def test_a_stage_that_the_unet_lacks_is_named(unet: UNet2DConditionModel, downscale: int) -> None:
    with pytest.raises(InputError, match=rf"downscale {downscale}; this UNet has cross-attention .* at \[2, 4, 8\]"):
        find_sites(unet, downscale)


# ---- off and undo


def test_switched_off_it_is_the_stock_unet_bit_by_bit(unet: UNet2DConditionModel) -> None:
    embeddings, latents, before = [tiny_embedding([1, 2])], _latents(4), _processors(unet)
    stock = _stock(unet, latents, EARLY, _text(embeddings))
    with layer_attention(unet, embeddings, OFF) as run:
        assert _same_objects(before, _processors(unet))
        assert torch.equal(_call(unet, run, latents, EARLY, _text(embeddings)), stock)


def test_a_switched_off_method_asks_for_no_stage(unet: UNet2DConditionModel) -> None:
    embeddings = [tiny_embedding([1])]
    _bound(unet, _latents(3), EARLY, embeddings, LayerAttentionConfig(caca=False, downscale=3))
    with pytest.raises(InputError, match="downscale 3"):
        _bound(unet, _latents(3), EARLY, embeddings, LayerAttentionConfig(lssa=False, downscale=3))


def test_leaving_restores_the_stock_unet_bit_by_bit(unet: UNet2DConditionModel, adapter: LayerAdapter) -> None:
    embeddings, latents, before = [tiny_embedding([1, 2])], _latents(4), _processors(unet)
    stock = _stock(unet, latents, EARLY, _text(embeddings))
    bound = _bound(unet, latents, EARLY, embeddings, ON, adapter)
    assert (bound - stock).abs().max() > 0.05
    assert _same_objects(before, _processors(unet))
    assert torch.equal(_stock(unet, latents, EARLY, _text(embeddings)), stock)


def test_so_does_an_error_inside(unet: UNet2DConditionModel, adapter: LayerAdapter) -> None:
    embeddings, latents, before = [tiny_embedding([1])], _latents(3), _processors(unet)
    stock = _stock(unet, latents, EARLY, _text(embeddings))
    with pytest.raises(ZeroDivisionError), layer_attention(unet, embeddings, ON, adapter) as run:
        _call(unet, run, latents, EARLY, _text(embeddings))
        raise ZeroDivisionError
    assert _same_objects(before, _processors(unet))
    assert torch.equal(_stock(unet, latents, EARLY, _text(embeddings)), stock)


def test_processors_that_are_modules_come_back_too(unet: UNet2DConditionModel) -> None:
    class Silent(nn.Module):
        def forward(self, attn: Any, hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
            return torch.zeros_like(hidden_states)

    own = copy.deepcopy(unet)
    site = cast(Any, own.get_submodule(find_sites(own, 2).shared[0]))
    site.set_processor(silent := Silent())
    _bound(own, _latents(3), EARLY, [tiny_embedding([1])])
    assert site.processor is silent


def test_a_run_keeps_nothing_when_it_is_left(unet: UNet2DConditionModel) -> None:
    embeddings = [tiny_embedding([1])]
    with torch.no_grad(), layer_attention(unet, embeddings, ON) as run:
        _call(unet, run, _latents(3), EARLY, _text(embeddings))
        assert run.context_map is not None
    assert run.context_map is None


def test_a_run_may_stand_inside_another(unet: UNet2DConditionModel, adapter: LayerAdapter) -> None:
    embeddings, latents, before = [tiny_embedding([1])], _latents(3), _processors(unet)
    with torch.no_grad(), layer_attention(unet, embeddings, ON) as run:
        alone = _call(unet, run, latents, EARLY, _text(embeddings))
        _bound(unet, latents, EARLY, embeddings, ON, adapter)
        assert torch.equal(_call(unet, run, latents, EARLY, _text(embeddings)), alone)
    assert _same_objects(before, _processors(unet))


# ---- against the naive loop


@pytest.mark.parametrize("halves", [1, 2])
@pytest.mark.parametrize("timestep", [EARLY, LATE])
@pytest.mark.parametrize("adapted", [False, True])
def test_the_method_equals_a_loop_over_rows(
    unet: UNet2DConditionModel, adapter: LayerAdapter, adapted: bool, timestep: int, halves: int
) -> None:
    embeddings = [tiny_embedding([1, 2]), tiny_embedding([3, 4], background=5)]
    text, latents = _text(embeddings), _latents(8)
    if halves == 2:
        text, latents = torch.cat([torch.zeros_like(text) + 0.1, text]), torch.cat([latents, latents])
    chosen = adapter if adapted else None
    naive = Naive(embeddings=embeddings, context_sites=(CACA_SITE,), grids=GRIDS, adapter=chosen,
                  fuses=timestep >= 850, halves=halves)
    with torch.no_grad(), naive_layers(unet, naive):
        expected = _stock(unet, latents, timestep, text)
    with torch.no_grad(), layer_attention(unet, embeddings, ON, chosen) as run:
        found = _call(unet, run, latents, timestep, text, BOTH[-halves:])
        assert run.context_map is not None
        maps = run.context_map
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for (stack, row), expected_map in naive.maps.items():
        torch.testing.assert_close(maps[stack, row - 1], expected_map, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("caca", "lssa"), [(True, False), (False, True)])
def test_so_does_each_part_alone(unet: UNet2DConditionModel, adapter: LayerAdapter, caca: bool, lssa: bool) -> None:
    embeddings, latents = [tiny_embedding([1, 2, 3])], _latents(5)
    naive = Naive(embeddings=embeddings, context_sites=(CACA_SITE,), grids=GRIDS, adapter=adapter, caca=caca, lssa=lssa)
    with torch.no_grad(), naive_layers(unet, naive):
        expected = _stock(unet, latents, EARLY, _text(embeddings))
    found = _bound(unet, latents, EARLY, embeddings, LayerAttentionConfig(caca=caca, lssa=lssa), adapter)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("adapted", [False, True])
def test_sd15s_shape_takes_the_same_path(adapted: bool) -> None:
    unet, embeddings, latents = sd15_shaped_unet(), [tiny_embedding([1, 2])], _latents(4)
    adapter = LayerAdapter.from_weights(tiny_adapter(unet, downscale=4, context_features=64)) if adapted else None
    sites = find_sites(unet, 4).context
    naive = Naive(embeddings=embeddings, context_sites=sites, grids=GRIDS, adapter=adapter)
    with torch.no_grad(), naive_layers(unet, naive):
        expected = _stock(unet, latents, EARLY, _text(embeddings))
    plain = LayerAttentionConfig(downscale=4, refinement=MapRefinement())
    with torch.no_grad(), layer_attention(unet, embeddings, plain, adapter) as run:
        found = _call(unet, run, latents, EARLY, _text(embeddings))
        assert run.context_map is not None and run.context_map.shape == (1, 2, 4, 4)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)  # 32 sharp attention layers amplify rounding


def test_so_does_an_sdxl_of_fewer_blocks() -> None:
    """SSD-1B's structure: stages of uneven depth, and no attention in the middle."""
    with seeded(2):
        unet = UNet2DConditionModel(
            sample_size=16, block_out_channels=(32, 32, 64), layers_per_block=2, mid_block_type=None, norm_num_groups=8,
            transformer_layers_per_block=cast(Any, ((0, 0), (2, 2), (4, 4))),
            reverse_transformer_layers_per_block=((4, 4, 10), (2, 1, 1), 1),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=CHANNELS,
            attention_head_dim=4).eval().requires_grad_(False)
    embeddings, latents, config = [tiny_embedding([1, 2])], _latents(4), LayerAttentionConfig(downscale=2, refinement=MapRefinement())
    naive = Naive(embeddings=embeddings, context_sites=find_sites(unet, 2).context, grids=GRIDS)
    with torch.no_grad(), naive_layers(unet, naive):
        expected = _stock(unet, latents, EARLY, _text(embeddings))
    torch.testing.assert_close(_bound(unet, latents, EARLY, embeddings, config), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(24, 8), (12, 20), (9, 13)])
def test_so_do_sizes_that_are_not_square_or_that_no_stage_divides(
    unet: UNet2DConditionModel, size: tuple[int, int]
) -> None:
    embeddings, latents = [tiny_embedding([1, 2])], _latents(4, size)
    grids, grid = dict[int, tuple[int, int]](), size
    for _ in range(4):
        grids[grid[0] * grid[1]] = grid
        grid = (grid[0] + 1) // 2, (grid[1] + 1) // 2
    naive = Naive(embeddings=embeddings, context_sites=(CACA_SITE,), grids=grids)
    with torch.no_grad(), naive_layers(unet, naive):
        expected = _stock(unet, latents, EARLY, _text(embeddings))
    torch.testing.assert_close(_bound(unet, latents, EARLY, embeddings), expected, rtol=1e-4, atol=1e-4)


def test_training_also_reads_the_foregrounds_own_maps(unet: UNet2DConditionModel, adapter: LayerAdapter) -> None:
    embeddings, latents = [tiny_embedding([1, 2]), tiny_embedding([3, 4])], _latents(8)
    naive = Naive(embeddings=embeddings, context_sites=(CACA_SITE,), grids=GRIDS, adapter=adapter)
    with torch.no_grad(), naive_layers(unet, naive):
        expected = _stock(unet, latents, EARLY, _text(embeddings))
    with torch.no_grad(), layer_attention(unet, embeddings, ON, adapter, training=True) as run:
        found = _call(unet, run, latents, EARLY, _text(embeddings))
        maps, own = run.context_map, run.foreground_map
    assert maps is not None and own is not None and own.shape == maps.shape == (2, 2, 8, 8)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    for (stack, row), expected_map in naive.foreground_maps.items():
        torch.testing.assert_close(own[stack, row - 1], expected_map, rtol=1e-4, atol=1e-4)
    for (stack, row), expected_map in naive.maps.items():
        torch.testing.assert_close(maps[stack, row - 1], expected_map, rtol=1e-4, atol=1e-4)


def test_every_part_of_an_adapter_learns(unet: UNet2DConditionModel, adapter: LayerAdapter) -> None:
    weights = adapter.weights()
    module = LayerAdapter(weights.settings, weights.shared_kv, weights.foreground_kv)
    module.context_layers.load_state_dict(dict(weights.context_layers))
    embeddings = [tiny_embedding([1, 2])]
    with layer_attention(unet, embeddings, ON, module, training=True) as run:
        output = _call(unet, run, _latents(4), EARLY, _text(embeddings))
        assert run.context_map is not None and run.foreground_map is not None
        (output.square().mean() + run.context_map.mean() + run.foreground_map.square().mean()).backward()  # pyright: ignore
    without = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    # layer-assign embeddings act through the text; K is free of a bias' direction only where softmax has one key
    assert without == ["layer_assign"]


# ---- adapters


def test_an_adapter_of_the_bases_own_weights_is_the_training_free_form(unet: UNet2DConditionModel) -> None:
    neutral = LayerAdapter.from_weights(tiny_adapter(unet, noise=0, num_context_layers=0))
    embeddings, latents = [tiny_embedding([1, 2])], _latents(4)
    for config in (ON, replace(ON, lssa=False), replace(ON, caca=False), OFF):
        found = _bound(unet, latents, EARLY, embeddings, config, neutral)
        torch.testing.assert_close(found, _bound(unet, latents, EARLY, embeddings, config), rtol=1e-4, atol=1e-5)


def test_shared_weights_alone_are_those_of_a_changed_unet(unet: UNet2DConditionModel) -> None:
    weights = tiny_adapter(unet, num_context_layers=0)
    weights = replace(weights, foreground_kv=weights.shared_kv)
    changed = copy.deepcopy(unet)
    for name, projection in kv_projections(changed).items():
        projection.data.copy_(weights.shared_kv[name])
    embeddings, latents, module = [tiny_embedding([1, 2])], _latents(4), LayerAdapter.from_weights(weights)
    torch.testing.assert_close(
        _bound(unet, latents, EARLY, embeddings, ON, module), _bound(changed, latents, EARLY, embeddings, ON),
        rtol=1e-4, atol=1e-4)
    with torch.no_grad(), layer_attention(unet, None, OFF, module) as run:  # a single row: harmonisation
        single = _call(unet, run, latents, LATE, _text(embeddings))
    torch.testing.assert_close(single, _stock(changed, latents, LATE, _text(embeddings)), rtol=1e-4, atol=1e-4)


def test_single_rows_without_an_adapter_are_stock(unet: UNet2DConditionModel) -> None:
    latents, text = _latents(2), _text([tiny_embedding([1])])[:2]
    with torch.no_grad(), layer_attention(unet, None, ON) as run:
        assert torch.equal(_call(unet, run, latents, EARLY, text), _stock(unet, latents, EARLY, text))


# ---- what mixes and what does not


def test_stacks_of_one_batch_do_not_mix(unet: UNet2DConditionModel, adapter: LayerAdapter) -> None:
    stacks = [tiny_embedding([1, 2]), tiny_embedding([3, 4], background=5), tiny_embedding([6, 7], background=8)]
    latents = _latents(12)
    together = _bound(unet, latents, EARLY, stacks, ON, adapter)
    for index, stack in enumerate(stacks):
        own = slice(4 * index, 4 * index + 4)
        torch.testing.assert_close(
            together[own], _bound(unet, latents[own], EARLY, [stack], ON, adapter), rtol=1e-4, atol=1e-4)


def test_halves_of_guidance_do_not_mix_but_share_the_map(unet: UNet2DConditionModel, adapter: LayerAdapter) -> None:
    embeddings, latents = [tiny_embedding([1, 2])], _latents(4)
    text = _text(embeddings)
    empty = torch.full_like(text, 0.1)
    with torch.no_grad(), layer_attention(unet, embeddings, ON, adapter) as run:
        both = _call(unet, run, torch.cat([latents, latents]), EARLY, torch.cat([empty, text]), BOTH)
        other = _call(unet, run, torch.cat([latents, latents]), EARLY, torch.cat([-empty, text]), BOTH)
        conditional = _call(unet, run, latents, EARLY, text)
        unconditional = _call(unet, run, latents, EARLY, empty, ("unconditional",))
    torch.testing.assert_close(both[4:], other[4:], rtol=1e-4, atol=1e-5)
    assert (both[:4] - other[:4]).abs().max() > 0.01
    torch.testing.assert_close(both[4:], conditional, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(both[:4], unconditional, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("timestep", [EARLY, LATE])
def test_permuting_foregrounds_permutes_their_outputs_and_nothing_else(
    unet: UNet2DConditionModel, adapter: LayerAdapter, timestep: int
) -> None:
    latents, order = _latents(5), [0, 3, 1, 2, 4]
    plain = _bound(unet, latents, timestep, [tiny_embedding([1, 2, 3])], ON, adapter)
    permuted = _bound(unet, latents[order], timestep, [tiny_embedding([3, 1, 2])], ON, adapter)
    torch.testing.assert_close(permuted, plain[order], rtol=1e-4, atol=1e-4)


def test_context_maps_change_the_foregrounds_alone(unet: UNet2DConditionModel) -> None:
    """Eq. 9 leaves background and global row as they are: without shared attention, they are the stock UNet's."""
    embeddings, latents = [tiny_embedding([1, 2])], _latents(4)
    stock = _stock(unet, latents, EARLY, _text(embeddings))
    found = _bound(unet, latents, EARLY, embeddings, replace(ON, lssa=False))
    torch.testing.assert_close(found[[0, 3]], stock[[0, 3]], rtol=1e-4, atol=1e-5)
    assert all((found[row] - stock[row]).abs().max() > 0.01 for row in (1, 2))


def _touched(unet: UNet2DConditionModel, config: LayerAttentionConfig, row: int, **options: Any) -> list[bool]:
    """Which rows' outputs change with the latent of one row."""
    embeddings, latents = [tiny_embedding([1, 2])], _latents(4)
    changed = latents.clone()
    changed[row] = _latents(1, seed=9)[0]
    first = _bound(unet, latents, EARLY, embeddings, config, **options)
    second = _bound(unet, changed, EARLY, embeddings, config, **options)
    return [bool((a - b).abs().max() > 1e-4) for a, b in zip(first, second, strict=True)]


def test_who_sees_whom(unet: UNet2DConditionModel, adapter: LayerAdapter) -> None:
    assert _touched(unet, OFF, 1, adapter=adapter) == [False, True, False, False]
    caca = replace(ON, lssa=False)
    assert _touched(unet, caca, 1) == [False, True, False, False]
    assert _touched(unet, caca, 3) == [False, True, True, True]
    assert all(_touched(unet, replace(ON, caca=False), 1))
    assert all(_touched(unet, ON, 0))


def test_under_the_inversion_mask_no_layer_disturbs_the_global_row(unet: UNet2DConditionModel) -> None:
    lssa = replace(ON, caca=False)
    assert _touched(unet, lssa, 1, mask=inversion_mask) == [False, True, False, False]
    assert _touched(unet, lssa, 1, mask=partial(inversion_mask, queries="global")) == [True, True, True, False]
    assert all(_touched(unet, lssa, 3, mask=inversion_mask))


# ---- the map and its threshold


def test_maps_are_fused_only_while_t_is_at_least_the_threshold(
    unet: UNet2DConditionModel, adapter: LayerAdapter
) -> None:
    embeddings, latents = [tiny_embedding([1, 2])], _latents(4)
    lssa = replace(ON, caca=False)
    for threshold, config, chosen in (
        (850, ON, None), (CONTEXT_THRESHOLD, ON, adapter), (400, replace(ON, context_threshold=400), adapter),
    ):
        below = _bound(unet, latents, threshold - 1, embeddings, config, chosen)
        at = _bound(unet, latents, threshold, embeddings, config, chosen)
        torch.testing.assert_close(
            below, _bound(unet, latents, threshold - 1, embeddings, lssa, chosen), rtol=1e-4, atol=1e-5)
        assert (at - _bound(unet, latents, threshold, embeddings, lssa, chosen)).abs().max() > 0.01


def test_a_gate_fuses_the_stacks_that_it_names(unet: UNet2DConditionModel, adapter: LayerAdapter) -> None:
    """Training mixes timesteps in one batch: the gate stands in for the threshold, stack by stack."""
    stacks, latents = [tiny_embedding([1, 2]), tiny_embedding([3, 4])], _latents(8)
    with torch.no_grad(), layer_attention(unet, stacks, ON, adapter) as run:
        run.gate = torch.tensor([1.0, 0.0])
        gated = _call(unet, run, latents, LATE, _text(stacks))
    always, never = replace(ON, context_threshold=0), replace(ON, caca=False)
    fused = _bound(unet, latents[:4], LATE, stacks[:1], always, adapter)
    torch.testing.assert_close(gated[:4], fused, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        gated[4:], _bound(unet, latents[4:], LATE, stacks[1:], never, adapter), rtol=1e-4, atol=1e-4)
    assert (fused - _bound(unet, latents[:4], LATE, stacks[:1], never, adapter)).abs().max() > 0.01


@pytest.mark.parametrize(
    "refinement", [MapRefinement(), MapRefinement(smoothing=1), MapRefinement(floor=0.3, self_attention=1), TRAINING_FREE])
def test_maps_lie_between_zero_and_one_and_reach_both(unet: UNet2DConditionModel, refinement: MapRefinement) -> None:
    embeddings = [tiny_embedding([1, 2]), tiny_embedding([3, 4])]
    with torch.no_grad(), layer_attention(unet, embeddings, replace(ON, refinement=refinement)) as run:
        _call(unet, run, _latents(8), LATE, _text(embeddings))
        assert run.context_map is not None and run.context_map.shape == (2, 2, 8, 8)
        assert torch.equal(run.context_map.amin((-2, -1)), torch.zeros(2, 2))
        assert torch.equal(run.context_map.amax((-2, -1)), torch.ones(2, 2))


def test_a_foreground_without_words_is_not_fused(unet: UNet2DConditionModel) -> None:
    embedding = tiny_embedding([1, 2])
    silent = replace(embedding, global_spans=tuple(TokenSpan(s.start, 0) for s in embedding.global_spans))
    latents, lssa = _latents(4), replace(ON, caca=False)
    torch.testing.assert_close(
        _bound(unet, latents, EARLY, [silent]), _bound(unet, latents, EARLY, [silent], lssa), rtol=1e-4, atol=1e-5)


# ---- errors


def test_stacks_of_different_heights_are_refused(unet: UNet2DConditionModel) -> None:
    with pytest.raises(InputError, match=r"stacks of \[4, 3\] rows; batch stacks of one height"):
        _bound(unet, _latents(7), EARLY, [tiny_embedding([1, 2]), tiny_embedding([1])])
    with pytest.raises(InputError, match=r"stacks of \[\] rows"), layer_attention(unet, []):
        pass


def test_an_adapter_of_another_model_is_refused(unet: UNet2DConditionModel, adapter: LayerAdapter) -> None:
    before = _processors(unet)
    other = LayerAdapter.from_weights(tiny_adapter(sd15_shaped_unet(), downscale=4, context_features=64))
    with pytest.raises(WeightsError, match=r"missing shared_kv\..*made for another model"):
        _bound(unet, _latents(3), EARLY, [tiny_embedding([1])], OFF, other)
    weights = adapter.weights()
    cut = {name: w[:, :-1] if name == f"{CACA_SITE}.to_v" else w for name, w in weights.shared_kv.items()}
    shorter = LayerAdapter(weights.settings, cut, weights.foreground_kv)
    with pytest.raises(WeightsError, match=rf"shared_kv\.{CACA_SITE}\.to_v has shape \(32, 31\), expected \(32, 32\)"):
        _bound(unet, _latents(3), EARLY, [tiny_embedding([1])], OFF, shorter)
    assert _same_objects(before, _processors(unet))


def test_context_layers_for_other_features_are_refused(unet: UNet2DConditionModel) -> None:
    other = LayerAdapter.from_weights(tiny_adapter(unet, context_features=64))
    with pytest.raises(WeightsError, match="read 64 channels, but this UNet's CACA stage has 32"):
        _bound(unet, _latents(3), EARLY, [tiny_embedding([1])], LayerAttentionConfig(), other)
    unread = LayerAdapter.from_weights(tiny_adapter(unet, context_features=64, num_context_layers=0))
    _bound(unet, _latents(3), EARLY, [tiny_embedding([1])], LayerAttentionConfig(), unread)


def test_latents_of_another_size_than_announced_are_refused(unet: UNet2DConditionModel) -> None:
    embeddings = [tiny_embedding([1])]
    with torch.no_grad(), layer_attention(unet, embeddings, ON) as run:
        run.begin(EARLY, (10, 10))
        with pytest.raises(InputError, match="no stage of a 10x10 latent has 64 tokens"):
            _stock(unet, _latents(3), EARLY, _text(embeddings))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_threshold": 1001}, "T_G 1001"),
        ({"downscale": 0}, "downscale of 0"),
    ],
)
def test_unusable_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LayerAttentionConfig(**options)
