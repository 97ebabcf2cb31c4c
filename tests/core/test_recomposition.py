"""Merged layers against a picture."""

from __future__ import annotations

import math

import pytest
import torch

from dreamlayer_core.composite import flatten
from dreamlayer_core.errors import InputError
from dreamlayer_core.evaluation.recomposition import check_recomposition
from dreamlayer_core.layers import Layer, LayerStack

torch.set_num_threads(1)


def stack(height: int = 9, width: int = 14) -> LayerStack:
    draw = torch.Generator().manual_seed(0)
    ground = Layer(name="ground", color=torch.rand(3, height, width, generator=draw) * 0.5, alpha=torch.ones(1, height, width))
    glass = Layer(name="glass", color=torch.rand(3, 4, 4, generator=draw), alpha=torch.rand(1, 4, 4, generator=draw), x=3, y=2)
    return LayerStack(width=width, height=height, layers=(ground, glass))


def test_layers_against_their_own_picture() -> None:
    found = check_recomposition(stack(), flatten(stack()))
    assert (found.psnr, found.levels, found.differing) == (60.0, 0, 0.0) and not found.difference.any()
    assert str(found) == "60.00 dB, equal in eight bits"


def test_a_known_difference_is_measured() -> None:
    picture = flatten(stack())
    picture[:, 0, :7] += 0.1
    found = check_recomposition(stack(), picture, amplify=5)
    assert found.psnr == pytest.approx(-10 * math.log10(0.01 * 7 / (9 * 14)), abs=1e-3)
    assert found.differing == pytest.approx(7 / (9 * 14)) and found.levels in (25, 26)
    wanted = torch.zeros(3, 9, 14)
    wanted[:, 0, :7] = 0.5
    torch.testing.assert_close(found.difference, wanted)
    assert "5.56% of the pixels" in str(found) and f"at most {found.levels} of 255" in str(found)
    assert float(check_recomposition(stack(), picture, amplify=99).difference.max()) == 1


def test_what_is_transparent_is_black_in_both() -> None:
    transparent = LayerStack(width=9, height=8, layers=(stack().layers[1],))
    shown = transparent.layers[0].on_canvas(9, 8)
    assert check_recomposition(transparent, shown.rgba).levels == 0
    assert check_recomposition(transparent, shown.color).levels > 0


@pytest.mark.parametrize(("shape", "amplify", "said"), [
    ((3, 14, 9), 1.0, "picture of 9x14 pixels.*layers of 14x9"), ((1, 9, 14), 1.0, r"\(1, 9, 14\)"),
    ((1, 3, 9, 14), 1.0, r"\(1, 3, 9, 14\)"), ((3, 9, 14), 0.0, "amplification 0.0"), ((3, 9, 14), math.inf, "amplification inf"),
])
def test_pictures_that_do_not_fit_are_told(shape: tuple[int, ...], amplify: float, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_recomposition(stack(), torch.zeros(shape), amplify=amplify)
