"""A CFG and a denoise of each row, and guidance in a part of the sampling, against the core's path and ComfyUI's own."""

from __future__ import annotations

import os
from pathlib import Path

import comfy.sample
import comfy.samplers
import pytest
import torch
from graph import ROWS, apart, draw
from safetensors.torch import load_file

RANGE = (1 - 750 / 999, 1 - 250 / 999)  # timesteps from 750 to 250, in shares of the sampling
WHOLE = ROWS - 1


@pytest.fixture
def told(core):
    return lambda said: pytest.raises(core("errors").DreamLayerError, match=said)


@pytest.fixture(scope="module")
def alone(graph):
    """The stock model: what rows do, they do by themselves."""
    return graph.patch(adapter=False, caca=False, lssa=False)


@pytest.fixture(scope="module")
def start(graph):
    """A latent that is not empty."""
    latent = graph.latent()
    return latent | {"samples": draw(*latent["samples"].shape, seed=7)}


@pytest.fixture
def calls(monkeypatch):
    """How many rows each call of a UNet has."""
    seen = list[int]()
    stock = comfy.samplers.calc_cond_batch

    def spied(model, conds, x, *args):
        seen.append(len(x) * sum(bool(group) for group in conds))
        return stock(model, conds, x, *args)

    monkeypatch.setattr(comfy.samplers, "calc_cond_batch", spied)
    return seen


def samples(graph, model, texts, latent, **settings):
    return graph.sample(model, texts, latent, **settings)[0]["samples"]


# The core's latents


@pytest.fixture(scope="module")
def reference():
    return load_file(Path(os.environ["DREAMLAYER_REFERENCE"]))


def run_of_the_core(graph, core, module, texts, **about):
    """(run, unit noise): the reference's noise levels, on 96x64 pixels."""
    model, schedule = graph.model, core("schedule").NoiseSchedule()
    sampling = model.get_model_object("model_sampling")
    sigmas = torch.cat([sampling.sigmas[schedule.timesteps(10)], sampling.sigmas[:1]])
    sockets = module("nodes.sockets")
    layers = sockets.LatentLayers(plan=graph.usual_plan(), rows=ROWS, width=96, height=64)
    run = sockets.SampledTrajectory(
        latents=(), sigmas=sigmas, rows=ROWS, positive=texts[0], negative=texts[1], cfg=4.0, sampler="ddim", seed=0,
        layers=layers, **about)
    return run, core("sampling").initial_noise((ROWS, 4, 16, 24), 3)[0]


def sampled(model, run, noise, cfg, sampler=None):
    # ComfyUI scales noise by sigma below the highest level, where z_t of unit variance is sqrt(1 + sigma²) of it.
    noise = noise * (1 + run.sigmas[0] ** 2).sqrt() / run.sigmas[0]
    latents = comfy.sample.sample_custom(
        model, noise, cfg, sampler or comfy.samplers.sampler_object("ddim"), run.sigmas, run.positive, run.negative,
        torch.zeros_like(noise), seed=0, disable_pbar=True)
    return model.model.process_latent_in(latents) / (1 + run.sigmas[-1] ** 2).sqrt()


@pytest.mark.parametrize(("case", "about"), [
    ("row_cfg", {"layer_cfg": {0: 1.5, 2: 7.0}}), ("interval", {"guidance_range": RANGE}),
    ("row_cfg_interval", {"layer_cfg": {0: 1.0, 3: 6.0}, "guidance_range": RANGE})])
def test_guidance_is_that_of_the_core(graph, core, module, patched, texts, reference, case, about):
    guidance = module("nodes.comfy_model.guidance")
    run, noise = run_of_the_core(graph, core, module, texts, **about)
    model = guidance.guided_model(patched, run, guidance.row_cfgs(run, range(ROWS)))
    assert apart(sampled(model, run, noise, 4.0), reference[f"{case}/latents"]) < 1e-3


def test_starts_are_those_of_the_core(graph, core, module, patched, texts, reference):
    run, noise = run_of_the_core(graph, core, module, texts, start={
        "samples": graph.model.model.process_latent_out(reference["row_starts/clean"])})
    starts = module("nodes.comfy_model.replay").RowStarts.of(graph.model, run, noise, {0: 0.5, 1: 0.3, 2: 0.0})
    model = patched.clone()
    model.add_wrapper_with_key("predict_noise", "test", starts.following())
    sampler = starts.starting(comfy.samplers.sampler_object("ddim"))
    found, expected = sampled(model, run, noise, 4.0, sampler), reference["row_starts/latents"]
    assert apart(found[[0, 1, 3]], expected[[0, 1, 3]]) < 1e-3
    assert torch.equal(starts.ended(found)[2], run.start["samples"][2])


# Properties


@pytest.mark.parametrize("settings", [
    {"layer_cfg": "0: 3, 1: 3, 2: 3.0, 3: 3", "cfg": 7.0}, {"layer_denoise": "0: 1, 2: 1.0"},
    {"guidance_start": 0.0, "guidance_end": 1.0}])
def test_what_says_nothing_new_is_the_ordinary_run_to_the_bit(graph, texts, patched, settings):
    assert torch.equal(samples(graph, patched, texts, graph.latent(), **settings),
                       samples(graph, patched, texts, graph.latent()))


def test_each_row_is_that_of_a_run_with_its_cfg(graph, texts, alone):
    latent = graph.latent(batch=2)
    mixed = samples(graph, alone, texts, latent, layer_cfg="1: 6, 3: 1", cfg=1.0)
    by_cfg = {cfg: samples(graph, alone, texts, latent, cfg=cfg) for cfg in (1.0, 6.0)}
    for index in range(2 * ROWS):
        assert apart(mixed[index], by_cfg[6.0 if index % ROWS == 1 else 1.0][index]) < 1e-4
    assert apart(by_cfg[1.0], by_cfg[6.0]) > 1e-2


def test_functions_of_other_nodes_guide_every_row_with_its_cfg(graph, texts, alone):
    """One that is not linear, and wants a number for the CFG."""
    other = alone.clone()
    other.set_model_sampler_cfg_function(
        lambda args: args["uncond"] + (args["cond"] - args["uncond"]) * min(float(args["cond_scale"]) ** 2, 9.0))
    mixed = samples(graph, other, texts, graph.latent(), layer_cfg="0: 1, 2: 2", cfg=5.0)
    for row, cfg in enumerate((1.0, 9.0, 4.0, 9.0)):
        assert apart(mixed[row], samples(graph, alone, texts, graph.latent(), cfg=cfg)[row]) < 1e-4


def test_outside_the_range_a_step_costs_half(graph, texts, patched, calls):
    """Four steps from timestep 999 on: 999, 749, 499 and 249."""
    found = samples(graph, patched, texts, graph.latent(), steps=4, guidance_start=0.2, guidance_end=0.6, layer_cfg="1: 2")
    assert calls == [ROWS, 2 * ROWS, 2 * ROWS, ROWS]
    assert apart(found, samples(graph, patched, texts, graph.latent(), steps=4, layer_cfg="1: 2")) > 1e-3
    calls.clear()
    never = samples(graph, patched, texts, graph.latent(), steps=4, guidance_start=0.999, guidance_end=1.0, cfg=8.0)
    assert calls == [ROWS] * 4
    assert torch.equal(never, samples(graph, patched, texts, graph.latent(), steps=4, cfg=1.0))


def test_the_harmonisation_is_guided_as_the_whole_was(graph, texts, patched, calls):
    latent, settings = graph.latent(), {"steps": 6, "cfg": 3.0}
    run = graph.sample(patched, texts, latent, layer_cfg=f"{WHOLE}: 6, 1: 2", **settings)
    layers = graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=run[0], views="1")[0]

    def harmonized(trajectory):
        calls.clear()
        return graph.call("Harmonize", model=patched, trajectory=trajectory, layers=layers)[0]["samples"]

    changed = harmonized(run[1])
    assert set(calls) == {2}
    kept = type(run[1])(**{**vars(run[1]), "layer_cfg": {}, "cfg": 6.0})
    assert torch.equal(changed, harmonized(kept))
    half = type(run[1])(**{**vars(run[1]), "guidance_range": (0.0, 0.6)})
    assert apart(changed, harmonized(half)) > 1e-3
    assert set(calls) == {1, 2} and sorted(calls, reverse=True) == calls


@pytest.mark.parametrize("sampler", ["euler", "ddim", "dpmpp_2m", "heun", "euler_ancestral", "dpmpp_sde"])
def test_a_row_of_denoise_0_stays_to_the_bit_and_is_seen(graph, texts, patched, start, sampler):
    found, run, _ = graph.sample(patched, texts, start, layer_denoise="1: 0, 2: 0.5", sampler_name=sampler, steps=4)
    kept, half, free = ((found["samples"][row] - start["samples"][row]).norm() for row in (1, 2, 0))
    assert kept == 0 and 0 < half < free
    assert torch.equal(run.final, found["samples"])
    other = start | {"samples": start["samples"].index_fill(0, torch.tensor(1), 0.5)}
    seen = samples(graph, patched, texts, other, layer_denoise="1: 0, 2: 0.5", sampler_name=sampler, steps=4)
    assert apart(seen[0], found["samples"][0]) > 1e-4


def test_rows_of_a_run_that_keeps_some_of_the_latent(graph, texts, patched, start, told):
    whole = samples(graph, patched, texts, start, steps=4, denoise=0.5)
    assert torch.equal(samples(graph, patched, texts, start, steps=4, denoise=0.5, layer_denoise="1: 0.5"), whole)
    less = samples(graph, patched, texts, start, steps=4, denoise=0.5, layer_denoise="1: 0.25")
    assert (less - start["samples"])[1].norm() < (whole - start["samples"])[1].norm()
    with told("denoise of 0.6 for row 1 in a run of 0.5"):
        samples(graph, patched, texts, start, denoise=0.5, layer_denoise="1: 0.6")


def test_nothing_is_left_on_the_model(graph, texts, patched, start):
    before = (dict(patched.model_options), samples(graph, patched, texts, start))
    samples(graph, patched, texts, start, layer_cfg="1: 2", layer_denoise="2: 0.5", guidance_end=0.5)
    assert patched.model_options.keys() == before[0].keys()
    assert torch.equal(samples(graph, patched, texts, start), before[1])


def test_a_layer_that_is_added_leaves_the_others_their_cfg(graph, texts, patched):
    run = graph.sample(patched, texts, graph.latent(), layer_cfg="0: 2, 1: 4, 3: 6")[1]
    added = graph.call("AddLayer", model=patched, clip=graph.clip, trajectory=run, prompt="a cone", position=1, seed=3)
    assert added[1].layer_cfg == {0: 2.0, 2: 4.0, 4: 6.0}


@pytest.mark.parametrize(("settings", "said"), [
    ({"layer_cfg": "4: 1"}, "a CFG for row 4; this picture's rows are 0"), ({"layer_cfg": "1: 101"}, "the layer CFG '1: 101'"),
    ({"layer_cfg": "1: nan"}, "CFGs of 0 to 100 such as"), ({"layer_cfg": "1: 2, 1: 3"}, "two CFGs for row 1"),
    ({"layer_denoise": "1: 1.5"}, "denoises of 0 to 1 such as"), ({"layer_denoise": "9: 0.5"}, "a denoise for row 9"),
    ({"guidance_start": 0.8, "guidance_end": 0.2}, "got a start of 0.8 and an end of 0.2")])
def test_values_that_cannot_be(graph, pack, texts, patched, told, settings, said):
    with told(said):
        samples(graph, patched, texts, graph.latent(), **settings)
    if "row" not in said:
        assert pack["DreamLayerSampler"].validate_inputs(**settings) is not True
