"""Stage 2: text-to-image. Text encoder and UNet together, on whole scenes, backgrounds, and objects on gray.

The layers of the training-free form need the last two: LayerDiffuse's weights give them to Stable Diffusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ..losses import noise_loss
from ..prompts import LayerPrompts, encode_stacks
from ..schedule import NoiseSchedule
from ..text_encoders import ClipEncoder, ClipTokens, TextEncoders, token_windows
from .latents import LatentCache
from .sheets import picture_sheet

__all__ = ["SCHEDULE", "BaseStage", "compile_blocks", "make_text_encoder", "make_unet"]

SCHEDULE = NoiseSchedule(prediction_type="v_prediction")
_GRAY_WORDS = ("", "", "", " on plain gray", ", isolated on gray", " on gray")
_SHARES = {"whole": 0.25, "layers": 0.45, "object": 0.15}  # the rest are backgrounds; whole pictures are what is hard


def make_unet() -> UNet2DConditionModel:
    """The embedded UNet, untrained: four stages, cross-attention in three of them."""
    widths = (64, 128, 160, 160)
    return cast(Any, UNet2DConditionModel)(
        sample_size=32,
        block_out_channels=widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
        up_block_types=(*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=tuple(width // 32 for width in widths),  # in fact the number of heads
    )


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The embedded text encoder, untrained: four layers of width 128."""
    return CLIPTextModel(cast(Any, CLIPTextConfig)(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4,
        projection_dim=128, max_position_embeddings=77,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))


def compile_blocks(unet: UNet2DConditionModel) -> None:
    """torch.compile the residual and the attention blocks, in place: the names of the parameters stay.

    Not the whole UNet: torch 2.13's CPU backward of the nearest-neighbour upsampling between them, compiled in bf16, is
    zero.
    """
    torch._dynamo.config.recompile_limit = 64  # pyright: ignore  # one of each size; beyond the limit blocks run eagerly
    for module in unet.modules():
        if isinstance(module, (ResnetBlock2D, Transformer2DModel)):
            cast(Any, module).compile(dynamic=False)


@dataclass
class _Batch:
    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: list[str | LayerPrompts]

    def to(self, device: torch.device) -> _Batch:
        return _Batch(self.latents.to(device), self.noise.to(device), self.timesteps.to(device), self.prompts)


class _BaseLoss(nn.Module):
    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, tokens: ClipTokens) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet
        # not a submodule: its weights are the text encoder's
        self._encoders = (TextEncoders(tokens, [ClipEncoder(text_encoder, tokens.pad_token_id)]),)

    def encode(self, prompts: Sequence[str | LayerPrompts]) -> Tensor:
        """(b, S, D): a text alone (its first window), or the global row of layers' prompts."""
        texts = [p for p in prompts if isinstance(p, str)]
        stacks = [p for p in prompts if isinstance(p, LayerPrompts)]
        (encoders,) = self._encoders
        windows = torch.tensor([token_windows(encoders.ids(text), encoders.tokens)[0] for text in texts])
        alone = iter(encoders.encoders[0](windows)[0] if texts else ())
        layered = iter(encode_stacks(stacks, encoders))
        rows = [next(alone) if isinstance(p, str) else next(layered).embeddings[-1] for p in prompts]
        return torch.stack(rows).float()

    def forward(self, batch: _Batch) -> dict[str, Tensor]:
        noisy = SCHEDULE.add_noise(batch.latents, batch.noise, batch.timesteps)
        target = SCHEDULE.target(batch.latents, batch.noise, batch.timesteps)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        output = self.unet(noisy, batch.timesteps, self.encode(batch.prompts)).sample.float()
        return {"loss": noise_loss(output, target)}


class BaseStage:
    """``stack_text`` draws the wording: a sentence, or the layers' prompts joined as in the global embedding."""

    def __init__(
        self, cache: LatentCache, vae: AutoencoderKL, tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel | None = None, unet: UNet2DConditionModel | None = None, compiled: bool = False,
        freeze_text: bool = False,
    ) -> None:
        self.cache, self.vae, self.tokenizer = cache, vae, tokenizer
        trained = cast(UNet2DConditionModel, cast(Any, unet or make_unet()).requires_grad_(True).to(
            memory_format=torch.channels_last))
        text_encoder = (text_encoder or make_text_encoder(tokenizer)).requires_grad_(not freeze_text)
        if trained.device.type == "cpu":  # there, the fused kernel's backward takes thrice as long
            text_encoder.set_attn_implementation("eager")
            trained.set_attn_processor(AttnProcessor())
        if compiled:
            compile_blocks(trained)
        self.module = _BaseLoss(text_encoder, trained, ClipTokens(tokenizer))

    def _example(self, rng: np.random.Generator) -> tuple[np.ndarray, str | LayerPrompts]:
        scenes, cache = self.cache.scenes, self.cache
        # the scene of an object drawn at random: a picture of four has four things to get right
        index, draw = int(np.searchsorted(scenes.first, rng.integers(scenes.first[-1]), "right")) - 1, rng.random()
        words = scenes.captions(index, rng)
        whole, layers, single = np.cumsum(list(_SHARES.values()))
        if draw < whole:
            prompt: str | LayerPrompts
            latents, prompt = cache.pictures[index], words.whole
        elif draw < layers:
            latents, prompt = cache.pictures[index], LayerPrompts(words.background, words.foregrounds)
        elif draw < single:
            which = int(rng.integers(len(words.foregrounds)))
            latents = cache.objects[scenes.first[index] + which]
            prompt = words.foregrounds[which] + _GRAY_WORDS[int(rng.integers(len(_GRAY_WORDS)))]
        else:
            latents, prompt = cache.backgrounds[index], words.background
        return latents, prompt if rng.random() > 0.1 else ""  # the unconditional share that guidance needs

    def batch(self, generator: torch.Generator, size: int) -> _Batch:
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        examples = [self._example(rng) for _ in range(size)]
        latents = torch.from_numpy(np.stack([e[0] for e in examples])).float()
        # Stratified timesteps, which steadies a small batch; and more of the noisy ones, where the text decides what
        # the picture is to be: density t^(2/3).
        share = (torch.arange(size) + torch.rand(size, generator=generator)) / size
        timesteps = (share**0.6 * SCHEDULE.train_steps).long()
        return _Batch(latents, torch.randn(latents.shape, generator=generator), timesteps, [e[1] for e in examples])

    def _sample_latents(self, prompts: Sequence[str | LayerPrompts], steps: int = 25, guidance: float = 4.0) -> Tensor:
        latents = torch.randn(len(prompts), *self.cache.pictures.shape[1:], generator=torch.Generator().manual_seed(7))
        latents = latents.to(self.module.unet.device)
        text = self.module.encode([*prompts, *[""] * len(prompts)])
        timesteps = SCHEDULE.timesteps(steps)
        for t, previous in zip(timesteps, [*timesteps[1:], -1], strict=True):
            positive, negative = self.module.unet(torch.cat([latents, latents]), t, text).sample.float().chunk(2)
            latents = SCHEDULE.ddim_step(negative + guidance * (positive - negative), latents, t, previous)
        return latents

    def sample(self, path: Path) -> None:
        texts = ["a red ball and a blue cube on green grass under a blue sky", "a shiny yellow duck on a wooden floor with a green wall",
                 "a white house and a green tree on white snow at sunset", "a calm lake at night with a purple mushroom",
                 "a tiled floor in front of a pink wall", "a sandy beach on a clear day", "an orange car", "a striped cyan vase"]
        joined = LayerPrompts("polished marble with a blue wall", ("a pink gift", "a black mug", "an orange cone"))
        device = self.module.unet.device
        self.vae.to(device)  # pyright: ignore[reportArgumentType]
        # eager: compiling for this one batch size would take minutes
        with torch.compiler.set_stance("force_eager"), torch.autocast(device.type, torch.bfloat16):
            latents = self._sample_latents([*texts, joined, "a red mug"])
            vae = cast(Any, self.vae)
            pictures = vae.decode(latents / vae.config["scaling_factor"]).sample.float()
        pictures = pictures.cpu()
        picture_sheet([(pictures[:5] + 1) / 2, (pictures[5:] + 1) / 2], path, captions=[" | ".join(texts[:4]), " | ".join(texts[4:])], scale=2)

    def export(self, folder: Path) -> None:
        """Write text encoder, tokenizer, UNet and scheduler beside the VAE."""
        self.module.text_encoder.save_pretrained(folder / "text_encoder")
        self.tokenizer.save_pretrained(folder / "tokenizer")
        # CLIP's own two files besides: other programs read only these.
        cast(Any, self.tokenizer).backend_tokenizer.model.save(str(folder / "tokenizer"))
        self.module.unet.save_pretrained(folder / "unet", safe_serialization=True)
        DDIMScheduler(
            beta_start=SCHEDULE.beta_start, beta_end=SCHEDULE.beta_end, beta_schedule="scaled_linear", clip_sample=False,
            set_alpha_to_one=False, steps_offset=1, prediction_type=SCHEDULE.prediction_type,
        ).save_pretrained(folder / "scheduler")
