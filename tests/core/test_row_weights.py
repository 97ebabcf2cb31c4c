from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreamlayer_core.errors import InputError, WeightsError
from dreamlayer_core.row_weights import (
    RowConvolution,
    RowDelta,
    Rows,
    add_rows,
    joined_additions,
    row_weights,
    select_rows,
    shown_additions,
)

from .tiny import seeded

INPUTS, OUTPUTS, RANK = 6, 5, 2


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _low_rank(rows: Rows, *, scale: float = 1.0, seed: int = 1) -> RowDelta:
    return RowDelta(rows=rows, up=_draw(OUTPUTS, RANK, seed=seed), down=_draw(RANK, INPUTS, seed=seed + 50), scale=scale)


def _matrix(delta: RowDelta, place: int) -> Tensor:
    """The full delta of the row at a place among the delta's rows."""
    up, down = (None if w is None else w if w.ndim == 2 else w[place] for w in (delta.up, delta.down))
    assert up is not None
    return delta.scale * (up if down is None else up @ down)


def _places(rows: Rows, height: int) -> list[int]:
    named = {"background": [0][: height - 1], "foreground": list(range(1, height - 1)), "global": [height - 1]}
    return named[rows] if isinstance(rows, str) else [rows] if isinstance(rows, int) else list(rows)


@pytest.fixture(scope="module")
def model() -> Any:
    with seeded(3):
        return nn.Sequential(nn.Linear(INPUTS, OUTPUTS), nn.SiLU(), nn.Linear(OUTPUTS, OUTPUTS)).requires_grad_(False)


DELTAS = {
    "a role": [_low_rank("foreground", scale=0.5)],
    "one row": [_low_rank(2)],
    "every second row": [_low_rank(range(0, 4, 2), scale=-2.0)],
    "a full delta": [RowDelta(rows="global", up=_draw(OUTPUTS, INPUTS))],
    "one for each row": [RowDelta(rows=range(1, 4), up=_draw(3, OUTPUTS, RANK), down=_draw(3, RANK, INPUTS, seed=9))],
    "several full ones": [RowDelta(rows=range(0, 2), up=_draw(2, OUTPUTS, INPUTS), scale=3.0)],
    "many that overlap": [_low_rank("foreground", seed=4), _low_rank(1, seed=5), _low_rank("background", seed=6),
                          RowDelta(rows=range(1, 3), up=_draw(2, OUTPUTS, INPUTS, seed=7))],
}


@pytest.mark.parametrize("deltas", DELTAS.values(), ids=DELTAS)
@pytest.mark.parametrize("stacks", [1, 3])
@pytest.mark.parametrize("inner", [(), (7,), (2, 3)], ids=["vectors", "tokens", "planes"])
def test_each_row_goes_by_its_own_matrix(
    deltas: list[RowDelta], stacks: int, inner: tuple[int, ...], model: Any
) -> None:
    height, linear = 4, model[0]
    tokens = _draw(stacks * height, *inner, INPUTS)
    with row_weights(model, {"0": deltas}, height):
        found = linear(tokens)
    plain = linear(tokens)
    touched = {place for delta in deltas for place in _places(delta.rows, height)}
    for index, row in enumerate(tokens):
        place, weight = index % height, linear.weight.clone()
        for delta in deltas:
            if place in (places := _places(delta.rows, height)):
                weight += _matrix(delta, places.index(place))
        torch.testing.assert_close(found[index], row @ weight.T + linear.bias, rtol=1e-5, atol=1e-5)
        assert place in touched or torch.equal(found[index], plain[index])
        assert place not in touched or not torch.isclose(found[index], plain[index]).all()


def test_without_deltas_nothing_is_touched(model: Any) -> None:
    tokens = _draw(4, INPUTS)
    plain = model(tokens)
    with row_weights(model, {}, 4):
        assert not any(module._forward_hooks for module in model)
        assert torch.equal(model(tokens), plain)


def test_rows_without_deltas_are_not_copied(model: Any) -> None:
    output = _draw(4, 3, OUTPUTS)
    kept = output.clone()
    added = add_rows(output, _draw(4, 3, INPUTS), [_low_rank("foreground")], 4)
    assert added.data_ptr() == output.data_ptr() and torch.equal(added[[0, 3]], kept[[0, 3]])


def test_leaving_restores_also_after_an_error(model: Any) -> None:
    tokens = _draw(4, INPUTS)
    plain = model(tokens)
    with pytest.raises(ZeroDivisionError), row_weights(model, {"0": [_low_rank("foreground")]}, 4):
        assert not torch.equal(model(tokens), plain)
        _ = 1 / 0
    assert torch.equal(model(tokens), plain) and not any(module._forward_hooks for module in model)


@pytest.mark.parametrize("height", [1, 2, 3, 8])
def test_roles_divide_a_stack_among_them(height: int) -> None:
    rows = list(range(height))
    chosen = [rows[select_rows(role, height)] for role in ("background", "foreground", "global")]
    assert sum(chosen, []) == rows and chosen[2] == [height - 1]
    assert chosen == [_places(role, height) for role in ("background", "foreground", "global")]


def test_a_stack_of_one_row_has_no_foreground(model: Any) -> None:
    tokens = _draw(3, INPUTS)
    plain = model(tokens)
    with row_weights(model, {"0": [_low_rank("foreground"), _low_rank("background")]}, 1):
        assert torch.equal(model(tokens), plain)


def test_gradients_reach_the_deltas_and_the_input(model: Any) -> None:
    delta, tokens = _low_rank("foreground"), _draw(8, 3, INPUTS).requires_grad_()
    own = [w.clone().requires_grad_() for w in (delta.up, delta.down)]
    with row_weights(model, {"0": [RowDelta(rows="foreground", up=own[0], down=own[1])]}, 4):
        model(tokens).square().sum().backward()
    merged = [model[0].weight + (own[0] @ own[1] if 0 < row % 4 < 3 else 0) for row in range(8)]
    rows = [torch.nn.functional.linear(t, w, model[0].bias) for t, w in zip(tokens, merged, strict=True)]
    expected = torch.autograd.grad(model[2](model[1](torch.stack(rows))).square().sum(), [*own, tokens])
    for found, wanted in zip([own[0].grad, own[1].grad, tokens.grad], expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "delta", "error", "words"), [
    ("0", _low_rank(4), InputError, r"rows 4 for stacks of 4 rows; give rows of 0 to 3"),
    ("0", _low_rank(-1), InputError, "rows -1"),
    ("0", _low_rank(range(2, 0, -1)), InputError, r"rows range\(2, 0, -1\)"),
    ("0", _low_rank(range(0)), InputError, r"rows range\(0, 0\)"),
    ("2", _low_rank(1), WeightsError, r"2: a delta of \(5, 6\) for a weight of \(5, 5\)"),
    ("1", _low_rank(1), WeightsError, r"1: a delta of \(5, 6\) for a weight of None"),
    ("7.up", _low_rank(1), WeightsError, r"weights for 7\.up, which this model lacks"),
])
def test_what_does_not_fit_is_named_and_changes_nothing(
    name: str, delta: RowDelta, error: type[Exception], words: str, model: Any
) -> None:
    with pytest.raises(error, match=words), row_weights(model, {"0": [_low_rank(1)], name: [delta]}, 4):
        pass
    assert not any(module._forward_hooks for module in model)


def test_a_batch_of_broken_stacks_is_refused(model: Any) -> None:
    with row_weights(model, {"0": [_low_rank(1)]}, 4), pytest.raises(InputError, match="got 6 rows; give whole stacks, of 4"):
        model(_draw(6, INPUTS))


# ---- convolutions, and stacks of which only some rows are left


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (3, 2, 1)])
def test_a_row_goes_by_its_own_convolution(kernel: int, stride: int, padding: int) -> None:
    with seeded(4):
        convolution: Any = nn.Conv2d(INPUTS, OUTPUTS, kernel, stride, padding).requires_grad_(False)
    up, down = _draw(OUTPUTS, RANK, 1, 1), _draw(RANK, INPUTS, kernel, kernel, seed=1)
    delta = RowConvolution(rows=2, up=up, down=down, scale=0.5, stride=convolution.stride, padding=convolution.padding)
    pictures = _draw(8, INPUTS, 6, 5, seed=2)
    with row_weights(nn.ModuleDict({"c": convolution}), {"c": [delta]}, 4):
        found = convolution(pictures)
    weight = convolution.weight + 0.5 * torch.einsum("ork,kihw->oihw", up.squeeze(-1).movedim(1, 2), down)
    merged = torch.nn.functional.conv2d(pictures, weight, convolution.bias, stride, padding)
    plain = convolution(pictures)
    for row in range(8):
        assert row % 4 == 2 or torch.equal(found[row], plain[row])
    torch.testing.assert_close(found[2::4], merged[2::4], rtol=1e-4, atol=1e-5)
    with pytest.raises(WeightsError, match=r"delta of \(5, 6, .*weight of \(5, 6\)"):
        delta.check(nn.Linear(INPUTS, OUTPUTS))


@pytest.mark.parametrize("shown", [[0, 1, 2, 3], [0, 2, 3], [3], [1], [0, -1, 1, 2, 3], [0, 2, 1, 3]])
@pytest.mark.parametrize("rows", ["background", "foreground", "global", 0, 2, 3])
def test_what_is_left_of_a_stack_keeps_its_own(shown: list[int], rows: Rows, model: Any) -> None:
    """Rows come out as they did in the whole stack; a new one has nothing."""
    whole, tokens = {"0": [_low_rank(rows)]}, _draw(4, 3, INPUTS)
    left = torch.stack([tokens[row] for row in shown])
    with row_weights(model, whole, 4):
        expected = model[0](tokens)
    with row_weights(model, shown_additions(whole, shown, 4), len(shown)):
        found = model[0](left)
    for row, result in zip(shown, found, strict=True):
        torch.testing.assert_close(result, model[0](tokens[-1]) if row < 0 else expected[row])


def test_rows_of_a_range_stay_together_or_go() -> None:
    joined = {"0": [RowDelta(rows=range(0, 2), up=_draw(2, OUTPUTS, INPUTS))]}
    (kept,) = shown_additions(joined, [-1, 0, 1, 3], 4)["0"]
    assert kept.rows == range(1, 3)
    assert [shown_additions(joined, shown, 4) for shown in ([0, 2], [3], [0, -1, 1], [])] == [{}] * 4


def test_additions_of_several_are_added_up(model: Any) -> None:
    tokens, one, two = _draw(4, INPUTS), _low_rank(1, seed=11), _low_rank("foreground", seed=12)
    with row_weights(model, joined_additions({"0": [one]}, {}, {"0": [two], "2": [RowDelta(rows=0, up=torch.eye(OUTPUTS))]}), 4):
        found = model[0](tokens)
    with row_weights(model, {"0": [one, two]}, 4):
        assert torch.equal(found, model[0](tokens))
