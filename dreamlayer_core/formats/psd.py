"""Photoshop documents, through psd-tools. Import this module only where a PSD is read or written."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from psd_tools import PSDImage
from psd_tools.api.layers import Group
from psd_tools.api.layers import Layer as PsdLayer
from psd_tools.constants import BlendMode, ColorMode, Resource, Tag
from psd_tools.psd import PSD
from psd_tools.psd.image_resources import ImageResource
from torch import Tensor

from ..composite import flatten_rgba
from ..errors import FormatError, InputError
from ..layers import BLEND_MODES, Layer, LayerStack
from .limits import Limits, PixelBudget
from .png import image_from_tensor, tensor_from_image

__all__ = ["read_psd", "write_psd"]

_MOST_PIXELS = 30000  # a side; more is a PSB
_NAME_UNITS = 255  # UTF-16 code units that Photoshop keeps of a layer's name
_THUMBNAIL = 160  # pixels, as Photoshop's own
_MODES = {getattr(BlendMode, mode.upper().replace("-", "_")): mode for mode in BLEND_MODES}
_PSD_MODES = {mode: psd_mode for psd_mode, mode in _MODES.items()}
_RASTER = frozenset({"pixel", "shape", "type", "smartobject"})  # kinds that hold their own rendered pixels


def write_psd(stack: LayerStack, path: Path, *, extra: Sequence[Layer] = ()) -> None:
    """Write a stack, with `extra` layers above it that the merged picture does not show unless they are visible."""
    if max(stack.width, stack.height) > _MOST_PIXELS:
        raise InputError(f"got a canvas of {stack.width}x{stack.height}; a PSD holds {_MOST_PIXELS} pixels a side")
    whole = LayerStack(width=stack.width, height=stack.height, layers=(*stack.layers, *extra))
    merged = image_from_tensor(flatten_rgba(whole))
    document = PSDImage.frompil(merged)
    for layer in whole.layers:
        _add_layer(document, layer)
    thumbnail = ImageResource(key=Resource.THUMBNAIL_RESOURCE, data=_thumbnail(merged))
    document.image_resources[Resource.THUMBNAIL_RESOURCE] = thumbnail
    path.write_bytes(_with_merged(document, merged))


def _add_layer(document: PSDImage, layer: Layer) -> None:
    image = image_from_tensor(layer.rgba)
    # The name given here may hold Mac Roman only; the one set below is Unicode.
    added = document.create_pixel_layer(image, name="layer", top=layer.y, left=layer.x)
    added.name = _short(layer.name)
    added.visible = layer.visible
    added.opacity = round(layer.opacity * 255)
    added.blend_mode = _PSD_MODES[layer.blend_mode]


def _short(name: str) -> str:
    return name.encode("utf-16-le")[: 2 * _NAME_UNITS].decode("utf-16-le", errors="ignore")


def _thumbnail(merged: Image.Image) -> bytes:
    """Resource 1036 of the file format: a header of eight numbers, then a JPEG."""
    small = Image.alpha_composite(Image.new("RGBA", merged.size, "white"), merged).convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    jpeg = BytesIO()
    small.save(jpeg, "JPEG", quality=90)
    row = (small.width * 24 + 31) // 32 * 4
    data = jpeg.getvalue()
    return struct.pack(">6I2H", 1, small.width, small.height, row, row * small.height, len(data), 24, 1) + data


def _with_merged(document: PSDImage, merged: Image.Image) -> bytes:
    """The file, its merged picture replaced by ours: psd-tools' own needs packages that are not always there."""
    draft = BytesIO()
    document.save(draft)
    draft.seek(0)
    record = PSD.read(draft)
    record.image_data.set_data([channel.tobytes() for channel in merged.split()], record.header)
    layers = record.layer_and_mask_information.layer_info
    if layers is not None:
        # A negative count tells that the merged picture's fourth channel is its transparency, not a saved selection.
        layers.layer_count = -abs(layers.layer_count)
    file = BytesIO()
    record.write(file)
    return file.getvalue()


def read_psd(path: Path, limits: Limits) -> LayerStack:
    """Read a stack; groups are dissolved. Raises `FormatError` for what is damaged, too large or cannot be kept."""
    try:
        return _read_document(PSDImage.open(path), path, limits)
    except FormatError:
        raise
    except Exception as error:  # psd-tools reports damage by assertions, struct, attribute and many other errors
        raise FormatError(f"{path} is missing, truncated or not a PSD ({error}); save it again") from error


def _read_document(document: PSDImage, path: Path, limits: Limits) -> LayerStack:
    limits.check_size(f"the canvas of {path}", document.width, document.height)
    if document.color_mode not in (ColorMode.RGB, ColorMode.GRAYSCALE):
        raise FormatError(f"{path} is in {document.color_mode.name} colour; convert it to RGB first")
    leaves = list(_leaves(document, True))
    limits.check_layers(len(leaves))
    budget = limits.budget()
    layers = tuple(_read_layer(leaf, visible, budget) for leaf, visible in leaves)
    return LayerStack(width=document.width, height=document.height, layers=layers)


def _leaves(group: Iterable[PsdLayer], visible: bool) -> Iterator[tuple[PsdLayer, bool]]:
    """Layers with pixels, bottom to top, and whether they and every group around them are visible."""
    for layer in group:
        seen = visible and layer.visible
        if isinstance(layer, Group):
            _check_group(layer)
            yield from _leaves(layer, seen)
        elif layer.kind not in _RASTER:
            raise FormatError(f"layer {layer.name!r} is of kind {layer.kind}; merge it with the layers under it first")
        elif layer.width > 0 and layer.height > 0:
            yield layer, seen


def _check_group(group: Group) -> None:
    # Opacity, blending and masks of a group act on its merged layers; no setting of the single layers gives the same.
    modes = (BlendMode.PASS_THROUGH, BlendMode.NORMAL)
    plain = group.blend_mode in modes and group.opacity == 255 and group.mask is None
    # A group of mode NORMAL shuts the blend modes inside it off from what lies under the group.
    shut = group.blend_mode == BlendMode.NORMAL and any(layer.blend_mode not in modes for layer in group.descendants())
    if not plain or shut:
        raise FormatError(f"group {group.name!r} has an opacity, blend mode or mask of its own; merge it first")


def _read_layer(layer: PsdLayer, visible: bool, budget: PixelBudget) -> Layer:
    budget.take(f"layer {layer.name!r}", layer.width, layer.height)
    if layer.clipping:
        raise FormatError(f"layer {layer.name!r} is clipped to the one under it; merge the two first")
    if layer.has_effects() or layer.tagged_blocks.get_data(Tag.BLEND_FILL_OPACITY, 255) != 255:
        raise FormatError(f"layer {layer.name!r} has effects or a fill opacity of its own; rasterize its style first")
    if layer.blend_mode not in _MODES:
        found, known = layer.blend_mode.name, ", ".join(_PSD_MODES)
        raise FormatError(f"layer {layer.name!r} has blend mode {found}; use one of {known}")
    image = layer.topil(apply_icc=False)
    if image is None:
        raise FormatError(f"layer {layer.name!r} has no pixels; rasterize it first")
    rgba = tensor_from_image(image)
    return Layer(
        name=layer.name,
        color=rgba[:3],
        alpha=rgba[3:] * _mask(layer, budget),
        x=layer.left,
        y=layer.top,
        visible=visible,
        opacity=layer.opacity / 255,
        blend_mode=_MODES[layer.blend_mode],
    )


def _mask(layer: PsdLayer, budget: PixelBudget) -> Tensor:
    """The layer's mask (1, h, w) in [0, 1], or 1 everywhere."""
    mask = layer.mask
    if mask is None or mask.disabled:
        return torch.ones(1, 1, 1)
    area = Image.new("L", (layer.width, layer.height), mask.background_color)
    if mask.width > 0 and mask.height > 0:
        budget.take(f"the mask of layer {layer.name!r}", mask.width, mask.height)
        image = mask.topil()
        if image is not None:
            area.paste(image.convert("L"), (mask.left - layer.left, mask.top - layer.top))
    return tensor_from_image(area)[:1]
