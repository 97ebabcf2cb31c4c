"""Context-aware layers: learned refinement of the raw context maps (Sec. 3.1, Eq. 5).

The paper says that a layer is multi-head attention followed by a feed-forward network over the map and the global
row's features, and leaves the rest open. Ours attends over the cells of one map at a time, so foregrounds never mix,
and adds its answer to the map's logit through a zero-initialised projection: before training, it changes nothing.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError

__all__ = ["ContextAwareLayer", "ContextAwareLayers"]

# The logit of exactly 0 or 1 is infinite. This far from them it is ±9.9, and the identity is exact to 5e-5.
MAP_EPSILON = 5e-5
LOGIT_SCALE = 10.0  # brings the logits that the layer sees to about [-1, 1]


class ContextAwareLayer(nn.Module):
    """M^{n+1} = CAL(M^n, Σ_j z_j^{k+1}) (Eq. 5).

    feature_channels: c of the global row's features; hidden: width inside; heads must divide it (InputError).
    """

    def __init__(self, feature_channels: int, hidden: int = 64, heads: int = 4) -> None:
        super().__init__()
        if heads < 1 or hidden % heads:
            raise InputError(f"got hidden {hidden} and {heads} heads; the number of heads must divide the width")
        self.heads = heads
        self.norm_features = nn.LayerNorm(feature_channels)
        self.embed_features = nn.Linear(feature_channels, hidden)
        self.embed_map = nn.Linear(2, hidden)
        self.norm_attention = nn.LayerNorm(hidden)
        self.query_key_value = nn.Linear(hidden, 3 * hidden)
        self.attention_output = nn.Linear(hidden, hidden)
        self.norm_feed_forward = nn.LayerNorm(hidden)
        self.feed_forward = nn.Sequential(nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden))
        self.norm_output = nn.LayerNorm(hidden)
        self.output = nn.Linear(hidden, 1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, maps: Tensor, features: Tensor) -> Tensor:
        """maps (stacks, fg, n), features (stacks, n, c) of each global row -> (stacks, fg, n) fp32; maps in [0, 1]."""
        logits = maps.float().logit(eps=MAP_EPSILON)
        tokens = self._embed(maps.float(), logits, features)
        tokens = tokens + self._attend(self.norm_attention(tokens))
        tokens = tokens + self.feed_forward(self.norm_feed_forward(tokens))
        change = rearrange(self.output(self.norm_output(tokens)), "(stack fg) n 1 -> stack fg n", stack=len(maps))
        return (logits + change.float()).sigmoid()

    def _embed(self, maps: Tensor, logits: Tensor, features: Tensor) -> Tensor:
        dtype = self.embed_map.weight.dtype  # maps are fp32 always, the layer may be held in half precision
        seen = torch.stack([2 * maps - 1, logits / LOGIT_SCALE], dim=-1).to(dtype)
        embedded = self.embed_features(self.norm_features(features.to(dtype)))
        tokens = self.embed_map(seen) + rearrange(embedded, "stack n c -> stack 1 n c")
        return rearrange(tokens, "stack fg n c -> (stack fg) n c")

    def _attend(self, tokens: Tensor) -> Tensor:
        query, key, value = rearrange(
            self.query_key_value(tokens), "b n (three heads d) -> three b heads n d", three=3, heads=self.heads
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        return self.attention_output(rearrange(attended, "b heads n d -> b n (heads d)"))


class ContextAwareLayers(nn.Module):
    """N context-aware layers in a row (Eq. 5); N = 0, the training-free form, returns the maps it got, untouched."""

    def __init__(self, num_layers: int, feature_channels: int, hidden: int = 64, heads: int = 4) -> None:
        super().__init__()
        if num_layers < 0:
            raise InputError(f"got {num_layers} context-aware layers; give 0 (none) or more")
        self.num_layers, self.feature_channels, self.hidden, self.heads = num_layers, feature_channels, hidden, heads
        self.layers = nn.ModuleList(ContextAwareLayer(feature_channels, hidden, heads) for _ in range(num_layers))

    def forward(self, maps: Tensor, features: Tensor) -> Tensor:
        """maps (stacks, fg, n), features (stacks, n, c) of each global row -> (stacks, fg, n); maps in [0, 1]."""
        for layer in self.layers:
            maps = layer(maps, features)
        return maps
