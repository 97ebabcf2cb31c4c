"""ComfyUI's controls on single layers: a control that sees the rows of one layer alone, and adds zeros to the others.

It goes through ComfyUI as any control does: copied, chained behind others and before them, loaded, freed, batched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import comfy.controlnet
import torch
from torch import Tensor

from ...dreamlayer_core.errors import InputError
from ..sockets import LAYERS_KEY

__all__ = ["LayerControl", "add_control", "change_controls", "check_base", "control_rows", "of_global_row"]

Conditioning = list[list[Any]]
Control = comfy.controlnet.ControlBase


class LayerControl(Control):
    """``inner`` on one row of stacks of ``rows``. It has its hint, strength and range, and no control before it."""

    def __init__(self, inner: Control, row: int, rows: int) -> None:
        super().__init__()
        self.inner, self.row, self.rows = inner, row, rows
        self.extra_hooks = inner.extra_hooks

    def pre_run(self, model: Any, percent_to_timestep_function: Callable[[float], float]) -> None:
        super().pre_run(model, percent_to_timestep_function)
        self.inner.pre_run(model, percent_to_timestep_function)

    def get_control(
        self, x_noisy: Tensor, t: Tensor, cond: dict[str, Any], batched_number: int, transformer_options: Any
    ) -> Any:
        earlier = self.previous_controlnet
        before = earlier and earlier.get_control(x_noisy, t, cond, batched_number, transformer_options)
        own = self._own(x_noisy, t, cond, batched_number, transformer_options)
        return before if own is None else self.control_merge(own, before, output_dtype=None)

    def _own(
        self, x: Tensor, t: Tensor, cond: dict[str, Any], chunks: int, options: Any
    ) -> dict[str, list[Tensor | None]] | None:
        if len(x) % (chunks * self.rows):
            raise InputError(
                f"got {len(x) // chunks} latents and Layer ControlNet for pictures of {self.rows} rows; give Encode Layers "
                "and the layered latent the same plan, and remove nodes that cut the batch (context windows do)")
        index = torch.arange(len(x), device=x.device).view(-1, self.rows)[:, self.row]

        def chosen(value: Any) -> Any:
            of_rows = isinstance(value, Tensor) and value.ndim and len(value) == len(x)
            return value[index.to(value.device)] if of_rows else value

        own = {name: chosen(value) for name, value in cond.items()}
        control = self.inner.get_control(x[index], t[index], own, chunks, options)
        return control and {place: [None if one is None else _spread(one, index, len(x)) for one in several]
                            for place, several in control.items()}

    def get_models(self) -> list[Any]:
        return [*super().get_models(), *self.inner.get_models()]

    def inference_memory_requirements(self, dtype: torch.dtype) -> float:
        return super().inference_memory_requirements(dtype) + self.inner.inference_memory_requirements(dtype)

    def cleanup(self) -> None:
        super().cleanup()
        self.inner.cleanup()

    def copy(self) -> LayerControl:
        return self._copied(self.inner.copy())

    def with_row(self, place: int) -> LayerControl:
        """For stacks of one row more, the new one standing at ``place``."""
        copied = self.copy()
        copied.row, copied.rows = self.row + (self.row >= place), self.rows + 1
        return copied

    def deepclone_multigpu(self, load_device: torch.device, autoregister: bool = False) -> LayerControl:
        clone = self._copied(self.inner.deepclone_multigpu(load_device))
        if autoregister:
            self.multigpu_clones[load_device] = clone
        return clone

    def _copied(self, inner: Control) -> LayerControl:
        copied = LayerControl(inner, self.row, self.rows)
        self.copy_to(copied)
        return copied


def _spread(values: Tensor, index: Tensor, rows: int) -> Tensor:
    """Values of one row of every stack, or one for all of them, among zeros."""
    spread = values.new_zeros(rows, *values.shape[1:])
    spread[index.to(values.device)] = values
    return spread


def control_rows(positive: Conditioning) -> int:
    """Rows of the stacks that a layered conditioning is for. InputError for one that is not layered, or of two plans."""
    heights = {len(extra[LAYERS_KEY].embeddings) if LAYERS_KEY in extra else 0 for _, extra in positive}
    if not heights or 0 in heights:
        raise InputError("got conditioning that is not layered; connect Encode Layers to positive")
    if len(heights) != 1:
        raise InputError(f"got conditionings of {sorted(heights)} rows; combine those of one plan")
    return heights.pop()


def check_base(control: Control, width: int) -> None:
    """Raises InputError for a ControlNet of another base model than one with text embeddings of ``width`` channels."""
    module = getattr(control, "control_model", None)
    if module is None:
        return  # a T2I-Adapter takes no text, and a Control-LoRA has its base's own layers
    found = next((int(weight.shape[1]) for name, weight in module.named_parameters()
                  if name.endswith("attn2.to_k.weight")), None)
    if found != width:
        made_for = "no UNet of Stable Diffusion" if found is None else f"text embeddings of {found} channels"
        raise InputError(
            f"got a ControlNet for {made_for} and prompts of {width}; load a ControlNet made for the base model")


def add_control(groups: Iterable[Conditioning], make: Callable[[], LayerControl]) -> list[Conditioning]:
    """Conditionings with a control more. Those with the same one before share it, so that ComfyUI batches them."""
    made = dict[Any, LayerControl]()

    def added(extra: dict[str, Any]) -> dict[str, Any]:
        before = extra.get("control")
        if before not in made:
            made[before] = make()
            made[before].set_previous_controlnet(before)
        return {**extra, "control": made[before], "control_apply_to_uncond": False}

    return [[[text, added(extra)] for text, extra in group] for group in groups]


def change_controls(
    groups: Iterable[Conditioning], change: Callable[[LayerControl], Control | None]
) -> list[Conditioning]:
    """Conditionings with what ``change`` makes of the controls of single layers, None: without it. All others stay."""
    changed = dict[Any, Control | None]({None: None})

    def chain(control: Control | None) -> Control | None:
        if control not in changed:
            before = chain(control.previous_controlnet)
            own = change(control) if isinstance(control, LayerControl) else control
            if own is control and before is not control.previous_controlnet:
                own = control.copy()
            changed[control] = before if own is None else own if own is control else own.set_previous_controlnet(before)
        return changed[control]

    def of(extra: dict[str, Any]) -> dict[str, Any]:
        without = {name: value for name, value in extra.items() if name != "control"}
        control = chain(extra.get("control"))
        return without if control is None else {**without, "control": control}

    return [[[text, of(extra)] for text, extra in group] for group in groups]


def of_global_row(control: LayerControl) -> Control | None:
    """What it is in a pass that has the row of the whole picture alone."""
    return control.inner.copy() if control.row == control.rows - 1 else None
