"""LayerDiffuse's attention weights as what rows of a MODEL add."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from ...dreamlayer_core.errors import InputError, WeightsError
from ...dreamlayer_core.layerdiffuse import LayerDiffuse, LayerDiffusePatches
from ...dreamlayer_core.row_weights import Additions
from .row_patch import RowCall, Source

__all__ = ["layerdiffuse_source"]

_JOINT = 3  # frames, and rows of a picture of one foreground


def layerdiffuse_source(weights: LayerDiffuse) -> Source:
    """For ``patch_rows``: of foreground rows; joint weights are of all rows where there is one foreground (InputError elsewhere).

    Called, it raises WeightsError for conditional weights, and for those of another base.
    """
    return partial(_additions, weights)


def _additions(weights: LayerDiffuse, modules: Mapping[str, nn.Module], call: RowCall) -> Additions:
    if isinstance(weights, LayerDiffusePatches):
        return weights.additions(list(modules))
    sites: dict[str, Any] = {name: module for name, module in modules.items() if name.endswith((".attn1", ".attn2"))}
    if weights.encoder is not None:
        raise WeightsError(
            "conditional weights of LayerDiffuse, which go by a finished background or foreground; give layer_sd15_transparent_attn, "
            "or layer_sd15_joint for pictures of one foreground")
    if weights.frames != _JOINT:
        return weights.additions(list(sites))
    if call.height not in (0, 1, _JOINT):
        raise InputError(
            f"got joint weights of LayerDiffuse for a picture of {call.height - 2} foregrounds; they are for one: plan one foreground, or give "
            "layer_sd15_transparent_attn")
    return weights.joint_additions(list(sites), lambda name: int(sites[name].heads))
