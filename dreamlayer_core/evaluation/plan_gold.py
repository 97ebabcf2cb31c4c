"""Sentences with hand-checked layer plans; `plan_sentences/README.md` says what counts as what."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from ..errors import InputError

__all__ = ["KINDS", "LANGUAGES", "Kind", "Language", "PlanSentence", "SentenceSplit", "WantedObject", "read_sentences"]

Kind: TypeAlias = Literal["simple", "counts", "attributes", "colors", "depth", "coordination", "background", "clauses",
                          "style", "long"]
Language: TypeAlias = Literal["en", "de", "fr", "zh", "ja"]
SentenceSplit: TypeAlias = Literal["dev", "test"]
KINDS: tuple[Kind, ...] = ("simple", "counts", "attributes", "colors", "depth", "coordination", "background", "clauses",
                           "style", "long")
LANGUAGES: tuple[Language, ...] = ("en", "de", "fr", "zh", "ja")
_FOLDER = Path(__file__).parent / "plan_sentences"


def _as_choices(value: object) -> object:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, Field(min_length=1)]
Choices = Annotated[tuple[Text, ...], BeforeValidator(_as_choices), Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WantedObject(_Part):
    """One object of a sentence: any of its heads names it, one choice of every attribute belongs to it."""

    head: Choices
    name: str = ""
    attributes: tuple[Choices, ...] = ()
    count: Annotated[int, Field(ge=1)] = 1

    @property
    def title(self) -> str:
        """What the order calls it, unique in its sentence."""
        return self.name or self.head[0]


class PlanSentence(_Part):
    """A sentence and its plan. ``background`` is empty where the sentence names no place."""

    id: Text
    language: Language
    kind: Kind
    sentence: Text
    background: tuple[Text, ...]
    background_heads: tuple[Text, ...]
    objects: Annotated[tuple[WantedObject, ...], Field(min_length=1)]
    order: tuple[tuple[str, str], ...] = ()
    style: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> PlanSentence:
        titles = [wanted.title for wanted in self.objects]
        if len(set(titles)) < len(titles):
            raise ValueError(f"got two objects of one name in {titles}; give them a \"name\" each")
        if unknown := {title for pair in self.order for title in pair} - set(titles):
            raise ValueError(f"got {sorted(unknown)} in the order; use the objects' names {titles}")
        if bool(self.background) != bool(self.background_heads):
            raise ValueError("got background without background_heads, or the other way round; give both or neither")
        return self


def read_sentences(split: SentenceSplit, *, folder: Path = _FOLDER) -> tuple[PlanSentence, ...]:
    """The sentences of ``folder/{split}.jsonl``. Raises InputError for a file that is missing or does not fit."""
    path = folder / f"{split}.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read the sentences {path}: {error}; install the package whole, or give a folder") from error
    return tuple(_read_line(line, path, number) for number, line in enumerate(lines, 1) if line.strip())


def _read_line(line: str, path: Path, number: int) -> PlanSentence:
    try:
        return PlanSentence.model_validate_json(line)
    except ValidationError as error:
        raise InputError(f"{path}, line {number} is no sentence with a plan: {error}; see README.md beside it") from error
