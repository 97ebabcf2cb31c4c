"""LAYERS documents against ComfyUI's own compositor, and there and back again."""

from __future__ import annotations

import importlib
import math

import folder_paths
import pytest
import torch
from comfy_extras import nodes_compositor as native


@pytest.fixture(scope="module")
def documents(pack):
    return importlib.import_module(f"{pack['DreamLayerFlatten'].__module__.rsplit('.', 1)[0]}.documents")


@pytest.fixture(scope="module")
def layers(core):
    return core("layers")


def picture(height: int = 10, width: int = 14, frames: int = 1, channels: int = 4, seed: int = 0) -> torch.Tensor:
    """Smooth, so that resampling in eight bits and in floats agree; alpha falls off to one side."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(frames, channels, 3, 3, generator=generator)
    smooth = torch.nn.functional.interpolate(low, size=(height, width), mode="bilinear", align_corners=True)
    if channels == 4:
        smooth[:, 3] = torch.linspace(1.2, 0.2, width).clamp(0, 1)
    return smooth.permute(0, 2, 3, 1).contiguous()


def document(*items: dict, canvas: tuple[int, int] | None = (40, 30)) -> dict:
    found = {"version": 1, "layers": [{"type": "raster", "z_index": i} | item for i, item in enumerate(items)]}
    return found if canvas is None else found | {"canvas": canvas}


def natively(doc: dict) -> torch.Tensor:
    """ComfyUI's composite (h, w, 4). Of a single layer it is the layer itself: linear light mixes nothing into it."""
    frames = native.expand_item_frames(native.document_items(doc))
    alphas = [native.frame_alpha(frame["tensor"], frame["mask"]) for frame in frames]
    canvas = native.document_canvas(doc) or native.canvas_extent(frames)
    state = native.state_from_items(frames, canvas)
    return native.composite_from_state([frame["tensor"] for frame in frames], state, alphas)[0]


def premultiplied(rgba: torch.Tensor) -> torch.Tensor:
    return torch.cat([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], dim=-1)


def ours(documents, core, doc: dict) -> torch.Tensor:
    (stack,) = documents.stacks_from_layers(doc)
    return core("composite").flatten_rgba(stack).permute(1, 2, 0)


PLACES = {
    "as it is": {},
    "moved": {"x": 7, "y": 4},
    "over the corner": {"x": -5, "y": -3},
    "over the far corner": {"x": 33, "y": 25},
    "beside the canvas": {"x": 90, "y": 3},
    "flipped": {"x": 3, "flip_h": True},
    "upside down": {"y": 3, "flip_v": True},
    "larger": {"w": 29, "h": 17},
    "smaller": {"x": 5, "w": 7, "h": 5},
    "only wider": {"w": 25},
    "quarter turn": {"x": 10, "y": 8, "rotation": math.pi / 2},
    "half turn": {"x": 10, "y": 8, "rotation": math.pi},
    "turned left": {"x": 10, "y": 8, "rotation": -0.6},
    "turned right": {"x": 11, "y": 7, "rotation": 1.1},
    "full turn": {"x": 10, "y": 8, "rotation": 2 * math.pi},
    "faint": {"x": 3, "opacity": 0.4},
    "too faint": {"opacity": -1.0},
    "hidden": {"visible": False},
    "everything": {"x": 6, "y": -2, "w": 21, "h": 12, "rotation": 0.7, "flip_h": True, "flip_v": True, "opacity": 0.8},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_layer_stands_where_comfyui_puts_it(documents, core, place) -> None:
    doc = document({"image": picture()} | place)
    expected, found = premultiplied(natively(doc)), premultiplied(ours(documents, core, doc))
    # ComfyUI rounds to eight bits before every step.
    torch.testing.assert_close(found, expected, atol=4 / 255, rtol=0)


@pytest.mark.parametrize("mask_size", [(10, 14), (64, 64), (3, 5)])
@pytest.mark.parametrize("channels", [3, 4])
def test_a_mask_of_one_is_transparent(documents, core, mask_size, channels) -> None:
    mask = torch.zeros(1, *mask_size)
    mask[:, : mask_size[0] // 2] = 1
    doc = document({"image": picture(channels=channels), "mask": mask, "x": 4, "y": 5})
    torch.testing.assert_close(
        premultiplied(ours(documents, core, doc)), premultiplied(natively(doc)), atol=2 / 255, rtol=0
    )


@pytest.mark.parametrize("masks", [1, 2, 3, 5])
def test_frames_of_a_foreign_item_are_consecutive_layers(documents, masks) -> None:
    doc = document({"image": picture(frames=3, seed=3), "name": "cup", "mask": torch.rand(masks, 10, 14)})
    (stack,) = documents.stacks_from_layers(doc)
    frames = native.expand_item_frames(native.document_items(doc))
    assert [layer.name for layer in stack.layers] == ["cup"] * 3
    for layer, frame in zip(stack.layers, frames, strict=True):
        torch.testing.assert_close(layer.alpha, native.frame_alpha(frame["tensor"], frame["mask"]))


def test_layers_stand_in_the_order_of_z_index_and_of_the_list(documents) -> None:
    names = {"a": 4, "b": -1, "c": 4, "d": 0}
    items = [{"image": picture(), "name": name, "z_index": z} for name, z in names.items()]
    (stack,) = documents.stacks_from_layers(document(*items))
    assert [layer.name for layer in stack.layers] == ["b", "d", "a", "c"]


@pytest.mark.parametrize("place", [{}, {"x": 9, "y": 3}, {"x": -30, "y": -30}, {"rotation": 0.4, "x": 5}, {"w": 77}])
@pytest.mark.parametrize("canvas", [None, (0, 0)])
def test_without_a_canvas_it_is_as_large_as_the_layers_reach(documents, place, canvas) -> None:
    doc = document({"image": picture()} | place, {"image": picture(3, 4)}, canvas=canvas)
    (stack,) = documents.stacks_from_layers(doc)
    assert (stack.width, stack.height) == native.canvas_extent(native.expand_item_frames(native.document_items(doc)))


def test_unnamed_layers_are_numbered(documents) -> None:
    (stack,) = documents.stacks_from_layers(document({"image": picture()}, {"image": picture(), "name": None}))
    assert [layer.name for layer in stack.layers] == ["Layer 1", "Layer 2"]


def test_half_precision_and_values_out_of_range_are_taken(documents) -> None:
    (stack,) = documents.stacks_from_layers(document({"image": picture().half() * 3 - 1}))
    layer = stack.layers[0]
    assert layer.color.dtype == torch.float32 and 0 <= float(layer.rgba.min()) and float(layer.rgba.max()) <= 1


def make_layer(layers, name: str, box: tuple[int, int, int, int] | None, seed: int = 0, size=(24, 16), **fields):
    rgba = torch.rand(4, size[1], size[0], generator=torch.Generator().manual_seed(seed))
    kept = torch.zeros(1, size[1], size[0])
    if box is not None:
        kept[:, box[1] : box[3], box[0] : box[2]] = 1
    return layers.Layer(name=name, color=rgba[:3], alpha=rgba[3:].clamp_min(0.1) * kept, **fields)


def make_stack(layers, boxes, seed: int = 0, **fields):
    made = [make_layer(layers, f"layer {i}", box, seed + i) for i, box in enumerate(boxes)]
    return layers.LayerStack(width=24, height=16, layers=tuple(made), **fields)


def same_on_canvas(found, expected) -> None:
    assert (found.width, found.height) == (expected.width, expected.height)
    for one, other in zip(found.layers, expected.layers, strict=True):
        one, other = (layer.on_canvas(found.width, found.height) for layer in (one, other))
        assert torch.equal(one.alpha, other.alpha)
        assert torch.equal(one.color * one.alpha, other.color * other.alpha)
        fields = ("name", "prompt", "visible", "opacity", "blend_mode")
        assert all(getattr(one, field) == getattr(other, field) for field in fields)


def test_there_and_back_again(documents, layers) -> None:
    stack = make_stack(layers, [(0, 0, 24, 16), (3, 4, 9, 11), (20, 0, 24, 2)], global_prompt="a still life")
    stack = stack.with_layer(1, opacity=0.3, visible=False, prompt="a cup", name="a/b 🐱")
    stack = stack.with_layer(2, blend_mode="multiply")
    doc = documents.layers_from_stacks([stack])
    (back,) = documents.stacks_from_layers(doc)
    same_on_canvas(back, stack)
    assert back.global_prompt == "a still life"
    assert doc["version"] == 1 and doc["canvas"] == (24, 16)
    assert [(i["x"], i["y"], *i["image"].shape[1:3]) for i in doc["layers"]] == [
        (0, 0, 16, 24),
        (3, 4, 7, 6),
        (20, 0, 2, 4),
    ]
    assert [i["z_index"] for i in doc["layers"]] == [0, 1, 2]


def test_what_lies_beyond_the_canvas_is_kept(documents, layers) -> None:
    layer = make_layer(layers, "wide", (0, 0, 24, 16), x=-10, y=-4)
    stack = layers.LayerStack(width=12, height=12, layers=(layer,))
    (back,) = documents.stacks_from_layers(documents.layers_from_stacks([stack]))
    assert torch.equal(back.layers[0].rgba, layer.rgba) and (back.layers[0].x, back.layers[0].y) == (-10, -4)


def test_several_pictures_share_a_document(documents, layers) -> None:
    first = make_stack(layers, [(0, 0, 24, 16), (3, 4, 9, 11), None, (1, 1, 2, 2)], seed=1)
    second = make_stack(layers, [(0, 0, 24, 16), (12, 2, 20, 9), None, None], seed=9)
    doc = documents.layers_from_stacks([first, second])
    assert [tuple(i["image"].shape) for i in doc["layers"]] == [
        (2, 16, 24, 4),
        (2, 9, 17, 4),
        (2, 1, 1, 4),
        (2, 1, 1, 4),
    ]
    for back, stack in zip(documents.stacks_from_layers(doc), (first, second), strict=True):
        same_on_canvas(back, stack)
    # Other nodes append to it: a layer of one frame stands in every picture.
    appended = native.AddLayer.execute(image=picture(), layers=doc, name="logo", z_index=9).args[0]
    assert [[layer.name for layer in s.layers][-1] for s in documents.stacks_from_layers(appended)] == ["logo", "logo"]


def test_pictures_that_do_not_fit_one_document_are_refused(documents, layers) -> None:
    stack = make_stack(layers, [None, (1, 1, 2, 2)])
    for other in (make_stack(layers, [None]), stack.with_layer(1, opacity=0.5), stack.with_layer(1, visible=False)):
        with pytest.raises(ValueError, match="picture 2"):
            documents.layers_from_stacks([stack, other])
    with pytest.raises(ValueError, match="0 layer stacks"):
        documents.layers_from_stacks([])


@pytest.mark.parametrize("boxes", [[(0, 0, 24, 16), (3, 4, 9, 11)], [(0, 0, 24, 16), None], [None]])
def test_comfyui_takes_our_documents(documents, layers, core, tmp_path, monkeypatch, boxes) -> None:
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    stack = make_stack(layers, boxes)
    found = native.ImageCompositor.execute(layers=documents.layers_from_stacks([stack]), compositor={})
    rgba = core("composite").flatten_rgba(stack)
    torch.testing.assert_close(1 - found.args[1][0], rgba[3], atol=2 / 255, rtol=0)


NOT_FINITE = picture()
NOT_FINITE[0, 0, 0, 0] = math.nan
INFINITE = picture()
INFINITE[0, 0, 0, 3] = math.inf

BROKEN = {
    "nothing": (None, "connect a LAYERS output"),
    "a list": ([], "connect a LAYERS output"),
    "empty": ({}, "without layers"),
    "no layers": ({"version": 1, "layers": []}, "without layers"),
    "another version": ({"version": 2, "layers": [{}]}, "version 2"),
    "no layer": ({"version": 1, "layers": ["cup"]}, "no layer but str"),
    "another type": (
        document({"image": picture(), "type": "text", "name": "title"}),
        "'title' is a layer of type 'text'",
    ),
    "no image": (document({"name": "cup"}), "'cup' holds NoneType"),
    "an image of one channel": (document({"image": picture()[..., :1]}), r"\(1, 10, 14, 1\)"),
    "an image without a batch": (document({"image": picture()[0]}), r"\(10, 14, 4\)"),
    "no frames": (document({"image": picture()[:0]}), r"\(0, 10, 14, 4\)"),
    "NaN": (document({"image": NOT_FINITE, "name": "cup"}), "'cup' has NaN"),
    "infinite alpha": (document({"image": INFINITE}), "'Layer 1' has NaN or infinite"),
    "a mask of NaN": (document({"image": picture(), "mask": torch.full((1, 2, 2), math.nan)}), "mask with NaN"),
    "a mask that is none": (document({"image": picture(), "mask": "white"}), "mask of str"),
    "a mask of four axes": (document({"image": picture(), "mask": torch.zeros(1, 1, 2, 2)}), "mask of"),
    "a text for a place": (document({"image": picture(), "x": "left"}), "x 'left'"),
    "an endless turn": (document({"image": picture(), "rotation": math.inf}), "rotation inf"),
    "NaN opacity": (document({"image": picture(), "opacity": math.nan}), "opacity nan"),
    "an unknown blend mode": (document({"image": picture(), "blend_mode": "color-dodge"}), "normal, multiply, screen"),
    "a huge layer": (document({"image": picture(), "w": 10**6}), "1000000x10"),
    "a huge canvas": (document({"image": picture()}, canvas=(10**6, 4)), "1000000x4"),
    "a far layer": (document({"image": picture(), "x": 10**7}, canvas=None), "10000014x10"),
    "a canvas of words": (document({"image": picture()}, canvas=("a", 4)), "'a'"),
    "a canvas of three": (document({"image": picture()}, canvas=(1, 2, 3)), r"\(1, 2, 3\)"),
    "two and three pictures": (
        document(*({"image": picture(frames=n), "frames": "pictures"} for n in (2, 3))),
        "2, 3 pictures",
    ),
}


@pytest.mark.parametrize(("doc", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_documents_are_told_in_words(documents, core, doc, said) -> None:
    with pytest.raises(core("errors").InputError, match=said):
        documents.stacks_from_layers(doc)
