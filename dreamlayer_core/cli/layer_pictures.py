"""Pictures that single layers of `generate` go by: image prompts of an IP-Adapter and hints of a ControlNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn

from ..control_files import load_controlnet
from ..controls import LayerControl
from ..image_encoder import embed_picture, load_image_encoder
from ..image_prompts import image_additions, load_image_adapter
from ..picture_files import read_picture
from ..pipeline import DreamLayer
from ..row_weights import Additions, joined_additions
from .request import GenerateRequest

__all__ = ["image_prompts", "layer_controls", "noted_pictures", "read_pictures"]


def read_pictures(request: GenerateRequest) -> tuple[list[Tensor], list[Tensor]]:
    """Pixels (3, h, w) of the image prompts and of the hints. Raises as `read_picture` does."""
    prompts, hints = ([read_picture(one.file).pixels for one in several]
                      for several in (request.image_prompts, request.controls))
    return prompts, hints


def image_prompts(model: DreamLayer, request: GenerateRequest, pictures: Sequence[Tensor]) -> Additions:
    """What the layers with an image prompt add. WeightsError for files that are missing, damaged or of another base."""
    if request.ip_adapter is None or request.image_encoder is None:
        return {}
    adapter = load_image_adapter(request.ip_adapter)
    encoder = load_image_encoder(request.image_encoder, model.unet.dtype, model.device)
    modules: Any = cast(Any, model.unet).named_modules()
    layers: dict[str, nn.Module] = {name: module for name, module in modules if name.endswith("attn2")}
    return joined_additions(*(
        image_additions(layers, adapter.prompt(embed_picture(encoder, picture).cpu()), one.layer, strength=one.strength)
        for one, picture in zip(request.image_prompts, pictures, strict=True)))


def layer_controls(model: DreamLayer, request: GenerateRequest, pictures: Sequence[Tensor]) -> list[LayerControl]:
    """The hints with their ControlNet. WeightsError for files that are missing, damaged or of another base."""
    if request.controlnet is None:
        return []
    net = load_controlnet(request.controlnet, model.unet)
    return [LayerControl(model=net, rows=one.layer, hint=picture, strength=one.strength)
            for one, picture in zip(request.controls, pictures, strict=True)]


def noted_pictures(request: GenerateRequest) -> dict[str, object]:
    """What a saved stack notes of them; nothing without any."""
    files = {"ip_adapter": request.ip_adapter, "image_encoder": request.image_encoder, "controlnet": request.controlnet}
    pictures = {"image_prompts": request.image_prompts, "controls": request.controls}
    return {**{name: str(path) for name, path in files.items() if path is not None},
            **{name: [one.noted() for one in several] for name, several in pictures.items() if several}}
