"""One sampling run of a patched MODEL: what its hooks share, from the first step to the last."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor

from ...dreamlayer_core.attention.context import paste_maps
from ...dreamlayer_core.attention.steering import ContextSteering, steering_part
from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.layer_run import Half, LayerRun
from ...dreamlayer_core.schedule import exploded_signal, paper_timestep
from ..sockets import LAYERS_KEY
from .calls import Chunk, UnetCall
from .sites import Block

__all__ = ["PatchedRun"]

_log = logging.getLogger(__name__)
_Replacement = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]


class _MapNeededFirst(Exception):
    """The unconditional rows came first, and there is no map of this timestep yet."""


class PatchedRun:
    """Hooks around one ``LayerRun``.

    They are appended behind the patches that other nodes put on the model, and see what those make of the tokens.
    """

    def __init__(
        self, *, state: LayerRun, where: Mapping[str, Block], steering: Mapping[int, ContextSteering], scale: int,
        start_sigma: float, end_sigma: float, sink: Any,
    ) -> None:
        self.state, self.sink = state, sink
        self.steering, self.scale = steering, scale  # masks over the whole latent, that many pixels a cell
        self.start_sigma, self.end_sigma = start_sigma, end_sigma
        self.names = {(block, site.rsplit(".", 1)[1]): site for site, block in where.items()}
        self.active = False
        self.room = math.inf  # latent cells in one call of the UNet that memory has been found to hold
        self._hidden: Tensor | None = None  # input of the cross-attention now in progress
        self._sources: dict[str, Tensor] = {}  # tokens that keys ("to_k") and values ("to_v") are now made of
        self._maps: dict[Any, dict[int, Tensor]] = {}  # of this step's conditional rows: area -> picture -> map
        self._sigma: float | None = None
        self._may_ask = False  # for the conditional rows to come first

    # Installing

    def install(self, options: dict[str, Any], groups: Mapping[str, Iterable[dict[str, Any]]]) -> None:
        """Put all hooks into a run's own transformer options and conditionings. InputError where a patch excludes ours."""
        for name, group in groups.items():
            for order, cond in enumerate(group or ()):
                own = None if name == "negative" else cond.get(LAYERS_KEY)
                cond["model_conds"] = {**cond["model_conds"], LAYERS_KEY: Chunk(own, order)}
        kinds = comfy.patcher_extension.WrappersMP
        wrappers = options.setdefault("wrappers", {})
        wrappers.setdefault(kinds.CALC_COND_BATCH, {}).setdefault(LAYERS_KEY, []).append(self._calc_cond_batch)
        wrappers.setdefault(kinds.DIFFUSION_MODEL, {}).setdefault(LAYERS_KEY, []).append(self._diffusion_model)
        patches = options.setdefault("patches", {})
        patches.setdefault("attn1_patch", []).append(self._before_self_attention)
        patches.setdefault("attn2_patch", []).append(self._before_cross_attention)
        self._replacements(options)

    def _replacements(self, options: Mapping[str, Any]) -> dict[str, dict[Any, _Replacement]]:
        """``patches_replace`` with ours around what is there: guidance nodes put theirs in between two calls of the UNet."""
        replacements = {kind: dict(blocks) for kind, blocks in options.get("patches_replace", {}).items()}
        for (block, kind), site in self.names.items():
            self._replace(replacements.setdefault(kind, {}), block, kind, site)
        return replacements

    def _replace(self, replacements: dict[Any, _Replacement], block: Block, kind: str, site: str) -> None:
        shares = site in self.state.sites.shared and self.state.config.lssa
        has_own = self.state.adapter is not None and self.state.adapter.has_foreground(site)
        if not (shares or site in self.state.sites.context or has_own or self.state.reads_self_attention(site)):
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

    def drop(self) -> None:
        """Forget everything of the run."""
        self._maps.clear()
        self._let_go()

    def _let_go(self) -> None:
        """Of the tensors of a call that is over, or did not come to its end."""
        self.state.begin(self.state.timestep, self.state.size)
        self._hidden = None
        self._sources.clear()

    # Around the UNet

    def _calc_cond_batch(
        self, executor: Any, model: Any, conds: list[Any], x: Tensor, timestep: Tensor, options: dict[str, Any]
    ) -> list[Tensor]:
        """CALC_COND_BATCH: the map of the conditional rows serves both halves, so they go first where memory splits them."""
        groups = [sorted(group or (), key=_is_layered) for group in conds]  # ComfyUI starts at the end
        layered = [any(map(_is_layered, group)) for group in groups]
        if not any(layered):
            return executor(model, conds, x, timestep, options)
        # On one device: several would go through this run's state at the same time.
        options = {key: value for key, value in options.items() if key != "multigpu_clones"}
        self._maps.clear()
        self._may_ask = True
        try:
            return executor(model, conds, x, timestep, options)
        except _MapNeededFirst:
            pass
        finally:
            self._may_ask = False
        first, second = (
            executor(model, [group if own == wanted else None for group, own in zip(groups, layered, strict=True)],
                     x, timestep, options)
            for wanted in (True, False))
        return [a if own else b for a, b, own in zip(first, second, layered, strict=True)]

    def _diffusion_model(
        self, executor: Any, x: Tensor, timesteps: Tensor, context: Any, y: Any, control: Any, options: dict[str, Any],
        **extra: Any,
    ) -> Tensor:
        """DIFFUSION_MODEL: one call of the UNet, or several where its chunks differ in their maps or are too many."""
        chunks = extra.pop(LAYERS_KEY, None) or [Chunk(None)] * len(options["cond_or_uncond"])
        call = UnetCall(
            x=x, timesteps=timesteps, context=context, y=y, control=control, options=options, extra=extra,
            chunks=tuple(chunks), rows=self.state.rows)
        call.check()
        self._at(float(options["sigmas"].flatten()[0]))
        groups = call.groups()
        if len(groups) == 1:
            output = self._within_memory(executor, call)
        else:
            parts = [call.part(group) for group in groups]
            output = call.joined(parts, [self._within_memory(executor, part.call) for part in parts])
        if self.sink is not None and (maps := self._maps.get(None)):
            self.sink.maps = torch.stack([maps[stack] for stack in sorted(maps)])
        return output

    def _at(self, sigma: float) -> None:
        if sigma != self._sigma:
            self._maps.clear()
        self._sigma, self.active = sigma, self.end_sigma <= sigma <= self.start_sigma

    def _within_memory(self, executor: Any, call: UnetCall) -> Tensor:
        """The call; in parts where it does not fit. What did not fit once is not tried again in the same run."""
        if call.cells < self.room or not call.divisible:
            try:
                return self._call(executor, call)
            except Exception as error:
                comfy.model_management.raise_non_oom(error)
                if not call.divisible:
                    raise
            # Out of the handler: until then the error holds all that the call has made.
            self._let_go()
            comfy.model_management.soft_empty_cache()
            self.room = call.cells
            _log.warning("Out of memory with %d latents in one call of the model; going on with fewer", len(call.x))
        parts = call.smaller()
        return call.joined(parts, [self._within_memory(executor, part.call) for part in parts])

    def _call(self, executor: Any, call: UnetCall) -> Tensor:
        comfy.model_management.throw_exception_if_processing_interrupted()
        state, own = self.state, call.own
        # By the noise level: what a model calls its timesteps is its own affair.
        sigma, size = float(call.options["sigmas"].flatten()[0]), (call.x.shape[-2], call.x.shape[-1])
        timestep = paper_timestep(exploded_signal(sigma))
        halves: tuple[Half, ...] = tuple("unconditional" if one.cond is None else "conditional" for one in call.chunks)
        if own is None:
            state.context_map = self._known_map(call, timestep)
        else:
            state.spans = [own.cond.global_spans[1:]] * len(call.stacks)
            state.steering = steering_part(self.steering, call.stacks, own.area, self.scale)
        state.begin(timestep, size, halves)
        output = call.run(executor, self._replacements(call.options))
        if own is not None and state.context_map is not None:
            self._maps.setdefault(own.area, {}).update(zip(call.stacks, state.context_map, strict=True))
        return output

    def _known_map(self, call: UnetCall, timestep: int) -> Tensor | None:
        """What the conditional rows of the same pictures and area had. None where there are none, or none are needed."""
        known = self._maps.get(call.chunks[0].area, {})
        if all(stack in known for stack in call.stacks):
            return torch.stack([known[stack] for stack in call.stacks])
        if self._may_ask and self.active and self.state.config.caca and timestep >= self.state.threshold:
            raise _MapNeededFirst
        areas = {area: maps for area, maps in self._maps.items() if area is not None}
        if call.chunks[0].area is None and areas:
            size = (call.x.shape[-2], call.x.shape[-1])
            return torch.stack([
                paste_maps({area: maps[stack] for area, maps in areas.items()}, size) for stack in call.stacks])
        return None

    # Inside the UNet

    def _site(self, kind: str, extra: Mapping[str, Any]) -> str:
        place, number = extra["block"]
        return self.names[(place, number, extra.get("block_index", 0)), kind]

    def _before_self_attention(self, tokens: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> Any:
        """attn1_patch: z̃ (Eq. 9) is what keys and values are made of; queries stay the row's own (Eq. 11)."""
        if self.active and self._site("attn1", extra) in self.state.sites.shared:
            self._check_tokens(context, extra)
            same = value is context
            context = self.state.fused(context)
            value = context if same else self.state.fused(value)
        self._sources = {"to_k": context, "to_v": value}
        return tokens, context, value

    def _check_tokens(self, context: Tensor, extra: Mapping[str, Any]) -> None:
        expected = math.prod(extra["activations_shape"][-2:])
        if self.state.context_map is not None and context.shape[1] != expected:
            raise InputError(
                f"another node gives the self-attention {context.shape[1]} tokens in place of {expected}, for which there "
                "is no context map; remove that node, or switch CACA off in Patch Model")

    def _before_cross_attention(self, tokens: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> Any:
        """attn2_patch: only looks."""
        self._hidden, self._sources = tokens, {"to_k": context, "to_v": context if value is None else value}
        return tokens, context, value

    def _self_attention(
        self, site: str, q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any], attend: _Replacement
    ) -> Tensor:
        k, v = self._with_foregrounds(site, k, v)
        if self.active and self.state.reads_self_attention(site):
            self.state.read_self_attention(q, k, extra["n_heads"])
        if not (self.active and self.state.config.lssa and site in self.state.sites.shared):
            return attend(q, k, v, extra)
        if len(q) != len(k):
            raise InputError(
                "another node cuts the self-attention into tiles (HyperTile does), which layer-shared self-attention "
                "joins; remove that node, or switch LSSA off in Patch Model")
        if q.shape[1] != k.shape[1] and self.state.adapter is not None and self.state.adapter.has_cells(site):
            raise InputError(
                f"another node gives the self-attention queries of {q.shape[1]} tokens and keys of {k.shape[1]} (token merging "
                "does), between which this adapter joins cells; remove that node, or switch LSSA off in Patch Model")
        return self.state.share(site, q, k, v, extra["n_heads"], lambda q, k, v, bias: _attend(q, k, v, extra, bias))

    def _cross_attention(
        self, site: str, q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any], attend: _Replacement
    ) -> Tensor:
        k, v = self._with_foregrounds(site, k, v)
        if self.active and self.state.config.caca and site in self.state.sites.context and self._hidden is not None:
            self.state.read_map(self._hidden, q, k, extra["n_heads"])
        return attend(q, k, v, extra)

    def _with_foregrounds(self, site: str, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The foreground rows' own K and V: the shared ones, as projected, and what their second set differs by."""
        adapter, rows = self.state.adapter, self.state.rows
        if adapter is None or not adapter.has_foreground(site):
            return k, v
        return (adapter.add_foreground(f"{site}.to_k", k, self._sources["to_k"], rows),
                adapter.add_foreground(f"{site}.to_v", v, self._sources["to_v"], rows))


def _attend(q: Tensor, k: Tensor, v: Tensor, extra: dict[str, Any], bias: Tensor | None = None) -> Tensor:
    """What ComfyUI's CrossAttention does between its projections."""
    return optimized_attention(
        q, k, v, extra["n_heads"], mask=bias, attn_precision=extra["attn_precision"], transformer_options=extra)


def _is_layered(cond: Mapping[str, Any]) -> bool:
    chunk = cond.get("model_conds", {}).get(LAYERS_KEY)
    return chunk is not None and chunk.cond is not None
