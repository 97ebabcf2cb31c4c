"""Scenes: the ground truth must be exact, and a pure function of the seed."""

from __future__ import annotations

import numpy as np
import pytest

from dreamlayer_core.errors import InputError
from dreamlayer_core.scenes import COLORS, KINDS, make_scene, move_object
from dreamlayer_core.scenes.objects import MATERIALS
from dreamlayer_core.scenes.scene import SceneObject, paint_object

SEEDS = range(24)


def flat(scene):
    """Eq. 1, written out."""
    picture = scene.background
    for color, alpha in zip(scene.colors, scene.alphas, strict=True):
        picture = picture * (1 - alpha[..., None]) + color * alpha[..., None]
    return picture


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_seed_is_a_scene(split):
    first, again = make_scene(3, split=split), make_scene(3, split=split)
    assert first.whole_caption == again.whole_caption
    assert np.array_equal(first.picture, again.picture) and np.array_equal(first.alphas, again.alphas)
    assert not np.array_equal(first.picture, make_scene(4, split=split).picture)


def test_values_are_in_range_and_every_object_can_be_seen():
    for scene in map(make_scene, SEEDS):
        for values in (scene.background, scene.colors, scene.alphas, scene.shadows, scene.picture):
            assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
        assert (scene.visible.sum((1, 2)) > 40).all(), scene.whole_caption


def test_layers_never_hold_a_shadow_and_the_picture_always_does():
    for scene in map(make_scene, SEEDS):
        composite, uncovered = flat(scene), scene.alphas.max(0) < 0.01
        # Off the objects the plain composite is the background itself ...
        assert np.allclose(composite[uncovered], scene.background[uncovered], atol=0.011)
        # ... and the picture is darker in the shadows, by what the shadow maps say.
        deep = uncovered & (scene.shadows.max(0) > 0.3)
        if scene.ground not in ("lake", "marble") and deep.sum() > 20:
            ratio = scene.picture[deep].mean() / scene.background[deep].mean()
            assert ratio < 0.85, scene.whole_caption


def test_still_water_and_marble_mirror_what_stands_on_them_and_other_grounds_do_not():
    mirrored = 0
    for seed in range(60):
        scene = make_scene(seed, foregrounds=1)
        alpha = scene.alphas[0]
        clear = alpha < 0.01
        shaded = scene.background * (1 - scene.shadows[0][..., None] * np.asarray((1.0, 0.97, 0.90), np.float32))
        change = scene.picture - shaded
        if scene.ground not in ("lake", "marble"):
            assert np.abs(change[clear]).max() < 0.011, scene.whole_caption
            continue
        rows, opaque = np.arange(len(alpha))[:, None], alpha > 0.5
        foot = int(np.nonzero(opaque.any(1))[0].max())
        below = clear & (rows > foot) & (rows < foot + 8) & opaque.any(0)
        toward = scene.colors[0][opaque & (rows > foot - 8)].mean(0) - shaded[below].mean(0)
        assert np.abs(change[below]).max() > 0.02 and (change[below].mean(0) * toward).sum() > 0, scene.whole_caption
        mirrored += 1
    assert mirrored >= 5


def test_objects_hide_what_is_behind_them():
    for scene in map(make_scene, SEEDS):
        for index, (color, visible) in enumerate(zip(scene.colors, scene.visible, strict=True)):
            nearest = (visible > 0.999) & (scene.shadows[index + 1 :].max(0, initial=0.0) < 1e-3)
            if scene.ground not in ("lake", "marble"):
                assert np.allclose(scene.picture[nearest], color[nearest], atol=0.01)


def test_splits_share_no_kind_colour_ground():
    seen = {split: {(o.kind, o.color, s.ground) for s in (make_scene(i, split=split) for i in range(120)) for o in s.objects}
            for split in ("train", "test")}
    assert seen["train"] and seen["test"] and not seen["train"] & seen["test"]


def test_captions_name_colour_and_are_many():
    captions = {o.caption for o in (o for i in range(60) for o in make_scene(i).objects)}
    assert len(captions) > 60
    for scene in map(make_scene, SEEDS):
        for item in scene.objects:
            assert item.color in item.caption and item.caption in scene.whole_caption
        assert scene.background_caption in scene.whole_caption
        assert len({(o.kind, o.color) for o in scene.objects}) == len(scene.objects)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("material", MATERIALS)
def test_every_kind_and_material_shows_its_colour(kind, material):
    """The mean colour of an object is nearer to its own name's than to black or white."""
    for name in ("red", "blue", "yellow"):
        item = SceneObject(kind=kind, color=name, material=material, caption="", foot=(64.0, 110.0), scale=30.0)
        color, alpha = paint_object(item, 1.0, (128, 128))
        assert alpha.max() == pytest.approx(1.0) and alpha[0].max() == 0 and 400 < alpha.sum() < 6000
        mean = (color * alpha[..., None]).sum((0, 1)) / alpha.sum()
        hue = np.asarray(COLORS[name]) - np.mean(COLORS[name])
        assert float(np.dot(mean - mean.mean(), hue)) > 0.01


@pytest.mark.parametrize("size", [(128, 128), (200, 96), (64, 160), (256, 256)])
def test_any_size(size):
    scene = make_scene(5, size=size, foregrounds=3)
    assert scene.picture.shape == (size[1], size[0], 3) and scene.alphas.shape == (3, size[1], size[0])


@pytest.mark.parametrize("count", [0, 1, 8, 12])
def test_any_count(count):
    scene = make_scene(6, foregrounds=count)
    assert len(scene.objects) == len(scene.alphas) == count
    feet = [o.foot[1] for o in scene.objects]
    assert feet == sorted(feet), "far objects lie under near ones"


def test_errors_name_the_value():
    with pytest.raises(InputError, match="31x128"):
        make_scene(0, size=(31, 128))
    with pytest.raises(InputError, match="got 13 foregrounds"):
        make_scene(0, foregrounds=13)


def test_an_object_moves_with_all_that_belongs_to_it_and_nothing_else():
    for seed in range(8):
        scene = make_scene(seed, foregrounds=3)
        step = 12 if scene.objects[1].foot[0] < 64 else -12
        moved = move_object(scene, 1, step, 2)
        seen = np.roll(scene.alphas[1], (2, step), (0, 1))
        inside = np.s_[2:, step:] if step > 0 else np.s_[2:, :step]
        assert np.allclose(moved.alphas[1][inside], seen[inside], atol=1e-3)
        color = np.roll(scene.colors[1], (2, step), (0, 1))
        assert np.abs((moved.colors[1] - color) * seen[..., None])[inside].mean() < 1e-3
        for part in ("colors", "alphas", "shadows"):
            before, after = getattr(scene, part), getattr(moved, part)
            assert all(np.array_equal(before[i], after[i]) for i in (0, 2)) and not np.array_equal(before[1], after[1])
        assert moved.objects[1].foot == (scene.objects[1].foot[0] + step, scene.objects[1].foot[1] + 2)
        assert np.array_equal(moved.background, scene.background) and not np.array_equal(moved.picture, scene.picture)
        back = move_object(moved, 1, -step, -2)
        assert np.allclose(back.picture, scene.picture, atol=1e-3)
        assert np.array_equal(move_object(scene, 0, 0).picture, scene.picture)


def test_an_object_that_is_not_there_cannot_be_moved():
    with pytest.raises(InputError, match="object 2 of a scene of 2"):
        move_object(make_scene(0, foregrounds=2), 2, 5)
