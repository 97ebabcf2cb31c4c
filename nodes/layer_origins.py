"""Where a layer of a LAYERS document comes from, whatever was done to it since, and the edit between two documents (Eq. 13).

ComfyUI's own nodes place a layer by numbers and keep its pixels: there the pixels say it. An edit that draws a layer anew
notes it in the item, under a key of ours that ComfyUI's nodes pass on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..dreamlayer_core.composite import premultiply
from ..dreamlayer_core.derived import own_layers, take_off
from ..dreamlayer_core.edited_pixels import own_center
from ..dreamlayer_core.editing import LayerChange, new_order
from ..dreamlayer_core.edits import LayerEdit
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.layers import Layer, LayerStack
from ..dreamlayer_core.placed_edits import edit_map, edit_of, shift_map
from .documents import frame_items, item_map, item_pixels, stacks_from_layers

__all__ = ["changes_between", "note_edit"]

_ORIGIN = "dreamlayer_origin"
_SAME = 1.01 / 255  # an eight-bit step

Item = dict[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Origin:
    """``pixels`` (b, 4, h, w): what the layer showed at first, premultiplied, cut to its box; ``maps``, one for each picture
    or one for all: from that box to the canvas, or in a note to the item's own pixels. ``drawn`` is the IMAGE of the item
    that a note is of."""

    pixels: Tensor
    maps: tuple[Tensor, ...]
    drawn: Tensor | None = None

    def moved(self, *maps: Tensor) -> _Origin:
        """With one map, or each picture's own, after its own."""
        count = max(len(maps), len(self.maps))
        return replace(self, maps=tuple(maps[i % len(maps)] @ self.maps[i % len(self.maps)] for i in range(count)))

    def is_of(self, item: Item) -> bool:
        """Whether a note says where the item comes from: not once another node has painted or masked it."""
        return self.drawn is not None and item.get("mask") is None and torch.equal(item["image"].cpu(), self.drawn)

    def is_same(self, other: _Origin) -> bool:
        return (self.pixels.shape == other.pixels.shape
                and bool((self.pixels - other.pixels).abs().max() <= _SAME))


def note_edit(before: io.Layers.Type, after: io.Layers.Type, change: LayerChange) -> io.Layers.Type:
    """The document after an edit that has drawn layers anew, with a note in every layer of where it comes from."""
    stacks = stacks_from_layers(before)
    origins = _origins(before, stacks[0])
    layers = [take_off(stack).stack.layers[change.layer] for stack in stacks]
    ops = [edit_map(replace(change.op, center=change.op.center or own_center(layer))) for layer in layers]
    origins[change.layer] = origins[change.layer].moved(*ops)
    items = list(after["layers"])
    places = own_layers(stacks_from_layers(after)[0])
    for place, old in zip(places, new_order([change], len(origins)), strict=True):
        item = items[place]
        origin = origins[old].moved(shift_map(-item["x"], -item["y"]))
        items[place] = item | {_ORIGIN: replace(origin, drawn=item["image"])}
    return after | {"layers": items}


def changes_between(
    before: io.Layers.Type, after: io.Layers.Type
) -> tuple[list[LayerStack], list[list[LayerChange]]]:
    """The stacks of a document without effects and residual, and for each what becomes of its layers in another document.

    Layers that ``after`` lacks were deleted; blend modes are those of ``after``. Raises InputError where ``after`` has a
    layer that is none of them, another canvas or another number of pictures, and where a layer was slanted.
    """
    stacks, edited = stacks_from_layers(before), stacks_from_layers(after)
    old, new = _origins(before, stacks[0]), _origins(after, edited[0])
    stacks, edited = ([take_off(stack).stack for stack in group] for group in (stacks, edited))
    _check_alike(stacks, edited)
    places = _places(old, new, edited[0])
    changes = list[list[LayerChange]]()
    for picture, (stack, shown) in enumerate(zip(stacks, edited, strict=True)):
        changes.append([])
        for index, place in places.items():
            if place is not None:
                stacks[picture] = stacks[picture].with_layer(index, blend_mode=shown.layers[place].blend_mode)
            op = LayerEdit() if place is None else _op(old[index], new[place], stack.layers[index], picture)
            changes[picture].append(_change(index, place, op, shown))
    return stacks, changes


def _check_alike(stacks: Sequence[LayerStack], edited: Sequence[LayerStack]) -> None:
    found = [(len(group), group[0].width, group[0].height) for group in (edited, stacks)]
    if found[0] != found[1]:
        (count, width, height), (wanted, wide, high) = found
        raise InputError(
            f"got edited layers of {count} picture(s) on a canvas of {width}x{height}, and unedited ones of {wanted} on "
            f"{wide}x{high}; give both the same canvas and as many pictures")


def _places(old: Sequence[_Origin], new: Sequence[_Origin], edited: LayerStack) -> dict[int, int | None]:
    """Where every old layer is among the new ones; None for those that are gone."""
    places = dict[int, int | None].fromkeys(range(len(old)))
    for place, origin in enumerate(new):
        index = next((i for i, one in enumerate(old) if places[i] is None and one.is_same(origin)), None)
        if index is None:
            raise InputError(
                f"the edited layer {place} ({edited.layers[place].name!r}) is none of the unedited layers; give both inputs layers "
                "of the same run, edited by Transform Layers or in Create Layered Image")
        places[index] = place
    return places


def _op(old: _Origin, new: _Origin, layer: Layer, picture: int) -> LayerEdit:
    here, there = (origin.maps[min(picture, len(origin.maps) - 1)] for origin in (old, new))
    try:
        return edit_of(there @ here.inverse(), own_center(layer))
    except InputError as error:
        raise InputError(f"layer {layer.name!r}: {error}") from error


def _change(index: int, place: int | None, op: LayerEdit, edited: LayerStack) -> LayerChange:
    if place is None:
        return LayerChange(layer=index, delete=True)
    layer = edited.layers[place]
    return LayerChange(
        layer=index, op=op, visible=layer.visible, opacity=layer.opacity, position=place if index or place else None)


def _origins(document: io.Layers.Type, stack: LayerStack) -> list[_Origin]:
    """Of the layers of a document but effects and residual, with maps to the canvas; ``stack`` is one of its stacks."""
    items = frame_items(document)
    return [_origin(items[index]).moved(item_map(items[index])) for index in own_layers(stack)]


def _origin(item: Item) -> _Origin:
    """With maps to the item's own pixels."""
    note = item.get(_ORIGIN)
    if isinstance(note, _Origin) and note.is_of(item):
        return note
    color, alpha = item_pixels(item)
    shown = Layer(name="shown", color=color[0], alpha=alpha.amax(dim=0))
    left, top, right, bottom = shown.box or (0, 0, shown.width, shown.height)
    pixels = torch.cat([premultiply(color, alpha), alpha], dim=1)[..., top:bottom, left:right]
    return _Origin(pixels=pixels, maps=(shift_map(left, top),))
