"""What a model file is, from its header alone: a file of 7 GB costs what one of 7 kB does.

Told by the names and shapes of its tensors, never by its own name. Base families are named as in `model_files`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import WeightsError
from .file_headers import NoHeader, read_header
from .model_registry import fetch_hint
from .tensor_checks import some_names

__all__ = ["FileKind", "expect", "identify", "recognise", "refusal"]

Shapes = Mapping[str, tuple[int, ...]]

# The kinds that a loader can expect, in words.
_EXPECTED = {
    "checkpoint": "a whole checkpoint of SD1, SD2 or SDXL",
    "unet": "a UNet of SD1, SD2 or SDXL",
    "vae": "a VAE",
    "text-encoder": "a text encoder",
    "lora": "a LoRA",
    "controlnet": "a ControlNet",
    "ip-adapter": "an IP-Adapter",
    "textual-inversion": "a textual inversion",
    "dreamlayer-adapter": "a DreamLayer adapter",
    "dreamlayer-transparent-decoder": "a transparent decoder",
    "layerdiffuse-decoder": "a transparent decoder",
    "layerdiffuse-encoder": "LayerDiffuse's transparent encoder",
    "layerdiffuse-attention": "LayerDiffuse's attention weights for SD1.5 (layer_sd15_transparent_attn)",
    "layerdiffuse-joint": "LayerDiffuse's joint weights for SD1.5 (layer_sd15_joint)",
    "layerdiffuse-conditional": "LayerDiffuse's conditional weights for SD1.5 (layer_sd15_fg2bg or layer_sd15_bg2fg)",
    "layerdiffuse-xl": "LayerDiffuse's weight patches for SDXL (layer_xl_transparent_attn)",
    "layerdiffuse-xl-conditional": "LayerDiffuse's conditional weight patches for SDXL",
}
_OURS = ("dreamlayer-adapter", "dreamlayer-transparent-decoder")

_FAMILIES = {"sd15": "SD1", "sd21": "SD2", "sdxl": "SDXL", "refiner": "SDXL's refiner", "dreamlayer-embedded": "the embedded model"}
# Channels of the text embeddings -> base family: all that a LoRA, a ControlNet or an IP-Adapter shows of its base.
_TEXT_WIDTHS = {768: "sd15", 1024: "sd21", 2048: "sdxl", 1280: "refiner", 128: "dreamlayer-embedded"}
_PURPOSES = {4: "", 5: "depth", 8: "editing", 9: "inpainting"}  # by the channels that a UNet takes in

_AGAIN = "fetch it again"
# Files of no use to anybody -> the next step.
_REMEDIES = {
    "missing": "check its name, or fetch it",
    "unreadable": "check its permissions",
    "empty": _AGAIN,
    "truncated": _AGAIN,
    "damaged": _AGAIN,
    "web-page": _AGAIN,
    "json": _AGAIN,
    "lfs-pointer": "fetch the file itself with git lfs pull",
}
_OTHER_FORMATS = ("gguf", "pickle", "zip", "folder", "no-safetensors")


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """What a file is."""

    name: str  # for programs, such as "lora" or "truncated"
    phrase: str  # for people, such as "a LoRA for SDXL"
    family: str | None = None  # of the base model, where the file tells
    dtypes: tuple[str, ...] = ()  # of its tensors, in safetensors' names, sorted
    remedy: str | None = None  # what to do about a file that is of no use

    @property
    def is_quantized(self) -> bool:
        """Whether weights are stored in 8 bits or fewer."""
        return any(re.fullmatch(r"F4|F[68]_\w+|[IU][48]", dtype) for dtype in self.dtypes)

    def describe(self) -> str:
        """The phrase for messages, with how the weights are stored where that is unusual."""
        if not self.is_quantized:
            return self.phrase
        stored = "fp8" if any(dtype.startswith("F8") for dtype in self.dtypes) else "8 bits or fewer"
        return f"{self.phrase}, stored in {stored}"


def identify(path: str | Path) -> FileKind:
    """What is at ``path``. Raises nothing: a missing and a damaged file are kinds, too."""
    try:
        header = read_header(Path(path))
    except NoHeader as other:
        hint = fetch_hint(Path(path)) if other.name == "missing" else None
        return FileKind(name=other.name, phrase=str(other), remedy=hint or _REMEDIES.get(other.name))
    kind = recognise(header.shapes, header.metadata)
    return replace(kind, dtypes=tuple(sorted(set(header.dtypes.values()))))


def expect(path: str | Path, *kinds: str) -> FileKind:
    """The kind of the file, which must be one of ``kinds`` (keys of the table above), stored in more than 8 bits.

    Raises WeightsError with one line: what the file is, what was expected, and the next step.
    """
    found = identify(path)
    if found.name in kinds and not found.is_quantized:
        return found
    raise WeightsError(f"{path}: {refusal(found, *kinds)}")


def refusal(found: FileKind, *kinds: str) -> str:
    """What is said of a file that is none of ``kinds``, or is quantized: what it is, what was expected, the next step."""
    this = found.phrase if found.name == "missing" else f"this is {found.describe()}"
    return f"{this}; {_next_step(found, kinds)}"


def _next_step(found: FileKind, kinds: Sequence[str]) -> str:
    wanted = " or ".join(dict.fromkeys(_EXPECTED[kind] for kind in kinds))
    if found.name in kinds:
        return "give it in float16, bfloat16 or float32"
    if found.remedy:
        return found.remedy + (f"; expected {wanted}" if wanted else "")
    if found.name in _OTHER_FORMATS:
        return f"give {wanted + ' in ' if wanted else ''}a safetensors file"
    return f"give {wanted}"


def recognise(shapes: Shapes, metadata: Mapping[str, str]) -> FileKind:
    """What a file with tensors of these names and shapes is; of its dtypes it says nothing."""
    if (ours := metadata.get("format")) in _OURS:
        return FileKind(name=ours, phrase=_EXPECTED[ours], family=metadata.get("base_family"))
    tensors = _Tensors(shapes, metadata)
    for mark, rule in _RULES:
        if tensors.have(mark) and (kind := rule(tensors)):
            return kind
    few = some_names(sorted(shapes)) or "no tensors"
    return FileKind(name="unknown", phrase=f"a safetensors file of an unknown kind with {few}")


class _Tensors:
    """Names and shapes, to be asked by patterns; ^ and $ are the begin and the end of a name."""

    def __init__(self, shapes: Shapes, metadata: Mapping[str, str]) -> None:
        self.shapes, self.metadata = shapes, metadata
        self._names = "\n".join(shapes)  # one search looks at all

    def have(self, pattern: str) -> bool:
        return re.search(pattern, self._names, re.MULTILINE) is not None

    def side(self, pattern: str, axis: int) -> int | None:
        """How long this axis is in the first tensor whose name has the pattern."""
        return next((shape[axis] for name, shape in self.shapes.items()
                     if -len(shape) <= axis < len(shape) and re.search(pattern, name)), None)

    def family(self) -> str | None:
        """The base family, by the channels of the text embeddings."""
        return _TEXT_WIDTHS.get(self.side(_TAKES_TEXT, 1) or 0)


_Rule = Callable[[_Tensors], FileKind | None]

# Matrices that take text embeddings in: of a UNet, ControlNet or IP-Adapter, and the first factor of a LoRA for one.
_TAKES_TEXT = (r"(attn2[._](processor\.)?to_[kv](_lora)?|to_[kv]_ip)"
               r"\.(weight|(lora_)?down\.weight|lora\.down\.weight|lora_A\.(\w+\.)?weight|hada_w1_b)$")
_LORA = r"lora[._](up|down|A|B)\b|hada_w1|lokr_w|oft_blocks|oft_diag|dora_scale"
_ARCHITECTURES = {
    r"double_blocks[._]|single_transformer_blocks[._]": "Flux or a model like it",
    r"joint_blocks[._]|norm_added|add_k_proj": "SD3 or a model like it",
    r"(double|single)_layers\.": "AuraFlow",
    r"\bclip(_txt)?_mapper\.": "Stable Cascade",
    r"time_stack|temporal_transformer_blocks": "Stable Video Diffusion",
}


def _named(name: str, phrase: str | None = None) -> _Rule:
    return lambda tensors: FileKind(name=name, phrase=phrase or _EXPECTED[name])


def _for_base(name: str) -> _Rule:
    """Something that goes with the base models of one family."""
    def rule(tensors: _Tensors) -> FileKind:
        family = tensors.family() or _told_family(tensors)
        base = _FAMILIES.get(family or "") or _other_architecture(tensors)
        return FileKind(name=name, phrase=_EXPECTED[name] + (f" for {base}" if base else ""), family=family)

    return rule


def _told_family(tensors: _Tensors) -> str | None:
    """Where no matrix for text tells: the second text encoder, or what a trainer wrote into the metadata."""
    if tensors.have(r"^(lora_te2|text_encoder_2)[._]"):
        return "sdxl"
    told = " ".join(tensors.metadata.get(key, "") for key in ("modelspec.architecture", "ss_base_model_version")).lower()
    signs = {"sdxl": "sdxl", "diffusion-xl": "sdxl", "sd_v1": "sd15", "diffusion-v1": "sd15", "sd_v2": "sd21", "diffusion-v2": "sd21"}
    return next((family for sign, family in signs.items() if sign in told), None)


def _other_architecture(tensors: _Tensors) -> str | None:
    return next((words for mark, words in _ARCHITECTURES.items() if tensors.have(mark)), None)


def _other_model(tensors: _Tensors) -> FileKind:
    which = _other_architecture(tensors)
    return FileKind(name="other-model", phrase="a model that is not Stable Diffusion 1, 2 or XL" + (f" but {which}" if which else ""))


def _layerdiffuse_attention(tensors: _Tensors) -> FileKind:
    several = tensors.have(r"to_q_lora\.[1-9]")  # frames
    variant = "conditional" if tensors.have(r"^kwargs_encoder\.") else "joint" if several else "attention"
    name = f"layerdiffuse-{variant}"
    return FileKind(name=name, phrase=_EXPECTED[name], family="sd15")


def _layerdiffuse_patches(tensors: _Tensors) -> FileKind:
    channels = tensors.side(r"(input_blocks\.0\.0|conv_in)\.weight::diff::", 1) or 4
    name = "layerdiffuse-xl-conditional" if channels > 4 else "layerdiffuse-xl"
    return FileKind(name=name, phrase=_EXPECTED[name], family="sdxl")


def _transparent_encoder(tensors: _Tensors) -> FileKind | None:
    if all(re.fullmatch(r"blocks\.\d+\.(weight|bias)", name) for name in tensors.shapes):
        return _named("layerdiffuse-encoder")(tensors)
    return None


def _checkpoint(tensors: _Tensors) -> FileKind | None:
    """In the original layout: whole, or a part."""
    if not tensors.have(r"diffusion_model\.input_blocks\.") or _other_architecture(tensors):
        return _other_model(tensors)
    parts = {"VAE": r"^first_stage_model\.", "text encoder": r"^(cond_stage_model|conditioner)\."}
    missing = [part for part, mark in parts.items() if not tensors.have(mark)]
    if len(missing) == len(parts):
        return _unet(tensors)
    kind = _of_purpose("checkpoint", tensors)
    return replace(kind, name="incomplete-checkpoint", phrase=f"{kind.phrase} without its {missing[0]}") if missing else kind


def _unet(tensors: _Tensors) -> FileKind:
    kind = _of_purpose("unet", tensors)
    return _other_model(tensors) if _other_architecture(tensors) else replace(kind, phrase=f"{kind.phrase} alone")


def _of_purpose(name: str, tensors: _Tensors) -> FileKind:
    """A ``checkpoint`` or ``unet`` from text to pictures; one for another purpose has it before its name."""
    family = tensors.family()
    channels = tensors.side(r"\binput_blocks\.0\.0\.weight$|^conv_in\.weight$", 1) or 4
    purpose = "refiner" if family == "refiner" else _PURPOSES.get(channels, f"{channels}-channel")
    what = "checkpoint" if name == "checkpoint" else "UNet"
    article = "an" if purpose[:1] in ("e", "i") else "a"
    phrase = f"{article} {purpose} {what}" if purpose not in ("", "refiner") else f"a {what}"
    base = _FAMILIES.get(family or "", "Stable Diffusion")
    return FileKind(name=f"{purpose}-{name}" if purpose else name, phrase=f"{phrase} of {base}", family=family)


def _vae(tensors: _Tensors) -> FileKind:
    channels = tensors.side(r"\bdecoder\.conv_in\.weight$", 1) or 4
    return FileKind(name="vae", phrase=_EXPECTED["vae"] + ("" if channels == 4 else f" of {channels} latent channels"))


def _textual_inversion(tensors: _Tensors) -> FileKind | None:
    if not all(re.fullmatch(r"emb_params|clip_[lg]|t5xxl|<.*>", name) for name in tensors.shapes):
        return None
    family = "sdxl" if tensors.have("^clip_g$") else _TEXT_WIDTHS.get(tensors.side("", -1) or 0)
    return FileKind(name="textual-inversion", phrase=f"a textual inversion for {_FAMILIES[family]}" if family else "a textual inversion", family=family)


# What a name has -> what the file is; the first that fits. A pattern comes before those of the parts that such a file can hold.
_RULES: tuple[tuple[str, _Rule], ...] = (
    (r"^hookers\.layers\.", _layerdiffuse_attention),
    (r"::(lora|diff)::", _layerdiffuse_patches),
    (r"^latent_conv_in\.", _named("layerdiffuse-decoder")),
    (r"^blocks\.16\.", _transparent_encoder),
    (r"^layer_assign$", _named("unmarked-adapter", "an adapter without its metadata")),
    (r"to_[kv]_ip\.|^ip_adapter\.", _for_base("ip-adapter")),
    (r"^(control_model|input_hint_block|controlnet_blocks|controlnet_cond_embedding|lllite_\w+|lora_controlnet$)\b", _for_base("controlnet")),
    (r"motion_modules\.", _named("motion-module", "a motion module of AnimateDiff")),
    (_LORA, _for_base("lora")),
    (r"^model\.diffusion_model\.", _checkpoint),
    (r"^input_blocks\.0\.0\.|^down_blocks\.\d+\.(resnets|attentions)\.", _unet),
    (r"^first_stage_model\.|^(encoder|decoder)\.conv_in\.|\bquant_conv\.", _vae),
    (r"\bpatch_embedding\.|vision_model\.|^visual\.", _named("clip-vision", "a CLIP vision model")),
    (r"text_model\.|\btransformer\.resblocks\.|\btoken_embedding\.weight$", _named("text-encoder")),
    (r"^encoder\.block\.0\.|^model\.layers\.0\.", _named("language-model", "a language model or a T5 text encoder")),
    (r"^(emb_params|clip_[lg]|<.*>)$", _textual_inversion),
    ("|".join(_ARCHITECTURES) + r"|^(transformer_)?blocks\.0\.|^layers\.0\.", _other_model),
)
