"""Help pages and translations as a real server gives them out, and as the browser shows them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.request import urlopen

import pytest

from .browser import chromium
from .server import PACK, ComfyServer

_NODES = sorted(path.stem for path in (PACK / "web" / "docs").glob("*.md"))
_LANGUAGES = sorted(path.name for path in (PACK / "locales").iterdir())
_READY = "return Boolean(window.app?.graph && window.LiteGraph?.registered_node_types.DreamLayerPrompts)"
_NODE = "const node = app.graph.nodes.find(one => one.type === 'DreamLayerPrompts'); "
# Asked again and again: a browser that is still starting takes a node or its selection away, or does not notice it.
_INFO_BUTTON = """
    if (document.querySelector('[data-testid="info-button"]')) return true;
    app.graph.clear();
    app.graph.add(LiteGraph.createNode('DreamLayerPrompts'));
    app.canvas.deselectAll();
    app.canvas.selectNode(app.graph.nodes[0])"""
_HELP = "const help = document.querySelector('.node-help-content'); "


@pytest.mark.comfy
def test_pages_and_pictures_are_served(server: ComfyServer):
    for node_id in _NODES:
        for name, kind in ((f"{node_id}.md", "text/"), (f"images/{node_id}.svg", "image/svg+xml")):
            with urlopen(f"{server.url}/extensions/dreamlayer/docs/{name}", timeout=60) as answer:
                assert answer.headers["Content-Type"].startswith(kind) or name.endswith(".md"), name
                assert "html" not in answer.headers["Content-Type"], "the frontend takes HTML for a missing page"
                assert answer.read() == (PACK / "web" / "docs" / name).read_bytes()


@pytest.mark.comfy
def test_translations_are_served(server: ComfyServer):
    found = server.get_json("/i18n")
    for language in _LANGUAGES:
        texts = json.loads((PACK / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
        assert {node_id: found[language]["nodeDefs"][node_id] for node_id in texts} == texts
        assert found[language]["nodeCategories"]["DreamLayer"] == "DreamLayer"


@pytest.mark.browser
def test_the_browser_shows_help_and_translations(server: ComfyServer, tmp_path: Path):
    names = json.loads((PACK / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))["DreamLayerPrompts"]
    with chromium(tmp_path) as browser:
        browser.open(server.url)
        browser.wait(_READY)
        try:
            browser.js("await window.app.extensionManager.setting.set('Comfy.Locale', 'zh')")
            browser.open(server.url)
            browser.wait(_READY)
            browser.wait(_INFO_BUTTON)
            labels = browser.js(
                _NODE + "return [node.title, node.outputs.map(one => one.localized_name), node.widgets.map(one => one.label)]")
            # By script: the toolbar is still on its way to the node, and a hand would miss it.
            browser.js("document.querySelector('[data-testid=\"info-button\"]').click()")
            browser.wait(_HELP + "return help?.querySelector('img')?.naturalWidth > 100")
            text = browser.js(_HELP + "return help.innerText")
            if folder := os.environ.get("DREAMLAYER_SCREENSHOTS"):
                browser.screenshot(Path(folder) / "help.png")
        finally:
            browser.js("await window.app.extensionManager.setting.set('Comfy.Locale', 'en')")
    assert labels[0] == names["display_name"]
    assert labels[1] == [names["outputs"][index]["name"] for index in "012"]
    wanted = [names["inputs"][key]["name"] for key in ("background", "foregrounds", "foregrounds_name_1", "foregrounds_weight_1")]
    assert [name for name in wanted if name not in labels[2]] == []
    assert "Every layer costs time and memory" in text
