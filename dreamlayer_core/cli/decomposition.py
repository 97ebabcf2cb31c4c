"""`dreamlayer decompose IMAGE`: a picture taken apart into layers by prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..base_options import BaseOptions, Precision
from ..config import InversionConfig, InversionMethod, PictureFit, SamplingConfig
from ..errors import InputError
from . import options
from .options import print_stack_report
from .request import parse_size

__all__ = ["Box", "DecomposeRequest", "decompose", "parse_boxes", "parse_mask_files"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring

Box = tuple[float, float, float, float]
Steer = Literal["override", "multiply"]
Fit = Literal["all", "foregrounds", "alphas", "none"]
_FITS: Mapping[Fit, PictureFit | None] = {
    "all": PictureFit(), "foregrounds": PictureFit(colors="foregrounds"), "alphas": PictureFit(colors="none"), "none": None}

_NUMBER = r"\s*(-?\d{1,6}(?:\.\d{1,6})?)\s*"
_BOX = re.compile(rf"\s*(\d{{1,4}})\s*={_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}")


@dataclass(frozen=True, kw_only=True)
class DecomposeRequest:
    """One run of `dreamlayer decompose`. Foregrounds stand bottom to top; boxes and masks are of the picture, by layer."""

    image: Path
    background: str
    foregrounds: tuple[str, ...]
    whole: str = ""
    negative: str = ""
    boxes: Mapping[int, Sequence[Box]] = field(default_factory=lambda: dict[int, Sequence[Box]]())
    masks: Mapping[int, Path] = field(default_factory=lambda: dict[int, Path]())
    steer: Steer | None = None  # None: boxes multiply, masks override
    inversion: InversionConfig = field(default_factory=InversionConfig)
    model: str = "embedded"
    adapter: str | None = None  # a file, "none" for the training-free form, None for the model's own
    base: BaseOptions = BaseOptions()  # what the model does not bring along
    precision: Precision = "fp32"
    steps: int = SamplingConfig.steps
    guidance: float = SamplingConfig.guidance
    size: tuple[int, int] | None = None  # (width, height), None for what suits picture and model
    caca: bool = True
    lssa: bool = True
    harmonize: bool = False
    fit: PictureFit | None = PictureFit()  # of the layers to the picture
    residual: bool = False  # a layer that makes up for what the others miss of the picture
    views: int = 8
    trajectory: bool = True
    device: str = "auto"
    out: Path
    overwrite: bool = False


def parse_boxes(values: Sequence[str]) -> dict[int, list[Box]]:
    """`1=20,30,64,48` for each box: layer, then left, top, width and height in pixels. Raises `InputError`."""
    boxes = dict[int, list[Box]]()
    for value in values:
        if not (found := _BOX.fullmatch(value)):
            raise InputError(f"got a box of {value!r}; give LAYER=X,Y,WIDTH,HEIGHT in pixels, such as 1=20,30,64,48")
        x, y, width, height = (float(number) for number in found.groups()[1:])
        boxes.setdefault(int(found[1]), []).append((x, y, width, height))
    return boxes


def parse_mask_files(values: Sequence[str]) -> dict[int, Path]:
    """`1=mask.png` for each layer that has a mask. Raises `InputError`."""
    masks = dict[int, Path]()
    for value in values:
        layer, _, name = value.partition("=")
        if not re.fullmatch(r"\s*\d{1,4}\s*", layer) or not name:
            raise InputError(f"got a mask of {value!r}; give LAYER=FILE, such as 1=mask.png")
        if int(layer) in masks:
            raise InputError(f"got two masks for layer {int(layer)}; give one")
        masks[int(layer)] = Path(name)
    return masks


def decompose(
    image: Annotated[Path, typer.Argument(help="The picture: PNG, JPEG, WebP, TIFF or BMP.")],
    background: Annotated[str, typer.Option(help="What is behind everything else.")],
    foreground: options.Foregrounds,
    whole: options.Whole = "",
    negative: options.Negative = "",
    box: Annotated[
        list[str] | None, typer.Option(metavar="LAYER=X,Y,W,H", help="Where a layer's object is, in pixels of the picture; repeat it.")
    ] = None,
    mask: Annotated[
        list[str] | None, typer.Option(metavar="LAYER=FILE", help="A picture of where a layer's object is, white on black or with alpha.")
    ] = None,
    steer: Annotated[
        Steer | None, typer.Option(help="Boxes and masks replace what the model finds, or limit it; by default masks replace and boxes limit.")
    ] = None,
    method: Annotated[InversionMethod, typer.Option(help="How the picture is taken back to noise.")] = InversionConfig.method,
    no_mask: Annotated[
        bool, typer.Option("--no-mask", help="Without hiding the layers from the whole picture while inverting.")
    ] = False,
    inversion_cfg: Annotated[float, typer.Option(help="Guidance while inverting; 1 is none.")] = InversionConfig.guidance,
    model: options.Model = "embedded",
    adapter: options.Adapter = None,
    layer_decoder: options.LayerDecoder = None,
    tokenizer: options.Tokenizer = None,
    vae: options.Vae = None,
    prediction: options.Prediction = None,
    precision: options.Precision = "fp32",
    allow_pickle: options.AllowPickle = False,
    steps: Annotated[int, typer.Option(help="Steps of the inversion and of the sampling, 1 to 1000.")] = DecomposeRequest.steps,
    cfg: Annotated[float, typer.Option("--cfg", help="Classifier-free guidance of the layers; 1 is none.")] = DecomposeRequest.guidance,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Pixels of the layers, in the picture's shape; by default its own, or as many as the model's pictures have.")
    ] = None,
    no_caca: options.NoCaca = False,
    no_lssa: options.NoLssa = False,
    harmonize: Annotated[bool, typer.Option("--harmonize", help="Also the harmonized picture.")] = False,
    fit: Annotated[
        Fit, typer.Option(help="What of the layers takes its visible colours from the picture: all, foregrounds (the background stays without "
                               "shadows), alphas (no colours, but layers are cut to their context maps), or none.")
    ] = "all",
    residual: Annotated[
        bool, typer.Option("--residual", help="A layer on top that makes the stack the picture, bit for bit in eight bits.")
    ] = False,
    views: options.Views = 8,
    no_trajectory: options.NoTrajectory = False,
    device: options.Device = "auto",
    out: options.Out = Path("dreamlayer-layers"),
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Take a picture apart into layers, one prompt a layer: the same folder as `generate` writes."""
    request = DecomposeRequest(
        image=image,
        background=background,
        foregrounds=tuple(foreground),
        whole=whole,
        negative=negative,
        boxes=parse_boxes(box or ()),
        masks=parse_mask_files(mask or ()),
        steer=steer,
        inversion=InversionConfig(method=method, masked=not no_mask, guidance=inversion_cfg),
        model=model,
        adapter=adapter,
        base=BaseOptions(
            layer_decoder=layer_decoder, tokenizer=tokenizer, vae=vae, prediction=prediction, allow_pickle=allow_pickle),
        precision=precision,
        steps=steps,
        guidance=cfg,
        size=parse_size(size) if size else None,
        caca=not no_caca,
        lssa=not no_lssa,
        harmonize=harmonize,
        fit=_FITS[fit],
        residual=residual,
        views=views,
        trajectory=not no_trajectory,
        device=device,
        out=out,
        overwrite=overwrite,
    )
    from .decomposition_run import decompose_picture

    print_stack_report(decompose_picture(request), as_json, out, layers=1 + len(request.foregrounds))
