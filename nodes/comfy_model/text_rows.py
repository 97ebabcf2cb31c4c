"""Weights of single layers' texts on a CLIP: the core's additions, as hooks that stand while such a text is encoded."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import comfy.clip_model
import comfy.sd
from torch import nn

from ...dreamlayer_core.layer_loras import LayerLora
from ...dreamlayer_core.row_weights import Rows, row_weights, shown_additions

__all__ = ["patch_texts", "weights_of_row"]

_KEY = "dreamlayer_rows"


def patch_texts(clip: comfy.sd.CLIP, lora: LayerLora, rows: Rows, strength: float) -> comfy.sd.CLIP:
    """A clone with which Encode Layers encodes the text of ``rows`` by a LoRA. Raises WeightsError for one of another base."""
    patched = clip.clone()
    additions = lora.text_additions(_models(clip), rows, strength)
    patched.patcher.set_attachments(_KEY, (*(clip.patcher.get_attachment(_KEY) or ()), additions))
    return patched


@contextmanager
def weights_of_row(clip: comfy.sd.CLIP, row: int, height: int) -> Generator[None]:
    """The text encoders with what this row of ``height`` has of its own. InputError for rows beyond it."""
    with ExitStack() as undo:
        for several in clip.patcher.get_attachment(_KEY) or ():
            for model, additions in zip(_models(clip), several, strict=True):
                undo.enter_context(row_weights(model, shown_additions(additions, [row], height), 1))
        yield


def _models(clip: comfy.sd.CLIP) -> list[nn.Module]:
    """The text models of CLIP's kind, SDXL's smaller one first."""
    return [module for module in clip.cond_stage_model.modules() if isinstance(module, comfy.clip_model.CLIPTextModel)]
