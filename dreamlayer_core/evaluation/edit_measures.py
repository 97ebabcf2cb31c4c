"""What is measured of one scene whose layers are known: taken apart, edited, completed, drawn anew, put together again.

Every function takes a scene and gives values by configuration; ``tiles`` are the pictures of its strip in the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from einops import repeat
from torch import Tensor

from ..attention import resize_map
from ..composite import flatten, gray_fill
from ..config import (
    HarmonizationConfig,
    InversionConfig,
    InversionMethod,
    LayerAttentionConfig,
    PictureFit,
    SamplingConfig,
)
from ..decomposition import decompose, fitted_stacks, invert_pictures
from ..derived import with_light_of
from ..diffusers_unet import layer_attention
from ..edited_pixels import own_center, unseen_cells
from ..editing import EditedStack, LayerChange, RunSettings, edit_layers, harmonize_stack
from ..edits import LayerEdit
from ..effects import find_effects, move_effects, with_effects
from ..filling import fill_smoothly
from ..guidance import Guided
from ..inversion import joint_mask, relative_error, sample_back
from ..layers import LayerStack
from ..pipeline import DreamLayer, LayeredResult
from ..regeneration import add_layer, complete_layer, regenerate_layer
from ..residual import eight_bit, with_residual
from ..sampling import FINAL, Trajectory
from ..scenes import KINDS, Scene, make_scene, move_object
from ..stack_latents import stack_trajectory
from .baselines import one_layer, thresholded_maps
from .generation import scene_prompts
from .layerd import MERGES, color_l1, compare_layers, layers_of
from .metrics import composite_psnr
from .pictures import scene_stack, true_pictures, visible_parts
from .shadows import shadow_error

__all__ = ["EDITED", "Editor", "Measured", "decomposition_name", "edit_scene", "planned_move", "recomposed"]

EDITED = ("paste", "irh", "effects_true", "effects_irh", "autoencoder")
"""The ways to show a moved object, in the order of their tiles."""

_FOREGROUNDS = 2  # scenes have one and two by turns
_ROOM = 3  # an object moves by a third of the picture's width, where there is room
_HIDDEN = 0.05  # share of an object that must be hidden for its completion to be measured
_HALF_TOLERANCE = 1e-3  # a fixed point in bf16 comes no nearer


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Values by metric, as `Record` has them, and pictures (3, h, w)."""

    values: Mapping[str, list[float]]
    tiles: Sequence[Tensor] = field(default_factory=lambda: list[Tensor]())


def decomposition_name(method: InversionMethod, masked: bool) -> str:
    """What the records of decompositions by this inversion are called."""
    return f"decomposed_{method}_{'masked' if masked else 'unmasked'}"


def edit_scene(seed: int, size: tuple[int, int]) -> Scene:
    """The test scene of a seed: two and three layers by turns."""
    return make_scene(seed, foregrounds=1 + seed % _FOREGROUNDS, size=size, split="test")


def planned_move(scene: Scene, cell: int) -> tuple[int, int]:
    """The object to move, the nearest, and by how many pixels to the right: whole cells, to the side with more room."""
    index, width = len(scene.objects) - 1, scene.picture.shape[1]
    item = scene.objects[index]
    half = KINDS[item.kind].half_width * item.scale + 2
    left, right = item.foot[0] - half, width - half - item.foot[0]
    cells = max(1, int(min(max(left, right), width / _ROOM) // cell))
    return index, cells * cell * (1 if right > left else -1)


def recomposed(stack: LayerStack, picture: Tensor) -> Measured:
    """How near a stack with effects, as it is saved, comes to a picture (3, h, w), and how far it is off with the residual."""
    layered = with_light_of(stack, picture)
    exact = flatten(with_residual(layered, picture))
    return Measured(values={
        "recomposition": composite_psnr(flatten(eight_bit(layered)), picture),
        "residual_levels": [float((_levels(exact) - _levels(picture)).abs().max())]})


@dataclass(frozen=True, kw_only=True, eq=False)
class Editor:
    """A model with the settings that all measurements share. Noise depends on ``seed`` and the scene's own alone."""

    model: DreamLayer
    sampling: SamplingConfig
    seed: int = 0
    views: int = 1
    half: bool = False

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.half)

    @property
    def _settings(self) -> RunSettings:
        return RunSettings(sampling=self.sampling, views=self.views, harmonization=None)

    def _noise_seed(self, scene: Scene) -> int:
        return self.seed * 1_000_000 + scene.seed

    def _trajectory(self, stack: LayerStack, scene: Scene) -> Trajectory:
        timesteps = [*self._settings.stepper_for(self.model).timesteps, FINAL]
        return stack_trajectory(self.model, stack, timesteps, seed=self._noise_seed(scene))

    # Decomposition

    @torch.no_grad()
    def decomposed(self, scene: Scene, method: InversionMethod, masked: bool) -> dict[str, Measured]:
        """The picture taken apart by its prompts; of the default inversion also the layers as they were sampled, and what its
        context maps give alone, thresholded."""
        picture, truth = true_pictures(scene)[0].whole, layers_of(scene_stack(scene))
        config = InversionConfig(
            method=method, masked=masked, tolerance=_HALF_TOLERANCE if self.half else InversionConfig.tolerance)
        with self._precision():
            found = decompose(
                self.model, picture, scene_prompts(scene), inversion=config, sampling=self.sampling, views=self.views)
        result, clean = found.result, found.inversion.trajectory.latents[FINAL]
        (stack,) = fitted_stacks(result, found.pictures, self.model.vae_scale, PictureFit())
        sampled = result.stacks[0]
        drift = relative_error(result.latents[:, -1:], clean[:, -1:])
        measured = {decomposition_name(method, masked): Measured(
            values={**_layer_values(stack, truth, picture), "drift": [drift]},
            tiles=_layer_tiles(picture, stack, result.global_picture[0]))}
        if config.method == InversionConfig.method:
            measured["as_sampled" if masked else "as_sampled_unmasked"] = Measured(
                values=_layer_values(sampled, truth, picture), tiles=_layer_tiles(picture, sampled, result.global_picture[0]))
        if config.method == InversionConfig.method and masked:
            maps = thresholded_maps(picture, self._maps(result, stack))
            measured["thresholded_maps"] = Measured(
                values=_layer_values(maps, truth, picture), tiles=_layer_tiles(picture, maps, torch.ones_like(picture)))
        return measured

    def _maps(self, result: LayeredResult, stack: LayerStack) -> Tensor:
        maps = result.context_maps
        assert maps is not None  # decompose has CACA on unless told otherwise
        height, width = (side * self.model.vae_scale for side in result.latents.shape[-2:])
        return resize_map(maps[0].float(), (height, width))[:, : stack.height, : stack.width]

    def baseline(self, scene: Scene) -> dict[str, Measured]:
        """The trivial stack of one layer."""
        picture = true_pictures(scene)[0].whole
        return {"one_layer": Measured(values=_layer_values(one_layer(picture), layers_of(scene_stack(scene)), picture))}

    @torch.no_grad()
    def round_trip(self, scene: Scene, method: InversionMethod, guidances: Sequence[float]) -> dict[str, Measured]:
        """Inverted and sampled back by the very same model, in fp32: relative error of the global row, by guidance."""
        prompts, attention = [scene_prompts(scene)], LayerAttentionConfig()
        embeddings = self.model.encode(prompts)
        latents = self.model.encode_pictures(true_pictures(scene)[0].whole[None])
        clean = repeat(latents, "stack c h w -> stack row c h w", row=len(embeddings[0].embeddings))
        values: dict[str, list[float]] = {}
        for guidance in guidances:
            config = InversionConfig(method=method, guidance=guidance)
            found = invert_pictures(self.model, clean, embeddings, prompts, self.sampling.steps, config, attention)
            mask = joint_mask(config, self.model.device)
            with layer_attention(self.model.unet, embeddings, attention, self.model.adapter, mask=mask,
                                 additions=self.model.row_additions(clean.shape[1] - 2)) as run:
                sampling = replace(self.sampling, guidance=guidance)
                back, _ = sample_back(Guided(self.model, run, embeddings, prompts, sampling), found)
            values[f"round_trip_{guidance:g}"] = [relative_error(back[:, -1:], clean[:, -1:])]
        return {f"round_trip_{method}": Measured(values=values)}

    # Edits

    @torch.no_grad()
    def moved(self, scene: Scene) -> dict[str, Measured]:
        """One object moved: how near every way of showing it comes to the scene in which it stands there."""
        stack, change, after = self._moved(scene)
        before, truth = true_pictures(scene)[0].whole, true_pictures(after)[0].whole
        settings = replace(self._settings, harmonization=HarmonizationConfig())
        with self._precision():
            trajectory = self._trajectory(stack, scene)
            first = harmonize_stack(self.model, edit_layers(self.model, trajectory, stack, []), settings)
            edited = edit_layers(self.model, trajectory, stack, [change])
            harmonized = harmonize_stack(self.model, edited, settings)
            decoded = self.model.decode_pictures(self.model.encode_pictures(truth[None]))[0].cpu()
        pictures = dict(zip(EDITED, (
            flatten(edited.stack), harmonized, _with_moved(stack, before, edited.stack, change),
            _with_moved(stack, first, edited.stack, change), decoded[:, : stack.height, : stack.width]), strict=True))
        found = {f"moved_{name}": Measured(values=_move_values(picture, truth, scene, after, change.layer - 1))
                 for name, picture in pictures.items()}
        found["moved_irh"] = replace(found["moved_irh"], tiles=[before, truth, *pictures.values()])
        return {**found, "recomposed_irh": recomposed(stack, first)}

    def _moved(self, scene: Scene) -> tuple[LayerStack, LayerChange, Scene]:
        """The layers of a scene with prompts as `scene_prompts` has them, the edit, and the scene after it."""
        index, dx = planned_move(scene, self.model.vae_scale)
        stack = replace(scene_stack(scene), global_prompt="")
        return stack, LayerChange(layer=index + 1, op=LayerEdit(dx=dx)), move_object(scene, index, dx)

    @torch.no_grad()
    def completed_ground(self, scene: Scene) -> dict[str, Measured]:
        """The ground where an object stood: filled smoothly, and drawn by the background's prompt."""
        stack, change, _ = self._moved(scene)
        solid = torch.from_numpy(scene.alphas[change.layer - 1])
        hole, truth = (solid > 0)[None], stack.background.color
        smooth = fill_smoothly(truth, ~hole)
        holed = stack.with_layer(0, color=smooth)
        grid = self.model.grid(stack.width, stack.height)
        with self._precision():
            edited = edit_layers(self.model, self._trajectory(holed, scene), holed, [change])
            cells = unseen_cells(hole[0].float(), grid, self.model.vae_scale)
            drawn = complete_layer(
                self.model, edited, 0, seed=self._noise_seed(scene) + 1, covered=cells, settings=self._settings)
        color = drawn.stack.background.color
        region = solid > 0.5
        return {
            "completed_ground_smooth": Measured(values=_completion(smooth, truth, region)),
            "completed_ground_drawn": Measured(values=_completion(color, truth, region), tiles=[smooth, color, truth])}

    @torch.no_grad()
    def completed_object(self, scene: Scene) -> dict[str, Measured]:
        """An object cut out from behind another, which is then moved away: its hidden part left out, and drawn.

        No values for scenes in which nothing hides enough.
        """
        names = ("completed_object_empty", "completed_object_drawn")
        covered = _covering(scene, self.model.vae_scale)
        if covered is None:
            return {name: Measured(values={}) for name in names}
        hiding, back = covered
        true, hidden = scene_stack(scene), torch.from_numpy(hiding.alphas[0] * hiding.alphas[1]) > 0.5
        seen = visible_parts(torch.from_numpy(hiding.alphas))
        cut = replace(scene_stack(hiding), global_prompt="").with_layer(1, alpha=seen[:1])
        with self._precision():
            change = LayerChange(layer=2, op=LayerEdit(dx=back))
            edited = edit_layers(self.model, self._trajectory(cut, scene), cut, [change], covered=True)
            drawn = complete_layer(
                self.model, edited, 1, seed=self._noise_seed(scene) + 1, settings=self._settings)
        empty, full, whole = (_on_gray(stack) for stack in (cut, drawn.stack, true))
        return {names[0]: Measured(values=_completion(empty, whole, hidden)),
                names[1]: Measured(values=_completion(full, whole, hidden), tiles=[empty, full, whole])}

    @torch.no_grad()
    def kept(self, scene: Scene) -> dict[str, Measured]:
        """The nearest object, the background, and one layer more drawn anew: how much the other layers change."""
        stack = replace(scene_stack(scene), global_prompt="")
        top, seed, settings = len(scene.objects), self._noise_seed(scene) + 1, self._settings
        with self._precision():
            trajectory = self._trajectory(stack, scene)
            made = {
                "regenerated": (top, regenerate_layer(self.model, trajectory, stack, top, seed=seed, settings=settings)),
                "ground_replaced": (0, regenerate_layer(self.model, trajectory, stack, 0, seed=seed, settings=settings)),
                "added": (top + 1, add_layer(
                    self.model, trajectory, stack, scene.objects[0].caption, seed=seed, settings=settings))}
        return {name: Measured(values=_changes(stack, trajectory, edited, new)) for name, (new, edited) in made.items()}


def _levels(picture: Tensor) -> Tensor:
    return (picture.clamp(0, 1) * 255).round()


def _layer_values(stack: LayerStack, truth: Tensor, picture: Tensor) -> dict[str, list[float]]:
    """The LayerD protocol at every number of merges, the background's own error, and the composite's."""
    layers = layers_of(stack)
    scores = compare_layers(layers, truth, fewest=1)
    assert scores is not None  # with fewest = 1 there are always two stacks to compare
    values = {f"iou_{merges}": [score.iou] for merges, score in enumerate(scores)}
    values |= {f"l1_{merges}": [score.l1] for merges, score in enumerate(scores)}
    assert len(scores) == MERGES + 1
    return {**values, "ground_l1": [color_l1(layers[0], truth[0])], "psnr": composite_psnr(flatten(stack), picture)}


def _layer_tiles(picture: Tensor, stack: LayerStack, whole: Tensor) -> list[Tensor]:
    """Picture, background, two foregrounds on gray, composite, global row; white where there is nothing."""
    blank = torch.ones_like(picture)
    shown = [gray_fill(layer.color, layer.alpha) for layer in stack.foregrounds][:_FOREGROUNDS]
    return [picture, stack.background.color, *shown, *[blank] * (_FOREGROUNDS - len(shown)), flatten(stack), whole]


def _with_moved(stack: LayerStack, picture: Tensor, edited: LayerStack, change: LayerChange) -> Tensor:
    """The edited stack with the effects that ``picture`` has over the stack as it was, moved along."""
    op = replace(change.op, center=own_center(stack.layers[change.layer]))
    return flatten(with_effects(edited, move_effects(find_effects(stack, picture), stack, {change.layer: op})))


def _move_values(picture: Tensor, truth: Tensor, before: Scene, after: Scene, index: int) -> dict[str, list[float]]:
    alphas = torch.from_numpy(after.alphas)
    object_psnr = _region_psnr(picture, truth, visible_parts(alphas)[index] > 0.5)
    errors = {name: shadow_error(picture, truth, torch.from_numpy(scene.shadows[index : index + 1]), alphas)
              for name, scene in (("new_shadow", after), ("old_shadow", before))}
    found = {"object_psnr": object_psnr, **errors}
    return {name: [] if value is None else [value] for name, value in found.items()}


def _region_psnr(picture: Tensor, truth: Tensor, region: Tensor) -> float | None:
    """PSNR in dB where ``region`` (h, w) is True; None where that is nowhere."""
    return composite_psnr(picture[:, region], truth[:, region])[0] if bool(region.any()) else None


def _completion(found: Tensor, truth: Tensor, region: Tensor) -> dict[str, list[float]]:
    return {"completion": [float((found - truth).abs().mean(0)[region].mean())] if bool(region.any()) else []}


def _covering(scene: Scene, cell: int) -> tuple[Scene, int] | None:
    """The scene with its nearer object moved half over the farther one, and how far it must go back; None if it cannot hide it."""
    if len(scene.objects) < _FOREGROUNDS:
        return None
    far, near = scene.objects[:_FOREGROUNDS]
    dx = round((far.foot[0] + 0.6 * KINDS[far.kind].half_width * far.scale - near.foot[0]) / cell) * cell
    hiding = move_object(scene, 1, dx)
    hidden = float((hiding.alphas[0] * hiding.alphas[1]).sum() / max(float(hiding.alphas[0].sum()), 1.0))
    return (hiding, -dx) if hidden >= _HIDDEN else None


def _on_gray(stack: LayerStack) -> Tensor:
    layer = stack.layers[1].on_canvas(stack.width, stack.height)
    return gray_fill(layer.color, layer.alpha)


def _changes(stack: LayerStack, trajectory: Trajectory, edited: EditedStack, new: int) -> dict[str, list[float]]:
    """Largest change of any pixel, and of any latent at any timestep, of all layers but the one that is new."""
    others = [row for row in range(len(edited.stack.layers)) if row != new]
    olds = others if len(edited.stack.layers) == len(stack.layers) else list(range(len(stack.layers)))
    size = (stack.width, stack.height)
    pixels = max(float((edited.stack.layers[row].on_canvas(*size).rgba - stack.layers[old].rgba).abs().max())
                 for row, old in zip(others, olds, strict=True))
    latents = max(float((edited.trajectory.latents[t][:, others] - z[:, olds]).abs().max())
                  for t, z in trajectory.latents.items())
    return {"pixel_change": [pixels], "latent_change": [latents]}
