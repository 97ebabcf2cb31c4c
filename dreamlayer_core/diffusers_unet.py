"""Binding to diffusers' UNet2DConditionModel: CACA in the down blocks, LSSA in the up blocks, with an undo.

Sites are found from the UNet's own structure, so any Stable-Diffusion-shaped model takes the same path.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from .adapter import LayerAdapter
from .attention.shared import own_attention
from .attention.steering import ContextSteering, check_needed, check_steering
from .config import LayerAttentionConfig
from .errors import InputError, WeightsError
from .layer_run import (
    NATIVE_SIDE,
    AttentionSites,
    JointMask,
    LayerRun,
    check_context_stage,
    choose_sites,
    context_downscale,
)
from .prompts import LayeredEmbedding
from .row_weights import RowAddition, add_rows, row_weights
from .weights import check_fit

__all__ = ["check_adapter", "find_sites", "kv_projections", "layer_attention", "stage_scales"]


def find_sites(unet: UNet2DConditionModel, downscale: int | None) -> AttentionSites:
    """Find the sites; ``downscale`` is the CACA stage's, relative to the latent. InputError if no stage has it.

    None: the UNet needs no such stage, and ``context`` is empty.
    """
    return choose_sites(
        _attention_names(unet), stage_scales(unet), downscale, lambda name: int(_attention(unet, name).to_q.in_features))


def stage_scales(unet: UNet2DConditionModel) -> dict[int, int]:
    """Of each down block with cross-attention, by index, how much smaller than the latent it is."""
    scale, scales = 1, dict[int, int]()
    for index, block in enumerate(cast(Any, unet.down_blocks)):
        if getattr(block, "has_cross_attention", False):
            scales[index] = scale
        scale *= 2 if block.downsamplers else 1
    return scales


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
    check_context_stage(settings, sites)


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
        projected = self.run.adapter.project(name := f"{self.site}.{part}", linear, tokens, self.run.rows)
        # The adapter projects without calling the layer, so that the hooks of `row_weights` see nothing.
        return add_rows(projected, tokens, self.run.additions.get(name, ()), self.run.rows)

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
        if run.reads_self_attention(self.site):
            run.read_self_attention(query, key, heads)
        if self.shares and run.config.lssa:
            attended = run.share(self.site, query, key, value, heads)
        else:
            attended = own_attention(query, key, value, heads=heads, memory=run.config.attention_bytes)
        return attn.to_out[1](attn.to_out[0](attended)) / attn.rescale_output_factor


def _needed(run: LayerRun, site: str) -> bool:
    """Whether a site differs from the stock UNet at all."""
    if run.adapter is not None or run.config.attention_memory is not None:
        return True
    if run.rows == 1:
        return False
    return run.reads_self_attention(site) or (run.config.caca and site in run.sites.context) or (run.config.active and site in run.sites.shared)


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
    mask: JointMask | None = None, steering: Mapping[int, ContextSteering] | None = None, training: bool = False,
    additions: Mapping[str, Sequence[RowAddition]] | None = None,
) -> Generator[LayerRun]:
    """Bind the method to ``unet`` for one run, and undo it on leaving, also after an error.

    ``embeddings`` has one entry a stack, all with the same number of layers; None binds single rows
    (harmonisation). With everything off, no adapter and no additions nothing is touched: the UNet stays bit-identical
    to the stock one. ``mask`` is asked at every shared layer; ``steering`` has what the user says of foregrounds' context maps, by
    layer (1 is the lowest foreground); ``training`` also reads M_F (Eq. 7); ``additions`` are rows' own weights, by
    module (`row_weights`). Raises InputError for stacks of different heights, for steering that does not fit them and
    for a CACA stage that the UNet lacks, WeightsError for an adapter or additions that do not fit.
    """
    config, steering = config or LayerAttentionConfig(), steering or {}
    check_needed(steering, config.caca)
    check_steering(steering, _height(embeddings) - 2, len(embeddings or ()))
    scales, settings = stage_scales(unet).values(), adapter.settings if adapter else None
    sites = find_sites(unet, context_downscale(config, settings, scales, cast(Any, unet.config).sample_size or NATIVE_SIDE))
    if adapter is not None:
        check_adapter(unet, adapter, sites)
    run = LayerRun(
        config=config, adapter=adapter, sites=sites, rows=_height(embeddings), mask=mask, steering=steering,
        additions=additions or {},
        spans=[e.global_spans[1:] for e in embeddings or ()],
        own_spans=[e.own_spans[1:] for e in embeddings or ()] if training else None)
    stock = dict[str, Any]()
    try:
        for site in sites.all:
            if _needed(run, site):
                attention = _attention(unet, site)
                stock[site] = attention.processor
                attention.set_processor(_LayerProcessor(run, site))
        with row_weights(unet, run.additions, run.rows):
            yield run
    finally:
        for site, processor in stock.items():
            _attention(unet, site).set_processor(processor)
        run.context_map = run.foreground_map = None
