import json
from pathlib import Path

import pytest
import torch

from dreamlayer_core.config import TRAINING_FREE
from dreamlayer_core.evaluation.maps import MapOptions, evaluate_maps, map_variants, ranking


def test_ranking_is_one_for_a_map_that_knows_and_half_for_one_that_does_not():
    mask = torch.zeros(3, 4, 4)
    mask[:, :2] = 1
    slope = torch.arange(16.0).view(4, 4)
    assert ranking(torch.stack([-slope, slope, torch.ones(4, 4)]), mask) == [1.0, 0.0, 0.5]
    assert ranking(slope[None], torch.zeros(1, 4, 4)) == []


def test_ranking_is_the_area_under_the_curve():
    values, mask = torch.rand(1, 6, 6), torch.rand(1, 6, 6) > 0.6
    inside, outside = values[mask], values[~mask]
    higher = sum(float(a > b) for a in inside for b in outside) / (len(inside) * len(outside))
    assert ranking(values, mask.float()) == [pytest.approx(higher)]


def test_every_stage_is_measured_and_what_the_default_is():
    variants = map_variants((8, 2, 4))
    assert [v.downscale for v in variants[:3]] == [2, 4, 8]
    assert TRAINING_FREE in [v.refinement for v in variants if v.downscale is None]
    assert len({v.title for v in variants}) == len(variants)


@pytest.mark.parametrize("samples", [2, 9])  # the ninth is the first scene of two objects, as the grid shows them
def test_a_run_writes_its_figures_a_page_and_a_grid(tmp_path: Path, samples: int):
    rows = evaluate_maps(MapOptions(samples=samples, out=tmp_path, timesteps=(850,)))
    figures = json.loads((tmp_path / "maps.json").read_text(encoding="utf-8"))
    assert len(figures) == len(rows)
    for row, figure in zip(rows, figures, strict=True):
        assert 0 < row.iou[850].mean < 1 and 0 < row.rank[850].mean < 1
        assert figure["iou"]["850"]["mean"] == row.iou[850].mean
        assert row.variant.title in (tmp_path / "maps.md").read_text(encoding="utf-8")
    page = (tmp_path / "maps.md").read_text(encoding="utf-8")
    assert (tmp_path / "maps.png").is_file() == ("maps.png" in page) == (samples > 8)
