from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamlayer_core.attention.steering import ContextSteering
from dreamlayer_core.composite import flatten
from dreamlayer_core.config import (
    HarmonizationConfig,
    InversionConfig,
    LayerAttentionConfig,
    PictureFit,
    SamplingConfig,
)
from dreamlayer_core.decomposition import Decomposition, canvas_size, decompose
from dreamlayer_core.errors import Cancelled, InputError
from dreamlayer_core.inversion import relative_error
from dreamlayer_core.picture_fit import fit_stack
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.sampling import FINAL, Step
from dreamlayer_core.schedule import NoiseSchedule

from .tiny import sd15_shaped_unet

PROMPTS = LayerPrompts("a green hill", ("a red ball", "a blue box"), whole="a ball and a box", negative="blur")
OTHER = LayerPrompts("a wall", ("a cup", "a very tall vase"))
QUICK = SamplingConfig(steps=4, guidance=3.0)


def _picture(width: int = 64, height: int = 64, seed: int = 0) -> Tensor:
    small = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear")[0]


def _decompose(
    model: DreamLayer, picture: Tensor | None = None, prompts: LayerPrompts | list[LayerPrompts] = PROMPTS,
    inversion: Mapping[str, Any] | None = None, **options: Any,
) -> Decomposition:
    settings: dict[str, Any] = {"sampling": QUICK, "views": 1, "inversion": InversionConfig(**(inversion or {})), **options}
    return decompose(model, _picture() if picture is None else picture, prompts, **settings)


@pytest.fixture(scope="module")
def plain(tiny_dreamlayer: DreamLayer) -> Decomposition:
    return _decompose(tiny_dreamlayer)


# ---- what comes out


def test_a_decomposition_is_a_result_with_its_picture(plain: Decomposition) -> None:
    result, (stack,) = plain.result, plain.result.stacks
    assert (stack.width, stack.height, stack.global_prompt) == (64, 64, PROMPTS.whole)
    assert [layer.prompt for layer in stack.layers] == list(PROMPTS.layers)
    assert [layer.seed for layer in stack.layers] == [None] * 3
    assert result.harmonized is None and result.trajectory.latents == {}
    assert result.context_maps is not None and result.context_maps.shape == (1, 2, 8, 8)
    assert torch.equal(plain.pictures, _picture()[None])
    assert plain.inversion.noise.shape == result.latents.shape == (1, 4, 4, 16, 16)
    assert set(result.timings) == {"encode", "invert", "sample", "decode", "harmonize"}


def test_layers_are_held_to_their_pictures_on_request(tiny_dreamlayer: DreamLayer) -> None:
    """Two pictures of a size that the latents reach beyond: each by its own maps, where they lie on it."""
    pictures = torch.stack([_picture(72, 56, seed) for seed in (0, 1)])
    line: dict[str, Any] = {"picture": pictures, "prompts": [PROMPTS, OTHER], "size": (72, 56)}
    sampled, fitted = _decompose(tiny_dreamlayer, **line).result, _decompose(tiny_dreamlayer, **line, fit=PictureFit()).result
    assert torch.equal(sampled.latents, fitted.latents) and sampled.context_maps is not None
    whole = [4 * side for side in sampled.latents.shape[-2:]]
    assert (whole[1], whole[0]) != (72, 56)
    large = torch.nn.functional.interpolate(sampled.context_maps, whole, mode="bilinear")[..., :56, :72]
    for picture, maps, before, after in zip(pictures, large, sampled.stacks, fitted.stacks, strict=True):
        margin = whole[0] // sampled.context_maps.shape[-2] // 2
        assert torch.equal(flatten(after), flatten(fit_stack(before, picture, maps, margin=margin)))
        error = (flatten(after) - picture).abs().mean()
        assert error < 0.02 < (flatten(before) - picture).abs().mean()


def test_all_rows_start_as_the_same_picture(plain: Decomposition, tiny_dreamlayer: DreamLayer) -> None:
    start = plain.inversion.trajectory.latents[FINAL]
    encoded = tiny_dreamlayer.encode_pictures(_picture()[None])
    assert torch.equal(start, encoded[:, None].expand_as(start))


def test_replayed_the_whole_is_the_picture_through_the_vae(plain: Decomposition, tiny_dreamlayer: DreamLayer) -> None:
    encoded = tiny_dreamlayer.encode_pictures(_picture()[None])
    assert torch.equal(plain.result.latents[:, -1], encoded)
    with torch.no_grad():
        assert torch.equal(plain.result.global_picture, tiny_dreamlayer.decode_pictures(encoded))


@pytest.mark.parametrize("method", ["ddim", "fixed-point", "exact"])
def test_every_method_gives_layers_of_its_own(method: str, plain: Decomposition, tiny_dreamlayer: DreamLayer) -> None:
    found = _decompose(tiny_dreamlayer, inversion={"method": method, "iterations": 4})
    assert bool(torch.isfinite(found.result.latents).all())
    assert not torch.allclose(found.result.latents, plain.result.latents, atol=1e-3)
    assert found.inversion.config.method == method


def test_exact_at_one_guidance_finds_the_picture_in_every_row(tiny_dreamlayer: DreamLayer) -> None:
    """Where the layers are sampled by the very model that inverted them, nothing is taken apart."""
    found = _decompose(
        tiny_dreamlayer, inversion={"method": "exact", "masked": False, "guidance": 3.0}).result.latents
    assert float((found - tiny_dreamlayer.encode_pictures(_picture()[None])[:, None]).abs().max()) < 1e-6


def test_the_mask_matters_and_can_be_switched_off(plain: Decomposition, tiny_dreamlayer: DreamLayer) -> None:
    def noise(**inversion: Any) -> Tensor:
        return _decompose(tiny_dreamlayer, inversion=inversion).inversion.noise

    masked, unmasked, narrow = plain.inversion.noise, noise(masked=False), noise(mask_queries="global")
    assert not torch.allclose(masked[:, -1], unmasked[:, -1], atol=1e-3)
    torch.testing.assert_close(masked[:, -1], narrow[:, -1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(masked[:, 0], narrow[:, 0], atol=1e-3)


def test_pictures_of_a_batch_do_not_mix(tiny_dreamlayer: DreamLayer) -> None:
    pictures = torch.stack([_picture(), _picture(seed=1)])
    both = _decompose(tiny_dreamlayer, pictures, [PROMPTS, OTHER])
    for index, prompts in enumerate((PROMPTS, OTHER)):
        alone = _decompose(tiny_dreamlayer, pictures[index], prompts)
        # Inverting tenfolds rounding with each of these long steps; after it there is nothing left to compare.
        assert relative_error(both.inversion.noise[index : index + 1], alone.inversion.noise) < 2e-3
        assert both.result.stacks[index].layers[1].prompt == prompts.foregrounds[0]
    assert relative_error(both.inversion.noise[:1], both.inversion.noise[1:]) > 0.1


@pytest.mark.parametrize("method", ["replay", "exact"])
def test_a_model_of_stable_diffusions_shape(method: str, tiny_dreamlayer: DreamLayer) -> None:
    model = replace(tiny_dreamlayer, unet=sd15_shaped_unet(), adapter=None, schedule=NoiseSchedule())
    found = _decompose(model, inversion={"method": method})
    assert bool(torch.isfinite(found.result.latents).all())
    assert found.result.context_maps is not None and found.result.context_maps.shape == (1, 2, 16, 16)


def test_harmonisation_and_the_trajectory_on_request(plain: Decomposition, tiny_dreamlayer: DreamLayer) -> None:
    found = _decompose(tiny_dreamlayer, harmonization=HarmonizationConfig(), keep_all=True)
    assert torch.equal(found.result.latents, plain.result.latents)
    assert found.result.harmonized is not None and found.result.harmonized.shape == (1, 3, 64, 64)
    assert set(found.result.trajectory.latents) == {*NoiseSchedule().timesteps(4), FINAL}
    assert _decompose(tiny_dreamlayer, inversion={"method": "exact"}, harmonization=HarmonizationConfig()).result.harmonized is not None


def test_both_stages_are_told_and_may_be_stopped(tiny_dreamlayer: DreamLayer) -> None:
    steps = list[Step]()
    _decompose(tiny_dreamlayer, on_step=steps.append)
    assert [(s.stage, s.index) for s in steps] == [(stage, i) for stage in ("invert", "layers") for i in range(4)]

    def stop(step: Step) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        _decompose(tiny_dreamlayer, on_step=stop)
    processors = {type(p).__module__.split(".")[0] for p in tiny_dreamlayer.unet.attn_processors.values()}
    assert processors == {"diffusers"}


# ---- sizes


@pytest.mark.parametrize(("picture", "size", "expected"), [
    ((64, 64), None, (64, 64)), ((30, 20), None, (30, 20)), ((640, 640), None, (64, 64)), ((128, 32), None, (128, 32)),
    ((4000, 1000), None, (128, 32)), ((100, 50), (50, 25), (50, 25)), ((100, 50), (201, 100), (201, 100)),
    ((99, 33), (50, 17), (50, 17))])
def test_the_canvas_has_the_pictures_shape(
    picture: tuple[int, int], size: tuple[int, int] | None, expected: tuple[int, int], tiny_dreamlayer: DreamLayer
) -> None:
    assert canvas_size(tiny_dreamlayer, picture, size) == expected


@pytest.mark.parametrize("size", [(64, 64), (50, 30), (25, 50)])
def test_a_size_of_another_shape_is_refused(size: tuple[int, int], tiny_dreamlayer: DreamLayer) -> None:
    with pytest.raises(InputError, match=f"got a size of {size[0]}x{size[1]} for a picture of 100x50 pixels; give its shape"):
        canvas_size(tiny_dreamlayer, (100, 50), size)


@pytest.mark.parametrize(("picture", "size"), [((70, 50), None), ((17, 90), None), ((200, 100), (40, 20)), ((20, 20), (72, 72))])
def test_layers_have_the_size_of_the_canvas(
    picture: tuple[int, int], size: tuple[int, int] | None, tiny_dreamlayer: DreamLayer
) -> None:
    found = _decompose(tiny_dreamlayer, _picture(*picture), sampling=SamplingConfig(steps=2), size=size)
    width, height = size or picture
    assert found.pictures.shape == found.result.global_picture.shape == (1, 3, height, width)
    assert all(layer.rgba.shape == (4, height, width) for layer in found.result.stacks[0].layers)


def test_a_picture_smaller_than_any_canvas_is_refused_or_enlarged(tiny_dreamlayer: DreamLayer) -> None:
    with pytest.raises(InputError, match="got a picture of 9x9 pixels, .* sides of 16 to 4096; .* --size 16x16"):
        _decompose(tiny_dreamlayer, _picture(9, 9))
    assert _decompose(tiny_dreamlayer, _picture(9, 9), size=(36, 36)).result.stacks[0].width == 36


@pytest.mark.parametrize(("picture", "words"), [
    ((4000, 20), "got a picture of 4000x20 pixels, of which the layers would have 905x5, .* such as --size 3200x16"),
    ((20, 4000), "--size 16x3200"), ((9000, 20), "cut it to a less narrow shape")])
def test_a_narrow_picture_is_told_what_to_do(picture: tuple[int, int], words: str, tiny_dreamlayer: DreamLayer) -> None:
    with pytest.raises(InputError, match=words):
        canvas_size(tiny_dreamlayer, picture)
    if "--size" in words:
        size = (picture[0] * 4 // 5, picture[1] * 4 // 5)
        assert canvas_size(tiny_dreamlayer, picture, size) == size


# ---- steering


def test_masks_reach_the_map_at_its_place(plain: Decomposition, tiny_dreamlayer: DreamLayer) -> None:
    mask = torch.zeros(64, 64)
    mask[:32] = 1
    found = _decompose(tiny_dreamlayer, steering={2: ContextSteering(mask=mask)}).result
    assert found.context_maps is not None and plain.result.context_maps is not None
    assert bool((found.context_maps[0, 1, :3] == 1).all() and (found.context_maps[0, 1, 5:] == 0).all())
    assert not torch.equal(found.latents[:, :-1], plain.result.latents[:, :-1])
    assert torch.equal(found.latents[:, -1], plain.result.latents[:, -1])  # replayed


def test_a_mask_ends_where_the_picture_does(tiny_dreamlayer: DreamLayer) -> None:
    """Latents reach beyond a picture of 40 pixels, to 64."""
    found = _decompose(tiny_dreamlayer, _picture(40, 64), steering={1: ContextSteering(mask=torch.ones(64, 40))}).result
    assert found.context_maps is not None
    assert bool((found.context_maps[0, 0, :, :4] == 1).all() and (found.context_maps[0, 0, :, 6:] == 0).all())


@pytest.mark.parametrize("shape", [(128, 128), (32, 32), (1, 64, 64)])
def test_masks_of_the_pictures_shape_fit_at_any_size(shape: tuple[int, ...], tiny_dreamlayer: DreamLayer) -> None:
    found = _decompose(tiny_dreamlayer, steering={1: ContextSteering(mask=torch.ones(shape))}).result
    assert found.context_maps is not None and bool((found.context_maps[0, 0] == 1).all())


@pytest.mark.parametrize(("steering", "words"), [
    ({1: torch.ones(64, 32)}, "got a mask for layer 1 of 32x64 for a picture of 64x64 pixels"),
    ({1: torch.ones(4, 5)}, "layer 1 of 5x4 for a picture of 64x64 pixels; give its shape, such as 5x5"),
    ({0: torch.ones(64, 64)}, "the background has no context map"),
    ({3: torch.ones(64, 64)}, "there are 2 foregrounds; give layers 1 to 2")])
def test_masks_that_do_not_fit_are_refused(
    steering: dict[int, Tensor], words: str, tiny_dreamlayer: DreamLayer
) -> None:
    with pytest.raises(InputError, match=words):
        _decompose(tiny_dreamlayer, steering={layer: ContextSteering(mask=mask) for layer, mask in steering.items()})


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (2, 5), (3, 9)])
def test_a_small_mask_must_have_the_pictures_shape_too(height: int, width: int, tiny_dreamlayer: DreamLayer) -> None:
    with pytest.raises(InputError, match=f"of {width}x{height} for a picture of 64x16 pixels; give its shape"):
        _decompose(tiny_dreamlayer, _picture(64, 16), steering={1: ContextSteering(mask=torch.ones(height, width))})


def test_steering_needs_caca(tiny_dreamlayer: DreamLayer) -> None:
    with pytest.raises(InputError, match="context-aware cross-attention is off"):
        _decompose(tiny_dreamlayer, attention=LayerAttentionConfig(caca=False),
                   steering={1: ContextSteering(mask=torch.ones(64, 64))})


# ---- what is refused


@pytest.mark.parametrize(("pictures", "words"), [
    (torch.zeros(4, 64, 64), "got pictures of shape"), (torch.zeros(2, 3, 64, 64), "for 1 prompts"),
    (torch.zeros(64, 64), "got pictures of shape"), (torch.full((3, 64, 64), 200.0), "values beyond 0 to 1"),
    (torch.full((3, 64, 64), torch.nan), "or NaN"), (torch.zeros(3, 0, 64), "got pictures of shape")])
def test_pictures_of_other_kinds_are_refused(pictures: Tensor, words: str, tiny_dreamlayer: DreamLayer) -> None:
    with pytest.raises(InputError, match=words):
        _decompose(tiny_dreamlayer, pictures)


def test_settings_are_checked_before_the_first_step(tiny_dreamlayer: DreamLayer) -> None:
    steps = list[Step]()
    for wrong in ({"views": 3}, {"harmonization": HarmonizationConfig(high=10, low=5)}, {"prompts": []}):
        options: dict[str, Any] = {"on_step": steps.append, **wrong}
        with pytest.raises(InputError):
            _decompose(tiny_dreamlayer, **options)
    assert [step.stage for step in steps] == []
