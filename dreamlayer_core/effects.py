"""A harmonised picture turned back into layers: effects between the layers that flatten to it.

Harmonization (Eq. 12) gives one flat picture. What it darkened becomes multiply layers, what it lightened screen layers,
because these two reach every colour from every other without leaving [0, 1], are the same in every program, and are those
that ComfyUI's editor, which mixes other modes in linear light, shows (nearly) as they are here; linear-dodge is not.

Where they lie. A change that is seen on the background, a shadow on the ground, lies in a pair directly above the background:
the objects cover it as they cover the ground, it can go with its object, and it goes on smoothly under the objects. A
change that is seen on a foreground, or at its edge, where a harmonised object may be a little larger than its layer, cannot
lie there. It lies in one pair above all layers, which makes up for whatever is left, so that stack and effects flatten
to the picture by construction, whatever the foregrounds' alphas and blend modes. One pair, not one per foreground: four
layers at most for any number of objects, and since every pixel has one foremost object the pair can be taken apart again
when an object moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from .attribution import object_shares
from .composite import flatten, flatten_rgba
from .edited_pixels import own_center
from .edits import LayerEdit, apply_edit
from .errors import InputError
from .filling import fill_smoothly
from .layers import OPAQUE, Layer, LayerStack

__all__ = [
    "EFFECT_LAYERS",
    "Effects",
    "find_effects",
    "is_effect",
    "light_left",
    "move_effects",
    "uncover",
    "with_effects",
    "without_effects",
]

EFFECT_LAYERS = {
    "shadows": ("effects: shadows", "multiply"),
    "lights": ("effects: lights", "screen"),
    "shadows_above": ("effects: shadows on objects", "multiply"),
    "lights_above": ("effects: lights on objects", "screen"),
}
"""Name and blend mode of every effects layer, by its field of `Effects`."""

_SEEN = 0.5  # share of the background that shows through from which its change can be told from the picture
_EVEN = 0.1  # how much that share may vary around a pixel: at an object's edge a change may be the object's own
_RIM = 64  # the shorter side is this many times as long as an object's edge is wide
_DARKEST = 1 / 1024  # 0 in eight bits; but 0 itself has no parts, because any power of it is 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Effects:
    """What light does to a stack, as factors (3, h, w) in [0, 1] that are 1 where nothing happens.

    `shadows`: the share of its light that the background keeps. `lights`: the share of its darkness that it keeps.
    `shadows_above` and `lights_above`: the same for the picture that all layers make. Raises InputError for factors of
    different shapes, and for NaN or infinite ones.
    """

    shadows: Tensor
    lights: Tensor
    shadows_above: Tensor
    lights_above: Tensor

    def __post_init__(self) -> None:
        shapes = {name: tuple(factor.shape) for name, factor in _factors(self).items()}
        if len(set(shapes.values())) != 1 or len(self.shadows.shape) != 3 or self.shadows.shape[0] != 3:
            raise InputError(f"got effects of shapes {shapes}; give (3, h, w) for all four")
        broken = [name for name, factor in _factors(self).items() if not bool(torch.isfinite(factor).all())]
        if broken:
            raise InputError(f"got NaN or infinite factors in {', '.join(broken)}; give 0 (all is taken) to 1 (nothing is)")


def _factors(effects: Effects) -> dict[str, Tensor]:
    return {field.name: getattr(effects, field.name) for field in fields(effects)}


def light_left(before: Tensor, after: Tensor) -> Tensor:
    """The factor in [0, 1] by which multiplying darkens `before` to `after`; 1 where `after` is not darker.

    Of 1 - before and 1 - after it is the factor of the darkness that screen takes away.
    """
    darker = after < before
    return torch.where(darker, after / torch.where(darker, before, 1.0), 1.0)


def uncover(picture: Tensor, foregrounds: Tensor, through: Tensor) -> Tensor:
    """The background (3, h, w) that gives `picture` (3, h, w): Eq. 1 solved for it.

    foregrounds (3, h, w): what the foregrounds add; through (1, h, w): the share of the background they let through.
    Only meaningful where that share is not near 0.
    """
    return ((picture - foregrounds) / through.clamp_min(1e-6)).clamp(0, 1)


def find_effects(stack: LayerStack, harmonized: Tensor, *, least: float = 1 / 255) -> Effects:
    """The effects that turn the stack's picture into `harmonized` (3, h, w) in [0, 1].

    Pixels that differ by no more than `least` in every channel are left alone. Laid into the stack by `with_effects` they
    flatten to the harmonised picture up to `least` or half an eight-bit level, whichever is more.
    Raises InputError for a picture of another size or beyond [0, 1], a stack that is not opaque or that has effects already.
    """
    _check(stack, harmonized, least)
    harmonized = harmonized.to(stack.background.color)
    ground, through = stack.background.on_canvas(stack.width, stack.height).color, _through(stack)
    added = flatten(stack) - ground * through
    seen = _plainly_seen(through)
    target = uncover(harmonized, added, through)
    changed = seen & _differs(through * target, through * ground, least)
    shadows, lights = _solve(ground, torch.where(changed, target, ground))
    plain = torch.ones_like(ground)
    # The pair goes on under the objects: an object that is moved uncovers no hole in a shadow, and takes one along.
    below = Effects(shadows=fill_smoothly(shadows, seen), lights=fill_smoothly(lights, seen),
                    shadows_above=plain, lights_above=plain)
    done = flatten(with_effects(stack, below))
    shadows, lights = _solve(done, torch.where(_differs(done, harmonized, least), harmonized, done))
    return replace(below, shadows_above=shadows, lights_above=lights)


def _solve(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    return light_left(before, after), light_left(1 - before, 1 - after)


def _differs(first: Tensor, second: Tensor, least: float) -> Tensor:
    """(1, h, w): whether any channel differs by more than `least`."""
    # A little more than least, for the rounding of differences of equal eight-bit values.
    return ((first - second).abs() > least + 1e-6).any(dim=0, keepdim=True)


def _cover(layer: Layer, stack: LayerStack) -> Tensor:
    """How much a layer covers, (1, h, w)."""
    alpha = layer.on_canvas(stack.width, stack.height).alpha * layer.opacity
    return alpha if layer.visible else torch.zeros_like(alpha)


def _through(stack: LayerStack) -> Tensor:
    """The share (1, h, w) of the background that is seen; 0 where the background is no solid ground itself."""
    through = (_cover(stack.background, stack) >= OPAQUE).to(stack.background.color.dtype)
    for layer in stack.foregrounds:
        through = through * (1 - _cover(layer, stack))
    return through


def _rim(canvas: Tensor) -> int:
    """How many pixels wide the edges of objects are taken to be on a canvas (..., h, w)."""
    return max(1, round(min(canvas.shape[-2:]) / _RIM))


def _grown(maps: Tensor) -> Tensor:
    """The highest value (n, 1, h, w) within an edge's width."""
    rim = _rim(maps)
    return functional.max_pool2d(maps, 2 * rim + 1, stride=1, padding=rim)


def _plainly_seen(through: Tensor) -> Tensor:
    """Where (1, h, w) the background is seen, and no object's edge is near."""
    highest, lowest = _grown(through[None])[0], -_grown(-through[None])[0]
    return (lowest >= _SEEN) & (highest - lowest <= _EVEN)


def with_effects(stack: LayerStack, effects: Effects, *, keep_empty: bool = False) -> LayerStack:
    """The stack with effects layers: shadows and lights above the background, and above all layers those on objects.

    A layer that changes nothing is left out unless `keep_empty` (for batches, whose stacks must be alike).
    Raises InputError if the effects are of another size.
    """
    expected = (3, stack.height, stack.width)
    if tuple(effects.shadows.shape) != expected:
        raise InputError(f"got effects of shape {tuple(effects.shadows.shape)}; give {expected}, the stack's canvas")
    made = [_layer(*EFFECT_LAYERS[name], factor) for name, factor in _factors(effects).items()]
    below, above = ([layer for layer in pair if keep_empty or layer.box is not None] for pair in (made[:2], made[2:]))
    return replace(stack, layers=(stack.background, *below, *stack.foregrounds, *above))


def _layer(name: str, mode: str, factor: Tensor) -> Layer:
    """A factor as a layer in eight bits, opaque where it changes anything.

    Its strength is in its colour and not in its alpha: mixed in linear light a half transparent layer is another one.
    """
    kept = (factor.clamp(0, 1) * 255).round() / 255
    alpha = (kept < 1).any(dim=0, keepdim=True).to(factor.dtype)
    return Layer(name=name, color=kept if mode == "multiply" else 1 - kept, alpha=alpha, blend_mode=mode)


def without_effects(stack: LayerStack) -> tuple[LayerStack, Effects | None]:
    """The stack without its effects layers, known by name and blend mode, and what they do; None if it has none.

    What was painted into them, and their opacity, count; hidden ones do nothing.
    """
    plain = tuple(layer for layer in stack.layers if not is_effect(layer))
    if len(plain) == len(stack.layers):
        return stack, None
    if not plain:
        raise InputError("got a stack of effects layers only; give at least a background")
    like = plain[0].color
    factors = {name: like.new_ones(3, stack.height, stack.width) for name in EFFECT_LAYERS}
    for layer in stack.layers:
        name = _field(layer)
        if name is not None:
            factors[name] = factors[name] * _factor(layer, stack)
    return replace(stack, layers=plain), Effects(**factors)


def is_effect(layer: Layer) -> bool:
    """Whether a layer holds effects, by its name and blend mode."""
    return _field(layer) is not None


def _field(layer: Layer) -> str | None:
    known = {value: name for name, value in EFFECT_LAYERS.items()}
    return known.get((layer.name, layer.blend_mode))


def _factor(layer: Layer, stack: LayerStack) -> Tensor:
    """What a multiply layer leaves of the light, a screen layer of the darkness, (3, h, w)."""
    color = layer.on_canvas(stack.width, stack.height).color
    taken = 1 - color if layer.blend_mode == "multiply" else color
    return 1 - _cover(layer, stack) * taken


def move_effects(effects: Effects, stack: LayerStack, edits: Mapping[int, LayerEdit | None]) -> Effects:
    """The effects after layers of the stack, which has no effects layers, were edited: shadows go with their objects.

    edits: by layer, 1 for the lowest foreground; None takes the layer's effects away, for one that was hidden or deleted. An
    edit without a center is about the middle of the layer's visible box.
    On the ground each object's part (`attribution.object_shares`) is moved and resized about the edit's centre, not flipped or
    turned: the light stays where it is. What lies on an object goes with its pixels, as far as it is seen there in the
    end. Factors of parts multiply: without edits nothing changes.
    Raises InputError for a layer that the stack does not have.
    """
    for index in edits:
        if not 1 <= index < len(stack.layers):
            raise InputError(f"got an edit of layer {index}; give 1 to {len(stack.layers) - 1}, a foreground")
    if not edits:
        return effects
    edits = {index: edit and replace(edit, center=edit.center or own_center(stack.layers[index]))
             for index, edit in edits.items()}
    alphas = torch.stack([_cover(layer, stack) for layer in stack.foregrounds])
    strength = 1 - torch.minimum(effects.shadows, effects.lights).amin(dim=0)
    ground = object_shares(alphas[:, 0], strength)[:, None]
    after = torch.stack([_edited(alpha, edits.get(i, LayerEdit()), 0.0) for i, alpha in enumerate(alphas, 1)])
    upright = {index: edit and _upright(edit) for index, edit in edits.items()}
    return Effects(
        shadows=_moved(effects.shadows, ground, upright, None),
        lights=_moved(effects.lights, ground, upright, None),
        shadows_above=_moved(effects.shadows_above, _seen_parts(alphas), edits, _left_by_nearer(after)),
        lights_above=_moved(effects.lights_above, _seen_parts(alphas), edits, _left_by_nearer(after)),
    )


def _upright(edit: LayerEdit) -> LayerEdit:
    return replace(edit, degrees=0.0, flip_horizontal=False, flip_vertical=False)


def _edited(values: Tensor, edit: LayerEdit | None, fill: float) -> Tensor:
    return torch.full_like(values, fill) if edit is None else apply_edit(values, edit, pixels_per_cell=1, fill=fill)


def _moved(
    factor: Tensor, shares: Tensor, edits: Mapping[int, LayerEdit | None], uncovered: Tensor | None
) -> Tensor:
    """A factor (3, h, w) whose parts by shares (f, 1, h, w) are edited; `uncovered` (f, 1, h, w) weakens them after that."""
    factor = factor.clamp_min(_DARKEST)
    taken = sum((shares[index - 1] for index in edits), torch.zeros_like(shares[0]))
    result = factor ** (1 - taken).clamp_min(0)
    for index, edit in edits.items():
        part = _edited(factor ** shares[index - 1], edit, 1.0)
        result = result * (part if uncovered is None else part ** uncovered[index - 1])
    return result


def _left_by_nearer(alphas: Tensor) -> Tensor:
    """What nearer foregrounds leave free of each (f, 1, h, w)."""
    free = (1 - alphas.flip(0)).cumprod(dim=0).flip(0)
    return torch.cat([free[1:], torch.ones_like(free[:1])])


def _seen_parts(alphas: Tensor) -> Tensor:
    """The share of each foreground (f, 1, h, w) in what is seen of all foregrounds there, or next to it; else 0."""
    parts = alphas * _left_by_nearer(alphas)
    parts = parts + 1e-3 * _grown(parts)
    whole = parts.sum(dim=0)
    return parts / torch.where(whole > 0, whole, 1.0)


def _check(stack: LayerStack, harmonized: Tensor, least: float) -> None:
    expected = (3, stack.height, stack.width)
    if tuple(harmonized.shape) != expected or not bool(torch.isfinite(harmonized).all()):
        raise InputError(f"got a harmonised picture of shape {tuple(harmonized.shape)}; give finite {expected}")
    if not bool(((harmonized >= 0) & (harmonized <= 1)).all()):
        raise InputError(
            f"got a harmonised picture of values {float(harmonized.min()):.4g} to {float(harmonized.max()):.4g}; give 0 "
            "(black) to 1 (white), clamped")
    if not 0 <= least < 1:
        raise InputError(f"got least = {least}; give 0 to 1, the difference that may stay")
    if any(is_effect(layer) for layer in stack.layers):
        raise InputError("got a stack that has effects layers already; take them off with without_effects")
    clear = int((flatten_rgba(stack)[3] < OPAQUE).sum())
    if clear:
        raise InputError(f"got a stack that is transparent at {clear} pixels; put an opaque background under it")
