"""The method on a MODEL."""

from __future__ import annotations

from typing import get_args

import comfy.model_patcher
from comfy_api.latest import io

from ..dreamlayer_core.config import CrossKeys, LayerAttentionConfig, MapRefinement
from .comfy_model.layer_patch import patch_model
from .sockets import AdapterSocket, LoadedAdapter, PictureSteering, SteeringSocket

__all__ = ["NODES"]

_REFINEMENTS = ["auto", "none", "by hand"]


class PatchModel(io.ComfyNode):
    """CACA, LSSA and an adapter on a model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerPatchModel",
            display_name="Patch Model (DreamLayer)",
            category="DreamLayer",
            description="Lets the layers of a picture attend to each other while they are sampled. Works with every "
                        "sampler, with LoRAs, ControlNet and conditioning areas. With everything off and no adapter the "
                        "model is the stock one.",
            search_aliases=["dreamlayer", "layer attention", "context-aware cross-attention", "layer-shared self-attention"],
            inputs=[
                io.Model.Input("model", tooltip="A Stable Diffusion model, or the embedded one."),
                AdapterSocket.Input("adapter", optional=True, tooltip="Without one, the method works training-free."),
                io.Boolean.Input("caca", default=True, tooltip="Context-aware cross-attention: layers stand where the whole "
                                                              "picture has them."),
                io.Boolean.Input("lssa", default=True, tooltip="Layer-shared self-attention: layers agree in style and light."),
                io.Float.Input("strength", default=1.0, min=0.0, max=2.0, step=0.05,
                               tooltip="Of the adapter's weights; 1 as trained, 0 the base model's own."),
                io.Int.Input("context_threshold", default=-1, min=-1, max=1000,
                             tooltip="T_G: the context map acts at timesteps from here up. -1: the adapter's, or the "
                                     "paper's 850."),
                io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.01,
                               tooltip="CACA and LSSA act from this share of the sampling on."),
                io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.01,
                               tooltip="CACA and LSSA act up to this share of the sampling."),
                io.Float.Input("smoothing", default=0.0, min=0.0, max=8.0, step=0.1, advanced=True,
                               tooltip="Blur of the context map in cells, for refinement by hand."),
                io.Int.Input("context_downscale", default=0, min=0, max=8, advanced=True,
                             tooltip="Which stage reads the context map: how much smaller than the latent it is. 0: the "
                                     "adapter's, or the one nearest the paper's 16x16 cells."),
                SteeringSocket.Input("steering", optional=True, tooltip="From Context Map from Masks/Boxes: where foregrounds "
                                                                        "are."),
                io.Combo.Input("refinement", options=_REFINEMENTS, default="auto", optional=True, advanced=True,
                               tooltip="Of the context map. auto: what was measured to be best without an adapter, and none "
                                       "with one; by hand: the values of smoothing, floor, sharpening and self attention."),
                io.Float.Input("floor", default=0.0, min=0.0, max=0.95, step=0.05, optional=True, advanced=True,
                               tooltip="By hand: claims of the context map below this count as none."),
                io.Float.Input("sharpening", default=1.0, min=0.1, max=10.0, step=0.1, optional=True, advanced=True,
                               tooltip="By hand: an exponent of the context map; 1 is none."),
                io.Int.Input("self_attention", default=0, min=0, max=8, optional=True, advanced=True,
                             tooltip="By hand: how often the context map is spread along the picture's own self-attention."),
                io.Combo.Input("cross_layer_keys", options=list(get_args(CrossKeys)), default="exact", optional=True, advanced=True,
                               tooltip="What a layer sees of the others. pooled: averages of 2x2 cells, much faster with many "
                                       "layers or large pictures and nearly the same; region: only where they are."),
            ],
            outputs=[io.Model.Output("model", display_name="model", tooltip="For Layered KSampler, or any other sampler.")],
        )

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, adapter: LoadedAdapter | None = None, caca: bool = True,
        lssa: bool = True, strength: float = 1.0, context_threshold: int = -1, start_percent: float = 0.0,
        end_percent: float = 1.0, smoothing: float = 0.0, context_downscale: int = 0, steering: PictureSteering | None = None,
        refinement: str = "auto", floor: float = 0.0, sharpening: float = 1.0, self_attention: int = 0,
        cross_layer_keys: CrossKeys = "exact",
    ) -> io.NodeOutput:
        # Workflows from before there was a choice have a smoothing alone.
        by_hand = refinement == "by hand" or (refinement == "auto" and smoothing > 0)
        chosen = MapRefinement(smoothing=smoothing, floor=floor, sharpening=sharpening, self_attention=self_attention)
        config = LayerAttentionConfig(
            caca=caca, lssa=lssa, context_threshold=None if context_threshold < 0 else context_threshold,
            downscale=context_downscale or None, cross_keys=cross_layer_keys,
            refinement=chosen if by_hand else MapRefinement() if refinement == "none" else None)
        return io.NodeOutput(patch_model(
            model, None if adapter is None else adapter.weights, config, strength=strength,
            start_percent=start_percent, end_percent=end_percent, steering=steering))


NODES: list[type[io.ComfyNode]] = [PatchModel]
