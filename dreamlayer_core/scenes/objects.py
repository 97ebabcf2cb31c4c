"""The kinds of objects: each a function that paints one object, standing on its foot, in local coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .shapes import Brush, Canvas, FloatArray, Rgb, cover, polygon, sphere_normal

__all__ = ["COLORS", "KINDS", "MATERIALS", "Kind"]

Painter: TypeAlias = Callable[[Canvas, FloatArray, FloatArray, Brush], None]
Profile: TypeAlias = Callable[[FloatArray], FloatArray]

COLORS: dict[str, Rgb] = {
    "red": (0.86, 0.13, 0.13),
    "orange": (0.96, 0.50, 0.08),
    "yellow": (0.97, 0.83, 0.14),
    "green": (0.16, 0.62, 0.22),
    "cyan": (0.15, 0.76, 0.82),
    "blue": (0.14, 0.31, 0.84),
    "purple": (0.50, 0.19, 0.70),
    "pink": (0.96, 0.50, 0.70),
    "white": (0.94, 0.94, 0.94),
    "black": (0.14, 0.14, 0.16),
}
MATERIALS = ("matte", "shiny", "metallic", "striped")
_EYE: Rgb = (0.06, 0.06, 0.08)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of object; extents are in local units."""

    paint: Painter
    half_width: float
    height: float
    depth: float = 0.25  # how far the foot reaches below the origin, towards the viewer


def _revolve(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush, profile: Profile, height: float,
             *, top: Rgb | None = None, open_top: bool = False, rgb: Rgb | None = None) -> None:
    """A surface of revolution from v = 0 to ``height``, seen slightly from above."""
    tilt = 0.22
    inside = np.clip(v, 0.0, height)
    radius = np.maximum(profile(inside), 1e-3)
    slope = (profile(np.clip(inside + 0.02, 0, height)) - profile(np.clip(inside - 0.02, 0, height))) / 0.04
    across = np.clip(u / radius, -1.0, 1.0)
    bulge = np.sqrt(1.0 - across * across)
    foot = np.maximum(profile(np.zeros_like(v)), 1e-3)
    head = np.maximum(profile(np.full_like(v, height)), 1e-3)
    low = -tilt * foot * np.sqrt(np.clip(1.0 - (u / foot) ** 2, 0.0, 1.0)) - v
    side = (np.abs(u) - radius) / np.sqrt(1.0 + slope * slope)
    body = np.maximum(np.maximum(side, low), v - height)
    length = np.sqrt(1.0 + slope * slope)
    normal = (across / length, -slope / length, bulge / length)
    color = brush.shade(*normal, rgb=rgb)
    canvas.paint(cover(body, brush.pixel), brush.stripes(color, v + tilt * radius * bulge) if rgb is None else color)
    lid = (np.sqrt((u / head) ** 2 + ((v - height) / (tilt * head)) ** 2) - 1.0) * tilt * head
    shade = 0.5 if open_top else 1.12
    base = np.asarray(top or rgb or brush.rgb, np.float32) * shade
    canvas.paint(cover(lid.astype(np.float32), brush.pixel), np.clip(base, 0, 1))


def _ball(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    nx, ny, nz, distance = sphere_normal(u, v, (0.0, 0.85), (0.95, 0.95))
    canvas.paint(cover(distance, brush.pixel), brush.stripes(brush.shade(nx, ny, nz), ny * 0.9 + 0.25 * nz))


def _cube(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    depth = 0.42
    flat = np.ones_like(u)
    front = [(-0.95, -0.15), (0.6, -0.15), (0.6, 1.25), (-0.95, 1.25)]
    lid = [(-0.95, 1.25), (0.6, 1.25), (0.6 + depth, 1.25 + depth), (-0.95 + depth, 1.25 + depth)]
    side = [(0.6, -0.15), (0.6 + depth, -0.15 + depth), (0.6 + depth, 1.25 + depth), (0.6, 1.25)]
    lit_side = max(brush.light, 0.0) * 0.9
    for corners, normal in ((front, (0.0, 0.0, 0.85)), (side, (lit_side, 0.0, 0.0)), (lid, (0.0, 1.0, 0.5))):
        color = brush.shade(flat * normal[0], flat * normal[1] + 0.1 * (v - 0.6), flat * normal[2])
        canvas.paint(cover(polygon(u, v, corners), brush.pixel), brush.stripes(color, v if corners is not lid else u))


def _cone(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    _revolve(canvas, u, v, brush, lambda h: 0.9 - 0.5 * h, 1.78)


def _cylinder(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    _revolve(canvas, u, v, brush, lambda h: np.full_like(h, 0.72), 1.5)


def _vase(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    def profile(h: FloatArray) -> FloatArray:
        return (0.36 + 0.44 * np.maximum(np.sin(np.clip(h / 1.35, 0, 1) * np.pi), 0.0) ** 1.3 + 0.12 * np.clip(h - 1.35, 0, 1)).astype(
            np.float32)
    _revolve(canvas, u, v, brush, profile, 1.75, open_top=True)


def _mug(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    ring = np.abs(np.hypot((u - 0.66) / 0.9, v - 0.62) - 0.40) - 0.11
    across = np.clip((np.hypot(u - 0.66, v - 0.62) - 0.40) / 0.11, -1, 1)
    canvas.paint(cover(ring.astype(np.float32), brush.pixel), brush.shade(across * 0.7, 0.3 - across * 0, 0.7 + 0 * u))
    _revolve(canvas, u, v, brush, lambda h: np.full_like(h, 0.66), 1.2, open_top=True)


def _mushroom(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    _revolve(canvas, u, v, brush, lambda h: 0.34 - 0.08 * h, 0.95, rgb=(0.93, 0.88, 0.78))
    nx, ny, nz, distance = sphere_normal(u, v, (0.0, 0.82), (1.0, 0.85))
    under = 0.80 - 0.2 * np.sqrt(np.clip(1 - nx * nx, 0, 1)) - v
    mask = cover(np.maximum(distance, under.astype(np.float32)), brush.pixel)
    canvas.paint(mask, brush.stripes(brush.shade(nx, ny, nz), ny))
    if brush.material == "striped":
        return
    dots = (0.12, 0.12, 0.14) if sum(brush.rgb) > 2.2 else (0.97, 0.96, 0.93)
    for du, dv, size in ((-0.45, 1.12, 0.15), (0.08, 1.34, 0.17), (0.52, 1.02, 0.13), (-0.02, 0.92, 0.11)):
        spot = np.hypot((u - du) / 1.0, (v - dv) / 0.8) - size
        canvas.paint(cover(spot.astype(np.float32), brush.pixel) * mask, brush.shade(nx, ny, nz, rgb=dots))


def _tree(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    _revolve(canvas, u, v, brush, lambda h: 0.17 - 0.03 * h, 0.95, rgb=(0.45, 0.29, 0.16))
    for cu, cv, radius in ((-0.38, 1.12, 0.55), (0.40, 1.15, 0.53), (0.0, 1.58, 0.62), (0.02, 1.10, 0.50)):
        nx, ny, nz, distance = sphere_normal(u, v, (cu, cv), (radius, radius))
        canvas.paint(cover(distance, brush.pixel), brush.stripes(brush.shade(nx, ny, nz), v))


def _house(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    flat = np.ones_like(u)
    wall = brush.shade(0 * u, 0.1 * (v - 0.5), flat * 0.8)
    canvas.paint(cover(polygon(u, v, [(-0.8, -0.1), (0.8, -0.1), (0.8, 1.0), (-0.8, 1.0)]), brush.pixel),
                 brush.stripes(wall, v))
    roof_rgb: Rgb = (0.36, 0.22, 0.18) if brush.rgb[0] < 0.9 or sum(brush.rgb) > 2.2 else (0.30, 0.28, 0.34)
    roof = polygon(u, v, [(-1.0, 0.95), (1.0, 0.95), (0.0, 1.8)])
    canvas.paint(cover(roof, brush.pixel), brush.shade(0.5 * np.sign(u), flat * 0.7, flat * 0.4, rgb=roof_rgb))
    for corners, rgb in (([(-0.22, -0.1), (0.22, -0.1), (0.22, 0.52), (-0.22, 0.52)], (0.30, 0.20, 0.14)),
                         ([(0.38, 0.42), (0.66, 0.42), (0.66, 0.74), (0.38, 0.74)], (0.98, 0.93, 0.62)),
                         ([(-0.66, 0.42), (-0.38, 0.42), (-0.38, 0.74), (-0.66, 0.74)], (0.98, 0.93, 0.62))):
        canvas.paint(cover(polygon(u, v, corners), brush.pixel), rgb)


def _duck(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    side = brush.light  # it looks towards the light
    canvas.paint(cover(polygon(u * side, v, [(0.75, 1.22), (1.18, 1.28), (0.75, 1.46)]), brush.pixel), (0.95, 0.5, 0.1))
    for center, radii in (((-0.1, 0.5), (0.95, 0.58)), ((0.48, 1.3), (0.44, 0.44)), ((-0.25, 0.58), (0.5, 0.3))):
        nx, ny, nz, distance = sphere_normal(u * side, v, center, radii)
        canvas.paint(cover(distance, brush.pixel), brush.stripes(brush.shade(nx * side, ny, nz), v))
    eye = np.hypot(u * side - 0.62, v - 1.4) - 0.085
    canvas.paint(cover(eye.astype(np.float32), brush.pixel), (0.95, 0.95, 0.95) if sum(brush.rgb) < 0.7 else _EYE)


def _car(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    flat = np.ones_like(u)
    ny = np.clip((v - 0.45) * 1.6, -1, 1)
    color = brush.shade(0.15 * u, ny, np.sqrt(1 - 0.9 * ny * ny))
    cabin = polygon(u, v, [(-0.72, 0.75), (0.62, 0.75), (0.34, 1.22), (-0.46, 1.22)]) - 0.06
    canvas.paint(cover(cabin, brush.pixel), color)
    body = np.hypot(np.maximum(np.abs(u) - 0.98, 0), np.maximum(np.abs(v - 0.5) - 0.16, 0)) - 0.17
    canvas.paint(cover(body.astype(np.float32), brush.pixel), brush.stripes(color, u * 0.8))
    for corners in ([(-0.6, 0.8), (-0.1, 0.8), (-0.1, 1.14), (-0.4, 1.14)], [(0.0, 0.8), (0.48, 0.8), (0.3, 1.14), (0.0, 1.14)]):
        canvas.paint(cover(polygon(u, v, corners), brush.pixel), (0.72, 0.86, 0.94))
    for center in (-0.6, 0.6):
        for radius, rgb in ((0.31, (0.10, 0.10, 0.11)), (0.14, (0.75, 0.75, 0.78))):
            nx, nyw, nz, distance = sphere_normal(u, v, (center, 0.2), (radius, radius))
            canvas.paint(cover(distance, brush.pixel), brush.shade(nx * 0.5, nyw * 0.5, nz + 0 * flat, rgb=rgb))


def _gift(canvas: Canvas, u: FloatArray, v: FloatArray, brush: Brush) -> None:
    flat = np.ones_like(u)
    ribbon: Rgb = (0.97, 0.83, 0.25) if brush.rgb[1] < 0.45 else (0.80, 0.12, 0.22)
    for corners, light in (([(-0.85, -0.15), (0.85, -0.15), (0.85, 0.95), (-0.85, 0.95)], 0.75),
                           ([(-0.95, 0.88), (0.95, 0.88), (0.95, 1.22), (-0.95, 1.22)], 1.0)):
        inside = cover(polygon(u, v, corners), brush.pixel)
        canvas.paint(inside, brush.stripes(brush.shade(0.2 * u, 0.25 * flat * light, flat * light), u))
        band = cover((np.abs(u) - 0.15).astype(np.float32), brush.pixel)
        canvas.paint(inside * band, brush.shade(0 * u, 0.2 * flat, flat * light, rgb=ribbon))
    for side in (-1.0, 1.0):
        nx, ny, nz, distance = sphere_normal(u, v, (0.30 * side, 1.40), (0.32, 0.20))
        canvas.paint(cover(distance, brush.pixel), brush.shade(nx, ny, nz, rgb=ribbon))


KINDS: dict[str, Kind] = {
    "ball": Kind(paint=_ball, half_width=0.95, height=1.8, depth=0.1),
    "cube": Kind(paint=_cube, half_width=1.02, height=1.67, depth=0.15),
    "cone": Kind(paint=_cone, half_width=0.9, height=1.8),
    "cylinder": Kind(paint=_cylinder, half_width=0.72, height=1.66),
    "vase": Kind(paint=_vase, half_width=0.8, height=1.84),
    "mug": Kind(paint=_mug, half_width=1.14, height=1.36),
    "mushroom": Kind(paint=_mushroom, half_width=1.0, height=1.68),
    "tree": Kind(paint=_tree, half_width=0.95, height=2.2),
    "house": Kind(paint=_house, half_width=1.0, height=1.8, depth=0.1),
    "duck": Kind(paint=_duck, half_width=1.18, height=1.75, depth=0.1),
    "car": Kind(paint=_car, half_width=1.16, height=1.28, depth=0.12),
    "gift": Kind(paint=_gift, half_width=0.95, height=1.6, depth=0.15),
}
