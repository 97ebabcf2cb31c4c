"""The options that two or more commands share, each with its one help text, and what a command prints at its end."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..config import SchedulerName
from ..errors import OutputError
from .front_door import say

__all__ = [
    "Adapter", "AllowPickle", "Control", "ControlNet", "Device", "EvaluationOut", "EvaluationSeed", "EvaluationViews", "FiguresFile", "Foregrounds", "FromPixels",
    "Guidance", "HalfPrecision", "ImageEncoder", "ImagePrompt", "IpAdapter", "Json", "LayerDecoder", "LayerDiffuse", "LayerEncoder", "LayerPrompt", "Lora", "Model", "Negative", "NewEffects", "NoCaca", "NoHarmonize", "NoLssa",
    "NoTrajectory", "OptionalForegrounds", "Out", "Overwrite", "Precision", "Prediction", "Scheduler", "Seed", "Size", "Stack", "StackAdapter", "StackGuidance",
    "StackModel", "StackNegative", "StackSteps", "StackWhole", "Steps", "Tokenizer", "UsualGuidance", "UsualSteps", "Vae", "Views", "Whole", "print_report", "print_stack_report",
]

# What is to be seen.
_foregrounds = typer.Option(help="One object; repeat it, from the bottom layer to the top one.")
Foregrounds = Annotated[list[str], _foregrounds]
OptionalForegrounds = Annotated[list[str] | None, _foregrounds]
Whole = Annotated[str, typer.Option("--global", help="What the whole picture shows (optional).")]
_negative = typer.Option(help="What no layer should show.")
Negative = Annotated[str, _negative]

# How it is sampled.
Model = Annotated[str, typer.Option(help="'embedded', a checkpoint of SD1, SD2 or SDXL in one file, or a folder in diffusers' layout.")]
Adapter = Annotated[
    str | None, typer.Option(help="An adapter file, or 'none' for the training-free form; the model's own by default.")
]
LayerDecoder = Annotated[
    Path | None, typer.Option(help="A transparent decoder's file, where the model has none; LayerDiffuse's will do.")
]
LayerDiffuse = Annotated[
    Path | None, typer.Option(help="LayerDiffuse's attention weights for the foregrounds: layer_sd15_ or layer_xl_transparent_attn; or layer_sd15_joint, for one foreground.")
]
LayerEncoder = Annotated[
    Path | None, typer.Option(help="LayerDiffuse's transparent encoder, for layers that are edited from their pixels later.")
]
Tokenizer = Annotated[
    Path | None, typer.Option(help="A folder with CLIP's vocabulary, for a checkpoint in one file; fetched files by default.")
]
Vae = Annotated[Path | None, typer.Option(help="Another VAE than the model's: a file, or its folder.")]
Prediction = Annotated[
    Literal["epsilon", "v_prediction"] | None, typer.Option(help="What the model predicts, where its file does not say.")
]
Precision = Annotated[Literal["fp32", "fp16", "bf16"], typer.Option(help="Of the models' numbers; fp16 suits a GPU.")]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Open a pickled checkpoint (.ckpt, .bin) for its tensors alone.")
]
Seed = Annotated[int, typer.Option(help="Noise of every layer; the same seed makes the same picture.")]
ImagePrompt = Annotated[list[str] | None, typer.Option(
    metavar="LAYER=PICTURE[:STRENGTH]", help="A picture that one layer is prompted with, beside its text; repeat it.")]
IpAdapter = Annotated[Path | None, typer.Option(help="An IP-Adapter's file of the base form, for the image prompts.")]
ImageEncoder = Annotated[Path | None, typer.Option(help="The folder of the CLIP vision model that the IP-Adapter was made for.")]
Control = Annotated[list[str] | None, typer.Option(
    metavar="LAYER=PICTURE[:STRENGTH]", help="A ControlNet's hint for one layer, such as its edges; repeat it.")]
ControlNet = Annotated[Path | None, typer.Option(help="A ControlNet's file or folder, for the hints.")]
Lora = Annotated[
    list[str] | None, typer.Option(metavar="LAYER=FILE[:STRENGTH]", help="A LoRA on one layer (0 is the background), or on 'global', the whole; repeat it.")
]
Scheduler = Annotated[SchedulerName, typer.Option(help="Sampling method; few steps need one other than ddim.")]
Steps = Annotated[int, typer.Option(help="Sampling steps, 1 to 1000.")]
UsualSteps = Annotated[int | None, typer.Option(help="Sampling steps, 1 to 1000; what is usual for the scheduler by default.")]
Guidance = Annotated[float, typer.Option("--cfg", help="Classifier-free guidance; 1 is none.")]
UsualGuidance = Annotated[
    float | None, typer.Option("--cfg", help="Classifier-free guidance; 1 is none. What is usual for the scheduler and the model by default.")
]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Pixels; the model's own size by default.")]
NoCaca = Annotated[bool, typer.Option("--no-caca", help="Without context-aware cross-attention.")]
NoLssa = Annotated[bool, typer.Option("--no-lssa", help="Without layer-shared self-attention.")]
NoHarmonize = Annotated[bool, typer.Option("--no-harmonize", help="Without the harmonized picture.")]
NoTrajectory = Annotated[
    bool, typer.Option("--no-trajectory", help="Without the file from which layers are edited and made anew exactly.")
]
Views = Annotated[int, typer.Option(help="Test-time views of the transparent decoder: 1, 2, 4 or 8.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps, or auto (cuda where there is one).")]

# Where it goes.
Out = Annotated[Path, typer.Option(help="A new folder for the result.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run has written there; other files stay.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]

# A saved stack; what is left out is as the stack was made.
Stack = Annotated[Path, typer.Argument(help="Folder of a saved stack, its stack.json, an .ora or a .psd file.")]
LayerPrompt = Annotated[list[str] | None, typer.Option(metavar="LAYER=TEXT", help="What a layer shows, where the file has no prompts.")]
StackWhole = Annotated[str | None, typer.Option("--global", help="What the whole picture shows.")]
StackNegative = Annotated[str | None, _negative]
StackModel = Annotated[str | None, typer.Option(help="'embedded', or a model folder; the one that made the stack by default.")]
StackAdapter = Annotated[str | None, typer.Option(help="An adapter file, or 'none'; as the stack was made by default.")]
StackSteps = Annotated[int | None, typer.Option(help="Sampling steps; those of the stack by default.")]
LayerGuidance = Annotated[
    list[str] | None, typer.Option("--layer-cfg", metavar="LAYER=SCALE", help="Another guidance for one layer (0 is the background).")]
StackGuidance = Annotated[float | None, typer.Option("--cfg", help="Classifier-free guidance; that of the stack by default.")]
FromPixels = Annotated[bool, typer.Option("--from-pixels", help="Do without the stored trajectory: encode the layers' pictures.")]
NewEffects = Annotated[
    bool, typer.Option("--effects", help="The new harmonized picture as a stack: layers of shadow and light between the others.")
]

# Measurements.
def _writable(path: Path | None) -> Path | None:
    """Known before anything is measured: a run takes hours, its figures are written at its end."""
    if path is None:
        return None
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if path.is_dir() or (nearest != path and not nearest.is_dir()) or not os.access(nearest, os.W_OK):
        raise OutputError(f"cannot write {path}; choose a file in a writable folder")
    return path


FiguresFile = Annotated[
    Path | None, typer.Option(callback=_writable, help="Write every figure with its interval to this file.")]
EvaluationOut = Annotated[Path, typer.Option(help="A folder for tables and picture grids.")]
EvaluationSeed = Annotated[int, typer.Option(help="Of the noise; the scenes stay the same.")]
EvaluationViews = Annotated[int, typer.Option(help="Views of the transparent decoder: 1, 2, 4 or 8.")]
HalfPrecision = Annotated[bool, typer.Option("--half", help="Sample and decode in bf16: faster, and nearly the same.")]


def print_report(report: dict[str, object], as_json: bool, line: str) -> None:
    """The end of a command: its report for `--json`, else a line for people."""
    if as_json:
        typer.echo(json.dumps(report))
    else:
        say(line)


def print_stack_report(report: dict[str, object], as_json: bool, out: Path, *, layers: int | None = None) -> None:
    """The end of a command that wrote the folder of a stack."""
    folder = out.resolve()
    count = "" if layers is None else f"{layers} layers; "
    print_report(report, as_json, f"{folder}: {count}look at {folder / 'overview.png'} first")
