"""LayerDiffuse's weights on diffusers' UNet2DConditionModel: on rows of a stack, and as LayerDiffuse itself uses them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from .diffusers_unet import find_sites
from .layerdiffuse import Given, LayerDiffuse, LayerDiffuseAttention, check_given, frame_attention
from .row_weights import RowAddition

__all__ = ["layerdiffuse_additions", "layerdiffuse_attention"]


def layerdiffuse_additions(
    unet: UNet2DConditionModel, weights: LayerDiffuse, foregrounds: int = 1, *, picture: Tensor | None = None,
    given: Given = "background",
) -> dict[str, list[RowAddition]]:
    """What rows of a stack of so many ``foregrounds`` add at modules of ``unet``, for ``layer_attention``.

    Weights of one frame, and SDXL's, are those of every foreground. Those of several join the rows of a stack of one
    foreground: all three (joint), or all but the ``given`` one, whose ``picture`` (3, H, W) in [0, 1] on gray, of the
    size that the latents decode to, the conditional weights go by. Raises InputError for several frames and more
    foregrounds, and for a picture too many or too few.
    """
    if picture is not None:
        check_given(weights)
    if not isinstance(weights, LayerDiffuseAttention):
        return weights.additions([name for name, _ in cast(Any, unet).named_modules()])
    signals = picture if picture is None else weights.signals(picture)
    return weights.stack_additions(
        find_sites(unet, None).all, lambda name: int(cast(Any, unet).get_submodule(name).heads), foregrounds, given=given,
        signals=signals)


@contextmanager
def layerdiffuse_attention(
    unet: UNet2DConditionModel, weights: LayerDiffuseAttention, picture: Tensor | None = None
) -> Generator[None]:
    """LayerDiffuse's own way until leaving: a batch has the frames of each picture side by side, ((pictures frames), …).

    Frames: foreground, background, blend (joint); background, blend (fg2bg); foreground, blend (bg2fg). Text embeddings
    are each frame's own. ``picture`` (3, H, W) in [0, 1] on gray is what the conditional weights go by. ``weights`` come
    to the UNet's device and dtype. Raises InputError for a picture too many or too few, WeightsError for weights of
    another base.
    """
    with frame_attention(unet, find_sites(unet, None).all, weights.to(unet.device, unet.dtype), picture):
        yield
