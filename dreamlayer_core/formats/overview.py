"""overview.png: the whole stack on one sheet, for people."""

from __future__ import annotations

import math
from collections.abc import Mapping

from PIL import Image
from pydantic import JsonValue
from torch import Tensor

from ..composite import flatten_rgba
from ..derived import own_layers, plain_stack
from ..layers import Layer, LayerStack
from .drawing import Color, badge, beside, card, fit, heat_map, heat_scale, pile, text

__all__ = ["draw_overview"]

_CONTENT, _MARGIN, _GAP, _PADDING = 1488, 56, 24, 20
_PAPER: Color = (246, 246, 243)
_INK: Color = (28, 28, 32)
_SOFT: Color = (104, 104, 112)
_ACCENT: Color = (58, 88, 200)
_WIDE = 1.6  # width to height from which the result takes the whole width
_BROAD = 640  # pixels from which two things fit side by side
_HERO = 880  # pixels that the result may take each way
_COLUMNS = 5  # layers side by side; more make names and prompts hard to read
_MOST_LAYERS = 60
_MOST_DETAILS = 10


def draw_overview(
    stack: LayerStack,
    *,
    harmonized: Tensor | None = None,
    context_maps: Tensor | None = None,
    settings: Mapping[str, JsonValue] | None = None,
) -> Image.Image:
    """An RGB sheet: the result large, the plain composite, settings, then every layer with name, prompt and map.

    `harmonized` is (3, height, width), `context_maps` (foregrounds, h, w) of any size, both in [0, 1]. Layers of effects
    and residual are among the layers, but have no map, and stay out of the plain composite beside a harmonised picture.
    """
    flat = flatten_rgba(stack)
    under = flat if harmonized is None else flatten_rgba(plain_stack(stack))
    parts = [_header(stack), _result(under, harmonized, settings or {}), _layers(stack, flat, context_maps)]
    sheet = pile(parts, [32] + [40] * (len(parts) - 2))
    page = Image.new("RGBA", (sheet.width + 2 * _MARGIN, sheet.height + 2 * _MARGIN), _PAPER)
    page.alpha_composite(sheet, (_MARGIN, _MARGIN))
    return page.convert("RGB")


def _header(stack: LayerStack) -> Image.Image:
    title = stack.global_prompt.strip() or ", ".join(layer.name for layer in plain_stack(stack).layers)
    count = len(stack.layers)
    facts = f"{stack.width} x {stack.height} pixels, {count} layer{'s' if count > 1 else ''}"
    heading = text(title, _CONTENT, size=40, color=_INK, lines=2, spacing=1.2)
    return pile([heading, text(facts, _CONTENT, size=20, color=_SOFT)], [12])


def _result(flat: Tensor, harmonized: Tensor | None, settings: Mapping[str, JsonValue]) -> Image.Image:
    """The picture that the stack makes, large; with it the plain composite and how it was made."""
    wide = flat.shape[-1] > _WIDE * flat.shape[-2]
    name = "Composite of the layers" if harmonized is None else "Harmonized picture"
    main = flat if harmonized is None else harmonized
    hero = _captioned(main, name, _CONTENT - 2 * _PADDING if wide else _HERO, _HERO)
    room = _CONTENT - 2 * _PADDING - (0 if wide else hero.width + 2 * _PADDING + _GAP)
    side = _side(None if harmonized is None else flat, settings, room, hero.height)
    if side is None:
        return _row([hero])
    if wide:
        return pile([_row([hero]), _row([side], room)], [_GAP])
    return beside([_row([hero], height=side.height), _row([side], room, hero.height)], _GAP)


def _captioned(picture: Tensor, name: str, width: int, height: int) -> Image.Image:
    image = fit(picture, width, height)
    return pile([image, text(name, max(image.width, 320), size=24, color=_INK)], [16])


def _side(flat: Tensor | None, settings: Mapping[str, JsonValue], width: int, height: int) -> Image.Image | None:
    """Plain composite and settings, below each other in a narrow place and side by side in a broad one."""
    broad = width > _BROAD
    parts: list[Image.Image] = []
    if flat is not None:
        across, down = (width * 11 // 20, height - 48) if broad else (width, height)
        parts.append(_captioned(flat, "Plain composite of the layers", across, down))
    if settings:
        parts.append(_details(settings, width - parts[0].width - 40 if broad and parts else width))
    if not parts:
        return None
    return beside(parts, 40) if broad else pile(parts, [32] * (len(parts) - 1))


def _details(settings: Mapping[str, JsonValue], width: int) -> Image.Image:
    """The settings that fit on a line, as a table."""
    shown = [(key, _plain(value)) for key, value in settings.items() if isinstance(value, str | int | float | bool)]
    shown = shown[:_MOST_DETAILS]
    names = _lines([key.replace("_", " ") for key, _ in shown], width * 2 // 5, _SOFT)
    return beside([names, _lines([value for _, value in shown], width - names.width - 32, _INK)], 32)


def _lines(words: list[str], width: int, color: Color) -> Image.Image:
    return pile([text(line, width, size=19, color=color) for line in words or [""]], [9] * (len(words) - 1))


def _plain(value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _layers(stack: LayerStack, flat: Tensor, context_maps: Tensor | None) -> Image.Image:
    """A card for every layer, background first."""
    count = len(stack.layers)
    columns = min(max(math.ceil(count / math.ceil(count / _COLUMNS)), 3), _COLUMNS)
    width = (_CONTENT - _GAP * (columns - 1)) // columns - 2 * _PADDING
    rows = [
        _layer_row(stack, range(first, min(first + columns, count)), width, flat, context_maps)
        for first in range(0, min(count, _MOST_LAYERS), columns)
    ]
    return pile([_layers_heading(count, context_maps is not None), *rows], [20] + [_GAP] * (len(rows) - 1))


def _layers_heading(count: int, with_maps: bool) -> Image.Image:
    left_out = f" · {count - _MOST_LAYERS} more are not shown" if count > _MOST_LAYERS else ""
    title = text(f"Layers, from the bottom up{left_out}", 800, size=28, color=_INK)
    if not with_maps:
        return title
    legend = [text("Context map: how much of the picture belongs to the layer", 600, size=17, color=_SOFT)]
    legend += [text("0", 20, size=17, color=_SOFT), heat_scale(90, 14), text("1", 20, size=17, color=_SOFT)]
    return beside([title, beside(legend, 10, centered=True)], 40, centered=True)


def _layer_row(stack: LayerStack, indices: range, width: int, flat: Tensor, context_maps: Tensor | None) -> Image.Image:
    infos = [_info(stack.layers[index], index, width) for index in indices]
    tallest = max(info.height for info in infos)
    contents: list[Image.Image] = []
    mapped = [index for index in own_layers(stack) if index > 0]
    for index, info in zip(indices, infos, strict=True):
        whole = stack.layers[index].on_canvas(stack.width, stack.height)
        parts = [fit(whole.rgba, width, 2 * width), info]
        if context_maps is not None:
            own = context_maps[mapped.index(index)] if index in mapped else None
            parts.append(_map(own, fit(flat, width, 2 * width)))
        contents.append(pile(parts, [16, 16 + tallest - info.height][: len(parts) - 1]))  # maps on one line
    return _row(contents, width)


def _map(context_map: Tensor | None, under: Image.Image) -> Image.Image:
    if context_map is None:
        return text("no map of its own", under.width, size=16, color=_SOFT)
    return heat_map(context_map, under)


def _info(layer: Layer, index: int, width: int) -> Image.Image:
    parts = [_label(layer, index, width)]
    if layer.prompt.strip():
        parts.append(text(layer.prompt, width, size=18, color=_SOFT, lines=3))
    if notes := _notes(layer):
        parts.append(text(notes, width, size=16, color=_ACCENT))
    return pile(parts, [8] * (len(parts) - 1))


def _label(layer: Layer, index: int, width: int) -> Image.Image:
    number = badge(index, 34, _ACCENT)
    name = text(layer.name or "unnamed", width - 46, size=23, color=_INK)
    return beside([number, name], 12, centered=True)


def _notes(layer: Layer) -> str:
    """What sets the layer apart from one that is simply there."""
    notes = [] if layer.visible else ["hidden"]
    notes += [] if layer.opacity == 1.0 else [f"opacity {layer.opacity:.0%}"]
    notes += [] if layer.blend_mode == "normal" else [layer.blend_mode]
    notes += [] if layer.seed is None else [f"seed {layer.seed}"]
    return " · ".join(notes)


def _row(contents: list[Image.Image], width: int = 0, height: int = 0) -> Image.Image:
    """Cards of equal height side by side, inside at least as large as given."""
    tallest = max(height, *(content.height for content in contents)) + 2 * _PADDING
    cards = [card(content, max(width, content.width) + 2 * _PADDING, tallest, _PADDING) for content in contents]
    return beside(cards, _GAP)
