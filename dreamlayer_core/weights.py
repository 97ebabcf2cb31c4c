"""Weight files: adapters and transparent decoders, one safetensors file each. Nothing is ever unpickled.

An adapter file holds `shared_kv.<projection>`, `foreground_kv.<projection>`, `layer_assign`, `context_layers.<name>` and, if it has
attention between the rows of a cell, `cell_attention.<module>.<name>`; as metadata `format`, `format_version`, `base_family` and
`settings` (JSON). Everything is checked before it is used: a WeightsError says which file, what is wrong with it, and what to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from .attention.cells import CELL_HEADS, CellAttention
from .attention.context_layers import ContextAwareLayers
from .attention.shared import shares_layers
from .errors import InputError, WeightsError
from .file_kinds import expect
from .safetensors_files import FORMAT_VERSION, about, check_version, parse_settings, read_tensors, write_tensors
from .tensor_checks import check_shapes, check_values, some_names
from .transparent import TransparentDecoder, TransparentDecoderConfig

__all__ = [
    "FORMAT_VERSION",
    "Adapter",
    "AdapterSettings",
    "check_fit",
    "check_prediction",
    "load_adapter",
    "load_transparent_decoder",
    "save_adapter",
    "save_transparent_decoder",
]

ADAPTER_FORMAT = "dreamlayer-adapter"
DECODER_FORMAT = "dreamlayer-transparent-decoder"
PREDICTION_TYPES = ("epsilon", "v_prediction")  # what `NoiseSchedule` can undo

_Value = TypeVar("_Value")


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """What an adapter was trained for. Raises InputError for values out of range."""

    base_family: str  # name of the base models it fits, e.g. "sd15"
    cross_attention_dim: int  # D of the text embeddings
    context_features: int  # channels c of the global row's features that the context-aware layers read (Eq. 5)
    num_context_layers: int  # N; 0 = the map of Eq. 4 itself
    slots: int  # layer-assign embeddings, background first; layers beyond get zeros
    context_hidden: int = 64
    context_heads: int = 4
    caca_downscale: int = 4  # of the latent: 16x16 at 512 px (the paper's clearest stage)
    context_threshold: int = 850  # T_G (paper)
    prediction_type: str = "epsilon"  # SD1.5
    # Width of the attention between the rows of a cell; 0 = none (the paper).
    cell_hidden: int = field(default=0, metadata={"optional": True})

    def __post_init__(self) -> None:
        if not self.base_family.strip():
            raise InputError("got an empty base_family; name the base models that the adapter fits, e.g. 'sd15'")
        if self.prediction_type not in PREDICTION_TYPES:
            raise InputError(f"got prediction_type {self.prediction_type!r}; expected {', '.join(PREDICTION_TYPES)}")
        for name in ("cross_attention_dim", "context_features", "context_hidden", "context_heads", "caca_downscale"):
            _check_range(name, getattr(self, name), 1, 65536)
        # 64 of each is far beyond use, and keeps a damaged file from building for ever
        _check_range("num_context_layers", self.num_context_layers, 0, 64)
        _check_range("slots", self.slots, 0, 64)
        _check_range("cell_hidden", self.cell_hidden, 0, 65536)
        _check_range("context_threshold", self.context_threshold, 0, 1000)
        if self.context_hidden % self.context_heads:
            raise InputError(
                f"got context_hidden {self.context_hidden} for {self.context_heads} heads; give a multiple"
            )
        if self.cell_hidden % CELL_HEADS:
            raise InputError(f"got cell_hidden {self.cell_hidden}; give a multiple of {CELL_HEADS}, or 0 (none)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Adapter:
    """Everything trained on top of a base model.

    `shared_kv` and `foreground_kv` map a UNet projection, `<attention module>.to_k` or `.to_v`, to its weight (out, in): the first
    replaces the base model's, the second is used by the foreground rows. Either may be empty: then the base model's own serve.
    `layer_assign` (slots, D); `context_layers` is the state of `ContextAwareLayers`; `cell_attention` that of a
    `CellAttention` for each `<attention module>` that has one.
    """

    settings: AdapterSettings
    layer_assign: Tensor
    context_layers: Mapping[str, Tensor]
    shared_kv: Mapping[str, Tensor]
    foreground_kv: Mapping[str, Tensor]
    cell_attention: Mapping[str, Tensor] = field(default_factory=lambda: dict[str, Tensor]())

    @property
    def cell_channels(self) -> dict[str, int]:
        """The attention modules with attention between rows, and their channels; 0 where the tensor that has them is missing."""
        sites = dict.fromkeys(f"{name.partition('.attn1.')[0]}.attn1" for name in self.cell_attention)
        outputs = {site: self.cell_attention.get(f"{site}.output.weight") for site in sites}
        return {site: 0 if tensor is None or tensor.ndim != 2 else len(tensor) for site, tensor in outputs.items()}

    def check(self) -> None:
        """Raises WeightsError, naming the first thing that is missing, unexpected, misshapen or not finite."""
        check_shapes(
            {"layer_assign": self.layer_assign},
            {"layer_assign": (self.settings.slots, self.settings.cross_attention_dim)},
        )
        with torch.device("meta"):
            layers = _context_layers(self.settings)
        check_shapes(
            _prefixed("context_layers", self.context_layers),
            {name: tuple(tensor.shape) for name, tensor in _prefixed("context_layers", layers.state_dict()).items()},
        )
        _check_pairs("shared_kv", self.shared_kv)
        if self.shared_kv and self.foreground_kv:
            shared = {name: tuple(tensor.shape) for name, tensor in self.shared_kv.items()}
            check_shapes(_prefixed("foreground_kv", self.foreground_kv), _prefixed("foreground_kv", shared))
        _check_pairs("foreground_kv", self.foreground_kv)
        if bool(self.cell_attention) != bool(self.settings.cell_hidden):
            raise WeightsError(
                f"cell_hidden is {self.settings.cell_hidden} in the settings, and the file has {len(self.cell_attention)} tensors "
                "of cell_attention; it is damaged or incomplete: fetch or train it again")
        if unexpected := [name for name in self.cell_attention if ".attn1." not in name or "/" in name]:
            raise WeightsError(f"unexpected cell_attention.{unexpected[0]}; the file is damaged or of another kind")
        if headless := [site for site, channels in self.cell_channels.items() if not channels]:
            raise WeightsError(
                f"cell_attention.{headless[0]}.output.weight is missing or no matrix; the file is incomplete: fetch or train it again")
        cells = {f"{site}.{name}": shape for site, channels in self.cell_channels.items()
                 for name, shape in _cell_shapes(channels, self.settings.cell_hidden).items()}
        check_shapes(_prefixed("cell_attention", self.cell_attention), _prefixed("cell_attention", cells))
        check_values(self.tensors())

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor under its name in the file."""
        return {
            "layer_assign": self.layer_assign,
            **_prefixed("context_layers", self.context_layers),
            **_prefixed("shared_kv", self.shared_kv),
            **_prefixed("foreground_kv", self.foreground_kv),
            **_prefixed("cell_attention", self.cell_attention),
        }

    def make_context_layers(self) -> ContextAwareLayers:
        """The trained context-aware layers, as a module of their own, in the dtype of the adapter."""
        with torch.device("meta"):
            layers = _context_layers(self.settings)
        copies = {name: tensor.detach().clone() for name, tensor in self.context_layers.items()}
        layers.load_state_dict(copies, strict=True, assign=True)
        return layers.eval()


def save_adapter(adapter: Adapter, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Write one file, whole or not at all; `dtype` converts (float16 for shipping). Raises WeightsError, OutputError."""
    path = Path(path)
    with about(path):
        adapter.check()
    settings = adapter.settings
    write_tensors(path, adapter.tensors(), ADAPTER_FORMAT, settings, dtype=dtype, base_family=settings.base_family)


def load_adapter(path: str | Path, *, base_family: str | None = None) -> Adapter:
    """Read and check an adapter; with `base_family`, also that it was made for that family. Raises WeightsError."""
    path = Path(path)
    expect(path, ADAPTER_FORMAT)
    tensors, metadata = read_tensors(path)
    with about(path):
        check_version(metadata)
        settings = parse_settings(AdapterSettings, metadata)
        if (named := metadata.get("base_family")) != settings.base_family:
            raise WeightsError(
                f"base family {named!r} in the metadata, {settings.base_family!r} in the settings; damaged"
            )
        _check_family(settings.base_family, base_family)
        adapter = _sorted_out(tensors, settings)
        adapter.check()
    return adapter


def check_fit(adapter: Adapter, projections: Mapping[str, Sequence[int]], *, base_family: str | None = None) -> None:
    """Does it fit this UNet? `projections`: name -> weight shape of every K and V projection of its attention layers.

    Raises WeightsError, naming the first projection that is missing, unexpected or of another shape.
    """
    _check_family(adapter.settings.base_family, base_family)
    expected = {name: tuple(shape) for name, shape in projections.items()}
    for part, tensors in (("shared_kv", adapter.shared_kv), ("foreground_kv", adapter.foreground_kv)):
        if tensors:
            check_shapes(_prefixed(part, tensors), _prefixed(part, expected))
    shared = {site: shape[0] for name, shape in expected.items() if shares_layers(site := name.removesuffix(".to_v"))}
    for site in sorted(shared | adapter.cell_channels) if adapter.cell_channels else ():
        if (found := adapter.cell_channels.get(site)) != (wanted := shared.get(site)):
            raise WeightsError(
                f"attention between rows at {site} for {found or 'no'} channels, this UNet's shared attention there has "
                f"{wanted or 'none'}; the adapter is for another base model, or incomplete")


def check_prediction(settings: AdapterSettings, prediction_type: str) -> None:
    """Raises WeightsError unless the adapter was trained for models of this prediction type."""
    if settings.prediction_type != prediction_type:
        raise WeightsError(
            f"an adapter for models of prediction type {settings.prediction_type!r}, but this model's is "
            f"{prediction_type!r}; give an adapter made for this base model")


def save_transparent_decoder(
    decoder: TransparentDecoder, path: str | Path, *, dtype: torch.dtype | None = None
) -> None:
    """Write one file, whole or not at all, its shape as metadata. Raises WeightsError for NaN, OutputError."""
    write_tensors(Path(path), decoder.state_dict(), DECODER_FORMAT, decoder.config, dtype=dtype)


def load_transparent_decoder(path: str | Path) -> TransparentDecoder:
    """One of ours, by its metadata, or LayerDiffuse's published file, by its shapes; in the file's dtype. Raises WeightsError."""
    path = Path(path)
    kind = expect(path, DECODER_FORMAT, "layerdiffuse-decoder")
    tensors, metadata = read_tensors(path)
    with about(path):
        check_values(tensors)
        return TransparentDecoder.from_state_dict(tensors, _settings(metadata) if kind.name == DECODER_FORMAT else None)


def _settings(metadata: Mapping[str, str]) -> TransparentDecoderConfig:
    check_version(metadata)
    return parse_settings(TransparentDecoderConfig, metadata)


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InputError(f"got {name} {value}; give {least} to {most}")


def _context_layers(settings: AdapterSettings) -> ContextAwareLayers:
    return ContextAwareLayers(
        settings.num_context_layers, settings.context_features, settings.context_hidden, settings.context_heads
    )


def _cell_shapes(channels: int, hidden: int) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in CellAttention(channels, hidden).state_dict().items()}


def _prefixed(part: str, values: Mapping[str, _Value]) -> dict[str, _Value]:
    return {f"{part}.{name}": value for name, value in values.items()}


def _sorted_out(tensors: Mapping[str, Tensor], settings: AdapterSettings) -> Adapter:
    parts: dict[str, dict[str, Tensor]] = {
        "context_layers": {}, "shared_kv": {}, "foreground_kv": {}, "cell_attention": {}}
    unexpected: list[str] = []
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part in parts and rest:
            parts[part][rest] = tensor
        elif name != "layer_assign":
            unexpected.append(name)
    if unexpected:
        raise WeightsError(f"unexpected {some_names(unexpected)}; the file is damaged or of another kind")
    if "layer_assign" not in tensors:
        raise WeightsError("layer_assign is missing; the file is incomplete: fetch or train it again")
    return Adapter(settings=settings, layer_assign=tensors["layer_assign"], **parts)


def _check_pairs(part: str, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        site, _, projection = name.rpartition(".")
        if projection not in ("to_k", "to_v") or tensor.ndim != 2:
            raise WeightsError(
                f"unexpected {part}.{name} of shape {tuple(tensor.shape)}; expected matrices named <module>.to_k or .to_v"
            )
        other = f"{site}.{'to_v' if projection == 'to_k' else 'to_k'}"
        check_shapes(
            {f"{part}.{other}": tensors[other]} if other in tensors else {}, {f"{part}.{other}": tuple(tensor.shape)}
        )


def _check_family(found: str, expected: str | None) -> None:
    if expected is not None and found != expected:
        raise WeightsError(
            f"an adapter for base family {found!r}, but the model is of family {expected!r}; "
            f"use it with a {found!r} model, or give an adapter made for {expected!r}"
        )
