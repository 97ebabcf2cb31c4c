"""`dreamlayer plan "…"`: one sentence as a layer plan, to read, to change, and for `generate --plan`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import InputError
from .front_door import say

if TYPE_CHECKING:
    from ..plans.plan import LayerPlan
    from ..plans.planner import Planner

__all__ = ["plan"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring

_USUAL_LIMIT = 8  # plans.planner.USUAL_LIMIT, which takes time to import; a test compares them


def plan(
    sentence: Annotated[str, typer.Argument(help="What the picture shows.", show_default=False)] = "",
    planner: Annotated[
        Literal["auto", "offline", "endpoint", "local"],
        typer.Option(help="auto: the endpoint that you have configured for DreamLayer, else offline."),
    ] = "auto",
    llm: Annotated[
        Path | None, typer.Option(help="local: the folder of an instruct model, in transformers' layout.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Foregrounds at most, 1 to 16; the smallest are merged.")] = _USUAL_LIMIT,
    propose: Annotated[
        bool,
        typer.Option("--propose", help="Where the sentence names no thing, add one of Objects365 that fits the scene."),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Write the plan to this JSON file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON on stdout and nothing else.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON schema of plans and nothing else.")] = False,
) -> None:
    """Split one sentence into a background and foregrounds, bottom to top. Without a configured endpoint nothing leaves
    this machine.
    """
    from ..plans.files import as_json as written
    from ..plans.files import check_target, plan_schema, write_plan

    if schema:
        typer.echo(json.dumps(plan_schema(), indent=2))
        return
    if out is not None:
        check_target(out, overwrite=overwrite)  # before a model is asked
    made = _planned(sentence, planner, llm, limit, propose)
    if out is not None:
        write_plan(made, out, overwrite=overwrite)
        say(f"{out}: 1 background, {len(made.foregrounds)} foregrounds")
    if as_json:
        typer.echo(written(made), nl=False)
    elif out is None:
        _show(made)


def _planned(sentence: str, name: str, llm: Path | None, limit: int, proposing: bool) -> LayerPlan:
    from ..plans.choose import choose_planner, plan_sentence
    from ..plans.planner import check_request

    check_request(sentence, limit)  # before a model is loaded
    if (name == "local") != (llm is not None):
        raise InputError("got only one of --planner local and --llm FOLDER; give both, or neither")
    local = None if llm is None else _loader(llm)
    chosen = choose_planner(None if name == "auto" else name, local=local)
    return plan_sentence(sentence, planner=chosen, limit=limit, proposing=proposing)


def _loader(folder: Path) -> Callable[[], Planner]:
    def load() -> Planner:
        from ..plans.local_model import load_local_planner

        return load_local_planner(folder)

    return load


def _show(made: LayerPlan) -> None:
    """The plan as a table, top layer first as in a layer editor. Text objects: what stands in a plan is no markup."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..plans.planner import plain

    table = Table(box=None, pad_edge=False)
    for title in ("layer", "prompt"):
        table.add_column(title, overflow="fold")
    rows = [
        (layer.name, layer.prompt + ("" if layer.weight == 1 else f" (weight {layer.weight:g})"))
        for layer in reversed(made.foregrounds)
    ]
    rows += [("background", made.background), ("whole picture", made.whole), ("negative", made.negative)]
    rows += [("note", note) for note in made.notes]
    for name, prompt in rows:
        if prompt:
            table.add_row(Text(plain(name)), Text(plain(prompt)))
    Console().print(table)
