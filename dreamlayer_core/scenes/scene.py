"""Layered scenes with exact ground truth: a pure function of a seed.

Every object stands on the ground; farther ones are smaller and higher in the picture. No layer holds a shadow or a
reflection: they exist in the global picture alone, as the method assumes (Sec. 3.3 of the paper).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..errors import InputError
from .backgrounds import GROUNDS, SKIES, WALLS, paint_background
from .captions import background_caption, object_caption, whole_caption
from .objects import COLORS, KINDS, MATERIALS
from .shapes import Brush, Canvas, FloatArray

__all__ = ["Scene", "SceneObject", "Split", "make_scene", "move_object", "paint_object", "size_word"]

Split = Literal["train", "test"]
_HELD_OUT = 16  # one of this many (kind, colour, ground) triples is never trained on


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """What one foreground is and where it stands; lengths in pixels."""

    kind: str
    color: str
    material: str
    caption: str
    foot: tuple[float, float]
    scale: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """One layered scene. Colours in [0,1], straight alpha, ``f`` foregrounds from far to near (bottom to top).

    ``background`` and ``picture`` (the global layer) are (h, w, 3), ``colors`` (f, h, w, 3), ``alphas`` (f, h, w),
    ``shadows`` (f, h, w): how much of the light each object takes from the ground, in [0,1].
    """

    seed: int
    ground: str
    backdrop: str
    horizon: float
    light: float
    background: FloatArray
    colors: FloatArray
    alphas: FloatArray
    shadows: FloatArray
    picture: FloatArray
    objects: tuple[SceneObject, ...]
    background_caption: str
    whole_caption: str

    @property
    def visible(self) -> FloatArray:
        """Visible part (f, h, w) of every foreground in the global picture: its alpha not hidden by nearer ones."""
        hidden = np.cumprod(1.0 - self.alphas[::-1], axis=0)[::-1]
        after = np.concatenate([hidden[1:], np.ones_like(self.alphas[:1])]) if len(self.alphas) else hidden
        return self.alphas * after


def _is_test(kind: str, color: str, ground: str) -> bool:
    """Whether a triple is held out. A hash, so that adding kinds or colours moves no other triple."""
    digest = hashlib.sha256(f"{kind}/{color}/{ground}".encode()).digest()
    return digest[0] % _HELD_OUT == 0


def _triples(ground: str, split: Split) -> list[tuple[str, str]]:
    wanted = split == "test"
    return [(kind, color) for kind in KINDS for color in COLORS if _is_test(kind, color, ground) == wanted]


def _blur(image: FloatArray, radius: float) -> FloatArray:
    """Three box blurs, nearly a Gaussian of standard deviation ``radius``; reflecting borders."""
    width = max(1, round(radius * 1.1))
    for axis in (0, 1) * 2:
        padded = np.pad(image, [(width + 1, width) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        total = np.cumsum(padded, axis=axis, dtype=np.float64)
        count = image.shape[axis]
        high = np.take(total, np.arange(2 * width + 1, 2 * width + 1 + count), axis)
        image = ((high - np.take(total, np.arange(count), axis)) / (2 * width + 1)).astype(np.float32)
    return image


def _sample(image: FloatArray, rows: FloatArray, columns: FloatArray) -> FloatArray:
    """Bilinear sampling at pixel coordinates; zero outside."""
    padded = np.pad(image, [(1, 1), (1, 1)] + [(0, 0)] * (image.ndim - 2))
    rows = np.clip(rows + 1, 0, image.shape[0] + 0.999)
    columns = np.clip(columns + 1, 0, image.shape[1] + 0.999)
    r, c = rows.astype(np.int64), columns.astype(np.int64)
    fr, fc = rows - r, columns - c
    if image.ndim == 3:
        fr, fc = fr[..., None], fc[..., None]
    upper = padded[r, c] * (1 - fc) + padded[r, c + 1] * fc
    lower = padded[r + 1, c] * (1 - fc) + padded[r + 1, c + 1] * fc
    return (upper * (1 - fr) + lower * fr).astype(np.float32)


def _shadow(alpha: FloatArray, item: SceneObject, light: float, horizon: float) -> FloatArray:
    """Cast shadow (the object's outline laid on the ground away from the light) and contact shadow."""
    height, width = alpha.shape
    rows = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, 1)
    columns = np.repeat(np.arange(width, dtype=np.float32)[None], height, 0)
    x, y = item.foot
    up = (y - rows) / 0.42  # flattened onto the ground
    cast = _sample(alpha, y - up, columns + 1.05 * light * up)
    cast = cast * (rows > horizon * height - 1) * (rows < y + 0.4 * item.scale)
    soft = _blur(cast, max(1.0, item.scale * 0.045))
    half = KINDS[item.kind].half_width * item.scale * 0.86
    contact = np.hypot((columns - x + 0.10 * light * half) / half, (rows - y - 0.05 * item.scale) / (0.36 * half))
    contact = _blur(np.clip(1.5 - contact, 0, 1).astype(np.float32), 1.0)
    return np.clip(np.maximum(0.50 * soft, 0.62 * contact), 0, 1)


def _reflection(color: FloatArray, alpha: FloatArray, item: SceneObject) -> tuple[FloatArray, FloatArray]:
    """The object mirrored at its foot, fading with distance: colour and coverage."""
    height, width = alpha.shape
    rows = np.repeat(np.arange(height, dtype=np.float32)[:, None], width, 1)
    columns = np.repeat(np.arange(width, dtype=np.float32)[None], height, 0)
    foot = item.foot[1] + KINDS[item.kind].depth * 0.5 * item.scale
    mirror = 2 * foot - rows
    fade = np.clip(1.0 - (rows - foot) / (1.7 * item.scale), 0, 1) * (rows > foot - 0.2 * item.scale)
    return _sample(color, mirror, columns), (_sample(alpha, mirror, columns) * fade * 0.42).astype(np.float32)


def paint_object(item: SceneObject, light: float, size: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Colour (h, w, 3) and alpha (h, w) of one object alone on the canvas."""
    width, height = size
    x, y = item.foot
    columns = (np.arange(width, dtype=np.float32) + 0.5 - x) / item.scale
    rows = (y - np.arange(height, dtype=np.float32) - 0.5) / item.scale
    kind = KINDS[item.kind]
    inside = np.abs(columns) < kind.half_width + 0.25
    span = (rows < kind.height + 0.25) & (rows > -kind.depth - 0.25)
    u = np.repeat(columns[inside][None], int(span.sum()), 0)
    v = np.repeat(rows[span][:, None], int(inside.sum()), 1)
    color, alpha = np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    if u.size:
        canvas = Canvas(*u.shape)
        brush = Brush(rgb=COLORS[item.color], material=item.material, light=light, pixel=1.0 / item.scale)
        kind.paint(canvas, u, v, brush)
        window = np.ix_(span, inside)
        color[window], alpha[window] = canvas.color, canvas.alpha
    return color, alpha


def _place(
    pairs: list[tuple[str, str]], count: int, horizon: float, size: tuple[int, int], rng: np.random.Generator
) -> list[tuple[str, str, tuple[float, float], float]]:
    """Kind, colour, foot and scale of ``count`` objects, none equal in both kind and colour, far ones first."""
    width, height = size
    unit = min(width, height)
    crowd = {1: 0.215, 2: 0.195, 3: 0.175, 4: 0.16}.get(count, 0.14)
    chosen = rng.permutation(len(pairs))[:count]
    placed: list[tuple[str, str, tuple[float, float], float]] = []
    for index in chosen:
        kind, color = pairs[int(index)]
        half, tall = KINDS[kind].half_width, KINDS[kind].height
        best: tuple[float, tuple[float, float], float] | None = None
        for _ in range(12):
            depth = rng.random()
            foot = (horizon + (0.95 - horizon) * (0.25 + 0.75 * depth)) * height
            scale = unit * crowd * (0.72 + 0.38 * depth) * (0.86 + 0.28 * rng.random())
            scale = min(scale, (foot - 2) / tall)
            margin = half * scale + 2
            x = margin + (width - 2 * margin) * rng.random()
            gap = min((abs(x - p[2][0]) - 0.62 * (half * scale + KINDS[p[0]].half_width * p[3]) for p in placed),
                      default=1.0)
            if best is None or gap > best[0]:
                best = (gap, (float(x), float(foot)), float(scale))
            if gap > 0:
                break
        assert best is not None
        placed.append((kind, color, best[1], best[2]))
    return sorted(placed, key=lambda p: p[2][1])


def size_word(scale: float, unit: int) -> str:
    """How a caption calls an object of ``scale`` pixels in a picture whose shorter side is ``unit``."""
    share = scale / unit
    return "small" if share < 0.135 else "large" if share > 0.205 else ""


def make_scene(
    seed: int, *, foregrounds: int | None = None, size: tuple[int, int] = (128, 128), split: Split = "train"
) -> Scene:
    """The scene of a seed. ``foregrounds`` (0..12) is drawn from 1..4 when not given; ``size`` is (width, height).

    The (kind, colour, ground) triples of the two splits never meet, and neither do their random streams.
    Raises InputError for a size under 32 or a count outside 0..12.
    """
    if min(size) < 32:
        raise InputError(f"got a scene size of {size[0]}x{size[1]}; each side must be at least 32 pixels")
    if foregrounds is not None and not 0 <= foregrounds <= 12:
        raise InputError(f"got {foregrounds} foregrounds; a scene holds 0 to 12")
    rng = np.random.default_rng([seed, 0 if split == "train" else 1])
    count = int(rng.integers(1, 5)) if foregrounds is None else foregrounds
    ground = list(GROUNDS)[int(rng.integers(len(GROUNDS)))]
    indoors = GROUNDS[ground].indoors
    backdrops = list(WALLS if indoors else SKIES)
    backdrop = backdrops[int(rng.integers(len(backdrops)))]
    horizon = float(rng.uniform(0.34, 0.50))
    light = 1.0 if rng.random() < 0.5 else -1.0
    background = paint_background(ground, backdrop, size, horizon, rng)
    objects: list[SceneObject] = []
    for kind, color, foot, scale in _place(_triples(ground, split), count, horizon, size, rng):
        material = MATERIALS[int(rng.integers(len(MATERIALS)))]
        caption = object_caption(kind, color, material, size_word(scale, min(size)), rng)
        objects.append(SceneObject(kind=kind, color=color, material=material, caption=caption, foot=foot, scale=scale))
    painted = [paint_object(item, light, size) for item in objects]
    shape = (size[1], size[0])
    colors = np.stack([p[0] for p in painted]) if painted else np.zeros((0, *shape, 3), np.float32)
    alphas = np.stack([p[1] for p in painted]) if painted else np.zeros((0, *shape), np.float32)
    shadows = np.stack([_shadow(a, o, light, horizon) for a, o in zip(alphas, objects, strict=True)]) if painted else alphas
    text = background_caption(ground, backdrop, indoors, rng)
    return Scene(
        seed=seed, ground=ground, backdrop=backdrop, horizon=horizon, light=light, background=background,
        colors=colors, alphas=alphas, shadows=shadows, objects=tuple(objects), background_caption=text,
        picture=_compose(background, colors, alphas, shadows, objects, GROUNDS[ground].reflective),
        whole_caption=whole_caption(text, [o.caption for o in objects], rng),
    )


def move_object(scene: Scene, index: int, dx: int, dy: int = 0) -> Scene:
    """The same scene with object ``index`` (0 = the farthest) moved by whole pixels to the right and down.

    Its layer, shadow and reflection follow, and with them the picture; its size, its place in the order and the captions
    stay. What leaves the canvas is cut off, what comes into it is painted. Raises InputError for an object that the scene
    does not have.
    """
    if not 0 <= index < len(scene.objects):
        raise InputError(f"got object {index} of a scene of {len(scene.objects)}; give 0 (the farthest) and up")
    old = scene.objects[index]
    moved = replace(old, foot=(old.foot[0] + dx, old.foot[1] + dy))
    height, width = scene.alphas.shape[1:]
    color, alpha = paint_object(moved, scene.light, (width, height))
    objects = (*scene.objects[:index], moved, *scene.objects[index + 1 :])
    shadow = _shadow(alpha, moved, scene.light, scene.horizon)
    colors, alphas, shadows = (
        np.concatenate([part[:index], one[None], part[index + 1 :]])
        for part, one in ((scene.colors, color), (scene.alphas, alpha), (scene.shadows, shadow)))
    picture = _compose(scene.background, colors, alphas, shadows, list(objects), GROUNDS[scene.ground].reflective)
    return replace(scene, colors=colors, alphas=alphas, shadows=shadows, objects=objects, picture=picture)


def _compose(
    background: FloatArray, colors: FloatArray, alphas: FloatArray, shadows: FloatArray, objects: list[SceneObject],
    reflective: bool,
) -> FloatArray:
    """The global layer: every object's shadow and reflection lie on what is behind it, then the object itself."""
    picture = background.copy()
    for color, alpha, shadow, item in zip(colors, alphas, shadows, objects, strict=True):
        picture = picture * (1 - shadow[..., None] * np.asarray((1.0, 0.97, 0.90), np.float32))
        if reflective:
            mirrored, share = _reflection(color, alpha, item)
            picture = picture * (1 - share[..., None]) + mirrored * share[..., None]
        picture = picture * (1 - alpha[..., None]) + color * alpha[..., None]
    return np.clip(picture, 0, 1).astype(np.float32)
