from typing import Any

import pytest
import torch
from torch import Tensor

from dreamlayer_core.attention.shared import resize_map
from dreamlayer_core.attention.steering import ContextSteering, box_mask, steer_latents, steer_maps, steering_part
from dreamlayer_core.config import LayerAttentionConfig
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.errors import InputError
from dreamlayer_core.layer_run import LayerRun

from .tiny import CACA_DOWNSCALE, tiny_embedding, tiny_unet

CONFIG = LayerAttentionConfig(downscale=CACA_DOWNSCALE, context_threshold=500)


def _maps() -> Tensor:
    return torch.rand(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))


def _mask(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


# ---- the equation


def test_without_steering_the_maps_are_the_same_object() -> None:
    maps = _maps()
    assert steer_maps(maps, {}) is maps


@pytest.mark.parametrize("mode", ["override", "multiply"])
@pytest.mark.parametrize("shape", [(4, 6), (2, 4, 6), (12, 18), (3, 3)])
def test_one_layers_map_is_replaced_or_limited(mode: Any, shape: tuple[int, ...]) -> None:
    maps, mask = _maps(), _mask(*shape)
    before = maps.clone()
    steered = steer_maps(maps, {2: ContextSteering(mask=mask, mode=mode)})
    small = resize_map(mask, (4, 6)).expand(2, 4, 6)
    assert torch.equal(steered[:, 1], small if mode == "override" else small * maps[:, 1])
    assert torch.equal(steered[:, [0, 2]], maps[:, [0, 2]]) and torch.equal(maps, before)
    assert 0 <= float(steered.min()) and float(steered.max()) <= 1


def test_a_box_covers_its_pixels_and_parts_of_others() -> None:
    mask = box_mask([(1, 2, 3, 1)], 6, 4)
    assert mask.nonzero().tolist() == [[2, 1], [2, 2], [2, 3]] and float(mask.sum()) == 3
    part = box_mask([(0.5, 0, 1, 0.5)], 3, 2)
    assert part.tolist() == [[0.25, 0.25, 0.0], [0.0, 0.0, 0.0]]
    assert torch.equal(box_mask([(0, 0, 2, 2), (4, 0, 9, 9)], 6, 2), torch.tensor([[1.0, 1, 0, 0, 1, 1]] * 2))
    assert torch.equal(box_mask([(-5, -5, 50, 50)], 6, 4), torch.ones(4, 6))


@pytest.mark.parametrize("box", [(6, 0, 2, 2), (-3, 0, 3, 3), (1, 1, 0, 5), (1, 1, -2, 5), (float("nan"), 0, 1, 1)])
def test_a_box_beside_the_picture_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(InputError, match="for a picture of 6x4 pixels; give x,y,width,height"):
        box_mask([box], 6, 4)


@pytest.mark.parametrize(("mask", "words"), [
    (torch.ones(4), "shape"), (torch.ones(0, 4), "shape"), (torch.full((2, 2), 255.0), "values from 255 to 255"),
    (torch.full((2, 2), -0.1), "give 0 to 1"), (torch.full((2, 2), torch.nan), "give 0 to 1")])
def test_masks_of_other_kinds_are_refused(mask: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ContextSteering(mask=mask)
    with pytest.raises(InputError, match="override, multiply"):
        ContextSteering(mask=torch.ones(2, 2), mode="add")


# ---- in a UNet


def _call(timestep: int, **options: Any) -> tuple[Tensor, Tensor]:
    """The output of the tiny UNet for one stack of two foregrounds, and its context map."""
    unet, embedding = tiny_unet(), tiny_embedding([1, 2])
    latents = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), layer_attention(unet, [embedding], options.pop("config", CONFIG), **options) as run:
        run.begin(timestep, (16, 16))
        output = unet(latents, timestep, embedding.embeddings).sample
        return output, _map_of(run)


def _map_of(run: LayerRun) -> Tensor:
    assert run.context_map is not None
    return run.context_map.clone()


def test_no_steering_is_bit_identical() -> None:
    (plain, maps), (same, same_maps) = _call(900), _call(900, steering={})
    assert torch.equal(plain, same) and torch.equal(maps, same_maps)


def test_multiplying_by_one_and_overriding_by_itself_change_nothing() -> None:
    plain, maps = _call(900)
    assert torch.equal(_call(900, steering={1: ContextSteering(mask=torch.ones(16, 16), mode="multiply")})[0], plain)
    torch.testing.assert_close(_call(900, steering={2: ContextSteering(mask=maps[:, 1])})[0], plain)


@pytest.mark.parametrize("mode", ["override", "multiply"])
def test_the_steered_map_is_what_fuses_the_rows(mode: Any) -> None:
    plain, maps = _call(900)
    steering = {1: ContextSteering(mask=box_mask([(8, 8, 8, 8)], 16, 16), mode=mode)}
    output, steered = _call(900, steering=steering)
    assert torch.equal(steered, steer_maps(maps, steering)) and not torch.equal(steered, maps)
    assert not torch.allclose(output, plain, atol=1e-4)


def test_below_the_threshold_the_map_is_not_used() -> None:
    steering = {1: ContextSteering(mask=torch.zeros(16, 16))}
    assert torch.equal(_call(400, steering=steering)[0], _call(400)[0])
    assert not torch.equal(_call(600, steering=steering)[0], _call(600)[0])


@pytest.mark.parametrize(("layer", "words"), [(0, "the background has no context map"), (3, "there are 2 foregrounds"), (-1, "layer -1")])
def test_layers_without_a_map_are_refused(layer: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        _call(900, steering={layer: ContextSteering(mask=torch.ones(2, 2))})


def test_steering_needs_caca_and_fitting_stacks() -> None:
    off = LayerAttentionConfig(caca=False)
    with pytest.raises(InputError, match="context-aware cross-attention is off"):
        _call(900, config=off, steering={1: ContextSteering(mask=torch.ones(2, 2))})
    with pytest.raises(InputError, match="got 3 masks for layer 1 of 1 stacks"):
        _call(900, steering={1: ContextSteering(mask=torch.ones(3, 2, 2))})


def test_masks_of_a_picture_lie_over_its_latents() -> None:
    """At another size than the picture's, and 0 where the latents reach beyond it."""
    steering = {2: ContextSteering(mask=torch.ones(20, 30), mode="multiply")}
    found = steer_latents(steering, (30, 20), (60, 40), (64, 64))[2]
    assert found.mode == "multiply" and found.mask.shape == (64, 64)
    assert bool((found.mask[:40, :60] == 1).all()) and float(found.mask.sum()) == 2400
    with pytest.raises(InputError, match="got a mask for layer 2 of 30x20 for a picture of 40x40 pixels; give its shape"):
        steer_latents(steering, (40, 40), (40, 40), (64, 64))


@pytest.mark.parametrize("shape", [(3, 8, 12), (8, 12)])
def test_a_part_of_the_stacks_and_of_the_area(shape: tuple[int, ...]) -> None:
    mask = _mask(*shape)
    whole = steering_part({1: ContextSteering(mask=mask)}, [0, 1, 2])[1].mask
    part = steering_part({1: ContextSteering(mask=mask)}, [2, 0], (2, 3, 1, 2), scale=2)[1].mask
    assert torch.equal(whole, mask)
    expected = mask[[2, 0]] if mask.ndim == 3 else mask
    assert torch.equal(part, expected[..., 2:6, 4:10])
