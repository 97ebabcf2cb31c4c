"""Edits read off placements: the maps of edits, and edits of maps."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from dreamlayer_core.edits import LayerEdit, source_positions
from dreamlayer_core.errors import InputError
from dreamlayer_core.layers import Layer
from dreamlayer_core.placed_edits import edit_map, edit_of, placement_map, shift_map
from dreamlayer_core.placement import transform_layer

_CENTER = (20.5, 13.0)
_EDITS = [
    LayerEdit(dx=dx, dy=-2.25, scale_x=sx, scale_y=sy, degrees=degrees, flip_horizontal=h, flip_vertical=v, center=_CENTER)
    for dx, (sx, sy), degrees, h, v in product((0.0, 7.5), ((1, 1), (2, 0.5)), (0.0, 90.0, -35.0, 180.0), (False, True), (False, True))
]


@pytest.mark.parametrize("edit", _EDITS)
def test_the_map_of_an_edit_is_where_its_pixels_come_from(edit: LayerEdit):
    positions = source_positions(edit, (4, 5), 1)
    columns = torch.cat([positions, torch.ones(4, 5, 1, dtype=torch.float64)], dim=-1)
    shown = torch.einsum("ij,hwj->hwi", edit_map(edit), columns)[..., :2]
    y, x = torch.meshgrid(torch.arange(4) + 0.5, torch.arange(5) + 0.5, indexing="ij")
    torch.testing.assert_close(shown, torch.stack([x, y], dim=-1).double())


@pytest.mark.parametrize("edit", _EDITS)
@pytest.mark.parametrize("center", [_CENTER, (0.0, 0.0)])
def test_the_edit_of_a_map_does_the_same(edit: LayerEdit, center: tuple[float, float]):
    found = edit_of(edit_map(edit), center)
    assert found.center == center
    torch.testing.assert_close(edit_map(found), edit_map(edit))


@pytest.mark.parametrize("edit", [
    LayerEdit(), LayerEdit(dx=8.0), LayerEdit(flip_horizontal=True), LayerEdit(flip_vertical=True, dy=3.0), LayerEdit(degrees=90.0),
    LayerEdit(degrees=-90.0, scale_x=2.0, scale_y=2.0), LayerEdit(scale_x=0.3)])
def test_plain_edits_come_back_as_they_were(edit: LayerEdit):
    placed = replace(edit, center=_CENTER)
    assert edit_of(edit_map(placed), _CENTER) == placed


def test_nothing_done_by_a_detour_is_nothing():
    turn = LayerEdit(degrees=33.0, scale_x=0.7, scale_y=0.7, flip_vertical=True, dx=5.3, center=(3.0, 4.0))
    assert edit_of(edit_map(turn) @ edit_map(turn).inverse(), _CENTER).is_identity


@pytest.mark.parametrize("rotation", [0.0, math.pi / 2, 0.4])
def test_a_placement_is_that_of_the_layer_editor(rotation: float):
    alpha = torch.zeros(1, 8, 12)
    alpha[:, 1:3, 2:5] = 1
    layer = Layer(name="a", color=torch.rand(3, 8, 12), alpha=alpha, x=9, y=30)
    placed = transform_layer(layer, size=(24, 16), flip_horizontal=True, rotation=rotation)
    mask = placed.on_canvas(80, 80).alpha[0]
    y, x = torch.meshgrid(torch.arange(80) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    seen = torch.stack([(x * mask).sum(), (y * mask).sum()]) / mask.sum()
    found = placement_map((12, 8), (9, 30), (24, 16), flip_horizontal=True, rotation=rotation)
    middle = (found @ torch.tensor([3.5, 2, 1], dtype=torch.float64))[:2]
    assert float((seen - middle).abs().max()) < 0.6  # of a pixel


def test_what_no_edit_says_is_told():
    turned = edit_map(LayerEdit(degrees=30.0, center=_CENTER))
    squeezed = edit_map(LayerEdit(scale_x=0.5, center=_CENTER))
    with pytest.raises(InputError, match="slants"):
        edit_of(squeezed @ turned, _CENTER)
    with pytest.raises(InputError, match="without a center"):
        edit_map(LayerEdit())
    assert edit_of(turned @ squeezed @ shift_map(0, 0), _CENTER).scale_x == 0.5
