"""Binding to diffusers' UNet2DConditionModel: CACA in the down blocks, LSSA in the up blocks, with an undo.

Sites are found from the UNet's own structure, so any Stable-Diffusion-shaped model takes the same path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .adapter import LayerAdapter
from .attention.context import cross_attention_map, min_max, smooth_map, spatial_maps
from .attention.shared import fuse_global, joint_attention, resize_map
from .config import LayerAttentionConfig
from .errors import InputError, WeightsError
from .prompts import LayeredEmbedding
from .weights import check_fit

__all__ = ["DEFAULT_THRESHOLD", "AttentionSites", "Half", "JointMask", "LayerRun", "check_adapter", "find_sites",
           "kv_projections", "layer_attention"]

Half = Literal["conditional", "unconditional"]
JointMask = Callable[[int, int], Tensor]
"""(rows, tokens of a row) -> mask of joint attention at that resolution; ``inversion_mask`` is one."""

DEFAULT_THRESHOLD = 850  # T_G of the paper
_DEFAULT_DOWNSCALE = 4  # App. D.1: 16x16 at 512 px


@dataclass(frozen=True, kw_only=True)
class AttentionSites:
    """Module names of a UNet's attention layers, and where each part of the method acts."""

    all: tuple[str, ...]
    context: tuple[str, ...]  # cross-attention of the CACA stage, in order (J of them)
    shared: tuple[str, ...]  # self-attention of the up blocks
    context_channels: int  # of the features at the CACA stage; 0 without one


def find_sites(unet: UNet2DConditionModel, downscale: int | None) -> AttentionSites:
    """Find the sites; ``downscale`` is the CACA stage's, relative to the latent. InputError if no stage has it.

    None: the UNet needs no such stage, and ``context`` is empty.
    """
    names = _attention_names(unet)
    prefix = None if downscale is None else f"down_blocks.{_context_stage(unet, downscale)}."
    context = tuple(n for n in names if prefix and n.startswith(prefix) and n.endswith("attn2"))
    return AttentionSites(
        all=tuple(names), context=context,
        shared=tuple(n for n in names if n.startswith("up_blocks.") and n.endswith("attn1")),
        context_channels=int(_attention(unet, context[0]).to_q.in_features) if context else 0,
    )


def _context_stage(unet: UNet2DConditionModel, downscale: int) -> int:
    """Index of the down block with cross-attention at this scale."""
    scale, stages = 1, dict[int, int]()
    for index, block in enumerate(cast(Any, unet.down_blocks)):
        if getattr(block, "has_cross_attention", False):
            stages.setdefault(scale, index)
        scale *= 2 if block.downsamplers else 1
    if downscale not in stages:
        raise InputError(
            f"got a CACA stage of downscale {downscale}; this UNet has cross-attention in its down blocks at "
            f"{sorted(stages)}; choose one of these")
    return stages[downscale]


def _attention_names(unet: UNet2DConditionModel) -> list[str]:
    modules: Iterable[tuple[str, nn.Module]] = cast(Any, unet).named_modules()
    return [name for name, module in modules
            if name.endswith(("attn1", "attn2")) and hasattr(module, "to_k")]


def _attention(unet: UNet2DConditionModel, site: str) -> Any:
    # diffusers' classes are only half typed: attributes of an attention layer are Any from here on.
    return cast(Any, unet.get_submodule(site))


def kv_projections(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Weights of every K and V projection by name: what an adapter replaces."""
    return {f"{site}.{part}": cast(Tensor, getattr(_attention(unet, site), part).weight)
            for site in _attention_names(unet) for part in ("to_k", "to_v")}


def check_adapter(unet: UNet2DConditionModel, adapter: LayerAdapter, sites: AttentionSites | None = None) -> None:
    """Does the adapter fit this UNet, at ``sites`` or at its own CACA stage? Raises WeightsError if not, saying why."""
    settings = adapter.settings
    check_fit(adapter.weights(), {name: tuple(w.shape) for name, w in kv_projections(unet).items()})
    try:
        sites = sites or find_sites(unet, settings.caca_downscale)
    except InputError as error:
        raise WeightsError(f"an adapter for another base model: {error}") from error
    width = next(int(_attention(unet, n).to_k.in_features) for n in sites.all if n.endswith("attn2"))
    if settings.cross_attention_dim != width:
        raise WeightsError(
            f"an adapter for text embeddings of {settings.cross_attention_dim} channels, but this UNet takes {width}; "
            "give an adapter made for this base model")
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
    timestep: int = 1000
    gate: Tensor | None = None  # (stacks,) share of Eq. 9 in each stack: training mixes timesteps in one batch
    size: tuple[int, int] = (0, 0)
    halves: tuple[Half, ...] = ("conditional",)
    context_map: Tensor | None = None  # (stacks, fg, h, w) of the newest conditional pass
    foreground_map: Tensor | None = None  # M_F, read from the foregrounds' own rows (Eq. 3, 4), if own_spans is set
    _attention: list[Tensor] = field(default_factory=lambda: list[Tensor]())
    _features: list[Tensor] = field(default_factory=lambda: list[Tensor]())

    @property
    def threshold(self) -> int:
        if self.config.context_threshold is not None:
            return self.config.context_threshold
        return self.adapter.settings.context_threshold if self.adapter else DEFAULT_THRESHOLD

    def begin(self, timestep: int, size: tuple[int, int], halves: tuple[Half, ...] = ("conditional",)) -> None:
        """Announce one call of the UNet: its timestep, the latents' (height, width), and which halves are batched.

        The conditional rows must come first or together: their map serves both halves.
        """
        self.timestep, self.size, self.halves = timestep, size, halves
        self._attention.clear()
        self._features.clear()
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

    def _finish_map(self) -> None:
        attention, features = torch.stack(self._attention).sum(0), torch.stack(self._features).sum(0)
        grid = self.grid(attention.shape[-2])
        maps = self._smooth(spatial_maps(attention[:, -1], self.spans), grid)
        if self.adapter is not None:
            maps = self.adapter.context_layers(maps, features)
        self.context_map = _planes(maps, grid)
        if self.own_spans is not None:
            own = spatial_maps(attention[:, :-1].flatten(0, 1), [[span] for stack in self.own_spans for span in stack])
            self.foreground_map = _planes(rearrange(own, "(stack fg) 1 n -> stack fg n", stack=len(attention)), grid)
        self._attention.clear()
        self._features.clear()

    def _smooth(self, maps: Tensor, grid: tuple[int, int]) -> Tensor:
        if not self.config.smoothing:
            return maps
        return min_max(smooth_map(_planes(maps, grid), self.config.smoothing).flatten(-2))

    def fused(self, tokens: Tensor) -> Tensor:
        """z̃ (Eq. 9) of ((half stack rows), n, c) while t >= T_G, else z itself."""
        if self.context_map is None or not self.config.caca or (self.gate is None and self.timestep < self.threshold):
            return tokens
        maps = self.context_map if self.gate is None else self.context_map * self.gate[:, None, None, None]
        maps = resize_map(maps, self.grid(tokens.shape[1])).flatten(-2).repeat(len(self.halves), 1, 1)
        stacked = rearrange(tokens, "(stack row) n c -> stack row n c", row=self.rows)
        return fuse_global(stacked, maps).flatten(0, 1)


def _planes(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    return rearrange(maps, "stack fg (h w) -> stack fg h w", h=grid[0])


class _LayerProcessor:
    """An attention layer of a bound UNet. Queries are a row's own; keys and values by row role."""

    def __init__(self, run: LayerRun, site: str) -> None:
        self.run, self.site = run, site
        self.reads_map = run.rows > 1 and run.config.caca and site in run.sites.context
        self.shares = run.rows > 1 and site in run.sites.shared

    def _project(self, attention: Any, part: str, tokens: Tensor) -> Tensor:
        linear = cast(nn.Linear, getattr(attention, part))
        if self.run.adapter is None:
            return linear(tokens)
        return self.run.adapter.project(f"{self.site}.{part}", linear, tokens, self.run.rows)

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, temb: Tensor | None = None,
    ) -> Tensor:
        run, heads = self.run, int(attn.heads)
        if attention_mask is not None:
            raise InputError("got an attention mask; call a bound UNet without one, its maps are read over all tokens")
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        if self.shares:
            source = run.fused(source)
        query = attn.to_q(hidden_states)  # the row's own, not the fused one (Eq. 11)
        key, value = self._project(attn, "to_k", source), self._project(attn, "to_v", source)
        if self.reads_map:
            run.read_map(hidden_states, query, key, heads)
        if self.shares and run.config.lssa:
            mask = None if run.mask is None else run.mask(run.rows, query.shape[1]).to(query.device)
            attended = joint_attention(query, key, value, run.rows, mask=mask, heads=heads)
        else:
            query, key, value = (rearrange(x, "b n (h d) -> b h n d", h=heads) for x in (query, key, value))
            attended = functional.scaled_dot_product_attention(query, key, value)
            attended = rearrange(attended, "b h n d -> b n (h d)")
        return attn.to_out[1](attn.to_out[0](attended)) / attn.rescale_output_factor


def _needed(run: LayerRun, site: str) -> bool:
    """Whether a site differs from the stock UNet at all."""
    if run.adapter is not None:
        return True
    if run.rows == 1:
        return False
    return (run.config.caca and site in run.sites.context) or (run.config.active and site in run.sites.shared)


def _downscale(config: LayerAttentionConfig, adapter: LayerAdapter | None) -> int:
    if config.downscale is not None:
        return config.downscale
    return adapter.settings.caca_downscale if adapter is not None else _DEFAULT_DOWNSCALE


def _height(embeddings: Sequence[LayeredEmbedding] | None) -> int:
    """Rows of every stack; 1 in the harmonisation pass."""
    if embeddings is None:
        return 1
    heights = [len(e.embeddings) for e in embeddings]
    if not heights or min(heights) != max(heights) or heights[0] < 3:
        raise InputError(f"got stacks of {heights} rows; batch stacks of one height, of 3 rows or more")
    return heights[0]


@contextmanager
def layer_attention(
    unet: UNet2DConditionModel, embeddings: Sequence[LayeredEmbedding] | None,
    config: LayerAttentionConfig | None = None, adapter: LayerAdapter | None = None, *,
    mask: JointMask | None = None, training: bool = False,
) -> Generator[LayerRun]:
    """Bind the method to ``unet`` for one run, and undo it on leaving, also after an error.

    ``embeddings`` has one entry a stack, all with the same number of layers; None binds the adapter for single rows
    (harmonisation). With everything off and no adapter nothing is touched: the UNet stays bit-identical to the stock
    one. ``mask`` is asked at every shared layer; ``training`` also reads M_F (Eq. 7). Raises InputError for stacks of
    different heights and for a CACA stage that the UNet lacks, WeightsError for an adapter that does not fit.
    """
    config = config or LayerAttentionConfig()
    sites = find_sites(unet, _downscale(config, adapter) if config.caca else None)
    if adapter is not None:
        check_adapter(unet, adapter, sites)
    run = LayerRun(
        config=config, adapter=adapter, sites=sites, rows=_height(embeddings), mask=mask,
        spans=[e.global_spans[1:] for e in embeddings or ()],
        own_spans=[e.own_spans[1:] for e in embeddings or ()] if training else None)
    stock = dict[str, Any]()
    try:
        for site in sites.all:
            if _needed(run, site):
                attention = _attention(unet, site)
                stock[site] = attention.processor
                attention.set_processor(_LayerProcessor(run, site))
        yield run
    finally:
        for site, processor in stock.items():
            _attention(unet, site).set_processor(processor)
        run.context_map = run.foreground_map = None
