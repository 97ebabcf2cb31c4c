"""Stage 4: the adapter, as the paper trains it (Sec. 4.1, App. B; Eq. 8) but for its timesteps and for the attention between the
rows of a cell, which the paper has not (docs/deviations.md), on stacks of latents."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..adapter import LayerAdapter
from ..config import HarmonizationConfig, LayerAttentionConfig, SamplingConfig
from ..diffusers_unet import find_sites, kv_projections, layer_attention
from ..losses import LossWeights, context_loss, layout_loss, noise_loss, total_loss
from ..pipeline import DreamLayer
from ..prompts import LayeredEmbedding, LayerPrompts
from ..text_encoders import TextRows
from ..weights import AdapterSettings, save_adapter
from .latents import LatentCache
from .sheets import picture_sheet

__all__ = ["AdapterStage", "embedded_adapter_settings", "new_adapter"]

_DROPPED = 0.1  # share of stacks trained without text, as guidance needs


def embedded_adapter_settings(model: DreamLayer, downscale: int = 2) -> AdapterSettings:
    """Settings of the embedded model's adapter; why downscale 2, see docs/deviations.md."""
    return AdapterSettings(
        base_family="dreamlayer-embedded", cross_attention_dim=int(model.unet.config["cross_attention_dim"]),
        context_features=find_sites(model.unet, downscale).context_channels, num_context_layers=2, slots=9,
        caca_downscale=downscale, prediction_type=model.schedule.prediction_type, cell_hidden=64)


def new_adapter(model: DreamLayer, settings: AdapterSettings) -> LayerAdapter:
    """An untrained adapter: both sets of K and V start as the base model's, embeddings and attention between rows at zero."""
    weights = kv_projections(model.unet)
    shared = find_sites(model.unet, None).shared if settings.cell_hidden else ()
    return LayerAdapter(settings, weights, weights, {site: len(weights[f"{site}.to_v"]) for site in shared})


def _attention_kernel(device: torch.device) -> AbstractContextManager[object]:
    """On a CPU the plain attention: the fused kernel's backward takes longer there than it saves."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


@dataclass
class _Batch:
    latents: Tensor  # (stacks, rows, 4, h, w)
    alphas: Tensor  # (stacks, fg, 1, H, W)
    noise: Tensor
    timesteps: Tensor  # (stacks,): the rows of a stack share theirs
    kept: Tensor  # (stacks,) bool: False = trained without text
    prompts: list[LayerPrompts]

    def to(self, device: torch.device) -> _Batch:
        return _Batch(
            latents=self.latents.to(device), alphas=self.alphas.to(device), noise=self.noise.to(device),
            timesteps=self.timesteps.to(device), kept=self.kept.to(device), prompts=self.prompts)


class _AdapterLoss(nn.Module):
    def __init__(self, model: DreamLayer, adapter: LayerAdapter, weights: LossWeights) -> None:
        super().__init__()
        self.adapter, self.weights = adapter, weights
        self._model = [model]  # not a submodule: the base is frozen

    def forward(self, batch: _Batch) -> dict[str, Tensor]:
        model, (stacks, rows) = self._model[0], batch.latents.shape[:2]
        embeddings = model.encode(batch.prompts)
        text = self._text(embeddings, batch)
        noisy = model.schedule.add_noise(batch.latents, batch.noise, batch.timesteps).flatten(0, 1)
        with (_attention_kernel(noisy.device),
              layer_attention(model.unet, embeddings, LayerAttentionConfig(), self.adapter, training=True) as run):
            run.begin(0, (noisy.shape[-2], noisy.shape[-1]))
            run.gate = (batch.timesteps >= self.adapter.settings.context_threshold).float() * batch.kept
            run.shown = batch.kept.float()
            output = model.predict(noisy.contiguous(memory_format=torch.channels_last), batch.timesteps.repeat_interleave(rows), text)
            maps, own = run.context_map, run.foreground_map
        assert maps is not None and own is not None
        noise = noise_loss(output.float().unflatten(0, (stacks, rows)),
                           model.schedule.target(batch.latents, batch.noise, batch.timesteps))
        kept = batch.kept
        context = context_loss(maps[kept], batch.alphas[kept]) if kept.any() else noise.new_zeros(())
        layout = layout_loss(maps[kept], own[kept]) if kept.any() else noise.new_zeros(())
        return {"loss": total_loss(noise, context, layout, self.weights), "noise": noise.detach(),
                "context": context.detach(), "layout": layout.detach()}

    def _text(self, embeddings: list[LayeredEmbedding], batch: _Batch) -> TextRows:
        text, rows = TextRows.joined([e.rows for e in embeddings]), len(embeddings[0].embeddings)
        empty = self._model[0].negative([LayerPrompts("", ("",))] * len(embeddings), rows, embeddings[0].length)
        return text.where(batch.kept.repeat_interleave(rows), empty)


class AdapterStage:
    """``foregrounds``: how many each stack of a batch may have; a batch has one count. The paper's order is 1, then
    2 and 3 from there (its two-layer, then three- and four-layer data)."""

    def __init__(self, cache: LatentCache, model: DreamLayer, adapter: LayerAdapter, foregrounds: tuple[int, ...]) -> None:
        self.cache, self.model, self.adapter = cache, model, adapter
        self.scenes = {count: cache.scenes.by_foregrounds(count) for count in foregrounds}
        model.adapter = adapter  # its layer-assign embeddings belong to the prompts' encoding
        self.module = _AdapterLoss(model, adapter.requires_grad_(True).train(), LossWeights())

    def batch(self, generator: torch.Generator, size: int) -> _Batch:
        """``size`` counts rows, so that batches of any count cost the same."""
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        # every foreground counts alike: more of the crowded stacks, which are the hard ones
        counts = np.array(list(self.scenes))
        count = int(rng.choice(counts, p=counts / counts.sum()))
        stacks = max(1, round(size / (count + 2)))
        chosen = self.scenes[count][rng.integers(len(self.scenes[count]), size=stacks)]
        cache = self.cache
        words = [cache.scenes.captions(int(i), rng) for i in chosen]
        spans = [slice(cache.scenes.first[i], cache.scenes.first[i + 1]) for i in chosen]
        latents = np.stack([
            np.concatenate([cache.backgrounds[i][None], cache.objects[s], cache.pictures[i][None]])
            for i, s in zip(chosen, spans, strict=True)])
        clean = torch.from_numpy(latents).float()
        alphas = torch.from_numpy(np.stack([cache.scenes.objects[s][..., 3] for s in spans])).float() / 255
        # Stratified, and more of the noisy ones, where the rows have to agree on who stands where: density t.
        share = (torch.arange(stacks) + torch.rand(stacks, generator=generator)) / stacks
        timesteps = share.sqrt() * self.model.schedule.train_steps
        return _Batch(
            latents=clean, alphas=rearrange(alphas, "s f h w -> s f 1 h w"),
            noise=torch.randn(clean.shape, generator=generator), timesteps=timesteps.long(),
            kept=torch.rand(stacks, generator=generator) >= _DROPPED,
            prompts=[LayerPrompts(w.background, w.foregrounds) for w in words])

    def sample(self, path: Path) -> None:
        """Two pictures: their rows, composites, harmonised pictures and context maps."""
        wanted = [LayerPrompts("green grass under a blue sky", ("a red ball", "a blue cube")),
                  LayerPrompts("a wooden floor with a beige wall", ("a shiny yellow duck", "a green tree")),
                  LayerPrompts("white snow at sunset", ("a purple mushroom", "an orange car"))]
        if max(self.scenes) == 1:
            wanted = [LayerPrompts(p.background, p.foregrounds[:1]) for p in wanted]
        with torch.autocast(self.model.device.type, torch.bfloat16):
            result = self.model.generate(wanted, seed=3, sampling=SamplingConfig(steps=25), views=1,
                                         harmonization=HarmonizationConfig())
        assert result.harmonized is not None and result.context_maps is not None
        rows = list[Tensor]()
        for index, stack in enumerate(result.stacks):
            red = torch.tensor([0.9, 0.4, 0.4])[:, None, None]
            layers = [layer.color * layer.alpha + red * (1 - layer.alpha) for layer in stack.layers]
            maps = torch.nn.functional.interpolate(result.context_maps[index][:, None], (stack.height, stack.width))
            rows.append(torch.stack([result.global_picture[index], *layers, result.harmonized[index], *maps.expand(-1, 3, -1, -1)]))
        picture_sheet(rows, path, title="global, layers over red, harmonised, context maps", scale=1)

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(self.adapter.weights(), folder / "adapter.safetensors")
