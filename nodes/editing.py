"""Layers edited, by nodes or by hand, and one coherent picture of them: shadows and contacts follow (Eq. 13)."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.sd
from comfy_api.latest import io

from ..dreamlayer_core.config import HarmonizationConfig
from ..dreamlayer_core.editing import new_order
from .comfy_model.editing import edit_stacks, harmonize_stacks
from .comfy_model.previews import step_callback
from .compositor_state import edited_by_hand, editor_inputs
from .documents import layers_from_stacks
from .layer_origins import changes_between
from .shared_inputs import HarmonizingNode, harmonization_inputs
from .sockets import SampledTrajectory, TrajectorySocket

__all__ = ["NODES"]


class EditHarmonize(HarmonizingNode):
    """One coherent picture from edited layers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DreamLayerEditHarmonize",
            display_name="Edit & Harmonize (DreamLayer)",
            category="DreamLayer/sampling",
            description="Harmonizes layers that were moved, scaled, flipped, turned, reordered, hidden or deleted since they "
                        "were sampled: the edit is done to their latents too, so that shadow and contact follow. The edits "
                        "come from Transform Layers, or by hand from ComfyUI's Create Layered Image.",
            search_aliases=["dreamlayer", "move object", "edit layers", "shadow follows", "re-harmonize", "relight after moving",
                            "layer editor", "drag layer"],
            inputs=[
                io.Model.Input("model", tooltip="The same model as in Layered KSampler."),
                io.Vae.Input("vae", tooltip="The autoencoder of the base model."),
                TrajectorySocket.Input("trajectory", tooltip="From Layered KSampler, or for your own layers from Noise Layers."),
                io.Layers.Input("layers", tooltip="The layers of that trajectory before any edit, from Decode Layers or Load Layers."),
                io.Layers.Input("edited", optional=True,
                                tooltip="The same layers after edits, from Transform Layers or placed by ComfyUI's own nodes. "
                                        "A layer that is missing was deleted. Without it only the edits by hand count."),
                io.Image.Input("editor", optional=True,
                               tooltip="The image of Create Layered Image that got the edited layers, or the unedited ones "
                                       "where there are no others: what was done in its editor is done here. Only its edits "
                                       "are taken, not its pixels."),
                *harmonization_inputs(),
                io.Boolean.Input("snap", default=False, advanced=True,
                                 tooltip="Move latents by whole cells only, as Eq. 13 is written: nothing is encoded anew, but a "
                                         "layer can stand half a cell off."),
                # Off, or the browser would change a seed by itself from run to run.
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False, advanced=True,
                             tooltip="Of the noise of what an edit encodes anew or brings into the frame."),
            ],
            outputs=[
                io.Image.Output("image", display_name="harmonized", tooltip="The coherent picture, for Effects Layer or to save."),
                io.Layers.Output("layers", display_name="layers",
                                 tooltip="The edited layers, without effects and residual layers they had."),
                io.Latent.Output("latent", display_name="latent", tooltip="The same picture before it was decoded."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model: comfy.model_patcher.ModelPatcher, vae: comfy.sd.VAE, trajectory: SampledTrajectory, layers: dict[str, Any],
        edited: dict[str, Any] | None = None, editor: io.Image.Type | None = None, high: int = 600, low: int = 400,
        strength: float = 1.0, snap: bool = False, seed: int = 0,
    ) -> io.NodeOutput:
        shown = layers if edited is None else edited
        if editor is not None:
            shown = _edited_by_hand(cls.hidden, shown, "layers" if edited is None else "edited")
        stacks, changes = changes_between(layers, shown)
        made = edit_stacks(model, vae, trajectory, stacks, changes, snap=snap, seed=seed)
        samples = harmonize_stacks(
            model, trajectory, made, new_order(changes[0], len(stacks[0].layers)), HarmonizationConfig(high=high, low=low),
            strength, vae.spacial_compression_decode(), step_callback(model, len(trajectory.sigmas) - 1))
        image = vae.decode(samples)[:, : stacks[0].height, : stacks[0].width, :3]
        return io.NodeOutput(image, layers_from_stacks([one.stack for one in made]), {"samples": samples.cpu()})


def _edited_by_hand(hidden: Any, document: dict[str, Any], name: str) -> dict[str, Any]:
    """The document that goes into the input ``name`` with the edits of the editor that is connected to the node."""
    prompt, node_id = getattr(hidden, "prompt", None), getattr(hidden, "unique_id", None)
    inputs = editor_inputs(prompt, node_id, "editor")
    own = prompt[str(node_id)]["inputs"].get(name)
    return edited_by_hand(document, inputs, same_layers=own == inputs.get("layers"))


NODES: list[type[io.ComfyNode]] = [EditHarmonize]
