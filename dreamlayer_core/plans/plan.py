"""A layer plan: the prompts of one picture's layers, as JSON that people and programs share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["LONGEST_PROMPT", "MOST_FOREGROUNDS", "PLAN_VERSION", "LayerPlan", "PlannedLayer"]

PLAN_VERSION = 1
MOST_FOREGROUNDS = 16
LONGEST_PROMPT = 4000  # characters: longer is an accident, and would be encoded in dozens of windows

Prompt = Annotated[str, Field(max_length=LONGEST_PROMPT)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedLayer(_Part):
    """One foreground. ``box`` is (left, top, right, bottom) in shares of the canvas, from its upper left corner."""

    name: Annotated[str, Field(max_length=200, description="Its name in the layer editor, PSD or ORA.")]
    prompt: Annotated[Prompt, Field(description="What this layer shows, and nothing else.")]
    weight: Annotated[float, Field(ge=0, le=4, description="Weight of the whole prompt.")] = 1.0
    box: Annotated[tuple[Share, Share, Share, Share] | None, Field(description="Where it stands, if that is known.")] = None

    @model_validator(mode="after")
    def _box_has_area(self) -> PlannedLayer:
        if self.box is not None and not (self.box[0] < self.box[2] and self.box[1] < self.box[3]):
            raise ValueError(f"got the box {self.box}; give left < right and top < bottom, in shares of the canvas")
        return self


class LayerPlan(_Part):
    """Background, foregrounds from the bottom layer to the top one (by depth), and optionally the whole picture.

    Raises pydantic.ValidationError for what does not fit the schema (``LayerPlan.model_json_schema()``).
    """

    version: Literal[1] = PLAN_VERSION
    background: Annotated[Prompt, Field(description="The empty scene, without the things on it.")]
    foregrounds: Annotated[tuple[PlannedLayer, ...], Field(min_length=1, max_length=MOST_FOREGROUNDS)]
    whole: Annotated[Prompt, Field(description="The whole picture: its things, style and light.")] = ""
    negative: Annotated[Prompt, Field(description="What no layer shall show.")] = ""
    notes: Annotated[tuple[str, ...], Field(description="What the planner did of its own accord, for people to read.")] = ()
