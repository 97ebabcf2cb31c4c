"""`dreamlayer edit`, `regenerate` and `add`: load a saved stack, work on its layers, save it again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from ..attention import resize_map
from ..base_options import BaseOptions, Precision
from ..config import (
    CrossKeys,
    GuidanceInterval,
    HarmonizationConfig,
    LayerAttentionConfig,
    SamplingConfig,
    SchedulerName,
)
from ..derived import TakenOff, take_off
from ..editing import EditedStack, LayerChange, RunSettings, edit_layers, harmonize_stack, new_order
from ..errors import DreamLayerError, InputError
from ..formats import StoredTrajectory, load_document, load_stack, load_trajectory, save_stack
from ..layers import LayerStack
from ..pipeline import DreamLayer
from ..regeneration import add_layer, complete_layer, regenerate_layer
from ..row_weights import joined_additions
from ..sampling import FINAL, OnStep, Trajectory
from ..stack_latents import stack_trajectory
from .front_door import say
from .generation import (
    check_output_folder,
    load_model,
    memory_errors,
    model_family,
    report_folder,
    rounded_timings,
    stored_trajectory,
)
from .layer_pictures import PICTURES, image_prompts, layer_controls, noted_pictures, read_pictures
from .lit_stacks import STALE, LitStack, check_ground, lit_stack, moved_stack
from .loras import lora_additions
from .progress import StageProgress, stage_progress
from .request import LayerFile, LayerPictures, StackRequest, parse_layer_files, tiles_of

__all__ = ["add_to_stack", "edit_stack", "regenerate_in_stack"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Source:
    """A saved stack with its settings, and the trajectory that was kept of it.

    ``stack`` is without its effects and residual, as ``taken`` knows them: the rows of the trajectory are of its layers.
    """

    stack: LayerStack
    taken: TakenOff
    settings: Mapping[str, object]
    stored: StoredTrajectory | None

    def number(self, name: str) -> float | None:
        value = self.settings.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return None
        return float(value)

    def whole_number(self, name: str) -> int | None:
        value = self.number(name)
        return None if value is None else int(value)

    def text(self, name: str) -> str | None:
        value = self.settings.get(name)
        return value if isinstance(value, str) else None

    def switch(self, name: str) -> bool:
        return self.settings.get(name) is not False


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    """A loaded model with a stack, its trajectory, and how to sample."""

    model: DreamLayer
    stack: LayerStack
    trajectory: Trajectory
    settings: RunSettings
    on_step: OnStep
    loras: Sequence[LayerFile]
    pictures: LayerPictures
    made: bool  # the trajectory was made of the pictures


def edit_stack(
    request: StackRequest, changes: Sequence[LayerChange], *, snap: bool, complete: bool, seed: int, described: Sequence[str]
) -> dict[str, object]:
    """Edit layers, complete them if asked, harmonise again and write the folder; returns what `--json` prints."""

    def work(run: _Run) -> EditedStack:
        edited = edit_layers(
            run.model, run.trajectory, run.stack, changes, between_cells="snap" if snap else "encode",
            covered=complete and run.made, seed=seed)
        for layer in range(len(edited.stack.layers) if complete else 0):
            edited = complete_layer(run.model, edited, layer, settings=run.settings, on_step=run.on_step)
        if run.settings.harmonization is None:
            return edited
        return replace(edited, harmonized=harmonize_stack(run.model, edited, run.settings, on_step=run.on_step))

    return _run(request, work, list(described), changes=changes, order=lambda count: new_order(changes, count), samples=complete)


def regenerate_in_stack(
    request: StackRequest, layer: int, *, prompt: str | None, seed: int | None, strength: float = 1.0
) -> dict[str, object]:
    """Sample one layer anew and write the folder; returns what `--json` prints."""
    if prompt is None and seed is None:
        raise InputError("got neither a prompt nor a seed, with which the layer would come out as it is; give --prompt or --seed")

    def work(run: _Run) -> EditedStack:
        return regenerate_layer(
            run.model, run.trajectory, run.stack, layer, prompt=prompt, seed=seed, strength=strength, settings=run.settings,
            on_step=run.on_step)

    return _run(request, work, [f"{layer}: regenerated"], new_ground=layer == 0)


def add_to_stack(request: StackRequest, prompt: str, *, position: int | None, seed: int) -> dict[str, object]:
    """Add a layer and write the folder; returns what `--json` prints."""

    def work(run: _Run) -> EditedStack:
        return add_layer(
            run.model, run.trajectory, run.stack, prompt, position=position, seed=seed, settings=run.settings,
            on_step=run.on_step)

    def order(count: int) -> list[int]:
        place = count if position is None else position
        return [*range(place), -1, *range(place, count)]

    return _run(request, work, ["added" if position is None else f"{position}: added"], order=order)


def _run(
    request: StackRequest, work: Callable[[_Run], EditedStack], described: list[str], *,
    changes: Sequence[LayerChange] = (), new_ground: bool = False,
    order: Callable[[int], Sequence[int]] | None = None, samples: bool = True,
) -> dict[str, object]:
    """``order`` (of so many layers): the number before of each layer that there is afterwards, -1 for a new one. ``samples``: layers, and
    does not only harmonise."""
    source = _load(request)
    if request.effects == "found" and not new_ground:
        check_ground(source.stack, changes)
    check_output_folder(request.out, overwrite=request.overwrite)
    with stage_progress() as progress, memory_errors():
        started = time.perf_counter()
        run = _prepared(request, source, progress, order(len(source.stack.layers)) if order else None, changes, samples=samples)
        loaded = time.perf_counter()
        edited = work(run)
        finished = time.perf_counter()
        progress.begin("write")
        timings = {"load": loaded - started, "edit": finished - loaded, "total": finished - started}
        return _save(request, source, run, edited, _lit(request, source, edited, changes), timings, described)


def _load(request: StackRequest) -> _Source:
    stack, document = load_stack(request.source), load_document(request.source)
    if document is None:
        # PSD and ORA hold no prompts: a layer is called what it shows.
        layers = [replace(layer, prompt=layer.prompt or ("" if _nameless(layer.name) else layer.name)) for layer in stack.layers]
        stack = replace(stack, layers=tuple(layers))
    taken = take_off(stack)
    stack = taken.stack
    _tell_what_is_left_out(request, taken)
    for layer, text in request.prompts.items():
        stack = stack.with_layer(layer, prompt=text)
    if request.whole is not None:
        stack = replace(stack, global_prompt=request.whole)
    stored = None if request.from_pixels else load_trajectory(request.source)
    return _Source(stack=stack, taken=taken, settings={} if document is None else document.settings, stored=stored)


def _tell_what_is_left_out(request: StackRequest, taken: TakenOff) -> None:
    if request.effects == "moved" and taken.effects is None:
        raise InputError("the stack has no effects layers that could move; give --effects, which makes them")
    if request.effects is None and taken.effects is not None:
        say("the stack's effects layers show the picture as it was and are left out; --effects makes new ones")
    if taken.residual:
        say("the stack's residual layer shows the picture as it was and is left out")


def _lit(request: StackRequest, source: _Source, edited: EditedStack, changes: Sequence[LayerChange]) -> LitStack:
    if request.effects == "moved":
        return moved_stack(source.taken, edited.stack, changes)
    if request.effects == "found" and edited.harmonized is not None:
        return lit_stack(edited.stack, edited.harmonized)
    return LitStack(stack=edited.stack)


def _nameless(name: str) -> bool:
    return name.strip().lower().split(" ")[0] in ("", "background", "layer")


def _prepared(
    request: StackRequest, source: _Source, progress: StageProgress, order: Sequence[int] | None,
    changes: Sequence[LayerChange], *, samples: bool,
) -> _Run:
    progress.begin("load")
    # What layers have beside their prompts is made for the stack's own base.
    loras = () if request.model else _layer_files(source, "loras", order)
    chosen = LayerPictures() if request.model else _pictures(source, order, changes)
    acting = chosen if samples else chosen.of_whole() if request.harmonize else LayerPictures()
    with _noted():
        prompts, hints = read_pictures(acting)
    model = load_model(*_model_names(request, source), request.device, _base(request, source), _precision(source))
    model = replace(model, tiling=tiles_of(source.whole_number("tile")))
    settings = _settings(request, source)
    with _noted():
        additions, text_additions = lora_additions(model, loras)
        settings = replace(
            settings, additions=joined_additions(image_prompts(model, acting, prompts), additions),
            text_additions=text_additions, controls=layer_controls(model, acting, hints))
    if order is not None:
        settings = replace(settings, sampling=settings.sampling.of_rows([*order, len(source.stack.layers)]))
    if source.stored is not None:
        source.stored.require_model(model.fingerprint(), model_family(model))
        trajectory = source.stored.trajectory
    else:
        say("the stack has no trajectory; its layers are encoded from their pictures")
        progress.begin("encode")
        timesteps = [*settings.stepper_for(model).timesteps, FINAL]
        trajectory = stack_trajectory(model, source.stack, timesteps, seed=source.stack.background.seed or 0)
    stack = source.stack
    trajectory = Trajectory({t: z.to(model.device) for t, z in trajectory.latents.items()})
    return _Run(model=model, stack=stack, trajectory=trajectory, settings=settings, on_step=progress.on_step,
                loras=loras, pictures=chosen, made=source.stored is None)


def _base(request: StackRequest, source: _Source) -> BaseOptions:
    """What the stack notes of its own model, unless the command says otherwise."""
    given = {one.name: value for one in fields(BaseOptions) if (value := getattr(request.base, one.name))}
    return replace(BaseOptions.from_noted(source.settings) if request.model is None else BaseOptions(), **given)


def _precision(source: _Source) -> Precision:
    """That of the stack: in bf16 a model's numbers are others, and its trajectory no longer its own."""
    noted = source.text("precision")
    return cast(Precision, noted) if noted in get_args(Precision) else "fp32"


def _model_names(request: StackRequest, source: _Source) -> tuple[str, str | None]:
    adapter = source.text("adapter")
    made_with = None if adapter is None or adapter == "the model's own" else adapter
    return request.model or source.text("model") or "embedded", request.adapter or (made_with if request.model is None else None)


def _settings(request: StackRequest, source: _Source) -> RunSettings:
    stored = None if source.stored is None else source.stored.settings
    if stored is not None and request.steps not in (None, stored.steps):
        raise InputError(
            f"got {request.steps} steps for a stack that was sampled in {stored.steps}; leave --steps out, or go by its "
            "pictures alone (--from-pixels)")
    steps = request.steps
    if steps is None:
        steps = stored.steps if stored else int(source.number("steps") or SamplingConfig.steps)
    guidance = request.guidance
    if guidance is None:
        guidance = stored.guidance if stored else source.number("guidance")
    return RunSettings(
        sampling=SamplingConfig(
            steps=steps, guidance=SamplingConfig.guidance if guidance is None else guidance, scheduler=_scheduler(source),
            guidance_interval=_guidance_interval(source), layer_guidance={} if request.guidance is not None else _layer_guidance(source)),
        attention=LayerAttentionConfig(
            caca=source.switch("caca"), lssa=source.switch("lssa"),
            cross_keys=cast(CrossKeys, source.text("cross_keys") or LayerAttentionConfig.cross_keys),
            attention_memory=source.whole_number("attention_memory")),
        harmonization=HarmonizationConfig() if request.harmonize else None,
        views=request.views,
        negative=(source.text("negative") or "") if request.negative is None else request.negative)


def _layer_files(
    source: _Source, noted: str, order: Sequence[int] | None, stale: Collection[int | str] = ()
) -> tuple[LayerFile, ...]:
    """Those that the stack notes, on the layers as they are numbered afterwards, but for those of ``stale`` ones.

    ``order`` has the number before of each.
    """
    match source.settings.get(noted):
        case [*several]:
            files = parse_layer_files(f"the stack's {noted}", [str(one) for one in several], "file")
        case _:
            return ()
    places: dict[int | str, int | Literal["global"]] = {"global": "global"}
    places |= {one.layer: one.layer for one in files} if order is None else {old: new for new, old in enumerate(order)}
    return tuple(replace(one, layer=places[one.layer]) for one in files if one.layer in places and one.layer not in stale)


def _pictures(source: _Source, order: Sequence[int] | None, changes: Sequence[LayerChange]) -> LayerPictures:
    """Image prompts and hints of the stack. A hint shows where things were: that of a layer that is moved goes, and the whole
    picture's where anything is moved or taken away."""
    moved = {change.layer for change in changes if not change.op.is_identity}
    gone = {change.layer for change in changes if change.delete or change.visible is False}
    stale: set[int | str] = {*moved, "global"} if moved | gone else set()
    prompts, hints = _layer_files(source, "image_prompts", order), _layer_files(source, "controls", order, stale)
    if len(hints) < len(_layer_files(source, "controls", order)):
        say("hints of what is moved or taken away show where it was, and are left out")

    def path(name: str, needed: tuple[LayerFile, ...]) -> Path | None:
        return Path(text) if needed and (text := source.text(name)) else None

    return LayerPictures(
        image_prompts=prompts, ip_adapter=path("ip_adapter", prompts), image_encoder=path("image_encoder", prompts),
        controls=hints, controlnet=path("controlnet", hints))


@contextmanager
def _noted() -> Generator[None]:
    """Errors about files that the user has not given now say where they come from."""
    try:
        yield
    except DreamLayerError as error:
        raise type(error)(f"{error}; the stack notes this file: bring it back, or leave out all that layers have beside their prompts with "
                          "--model") from error


def _guidance_interval(source: _Source) -> GuidanceInterval | None:
    match source.settings.get("guidance_interval"):
        case [int(low), int(high)]:
            return low, high
        case _:
            return None


def _layer_guidance(source: _Source) -> dict[int, float]:
    match source.settings.get("layer_guidance"):
        case {**noted}:
            return {int(str(row)): float(scale) for row, scale in noted.items()
                    if str(row).isdecimal() and isinstance(scale, int | float)}
        case _:
            return {}


def _scheduler(source: _Source) -> SchedulerName:
    """That of the stack; InputError for one that this release does not know."""
    named = source.text("scheduler") or SamplingConfig.scheduler
    return SamplingConfig(scheduler=cast(SchedulerName, named)).scheduler


def _save(
    request: StackRequest, source: _Source, run: _Run, edited: EditedStack, lit: LitStack, timings: Mapping[str, float],
    described: list[str],
) -> dict[str, object]:
    sampling, (model_name, adapter) = run.settings.sampling, _model_names(request, source)
    known = source.settings.get("edits")
    settings: dict[str, object] = {
        **{name: value for name, value in source.settings.items() if name not in (*STALE, *PICTURES)},
        **_base(request, source).noted(),
        "model": model_name,
        "adapter": "none" if run.model.adapter is None else adapter or "the model's own",
        "steps": sampling.steps,
        "guidance": sampling.guidance,
        "layer_guidance": {str(layer): scale for layer, scale in sampling.layer_guidance.items()},
        "loras": [one.noted() for one in run.loras],
        **noted_pictures(run.pictures),
        "size": f"{edited.stack.width}x{edited.stack.height}",
        "harmonize": request.harmonize,
        "negative": run.settings.negative,
        "edits": [*(known if isinstance(known, list) else []), *described],
        **lit.settings,
    }
    folder = save_stack(
        lit.stack,
        request.out,
        settings=settings,
        timings=rounded_timings(timings),
        harmonized=edited.harmonized,
        context_maps=_maps(edited),
        trajectory=stored_trajectory(run.model, edited.trajectory, sampling.steps, sampling.guidance),
        overwrite=request.overwrite,
    )
    return report_folder(folder)


def _maps(edited: EditedStack) -> Tensor | None:
    """A map for every foreground, (k - 1, h, w), on the picture's own pixels; zeros where the layer was not sampled."""
    if edited.context_maps is None or not edited.stack.foregrounds:
        return None
    stack = edited.stack
    latent = next(iter(edited.trajectory.latents.values())).shape[-2:]
    scale = -(-stack.height // latent[0])
    maps = torch.zeros(len(stack.foregrounds), latent[0] * scale, latent[1] * scale)
    for row, one in zip(edited.mapped, edited.context_maps, strict=True):
        maps[row - 1] = resize_map(one[None], (maps.shape[-2], maps.shape[-1]))[0]
    return maps[:, : stack.height, : stack.width]
