"""IP-Adapter (Ye et al. 2023): a picture as the prompt of single rows, beside their text. Torch only.

Decoupled cross-attention: O = W_o (softmax(q Kᵀ/√d) V + λ · softmax(q K_iᵀ/√d) V_i), with K_i and V_i projected from
the tokens of a picture's CLIP embedding; in the unconditional half, from those of an embedding of zeros.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .errors import InputError, WeightsError
from .file_kinds import expect
from .layer_run import Half
from .row_weights import RowAddition, Rows
from .safetensors_files import about, read_tensors
from .tensor_checks import check_shapes, check_values, some_names
from .unet_calls import current_halves

__all__ = ["ImageAdapter", "ImageProjection", "ImagePrompt", "check_strength", "image_additions", "image_attention",
           "load_image_adapter", "read_image_adapter"]

_PROJECTION, _LAYERS = "image_proj.", "ip_adapter."
# What other forms of IP-Adapter have -> what they are; the first that fits.
_OTHER_FORMS = {
    r"^image_proj\.perceiver_resampler\.": "FaceID Plus, which goes by a face's identity",
    r"^image_proj\.(latents|layers\.)": "Plus, which reads all patches of a picture",
    r"^image_proj\.proj\.3\.": "Full Face, which reads all patches of a picture",
    r"^image_proj\.proj\.0\.|_lora\.": "FaceID, which goes by a face's identity",
}


class ImageProjection(nn.Module):
    """A picture's embedding -> tokens such as those of a text."""

    def __init__(self, embedding: int, tokens: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(embedding, tokens * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Embeddings (pictures, e) -> tokens of all of them (pictures * tokens, c)."""
        return self.norm(self.proj(embeddings).reshape(-1, self.norm.normalized_shape[0]))


@dataclass(frozen=True, kw_only=True, eq=False)
class ImagePrompt:
    """Keys and values of pictures at the cross-attention layers of a UNet, the middle block's last.

    Each (2, tokens, width), fp32: of an embedding of zeros, then of the pictures. ``context``: channels of the text.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    context: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageAdapter:
    """The base form of IP-Adapter: ``keys`` and ``values`` (width, context) project the tokens for one layer each."""

    projection: ImageProjection
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    def prompt(self, embeddings: Tensor) -> ImagePrompt:
        """Of pictures' projected CLIP embeddings (pictures, e), which count together. InputError for other widths."""
        width, found = self.projection.proj.in_features, embeddings.shape
        if embeddings.ndim != 2 or not len(embeddings) or found[-1] != width:
            raise InputError(
                f"got embeddings of shape {tuple(found)}, expected {width} channels a picture; encode it with the CLIP "
                f"vision model that this IP-Adapter was made for ({_ENCODERS.get(width, f'one of {width} channels')})")
        given = embeddings.to(self.projection.proj.weight)
        with torch.no_grad():
            tokens = torch.stack([self.projection(one) for one in (torch.zeros_like(given), given)])
            keys, values = (tuple(functional.linear(tokens, weight.to(tokens)) for weight in side)
                            for side in (self.keys, self.values))
        return ImagePrompt(keys=keys, values=values, context=tokens.shape[-1])


_ENCODERS = {1024: "ViT-H", 1280: "ViT-bigG", 768: "ViT-L"}


def load_image_adapter(path: str | Path) -> ImageAdapter:
    """A published file of the base form, fp32 on the CPU. Raises WeightsError for any other, saying what it is."""
    path = Path(path)
    expect(path, "ip-adapter")
    tensors, _ = read_tensors(path)
    with about(path):
        check_values(tensors)
        return read_image_adapter(tensors)


def read_image_adapter(tensors: Mapping[str, Tensor]) -> ImageAdapter:
    """The weights in a file's tensors. Raises WeightsError for another form, and for what is missing or misshapen."""
    for mark, form in _OTHER_FORMS.items():
        if any(re.search(mark, name) for name in tensors):
            raise WeightsError(
                f"an IP-Adapter of the form {form}; give one of the base form (ip-adapter_sd15, ip-adapter_sd15_light, "
                "ip-adapter_sdxl or ip-adapter_sdxl_vit-h)")
    numbers = [int(found[1]) for name in tensors if (found := re.match(rf"{re.escape(_LAYERS)}(\d+)\.", name))]
    layers = range(1, max(numbers, default=0) + 1, 2)  # even ones are self-attention, which has none
    embedding, out, width = *_sides(tensors, "proj.weight", 2)[::-1], *_sides(tensors, "norm.weight", 1)
    with torch.device("meta"):
        projection = ImageProjection(embedding, max(out // width, 1), width)
    expected = {f"{_PROJECTION}{name}": tuple(tensor.shape) for name, tensor in projection.state_dict().items()}
    for layer in layers:
        shape = tensors[_name(layer, "k")].shape if _name(layer, "k") in tensors else ()
        channels = shape[0] if shape else 0
        expected |= {_name(layer, part): (channels, width) for part in "kv"}
    check_shapes(tensors, expected)
    own = {name: tensors[f"{_PROJECTION}{name}"].float() for name in projection.state_dict()}
    projection.load_state_dict(own, strict=True, assign=True)
    keys, values = (tuple(tensors[_name(layer, part)] for layer in layers) for part in "kv")
    return ImageAdapter(projection=projection.requires_grad_(False), keys=keys, values=values)


def _name(layer: int, part: str) -> str:
    return f"{_LAYERS}{layer}.to_{part}_ip.weight"


def _sides(tensors: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    """Of a tensor of the projection that the shapes of others go by."""
    tensor = tensors.get(f"{_PROJECTION}{name}")
    if tensor is None or tensor.ndim != axes:
        raise WeightsError(
            f"missing {some_names([_PROJECTION + name])}; the file is incomplete, or no IP-Adapter for Stable Diffusion")
    return tuple(tensor.shape)


def image_attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """softmax(q K_iᵀ/√d) V_i: the picture's part of decoupled cross-attention (Ye et al. 2023).

    query (stacks, rows, n, c), key and value (stacks, tokens, c) -> like query.
    """
    queries = rearrange(query, "stack row n (h d) -> stack h (row n) d", h=heads)
    key, value = (rearrange(x, "stack token (h d) -> stack h token d", h=heads) for x in (key, value))
    attended = functional.scaled_dot_product_attention(queries, key, value)
    return rearrange(attended, "stack h (row n) d -> stack row n (h d)", row=query.shape[1])


def image_additions(
    layers: Mapping[str, nn.Module], prompt: ImagePrompt, rows: Rows, *, strength: float = 1.0,
    halves: Callable[[], Sequence[Half] | None] = current_halves,
) -> dict[str, list[RowAddition]]:
    """What rows add at the cross-attention ``layers`` of a UNet, which have diffusers' names and order.

    ``halves`` says what the stacks of a call are, None where the prompt does not act in it. At one module these stand
    before deltas: W_o is then the rows' own. Raises InputError for strengths outside 0 to 10, WeightsError for a UNet
    that the prompt was not made for.
    """
    ordered = sorted((name for name in layers if name.endswith("attn2")), key=lambda name: name.startswith("mid_block"))
    check_strength(strength, "an image prompt")
    if len(ordered) != len(prompt.keys):
        raise WeightsError(
            f"an IP-Adapter for {len(prompt.keys)} cross-attention layers, but this UNet has {len(ordered)}; give one made "
            "for this base model")
    found = dict[str, list[RowAddition]]()
    for name, key, value in zip(ordered, prompt.keys, prompt.values, strict=True):
        attention = cast(Any, layers[name])
        if (context := int(attention.to_k.weight.shape[1])) != prompt.context:
            raise WeightsError(
                f"an IP-Adapter for text embeddings of {prompt.context} channels, but this UNet takes {context}; give one "
                "made for this base model")
        part = _ImagePart(
            heads=int(attention.heads), linear=attention.to_out[0], key=key, value=value, strength=strength,
            halves=halves)
        found |= {f"{name}.to_q": [_Query(rows=rows, part=part)], f"{name}.to_out.0": [_Output(rows=rows, part=part)]}
    return found


def check_strength(strength: float, what: str) -> None:
    """Raises InputError for strengths outside 0 to 10."""
    if not 0 <= strength <= 10:
        raise InputError(f"got a strength of {strength:g} for {what}; give 0 (none) to 10, 1 as trained")


@dataclass(kw_only=True, eq=False)
class _ImagePart:
    """A prompt in one attention layer, from its queries to its output."""

    heads: int
    linear: Any  # to_out
    key: Tensor
    value: Tensor
    strength: float
    halves: Callable[[], Sequence[Half] | None]
    query: Tensor | None = None  # between the two

    def attended(self) -> Tensor | None:
        """Like the query; None where the prompt does not act now."""
        query, self.query = self.query, None
        if query is None or not self.strength or (halves := self.halves()) is None:
            return None
        self.key, self.value = self.key.to(query), self.value.to(query)
        own = [half == "conditional" for half in halves]
        key, value = (torch.stack([x[int(one)] for one in own]).repeat_interleave(len(query) // len(own), 0)
                      for x in (self.key, self.value))
        return self.strength * image_attention(query, key, value, self.heads)

    def projected(self, tokens: Tensor) -> Tensor:
        """W_o without its bias. Past the hooks, which are for whole batches, but as the module has its weights."""
        made = self.linear.forward(tokens)
        return made if self.linear.bias is None else made - self.linear.bias.to(made)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Query:
    rows: Rows
    part: _ImagePart

    def check(self, module: nn.Module) -> None:
        if (found := len(cast(Any, module).weight)) != (width := self.part.key.shape[-1]):
            raise WeightsError(
                f"an image prompt of {width} channels for queries of {found}; give an IP-Adapter made for this base model")

    def add(self, output: Tensor, source: Tensor) -> None:
        self.part.query = output  # a view: it has what deltas of these rows still add


@dataclass(frozen=True, kw_only=True, eq=False)
class _Output:
    rows: Rows
    part: _ImagePart

    def check(self, module: nn.Module) -> None:
        pass  # its width is that of the queries

    def add(self, output: Tensor, source: Tensor) -> None:
        if (attended := self.part.attended()) is not None:
            output.add_(self.part.projected(attended))
            source.add_(attended)  # nobody else's: deltas after this one see all that the rows attended to
