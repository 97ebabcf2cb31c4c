"""Example pictures that need no file: painted scenes whose layers are known."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..dreamlayer_core.evaluation.pictures import scene_stack, true_pictures
from ..dreamlayer_core.prompts import LayerPrompts
from ..dreamlayer_core.scenes import make_scene
from .documents import image_from_pictures, layers_from_stacks
from .sockets import LayerPlan, PlanSocket

__all__ = ["NODES"]


class ExampleScene(io.ComfyNode):
    """A painted scene, its words and its true layers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerScene",
            display_name="Example Scene (DreamLayer)",
            category="DreamLayer/loaders",
            description="A painted scene of 128x128 pixels of the kind that the embedded model knows, from objects and grounds "
                        "that were held out of its training; with its prompts and its true layers, to compare with what "
                        "Decompose finds. Load Image takes its place for pictures of your own.",
            search_aliases=["dreamlayer", "test image", "sample picture", "demo", "ground truth"],
            inputs=[
                io.Int.Input("seed", default=1, min=0, max=0xFFFFFFFF, tooltip="Another number paints another scene."),
                io.Int.Input("foregrounds", default=2, min=1, max=4, tooltip="How many objects."),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The picture, with shadows and reflections."),
                PlanSocket.Output("plan", display_name="layer plan", tooltip="What is in it: background and objects."),
                io.Layers.Output("layers", display_name="true layers", tooltip="What it was painted of, without shadows."),
            ],
        )

    @classmethod
    def execute(cls, seed: int = 1, foregrounds: int = 2) -> io.NodeOutput:
        scene = make_scene(seed, foregrounds=foregrounds, split="test")
        stack = scene_stack(scene)
        names = tuple(layer.name for layer in stack.foregrounds)
        plan = LayerPlan(
            prompts=LayerPrompts(scene.background_caption, names), names=names, weights=(1.0,) * len(names))
        picture = torch.stack([true_pictures(scene)[0].whole])
        return io.NodeOutput(image_from_pictures(picture), plan, layers_from_stacks([stack]))


NODES: list[type[io.ComfyNode]] = [ExampleScene]
