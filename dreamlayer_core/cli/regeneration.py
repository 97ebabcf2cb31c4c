"""`dreamlayer regenerate` and `dreamlayer add`: one layer sampled among the others, which keep their pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base_options import BaseOptions
from . import options
from .options import print_stack_report
from .request import stack_request

__all__ = ["add", "regenerate"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring


def regenerate(
    stack: options.Stack,
    layer: Annotated[int, typer.Option(help="The layer to sample anew; 0 is the background.")],
    prompt: Annotated[str | None, typer.Option(help="What it shows now; its own prompt by default.")] = None,
    seed: Annotated[int | None, typer.Option(help="Its noise; the layer's own by default.")] = None,
    denoise: Annotated[float, typer.Option(help="Less than 1 keeps that much of what the layer was; 0 all of it.")] = 1.0,
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
    from_pixels: options.FromPixels = False,
    no_harmonize: options.NoHarmonize = False,
    effects: options.NewEffects = False,
    views: options.Views = 8,
    device: options.Device = "auto",
    out: options.Out = Path("regenerated-output"),
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Sample one layer anew, with another prompt or seed; all others keep their pixels, and the new one sees them."""
    request = stack_request(
        stack, layer_prompt=layer_prompt, whole=whole, negative=negative, model=model, adapter=adapter, steps=steps, cfg=cfg,
        base=BaseOptions(layer_decoder=layer_decoder, tokenizer=tokenizer, allow_pickle=allow_pickle),
        from_pixels=from_pixels, no_harmonize=no_harmonize, effects=effects, views=views, device=device, out=out,
        overwrite=overwrite)

    from .stack_runs import regenerate_in_stack

    print_stack_report(regenerate_in_stack(request, layer, prompt=prompt, seed=seed, strength=denoise), as_json, out)


def add(
    stack: options.Stack,
    prompt: Annotated[str, typer.Option(help="What the new layer shows.")],
    position: Annotated[int | None, typer.Option(help="Its number; 1 is right above the background, on top by default.")] = None,
    seed: Annotated[int, typer.Option(help="Its noise.")] = 0,
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
    from_pixels: options.FromPixels = False,
    no_harmonize: options.NoHarmonize = False,
    effects: options.NewEffects = False,
    views: options.Views = 8,
    device: options.Device = "auto",
    out: options.Out = Path("extended-output"),
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Add a layer to a stack, sampled among the others, which keep their pixels."""
    request = stack_request(
        stack, layer_prompt=layer_prompt, whole=whole, negative=negative, model=model, adapter=adapter, steps=steps, cfg=cfg,
        base=BaseOptions(layer_decoder=layer_decoder, tokenizer=tokenizer, allow_pickle=allow_pickle),
        from_pixels=from_pixels, no_harmonize=no_harmonize, effects=effects, views=views, device=device, out=out,
        overwrite=overwrite)

    from .stack_runs import add_to_stack

    print_stack_report(add_to_stack(request, prompt, position=position, seed=seed), as_json, out)
