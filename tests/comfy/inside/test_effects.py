"""Effects Layer, Remove Effects Layers and Recompose Check, called as ComfyUI calls them, against the core."""

from __future__ import annotations

import math

import pytest
import torch
from comfy_extras.nodes_compositor import ImageCompositor

SIDE = 128


def run(pack, node: str, **inputs):
    return pack[f"DreamLayer{node}"].execute(**inputs).args


def image(*pictures: torch.Tensor) -> torch.Tensor:
    return torch.stack(pictures).permute(0, 2, 3, 1).contiguous()


def eight_bits(picture: torch.Tensor) -> torch.Tensor:
    return (picture * 255).round()


@pytest.fixture(scope="module")
def scene(core):
    """Stack and picture with shadows of a true scene, by seed."""
    layers, evaluation, scenes = core("layers"), core("evaluation.pictures"), core("scenes")

    def made(seed: int):
        drawn = scenes.make_scene(seed, split="test")
        truth = evaluation.true_pictures(drawn)[0]
        ground = layers.Layer(name="ground", color=truth.background, alpha=torch.ones(1, SIDE, SIDE), prompt="grass")
        objects = [layers.Layer(name=f"object {i}", color=color, alpha=alpha[None])
                   for i, (color, alpha) in enumerate(zip(truth.colors, truth.alphas, strict=True), 1)]
        return layers.LayerStack(width=SIDE, height=SIDE, layers=(ground, *objects)), truth.whole

    return made


@pytest.fixture(scope="module")
def document(module):
    return lambda *stacks: module("nodes.documents").layers_from_stacks(stacks)


@pytest.fixture(scope="module")
def stacks(module):
    return module("nodes.documents").stacks_from_layers


@pytest.mark.parametrize("seed", range(3))
def test_effects_are_those_of_the_core_and_merge_to_the_picture(pack, core, scene, document, stacks, seed) -> None:
    stack, picture = scene(seed)
    (layers,) = run(pack, "Effects", layers=document(stack), harmonized=image(picture))
    found, effects = stacks(layers)[0], core("effects")
    wanted = effects.with_effects(stack, effects.find_effects(stack, picture))
    assert [(one.name, one.blend_mode) for one in found.layers] == [(one.name, one.blend_mode) for one in wanted.layers]
    assert {"effects: shadows"} <= {one.name for one in found.layers} and found.background.prompt == "grass"
    merged = core("composite").flatten(found)
    torch.testing.assert_close(merged, core("composite").flatten(wanted))
    _, psnr, _ = run(pack, "RecomposeCheck", layers=layers, image=image(picture))
    assert psnr >= 40
    before = run(pack, "RecomposeCheck", layers=document(stack), image=image(picture))[1]
    assert before < psnr


@pytest.mark.parametrize("seed", range(3))
def test_with_the_residual_the_layers_merge_bit_for_bit(pack, core, scene, document, seed) -> None:
    stack, picture = scene(seed)
    (layers,) = run(pack, "Effects", layers=document(stack), harmonized=image(picture), residual=True)
    assert layers["layers"][-1]["name"] == "residual"
    merged, _ = run(pack, "Flatten", layers=layers)
    assert torch.equal(eight_bits(merged[0]), eight_bits(image(picture)[0]))
    assert "equal in eight bits" in run(pack, "RecomposeCheck", layers=layers, image=image(picture))[2]


def test_effects_and_residual_come_off_again(pack, core, scene, document, stacks) -> None:
    stack, picture = scene(0)
    (layers,) = run(pack, "Effects", layers=document(stack), harmonized=image(picture), residual=True)
    (plain,) = run(pack, "RemoveEffects", layers=layers)
    found = stacks(plain)[0]
    assert [one.name for one in found.layers] == [one.name for one in stack.layers]
    assert float((core("composite").flatten(found) - core("composite").flatten(stack)).abs().max()) <= 1 / 255
    # Off means identical: what has no effects is passed on.
    plain["layers"][1] |= {"rotation": 0.3}
    assert run(pack, "RemoveEffects", layers=plain)[0] is plain


def test_effects_that_are_there_are_replaced(pack, scene, document) -> None:
    stack, picture = scene(1)
    once = run(pack, "Effects", layers=document(stack), harmonized=image(picture), residual=True)[0]
    twice = run(pack, "Effects", layers=once, harmonized=image(picture), residual=True)[0]
    assert [one["name"] for one in twice["layers"]] == [one["name"] for one in once["layers"]]


def test_layers_of_several_pictures_get_alike_layers(pack, core, scene, document) -> None:
    stack, picture = scene(0)
    flat = core("composite").flatten(stack)
    (layers,) = run(pack, "Effects", layers=document(stack, stack), harmonized=image(flat, picture))
    names = [one["name"] for one in layers["layers"]]
    assert names[1:3] == ["effects: shadows", "effects: lights"]
    assert names[-2:] == ["effects: shadows on objects", "effects: lights on objects"]
    assert all(len(one["image"]) == 2 for one in layers["layers"])
    difference, psnr, text = run(pack, "RecomposeCheck", layers=layers, image=image(flat, picture))
    assert difference.shape == (2, SIDE, SIDE, 3) and psnr >= 40 and len(text.splitlines()) == 2
    assert text.splitlines()[0].endswith("equal in eight bits")
    # One picture serves all.
    run(pack, "Effects", layers=document(stack, stack), harmonized=image(picture))


def test_create_layered_image_shows_the_effects(pack, core, scene, document, tmp_path, monkeypatch) -> None:
    """It mixes in linear light, but what is multiplied or screened there by opaque layers comes near."""
    monkeypatch.setattr("folder_paths.temp_directory", str(tmp_path))
    stack, picture = scene(0)
    (layers,) = run(pack, "Effects", layers=document(stack), harmonized=image(picture))
    shown = {name: ImageCompositor.execute(layers=one).args[0][0, ..., :3].permute(2, 0, 1)
             for name, one in (("plain", document(stack)), ("lit", layers))}
    psnr = core("evaluation.metrics").composite_psnr
    assert psnr(shown["lit"], picture)[0] > psnr(shown["plain"], picture)[0] + 3


def test_the_difference_is_amplified_and_measured(pack, document, scene, core) -> None:
    stack, _ = scene(0)
    picture = core("composite").flatten(stack)
    other = picture.clone()
    other[:, :16] = (other[:, :16] - 0.1).abs()
    difference, psnr, text = run(pack, "RecomposeCheck", layers=document(stack), image=image(other), amplify=4.0)
    torch.testing.assert_close(difference, image(((picture - other).abs() * 4).clamp(0, 1)))
    assert psnr == pytest.approx(core("evaluation.metrics").composite_psnr(picture, other)[0])
    assert f"{psnr:.2f} dB, 12.50% of the pixels" in text
    assert difference.is_contiguous() and difference.dtype == torch.float32


def test_a_transparent_document_can_be_checked_too(pack, document, scene, core) -> None:
    stack, _ = scene(0)
    cut_out = core("layers").LayerStack(width=SIDE, height=SIDE, layers=stack.layers[1:])
    merged, _ = run(pack, "Flatten", layers=document(cut_out))
    assert merged.shape[-1] == 4
    assert "equal in eight bits" in run(pack, "RecomposeCheck", layers=document(cut_out), image=merged)[2]


@pytest.mark.parametrize("node", ["Effects", "RecomposeCheck"])
@pytest.mark.parametrize(("picture", "said"), [
    (torch.zeros(1, 64, 96, 3), "96x64 pixels for layers of 128x128; give one of the layers' own size"),
    (torch.zeros(3, SIDE, SIDE, 3), "got 3 pictures .* for layers of 2 picture.*give one, or 2"),
    (torch.zeros(1, SIDE, SIDE, 1), "shape"),
    (torch.zeros(0, SIDE, SIDE, 3), "shape"),
    (torch.full((1, SIDE, SIDE, 3), math.nan), "NaN"),
    (None, "NoneType"),
])
def test_pictures_that_do_not_fit_are_told(pack, core, document, scene, node, picture, said) -> None:
    stack, _ = scene(0)
    name = {"Effects": "harmonized", "RecomposeCheck": "image"}[node]
    with pytest.raises(core("errors").InputError, match=said):
        run(pack, node, layers=document(stack, stack), **{name: picture})


def test_what_cannot_have_effects_is_told(pack, core, document, scene) -> None:
    stack, picture = scene(0)
    error = core("errors").InputError
    with pytest.raises(error, match="transparency; lay it over an opaque background"):
        run(pack, "Effects", layers=document(stack), harmonized=torch.full((1, SIDE, SIDE, 4), 0.5))
    with pytest.raises(error, match="transparent at .* put an opaque background under it"):
        run(pack, "Effects", layers=document(stack.with_layer(0, opacity=0.5)), harmonized=image(picture))
    with pytest.raises(error, match="connect a LAYERS output"):
        run(pack, "Effects", layers=None, harmonized=image(picture))
    only = {"layers": [{"image": torch.ones(1, 4, 4, 4), "name": "residual"}]}
    with pytest.raises(error, match="residual layers only"):
        run(pack, "RemoveEffects", layers=only)
    with pytest.raises(error, match="amplification"):
        run(pack, "RecomposeCheck", layers=document(stack), image=image(picture), amplify=math.inf)


def test_layers_are_fitted_as_the_core_fits_them(pack, core, scene, document, stacks) -> None:
    """Of a batch each picture by its own maps; effects come off before."""
    pairs = [scene(seed) for seed in (0, 1) if len(scene(seed)[0].layers) == len(scene(0)[0].layers)]
    some = [stack for stack, _ in pairs]
    pictures = [picture for _, picture in pairs]
    maps = [torch.nn.functional.max_pool2d(torch.stack([layer.alpha for layer in one.foregrounds])[:, 0], 9, 1, 4).roll(9, -1) for one in some]
    (lit,) = run(pack, "Effects", layers=document(*some), harmonized=image(*pictures))
    gray = torch.cat(maps)[..., None].expand(-1, -1, -1, 3)
    for colors in ("all", "foregrounds", "none"):
        layers, images, composite = run(
            pack, "FitLayers", layers=lit, image=image(*pictures), colors=colors, margin=3, context_maps=gray)
        fit = core("config").PictureFit(colors=colors)
        wanted = [core("picture_fit").fit_stack(stack, picture, own, margin=3, fit=fit)
                  for (stack, picture), own in zip(pairs, maps, strict=True)]
        flat = torch.stack([core("composite").flatten(stack) for stack in wanted])
        torch.testing.assert_close(composite, image(*flat))
        torch.testing.assert_close(torch.stack([core("composite").flatten(stack) for stack in stacks(layers)]), flat)
        assert len(images) == sum(len(stack.layers) for stack in wanted) and images.shape[-1] == 4
        alphas = torch.stack([layer.alpha[0] for stack in wanted for layer in stack.layers])
        torch.testing.assert_close(images[..., 3], alphas)
        assert (alphas < torch.stack([layer.alpha[0] for stack in some for layer in stack.layers])).any(), "nothing was cut"
    layers, _, composite = run(pack, "FitLayers", layers=document(*some), image=image(*pictures))
    assert (composite - image(*pictures)).abs().mean() < 1e-4  # what is beyond 0 to 1 cannot be reached
    with pytest.raises(core("errors").InputError, match=rf"got {len(gray) + 1} context maps of 128x128 for {len(gray)} foregrounds at 128x128"):
        run(pack, "FitLayers", layers=document(*some), image=image(*pictures), context_maps=torch.cat([gray, gray[:1]]))
