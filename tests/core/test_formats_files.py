"""A stack as one file: whole or not there, and never in place of another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from dreamlayer_core.errors import InputError, OutputError
from dreamlayer_core.formats import load_stack, save_file
from dreamlayer_core.formats.atomic import staged_file
from dreamlayer_core.layers import Layer, LayerStack


def make_stack() -> LayerStack:
    values = torch.randint(0, 256, (4, 5, 7), generator=torch.Generator().manual_seed(0)) / 255
    ground = Layer(name="ground", color=values[:3], alpha=torch.ones(1, 5, 7))
    cup = Layer(name="cup", color=values[1:], alpha=values[:1], x=-2, y=1, opacity=51 / 255)
    return LayerStack(width=7, height=5, layers=(ground, cup))


@pytest.mark.parametrize("name", ["a.psd", "a.ora", "new/folders/A.ORA"])
def test_a_file_holds_the_stack(tmp_path: Path, name: str) -> None:
    stack = make_stack()
    path = save_file(stack, tmp_path / name, harmonized=torch.zeros(3, 5, 7))
    assert path == tmp_path / name and [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    back = load_stack(path)
    for found, expected in zip(back.layers, stack.layers, strict=True):
        assert torch.equal(found.rgba, expected.rgba)
        assert (found.name, found.x, found.y, found.opacity) == (
            expected.name,
            expected.x,
            expected.y,
            expected.opacity,
        )


@pytest.mark.parametrize("name", ["a.png", "a", "psd"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="end it in .psd or .ora"):
        save_file(make_stack(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_harmonized_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="harmonized"):
        save_file(make_stack(), tmp_path / "a.ora", harmonized=torch.zeros(3, 4, 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_there_stays(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "a.ora"
    target.write_text("mine") if kind == "file" else target.mkdir()
    with pytest.raises(OutputError, match="already exists"):
        save_file(make_stack(), target)
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("links", [True, False])
def test_what_appears_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refuse(*_args: object) -> None:
        raise PermissionError("no hard links on this disk")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OutputError, match="already exists"), staged_file(tmp_path / "a") as staging:
        staging.write_text("ours")
        (tmp_path / "a").write_text("theirs")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]
    with staged_file(tmp_path / "b") as staging:
        staging.write_text("ours")
    assert (tmp_path / "b").read_text() == "ours" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_an_interrupted_file_is_not_there(tmp_path: Path, error: type[BaseException]) -> None:
    told = OutputError if error is OSError else error
    with pytest.raises(told), staged_file(tmp_path / "a") as staging:
        staging.write_text("half")
        raise error
    assert list(tmp_path.iterdir()) == []
