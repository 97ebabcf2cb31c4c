"""One edit of a stack as a document: pixels, order, visibility, and the light that goes along. No latents, no model.

For layers from anywhere. Where a harmonised picture is to follow the edit, `editing.edit_layers` edits latents and pixels.
"""

from __future__ import annotations

from dataclasses import replace

from .derived import take_off
from .edited_pixels import continued, edit_pixels, unseen_part
from .editing import LayerChange, light_edits, mixed, new_order
from .effects import move_effects, with_effects
from .errors import InputError
from .layers import OPAQUE, Layer, LayerStack

__all__ = ["change_layer"]


def change_layer(
    stack: LayerStack, change: LayerChange, *, light_follows: bool = True, keep_empty: bool = False
) -> LayerStack:
    """The stack after one edit, op() of Eq. 13 on pixels alone.

    Layers are counted without effects layers and residual: 0 is the background, 1 the lowest foreground. What leaves the
    canvas is kept beyond its edge. A background that covers the canvas still does: its edges continue it. With
    ``light_follows`` what effects layers do goes with the layer (`move_effects`), and away with one that is hidden or
    deleted; else it stays where it is. A residual, which would show the picture before the edit, is taken off. A change
    of nothing gives the stack itself. ``keep_empty`` as in `with_effects`, for batches.
    Raises InputError for a layer or a position that does not exist, for a background that is to be hidden, deleted or
    moved in order, for a layer that would leave the canvas, and for one that would become too large.
    """
    taken = take_off(stack)
    plain, effects = taken.stack, taken.effects
    order = new_order([change], len(plain.layers))
    layer = plain.layers[change.layer]
    edited = _edited(layer, change, plain)
    if edited is layer and not change.delete and change.position in (None, change.layer):
        return stack
    layers = [*plain.layers[: change.layer], edited, *plain.layers[change.layer + 1 :]]
    changed = replace(plain, layers=tuple(layers[index] for index in order))
    if effects is None:
        return changed
    light = move_effects(effects, plain, light_edits([change])) if light_follows else effects
    return with_effects(changed, light, keep_empty=keep_empty)


def _edited(layer: Layer, change: LayerChange, stack: LayerStack) -> Layer:
    """The layer with its pixels and how it is mixed; itself if that changes nothing."""
    layer = mixed(layer, change)
    return layer if change.op.is_identity or change.delete else _drawn(layer, change, stack)


def _drawn(layer: Layer, change: LayerChange, stack: LayerStack) -> Layer:
    size = (stack.width, stack.height)
    pixels, before = edit_pixels(layer, change.op), layer.on_canvas(*size)
    if before.box is not None and pixels.on_canvas(*size).box is None:
        raise InputError(
            f"layer {change.layer} ({layer.name!r}) would leave the canvas of {size[0]}x{size[1]}; move it less far"
            + (", or hide or delete it" if change.layer else ""))
    if change.layer == 0 and bool((before.alpha >= OPAQUE).all()):
        return continued(pixels, unseen_part(layer, change.op, size), size)
    return pixels
