"""The words of an edit on the command line: `2: move 40,0 flip h` as a `LayerChange`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

from ..editing import LayerChange
from ..errors import InputError

__all__ = ["EDIT_HELP", "parse_edit"]

EDIT_HELP = "move DX,DY; scale S or SX,SY; flip h, v or hv; rotate DEGREES; opacity 0..1; hide; show; delete; to POSITION"


def parse_edit(text: str) -> LayerChange:
    """`LAYER: WORD VALUE WORD VALUE …` with the words of `EDIT_HELP`, each once. Raises InputError."""
    number, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"\s*\d{1,4}\s*", number):
        raise InputError(f"got the edit {text!r}; begin with the layer's number and a colon, such as '2: move 40,0 flip h'")
    change, seen, words = LayerChange(layer=int(number)), set[str](), iter(rest.split())
    for word in words:
        if word in seen:
            raise InputError(f"got {word!r} twice in the edit {text!r}; give it once")
        seen.add(word)
        change = _with_word(change, word, words, text)
    if {"hide", "show"} <= seen:
        raise InputError(f"got both hide and show in the edit {text!r}; give one of them")
    return change


def _with_word(change: LayerChange, word: str, words: Iterator[str], text: str) -> LayerChange:
    if word in ("hide", "show"):
        return replace(change, visible=word == "show")
    if word == "delete":
        return replace(change, delete=True)
    if word not in ("move", "scale", "flip", "rotate", "opacity", "to"):
        raise InputError(f"got {word!r} in the edit {text!r}; the words are {EDIT_HELP}")
    value = next(words, None)
    if value is None:
        raise InputError(f"got no value for {word!r} in the edit {text!r}; the words are {EDIT_HELP}")
    return _with_value(change, word, value)


def _with_value(change: LayerChange, word: str, value: str) -> LayerChange:
    if word == "flip":
        axes = {"h": (True, False), "v": (False, True), "hv": (True, True), "vh": (True, True)}.get(value)
        if axes is None:
            _wrong(word, value, "h, v or hv")
        return replace(change, op=replace(change.op, flip_horizontal=axes[0], flip_vertical=axes[1]))
    if word == "to":
        if not re.fullmatch(r"\d{1,4}", value):
            _wrong(word, value, "the layer's new number, 1 = lowest foreground")
        return replace(change, position=int(value))
    numbers = _numbers(word, value)
    if word == "move":
        if len(numbers) != 2:
            _wrong(word, value, "DX,DY in pixels, such as 40,0")
        return replace(change, op=replace(change.op, dx=numbers[0], dy=numbers[1]))
    if word == "scale":
        return replace(change, op=replace(change.op, scale_x=numbers[0], scale_y=numbers[-1]))
    if len(numbers) != 1:
        _wrong(word, value, "one number")
    if word == "rotate":
        return replace(change, op=replace(change.op, degrees=numbers[0]))
    if not 0 <= numbers[0] <= 1:
        _wrong(word, value, "0 to 1")
    return replace(change, opacity=numbers[0])


def _numbers(word: str, value: str) -> list[float]:
    parts = value.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 2:
        _wrong(word, value, "one or two numbers, such as 1.5 or 40,0")
    return numbers


def _wrong(word: str, value: str, wanted: str) -> NoReturn:
    raise InputError(f"got {word} {value!r}; give {wanted}")
