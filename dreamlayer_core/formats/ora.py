"""OpenRaster, which Krita, GIMP and MyPaint share: https://www.openraster.org/baseline/file-layout-spec.html"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image
from torch import Tensor

from ..composite import flatten_rgba
from ..errors import FormatError
from ..layers import BLEND_MODES, Layer, LayerStack
from .limits import Limits, PixelBudget
from .png import image_from_tensor, png_bytes, read_png

__all__ = ["read_ora", "write_ora"]

_MIMETYPE = b"image/openraster"
_THUMBNAIL = 256  # pixels, the most that the specification allows
_DEPTH = 64  # groups within groups
_MODES = {f"svg:{mode}": mode for mode in BLEND_MODES[1:]} | {"svg:src-over": "normal"}
_OPERATORS = {mode: operator for operator, mode in _MODES.items()}


def write_ora(stack: LayerStack, path: Path, *, extra: Sequence[Layer] = ()) -> None:
    """Write a stack, with `extra` layers above it that the merged picture does not show unless they are visible."""
    whole = LayerStack(width=stack.width, height=stack.height, layers=(*stack.layers, *extra))
    merged = image_from_tensor(flatten_rgba(whole))
    with zipfile.ZipFile(path, "w") as archive:
        # Programs know the type by these bytes at the start of the file: first, and not compressed.
        _put(archive, "mimetype", _MIMETYPE)
        _put(archive, "stack.xml", _stack_xml(whole), zipfile.ZIP_DEFLATED)
        for index, layer in enumerate(whole.layers):
            _put(archive, _data_file(index), png_bytes(image_from_tensor(layer.rgba)))
        _put(archive, "mergedimage.png", png_bytes(merged))
        merged.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
        _put(archive, "Thumbnails/thumbnail.png", png_bytes(merged))


def _put(archive: zipfile.ZipFile, name: str, data: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    # A ZipInfo of its own carries no clock: the same stack gives the same file.
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, data, compression)


def _data_file(index: int) -> str:
    return f"data/layer{index:03d}.png"


def _stack_xml(stack: LayerStack) -> bytes:
    size = {"w": str(stack.width), "h": str(stack.height)}
    image = ElementTree.Element("image", {"version": "0.0.6", **size, "xres": "72", "yres": "72"})
    pile = ElementTree.SubElement(image, "stack")
    for index, layer in reversed(list(enumerate(stack.layers))):  # the file's first layer is the topmost
        ElementTree.SubElement(pile, "layer", _attributes(layer, _data_file(index)))
    return ElementTree.tostring(image, encoding="utf-8", xml_declaration=True)


def _attributes(layer: Layer, source: str) -> dict[str, str]:
    return {
        "name": "".join(c if _is_xml(c) else "\ufffd" for c in layer.name),
        "src": source,
        "x": str(layer.x),
        "y": str(layer.y),
        "opacity": repr(float(layer.opacity)),
        "visibility": "visible" if layer.visible else "hidden",
        "composite-op": _OPERATORS[layer.blend_mode],
    }


def _is_xml(character: str) -> bool:
    return character in "\t\n\r" or ("\x20" <= character and character not in "\ufffe\uffff")


def read_ora(path: Path, limits: Limits) -> LayerStack:
    """Read a stack; groups are dissolved. Raises `FormatError` for what is damaged, too large or cannot be kept."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, archive, limits)
    except (OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(f"{path} is missing, truncated or not an OpenRaster file ({error}); save it again") from error


def _read_archive(path: Path, archive: zipfile.ZipFile, limits: Limits) -> LayerStack:
    if _member(archive, "mimetype", 64).strip() != _MIMETYPE:
        raise FormatError(f"{path} is a zip file but not OpenRaster; give an .ora file")
    image = _parse_xml(path, _member(archive, "stack.xml", limits.metadata))
    width, height = _whole(image, "w", None), _whole(image, "h", None)
    limits.check_size(f"the canvas of {path}", width, height)
    elements = [found for pile in image.findall("stack") for found in _leaves(pile, (0, 0), True, 0)]
    limits.check_layers(len(elements))
    budget = limits.budget()
    layers = [_read_layer(archive, element, corner, seen, budget) for element, corner, seen in elements]
    return LayerStack(width=width, height=height, layers=tuple(reversed(layers)))


def _member(archive: zipfile.ZipFile, name: str, most: int) -> bytes:
    """One file of the archive; never more than `most` bytes, whatever its header claims."""
    try:
        entry = archive.getinfo(name)
    except KeyError as error:
        raise FormatError(f"the OpenRaster file lacks {name!r}; save it again") from error
    with archive.open(entry) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise FormatError(f"{name!r} in the OpenRaster file has more than {most} bytes; it is not a picture's")
    return data


class _NoDoctype(ElementTree.TreeBuilder):
    """OpenRaster has no DTD; the entities that one declares are how small XML becomes huge."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise FormatError("stack.xml declares a document type; an OpenRaster file has none")


def _parse_xml(path: Path, data: bytes) -> ElementTree.Element:
    try:
        image = ElementTree.fromstring(data, parser=ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, LookupError) as error:
        raise FormatError(f"stack.xml of {path} is damaged ({error}); save it again") from error
    if image.tag != "image":
        raise FormatError(f"stack.xml of {path} starts with <{image.tag}>; OpenRaster starts with <image>")
    return image


_Found = tuple[ElementTree.Element, tuple[int, int], bool]


def _leaves(pile: ElementTree.Element, corner: tuple[int, int], seen: bool, depth: int) -> Iterator[_Found]:
    """Layers of a group, topmost first, with the corner and visibility that the groups around them give."""
    if depth > _DEPTH:
        raise FormatError(f"stack.xml has groups more than {_DEPTH} deep; merge them first")
    corner = (corner[0] + _whole(pile, "x", 0), corner[1] + _whole(pile, "y", 0))
    for child in pile:
        visible = seen and child.get("visibility", "visible") != "hidden"
        if child.tag == "layer":
            yield child, corner, visible
        elif child.tag == "stack":
            _check_plain(child)
            yield from _leaves(child, corner, visible, depth + 1)


def _check_plain(group: ElementTree.Element) -> None:
    # Opacity and blending of a group act on its merged layers; no setting of the single layers gives the same picture.
    if _fraction(group) != 1.0 or _mode(group) != "normal":
        raise FormatError(f"group {group.get('name', '')!r} has an opacity or blend mode of its own; merge it first")


def _read_layer(
    archive: zipfile.ZipFile, element: ElementTree.Element, corner: tuple[int, int], visible: bool, budget: PixelBudget
) -> Layer:
    name = element.get("name", "")
    rgba = _read_pixels(archive, element.get("src", ""), f"layer {name!r}", budget)
    return Layer(
        name=name,
        color=rgba[:3],
        alpha=rgba[3:],
        x=corner[0] + _whole(element, "x", 0),
        y=corner[1] + _whole(element, "y", 0),
        visible=visible,
        opacity=_fraction(element),
        blend_mode=_mode(element),
    )


def _read_pixels(archive: zipfile.ZipFile, source: str, what: str, budget: PixelBudget) -> Tensor:
    return read_png(BytesIO(_member(archive, source, budget.bytes_left)), what, budget)


def _whole(element: ElementTree.Element, key: str, default: int | None) -> int:
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not abs(value) < 2**31:
        raise FormatError(f"<{element.tag}> in stack.xml has {key}={text!r}; a number of pixels belongs there")
    return round(value)


def _fraction(element: ElementTree.Element) -> float:
    text = element.get("opacity", "1")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 1.0:
        raise FormatError(f"<{element.tag}> in stack.xml has opacity={text!r}; 0 to 1 belongs there")
    return value


def _mode(element: ElementTree.Element) -> str:
    operator = element.get("composite-op", "svg:src-over")
    if operator not in _MODES:
        name = element.get("name", "")
        raise FormatError(f"{element.tag} {name!r} has blend mode {operator}; use one of {', '.join(_OPERATORS)}")
    return _MODES[operator]
