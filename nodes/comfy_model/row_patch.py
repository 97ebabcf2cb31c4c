"""Weights of single rows on a MODEL, with Patch Model or without: the core's additions, as hooks on modules of the UNet.

The hooks stand during a call of the UNet alone, inside the parts that Patch Model takes a call apart into. They see what a
module takes and gives, so that weights may be cast, patched or offloaded as ComfyUI likes. What a run knows is gone with it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import torch
from torch import Tensor, nn

from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.prompts import MAX_FOREGROUNDS
from ...dreamlayer_core.row_weights import (
    Additions,
    RowAddition,
    RowInput,
    add_input_rows,
    add_rows,
    check_additions,
    joined_additions,
)
from .calls import run_height
from .sites import find_modules

__all__ = ["RowCall", "Source", "compute_dtype", "keep_inside", "patch_rows", "whole_model"]

_KEY = "dreamlayer_rows"
_OUTER_SAMPLE = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
_DIFFUSION_MODEL = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL


@dataclass(kw_only=True, eq=False)
class RowCall:
    """The call of the UNet that is in progress; the same object for all calls of a run."""

    height: int = 0  # rows of every stack, 1 where there are no layers; 0 while nothing is sampled, only checked
    size: tuple[int, int] = (0, 0)  # of its latents, (height, width): less than the whole where conditioning is for an area
    whole: tuple[int, int] = (0, 0)  # of the run's
    options: Mapping[str, Any] = field(default_factory=lambda: dict[str, Any]())  # its transformer options


Source = Callable[[Mapping[str, nn.Module], RowCall], Additions]
"""The UNet's modules by diffusers' names -> what rows add at them. Called once a run, and once to check."""


class _WholeModel(comfy.model_patcher.ModelPatcher):
    """A small model of plain torch layers, which cannot fetch single weights in low-memory mode: loaded whole, or not."""

    def partially_load(self, device_to: torch.device, extra_memory: float = 0, force_patch_weights: bool = False) -> int:
        return super().partially_load(device_to, 1e32, force_patch_weights)

    def partially_unload(
        self, device_to: torch.device, memory_to_free: float = 0, force_patch_weights: bool = False
    ) -> int:
        return 0  # ComfyUI unloads all of it then


def whole_model(module: nn.Module, model: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """``module`` as a model of its own, to be loaded and offloaded with ``model``."""
    return _WholeModel(
        module, load_device=model.load_device, offload_device=comfy.model_management.unet_offload_device())


def compute_dtype(model: comfy.model_patcher.ModelPatcher) -> torch.dtype:
    """In which ``model`` computes; fp32 where it says no such thing."""
    dtype = model.model.get_dtype_inference()
    return dtype if dtype.is_floating_point and dtype.itemsize >= 2 else torch.float32


def patch_rows(
    model: comfy.model_patcher.ModelPatcher, source: Source, weights: nn.Module | None = None, *, first: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """A clone of ``model`` with additions of ``source`` to rows of layered runs; many of them add up.

    Names are diffusers'; an attention layer as a whole is ``….attn1``, also where other nodes replace its attention.
    ``weights``, from which ``source`` may take tensors, come to the MODEL's dtype, and on its device for every run. Runs
    without layers, such as harmonising, have the additions of the "global" row alone. ``first``: at a module they come before
    those of earlier nodes. Raises InputError for no UNet of
    Stable Diffusion's kind, WeightsError for what does not fit it, and what ``source`` raises.
    """
    patched = model.clone()
    names, unet = find_modules(model), model.model.diffusion_model
    check_additions(unet, _named(source, names, unet, RowCall()), MAX_FOREGROUNDS + 2)
    earlier = patched.get_attachment(_KEY)
    sources = earlier.sources if earlier else ()
    patch = _RowPatch(names=names, sources=(source, *sources) if first else (*sources, source))
    patched.set_attachments(_KEY, patch)
    patched.remove_wrappers_with_key(_OUTER_SAMPLE, _KEY)
    patched.add_wrapper_with_key(_OUTER_SAMPLE, _KEY, patch.outer_sample)
    if weights is not None:
        own = whole_model(weights.to(compute_dtype(model)), patched)
        patched.set_additional_models(_KEY, [*patched.get_additional_models_with_key(_KEY), own])
    return patched


def keep_inside(patched: comfy.model_patcher.ModelPatcher) -> None:
    """Rows see the parts of a call: their wrapper comes after that of Patch Model."""
    wrappers = patched.wrappers.get(_OUTER_SAMPLE, {})
    if _KEY in wrappers:
        wrappers[_KEY] = wrappers.pop(_KEY)


def _named(source: Source, names: Mapping[str, str], unet: nn.Module, call: RowCall) -> dict[str, list[RowAddition]]:
    """Additions by the UNet's own names; a name that the UNet lacks stays, to be refused."""
    modules = {name: unet.get_submodule(own) for name, own in names.items()}
    return {names.get(name, name): list(own) for name, own in source(modules, call).items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class _RowPatch:
    """What is attached to a MODEL: no state."""

    names: Mapping[str, str]
    sources: tuple[Source, ...]

    def outer_sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """OUTER_SAMPLE wrapper: makes the run's state, and drops it whatever happens."""
        guider = executor.class_obj
        run = _RowRun(self, run_height(guider.conds, args[0]) or 1, (args[0].shape[-2], args[0].shape[-1]))
        wrappers = guider.model_options["transformer_options"].setdefault("wrappers", {})
        wrappers.setdefault(_DIFFUSION_MODEL, {}).setdefault(_KEY, []).append(run.diffusion_model)
        try:
            return executor(*args, **kwargs)
        finally:
            run.bound.clear()


class _RowRun:
    """One sampling run."""

    def __init__(self, patch: _RowPatch, height: int, size: tuple[int, int]) -> None:
        self.patch, self.height, self.size = patch, height, size
        self.bound: dict[nn.Module, tuple[RowCall, list[_Site]]] = {}  # by UNet: one a device

    def diffusion_model(
        self, executor: Any, x: Tensor, timesteps: Tensor, context: Any, y: Any, control: Any, options: dict[str, Any],
        **extra: Any,
    ) -> Tensor:
        """DIFFUSION_MODEL: a call of the UNet with the hooks on it."""
        unet: nn.Module = executor.class_obj
        if unet not in self.bound:
            self.bound[unet] = self._bind(unet)
        call, sites = self.bound[unet]
        call.options, call.size = options, (x.shape[-2], x.shape[-1])
        with ExitStack() as undo:
            for site in sites:
                undo.enter_context(_hooked(site, _Rows(site.additions, self.height, len(x))))
            return executor(x, timesteps, context, y, control, options, **extra)

    def _bind(self, unet: nn.Module) -> tuple[RowCall, list[_Site]]:
        call = RowCall(height=self.height, whole=self.size)
        named = joined_additions(*(_named(source, self.patch.names, unet, call) for source in self.patch.sources))
        if self.height == 1:
            named = {name: [one for one in own if one.rows == "global"] for name, own in named.items()}
        self._check_layers(named)
        named = {name: own for name, own in named.items() if own}
        return call, [_site(unet, name, module, named[name]) for name, module in check_additions(unet, named, self.height).items()]

    def _check_layers(self, additions: Additions) -> None:
        """A number is a layer's, never the whole picture's."""
        beyond = [one.rows for own in additions.values() for one in own if isinstance(one.rows, int) and one.rows >= self.height - 1]
        if beyond:
            raise InputError(
                f"got weights for layer {beyond[0]} of a picture with {self.height - 2} foregrounds; give 0 (the background) to "
                f"{self.height - 2}, or -1 (the whole picture)")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Site:
    """A module of the UNet and what rows add there. Of an attention layer: its projections, which are called also where other nodes
    replace its attention, and the norm before it, where its input is made before any patch sees it."""

    module: nn.Module
    first: nn.Module | None = None
    norm: nn.Module | None = None
    additions: list[RowAddition]


def _site(unet: nn.Module, name: str, module: Any, additions: list[RowAddition]) -> _Site:
    if not name.endswith((".attn1", ".attn2")):
        return _Site(module=module, additions=additions)
    takes = any(isinstance(one, RowInput) for one in additions)
    norm = unet.get_submodule(f"{name[:-len('attn1')]}norm{name[-1]}") if takes else None
    return _Site(module=module.to_out, first=module.to_q, norm=norm, additions=additions)


class _Rows:
    """The hooks of one module in one call of ``rows`` rows."""

    def __init__(self, additions: list[RowAddition], height: int, rows: int) -> None:
        self.additions, self.height, self.rows = additions, height, rows
        self.source: Tensor | None = None

    def keep(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.source = inputs[0]

    def add_input(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        self._check(output)
        return add_input_rows(output, self.additions, self.height)

    def add(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        source = inputs[0] if self.source is None else self.source
        self._check(output)
        self.source = None
        return add_rows(output, source, self.additions, self.height)

    def _check(self, batch: Tensor) -> None:
        if len(batch) != self.rows:
            raise InputError(
                f"another node makes {len(batch)} pieces of a call of {self.rows} latents (HyperTile does), in which the "
                "rows of layers cannot be told; remove that node, or the weights of single layers")


@contextmanager
def _hooked(site: _Site, rows: _Rows) -> Generator[None]:
    with ExitStack() as undo:
        if site.norm is not None:
            undo.callback(site.norm.register_forward_hook(rows.add_input).remove)
        if site.first is not None:
            undo.callback(site.first.register_forward_pre_hook(rows.keep).remove)
        undo.callback(site.module.register_forward_hook(rows.add).remove)
        yield
