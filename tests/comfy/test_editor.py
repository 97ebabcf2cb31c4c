"""From a drag to the harmonized picture: a layer is moved by hand in ComfyUI's own layer editor, and its shadow follows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from .browser import Browser, chromium
from .frontend import Run, open_layer_editor, run_by_button
from .server import ComfyServer

pytestmark = pytest.mark.browser

_TEMPLATE, _LAYER, _SIDE = "move_and_reharmonize", "red mug", 128
_BY = (-30, -10)  # pixels of the picture that the layer is dragged by
_SLIP = 10  # pixels of the picture: the editor lets a layer snap to the middle and the edges of others
_ROW = f"[...document.querySelectorAll('[data-testid=\"layer-panel-row\"]')].find(row => row.innerText.startsWith('{_LAYER}'))"
_CANVAS = "document.querySelector('[data-testid=\"layer-editor-main-canvas\"]')"
_CLOSE = (
    "[...document.querySelector('#layer-editor-header-actions').parentElement.querySelectorAll('button')]"
    ".find(button => button.innerText.trim() === 'Close')")
_EDITOR = "app.graph.nodes.find(node => node.type === 'ImageCompositor')"
_QUICK = {"steps": 10, "views": "1", "high": 700, "low": 200}  # widgets, in place of what the template has

@pytest.fixture(scope="module")
def browser(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("chromium")) as one:
        one.open(f"{server.url}/?template={_TEMPLATE}&source=dreamlayer")
        one.wait(f"return Boolean(window.app?.graph && {_EDITOR} && document.querySelector('[data-testid=\"queue-button\"]'))")
        found = one.js(
            "const found = app.graph.nodes.flatMap(node => node.widgets ?? []).filter(one => one.name in args[0]);"
            "for (const one of found) one.value = args[0][one.name];"
            "return found.map(one => one.name).sort()", _QUICK)
        assert found == sorted(_QUICK)
        yield one


def _node(run: Run, kind: str) -> str:
    return next(number for number, node in run["prompt"][2].items() if node["class_type"] == kind)


def _shown(place: dict[str, str], server: ComfyServer) -> Tensor:
    """(4, h, w) in [0, 1] of a picture that a run shows."""
    with Image.open(BytesIO(server.get("/view", **place))) as picture:
        flat = torch.frombuffer(bytearray(picture.convert("RGBA").tobytes()), dtype=torch.uint8)
        return flat.view(picture.height, picture.width, 4).permute(2, 0, 1) / 255


def _harmonized(run: Run, server: ComfyServer) -> Tensor:
    """(3, h, w)"""
    (place,) = run["outputs"][_node(run, "SaveImage")]["images"]
    return _shown(place, server)[:3]


@pytest.fixture(scope="module")
def first(browser: Browser, server: ComfyServer) -> Run:
    """The template as it comes."""
    return run_by_button(browser, server)


@pytest.fixture(scope="module")
def box(first: Run) -> dict[str, Any]:
    """Where the layer stands before it is dragged."""
    return next(one for one in first["outputs"][_node(first, "ImageCompositor")]["compositor_bboxes"] if one["name"] == _LAYER)


@pytest.fixture(scope="module")
def state(first: Run, box: dict[str, Any], browser: Browser, pictures: Path) -> dict[str, Any]:
    """What the editor's widget holds after a layer was dragged with the mouse and the editor closed."""
    open_layer_editor(browser)
    browser.wait(f"return Boolean({_ROW}) && {_CANVAS}?.getBoundingClientRect().width > 100")
    browser.js(f"{_ROW}.click()")
    time.sleep(2)  # it draws a frame after it appears
    browser.screenshot(pictures / "editor_before.png")
    left, top, width = browser.js(f"const box = {_CANVAS}.getBoundingClientRect(); return [box.x, box.y, box.width]")
    scale = width / _SIDE
    start = (left + scale * (box["x"] + box["width"] / 2), top + scale * (box["y"] + box["height"] / 2))
    browser.drag(start, (start[0] + scale * _BY[0], start[1] + scale * _BY[1]))
    time.sleep(2)  # it saves a moment later
    browser.screenshot(pictures / "editor_after.png")
    browser.wait(f"if ({_CANVAS}) {_CLOSE}?.click(); return !{_CANVAS}")
    return browser.js(f"return {_EDITOR}.widgets.find(one => one.name === 'compositor').value")


@pytest.fixture(scope="module")
def second(state: dict[str, Any], browser: Browser, server: ComfyServer, pictures: Path) -> Run:
    """The same graph run again after the drag."""
    run = run_by_button(browser, server)
    time.sleep(2)
    browser.screenshot(pictures / "editor_ran.png")
    return run


def test_the_editor_keeps_the_drag(state: dict[str, Any], box: dict[str, Any]):
    moved = next(one for one in state["layers"] if one["name"] == _LAYER)["transform"]
    assert abs(moved["x"] - box["x"] - _BY[0]) <= _SLIP and abs(moved["y"] - box["y"] - _BY[1]) <= _SLIP


def test_only_what_the_drag_concerns_runs_again(second: Run):
    assert second["prompt"][2][_node(second, "ImageCompositor")]["inputs"]["compositor"]["layers"]
    (cached,) = (data["nodes"] for event, data in second["status"]["messages"] if event == "execution_cached")
    assert {_node(second, kind) for kind in ("DreamLayerSampler", "DreamLayerDecode", "DreamLayerTransformLayers")} <= set(cached)
    assert _node(second, "DreamLayerEditHarmonize") not in cached


def _layer(run: Run, name: str, server: ComfyServer) -> Tensor:
    """(4, h, w): what the editor has of a layer, within its box."""
    shown = run["outputs"][_node(run, "ImageCompositor")]
    return _shown(shown["compositor_layers"][[box["name"] for box in shown["compositor_bboxes"]].index(name)], server)


@pytest.fixture(scope="module")
def solid(first: Run, server: ComfyServer) -> Tensor:
    """(n, 2): x and y, from the corner of its box, of those pixels of the layer through which nothing shines."""
    return (_layer(first, _LAYER, server)[3] > 0.95).nonzero().flip(-1)


@pytest.fixture(scope="module")
def colors(first: Run, solid: Tensor, server: ComfyServer) -> Tensor:
    """(3, n): of those pixels."""
    return _layer(first, _LAYER, server)[:3, solid[:, 1], solid[:, 0]]


@pytest.fixture(scope="module")
def background(first: Run, server: ComfyServer) -> Tensor:
    """(3, h, w)"""
    return _layer(first, "background", server)[:3]


def _cover(solid: Tensor, x: float, y: float) -> Tensor:
    """(h, w), boolean: where those pixels lie with the box at a place."""
    return _painted(solid, torch.ones(1, len(solid)), x, y)[0] > 0


def _painted(solid: Tensor, values: Tensor, x: float, y: float) -> Tensor:
    """(c, h, w): values (c, n) of those pixels with the box at a place, among zeros."""
    columns, rows = (solid + torch.tensor([round(x), round(y)])).unbind(-1)
    seen = (columns >= 0) & (columns < _SIDE) & (rows >= 0) & (rows < _SIDE)
    canvas = torch.zeros(len(values), _SIDE, _SIDE)
    canvas[:, rows[seen], columns[seen]] = values[:, seen]
    return canvas


def test_the_harmonized_picture_has_the_layer_where_it_was_dragged_to(
    first: Run, second: Run, state: dict[str, Any], box: dict[str, Any], solid: Tensor, colors: Tensor, background: Tensor,
    server: ComfyServer,
):
    pictures = [_harmonized(run, server) for run in (first, second)]
    moved = next(one for one in state["layers"] if one["name"] == _LAYER)["transform"]
    old, new = (_cover(solid, one["x"], one["y"]) for one in (box, moved))
    only_old, only_new = old & ~new, new & ~old
    assert min(only_old.sum(), only_new.sum()) > 300
    # 0 is the bare ground, 1 the layer as it was sampled; its edges may come out darker.
    towards = (_painted(solid, colors, moved["x"], moved["y"]) - background)[:, only_new]
    before, after = (float(((picture - background)[:, only_new] * towards).sum() / towards.square().sum()) for picture in pictures)
    assert after > before + 0.3, "it is not there"
    # Against the red itself the brown of the ground would count as half of the layer.
    was, ground = ((pictures[1] - picture)[:, only_old].abs().mean() for picture in (pictures[0], background))
    assert ground < was, "it is still where it was"
