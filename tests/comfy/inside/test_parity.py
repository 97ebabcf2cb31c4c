"""ComfyUI's path against the core's diffusers path: same weights, noise and settings, same latents."""

from __future__ import annotations

import os
from pathlib import Path

import comfy.sample
import comfy.samplers
import pytest
import torch
from safetensors.torch import load_file

_CASES = ["both", "split", "caca", "lssa", "training_free", "two_stacks", "unguided"]
_STEPS, _SEED, _WIDTH, _HEIGHT = 10, 3, 96, 64


@pytest.fixture(scope="module")
def reference():
    return load_file(Path(os.environ["DREAMLAYER_REFERENCE"]))


@pytest.fixture(scope="module")
def loaded(pack):
    return pack["DreamLayerLoadEmbeddedModel"].execute().args


@pytest.fixture(scope="module")
def plan(pack):
    return pack["DreamLayerPrompts"].execute(
        background="green grass under a blue sky", whole="a sunny picture", negative="gray",
        foregrounds={"foregrounds": "2", "name_1": "ball", "prompt_1": "a red ball", "weight_1": 1.0,
                     "name_2": "cube", "prompt_2": "a shiny blue cube", "weight_2": 1.0}).args[0]


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def sample(core, model, positive, negative, *, guidance=4.0, stacks=1):
    """As the reference samples: DDIM on 10 timesteps, from unit noise, down to the schedule's first noise level."""
    sampling = model.get_model_object("model_sampling")
    timesteps = core("schedule").NoiseSchedule().timesteps(_STEPS)
    sigmas = torch.cat([sampling.sigmas[timesteps], sampling.sigmas[:1]])
    rows = len(positive[0][0])
    noise = core("sampling").initial_noise((rows, 4, _HEIGHT // 4, _WIDTH // 4), _SEED, stacks=stacks).flatten(0, 1)
    # ComfyUI scales noise by sigma below the highest level, where z_t of unit variance is sqrt(1 + sigma²) of it.
    noise = noise * (1 + sigmas[0] ** 2).sqrt() / sigmas[0]
    latents = comfy.sample.sample_custom(
        model, noise, guidance, comfy.samplers.sampler_object("ddim"), sigmas, positive, negative,
        torch.zeros_like(noise), seed=0, disable_pbar=True)
    return model.model.process_latent_in(latents) / (1 + sigmas[-1] ** 2).sqrt()


def settings(case):
    return {"caca": case != "lssa", "lssa": case != "caca", "smoothing": 0.8 if case == "training_free" else 0.0,
            "context_downscale": 2 if case == "training_free" else 0}


def test_embeddings_are_those_of_the_core(pack, loaded, plan, reference):
    _, clip, _, _, adapter = loaded
    positive, _ = pack["DreamLayerEncode"].execute(clip=clip, plan=plan, adapter=adapter).args
    assert error(positive[0][0], reference["both/embedding"]) < 1e-5


@pytest.mark.parametrize("case", _CASES)
def test_latents_are_those_of_the_core(pack, core, loaded, plan, reference, case, monkeypatch):
    model, clip, _, _, adapter = loaded
    adapter = None if case == "training_free" else adapter
    positive, negative = pack["DreamLayerEncode"].execute(clip=clip, plan=plan, adapter=adapter).args
    patched = pack["DreamLayerPatchModel"].execute(model=model, adapter=adapter, **settings(case)).args[0]
    if case == "split":  # as ComfyUI does where memory is short
        monkeypatch.setattr(type(model.model), "memory_required", lambda *args, **kwargs: 1e30)
    found = sample(core, patched, positive, negative, guidance=1.0 if case == "unguided" else 4.0,
                   stacks=2 if case == "two_stacks" else 1)
    assert error(found, reference[f"{case}/latents"]) < 1e-3
