"""The commands and their options. The work is in the modules beside this one and in the core."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from ..base_options import BaseOptions
from ..config import FAST, LayerAttentionConfig
from ..errors import InputError
from . import options
from .decomposition import decompose
from .editing import edit
from .evaluate import evaluate_app
from .front_door import FrontDoor
from .models import models_app
from .options import print_report, print_stack_report
from .plan import plan
from .regeneration import add, regenerate
from .request import (
    DEMO,
    GenerateRequest,
    LayerPictures,
    PromptFields,
    parse_interval,
    parse_layer_files,
    parse_layer_seeds,
    parse_size,
    usual_sampling,
)
from .train import train

__all__ = ["app", "main"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring

app = typer.Typer(
    cls=FrontDoor, name="dreamlayer", pretty_exceptions_enable=False, help="Pictures in layers, from one prompt a layer."
)

LayerSeed = Annotated[
    list[str] | None, typer.Option(metavar="LAYER=SEED", help="Another seed for one layer (0 is the background).")
]
SplitName = Annotated[Literal["train", "test"], typer.Option(help="Scenes for training, or those held out from it.")]


def main() -> None:
    """The `dreamlayer` command."""
    # What the libraries would say is said by our own messages, and everything is local but `dreamlayer models`.
    usual = {"TRANSFORMERS_VERBOSITY": "error", "DIFFUSERS_VERBOSITY": "error", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if sys.argv[1:2] != ["models"]:
        usual["HF_HUB_OFFLINE"] = "1"
    for name, value in usual.items():
        os.environ.setdefault(name, value)
    signal.signal(signal.SIGTERM, _terminated)
    app()


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)  # an exception, so that half-written folders are removed


def _version(asked: bool) -> None:
    if not asked:
        return
    try:
        typer.echo(f"dreamlayer {version('dreamlayer')}")
    except PackageNotFoundError:
        typer.echo("dreamlayer, not installed")
    raise typer.Exit


@app.callback(invoke_without_command=True)
def front(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Pictures in layers, from one prompt a layer: background, foregrounds with alpha, and the whole with its shadows."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def generate(
    background: Annotated[str | None, typer.Option(help="What the background shows.")] = None,
    foreground: options.OptionalForegrounds = None,
    plan: Annotated[Path | None, typer.Option(help="Background and foregrounds from a file of `dreamlayer plan --out`.")] = None,
    whole: options.Whole = "",
    negative: options.Negative = "",
    model: options.Model = "embedded",
    adapter: options.Adapter = None,
    layer_decoder: options.LayerDecoder = None,
    layerdiffuse: options.LayerDiffuse = None,
    layer_encoder: options.LayerEncoder = None,
    tokenizer: options.Tokenizer = None,
    vae: options.Vae = None,
    prediction: options.Prediction = None,
    precision: options.Precision = "fp32",
    allow_pickle: options.AllowPickle = False,
    seed: options.Seed = 0,
    layer_seed: LayerSeed = None,
    lora: options.Lora = None,
    image_prompt: options.ImagePrompt = None,
    ip_adapter: options.IpAdapter = None,
    image_encoder: options.ImageEncoder = None,
    control: options.Control = None,
    controlnet: options.ControlNet = None,
    scheduler: options.Scheduler = GenerateRequest.scheduler,
    steps: options.UsualSteps = None,
    cfg: options.UsualGuidance = None,
    layer_cfg: options.LayerGuidance = None,
    guidance_interval: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="Guide between these timesteps alone, 0 to 1000; steps beyond them take half the time.")
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Guidance in the noisier timesteps alone, and a coarser look at the other layers: saves nearly half the time.")
    ] = False,
    attention_memory: Annotated[
        int | None, typer.Option(metavar="MIB", min=1, help="Bound for the scores of an attention that PyTorch writes out, as on older GPUs.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Decode larger pictures in tiles of this side; by default those beyond 1280x1280.")
    ] = None,
    size: options.Size = None,
    no_caca: options.NoCaca = False,
    no_lssa: options.NoLssa = False,
    no_harmonize: options.NoHarmonize = False,
    no_trajectory: options.NoTrajectory = False,
    effects: Annotated[
        bool, typer.Option("--effects", help="The harmonized picture as a stack: layers of shadow and light between the others.")
    ] = False,
    views: options.Views = 8,
    device: options.Device = "auto",
    out: options.Out = Path("dreamlayer-output"),
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Make a layered picture: stack.json, layers, composite, harmonized picture, PSD, OpenRaster and an overview."""
    sampling = usual_sampling(model, adapter, scheduler, steps, cfg, layer_cfg)
    request = GenerateRequest(
        **_words(plan, background, foreground, whole, negative),
        model=model,
        adapter=adapter,
        base=BaseOptions(
            layer_decoder=layer_decoder, layerdiffuse=layerdiffuse, layer_encoder=layer_encoder, tokenizer=tokenizer, vae=vae,
            prediction=prediction, allow_pickle=allow_pickle),
        precision=precision,
        seed=seed,
        layer_seeds=parse_layer_seeds(layer_seed or ()),
        loras=parse_layer_files("--lora", lora or (), "paint.safetensors"),
        pictures=LayerPictures(
            image_prompts=parse_layer_files("--image-prompt", image_prompt or (), "style.png"), ip_adapter=ip_adapter,
            image_encoder=image_encoder, controls=parse_layer_files("--control", control or (), "sketch.png"), controlnet=controlnet),
        steps=sampling.steps,
        guidance=sampling.guidance,
        guidance_interval=parse_interval(guidance_interval) if guidance_interval else FAST.guidance_interval if fast else None,
        layer_guidance=sampling.layer_guidance,
        scheduler=scheduler,
        cross_keys=FAST.cross_keys if fast else LayerAttentionConfig.cross_keys,
        attention_memory=attention_memory,
        tile=tile,
        size=parse_size(size) if size else None,
        caca=not no_caca,
        lssa=not no_lssa,
        harmonize=not no_harmonize,
        trajectory=not no_trajectory,
        effects=effects,
        views=views,
        device=device,
        out=out,
        overwrite=overwrite,
    )
    _generate(request, as_json)


def _words(
    plan: Path | None, background: str | None, foreground: list[str] | None, whole: str, negative: str
) -> PromptFields:
    """The prompts of a request, from a plan or from the command line."""
    if plan is None:
        if background is None or not foreground:  # an empty background is a prompt, too
            raise InputError("got no --background or no --foreground; give both, or a --plan")
        return {"background": background, "foregrounds": tuple(foreground), "whole": whole, "negative": negative}
    if background is not None or foreground or whole:
        raise InputError("got a --plan and prompts besides; give one of them")
    from ..plans.files import prompts_of, read_plan

    read = read_plan(plan)
    prompts = prompts_of(read)
    return {"background": prompts.background, "foregrounds": prompts.foregrounds, "whole": prompts.whole,
            "negative": negative or prompts.negative, "names": tuple(layer.name for layer in read.foregrounds),
            "boxes": {number: layer.box for number, layer in enumerate(read.foregrounds, 1) if layer.box is not None}}


@app.command()
def demo(
    model: options.Model = DEMO.model,
    adapter: options.Adapter = None,
    seed: options.Seed = DEMO.seed,
    steps: options.Steps = DEMO.steps,
    cfg: options.UsualGuidance = None,
    size: options.Size = None,
    device: options.Device = "auto",
    out: options.Out = DEMO.out,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Make a layered picture that shows every part of the method, with prompts that the embedded model knows."""
    sampling = usual_sampling(model, adapter, DEMO.scheduler, steps, cfg, None)
    request = replace(
        DEMO,
        model=model,
        adapter=adapter,
        seed=seed,
        steps=steps,
        guidance=sampling.guidance,
        layer_guidance=sampling.layer_guidance,
        size=parse_size(size) if size else None,
        device=device,
        out=out,
        overwrite=overwrite,
    )
    _generate(request, as_json)


def _generate(request: GenerateRequest, as_json: bool) -> None:
    from .generation import generate_stack

    print_stack_report(generate_stack(request), as_json, request.out, layers=1 + len(request.foregrounds))


@app.command()
def flatten(
    stack: options.Stack,
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("flattened.png"),
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Merge a layer stack into one picture (Eq. 1), with its visibility, opacity, places and blend modes."""
    from .flattening import flatten_to_file

    report = flatten_to_file(stack, out, overwrite=overwrite)
    print_report(report, as_json, f"{out}: {report['width']}x{report['height']} pixels")


@app.command()
def scenes(
    count: Annotated[int, typer.Option(help="How many scenes.")] = 8,
    out: Annotated[Path, typer.Option(help="A new folder for the sample scenes.")] = Path("scenes"),
    cache: Annotated[
        Path | None, typer.Option(help="Render training data into this folder instead, in chunks of 250 scenes.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first sample.")] = 0,
    foregrounds: Annotated[int | None, typer.Option(help="Objects in each sample, 0 to 12; 1 to 4 by default.")] = None,
    size: Annotated[str, typer.Option(metavar="WxH", help="Pixels of the samples.")] = "256x256",
    side: Annotated[int, typer.Option(help="Pixels a side in the cache.")] = 128,
    split: SplitName = "train",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that render the cache; one a core by default.")] = None,
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Write sample scenes as layer stacks with a contact sheet, or render the cache that training reads."""
    from .scene_samples import render_cache, write_samples

    if cache is not None:
        report = render_cache(cache, count, side=side, split=split, workers=workers)
        print_report(report, as_json, f"{cache}: scenes to train on")
        return
    report = write_samples(
        out, count, seed=seed, foregrounds=foregrounds, size=parse_size(size), split=split, overwrite=overwrite
    )
    print_report(report, as_json, f"{out}: {count} scenes; look at {report['sheet']} first")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model folder, such as the export folder of a training stage.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    overwrite: options.Overwrite = False,
    as_json: options.Json = False,
) -> None:
    """Copy a model folder in half precision, as it ships in the package."""
    from ..training.export import export_model

    size = export_model(model, out, overwrite=overwrite)
    print_report({"folder": str(out), "bytes": size}, as_json, f"{out}: {size / 1e6:.1f} MB")


for command in (plan, decompose, edit, regenerate, add, train):
    app.command()(command)
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(models_app, name="models")
