"""One sampling run of a patched MODEL: what its hooks share, from the first step to the last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import comfy.patcher_extension
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor
from torch.nn import functional

from ...dreamlayer_core.attention.shared import join_rows, split_rows
from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.layer_run import Half, LayerRun
from ...dreamlayer_core.prompts import LayeredEmbedding
from .sites import Block

__all__ = ["PatchedRun"]

_KEY = "dreamlayer"
_Replacement = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]


class _MapNeededFirst(Exception):
    """The unconditional rows came first, and there is no map of this timestep yet."""


class PatchedRun:
    """Hooks around one ``LayerRun``.

    They are appended behind the patches that other nodes put on the model, and see what those make of the tokens.
    """

    def __init__(
        self, *, state: LayerRun, where: Mapping[str, Block], embeddings: Mapping[UUID, LayeredEmbedding], stacks: int,
        start_sigma: float, end_sigma: float, sink: Any,
    ) -> None:
        self.state, self.embeddings, self.stacks, self.sink = state, embeddings, stacks, sink
        self.start_sigma, self.end_sigma = start_sigma, end_sigma
        self.names = {(block, site.rsplit(".", 1)[1]): site for site, block in where.items()}
        self.active = False
        self._hidden: Tensor | None = None  # input of the cross-attention now in progress
        self._sources: dict[str, Tensor] = {}  # tokens that keys ("to_k") and values ("to_v") are now made of
        self._ordered = False  # the conditional rows have had their turn

    # Installing

    def install(self, options: dict[str, Any]) -> None:
        """Put all hooks into a run's own transformer options. InputError where another patch excludes ours."""
        kinds = comfy.patcher_extension.WrappersMP
        wrappers = options.setdefault("wrappers", {})
        wrappers.setdefault(kinds.CALC_COND_BATCH, {}).setdefault(_KEY, []).append(self._calc_cond_batch)
        wrappers.setdefault(kinds.DIFFUSION_MODEL, {}).setdefault(_KEY, []).append(self._diffusion_model)
        patches = options.setdefault("patches", {})
        patches.setdefault("attn1_patch", []).append(self._before_self_attention)
        patches.setdefault("attn2_patch", []).append(self._before_cross_attention)
        replacements = options.setdefault("patches_replace", {})
        for (block, kind), site in self.names.items():
            self._replace(replacements.setdefault(kind, {}), block, kind, site)

    def _replace(self, replacements: dict[Any, _Replacement], block: Block, kind: str, site: str) -> None:
        shares = site in self.state.sites.shared and self.state.config.lssa
        if not (shares or site in self.state.sites.context or self._has_weights(site)):
            return
        earlier = replacements.get(block) or replacements.get(block[:2])
        if shares and earlier is not None:
            raise InputError(
                f"another node replaces the self-attention of {block[0]} block {block[1]}, which layer-shared "
                "self-attention replaces too; remove that node, or switch LSSA off in Patch Model")
        attend = earlier or _attend
        if kind == "attn1":
            replacements[block] = lambda q, k, v, extra: self._self_attention(site, q, k, v, extra, attend)
        else:
            replacements[block] = lambda q, k, v, extra: self._cross_attention(site, q, k, v, extra, attend)

    def _has_weights(self, site: str) -> bool:
        adapter = self.state.adapter
        return adapter is not None and f"{site}.to_k".replace(".", "/") in adapter.foreground

    def drop(self) -> None:
        """Forget everything of the run."""
        self.state.context_map = self.state.foreground_map = None
        self._hidden = None
        self._sources.clear()

    # Around the UNet

    def _calc_cond_batch(self, executor: Any, model: Any, conds: list[Any], *args: Any) -> list[Tensor]:
        """CALC_COND_BATCH: the map of the conditional rows serves both halves, so they go first where memory splits them."""
        self._ordered = False
        try:
            return executor(model, conds, *args)
        except _MapNeededFirst:
            layered = [any(cond["uuid"] in self.embeddings for cond in group or ()) for group in conds]
        first = executor(model, [group if own else None for group, own in zip(conds, layered, strict=True)], *args)
        self._ordered = True
        second = executor(model, [None if own else group for group, own in zip(conds, layered, strict=True)], *args)
        return [a if own else b for a, b, own in zip(first, second, layered, strict=True)]

    def _diffusion_model(
        self, executor: Any, x: Tensor, timesteps: Tensor, context: Any, y: Any, control: Any, options: dict[str, Any],
        **kwargs: Any,
    ) -> Tensor:
        """DIFFUSION_MODEL: announce one call of the UNet."""
        state, sigma = self.state, float(options["sigmas"].flatten()[0])
        layered = [self.embeddings.get(one) for one in options["uuids"]]
        halves: tuple[Half, ...] = tuple("unconditional" if one is None else "conditional" for one in layered)
        timestep, size = round(float(timesteps.flatten()[0])), (x.shape[-2], x.shape[-1])
        self.active = self.end_sigma <= sigma <= self.start_sigma
        if "conditional" in halves:
            own = next(one for one in layered if one is not None)
            state.spans = [own.global_spans[1:]] * self.stacks
        elif state.context_map is None or (state.timestep, state.size) != (timestep, size):
            if self.active and state.config.caca and timestep >= state.threshold and not self._ordered:
                raise _MapNeededFirst
            state.context_map = None  # of another timestep or another part of the picture
        state.begin(timestep, size, halves)
        output = executor(x, timesteps, context, y, control, options, **kwargs)
        if self.sink is not None and state.context_map is not None:
            self.sink.maps = state.context_map
        return output

    # Inside the UNet

    def _site(self, kind: str, extra: Mapping[str, Any]) -> str:
        place, number = extra["block"]
        return self.names[(place, number, extra.get("block_index", 0)), kind]

    def _before_self_attention(self, tokens: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> Any:
        """attn1_patch: z̃ (Eq. 9) is what keys and values are made of; queries stay the row's own (Eq. 11)."""
        if self.active and self._site("attn1", extra) in self.state.sites.shared:
            same = value is context
            context = self.state.fused(context)
            value = context if same else self.state.fused(value)
        self._sources = {"to_k": context, "to_v": value}
        return tokens, context, value

    def _before_cross_attention(self, tokens: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> Any:
        """attn2_patch: only looks."""
        self._hidden, self._sources = tokens, {"to_k": context, "to_v": context if value is None else value}
        return tokens, context, value

    def _self_attention(
        self, site: str, q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any], attend: _Replacement
    ) -> Tensor:
        k, v = self._with_foregrounds(site, k, v)
        if not (self.active and self.state.config.lssa and site in self.state.sites.shared):
            return attend(q, k, v, extra)
        rows = self.state.rows
        return split_rows(attend(join_rows(q, rows), join_rows(k, rows), join_rows(v, rows), extra), rows)

    def _cross_attention(
        self, site: str, q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any], attend: _Replacement
    ) -> Tensor:
        k, v = self._with_foregrounds(site, k, v)
        if self.active and self.state.config.caca and site in self.state.sites.context and self._hidden is not None:
            self.state.read_map(self._hidden, q, k, extra["n_heads"])
        return attend(q, k, v, extra)

    def _with_foregrounds(self, site: str, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The foreground rows' own K and V: the shared ones, as projected, and what their second set differs by."""
        if not self._has_weights(site):
            return k, v
        return self._own(site, "to_k", k), self._own(site, "to_v", v)

    def _own(self, site: str, part: str, projected: Tensor) -> Tensor:
        adapter, rows = self.state.adapter, self.state.rows
        assert adapter is not None
        difference = adapter.foreground[f"{site}.{part}".replace(".", "/")].to(projected)
        source = self._sources[part].unflatten(0, (-1, rows))[:, 1:-1]
        projected = projected.unflatten(0, (-1, rows)).clone()
        projected[:, 1:-1] += functional.linear(source.to(projected), difference)
        return projected.flatten(0, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any]) -> Tensor:
    """What ComfyUI's CrossAttention does between its projections."""
    return optimized_attention(
        q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra)
