"""The pack in a real browser: a template opens, runs, shows its pictures, and the layer editor has our layers by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from .browser import Browser, chromium
from .frontend import open_layer_editor, run_by_button
from .server import ComfyServer

pytestmark = pytest.mark.browser

_TEMPLATE, _NODES = "text_to_layers_harmonized", 14
_NAMES = ["red mug", "green tree", "background"]  # top to bottom
_PICTURES = ["Composite, without shadows", "Create Layered Image", "Layers (RGBA)", "Save harmonized picture"]
_SHOWN = (
    "app.graph.nodes.filter(n => [...document.querySelectorAll(`[data-node-id=\"${n.id}\"] img`)]"
    ".some(i => i.naturalWidth === 128)).map(n => n.title).sort()")  # titles of the nodes that show a picture
# What ComfyUI's frontend says with no pack installed as well. The second: it looks for the models of its own first graph.
_NOT_OURS = ("ComfyApp graph accessed before initialization", "Content Security Policy")


@pytest.fixture(scope="module")
def opened(server: ComfyServer, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser with the template opened by its address, as the template library does it."""
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        browser.open(f"{server.url}/?template={_TEMPLATE}&source=dreamlayer")
        browser.wait("return document.querySelectorAll('[data-node-id]').length === args[0]", _NODES)
        browser.screenshot(pictures / "opened.png")
        yield browser


@pytest.fixture(scope="module")
def ran(opened: Browser, server: ComfyServer, pictures: Path) -> Browser:
    """The same browser after its Run button was pressed and the run is over."""
    run_by_button(opened, server)
    opened.wait(f"return ({_SHOWN}).length === args[0]", len(_PICTURES))
    opened.screenshot(pictures / "ran.png")
    return opened


def test_the_pack_loads_without_an_error_in_the_console(opened: Browser):
    errors = [one for one in opened.console() if one["level"] == "SEVERE"]
    ours = [one for one in errors if "dreamlayer" in one["message"].lower()]
    others = [one for one in errors if one["source"] != "network" and not any(text in one["message"] for text in _NOT_OURS)]
    assert ours + others == []


def test_every_node_of_the_template_is_known(opened: Browser):
    unknown = opened.js(
        "return app.graph.nodes.filter(n => n.type !== 'MarkdownNote')"
        ".filter(n => n.has_errors || !LiteGraph.registered_node_types[n.type]).map(n => n.type)")
    assert unknown == []
    assert "issing node" not in opened.js("return document.body.innerText")


def test_a_run_shows_its_pictures(ran: Browser):
    assert ran.js(f"return {_SHOWN}") == _PICTURES


def test_the_layer_editor_has_our_layers_by_name(ran: Browser, pictures: Path):
    open_layer_editor(ran)
    rows = "[...document.querySelectorAll('[data-testid=\"layer-panel-row\"]')]"
    ran.wait(f"return {rows}.length === args[0]", len(_NAMES))
    assert ran.js(f"return {rows}.map(row => row.innerText.split('\\n')[0])") == _NAMES
    ran.wait("return document.querySelector('[data-testid=\"layer-editor-main-canvas\"]')?.width > 0")
    time.sleep(2)  # it draws a frame after it appears
    ran.screenshot(pictures / "editor.png")
    with Image.open(pictures / "editor.png") as picture:
        middle = picture.convert("L").resize((90, 48)).crop((43, 23, 47, 26))
        assert ImageStat.Stat(middle).stddev[0] > 2, "the editor's canvas is empty"


def test_load_layers_takes_a_file_by_its_button(ran: Browser, server: ComfyServer):
    ran.js("""
        const node = LiteGraph.createNode('DreamLayerLoadLayers')
        HTMLInputElement.prototype.click = function () { window.picked = this }  // the browser's own dialog
        node.widgets.find(widget => widget.type === 'button').callback()
        const files = new DataTransfer()
        files.items.add(new File(['not yet a picture'], 'by button.ora'))
        window.picked.files = files.files
        window.picked.dispatchEvent(new Event('change'))
        window.loading = node""")
    ran.wait("return window.loading.widgets.find(widget => widget.name === 'file').value === 'by button.ora'", seconds=30)
    assert (server.folder / "input" / "by button.ora").read_text(encoding="utf-8") == "not yet a picture"
    assert "choose a PSD" in ran.js("return window.loading.widgets.find(widget => widget.type === 'button').name")
