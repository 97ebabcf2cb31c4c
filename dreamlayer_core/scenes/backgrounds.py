"""Backgrounds: a ground plane in perspective under a sky or against a wall, with texture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .shapes import FloatArray, Rgb

__all__ = ["GROUNDS", "SKIES", "WALLS", "Ground", "paint_background"]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """One kind of ground. ``reflective`` grounds mirror what stands on them in the global picture."""

    rgb: Rgb
    other: Rgb
    texture: Callable[[FloatArray, FloatArray, np.random.Generator], FloatArray]
    indoors: bool
    reflective: bool = False


def _smooth_noise(u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Bilinear value noise in [0,1] on a wrapped 32x32 lattice, at coordinates in lattice units."""
    lattice = rng.random((32, 32)).astype(np.float32)
    u0, v0 = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    fu, fv = (u - u0).astype(np.float32), (v - v0).astype(np.float32)
    fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
    a, b = lattice[v0 % 32, u0 % 32], lattice[v0 % 32, (u0 + 1) % 32]
    c, d = lattice[(v0 + 1) % 32, u0 % 32], lattice[(v0 + 1) % 32, (u0 + 1) % 32]
    return (a * (1 - fu) + b * fu) * (1 - fv) + (c * (1 - fu) + d * fu) * fv


def _grass(u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    return 0.65 * _smooth_noise(u * 5, v * 3, rng) + 0.35 * _smooth_noise(u * 16, v * 5, rng)


def _sand(u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    ripple = 0.5 + 0.5 * np.sin(v * 7 + 2.5 * _smooth_noise(u * 2, v, rng))
    return (0.45 * ripple + 0.55 * _smooth_noise(u * 3, v * 3, rng)).astype(np.float32)


def _snow(u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    return _smooth_noise(u * 1.6, v * 1.6, rng)


def _water(u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    wave = 0.5 + 0.5 * np.sin(v * 10 + 3 * _smooth_noise(u * 1.2, v * 3, rng))
    return (0.6 * wave + 0.4 * _smooth_noise(u * 2, v * 6, rng)).astype(np.float32)


def _tiles(u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    shift = rng.random(2).astype(np.float32)
    check = np.sin((u * 1.6 + shift[0]) * np.pi) * np.sin((v * 1.6 + shift[1]) * np.pi)
    return np.clip(0.5 + check * 6, 0, 1).astype(np.float32)


def _planks(u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    column = np.floor(u * 2.2).astype(np.int64)
    tone = rng.random(64).astype(np.float32)[column % 64]
    seam = np.clip(np.abs((u * 2.2) % 1.0 - 0.5) * 16 - 7.0, 0, 1)
    return np.clip(0.75 * tone + 0.25 * _smooth_noise(u * 9, v * 1.5, rng) - 0.8 * seam, -0.6, 1).astype(np.float32)


def _stone(u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    return 0.5 * _smooth_noise(u * 2.5, v * 2.5, rng) + 0.5 * _smooth_noise(u * 8, v * 8, rng)


def _marble(u: FloatArray, v: FloatArray, rng: np.random.Generator) -> FloatArray:
    vein = np.abs(np.sin(2.2 * u + 1.4 * v + 4 * _smooth_noise(u * 1.5, v * 1.5, rng)))
    return np.clip(1.0 - vein * 2.2, 0, 1).astype(np.float32)


GROUNDS: dict[str, Ground] = {
    "meadow": Ground(rgb=(0.38, 0.62, 0.24), other=(0.24, 0.47, 0.16), texture=_grass, indoors=False),
    "beach": Ground(rgb=(0.90, 0.80, 0.58), other=(0.80, 0.67, 0.44), texture=_sand, indoors=False),
    "snow": Ground(rgb=(0.95, 0.96, 0.99), other=(0.78, 0.84, 0.93), texture=_snow, indoors=False),
    "lake": Ground(rgb=(0.25, 0.50, 0.62), other=(0.40, 0.65, 0.74), texture=_water, indoors=False, reflective=True),
    "plaza": Ground(rgb=(0.66, 0.64, 0.61), other=(0.50, 0.48, 0.46), texture=_stone, indoors=False),
    "wood": Ground(rgb=(0.56, 0.36, 0.20), other=(0.72, 0.51, 0.31), texture=_planks, indoors=True),
    "tiles": Ground(rgb=(0.84, 0.84, 0.82), other=(0.42, 0.47, 0.54), texture=_tiles, indoors=True),
    "marble": Ground(rgb=(0.90, 0.89, 0.88), other=(0.66, 0.66, 0.69), texture=_marble, indoors=True, reflective=True),
}
# Sky: colour at the top, colour at the horizon, whether there are stars.
SKIES: dict[str, tuple[Rgb, Rgb, bool]] = {
    "day": ((0.30, 0.56, 0.90), (0.76, 0.88, 0.97), False),
    "sunset": ((0.36, 0.24, 0.52), (0.99, 0.60, 0.32), False),
    "night": ((0.03, 0.05, 0.16), (0.15, 0.20, 0.40), True),
    "overcast": ((0.58, 0.61, 0.66), (0.80, 0.81, 0.83), False),
}
WALLS: dict[str, Rgb] = {
    "beige": (0.86, 0.78, 0.66),
    "blue": (0.52, 0.66, 0.82),
    "green": (0.58, 0.72, 0.58),
    "pink": (0.90, 0.70, 0.72),
    "gray": (0.62, 0.62, 0.64),
}


def _sky(name: str, rows: FloatArray, columns: FloatArray, horizon: float, rng: np.random.Generator) -> FloatArray:
    top, low, stars = SKIES[name]
    height = np.clip(rows / horizon, 0, 1)[..., None] ** 1.2
    color = np.asarray(top, np.float32) * (1 - height) + np.asarray(low, np.float32) * height
    if stars:
        size = max(rows.shape)
        sparkle = rng.random(rows.shape) > 1 - 40 / size**2
        color = color + 0.75 * sparkle[..., None]
    else:
        cloud = 0.6 * _smooth_noise(columns * 3.5, rows * 9, rng) + 0.4 * _smooth_noise(columns * 8, rows * 18, rng)
        color = color + np.clip(cloud - 0.55, 0, 1)[..., None] * (0.55 * (1 - color))
    ridge = horizon - 0.02 - 0.13 * _smooth_noise(columns[:1] * 3, columns[:1] * 0 + 0.5, rng)
    hills = np.clip((rows - ridge) * rows.shape[0], 0, 1)[..., None]
    haze = 0.45 * np.asarray(low, np.float32) + 0.55 * np.asarray((0.22, 0.30, 0.34), np.float32) * (0.4 if stars else 1)
    return color * (1 - hills) + haze * hills


def _wall(name: str, rows: FloatArray, columns: FloatArray, horizon: float, rng: np.random.Generator) -> FloatArray:
    base = np.asarray(WALLS[name], np.float32)
    center = rng.random()
    glow = 1.06 - 0.28 * np.abs(columns - center) - 0.10 * (1 - rows / horizon)
    color = base * glow[..., None]
    skirting = np.clip((rows - horizon + 0.035) * rows.shape[0], 0, 1)[..., None]
    return color * (1 - skirting) + np.clip(base * 1.18, 0, 1) * skirting


def paint_background(
    ground: str, backdrop: str, size: tuple[int, int], horizon: float, rng: np.random.Generator
) -> FloatArray:
    """Background picture (h, w, 3) in [0,1]; ``backdrop`` is a sky outdoors and a wall colour indoors.

    ``size`` is (width, height) in pixels, ``horizon`` the height of the ground's far edge in (0,1) from the top.
    """
    width, height = size
    rows = np.repeat((np.arange(height, dtype=np.float32)[:, None] + 0.5) / height, width, 1)
    columns = np.repeat((np.arange(width, dtype=np.float32)[None] + 0.5) / width, height, 0)
    spec = GROUNDS[ground]
    far = (_wall if spec.indoors else _sky)(backdrop, rows, columns, horizon, rng)
    # A pinhole camera: distance on the plane goes with 1 / (rows below the horizon).
    below = np.maximum(rows - horizon, 0.012)
    v = 0.75 / below
    u = (columns - 0.5) * 2.6 * v * 0.9 + 40.0
    texture = spec.texture(u.astype(np.float32), v.astype(np.float32), rng)
    fade = np.clip(below / 0.22, 0, 1)  # far texture would alias: fade it into its mean
    texture = (texture - 0.5) * fade + 0.5
    floor = np.asarray(spec.rgb, np.float32) * (1 - texture[..., None]) + np.asarray(spec.other, np.float32) * texture[..., None]
    dim = 0.62 if backdrop == "night" else 1.0
    floor = floor * dim * (0.90 + 0.14 * rows[..., None])
    edge = np.clip((rows - horizon) * height + 0.5, 0, 1)[..., None]
    return np.clip(far * (1 - edge) + floor * edge, 0, 1).astype(np.float32)
