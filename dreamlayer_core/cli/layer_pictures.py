"""Pictures that single layers go by: image prompts of an IP-Adapter and hints of a ControlNet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from ..control_files import load_controlnet
from ..controls import LayerControl
from ..image_encoder import embed_picture, load_image_encoder
from ..image_prompts import image_additions, load_image_adapter
from ..picture_files import read_picture
from ..pipeline import DreamLayer
from ..row_weights import Additions, joined_additions
from .request import LayerFile, LayerPictures

__all__ = ["PICTURES", "image_prompts", "layer_controls", "noted_pictures", "read_pictures"]


PICTURES = ("ip_adapter", "image_encoder", "controlnet", "image_prompts", "controls")
"""Names under which a saved stack notes them."""


def read_pictures(chosen: LayerPictures) -> tuple[list[Tensor], list[Tensor]]:
    """Pixels (3, h, w) of the image prompts and of the hints. Raises as `read_picture` does."""
    prompts, hints = ([read_picture(one.file).pixels for one in several]
                      for several in (chosen.image_prompts, chosen.controls))
    return prompts, hints


def image_prompts(model: DreamLayer, chosen: LayerPictures, pictures: Sequence[Tensor]) -> Additions:
    """What the layers with an image prompt add. WeightsError for files that are missing, damaged or of another base."""
    if chosen.ip_adapter is None or chosen.image_encoder is None:
        return {}
    adapter = load_image_adapter(chosen.ip_adapter)
    encoder = load_image_encoder(chosen.image_encoder, model.unet.dtype, model.device)
    modules: Any = cast(Any, model.unet).named_modules()
    layers: dict[str, nn.Module] = {name: module for name, module in modules if name.endswith("attn2")}
    return joined_additions(*(
        image_additions(layers, adapter.prompt(embed_picture(encoder, picture).cpu()), one.layer, strength=one.strength)
        for one, picture in zip(chosen.image_prompts, pictures, strict=True)))


def layer_controls(model: DreamLayer, chosen: LayerPictures, pictures: Sequence[Tensor]) -> list[LayerControl]:
    """The hints with their ControlNet. WeightsError for files that are missing, damaged or of another base."""
    if chosen.controlnet is None:
        return []
    net = load_controlnet(chosen.controlnet, model.unet)
    return [LayerControl(model=net, rows=one.layer, hint=picture, strength=one.strength)
            for one, picture in zip(chosen.controls, pictures, strict=True)]


def noted_pictures(chosen: LayerPictures) -> dict[str, object]:
    """What a saved stack notes of them; nothing without any."""
    given: dict[str, Path | tuple[LayerFile, ...] | None] = {name: getattr(chosen, name) for name in PICTURES}
    return {name: [one.noted() for one in value] if isinstance(value, tuple) else str(value.resolve())
            for name, value in given.items() if value}
