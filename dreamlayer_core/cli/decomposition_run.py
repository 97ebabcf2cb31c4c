"""`dreamlayer decompose`: read, load, take apart, save, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace

from torch import Tensor

from ..attention.steering import ContextSteering, box_mask, check_steering
from ..composite import flatten
from ..config import HarmonizationConfig, LayerAttentionConfig, PictureFit, SamplingConfig
from ..decomposition import Decomposition, decompose
from ..errors import InputError
from ..evaluation.metrics import composite_psnr
from ..formats import save_stack
from ..picture_files import Picture, read_mask, read_picture
from ..pipeline import DreamLayer
from ..prompts import LayerPrompts
from .decomposition import DecomposeRequest
from .generation import (
    check_output_folder,
    load_model,
    memory_errors,
    picture_maps,
    report_folder,
    rounded_timings,
    say_empty,
    stored_trajectory,
)
from .lit_stacks import LitStack, residual_stack
from .progress import StageProgress, stage_progress

__all__ = ["decompose_picture"]


def decompose_picture(request: DecomposeRequest) -> dict[str, object]:
    """Run a request and write its folder; returns what `--json` prints: folder, files, settings and timings.

    Raises DreamLayerError; the picture, masks, prompts, settings and the output folder are checked before the model is
    loaded.
    """
    prompts = LayerPrompts(request.background, request.foregrounds, request.whole, request.negative)
    sampling = SamplingConfig(steps=request.steps, guidance=request.guidance)
    picture = read_picture(request.image)
    steering = _steering(request, picture)
    check_steering(steering, len(request.foregrounds), 1)
    check_output_folder(request.out, overwrite=request.overwrite)
    with stage_progress() as progress, memory_errors():
        started = time.perf_counter()
        progress.begin("load")
        model = load_model(request.model, request.adapter, request.device, request.base, request.precision)
        loaded = time.perf_counter()
        found = _run(model, request, picture, prompts, sampling, steering, progress)
        finished = time.perf_counter()
        progress.begin("write")
        timings = {"load": loaded - started, **found.result.timings, "total": finished - started}
        report = _save(request, model, picture, found, timings)
    say_empty(found.result.stacks[0], "--box or --mask says where it is; --fit none leaves layers as they were sampled")
    return report


def _steering(request: DecomposeRequest, picture: Picture) -> dict[int, ContextSteering]:
    """A layer's boxes together, or its mask."""
    if both := sorted(set(request.boxes) & set(request.masks)):
        raise InputError(f"got boxes and a mask for layer {both[0]}; give one or the other")
    width, height = picture.size
    boxes = {layer: ContextSteering(mask=box_mask(some, width, height), mode=request.steer or "multiply")
             for layer, some in request.boxes.items()}
    masks = {layer: ContextSteering(mask=read_mask(path), mode=request.steer or "override")
             for layer, path in request.masks.items()}
    return {**boxes, **masks}


def _run(
    model: DreamLayer, request: DecomposeRequest, picture: Picture, prompts: LayerPrompts, sampling: SamplingConfig,
    steering: Mapping[int, ContextSteering], progress: StageProgress,
) -> Decomposition:
    progress.begin("encode")
    return decompose(
        model,
        picture.pixels,
        prompts,
        size=request.size,
        inversion=request.inversion,
        sampling=sampling,
        attention=LayerAttentionConfig(caca=request.caca, lssa=request.lssa),
        steering=steering,
        harmonization=HarmonizationConfig() if request.harmonize else None,
        fit=_fit(model, request),
        views=request.views,
        keep_all=request.trajectory,
        on_step=progress.on_step,
    )


def _fit(model: DreamLayer, request: DecomposeRequest) -> PictureFit | None:
    """Maps that no adapter has learnt, and nobody has steered, are too rough to cut layers by."""
    if request.fit is None or model.adapter is not None or request.boxes or request.masks:
        return request.fit
    return replace(request.fit, confine=False)


def _save(
    request: DecomposeRequest, model: DreamLayer, picture: Picture, found: Decomposition, timings: Mapping[str, float]
) -> dict[str, object]:
    result = found.result
    stack = result.stacks[0]
    lit = residual_stack(stack, found.pictures[0]) if request.residual else LitStack(stack=stack)
    folder = save_stack(
        lit.stack,
        request.out,
        settings={**_settings(request, model, picture, found), **lit.settings},
        timings=rounded_timings(timings),
        harmonized=None if result.harmonized is None else result.harmonized[0],
        context_maps=picture_maps(model, result),
        trajectory=stored_trajectory(model, result.trajectory, request.steps, request.guidance) if request.trajectory else None,
        overwrite=request.overwrite,
    )
    return report_folder(folder)


def _settings(
    request: DecomposeRequest, model: DreamLayer, picture: Picture, found: Decomposition
) -> dict[str, object]:
    """All that is needed to make the stack again, and how near its composite is to the picture."""
    stack, inversion, fit = found.result.stacks[0], request.inversion, _fit(model, request)
    settings: dict[str, object] = {
        "picture": request.image.name,
        "composite_psnr": _psnr(flatten(stack), found),
        "model": request.model,
        "adapter": "none" if model.adapter is None else request.adapter or "the model's own",
        **request.base.noted(),
        "precision": request.precision,
        "method": inversion.method,
        "steps": request.steps,
        "guidance": request.guidance,
        "inversion_guidance": inversion.guidance,
        "masked": inversion.masked,
        "size": f"{stack.width}x{stack.height}",
        "picture_size": "{}x{}".format(*picture.size),
        "picture_notes": list(picture.notes),
        "boxes": {str(layer): [list(box) for box in boxes] for layer, boxes in request.boxes.items()},
        "masks": {str(layer): path.name for layer, path in request.masks.items()},
        "steer": request.steer or "masks override, boxes multiply",
        "caca": request.caca,
        "lssa": request.lssa,
        "harmonize": request.harmonize,
        "fit": None if fit is None else asdict(fit),
        "views": request.views,
        "device": str(model.device),
        "negative": request.negative,
    }
    return settings


def _psnr(composite: Tensor, found: Decomposition) -> float:
    return round(composite_psnr(composite, found.pictures[0])[0], 2)
