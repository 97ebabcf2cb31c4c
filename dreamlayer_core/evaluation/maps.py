"""`dreamlayer evaluate maps`: how well context maps without an adapter find the objects of true scenes.

The picture of a held-out scene is noised to a timestep, the UNet reads its map from the prompts, and the map is held
against the visible parts of the true alphas. No sampling: what is measured is the reading alone (Eq. 3, 4).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..attention.shared import resize_map
from ..config import TRAINING_FREE, LayerAttentionConfig, MapRefinement
from ..diffusers_unet import layer_attention, stage_scales
from ..errors import OutputError
from ..pipeline import DreamLayer
from ..prompts import LayeredEmbedding
from ..sampling import initial_noise
from ..scenes import Scene
from ..text_encoders import TextRows
from .generation import scene_prompts
from .intervals import Estimate, estimate
from .jobs import Progress, run_jobs
from .metrics import soft_iou
from .pictures import true_pictures, visible_parts
from .scenes import held_out_scene
from .strips import draw_grid, save_tiles, strip_tiles
from .tables import cell, markdown_table

__all__ = ["MapOptions", "MapRow", "MapVariant", "evaluate_maps", "map_variants", "ranking"]

_BATCH = 8  # scenes; those of one block have equally many foregrounds
_SHOWN, _SHOWN_AT = 6, 850  # scenes in the grid, and the timestep: the paper's T_G


@dataclass(frozen=True, kw_only=True)
class MapOptions:
    """What to measure; every figure goes to ``json``, beside the report in ``out`` if not given."""

    samples: int = 48
    out: Path = Path("evaluation")
    json: Path | None = None
    model: str = "embedded"
    seed: int = 0
    half: bool = False
    timesteps: tuple[int, ...] = (950, 850, 700, 500, 200)


@dataclass(frozen=True, kw_only=True)
class MapVariant:
    """One way of reading the map: ``downscale`` None is the default stage."""

    title: str
    refinement: MapRefinement = MapRefinement()
    downscale: int | None = None


@dataclass(frozen=True, kw_only=True)
class MapRow:
    """Of one variant, by timestep: soft IoU with the true masks, and how surely an object's cell outranks another."""

    variant: MapVariant
    iou: Mapping[int, Estimate]
    rank: Mapping[int, Estimate]


def map_variants(scales: Sequence[int]) -> tuple[MapVariant, ...]:
    """Every stage as it comes; every refinement alone at the default stage; then together, as TRAINING_FREE has them."""
    alone = {
        "tokens weighted by spread": MapRefinement(token_weighting="spread"),
        "self-attention, once": MapRefinement(self_attention=1),
        **{f"smoothing {sigma:g}": MapRefinement(smoothing=sigma) for sigma in (0.5, 1.0, 1.5, 2.0)},
        **{f"floor {floor:g}": MapRefinement(floor=floor) for floor in (0.2, 0.4, 0.6)},
        **{f"sharpening {power:g}": MapRefinement(sharpening=power) for power in (2.0, 3.0)},
        "smoothing 1, sharpening 2": MapRefinement(smoothing=1.0, sharpening=2.0),
        "smoothing 1.5, floor 0.4": MapRefinement(smoothing=1.5, floor=0.4),
        "the default (smoothing 1, floor 0.4)": TRAINING_FREE,
        "the default, tokens weighted by spread": replace(TRAINING_FREE, token_weighting="spread"),
        "the default with self-attention": replace(TRAINING_FREE, self_attention=1),
    }
    stages = [MapVariant(title=f"stage of downscale {scale}, Eq. 4 alone", downscale=scale) for scale in sorted(scales)]
    return (*stages, *(MapVariant(title=title, refinement=one) for title, one in alone.items()))


def ranking(maps: Tensor, masks: Tensor) -> list[float]:
    """The share of pairs of a cell inside (mask > 0.5) and one outside in which the inside is higher; ties count half.

    maps and masks (fg, h, w) -> one value a foreground, the area under its ROC curve; none where a mask is empty or full.
    """
    found: list[float] = []
    for values, mask in zip(maps.flatten(1), masks.flatten(1) > 0.5, strict=True):
        inside, outside = values[mask], values[~mask]
        if len(inside) and len(outside):
            pairs = inside[:, None] - outside[None, :]
            found.append(float((pairs > 0).float().mean() + (pairs == 0).float().mean() / 2))
    return found


def evaluate_maps(options: MapOptions) -> list[MapRow]:
    """Load the model without its adapter, measure every variant, and write figures, a page and a grid."""
    model = DreamLayer.from_files(options.model, use_adapter=False)
    run = _Run(model, options)
    run_jobs(run.jobs())
    run.write()
    return run.rows()


class _Run:
    def __init__(self, model: DreamLayer, options: MapOptions) -> None:
        self.model, self.options = model, options
        self.variants = map_variants(list(stage_scales(model.unet).values()))
        scores = [{t: list[list[float]]() for t in options.timesteps} for _ in range(2 * len(self.variants))]
        self.ious, self.ranks = scores[::2], scores[1::2]

    def jobs(self) -> Iterator[tuple[str, Progress]]:
        yield "scenes", self._measure()

    def _measure(self) -> Progress:
        size, samples = self.model.default_size, self.options.samples
        for start in range(0, samples, _BATCH):
            scenes = [held_out_scene(seed, size) for seed in range(start, min(start + _BATCH, samples))]
            with torch.no_grad(), torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.options.half):
                self._scenes(scenes)
            yield start + len(scenes), samples

    def _scenes(self, scenes: Sequence[Scene]) -> None:
        truths = [true_pictures(scene)[0] for scene in scenes]
        masks = [visible_parts(cast(Tensor, truth.alphas)) for truth in truths]
        clean = self.model.encode_pictures(torch.stack([truth.whole for truth in truths]))
        channels, height, width = clean.shape[1:]
        noise = initial_noise(
            (1, channels, height, width), self.options.seed * 1_000_000 + scenes[0].seed, stacks=len(scenes))[:, 0]
        embeddings = self.model.encode([scene_prompts(scene) for scene in scenes])
        for t in self.options.timesteps:
            noisy = self.model.schedule.add_noise(clean, noise.to(clean), torch.tensor(t))
            for index, variant in enumerate(self.variants):
                maps = resize_map(self._maps(embeddings, noisy, t, variant).float().cpu(), (height, width))
                for one, mask in zip(maps, masks, strict=True):
                    wanted = resize_map(mask, (height, width))
                    self.ious[index][t].append(soft_iou(one, wanted).tolist())
                    self.ranks[index][t].append(ranking(one, wanted))
                if t == _SHOWN_AT and variant.refinement == TRAINING_FREE:
                    self._show(scenes, maps)

    def _maps(
        self, embeddings: Sequence[LayeredEmbedding], noisy: Tensor, timestep: int, variant: MapVariant
    ) -> Tensor:
        """(stacks, fg, h, w), read from the global rows; the other rows are copies, which it does not see."""
        config = LayerAttentionConfig(lssa=False, downscale=variant.downscale, refinement=variant.refinement)
        rows = len(embeddings[0].embeddings)
        with layer_attention(self.model.unet, embeddings, config) as run:
            run.begin(timestep, (noisy.shape[-2], noisy.shape[-1]))
            last = self.model.unet.get_submodule(run.sites.context[-1])
            stop = last.register_forward_hook(_stop)  # the map is read: the rest of the UNet would be for nothing
            try:
                with suppress(_MapRead):
                    self.model.predict(noisy.repeat_interleave(rows, 0), timestep, TextRows.joined([e.rows for e in embeddings]))
            finally:
                stop.remove()
            return cast(Tensor, run.context_map)

    def _show(self, scenes: Sequence[Scene], maps: Tensor) -> None:
        for scene, one in zip(scenes, maps, strict=True):
            if len(one) == 2 and scene.seed % _BATCH < _SHOWN:
                whole, alphas = true_pictures(scene)[0].whole, torch.from_numpy(scene.alphas)
                shown = resize_map(one, (whole.shape[-2], whole.shape[-1]))
                planes = [plane.expand(3, -1, -1) for pair in zip(visible_parts(alphas), shown, strict=True)
                          for plane in pair]
                save_tiles([whole, *planes], self.options.out / "maps", scene.seed)

    def rows(self) -> list[MapRow]:
        return [
            MapRow(variant=variant, iou=_estimates(iou), rank=_estimates(rank))
            for variant, iou, rank in zip(self.variants, self.ious, self.ranks, strict=True)]

    def write(self) -> None:
        options, rows = self.options, self.rows()
        steps = options.timesteps
        columns = [f"t = {t}" for t in steps]
        tables = [
            markdown_table(["", *columns], [[row.variant.title, *(cell(getattr(row, name).get(t)) for t in steps)] for row in rows])
            for name in ("iou", "rank")]
        tiles = [strip_tiles(path, 5) for path in sorted((options.out / "maps").glob("*.png"))[:_SHOWN]]
        page = _PAGE.format(samples=options.samples, model=options.model, iou=tables[0], rank=tables[1]) + (_PICTURES if tiles else "")
        figures = [{"variant": asdict(row.variant), "iou": _plain(row.iou), "rank": _plain(row.rank)} for row in rows]
        try:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "maps.md").write_text(page, encoding="utf-8")
            (options.json or options.out / "maps.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write the report to {options.out}: {error}; choose a writable folder") from error
        draw_grid(tiles, ["picture", "object 1", "its map", "object 2", "its map"], options.out / "maps.png")


_PAGE = """\
# Context maps without an adapter

Model: {model}, without its adapter; {samples} held-out scenes, their pictures noised to timestep t, the map read once. Means with
95 % intervals, bootstrapped over scenes. `dreamlayer evaluate maps` makes this page.

## Soft IoU of the map with the object's visible mask

{iou}
## How surely a cell of the object outranks another (area under the ROC curve; 0.5 is chance)

{rank}"""
_PICTURES = """
## Maps of the default at t = 850

![maps](maps.png)
"""


class _MapRead(Exception):
    pass


def _stop(*_: object) -> None:
    raise _MapRead


def _estimates(values: Mapping[int, Sequence[Sequence[float]]]) -> dict[int, Estimate]:
    return {t: found for t, one in values.items() if (found := estimate(one, shares=False))}


def _plain(values: Mapping[int, Estimate]) -> dict[str, Any]:
    return {str(t): asdict(one) for t, one in values.items()}
