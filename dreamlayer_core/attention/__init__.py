"""Attention of DreamLayer: tensors and settings only, no model.

context          raw context maps from cross-attention (Eq. 3, 4)
context_layers   their learned refinement (Eq. 5)
shared           attention over all rows of a picture (Eq. 9-11)
inversion        its mask while a picture is inverted (Eq. 14-16)
steering         context maps that a person overrides or limits
"""

from .context import cross_attention_map, min_max, smooth_map, spatial_map, spatial_maps
from .context_layers import ContextAwareLayer, ContextAwareLayers
from .inversion import inversion_mask
from .shared import fuse_global, joint_attention, resize_map

__all__ = [
    "ContextAwareLayer",
    "ContextAwareLayers",
    "cross_attention_map",
    "fuse_global",
    "inversion_mask",
    "joint_attention",
    "min_max",
    "resize_map",
    "smooth_map",
    "spatial_map",
    "spatial_maps",
]
