"""Edits of a stack's layers inside harmonisation (Eq. 13): move, resize, flip, rotate, order, hide, delete, opacity.

A layer's pixels get the exact edit. Its latents get op(z_t) where the edit maps cells of the latent onto cells; else they
are encoded anew from the edited pixels and noised, because moving noise by parts of a cell would average it away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from .config import HarmonizationConfig, LayerAttentionConfig, SamplingConfig
from .edited_pixels import continued, covered_part, edit_pixels, own_center, unseen_cells, unseen_part
from .edits import LayerEdit, apply_edit
from .errors import InputError
from .layers import Layer, LayerStack
from .placement import cut_out
from .prompts import LayerPrompts
from .row_weights import Additions, RowAddition, shown_additions, shown_rows_of
from .sampling import OnStep, Stepper, Trajectory, initial_noise
from .schedulers import stepper_for
from .stack_latents import LatentCoder, check_fit, layer_rgba, noised_trajectory, pad_alphas, row_picture, stack_alphas

if TYPE_CHECKING:
    from .controls import LayerControl
    from .pipeline import DreamLayer

__all__ = ["EditedStack", "LayerChange", "RunSettings", "check_harmonizable", "edit_layers", "encoded_row", "harmonize_stack",
           "light_edits", "mixed", "new_order", "shown_rows", "stack_prompts"]

_FILL_SEED = 0x5EED  # keeps the noise of what is filled in apart from the noise that a layer was sampled from


@dataclass(frozen=True, kw_only=True)
class LayerChange:
    """What becomes of one layer, counted as the stack stands before any edit (0 = background).

    ``op`` is about the middle of the layer's visible box unless it has a center; ``position`` is the layer's number
    afterwards (1 = lowest foreground). None leaves a property as it is.
    """

    layer: int
    op: LayerEdit = LayerEdit()
    visible: bool | None = None
    opacity: float | None = None
    delete: bool = False
    position: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """How edited stacks are sampled and harmonised; ``sampling`` must have the scheduler and steps of the stored trajectory.

    ``harmonization`` None: no harmonised picture. ``stepper`` replaces the scheduler; ``additions`` and
    ``text_additions`` are more weights of single rows, and ``controls`` hints of them, by the layers of the stack (see
    `DreamLayer.generate`).
    """

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    attention: LayerAttentionConfig = field(default_factory=LayerAttentionConfig)
    harmonization: HarmonizationConfig | None = field(default_factory=HarmonizationConfig)
    views: int = 8
    negative: str = ""
    stepper: Stepper | None = None
    additions: Additions = field(default_factory=lambda: dict[str, Sequence[RowAddition]]())
    text_additions: Sequence[Additions] = ()
    controls: Sequence[LayerControl] = ()

    def shown(self, rows: Sequence[int], height: int) -> RunSettings:
        """For the rows of a stack of ``height`` that are left (`shown_additions`)."""
        return replace(self, additions=shown_additions(self.additions, rows, height),
                       text_additions=[shown_additions(one, rows, height) for one in self.text_additions],
                       controls=[own for one in self.controls for own in shown_rows_of(one, rows, height)])

    def stepper_for(self, model: DreamLayer) -> Stepper:
        return self.stepper or stepper_for(self.sampling, model.schedule)


@dataclass(frozen=True, kw_only=True, eq=False)
class EditedStack:
    """A stack, and what harmonisation needs of it.

    ``trajectory`` (1, k + 1, c, h, w) has a row for every layer, hidden ones too, and the global row, which an edit leaves
    as it was; ``alphas`` (k - 1, 1, height, width) are those that fit its latents; ``unseen`` (k, h, w), boolean: cells
    of which nothing is known, as an edit has moved them in from outside. ``harmonized`` (3, height, width) and
    ``context_maps`` (len(mapped), h, w), of the layers ``mapped``, where they were made.
    """

    stack: LayerStack
    trajectory: Trajectory
    alphas: Tensor
    unseen: Tensor
    harmonized: Tensor | None = None
    context_maps: Tensor | None = None
    mapped: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Edited:
    """One layer after its change: its rows by timestep (c, h, w), alpha (1, height, width), unknown cells (h, w)."""

    layer: Layer
    latents: dict[int, Tensor]
    alpha: Tensor
    unseen: Tensor


@torch.no_grad()
def edit_layers(
    model: LatentCoder, trajectory: Trajectory, stack: LayerStack, changes: Sequence[LayerChange], *,
    between_cells: Literal["encode", "snap"] = "encode", covered: bool = False, seed: int = 0,
) -> EditedStack:
    """Edit layers of a stack and, alike, their latents (1, k + 1, c, h, w) at every kept timestep (Eq. 13).

    What comes into the frame from outside is transparent, in latents noised gray; a background is continued by its
    edges. ``seed`` is of that noise. Edits that fall between cells: "encode" encodes the edited pixels; "snap" rounds
    them to cells for latents and alphas (Eq. 13 as written), so that the layer's pixels can stand half a cell off.
    ``covered`` also takes for unknown where a layer is transparent under another: for layers cut out of a picture.
    Layers without a change are passed on as they are. Raises InputError for layers that do not exist, two changes
    of one layer, a trajectory of another stack, layers that would leave the canvas, and another opacity of the background.
    """
    check_fit(model, trajectory, stack)
    order = new_order(changes, len(stack.layers))
    _check_ground(changes, stack.background)
    grid = model.grid(stack.width, stack.height)
    rows = {t: list(z[0].unbind(0)) for t, z in trajectory.latents.items()}
    layers, alphas = list(stack.layers), [None, *stack_alphas(stack)]
    unseen = [torch.zeros(grid, dtype=torch.bool) for _ in layers]
    for change in changes:
        layers[change.layer] = mixed(layers[change.layer], change)
        if change.op.is_identity:
            continue
        edited = _edit(model, stack, layers[change.layer], change, {t: z[change.layer] for t, z in rows.items()},
                       snap=between_cells == "snap", seed=seed)
        layers[change.layer], unseen[change.layer] = edited.layer, edited.unseen
        alphas[change.layer] = edited.alpha if change.layer else None
        for t, z in edited.latents.items():
            rows[t][change.layer] = z
    if covered:
        unseen = _with_covered(model, stack, changes, unseen)
    kept = [alphas[i] for i in order[1:]]
    return EditedStack(
        stack=replace(stack, layers=tuple(layers[i] for i in order)),
        trajectory=Trajectory({t: torch.stack([z[i] for i in (*order, -1)])[None] for t, z in rows.items()}),
        alphas=torch.stack([a for a in kept if a is not None]) if kept else stack_alphas(stack)[:0],
        unseen=torch.stack([unseen[i] for i in order]))


def stack_prompts(stack: LayerStack, rows: Sequence[int], *, negative: str = "") -> LayerPrompts:
    """The prompts of some layers of a stack, the background first; a stack of one layer gets an empty foreground."""
    texts = [stack.layers[row].prompt for row in rows]
    return LayerPrompts(texts[0], tuple(texts[1:]) or ("",), whole=stack.global_prompt, negative=negative)


def shown_rows(stack: LayerStack, also: int | None = None) -> list[int]:
    """The background and the foregrounds that can be seen at all, bottom to top, and ``also``."""
    size = (stack.width, stack.height)

    def seen(layer: Layer) -> bool:
        return layer.visible and layer.opacity > 0 and layer.on_canvas(*size).box is not None

    return [i for i, layer in enumerate(stack.layers) if i in (0, also) or seen(layer)]


@torch.no_grad()
def harmonize_stack(
    model: DreamLayer, edited: EditedStack, settings: RunSettings | None = None, *, on_step: OnStep | None = None
) -> Tensor:
    """IRH of an edited stack (Eq. 12, 13): the picture (3, height, width), where shadows and contacts follow the layers.

    Layers that are hidden or empty, and their prompts, take no part; opacity lessens a layer's alpha. Raises
    InputError for a hidden background, for layers that blend otherwise than "normal", and where nothing was kept
    between T'_H and T_H.
    """
    settings, stack = settings or RunSettings(), edited.stack
    config = settings.harmonization or HarmonizationConfig()
    check_fit(model, edited.trajectory, stack)
    rows = shown_rows(stack)
    check_harmonizable(stack, rows)
    prompts = stack_prompts(stack, rows, negative=settings.negative)
    # Without foregrounds the background stands in for one that is transparent everywhere.
    chosen = [*rows, *([0] if len(rows) == 1 else []), -1]
    kept = Trajectory({t: z[:, chosen].to(model.device) for t, z in edited.trajectory.between(config, model.schedule).latents.items()})
    opacities = [stack.layers[row].opacity for row in rows[1:]]
    alphas = [edited.alphas[row - 1] * opacity for row, opacity in zip(rows[1:], opacities, strict=True)]
    stacked = torch.stack(alphas or [torch.zeros(1, stack.height, stack.width)])[None]
    latents = next(iter(kept.latents.values()))
    whole = len(stack.layers)
    texts = settings.shown([*rows, *([-1] if len(rows) == 1 else []), whole], whole + 1).text_additions
    alone = settings.shown([whole], whole + 1)
    picture = model.harmonize(
        kept, pad_alphas(stacked, latents, model.vae_scale).to(model.device), model.encode([prompts], texts), [prompts],
        settings.sampling.of_rows([*chosen[:-1], len(stack.layers)]), settings.stepper_for(model), on_step,
        additions=alone.additions, controls=model.fit_controls(alone.controls, 1, (stack.width, stack.height)))
    return picture[0, :, : stack.height, : stack.width]


def _edit(
    model: LatentCoder, stack: LayerStack, layer: Layer, change: LayerChange, latents: dict[int, Tensor], *,
    snap: bool, seed: int,
) -> _Edited:
    size, scale = (stack.width, stack.height), model.vae_scale
    op = replace(change.op, center=change.op.center or own_center(layer))
    pixels = edit_pixels(layer, op)
    unseen = unseen_part(layer, op, size)
    if layer.on_canvas(*size).box is not None and pixels.on_canvas(*size).box is None:
        raise InputError(
            f"layer {change.layer} ({layer.name!r}) would leave the canvas of {size[0]}x{size[1]}; move it less far"
            + (", or hide or delete it" if change.layer else ""))
    if change.layer == 0:
        pixels = continued(pixels, unseen, size)
    fresh = encoded_row(model, pixels, change.layer, size, list(latents), seed)
    alpha = pixels.on_canvas(*size).alpha
    # Visible pixels beyond the canvas may come back; there are no latents of them.
    if snap or (_onto_cells(op, scale) and cut_out(layer, (0, 0, *size)).box == layer.box):
        onto = op.snapped(scale)
        latents = {t: apply_edit(z, onto, pixels_per_cell=scale, fill=fresh[t].to(z), resample="nearest")
                   for t, z in latents.items()}
        alpha = apply_edit(layer.on_canvas(*size).alpha, onto, pixels_per_cell=1) if snap else alpha
    else:
        latents = {t: fresh[t].to(z) for t, z in latents.items()}
    return _Edited(layer=pixels, latents=latents, alpha=alpha, unseen=unseen_cells(unseen, model.grid(*size), scale))


def _with_covered(
    model: LatentCoder, stack: LayerStack, changes: Sequence[LayerChange], unseen: Sequence[Tensor]
) -> list[Tensor]:
    ops = {change.layer: change.op for change in changes}
    known, scale, found = model.grid(stack.width, stack.height), model.vae_scale, list[Tensor]()
    for index, (layer, cells) in enumerate(zip(stack.layers, unseen, strict=True)):
        op = ops.get(index, LayerEdit())
        part = covered_part(stack, index, replace(op, center=op.center or own_center(layer)))
        found.append(cells | unseen_cells((part > 0.5).float(), known, scale))
    return found


def encoded_row(
    model: LatentCoder, layer: Layer, row: int, size: tuple[int, int], timesteps: Sequence[int], seed: int
) -> dict[int, Tensor]:
    """The row (c, h, w) of a layer as its pixels give it on a canvas of ``size`` (width, height), at these timesteps."""
    foregrounds = {0: layer_rgba(layer, size)} if row else {}
    clean = model.encode_pictures(row_picture(layer, size, background=row == 0)[None], foregrounds)
    shape = (row + 2, *(int(side) for side in clean.shape[1:]))
    noise = initial_noise((shape[0], shape[1], shape[2], shape[3]), seed + _FILL_SEED)[:, row]
    made = noised_trajectory(model.schedule, clean[None], noise[:, None], timesteps)
    return {t: z[0, 0] for t, z in made.latents.items()}


def _onto_cells(edit: LayerEdit, scale: int) -> bool:
    """Whether op(z_t) is exact: cells of the latent come to lie on cells."""
    if edit.resizes or edit.degrees % 90:
        return False
    turned = edit.flip_horizontal or edit.flip_vertical or edit.degrees % 360 != 0
    snapped = edit.snapped(scale)
    return (snapped if turned else replace(snapped, center=edit.center)) == edit


def mixed(layer: Layer, change: LayerChange) -> Layer:
    """The layer with the visibility and opacity of a change; itself if they stay."""
    visible = layer.visible if change.visible is None else change.visible
    opacity = layer.opacity if change.opacity is None else change.opacity
    same = (visible, opacity) == (layer.visible, layer.opacity)
    return layer if same else replace(layer, visible=visible, opacity=opacity)


def light_edits(changes: Sequence[LayerChange]) -> dict[int, LayerEdit | None]:
    """What becomes of the light of foregrounds, for `effects.move_effects`: a layer's edit, or None if it is gone.

    What a background bears stays where it is.
    """
    gone = {change.layer for change in changes if change.delete or change.visible is False}
    return {change.layer: None if change.layer in gone else change.op
            for change in changes if change.layer and (change.layer in gone or not change.op.is_identity)}


def new_order(changes: Sequence[LayerChange], count: int) -> list[int]:
    """The old numbers of the layers that remain of ``count``, in their new order.

    Raises InputError for layers and positions that do not exist or are given twice, and for a background that is to be
    hidden, deleted or moved in order.
    """
    _check_changes(changes, count)
    deleted, places = {change.layer for change in changes if change.delete}, dict[int, int]()
    last = count - len(deleted) - 1
    for change in changes:
        if change.position is None or change.delete:
            continue
        if not 1 <= change.position <= last:
            raise InputError(
                f"got position {change.position} for layer {change.layer}; give 1 to {last}, the places of the foregrounds")
        if change.position in places:
            raise InputError(
                f"got position {change.position} for layers {places[change.position]} and {change.layer}; give each its own")
        places[change.position] = change.layer
    order = [index for index in range(count) if index not in deleted and index not in places.values()]
    for position in sorted(places):  # from below, so that none moves those that have their place
        order.insert(position, places[position])
    return order


def _check_changes(changes: Sequence[LayerChange], count: int) -> None:
    seen = set[int]()
    for change in changes:
        if not 0 <= change.layer < count:
            raise InputError(
                f"got layer {change.layer} of a stack of {count}; give 0 (the background) to {count - 1} (effects and residual "
                "layers that were taken off do not count)")
        if change.layer in seen:
            raise InputError(f"got two changes of layer {change.layer}; put them into one")
        if change.layer == 0 and (change.delete or change.position is not None or change.visible is False):
            raise InputError(
                "the background can be neither hidden, deleted nor given another place; edit a layer above it, or put "
                "another background in its place")
        seen.add(change.layer)


def _check_ground(changes: Sequence[LayerChange], background: Layer) -> None:
    """Latents know no opacity of the background: harmonisation would show another picture than the layers do."""
    for change in changes:
        if change.layer == 0 and change.opacity not in (None, background.opacity):
            raise InputError(
                f"got opacity {change.opacity} for the background, which harmonisation cannot follow; leave it at "
                f"{background.opacity}, or set the opacity of a layer above it")


def check_harmonizable(stack: LayerStack, rows: Sequence[int]) -> None:
    """Can these layers of a stack, the background first, be fused as latents? Raises InputError if not."""
    if not stack.background.visible:
        raise InputError("the background is hidden, and objects cannot be harmonised with nothing; show it")
    for row in rows:
        layer = stack.layers[row]
        if layer.blend_mode != "normal":
            raise InputError(
                f"layer {row} ({layer.name!r}) blends by {layer.blend_mode!r}, which latents cannot; hide or delete it, "
                "or set it to normal")
