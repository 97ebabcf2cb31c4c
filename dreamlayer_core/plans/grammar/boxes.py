"""Words for places of the picture ("on the left") to coarse boxes in shares of the canvas: (left, top, right, bottom)."""

from __future__ import annotations

from .scene import Box

__all__ = ["spot_box"]

_ACROSS = {"left": (0.0, 0.45), "middle": (0.25, 0.75), "right": (0.55, 1.0), "": (0.1, 0.9)}
_DOWN = {"top": (0.0, 0.45), "middle": (0.25, 0.75), "bottom": (0.55, 1.0), "": (0.1, 0.9)}


def spot_box(spot: str) -> Box | None:
    """``"left"``, ``"top right"``, ``"middle"``, ``"bottom"``...; None for what names no part of the canvas."""
    words = spot.split()
    across = next((word for word in words if word in ("left", "right")), "")
    down = next((word for word in words if word in ("top", "bottom")), "")
    if not across and not down:
        return (0.25, 0.25, 0.75, 0.75) if "middle" in words else None
    if "middle" in words:
        across, down = across or "middle", down or "middle"
    (left, right), (top, bottom) = _ACROSS[across], _DOWN[down]
    return left, top, right, bottom
