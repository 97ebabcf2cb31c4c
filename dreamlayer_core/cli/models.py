"""`dreamlayer models`: published files, listed, fetched and checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import WeightsError
from ..model_registry import MODELS, Model, fetch_command, find_model, models_folder, places
from . import options
from .front_door import say

if TYPE_CHECKING:
    from ..model_registry import ModelFile

__all__ = ["models_app"]

# ruff: noqa: PLC0415 - imports inside the commands, see the package's docstring

models_app = typer.Typer(help="Published weights: list, fetch and check them.")

Folder = Annotated[Path | None, typer.Option(
    help="The models folder, such as ComfyUI's; by default that of DREAMLAYER_MODELS, or one among your data.")]


@models_app.callback()
def front() -> None:
    """Published weights: list, fetch and check them. Nothing is fetched but by `pull`."""


@models_app.command("list")
def list_models(folder: Folder = None, as_json: options.Json = False) -> None:
    """The files that can be fetched, and which of them are there."""
    if as_json:
        typer.echo(json.dumps({"folder": str(models_folder(folder)), "models": [_entry(model, folder) for model in MODELS]}))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in ("name", "what", "size", "licence", "there"):
        table.add_column(title, overflow="fold", no_wrap=title in ("name", "size"))
    for model in MODELS:
        size = f"{model.megabytes} MB" if model.megabytes else ""
        table.add_row(*(Text(text) for text in (model.name, model.about, size, model.licence, "yes" if _is_there(model, folder) else "")))
    Console().print(table)
    say(f"folder: {models_folder(folder)}; fetch with: dreamlayer models pull NAME")


def _is_there(model: Model, folder: Path | None) -> bool:
    return all(path.is_file() for _, path in places(model, folder))


def _entry(model: Model, folder: Path | None) -> dict[str, Any]:
    return {
        "name": model.name, "about": model.about, "repository": model.repository, "licence": model.licence,
        "there": _is_there(model, folder),
        "files": [{"path": str(path), "bytes": file.size, "sha256": file.sha256} for file, path in places(model, folder)],
    }


@models_app.command()
def pull(
    name: Annotated[list[str], typer.Argument(help="Names of `dreamlayer models list`.")],
    folder: Folder = None,
    as_json: options.Json = False,
) -> None:
    """Fetch files from the Hugging Face hub. A file that was broken off goes on where it stopped."""
    chosen = [find_model(one) for one in name]  # before anything is fetched
    fetched: list[Path] = []
    for model in chosen:
        say(f"{model.name}: {model.repository}, licence {model.licence}, https://huggingface.co/{model.repository}")
        fetched += _pull(model, folder)
    files = [path for model in chosen for _, path in places(model, folder)]
    options.print_report({"files": [str(path) for path in files], "fetched": [str(path) for path in fetched]}, as_json,
                         f"{models_folder(folder)}: {len(fetched)} fetched, {len(files) - len(fetched)} already there")


def _pull(model: Model, folder: Path | None) -> list[Path]:
    from ..model_store import pull_model

    try:
        with _byte_bars() as on_bytes:
            return pull_model(model, folder, on_bytes=on_bytes)
    except KeyboardInterrupt:
        say(f"what has arrived is kept; go on with: {fetch_command(model, folder)}")
        raise


@contextmanager
def _byte_bars() -> Generator[Callable[[str, int, int], None]]:
    """One bar a file on stderr, or nothing where that is no terminal."""
    from rich import progress
    from rich.console import Console

    console, tasks = Console(stderr=True), dict[str, progress.TaskID]()
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn(),
               progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        def on_bytes(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield on_bytes


@models_app.command()
def verify(
    name: Annotated[list[str] | None, typer.Argument(help="Names of `dreamlayer models list`; all that are there by default.")] = None,
    folder: Folder = None,
    as_json: options.Json = False,
) -> None:
    """Check files that are there: lengths, kinds and checksums."""
    chosen = [find_model(one) for one in name] if name else [model for model in MODELS if _is_there(model, folder)]
    wrong = {path: message for model in chosen for file, path in places(model, folder) if (message := _fault(model, file, path, folder))}
    if as_json:
        typer.echo(json.dumps({"checked": [model.name for model in chosen], "wrong": {str(path): said for path, said in wrong.items()}}))
    if wrong:
        *others, last = wrong.values()
        for message in others:
            say(f"error: {message}")
        raise WeightsError(last)
    if not as_json:
        say(f"{models_folder(folder)}: {len(chosen)} checked, all right" if chosen else f"{models_folder(folder)}: nothing there to check")


def _fault(model: Model, file: ModelFile, path: Path, folder: Path | None) -> str | None:
    from ..model_store import check_file

    if not path.is_file():
        return f"{path}: not there; fetch it with: {fetch_command(model, folder)}"
    try:
        check_file(file, path)
    except WeightsError as error:
        return str(error)
    return None
