"""Muon (Jordan et al. 2024) for the matrices of a model, AdamW for everything else, as one optimizer.

torch.optim.Muon takes matrices alone; most of a UNet's weights are convolutions, which are matrices (out, in*kh*kw) here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonalize"]

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Muon's quintic Newton-Schulz iteration


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """(n, rows, columns) -> the same with all singular values near 1 (0.7 to 1.2), in bf16."""
    a, b, c = _COEFFICIENTS
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.AdamW):
    """AdamW whose parameters in groups with ``"muon": True`` (2 or more axes) take orthogonalised momentum steps.

    A step has the root mean square 0.2, about AdamW's, so that one learning rate and one decay serve both
    (Liu et al. 2025, "Muon is scalable").
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95, **kwargs: Any) -> None:
        every = list(parameters)
        matrices = [p for p in every if _is_matrix(p)]
        others = [p for p in every if not _is_matrix(p)]
        groups = [{"params": others, "muon": False}, {"params": matrices, "muon": True}]
        super().__init__([g for g in groups if g["params"]], lr=lr, **kwargs)
        self._momentum = momentum

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        groups = self.param_groups
        for group in groups:
            if group["muon"]:
                self._matrix_step([p for p in group["params"] if p.grad is not None], group["lr"], group["weight_decay"])
        self.param_groups = [g for g in groups if not g["muon"]]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups

    def _matrix_step(self, parameters: list[nn.Parameter], rate: float, decay: float) -> None:
        by_shape: dict[tuple[int, ...], list[nn.Parameter]] = {}
        for parameter in parameters:
            by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
        for shape, group in by_shape.items():
            # Batched by shape: one small matrix at a time would leave the machine idle.
            updates = orthogonalize(torch.stack([self._direction(p) for p in group]).flatten(2))
            scale = 0.2 * max(updates.shape[-2:]) ** 0.5
            for parameter, update in zip(group, updates.to(parameters[0].dtype), strict=True):
                parameter.mul_(1 - rate * decay).add_(update.view(shape), alpha=-rate * scale)

    def _direction(self, parameter: nn.Parameter) -> Tensor:
        """Nesterov momentum of the gradient."""
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if "exp_avg" not in state:
            state["exp_avg"] = torch.zeros_like(gradient)
        average = state["exp_avg"].lerp_(gradient, 1 - self._momentum)
        return gradient.lerp(average, self._momentum)


def _is_matrix(parameter: nn.Parameter) -> bool:
    # Tables of embeddings (855 x 128, 77 x 128) stay out by their first axis being no multiple of 32, the convolutions
    # from and to latents by their 4 channels; every channel count between is a multiple of 32.
    return parameter.ndim >= 2 and all(n % 32 == 0 for n in parameter.shape[:2])
