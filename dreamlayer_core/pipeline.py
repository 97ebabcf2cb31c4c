"""From prompts to a layer stack: the standalone pipeline on diffusers' models."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from .adapter import LayerAdapter
from .attention.steering import ContextSteering, steer_latents
from .base_options import BaseOptions
from .composite import clean_layer
from .config import HarmonizationConfig, LayerAttentionConfig, SamplingConfig, TilingConfig, check_size
from .controls import LayerControl, control_residuals, fit_controls, lone_row_controls
from .diffusers_files import open_base
from .diffusers_unet import check_adapter, layer_attention
from .errors import InputError, WeightsError
from .guidance import Guided, guidance_embedding
from .harmonization import resize_alpha
from .layerdiffuse import LayerDiffuse, LayerDiffuseAttention
from .layerdiffuse_encoder import TransparentEncoder, load_transparent_encoder
from .layerdiffuse_files import load_layerdiffuse
from .layerdiffuse_unet import layerdiffuse_additions
from .layers import Layer, LayerStack
from .model_files import ADAPTER, find_layer_decoder, find_model
from .prompts import LayeredEmbedding, LayerPrompts, encode_negative, encode_stacks
from .row_weights import Additions, RowAddition, check_additions, joined_additions, shown_additions
from .safetensors_files import about
from .sampling import OnStep, Replay, Stepper, Trajectory, harmonize, initial_noise, sample_layers, unreached
from .schedule import NoiseSchedule
from .schedulers import stepper_for
from .text_encoders import TextEncoders, TextRows
from .tiles import vae_in_tiles
from .transparent import VIEWS, TransparentDecoder
from .weights import check_prediction, load_adapter, load_transparent_decoder

__all__ = ["DreamLayer", "LayeredResult"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayeredResult:
    """One batch of pictures. Tensors have a leading stack axis.

    ``stacks``: the layers, bottom to top. ``latents`` (s, rows, 4, h, w) as sampled; ``global_picture`` (s, 3, H, W),
    the global row decoded; ``harmonized`` (s, 3, H, W) or None; ``context_maps`` (s, fg, h, w) as read at the last
    step, or None without CACA. Pictures have the size asked for; latents and maps cover whole cells of the UNet's
    deepest stage, which may reach beyond the right and lower edges. Every layer's ``seed``, given in ``layer_seeds``,
    draws its noise again.
    """

    stacks: tuple[LayerStack, ...]
    latents: Tensor
    global_picture: Tensor
    harmonized: Tensor | None
    context_maps: Tensor | None
    timings: Mapping[str, float]
    # The kept z_t, from which edited layers can be harmonised again (Eq. 13): empty without IRH, whole with keep_all.
    trajectory: Trajectory


@dataclass(kw_only=True, eq=False)
class DreamLayer:
    """The models of one base, an adapter (or none: the training-free form) and a transparent decoder.

    Raises WeightsError for parts that do not fit each other.
    """

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoders: TextEncoders
    schedule: NoiseSchedule
    decoder: TransparentDecoder
    adapter: LayerAdapter | None = None
    layerdiffuse: LayerDiffuse | None = None  # weights of single rows, see `layerdiffuse_additions`
    encoder: TransparentEncoder | None = None
    tiling: TilingConfig = TilingConfig()

    def __post_init__(self) -> None:
        if self.decoder.config.latent_scale != self.vae_scale:
            raise WeightsError(
                f"a transparent decoder for {self.decoder.config.latent_scale} pixels per latent cell, but the VAE has "
                f"{self.vae_scale}; give the decoder that was made for this VAE")
        if self.encoder is not None and self.encoder.latent_scale != self.vae_scale:
            raise WeightsError(
                f"a transparent encoder for {self.encoder.latent_scale} pixels per latent cell, but the VAE has "
                f"{self.vae_scale}; give the encoder that was made for this VAE")
        if isinstance(self.layerdiffuse, LayerDiffuseAttention) and self.layerdiffuse.encoder is not None:
            raise WeightsError(
                "LayerDiffuse's conditional weights, which go by the picture of a finished layer: pass them to `generate` by "
                "`layerdiffuse_additions`, or use LayerDiffuse Attention in ComfyUI; else give layer_sd15_transparent_attn or layer_sd15_joint")
        check_additions(self.unet, self.row_additions(1), 3)
        if self.adapter is not None:
            check_prediction(self.adapter.settings, self.schedule.prediction_type)
            check_adapter(self.unet, self.adapter)

    @classmethod
    def from_files(
        cls, model: str | Path, *, adapter: str | Path | None = None, use_adapter: bool = True,
        options: BaseOptions | None = None, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu",
    ) -> DreamLayer:
        """Load ``embedded``, a folder in diffusers' layout or a checkpoint in one file, of SD1, SD2 or SDXL.

        A folder may have ``layer_decoder.safetensors`` and ``adapter.safetensors`` in it; ``options`` has what a base
        does not bring along. Without an adapter the method works training-free. Only local files are read, and none is
        unpickled without leave. Raises WeightsError for what is missing, damaged or another kind of model.
        """
        path, options = find_model(Path(model)), options or BaseOptions()
        # Small files first: what is wrong with them should not have to wait for the large ones.
        source = open_base(path, options)
        chosen = Path(adapter) if adapter is not None else path / ADAPTER
        wanted = use_adapter and (adapter is not None or chosen.is_file())
        loaded = load_adapter(chosen, base_family=source.family) if wanted else None
        decoder = load_transparent_decoder(find_layer_decoder(path, options, source.family))
        attention = options.layerdiffuse and load_layerdiffuse(options.layerdiffuse)
        encoder = options.layer_encoder and load_transparent_encoder(options.layer_encoder)
        base = source.load(dtype, device)
        with about(path):
            made = cls(
                unet=base.unet, vae=base.vae, text_encoders=base.text_encoders,
                schedule=source.schedule, decoder=decoder.to(device, dtype).eval().requires_grad_(False))
        if attention and options.layerdiffuse:
            with about(options.layerdiffuse):
                made = replace(made, layerdiffuse=attention.to(device, dtype))
        if encoder and options.layer_encoder:
            with about(options.layer_encoder):
                made = replace(made, encoder=encoder.to(device, dtype))
        if loaded is None:
            return made
        with about(chosen):
            return replace(made, adapter=LayerAdapter.from_weights(loaded).to(device, dtype))

    def row_additions(self, foregrounds: int) -> dict[str, list[RowAddition]]:
        """What rows of stacks of so many foregrounds have of weights of their own, by module of the UNet, but for the adapter's.

        Raises InputError for LayerDiffuse's weights of several frames and more than one foreground.
        """
        return {} if self.layerdiffuse is None else layerdiffuse_additions(self.unet, self.layerdiffuse, foregrounds)

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def vae_scale(self) -> int:
        """Pixels of the picture per latent cell."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def has_distilled_guidance(self) -> bool:
        """Whether the UNet is told the guidance scale (a latent consistency model), see `guidance_embedding`."""
        return self.unet.config.get("time_cond_proj_dim") is not None

    @property
    def latent_channels(self) -> int:
        return int(self.unet.config["in_channels"])

    @torch.no_grad()
    def generate(
        self, prompts: LayerPrompts | Sequence[LayerPrompts], *, size: tuple[int, int] | None = None, seed: int = 0,
        layer_seeds: Mapping[int, int] | None = None, sampling: SamplingConfig | None = None,
        attention: LayerAttentionConfig | None = None, harmonization: HarmonizationConfig | None = None,
        stepper: Stepper | None = None, views: int = 8, keep_all: bool = False, replay: Replay | None = None,
        steering: Mapping[int, ContextSteering] | None = None, additions: Additions | None = None,
        text_additions: Sequence[Additions] = (), controls: Sequence[LayerControl] = (), on_step: OnStep | None = None,
    ) -> LayeredResult:
        """Sample layers and the whole together (all stacks in one batch), decode them, and harmonise.

        ``size`` is (width, height) in pixels, the model's own by default; ``harmonization=None`` switches IRH off;
        ``layer_seeds`` has seeds of single rows (0 = background, k = the global row), stack s adds s to every seed;
        ``stepper`` replaces the scheduler and steps of ``sampling``; ``views`` are the transparent decoder's; ``keep_all``
        keeps the whole trajectory; rows of ``replay`` come out as they were stored, and the others see them;
        ``steering`` says by masks over the picture where foregrounds are, by layer (1 is the lowest foreground);
        ``additions`` are more weights of single rows, by module of the UNet; the global row's are harmonisation's, too;
        ``text_additions`` the same of every text encoder, for the rows' texts; ``controls`` are hints of rows.
        Raises InputError for unusable sizes, prompts or settings and WeightsError for additions that do not fit, before
        the first step; what ``on_step`` raises passes through.
        """
        if views not in VIEWS:
            raise InputError(f"got {views} views; give one of {', '.join(map(str, VIEWS))}")
        stacks = [prompts] if isinstance(prompts, LayerPrompts) else list(prompts)
        sampling, attention = sampling or SamplingConfig(), attention or LayerAttentionConfig()
        width, height = size or self.default_size
        grid = self.grid(width, height)
        stepper = stepper or stepper_for(sampling, self.schedule, seed)
        started = time.perf_counter()
        embeddings = self.encode(stacks, text_additions)
        encoded = time.perf_counter()
        shape = (len(embeddings[0].embeddings), int(self.unet.config["in_channels"]), *grid)
        noise = initial_noise(shape, seed, layer_seeds, stacks=len(stacks))
        steered = self.steer(steering or {}, (width, height), (width, height))
        fitted = self.fit_controls(controls, shape[0], (width, height))
        with layer_attention(
                self.unet, embeddings, attention, self.adapter, steering=steered,
                additions=joined_additions(additions or {}, self.row_additions(shape[0] - 2))) as run:
            if attention.caca and (note := unreached(stepper, run.threshold)):
                _log.warning(note)
            denoise = Guided(self, run, embeddings, stacks, sampling, controls=fitted)
            if self.has_distilled_guidance and (note := _unheard(sampling, stacks)):
                _log.warning(note)
            latents, trajectory = sample_layers(
                denoise, noise.to(self.device), stepper, keep=harmonization, keep_all=keep_all, replay=replay,
                on_step=on_step)
            maps = denoise.context_map
        sampled = time.perf_counter()
        seeds = [[(layer_seeds or {}).get(row, seed) + s for row in range(shape[0])] for s in range(len(stacks))]
        result = self.finish(
            latents, trajectory if harmonization is None else trajectory.between(harmonization, self.schedule), embeddings, stacks,
            size=(width, height), seeds=seeds, context_maps=maps, sampling=sampling, stepper=stepper, views=views,
            harmonize=harmonization is not None, additions=shown_additions(additions or {}, [shape[0] - 1], shape[0]),
            controls=lone_row_controls(fitted, shape[0]), on_step=on_step)
        timings = {"encode": encoded - started, "sample": sampled - encoded, **result.timings}
        return replace(result, timings=timings, trajectory=trajectory)

    def finish(
        self, latents: Tensor, trajectory: Trajectory, embeddings: Sequence[LayeredEmbedding],
        stacks: Sequence[LayerPrompts], *, size: tuple[int, int], seeds: Sequence[Sequence[int | None]],
        context_maps: Tensor | None, sampling: SamplingConfig, stepper: Stepper, views: int, harmonize: bool,
        additions: Additions | None = None, controls: Sequence[LayerControl] = (), on_step: OnStep | None = None,
    ) -> LayeredResult:
        """Sampled latents (s, rows, 4, h, w) to a result: decode, harmonise if asked, crop to ``size`` (width, height).

        ``seeds`` are of every stack's rows, as the layers note them; ``additions`` and ``controls`` are those of the
        harmonisation's one row.
        """
        started, (width, height) = time.perf_counter(), size
        pictures, colors, alphas = self.decode(latents, views=views)
        decoded = time.perf_counter()
        crop = (..., slice(0, height), slice(0, width))
        harmonized = None
        if harmonize:
            harmonized = self.harmonize(
                trajectory, alphas, embeddings, stacks, sampling, stepper, on_step, additions=additions,
                controls=controls)[crop]
        return LayeredResult(
            stacks=tuple(_stack(stacks[s], colors[s][crop], alphas[s][crop], pictures[s][crop], seeds[s])
                         for s in range(len(stacks))),
            latents=latents, global_picture=pictures[:, -1][crop].cpu(), harmonized=harmonized,
            context_maps=None if context_maps is None else context_maps.cpu(),
            timings={"decode": decoded - started, "harmonize": time.perf_counter() - decoded}, trajectory=trajectory)

    @property
    def default_size(self) -> tuple[int, int]:
        side = int(self.unet.config["sample_size"]) * self.vae_scale
        return side, side

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """(height, width) of the latent: any size works, padded to whole cells of the UNet's deepest stage."""
        check_size(width, height)
        step = self.vae_scale * 2 ** (len(self.unet.config["block_out_channels"]) - 1)
        return -(-height // step) * step // self.vae_scale, -(-width // step) * step // self.vae_scale

    def fit_controls(self, controls: Sequence[LayerControl], rows: int, size: tuple[int, int]) -> list[LayerControl]:
        """Hints on the latents of pictures of ``size`` (width, height), in stacks of so many rows; raises as `controls.fit_controls`."""
        return fit_controls(controls, self.unet, rows, size, self.grid(*size), self.vae_scale)

    def steer(
        self, steering: Mapping[int, ContextSteering], picture: tuple[int, int], size: tuple[int, int]
    ) -> dict[int, ContextSteering]:
        """Masks over a picture (width, height), which is sampled or encoded at ``size``, as masks over its latents."""
        rows, columns = (side * self.vae_scale for side in self.grid(*size))
        return {layer: replace(one, mask=one.mask.to(self.device))
                for layer, one in steer_latents(steering, picture, size, (columns, rows)).items()}

    def encode(self, stacks: Sequence[LayerPrompts], additions: Sequence[Additions] = ()) -> list[LayeredEmbedding]:
        """Embeddings of the pictures of one batch, which must have equally many layers (InputError); see `encode_stacks`."""
        assign = None if self.adapter is None else self.adapter.layer_assign
        counts = {len(p.foregrounds) for p in stacks}
        if not counts:
            raise InputError("got no prompts; give one LayerPrompts per picture")
        if len(counts) != 1:
            raise InputError(f"got pictures of {sorted(counts)} foregrounds in one batch; give pictures of one count")
        return encode_stacks(stacks, self.text_encoders, assign, additions=additions)

    def negative(self, stacks: Sequence[LayerPrompts], rows: int, length: int) -> TextRows:
        """What the unconditional half is told, ((stacks rows)) rows of embeddings of this length."""
        return TextRows.joined([
            encode_negative(p.negative, self.text_encoders, rows=rows, length=length) for p in stacks])

    def predict(
        self, latents: Tensor, timestep: int | Tensor, text: TextRows, *, controls: Sequence[LayerControl] = (), rows: int = 1,
        guidance: Sequence[float] = (1.0,),
    ) -> Tensor:
        """The UNet's output for latents (n, 4, h, w), in its dtype; ``controls``, fitted, are of stacks of so many ``rows``.

        ``guidance`` has the scale of each row of a stack, for a UNet that is told it.

        Where texts have pooled vectors, each row is told with its own what SDXL knows of a picture: its size, whole and
        not cropped (Podell et al. 2023, Sec. 2.2).
        """
        unet, latents, added = cast(Any, self.unet), latents.to(self.unet.dtype), None
        if text.pooled is not None:
            height, width = (side * self.vae_scale for side in latents.shape[-2:])
            # fp32: bf16 has no 1001, and the UNet converts what it makes of them
            sizes = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=latents.device)
            added = {"text_embeds": text.pooled, "time_ids": sizes.expand(len(latents), -1)}
        told = None
        if self.has_distilled_guidance:
            scales = torch.tensor(guidance, device=latents.device).repeat(len(latents) // len(guidance))
            told = guidance_embedding(scales, unet.config.time_cond_proj_dim).to(latents)
        down, middle = control_residuals(controls, latents, timestep, text.embeddings, added, rows) or (None, None)
        return cast(Tensor, unet(
            latents, timestep, text.embeddings, timestep_cond=told, added_cond_kwargs=added, down_block_additional_residuals=down,
            mid_block_additional_residual=middle).sample)

    def decode(self, latents: Tensor, *, views: int = 8) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (s, rows, 4, h, w) -> pictures (s, rows, 3, H, W), and of the foregrounds colours (s, fg, 3, H, W)
        and alphas (s, fg, 1, H, W), all in [0,1]. H, W are those of the latents, not yet cropped."""
        pictures = torch.stack([self.decode_pictures(stack) for stack in latents])
        flat = zip(pictures[:, 1:-1].flatten(0, 1), latents[:, 1:-1].flatten(0, 1) / self._scaling, strict=True)
        rgba = torch.cat([self.decoder.decode(p[None], z[None], views=views, tiling=self.tiling).float() for p, z in flat])
        rgba = rearrange(rgba, "(stack fg) c h w -> stack fg c h w", stack=len(latents))
        return pictures, *clean_layer(rgba[:, :, :3], rgba[:, :, 3:])

    @property
    def _scaling(self) -> float:
        return float(self.vae.config["scaling_factor"])

    def decode_pictures(self, latents: Tensor) -> Tensor:
        """Latents (n, 4, h, w) -> pictures (n, 3, H, W) in [0,1], fp32."""
        # One at a time: decoding sets the peak of memory.
        vae, scaled = cast(Any, self.vae), latents.to(self.vae.dtype) / self._scaling
        size = (latents.shape[-2] * self.vae_scale, latents.shape[-1] * self.vae_scale)
        with vae_in_tiles(vae, size, self.vae_scale, self.tiling):
            decoded = torch.cat([cast(Tensor, vae.decode(latent[None]).sample) for latent in scaled])
        return (decoded.float() / 2 + 0.5).clamp(0, 1)

    def encode_pictures(self, pictures: Tensor, foregrounds: Mapping[int, Tensor] | None = None) -> Tensor:
        """Pictures (n, 3, H, W) in [0,1] -> scaled latents (n, 4, h, w), fp32: the mean of the VAE's posterior.

        As in ``generate``, latents cover whole cells of the UNet's deepest stage: a picture of another size is
        continued by its right and lower edges. ``foregrounds`` has the straight RGBA (4, H, W) of pictures that show a
        foreground on gray, by index: a transparent encoder moves their latents off the mean. Raises InputError for
        sizes that ``generate`` would not make.
        """
        height, width = pictures.shape[-2:]
        rows, columns = (side * self.vae_scale for side in self.grid(width, height))
        edges = (0, columns - width, 0, rows - height)
        padded = functional.pad(pictures, edges, mode="replicate") * 2 - 1
        vae = cast(Any, self.vae)
        with vae_in_tiles(vae, (rows, columns), self.vae_scale, self.tiling):
            found = [vae.encode(one[None].to(self.device, vae.dtype)).latent_dist for one in padded]
        clean = torch.cat([cast(Tensor, one.mean) for one in found]).float()
        if self.encoder is not None:
            for row, rgba in (foregrounds or {}).items():
                offset = self.encoder(functional.pad(rgba[None].to(self.device), edges, mode="replicate"))
                clean[row] += (found[row].std.float() * offset)[0]
        return clean * self._scaling

    def fingerprint(self) -> str:
        """Short digest of the UNet and the VAE: latents of one fingerprint belong to one model, in fp32 or fp16."""
        digest = hashlib.blake2b(digest_size=8)
        for part in (self.unet, self.vae):
            for name, values in cast("dict[str, Tensor]", cast(Any, part).state_dict()).items():
                some = values.flatten()[:: max(1, values.numel() // 16)]
                digest.update(f"{name} {tuple(values.shape)}".encode() + some.to("cpu", torch.float16).numpy().tobytes())
        return digest.hexdigest()

    def harmonize(
        self, trajectory: Trajectory, alphas: Tensor, embeddings: Sequence[LayeredEmbedding],
        stacks: Sequence[LayerPrompts], sampling: SamplingConfig, stepper: Stepper, on_step: OnStep | None = None,
        *, additions: Additions | None = None, controls: Sequence[LayerControl] = (),
    ) -> Tensor:
        """IRH from kept latents: pictures (s, 3, H, W). The one row is guided by the global embedding, by the base's own
        weights: an adapter's are trained on rows that see each other (docs/deviations.md). ``additions`` and ``controls``
        are this row's."""
        size = next(iter(trajectory.latents.values())).shape[-2:]
        small = resize_alpha(alphas, (size[0], size[1]))
        with layer_attention(
                self.unet, None, LayerAttentionConfig(caca=False, lssa=False), additions=additions) as run:
            denoise = Guided(self, run, embeddings, stacks, sampling, global_row=True, controls=controls)
            picture = harmonize(denoise, trajectory, small, stepper, on_step=on_step)
        return self.decode_pictures(picture).cpu()


def _unheard(sampling: SamplingConfig, stacks: Sequence[LayerPrompts]) -> str:
    """What a UNet with distilled guidance does not heed, or hardly; empty if it heeds all."""
    unheard = [name for name, given in (
        ("the negative prompt", any(one.negative for one in stacks)),
        ("the guidance interval", sampling.guidance_interval is not None)) if given]
    weak = ["is told a guidance of 1, which is next to none (about 8 is usual)"] if sampling.guidance == 1 else []
    parts = [*([f"does not heed {' and '.join(unheard)}"] if unheard else []), *weak]
    return f"this UNet has its guidance distilled into it: it {', and '.join(parts)}" if parts else ""


def _stack(
    prompts: LayerPrompts, colors: Tensor, alphas: Tensor, pictures: Tensor, seeds: Sequence[int | None]
) -> LayerStack:
    """One picture's layers from what was decoded: foregrounds (fg, ...), pictures and seeds of all rows."""
    height, width = pictures.shape[-2:]
    background = Layer(name="background", prompt=prompts.background, color=pictures[0].cpu(),
                       alpha=torch.ones(1, height, width), seed=seeds[0])
    foregrounds = [
        Layer(name=text.strip() or f"layer {row}", prompt=text, color=color.cpu(), alpha=alpha.cpu(), seed=seeds[row])
        for row, (text, color, alpha) in enumerate(zip(prompts.foregrounds, colors, alphas, strict=True), 1)]
    return LayerStack(width=width, height=height, layers=(background, *foregrounds), global_prompt=prompts.whole)

