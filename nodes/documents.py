"""ComfyUI's LAYERS documents to and from the core's layer stacks. The polarity of layer masks lives here alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from comfy_api.latest import io
from einops import rearrange
from torch import Tensor

from ..dreamlayer_core.composite import flatten_rgba
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.layers import Box, Layer, LayerStack
from ..dreamlayer_core.placed_edits import placement_map
from ..dreamlayer_core.placement import cut_out, resize_alpha, transform_layer

__all__ = [
    "flattened",
    "frame_items",
    "image_from_pictures",
    "item_map",
    "item_pixels",
    "item_with_pixels",
    "layer_items",
    "layers_from_stacks",
    "stacks_from_layers",
]

Item = dict[str, Any]

# To ComfyUI the frames of an item are consecutive layers. Under this key, which it passes over, ours can say that they
# are the same layer of several pictures.
_FRAMES, _PICTURES = "frames", "pictures"
_MOST_PIXELS = 16384  # ComfyUI's own limit for a side
_OPAQUE = 1 - 1e-3  # from this alpha on Create Layered Image calls a picture opaque


def stacks_from_layers(document: io.Layers.Type, *, blend_modes: bool = True) -> list[LayerStack]:
    """The layer stacks of a LAYERS document, one per picture of the batch, bottom to top, float32 on the CPU.

    Everything that ComfyUI's layer editor honours is honoured: order, place, size, flips, rotation, masks, opacity,
    blend mode, visibility. Frames of an item become consecutive layers, as there, unless the document is one of
    `layers_from_stacks` with several pictures. Without a canvas it is as large as its layers reach. With `blend_modes`
    off every layer is normal, for those who want its pixels only.
    Raises `InputError` for a document without layers, of another version, with items that are no pictures, with values
    that are no finite numbers, with a blend mode that the core does not have, or with a canvas too large.
    """
    items = [_read_item(item, index, blend_modes) for index, item in enumerate(layer_items(document))]
    counts = {len(item.layers) for item in items if item.is_batch}
    if len(counts - {1}) > 1:
        found = ", ".join(map(str, sorted(counts)))
        raise InputError(f"got layers of {found} pictures in one document; give every layer the same number")
    width, height = _canvas(document, [layer for item in items for layer in item.layers])
    prompt = document.get("prompt")
    return [
        LayerStack(
            width=width,
            height=height,
            layers=tuple(layer for item in items for layer in item.of_picture(picture)),
            global_prompt=prompt if isinstance(prompt, str) else "",
        )
        for picture in range(max(counts, default=1))
    ]


def layers_from_stacks(stacks: Sequence[LayerStack]) -> io.Layers.Type:
    """The LAYERS document of the stacks of a batch: canvas, and one item per layer, cut to a tight box.

    The box of a layer is around what any of the pictures shows of it; a layer that shows nothing becomes one
    transparent pixel. Raises `InputError` for no stacks, or stacks that differ in more than pixels and prompts.
    """
    _check_alike(stacks)
    groups = zip(*(stack.layers for stack in stacks), strict=True)
    document: dict[str, Any] = {
        "version": 1,
        "canvas": (stacks[0].width, stacks[0].height),
        "layers": [_write_item(index, group) for index, group in enumerate(groups)],
    }
    prompts = {stack.global_prompt for stack in stacks}
    return document | _agreed("prompt", prompts)


def flattened(stacks: Sequence[LayerStack]) -> tuple[Tensor, Tensor]:
    """The merged pictures of stacks of one canvas as IMAGE and MASK (1 = transparent). (Eq. 1)

    The IMAGE is RGB where every picture is opaque, else RGBA with straight alpha.
    """
    rgba = torch.stack([flatten_rgba(stack) for stack in stacks])
    alpha = rgba[:, 3]
    if bool((alpha >= _OPAQUE).all()):
        return image_from_pictures(rgba[:, :3]), torch.zeros_like(alpha)
    return image_from_pictures(rgba), 1 - alpha


def image_from_pictures(pictures: Tensor) -> Tensor:
    """Pictures (b, 3 or 4, h, w) as a ComfyUI IMAGE."""
    return rearrange(pictures, "b c h w -> b h w c").contiguous()


def layer_items(document: io.Layers.Type) -> list[Item]:
    """The items of a LAYERS document from bottom to top. Raises `InputError` if it is none, or has none."""
    if not isinstance(document, dict):
        raise InputError(f"got {type(document).__name__} for layers; connect a LAYERS output")
    if document.get("version") not in (None, 1):
        raise InputError(
            f"got a LAYERS document of version {document['version']!r}; give version 1, or update the pack"
        )
    items = document.get("layers")
    if not isinstance(items, (list, tuple)) or len(items) == 0:
        raise InputError("got a LAYERS document without layers; add one with Add Layer or Images to Layers")
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise InputError(f"item {index + 1} of the LAYERS document is no layer but {type(item).__name__}")
        if item.get("type", "raster") != "raster":
            raise InputError(f"{_name(item, index)!r} is a layer of type {item['type']!r}; rasterize it first")
    return sorted(items, key=lambda item: _whole(item, "z_index", 0))


def frame_items(document: io.Layers.Type) -> list[Item]:
    """The items of a document, one for each layer of its stacks: frames that are layers of their own are taken apart."""
    return [frame for item in layer_items(document) for frame in _frames(item)]


def _frames(item: Item) -> list[Item]:
    image, mask = item.get("image"), item.get("mask")
    if not isinstance(image, Tensor) or len(image) == 1 or item.get(_FRAMES) == _PICTURES:
        return [item]
    masked = isinstance(mask, Tensor) and mask.ndim == 3 and len(mask) > 1
    bare = {key: value for key, value in item.items() if key not in ("image", "mask")}
    # As in `_opaque_part`: frames beyond the last mask have none.
    masks = [mask[i : i + 1] if i < len(mask) else None for i in range(len(image))] if masked else [mask] * len(image)
    return [bare | {"image": image[i : i + 1], "mask": masks[i]} for i in range(len(image))]


def item_pixels(item: Item) -> tuple[Tensor, Tensor]:
    """Colour (b, 3, h, w) and alpha (b, 1, h, w) of an item at its own size, its mask multiplied in."""
    image, name = item.get("image"), item.get("name")
    if not isinstance(image, Tensor):
        raise InputError(f"layer {name!r} holds {type(image).__name__} for an image; give an IMAGE")
    if image.ndim != 4 or image.shape[-1] not in (3, 4) or 0 in image.shape:
        raise InputError(f"layer {name!r} has an image of shape {tuple(image.shape)}; give (b, h, w, 3 or 4)")
    pixels = rearrange(image.to("cpu", torch.float32), "b h w c -> b c h w")
    if not bool(torch.isfinite(pixels).all()):
        raise InputError(f"layer {name!r} has NaN or infinite pixels; give an image with values from 0 to 1")
    pixels = pixels.clamp(0, 1)
    color, alpha = pixels[:, :3], pixels[:, 3:] if pixels.shape[1] == 4 else torch.ones_like(pixels[:, :1])
    return color, alpha * _opaque_part(item, pixels)


def item_map(item: Item) -> Tensor:
    """Where an item of `frame_items` shows the points of its own picture: an affine map (3, 3) to the canvas."""
    height, width = item["image"].shape[1:3]
    corner = (_whole(item, "x", 0), _whole(item, "y", 0))
    return placement_map((width, height), corner, _size(item, width, height), **_turn(item))


def item_with_pixels(item: Item, color: Tensor, alpha: Tensor) -> Item:
    """The item with other pixels, of `item_pixels`' shapes, and no mask besides."""
    image = image_from_pictures(torch.cat([color, alpha], dim=1))
    return {key: value for key, value in item.items() if key != "mask"} | {"image": image}


def _opaque_part(item: Item, pixels: Tensor) -> Tensor:
    """What the mask leaves of the item, (b or 1, 1, h, w)."""
    mask, name = item.get("mask"), item.get("name")
    if mask is None:
        return torch.ones(1, 1, 1, 1)
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 3) or 0 in mask.shape:
        found = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(f"layer {name!r} has a mask of {found}; give a MASK of shape (b, h, w)")
    masks = mask.to("cpu", torch.float32).reshape(-1, *mask.shape[-2:])
    if not bool(torch.isfinite(masks).all()):
        raise InputError(f"layer {name!r} has a mask with NaN or infinite values; give values from 0 to 1")
    count, height, width = len(pixels), pixels.shape[-2], pixels.shape[-1]
    opaque = resize_alpha((1 - masks).clamp(0, 1), width, height)
    if len(opaque) != 1:
        # As in ComfyUI, frames beyond the last mask have none.
        opaque = torch.cat([opaque[:count], opaque.new_ones(max(0, count - len(opaque)), height, width)])
    return opaque[:, None]


@dataclass(frozen=True)
class _ReadItem:
    """Layers of the frames of one item."""

    layers: tuple[Layer, ...]
    is_batch: bool

    def of_picture(self, index: int) -> tuple[Layer, ...]:
        if not self.is_batch:
            return self.layers
        return (self.layers[index if len(self.layers) > 1 else 0],)


def _read_item(item: Item, index: int, blend_modes: bool) -> _ReadItem:
    named = item | {"name": _name(item, index)}
    color, alpha = item_pixels(named)
    layers = tuple(_read_frame(named, *pixels, blend_modes) for pixels in zip(color, alpha, strict=True))
    return _ReadItem(layers, item.get(_FRAMES) == _PICTURES)


def _read_frame(item: Item, color: Tensor, alpha: Tensor, blend_modes: bool) -> Layer:
    prompt = item.get("prompt")
    layer = Layer(
        name=item["name"],
        color=color,
        alpha=alpha,
        prompt=prompt if isinstance(prompt, str) else "",
        x=_whole(item, "x", 0),
        y=_whole(item, "y", 0),
        visible=bool(item.get("visible", True)),
        opacity=min(max(_number(item, "opacity", 1.0), 0.0), 1.0),
        blend_mode=(item.get("blend_mode") or "normal") if blend_modes else "normal",
    )
    return transform_layer(layer, size=_size(item, layer.width, layer.height), **_turn(item))


def _size(item: Item, width: int, height: int) -> tuple[int, int]:
    sides = ((_whole(item, "w", 0), width), (_whole(item, "h", 0), height))
    (wide, high) = (side if side > 0 else own for side, own in sides)
    return wide, high


def _turn(item: Item) -> dict[str, Any]:
    return {"flip_horizontal": bool(item.get("flip_h", False)), "flip_vertical": bool(item.get("flip_v", False)),
            "rotation": _number(item, "rotation", 0.0)}


def _name(item: Item, index: int) -> str:
    name = item.get("name")
    return name if isinstance(name, str) and name else f"Layer {index + 1}"


def _number(item: Item, key: str, default: float) -> float:
    value = item.get(key)
    if value is None:
        return default
    if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
        raise InputError(f"layer {item.get('name')!r} has {key} {value!r}; give a finite number")
    return float(value)


def _whole(item: Item, key: str, default: int) -> int:
    return int(_number(item, key, default))


def _canvas(document: io.Layers.Type, layers: Sequence[Layer]) -> tuple[int, int]:
    """Width and height: the document's, else as far as its layers reach."""
    canvas = document.get("canvas") or (0, 0)
    if not isinstance(canvas, (tuple, list)) or len(canvas) != 2:
        raise InputError(f"got a LAYERS document with the canvas {canvas!r}; give (width, height)")
    width, height = (_whole({"name": "canvas", "side": side}, "side", 0) for side in canvas)
    if width <= 0 or height <= 0:
        width = max(1, *(layer.x + layer.width for layer in layers))
        height = max(1, *(layer.y + layer.height for layer in layers))
    if max(width, height) > _MOST_PIXELS:
        raise InputError(f"got a LAYERS document of {width}x{height} pixels; give 1 to {_MOST_PIXELS} a side")
    return width, height


def _check_alike(stacks: Sequence[LayerStack]) -> None:
    if not stacks:
        raise InputError("got 0 layer stacks; give at least one")
    described = [(s.width, s.height, [(a.visible, a.opacity, a.blend_mode) for a in s.layers]) for s in stacks]
    for index, found in enumerate(described):
        if found != described[0]:
            raise InputError(
                f"picture {index + 1} of the batch differs from the first in its canvas, its number of layers, or "
                "their visibility, opacity or blend mode; save or edit them one by one"
            )


def _write_item(index: int, layers: tuple[Layer, ...]) -> Item:
    first = layers[0]
    box = _common_box(layers)
    cut = torch.stack([cut_out(layer, box).rgba for layer in layers])
    item: Item = {
        "type": "raster",
        "image": image_from_pictures(cut),
        "name": first.name,
        "x": box[0],
        "y": box[1],
        "z_index": index,
        "opacity": first.opacity,
        "blend_mode": first.blend_mode,
        "visible": first.visible,
    }
    frames = {_FRAMES: _PICTURES} if len(layers) > 1 else {}
    return item | frames | _agreed("prompt", {layer.prompt for layer in layers})


def _common_box(layers: Sequence[Layer]) -> Box:
    boxes = [box for layer in layers if (box := layer.box) is not None]
    if not boxes:
        return 0, 0, 1, 1
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _agreed(key: str, values: set[str]) -> dict[str, str]:
    """The entry for a text that all pictures share."""
    (text,) = values if len(values) == 1 else ("",)
    return {key: text} if text else {}
