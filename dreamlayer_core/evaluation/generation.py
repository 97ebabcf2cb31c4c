"""Pictures of every configuration for the prompts of given scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from ..composite import gray_fill
from ..config import HarmonizationConfig, SamplingConfig
from ..pipeline import DreamLayer, LayeredResult
from ..prompts import LayerPrompts
from ..sampling import Stepper, Trajectory, initial_noise, sample_layers
from ..scenes import Scene
from ..schedulers import stepper_for
from ..stack_latents import noised_trajectory, pad_alphas
from ..text_encoders import TextRows
from .configurations import Configuration
from .pictures import LayeredPicture, true_pictures

__all__ = ["Sampler", "scene_prompts"]


def scene_prompts(scene: Scene) -> LayerPrompts:
    """The prompts of a scene's layers; the global row gets what the method makes of them (no prompt of its own)."""
    return LayerPrompts(scene.background_caption, tuple(item.caption for item in scene.objects))


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampler:
    """A model with the settings that all configurations share.

    The noise of a scene's row depends on ``seed``, the scene's own seed and the row alone, so configurations differ by
    what they do, not by luck. Scenes of one batch must have consecutive seeds and equally many foregrounds.
    """

    model: DreamLayer
    sampling: SamplingConfig
    seed: int = 0
    views: int = 8
    half: bool = False  # bf16: several times faster where the processor multiplies it, and nearly the same

    def _noise_seed(self, scenes: Sequence[Scene]) -> int:
        return self.seed * 1_000_000 + scenes[0].seed

    def _sampling(self, configuration: Configuration) -> SamplingConfig:
        return replace(self.sampling, guidance_interval=configuration.guidance_interval)

    def _bound(self, configuration: Configuration) -> DreamLayer:
        return self.model if configuration.adapter else replace(self.model, adapter=None)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.half)

    @property
    def _stepper(self) -> Stepper:
        return stepper_for(self.sampling, self.model.schedule)

    @torch.no_grad()
    def pictures(
        self, scenes: Sequence[Scene], configuration: Configuration, more: Sequence[Configuration] = ()
    ) -> dict[str, list[LayeredPicture]]:
        """Pictures of every scene, by configuration name.

        ``more`` are configurations that differ from ``configuration`` in their harmonisation alone: their layers are the
        same, and are sampled once.
        """
        with self._precision():
            return self._pictures(scenes, configuration, more)

    def _pictures(
        self, scenes: Sequence[Scene], configuration: Configuration, more: Sequence[Configuration]
    ) -> dict[str, list[LayeredPicture]]:
        if not configuration.layered:
            return {configuration.name: self._base(scenes)}
        model, sampling = self._bound(configuration), self._sampling(configuration)
        size = _size(scenes)
        result = model.generate(
            [scene_prompts(s) for s in scenes], size=size, seed=self._noise_seed(scenes), sampling=sampling,
            attention=configuration.attention, views=self.views, keep_all=True)
        layers = _layers(result)
        finals: dict[str, list[LayeredPicture]] = {}
        for one in (configuration, *more):
            config = one.harmonization
            finals[one.name] = layers if config is None else self._harmonized(
                model, scenes, layers, result.trajectory.between(config, self.model.schedule), sampling)
        return finals

    def _harmonized(
        self, model: DreamLayer, scenes: Sequence[Scene], layers: Sequence[LayeredPicture], kept: Trajectory,
        sampling: SamplingConfig,
    ) -> list[LayeredPicture]:
        alphas = torch.stack([cast(Tensor, layer.alphas) for layer in layers])[:, :, None]
        pictures = self._irh(model, scenes, pad_alphas(alphas, _any_of(kept), model.vae_scale), kept, sampling)
        width, height = _size(scenes)
        return [replace(layer, final=picture[:, :height, :width])
                for layer, picture in zip(layers, pictures, strict=True)]

    def _irh(
        self, model: DreamLayer, scenes: Sequence[Scene], alphas: Tensor, kept: Trajectory, sampling: SamplingConfig
    ) -> Tensor:
        prompts = [scene_prompts(s) for s in scenes]
        return model.harmonize(
            kept, alphas.to(model.device), model.encode(prompts), prompts, sampling, self._stepper)

    def _base(self, scenes: Sequence[Scene]) -> list[LayeredPicture]:
        """The stock UNet on one row: the prompt of the whole picture, nothing of the method."""
        model, (width, height) = replace(self.model, adapter=None), _size(scenes)
        # The text's own row among the layers is its plain encoding; a picture needs a foreground to be encoded at all.
        embeddings = model.encode([LayerPrompts(s.whole_caption, ("",)) for s in scenes])
        negative = model.negative([LayerPrompts("", ("",))], len(scenes), embeddings[0].length)
        text, guidance = TextRows.joined([negative, *(e.rows[:1] for e in embeddings)]), self.sampling.guidance

        def denoise(latents: Tensor, timestep: int) -> Tensor:
            without, given = model.predict(torch.cat([latents[:, 0], latents[:, 0]]), timestep, text).chunk(2)
            return (without + guidance * (given - without)).to(latents.dtype)[:, None]

        grid = (height // model.vae_scale, width // model.vae_scale)
        noise = initial_noise((1, 4, *grid), self._noise_seed(scenes), stacks=len(scenes))
        latents, _ = sample_layers(denoise, noise.to(model.device), self._stepper)
        return [LayeredPicture(whole=p, final=p) for p in model.decode_pictures(latents[:, 0]).cpu()]

    @torch.no_grad()
    def harmonized_truth(self, scenes: Sequence[Scene], config: HarmonizationConfig) -> Mapping[str, list[Tensor]]:
        """IRH of the true layers, whose true result is known: pictures (3, h, w) by name.

        ``harmonized`` from the layers' latents noised to T'_H <= t <= T_H, ``autoencoder`` the true picture through the
        VAE (no method that decodes can be nearer), ``composite`` of the layers as they are.
        """
        model = self.model
        truths = [true_pictures(scene) for scene in scenes]
        clean = torch.stack([model.encode_pictures(_gray_rows(truth)) for truth, _ in truths])
        rows, channels, height, width = clean.shape[1:]
        noise = initial_noise((rows, channels, height, width), self._noise_seed(scenes), stacks=len(scenes))
        steps = [t for t in self._stepper.timesteps if config.low <= t <= config.high]
        kept = noised_trajectory(model.schedule, clean, noise, steps)
        alphas = torch.stack([torch.from_numpy(scene.alphas) for scene in scenes])[:, :, None]
        with self._precision():
            harmonized = self._irh(model, scenes, alphas, kept, self.sampling)
        pictures = {
            "harmonized": list(harmonized),
            "autoencoder": list(model.decode_pictures(clean[:, -1]).cpu()),
            "composite": [plain.final for _, plain in truths]}
        return pictures


def _size(scenes: Sequence[Scene]) -> tuple[int, int]:
    height, width = scenes[0].picture.shape[:2]
    return width, height


def _layers(result: LayeredResult) -> list[LayeredPicture]:
    found: list[LayeredPicture] = []
    for stack, whole in zip(result.stacks, result.global_picture, strict=True):
        colors, alphas = (torch.stack([getattr(layer, name) for layer in stack.foregrounds]) for name in ("color", "alpha"))
        layered = LayeredPicture(
            whole=whole, final=whole, background=stack.background.color, colors=colors, alphas=alphas[:, 0])
        found.append(replace(layered, final=cast(Tensor, layered.composite)))
    return found


def _any_of(kept: Trajectory) -> Tensor:
    return next(iter(kept.latents.values()))


def _gray_rows(truth: LayeredPicture) -> Tensor:
    """(rows, 3, h, w): the background, every foreground on gray (Eq. 2), the whole."""
    background, colors, alphas = (cast(Tensor, part) for part in (truth.background, truth.colors, truth.alphas))
    return torch.cat([background[None], gray_fill(colors, alphas[:, None]), truth.whole[None]])
