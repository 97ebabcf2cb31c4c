import dataclasses

import pytest
import torch

from dreamlayer_core.edits import LayerEdit, apply_edit, center_of
from dreamlayer_core.errors import InputError
from dreamlayer_core.harmonization import resize_alpha

CELL = 8.0


def _latent(height: int = 6, width: int = 9) -> torch.Tensor:
    return torch.randn(4, height, width, generator=torch.Generator().manual_seed(0))


def _disc(size: int = 64, x: float = 28, y: float = 36, radius: float = 12) -> torch.Tensor:
    middles = torch.arange(size) + 0.5
    distance = ((middles[None, :] - x) ** 2 + (middles[:, None] - y) ** 2).sqrt()
    return (radius + 0.5 - distance).clamp(0, 1)[None]


def _box(x0: int, y0: int, x1: int, y1: int, size: int = 64) -> torch.Tensor:
    alpha = torch.zeros(1, size, size)
    alpha[:, y0:y1, x0:x1] = 1
    return alpha


@pytest.mark.parametrize("edit", [LayerEdit(), LayerEdit(degrees=720), LayerEdit(degrees=-360, center=(3.3, 1.7))])
def test_the_identity_returns_the_same_bits(edit):
    latent = _latent()
    assert apply_edit(latent, edit, pixels_per_cell=CELL) is latent


@pytest.mark.parametrize(("dx", "dy"), [(2, 1), (-3, 0), (0, -2), (4, -5)])
def test_a_move_by_whole_cells_is_exact(dx, dy):
    latent = _latent()
    moved = apply_edit(latent, LayerEdit(dx=dx * CELL, dy=dy * CELL), pixels_per_cell=CELL, fill=7.0)
    for y in range(6):
        for x in range(9):
            inside = 0 <= y - dy < 6 and 0 <= x - dx < 9
            expected = latent[:, y - dy, x - dx] if inside else torch.full((4,), 7.0)
            assert torch.equal(moved[:, y, x], expected)


def test_a_move_out_of_the_frame_leaves_only_the_fill():
    moved = apply_edit(_latent(), LayerEdit(dx=1000), pixels_per_cell=CELL, fill=0.5)
    assert torch.equal(moved, torch.full((4, 6, 9), 0.5))


@pytest.mark.parametrize("edit", [LayerEdit(dx=2 * CELL), LayerEdit(dx=0.3 * CELL, degrees=20, scale_x=0.5)])
def test_the_fill_may_be_another_latent(edit):
    latent, other = _latent(), torch.full((4, 1, 1), -3.0).expand(4, 6, 9)
    filled = apply_edit(latent, edit, pixels_per_cell=CELL, fill=other)
    assert torch.allclose(filled, apply_edit(latent, edit, pixels_per_cell=CELL, fill=-3.0))


@pytest.mark.parametrize(
    "axes", [{"flip_horizontal": True}, {"flip_vertical": True}, {"flip_horizontal": True, "flip_vertical": True}]
)
@pytest.mark.parametrize("size", [(6, 9), (7, 4)])
def test_flips_are_exact_and_twice_is_the_identity(axes, size):
    latent, edit = _latent(*size), LayerEdit(**axes)
    flipped = apply_edit(latent, edit, pixels_per_cell=CELL)
    dims = [dim for dim, name in ((-1, "flip_horizontal"), (-2, "flip_vertical")) if axes.get(name)]
    assert torch.equal(flipped, latent.flip(dims))
    assert torch.equal(apply_edit(flipped, edit, pixels_per_cell=CELL), latent)


def test_a_flip_about_the_layers_own_centre_keeps_its_box():
    alpha = _box(10, 20, 30, 40)
    alpha[:, 20:25, 10:15] = 0.5
    edit = LayerEdit(flip_horizontal=True, center=center_of(alpha))
    flipped = apply_edit(alpha, edit, pixels_per_cell=1)
    assert torch.equal(flipped[:, 20:40, 10:30], alpha[:, 20:40, 10:30].flip(-1))
    assert flipped.sum() == alpha.sum()
    assert torch.equal(apply_edit(flipped, edit, pixels_per_cell=1), alpha)


@pytest.mark.parametrize("size", [5, 8])
def test_four_quarter_turns_are_the_identity_and_one_is_clockwise(size):
    latent, edit = _latent(size, size), LayerEdit(degrees=90)
    turned = apply_edit(latent, edit, pixels_per_cell=CELL)
    assert torch.equal(turned, latent.rot90(-1, (-2, -1)))
    for _ in range(3):
        turned = apply_edit(turned, edit, pixels_per_cell=CELL)
    assert torch.equal(turned, latent)


def test_four_quarter_turns_about_a_layers_centre_on_a_wide_canvas():
    alpha = torch.zeros(1, 20, 33)
    alpha[:, 4:12, 13:21] = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    edit = LayerEdit(degrees=-90, center=center_of(alpha))
    turned = apply_edit(alpha, edit, pixels_per_cell=1)
    assert torch.equal(turned[:, 4:12, 13:21], alpha[:, 4:12, 13:21].rot90(1, (-2, -1)))
    for _ in range(3):
        turned = apply_edit(turned, edit, pixels_per_cell=1)
    assert torch.equal(turned, alpha)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.5])
def test_resizing_keeps_the_layers_centre_and_scales_its_area(scale):
    alpha = _disc()
    resized = apply_edit(alpha, LayerEdit(scale_x=scale, scale_y=scale, center=center_of(alpha)), pixels_per_cell=1)
    assert center_of(resized, threshold=0.5) == pytest.approx(center_of(alpha), abs=0.51)
    assert resized.sum().item() == pytest.approx(alpha.sum().item() * scale**2, rel=0.03)
    assert 0 <= resized.min() and resized.max() <= 1


def test_resizing_follows_each_axis():
    alpha = _box(20, 20, 40, 40)
    wide = apply_edit(alpha, LayerEdit(scale_x=2, scale_y=0.5, center=center_of(alpha)), pixels_per_cell=1)
    rows, columns = (wide[0] > 0.5).any(dim=1).nonzero(), (wide[0] > 0.5).any(dim=0).nonzero()
    assert (columns.min(), columns.max() + 1) == (10, 50)
    assert (rows.min(), rows.max() + 1) == (25, 35)


def test_a_disc_is_the_same_when_turned_about_its_centre():
    alpha = _disc()
    turned = apply_edit(alpha, LayerEdit(degrees=33, center=(28, 36)), pixels_per_cell=1)
    assert (turned - alpha).abs().mean() < 0.005


def test_turns_go_clockwise():
    alpha = _box(40, 30, 56, 34)  # a bar to the right of the middle
    turned = apply_edit(alpha, LayerEdit(degrees=45), pixels_per_cell=1)
    x, y = center_of(turned, threshold=0.5)
    assert x > 40 and y > 38  # right and below


@pytest.mark.parametrize(
    "edit",
    [
        LayerEdit(dx=16, dy=-8),
        LayerEdit(dx=11, dy=-5),
        LayerEdit(flip_horizontal=True, center=(28, 36)),
        LayerEdit(scale_x=0.5, scale_y=0.75, center=(28, 36)),
        LayerEdit(degrees=30, dx=5, scale_x=1.5),
    ],
)
def test_latents_and_alphas_are_edited_alike(edit):
    """Editing the picture's alpha and shrinking it is shrinking it and editing what a latent cell holds."""
    alpha = _disc()
    edited = resize_alpha(apply_edit(alpha, edit, pixels_per_cell=1), (16, 16))
    cells = apply_edit(resize_alpha(alpha, (16, 16)), edit, pixels_per_cell=4)
    assert (edited - cells).abs().mean() < 0.02
    assert (edited - cells).abs().max() < 0.3
    assert cells.sum().item() == pytest.approx(edited.sum().item(), rel=0.05)


def test_every_channel_and_leading_axis_is_edited_alike():
    latents = torch.stack([_latent(), 2 * _latent()])
    edit = LayerEdit(dx=5, degrees=20, scale_x=0.8)
    edited = apply_edit(latents, edit, pixels_per_cell=CELL)
    assert torch.allclose(edited[0, 2], apply_edit(latents[0, 2], edit, pixels_per_cell=CELL), atol=1e-6)
    assert torch.allclose(edited[1], 2 * edited[0], atol=1e-6)


def test_nearest_keeps_the_variance_of_noise_where_bilinear_loses_it():
    noise = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(0))
    edit = LayerEdit(degrees=45, dx=4, center=(256, 256))
    inner = (..., slice(20, 44), slice(20, 44))
    nearest = apply_edit(noise, edit, pixels_per_cell=CELL, resample="nearest")[inner]
    assert nearest.std().item() == pytest.approx(1, abs=0.06)
    assert apply_edit(noise, edit, pixels_per_cell=CELL)[inner].std() < 0.8
    assert torch.isin(nearest, noise).all()


def test_nearest_by_half_a_cell_uses_every_cell_once():
    row = torch.arange(8.0)[None, None]
    moved = apply_edit(row, LayerEdit(dx=CELL / 2), pixels_per_cell=CELL, resample="nearest", fill=-1.0)
    assert moved.flatten().tolist() in ([0, 1, 2, 3, 4, 5, 6, 7], [-1, 0, 1, 2, 3, 4, 5, 6])


def test_a_snapped_edit_is_exact_on_the_latent():
    edit = LayerEdit(dx=13, dy=-3, flip_horizontal=True, center=(37.5, 20.25)).snapped(CELL)
    assert (edit.dx, edit.dy, edit.center) == (16, 0, (36, 20))
    latent = _latent(8, 8)
    possible = torch.cat([latent.flatten(), torch.tensor([9.0])])
    for snapped in (edit, LayerEdit(degrees=90, center=(37.5, 20.25)).snapped(CELL)):
        edited = apply_edit(latent, snapped, pixels_per_cell=CELL, fill=9.0)
        assert torch.isin(edited, possible).all()
        assert edited.unique().numel() > latent.numel() / 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype):
    latent = _latent().to(dtype)
    for edit in (LayerEdit(dx=CELL), LayerEdit(dx=3)):
        assert apply_edit(latent, edit, pixels_per_cell=CELL).dtype == dtype


def test_center_of_is_the_middle_of_the_tight_box():
    assert center_of(_box(10, 20, 31, 40)) == (20.5, 30)
    assert center_of(_box(10, 20, 31, 40), pixels_per_cell=4) == (82, 120)
    assert center_of(torch.zeros(1, 6, 9)) == (4.5, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"scale_x": 0},
        {"scale_y": -1},
        {"scale_x": 1e9},
        {"scale_x": float("nan")},
        {"dx": float("inf")},
        {"degrees": float("nan")},
        {"center": (float("nan"), 0)},
    ],
)
def test_impossible_edits_are_refused(changes):
    with pytest.raises(InputError, match="give"):
        dataclasses.replace(LayerEdit(), **changes)
