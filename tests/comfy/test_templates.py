"""The templates in `workflows/`: whole and readable as files, and run as they come by comfy-cli on a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from psd_tools import PSDImage
from torch import Tensor

from dreamlayer_core.composite import composite, flatten
from dreamlayer_core.derived import plain_stack
from dreamlayer_core.formats import load_stack
from dreamlayer_core.plans.plan import LayerPlan
from dreamlayer_core.scenes import make_scene

from .server import HOST, PACK, ComfyServer

_WORKFLOWS = PACK / "workflows"
_NAMES = sorted(path.stem for path in _WORKFLOWS.glob("*.json"))
_NOTE = "MarkdownNote"
_ANY = "*"  # the type of a socket that takes everything
_CONTROL = "control_after_generate"  # the frontend's own, behind a seed
_TITLE = 30  # pixels of a node's title, over its position
_LEVELS = 4  # of 255: pictures are cut to eight bits, layer by layer

Graph = dict[str, Any]
Node = dict[str, Any]


def _read(path: Path) -> Graph:
    return json.loads(path.read_text(encoding="utf-8"))


def _ui(name: str) -> Graph:
    return _read(_WORKFLOWS / f"{name}.json")


def _api(name: str) -> Graph:
    return _read(_WORKFLOWS / "api" / f"{name}.json")


def _is_link(value: Any) -> bool:
    return isinstance(value, list)


def _nodes(graph: Graph) -> dict[int, Node]:
    return {node["id"]: node for node in graph["nodes"] if node["type"] != _NOTE}


# --- as files ---------------------------------------------------------------------------------------------------------


def test_the_templates_have_their_twins():
    assert len(_NAMES) >= 10
    assert sorted(path.stem for path in (_WORKFLOWS / "api").glob("*.json")) == _NAMES


@pytest.mark.parametrize("name", _NAMES)
def test_the_thumbnail_is_a_picture_of_512_pixels(name: str):
    with Image.open(_WORKFLOWS / f"{name}.jpg") as picture:
        picture.load()
        assert (picture.format, picture.mode, picture.width) == ("JPEG", "RGB", 512)
        assert 256 <= picture.height <= 1024


@pytest.mark.parametrize("name", _NAMES)
def test_the_graph_explains_itself(name: str):
    (note,) = (node for node in _ui(name)["nodes"] if node["type"] == _NOTE)
    (text,) = note["widgets_values"]
    assert "](https://arxiv.org/abs/2503.12838)" in text
    assert ".safetensors](https://huggingface.co/" in text, "links to models for those who have larger ones"


@pytest.mark.parametrize("name", _NAMES)
def test_every_link_has_two_ends(name: str):
    graph = _ui(name)
    nodes = _nodes(graph)
    for link, source, output, target, slot, kind in graph["links"]:
        assert link in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == link
        assert nodes[source]["outputs"][output]["type"] == kind
        assert nodes[target]["inputs"][slot]["type"] in (kind, _ANY)
    known = {link[0] for link in graph["links"]}
    used = {one["link"] for node in nodes.values() for one in node["inputs"] if one.get("link") is not None}
    given = {link for node in nodes.values() for one in node["outputs"] for link in one.get("links") or []}
    assert known == used == given


@pytest.mark.parametrize("name", _NAMES)
def test_the_twin_has_the_same_nodes_links_and_values(name: str):
    graph, twin = _ui(name), _api(name)
    nodes, sources = _nodes(graph), {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    assert {str(number): node["type"] for number, node in nodes.items()} == {
        number: node["class_type"] for number, node in twin.items()}
    for number, node in nodes.items():
        inputs = twin[str(number)]["inputs"]
        links = {one["name"]: sources[one["link"]] for one in node["inputs"] if one.get("link") is not None}
        assert links == {key: value for key, value in inputs.items() if _is_link(value)}
        values = {key: value for key, value in inputs.items() if not _is_link(value)}
        named = node.get("widgets_values_named") or {}
        assert values == {key: value for key, value in named.items() if key != _CONTROL}
        assert list(named.values()) == (node.get("widgets_values") or [])


@pytest.mark.parametrize("name", _NAMES)
def test_our_nodes_exist(name: str):
    sources = "".join(path.read_text(encoding="utf-8") for path in (PACK / "nodes").glob("*.py"))
    ours = set(re.findall(r'node_id="(\w+)"', sources))
    used = {node["class_type"] for node in _api(name).values() if node["class_type"].startswith("DreamLayer")}
    assert used and used <= ours


@pytest.mark.parametrize("name", _NAMES)
def test_nodes_stand_left_to_right_in_groups_without_overlap(name: str):
    graph = _ui(name)
    boxes = {node["id"]: _box(*node["pos"], *node["size"]) for node in graph["nodes"]}
    for one, (x, y, width, height) in boxes.items():
        for other, (left, top, wide, high) in boxes.items():
            apart = x + width <= left or left + wide <= x or y + height <= top or top + high <= y
            assert one == other or apart, f"nodes {one} and {other} overlap"
        around = [group["bounding"] for group in graph["groups"] if _holds(group["bounding"], (x, y, width, height))]
        assert len(around) == 1, f"node {one} is in {len(around)} groups"
    for _, source, _, target, *_ in graph["links"]:
        assert boxes[source][0] <= boxes[target][0], f"the link from {source} to {target} runs backwards"


def _box(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
    return x, y - _TITLE, width, height + _TITLE


def _holds(group: list[float], box: tuple[float, ...]) -> bool:
    left, top, wide, high = group
    x, y, width, height = box
    return left <= x and top <= y and x + width <= left + wide and y + height <= top + high


# --- on a real server -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def comfy_cli(comfy_python: Path) -> Path:
    found = shutil.which("comfy", path=os.pathsep.join([str(comfy_python.parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("no comfy-cli; install it with `pip install comfy-cli`")
    return Path(found)


class Run:
    """One run of a template: what its nodes show and save."""

    def __init__(self, server: ComfyServer, prompt_id: str):
        record = server.get_json(f"/history/{prompt_id}")[prompt_id]
        assert record["status"]["status_str"] == "success"
        self.server, self.outputs, self.prompt = server, record["outputs"], record["prompt"][2]

    def node(self, kind: str, title: str = "") -> str:
        (number,) = (
            number for number, node in self.prompt.items()
            if node["class_type"] == kind and node["_meta"]["title"].startswith(title))
        return number

    def pictures(self, kind: str, title: str = "") -> list[Image.Image]:
        """What the node of this kind and title shows."""
        return [Image.open(BytesIO(self.server.get("/view", **place)))
                for place in self.outputs[self.node(kind, title)]["images"]]

    def text(self, title: str) -> str:
        """What the text preview of this title shows."""
        (shown,) = self.outputs[self.node("PreviewAny", title)]["text"]
        return shown

    def files(self, kind: str, title: str = "") -> list[Path]:
        """What it says that it saved."""
        return [self.server.output / place["subfolder"] / place["filename"]
                for place in self.outputs[self.node(kind, title)]["files"]]


def _run(cli: Path, server: ComfyServer, workflow: Path, home: Path) -> Run:
    # A home of its own, so that neither the user's settings nor comfy-cli's questions play a part.
    environment = {**os.environ, "HOME": str(home), "DO_NOT_TRACK": "1"}
    command = [cli, "--skip-prompt", "--json-stream", "run", "--workflow", workflow, "--wait", "--host", HOST,
               "--port", server.port, "--timeout", "600"]
    done = subprocess.run(
        [str(part) for part in command], env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    envelope = json.loads(done.stdout.strip().splitlines()[-1])
    assert envelope["ok"], envelope
    return Run(server, envelope["data"]["prompt_id"])


def _pixels(picture: Image.Image) -> Tensor:
    """(c, h, w) in [0, 1]."""
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.view(picture.height, picture.width, -1).permute(2, 0, 1) / 255


def _check_layers(layers: list[Image.Image], merged: Image.Image, foregrounds: int = 2) -> None:
    """RGBA of one size, a background that covers, foregrounds that show and do not; their composite is `merged`."""
    assert [(one.mode, one.size) for one in layers] == [("RGBA", merged.size)] * (1 + foregrounds)
    rgba = torch.stack([_pixels(one) for one in layers])
    colors, alphas = rgba[:, :3], rgba[:, 3:]
    assert bool((alphas[0] == 1).all())
    for alpha in alphas[1:]:
        assert alpha.max() > 0.5, "a foreground is empty"
        assert alpha.mean() < 0.9, "a foreground has no transparency"
    off = (composite(colors, alphas) - _pixels(merged)[:3]).abs().max()  # (Eq. 1)
    assert off <= _LEVELS / 255


def _check_picture(picture: Image.Image) -> None:
    assert picture.size == (128, 128)
    assert _pixels(picture)[:3].std() > 0.05, "the picture is one colour"


@pytest.fixture(params=["workflows", "workflows/api"], ids=["ui", "api"])
def run(request: pytest.FixtureRequest, comfy_cli: Path, server: ComfyServer, tmp_path: Path):
    """Runs a template by its name, in UI or in API format."""
    return lambda name: _run(comfy_cli, server, PACK / request.param / f"{name}.json", tmp_path)


@pytest.mark.comfy
def test_text_to_layers(run):
    done = run("text_to_layers")
    (merged,), (whole,) = done.pictures("PreviewImage", "Composite"), done.pictures("PreviewImage", "Whole")
    _check_layers(done.pictures("SaveImage"), merged)
    _check_picture(whole)
    maps = done.pictures("PreviewImage", "Context maps")
    assert [one.size for one in maps] == [(128, 128)] * 2
    assert any(_pixels(one).std() > 0 for one in maps), "the context maps are empty"


@pytest.mark.comfy
def test_text_to_layers_harmonized(run):
    done = run("text_to_layers_harmonized")
    (merged,) = done.pictures("PreviewImage", "Composite")
    _check_layers(done.pictures("PreviewImage", "Layers"), merged)
    (harmonized,) = done.pictures("SaveImage")
    _check_picture(harmonized)
    assert (_pixels(harmonized) - _pixels(merged)).abs().mean() > 1 / 255, "harmonizing changed nothing"
    shown = done.outputs[done.node("ImageCompositor")]
    assert [box["name"] for box in shown["compositor_bboxes"]] == ["background", "green tree", "red mug"]
    (edited,) = done.pictures("ImageCompositor")
    assert edited.size == (128, 128)


@pytest.mark.comfy
def test_one_sentence_to_layers(run):
    done = run("one_sentence_to_layers")
    plan = LayerPlan.model_validate_json(done.text("Plan as JSON"))
    names = [layer.name for layer in plan.foregrounds]
    assert names == ["blue cube", "red ball 1", "red ball 2"], "counted, and in order of depth"
    assert done.text("The plan in words").splitlines()[:4] == [
        "background: a sandy beach under a blue sky", "blue cube: a blue cube", "red ball 1: a red ball",
        "red ball 2: a red ball"]
    shown = done.outputs[done.node("ImageCompositor")]
    assert [box["name"] for box in shown["compositor_bboxes"]] == ["background", *names]
    (merged,), (harmonized,) = done.pictures("PreviewImage", "Composite"), done.pictures("SaveImage")
    _check_layers(done.pictures("PreviewImage", "Layers"), merged, foregrounds=len(names))
    _check_picture(harmonized)
    assert (_pixels(harmonized) - _pixels(merged)).abs().mean() > 1 / 255, "harmonizing changed nothing"


@pytest.mark.comfy
def test_stock_ksampler(run):
    done = run("stock_ksampler")
    (merged,), (whole,) = done.pictures("PreviewImage", "Composite"), done.pictures("PreviewImage", "Whole")
    _check_layers(done.pictures("SaveImage"), merged)
    _check_picture(whole)


@pytest.mark.comfy
def test_image_to_layers(run):
    done = run("image_to_layers")
    (picture,), (merged,) = done.pictures("PreviewImage", "The picture"), done.pictures("PreviewImage", "Composite")
    _check_layers(done.pictures("SaveImage"), merged)
    assert len(done.pictures("PreviewImage", "Context maps")) == 2
    (difference,) = done.pictures("PreviewImage", "Difference")
    assert _pixels(difference).std() > 0, "the layers alone have no shadows between them"
    assert float(done.text("How near the layers come").split()[0]) > 15  # dB
    assert done.text("How near all of it comes").endswith("equal in eight bits")
    (psd,) = done.files("DreamLayerSaveLayers")
    stack = load_stack(psd)
    found = [layer.name for layer in stack.layers]
    assert [name for name in found if not name.startswith("effects: ")] == ["background", "purple car", "yellow ball", "residual"]
    wanted = torch.from_numpy(make_scene(12, foregrounds=2, split="test").picture).movedim(-1, 0) * 255
    assert torch.equal((flatten(stack) * 255).round(), wanted.round()), "the file merges to the picture"
    assert (_pixels(picture) * 255 - wanted).abs().max() <= 1  # which a preview cuts to eight bits


@pytest.mark.comfy
def test_rgba_in(run):
    done = run("rgba_in")
    (before,), (after,) = done.pictures("PreviewImage", "Before"), done.pictures("PreviewImage", "After")
    _check_layers(done.pictures("SaveImage"), after)
    blue = _pixels(before)[:, 80, 94]
    torch.testing.assert_close(blue, torch.tensor([0x28, 0x50, 0xD6]) / 255, atol=1 / 255, rtol=0)
    # It is the picture that went in, painted anew.
    difference = (_pixels(before)[:3] - _pixels(after)[:3]).abs().mean()
    assert 2 / 255 < difference < 0.25


@pytest.mark.comfy
def test_psd_and_ora_out(run):
    done = run("psd_and_ora_out")
    (psd,), (ora,) = (done.files("DreamLayerSaveLayers", title) for title in ("Save as PSD", "Save as OpenRaster"))
    names = ["background", "white house", "green tree"]
    assert [layer.name for layer in PSDImage.open(psd)] == names
    with zipfile.ZipFile(ora) as archive:
        root = ElementTree.fromstring(archive.read("stack.xml"))
    assert [layer.get("name") for layer in root.iter("layer")] == names[::-1]  # OpenRaster begins at the top
    (saved,) = done.pictures("SaveImage")
    for path in (psd, ora):
        stack = load_stack(path)
        assert (flatten(stack) - _pixels(saved)[:3]).abs().max() <= _LEVELS / 255  # (Eq. 1)
        assert all(layer.box is not None for layer in stack.layers)


@pytest.mark.comfy
def test_move_and_reharmonize(run):
    done = run("move_and_reharmonize")
    (before,), (after,) = done.pictures("PreviewImage", "Composite"), done.pictures("SaveImage")
    _check_layers(done.pictures("PreviewImage", "Layers"), before)
    _check_picture(after)
    boxes = done.outputs[done.node("ImageCompositor")]["compositor_bboxes"]
    assert [box["name"] for box in boxes] == ["background", "green tree", "red mug"]
    (psd,) = done.files("DreamLayerSaveLayers")
    names = [layer.name for layer in PSDImage.open(psd)]
    assert [name for name in names if not name.startswith("effects")] == ["background", "green tree", "red mug"]
    assert any(name.startswith("effects") for name in names), "no shadow came of it"
    (mug,) = (layer for layer in load_stack(psd).layers if layer.name == "red mug")
    assert (mug.x, mug.y) == (boxes[2]["x"], boxes[2]["y"])
    assert (flatten(load_stack(psd)) - _pixels(after)[:3]).abs().mean() < 1 / 255


@pytest.mark.comfy
def test_psd_harmonized(run, server: ComfyServer):
    """With a file that the other template has saved, whose shadows are taken off and made anew."""
    (made,) = run("move_and_reharmonize").files("DreamLayerSaveLayers")
    shutil.copy(made, server.folder / "input" / "layers.psd")
    done = run("psd_harmonized")
    (after,) = done.pictures("PreviewImage", "After")
    (saved,) = done.files("DreamLayerSaveLayers")
    given, found = (plain_stack(load_stack(path)) for path in (made, saved))
    assert (flatten(found) - _pixels(after)[:3]).abs().mean() > 1 / 255, "harmonizing changed nothing"
    for layer, kept in zip(given.layers, found.layers, strict=True):
        assert (layer.name, layer.box) == (kept.name, kept.box)
        assert (layer.color * layer.alpha - kept.color * kept.alpha).abs().max() < 1 / 255, "a layer was painted over"
    assert (flatten(load_stack(saved)) - _pixels(after)[:3]).abs().mean() < 1 / 255


@pytest.mark.comfy
def test_regenerate_one_layer(run):
    done = run("regenerate_one_layer")
    before, after = (done.pictures("PreviewImage", f"{when}: layers") for when in ("Before", "After"))
    for layers, when in ((before, "Before"), (after, "After")):
        (merged,) = done.pictures("PreviewImage", f"{when}: composite")
        _check_layers(layers, merged)
    for old, new in zip(before[:2], after[:2], strict=True):
        assert torch.equal(_pixels(old), _pixels(new)), "a layer changed that was to stay"
    assert (_pixels(before[2]) - _pixels(after[2])).abs().mean() > _LEVELS / 255, "the layer is the old one"
    (harmonized,) = done.pictures("SaveImage")
    _check_picture(harmonized)
