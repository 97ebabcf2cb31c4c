"""From a picture to layers (App. E): inverted under the layers' prompts, then sampled as layers from that noise."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from einops import repeat
from torch import Tensor
from torch.nn import functional

from .attention import resize_map
from .attention.steering import ContextSteering, check_shape
from .config import (
    LARGEST_SIDE,
    SMALLEST_SIDE,
    HarmonizationConfig,
    InversionConfig,
    LayerAttentionConfig,
    PictureFit,
    SamplingConfig,
)
from .diffusers_unet import layer_attention
from .errors import InputError
from .guidance import Guided
from .inversion import Inversion, invert, joint_mask, sample_back
from .layers import LayerStack
from .picture_fit import fit_stack
from .pipeline import DreamLayer, LayeredResult
from .prompts import LayeredEmbedding, LayerPrompts
from .sampling import DdimStepper, OnStep, Trajectory
from .transparent import VIEWS

__all__ = ["Decomposition", "canvas_size", "decompose", "fitted_stacks", "invert_pictures", "resize_pictures"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Decomposition:
    """A picture taken apart: ``result`` as of ``DreamLayer.generate`` (its seeds are None: nothing was drawn).

    ``pictures`` (s, 3, H, W): what was taken apart, on the canvas of the layers, to compare their composite with and to
    make a residual layer from. ``inversion`` holds every z_t on the way to the noise.
    """

    result: LayeredResult
    pictures: Tensor
    inversion: Inversion


def canvas_size(model: DreamLayer, picture: tuple[int, int], size: tuple[int, int] | None = None) -> tuple[int, int]:
    """(width, height) at which a picture of (width, height) is taken apart.

    Its own, or in the same shape of as many pixels as the model's own pictures where it has more. A ``size`` that is asked
    for must have the picture's shape, up to a pixel: nothing is cut off or distorted. Raises InputError for a size of another
    shape, and for a picture whose sides would come out too small or too large.
    """
    width, height = picture
    if size is not None:
        check_shape("a size of {}x{}", size, picture)
        return size
    own_width, own_height = model.default_size
    scale = min(1.0, math.sqrt(own_width * own_height / (width * height)))
    chosen = max(1, round(width * scale)), max(1, round(height * scale))
    if not _usable(chosen):
        raise InputError(
            f"got a picture of {width}x{height} pixels, of which the layers would have {chosen[0]}x{chosen[1]}, beyond "
            f"sides of {SMALLEST_SIDE} to {LARGEST_SIDE}; {_next_step(picture, chosen)}")
    return chosen


def _usable(size: tuple[int, int]) -> bool:
    return min(size) >= SMALLEST_SIDE and max(size) <= LARGEST_SIDE


def _next_step(picture: tuple[int, int], size: tuple[int, int]) -> str:
    """What to do about a picture whose layers would have an unusable size."""
    scale = SMALLEST_SIDE / min(picture) if min(size) < SMALLEST_SIDE else LARGEST_SIDE / max(picture)
    width, height = (round(side * scale) for side in picture)
    if not _usable((width, height)):
        return "cut it to a less narrow shape"
    return f"choose their size, such as --size {width}x{height}"


def resize_pictures(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (n, 3, h, w) in [0, 1] at ``size`` (width, height): bicubic, antialiased; untouched at their own size."""
    width, height = size
    if pictures.shape[-2:] == (height, width):
        return pictures
    return functional.interpolate(pictures, (height, width), mode="bicubic", antialias=True).clamp(0, 1)


@torch.no_grad()
def decompose(
    model: DreamLayer, pictures: Tensor, prompts: LayerPrompts | Sequence[LayerPrompts], *,
    size: tuple[int, int] | None = None, inversion: InversionConfig | None = None, sampling: SamplingConfig | None = None,
    attention: LayerAttentionConfig | None = None, steering: Mapping[int, ContextSteering] | None = None,
    harmonization: HarmonizationConfig | None = None, fit: PictureFit | None = None, views: int = 8, keep_all: bool = False,
    on_step: OnStep | None = None,
) -> Decomposition:
    """Take pictures (3, h, w), or (stacks, 3, h, w) with prompts for each, in [0, 1], apart into layers by their prompts.

    Every row of a stack starts as the same picture, is inverted under its own prompt with ``inversion``, and sampled with
    ``sampling`` from there. ``size`` is that of the layers, see ``canvas_size``. ``steering`` has masks over the *picture*
    by layer (1 is the lowest foreground). ``harmonization`` is off: the picture has its shadows. ``fit`` holds the layers
    to the picture afterwards, see `picture_fit.fit_stack`; None leaves them as sampled. ``keep_all`` keeps the whole trajectory
    of the sampling, of which the fit changes nothing. ``on_step`` hears of the stages "invert" and "layers". Raises InputError before the
    first step for values, sizes, masks and prompts that do not fit.
    """
    if views not in VIEWS:
        raise InputError(f"got {views} views; give one of {', '.join(map(str, VIEWS))}")
    stacks = [prompts] if isinstance(prompts, LayerPrompts) else list(prompts)
    config, sampling, attention = inversion or InversionConfig(), sampling or SamplingConfig(), attention or LayerAttentionConfig()
    if sampling.scheduler != "ddim":
        raise InputError(f"got the scheduler {sampling.scheduler!r} for a picture to take apart; inversion undoes DDIM: give ddim")
    canvas = _on_canvas(model, pictures, len(stacks), size)
    height, width = canvas.shape[-2:]
    marks = [time.perf_counter()]
    embeddings = model.encode(stacks)
    steered = model.steer(steering or {}, (pictures.shape[-1], pictures.shape[-2]), (width, height))
    clean = repeat(model.encode_pictures(canvas), "stack c h w -> stack row c h w", row=len(embeddings[0].embeddings))
    if harmonization is not None:  # would its range be met? To be known now rather than after all steps
        Trajectory({t: clean for t in model.schedule.timesteps(sampling.steps)}).between(harmonization, model.schedule)
    marks.append(time.perf_counter())
    found = invert_pictures(model, clean, embeddings, stacks, sampling.steps, config, attention, steered, on_step)
    marks.append(time.perf_counter())
    with layer_attention(
            model.unet, embeddings, attention, model.adapter, steering=steered,
            additions=model.row_additions(clean.shape[1] - 2)) as run:
        denoise = Guided(model, run, embeddings, stacks, sampling)
        latents, trajectory = sample_back(denoise, found, keep=harmonization, keep_all=keep_all, on_step=on_step)
        maps = denoise.context_map
    marks.append(time.perf_counter())
    harmonized = Trajectory() if harmonization is None else trajectory.between(harmonization, model.schedule)
    result = model.finish(
        latents, harmonized, embeddings, stacks, size=(width, height), seeds=[[None] * latents.shape[1]] * len(stacks),
        context_maps=maps, sampling=sampling, stepper=DdimStepper(model.schedule, sampling.steps), views=views,
        harmonize=harmonization is not None, on_step=on_step)
    if fit is not None:
        result = replace(result, stacks=fitted_stacks(result, canvas.cpu(), model.vae_scale, fit))
    spent = {name: end - start for name, start, end in zip(("encode", "invert", "sample"), marks, marks[1:], strict=False)}
    result = replace(result, timings={**spent, **result.timings}, trajectory=trajectory)
    return Decomposition(result=result, pictures=canvas.cpu(), inversion=found)


def fitted_stacks(result: LayeredResult, pictures: Tensor, scale: int, fit: PictureFit) -> tuple[LayerStack, ...]:
    """The stacks held to their pictures (stacks, 3, H, W); maps lie over the whole latents, which may be larger."""
    maps, margin = result.context_maps, 0
    if maps is not None:
        whole = [side * scale for side in result.latents.shape[-2:]]
        margin = whole[0] // maps.shape[-2] // 2  # an object's edge may lie anywhere in a cell
        maps = resize_map(maps.float(), (whole[0], whole[1]))[..., : pictures.shape[-2], : pictures.shape[-1]]
    return tuple(
        fit_stack(stack, picture, None if maps is None else maps[index], margin=margin, fit=fit)
        for index, (stack, picture) in enumerate(zip(result.stacks, pictures, strict=True)))


@torch.no_grad()
def invert_pictures(
    model: DreamLayer, clean: Tensor, embeddings: Sequence[LayeredEmbedding], stacks: Sequence[LayerPrompts], steps: int,
    config: InversionConfig, attention: LayerAttentionConfig, steering: Mapping[int, ContextSteering] | None = None,
    on_step: OnStep | None = None,
) -> Inversion:
    """Invert latents (stacks, rows, c, h, w) under the prompts of their rows, with the masked joint attention."""
    mask = joint_mask(config, model.device)
    with layer_attention(model.unet, embeddings, attention, model.adapter, mask=mask, steering=steering,
                         additions=model.row_additions(clean.shape[1] - 2)) as run:
        denoise = Guided(model, run, embeddings, stacks, SamplingConfig(steps=steps, guidance=config.guidance))
        return invert(denoise, clean, model.schedule, steps, config, on_step=on_step)


def _on_canvas(model: DreamLayer, pictures: Tensor, stacks: int, size: tuple[int, int] | None) -> Tensor:
    """(stacks, 3, H, W) at the size of the layers."""
    batch = pictures[None] if pictures.ndim == 3 else pictures
    if batch.ndim != 4 or len(batch) != stacks or batch.shape[1] != 3 or 0 in batch.shape:
        raise InputError(
            f"got pictures of shape {tuple(pictures.shape)} for {stacks} prompts; give (3, height, width), or "
            f"({stacks}, 3, height, width)")
    if not bool(((batch >= 0) & (batch <= 1)).all()):
        raise InputError("got pictures with values beyond 0 to 1, or NaN; give floats from 0 (black) to 1 (white)")
    chosen = canvas_size(model, (batch.shape[-1], batch.shape[-2]), size)
    model.grid(*chosen)  # refuses what is too small or too large, before it is resampled
    return resize_pictures(batch.float(), chosen)
