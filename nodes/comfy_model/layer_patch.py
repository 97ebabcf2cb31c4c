"""The method on a MODEL: CACA and LSSA through ComfyUI's public hooks, with an undo of ComfyUI's own.

The MODEL carries one wrapper and settings. What a run knows is made when sampling starts, put into that run's own copy
of ``model_options``, and gone with it: neither a clone nor a second run ever sees it. The adapter's shared K and V are
ordinary weight patches, so that LoRAs, merging and offloading treat them as such; the foregrounds' second set is held
as its difference from the first, and added behind ComfyUI's own projections.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_patcher
import comfy.model_sampling
import comfy.patcher_extension
import comfy.utils
from torch import Tensor

from ...dreamlayer_core.adapter import LayerAdapter, kv_differences
from ...dreamlayer_core.attention.steering import ContextSteering, check_needed, check_steering, steer_latents
from ...dreamlayer_core.config import LayerAttentionConfig
from ...dreamlayer_core.errors import InputError
from ...dreamlayer_core.layer_run import NATIVE_SIDE, AttentionSites, LayerRun, check_context_stage, context_downscale
from ...dreamlayer_core.model_files import family_name
from ...dreamlayer_core.weights import Adapter, check_fit, check_prediction
from ..checks import check_range
from ..sockets import LAYERS_KEY, PictureSteering
from .calls import run_height
from .files import SmallModel
from .row_patch import compute_dtype, keep_inside, whole_model
from .run import PatchedRun
from .sites import UnetSites, find_sites, original_weight

__all__ = ["MASK_KEY", "LayerPatch", "MapSink", "patch_model", "without_adapter"]

MASK_KEY = "dreamlayer_mask"
"""Under this key the transformer options of a run have the core's ``JointMask``, where there is one."""

_PADDING = 64  # pixels by which a latent may be larger than its picture, see Empty Layered Latent


class MapSink:
    """Where a sampler node finds the newest context map (stacks, fg, h, w) of its run."""

    maps: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerPatch:
    """What Patch Model attaches to a MODEL: settings only, no state."""

    config: LayerAttentionConfig
    adapter: comfy.model_patcher.ModelPatcher | None  # of a LayerAdapter: differences of the foregrounds' K and V, and the rest
    shared: Mapping[str, Tensor]  # differences of the shared K and V by the weight's key, as they were added
    where: UnetSites
    sites: AttentionSites
    start_percent: float
    end_percent: float
    steering: PictureSteering | None = None

    def outer_sample(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """OUTER_SAMPLE wrapper: makes the run's state, and drops it whatever happens."""
        guider = executor.class_obj
        rows = run_height(guider.conds, args[0])
        if rows is None:
            return executor(*args, **kwargs)  # harmonising, or a plain picture
        run = self._run(guider, rows, noise=args[0])
        run.install(guider.model_options["transformer_options"], guider.conds)
        try:
            return executor(*args, **kwargs)
        finally:
            run.drop()

    def _run(self, guider: Any, rows: int, noise: Tensor) -> PatchedRun:
        options = guider.model_options["transformer_options"]
        state = LayerRun(
            config=self.config, adapter=None if self.adapter is None else self.adapter.model, sites=self.sites, rows=rows,
            mask=options.get(MASK_KEY))
        sampling = guider.model_patcher.get_model_object("model_sampling")
        scale = guider.model_patcher.model.latent_format.spacial_downscale_ratio
        return PatchedRun(
            state=state, where=self.where.blocks, steering=self._steering(noise, rows, scale), scale=scale,
            start_sigma=float(sampling.percent_to_sigma(self.start_percent)),
            end_sigma=float(sampling.percent_to_sigma(self.end_percent)),
            sink=options.get("dreamlayer_sink"))

    def _steering(self, noise: Tensor, rows: int, scale: int) -> dict[int, ContextSteering]:
        """Over the whole latent, which may reach beyond the picture. InputError where it is of another picture."""
        if self.steering is None:
            return {}
        check_steering(self.steering.layers, rows - 2, len(noise) // rows)
        picture, latent = self.steering.size, (noise.shape[-1] * scale, noise.shape[-2] * scale)
        if not all(0 <= long - side < _PADDING for side, long in zip(picture, latent, strict=True)):
            raise InputError(
                "got boxes or masks of a picture of {}x{} and a latent of {}x{} pixels; give Context Map from Masks/Boxes the "
                "size of the picture that is sampled".format(*picture, *latent))
        return steer_latents(self.steering.layers, picture, picture, latent)


def patch_model(
    model: comfy.model_patcher.ModelPatcher, adapter: Adapter | None, config: LayerAttentionConfig, *,
    strength: float = 1.0, start_percent: float = 0.0, end_percent: float = 1.0, steering: PictureSteering | None = None,
) -> comfy.model_patcher.ModelPatcher:
    """A clone of ``model`` with the method on it; with everything off and no adapter, a plain clone.

    ``strength`` scales the adapter's weights. Raises InputError for a model that is patched already or no UNet and for
    steering without CACA, and WeightsError for an adapter made for another base.
    """
    check_range(start_percent, end_percent)
    if model.get_attachment(LAYERS_KEY) is not None:
        raise InputError("got a model that is patched already; connect the model from before the other Patch Model")
    if steering is not None:
        check_needed(steering.layers, config.caca)
    patched = model.clone()
    if adapter is None and not config.active:
        return patched
    where = find_sites(model)
    kind, settings = model.model.model_config, None if adapter is None else adapter.settings
    native = kind.native_side if isinstance(kind, SmallModel) else NATIVE_SIDE  # which ComfyUI says of no model
    sites = where.choose(model, context_downscale(config, settings, where.scales.values(), native))
    module, shared = None, {}
    if adapter is not None:
        _check(model, adapter, where, sites)
        module, shared = _apply(patched, adapter, where, strength)
    patch = LayerPatch(
        config=config, adapter=module, shared=shared, where=where, sites=sites, start_percent=start_percent, end_percent=end_percent,
        steering=steering)
    patched.set_attachments(LAYERS_KEY, patch)
    patched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, LAYERS_KEY, patch.outer_sample)
    keep_inside(patched)
    return patched


def without_adapter(model: comfy.model_patcher.ModelPatcher) -> comfy.model_patcher.ModelPatcher:
    """The MODEL with the base's own K and V, to the bit, for a row that is sampled alone: see `DreamLayer.harmonize`."""
    patch = model.get_attachment(LAYERS_KEY)
    if patch is None or not patch.shared:
        return model
    plain = model.clone()
    for key, difference in patch.shared.items():
        # To add the opposite would not undo a patch that a later one, such as a merge, has scaled.
        kept = [entry for entry in plain.patches.pop(key, []) if not _holds(entry, difference)]
        if kept:
            plain.patches[key] = kept
    plain.patches_uuid = uuid.uuid4()  # as `add_patches` does: ComfyUI goes by it for what the weights are now
    return plain


def _holds(entry: tuple[Any, ...], difference: Tensor) -> bool:
    """Whether an entry of ``ModelPatcher.patches``, (strength, patch, …), is a difference that was added here."""
    match entry[1]:
        case ("diff", (tensor, *_)):
            return tensor is difference
        case _:
            return False


def _check(
    model: comfy.model_patcher.ModelPatcher, adapter: Adapter, where: UnetSites, sites: AttentionSites
) -> None:
    shapes = {name: tuple(comfy.utils.get_attr(model.model, key).shape) for name, key in where.keys.items()}
    check_fit(adapter, shapes, base_family=_family(model))
    velocity = isinstance(model.get_model_object("model_sampling"), comfy.model_sampling.V_PREDICTION)
    check_prediction(adapter.settings, "v_prediction" if velocity else "epsilon")
    check_context_stage(adapter.settings, sites)


def _family(model: comfy.model_patcher.ModelPatcher) -> str | None:
    config = model.model.model_config.unet_config
    return family_name(config["context_dim"], [int(config["model_channels"] * ratio) for ratio in config["channel_mult"]])


def _apply(
    patched: comfy.model_patcher.ModelPatcher, adapter: Adapter, where: UnetSites, strength: float
) -> tuple[comfy.model_patcher.ModelPatcher, dict[str, Tensor]]:
    """Shared K and V become weight patches, also returned; the rest, a model that is loaded and offloaded with this one."""
    base = {name: original_weight(patched, key) for name, key in where.keys.items()}
    differences, foreground = kv_differences(adapter, base)
    shared = {where.keys[name]: difference * strength for name, difference in differences.items()}
    patched.add_patches({key: ("diff", (difference,)) for key, difference in shared.items()})
    foreground = {name: difference * strength for name, difference in foreground.items()}
    cells = {name: tensor * strength if name.endswith(".output.weight") else tensor
             for name, tensor in adapter.cell_attention.items()}
    module = LayerAdapter.from_weights(replace(adapter, shared_kv={}, foreground_kv=foreground, cell_attention=cells))
    module.foreground.to(compute_dtype(patched))
    module.cells.to(compute_dtype(patched))
    own = whole_model(module, patched)
    patched.set_additional_models(LAYERS_KEY, [own])
    return own, shared
