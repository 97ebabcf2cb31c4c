"""`dreamlayer regenerate` and `dreamlayer add`: one layer sampled among the others, which keep their pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .editing import print_report
from .request import StackRequest, parse_layer_prompts

__all__ = ["add", "regenerate"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring

Stack = Annotated[Path, typer.Argument(help="Folder of a saved stack, its stack.json, an .ora or a .psd file.")]
LayerPrompt = Annotated[list[str] | None, typer.Option(metavar="LAYER=TEXT", help="What a layer shows, where the file has no prompts.")]
Whole = Annotated[str | None, typer.Option("--global", help="What the whole picture shows.")]
Negative = Annotated[str | None, typer.Option(help="What no layer should show.")]
Model = Annotated[str | None, typer.Option(help="'embedded', or a model folder; the one that made the stack by default.")]
Adapter = Annotated[str | None, typer.Option(help="An adapter file, or 'none'; as the stack was made by default.")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps; those of the stack by default.")]
Guidance = Annotated[float | None, typer.Option("--cfg", help="Classifier-free guidance; that of the stack by default.")]
FromPixels = Annotated[bool, typer.Option("--from-pixels", help="Do without the stored trajectory: encode the layers' pictures.")]
NoHarmonize = Annotated[bool, typer.Option("--no-harmonize", help="Without the harmonized picture.")]
Effects = Annotated[
    bool, typer.Option("--effects", help="The new harmonized picture as a stack: layers of shadow and light between the others.")
]
Views = Annotated[int, typer.Option(help="Test-time views of the transparent decoder: 1, 2, 4 or 8.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, or auto (cuda where there is one).")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run has written there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


def regenerate(
    stack: Stack,
    layer: Annotated[int, typer.Option(help="The layer to sample anew; 0 is the background.")],
    prompt: Annotated[str | None, typer.Option(help="What it shows now; its own prompt by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Its noise; the layer's own by default.")] = None,
    layer_prompt: LayerPrompt = None,
    whole: Whole = None,
    negative: Negative = None,
    model: Model = None,
    adapter: Adapter = None,
    steps: Steps = None,
    cfg: Guidance = None,
    from_pixels: FromPixels = False,
    no_harmonize: NoHarmonize = False,
    effects: Effects = False,
    views: Views = 8,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(help="A new folder for the result.")] = Path("regenerated-output"),
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Sample one layer anew, with another prompt or seed; all others keep their pixels, and the new one sees them."""
    request = StackRequest(
        source=stack, model=model, adapter=adapter, steps=steps, guidance=cfg, prompts=parse_layer_prompts(layer_prompt or ()),
        whole=whole, negative=negative, from_pixels=from_pixels, harmonize=not no_harmonize,
        effects="found" if effects else None, views=views, device=device, out=out, overwrite=overwrite)

    from .stack_runs import regenerate_in_stack

    print_report(regenerate_in_stack(request, layer, prompt=prompt, seed=seed), out, as_json)


def add(
    stack: Stack,
    prompt: Annotated[str, typer.Option(help="What the new layer shows.")],
    position: Annotated[int | None, typer.Option(help="Its number; 1 is right above the background, on top by default.")] = None,
    seed: Annotated[int, typer.Option(help="Its noise.")] = 0,
    layer_prompt: LayerPrompt = None,
    whole: Whole = None,
    negative: Negative = None,
    model: Model = None,
    adapter: Adapter = None,
    steps: Steps = None,
    cfg: Guidance = None,
    from_pixels: FromPixels = False,
    no_harmonize: NoHarmonize = False,
    effects: Effects = False,
    views: Views = 8,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(help="A new folder for the result.")] = Path("extended-output"),
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Add a layer to a stack, sampled among the others, which keep their pixels."""
    request = StackRequest(
        source=stack, model=model, adapter=adapter, steps=steps, guidance=cfg, prompts=parse_layer_prompts(layer_prompt or ()),
        whole=whole, negative=negative, from_pixels=from_pixels, harmonize=not no_harmonize,
        effects="found" if effects else None, views=views, device=device, out=out, overwrite=overwrite)

    from .stack_runs import add_to_stack

    print_report(add_to_stack(request, prompt, position=position, seed=seed), out, as_json)
