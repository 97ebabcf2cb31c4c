"""Painting primitives of the scene generator: coverage masks with soft edges, shading, and a small canvas.

Local coordinates: ``u`` to the right, ``v`` up, the foot of an object at the origin. ``pixel`` is the size of one
picture pixel in local units, so that every edge is one pixel soft at any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Brush", "Canvas", "FloatArray", "Rgb", "cover", "polygon", "sphere_normal"]

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Rgb: TypeAlias = tuple[float, float, float]


def cover(distance: FloatArray, pixel: float) -> FloatArray:
    """Coverage in [0,1] of an area whose signed distance (negative inside, local units) is given."""
    return np.clip(0.5 - distance / pixel, 0.0, 1.0).astype(np.float32)


def polygon(u: FloatArray, v: FloatArray, corners: list[tuple[float, float]]) -> FloatArray:
    """Signed distance (negative inside) of a convex polygon given counter-clockwise."""
    distance = np.full_like(u, -np.inf)
    for (u0, v0), (u1, v1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        du, dv = u1 - u0, v1 - v0
        edge = ((u - u0) * dv - (v - v0) * du) / float(np.hypot(du, dv))
        distance = np.maximum(distance, edge)
    return distance.astype(np.float32)


def sphere_normal(
    u: FloatArray, v: FloatArray, center: tuple[float, float], radii: tuple[float, float]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Unit normal (nx, ny, nz) of an ellipsoid seen from the front, and its signed distance."""
    nx, ny = (u - center[0]) / radii[0], (v - center[1]) / radii[1]
    radius = np.sqrt(nx * nx + ny * ny)
    scale = 1.0 / np.maximum(radius, 1.0)
    nx, ny = nx * scale, ny * scale
    nz = np.sqrt(np.clip(1.0 - nx * nx - ny * ny, 0.0, 1.0))
    return nx, ny, nz, ((radius - 1.0) * min(radii)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Brush:
    """What every part of one object is painted with: its colour, its material and where the light comes from."""

    rgb: Rgb
    material: str  # matte, shiny, metallic, striped
    light: float  # -1 light from the left, +1 from the right
    pixel: float

    def shade(self, nx: FloatArray, ny: FloatArray, nz: FloatArray, rgb: Rgb | None = None) -> FloatArray:
        """Colour (h, w, 3) of a surface with the given normal; ``rgb`` replaces the object's colour, always matte."""
        base = np.asarray(self.rgb if rgb is None else rgb, dtype=np.float32)
        lx, ly, lz = 0.55 * self.light, 0.62, 0.56
        lambert = np.clip(nx * lx + ny * ly + nz * lz, 0.0, 1.0)[..., None]
        material = self.material if rgb is None else "matte"
        if material == "metallic":
            band = 0.5 + 0.5 * np.sin(5.0 * ny[..., None] + 2.0 * nx[..., None] * self.light)
            color = base * (0.30 + 0.55 * lambert + 0.30 * band) + 0.28 * band * lambert
        else:
            color = base * (0.46 + 0.62 * lambert)
        if material in ("shiny", "metallic"):
            # Blinn-Phong: the half vector between the light and a viewer in front.
            hx, hy, hz = lx, ly, lz + 1.0
            half = float(np.sqrt(hx * hx + hy * hy + hz * hz))
            gloss = np.clip((nx * hx + ny * hy + nz * hz) / half, 0.0, 1.0)[..., None]
            color = color + 0.75 * gloss**36
        return np.clip(color, 0.0, 1.0).astype(np.float32)

    def stripes(self, color: FloatArray, coordinate: FloatArray) -> FloatArray:
        """Pale bands across ``coordinate`` where the material is striped."""
        if self.material != "striped":
            return color
        wave = np.sin(coordinate * 14.0)
        mask = np.clip(0.5 + wave * 2.5, 0.0, 1.0)[..., None]
        pale = 0.25 * color + 0.75 * np.clip(color.mean(-1, keepdims=True) * 1.1 + 0.35, 0.0, 1.0)
        dark = color * 0.45
        # A white object would lose its stripes against pale ones, so light colours get dark stripes.
        other = dark if sum(self.rgb) > 2.2 else pale
        return (color * (1 - mask) + other * mask).astype(np.float32)


class Canvas:
    """Straight-alpha picture of one object, painted part by part."""

    def __init__(self, height: int, width: int) -> None:
        self.color = np.zeros((height, width, 3), np.float32)
        self.alpha = np.zeros((height, width), np.float32)

    def paint(self, mask: FloatArray, color: FloatArray | Rgb) -> None:
        """Paint ``color`` over what is there, by ``mask`` (Eq. 1 for two layers, straight alpha)."""
        kept = self.alpha * (1.0 - mask)
        total = mask + kept
        weight = np.where(total > 1e-6, mask / np.maximum(total, 1e-6), 1.0)[..., None]
        self.color = (np.asarray(color, np.float32) * weight + self.color * (1.0 - weight)).astype(np.float32)
        self.alpha = total.astype(np.float32)
