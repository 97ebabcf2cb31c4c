"""Where foregrounds are, as the user says: boxes and masks over their context maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..dreamlayer_core.attention.steering import ContextSteering, box_mask, check_shape
from ..dreamlayer_core.config import LARGEST_SIDE, SMALLEST_SIDE, check_size
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.prompts import MAX_FOREGROUNDS
from .checks import told
from .sockets import PictureSteering, SteeringSocket

__all__ = ["NODES"]

Box = tuple[float, float, float, float]


class ContextMapSteering(io.ComfyNode):
    """A box or mask for one foreground."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerContextSteering",
            display_name="Context Map from Masks/Boxes (DreamLayer)",
            category="DreamLayer",
            description="Says where one foreground is, in place of what the model finds or to limit it. One node for each "
                        "foreground, one after the other; the last goes into Patch Model. For taking pictures apart, and for "
                        "layers that are sampled anew.",
            search_aliases=["dreamlayer", "regional prompt", "attention mask", "bounding box", "layout", "segment", "steer layers"],
            inputs=[
                io.Int.Input("layer", default=1, min=1, max=MAX_FOREGROUNDS,
                             tooltip="Which foreground: 1 is the lowest one, right above the background."),
                io.Int.Input("width", default=128, min=SMALLEST_SIDE, max=LARGEST_SIDE,
                             tooltip="Of the picture in pixels, as it is sampled. Get Image Size knows it."),
                io.Int.Input("height", default=128, min=SMALLEST_SIDE, max=LARGEST_SIDE, tooltip="Of the picture in pixels."),
                io.Combo.Input("mode", options=["auto", "override", "multiply"], default="auto",
                               tooltip="override: the mask is the context map. multiply: the map counts only inside of it. auto: "
                                       "masks override, boxes multiply."),
                io.String.Input("boxes", multiline=True, default="", optional=True,
                                tooltip="left, top, width, height in pixels, a box a line, such as 20, 30, 64, 48."),
                io.BoundingBox.Input("bboxes", optional=True, force_input=True,
                                     tooltip="Boxes from another node, such as a detector's or Create Bounding Boxes."),
                io.Mask.Input("mask", optional=True,
                              tooltip="1 where the object is, as the mask editor and segmenters have it, at any size in the "
                                      "picture's shape. Masks of layers, 1 where transparent, need Invert Mask."),
                SteeringSocket.Input("steering", optional=True, tooltip="Of other foregrounds, from this node."),
            ],
            outputs=[SteeringSocket.Output("steering", display_name="steering",
                                           tooltip="For Patch Model, or for this node again with another foreground.")],
        )

    @classmethod
    def validate_inputs(
        cls, width: int | None = None, height: int | None = None, boxes: str | None = None
    ) -> bool | str:
        if width is None or height is None:
            return True  # one comes from another node: it is known when that has run
        return told(lambda: _area(_parsed(boxes or ""), width, height))

    @classmethod
    def execute(
        cls, layer: int, width: int, height: int, mode: str = "auto", boxes: str = "", bboxes: Any = None,
        mask: Tensor | None = None, steering: PictureSteering | None = None,
    ) -> io.NodeOutput:
        earlier = steering or PictureSteering(size=(width, height), layers={})
        if earlier.size != (width, height):
            raise InputError(
                f"got a picture of {width}x{height} after one of {'{}x{}'.format(*earlier.size)}; give all foregrounds the "
                "same size")
        if layer in earlier.layers:
            raise InputError(f"got boxes or masks for layer {layer} twice; give each foreground one node")
        area = _area([*_parsed(boxes), *_found(bboxes)], width, height)
        if (area is None) == (mask is None):
            given = "neither boxes nor a mask" if mask is None else "boxes and a mask"
            raise InputError(f"got {given} for layer {layer}; give one or the other")
        chosen = mode if mode != "auto" else "multiply" if mask is None else "override"
        one = ContextSteering(mask=area if mask is None else _marked(mask, layer, width, height), mode=chosen)  # pyright: ignore
        return io.NodeOutput(replace(earlier, layers={**earlier.layers, layer: one}))


def _parsed(text: str) -> list[Box]:
    return [_box(line) for line in text.replace(";", "\n").splitlines() if line.strip()]


def _box(line: str) -> Box:
    try:
        x, y, width, height = (float(part) for part in line.split(","))
    except ValueError:
        raise InputError(f"got a box of {line.strip()!r}; give left, top, width, height in pixels, such as 20, 30, 64, 48") from None
    return x, y, width, height


def _found(boxes: Any) -> Iterator[Box]:
    """Boxes of another node: one, or lists of them, a list a frame."""
    if isinstance(boxes, dict):
        try:
            yield tuple(float(boxes[side]) for side in ("x", "y", "width", "height"))  # pyright: ignore
        except (KeyError, TypeError, ValueError):
            raise InputError(f"got a bounding box of {sorted(map(str, boxes))}; give x, y, width and height in pixels") from None
    else:
        for one in boxes or ():
            yield from _found(one)


def _area(boxes: list[Box], width: int, height: int) -> Tensor | None:
    """What the boxes cover of the picture, (height, width); None without any."""
    check_size(width, height)
    return box_mask(boxes, width, height) if boxes else None


def _marked(mask: Tensor, layer: int, width: int, height: int) -> Tensor:
    """(h, w), or (pictures, h, w) of several."""
    planes = mask.to("cpu", torch.float32).reshape(-1, *mask.shape[-2:])
    check_shape(f"a mask for layer {layer} of {{}}x{{}}", (planes.shape[-1], planes.shape[-2]), (width, height))
    if not bool((planes > 0).flatten(1).any(1).all()):
        raise InputError(f"got a mask for layer {layer} that is 0 everywhere; mark the object with 1, or use Invert Mask")
    return planes[0] if len(planes) == 1 else planes


NODES: list[type[io.ComfyNode]] = [ContextMapSteering]
