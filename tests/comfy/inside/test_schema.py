"""What users' workflows hold of our nodes (ids, inputs, outputs), against a snapshot; and the texts that users read.

A change breaks saved workflows. Where it is meant, write the snapshot and the English texts anew and look at the diff:

    DREAMLAYER_UPDATE_SNAPSHOT=1 ./scripts/test -m comfy -k test_schema
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SNAPSHOT = Path(__file__).with_name("schema_snapshot.json")
ENGLISH = Path(__file__).parents[3] / "locales" / "en" / "nodeDefs.json"
HINT = (
    "; saved workflows break where an id, a type or an option changes. If it is meant: "
    "DREAMLAYER_UPDATE_SNAPSHOT=1 ./scripts/test -m comfy -k test_schema"
)
UPDATE = os.environ.get("DREAMLAYER_UPDATE_SNAPSHOT") == "1"
FROM_THE_MACHINE = {
    "adapter_name", "decoder_name", "file", "ip_adapter_name", "lora_name", "sampler_name", "scheduler", "weights_name"}  # their options vary
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"


@pytest.fixture(scope="session")
def infos(pack) -> dict[str, dict[str, Any]]:
    """{node id: what ComfyUI tells the browser of it}."""
    return {node_id: pack[node_id].GET_NODE_INFO_V1() for node_id in sorted(pack)}


@pytest.fixture(scope="session")
def schemas(pack, infos) -> dict[str, dict[str, Any]]:
    return {node_id: snapshot(pack[node_id], info) for node_id, info in infos.items()}


@pytest.fixture(scope="session")
def texts(infos) -> dict[str, dict[str, Any]]:
    return {node_id: english(info) for node_id, info in infos.items()}


def inputs(groups: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(id, type, options) of all inputs. Those that a choice brings along are named as the browser names them."""
    for group in ("required", "optional"):
        for name, (kind, options) in groups.get(group, {}).items():
            yield name, kind, options | {"optional": group == "optional"}
            if kind == DYNAMIC:
                yield from choices(name, options["options"])


def choices(name: str, options: list[dict[str, Any]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    seen = set[str]()
    for option in options:
        for inner, kind, about in inputs(option["inputs"]):
            if inner not in seen:
                seen.add(inner)
                yield f"{name}.{inner}", kind, about | {"from": option["key"]}


def snapshot(node: Any, info: dict[str, Any]) -> dict[str, Any]:
    outputs = node.GET_SCHEMA().outputs
    return {
        "category": info["category"],
        "inputs": {name: about(name, kind, options) for name, kind, options in inputs(info["input"])},
        "outputs": [{"id": output.id, "type": output.get_io_type()} for output in outputs],
    }


def about(name: str, kind: str, options: dict[str, Any]) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": kind}
    if "options" in options and name not in FROM_THE_MACHINE:
        entry["options"] = [one["key"] if isinstance(one, dict) else one for one in options["options"]]
    for key in ("default", "from"):
        if key in options:
            entry[key] = options[key]
    return entry | {key: True for key in ("optional", "multiline", "advanced") if options.get(key)}


def english(info: dict[str, Any]) -> dict[str, Any]:
    """As the frontend's locale files hold a node: dots of ids are underscores, outputs go by number."""
    named = {
        name.replace(".", "_"): text(options.get("display_name") or name.rpartition(".")[2].replace("_", " "), options.get("tooltip", ""))
        for name, _, options in inputs(info["input"])
    }
    outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": named,
        "outputs": {str(index): text(*output) for index, output in enumerate(outputs)},
    }


def text(name: str, tooltip: str) -> dict[str, str]:
    return {"name": name, "tooltip": tooltip}


def check(path: Path, expected: dict[str, Any], hint: str) -> None:
    if UPDATE:
        path.write_text(json.dumps(expected, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    found = json.loads(path.read_text(encoding="utf-8"))
    changes = [f"{place}: was {was!r}, is {now!r}" for place, was, now in differences(found, expected)]
    assert not changes, "\n".join([f"the nodes are not those of {path.name}{hint}", *changes])


def differences(found: Any, expected: Any, place: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(place, value there, value expected) of every leaf that differs; None where there is none."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in dict.fromkeys([*found, *expected]):
            yield from differences(found.get(key), expected.get(key), f"{place}/{key}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for index, pair in enumerate(zip(found, expected, strict=True)):
            yield from differences(*pair, f"{place}/{index}")
    elif found != expected:
        yield place, found, expected


def test_ids_types_and_options_are_those_of_saved_workflows(schemas):
    check(SNAPSHOT, schemas, HINT)
    # The order of outputs and of choices is saved as well, and equality of dictionaries does not see that of inputs.
    found = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    for node_id, schema in schemas.items():
        assert list(found[node_id]["inputs"]) == list(schema["inputs"]), f"inputs of {node_id} changed places{HINT}"


def test_english_texts_are_those_of_the_nodes(texts):
    check(ENGLISH, texts, HINT)


def test_every_node_can_be_found_and_understood(infos):
    for node_id, info in infos.items():
        assert node_id.startswith("DreamLayer"), node_id
        assert info["category"].split("/")[0] == "DreamLayer", (node_id, info["category"])
        assert info["display_name"] and info["description"] and info["search_aliases"], node_id
        assert all(info["output_name"]) and all(info["output_tooltips"]), node_id
        assert [name for name, _, options in inputs(info["input"]) if not options.get("tooltip")] == [], node_id
