"""`dreamlayer evaluate`: measured figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from ..config import SamplingConfig
from . import options
from .front_door import say
from .request import usual_sampling

__all__ = ["evaluate_app"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring

evaluate_app = typer.Typer(help="Measure a model or a planner.")


@evaluate_app.callback()
def front() -> None:
    """Measure a model or a planner."""


@evaluate_app.command()
def scenes(
    samples: Annotated[int, typer.Option(min=1, help="Held-out scenes; fewer give wider intervals.")] = 200,
    json: options.FiguresFile = None,
    model: options.Model = "embedded",
    out: options.EvaluationOut = Path("evaluation"),
    steps: Annotated[int, typer.Option(help="DDIM steps of every picture.")] = 25,
    cfg: options.UsualGuidance = None,
    layer_cfg: options.LayerGuidance = None,
    seed: options.EvaluationSeed = 0,
    views: options.EvaluationViews = 1,
    half: options.HalfPrecision = False,
    sweep_samples: Annotated[
        int, typer.Option(min=2, help="Scenes for the sweeps of T_G (with and without an adapter), of T_H, T'_H and of the guidance interval.")
    ] = 48,
    part: Annotated[list[str] | None, typer.Option(
        help="What to measure: truth, harmonization, methods, context, training-free or guidance; repeat it. All by default.")] = None,
) -> None:
    """Every part of the method on and off, on scenes held out from training, with confidence intervals."""
    from ..evaluation.scenes import EvaluationOptions, Part, evaluate_scenes

    sampling = usual_sampling(model, None, "ddim", steps, cfg, layer_cfg)
    evaluate_scenes(EvaluationOptions(
        samples=samples, json=json, model=model, out=out, steps=steps, guidance=sampling.guidance,
        layer_guidance=sampling.layer_guidance, seed=seed, views=views, half=half,
        sweep_samples=sweep_samples,
        parts=cast("tuple[Part, ...]", tuple(part)) if part else EvaluationOptions.parts))
    say(f"{out}: figures and picture grids")


@evaluate_app.command()
def edits(
    samples: Annotated[int, typer.Option(min=2, help="Held-out scenes; fewer give wider intervals.")] = 64,
    json: options.FiguresFile = None,
    model: options.Model = "embedded",
    out: options.EvaluationOut = Path("evaluation"),
    steps: Annotated[int, typer.Option(help="Steps of every inversion and of every picture.")] = 25,
    cfg: options.Guidance = SamplingConfig.guidance,
    seed: options.EvaluationSeed = 0,
    views: options.EvaluationViews = 1,
    half: options.HalfPrecision = False,
    method: Annotated[
        list[str] | None, typer.Option(help="An inversion to measure: ddim, fixed-point, exact or replay; repeat it. All by default.")
    ] = None,
    round_trips: Annotated[int, typer.Option(min=2, help="Scenes for the round trips of inversion, which are in fp32.")] = 8,
    recompositions: Annotated[int, typer.Option(min=2, help="Scenes put together from layers and effects; needs no model.")] = 200,
) -> None:
    """Pictures taken apart and layers edited, on held-out scenes whose layers are known, with confidence intervals."""
    from ..evaluation.edits import EditOptions, evaluate_edits, inversion_methods

    results = evaluate_edits(EditOptions(
        samples=samples, json=json, model=model, out=out, steps=steps, guidance=cfg, seed=seed, views=views, half=half,
        methods=inversion_methods(method or ()), round_trips=round_trips, recompositions=recompositions))
    reached = sum(goal.reached for goal in results.goals)
    say(f"{out}: figures and picture grids; {reached} of {len(results.goals)} goals reached")


@evaluate_app.command()
def maps(
    samples: Annotated[int, typer.Option(min=2, help="Held-out scenes; fewer give wider intervals.")] = 48,
    json: options.FiguresFile = None,
    model: options.Model = "embedded",
    out: options.EvaluationOut = Path("evaluation"),
    seed: options.EvaluationSeed = 0,
    half: options.HalfPrecision = False,
) -> None:
    """How well context maps without an adapter find the objects of true scenes, for every stage and refinement."""
    from ..evaluation.maps import MapOptions, evaluate_maps

    evaluate_maps(MapOptions(samples=samples, json=json, model=model, out=out, seed=seed, half=half))
    say(f"{out}: figures and a picture grid")


@evaluate_app.command()
def plans(
    split: Annotated[Literal["dev", "test"], typer.Option(help="Sentences to work with, or those held out from that.")] = "test",
    json: options.FiguresFile = None,
    out: Annotated[Path, typer.Option(help="A folder for the tables and the list of what is not right.")] = Path("evaluation"),
    planner: Annotated[Literal["offline"], typer.Option(help="What splits the sentences.")] = "offline",
    limit: Annotated[int, typer.Option(
        min=1, max=16, help="Foregrounds at most, as in `dreamlayer plan`; merged ones count as missed. 16 merges none.")] = 8,
) -> None:
    """What becomes of sentences whose layer plans were made by hand: objects, attributes, order and background."""
    from functools import partial

    from ..evaluation.plan_report import write_plan_report
    from ..evaluation.plans import FIGURES, evaluate_plans, write_plan_results
    from ..plans.offline import split_sentence

    results = evaluate_plans(partial(split_sentence, limit=limit), name=planner, split=split, limit=limit)
    page = write_plan_report(results, out)
    write_plan_results(results, json or out / f"plans-{split}.json")
    for figure, value in results.english.figures.items():
        say(f"{FIGURES[figure]}: {value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]")
    say(f"{page}: figures a kind and a language, and what is not right")
