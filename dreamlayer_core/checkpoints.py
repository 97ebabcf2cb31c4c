"""A whole checkpoint of SD1, SD2 or SDXL in one file: what it is, its noise schedule, and its models."""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from .base_options import BaseOptions
from .checkpoint_parts import SD1, SD2, SDXL, UNET_PREFIX, VAE_PREFIX, Family, make_text_model, make_unet, make_vae
from .errors import WeightsError
from .file_kinds import FileKind, expect, identify, recognise, refusal
from .loading import BaseModels, check_text_to_image
from .safetensors_files import about, read_tensors
from .schedule import NoiseSchedule, PredictionType
from .text_encoders import ClipEncoder, TextEncoders
from .tokenizer_files import PADDED_WITH_ZERO, cached_tokenizer, clip_tokens, load_tokenizer

__all__ = ["Checkpoint", "find_family", "find_schedule", "read_vae"]

_PICKLED = ("pickle", "zip")
# What torch's reader raises for damaged files.
_UNPICKLING = (OSError, RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, EOFError, OverflowError,
               struct.error, pickle.UnpicklingError)
_V_SPREAD = 0.09  # ComfyUI's mark of SD2's 768-v: this norm's bias varies more than in the base model
_V_MARK = UNET_PREFIX + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_V_SIDE = 96  # cells of the pictures of SD2's v-prediction model


class Checkpoint:
    """A file that has been looked at. Raises WeightsError for what is no text-to-image checkpoint of SD1, SD2 or SDXL."""

    def __init__(self, path: Path, options: BaseOptions) -> None:
        self.path, self._options = path, options
        self._tensors, metadata, kind = _read(path, options.allow_pickle)
        with about(path):
            self._structure = find_family(self._tensors)
            self.schedule = find_schedule(self._tensors, metadata, self._structure, options.prediction)
            if options.vae is None and not any(name.startswith(VAE_PREFIX) for name in self._tensors):
                raise WeightsError("a checkpoint without its VAE; give one with --vae, a file or a folder")
        self.family: str | None = kind.family

    def load(self, dtype: torch.dtype, device: str | torch.device) -> BaseModels:
        """Raises WeightsError naming the tensor that is missing, unexpected or misshapen; also where no tokenizer is at hand."""
        family, given = self._structure, self._options
        with about(self.path):
            texts: list[Any] = [make_text_model(self._tensors, part, dtype) for part in family.texts]
        tokenizer = load_tokenizer(given.tokenizer or cached_tokenizer(), min(int(text.config.vocab_size) for text in texts))
        encoders = _encoders(tokenizer, [text.to(device) for text in texts], family)
        side = _V_SIDE if family is SD2 and self.schedule.prediction_type == "v_prediction" else family.latent_side
        with about(self.path):
            unet: Any = make_unet(self._tensors, family, dtype, side)
            own: Any = None if given.vae else make_vae(self._tensors, family, dtype)
        vae = read_vae(given.vae, family, dtype) if given.vae else own
        with about(self.path):
            check_text_to_image(unet.config, int(vae.config.latent_channels), encoders.width)
        return BaseModels(unet=unet.to(device), vae=vae.to(device), text_encoders=encoders, tokenizer=tokenizer)


def _encoders(tokenizer: CLIPTokenizer, models: Sequence[Any], family: Family) -> TextEncoders:
    """The text side as the family reads it: OpenCLIP's windows are filled with zeros, CLIP's with [EOS]."""
    window, ends = int(models[0].config.max_position_embeddings), str(cast(Any, tokenizer).eos_token)
    tokens = [clip_tokens(tokenizer, window, PADDED_WITH_ZERO if part.open_clip else ends) for part in family.texts]
    return TextEncoders(tokens[0], [
        ClipEncoder(model, one.pad_token_id, penultimate=part.penultimate, pooled=part.pooled)
        for model, one, part in zip(models, tokens, family.texts, strict=True)])


def read_vae(path: Path, family: Family, dtype: torch.dtype) -> Any:
    """A VAE in a file of its own, in either layout, or in its folder. Raises WeightsError."""
    path = path / "diffusion_pytorch_model.safetensors" if path.is_dir() else path
    expect(path, "vae")
    with about(path):
        return make_vae(read_tensors(path)[0], family, dtype)


def find_family(tensors: Mapping[str, Tensor]) -> Family:
    """The structure of a checkpoint, by the names of its tensors. WeightsError with the reason for what is not for layers."""
    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in tensors)

    sized, first = has(f"{UNET_PREFIX}label_emb."), tensors.get(f"{UNET_PREFIX}input_blocks.0.0.weight")
    if first is None:
        raise WeightsError(f"no {UNET_PREFIX}input_blocks.0.0.weight in it; give a checkpoint of SD1, SD2 or SDXL")
    if sized and not has("conditioner.embedders.1."):
        raise WeightsError("SDXL's refiner, or a model that is told more than text; it goes on with a nearly finished picture and "
                           "makes none of its own: give SDXL's base checkpoint")
    if "edm_mean" in tensors or "edm_vpred.sigma_max" in tensors:
        raise WeightsError("a model of EDM's noise levels (such as Playground 2.5); give one of Stable Diffusion's schedule")
    if sized and not has(f"{UNET_PREFIX}input_blocks.8.1.transformer_blocks.{SDXL.depths[-1] - 1}."):
        raise WeightsError("an SDXL of fewer blocks (such as SSD-1B, Vega or KOALA), or an incomplete one; give its folder in diffusers' "
                           "layout, or a checkpoint of the whole SDXL")
    if sized:
        return SDXL
    return SD1 if has(SD1.texts[0].prefixes[0]) else SD2


def find_schedule(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], family: Family, prediction: PredictionType | None = None
) -> NoiseSchedule:
    """The noise schedule, with the prediction that is given, or marked in the file, or of which SD2's weights show signs."""
    told = metadata.get("modelspec.prediction_type", "").lower()
    if prediction is None and ("v_pred" in tensors or told in ("v", "v_prediction")):
        prediction = "v_prediction"
    if prediction is None and family is SD2 and told not in ("epsilon", "eps") and (mark := tensors.get(_V_MARK)) is not None:
        prediction = "v_prediction" if float(mark.float().std(unbiased=False)) > _V_SPREAD else None
    return NoiseSchedule(prediction_type=prediction or "epsilon", zero_snr="ztsnr" in tensors)


def _read(path: Path, allow_pickle: bool) -> tuple[dict[str, Tensor], dict[str, str], FileKind]:
    kind, pickled = identify(path), dict[str, Tensor]()
    if kind.name in _PICKLED:
        if not allow_pickle:
            raise WeightsError(f"{path}: a pickled checkpoint; give it as safetensors, or open it for its tensors alone with --allow-pickle")
        pickled = _unpickled(path)
        kind = recognise({name: tuple(tensor.shape) for name, tensor in pickled.items()}, {})
    if kind.name == "incomplete-checkpoint":  # its VAE may be given apart
        kind = replace(kind, name="checkpoint")
    if kind.name != "checkpoint" or kind.is_quantized:
        raise WeightsError(f"{path}: {refusal(kind, 'checkpoint')}")
    return (pickled, {}, kind) if pickled else (*read_tensors(path), kind)


def _unpickled(path: Path) -> dict[str, Tensor]:
    """A pickled file's tensors: torch's own reader, which runs no code of the file."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except _UNPICKLING as error:
        # what torch says before advises to run the file's code
        refused = re.search(r"WeightsUnpickler error: (.+)", str(error))
        reason = refused[1] if refused else (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path}: holds more than tensors, or is damaged ({reason}); give it as safetensors") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict):
        raise WeightsError(f"{path}: a pickled {type(content).__name__}, expected tensors by name; give a safetensors file")
    return {str(name): value for name, value in cast("dict[Any, Any]", content).items() if isinstance(value, Tensor)}
