"""Layers to layers: the untouched rows stay as they were to the bit, the new one sees them, with every sampler."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import comfy.patcher_extension
import comfy.samplers
import pytest
import torch
from graph import ROWS, apart, draw
from safetensors.torch import load_file

_ALIKE = 1e-5  # relative; what is left of rounding when the same is computed in another order
_TOLD = 0.05  # relative; what a change is told by, far above rounding


@pytest.fixture(scope="module")
def start(graph, module):
    """Room for one picture of the usual plan, 32 x 32 pixels."""
    about = module("nodes.sockets").LatentLayers(plan=graph.usual_plan(), rows=ROWS, width=32, height=32)
    return {"samples": torch.zeros(ROWS, 4, 8, 8), "dreamlayer": about}


@pytest.fixture(scope="module")
def run(graph, texts, patched, start):
    """LATENT, trajectory and maps of the usual plan."""
    with torch.inference_mode():
        return graph.sample(patched, texts, start)


@pytest.fixture
def regenerate(graph, patched, run):
    """Regenerate Layer on that run."""
    return lambda layer, **inputs: graph.call(
        "RegenerateLayer", **({"model": patched, "clip": graph.clip, "trajectory": run[1], "layer": layer, "seed": 9} | inputs))


@pytest.fixture
def add(graph, patched, run):
    """Add Layer by Prompt on that run."""
    return lambda prompt, **inputs: graph.call(
        "AddLayer", **({"model": patched, "clip": graph.clip, "trajectory": run[1], "prompt": prompt, "seed": 9} | inputs))


def path(run):
    """z_t of every step, and what came out."""
    return [*run[1].latents, run[0]["samples"]]


# One layer anew


@pytest.mark.parametrize("row", range(ROWS - 1))
def test_others_stay_to_the_bit_and_the_new_one_does_not(regenerate, run, row):
    made = regenerate(str(row), prompt="a green cone")
    others = [one for one in range(ROWS - 1) if one != row]
    for old, new in zip(path(run), path(made), strict=True):
        assert torch.equal(new[others], old[others])
        assert apart(new[row], old[row]) > _TOLD
    assert torch.equal(made[1].latents[0][-1], run[1].latents[0][-1]), "the whole starts where it started"
    assert apart(made[0]["samples"][-1], run[0]["samples"][-1]) > 1e-3, "and follows the change"
    assert made[2].shape == run[2].shape
    assert torch.equal(made[0]["samples"], made[1].final)
    texts = ["green grass under a blue sky", "a red ball", "a shiny blue cube"]
    texts[row] = "a green cone"
    assert made[0]["dreamlayer"].plan.prompts.layers == tuple(texts)


@pytest.mark.parametrize(("layer", "row"), [("cube", 2), (" Cube ", 2), ("2", 2), ("1", 1), ("0", 0), ("Background", 0)])
def test_a_layer_by_name_or_number(graph, module, layer, row):
    assert module("nodes.regeneration")._row(graph.usual_plan(), layer) == row


def test_without_a_prompt_it_shows_the_same_by_another_seed(regenerate, run):
    latent, trajectory, _ = regenerate("ball")
    assert latent["dreamlayer"].plan == run[0]["dreamlayer"].plan
    assert torch.equal(trajectory.positive[0][0], run[1].positive[0][0])
    assert apart(latent["samples"][1], run[0]["samples"][1]) > _TOLD


def test_a_layer_called_by_its_prompt_is_called_by_the_new_one(graph, regenerate, run):
    plan = replace(graph.usual_plan(), names=("a red ball", "cube"))
    trajectory = replace(run[1], layers=replace(run[1].layers, plan=plan))
    assert regenerate("1", prompt="a cone", trajectory=trajectory)[0]["dreamlayer"].plan.names == ("a cone", "cube")
    assert regenerate("2", prompt="a cone", trajectory=trajectory)[0]["dreamlayer"].plan.names == ("a red ball", "cube")


def test_the_new_one_sees_the_others(regenerate, run):
    moved = replace(run[1], latents=tuple(torch.cat([z[:2], z[2:3].roll(2, -1), z[3:]]) for z in run[1].latents))
    one, other = (regenerate("ball", trajectory=trajectory)[0]["samples"][1] for trajectory in (run[1], moved))
    assert apart(one, other) > 1e-3


def test_a_run_from_layers_begins_with_the_layer_that_went_in(graph, texts, patched, start, regenerate):
    """The whole start is what it was, so the same seed gives the run again."""
    given = start | {"samples": draw(ROWS, 4, 8, 8, seed=2)}
    found = graph.sample(patched, texts, given, steps=4, seed=9, denoise=0.5, scheduler="normal")
    assert apart(regenerate("ball", trajectory=found[1])[0]["samples"], found[0]["samples"]) < _ALIKE


def test_several_pictures(graph, texts, patched, start, regenerate):
    found = graph.sample(patched, texts, start | {"samples": torch.zeros(2 * ROWS, 4, 8, 8)})
    latent, _, maps = regenerate("ball", prompt="a green cone", trajectory=found[1])
    old, new = (one["samples"].unflatten(0, (2, ROWS)) for one in (found[0], latent))
    assert torch.equal(new[:, [0, 2]], old[:, [0, 2]]) and len(maps) == 4
    assert all(apart(*pair) > _TOLD for pair in zip(new[:, 1], old[:, 1], strict=True))


def test_what_other_nodes_put_on_the_conditioning_stays(graph, patched, texts, start, regenerate):
    positive = [[texts[0][0][0], texts[0][0][1] | {"start_percent": 0.0, "end_percent": 0.9}]]
    trajectory = graph.sample(patched, (positive, texts[1]), start)[1]
    ((_, extra),) = regenerate("ball", prompt="a green cone", trajectory=trajectory)[1].positive
    assert extra["end_percent"] == 0.9 and not torch.equal(extra["dreamlayer"].embeddings, positive[0][0])


@pytest.fixture(scope="module")
def quick(patched):
    """The model with a function in the place of its UNet, in which every row looks at the one before it."""
    model = patched.clone()
    model.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "test", lambda unet, x, *args, **extra: (x + x.roll(1, 0)).tanh())
    return model


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_every_sampler_gives_the_run_again(graph, texts, quick, start, regenerate, sampler):
    """By the same prompt and seed; or it says that it cannot. Noise that a sampler adds comes from the seed as well."""
    others = "0: 1, 1: 2, 3: 3"  # or they would be the same without a replay
    found = graph.sample(
        quick, texts, start, steps=3, seed=9, layer_seeds=others, sampler_name=sampler, scheduler="normal")
    if sampler in ("dpm_fast", "dpm_adaptive"):
        with pytest.raises(ValueError, match=rf"{sampler}.*nothing of its run can be replayed; choose another"):
            regenerate("cube", model=quick, trajectory=found[1])
        return
    again = regenerate("cube", model=quick, trajectory=found[1])
    assert torch.equal(again[0]["samples"][:2], found[0]["samples"][:2])
    assert apart(again[0]["samples"], found[0]["samples"]) < _ALIKE


# One layer more


@pytest.mark.parametrize(("position", "place"), [(0, 3), (1, 1), (2, 2), (3, 3)])
def test_an_added_layer_leaves_the_others_as_they_are(add, run, position, place):
    made = add("a green cone", position=position)
    rows = [row for row in range(ROWS) if row != place]
    for old, new in zip(path(run), path(made), strict=True):
        assert len(new) == ROWS + 1 and torch.equal(new[rows][:3], old[:3])
        assert new[place].std() > 0.01
    plan = made[0]["dreamlayer"].plan
    assert plan.names == tuple(["ball", "cube"][: place - 1] + ["a green cone"] + ["ball", "cube"][place - 1 :])
    assert made[1].rows == made[0]["dreamlayer"].rows == plan.rows == ROWS + 1 and len(made[2]) == 3


def test_one_change_after_another(graph, patched, regenerate, add):
    second = add("a green cone", name="cone", position=1)
    third = regenerate("cone", trajectory=second[1], prompt="a yellow car")
    fourth = add("a small house", trajectory=third[1])
    for old, new, rows in ((second, third, [0, 2, 3]), (third, fourth, [0, 1, 2, 3])):
        assert torch.equal(new[0]["samples"][rows], old[0]["samples"][rows])
    assert fourth[0]["dreamlayer"].plan.prompts.foregrounds == (
        "a yellow car", "a red ball", "a shiny blue cube", "a small house")
    document = graph.call("ImagesToLayers", images=draw(5, 32, 32, 4).sigmoid())[0]
    (picture,) = graph.call("Harmonize", model=patched, trajectory=fourth[1], layers=document, high=1000, low=300)
    assert picture["samples"].shape == (1, 4, 8, 8) and torch.isfinite(picture["samples"]).all()


# From layers that were not sampled


@pytest.fixture
def noised(graph, patched, texts, start):
    """Noise Layers on random latents, and those."""
    def make(**inputs):
        latent = start | {"samples": draw(ROWS, 4, 8, 8, seed=3)}
        (trajectory,) = graph.call("NoiseLayers", **({
            "model": patched, "seed": 4, "steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal",
            "positive": texts[0], "negative": texts[1], "latent_image": latent} | inputs))
        return latent, trajectory
    return make


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2", "dpmpp_sde", "dpm_fast"])
def test_given_layers_stay_to_the_bit(noised, regenerate, sampler):
    """With samplers that call the model between the levels of the trajectory, or at other ones, as well."""
    latent, trajectory = noised(sampler_name=sampler)
    found = regenerate("ball", trajectory=trajectory)[0]["samples"]
    assert torch.equal(found[[0, 2]], latent["samples"][[0, 2]])
    assert torch.isfinite(found).all() and apart(found[1], latent["samples"][1]) > _TOLD


def test_between_levels_noised_layers_are_what_they_would_be_there(module, noised):
    replay = module("nodes.comfy_model.replay").RowReplay
    (_, coarse), (_, fine) = (noised(scheduler="simple", steps=steps) for steps in (2, 4))
    seen = []
    follow = replay.of(coarse, range(ROWS)).following()
    for sigma in fine.sigmas[:3]:
        follow(lambda x, timestep: seen.append(x), torch.zeros(ROWS, 4, 8, 8), sigma.expand(ROWS))
    assert [apart(*pair) < _ALIKE for pair in zip(seen, fine.latents, strict=False)] == [True] * 3


def test_given_layers_are_harmonised(graph, patched, noised):
    document = graph.call("ImagesToLayers", images=draw(3, 32, 32, 4).sigmoid())[0]
    (picture,) = graph.call("Harmonize", model=patched, trajectory=noised()[1], layers=document, high=1000, low=300)
    assert torch.isfinite(picture["samples"]).all()


# The core


@pytest.fixture(scope="module")
def first(graph, texts, patched, core, module):
    """The run that the core changes, from its own start and on its levels; and what unit noise is scaled by for it."""
    sampling, sockets = patched.get_model_object("model_sampling"), module("nodes.sockets")
    sigmas = torch.cat([sampling.sigmas[core("schedule").NoiseSchedule().timesteps(10)], sampling.sigmas[:1]])
    # ComfyUI scales noise by sigma below the highest level, where z_t of unit variance is sqrt(1 + sigma²) of it.
    unit = (1 + sigmas[0] ** 2).sqrt() / sigmas[0]
    empty = torch.zeros(ROWS, 4, 16, 24)
    run = sockets.SampledTrajectory(
        latents=(), sigmas=sigmas, rows=ROWS, positive=texts[0], negative=texts[1], cfg=4.0, sampler="ddim", seed=0,
        layers=sockets.LatentLayers(plan=graph.usual_plan(), rows=ROWS, width=96, height=64), start={"samples": empty})
    noise = module("nodes.regeneration")._noise(empty, ROWS, 3) * unit
    with torch.inference_mode():
        return module("nodes.comfy_model.layered_sampling").sample_run(patched, run, noise)[1], unit


@pytest.mark.parametrize(("node", "inputs", "name"), [
    ("RegenerateLayer", {"layer": "2"}, "regenerated"), ("AddLayer", {"position": 1}, "added")])
def test_latents_are_those_of_the_core(graph, patched, module, first, monkeypatch, node, inputs, name):
    run, unit = first
    noise = module("nodes.regeneration")._noise
    monkeypatch.setattr(module("nodes.regeneration"), "_noise", lambda *args: noise(*args) * unit)
    made = graph.call(
        node, model=patched, clip=graph.clip, trajectory=run, prompt="a green cone", seed=7, **inputs)[0]["samples"]
    expected = load_file(Path(os.environ["DREAMLAYER_REFERENCE"]))[f"{name}/latents"]
    assert apart(patched.model.process_latent_in(made) / (1 + run.sigmas[-1] ** 2).sqrt(), expected) < 1e-3


def test_noised_layers_are_those_of_the_core(graph, patched, texts, core):
    expected = load_file(Path(os.environ["DREAMLAYER_REFERENCE"]))
    images = torch.cat([expected["both/colors"], expected["both/alphas"]], 1).movedim(1, -1)
    (layers,) = graph.call("ImagesToLayers", images=images)
    (latent,) = graph.call("EncodeLayers", vae=graph.vae, layers=layers, plan=graph.usual_plan())
    (found,) = graph.call(
        "NoiseLayers", model=patched, seed=7, steps=10, cfg=4.0, sampler_name="ddim", scheduler="ddim_uniform",
        positive=texts[0], negative=texts[1], latent_image=latent)
    for step, timestep in ((0, 901), (4, 501)):
        z = found.latents[step] / (1 + found.sigmas[step] ** 2).sqrt()
        assert apart(z, expected[f"noised/{timestep}"]) < 1e-3
    assert apart(patched.model.process_latent_in(found.final), expected["noised/-1"]) < 1e-3


# What cannot be


@pytest.mark.parametrize("layer", ["3", "-1", "house", ""])
def test_layers_that_are_not_there(told, regenerate, layer):
    with told(rf"got layer '{layer}' of a picture whose layers are 0 .background., 1 .ball., 2 .cube.; give one of"):
        regenerate(layer)


def test_two_layers_of_one_name(told, regenerate, run):
    plan = replace(run[1].layers.plan, names=("ball", "Ball"))
    with told("got layer 'ball', as layers 1, 2 are called; give the number"):
        regenerate("ball", trajectory=replace(run[1], layers=replace(run[1].layers, plan=plan)))


def test_positions_and_numbers_that_cannot_be(graph, told, add, run):
    with told(r"got position 4 for a new layer; give 1 .right above the background. to 3, or 0"):
        add("a cone", position=4)
    plan = graph.plan(*["a ball"] * 16)
    full = replace(run[1], rows=18, layers=replace(run[1].layers, plan=plan, rows=18))
    with told("got a picture of 16 foregrounds, which is as many as there can be"):
        add("a cone", trajectory=full)


def test_a_new_layer_needs_a_whole_run(graph, told, texts, patched, start, add):
    given = start | {"samples": draw(ROWS, 4, 8, 8)}
    with told("got a run with a denoise of 0.5, in which a new layer has nothing to start from; sample with a denoise of 1"):
        add("a cone", trajectory=graph.sample(patched, texts, given, denoise=0.5)[1])
    masked = given | {"noise_mask": torch.ones(ROWS, 32, 32)}
    with told("denoise of 1 under a mask, in which a new layer has nothing to start from"):
        add("a cone", trajectory=graph.sample(patched, texts, masked)[1])


@pytest.mark.parametrize(("changed", "said"), [
    ({"final": None}, "got a trajectory without its end, of which nothing can be replayed; connect that of Layered KSampler"),
    ({"rows": 2}, "got a trajectory of 2 rows without their prompts; sample a latent that has a plan"),
    ({"positive": []}, "got a run of 0 combined layer conditionings, in which one prompt cannot be changed"),
    ({"latents": (torch.zeros(ROWS, 16, 8, 8),) * 2, "final": torch.zeros(ROWS, 16, 8, 8)},
     "got a trajectory of 16 latent channels for a model of 4; it was sampled with another"),
])
def test_trajectories_that_cannot_be_replayed(told, regenerate, run, changed, said):
    with told(said):
        regenerate("ball", trajectory=replace(run[1], **changed))


def test_a_text_encoder_of_another_model(told, regenerate, run):
    ((text, extra),) = run[1].positive
    with told("got a text encoder of width 128 for a run with prompts of width 32; it was sampled with another model"):
        regenerate("ball", trajectory=replace(run[1], positive=[[text[..., :32], extra]]))
