"""Editing layers by numbers, without a model."""

from __future__ import annotations

from comfy_api.latest import io

from ..dreamlayer_core.editing import LayerChange
from ..dreamlayer_core.edits import SCALE_LIMITS, LayerEdit
from ..dreamlayer_core.errors import InputError
from ..dreamlayer_core.stack_edits import change_layer
from .documents import layers_from_stacks, stacks_from_layers
from .layer_origins import note_edit

__all__ = ["NODES"]

_FLIPS = {"none": (False, False), "horizontal": (True, False), "vertical": (False, True), "both": (True, True)}
_VISIBLE = {"as it is": None, "show": True, "hide": False}
_AS_IT_IS = -1.0
_FAR = 16384


class TransformLayers(io.ComfyNode):
    """One layer moved, scaled, flipped, turned, mixed otherwise, put elsewhere, or deleted."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerTransformLayers",
            display_name="Transform Layers",
            category="DreamLayer/layers",
            description="Edits one layer: flips, scales and turns it about the middle of what it shows, then moves it; sets its "
                        "opacity, visibility and place in the order, or deletes it. Shadows and lights of effects layers follow. "
                        "Put several after each other to edit several layers.",
            search_aliases=["move layer", "scale layer", "rotate layer", "flip layer", "reorder layers", "hide layer",
                            "delete layer", "edit layers"],
            inputs=[
                io.Layers.Input("layers", tooltip="Layers to edit."),
                io.Int.Input("layer", default=1, min=0, max=1024,
                             tooltip="Which one: 0 is the background, 1 the layer above it, and so on up. Effects and residual "
                                     "layers are not counted."),
                io.Int.Input("dx", default=0, min=-_FAR, max=_FAR,
                             tooltip="Pixels to the right; below 0 to the left. What leaves the canvas is kept beyond its edge."),
                io.Int.Input("dy", default=0, min=-_FAR, max=_FAR, tooltip="Pixels down; below 0 up."),
                io.Float.Input("scale", default=1.0, min=SCALE_LIMITS[0], max=SCALE_LIMITS[1], step=0.01,
                               tooltip="Size, 1 as it is."),
                io.Combo.Input("flip", options=list(_FLIPS), default="none",
                               tooltip="Mirror the layer: horizontal swaps left and right, vertical top and bottom."),
                io.Float.Input("rotation", default=0.0, min=-360.0, max=360.0, step=1.0, tooltip="Degrees, clockwise."),
                io.Float.Input("opacity", default=_AS_IT_IS, min=_AS_IT_IS, max=1.0, step=0.01,
                               tooltip="New opacity from 0 to 1; below 0 it stays as it is."),
                io.Combo.Input("visible", options=list(_VISIBLE), default=next(iter(_VISIBLE)),
                               tooltip="Show or hide the layer. The background cannot be hidden."),
                io.Int.Input("position", default=0, min=0, max=1024,
                             tooltip="New number of the layer: 1 is right above the background. 0 leaves it where it is."),
                io.Boolean.Input("delete", default=False, tooltip="Take the layer out. The background cannot be deleted."),
                io.Boolean.Input("effects_follow", default=True,
                                 tooltip="Where there are effects layers: what they do moves and scales with the layer, and goes "
                                         "with one that is hidden or deleted. Off: it stays where it is."),
            ],
            outputs=[
                io.Layers.Output("layers", display_name="layers",
                                 tooltip="The edited layers. A residual layer, which would show the picture before the edit, is "
                                         "taken off."),
            ],
        )

    @classmethod
    def execute(
        cls, layers: io.Layers.Type, layer: int = 1, dx: int = 0, dy: int = 0, scale: float = 1.0, flip: str = "none",
        rotation: float = 0.0, opacity: float = _AS_IT_IS, visible: str = "as it is", position: int = 0, delete: bool = False,
        effects_follow: bool = True,
    ) -> io.NodeOutput:
        for name, value, known in (("flip", flip, _FLIPS), ("visible", visible, _VISIBLE)):
            if value not in known:
                raise InputError(f"got {name} {value!r}; give one of {', '.join(known)}")
        across, down = _FLIPS[flip]
        op = LayerEdit(dx=dx, dy=dy, scale_x=scale, scale_y=scale, degrees=rotation, flip_horizontal=across, flip_vertical=down)
        change = LayerChange(
            layer=layer, op=op, visible=_VISIBLE[visible], opacity=None if opacity < 0 else opacity, delete=delete,
            position=position or None)
        stacks = stacks_from_layers(layers)
        edited = [change_layer(stack, change, light_follows=effects_follow, keep_empty=len(stacks) > 1) for stack in stacks]
        # What nothing was done to stays the document that it was, with placements that others have written.
        same = all(new is old for new, old in zip(edited, stacks, strict=True))
        return io.NodeOutput(layers if same else note_edit(layers, layers_from_stacks(edited), change))


NODES: list[type[io.ComfyNode]] = [TransformLayers]
