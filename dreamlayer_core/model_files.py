"""Where models are: the embedded one, or a folder in diffusers' layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from .errors import WeightsError
from .schedule import NoiseSchedule

__all__ = ["ADAPTER", "EMBEDDED", "LAYER_DECODER", "base_family", "family_name", "read_config", "read_schedule", "require_model_folder"]

EMBEDDED = Path(__file__).parent / "embedded"
ADAPTER = "adapter.safetensors"
LAYER_DECODER = "layer_decoder.safetensors"
_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


def require_model_folder(folder: Path) -> Path:
    """``folder``, or the embedded model's for the name ``embedded``. WeightsError naming what is missing."""
    if str(folder) == "embedded":
        folder = EMBEDDED
    if not folder.is_dir():
        raise WeightsError(f"{folder}: no such model folder; give a folder in diffusers' layout, or 'embedded'")
    missing = [part for part in _PARTS if not (folder / part).is_dir()]
    missing += [] if (folder / LAYER_DECODER).is_file() else [LAYER_DECODER]
    if missing:
        raise WeightsError(
            f"{folder}: no {', '.join(missing)} in it; a model folder holds {', '.join(_PARTS)} and {LAYER_DECODER}")
    return folder


def read_schedule(folder: Path) -> NoiseSchedule:
    """The noise schedule of a model folder. WeightsError where it is not of Stable Diffusion's kind."""
    path = folder / "scheduler" / "scheduler_config.json"
    config = read_config(path)
    kind, prediction = config.get("beta_schedule"), config.get("prediction_type", "epsilon")
    if kind != "scaled_linear" or prediction not in ("epsilon", "v_prediction"):
        raise WeightsError(
            f"{path}: beta_schedule {kind!r} with prediction_type {prediction!r}; expected 'scaled_linear' with "
            "'epsilon' or 'v_prediction', as in Stable Diffusion")
    if config.get("trained_betas") or config.get("rescale_betas_zero_snr"):
        raise WeightsError(f"{path}: trained or rescaled betas; expected plain ones, as in Stable Diffusion")
    start, end, steps = (_number(path, config, name) for name in ("beta_start", "beta_end", "num_train_timesteps"))
    if not (0 < start <= end < 1 and steps >= 1 and steps == int(steps)):
        raise WeightsError(f"{path}: betas {start} to {end} in {steps} steps; expected 0 < start <= end < 1")
    return NoiseSchedule(beta_start=start, beta_end=end, train_steps=int(steps), prediction_type=prediction)


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
