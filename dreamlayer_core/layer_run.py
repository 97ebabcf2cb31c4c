"""What one run of a bound UNet knows: its rows, its timestep, and its context map (Eq. 3-5, 9). Torch only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from .adapter import LayerAdapter
from .attention.context import cross_attention_map, spatial_maps
from .attention.refinement import refine_maps, weigh_tokens
from .attention.shared import Attend, fuse_global, joint_attention, resize_map, shares_layers
from .attention.steering import ContextSteering, steer_maps
from .config import TRAINING_FREE, LayerAttentionConfig, MapRefinement
from .errors import InputError, WeightsError
from .row_weights import RowAddition
from .weights import AdapterSettings

__all__ = ["DEFAULT_THRESHOLD", "NATIVE_SIDE", "AttentionSites", "Half", "JointMask", "LayerRun", "check_context_stage",
           "choose_sites", "context_downscale"]

Half = Literal["conditional", "unconditional"]
JointMask = Callable[[int], Tensor]
"""rows -> mask (rows, rows) of joint attention; ``inversion_mask`` is one."""

DEFAULT_THRESHOLD = 850  # T_G of the paper
_CONTEXT_CELLS = 16  # App. D.1
NATIVE_SIDE = 64  # cells of the latents that Stable Diffusion was trained for


@dataclass(frozen=True, kw_only=True)
class AttentionSites:
    """Module names of a UNet's attention layers, and where each part of the method acts."""

    all: tuple[str, ...]
    context: tuple[str, ...]  # cross-attention of the CACA stage, in order (J of them)
    context_self: tuple[str, ...]  # its self-attention
    shared: tuple[str, ...]  # self-attention of the up blocks
    context_channels: int  # of the features at the CACA stage; 0 without one


def choose_sites(
    names: Sequence[str], scales: Mapping[int, int], downscale: int | None, channels: Callable[[str], int]
) -> AttentionSites:
    """The sites among a UNet's attention layers, named as diffusers names them (``down_blocks.1.….attn2``).

    ``scales``: of each down block with cross-attention, how much smaller than the latent it is; ``downscale``: the
    CACA stage's, None for none; ``channels`` of the features at a layer. InputError if no block has that scale.
    """
    stages = {scale: index for index, scale in sorted(scales.items(), reverse=True)}
    if downscale is not None and downscale not in stages:
        raise InputError(
            f"got a CACA stage of downscale {downscale}; this UNet has cross-attention in its down blocks at "
            f"{sorted(stages)}; choose one of these")
    prefix = None if downscale is None else f"down_blocks.{stages[downscale]}."
    stage = [n for n in names if prefix and n.startswith(prefix)]
    context = tuple(n for n in stage if n.endswith("attn2"))
    return AttentionSites(
        all=tuple(names), context=context, context_self=tuple(n for n in stage if n.endswith("attn1")),
        shared=tuple(n for n in names if shares_layers(n)),
        context_channels=channels(context[0]) if context else 0)


def context_downscale(
    config: LayerAttentionConfig, settings: AdapterSettings | None, scales: Iterable[int], native: int
) -> int | None:
    """The CACA stage's scale: as configured, else the adapter's; None with CACA off.

    Without either, the one of ``scales`` (those of the UNet's down blocks with cross-attention) at which a latent of
    the side that the model was trained for, ``native``, is nearest the paper's 16x16 cells (App. D.1).
    """
    if not config.caca:
        return None
    if config.downscale is not None or settings is not None:
        return config.downscale or (settings and settings.caca_downscale)
    return min(sorted(scales), key=lambda scale: abs(math.log(native / scale / _CONTEXT_CELLS)), default=None)


def check_context_stage(settings: AdapterSettings, sites: AttentionSites) -> None:
    """Raises WeightsError where the context-aware layers of an adapter cannot read the features at the CACA stage."""
    if sites.context and settings.num_context_layers and settings.context_features != sites.context_channels:
        raise WeightsError(
            f"the adapter's context-aware layers read {settings.context_features} channels, but this UNet's CACA stage "
            f"has {sites.context_channels}; give an adapter made for this base model, and leave the stage to it "
            f"(downscale {settings.caca_downscale})")


@dataclass(eq=False)
class LayerRun:
    """The state of one run: made by ``layer_attention``, gone with it.

    ``rows`` is k + 1, or 1 in the harmonisation pass. Call ``begin`` before every call of the UNet.
    """

    config: LayerAttentionConfig
    adapter: LayerAdapter | None
    sites: AttentionSites
    rows: int
    spans: Sequence[Sequence[tuple[int, int]]] = ()  # per stack, per foreground, in the global row
    own_spans: Sequence[Sequence[tuple[int, int]]] | None = None  # set in training: also read M_F (Eq. 7)
    mask: JointMask | None = None  # of the joint attention (Eq. 14-16)
    steering: Mapping[int, ContextSteering] = field(default_factory=lambda: dict[int, ContextSteering]())  # by layer
    additions: Mapping[str, Sequence[RowAddition]] = field(
        default_factory=lambda: dict[str, Sequence[RowAddition]]())  # of rows with weights of their own, by module
    timestep: int = 1000  # the paper's for the noise level, see `schedule.paper_timestep`
    gate: Tensor | None = None  # (stacks,) share of Eq. 9 in each stack: training mixes timesteps in one batch
    shown: Tensor | None = None  # (stacks,) share of the map that the cells of each stack see, in training
    size: tuple[int, int] = (0, 0)
    halves: tuple[Half, ...] = ("conditional",)
    context_map: Tensor | None = None  # (stacks, fg, h, w) of the newest conditional pass, as steered
    foreground_map: Tensor | None = None  # M_F, read from the foregrounds' own rows (Eq. 3, 4), if own_spans is set
    _attention: list[Tensor] = field(default_factory=lambda: list[Tensor]())
    _features: list[Tensor] = field(default_factory=lambda: list[Tensor]())
    _self_attention: list[Tensor] = field(default_factory=lambda: list[Tensor]())

    @property
    def refinement(self) -> MapRefinement:
        if self.config.refinement is not None:
            return self.config.refinement
        trained = self.adapter is not None and self.adapter.settings.num_context_layers > 0
        return MapRefinement() if trained else TRAINING_FREE

    def reads_self_attention(self, site: str) -> bool:
        """Whether `read_self_attention` wants this layer's queries and keys."""
        return (self.config.caca and self.rows > 1 and self.refinement.self_attention > 0
                and site in self.sites.context_self)

    @property
    def threshold(self) -> int:
        if self.config.context_threshold is not None:
            return self.config.context_threshold
        return self.adapter.settings.context_threshold if self.adapter else DEFAULT_THRESHOLD

    def begin(self, timestep: int, size: tuple[int, int], halves: tuple[Half, ...] = ("conditional",)) -> None:
        """Announce one call of the UNet: its noise level, as the paper's timestep (`schedule.paper_timestep`), the
        latents' (height, width), and which halves are batched.

        The conditional rows must come first or together: their map serves both halves.
        """
        self.timestep, self.size, self.halves = timestep, size, halves
        self._forget()
        if "conditional" in halves:
            self.context_map = self.foreground_map = None

    def _conditional(self, tokens: Tensor) -> Tensor:
        """((half stack row), n, c) -> (stack, row, n, c) of the conditional half."""
        halves = rearrange(
            tokens, "(half stack row) n c -> half stack row n c", half=len(self.halves), row=self.rows)
        return halves[self.halves.index("conditional")]

    def grid(self, tokens: int) -> tuple[int, int]:
        """(height, width) of the UNet stage that has this many tokens; its stages halve sizes, rounding up."""
        height, width = self.size
        while height * width > tokens:
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        if height * width != tokens:
            raise InputError(f"no stage of a {self.size[0]}x{self.size[1]} latent has {tokens} tokens")
        return height, width

    def read_map(self, hidden: Tensor, query: Tensor, key: Tensor, heads: int) -> None:
        """Collect one layer of the CACA stage; after the last one, make the map (Eq. 3-5)."""
        if "conditional" not in self.halves:
            return
        query, key = (rearrange(self._conditional(x), "s r n (h d) -> s r h n d", h=heads) for x in (query, key))
        first = 1 if self.own_spans is not None else self.rows - 1  # the global row alone, or the foregrounds too
        maps = cross_attention_map(query[:, first:].flatten(0, 1), key[:, first:].flatten(0, 1))
        self._attention.append(rearrange(maps, "(stack row) n s -> stack row n s", stack=len(query)))
        self._features.append(self._conditional(hidden)[:, -1])
        if len(self._attention) == len(self.sites.context):
            self._finish_map()

    def read_self_attention(self, query: Tensor, key: Tensor, heads: int) -> None:
        """Collect the global row's self-attention at one layer of the CACA stage, for `self_refine`."""
        if "conditional" in self.halves:
            query, key = (rearrange(self._conditional(x)[:, -1], "s n (h d) -> s h n d", h=heads) for x in (query, key))
            self._self_attention.append(cross_attention_map(query, key))

    def _finish_map(self) -> None:
        attention, features = torch.stack(self._attention).sum(0), torch.stack(self._features).sum(0)
        grid = self.grid(attention.shape[-2])
        maps = self._refined(attention[:, -1], grid)
        if self.adapter is not None:
            maps = self.adapter.context_layers(maps, features)
        self.context_map = steer_maps(_planes(maps, grid), self.steering)
        if self.own_spans is not None:
            own = spatial_maps(attention[:, :-1].flatten(0, 1), [[span] for stack in self.own_spans for span in stack])
            self.foreground_map = _planes(rearrange(own, "(stack fg) 1 n -> stack fg n", stack=len(attention)), grid)
        self._forget()

    def _forget(self) -> None:
        for collected in (self._attention, self._features, self._self_attention):
            collected.clear()

    def _refined(self, attention: Tensor, grid: tuple[int, int]) -> Tensor:
        """The foregrounds' maps (stacks, fg, n) in the global row's attention (stacks, n, s): Eq. 4, and refined."""
        weigh = self.refinement.token_weighting == "spread"
        maps = spatial_maps(weigh_tokens(attention) if weigh else attention, self.spans)
        spread = torch.stack(self._self_attention).mean(0) if self._self_attention else None
        return refine_maps(maps, grid, self.refinement, spread)

    def fused(self, tokens: Tensor) -> Tensor:
        """z̃ (Eq. 9) of ((half stack rows), n, c) while t >= T_G, else z itself."""
        if self.context_map is None or not self.config.caca or (self.gate is None and self.timestep < self.threshold):
            return tokens
        maps = self.context_map if self.gate is None else self.context_map * self.gate[:, None, None, None]
        maps = resize_map(maps, self.grid(tokens.shape[1])).flatten(-2).repeat(len(self.halves), 1, 1)
        stacked = rearrange(tokens, "(stack row) n c -> stack row n c", row=self.rows)
        return fuse_global(stacked, maps).flatten(0, 1)

    def share(
        self, site: str, query: Tensor, key: Tensor, value: Tensor, heads: int, attend: Attend | None = None
    ) -> Tensor:
        """Joint attention (Eq. 10, 11) of ((half stack row), n, heads * d), exact or as configured, and what the adapter
        has of attention between the rows of a cell at this layer."""
        config, tokens = self.config, query.shape[1]
        mask = None if self.mask is None else self.mask(self.rows)
        attended = joint_attention(
            query, key, value, self.rows, heads=heads, attend=attend, mask=mask,
            pooled=self.grid(tokens) if config.cross_keys == "pooled" else None,
            regions=self._regions(tokens) if config.cross_keys == "region" else None,
            memory=config.attention_bytes)
        if self.adapter is None or not config.cells or not self.adapter.has_cells(site):
            return attended
        maps = self._shown_maps(tokens)
        return attended + self.adapter.across_cells(site, query, key, value, self.rows, maps=maps, mask=mask)

    def _shown_maps(self, tokens: int) -> Tensor | None:
        """What the cells see of the context map, ((half stack), fg, n): nothing in the unconditional half, so that
        guidance brings a foreground to its place as it brings it to its prompt."""
        if self.context_map is None or not self.config.caca:
            return None
        maps = self.context_map if self.shown is None else self.context_map * self.shown[:, None, None, None]
        maps = resize_map(maps, self.grid(tokens)).flatten(-2)
        return torch.cat([maps if half == "conditional" else torch.zeros_like(maps) for half in self.halves])

    def _regions(self, tokens: int) -> Tensor | None:
        """Which cells of a row the others see, (half * stack, row, n): a foreground's where its map is high enough."""
        if self.context_map is None:
            return None
        maps = resize_map(self.context_map, self.grid(tokens)).flatten(-2).repeat(len(self.halves), 1, 1)
        return functional.pad(maps >= self.config.region_threshold, (0, 0, 1, 1), value=True)


def _planes(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    return rearrange(maps, "stack fg (h w) -> stack fg h w", h=grid[0])
