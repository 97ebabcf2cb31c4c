"""The four stages of the embedded model's recipe, one function each.

Each reads the model folder of the stages before it and completes that folder, so that the last one's is the model.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL

from ..adapter import LayerAdapter
from ..diffusers_files import load_base
from ..errors import InputError
from ..loading import damage
from ..model_files import LAYER_DECODER
from ..pipeline import DreamLayer
from ..weights import load_adapter, load_transparent_decoder
from .base import BaseStage
from .data import SceneCache
from .decoder import DecoderStage
from .latents import LatentCache, encode_scenes
from .layered import AdapterStage, embedded_adapter_settings, new_adapter
from .loop import LoopConfig, Stage, processes, train
from .options import TrainOptions
from .tokens import make_tokenizer
from .vae import VaeStage

__all__ = ["run_adapter", "run_base", "run_decoder", "run_vae"]


def _config(options: TrainOptions, *, steps: int, batch: int, learning_rate: float, ema: float = 0.999, muon: bool = False) -> LoopConfig:
    return LoopConfig(
        out=options.out, steps=options.steps or steps, batch=options.batch or batch, ema=ema,
        learning_rate=options.learning_rate or learning_rate, minutes=options.minutes, resume=options.resume,
        seed=options.seed, precision=options.precision, sample_every=500, save_every=250, muon=muon)


def _model(options: TrainOptions) -> Path:
    if options.model is None:
        raise InputError("this stage goes on from a model folder; give the export folder of the stage before with --model")
    return options.model


def _load_vae(model: Path) -> AutoencoderKL:
    folder = model / "vae"
    if not folder.is_dir():  # diffusers would take it for the name of a model to fetch
        raise InputError(f"got --model {model}, which has no folder vae; give the export folder of an earlier stage")
    with damage(folder):
        vae = AutoencoderKL.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    return cast(Any, vae).eval().requires_grad_(False)


def _scenes(options: TrainOptions) -> SceneCache:
    """The scenes. What is random from here on, a stage's first weights above all, follows the run's seed."""
    torch.manual_seed(options.seed)
    with processes().main_process_first():  # it unpacks once, and the other processes read
        return SceneCache(options.data)


def _latents(cache: SceneCache, vae: AutoencoderKL, options: TrainOptions) -> LatentCache:
    folder = options.data / f"latents-{len(cache)}"
    with processes().main_process_first():
        encode_scenes(cache, vae, folder)
        return LatentCache(folder, cache)


def _finish(stage: Stage, config: LoopConfig, model: Path | None) -> None:
    train(stage, config)
    if model is not None and processes().is_main_process:
        # Parts that this stage does not make come along, so that export/ is a model folder of its own.
        for part in model.iterdir():
            target = config.out / "export" / part.name
            if not target.exists():
                (shutil.copytree if part.is_dir() else shutil.copy)(part, target)


def run_vae(options: TrainOptions) -> None:
    """Stage 1; goes on from the VAE of the model folder where one is given."""
    vae = None if options.model is None else _load_vae(options.model).requires_grad_(True).train()
    stage = VaeStage(_scenes(options), vae)
    _finish(stage, _config(options, steps=4000, batch=8, learning_rate=1.2e-3, ema=0.998), options.model)


def run_base(options: TrainOptions) -> None:
    """Stage 2: tokenizer, text encoder and UNet; goes on from those of the model folder where it has them."""
    model, cache = _model(options), _scenes(options)
    vae = _load_vae(model)
    if (model / "unet").is_dir():
        parts = load_base(model, torch.float32, "cpu")
        stage = BaseStage(_latents(cache, vae, options), vae, parts.tokenizer, parts.text_encoders.models[0], parts.unet,
                          options.compiled, options.freeze_text)
    else:
        with processes().main_process_first():
            tokenizer = make_tokenizer(cache, options.out / "tokenizer")
        stage = BaseStage(_latents(cache, vae, options), vae, tokenizer, compiled=options.compiled)
    _finish(stage, _config(options, steps=20_000, batch=32, learning_rate=6e-4, muon=True), model)


def run_decoder(options: TrainOptions) -> None:
    """Stage 3; goes on from the model folder's decoder where it has one."""
    model, cache = _model(options), _scenes(options)
    vae, earlier = _load_vae(model), model / LAYER_DECODER
    decoder = load_transparent_decoder(earlier).float().train() if earlier.is_file() else None
    stage = DecoderStage(_latents(cache, vae, options), vae, decoder)
    _finish(stage, _config(options, steps=4000, batch=8, learning_rate=1e-3), model)


def run_adapter(options: TrainOptions, foregrounds: tuple[int, ...] = (1,)) -> None:
    """Stage 4; starts from ``adapter.safetensors`` of the model folder where there is one (three and four layers after
    two, as the paper does)."""
    model_folder, cache = _model(options), _scenes(options)
    model = DreamLayer.from_files(model_folder, use_adapter=False, device=cast(torch.device, processes().device))
    earlier = model_folder / "adapter.safetensors"
    if earlier.is_file():
        adapter = LayerAdapter.from_weights(load_adapter(earlier))
    else:
        adapter = new_adapter(model, embedded_adapter_settings(model))
    stage = AdapterStage(_latents(cache, model.vae, options), model, adapter, foregrounds)
    _finish(stage, _config(options, steps=6000, batch=24, learning_rate=1e-3, muon=True), model_folder)
