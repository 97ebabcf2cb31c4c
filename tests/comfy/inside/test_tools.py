"""The small tools on LAYERS, called as ComfyUI calls them."""

from __future__ import annotations

import math

import pytest
import torch
from comfy_extras.nodes_compositor import AddLayer, ImageCompositor, composite_outputs


def picture(width: int = 12, height: int = 8, channels: int = 3, frames: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(frames, height, width, channels, generator=torch.Generator().manual_seed(seed))


def add(layers, image, **options):
    return AddLayer.execute(image=image, layers=layers, **options).args[0]


def run(pack, node: str, **inputs):
    return pack[node].execute(**inputs).args


def test_every_input_and_output_is_explained(pack) -> None:
    for name in ("DreamLayerFlatten", "DreamLayerLayersToImages", "DreamLayerImagesToLayers", "DreamLayerDefringe"):
        schema = pack[name].GET_SCHEMA()
        assert schema.description and schema.display_name and schema.search_aliases
        assert all(part.tooltip and part.id for part in (*schema.inputs, *schema.outputs))
        assert schema.category == "DreamLayer/layers"


def test_flattening_is_equation_1(pack, core) -> None:
    ground, cup, glass = picture(), picture(channels=4, seed=1), picture(channels=4, seed=2)
    image, mask = run(pack, "DreamLayerFlatten", layers=add(add(add(None, ground), cup), glass))
    colors = torch.stack([p[0, ..., :3].permute(2, 0, 1) for p in (ground, cup, glass)])
    alphas = torch.stack([torch.ones(1, 8, 12), *(p[0, ..., 3:].permute(2, 0, 1) for p in (cup, glass))])
    expected = core("composite").composite(colors, alphas)
    torch.testing.assert_close(image[0].permute(2, 0, 1), expected)
    assert image.shape == (1, 8, 12, 3) and image.is_contiguous() and torch.equal(mask, torch.zeros(1, 8, 12))


def test_half_white_over_black_is_middle_gray_here_and_not_in_linear_light(pack, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("folder_paths.temp_directory", str(tmp_path))
    layers = add(add(None, torch.zeros(1, 2, 2, 3)), torch.ones(1, 2, 2, 3), opacity=0.5)
    assert float(run(pack, "DreamLayerFlatten", layers=layers)[0].mean()) == 0.5
    assert round(float(ImageCompositor.execute(layers=layers).args[0].mean()) * 255) == 188


def test_what_is_transparent_stays_transparent(pack) -> None:
    cup = picture(channels=4)
    image, mask = run(pack, "DreamLayerFlatten", layers=add(None, cup))
    torch.testing.assert_close(image, cup)
    torch.testing.assert_close(mask, 1 - cup[..., 3])
    # As in Create Layered Image: less than a thousandth of transparency is none.
    nearly = torch.cat([cup[..., :3], torch.full_like(cup[..., 3:], 1 - 5e-4)], dim=-1)
    image, mask = run(pack, "DreamLayerFlatten", layers=add(None, nearly))
    assert image.shape == composite_outputs(nearly)[0].shape and not mask.any()


def test_hidden_layers_and_blend_modes_count(pack, core) -> None:
    ground, shade = picture(), picture(seed=1)
    layers = add(add(None, ground), shade, blend_mode="multiply")
    assert torch.allclose(run(pack, "DreamLayerFlatten", layers=layers)[0], ground * shade, atol=1e-6)
    layers["layers"][1]["visible"] = False
    assert torch.equal(run(pack, "DreamLayerFlatten", layers=layers)[0], ground)
    with pytest.raises(core("errors").InputError, match="'glow' got blend mode 'color-dodge'"):
        run(pack, "DreamLayerFlatten", layers=add(layers, shade, blend_mode="color-dodge", name="glow"))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5000, 1)])
def test_any_size_is_flattened(pack, size) -> None:
    ground = picture(*size)
    assert torch.equal(run(pack, "DreamLayerFlatten", layers=add(None, ground))[0], ground)


def test_layers_come_apart_and_together(pack) -> None:
    images = picture(channels=4, frames=3)
    images[1:, :, :3, 3] = 0
    images[2, ..., 3] = 0
    images[0, ..., 3] = 1
    (layers,) = run(pack, "DreamLayerImagesToLayers", images=images, names="ground\nred/cup 🐱")
    assert [item["name"] for item in layers["layers"]] == ["ground", "red/cup 🐱", "Layer 3"]
    assert [tuple(item["image"].shape[1:3]) for item in layers["layers"]] == [(8, 12), (8, 9), (1, 1)]
    back, masks, names = run(pack, "DreamLayerLayersToImages", layers=layers)
    torch.testing.assert_close(back[..., 3], images[..., 3])
    torch.testing.assert_close(back[..., :3] * back[..., 3:], images[..., :3] * images[..., 3:])
    assert torch.equal(masks, 1 - back[..., 3]) and names == "ground\nred/cup 🐱\nLayer 3"


def test_pixels_are_taken_whatever_the_blend_mode(pack) -> None:
    cup = picture(channels=4)
    layers = add(None, cup, blend_mode="color-dodge", opacity=0.2)
    layers["layers"][0]["visible"] = False
    assert torch.equal(run(pack, "DreamLayerLayersToImages", layers=layers)[0], cup)


def test_layers_can_come_without_their_surroundings(pack) -> None:
    layers = add(add(None, picture(40, 30)), picture(5, 9, channels=4, seed=1) * 0.5 + 0.5, x=20, y=10)
    layers = add(layers, torch.zeros(1, 3, 3, 4), x=7)
    images, masks, _ = run(pack, "DreamLayerLayersToImages", layers=layers, full_canvas=False)
    assert images.shape == (3, 30, 40, 4)
    assert torch.equal(images[1, :9, :5], layers["layers"][1]["image"][0])
    assert not images[1, 9:, :, 3].any() and not images[1, :, 5:, 3].any() and not images[2, ..., 3].any()
    assert torch.equal(masks, 1 - images[..., 3])
    layers["layers"] = layers["layers"][1:]
    assert run(pack, "DreamLayerLayersToImages", layers=layers, full_canvas=False)[0].shape == (2, 9, 5, 4)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("masks", [1, 2])
def test_masks_make_pictures_transparent(pack, channels, masks) -> None:
    images, given = picture(channels=channels, frames=2), picture(frames=masks, seed=5)[..., 0]
    (layers,) = run(pack, "DreamLayerImagesToLayers", images=images, masks=given, names=None)
    _, found, _ = run(pack, "DreamLayerLayersToImages", layers=layers)
    alpha = images[..., 3] if channels == 4 else torch.ones(2, 8, 12)
    torch.testing.assert_close(found, 1 - alpha * (1 - given))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"images": picture(frames=2), "names": "a\nb\nc"}, "3 names for 2 images"),
        ({"images": picture(frames=3), "masks": torch.zeros(2, 8, 12)}, "2 masks for 3 images"),
        ({"images": picture() * math.nan}, "NaN"),
        ({"images": picture()[:0]}, "shape"),
        ({"images": picture(), "names": "\udcff"}, "Unicode"),
    ],
)
def test_pictures_that_make_no_layers_are_told(pack, core, inputs, said) -> None:
    with pytest.raises(core("errors").InputError, match=said):
        run(pack, "DreamLayerImagesToLayers", **inputs)


@pytest.mark.parametrize(("matte", "value"), [("gray", 0.5), ("white", 1.0), ("black", 0.0)])
def test_a_fringe_goes_away_and_placement_stays(pack, matte, value) -> None:
    alpha = torch.linspace(0, 1.5, 12).clamp(0, 1).expand(1, 12, 12)
    painted = torch.tensor([0.9, 0.2, 0.1]) * alpha[..., None] + value * (1 - alpha[..., None])
    layers = add(None, painted, mask=1 - alpha, name="cup", x=3, rotation=30.0, width=50, blend_mode="color-dodge")
    (clean,) = run(pack, "DreamLayerDefringe", layers=layers, matte=matte)
    (item,), (before,) = clean["layers"], layers["layers"]
    kept = {key for key in before if key not in ("image", "mask")}
    assert {key: item[key] for key in kept} == {key: before[key] for key in kept} and "mask" not in item
    torch.testing.assert_close(item["image"][..., 3], alpha)
    wrong = (item["image"][..., :3] - torch.tensor([0.9, 0.2, 0.1])).abs().amax(dim=-1)
    assert float(wrong[alpha > 0.1].max()) < 0.02
    assert before["image"] is painted  # inputs are shared with other nodes


def test_opaque_pixels_are_not_touched(pack) -> None:
    images = picture(frames=3)
    for matte in ("gray", "white", "black", "none"):
        (clean,) = run(pack, "DreamLayerDefringe", layers=add(None, images), matte=matte)
        assert torch.equal(clean["layers"][0]["image"][..., :3], images)


def test_an_unknown_matte_is_told(pack, core) -> None:
    with pytest.raises(core("errors").InputError, match="gray, white, black, none"):
        run(pack, "DreamLayerDefringe", layers=add(None, picture()), matte="green")
