"""How near the layers come to a picture when they are laid over each other again."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..composite import flatten, premultiply
from ..errors import InputError
from ..layers import LayerStack
from .metrics import composite_psnr

__all__ = ["Recomposition", "check_recomposition"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Recomposition:
    """The merged layers against a picture.

    `psnr`: dB, at most 60, which is more than rounding to eight bits leaves. `differing`: share of the pixels that differ
    when both are rounded to eight bits. `levels`: by how many of 255 levels at most. `difference` (3, h, w) in [0, 1].
    """

    psnr: float
    differing: float
    levels: int
    difference: Tensor

    def __str__(self) -> str:
        if self.levels == 0:
            return f"{self.psnr:.2f} dB, equal in eight bits"
        share = f"{self.differing:.2%}" if self.differing >= 1e-4 else "less than 0.01%"
        return f"{self.psnr:.2f} dB, {share} of the pixels differ in eight bits, by at most {self.levels} of 255 levels"


def check_recomposition(stack: LayerStack, picture: Tensor, *, amplify: float = 1.0) -> Recomposition:
    """Merge the stack (Eq. 1) and hold it against `picture` (3 or 4, h, w) in [0, 1]; the fourth channel is straight alpha.

    What is transparent counts as black in both. `difference` is the absolute difference times `amplify`, clamped.
    Raises InputError for a picture of another size or an amplification that is not above 0.
    """
    height, width = picture.shape[-2:]
    if picture.ndim != 3 or picture.shape[0] not in (3, 4) or (width, height) != (stack.width, stack.height):
        raise InputError(
            f"got a picture of {width}x{height} pixels, shape {tuple(picture.shape)}, for layers of "
            f"{stack.width}x{stack.height}; give a picture of the layers' own size")
    if not (math.isfinite(amplify) and amplify > 0):
        raise InputError(f"got amplification {amplify}; give a number above 0")
    merged = flatten(stack)
    wanted = (picture[:3] if len(picture) == 3 else premultiply(picture[:3], picture[3:])).to(merged)
    steps = ((merged * 255).round() - (wanted * 255).round()).abs().amax(dim=0)
    return Recomposition(
        psnr=composite_psnr(merged, wanted)[0],
        differing=float((steps > 0).float().mean()),
        levels=int(steps.max()),
        difference=((merged - wanted).abs() * amplify).clamp(0, 1),
    )
