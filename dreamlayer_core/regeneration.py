"""Layers to layers: one row of a stack is sampled again, or anew, while the stored rows of the others are replayed.

The others come out bit-identical, and the new one sees them through the joint attention. The global row is sampled anew from
its stored noise: it must follow the change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from .diffusers_unet import layer_attention
from .editing import (
    EditedStack,
    RunSettings,
    check_harmonizable,
    encoded_row,
    harmonize_stack,
    shown_rows,
    stack_prompts,
)
from .errors import InputError
from .guidance import Guided
from .layers import Layer, LayerStack, renamed
from .row_weights import joined_additions
from .sampling import FINAL, OnStep, Replay, Stepper, Trajectory, initial_noise, sample_layers
from .stack_latents import check_fit, stack_alphas
from .starting import start_rows
from .transparent import VIEWS

if TYPE_CHECKING:
    from .pipeline import DreamLayer

__all__ = ["add_layer", "complete_layer", "regenerate_layer"]

_VISIBLE = 8 / 255  # alpha below which a layer shows nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class _Drawn:
    """One row sampled among the others: its picture and alpha (., height, width), the trajectory with it, the maps.

    ``mapped`` are the layers that the maps (len(mapped), h, w) are of.
    """

    color: Tensor
    alpha: Tensor
    trajectory: Trajectory
    context_maps: Tensor | None
    mapped: tuple[int, ...]


@torch.no_grad()
def regenerate_layer(
    model: DreamLayer, trajectory: Trajectory, stack: LayerStack, layer: int, *, prompt: str | None = None,
    seed: int | None = None, strength: float = 1.0, settings: RunSettings | None = None, on_step: OnStep | None = None,
) -> EditedStack:
    """Sample one layer anew (0 = the background) with another prompt or seed; None keeps the layer's own.

    A ``strength`` below 1 starts it from what it was, noised for the last share of the steps (`start_rows`). All other
    layers keep their pixels and their rows of the trajectory, bit for bit. ``trajectory`` must be whole (every timestep
    of the run, and ``FINAL``). Raises InputError for a layer that does not exist, a trajectory of another stack or run,
    a strength outside 0 to 1, and layers that cannot be harmonised.
    """
    settings = _checked(model, trajectory, stack, layer, settings)
    old = stack.layers[layer]
    text, number = old.prompt if prompt is None else prompt, (old.seed or 0) if seed is None else seed
    name = renamed(old.name, layer, old.prompt, text)
    stack = stack.with_layer(layer, prompt=text, seed=number, name=name)
    drawn = _draw(model, trajectory, stack, layer, number, settings, strength=strength, on_step=on_step)
    stack = stack.with_layer(layer, color=drawn.color, alpha=drawn.alpha, x=0, y=0)
    return _finished(model, stack, drawn, settings, on_step)


@torch.no_grad()
def add_layer(
    model: DreamLayer, trajectory: Trajectory, stack: LayerStack, prompt: str, *, position: int | None = None,
    seed: int = 0, settings: RunSettings | None = None, on_step: OnStep | None = None,
) -> EditedStack:
    """Extend a stack to k + 1 layers: a new foreground, sampled among the others, which stay as they are.

    ``position`` is its place, 1 = right above the background, None = on top. Raises InputError as `regenerate_layer`,
    and for a position outside 1 to k.
    """
    count = len(stack.layers)
    place = count if position is None else position
    if not 1 <= place <= count:
        raise InputError(f"got position {place} for a new layer; give 1 (right above the background) to {count} (on top)")
    settings = _checked(model, trajectory, stack, 0, settings)
    new = replace(_transparent(stack), name=prompt.strip() or f"layer {place}", prompt=prompt, seed=seed)
    stack = replace(stack, layers=(*stack.layers[:place], new, *stack.layers[place:]))
    extended = Trajectory({
        t: torch.cat([z[:, :place], torch.zeros_like(z[:, :1]), z[:, place:]], 1) for t, z in trajectory.latents.items()})
    drawn = _draw(model, extended, stack, place, seed, settings, on_step=on_step)
    return _finished(model, stack.with_layer(place, color=drawn.color, alpha=drawn.alpha), drawn, settings, on_step)


@torch.no_grad()
def complete_layer(
    model: DreamLayer, edited: EditedStack, layer: int, *, seed: int | None = None, covered: Tensor | None = None,
    settings: RunSettings | None = None, on_step: OnStep | None = None,
) -> EditedStack:
    """Amodal completion: draw what was beyond the canvas, or under other layers, by the layer's prompt.

    The paper shows it and gives no formula. The known cells of the row are replayed at every step and the unknown ones
    sampled; what is known keeps its pixels, but for a fade as wide as a cell. Unknown are ``edited.unseen`` and
    ``covered`` (h, w), boolean, in cells, for layers that were cut out of a picture. A foreground of which nothing is
    visible beside the unknown cells is complete and stays as it is.
    The harmonised picture is not made again. Raises InputError as `regenerate_layer`.
    """
    settings = _checked(model, edited.trajectory, edited.stack, layer, settings)
    unknown = edited.unseen[layer] if covered is None else edited.unseen[layer] | covered
    old = edited.stack.layers[layer].on_canvas(edited.stack.width, edited.stack.height)
    if not bool(unknown.any()) or (layer > 0 and not _touches(old.alpha, unknown, model.vae_scale)):
        return edited
    number = (old.seed or 0) + 1 if seed is None else seed  # its own noise has been moved along with the layer
    drawn = _draw(model, edited.trajectory, edited.stack, layer, number, settings, known=~unknown, on_step=on_step)
    size = (edited.stack.height, edited.stack.width)
    fresh = _faded(_pixels(unknown, model.vae_scale).float(), model.vae_scale)[:, : size[0], : size[1]]
    stack = edited.stack.with_layer(
        layer, color=torch.lerp(old.color, drawn.color, fresh), alpha=torch.lerp(old.alpha, drawn.alpha, fresh), x=0, y=0)
    unseen = edited.unseen.clone()
    unseen[layer] = False
    alphas = edited.alphas
    if layer:
        alphas = edited.alphas.clone()
        alphas[layer - 1] = torch.lerp(alphas[layer - 1], drawn.alpha, fresh)
    return replace(edited, stack=stack, trajectory=drawn.trajectory, alphas=alphas, unseen=unseen, harmonized=None)


def _draw(
    model: DreamLayer, trajectory: Trajectory, stack: LayerStack, layer: int, seed: int, settings: RunSettings, *,
    known: Tensor | None = None, strength: float = 1.0, on_step: OnStep | None = None,
) -> _Drawn:
    """Sample the row of a layer and the global row, all others replayed; ``known`` (h, w): its cells that are, too."""
    rows = shown_rows(stack, also=layer)
    if len(rows) < 2 and known is None:
        raise InputError("got a stack without visible foregrounds: nothing of it would be kept; use generate instead")
    target, alone = rows.index(layer), len(rows) < 2
    cut = Trajectory({t: z[:, [*rows, -1]] for t, z in trajectory.latents.items()})
    if alone:
        cut = _with_transparent_row(model, cut, stack, seed)
    stepper = settings.stepper_for(model)
    replay, first = _replay(cut, target, known), cut.latents.get(stepper.timesteps[0])
    prompts = stack_prompts(stack, rows, negative=settings.negative)
    left = [*rows, *([-1] if alone else []), len(stack.layers)]
    own = settings.shown(left, len(stack.layers) + 1)
    embeddings = model.encode([prompts], own.text_additions)
    shape = next(iter(cut.latents.values())).shape
    # By the layers' own numbers: hidden ones below must not change what a seed draws.
    noise = initial_noise((max(len(stack.layers), 2) + 1, shape[2], shape[3], shape[4]), seed)
    noise = noise[:, [*rows, *([1] if alone else []), -1]].to(model.device)
    if strength != 1:
        started = start_rows(model.schedule, cut.latents[FINAL], noise, stepper.timesteps, {target: strength})
        replay = _joined(replay, started)
    additions = joined_additions(own.additions, model.row_additions(shape[1] - 2))
    with layer_attention(model.unet, embeddings, settings.attention, model.adapter, additions=additions) as run:
        denoise = Guided(
            model, run, embeddings, [prompts], settings.sampling.of_rows(left),
            controls=model.fit_controls(own.controls, shape[1], (stack.width, stack.height)))
        latents, kept = sample_layers(
            denoise, noise, _Continuing(stepper, first), keep_all=True, replay=replay, on_step=on_step)
        maps = denoise.context_map
    color, alpha = _decoded(model, latents, target, settings.views)
    crop = (..., slice(0, stack.height), slice(0, stack.width))
    return _Drawn(
        color=color[crop].cpu(), alpha=alpha[crop].cpu(), mapped=() if maps is None else tuple(rows[1:]),
        context_maps=None if maps is None else maps[0, : len(rows) - 1].cpu(),
        trajectory=Trajectory({t: _with_rows(trajectory.latents[t], z, layer, target) for t, z in kept.latents.items()}))


def _transparent(stack: LayerStack) -> Layer:
    empty = torch.zeros(1, stack.height, stack.width)
    return Layer(name="transparent", color=empty.expand(3, -1, -1), alpha=empty)


def _with_transparent_row(model: DreamLayer, lone: Trajectory, stack: LayerStack, seed: int) -> Trajectory:
    """A trajectory of a background alone, with the foreground that the joint attention needs: transparent everywhere."""
    size = (stack.width, stack.height)
    fresh = encoded_row(model, _transparent(stack), 1, size, list(lone.latents), seed)
    return Trajectory({
        t: torch.cat([z[:, :1], fresh[t][None, None].to(z), z[:, 1:]], 1) for t, z in lone.latents.items()})


class _Continuing:
    """A stepper whose runs start with the global row of a stored run, and the rest from noise as ever."""

    def __init__(self, stepper: Stepper, first: Tensor | None) -> None:
        self.stepper, self.first, self.timesteps = stepper, first, stepper.timesteps

    def paper_timestep(self, timestep: int) -> int:
        return self.stepper.paper_timestep(timestep)

    def start(self, noise: Tensor) -> Tensor:
        latents = self.stepper.start(noise)
        return latents if self.first is None else torch.cat([latents[:, :-1], self.first[:, -1:].to(latents)], 1)

    def model_input(self, latents: Tensor, timestep: int) -> Tensor:
        return self.stepper.model_input(latents, timestep)

    def step(self, output: Tensor, latents: Tensor, timestep: int) -> Tensor:
        return self.stepper.step(output, latents, timestep)


def _replay(cut: Trajectory, target: int, known: Tensor | None) -> Replay:
    """All rows but the target and the global one; of the target the known cells (h, w), if any."""
    rows = next(iter(cut.latents.values())).shape[1] - 1
    if known is None:
        return Replay.of(cut, [row for row in range(rows) if row != target])
    masks = torch.ones(1, rows, 1, *known.shape, dtype=torch.bool)
    masks[0, target, 0] = known
    whole = Replay.of(cut, range(rows))
    return Replay(whole.rows, whole.latents, masks)


def _joined(stored: Replay, started: Replay) -> Replay:
    both = {t: torch.cat([z, started.latents[t].to(z)], 1) for t, z in stored.latents.items() if t in started.latents}
    return Replay((*stored.rows, *started.rows), both, starts=started.starts)


def _with_rows(stored: Tensor, sampled: Tensor, layer: int, target: int) -> Tensor:
    """Stored latents (1, k + 1, ...) with the sampled row of one layer, and the sampled global row."""
    changed = stored.clone()
    changed[:, layer], changed[:, -1] = sampled[:, target].to(stored), sampled[:, -1].to(stored)
    return changed


def _decoded(model: DreamLayer, latents: Tensor, target: int, views: int) -> tuple[Tensor, Tensor]:
    """Colour (3, H, W) and alpha (1, H, W) of one row of latents (1, rows, c, h, w)."""
    if target == 0:
        color = model.decode_pictures(latents[:, 0])[0]
        return color, torch.ones_like(color[:1])
    _, colors, alphas = model.decode(latents[:, [0, target, -1]], views=views)
    return colors[0, 0], alphas[0, 0]


def _finished(
    model: DreamLayer, stack: LayerStack, drawn: _Drawn, settings: RunSettings, on_step: OnStep | None
) -> EditedStack:
    cells = model.grid(stack.width, stack.height)
    edited = EditedStack(
        stack=stack, trajectory=drawn.trajectory, alphas=stack_alphas(stack),
        unseen=torch.zeros(len(stack.layers), *cells, dtype=torch.bool),
        context_maps=drawn.context_maps, mapped=drawn.mapped)
    if settings.harmonization is None:
        return edited
    return replace(edited, harmonized=harmonize_stack(model, edited, settings, on_step=on_step))


def _checked(
    model: DreamLayer, trajectory: Trajectory, stack: LayerStack, layer: int, settings: RunSettings | None
) -> RunSettings:
    settings = settings or RunSettings()
    check_fit(model, trajectory, stack)
    if not 0 <= layer < len(stack.layers):
        raise InputError(
            f"got layer {layer} of a stack of {len(stack.layers)}; give 0 (the background) to {len(stack.layers) - 1}")
    if FINAL not in trajectory.latents:
        raise InputError(
            "got the trajectory of harmonisation alone; generate with keep_all, or make a whole one with stack_trajectory")
    if settings.harmonization is not None:  # now rather than after minutes of sampling
        trajectory.between(settings.harmonization, model.schedule)
        check_harmonizable(stack, shown_rows(stack, also=layer))
    if settings.views not in VIEWS:
        raise InputError(f"got {settings.views} views; give one of {', '.join(map(str, VIEWS))}")
    return settings


def _touches(alpha: Tensor, unknown: Tensor, scale: int) -> bool:
    """Whether a foreground (1, height, width) is visible right beside the unknown cells (h, w), or in them."""
    near = functional.max_pool2d(unknown[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    return bool((alpha * _pixels(near, scale)[:, : alpha.shape[-2], : alpha.shape[-1]] > _VISIBLE).any())


def _faded(mask: Tensor, width: int) -> Tensor:
    """A mask (1, H, W) of 0 and 1 that falls from 1 to 0 within so many pixels beyond its edge."""
    size, reach = width // 2 * 2 + 1, width // 2
    wider = functional.max_pool2d(mask[None], size, stride=1, padding=reach)
    smooth = functional.avg_pool2d(wider, size, stride=1, padding=reach, count_include_pad=False)[0]
    return torch.maximum(mask, smooth)


def _pixels(cells: Tensor, scale: int) -> Tensor:
    """(h, w) -> (1, h * scale, w * scale)."""
    return cells.repeat_interleave(scale, 0).repeat_interleave(scale, 1)[None]
