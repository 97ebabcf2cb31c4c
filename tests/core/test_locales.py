"""Names, tooltips and help pages of the nodes: complete, in every language, and nothing stale.

The list of nodes is the snapshot that tests/comfy/inside/test_schema.py keeps true, so this runs without ComfyUI.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HELP = ROOT / "web" / "docs"
SCHEMA: dict[str, Any] = json.loads((ROOT / "tests/comfy/inside/schema_snapshot.json").read_text(encoding="utf-8"))
LANGUAGES = ("de", "en", "ja", "zh")
COMFYUI_CATEGORIES = {"loaders", "sampling"}  # these ComfyUI translates itself
SYNTAX = set("{}@|")  # the frontend's messages give these a meaning
# What has to stand in a translation as it stands in English: files, folders, placeholders, names of modes.
VERBATIM = re.compile(r"%\w+%|models/\w+|\w+\.(?:safetensors|json|png)|sRGB|RGBA?|psd-tools|[TP]'?_[HG]|\d+x\d+")


def locale(language: str, name: str = "nodeDefs") -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))


def texts(node: dict[str, Any]) -> dict[str, str]:
    """Every text of a node, by its place."""
    found = {"display_name": node["display_name"], "description": node["description"]}
    for kind in ("inputs", "outputs"):
        for key, entry in node[kind].items():
            found |= {f"{kind}.{key}.{what}": entry[what] for what in entry}
    return found


def places(schema: dict[str, Any]) -> set[str]:
    """Where the frontend looks for texts: dots of ids are underscores, outputs go by their number."""
    inputs = [f"inputs.{name.replace('.', '_')}" for name in schema["inputs"]]
    outputs = [f"outputs.{index}" for index in range(len(schema["outputs"]))]
    return {"display_name", "description"} | {f"{slot}.{what}" for slot in inputs + outputs for what in ("name", "tooltip")}


def test_the_languages_are_those() -> None:
    assert sorted(path.name for path in (ROOT / "locales").iterdir()) == list(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_is_there_and_none_is_stale(language: str) -> None:
    nodes = locale(language)
    assert set(nodes) == set(SCHEMA)
    for node_id, schema in SCHEMA.items():
        found = texts(nodes[node_id])
        assert set(found) == places(schema), node_id
        bad = [place for place, text in found.items() if not text.strip() or text != text.strip() or SYNTAX & set(text)]
        assert bad == [], (node_id, "empty, padded, or with one of {}@|")


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_translations_are_translated_and_keep_what_is_no_language(language: str) -> None:
    english, nodes = locale("en"), locale(language)
    for node_id in SCHEMA:
        original, translated = texts(english[node_id]), texts(nodes[node_id])
        same = [place for place, text in translated.items() if not place.endswith("name") and text == original[place]]
        assert same == [], node_id
        for place, text in original.items():
            missing = [word for word in VERBATIM.findall(text) if word not in translated[place]]
            assert missing == [], (node_id, place)


@pytest.mark.parametrize("language", LANGUAGES)
def test_categories_and_sockets_have_names(language: str) -> None:
    main = locale(language, "main")
    parts = {part for schema in SCHEMA.values() for part in schema["category"].split("/")}
    kinds = {slot["type"] for schema in SCHEMA.values() for slot in [*schema["inputs"].values(), *schema["outputs"]]}
    assert set(main) == {"nodeCategories", "dataTypes"}
    assert set(main["nodeCategories"]) == parts - COMFYUI_CATEGORIES
    assert set(main["dataTypes"]) == {kind for kind in kinds if kind.startswith("DREAMLAYER_")}
    assert all(text.strip() for table in main.values() for text in table.values())


def test_display_names_are_unique() -> None:
    for language in LANGUAGES:
        names = [node["display_name"] for node in locale(language).values()]
        assert len(set(names)) == len(names), language


def test_help_pages_are_those_of_the_nodes() -> None:
    assert {path.stem for path in HELP.glob("*.md")} == set(SCHEMA)
    assert {path.stem for path in (HELP / "images").iterdir()} == set(SCHEMA)


@pytest.mark.parametrize("node_id", SCHEMA)
def test_a_help_page_tells_of_every_input_and_output(node_id: str) -> None:
    page, node = (HELP / f"{node_id}.md").read_text(encoding="utf-8"), locale("en")[node_id]
    title, picture = page.splitlines()[0], re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert title == f"# {node['display_name']}"
    assert picture == [f"images/{node_id}.svg"], "pictures are found from web/docs"
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Inputs", "## Outputs", "## Example", "## Good to know"]  # fmt: skip
    inputs, outputs = (page.partition(f"## {part}\n")[2].partition("\n## ")[0] for part in ("Inputs", "Outputs"))
    first = [key for key, about in SCHEMA[node_id]["inputs"].items() if about.get("from", "1") == "1"]
    names = [node["inputs"][key.replace(".", "_")]["name"] for key in first]
    assert [name for name in names if f"**{name}**" not in inputs] == []
    assert [slot["name"] for slot in node["outputs"].values() if f"**{slot['name']}**" not in outputs] == []
    # Nor does it tell of others: every item begins with the names of what it is about.
    told = [name for line in re.findall(r"^ *- (\*\*.*?):", inputs, re.MULTILINE) for name in re.findall(r"\*\*(.+?)\*\*", line)]
    assert set(told) == set(names)


def test_pictures_of_the_nodes_are_drawn_from_what_they_are_now() -> None:
    spec = importlib.util.spec_from_file_location("node_pictures", ROOT / "scripts" / "node_pictures.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for node_id, picture in module.pictures().items():
        drawn = (HELP / "images" / f"{node_id}.svg").read_text(encoding="utf-8")
        assert drawn == picture, f"{node_id}.svg is out of date: run python scripts/node_pictures.py"


def test_the_manual_lists_every_node_and_template() -> None:
    manual = (ROOT / "docs" / "comfyui.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| ([^|]+?) \|", manual.partition("## Nodes\n")[2].partition("\n## ")[0], re.MULTILINE)
    assert set(told) - {"node", "---"} == {node["display_name"] for node in locale("en").values()}
    templates = {path.stem for path in (ROOT / "workflows").glob("*.json")}
    assert set(re.findall(r"\[(\w+)\]\(\.\./workflows/", manual)) == templates
