"""The adapter as a module: what is trained, and what a bound UNet reads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .attention.cells import CellAttention
from .attention.context_layers import ContextAwareLayers
from .row_weights import RowDelta, add_rows
from .weights import Adapter, AdapterSettings

__all__ = ["LayerAdapter", "kv_differences"]


def _parameters(weights: Mapping[str, Tensor]) -> nn.ParameterDict:
    # Parameter names must not hold dots.
    return nn.ParameterDict({name.replace(".", "/"): nn.Parameter(w.detach().clone()) for name, w in weights.items()})


class LayerAdapter(nn.Module):
    """K and V of all attention layers, a second set for foreground rows, layer-assign embeddings and context-aware
    layers (Sec. 4.1, *Training*), and attention between the rows of each cell, which is ours.

    ``cells``: by name the shared attention layers that have it, and their channels.
    """

    def __init__(
        self, settings: AdapterSettings, shared_kv: Mapping[str, Tensor], foreground_kv: Mapping[str, Tensor],
        cells: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.shared, self.foreground = _parameters(shared_kv), _parameters(foreground_kv)
        self.layer_assign = nn.Parameter(torch.zeros(settings.slots, settings.cross_attention_dim))
        self.context_layers = ContextAwareLayers(
            settings.num_context_layers, settings.context_features, settings.context_hidden, settings.context_heads)
        self.cells = nn.ModuleDict({
            site.replace(".", "/"): CellAttention(channels, settings.cell_hidden) for site, channels in (cells or {}).items()})

    @classmethod
    def from_weights(cls, weights: Adapter) -> LayerAdapter:
        """The module of a loaded file, in fp32, frozen."""
        module = cls(weights.settings, weights.shared_kv, weights.foreground_kv, weights.cell_channels)
        module.layer_assign = nn.Parameter(weights.layer_assign.detach().clone())
        module.context_layers.load_state_dict(dict(weights.context_layers))
        for site, cell in module.cells.items():
            start = f"{site.replace('/', '.')}."
            cell.load_state_dict({name.removeprefix(start): tensor for name, tensor in weights.cell_attention.items()
                                  if name.startswith(start)})
        return module.float().eval().requires_grad_(False)

    def weights(self) -> Adapter:
        """What a file holds."""
        return Adapter(
            settings=self.settings, layer_assign=self.layer_assign.detach(),
            context_layers={k: v.detach() for k, v in self.context_layers.state_dict().items()},
            shared_kv={k.replace("/", "."): v.detach() for k, v in self.shared.items()},
            foreground_kv={k.replace("/", "."): v.detach() for k, v in self.foreground.items()},
            cell_attention={k.replace("/", "."): v.detach() for k, v in self.cells.state_dict().items()},
        )

    def project(self, site: str, base: nn.Linear, tokens: Tensor, rows: int) -> Tensor:
        """Keys or values of the rows of whole stacks, tokens ((stack rows), n, c): foregrounds by their own weights.

        ``site`` names the projection (``….to_k``). With one row a stack (harmonisation) there is no foreground. Where
        the adapter has no weight for the foregrounds, they share the others'; where it has none at all, the base's.
        """
        name = site.replace(".", "/")
        shared = self.shared[name] if name in self.shared else base.weight
        if rows < 3 or name not in self.foreground:
            return functional.linear(tokens, shared, base.bias)
        stacked = rearrange(tokens, "(stack row) n c -> stack row n c", row=rows)
        others = functional.linear(stacked[:, [0, -1]], shared, base.bias)
        foregrounds = functional.linear(stacked[:, 1:-1], self.foreground[name], base.bias)
        return torch.cat([others[:, :1], foregrounds, others[:, 1:]], 1).flatten(0, 1)

    def across_cells(
        self, site: str, query: Tensor, key: Tensor, value: Tensor, rows: int, *, maps: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """What an attention layer's tokens (stacks * rows, n, c) get from the same cell of the other rows."""
        return self.cells[site.replace(".", "/")](query, key, value, rows, maps=maps, mask=mask)

    def has_cells(self, site: str) -> bool:
        """Whether an attention layer has attention between the rows of a cell."""
        return site.replace(".", "/") in self.cells

    def add_foreground(self, name: str, projected: Tensor, tokens: Tensor, rows: int) -> Tensor:
        """Keys or values of the rows of whole stacks, ((stack rows), n, c), as the first set projected them from
        ``tokens``, with what the second set adds for foregrounds: for an adapter of ``kv_differences``."""
        difference = RowDelta(rows="foreground", up=self.foreground[name.replace(".", "/")])
        return add_rows(projected.clone(), tokens.to(projected), [difference], rows)

    def has_foreground(self, site: str) -> bool:
        """Whether foregrounds have keys and values of their own at an attention layer."""
        return f"{site}.to_k".replace(".", "/") in self.foreground


def kv_differences(weights: Adapter, base: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """An adapter's sets by projection, in fp32: the shared one less the base's, the foregrounds' less the shared one."""
    shared = {name: weight.float() for name, weight in weights.shared_kv.items()}
    return ({name: weight - base[name] for name, weight in shared.items()},
            {name: weight.float() - shared.get(name, base[name]) for name, weight in weights.foreground_kv.items()})
