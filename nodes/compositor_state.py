"""What an artist has done by hand in ComfyUI's Create Layered Image editor, read from the prompt that runs.

The editor keeps its state in a widget of the node, which no output gives out. A prompt may come from anywhere: whatever is in
it is taken as data, and what cannot be used counts, as in that node itself, as no edits at all.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io
from comfy_extras.nodes_compositor import (
    document_canvas,
    document_items,
    expand_item_frames,
    frame_alpha,
    input_fingerprints,
    layer_state_provided,
    parse_layer_state,
)

from ..dreamlayer_core.errors import InputError
from .documents import frame_items

__all__ = ["edited_by_hand", "editor_inputs"]

_log = logging.getLogger(__name__)
_EDITOR = "ImageCompositor"
_MOST_PIXELS = 16384  # ComfyUI's own limit for a side
_HUGE = 1e300

State = Mapping[str, Any]


def editor_inputs(prompt: Any, node_id: Any, name: str) -> dict[str, Any]:
    """The inputs, as the prompt has them, of the Create Layered Image that a node's input ``name`` is connected to.

    Raises InputError where it is connected to anything else, and for a prompt that does not have the node.
    """
    link = _node(prompt, node_id)["inputs"].get(name)
    if not isinstance(link, (list, tuple)) or len(link) != 2:
        raise InputError(f"got {name!r} from no node; connect the image of Create Layered Image")
    node = _node(prompt, link[0])
    if node.get("class_type") != _EDITOR:
        raise InputError(
            f"got {name!r} from {node.get('class_type')!r}, which knows of no edits; connect the image of Create Layered Image "
            "itself, with nothing in between")
    return node["inputs"]


def edited_by_hand(document: io.Layers.Type, inputs: Mapping[str, Any], *, same_layers: bool) -> io.Layers.Type:
    """The document with its layers where the editor's state, in the ``inputs`` of its node, has put them.

    Without edits, and with those of an earlier run, whose layers were others, it is as it comes, as Create Layered
    Image shows it. ``same_layers``: the editor is fed by this document; if not, it is an InputError unless its edits fit,
    since what it shows may be edited otherwise. Raises it for another canvas, too, and for edits of a batch of pictures.
    """
    raw = inputs.get("compositor")
    state = _fitting_state(document, raw)
    if state is None and not same_layers:
        raise InputError(
            "Create Layered Image gets other layers than this node; connect the same ones there and here, edited ones to "
            "'edited'")
    if state is None:
        if layer_state_provided(raw):
            _log.warning("The edits in Create Layered Image are of an earlier run, whose layers were others; they are left out")
        return document
    items, canvas = frame_items(document), document_canvas(document) or state["canvas"]
    if len(state["layers"]) != len(items):
        raise InputError("got edits made by hand and several pictures; edit the pictures of a batch one by one")
    if state["canvas"] != canvas:
        raise InputError(
            "got a canvas of {}x{} in Create Layered Image for layers of {}x{}; set it back, and crop the harmonised picture "
            "instead".format(*state["canvas"], *canvas))
    order = state["order"] or range(len(items))
    placed = [_placed(items[index], state["layers"][index]) | {"z_index": place} for place, index in enumerate(order)]
    return {**document, "canvas": canvas, "layers": placed}


def _fitting_state(document: io.Layers.Type, raw: Any) -> dict[str, Any] | None:
    """The state as the node itself reads it, if it is one and of these layers."""
    state = parse_layer_state(raw)
    if state is None:
        return None
    frames = expand_item_frames(document_items(document))
    alphas = [frame_alpha(frame["tensor"], frame["mask"]) for frame in frames]
    return state if state["inputs"] == input_fingerprints(frames, alphas) else None


def _node(prompt: Any, node_id: Any) -> dict[str, Any]:
    node = prompt.get(str(node_id)) if isinstance(prompt, Mapping) else None
    if not isinstance(node, Mapping) or not isinstance(node.get("inputs"), Mapping):
        raise InputError(f"the prompt of this run has no node {node_id!r}; queue the graph from ComfyUI")
    return dict(node)


def _placed(item: dict[str, Any], entry: Any) -> dict[str, Any]:
    """An item of LAYERS with what the state says of it, on the pixels on which Create Layered Image draws it."""
    entry = entry if isinstance(entry, Mapping) else {}
    box = entry.get("transform") if isinstance(entry.get("transform"), Mapping) else {}
    height, width = item["image"].shape[1:3]
    x, wide = _side(box, "x", "w", width)
    y, high = _side(box, "y", "h", height)
    blend = entry.get("blend")
    return item | {
        "x": x, "y": y, "w": wide, "h": high, "rotation": _number(box, "rotation", 0.0),
        "flip_h": bool(entry.get("flipH", False)), "flip_v": bool(entry.get("flipV", False)),
        "visible": bool(entry.get("visible", True)), "opacity": min(max(_number(entry, "opacity", 1.0), 0.0), 1.0),
        "blend_mode": blend if isinstance(blend, str) else "normal"}


def _side(box: State, corner: str, side: str, own: int) -> tuple[int, int]:
    """Where a layer begins and how far it goes, whole pixels: drawn in the middle of those that its edges touch."""
    begin = min(max(_number(box, corner, 0.0), -_MOST_PIXELS), _MOST_PIXELS)
    length = _number(box, side, own)
    length = min(length, _MOST_PIXELS) if length > 0 else own
    first, whole = math.floor(begin), max(1, round(length))
    return first + (max(1, math.ceil(begin + length) - first) - whole) // 2, whole


def _number(source: State, key: str, default: float) -> float:
    value = source.get(key, default)
    # JSON has numbers that no float holds.
    return float(value) if isinstance(value, (int, float)) and abs(value) < _HUGE else float(default)
