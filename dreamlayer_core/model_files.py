"""Where models are: the embedded one, a folder in diffusers' layout, or a checkpoint in one file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from .base_options import BaseOptions
from .errors import WeightsError
from .model_registry import require_model
from .schedule import NoiseSchedule, PredictionType

__all__ = ["ADAPTER", "EMBEDDED", "LAYER_DECODER", "base_family", "family_name", "find_layer_decoder", "find_model", "read_config",
           "read_schedule", "require_base_folder", "require_model_folder"]

EMBEDDED = Path(__file__).parent / "embedded"
ADAPTER = "adapter.safetensors"
LAYER_DECODER = "layer_decoder.safetensors"
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
# Base family -> LayerDiffuse's decoder for its latents: SD2's are SD1's.
_PUBLISHED_DECODERS = {"sd15": "sd15-decoder", "sd21": "sd15-decoder", "sdxl": "sdxl-decoder"}
# A folder in it -> what the model is that cannot be used.
_OTHERS = {
    "transformer": "a model with a transformer in place of a UNet, such as SD3 or Flux",
    "prior": "a model in two stages, such as Stable Cascade",
    "controlnet": "a pipeline with a ControlNet",
}


def find_model(model: Path) -> Path:
    """``model``, or the embedded model's folder for the name ``embedded``. WeightsError where there is nothing."""
    if str(model) == "embedded":
        model = EMBEDDED
    if not model.exists():
        raise WeightsError(
            f"{model}: no such model folder; give a folder in diffusers' layout, a checkpoint in one file, or 'embedded'")
    return model


def find_layer_decoder(model: Path, options: BaseOptions, family: str | None) -> Path:
    """The file of the transparent decoder: the one given, the model folder's own, or LayerDiffuse's for the base family
    where it was fetched. WeightsError where there is none."""
    own = options.layer_decoder or model / LAYER_DECODER
    if options.layer_decoder is not None or own.is_file():
        return own
    try:
        return require_model(_PUBLISHED_DECODERS[family or ""])
    except (WeightsError, KeyError) as error:
        holds = "a checkpoint in one file has no transparent decoder" if model.is_file() else f"no {LAYER_DECODER} in it"
        also = str(error) if isinstance(error, WeightsError) else "dreamlayer models list shows LayerDiffuse's"
        raise WeightsError(f"{model}: {holds}; give one with --layer-decoder ({also})") from error


def require_base_folder(folder: Path, options: BaseOptions) -> Path:
    """``folder``, if it is one of Stable Diffusion; a tokenizer and a VAE may be elsewhere. WeightsError if not, saying why."""
    folder = find_model(folder)
    if found := next((part for part in _OTHERS if (folder / part).is_dir()), None):
        raise WeightsError(f"{folder}: {_OTHERS[found]}; give a folder of SD1, SD2 or SDXL")
    if (folder / "text_encoder_2").is_dir() and not (folder / "text_encoder").is_dir():
        raise WeightsError(f"{folder}: SDXL's refiner, which goes on with a nearly finished picture; give SDXL's base model")
    elsewhere = ("tokenizer", *(["vae"] if options.vae else []))
    _require(folder, [part for part in _PARTS if part not in elsewhere and not (folder / part).is_dir()])
    return folder


def require_model_folder(folder: Path) -> Path:
    """A whole model folder: ``folder``, or the embedded model's for the name ``embedded``. WeightsError naming what is missing."""
    folder = find_model(folder)
    missing = [part for part in _PARTS if not (folder / part).is_dir()]
    _require(folder, missing + ([] if (folder / LAYER_DECODER).is_file() else [LAYER_DECODER]))
    return folder


def _require(folder: Path, missing: list[str]) -> None:
    if missing:
        raise WeightsError(
            f"{folder}: no {', '.join(missing)} in it; a model folder holds {', '.join(_PARTS)} and {LAYER_DECODER}")


def read_schedule(folder: Path, given: PredictionType | None = None) -> NoiseSchedule:
    """The noise schedule of a model folder, with the ``given`` prediction if any. WeightsError where it is not of Stable
    Diffusion's kind."""
    path = folder / "scheduler" / "scheduler_config.json"
    config = read_config(path)
    kind, prediction = config.get("beta_schedule"), given or config.get("prediction_type", "epsilon")
    if kind != "scaled_linear" or prediction not in ("epsilon", "v_prediction"):
        raise WeightsError(
            f"{path}: beta_schedule {kind!r} with prediction_type {prediction!r}; expected 'scaled_linear' with "
            "'epsilon' or 'v_prediction', as in Stable Diffusion")
    zero_snr = bool(config.get("rescale_betas_zero_snr"))
    if config.get("trained_betas") or (zero_snr and prediction == "epsilon"):
        raise WeightsError(
            f"{path}: trained betas, or rescaled ones of a model that predicts noise; expected those of Stable Diffusion")
    start, end, steps = (_number(path, config, name) for name in ("beta_start", "beta_end", "num_train_timesteps"))
    if not (0 < start <= end < 1 and steps >= 1 and steps == int(steps)):
        raise WeightsError(f"{path}: betas {start} to {end} in {steps} steps; expected 0 < start <= end < 1")
    return NoiseSchedule(beta_start=start, beta_end=end, train_steps=int(steps), prediction_type=prediction, zero_snr=zero_snr)


# (width of the text embeddings, widths of the UNet's stages) -> the name under which adapters are made for it.
_FAMILIES = {
    "768 [320, 640, 1280, 1280]": "sd15",
    "1024 [320, 640, 1280, 1280]": "sd21",
    "2048 [320, 640, 1280]": "sdxl",
    "128 [64, 128, 160, 160]": "dreamlayer-embedded",
}


def base_family(folder: Path) -> str | None:
    """The base family of a model folder, by the shape of its UNet; None for a shape without a name. WeightsError."""
    config = read_config(folder / "unet" / "config.json")
    return family_name(config.get("cross_attention_dim"), config.get("block_out_channels"))


def family_name(text_width: object, stage_widths: object) -> str | None:
    """The name of the base family with text embeddings and UNet stages of these widths; None for one without a name."""
    return _FAMILIES.get(f"{text_width} {stage_widths}")


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises WeightsError."""
    try:
        config: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: cannot be read ({error}); fetch or export the model again") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: not a JSON object; fetch or export the model again")
    return cast("dict[str, Any]", config)


def _number(path: Path, config: dict[str, Any], name: str) -> float:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WeightsError(f"{path}: {name} is {value!r}, expected a number; fetch or export the model again")
    return float(value)
