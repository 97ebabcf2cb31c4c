"""The commands and their options. The work is in the modules beside this one and in the core."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from ..errors import InputError
from .decomposition import decompose
from .editing import edit
from .evaluate import evaluate_app
from .front_door import FrontDoor, say
from .plan import plan
from .regeneration import add, regenerate
from .request import DEMO, GenerateRequest, PromptFields, parse_layer_seeds, parse_size
from .train import train

__all__ = ["app", "main"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring

app = typer.Typer(
    cls=FrontDoor, name="dreamlayer", pretty_exceptions_enable=False, help="Pictures in layers, from one prompt a layer."
)

Model = Annotated[str, typer.Option(help="'embedded', or a model folder in diffusers' layout.")]
Adapter = Annotated[
    str | None, typer.Option(help="An adapter file, or 'none' for the training-free form; the model's own by default.")
]
Seed = Annotated[int, typer.Option(help="Noise of every layer; the same seed makes the same picture.")]
LayerSeed = Annotated[
    list[str] | None, typer.Option(metavar="LAYER=SEED", help="Another seed for one layer (0 is the background).")
]
Steps = Annotated[int, typer.Option(help="Sampling steps, 1 to 1000.")]
Guidance = Annotated[float, typer.Option("--cfg", help="Classifier-free guidance; 1 is none.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Pixels; the model's own size by default.")]
NoCaca = Annotated[bool, typer.Option("--no-caca", help="Without context-aware cross-attention.")]
NoLssa = Annotated[bool, typer.Option("--no-lssa", help="Without layer-shared self-attention.")]
NoHarmonize = Annotated[bool, typer.Option("--no-harmonize", help="Without the harmonized picture.")]
Views = Annotated[int, typer.Option(help="Test-time views of the transparent decoder: 1, 2, 4 or 8.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, or auto (cuda where there is one).")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run has written there.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
SplitName = Annotated[Literal["train", "test"], typer.Option(help="Scenes for training, or those held out from it.")]


def main() -> None:
    """The `dreamlayer` command."""
    # Everything is local; what the libraries would say about it is said by our own messages.
    for name, value in (("HF_HUB_OFFLINE", "1"), ("TRANSFORMERS_VERBOSITY", "error"), ("DIFFUSERS_VERBOSITY", "error")):
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
    foreground: Annotated[
        list[str] | None, typer.Option(help="One object; repeat it, from the bottom layer to the top one.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="Background and foregrounds from a file of `dreamlayer plan --out`.")] = None,
    whole: Annotated[str, typer.Option("--global", help="What the whole picture shows (optional).")] = "",
    negative: Annotated[str, typer.Option(help="What no layer should show.")] = "",
    model: Model = "embedded",
    adapter: Adapter = None,
    seed: Seed = 0,
    layer_seed: LayerSeed = None,
    steps: Steps = GenerateRequest.steps,
    cfg: Guidance = GenerateRequest.guidance,
    size: Size = None,
    no_caca: NoCaca = False,
    no_lssa: NoLssa = False,
    no_harmonize: NoHarmonize = False,
    no_trajectory: Annotated[
        bool, typer.Option("--no-trajectory", help="Without the file from which layers are edited and made anew exactly.")
    ] = False,
    effects: Annotated[
        bool, typer.Option("--effects", help="The harmonized picture as a stack: layers of shadow and light between the others.")
    ] = False,
    views: Views = 8,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(help="A new folder for the result.")] = Path("dreamlayer-output"),
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a layered picture: stack.json, layers, composite, harmonized picture, PSD, OpenRaster and an overview."""
    request = GenerateRequest(
        **_words(plan, background, foreground, whole, negative),
        model=model,
        adapter=adapter,
        seed=seed,
        layer_seeds=parse_layer_seeds(layer_seed or ()),
        steps=steps,
        guidance=cfg,
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
        if not background or not foreground:
            raise InputError("got no --background or no --foreground; give both, or a --plan")
        return {"background": background, "foregrounds": tuple(foreground), "whole": whole, "negative": negative}
    if background or foreground or whole:
        raise InputError("got a --plan and prompts besides; give one of them")
    from ..plans.files import prompts_of, read_plan

    read = read_plan(plan)
    prompts = prompts_of(read)
    return {"background": prompts.background, "foregrounds": prompts.foregrounds, "whole": prompts.whole,
            "negative": negative or prompts.negative, "names": tuple(layer.name for layer in read.foregrounds)}


@app.command()
def demo(
    model: Model = DEMO.model,
    adapter: Adapter = None,
    seed: Seed = DEMO.seed,
    steps: Steps = DEMO.steps,
    cfg: Guidance = DEMO.guidance,
    size: Size = None,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(help="A new folder for the result.")] = DEMO.out,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Make a layered picture that shows every part of the method, with prompts that the embedded model knows."""
    request = replace(
        DEMO,
        model=model,
        adapter=adapter,
        seed=seed,
        steps=steps,
        guidance=cfg,
        size=parse_size(size) if size else None,
        device=device,
        out=out,
        overwrite=overwrite,
    )
    _generate(request, as_json)


def _generate(request: GenerateRequest, as_json: bool) -> None:
    from .generation import generate_stack

    report = generate_stack(request)
    folder = request.out.resolve()
    _report(report, as_json, f"{folder}: {1 + len(request.foregrounds)} layers; look at {folder / 'overview.png'} first")


@app.command()
def flatten(
    stack: Annotated[Path, typer.Argument(help="Folder of a saved stack, its stack.json, an .ora or a .psd file.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")] = Path("flattened.png"),
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Merge a layer stack into one picture (Eq. 1), with its visibility, opacity, places and blend modes."""
    from .flattening import flatten_to_file

    report = flatten_to_file(stack, out, overwrite=overwrite)
    _report(report, as_json, f"{out}: {report['width']}x{report['height']} pixels")


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
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write sample scenes as layer stacks with a contact sheet, or render the cache that training reads."""
    from .scene_samples import render_cache, write_samples

    if cache is not None:
        report = render_cache(cache, count, side=side, split=split, workers=workers)
        _report(report, as_json, f"{cache}: scenes to train on")
        return
    report = write_samples(
        out, count, seed=seed, foregrounds=foregrounds, size=parse_size(size), split=split, overwrite=overwrite
    )
    _report(report, as_json, f"{out}: {count} scenes; look at {report['sheet']} first")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model folder, such as the export folder of a training stage.")],
    out: Annotated[Path, typer.Argument(help="The folder to write.")],
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Copy a model folder in half precision, as it ships in the package."""
    from ..training.export import export_model

    size = export_model(model, out, overwrite=overwrite)
    _report({"folder": str(out), "bytes": size}, as_json, f"{out}: {size / 1e6:.1f} MB")


for command in (plan, decompose, edit, regenerate, add, train):
    app.command()(command)
app.add_typer(evaluate_app, name="evaluate")


def _report(report: dict[str, object], as_json: bool, line: str) -> None:
    if as_json:
        typer.echo(json.dumps(report))
    else:
        say(line)
