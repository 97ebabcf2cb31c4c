"""Context Map from Masks/Boxes: what the maps become, and what people put in."""

from __future__ import annotations

import asyncio

import execution
import pytest
import torch
from graph import apart, draw

SIZE = {"width": 64, "height": 64}


@pytest.fixture(scope="module")
def steer(graph):
    """The steering of one layer, by default of a picture of 64x64."""
    return lambda layer=1, **inputs: graph.call("ContextSteering", **({"layer": layer} | SIZE | inputs))[0]


@pytest.fixture(scope="module")
def maps(graph, texts):
    """Context maps (fg, h, w) of one step on 64x64 with a steering."""

    def sampled(steering=None, **settings):
        model = graph.patch(steering=steering)
        return graph.sample(model, texts, graph.latent(), steps=1, **settings)[2][..., 0]

    return sampled


def half(side: str) -> torch.Tensor:
    """MASK of the left or the upper half."""
    mask = torch.zeros(1, 32, 32)
    mask[:, :16] = side == "upper"
    mask[:, :, :16] = torch.maximum(mask[:, :, :16], torch.tensor(float(side == "left")))
    return mask


def test_a_mask_is_the_map(steer, maps) -> None:
    free, steered = maps(), maps(steer(2, mask=half("left")))
    # The map is coarse: between two of its cells the edge is soft.
    assert float(steered[1, :, :16].min()) == 1 and float(steered[1, :, 48:].max()) == 0
    assert apart(steered[0], free[0]) < 0.5, "the other layer has its own"


def test_a_box_limits_the_map(steer, maps) -> None:
    free, steered = maps(), maps(steer(1, boxes="0, 0, 64, 32"))
    assert torch.allclose(steered[0, :16], free[0, :16], atol=1e-6)
    assert float(steered[0, 48:].max()) == 0 < float(free[0, 48:].max())


@pytest.mark.parametrize(("given", "mode"), [({"mask": half("upper")}, "multiply"), ({"boxes": "0,0,64,32"}, "override")])
def test_the_mode_can_be_the_other_one(steer, maps, given, mode) -> None:
    auto, chosen = maps(steer(1, **given)), maps(steer(1, **given, mode=mode))
    assert apart(chosen[0], auto[0]) > 0.1


def test_boxes_of_detectors_and_written_ones_are_the_same(steer) -> None:
    found = [[{"x": 4, "y": 8, "width": 20, "height": 10, "label": "ball", "score": 0.9}], [{"x": 40, "y": 8, "width": 8, "height": 8}]]
    written = steer(boxes="4, 8, 20, 10\n 40,8,8,8;")
    assert torch.equal(steer(bboxes=found).layers[1].mask, written.layers[1].mask)
    assert float(written.layers[1].mask.sum()) == 264


def test_foregrounds_one_after_the_other(steer, maps) -> None:
    both = steer(2, mask=half("upper"), steering=steer(1, mask=half("left")))
    assert sorted(both.layers) == [1, 2]
    steered = maps(both)
    assert float(steered[0, :, 48:].max()) == 0 and float(steered[1, 48:].max()) == 0


def test_steering_changes_the_picture_and_nothing_of_it_stays(graph, texts, steer) -> None:
    steering = steer(1, boxes="0,0,4,4")
    before, steered, after = (
        graph.sample(graph.patch(steering=one), texts, graph.latent())[0]["samples"] for one in (None, steering, None))
    assert torch.equal(before, after) and apart(steered, before) > 1e-3


def test_a_picture_that_fills_no_whole_cells(graph, texts, steer) -> None:
    """Its latent reaches beyond it: there the mask is 0, and the box stays where it is."""
    latent = graph.latent(width=70, height=40)
    steering = steer(1, width=70, height=40, boxes="0,0,70,40", mode="override")
    shown = graph.sample(graph.patch(steering=steering), texts, latent, steps=1)[2]
    assert shown.shape == (2, 40, 70, 3)
    assert float(shown[0, :24, :48].min()) == 1 > float(shown[0, :, 66:].max())


def test_areas_of_the_picture_have_their_part_of_the_mask(graph, texts, steer) -> None:
    """A conditioning with an area is sampled on a cut of the latent."""
    steering = steer(1, mask=half("left"))
    positive = [[texts[0][0][0], texts[0][0][1] | {"area": (16, 8, 0, 8), "strength": 1.0}]]  # the right half, in cells
    shown = graph.sample(graph.patch(steering=steering), (positive, texts[1]), graph.latent(), steps=1)[2]
    assert float(shown[0].max()) < 0.2


# ---- what cannot be


@pytest.mark.parametrize(("inputs", "said"), [
    ({}, "got neither boxes nor a mask for layer 1; give one or the other"),
    ({"boxes": "1,2,3,4", "mask": half("left")}, "got boxes and a mask for layer 1"),
    ({"boxes": "1,2,3"}, "got a box of '1,2,3'; give left, top, width, height in pixels"),
    ({"boxes": "a,b,c,d"}, "got a box of 'a,b,c,d'"),
    ({"boxes": "64,0,10,10"}, "got the box 64,0,10,10 for a picture of 64x64 pixels"),
    ({"boxes": "5,5,0,10"}, "got the box 5,5,0,10"),
    ({"boxes": "nan,0,10,10"}, "got the box nan,0,10,10"),
    ({"bboxes": [{"left": 3}]}, "got a bounding box of .'left'.; give x, y, width and height"),
    ({"mask": torch.zeros(1, 64, 64)}, "got a mask for layer 1 that is 0 everywhere; mark the object with 1, or use Invert Mask"),
    ({"mask": torch.ones(1, 32, 64)}, "got a mask for layer 1 of 64x32 for a picture of 64x64 pixels; give its shape, such as 64x64"),
    ({"mask": torch.full((1, 64, 64), 2.0)}, "values from 2 to 2; give 0 to 1"),
    ({"width": 8, "boxes": "1,2,3,4"}, "got a size of 8x64; give sides of 16 to 4096"),
])
def test_told_by_the_node(steer, told, inputs, said) -> None:
    with told(said):
        steer(**inputs)


def test_steerings_that_do_not_go_together(steer, told) -> None:
    one = steer(1, boxes="0,0,9,9")
    with told("got boxes or masks for layer 1 twice; give each foreground one node"):
        steer(1, boxes="0,0,9,9", steering=one)
    with told("got a picture of 32x64 after one of 64x64; give all foregrounds the same size"):
        steer(2, boxes="0,0,9,9", steering=one, width=32)


def test_told_by_the_run(graph, texts, steer, told) -> None:
    def run(steering, **settings):
        return graph.sample(graph.patch(steering=steering, **settings), texts, graph.latent())

    with told("got a box or mask for layer 3, but there are 2 foregrounds; give layers 1 to 2"):
        run(steer(3, boxes="0,0,9,9"))
    with told("got boxes or masks of a picture of 64x96 and a latent of 64x64 pixels; give Context Map from Masks/Boxes the size"):
        run(steer(1, boxes="0,0,9,9", height=96))
    with told("got 3 masks for layer 1 of 1 stacks; give one, or one per stack"):
        run(steer(1, mask=draw(3, 64, 64).sigmoid()))
    for settings in ({"caca": False}, {"caca": False, "lssa": False, "adapter": None}):
        with told("got boxes or masks, but context-aware cross-attention is off; switch it on, or leave them out"):
            run(steer(1, boxes="0,0,9,9"), **settings)


@pytest.mark.parametrize(("change", "said"), [
    ({}, ""),
    ({"boxes": "1,2,3"}, "got a box of '1,2,3'"),
    ({"boxes": "70,0,10,10"}, "got the box 70,0,10,10 for a picture of 64x64 pixels"),
    ({"layer": 0}, "smaller than min of 1"),
    ({"layer": 17}, "bigger than max of 16"),
    ({"width": 8}, "got a size of 8x64"),
    ({"mode": "add"}, "not in"),
])
def test_told_at_validation(pack, change, said) -> None:
    required = pack["DreamLayerPatchModel"].GET_NODE_INFO_V1()["input"]["required"]
    defaults = {name: options["default"] for name, (_, options) in required.items() if "default" in options}
    graph = {
        "LoadEmbeddedModel": {},
        "Scene": {"seed": 1, "foregrounds": 2},
        "Encode": {"clip": ["LoadEmbeddedModel", 1], "plan": ["Scene", 1]},
        "EmptyLatent": {"plan": ["Scene", 1], "width": 64, "height": 64, "batch_size": 1},
        "ContextSteering": {"layer": 1, "mode": "auto", "boxes": "1,2,3,4", **SIZE, **change},
        "PatchModel": {"model": ["LoadEmbeddedModel", 0], "steering": ["ContextSteering", 0], **defaults},
        "Sampler": {"model": ["PatchModel", 0], "seed": 1, "steps": 2, "cfg": 2.0, "sampler_name": "euler",
                    "scheduler": "simple", "positive": ["Encode", 0], "negative": ["Encode", 1],
                    "latent_image": ["EmptyLatent", 0], "denoise": 1.0},
    }
    prompt = {name: {"class_type": f"DreamLayer{name}", "inputs": inputs} for name, inputs in graph.items()}
    prompt["Shown"] = {"class_type": "PreviewImage", "inputs": {"images": ["Sampler", 2]}}
    valid, _, _, errors = asyncio.run(execution.validate_prompt("test", prompt, None))
    assert valid == (not said), errors
    assert said in str(errors).replace("\\'", "'")
