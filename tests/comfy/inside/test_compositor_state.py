"""Edits made by hand in Create Layered Image: read from the prompt, and as that node itself shows them."""

from __future__ import annotations

import asyncio
import json
import math
from types import SimpleNamespace

import execution
import pytest
import torch
from comfy_extras import nodes_compositor as compositor
from comfy_extras.nodes_compositor import AddLayer, ImageCompositor

import nodes as comfy_nodes

WIDTH, HEIGHT = 48, 40
LINK = ["4", 0]


def picture(width: int, height: int, seed: int, channels: int = 3) -> torch.Tensor:
    """Smooth, so that filters differ little."""
    noise = torch.rand(1, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, (height, width), mode="bicubic").clamp(0, 1).movedim(1, -1)


@pytest.fixture
def layers():
    document = AddLayer.execute(image=picture(WIDTH, HEIGHT, 0), layers={"canvas": (WIDTH, HEIGHT)}, name="ground").args[0]
    document = AddLayer.execute(image=picture(12, 8, 1), layers=document, name="cup", x=4, y=10).args[0]
    return AddLayer.execute(image=picture(10, 14, 2), layers=document, name="ball", x=20, y=8).args[0]


def frames(document):
    found = compositor.expand_item_frames(compositor.document_items(document))
    return found, [compositor.frame_alpha(frame["tensor"], frame["mask"]) for frame in found]


@pytest.fixture
def state(layers):
    """What the editor keeps when nothing was done in it."""
    found, alphas = frames(layers)
    entries = [{"name": one["name"], "visible": True, "opacity": 1.0, "blend": "normal", "flipH": False, "flipV": False,
                "transform": {key: one[key] for key in ("x", "y", "w", "h", "rotation")}} for one in found]
    return {"version": 1, "canvas": {"w": WIDTH, "h": HEIGHT}, "layers": entries, "order": [0, 1, 2],
            "inputs": compositor.input_fingerprints(found, alphas), "background": {"color": "#ffffff", "opacity": 1.0, "visible": False}}


@pytest.fixture(scope="module")
def by_hand(module):
    """The document as the artist left it."""
    edited = module("nodes.compositor_state").edited_by_hand
    return lambda layers, state, same_layers=True: edited(layers, {"compositor": state}, same_layers=same_layers)


@pytest.fixture(scope="module")
def mistake(core):
    return core("errors").InputError


EDITS = [
    {"transform": {"x": 20, "y": 3, "w": 12, "h": 8, "rotation": 0}},
    {"transform": {"x": 20.6, "y": 3.4, "w": 12, "h": 8, "rotation": 0}},
    {"transform": {"x": -5, "y": 30, "w": 24.4, "h": 16.7, "rotation": 0}},
    {"flipH": True},
    {"flipV": True, "transform": {"x": 8, "y": 10, "w": 6, "h": 20, "rotation": 0}},
    {"visible": False},
    {"transform": {"x": 10, "y": 10, "w": 12, "h": 8, "rotation": math.pi / 2}},
    {"transform": {"x": 9.3, "y": 10.8, "w": 24, "h": 16, "rotation": 0.7}},
]


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("order", [[0, 1, 2], [0, 2, 1]])
def test_layers_stand_where_create_layered_image_shows_them(module, by_hand, layers, state, edit, order):
    state["layers"][1] |= edit
    state["order"] = order
    found, alphas = frames(layers)
    shown = compositor.composite_from_state(
        [one["tensor"] for one in found], compositor.parse_layer_state(state), alphas)
    documents = module("nodes.documents")
    flat = documents.flattened(documents.stacks_from_layers(by_hand(layers, state)))[0]
    difference = (flat - shown[..., :3]).abs().amax(-1)
    # Soft edges of what was turned are mixed in linear light there.
    turned = edit.get("transform", {}).get("rotation", 0) != 0
    assert float((difference > 3 / 255).float().mean()) <= (0.06 if turned else 0.001)


def test_json_text_is_read_as_well(by_hand, layers, state):
    state["layers"][1]["transform"]["x"] = 9
    assert by_hand(layers, json.dumps(state))["layers"][1]["x"] == 9


def test_everything_else_of_a_layer_is_kept(by_hand, layers, state):
    layers["layers"][1] |= {"prompt": "a cup", "dreamlayer_origin": "a note"}
    found = by_hand(layers, state)
    assert found["layers"][1]["prompt"] == "a cup" and found["layers"][1]["dreamlayer_origin"] == "a note"
    assert [item["name"] for item in found["layers"]] == ["ground", "cup", "ball"]
    assert found["layers"][1]["image"] is layers["layers"][1]["image"] and "z_index" in found["layers"][0]


@pytest.mark.parametrize("raw", [None, {}, "", "{}", 7, [1]])
def test_no_edits_leave_the_document_as_it_is(by_hand, layers, raw, caplog, mistake):
    assert by_hand(layers, raw) is layers and caplog.text == ""
    with pytest.raises(mistake, match="gets other layers than this node; connect the same ones there and here"):
        by_hand(layers, raw, same_layers=False)  # which may be edited before they come there


def test_edits_that_fit_are_taken_whichever_way_the_layers_come(by_hand, layers, state):
    state["layers"][1]["transform"]["x"] = 9
    assert by_hand(layers, state, same_layers=False)["layers"][1]["x"] == 9


BROKEN = [
    lambda state: "{not json",
    lambda state: {"layers": []},
    lambda state: {key: value for key, value in state.items() if key != "canvas"},
    lambda state: state | {"canvas": {"w": "wide", "h": None}},
    lambda state: state | {"canvas": {"w": math.nan, "h": 3}},
    lambda state: state | {"layers": "none"},
    lambda state: state | {"inputs": None},
    lambda state: state | {"inputs": [1, 2, 3]},
    lambda state: state | {"inputs": state["inputs"][:2]},
    lambda state: state | {"inputs": ["0" * 16] * 3},
    lambda state: state | {"version": 9},
]


@pytest.mark.parametrize("broken", BROKEN)
def test_edits_of_an_earlier_run_or_none_are_left_out_as_there(by_hand, layers, state, broken, caplog, mistake):
    """Create Layered Image shows the layers as they come, and says that its state is stale."""
    state["layers"][1]["transform"]["x"] = 30
    raw = broken(state)
    assert "compositor_state_stale" in ImageCompositor.execute(layers, raw).ui
    assert by_hand(layers, raw) is layers
    assert "earlier run" in caplog.text
    with pytest.raises(mistake, match="gets other layers than this node"):
        by_hand(layers, raw, same_layers=False)


STRANGE = [7, None, "layer", [], {"transform": 3}, {"transform": {"x": "left", "w": -4, "h": None, "rotation": math.inf}},
           {"opacity": "much", "transform": {"x": 10**400, "y": -(10**400), "w": 0}}, {"blend": 7, "visible": None}]


@pytest.mark.parametrize("entry", STRANGE)
def test_strange_values_are_the_usual_ones(module, by_hand, layers, state, entry):
    state["layers"][1] = entry
    (stack,) = module("nodes.documents").stacks_from_layers(by_hand(layers, state))
    cup = next(layer for layer in stack.layers if layer.name == "cup")
    assert (cup.width, cup.height, cup.opacity, cup.blend_mode, cup.x) == (12, 8, 1.0, "normal", 0)


def test_far_and_huge_is_within_comfyuis_limits(by_hand, layers, state):
    state["layers"][1] |= {"opacity": 40, "transform": {"x": 1e12, "y": -1e12, "w": 1e9, "h": 5, "rotation": 0}}
    cup = by_hand(layers, state)["layers"][1]
    assert (cup["x"], cup["y"], cup["w"], cup["opacity"]) == (16384, -16384, 16384, 1.0)


def test_another_canvas_is_told(by_hand, layers, state, mistake):
    state["canvas"] = {"w": 64, "h": HEIGHT}
    with pytest.raises(mistake, match="canvas of 64x40 in Create Layered Image for layers of 48x40"):
        by_hand(layers, state)


def test_batches_are_told(module, by_hand, layers, mistake):
    documents = module("nodes.documents")
    batch = documents.layers_from_stacks(documents.stacks_from_layers(layers) * 2)
    found, alphas = frames(batch)
    state = {"canvas": {"w": WIDTH, "h": HEIGHT}, "layers": [{}] * len(found), "inputs": compositor.input_fingerprints(found, alphas)}
    with pytest.raises(mistake, match="one by one"):
        by_hand(batch, state)


# --- the prompt -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs_of(module):
    return module("nodes.compositor_state").editor_inputs


def prompt(editor=LINK, upstream="ImageCompositor"):
    return {"9": {"class_type": "DreamLayerEditHarmonize", "inputs": {"editor": editor}},
            "4": {"class_type": upstream, "inputs": {"layers": ["1", 0], "compositor": {"canvas": 1}}}}


def test_the_link_is_followed(inputs_of):
    assert inputs_of(prompt(), "9", "editor")["compositor"] == {"canvas": 1}
    assert inputs_of(prompt(("4", 0)), 9, "editor")["layers"] == ["1", 0]


@pytest.mark.parametrize(("given", "said"), [
    (prompt(upstream="LoadImage"), "from 'LoadImage', which knows of no edits"),
    (prompt(None), "from no node"),
    (prompt("4"), "from no node"),
    (prompt(["4"]), "from no node"),
    (prompt(["77", 0]), "no node '77'"),
    (prompt([{}, 0]), "no node {}"),
    ({"9": 3}, "no node '9'"),
    ({"9": {"inputs": []}}, "no node '9'"),
    ({}, "no node '9'"),
    (None, "no node '9'; queue the graph from ComfyUI"),
    ([1], "no node '9'"),
])
def test_a_prompt_that_is_none_is_told(inputs_of, mistake, given, said):
    with pytest.raises(mistake, match=said):
        inputs_of(given, "9", "editor")


# --- in ComfyUI's own executor ----------------------------------------------------------------------------------------

LAST = "13"


def graph(compositor_state):
    """Text to layers, Create Layered Image, Edit & Harmonize, and a preview."""
    def node(kind, **inputs):
        return {"class_type": kind, "inputs": inputs}

    return {
        "1": node("DreamLayerLoadEmbeddedModel"),
        "2": node("DreamLayerPrompts", background="green grass", foregrounds="1", whole="", negative="", plan_json="",
                  **{"foregrounds.name_1": "ball", "foregrounds.prompt_1": "a red ball", "foregrounds.weight_1": 1.0}),
        "4": node("DreamLayerEncode", clip=["1", 1], plan=["2", 0], adapter=["1", 4]),
        "5": node("DreamLayerEmptyLatent", plan=["2", 0], width=96, height=96, batch_size=1),
        "6": node("DreamLayerSampler", model=["1", 0], seed=1, steps=6, cfg=3.0, sampler_name="ddim", scheduler="ddim_uniform",
                  positive=["4", 0], negative=["4", 1], latent_image=["5", 0], denoise=1.0, layer_seeds=""),
        "7": node("DreamLayerDecode", vae=["1", 2], decoder=["1", 3], samples=["6", 0], views="1"),
        "8": node("ImageCompositor", layers=["7", 0], compositor=compositor_state),
        "9": node("DreamLayerEditHarmonize", model=["1", 0], vae=["1", 2], trajectory=["6", 1], layers=["7", 0], editor=["8", 0],
                  high=1000, low=300, strength=1.0, snap=False, seed=0),
        LAST: node("PreviewImage", images=["9", 0]),
    }


def test_a_layer_dragged_in_the_editor_is_harmonised_where_it_was_left(pack, tmp_path, monkeypatch):
    """And only what the edit concerns runs again: the state is in the inputs of a node upstream."""
    monkeypatch.setattr("folder_paths.temp_directory", str(tmp_path))
    monkeypatch.setitem(comfy_nodes.NODE_CLASS_MAPPINGS, "ImageCompositor", ImageCompositor)
    server = SimpleNamespace(client_id=None, last_node_id=None, last_prompt_id=None, send_sync=lambda *_: None, sockets_metadata={})
    executor = execution.PromptExecutor(
        server, cache_type=execution.CacheType.CLASSIC, cache_args={"ram": 1.0, "ram_inactive": 1.0, "lru": 0})

    def run(state):
        prompt = graph(state)
        valid, error, _, found = asyncio.run(execution.validate_prompt("test", prompt, None))
        assert valid, f"{error} {found}"
        with torch.inference_mode(False):
            executor.execute(prompt, "test", {}, [LAST, "8"])
        assert executor.success, executor.status_messages
        (kept,) = (data["nodes"] for event, data in executor.status_messages if event == "execution_cached")
        outputs = executor.history_result["outputs"]
        return outputs, (tmp_path / outputs[LAST]["images"][0]["filename"]).read_bytes(), set(kept)

    outputs, before, _ = run({})
    boxes = outputs["8"]["compositor_bboxes"]
    entries = [{"transform": {"x": box["x"], "y": box["y"], "w": box["width"], "h": box["height"], "rotation": 0}} for box in boxes]
    entries[1]["transform"]["x"] += 12
    state = {"canvas": {"w": 96, "h": 96}, "layers": entries, "order": [0, 1], "inputs": outputs["8"]["compositor_inputs"]}
    _, after, kept = run(state)
    assert after != before
    assert {"6", "7"} <= kept and "9" not in kept
    _, again, kept = run(state)
    assert again == after and "9" in kept
    assert run({})[1] == before
