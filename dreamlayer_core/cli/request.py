"""What a command line asks for, checked as far as that goes without a model. Imports nothing that takes time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypedDict

from ..base_options import BaseOptions, Precision
from ..config import (
    EMBEDDED_SAMPLING,
    CrossKeys,
    GuidanceInterval,
    LayerAttentionConfig,
    SamplingConfig,
    SchedulerName,
    TilingConfig,
)
from ..errors import InputError

__all__ = [
    "DEMO", "Effects", "GenerateRequest", "LayerFile", "LayerPictures", "PromptFields", "StackRequest", "parse_interval", "parse_layer_files",
    "parse_layer_guidance", "parse_layer_prompts", "parse_layer_seeds", "parse_size", "stack_request", "tiles_of", "usual_sampling",
]


Box = tuple[float, float, float, float]  # left, top, right, bottom


class PromptFields(TypedDict, total=False):
    """The fields of a GenerateRequest that say what is to be seen."""

    background: str
    foregrounds: tuple[str, ...]
    names: tuple[str, ...]
    boxes: Mapping[int, Box]
    whole: str
    negative: str


Effects = Literal["found", "moved"]


def check_effects(harmonize: bool) -> None:
    """Raises InputError for effects without a harmonised picture."""
    if not harmonize:
        raise InputError("got --effects and --no-harmonize; effects are what the harmonised picture changes, so give one of them")


@dataclass(frozen=True, kw_only=True)
class LayerFile:
    """A LoRA or a picture of one layer (0 is the background), or of the row of the whole picture."""

    layer: int | Literal["global"]
    file: Path
    strength: float = 1.0

    def noted(self) -> str:
        """As `parse_layer_files` reads it, from any folder."""
        return f"{self.layer}={self.file.resolve()}:{self.strength:g}"

    def check_layer(self, option: str, foregrounds: int) -> None:
        """Raises InputError for a layer that the request lacks."""
        if self.layer != "global" and self.layer > foregrounds:
            raise InputError(
                f"got {option} for layer {self.layer} of {foregrounds + 1}; give 0 (the background) to {foregrounds}, or global")


@dataclass(frozen=True, kw_only=True)
class LayerPictures:
    """What single layers go by: image prompts of an IP-Adapter, hints of a ControlNet. InputError for a part without the others."""

    image_prompts: tuple[LayerFile, ...] = ()
    ip_adapter: Path | None = None
    image_encoder: Path | None = None
    controls: tuple[LayerFile, ...] = ()
    controlnet: Path | None = None

    def __post_init__(self) -> None:
        if {bool(self.image_prompts), self.ip_adapter is not None, self.image_encoder is not None} == {True, False}:
            raise InputError("got some of --image-prompt, --ip-adapter and --image-encoder; give all three")
        if bool(self.controls) != (self.controlnet is not None):
            raise InputError("got one of --control and --controlnet; give both")
        for option, one in self._files():
            if not 0 <= one.strength <= 10:
                raise InputError(f"got {option} with a strength of {one.strength:g}; give 0 (none) to 10, 1 as trained")

    def check_layers(self, foregrounds: int) -> None:
        """Raises InputError for layers that the request lacks."""
        for option, one in self._files():
            one.check_layer(option, foregrounds)

    def of_whole(self) -> LayerPictures:
        """Those of the row of the whole picture, which is all that harmonising has."""
        prompts, hints = (tuple(one for one in several if one.layer == "global") for several in (self.image_prompts, self.controls))
        return LayerPictures(
            image_prompts=prompts, ip_adapter=self.ip_adapter if prompts else None, image_encoder=self.image_encoder if prompts else None,
            controls=hints, controlnet=self.controlnet if hints else None)

    def _files(self) -> list[tuple[str, LayerFile]]:
        return [*(("--image-prompt", one) for one in self.image_prompts), *(("--control", one) for one in self.controls)]


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """One run of `dreamlayer generate`. Foregrounds stand bottom to top; `size` is (width, height), None the model's own."""

    background: str
    foregrounds: tuple[str, ...]
    names: tuple[str, ...] = ()  # of the foregrounds; by their prompts without
    boxes: Mapping[int, Box] = field(default_factory=lambda: dict[int, Box]())  # of layers, in shares of the canvas
    whole: str = ""
    negative: str = ""
    model: str = "embedded"
    adapter: str | None = None  # a file, "none" for the training-free form, None for the model's own
    base: BaseOptions = BaseOptions()  # what the model does not bring along
    precision: Precision = "fp32"
    seed: int = 0
    layer_seeds: Mapping[int, int] = field(default_factory=lambda: dict[int, int]())
    loras: tuple[LayerFile, ...] = ()
    pictures: LayerPictures = LayerPictures()
    steps: int = SamplingConfig.steps
    guidance: float = SamplingConfig.guidance
    guidance_interval: GuidanceInterval | None = None
    layer_guidance: Mapping[int, float] = field(default_factory=lambda: dict[int, float]())
    scheduler: SchedulerName = SamplingConfig.scheduler
    cross_keys: CrossKeys = LayerAttentionConfig.cross_keys
    attention_memory: int | None = None  # MiB
    tile: int | None = None  # pixels a side
    size: tuple[int, int] | None = None
    caca: bool = True
    lssa: bool = True
    harmonize: bool = True
    views: int = 8
    trajectory: bool = True  # keep what editing and regenerating single layers need
    effects: bool = False  # the harmonised picture as a stack
    device: str = "auto"
    out: Path
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.effects:
            check_effects(self.harmonize)
        for lora in self.loras:
            lora.check_layer("--lora", len(self.foregrounds))
        self.pictures.check_layers(len(self.foregrounds))

    @property
    def attention(self) -> LayerAttentionConfig:
        """InputError for what cannot be."""
        return LayerAttentionConfig(
            caca=self.caca, lssa=self.lssa, cross_keys=self.cross_keys, attention_memory=self.attention_memory)

    @property
    def tiling(self) -> TilingConfig:
        """InputError for what cannot be."""
        return tiles_of(self.tile)


@dataclass(frozen=True, kw_only=True)
class StackRequest:
    """What `edit`, `regenerate` and `add` share: a saved stack, and how it is sampled; None is as the stack was made."""

    source: Path
    model: str | None = None
    adapter: str | None = None
    base: BaseOptions = BaseOptions()
    steps: int | None = None
    guidance: float | None = None
    prompts: Mapping[int, str] = field(default_factory=lambda: dict[int, str]())  # of layers that the file has none for
    whole: str | None = None
    negative: str | None = None
    from_pixels: bool = False  # leave the stored trajectory, encode the pictures
    harmonize: bool = True
    effects: Effects | None = None  # layers of the new harmonised picture, or the stack's own that went with their objects
    views: int = 8
    device: str = "auto"
    out: Path
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.effects == "found":
            check_effects(self.harmonize)


# Words that the embedded model was trained on; four layers, so that the demo shows occlusion and every part of the method.
DEMO = GenerateRequest(
    background="a sandy beach on a clear day",
    foregrounds=("a blue cube", "a shiny yellow duck", "a red mug"),
    seed=13,
    out=Path("demo-output"),
)


def parse_size(text: str) -> tuple[int, int]:
    """`512x768` as (width, height). Raises `InputError`; whether a model can make it is the model's to say."""
    if not (found := re.fullmatch(r"\s*(\d{1,9})\s*[xX×]\s*(\d{1,9})\s*", text)):
        raise InputError(f"got a size of {text!r}; give WIDTHxHEIGHT in pixels, such as 128x128")
    return int(found[1]), int(found[2])


def parse_layer_prompts(values: Sequence[str]) -> dict[int, str]:
    """`1=a red ball` for each layer; 0 is the background. Raises `InputError`."""
    return {layer: text.strip() for layer, text in _by_layer("prompt", values, "(.*)", "TEXT, such as '1=a red ball'")}


def parse_layer_seeds(values: Sequence[str]) -> dict[int, int]:
    """`1=7` for each layer that has a seed of its own; 0 is the background. Raises `InputError`."""
    return {layer: int(seed) for layer, seed in _by_layer("seed", values, r"(-?\d{1,18})", "SEED, such as 1=42")}


def parse_layer_guidance(values: Sequence[str]) -> dict[int, float]:
    """`2=7.5` for each layer that has a guidance of its own; 0 is the background. Raises `InputError`."""
    read = _by_layer("guidance", values, r"(\d{1,3}(?:\.\d{1,6})?)", "SCALE, such as 1=7.5")
    return {layer: float(scale) for layer, scale in read}


def tiles_of(side: int | None) -> TilingConfig:
    """Tiles of so many pixels a side for all pictures that are larger; None: as usual. InputError for what cannot be."""
    return TilingConfig() if side is None else TilingConfig(above=side, tile=side, overlap=max(1, side // 8))


def usual_sampling(
    model: str, adapter: str | None, scheduler: SchedulerName, steps: int | None, cfg: float | None, layer_cfg: Sequence[str] | None
) -> SamplingConfig:
    """What the command line says of sampling; what it leaves open is usual for the scheduler and for the embedded model."""
    usual, of_layers = SamplingConfig.usual(scheduler, steps, cfg), parse_layer_guidance(layer_cfg or ())
    if cfg is None and scheduler != "lcm" and model == "embedded" and adapter is None:
        return replace(
            usual, guidance=EMBEDDED_SAMPLING.guidance, layer_guidance={**EMBEDDED_SAMPLING.layer_guidance, **of_layers})
    return replace(usual, layer_guidance=of_layers)


def _by_layer(name: str, values: Sequence[str], pattern: str, example: str) -> Iterator[tuple[int, str]]:
    for value in values:
        if not (found := re.fullmatch(rf"\s*(\d{{1,4}})\s*=\s*{pattern}\s*", value, re.DOTALL)):
            raise InputError(f"got a layer {name} of {value!r}; give LAYER={example} (0 is the background)")
        yield int(found[1]), found[2]


def parse_layer_files(option: str, values: Sequence[str], example: str) -> tuple[LayerFile, ...]:
    """`1=sketch.png:0.8` for each file of a layer, strength 1 by default; 0 is the background. Raises `InputError`."""
    files = list[LayerFile]()
    for value in values:
        if not (found := re.fullmatch(r"\s*(\d{1,4}|global)\s*=\s*(.+?)\s*(?::(-?\d{1,3}(?:\.\d{1,6})?))?\s*", value)):
            raise InputError(f"got {option} {value!r}; give LAYER=FILE or LAYER=FILE:STRENGTH, such as 1={example}:0.8 "
                             "(0 is the background, global the whole picture)")
        layer, file, strength = found.groups()
        files.append(LayerFile(
            layer="global" if layer == "global" else int(layer), file=Path(file), strength=float(strength or 1)))
    return tuple(files)


def parse_interval(text: str) -> GuidanceInterval:
    """`400,800` as (low, high). Raises `InputError`."""
    if not (found := re.fullmatch(r"\s*(\d{1,4})\s*,\s*(\d{1,4})\s*", text)):
        raise InputError(f"got a guidance interval of {text!r}; give LOW,HIGH, such as 400,800 (timesteps from 0 to 1000)")
    return int(found[1]), int(found[2])


def stack_request(
    stack: Path,
    *,
    layer_prompt: Sequence[str] | None,
    whole: str | None,
    negative: str | None,
    model: str | None,
    adapter: str | None,
    base: BaseOptions,
    steps: int | None,
    cfg: float | None,
    from_pixels: bool,
    no_harmonize: bool,
    effects: bool,
    move_effects: bool = False,
    views: int,
    device: str,
    out: Path,
    overwrite: bool,
) -> StackRequest:
    """The options that `edit`, `regenerate` and `add` share, under the names that they have there. Raises `InputError`."""
    if effects and move_effects:
        raise InputError("got --effects and --move-effects; give one of them")
    return StackRequest(
        source=stack, model=model, adapter=adapter, base=base, steps=steps, guidance=cfg,
        prompts=parse_layer_prompts(layer_prompt or ()),
        whole=whole, negative=negative, from_pixels=from_pixels, harmonize=not no_harmonize,
        effects="found" if effects else "moved" if move_effects else None, views=views, device=device, out=out,
        overwrite=overwrite)
