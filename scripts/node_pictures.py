#!/usr/bin/env python3
"""Draw every node as the help pages show it: web/docs/images/<node id>.svg.

From tests/comfy/inside/schema_snapshot.json and the English names. Needs nothing but Python. A test tells when a
picture is older than its node.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "web" / "docs" / "images"
SNAPSHOT = ROOT / "tests" / "comfy" / "inside" / "schema_snapshot.json"
NAMES = ROOT / "locales" / "en" / "nodeDefs.json"

WIDTH, MARGIN, TITLE, ROW, GAP, TEXT_BOX = 380, 10, 32, 22, 6, 58
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
COLOURS = {  # of ComfyUI's sockets
    "CLIP": "#ffd500", "CONDITIONING": "#ffa931", "IMAGE": "#64b5f6", "LATENT": "#ff9cf9", "MASK": "#81c784",
    "MODEL": "#b39ddb", "VAE": "#ff6e6e",
}  # fmt: skip


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for node_id, picture in pictures().items():
        (FOLDER / f"{node_id}.svg").write_text(picture, encoding="utf-8")


def pictures() -> dict[str, str]:
    """{node id: SVG} of all nodes."""
    schemas, names = (json.loads(path.read_text(encoding="utf-8")) for path in (SNAPSHOT, NAMES))
    return {node_id: draw(schema, names[node_id]) for node_id, schema in schemas.items()}


def draw(schema: dict[str, Any], names: dict[str, Any]) -> str:
    """One node: title, sockets, and the widgets of a node that was just added."""
    inputs = {key: entry for key, entry in schema["inputs"].items() if shown(entry, schema["inputs"])}
    label = {key: names["inputs"][key.replace(".", "_")]["name"] for key in inputs}
    sockets = [(label[key], entry) for key, entry in inputs.items() if entry["type"] not in WIDGETS]
    widgets = [(label[key], entry) for key, entry in inputs.items() if entry["type"] in WIDGETS]
    outputs = [(names["outputs"][str(i)]["name"], entry) for i, entry in enumerate(schema["outputs"])]

    parts, y = list[str](), MARGIN + TITLE + GAP
    for index, (name, entry) in enumerate(sockets):
        parts += socket(name, entry, y + index * ROW, left=True)
    for index, (name, entry) in enumerate(outputs):
        parts += socket(name, entry, y + index * ROW, left=False)
    y += max(len(sockets), len(outputs)) * ROW + GAP
    for name, entry in widgets:
        height = TEXT_BOX if entry.get("multiline") else ROW
        parts += widget(name, entry, y, height)
        y += height + GAP
    return frame(names["display_name"], parts, y + MARGIN)


def shown(entry: dict[str, Any], inputs: dict[str, Any]) -> bool:
    """Without what hides behind a button, and what only another choice brings along."""
    first = next((one["options"][0] for one in inputs.values() if one["type"].startswith("COMFY_DYNAMIC")), None)
    return not entry.get("advanced") and entry.get("from", first) == first


def socket(name: str, entry: dict[str, Any], y: int, *, left: bool) -> list[str]:
    x, anchor = (MARGIN, "start") if left else (WIDTH - MARGIN, "end")
    colour, centre = COLOURS.get(entry["type"], "#9e9e9e"), y + ROW // 2
    inside = "#353535" if entry.get("optional") else colour  # hollow, as ComfyUI draws what may stay unconnected
    return [
        f'<circle cx="{x}" cy="{centre}" r="5" fill="{inside}" stroke="{colour}" stroke-width="2"/>',
        text(x + (12 if left else -12), centre, name, anchor, "#ddd"),
    ]


def widget(name: str, entry: dict[str, Any], y: int, height: int) -> list[str]:
    value = shown_value(entry)
    left, right, centre = MARGIN + 22, WIDTH - MARGIN - 22, y + ROW // 2
    box = f'<rect x="{MARGIN + 12}" y="{y}" width="{WIDTH - 2 * MARGIN - 24}" height="{height}" rx="5" fill="#222"/>'
    if entry.get("multiline"):
        return [box, text(left, centre, value or name, "start", "#ddd" if value else "#777")]
    return [box, text(left, centre, name, "start", "#aaa"), text(right, centre, value, "end", "#ddd")]


def shown_value(entry: dict[str, Any]) -> str:
    value = entry.get("default", (entry.get("options") or [""])[0])
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def text(x: int, y: int, words: str, anchor: str, colour: str) -> str:
    return f'<text x="{x}" y="{y + 4}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def frame(title: str, parts: list[str], height: int) -> str:
    inner = f'width="{WIDTH - 2 * MARGIN}" rx="8"'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="Inter, Arial, sans-serif" font-size="13">',
        f'<rect x="{MARGIN}" y="{MARGIN}" {inner} height="{height - 2 * MARGIN}" fill="#353535" stroke="#666"/>',
        text(MARGIN + 14, MARGIN + TITLE // 2, title, "start", "#fff"),
        f'<path d="M{MARGIN} {MARGIN + TITLE}H{WIDTH - MARGIN}" stroke="#222"/>',
        *parts,
        "</svg>\n",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
