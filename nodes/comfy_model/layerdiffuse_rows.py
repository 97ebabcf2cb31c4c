"""LayerDiffuse's attention weights as what rows of a MODEL add."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import comfy.utils
from torch import Tensor, nn

from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.layerdiffuse import (
    ControlEncoder,
    Given,
    LayerDiffuse,
    LayerDiffuseAttention,
    LayerDiffusePatches,
    Signals,
    check_given,
)
from ...dreamlayer_core.row_weights import Additions
from .row_patch import RowCall, Source

__all__ = ["layerdiffuse_source"]


def layerdiffuse_source(weights: LayerDiffuse, picture: Tensor | None = None, given: Given = "background") -> Source:
    """For ``patch_rows``: of foreground rows; weights of several frames are of a picture of one foreground.

    ``picture`` (3, H, W) in [0, 1] on gray is the ``given`` layer that conditional weights go by, fitted to the latents. Called, it
    raises InputError for more foregrounds, and for a picture too many or too few; WeightsError for weights of another base.
    """
    return partial(_additions, weights, picture, given)


def _additions(
    weights: LayerDiffuse, picture: Tensor | None, given: Given, modules: Mapping[str, nn.Module], call: RowCall
) -> Additions:
    if picture is not None:
        check_given(weights)
    if isinstance(weights, LayerDiffusePatches):
        return weights.additions(list(modules))
    sites: dict[str, Any] = {name: module for name, module in modules.items() if name.endswith((".attn1", ".attn2"))}
    layers = call.height - 2 if call.height > 1 else 1  # those of a lone row stay out
    return weights.stack_additions(
        list(sites), lambda name: int(sites[name].heads), layers, given=given,
        signals=picture if picture is None else _Fitted(weights, picture, call))


class _Fitted:
    """A control picture at the size of the latents that are sampled: its middle in their shape."""

    def __init__(self, weights: LayerDiffuseAttention, picture: Tensor, call: RowCall) -> None:
        self._weights, self._picture, self._call = weights, picture, call
        self._signals: Signals | None = None

    def __call__(self, cells: int) -> Tensor:
        if self._call.size != self._call.whole:
            raise InputError(
                "got conditioning for an area and LayerDiffuse's conditional weights, which go by the whole of a finished layer; leave "
                "out the area, or the weights")
        if self._signals is None:
            height, width = (side * cast(ControlEncoder, self._weights.encoder).scale for side in self._call.whole)
            fitted = comfy.utils.common_upscale(self._picture[None], width, height, "bilinear", "center")[0]
            self._signals = self._weights.signals(fitted)
        return self._signals(cells)
