"""LoRAs of single layers for a run: from `--lora`, or from what a saved stack notes."""

from __future__ import annotations

from collections.abc import Sequence

from ..layer_loras import load_lora
from ..pipeline import DreamLayer
from ..row_weights import Additions, joined_additions
from ..safetensors_files import about
from .request import LayerFile

__all__ = ["lora_additions"]


def lora_additions(model: DreamLayer, choices: Sequence[LayerFile]) -> tuple[Additions, list[Additions]]:
    """What rows add to the UNet and to every text encoder. Raises WeightsError for a file that is no LoRA for ``model``."""
    unet, text = list[Additions](), [list[Additions]() for _ in model.text_encoders.models]
    for choice in choices:
        lora = load_lora(choice.file).to(model.device, model.unet.dtype)
        with about(choice.file):
            unet.append(lora.additions(dict(model.unet.named_modules()), choice.layer, choice.strength))
            own = lora.text_additions(model.text_encoders.models, choice.layer, choice.strength)
        for encoder, additions in zip(text, own, strict=True):
            encoder.append(additions)
    return joined_additions(*unet), [joined_additions(*several) for several in text]
