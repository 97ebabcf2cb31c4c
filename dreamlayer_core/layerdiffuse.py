"""LayerDiffuse's published attention weights as rows' own weights (Zhang and Agrawala 2024), in plain torch.

SD1.5: one frame (a transparent picture), three (foreground, background, blend) or two with a control picture; rows are
the frames of one picture. SDXL: weight patches. In DreamLayer, weights of one frame are those of the foreground rows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .errors import InputError, WeightsError
from .layerdiffuse_encoder import silu_convolutions, widening_strides
from .row_weights import RowAddition, RowDelta, Rows, row_weights
from .unet_names import ldm_names

__all__ = ["PARTS", "ControlEncoder", "FrameSite", "Given", "LayerDiffuse", "LayerDiffuseAttention", "LayerDiffusePatches",
           "Signals", "TemporalAttention", "check_given", "frame_attention"]

PARTS = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out": "to_out.0"}
"""Projection in a file -> module of an attention layer."""


class TemporalAttention(nn.Module):
    """Attention of every token over the frames of its picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.n = nn.LayerNorm(width, eps=1e-6)
        self.i, self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(5))

    def forward(self, hidden: Tensor, heads: int | None) -> Tensor:
        """hidden (stacks, frames, n, c) -> what is added to it; ``heads`` None: every frame alone, its own value."""
        tokens = self.i(self.n(hidden.to(self.i.weight)))
        if heads is None:
            return self.o(self.v(tokens)).to(hidden)
        query, key, value = (
            rearrange(to(tokens), "stack frame n (h d) -> (stack n) h frame d", h=heads)
            for to in (self.q, self.k, self.v))
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.o(rearrange(attended, "(stack n) h frame d -> stack frame n (h d)", stack=len(hidden))).to(hidden)


class ControlEncoder(nn.Module):
    """A control picture -> features at an 8th (as published), a 16th, … of its size. ``scale``: 8, pixels per latent cell."""

    def __init__(self, first: Sequence[int], others: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.scale = prod(strides := widening_strides(first))
        self.blocks_0 = silu_convolutions(first, strides)
        for number, widths in enumerate(others, 1):
            self.add_module(f"blocks_{number}", silu_convolutions(widths, (2, *(1 for _ in widths[2:]))))

    def forward(self, picture: Tensor) -> dict[int, Tensor]:
        """picture (3, H, W) in [0, 1] -> features (1, c, h, w) by their number of cells."""
        features = picture[None].to(next(self.parameters())) * 2 - 1
        found = dict[int, Tensor]()
        for block in self.children():
            features = cast(Tensor, block(features))
            found[features.shape[-2] * features.shape[-1]] = features
        return found


class FrameSite(nn.Module):
    """One attention layer: projections by frame (frame, …), temporal part, convolutions of the control."""

    def __init__(
        self, up: Mapping[str, Tensor], down: Mapping[str, Tensor], temporal: TemporalAttention,
        control: Sequence[nn.Sequential] = (),
    ) -> None:
        super().__init__()
        self.up, self.down = (
            nn.ParameterDict({part: nn.Parameter(w, requires_grad=False) for part, w in side.items()})
            for side in (up, down))
        self.temporal = temporal
        self.control = nn.ModuleList(control)

    def deltas(self, name: str, rows: Rows, order: Sequence[int] | None = None) -> dict[str, list[RowAddition]]:
        """Of the projections of an attention layer: one frame's for all the rows, else for each row its frame, by ``order``."""
        def frames(weight: Tensor) -> Tensor:
            return weight[0] if len(weight) == 1 else weight if order is None else weight[list(order)]

        return {f"{name}.{module}": [RowDelta(rows=rows, up=frames(self.up[part]), down=frames(self.down[part]))]
                for part, module in PARTS.items()}


Signals = Callable[[int], Tensor]
"""Features (1, c, h, w) of a control picture at the stage that has so many cells."""


Given = Literal["background", "foreground"]
"""The finished layer that conditional weights go by: its control picture, on gray where it is transparent."""

Heads = Callable[[str], int]
"""Of an attention layer, by its name."""


@dataclass(kw_only=True, eq=False)
class _AfterAttention:
    """What rows add after an attention layer: the temporal part of its input and output."""

    rows: Rows
    site: FrameSite
    heads: int | None = None

    def check(self, module: nn.Module) -> None:
        pass  # its widths are those of the projections

    def add(self, output: Tensor, source: Tensor) -> None:
        output.add_(self.site.temporal(source + output, self.heads))


@dataclass(kw_only=True, eq=False)
class _Controlled(_AfterAttention):
    """The same, and the control: added to the layer's input, and to its output."""

    signals: Signals
    _made: dict[torch.Size, Tensor] = field(default_factory=lambda: dict[torch.Size, Tensor]())  # the same at every step

    def add_input(self, source: Tensor) -> None:
        source.add_(self._control(source))

    def add(self, output: Tensor, source: Tensor) -> None:
        super().add(output, source)
        output.add_(self._control(source))

    def _control(self, tokens: Tensor) -> Tensor:
        """(frames, n, c)."""
        features = self.signals(tokens.shape[-2])
        if features.shape not in self._made:
            made = torch.cat([convolve(features) for convolve in self.site.control])
            self._made[features.shape] = rearrange(made, "frame c h w -> frame (h w) c").to(tokens)
        return self._made[features.shape]


class LayerDiffuseAttention(nn.Module):
    """Weights of all attention layers of SD1.5, down blocks first, the middle block last.

    ``frames``: 1 (a transparent picture), 3 (foreground, background, blend) or 2 with an ``encoder`` of a control
    picture: background and blend, given the foreground, or foreground and blend, given the background.
    """

    def __init__(self, sites: Sequence[FrameSite], encoder: ControlEncoder | None = None) -> None:
        super().__init__()
        self.sites, self.encoder = nn.ModuleList(sites), encoder

    @property
    def frames(self) -> int:
        return len(self._sites[0].up["to_q"])

    @property
    def _sites(self) -> list[FrameSite]:
        return cast("list[FrameSite]", list(self.sites))

    def signals(self, picture: Tensor) -> Signals:
        """What a control picture (3, H, W) in [0, 1] says to conditional weights; InputError for others.

        Called, it raises InputError for stages of another size than the picture's.
        """
        check_given(self)
        found = cast("dict[int, Tensor]", cast(ControlEncoder, self.encoder)(picture))

        def at(cells: int) -> Tensor:
            if cells not in found:
                raise InputError(
                    f"got latents with a stage of {cells} cells, but a control picture with stages of {sorted(found)}; "
                    "give a picture of the size that the latents decode to")
            return found[cells]

        return at

    def named_sites(self, names: Sequence[str]) -> list[tuple[str, FrameSite]]:
        """Attention layers of a UNet, under diffusers' names, with their weights. WeightsError for another number."""
        ordered = sorted(names, key=lambda name: name.startswith("mid_block"))
        if len(ordered) != len(self.sites):
            raise WeightsError(
                f"weights of {len(self.sites)} attention layers, but this UNet has {len(ordered)}; give weights of this "
                "base model")
        return list(zip(ordered, self._sites, strict=True))

    def frame_additions(
        self, names: Sequence[str], heads: Heads, rows: range, *, order: Sequence[int] | None = None, signals: Signals | None = None
    ) -> dict[str, list[RowAddition]]:
        """What ``rows`` add that are the frames of one picture, joined: in their order, or row i is frame ``order[i]``.

        ``signals`` are what conditional weights go by; without, they raise InputError.
        """
        if signals is None and self.encoder is not None:
            raise InputError("got conditional weights without a picture; give the foreground or background")
        return self._added(names, rows, heads=heads if self.frames > 1 else None, order=order, signals=signals)

    def stack_additions(
        self, names: Sequence[str], heads: Heads, foregrounds: int, *, given: Given = "background", signals: Signals | None = None
    ) -> dict[str, list[RowAddition]]:
        """What rows of a stack add, bottom to top, the whole last: weights of one frame at its foregrounds, of several at all of its rows
        but the ``given`` one, whose ``signals`` they go by. Raises InputError for several frames and stacks of more than one
        foreground, and as `frame_additions`; WeightsError for another number of frames than published.
        """
        if self.frames == 1:
            return self._added(names, "foreground")
        if self.frames != (3 if self.encoder is None else 2):
            raise WeightsError(f"weights of {self.frames} frames; give layer_sd15_joint, layer_sd15_fg2bg or layer_sd15_bg2fg as published")
        if foregrounds != 1:
            raise InputError(
                f"got LayerDiffuse's weights of {self.frames} frames for a picture of {foregrounds} foregrounds; they are for one: give one "
                "foreground, or layer_sd15_transparent_attn")
        if self.encoder is None:  # the foreground is the first frame, but the second row
            return self.frame_additions(names, heads, range(3), order=(1, 0, 2))
        return self.frame_additions(names, heads, range(0, 3, 2) if given == "foreground" else range(1, 3), signals=signals)

    def _added(
        self, names: Sequence[str], rows: Rows, *, heads: Heads | None = None, order: Sequence[int] | None = None,
        signals: Signals | None = None,
    ) -> dict[str, list[RowAddition]]:
        found = dict[str, list[RowAddition]]()
        for name, site in self.named_sites(names):
            found |= site.deltas(name, rows, order)
            own = heads and heads(name)
            found[name] = [_AfterAttention(rows=rows, site=site, heads=own) if signals is None
                           else _Controlled(rows=rows, site=site, heads=own, signals=signals)]
        return found


class LayerDiffusePatches(nn.Module):
    """Weight patches of SDXL's UNet, by ldm's names of its linear layers: see `RowDelta`."""

    def __init__(self, up: Mapping[str, Tensor], down: Mapping[str, Tensor], scales: Mapping[str, float]) -> None:
        super().__init__()
        self.up, self.down = (nn.ParameterDict({name.replace(".", "/"): nn.Parameter(w, requires_grad=False)
                                                for name, w in side.items()}) for side in (up, down))
        self.scales = {name.replace(".", "/"): scale for name, scale in scales.items()}

    def additions(self, names: Sequence[str]) -> dict[str, list[RowAddition]]:
        """What foreground rows add at linear layers of a UNet, among its layers under diffusers' names."""
        own = {ldm: name for name, ldm in ldm_names(names).items()}

        def delta(key: str) -> RowDelta:
            down = self.down[key] if key in self.down else None
            return RowDelta(rows="foreground", up=self.up[key], down=down, scale=self.scales.get(key, 1.0))

        return {own.get(name := key.replace("/", "."), name): [delta(key)] for key in self.up}


LayerDiffuse = LayerDiffuseAttention | LayerDiffusePatches


def check_given(weights: LayerDiffuse) -> None:
    """Raises InputError for weights that go by no picture of a finished layer."""
    if isinstance(weights, LayerDiffusePatches) or weights.encoder is None:
        raise InputError("got LayerDiffuse's weights without a control, and a picture for it; leave the picture out")


@contextmanager
def frame_attention(
    model: nn.Module, names: Sequence[str], weights: LayerDiffuseAttention, picture: Tensor | None = None
) -> Generator[None]:
    """LayerDiffuse's own way until leaving: rows are the frames of one picture, ((pictures frames), …), joined.

    ``names`` are the attention layers of ``model``. ``picture`` (3, H, W) in [0, 1] is the control of the conditional
    weights, on gray where it is transparent. Raises InputError for a picture too many or too few, WeightsError for
    weights that do not fit.
    """
    rows, signals = range(weights.frames), picture if picture is None else weights.signals(picture)
    additions = weights.frame_additions(names, lambda name: int(cast(Any, model.get_submodule(name)).heads), rows, signals=signals)
    with row_weights(model, additions, len(rows)):
        yield
