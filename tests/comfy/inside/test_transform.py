"""Transform Layers, called as ComfyUI calls it, against the core."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import execution
import numpy as np
import pytest
import torch
from comfy_extras.nodes_compositor import AddLayer
from PIL import Image

WIDTH, HEIGHT = 40, 32


def picture(width: int = WIDTH, height: int = HEIGHT, channels: int = 3, frames: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(frames, height, width, channels, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def layers():
    """A ground, a cup and a ball, as ComfyUI's own node lays them."""
    document = AddLayer.execute(image=picture(), layers=None, name="ground").args[0]
    document = AddLayer.execute(image=picture(6, 9, seed=1), layers=document, name="cup", x=4, y=10).args[0]
    return AddLayer.execute(image=picture(8, 5, seed=2), layers=document, name="ball", x=20, y=8).args[0]


@pytest.fixture(scope="module")
def transform(pack):
    return lambda layers, **inputs: pack["DreamLayerTransformLayers"].execute(layers=layers, **inputs).args[0]


@pytest.fixture(scope="module")
def stacks(module):
    return module("nodes.documents").stacks_from_layers


def names(document) -> list[str]:
    return [item["name"] for item in document["layers"]]


@pytest.mark.parametrize(("inputs", "op"), [
    ({"dx": 7, "dy": -4}, {"dx": 7, "dy": -4}),
    ({"scale": 1.5}, {"scale_x": 1.5, "scale_y": 1.5}),
    ({"flip": "horizontal"}, {"flip_horizontal": True}),
    ({"flip": "vertical", "dx": 1}, {"flip_vertical": True, "dx": 1}),
    ({"flip": "both", "rotation": 25.0}, {"flip_horizontal": True, "flip_vertical": True, "degrees": 25.0}),
    ({"rotation": -90.0, "dx": 3}, {"degrees": -90.0, "dx": 3}),
])
def test_pixels_are_those_of_the_cores_edit(core, transform, stacks, layers, inputs, op) -> None:
    before = stacks(layers)[0]
    (after,) = stacks(transform(layers, layer=1, **inputs))
    wanted = core("edited_pixels").edit_pixels(before.layers[1], core("edits").LayerEdit(**op))
    size = (WIDTH, HEIGHT)
    for found, expected in zip(after.layers, (before.layers[0], wanted, before.layers[2]), strict=True):
        shown, shall = found.on_canvas(*size), expected.on_canvas(*size)
        torch.testing.assert_close(shown.alpha, shall.alpha, atol=0.5 / 255, rtol=0)
        torch.testing.assert_close(shown.color * shown.alpha, shall.color * shall.alpha, atol=0.5 / 255, rtol=0)
    assert (after.width, after.height) == size


def test_whole_moves_change_no_pixel_and_lose_nothing(transform, stacks, layers, core) -> None:
    away = transform(layers, layer=1, dx=-8, dy=3)
    assert away["layers"][1]["x"] == -4 and torch.equal(away["layers"][1]["image"][..., :3], layers["layers"][1]["image"])
    flatten = core("composite").flatten
    back = transform(away, layer=1, dx=8, dy=-3)
    assert torch.equal(flatten(stacks(back)[0]), flatten(stacks(layers)[0]))


def test_without_a_change_the_document_is_the_same(transform, layers) -> None:
    layers["layers"][2] |= {"rotation": 0.3, "flip_h": True}
    assert transform(layers) is layers
    assert transform(layers, layer=2, opacity=1.0, visible="show", position=2) is layers


def test_order_visibility_opacity_and_deletion(transform, stacks, layers) -> None:
    assert names(transform(layers, layer=1, position=2)) == ["ground", "ball", "cup"]
    assert names(transform(layers, layer=2, position=1)) == ["ground", "ball", "cup"]
    assert names(transform(layers, layer=1, delete=True)) == ["ground", "ball"]
    faded = transform(layers, layer=2, opacity=0.25)
    assert [item["opacity"] for item in faded["layers"]] == [1.0, 1.0, 0.25]
    assert transform(faded, layer=2, opacity=0.0)["layers"][2]["opacity"] == 0.0
    hidden = transform(layers, layer=2, visible="hide")
    assert [item["visible"] for item in hidden["layers"]] == [True, True, False]
    assert transform(hidden, layer=2, visible="show")["layers"][2]["visible"] is True


def test_frames_are_layers_as_everywhere(transform) -> None:
    document = {"layers": [{"image": picture()}, {"image": picture(frames=2, seed=3), "name": "two"}], "canvas": (WIDTH, HEIGHT)}
    moved = transform(document, layer=2, dx=5)
    assert [item["x"] for item in moved["layers"]] == [0, 0, 5]


def test_all_pictures_of_a_batch_are_edited(core, module, transform, stacks, layers) -> None:
    one = stacks(layers)[0]
    other = one.with_layer(1, x=20, y=2)
    batch = module("nodes.documents").layers_from_stacks([one, other])
    found = stacks(transform(batch, layer=1, dx=4, rotation=90.0))
    edit = core("edits").LayerEdit(dx=4, degrees=90.0)
    for stack, after in zip((one, other), found, strict=True):
        wanted = core("edited_pixels").edit_pixels(stack.layers[1], edit)
        assert after.layers[1].box == wanted.box


def test_shadows_follow_unless_they_shall_not(pack, core, module, transform, stacks, layers) -> None:
    plain = stacks(layers)[0].with_layer(0, color=torch.full((3, HEIGHT, WIDTH), 0.8))
    document, flatten = module("nodes.documents").layers_from_stacks, core("composite").flatten
    picture = flatten(plain)
    picture[:, 19:23, 4:10] *= 0.5  # below the cup
    lit = pack["DreamLayerEffects"].execute(
        layers=document([plain]), harmonized=picture.permute(1, 2, 0)[None], residual=True).args[0]
    assert len(names(lit)) > len(names(layers))
    for follow, shadow in ((True, (26, 32)), (False, (4, 10))):
        moved = transform(lit, layer=1, dx=22, dy=4, effects_follow=follow)
        assert "residual" not in names(moved)
        row = 21 if not follow else 25
        shown = flatten(stacks(moved)[0])[0, row]
        assert float(shown[shadow[0] + 1 : shadow[1] - 1].max()) < 0.5
        assert float(shown[10:20].min()) > 0.75
        if follow:
            assert float(flatten(stacks(moved)[0])[0, 21, 5:9].min()) > 0.75
    batch = document([stacks(lit)[0]] * 2)
    assert len(stacks(transform(batch, layer=1, dx=3))) == 2


@pytest.mark.parametrize(("inputs", "said"), [
    ({"layer": 3}, "got layer 3 of a stack of 3; give 0"),
    ({"layer": -1}, "got layer -1"),
    ({"layer": 0, "delete": True}, "background can be neither"),
    ({"layer": 0, "visible": "hide"}, "background can be neither"),
    ({"layer": 0, "position": 1}, "background can be neither"),
    ({"layer": 1, "position": 7}, "got position 7 for layer 1; give 1 to 2"),
    ({"layer": 1, "dx": 500}, "would leave the canvas of 40x32"),
    ({"layer": 1, "scale": 0.0}, "give factors between"),
    ({"layer": 1, "rotation": float("nan")}, "finite"),
    ({"layer": 1, "opacity": 2.0}, "opacity 2.0; give 0 to 1"),
    ({"layer": 1, "opacity": float("nan")}, "opacity nan; give 0 to 1"),
    ({"layer": 1, "flip": "sideways"}, "none, horizontal, vertical, both"),
    ({"layer": 1, "visible": "maybe"}, "as it is, show, hide"),
])
def test_what_cannot_be_is_told(core, transform, layers, inputs, said) -> None:
    with pytest.raises(core("errors").InputError, match=said):
        transform(layers, **inputs)


def test_no_layers_is_told(core, transform) -> None:
    with pytest.raises(core("errors").InputError, match="connect a LAYERS output"):
        transform(None, dx=1)


def graph(**changes):
    """Two gray pictures as layers, the whole chain of nodes, and a picture of the difference."""
    return {
        "ground": {"class_type": "EmptyImage", "inputs": {"width": WIDTH, "height": HEIGHT, "batch_size": 2, "color": 0x808080}},
        "layers": {"class_type": "DreamLayerImagesToLayers", "inputs": {"images": ["ground", 0], "names": "ground\nveil"}},
        "picture": {"class_type": "EmptyImage", "inputs": {"width": WIDTH, "height": HEIGHT, "batch_size": 1, "color": 0x404040}},
        "effects": {"class_type": "DreamLayerEffects", "inputs": {
            "layers": ["layers", 0], "harmonized": ["picture", 0], "residual": True}},
        "moved": {"class_type": "DreamLayerTransformLayers", "inputs": {
            "layers": ["effects", 0], "layer": 1, "dx": 3, "dy": 0, "scale": 1.0, "flip": "none", "rotation": 0.0,
            "opacity": -1.0, "visible": "as it is", "position": 0, "delete": False, "effects_follow": True} | changes},
        "plain": {"class_type": "DreamLayerRemoveEffects", "inputs": {"layers": ["moved", 0]}},
        "check": {"class_type": "DreamLayerRecomposeCheck", "inputs": {
            "layers": ["plain", 0], "image": ["picture", 0], "amplify": 1.0}},
        "shown": {"class_type": "PreviewImage", "inputs": {"images": ["check", 0]}},
    }


def test_comfyui_takes_a_graph_of_the_nodes(pack) -> None:
    """And refuses values beyond the widgets' limits before anything runs."""

    def refusal(**changes) -> str:
        valid, error, _, found = asyncio.run(execution.validate_prompt("test", graph(**changes), None))
        return "" if valid else f"{error} {found}"

    assert refusal() == ""
    assert "bigger than max of 1.0" in refusal(opacity=1.5) and "smaller than min of 0" in refusal(layer=-1)
    assert "not in" in refusal(flip="sideways")


def test_comfyui_runs_a_graph_of_the_nodes(pack, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("folder_paths.temp_directory", str(tmp_path))
    server = SimpleNamespace(client_id=None, last_node_id=None, last_prompt_id=None, send_sync=lambda *_: None, sockets_metadata={})
    executor = execution.PromptExecutor(
        server, cache_type=execution.CacheType.CLASSIC, cache_args={"ram": 1.0, "ram_inactive": 1.0, "lru": 0})
    with torch.inference_mode(False):
        executor.execute(graph(), "test", {}, ["shown"])
    assert executor.success, executor.status_messages
    (preview,) = executor.history_result["outputs"]["shown"]["images"]
    shown = np.asarray(Image.open(tmp_path / preview["filename"]).convert("RGB"))
    assert shown.shape == (HEIGHT, WIDTH, 3) and bool((shown == 0x40).all()), "gray 80 without its effects is 40 off"
