"""A linear layer whose rows have weights of their own: y = W x, plus Δ x for the rows that have a Δ (Hu et al. 2021).

A batch is made of whole stacks of layers, ((stacks rows), …, c). The foregrounds' own K and V, LayerDiffuse's weights of
every frame and a user's LoRA on one layer are all deltas. Where no row has one, the module stays as it is.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .errors import InputError, WeightsError

__all__ = ["Additions", "RowAddition", "RowConvolution", "RowDelta", "RowInput", "Rows", "add_input_rows", "add_rows",
           "check_additions", "joined_additions", "row_weights", "select_rows", "shown_additions", "shown_rows_of"]

Rows = Literal["background", "foreground", "global"] | int | range
"""Which rows of a stack: those of a role, one by its index from the bottom, or some at equal distances."""


class OfRows(Protocol):
    """Something of some rows. A dataclass: for stacks of other rows, ``rows`` are replaced."""

    @property
    def rows(self) -> Rows: ...


_OfRows = TypeVar("_OfRows", bound=OfRows)


class RowAddition(OfRows, Protocol):
    """What some rows add to the output of a module."""

    def check(self, module: nn.Module) -> None:
        """Raises WeightsError where it does not fit the module."""
        ...

    def add(self, output: Tensor, source: Tensor) -> None:
        """Add in place to ``output``, the module's of ``source``; both (stacks, R, …), the chosen rows alone."""
        ...


@runtime_checkable
class RowInput(RowAddition, Protocol):
    """An addition that some rows also make to the input of the module; its ``source`` has it then."""

    def add_input(self, source: Tensor) -> None:
        """Add in place to ``source`` (stacks, R, …), the chosen rows alone."""
        ...


Additions = Mapping[str, Sequence[RowAddition]]
"""By module name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RowDelta:
    """Δ = scale · up · down, or scale · up where ``down`` is None: what some rows add to the weight of a linear layer.

    up (out, r) and down (r, in), or (out, in) alone: one for all these rows. With a leading axis of R: one for each.
    """

    rows: Rows
    up: Tensor
    down: Tensor | None = None
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the weight that it adds to."""
        return self.up.shape[-2], (self.up if self.down is None else self.down).shape[-1]

    def check(self, module: nn.Module) -> None:
        weight = getattr(module, "weight", None)
        found = tuple(weight.shape) if isinstance(weight, Tensor) else None
        if found != self.shape:
            raise WeightsError(f"a delta of {self.shape} for a weight of {found}; give weights of this base model")

    def add(self, output: Tensor, source: Tensor) -> None:
        hidden = source if self.down is None else _projected(source, self.down)
        output.add_(_projected(hidden, self.up), alpha=self.scale)


@dataclass(frozen=True, kw_only=True, eq=False)
class RowConvolution:
    """What some rows add to the output of a convolution: that of ``down`` (r, in, h, w), by ``up`` (out, r, 1, 1) and ``scale``."""

    rows: Rows
    up: Tensor
    down: Tensor
    scale: float = 1.0
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def check(self, module: nn.Module) -> None:
        weight = getattr(module, "weight", None)
        found = tuple(weight.shape) if isinstance(weight, Tensor) else None
        own = (len(self.up), *self.down.shape[1:])
        if found != own or self.up.shape[2:] != (1, 1):
            raise WeightsError(f"a delta of {own} for a weight of {found}; give weights of this base model")

    def add(self, output: Tensor, source: Tensor) -> None:
        pictures = source.flatten(0, 1)
        hidden = functional.conv2d(pictures, self.down.to(pictures), stride=self.stride, padding=self.padding)
        own = functional.conv2d(hidden, self.up.to(pictures))
        output.add_(own.unflatten(0, source.shape[:2]), alpha=self.scale)


def joined_additions(*several: Additions) -> dict[str, list[RowAddition]]:
    """All of them; at a module in this order."""
    joined = dict[str, list[RowAddition]]()
    for additions in several:
        for name, own in additions.items():
            joined.setdefault(name, []).extend(own)
    return joined


def shown_additions(additions: Additions, shown: Sequence[int], height: int) -> dict[str, list[RowAddition]]:
    """The same for stacks of which only the rows ``shown`` of ``height`` are left, upwards; a row of -1 is a new one.

    Raises InputError for rows beyond the stack.
    """
    found = {name: [moved for one in own for moved in shown_rows_of(one, shown, height)] for name, own in additions.items()}
    return {name: own for name, own in found.items() if own}


def shown_rows_of(one: _OfRows, shown: Sequence[int], height: int) -> list[_OfRows]:
    """What is of some rows of ``height``, for stacks of which only the rows ``shown`` are left, see `shown_additions`.

    The rows of a range belong together: where one of them is missing, or another comes between, the others go, too.
    """
    chosen = range(height)[select_rows(one.rows, height)]
    places = [place for place, row in enumerate(shown) if row in chosen]
    moved: list[Rows] = list(places)
    if isinstance(one.rows, range):
        together = range(places[0], places[-1] + 1, chosen.step) if len(places) == len(chosen) else range(0)
        moved = [together] if places and list(together) == places else []
    return [replace(cast(Any, one), rows=rows) for rows in moved]


def _projected(tokens: Tensor, weight: Tensor) -> Tensor:
    """Tokens (stacks, R, …, c) by a weight (d, c), or by one of (R, d, c) for each row."""
    weight = weight.to(tokens)
    if weight.ndim == 2:
        return functional.linear(tokens, weight)
    return torch.einsum("sr...c,rdc->sr...d", tokens, weight)


def select_rows(rows: Rows, height: int) -> slice:
    """The rows of a stack of ``height`` = k + 1; a lone row is the global one. InputError for rows beyond it."""
    if isinstance(rows, str):
        first = {"background": 0, "foreground": 1, "global": height - 1}[rows]
        last = {"background": min(1, height - 1), "foreground": max(1, height - 1), "global": height}[rows]
        return slice(first, last)
    chosen = range(rows, rows + 1) if isinstance(rows, int) else rows
    if not chosen or chosen.step < 1 or chosen[0] < 0 or chosen[-1] >= height:
        raise InputError(f"got rows {rows} for stacks of {height} rows; give rows of 0 to {height - 1}, upwards")
    return slice(chosen[0], chosen[-1] + 1, chosen.step)


def add_rows(output: Tensor, source: Tensor, additions: Sequence[RowAddition], height: int) -> Tensor:
    """``output`` ((stacks rows), …) with what rows add to it from ``source``, in place; other rows keep every bit.

    Raises InputError for a batch that is not made of whole stacks.
    """
    stacked, sources = _stacked(output, height), _stacked(source, height)
    for addition in additions:
        chosen = select_rows(addition.rows, height)
        if chosen.start < chosen.stop:
            addition.add(stacked[:, chosen], sources[:, chosen])
    return output


def add_input_rows(source: Tensor, additions: Sequence[RowAddition], height: int) -> Tensor:
    """A module's input ((stacks rows), …) with what rows add to it: a copy, or itself where they add nothing. Raises as `add_rows`."""
    own = [one for one in additions if isinstance(one, RowInput)]
    if own:
        source = source.clone()
    for addition in own:
        addition.add_input(_stacked(source, height)[:, select_rows(addition.rows, height)])
    return source


def _stacked(batch: Tensor, height: int) -> Tensor:
    if len(batch) % height:
        raise InputError(f"got {len(batch)} rows; give whole stacks, of {height} rows each")
    return batch.unflatten(0, (-1, height))


@contextmanager
def row_weights(model: nn.Module, additions: Additions, height: int) -> Generator[None]:
    """Let rows of named modules of ``model`` add to their output, and `RowInput` to their input, until leaving, also by an error.

    ``height`` is the rows of every stack in a batch. Modules without an addition are not touched. Raises InputError for
    rows that a stack lacks, WeightsError for a module that the model lacks or an addition that does not fit it; then
    nothing is changed.
    """
    modules = check_additions(model, additions, height)
    with ExitStack() as undo:
        for name, own in additions.items():
            if any(isinstance(one, RowInput) for one in own):
                undo.callback(modules[name].register_forward_pre_hook(_input_hook(own, height)).remove)
            undo.callback(modules[name].register_forward_hook(_hook(own, height)).remove)
        yield


def check_additions(model: nn.Module, additions: Additions, height: int) -> dict[str, nn.Module]:
    """The modules that have additions, by name, where all fits; raises as `row_weights` does."""
    return {name: _module(model, name, own, height) for name, own in additions.items()}


def _module(model: nn.Module, name: str, additions: Sequence[RowAddition], height: int) -> nn.Module:
    try:
        module = model.get_submodule(name)
    except AttributeError as error:
        raise WeightsError(f"weights for {name}, which this model lacks; give weights of this base model") from error
    for addition in additions:
        select_rows(addition.rows, height)
        try:
            addition.check(module)
        except WeightsError as error:
            raise WeightsError(f"{name}: {error}") from error
    return module


def _hook(additions: Sequence[RowAddition], height: int) -> Any:
    def add(_: nn.Module, inputs: tuple[Any, ...], output: object) -> Tensor:
        return add_rows(cast(Tensor, output), cast(Tensor, inputs[0]), additions, height)

    return add


def _input_hook(additions: Sequence[RowAddition], height: int) -> Any:
    def add(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (add_input_rows(cast(Tensor, inputs[0]), additions, height), *inputs[1:])

    return add
