"""The evaluation of edits on a tiny model: what is measured, kept, resumed and reported."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dreamlayer_core.cli.app import app
from dreamlayer_core.config import SamplingConfig
from dreamlayer_core.errors import InputError
from dreamlayer_core.evaluation.edit_measures import Editor, edit_scene, planned_move, recomposed
from dreamlayer_core.evaluation.edit_report import write_edit_report
from dreamlayer_core.evaluation.edit_results import EDIT_METRICS
from dreamlayer_core.evaluation.edits import EditOptions, inversion_methods, measure_edits
from dreamlayer_core.evaluation.intervals import estimate
from dreamlayer_core.evaluation.pictures import scene_stack, true_pictures
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.scenes import make_scene, move_object

SIZE = (64, 64)


def _options(folder, **changes) -> EditOptions:
    few = EditOptions(samples=2, round_trips=2, recompositions=3, steps=10, methods=("exact", "replay"), out=folder)
    return dataclasses.replace(few, **changes)


@pytest.fixture(scope="module")
def finished(tiny_dreamlayer: DreamLayer, tmp_path_factory):
    options = _options(tmp_path_factory.mktemp("edits"))
    return options, measure_edits(tiny_dreamlayer, options)


def _rows(results):
    """The first row of a name: decompositions have a second, after merges."""
    return {row.name: row for section in reversed(results.sections) for row in section.rows}


def test_scenes_have_two_and_three_layers_by_turns_none_of_them_trained_on():
    scenes = [edit_scene(seed, (32, 32)) for seed in range(20)]
    assert [len(s.objects) for s in scenes] == [1, 2] * 10
    trained = {(o.kind, o.color, s.ground) for seed in range(60) for s in [make_scene(seed, size=(32, 32))] for o in s.objects}
    assert not trained & {(o.kind, o.color, s.ground) for s in scenes for o in s.objects}


def test_planned_moves_are_whole_cells_and_stay_in_the_picture():
    for scene in (edit_scene(seed, (128, 128)) for seed in range(24)):
        index, dx = planned_move(scene, 8)
        before, after = scene.alphas[index], move_object(scene, index, dx).alphas[index]
        assert index == len(scene.objects) - 1 and dx % 8 == 0 and 8 <= abs(dx) <= 48
        assert after.sum() == pytest.approx(before.sum(), rel=0.02)


def test_a_true_scene_is_put_together_again():
    scene = edit_scene(1, SIZE)
    values = recomposed(scene_stack(scene), true_pictures(scene)[0].whole).values
    assert values["recomposition"][0] >= 48 and values["residual_levels"] == [0.0]


def test_everything_is_measured_on_every_scene(finished):
    _, results = finished
    sections = {section.name: section for section in results.sections}
    assert set(sections) == {"decomposition", "merges", "round_trip", "moved", "completed", "kept", "recomposed"}
    assert [row.name for row in sections["decomposition"].rows] == [
        "one_layer", "thresholded_maps", "as_sampled", "as_sampled_unmasked", "decomposed_exact_masked", "decomposed_exact_unmasked",
        "decomposed_replay_masked", "decomposed_replay_unmasked"]
    assert {row.name: row.scenes for row in _rows(results).values() if row.scenes != 2} == {"recomposed_true": 3}
    for section in results.sections:
        assert set(section.metrics) <= EDIT_METRICS.keys()
        assert all(set(section.metrics) <= row.metrics.keys() for row in section.rows if row.name.startswith("decomposed"))
    assert [c.title for c in results.comparisons] == [
        "masking, exact", "masking, replay", "masking, replay, layers as they were sampled", "holding the layers to the picture",
        "against thresholded context maps"]


def test_what_must_be_so_is_so(finished):
    _, results = finished
    rows = {name: row.metrics for name, row in _rows(results).items()}
    assert rows["decomposed_replay_masked"]["drift"].mean == 0 < rows["decomposed_exact_masked"]["drift"].mean
    assert (rows["decomposed_replay_masked"]["drift"].low, rows["decomposed_replay_masked"]["drift"].high) == (0, 0)
    assert rows["round_trip_replay"]["round_trip_7.5"].mean == 0
    assert 0 < rows["round_trip_exact"]["round_trip_7.5"].mean <= 1e-5
    for name in ("regenerated", "ground_replaced", "added"):
        assert rows[name]["pixel_change"].high == rows[name]["latent_change"].high == 0
    assert rows["moved_effects_true"]["new_shadow"].mean < rows["moved_paste"]["new_shadow"].mean / 2
    assert rows["moved_effects_true"]["old_shadow"].mean < rows["moved_paste"]["old_shadow"].mean
    assert rows["moved_paste"]["object_psnr"].mean > 25 > rows["moved_autoencoder"]["object_psnr"].mean
    assert 0 < rows["completed_ground_smooth"]["completion"].mean < 0.1 < rows["completed_ground_drawn"]["completion"].mean
    assert rows["one_layer"]["ground_l1"].mean < rows["decomposed_replay_masked"]["ground_l1"].mean


def test_goals_say_what_was_measured(finished):
    _, results = finished
    rows, found = {name: row.metrics for name, row in _rows(results).items()}, {goal.text: goal for goal in results.goals}
    iou = found["decomposition: soft IoU at 0 merges ≥ 0.75"]
    assert iou.measured == rows["decomposed_replay_masked"]["iou_0"].mean < 0.75 and not iou.reached
    ratio = found["new shadow: error of IRH ÷ error of plain pasting < 0.5"]
    assert ratio.measured == pytest.approx(rows["moved_irh"]["new_shadow"].mean / rows["moved_paste"]["new_shadow"].mean)
    kept = [goal for text, goal in found.items() if "change of other layers" in text or text.startswith(("recomp", "round"))]
    assert len(kept) == 9 and all(goal.reached for goal in kept)
    masked = next(goal for text, goal in found.items() if "beyond the interval" in text and "IoU" in text)
    difference = results.comparisons[1].metrics["iou_0"]
    assert masked.measured == difference.mean and masked.reached == (difference.low > 0)


def test_an_evaluation_goes_on_where_it_was_cut_off(finished, tiny_dreamlayer):
    options, results = finished
    record = options.out / "records" / "recomposed_irh.json"
    stored = json.loads(record.read_text())
    removed = stored["scenes"].pop("1")
    record.write_text(json.dumps(stored))
    moved = {path.name for path in record.parent.glob("moved_*")}
    others = {p.name: p.stat().st_mtime_ns for p in record.parent.iterdir() if p.name not in moved and p != record}
    again = measure_edits(tiny_dreamlayer, options)
    assert {p.name: p.stat().st_mtime_ns for p in record.parent.iterdir() if p.name in others} == others
    assert json.loads(record.read_text())["scenes"]["1"] == removed and again == results
    with pytest.raises(InputError, match="was measured with model"):
        measure_edits(dataclasses.replace(tiny_dreamlayer, adapter=None), options)


def test_the_command_writes_figures_a_report_and_grids(finished, tiny_folder, tmp_path):
    options, results = finished
    line = ["evaluate", "edits", "--samples", "2", "--round-trips", "2", "--recompositions", "3", "--steps", "10", "--method",
            "exact", "--method", "replay", "--model", tiny_folder, "--out", options.out, "--json", tmp_path / "edits.json"]
    ran = CliRunner().invoke(app, [*map(str, line)])
    assert ran.exit_code == 0 and "goals reached" in ran.stderr, (ran.stderr, ran.exception)
    stored = json.loads((tmp_path / "edits.json").read_text(encoding="utf-8"))
    assert stored["sections"][0]["rows"][0]["metrics"]["psnr"]["mean"] == results.sections[0].rows[0].metrics["psnr"].mean
    page = (options.out / "report" / "edits.md").read_text(encoding="utf-8")
    assert all(f"| {row.title} |" in page for row in _rows(results).values() if row.metrics)
    assert "nan" not in page and "{" not in page and "| **no** |" in page
    for name, columns in (("decomposed-replay-masked", 6), ("thresholded-maps", 6), ("moved-irh", 7), ("completed-ground-drawn", 3)):
        assert f"(edits-{name}.jpg)" in page
        with Image.open(options.out / "report" / f"edits-{name}.jpg") as image:
            assert image.width == columns * 67 and image.height > 2 * 64


def test_a_report_needs_no_pictures(finished, tmp_path):
    _, results = finished
    write_edit_report(results, tmp_path / "nothing", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["edits.md"]
    assert "## Pictures" not in (tmp_path / "edits.md").read_text(encoding="utf-8")


def test_a_fixed_point_is_measured_too_and_in_bf16(tiny_dreamlayer):
    editor = Editor(model=tiny_dreamlayer, sampling=SamplingConfig(steps=2), half=True)
    found = editor.decomposed(edit_scene(0, SIZE), "fixed-point", False)
    assert list(found) == ["decomposed_fixed-point_unmasked"]
    measured = found["decomposed_fixed-point_unmasked"]
    assert measured.values["drift"][0] > 0 and all(torch.isfinite(tile).all() for tile in measured.tiles)


def test_inversions_by_name():
    assert inversion_methods([]) == ("ddim", "fixed-point", "exact", "replay")
    assert inversion_methods(["replay", "ddim", "replay"]) == ("ddim", "replay")
    with pytest.raises(InputError, match="'magic'; give one of ddim"):
        inversion_methods(["ddim", "magic"])


def test_a_largest_change_of_zero_is_no_share():
    assert estimate([[0.0]] * 4, shares=False) == estimate([[0.0]] * 4, shares=False, seed=1)
    shares, changes = estimate([[0.0]] * 4), estimate([[0.0]] * 4, shares=False)
    assert shares is not None and changes is not None and shares.high == 0.75 and changes.high == 0


@pytest.mark.parametrize("changes", [
    {"samples": 1}, {"round_trips": 1}, {"recompositions": 0}, {"steps": 3}, {"methods": ()},
    {"methods": ("ddim", "ddim")}])
def test_impossible_options_are_refused(changes, tmp_path):
    with pytest.raises(InputError, match="got"):
        _options(tmp_path, **changes)
