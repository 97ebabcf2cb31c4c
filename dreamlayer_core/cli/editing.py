"""`dreamlayer edit`: move, resize, flip, rotate, order, hide and delete layers; shadows and contacts follow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .request import StackRequest, parse_layer_prompts

__all__ = ["edit", "print_report"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring


def edit(
    stack: Annotated[Path, typer.Argument(help="Folder of a saved stack, its stack.json, an .ora or a .psd file.")],
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
    layer_prompt: Annotated[list[str] | None, typer.Option(metavar="LAYER=TEXT", help="What a layer shows, where the file has no prompts.")] = None,
    whole: Annotated[str | None, typer.Option("--global", help="What the whole picture shows.")] = None,
    negative: Annotated[str | None, typer.Option(help="What no layer should show.")] = None,
    model: Annotated[str | None, typer.Option(help="'embedded', or a model folder; the one that made the stack by default.")] = None,
    adapter: Annotated[str | None, typer.Option(help="An adapter file, or 'none'; as the stack was made by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps; those of the stack by default.")] = None,
    cfg: Annotated[float | None, typer.Option(help="Classifier-free guidance; that of the stack by default.")] = None,
    seed: Annotated[int, typer.Option(help="Noise of what an edit brings into the frame.")] = 0,
    from_pixels: Annotated[bool, typer.Option("--from-pixels", help="Do without the stored trajectory: encode the layers' pictures.")] = False,
    no_harmonize: Annotated[bool, typer.Option("--no-harmonize", help="Without the harmonized picture.")] = False,
    effects: Annotated[
        bool, typer.Option("--effects", help="The new harmonized picture as a stack: layers of shadow and light between the others.")
    ] = False,
    move_effects: Annotated[
        bool, typer.Option("--move-effects", help="Keep the stack's own layers of shadow and light; they go with their objects.")
    ] = False,
    views: Annotated[int, typer.Option(help="Test-time views of the transparent decoder: 1, 2, 4 or 8.")] = 8,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, or auto (cuda where there is one).")] = "auto",
    out: Annotated[Path, typer.Option(help="A new folder for the result.")] = Path("edited-output"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run has written there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")] = False,
) -> None:
    """Edit the layers of a stack and harmonise it again; without any edit, harmonise it as it is."""
    values = {"move": move, "scale": scale, "flip": flip, "rotate": rotate, "opacity": opacity, "to": to_position}
    switches = {"hide": hide, "show": show, "delete": delete}
    texts = [*_one_layer(layer, values, switches), *(edits or ())]
    if effects and move_effects:
        raise InputError("got --effects and --move-effects; give one of them")
    request = StackRequest(
        source=stack, model=model, adapter=adapter, steps=steps, guidance=cfg, prompts=parse_layer_prompts(layer_prompt or ()),
        whole=whole, negative=negative, from_pixels=from_pixels, harmonize=not no_harmonize,
        effects="found" if effects else "moved" if move_effects else None, views=views, device=device, out=out,
        overwrite=overwrite)

    from .edit_words import parse_edit
    from .stack_runs import edit_stack

    changes = [parse_edit(text) for text in texts]
    print_report(edit_stack(request, changes, snap=snap, complete=complete, seed=seed, described=texts), out, as_json)


def _one_layer(layer: int | None, values: dict[str, str | None], switches: dict[str, bool]) -> list[str]:
    """The options of one layer as the text of an edit."""
    words = [f"{word} {value}" for word, value in values.items() if value is not None]
    words += [word for word, given in switches.items() if given]
    if layer is None and words:
        raise InputError(f"got {words[0]!r} and no layer; give --layer N (0 is the background)")
    if layer is not None and not words:
        raise InputError(f"got layer {layer} and nothing to do with it; give --move, --scale, --flip or another edit")
    return [f"{layer}: {' '.join(words)}"] if words else []


def print_report(report: dict[str, object], out: Path, as_json: bool) -> None:
    """The last line of a command on a stack."""
    import json

    from .front_door import say

    if as_json:
        typer.echo(json.dumps(report))
    else:
        folder = out.resolve()
        say(f"{folder}: look at {folder / 'overview.png'} first")
