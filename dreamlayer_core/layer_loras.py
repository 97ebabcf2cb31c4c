"""A user's LoRA on single rows (Hu et al. 2021): its file, and what it adds to a UNet and to text encoders.

Read are the names of kohya's trainers (``lora_unet_down_blocks_…``, ``lora_unet_input_blocks_…``, ``lora_te_…``) and of
diffusers and peft (``unet.….lora_A.weight``); the strength of a factor pair is alpha over its rank.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor, nn

from .errors import WeightsError
from .file_kinds import expect
from .row_weights import RowAddition, RowConvolution, RowDelta, Rows
from .safetensors_files import about, read_tensors
from .tensor_checks import check_values, some_names
from .unet_names import ldm_names

__all__ = ["LayerLora", "load_lora"]

_Part = Literal["unet", "text_encoder", "text_encoder_2"]

_FACTOR = re.compile(r"(?P<module>.+?)[._]lora(?:_linear_layer)?[._](?P<side>down|up|A|B)(?:\.default)?\.weight")
_SIDES = {"down": "down", "A": "down", "up": "up", "B": "up"}
_PREFIXES: tuple[tuple[str, _Part], ...] = (
    (r"lora_te2_|text_encoder_2\.", "text_encoder_2"), (r"lora_te1?_|text_encoder\.", "text_encoder"),
    (r"lora_unet_|unet\.|base_model\.model\.|diffusion_model\.|(?=(down|mid|up|input|middle|output)_block)", "unet"))
# Marks of what goes by a LoRA's name, too.
_OTHERS = {
    r"dora_scale|lora_magnitude_vector": "a DoRA", r"\bhada_": "a LoHa", r"\blokr_": "a LoKr", r"\boft_|\boft_diag": "an OFT",
    r"\blora_mid\b": "a LoRA of three factors (lora_mid)", r"\.diff(_b)?$|\.[wb]_norm$": "a file with whole differences of weights"}


def load_lora(path: str | Path) -> LayerLora:
    """A LoRA's safetensors file. Raises WeightsError for any other, and for kinds of LoRA that are not read, saying what it is."""
    path = Path(path)
    kind = expect(path, "lora")
    tensors, metadata = read_tensors(path)
    with about(path):
        return LayerLora(tensors, metadata, kind.phrase)


class LayerLora(nn.Module):
    """Factor pairs by the part and the layer that they are for. ``phrase`` says what the file is.

    Raises WeightsError for what is no part of a plain LoRA, incomplete, or not finite.
    """

    def __init__(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], phrase: str = "a LoRA") -> None:
        super().__init__()
        self.phrase = phrase
        pairs, alphas = _pairs(tensors)
        check_values({name: tensor for name, tensor in tensors.items() if not name.endswith(".alpha")})
        self.up, self.down = (
            nn.ParameterDict({key: nn.Parameter(pair[side], requires_grad=False) for key, pair in pairs.items()})
            for side in ("up", "down"))
        noted = _noted_scales(metadata)
        self.scales = {key: alphas[key] / len(pair["down"]) if key in alphas else noted(key, len(pair["down"]))
                       for key, pair in pairs.items()}

    @property
    def has_text(self) -> bool:
        """Whether it has weights for text encoders."""
        return any(not key.startswith("unet/") for key in self.scales)

    def additions(self, modules: Mapping[str, nn.Module], rows: Rows, strength: float = 1.0) -> dict[str, list[RowAddition]]:
        """What ``rows`` add at layers of a UNet, given by diffusers' names. WeightsError for a LoRA of another base."""
        own = {name: module for name, module in modules.items() if isinstance(getattr(module, "weight", None), Tensor)}
        places = {_flat(alias): name for name, alias in (*((name, name) for name in own), *ldm_names(own).items())}
        return self._additions("unet", own, places, rows, strength)

    def text_additions(
        self, encoders: Sequence[nn.Module], rows: Rows, strength: float = 1.0
    ) -> list[dict[str, list[RowAddition]]]:
        """What ``rows`` add at layers of every text encoder of a base, as transformers has them. WeightsError as above."""
        parts: tuple[_Part, ...] = ("text_encoder", "text_encoder_2")
        if len(encoders) == 1 and self._keys("text_encoder_2"):
            raise WeightsError(f"this is {self.phrase}, with weights for a second text encoder, which this base model lacks; "
                               "give a LoRA made for this base model")
        found = list[dict[str, list[RowAddition]]]()
        for part, encoder in zip(parts, encoders, strict=False):
            modules = dict(encoder.named_modules())
            places = {f"{prefix}{_flat(name)}": name for name in modules for prefix in ("", "text_model_")}
            found.append(self._additions(part, modules, places, rows, strength))
        return found

    def _keys(self, part: _Part) -> list[str]:
        return [key for key in self.scales if key.startswith(f"{part}/")]

    def _additions(
        self, part: _Part, modules: Mapping[str, nn.Module], places: Mapping[str, str], rows: Rows, strength: float
    ) -> dict[str, list[RowAddition]]:
        keys = {key: places.get(key.removeprefix(f"{part}/")) for key in self._keys(part)}
        if missing := sorted(key for key, name in keys.items() if name is None):
            raise WeightsError(f"this is {self.phrase}, with weights for {some_names(missing)}, which this base model lacks; "
                               "give a LoRA made for this base model")
        return {name: [self._addition(key, modules[name], rows, strength)] for key, name in keys.items() if name is not None}

    def _addition(self, key: str, module: nn.Module, rows: Rows, strength: float) -> RowAddition:
        up, down, scale = self.up[key], self.down[key], self.scales[key] * strength
        addition: RowDelta | RowConvolution
        if isinstance(module, nn.Conv2d):
            addition = RowConvolution(rows=rows, up=_planes(up), down=_planes(down), scale=scale,
                                      stride=cast(Any, module.stride), padding=cast(Any, module.padding))
        else:
            addition = RowDelta(rows=rows, up=up.flatten(1), down=down.flatten(1), scale=scale)
        try:
            addition.check(module)
        except WeightsError as error:
            raise WeightsError(f"this is {self.phrase}; {key} has {error}") from error
        return addition


def _pairs(tensors: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    """The factors ("up", "down") of every layer, and the alphas there are, by part and flat name."""
    pairs, alphas = dict[str, dict[str, Tensor]](), dict[str, float]()
    _check_kind(tensors)
    unknown = list[str]()
    for name, tensor in tensors.items():
        factor = _FACTOR.fullmatch(name)
        key = _key(factor["module"] if factor else name.removesuffix(".alpha"))
        if key is None or not (factor or (name.endswith(".alpha") and tensor.numel() == 1)):
            unknown.append(name)
        elif factor:
            pairs.setdefault(key, {})[_SIDES[factor["side"]]] = tensor
        else:
            alphas[key] = float(tensor)
    if unknown:
        raise WeightsError(f"it has {some_names(sorted(unknown))}, which no LoRA for Stable Diffusion's UNet and text encoders has; "
                           "give a plain LoRA in safetensors")
    _check_pairs(pairs, alphas)
    return pairs, alphas


def _check_kind(tensors: Collection[str]) -> None:
    for mark, what in _OTHERS.items():
        if any(re.search(mark, name) for name in tensors):
            raise WeightsError(f"this is {what}, which single rows cannot have; give a plain LoRA (lora_down, lora_up and alpha), or "
                               "merge it into the base model")


def _check_pairs(pairs: Mapping[str, Mapping[str, Tensor]], alphas: Mapping[str, float]) -> None:
    for key, pair in pairs.items():
        if missing := {"up", "down"} - set(pair):
            raise WeightsError(f"{key} has no lora_{missing.pop()}; the file is incomplete: fetch it again")
        shapes = {side: tuple(tensor.shape) for side, tensor in pair.items()}
        if {len(shape) for shape in shapes.values()} - {2, 4} or shapes["up"][1] != shapes["down"][0]:
            raise WeightsError(f"{key} has factors of {shapes['up']} and {shapes['down']}, which do not fit; fetch the file again")
    if lost := sorted(alphas.keys() - pairs.keys()):
        raise WeightsError(f"{some_names(lost)} have an alpha and no factors; the file is incomplete: fetch it again")


def _key(module: str) -> str | None:
    """Part and flat name of a layer in a file."""
    for prefix, part in _PREFIXES:
        if found := re.match(prefix, module):
            flat = _flat(module[found.end():].replace(".processor", ""))
            return f"{part}/{flat}_0" if flat.endswith("_to_out") else f"{part}/{flat}"
    return None


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _planes(factor: Tensor) -> Tensor:
    """A factor of a 1x1 convolution may be a matrix."""
    return factor if factor.ndim == 4 else factor[:, :, None, None]


def _noted_scales(metadata: Mapping[str, str]) -> Callable[[str, int], float]:
    """(key, rank) -> scale of a pair without an alpha: by what diffusers notes in the metadata of peft's settings, else 1."""
    try:
        found: Any = json.loads(metadata.get("lora_adapter_metadata") or "{}")
    except (ValueError, RecursionError):
        found = {}
    noted: Any = found if isinstance(found, dict) else {}

    def scale(key: str, rank: int) -> float:
        part, flat = key.split("/")
        alphas = {_flat(name): alpha for name, alpha in (noted.get(f"{part}.alpha_pattern") or {}).items()}
        alpha = next((value for name, value in alphas.items() if flat.endswith(name)), noted.get(f"{part}.lora_alpha"))
        return 1.0 if alpha is None else alpha / (rank**0.5 if noted.get(f"{part}.use_rslora") else rank)

    return scale
