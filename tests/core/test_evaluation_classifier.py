"""The scene classifier: its form, its file, its training, and, where its weights are committed, what it is worth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from dreamlayer_core.cli.app import app
from dreamlayer_core.errors import WeightsError
from dreamlayer_core.evaluation.classifier import (
    COLOR_NAMES,
    EMBEDDED_CLASSIFIER,
    KIND_NAMES,
    NONE,
    SceneClassifier,
    load_classifier,
    save_classifier,
)
from dreamlayer_core.evaluation.classifier_training import ClassifierStage, cell_shares, train_classifier
from dreamlayer_core.evaluation.frechet import frechet_distance
from dreamlayer_core.evaluation.pictures import true_pictures
from dreamlayer_core.evaluation.validation import validate_classifier
from dreamlayer_core.scenes import make_scene
from dreamlayer_core.training.data import SceneCache, render_scenes
from dreamlayer_core.training.options import TrainOptions


@pytest.fixture(scope="module")
def classifier() -> SceneClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(0)
        return SceneClassifier().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    render_scenes(folder, 1, side=32)
    return folder


@pytest.mark.parametrize("size", [(128, 128), (64, 96), (50, 37), (16, 16)])
def test_scores_are_probabilities_of_the_pictures_own_size(classifier, size):
    scores = classifier(torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)))
    assert scores.kind.shape == (2, NONE + 1, *size)
    assert scores.color.shape == (2, len(COLOR_NAMES), *size)
    for part in (scores.kind, scores.color):
        assert torch.allclose(part.sum(1), torch.ones(2, *size), atol=1e-5)
    assert classifier.features(torch.rand(3, 3, *size)).shape == (3, classifier.settings.widths[2])


def test_pictures_of_a_batch_do_not_mix(classifier):
    pictures = torch.rand(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    alone = classifier(pictures[1:2])
    assert torch.allclose(classifier(pictures).kind[1:2], alone.kind, atol=1e-5)


def test_a_file_gives_back_the_same_classifier(classifier, tmp_path):
    path = tmp_path / "classifier.safetensors"
    save_classifier(classifier, path, validation={"purity": 0.5})
    loaded, validation = load_classifier(path)
    assert path.stat().st_size < 1.5e6
    assert validation == {"purity": 0.5}
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(loaded(picture).kind, classifier(picture).kind, atol=0.01)
    assert not any(p.requires_grad for p in loaded.parameters())


def test_other_files_are_refused_with_what_they_are(classifier, tmp_path):
    path = tmp_path / "classifier.safetensors"
    save_classifier(classifier, path, validation={})
    tensors = load_file(path)
    with pytest.raises(WeightsError, match="no such file"):
        load_classifier(tmp_path / "missing.safetensors")
    save_file(tensors, tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match="give a scene classifier"):
        load_classifier(tmp_path / "plain.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="truncated"):
        load_classifier(path)


def test_a_classifier_of_other_kinds_of_objects_is_refused(classifier, tmp_path, monkeypatch):
    path = tmp_path / "classifier.safetensors"
    save_classifier(classifier, path, validation={})
    monkeypatch.setattr("dreamlayer_core.evaluation.classifier.KIND_NAMES", (*KIND_NAMES[:-1], "anvil"))
    with pytest.raises(WeightsError, match="train the classifier again"):
        load_classifier(path)


def test_cell_shares_are_the_visible_parts_of_every_kind_and_colour():
    scene = make_scene(5, foregrounds=3)
    shares = cell_shares(torch.from_numpy(scene.alphas), [(o.kind, o.color) for o in scene.objects])
    kinds, colors = shares[: NONE + 1], shares[NONE + 1 :]
    assert shares.shape == (NONE + 1 + len(COLOR_NAMES), 64, 64)
    assert torch.allclose(kinds.sum(0), torch.ones(64, 64), atol=1e-5)
    assert torch.allclose(colors.sum(0), 1 - kinds[NONE], atol=1e-5)
    visible = torch.from_numpy(scene.visible)
    first = scene.objects[0].kind
    wanted = sum(float(v.sum()) for v, o in zip(visible, scene.objects, strict=True) if o.kind == first)
    assert float(kinds[KIND_NAMES.index(first)].sum() * 4) == pytest.approx(wanted, rel=1e-4)


def test_batches_depend_on_their_generator_alone(rendered):
    stage = ClassifierStage(SceneCache(rendered))
    first, again, other = (stage.batch(torch.Generator().manual_seed(seed), 6) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    pictures, kinds, colors = first
    assert pictures.shape == (6, 3, 32, 32) and 0 <= pictures.min() and pictures.max() <= 1
    assert torch.allclose(kinds[:, :NONE].sum(1), colors.sum(1), atol=1e-5)


def test_training_lowers_the_loss_and_writes_a_classifier_that_loads(rendered, tmp_path):
    stage = ClassifierStage(SceneCache(rendered))
    batch = stage.batch(torch.Generator().manual_seed(0), 16)
    before = float(stage.module(batch)["loss"].detach())
    options = TrainOptions(data=rendered, out=tmp_path, model=None, steps=30, batch=16, learning_rate=None, minutes=None, resume=False,
                           seed=0, precision="bf16")
    path = train_classifier(options, validation_scenes=2)
    trained, validation = load_classifier(path)
    stage.model.load_state_dict(trained.state_dict())
    assert float(stage.module(batch)["loss"].detach()) < 0.8 * before
    assert validation["scenes"] == 2 and 0 <= validation["layer_object"] <= 1


def test_the_command_takes_no_model_for_a_classifier(rendered, tmp_path):
    run = CliRunner().invoke(app, ["train", "classifier", "--data", str(rendered), "--out", str(tmp_path), "--model", str(tmp_path)])
    assert run.exit_code == 2 and "trained on scenes alone" in run.stderr


@pytest.fixture(scope="module")
def committed() -> SceneClassifier:
    if not EMBEDDED_CLASSIFIER.exists():
        pytest.skip("the package holds no classifier weights; `dreamlayer train classifier` makes them")
    return load_classifier()[0]


def test_the_committed_classifier_sees_true_scenes_as_they_are(committed):
    assert EMBEDDED_CLASSIFIER.stat().st_size <= 1.5e6
    figures = validate_classifier(committed, 32)
    for metric in ("layer_object", "placed", "plain_placed", "found"):
        assert figures[metric] >= 0.93, metric
    assert figures["alpha_iou"] >= 0.88
    assert figures["purity"] >= 0.97 and figures["detection"] >= 0.97
    assert figures["wrong_found"] <= 0.02
    assert figures["shadow"] >= 0.95 and figures["plain_shadow"] <= 0.05


def test_the_committed_classifiers_distance_grows_with_corruption(committed):
    pictures = torch.stack([true_pictures(make_scene(seed, split="test"))[0].whole for seed in range(60)])
    others = torch.stack([true_pictures(make_scene(1000 + seed, split="test"))[0].whole for seed in range(60)])
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(0))
    reference = committed.features(others)
    distances = [frechet_distance(committed.features((pictures + level * noise).clamp(0, 1)), reference)
                 for level in (0.0, 0.2, 0.4)]
    assert distances == sorted(distances) and distances[2] > 2 * distances[0]
