"""Loading a ControlNet: a folder in diffusers' layout, or one file in that or the original one. Local files only."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from .controls import check_control
from .errors import WeightsError
from .file_kinds import expect
from .loading import build, damage
from .model_files import read_config
from .safetensors_files import about, read_tensors

__all__ = ["load_controlnet"]

_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")
# What other forms of ControlNet have -> what they are.
_OTHER_FORMS = {
    r"^lora_controlnet$": "a Control-LoRA",
    r"^lllite_": "a ControlNet-LLLite",
    r"task_embedding|^(control_model\.)?transformer_layes\.": "a ControlNet Union, of several kinds of hints",
}


def load_controlnet(path: str | Path, unet: UNet2DConditionModel) -> ControlNetModel:
    """For ``unet``, in its dtype, on its device. WeightsError for what is missing, damaged or of another base."""
    path = Path(path)
    file, folder = path, path.is_dir()
    if folder:
        file = next((path / name for name in _FILES if (path / name).is_file()), path / _FILES[0])
    expect(file, "controlnet")
    tensors = read_tensors(file)[0]
    with about(file):
        _check_form(tensors)
        named = _named(tensors, unet)
        config = _folder_config(path) if folder else _config(named, unet)
        with damage(file):
            model = build(ControlNetModel, config, named, unet.dtype)
        check_control(model, unet)
    return cast(Any, model).to(unet.device)


def _check_form(tensors: Mapping[str, Tensor]) -> None:
    for mark, form in _OTHER_FORMS.items():
        if any(re.search(mark, name) for name in tensors):
            raise WeightsError(f"{form}; give a plain ControlNet for one kind of hint")


def _folder_config(folder: Path) -> dict[str, Any]:
    return {name: value for name, value in read_config(folder / "config.json").items() if not name.startswith("_")}


def _named(tensors: Mapping[str, Tensor], unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Under diffusers' names. WeightsError for another width of text embeddings, before any name is missing."""
    text = next((tensor.shape[-1] for name, tensor in tensors.items() if name.endswith(".attn2.to_k.weight")), None)
    if text != (wanted := cast(Any, unet.config).cross_attention_dim):
        raise WeightsError(
            f"a ControlNet for text embeddings of {text} channels, but this UNet takes {wanted}; give one made for this base "
            "model")
    layers = int(cast(Any, unet.config).layers_per_block)
    try:
        converted = convert_controlnet_checkpoint(dict(tensors), {"layers_per_block": layers})
    except KeyError as error:
        raise WeightsError(f"missing {error.args[0]}; the file is incomplete or of another kind") from error
    return {name: tensor for name, tensor in cast("dict[str, Tensor | None]", converted).items() if tensor is not None}


def _config(tensors: Mapping[str, Tensor], unet: UNet2DConditionModel) -> dict[str, Any]:
    """A lone file has none: it is the UNet's own, with the widths that the hint goes through."""
    known = inspect.signature(ControlNetModel).parameters
    own = {name: value for name, value in dict(cast(Any, unet.config)).items() if name in known}
    prefix = "controlnet_cond_embedding."
    first = tensors.get(f"{prefix}conv_in.weight")
    if first is None:
        raise WeightsError(f"missing {prefix}conv_in.weight; the file is incomplete or of another kind")
    blocks = sum(re.fullmatch(rf"{re.escape(prefix)}blocks\.\d+\.weight", name) is not None for name in tensors)
    steps = [tensors.get(f"{prefix}blocks.{block}.weight", first) for block in range(1, blocks, 2)]
    return {**own, "conditioning_channels": first.shape[1],
            "conditioning_embedding_out_channels": tuple(step.shape[0] for step in (first, *steps))}
