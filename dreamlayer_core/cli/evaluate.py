"""`dreamlayer evaluate`: measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .front_door import say

__all__ = ["evaluate_app"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring

evaluate_app = typer.Typer(help="Measure a model.")


@evaluate_app.callback()
def front() -> None:
    """Measure a model."""


@evaluate_app.command()
def scenes(
    samples: Annotated[int, typer.Option(min=1, help="Held-out scenes; fewer give wider intervals.")] = 200,
    json: Annotated[Path | None, typer.Option(help="Write every figure with its interval to this file.")] = None,
    model: Annotated[str, typer.Option(help="'embedded', or a model folder in diffusers' layout.")] = "embedded",
    out: Annotated[Path, typer.Option(help="A folder for tables and picture grids.")] = Path("evaluation"),
    steps: Annotated[int, typer.Option(help="DDIM steps of every picture.")] = 25,
    seed: Annotated[int, typer.Option(help="Of the noise; the scenes stay the same.")] = 0,
    views: Annotated[int, typer.Option(help="Views of the transparent decoder: 1, 2, 4 or 8.")] = 1,
    sweep_samples: Annotated[int, typer.Option(min=2, help="Scenes for the sweeps of T_G and of T_H, T'_H.")] = 48,
) -> None:
    """Every part of the method on and off, on scenes held out from training, with confidence intervals."""
    from ..evaluation.scenes import EvaluationOptions, evaluate_scenes

    evaluate_scenes(EvaluationOptions(
        samples=samples, json=json, model=model, out=out, steps=steps, seed=seed, views=views, sweep_samples=sweep_samples))
    say(f"{out}: figures and picture grids")
