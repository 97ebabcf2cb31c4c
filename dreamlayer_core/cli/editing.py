"""`dreamlayer edit`: move, resize, flip, rotate, order, hide and delete layers; shadows and contacts follow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base_options import BaseOptions
from ..errors import InputError
from . import options
from .options import print_stack_report
from .request import stack_request

__all__ = ["edit"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring


def edit(
    stack: options.Stack,
    layer: Annotated[int | None, typer.Option(help="The layer that the options below are for; 0 is the background.")] = None,
    move: Annotated[str | None, typer.Option(metavar="DX,DY", help="Pixels to the right and down.")] = None,
    scale: Annotated[str | None, typer.Option(metavar="S or SX,SY", help="Resize about the layer's middle.")] = None,
    flip: Annotated[str | None, typer.Option(metavar="h|v|hv", help="Mirror: h swaps left and right.")] = None,
    rotate: Annotated[str | None, typer.Option(metavar="DEGREES", help="Clockwise, about the layer's middle.")] = None,
    opacity: Annotated[str | None, typer.Option(metavar="0..1", help="How opaque the layer is.")] = None,
    hide: Annotated[bool, typer.Option("--hide", help="Keep the layer, but leave it out of the picture.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Take a hidden layer in again.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the layer.")] = False,
    to_position: Annotated[str | None, typer.Option(metavar="N", help="The layer's new number; 1 is the lowest foreground.")] = None,
    edits: Annotated[
        list[str] | None,
        typer.Option("--edit", metavar="TEXT", help="All of one layer's changes, such as '2: move 40,0 flip h scale 1.5'; repeat it for more layers."),
    ] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Draw what comes into the frame, by the layer's prompt, instead of leaving it empty.")
    ] = False,
    snap: Annotated[bool, typer.Option("--snap", help="Move latents by whole cells only, as Eq. 13 is written.")] = False,
    layer_prompt: options.LayerPrompt = None,
    whole: options.StackWhole = None,
    negative: options.StackNegative = None,
    model: options.StackModel = None,
    adapter: options.StackAdapter = None,
    layer_decoder: options.LayerDecoder = None,
    tokenizer: options.Tokenizer = None,
    allow_pickle: options.AllowPickle = False,
    steps: options.StackSteps = None,
    cfg: options.StackGuidance = None,
    seed: Annotated[int, typer.Option(help="Noise of what an edit brings into the frame.")] = 0,
    from_pixels: options.FromPixels = False,
    no_harmonize: options.NoHarmonize = False,
    effects: options.NewEffects = False,
    move_effects: Annotated[
        bool, typer.Option("--move-effects", help="Keep the stack's own layers of shadow and light; they go with their objects.")
    ] = False,
    views: options.Views = 8,
    device: options.Device = "auto",
    out: options.Out = Path("edited-output"),
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Edit the layers of a stack and harmonise it again; without any edit, harmonise it as it is."""
    values = {"move": move, "scale": scale, "flip": flip, "rotate": rotate, "opacity": opacity, "to": to_position}
    switches = {"hide": hide, "show": show, "delete": delete}
    texts = [*_one_layer(layer, values, switches), *(edits or ())]
    request = stack_request(
        stack, layer_prompt=layer_prompt, whole=whole, negative=negative, model=model, adapter=adapter, steps=steps, cfg=cfg,
        base=BaseOptions(layer_decoder=layer_decoder, tokenizer=tokenizer, allow_pickle=allow_pickle),
        from_pixels=from_pixels, no_harmonize=no_harmonize, effects=effects, move_effects=move_effects, views=views, device=device,
        out=out, overwrite=overwrite)

    from .edit_words import parse_edit
    from .stack_runs import edit_stack

    changes = [parse_edit(text) for text in texts]
    report = edit_stack(request, changes, snap=snap, complete=complete, seed=seed, described=texts)
    print_stack_report(report, as_json, out)


def _one_layer(layer: int | None, values: dict[str, str | None], switches: dict[str, bool]) -> list[str]:
    """The options of one layer as the text of an edit."""
    words = [f"{word} {value}" for word, value in values.items() if value is not None]
    words += [word for word, given in switches.items() if given]
    if layer is None and words:
        raise InputError(f"got {words[0]!r} and no layer; give --layer N (0 is the background)")
    if layer is not None and not words:
        raise InputError(f"got layer {layer} and nothing to do with it; give --move, --scale, --flip or another edit")
    return [f"{layer}: {' '.join(words)}"] if words else []
