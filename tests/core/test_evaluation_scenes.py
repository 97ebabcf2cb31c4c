"""The evaluation as a whole, on a tiny model and an untrained classifier: what is run, kept, resumed and reported."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, cast

import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

from dreamlayer_core.config import HarmonizationConfig, LayerAttentionConfig, MapRefinement, SamplingConfig
from dreamlayer_core.errors import InputError
from dreamlayer_core.evaluation.classifier import SceneClassifier
from dreamlayer_core.evaluation.configurations import (
    BASE,
    BOTH,
    CONFIGURATIONS,
    FAST_HARMONIZED,
    HARMONIZED,
    TRUE_PLAIN,
    TRUE_SCENE,
    context_sweep,
    harmonization_sweep,
    training_free_sweep,
)
from dreamlayer_core.evaluation.generation import Sampler, scene_prompts
from dreamlayer_core.evaluation.records import Record, RecordStore
from dreamlayer_core.evaluation.report import write_report
from dreamlayer_core.evaluation.results import compare, goals, write_results
from dreamlayer_core.evaluation.scenes import EvaluationOptions, evaluate, held_out_scene
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.sampling import initial_noise
from dreamlayer_core.scenes.scene import make_scene

from .tiny import SCHEDULE

SIZE = (64, 64)
BY_NAME = {c.name: c for c in CONFIGURATIONS}


@pytest.fixture(scope="module")
def classifier() -> SceneClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        return SceneClassifier().eval().requires_grad_(False)


@pytest.fixture
def sampler(tiny_dreamlayer: DreamLayer) -> Sampler:
    return Sampler(model=tiny_dreamlayer, sampling=SamplingConfig(steps=10), seed=3, views=1)


@pytest.fixture
def brief(sampler: Sampler) -> Sampler:
    """For what needs no harmonisation."""
    return dataclasses.replace(sampler, sampling=SamplingConfig(steps=2))


def test_scenes_of_a_block_have_equally_many_foregrounds_none_of_them_trained_on():
    scenes = [held_out_scene(seed, (32, 32)) for seed in range(40)]
    assert [len(s.objects) for s in scenes] == [1] * 8 + [2] * 8 + [3] * 8 + [4] * 8 + [1] * 8
    trained = {(o.kind, o.color, s.ground) for seed in range(60) for s in [make_scene(seed, size=(32, 32))] for o in s.objects}
    assert not trained & {(o.kind, o.color, s.ground) for s in scenes for o in s.objects}


def test_the_compared_configurations_differ_in_one_part_each():
    assert len(BY_NAME) == len(CONFIGURATIONS)
    papers = {name for name, c in BY_NAME.items() if not c.attention.cells}
    assert papers == {"lssa_paper", "both_paper"}
    assert all(dataclasses.replace(BY_NAME[f"{name}_paper"].attention, cells=True) == BY_NAME[name].attention for name in ("lssa", BOTH))
    parts = {name: (c.attention.caca, c.attention.lssa, c.adapter) for name, c in BY_NAME.items() if c.layered and name not in papers}
    assert parts == {
        "neither": (False, False, True), "lssa": (False, True, True), "caca": (True, False, True), BOTH: (True, True, True),
        HARMONIZED: (True, True, True), FAST_HARMONIZED: (True, True, True), "training_free": (True, True, False)}
    assert [c.harmonization for c in CONFIGURATIONS if c.harmonization] == [HarmonizationConfig()] * 2
    assert [c.name for c in CONFIGURATIONS if c.guidance_interval or c.attention.cross_keys != "exact"] == [FAST_HARMONIZED]
    assert harmonization_sweep(((0, 0),))[0].harmonization is None
    assert context_sweep((700,))[0].attention == LayerAttentionConfig(context_threshold=700)
    free, plain = training_free_sweep((700,))
    assert (free.attention, free.adapter) == (LayerAttentionConfig(context_threshold=700), False)
    assert (plain.attention, plain.adapter) == (LayerAttentionConfig(refinement=MapRefinement()), False)
    assert [c.name for c in harmonization_sweep(((0, 0), (600, 400), (800, 600)))] == [BOTH, HARMONIZED, "t_h_800_600"]


def test_layers_and_harmonised_pictures_are_the_pipelines_own(sampler):
    scenes = [held_out_scene(seed, SIZE) for seed in (8, 9)]
    irh = HarmonizationConfig(high=600, low=300)
    both = BY_NAME[BOTH]
    pictures = sampler.pictures(scenes, both, [dataclasses.replace(both, name="irh", harmonization=irh)])
    direct = sampler.model.generate(
        [scene_prompts(s) for s in scenes], size=SIZE, seed=3_000_008, sampling=sampler.sampling, views=1, harmonization=irh)
    assert direct.harmonized is not None
    for index, stack in enumerate(direct.stacks):
        plain, harmonised = pictures[BOTH][index], pictures["irh"][index]
        assert torch.allclose(plain.alphas, torch.stack([f.alpha[0] for f in stack.foregrounds]), atol=1e-6)
        assert torch.allclose(plain.background, stack.background.color, atol=1e-6)
        assert torch.allclose(plain.whole, direct.global_picture[index], atol=1e-6)
        assert torch.equal(plain.final, plain.composite)
        assert torch.allclose(harmonised.final, direct.harmonized[index], atol=1e-4)
        assert torch.equal(harmonised.alphas, plain.alphas)


def test_a_scenes_noise_does_not_depend_on_its_batch(brief):
    scenes = [held_out_scene(seed, SIZE) for seed in (1, 2)]
    together = brief.pictures(scenes, BY_NAME["neither"])["neither"]
    alone = brief.pictures(scenes[1:], BY_NAME["neither"])["neither"]
    assert torch.allclose(together[1].final, alone[0].final, atol=1e-3)
    assert not torch.allclose(together[0].final, alone[0].final, atol=1e-1)


def test_the_base_model_alone_is_plain_guided_ddim_of_the_whole_prompt(sampler):
    scene = held_out_scene(5, SIZE)
    model = sampler.model
    picture = sampler.pictures([scene], BY_NAME[BASE])[BASE][0]
    stock = dataclasses.replace(model, adapter=None)
    text = stock.encode([LayerPrompts(scene.whole_caption, ("",))])[0].embeddings[:1]
    text = torch.cat([stock.negative([LayerPrompts("", ("",))], 1, text.shape[1]).embeddings, text])
    scheduler: Any = DDIMScheduler(
        beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1, **cast(Any, SCHEDULE))
    scheduler.set_timesteps(10)
    latents = initial_noise((1, 4, 16, 16), 3_000_005)[0]
    for timestep in scheduler.timesteps:
        without, given = model.unet(torch.cat([latents, latents]), timestep, text).sample.chunk(2)
        output = without + sampler.sampling.guidance * (given - without)
        latents = scheduler.step(output, timestep, latents).prev_sample
    assert torch.allclose(picture.final, model.decode_pictures(latents)[0], atol=1e-3)
    assert picture.alphas is None and torch.equal(picture.whole, picture.final)


def test_switched_parts_change_the_pictures(sampler):
    scene = [held_out_scene(8, SIZE)]
    finals = [sampler.pictures(scene, BY_NAME[name])[name][0].final
              for name in ("neither", "lssa", "caca", BOTH, "training_free")]
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(finals) for b in finals[:i])


def test_a_window_between_two_steps_is_refused(sampler):
    narrow = harmonization_sweep(((250, 240),))
    with pytest.raises(InputError, match="sample with more steps"):
        sampler.pictures([held_out_scene(0, SIZE)], BY_NAME[BOTH], narrow)


def test_true_layers_are_harmonised_from_their_own_latents(sampler):
    scenes = [held_out_scene(seed, SIZE) for seed in (16, 17)]
    pictures = sampler.harmonized_truth(scenes, HarmonizationConfig())
    assert set(pictures) == {"harmonized", "autoencoder", "composite"}
    for part in pictures.values():
        assert [p.shape for p in part] == [(3, 64, 64)] * 2
    whole = torch.from_numpy(scenes[0].picture).permute(2, 0, 1)[None]
    encoded = sampler.model.vae.encode(whole * 2 - 1).latent_dist.mean
    decoded = (sampler.model.vae.decode(encoded).sample / 2 + 0.5).clamp(0, 1)[0]
    assert torch.allclose(pictures["autoencoder"][0], decoded, atol=1e-4)


def test_records_survive_and_are_not_mixed_with_those_of_other_settings(tmp_path):
    store = RecordStore(tmp_path, {"steps": "10"})
    store.add("both", {3: Record({"psnr": [20.0]}, {"picture": [[1.0, 2.0]]})})
    store.add("both", {1: Record({"psnr": []})})
    again = RecordStore(tmp_path, {"steps": "10"}).records("both")
    assert again[3].values == {"psnr": [20.0]} and again[3].features == {"picture": [[1.0, 2.0]]}
    assert again[1].values == {"psnr": []}
    with pytest.raises(InputError, match="measured with steps 10, not 20"):
        RecordStore(tmp_path, {"steps": "20"}).records("both")
    (tmp_path / "both.json").write_text('{"settings": ')
    with pytest.raises(InputError, match="no record of an evaluation"):
        RecordStore(tmp_path, {"steps": "10"}).records("both")


@pytest.mark.parametrize("changes", [{"samples": 1}, {"reference": 0}, {"steps": 3}, {"parts": ("speed",)}])
def test_impossible_options_are_refused(changes):
    with pytest.raises(InputError):
        EvaluationOptions(**changes)


def _options(folder, **changes) -> EvaluationOptions:
    few = EvaluationOptions(
        samples=9, sweep_samples=2, reference=4, steps=10, views=1, grid=3, out=folder, context_thresholds=(1000, 0),
        harmonization=((0, 0), (600, 400)), guidance_intervals=((0, 1000), (0, 0)))
    return dataclasses.replace(few, **changes)


@pytest.fixture(scope="module")
def finished(tiny_dreamlayer: DreamLayer, classifier, tmp_path_factory):
    options = _options(tmp_path_factory.mktemp("evaluation"))
    return options, evaluate(tiny_dreamlayer, classifier, options, {"purity": 1.0})


def test_every_configuration_is_measured_on_every_scene(finished):
    _, results = finished
    rows = {row.name: row for row in results.rows}
    assert list(rows) == [TRUE_SCENE, TRUE_PLAIN, *BY_NAME]
    assert all(row.scenes == 9 for row in rows.values())
    assert set(rows[BASE].metrics) == {"found", "fid_picture"}
    assert rows[BOTH].metrics["layer_object"].count == 10  # eight scenes of one foreground, one of two
    assert [row.name for row in results.context_sweep] == ["t_g_1000", "t_g_0"]
    assert [row.name for row in results.training_free_sweep] == ["free_t_g_1000", "free_t_g_0", "free_plain_maps"]
    sweeps = (results.context_sweep, results.training_free_sweep, results.harmonization_sweep, results.guidance_sweep, results.shadow_truth)
    assert [row.scenes for sweep in sweeps for row in sweep] == [2] * 13


def test_what_must_be_so_is_so(finished):
    _, results = finished
    rows = {row.name: row.metrics for row in results.rows}
    assert rows[TRUE_SCENE]["shadow"].mean > 0.9
    assert rows[TRUE_PLAIN]["shadow"].mean == 0
    assert "shadow" not in rows[BOTH]  # the tiny decoder's alphas leave no ground free
    same_layers = ("layer_object", "alpha_iou", "overlap", "purity", "psnr", "fid_background")
    assert all(rows[BOTH].get(m) == rows[HARMONIZED].get(m) for m in same_layers)
    sweep = {row.name: row.metrics for row in results.harmonization_sweep}
    exact, everywhere, nowhere = (row.metrics.get("kept") for row in results.guidance_sweep)
    assert exact is None and everywhere is not None and nowhere is not None and nowhere.mean < everywhere.mean < 60
    assert sweep[BOTH]["psnr"] == sweep[HARMONIZED]["psnr"]
    assert sweep[BOTH]["fid_picture"] != sweep[HARMONIZED]["fid_picture"]
    titles = [c.title for c in results.comparisons]
    assert titles == ["adding CACA to LSSA", "adding LSSA to CACA", "adding both", "adding CACA to LSSA of Eq. 10-11 alone", "adding IRH",
                      "the fast preset", "training"]
    assert rows[TRUE_SCENE]["foot_error"].mean == 0 < rows[TRUE_PLAIN]["foot_error"].mean
    assert len(results.goals) == 8  # without shadows, "adding IRH" has none


@pytest.mark.parametrize("gain", [-0.5, 0.0, 0.5])
def test_a_part_must_be_better_beyond_chance(gain: float):
    before, after = ({seed: Record({"placed": [0.5 + 0.01 * (seed % 2) + more]}, {}) for seed in range(20)} for more in (0.0, gain))
    comparisons = compare({"lssa": before, BOTH: after})
    goal, = goals([], comparisons)
    assert goal.text.startswith("adding CACA to LSSA: object in its place") and goal.measured == pytest.approx(gain)
    assert goal.reached == (gain > 0)


def test_a_part_may_be_measured_alone(tiny_dreamlayer, classifier, tmp_path):
    results = evaluate(tiny_dreamlayer, classifier, _options(tmp_path, parts=("guidance",)), {})
    assert [row.scenes for row in results.guidance_sweep] == [2, 2, 2]
    assert {row.scenes for row in (*results.rows, *results.context_sweep, *results.harmonization_sweep)} == {0}
    assert results.comparisons == [] or not any(c.metrics for c in results.comparisons)
    write_report(results, tmp_path / "pictures", tmp_path / "report")
    page = (tmp_path / "report" / "scenes.md").read_text(encoding="utf-8")
    assert "## Guidance interval" in page and "## T_G" not in page


def test_an_evaluation_goes_on_where_it_was_cut_off(finished, tiny_dreamlayer, classifier):
    options, results = finished
    record = options.out / "records" / "caca.json"
    stored = json.loads(record.read_text())
    removed = stored["scenes"].pop("8")
    record.write_text(json.dumps(stored))
    others = {p.name: p.stat().st_mtime_ns for p in record.parent.iterdir() if p != record}
    again = evaluate(tiny_dreamlayer, classifier, options, {"purity": 1.0})
    assert {p.name: p.stat().st_mtime_ns for p in record.parent.iterdir() if p != record} == others
    assert json.loads(record.read_text())["scenes"]["8"]["values"].keys() == removed["values"].keys()
    assert again == results


def test_records_of_another_model_are_not_taken_over(finished, tiny_dreamlayer, classifier):
    options, _ = finished
    with pytest.raises(InputError, match="was measured with model"):
        evaluate(dataclasses.replace(tiny_dreamlayer, adapter=None), classifier, options, {})


def test_the_report_has_every_table_and_its_pictures(finished, tmp_path):
    options, results = finished
    write_report(results, options.out / "pictures", tmp_path)
    page = (tmp_path / "scenes.md").read_text(encoding="utf-8")
    for row in results.rows:
        assert f"| {row.title} |" in page
    assert "| **no** |" in page and "nan" not in page and "## Guidance interval\n\nCACA + LSSA on the first 2 scenes" in page
    for name in ("configurations", "layers", "truth", "t-g", "t-h"):
        assert f"(scenes-{name}.jpg)" in page
        with Image.open(tmp_path / f"scenes-{name}.jpg") as image:
            assert min(image.size) > 64
    write_results(results, tmp_path / "scenes.json")
    stored = json.loads((tmp_path / "scenes.json").read_text(encoding="utf-8"))
    assert stored["rows"][0]["metrics"]["shadow"]["mean"] == results.rows[0].metrics["shadow"].mean
