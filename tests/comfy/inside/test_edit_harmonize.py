"""Edit & Harmonize: the edit between two documents, done to latents and pixels alike, and the picture that follows."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import torch
from comfy_extras.nodes_compositor import AddLayer
from graph import apart
from safetensors.torch import load_file

WIDTH, HEIGHT = 64, 64
RANGE = {"high": 1000, "low": 300}  # two steps of the tiny run lie in it


@pytest.fixture(scope="module")
def run(graph):
    """Of a tiny run: the patched model, its trajectory, and its layers."""
    with torch.inference_mode():
        model = graph.patch()
        latent, trajectory, _ = graph.sample(model, graph.encode(), graph.latent(), steps=4, seed=14)
        layers = graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=latent, views="1")[0]
    return model, trajectory, layers


@pytest.fixture(scope="module")
def edit(graph, run):
    """Image, layers and latent of Edit & Harmonize on the tiny run."""
    model, trajectory, layers = run

    def call(edited=None, **inputs):
        usual = {"model": model, "vae": graph.vae, "trajectory": trajectory, "layers": layers, "edited": edited} | RANGE
        return graph.call("EditHarmonize", **(usual | inputs))

    return call


@pytest.fixture(scope="module")
def transform(graph):
    return lambda layers, **inputs: graph.call("TransformLayers", layers=layers, **inputs)[0]


@pytest.fixture(scope="module")
def changes(module):
    """What became of the layers of a document of one picture in another."""
    found = module("nodes.layer_origins").changes_between
    return lambda before, after: found(before, after)[1][0]


def test_without_an_edit_it_is_harmonize_bit_for_bit(graph, run, edit):
    model, trajectory, layers = run
    plain = graph.call("Harmonize", model=model, trajectory=trajectory, layers=layers, **RANGE)[0]["samples"]
    for edited in (None, layers):
        image, out, latent = edit(edited)
        assert torch.equal(latent["samples"], plain)
        assert torch.equal(image, graph.vae.decode(plain)[:, :HEIGHT, :WIDTH, :3])
        assert [item["name"] for item in out["layers"]] == [item["name"] for item in layers["layers"]]


@pytest.mark.parametrize("inputs", [
    {"dx": 16}, {"scale": 1.5}, {"flip": "horizontal"}, {"rotation": 30.0}, {"visible": "hide"}, {"delete": True},
    {"opacity": 0.2}, {"layer": 2, "position": 1}, {"layer": 0, "dx": 8}])
def test_every_edit_changes_the_picture(edit, run, transform, inputs):
    image, layers, _ = edit(transform(run[2], **({"layer": 1} | inputs)))
    assert apart(image, edit()[0]) > 0.005
    assert image.shape == (1, HEIGHT, WIDTH, 3) and bool(torch.isfinite(image).all())
    assert len(layers["layers"]) == (2 if inputs.get("delete") else 3)


# --- the edit between two documents -----------------------------------------------------------------------------------

_OPS = [
    ({"dx": 7, "dy": -4}, {"dx": 7, "dy": -4}),
    ({"scale": 1.5}, {"scale_x": 1.5, "scale_y": 1.5}),
    ({"flip": "vertical", "dx": 1}, {"flip_vertical": True, "dx": 1}),
    ({"flip": "horizontal", "rotation": 25.0}, {"flip_horizontal": True, "degrees": 25.0}),
    ({"rotation": -90.0, "dx": 3}, {"degrees": -90.0, "dx": 3}),
]


@pytest.mark.parametrize(("inputs", "op"), _OPS)
@pytest.mark.parametrize("layer", [1, 2])
def test_the_op_of_transform_layers_is_read_back(core, module, run, transform, changes, inputs, op, layer):
    found = changes(run[2], transform(run[2], layer=layer, **inputs))
    shown = module("nodes.documents").stacks_from_layers(run[2])[0].layers[layer]
    assert found[layer].op == core("edits").LayerEdit(**op, center=core("edited_pixels").own_center(shown))
    assert all(change.op.is_identity and not change.delete for change in found if change.layer != layer)


def test_edits_after_each_other_are_one(core, run, transform, changes):
    once = transform(run[2], layer=1, dx=6, dy=2, rotation=30.0)
    twice = transform(transform(once, layer=2, dx=-3), layer=1, dx=-6, dy=-2, rotation=-30.0)
    found = changes(run[2], twice)
    # The middle of what a turned layer shows is not quite the middle it was turned about.
    assert abs(found[1].op.degrees) < 1e-6 and max(abs(found[1].op.dx), abs(found[1].op.dy)) < 6
    assert (found[2].op.dx, found[2].op.dy) == (-3, 0)
    back = transform(transform(run[2], layer=1, dx=6), layer=1, dx=-6)
    assert all(change.op.is_identity for change in changes(run[2], back))


def placed(layers, index, **keys):
    """The document with keys of one item changed, as a node that places layers does."""
    items = list(layers["layers"])
    items[index] = items[index] | keys
    return layers | {"layers": items}


@pytest.mark.parametrize(("keys", "op"), [
    ({"flip_h": True}, {"flip_horizontal": True}),
    ({"rotation": torch.pi / 2}, {"degrees": 90.0}),
    ({"flip_h": True, "flip_v": True, "rotation": torch.pi}, {}),
])
def test_native_placement_is_read(run, changes, keys, op):
    found = changes(run[2], placed(run[2], 1, **keys))[1].op
    says = {name: getattr(found, name) for name in ("flip_horizontal", "flip_vertical", "degrees")}
    assert says == {"flip_horizontal": False, "flip_vertical": False, "degrees": 0.0} | op
    assert (abs(found.dx) < 1e-6, abs(found.dy) < 1e-6, found.resizes) == (True, True, False)


def test_native_size_and_place_are_read(run, changes):
    item = run[2]["layers"][2]
    height, width = item["image"].shape[1:3]
    found = changes(run[2], placed(run[2], 2, x=item["x"] + 5, y=item["y"] - 3, w=2 * width, h=height))[2].op
    assert (found.scale_x, found.scale_y) == (2.0, 1.0)
    assert (found.dx, found.dy) == (5 + width / 2, -3)


def test_layers_added_anew_by_comfyuis_own_node_are_known(graph, run, changes):
    """Full pictures instead of tight boxes, masks instead of alpha, and no names."""
    images, masks, _ = graph.call("LayersToImages", layers=run[2])
    document = None
    for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
        document = AddLayer.execute(image=image[None, ..., :3], mask=mask[None], layers=document, x=4 * index).args[0]
    found = changes(run[2], document | {"canvas": (WIDTH, HEIGHT)})
    assert [(change.op.dx, change.op.dy) for change in found] == [(0, 0), (4, 0), (8, 0)]


def test_frames_that_are_layers_are_known_one_by_one(run, changes, transform):
    ground = run[2]["layers"][0]
    pictures = torch.rand(2, 10, 12, 3, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(2, 10, 12)
    masks[1, :4] = 1
    layers = run[2] | {"layers": [ground, {"image": pictures, "mask": masks, "x": 5, "y": 6, "z_index": 1}]}
    found = changes(layers, transform(layers, layer=2, dx=3))
    assert [(change.op.dx, change.op.dy) for change in found] == [(0, 0), (0, 0), (3, 0)]


def test_an_edit_on_top_of_an_edit_is_both(run, transform, changes):
    turned = transform(run[2], layer=1, rotation=90.0)
    item = turned["layers"][1]
    found = changes(run[2], placed(turned, 1, x=item["x"] + 9))[1].op
    assert (found.degrees, found.dx) == (90.0, 9.0)
    squeezed = placed(transform(run[2], layer=1, rotation=30.0), 1, w=3, h=40)
    with pytest.raises(ValueError, match="slants it; resize it before"):
        changes(run[2], squeezed)


@pytest.mark.parametrize("paint", [
    lambda graph, layers: placed(layers, 1, image=1 - layers["layers"][1]["image"]),
    lambda graph, layers: placed(layers, 1, mask=torch.ones(layers["layers"][1]["image"].shape[:3]) * 0.5),
    lambda graph, layers: graph.call("Defringe", layers=layers, matte="white")[0],
], ids=["painted", "masked", "defringed"])
def test_pixels_changed_after_an_edit_are_told(graph, run, transform, changes, paint):
    """The note that an edit leaves is of the pixels that it drew, not of what becomes of them."""
    turned = transform(run[2], layer=1, rotation=30.0)
    again = changes(run[2], placed(turned, 1, image=turned["layers"][1]["image"].clone()))
    assert again[1].op.degrees == pytest.approx(30)
    with pytest.raises(ValueError, match="edited layer 1 .* is none of the unedited layers"):
        changes(run[2], paint(graph, turned))


def test_order_visibility_opacity_and_deletion_are_read(run, transform, changes):
    swapped = changes(run[2], transform(run[2], layer=1, position=2))
    assert [change.position for change in swapped] == [None, 2, 1]
    assert changes(run[2], transform(run[2], layer=1, visible="hide"))[1].visible is False
    assert changes(run[2], transform(run[2], layer=2, opacity=0.3))[2].opacity == 0.3
    assert [change.delete for change in changes(run[2], transform(run[2], layer=1, delete=True))] == [False, True, False]
    reversed_order = run[2] | {"layers": [run[2]["layers"][0]] + [one | {"z_index": 9 - i} for i, one in enumerate(run[2]["layers"][1:])]}
    assert [change.position for change in changes(run[2], reversed_order)] == [None, 2, 1]


def test_the_output_is_the_edited_document(run, edit, transform, module):
    """The core's edit draws a layer once, from the layer as it was."""
    edited = transform(transform(run[2], layer=1, dx=5, rotation=40.0), layer=2, visible="hide")
    out = edit(edited)[1]
    flat = [module("nodes.documents").flattened(module("nodes.documents").stacks_from_layers(one))[0] for one in (edited, out)]
    torch.testing.assert_close(*flat, atol=1e-5, rtol=0)


def test_effects_layers_are_no_layers_to_edit(graph, run, edit, transform):
    lit = graph.call("Effects", layers=run[2], harmonized=edit()[0], residual=True)[0]
    moved = transform(lit, layer=2, dx=8)
    image, layers, _ = edit(moved)
    assert torch.equal(image, edit(transform(run[2], layer=2, dx=8))[0])
    assert len(layers["layers"]) == 3


def test_every_picture_of_a_batch_is_edited(graph, run, transform):
    model = run[0]
    latent, trajectory, _ = graph.sample(model, graph.encode(), graph.latent(batch=2), steps=4)
    layers = graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=latent, views="1")[0]
    inputs = {"model": model, "vae": graph.vae, "trajectory": trajectory, "layers": layers} | RANGE
    moved = transform(layers, layer=1, scale=1.5, flip="horizontal")
    image, out, _ = graph.call("EditHarmonize", edited=moved, **inputs)
    assert image.shape == (2, HEIGHT, WIDTH, 3) and not torch.equal(image[0], image[1])
    assert out["layers"][1]["image"].shape[0] == 2
    plain = graph.call("Harmonize", model=model, trajectory=trajectory, layers=layers, **RANGE)[0]["samples"]
    assert torch.equal(graph.call("EditHarmonize", **inputs)[2]["samples"], plain)


def test_layers_that_nobody_sampled(graph, run, transform):
    """Pasted pictures, noised: the object is at its new place, and the picture is not that of before."""
    ball = torch.zeros(1, 20, 20, 4)
    ball[:, 2:18, 2:18] = torch.tensor([0.9, 0.1, 0.1, 1.0])
    layers = None
    for name, image, corner in (("ground", torch.full((1, 64, 64, 3), 0.5), 0), ("ball", ball, 8), ("cube", 1 - ball * 0.5, 30)):
        layers = AddLayer.execute(image=image[..., :4], layers=layers, name=name, x=corner, y=corner).args[0]
    layers |= {"canvas": (64, 64)}
    latent = graph.call("EncodeLayers", vae=graph.vae, layers=layers, plan=graph.usual_plan())[0]
    positive, negative = graph.encode()
    trajectory = graph.call(
        "NoiseLayers", model=run[0], seed=1, steps=10, cfg=3.0, sampler_name="ddim", scheduler="ddim_uniform", positive=positive,
        negative=negative, latent_image=latent)[0]
    inputs = {"model": run[0], "vae": graph.vae, "trajectory": trajectory, "layers": layers, "high": 600, "low": 0}
    still, moved = (graph.call("EditHarmonize", edited=edited, **inputs)[0] for edited in (None, transform(layers, layer=1, dy=28)))
    (there, elsewhere) = ((..., slice(y + 6, y + 14), slice(14, 22), 0) for y in (36, 8))
    assert float(moved[there].mean() - still[there].mean()) > 0.05
    assert float(moved[elsewhere].mean() - still[elsewhere].mean()) < -0.05


# --- what the model hears of it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [(0, 2), (0, 2, 1), (0, 1)])
def test_prompts_of_other_layers_are_as_if_encoded_alone(graph, module, layers):
    texts = [None, "a red ball", "a shiny blue cube"]
    alone = graph.encode(graph.plan(*(texts[layer] for layer in layers[1:]), whole="a sunny picture", negative="gray"))[0]
    found = module("nodes.comfy_model.encode").of_layers(graph.encode()[0], layers)
    assert torch.equal(found[0][0], alone[0][0])
    assert found[0][1]["dreamlayer"].global_spans == alone[0][1]["dreamlayer"].global_spans


def test_prompts_that_another_node_has_changed_stay(graph, module):
    of_layers = module("nodes.comfy_model.encode").of_layers
    positive = graph.encode()[0]
    assert of_layers(positive, (0, 1, 2))[0][0] is positive[0][0]
    changed = [[positive[0][0] * 0.5, positive[0][1]]]
    assert of_layers(changed, (0, 2))[0][0] is changed[0][0]


def test_hidden_and_deleted_layers_give_the_same_picture(edit, run, transform):
    hidden, deleted = (edit(transform(run[2], layer=2, **how))[0] for how in ({"visible": "hide"}, {"delete": True}))
    assert torch.equal(hidden, deleted)


def test_the_background_alone_is_a_picture(edit, run, transform):
    alone = transform(transform(run[2], layer=2, delete=True), layer=1, delete=True)
    image, layers, _ = edit(alone)
    assert len(layers["layers"]) == 1 and bool(torch.isfinite(image).all())


# --- against the core -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(graph, core, module):
    """The core's run as ComfyUI has one: its trajectory and layers; and what the core made of its edits."""
    tensors = {name.removeprefix("edits/"): value for name, value in load_file(Path(os.environ["DREAMLAYER_REFERENCE"])).items()
               if name.startswith("edits/")}
    timesteps = core("schedule").NoiseSchedule().timesteps(10)
    model = graph.patch()
    levels = model.get_model_object("model_sampling").sigmas
    kept = [tensors.get(f"latents/{t}") for t in timesteps]
    shape = next(one.shape for one in kept if one is not None)
    latents = tuple(torch.zeros(shape) if one is None else one * (1 + levels[t] ** 2).sqrt()
                    for t, one in zip(timesteps, kept, strict=True))
    rgba = tensors["layers"]
    height, width = rgba.shape[-2:]
    layer, documents, plan = core("layers"), module("nodes.documents"), graph.usual_plan()
    layers = tuple(layer.Layer(name=str(i), color=one[:3], alpha=one[3:]) for i, one in enumerate(rgba))
    sockets = module("nodes.sockets")
    positive, negative = graph.encode(plan)
    trajectory = sockets.SampledTrajectory(
        latents=latents, sigmas=torch.cat([levels[timesteps], levels[:1]]), rows=4, positive=positive, negative=negative,
        cfg=4.0, sampler="ddim", seed=0, layers=sockets.LatentLayers(plan=plan, rows=4, width=width, height=height))
    document = documents.layers_from_stacks([layer.LayerStack(width=width, height=height, layers=layers)])
    return {"model": model, "vae": graph.vae, "trajectory": trajectory, "layers": document}, tensors


@pytest.mark.parametrize(("name", "inputs"), [
    ("onto_cells", {"dx": 8, "dy": -4}), ("between_cells", {"dx": 5}), ("snapped", {"dx": 5}),
    ("turned", {"rotation": 25.0, "scale": 1.3, "flip": "horizontal"}), ("hidden", {"visible": "hide"}),
    ("deleted", {"delete": True}), ("faded", {"opacity": 0.4}), ("reordered", {"position": 2}),
    ("background", {"layer": 0, "dx": 12})])
def test_the_picture_is_that_of_the_core(graph, transform, reference, name, inputs):
    given, tensors = reference
    edited = transform(given["layers"], **({"layer": 1} | inputs))
    latent = graph.call("EditHarmonize", edited=edited, snap=name == "snapped", seed=7, **given)[2]["samples"]
    # ComfyUI's samplers end above sigma 0 where the schedule's first level is the last; the core's latents keep their variance.
    latent = latent / (1 + given["trajectory"].sigmas[-1] ** 2).sqrt()
    height, width = tensors[name].shape[-2:]
    picture = graph.vae.decode(latent)[0, :height, :width].movedim(-1, 0)
    assert apart(picture, tensors[name]) < 1e-3


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_told(core, graph, edit, run, transform):
    model, trajectory, layers = run
    mistakes = core("errors").InputError
    with pytest.raises(mistakes, match="would leave the canvas of 64x64"):
        edit(placed(layers, 1, x=500))
    with pytest.raises(mistakes, match="is none of the unedited layers"):
        edit(placed(layers, 1, image=1 - layers["layers"][1]["image"]))
    with pytest.raises(mistakes, match="is none of the unedited layers"):
        edit(layers | {"layers": [*layers["layers"], layers["layers"][1] | {"z_index": 7}]})
    with pytest.raises(mistakes, match="canvas of 80x64, and unedited ones of 1 on 64x64"):
        edit(layers | {"canvas": (80, 64)})
    with pytest.raises(mistakes, match="background can be neither hidden, deleted"):
        edit(layers | {"layers": layers["layers"][1:]})
    with pytest.raises(mistakes, match="background can be neither hidden, deleted"):
        edit(placed(layers, 0, z_index=9))
    with pytest.raises(mistakes, match="blends by 'multiply', which latents cannot"):
        edit(placed(layers, 1, blend_mode="multiply"))
    with pytest.raises(mistakes, match="background, which harmonisation cannot follow"):
        edit(placed(layers, 0, opacity=0.5))
    with pytest.raises(mistakes, match="1 foregrounds at 64x64 for a trajectory of 1 with 2"):
        edit(layers=transform(layers, layer=1, delete=True))
    with pytest.raises(mistakes, match="connect a LAYERS output"):
        edit(7)
    with pytest.raises(mistakes, match="widen the range"):
        edit(high=2, low=1)
    latent, adaptive, _ = graph.sample(model, graph.encode(), graph.latent(), sampler_name="dpm_adaptive")
    with pytest.raises(mistakes, match="chooses its own noise levels"):
        edit(trajectory=adaptive)


def test_the_run_and_its_layers_stay_as_they_were(edit, run, transform):
    _, trajectory, layers = run
    before = copy.deepcopy((trajectory.latents, layers))
    edit(transform(layers, layer=1, dx=8, flip="vertical"))
    assert all(torch.equal(a, b) for a, b in zip(before[0], trajectory.latents, strict=True))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(before[1]["layers"], layers["layers"], strict=True))
