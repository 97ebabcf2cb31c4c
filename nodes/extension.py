"""What the pack gives to ComfyUI."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import (
    decoding,
    decomposition,
    editing,
    effects,
    encoding,
    files,
    layer_pictures,
    layer_weights,
    loaders,
    patch,
    plans,
    prompts,
    regeneration,
    sampling,
    scenes,
    steering,
    tools,
    transform,
)

__all__ = ["NODES", "DreamLayerExtension"]

NODES: list[type[io.ComfyNode]] = [
    *loaders.NODES, *scenes.NODES, *prompts.NODES, *plans.NODES, *steering.NODES, *patch.NODES, *layer_weights.NODES, *layer_pictures.NODES,
    *sampling.NODES, *decomposition.NODES,
    *regeneration.NODES, *editing.NODES, *decoding.NODES, *encoding.NODES, *tools.NODES, *transform.NODES, *effects.NODES,
    *files.NODES,
]


class DreamLayerExtension(ComfyExtension):
    """All nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
