"""A plan in free text: what a language model answers, or a person pastes.

The text may wrap JSON in prose, fences or thoughts, and bend it: comments, single or typographic quotes, bare keys,
trailing or missing commas, Python's True and None, raw line breaks, quotes within quotes, an end that is cut off.
Nothing is ever evaluated. Length, nesting and work are bounded, whatever the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeGuard

from ..errors import FormatError
from .files import checked_plan
from .plan import LayerPlan, PlannedLayer
from .planner import NothingToPlace, plain

__all__ = ["DEEPEST", "LONGEST_TEXT", "find_plan"]

LONGEST_TEXT = 2**18  # characters; the longest plan has a third of that
DEEPEST = 8  # brackets within brackets; a plan has four
_MOST_VALUES = 20_000  # of all tries together; a plan has about a hundred
_MOST_READ = (
    2**22
)  # characters of all tries together: else a text of opening quotes would be read once for each of them

_SPACE = re.compile(r"\s+")
_COMMENT = re.compile(r"//[^\n]*|#[^\n]*|/\*.*?\*/|/\*.*", re.DOTALL)
_NUMBER = re.compile(r"-?\d{1,15}(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_WORDS: dict[str, object] = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_CLOSING = {'"': '"', "'": "'", "“": '”“"', "„": '“”"', "‘": "’", "«": "»"}
_STOPS = {opening: re.compile(rf"\\.|[{closing}]", re.DOTALL) for opening, closing in _CLOSING.items()}
# What follows the end of a string; a comma may be missing.
_AFTER = re.compile(r"\s*(?:[,:}\]]|//|/\*|$)|[ \t]*\n\s*[\"'“„{\[]")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


def find_plan(text: str, *, strict: bool = False) -> LayerPlan:
    """The last plan in a text: what a model thinks aloud comes before what it answers.

    Layers may be plain strings, and names may be missing. Fields that no plan has are left out, unless ``strict``;
    notes of the text's own are left out as well. Of a plan that the text's end cuts off, what there is of it is taken,
    and a note says so; it is refused if ``strict``.

    Raises FormatError for a text without a plan, with one that does not fit the schema, or too long; NothingToPlace for
    a plan whose list of foregrounds is empty.
    """
    if len(text) > LONGEST_TEXT:
        raise FormatError(f"got an answer of {len(text)} characters; a plan has at most {LONGEST_TEXT}")
    found = _candidates(text)
    if not found:
        raise FormatError(f"found no plan in {_shown(text)}; give a JSON object with background and foregrounds")
    complete = [one for one in found if one[1] or {"background", "foregrounds"} <= one[0].keys()]
    # The last one decides, good or bad: a plan before it may be an example that was repeated.
    values, unfinished = (complete or found)[-1]
    return _plan(values, unfinished=unfinished, strict=strict)


def _shown(text: str) -> str:
    words = plain(text[:400])
    return "an empty text" if not words else repr(words if len(words) <= 80 else words[:79] + "…")


# ---------------------------------------------------------------------------------------------------------------------
# From values to a plan


def _plan(values: dict[str, Any], *, unfinished: bool, strict: bool) -> LayerPlan:
    if strict and unfinished:  # its author can close it; layers must not vanish without a word
        raise FormatError("the plan in the text breaks off before its end; close its quotes and brackets")
    known = LayerPlan.model_fields
    shaped = {key: value for key, value in values.items() if value is not None and (strict or key in known)}
    unknown = [] if strict else [key for key in values if key not in known]
    given = shaped.get("foregrounds")
    if isinstance(given, list):
        shaped["foregrounds"] = [_layer(one, unknown, strict=strict) for one in _finished(given, unfinished=unfinished)]
    if shaped.get("foregrounds") == [] and not unfinished:
        raise NothingToPlace(plain(str(shaped.get("background", ""))))
    if not strict:
        shaped |= {"notes": _notes(unknown, unfinished=unfinished), "version": 1}
    plan = checked_plan(_plain_values(shaped), what="the plan in the text")
    empty = [number for number, layer in enumerate(plan.foregrounds) if not layer.prompt]
    if empty and not strict:
        raise FormatError(f"foregrounds.{empty[0]}.prompt of the plan in the text is empty; say what the layer shows, or leave it out")
    return plan


def _finished(layers: list[Any], *, unfinished: bool) -> list[Any]:
    """Without the last layer, if the text breaks off before its prompt."""
    incomplete = unfinished and layers and isinstance(layers[-1], dict) and not layers[-1].get("prompt")
    return layers[:-1] if incomplete else layers


def _layer(value: Any, unknown: list[str], *, strict: bool) -> Any:
    if isinstance(value, str):
        value = {"prompt": value}
    if not isinstance(value, dict):
        return value  # the schema has the words for what is wrong with it
    known = PlannedLayer.model_fields
    unknown += [] if strict else [key for key in value if key not in known]
    shaped = {key: one for key, one in value.items() if strict or key in known}
    if isinstance(shaped.get("prompt"), str) and not (isinstance(shaped.get("name"), str) and plain(shaped["name"])):
        shaped["name"] = plain(shaped["prompt"])[:200]
    return {key: one for key, one in shaped.items() if one is not None}


def _notes(unknown: list[str], *, unfinished: bool) -> list[str]:
    notes = ["the answer broke off; what was unfinished is left out"] if unfinished else []
    if unknown:
        names = ", ".join(dict.fromkeys(plain(key)[:40] for key in unknown[:5]))
        notes.append(f"fields that no plan has are left out: {names}")
    return notes


def _plain_values(value: Any) -> Any:
    """Texts of others as one printable line each: a prompt is words, and nothing that a terminal or a page would act
    upon.
    """
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list):
        return [_plain_values(one) for one in value]
    return {key: _plain_values(one) for key, one in value.items()} if isinstance(value, dict) else value


# ---------------------------------------------------------------------------------------------------------------------
# From text to values


class _Broken(Exception):
    """Not JSON, however bent."""


class _Ended(Exception):
    """The text ends within a value."""


def _candidates(text: str) -> list[tuple[dict[str, Any], bool]]:
    """All objects that could be plans, outermost first, and whether the end of the text cuts them off."""
    reader, found = _Reader(text), list[tuple[dict[str, Any], bool]]()
    start = text.find("{")
    while start >= 0:
        reader.begin(start)
        try:
            value = reader.value(1)
        except _Broken:
            value = None
        if _looks_like_a_plan(value):
            found.append((value, reader.cut))
        within = value is None or reader.cut or not _looks_like_a_plan(value)  # a plan may be wrapped in something else
        start = text.find("{", start + 1 if within else reader.at)
    return found


def _looks_like_a_plan(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and ("background" in value or "foregrounds" in value)


class _Reader:
    """Reads one bent JSON value at a place of a text. ``at`` is behind it, ``cut`` whether the text ended within it."""

    def __init__(self, text: str) -> None:
        self._text, self.at, self.cut = text, 0, False
        self._values_left, self._signs_left = _MOST_VALUES, _MOST_READ

    def begin(self, at: int) -> None:
        self.at, self.cut = at, False

    def value(self, depth: int) -> Any:
        self._values_left -= 1
        if self._values_left < 0:
            raise FormatError(f"got an answer of more than {_MOST_VALUES} values; a plan has about a hundred")
        sign = self._next()
        if sign in "{[":
            if depth > DEEPEST:
                raise FormatError(f"got an answer with more than {DEEPEST} brackets within brackets; a plan has four")
            return self._object(depth) if sign == "{" else self._list(depth)
        return self._string(sign) if sign in _CLOSING else self._scalar()

    def _move(self, to: int) -> None:
        self._signs_left -= to - self.at
        if self._signs_left < 0:
            raise FormatError(
                "got an answer that is tangled beyond reading; give a JSON object with background and foregrounds"
            )
        self.at = to

    def _next(self) -> str:
        """The next sign that is no space and no comment; it stays to be read."""
        while found := _SPACE.match(self._text, self.at) or _COMMENT.match(self._text, self.at):
            self._move(found.end())
        if self.at >= len(self._text):
            raise _Ended
        return self._text[self.at]

    def _object(self, depth: int) -> dict[str, Any]:
        values = dict[str, Any]()

        def entry(sign: str) -> None:
            key = self._string(sign) if sign in _CLOSING else self._key()
            if self._next() != ":":
                raise _Broken
            self._move(self.at + 1)
            values[key] = self.value(depth + 1)

        self._entries("}", entry)
        return values

    def _list(self, depth: int) -> list[Any]:
        values = list[Any]()
        self._entries("]", lambda sign: values.append(self.value(depth + 1)))
        return values

    def _entries(self, closing: str, read: Callable[[str], None]) -> None:
        """All entries up to the closing bracket, or to the end of the text: then what was begun and not finished is
        missing.
        """
        self._move(self.at + 1)
        try:
            while (sign := self._next()) != closing:
                read(sign)
                if self.cut:
                    return
                self._separate(closing)
            self._move(self.at + 1)
        except _Ended:
            self.cut = True

    def _separate(self, closing: str) -> None:
        """Passes a comma, or does without one."""
        sign = self._next()
        if sign == ",":
            self._move(self.at + 1)
        elif sign != closing and sign not in _CLOSING and sign not in "{[":
            raise _Broken

    def _key(self) -> str:
        if not (found := _WORD.match(self._text, self.at)):
            raise _Broken
        self._move(found.end())
        return found[0]

    def _scalar(self) -> Any:
        if found := _NUMBER.match(self._text, self.at):
            self._move(found.end())
            return float(found[0]) if set(found[0]) & set(".eE") else int(found[0])
        if (found := _WORD.match(self._text, self.at)) and found[0] in _WORDS:
            self._move(found.end())
            return _WORDS[found[0]]
        if found and found.end() == len(self._text):  # `tru`
            raise _Ended
        raise _Broken

    def _string(self, opening: str) -> str:
        """Up to the first closing quote before something that can follow a string: other quotes belong to the words."""
        start, stops = self.at + 1, _STOPS[opening]
        place = start
        while found := stops.search(self._text, place):
            place = found.end()
            if found[0][0] != "\\" and _AFTER.match(self._text, place):
                self._move(place)
                return _unescaped(self._text[start : place - 1])
        self._move(len(self._text))
        raise _Ended


def _unescaped(text: str) -> str:
    def letter(found: re.Match[str]) -> str:
        code, sign = found.groups()
        return chr(int(code, 16)) if code else _ESCAPED.get(sign, sign)

    pairs = _ESCAPE.sub(letter, text)
    return pairs.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # \ud83d\ude00 is one sign
