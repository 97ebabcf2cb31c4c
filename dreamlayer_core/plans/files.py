"""Plans as files, as checked values, and as the prompts that the models take."""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from ..errors import FormatError, InputError, OutputError
from .plan import LayerPlan
from .planner import plain

if TYPE_CHECKING:
    from ..prompts import LayerPrompts

__all__ = ["LARGEST_FILE", "as_json", "check_target", "checked_plan", "plan_schema", "prompts_of", "read_plan", "write_plan"]

LARGEST_FILE = 2**20  # bytes; the longest plan that the schema allows has a third of that
_SHOWN = 3  # problems of one plan; the first ones explain the rest


def checked_plan(values: object, *, what: str = "the plan") -> LayerPlan:
    """Values read from JSON as a plan. Raises FormatError with the places that do not fit the schema."""
    try:
        return LayerPlan.model_validate_json(json.dumps(values))  # as JSON: what a tuple is stays what it is in a file
    except ValidationError as error:
        raise FormatError(f"{what} does not fit the schema: {_problems(error)}") from None
    except (TypeError, ValueError, RecursionError):
        raise FormatError(f"{what} holds what JSON does not know; give text, numbers, lists and objects") from None


def _problems(error: ValidationError) -> str:
    """One line, without the values: they can be long, and may be nobody's business."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [
        f"{'.'.join(plain(str(part))[:40] for part in one['loc']) or 'the whole'}: {one['msg'][:160]}" for one in found
    ]
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more


def as_json(plan: LayerPlan) -> str:
    """A plan as people read and change it: indented, and without the fields that say nothing."""
    return (
        json.dumps(
            {"version": plan.version} | plan.model_dump(mode="json", exclude_defaults=True),
            indent=2,
            ensure_ascii=False,
        )
        + "\n"
    )


def plan_schema() -> dict[str, Any]:
    """The published JSON schema of plans."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | LayerPlan.model_json_schema()


def read_plan(path: str | Path) -> LayerPlan:
    """A plan's file, UTF-8, its texts as printable lines. Raises FormatError for one that is missing, too large, or no
    plan.
    """
    path = Path(path).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise FormatError(f"{path} cannot be read ({error.strerror or error}); give a plan's JSON file") from error
    if len(data) > LARGEST_FILE:
        raise FormatError(f"{path} is larger than {LARGEST_FILE} bytes; no plan is")
    try:
        values = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise FormatError(f"{path} is not JSON ({reason}); `dreamlayer plan --out` writes such files") from None
    return _plain(checked_plan(values, what=str(path)))


def _plain(plan: LayerPlan) -> LayerPlan:
    layers = tuple(
        layer.model_copy(update={"name": plain(layer.name), "prompt": plain(layer.prompt)}) for layer in plan.foregrounds
    )
    texts: dict[str, object] = {name: plain(getattr(plan, name)) for name in ("background", "whole", "negative")}
    return plan.model_copy(update=texts | {"foregrounds": layers, "notes": tuple(map(plain, plan.notes))})


def check_target(path: str | Path, *, overwrite: bool = False) -> Path:
    """Where a plan would be written. Raises OutputError for a folder, and for what exists, unless it may be overwritten.
    """
    target = Path(path).expanduser()
    if target.is_dir() or (os.path.lexists(target) and not overwrite):
        what = "is a folder" if target.is_dir() else "already exists"
        raise OutputError(f"{target} {what}; choose another name, or allow overwriting a file")
    return target


def write_plan(plan: LayerPlan, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a plan and return its path. The file appears whole or not at all. Raises OutputError, also for a file that
    exists.
    """
    target = check_target(path, overwrite=overwrite)
    part = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(as_json(plan), encoding="utf-8")
        os.replace(part, target)
    except (OSError, ValueError) as error:
        raise OutputError(f"{target} cannot be written ({error}); choose another place") from error
    finally:
        with suppress(OSError, ValueError):
            part.unlink()
    return target


def prompts_of(plan: LayerPlan) -> LayerPrompts:
    """The prompts of a plan as `DreamLayer.generate` takes them; names and boxes are the caller's.

    Raises InputError for weights other than 1: only ComfyUI's text encoders know them.
    """
    if weighted := [layer for layer in plan.foregrounds if layer.weight != 1]:
        raise InputError(
            f"got the weight {weighted[0].weight:g} for {plain(weighted[0].name)!r}; prompts have weights in ComfyUI only, so take it "
            "out of the plan"
        )
    from ..prompts import LayerPrompts  # noqa: PLC0415 - it loads torch, which reading and writing plans needs not

    return LayerPrompts(
        plan.background, tuple(layer.prompt for layer in plan.foregrounds), whole=plan.whole, negative=plan.negative
    )
