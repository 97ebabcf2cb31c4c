"""Settings for many layers, on ComfyUI's attention: they go through the core's own functions."""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import pytest
import torch

_CELLS = (16, 22)  # odd at the deepest stages


@pytest.fixture(scope="module")
def sampled(pack, core, module):
    model, clip, _, _, _ = pack["DreamLayerLoadEmbeddedModel"].execute().args
    plan = pack["DreamLayerPrompts"].execute(
        background="green grass under a blue sky", whole="", negative="gray",
        foregrounds={"foregrounds": "2", "name_1": "ball", "prompt_1": "a red ball", "weight_1": 1.0,
                     "name_2": "cube", "prompt_2": "a shiny blue cube", "weight_2": 1.0}).args[0]
    positive, negative = pack["DreamLayerEncode"].execute(clip=clip, plan=plan, adapter=None).args
    patch_model, settings = module("nodes.comfy_model.layer_patch").patch_model, core("config").LayerAttentionConfig

    def run(**options):
        patched = patch_model(model, None, settings(downscale=2, context_threshold=0, **options))
        noise = core("sampling").initial_noise((4, 4, *_CELLS), 3, stacks=2).flatten(0, 1)
        with torch.inference_mode():
            return comfy.sample.sample_custom(
                patched, noise, 4.0, comfy.samplers.sampler_object("euler"), torch.tensor([10.0, 3.0, 1.0, 0.0]),
                positive, negative, torch.zeros_like(noise), seed=0, disable_pbar=True)

    return run


@pytest.fixture(scope="module")
def exact(sampled):
    return sampled()


@pytest.mark.parametrize("options", [{"attention_memory": 1}, {"cross_keys": "region", "region_threshold": 0.0}])
def test_chunks_and_regions_of_every_cell_are_exact(sampled, exact, options):
    torch.testing.assert_close(sampled(**options), exact, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("options", [{"cross_keys": "pooled"}, {"cross_keys": "region", "region_threshold": 0.3}])
def test_approximated_keys_are_near(sampled, exact, options):
    error = float((sampled(**options) - exact).norm() / exact.norm())
    off = float((sampled(lssa=False) - exact).norm() / exact.norm()) if options["cross_keys"] == "pooled" else 1.0
    assert 1e-4 < error < off


def test_noise_levels_are_those_of_the_models_own_timesteps(core, pack):
    schedule, model = core("schedule"), pack["DreamLayerLoadEmbeddedModel"].execute().args[0]
    sampling = model.get_model_object("model_sampling")
    levels = [schedule.paper_timestep(schedule.exploded_signal(float(sigma))) for sigma in sampling.sigmas]
    assert levels == [int(sampling.timestep(sigma)) for sigma in sampling.sigmas] == list(range(1000))
