"""Does an object have a shadow? The ground beside its foot is darker than the background layer says it is.

Three steps, none of which needs to know the light: (1) the region: a flat ellipse around the object's foot, as far as no
object covers it; (2) how much of the background's light is missing there; (3) less how much is missing in the rest of the
picture, because a harmonised picture may be a little darker or brighter all over.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

__all__ = ["SHADOW_THRESHOLD", "darkening", "foot_errors", "foot_regions", "has_shadow", "shadow_error"]

SHADOW_THRESHOLD = 0.10  # share of light missing; measured on true scenes, with and without shadows (validation.py)
_FEWEST = 0.0006  # share of the picture that a foot region needs to be measured: 10 pixels at 128x128
_COVERED = 0.1  # alpha from which a pixel belongs to an object; decoded alphas may be faintly above 0 anywhere
_LUMA = (0.2126, 0.7152, 0.0722)


def _luminance(picture: Tensor) -> Tensor:
    """(3, h, w) -> (h, w), with a floor so that ratios of black stay finite."""
    return (picture * picture.new_tensor(_LUMA)[:, None, None]).sum(0) + 0.02


def _grown(masks: Tensor, pixels: int) -> Tensor:
    return max_pool2d(masks[:, None], 2 * pixels + 1, 1, pixels)[:, 0]


def _ellipse(alpha: Tensor, across: float, down: float) -> Tensor:
    """A boolean ellipse (h, w) around the foot of one alpha (h, w), in units of half the object's width."""
    inside = alpha > 0.5
    rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
    if len(rows) == 0:
        return torch.zeros_like(inside)
    half = float(columns[-1] - columns[0] + 1) / 2
    x, y = float(columns[0]) + half - 0.5, float(rows[-1]) - 0.15 * half
    height, width = alpha.shape
    dx = (torch.arange(width)[None] - x) / (across * half)
    dy = (torch.arange(height)[:, None] - y) / (down * half)
    return dx.square() + dy.square() < 1


def foot_regions(alphas: Tensor) -> Tensor:
    """The ground around every object's foot that no object covers: alphas (f, h, w) -> boolean (f, h, w)."""
    if len(alphas) == 0:
        return alphas > 0.5
    margin = max(1, round(min(alphas.shape[-2:]) / 128))
    free = _grown((alphas > _COVERED).float(), margin).amax(0) < 0.5
    return torch.stack([_ellipse(alpha, 1.2, 0.5) & free for alpha in alphas])


def _rest(alphas: Tensor) -> Tensor:
    """Pixels (h, w) far from all objects."""
    margin = max(1, round(min(alphas.shape[-2:]) / 64))
    covered = _grown((alphas > _COVERED).float(), margin).amax(0) > 0.5
    for alpha in alphas:
        covered = covered | _ellipse(alpha, 2.0, 0.9)
    return ~covered


def darkening(picture: Tensor, background: Tensor, alphas: Tensor) -> list[float | None]:
    """Share of light missing at every object's foot, beyond what is missing everywhere; None where no ground is seen.

    picture and background (3, h, w) in [0,1]; alphas (f, h, w).
    """
    if len(alphas) == 0:
        return []
    lit, now = _luminance(background), _luminance(picture)
    rest = _rest(alphas)
    # The median: cast shadows reach into the rest, but never over most of it.
    overall = float((now[rest] / lit[rest]).median()) if bool(rest.any()) else 1.0
    fewest = _FEWEST * alphas[0].numel()
    return [
        None if int(region.sum()) < fewest else 1 - float(now[region].sum() / lit[region].sum()) / overall
        for region in foot_regions(alphas)]


def has_shadow(picture: Tensor, background: Tensor, alphas: Tensor) -> list[float]:
    """1 for every object with a shadow and 0 for every one without; objects without visible ground are left out."""
    found = darkening(picture, background, alphas)
    return [float(missing > SHADOW_THRESHOLD) for missing in found if missing is not None]


def foot_errors(picture: Tensor, whole: Tensor, alphas: Tensor) -> list[float]:
    """Mean absolute difference of picture and whole (3, h, w) on the ground at every object's foot, where shadows fall.

    alphas (f, h, w); objects whose foot stands on no visible ground are left out.
    """
    off = (picture - whole).abs().mean(0)
    return [float(off[region].mean()) for region in foot_regions(alphas) if float(region.float().mean()) >= _FEWEST]


def shadow_error(picture: Tensor, truth: Tensor, shadows: Tensor, alphas: Tensor) -> float | None:
    """Mean absolute difference of picture and truth (3, h, w) where the true scene has a shadow; None where it has none.

    shadows and alphas (f, h, w): how much light every object takes from the ground, and where the objects themselves are.
    """
    if len(alphas) == 0:
        return None
    taken = 1 - (1 - shadows).prod(0)
    region = (taken > 0.15) & (alphas.amax(0) < 0.02)
    return float((picture - truth).abs().mean(0)[region].mean()) if bool(region.any()) else None
