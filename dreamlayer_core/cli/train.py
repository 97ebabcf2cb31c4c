"""`dreamlayer train STAGE`: the embedded model's recipe, one run a stage, and the classifier that it is measured with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import InputError
from ..training.options import TrainOptions

__all__ = ["train"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring

Stage = Literal["vae", "base", "decoder", "adapter", "classifier"]


def train(
    stage: Annotated[Stage, typer.Argument(help="Each stage goes on from the one before; classifier, which `evaluate` measures with, on none.")],
    data: Annotated[Path, typer.Option(help="Scenes rendered by `dreamlayer scenes --cache`.")],
    out: Annotated[Path, typer.Option(help="Checkpoint, log, sample sheets and the finished weights (export/).")],
    model: Annotated[Path | None, typer.Option(help="The export folder of the stage before; vae and base go on from their own part in it.")] = None,
    foregrounds: Annotated[
        list[int] | None, typer.Option(help="adapter: foregrounds of a scene; repeat it. The paper: 1 first, then 2 and 3.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps in all, those of earlier runs included.")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples a step and process.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest learning rate.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes, saving; --resume goes on.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, batches and noise.")] = 0,
    precision: Annotated[Literal["no", "fp16", "bf16"], typer.Option(help="Mixed precision; no is fp32.")] = "bf16",
    compiled: Annotated[
        bool, typer.Option("--compile", help="base: torch.compile the UNet's blocks; minutes at the start, then faster steps. Needs a C++ compiler.")
    ] = False,
    freeze_text: Annotated[
        bool, typer.Option("--freeze-text", help="base: train the UNet alone, once the text encoder has learnt; a third faster.")
    ] = False,
) -> None:
    """Train one stage of the embedded model, or the classifier; where an option is left out, the stage's own default holds."""
    options = TrainOptions(
        data=data,
        out=out,
        model=model,
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        minutes=minutes,
        resume=resume,
        seed=seed,
        precision=precision,
        compiled=compiled,
        freeze_text=freeze_text,
    )
    for name, given in (("--compile", compiled), ("--freeze-text", freeze_text)):
        if given and stage != "base":
            raise InputError(f"got {name} for the stage {stage}; only base takes it")
    if freeze_text and not (model and (model / "text_encoder").is_dir()):
        raise InputError(f"got --freeze-text with the model folder {model}, which has no text encoder; train one first")
    if foregrounds and stage != "adapter":
        raise InputError(f"got --foregrounds for the stage {stage}; only adapter takes it")
    _run(stage, options, tuple(foregrounds or (1,)))


def _run(stage: Stage, options: TrainOptions, foregrounds: tuple[int, ...]) -> None:
    if stage == "classifier":
        from ..evaluation.classifier_training import train_classifier

        train_classifier(options)
        return
    from ..training import stages

    if stage == "adapter":
        stages.run_adapter(options, foregrounds)
        return
    {"vae": stages.run_vae, "base": stages.run_base, "decoder": stages.run_decoder}[stage](options)
