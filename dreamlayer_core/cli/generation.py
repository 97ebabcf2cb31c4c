"""`dreamlayer generate` and `demo`: load, sample, save, report."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..attention import resize_map
from ..attention.steering import ContextSteering, box_mask
from ..base_options import BaseOptions, Precision
from ..config import HarmonizationConfig, LayerAttentionConfig, SamplingConfig
from ..errors import DreamLayerError, InputError
from ..formats import StoredTrajectory, TrajectorySettings, save_stack
from ..formats.atomic import staged_folder
from ..formats.document import read_document
from ..formats.folder import DOCUMENT
from ..formats.limits import Limits
from ..layer_run import DEFAULT_THRESHOLD
from ..layers import LayerStack
from ..model_files import family_name
from ..pipeline import DreamLayer, LayeredResult
from ..prompts import LayerPrompts
from ..row_weights import joined_additions
from ..sampling import Trajectory
from .front_door import say
from .layer_pictures import image_prompts, layer_controls, noted_pictures, read_pictures
from .lit_stacks import LitStack, lit_stack
from .loras import lora_additions
from .progress import StageProgress, stage_progress
from .request import GenerateRequest

if sys.platform != "win32":
    import resource

__all__ = ["check_output_folder", "generate_stack", "load_model", "memory_errors", "model_family", "picture_maps",
           "report_folder", "rounded_timings", "say_empty", "stored_trajectory"]


def generate_stack(request: GenerateRequest) -> dict[str, object]:
    """Run a request and write its folder; returns what `--json` prints: folder, files, settings and timings.

    Raises DreamLayerError; prompts, settings and the output folder are checked before the model is loaded.
    """
    prompts = LayerPrompts(request.background, request.foregrounds, request.whole, request.negative)
    sampling = SamplingConfig(
        steps=request.steps, guidance=request.guidance, scheduler=request.scheduler,
        guidance_interval=request.guidance_interval, layer_guidance=request.layer_guidance)
    sampling.row_guidance(len(request.foregrounds) + 2)
    attention, tiling = request.attention, request.tiling
    check_output_folder(request.out, overwrite=request.overwrite)
    pictures = read_pictures(request.pictures)
    with stage_progress() as progress, memory_errors():
        started = time.perf_counter()
        progress.begin("load")
        model = replace(load_model(request.model, request.adapter, request.device, request.base, request.precision), tiling=tiling)
        loaded = time.perf_counter()
        result = _run(model, request, prompts, sampling, attention, pictures, progress)
        finished = time.perf_counter()
        progress.begin("write")
        timings = {"load": loaded - started, **result.timings, "total": finished - started}
        report = _save(request, model, result, timings)
    say_empty(result.stacks[0], "another --seed may help")
    return report


def say_empty(stack: LayerStack, advice: str) -> None:
    """A line for every foreground in which there is nothing to see."""
    for number, layer in enumerate(stack.foregrounds, 1):
        if layer.box is None:
            say(f"layer {number} ({layer.prompt}) came out empty; {advice}")


class _OnlyAsked(Exception):
    """Leaves a staged folder before it appears."""


def check_output_folder(folder: Path, *, overwrite: bool) -> None:
    """Could a result be written there? Raises OutputError now rather than after minutes of sampling."""
    with suppress(_OnlyAsked), staged_folder(folder, overwrite=overwrite, mark=DOCUMENT, written=()):
        raise _OnlyAsked


_DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def load_model(
    model: str, adapter: str | None, device: str, base: BaseOptions | None = None, precision: Precision = "fp32"
) -> DreamLayer:
    """``adapter`` is a file, "none" for the training-free form, None for the model's own; ``device`` may be "auto"."""
    free = adapter == "none"
    chosen = None if free or adapter is None else adapter
    return DreamLayer.from_files(
        model, adapter=chosen, use_adapter=not free, options=base, dtype=_DTYPES[precision], device=_device(device))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name).item()  # "meta" makes tensors, and they hold nothing
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"got device {name!r}, which cannot be used ({reason}); give cpu or auto") from error
    return torch.device(name)


def _run(
    model: DreamLayer, request: GenerateRequest, prompts: LayerPrompts, sampling: SamplingConfig,
    attention: LayerAttentionConfig, pictures: tuple[list[Tensor], list[Tensor]], progress: StageProgress,
) -> LayeredResult:
    additions, text_additions = lora_additions(model, request.loras)
    # Image prompts first: they are attended to with the weights of their layers, see `image_additions`.
    additions = joined_additions(image_prompts(model, request.pictures, pictures[0]), additions)
    progress.begin("encode")
    return model.generate(
        prompts,
        size=request.size,
        seed=request.seed,
        layer_seeds=request.layer_seeds,
        sampling=sampling,
        attention=attention,
        harmonization=HarmonizationConfig() if request.harmonize else None,
        views=request.views,
        keep_all=request.trajectory,
        steering=_steering(request, *(request.size or model.default_size)),
        additions=additions,
        text_additions=text_additions,
        controls=layer_controls(model, request.pictures, pictures[1]),
        on_step=progress.on_step,
    )


def _steering(request: GenerateRequest, width: int, height: int) -> dict[int, ContextSteering]:
    """A plan's boxes: the context map of a layer counts in its box alone."""
    def mask(left: float, top: float, right: float, bottom: float) -> Tensor:
        return box_mask([(left * width, top * height, (right - left) * width, (bottom - top) * height)], width, height)

    return {layer: ContextSteering(mask=mask(*box), mode="multiply") for layer, box in request.boxes.items()}


def _save(
    request: GenerateRequest, model: DreamLayer, result: LayeredResult, timings: Mapping[str, float]
) -> dict[str, object]:
    stack = result.stacks[0]
    for number, name in enumerate(request.names, 1):
        stack = stack.with_layer(number, name=name)
    harmonized = None if result.harmonized is None else result.harmonized[0]
    lit = lit_stack(stack, harmonized) if request.effects and harmonized is not None else LitStack(stack=stack)
    folder = save_stack(
        lit.stack,
        request.out,
        settings={**_settings(request, model, result), **lit.settings},
        timings=rounded_timings(timings),
        harmonized=harmonized,
        context_maps=picture_maps(model, result),
        trajectory=stored_trajectory(model, result.trajectory, request.steps, request.guidance) if request.trajectory else None,
        overwrite=request.overwrite,
    )
    return report_folder(folder)


def stored_trajectory(model: DreamLayer, trajectory: Trajectory, steps: int, guidance: float) -> StoredTrajectory:
    """A trajectory with what tells later by which model and run it was made."""
    return StoredTrajectory(trajectory=trajectory, settings=TrajectorySettings(
        model=model.fingerprint(), family=model_family(model), steps=steps, guidance=guidance))


def model_family(model: DreamLayer) -> str:
    config = model.unet.config
    return family_name(config["cross_attention_dim"], list(config["block_out_channels"])) or "of no known family"


def picture_maps(model: DreamLayer, result: LayeredResult) -> Tensor | None:
    """The maps on the picture's own pixels: as read, they cover the latents, which may reach beyond the picture."""
    if result.context_maps is None:
        return None
    height, width = (side * model.vae_scale for side in result.latents.shape[-2:])
    stack = result.stacks[0]
    return resize_map(result.context_maps[0], (height, width))[:, : stack.height, : stack.width]


def _settings(request: GenerateRequest, model: DreamLayer, result: LayeredResult) -> dict[str, object]:
    """All that is needed to make the stack again; what matters most stands first."""
    stack, irh = result.stacks[0], HarmonizationConfig()
    used = model.adapter.settings if model.adapter else None
    settings: dict[str, object] = {
        "model": request.model,
        "adapter": "none" if used is None else request.adapter or "the model's own",
        **request.base.noted(),
        "precision": request.precision,
        "seed": request.seed,
        "steps": request.steps,
        "scheduler": request.scheduler,
        "guidance": request.guidance,
        "guidance_interval": request.guidance_interval and list(request.guidance_interval),
        "size": f"{stack.width}x{stack.height}",
        "caca": request.caca,
        "lssa": request.lssa,
        "cross_keys": request.cross_keys,
        "harmonize": request.harmonize,
        "t_g": used.context_threshold if used else DEFAULT_THRESHOLD,
        "t_h": irh.high,
        "t_h_low": irh.low,
        "views": request.views,
        "device": str(model.device),
        "negative": request.negative,
        "boxes": {str(layer): list(box) for layer, box in request.boxes.items()},
        "layer_seeds": {str(layer): seed for layer, seed in request.layer_seeds.items()},
        "loras": [one.noted() for one in request.loras],
        **noted_pictures(request.pictures),
        "layer_guidance": {str(layer): scale for layer, scale in request.layer_guidance.items()},
        "attention_memory": request.attention_memory,
        "tile": request.tile,
    }
    return settings


def report_folder(folder: Path) -> dict[str, object]:
    """What `--json` prints of a saved stack."""
    document = read_document(folder / DOCUMENT, Limits())
    files = {"stack": DOCUMENT, **document.files}
    return {
        "folder": str(folder),
        "files": {kind: str(folder / name) for kind, name in files.items()},
        "layers": [str(folder / layer.file) for layer in document.layers if layer.file],
        "settings": document.settings,
        "timings": document.timings,
    }


def rounded_timings(timings: Mapping[str, float]) -> dict[str, float]:
    """Timings in seconds as they are saved, with the peak of memory where the system tells it."""
    peak = _peak_memory()
    rounded = {name: round(seconds, 3) for name, seconds in timings.items()}
    return rounded if peak is None else {**rounded, "peak_memory_mb": peak}


def _peak_memory() -> int | None:
    """The most memory that this process has held, in MB; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))  # bytes there, KiB on Linux


@contextmanager
def memory_errors() -> Generator[None, None, None]:
    """A DreamLayerError with advice where memory runs out: torch has no error class for a CPU's."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        raise DreamLayerError("not enough memory for this picture; make it smaller, or give fewer layers") from error
