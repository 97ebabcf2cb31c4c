"""Reading LayerDiffuse's published attention weights, strictly by the names and shapes of their tensors.

SD1.5: ``hookers.layers.<site>.…`` and, with a control, ``kwargs_encoder.blocks_<n>.…``. SDXL: ``<weight>::lora::<n>``
(0 is up, 1 is down, 2 an alpha) and ``<weight>::diff::0``. Widths, sites and frames are those of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .errors import WeightsError
from .file_kinds import expect
from .layerdiffuse import (
    PARTS,
    ControlEncoder,
    FrameSite,
    LayerDiffuse,
    LayerDiffuseAttention,
    LayerDiffusePatches,
    TemporalAttention,
)
from .layerdiffuse_encoder import conv_widths
from .safetensors_files import about, read_tensors
from .tensor_checks import check_shapes, check_values

__all__ = ["load_layerdiffuse", "read_layerdiffuse"]

_KINDS = ("layerdiffuse-attention", "layerdiffuse-joint", "layerdiffuse-conditional", "layerdiffuse-xl")
_SITES = "hookers.layers"
_CONTROL = "kwargs_encoder"
_PATCH = re.compile(r"diffusion_model\.(?P<module>.+)\.weight::(?P<kind>lora|diff)::(?P<index>\d+)")

Shapes = dict[str, tuple[int, ...]]


def load_layerdiffuse(path: str | Path) -> LayerDiffuse:
    """A published file of attention weights, in its own dtype. Raises WeightsError for any other, saying what it is."""
    path = Path(path)
    expect(path, *_KINDS)
    tensors, _ = read_tensors(path)
    with about(path):
        check_values(tensors)
        return read_layerdiffuse(tensors)


def read_layerdiffuse(tensors: Mapping[str, Tensor]) -> LayerDiffuse:
    """The weights in a published file's tensors. Raises WeightsError for what is missing, unexpected or misshapen."""
    if any(name.startswith(_SITES) for name in tensors):
        return _attention(tensors)
    return _patches(tensors)


def _attention(tensors: Mapping[str, Tensor]) -> LayerDiffuseAttention:
    sites = _count(tensors, rf"{_SITES}\.(\d+)\.")
    frames = _count(tensors, rf"{_SITES}\.0\.to_q_lora\.(\d+)\.")
    encoder = _control_encoder(tensors) if any(name.startswith(_CONTROL) for name in tensors) else None
    width = None if encoder is None else conv_widths(tensors, f"{_CONTROL}.blocks_0")[-1]
    expected = {} if encoder is None else _named(encoder, f"{_CONTROL}.")
    for site in range(sites):
        expected |= _site_shapes(tensors, f"{_SITES}.{site}.", frames, width)
    check_shapes(tensors, expected)
    if encoder is not None:
        _fill(encoder, tensors, f"{_CONTROL}.")
    return LayerDiffuseAttention([_site(tensors, f"{_SITES}.{site}.", frames, width) for site in range(sites)], encoder)


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    numbers = {int(found[1]) for name in tensors if (found := re.match(pattern, name))}
    return 1 + max(numbers, default=0)


def _shape(tensors: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """Of a matrix that the shapes of others go by."""
    if name not in tensors or tensors[name].ndim != 2:
        raise WeightsError(f"missing {name}, a matrix; the file is incomplete or of another kind")
    rows, columns = tensors[name].shape
    return rows, columns


def _site_shapes(tensors: Mapping[str, Tensor], prefix: str, frames: int, control: int | None) -> Shapes:
    width = _shape(tensors, f"{prefix}temporal_q.weight")[0]
    rank, context = _shape(tensors, f"{prefix}to_k_lora.0.down.weight")
    with torch.device("meta"):
        temporal = TemporalAttention(width)
        convolutions = [] if control is None else [_control_convolutions(control, width) for _ in range(frames)]
    shapes = _named(temporal, f"{prefix}temporal_")
    for frame in range(frames):
        for part in PARTS:
            inputs = context if part in ("to_k", "to_v") else width
            shapes[f"{prefix}{part}_lora.{frame}.down.weight"] = (rank, inputs)
            shapes[f"{prefix}{part}_lora.{frame}.up.weight"] = (width, rank)
    for frame, convolution in enumerate(convolutions):
        shapes |= _named(convolution, f"{prefix}control_convs.{frame}.")
    return shapes


def _site(tensors: Mapping[str, Tensor], prefix: str, frames: int, control: int | None) -> FrameSite:
    up, down = ({part: torch.stack([tensors[f"{prefix}{part}_lora.{frame}.{side}.weight"] for frame in range(frames)])
                 for part in PARTS} for side in ("up", "down"))
    width = up["to_q"].shape[1]
    with torch.device("meta"):
        temporal = TemporalAttention(width)
        convolutions = [] if control is None else [_control_convolutions(control, width) for _ in range(frames)]
    _fill(temporal, tensors, f"{prefix}temporal_")
    for frame, convolution in enumerate(convolutions):
        _fill(convolution, tensors, f"{prefix}control_convs.{frame}.")
    return FrameSite(up, down, temporal, convolutions)


def _control_convolutions(features: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(features, features, 3, padding=1), nn.SiLU(), nn.Conv2d(features, width, 1))


def _control_encoder(tensors: Mapping[str, Tensor]) -> ControlEncoder:
    blocks = _count(tensors, rf"{_CONTROL}\.blocks_(\d+)\.")
    first, *others = (conv_widths(tensors, f"{_CONTROL}.blocks_{number}") for number in range(blocks))
    with torch.device("meta"):
        return ControlEncoder(first, others)


def _named(module: nn.Module, prefix: str) -> Shapes:
    return {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    own = {name: tensors[f"{prefix}{name}"] for name in module.state_dict()}
    module.load_state_dict(own, strict=True, assign=True)
    module.requires_grad_(False)


def _patches(tensors: Mapping[str, Tensor]) -> LayerDiffusePatches:
    patches = dict[str, dict[str, Tensor]]()
    for name, tensor in tensors.items():
        if not (found := _PATCH.fullmatch(name)) or (tensor.ndim != 2 and tensor.numel() != 1):
            raise WeightsError(
                f"{name} of shape {tuple(tensor.shape)} is no patch of a linear layer; rows can have linear weights of "
                "their own alone: give layer_xl_transparent_attn")
        patches.setdefault(found["module"], {})[f"{found['kind']}::{found['index']}"] = tensor
    up, down, scales = dict[str, Tensor](), dict[str, Tensor](), dict[str, float]()
    for module, patch in patches.items():
        up[module], lower, scales[module] = _patch(module, patch)
        if lower is not None:
            down[module] = lower
    return LayerDiffusePatches(up, down, scales)


def _patch(module: str, patch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None, float]:
    """(up, down, scale): ``lora`` has up, down and maybe an alpha, ``diff`` the whole difference."""
    if set(patch) == {"diff::0"}:
        return patch["diff::0"], None, 1.0
    if set(patch) - {"lora::2"} != {"lora::0", "lora::1"}:
        raise WeightsError(
            f"{module} has {', '.join(sorted(patch))}, expected lora::0 and lora::1, or diff::0; fetch the file again")
    up, down = patch["lora::0"], patch["lora::1"]
    if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
        raise WeightsError(
            f"{module} has lora::0 {tuple(up.shape)} and lora::1 {tuple(down.shape)}; fetch the file again")
    return up, down, float(patch["lora::2"]) / len(down) if "lora::2" in patch else 1.0
