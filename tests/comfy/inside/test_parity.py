"""ComfyUI's path against the core's diffusers path: same weights, noise and settings, same latents."""

from __future__ import annotations

import json
import os

import comfy.sample
import comfy.samplers
import comfy.sd
import pytest
import sd15
import torch
from safetensors import safe_open

_CASES = ["both", "split", "caca", "lssa", "training_free", "refined", "two_stacks", "unguided"]
_STEPS, _SEED, _WIDTH, _HEIGHT = 10, 3, 96, 64


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


def levels(core, model):
    """The reference's noise levels: DDIM on 10 timesteps, down to the schedule's first one."""
    sampling = model.get_model_object("model_sampling")
    timesteps = core("schedule").NoiseSchedule().timesteps(_STEPS)
    return torch.cat([sampling.sigmas[timesteps], sampling.sigmas[:1]])


def sample(core, model, positive, negative, *, guidance=4.0, stacks=1):
    """As the reference samples, from unit noise."""
    sigmas, rows = levels(core, model), len(positive[0][0])
    noise = core("sampling").initial_noise((rows, 4, _HEIGHT // 4, _WIDTH // 4), _SEED, stacks=stacks).flatten(0, 1)
    # ComfyUI scales noise by sigma below the highest level, where z_t of unit variance is sqrt(1 + sigma²) of it.
    noise = noise * (1 + sigmas[0] ** 2).sqrt() / sigmas[0]
    latents = comfy.sample.sample_custom(
        model, noise, guidance, comfy.samplers.sampler_object("ddim"), sigmas, positive, negative,
        torch.zeros_like(noise), seed=0, disable_pbar=True)
    return model.model.process_latent_in(latents) / (1 + sigmas[-1] ** 2).sqrt()


def settings(case):
    by_hand = {"refinement": "by hand", "smoothing": 0.8, "floor": 0.2, "self_attention": 1}
    return {"caca": case != "lssa", "lssa": case != "caca", **(by_hand if case == "refined" else {})}


def test_embeddings_are_those_of_the_core(pack, loaded, plan, reference):
    _, clip, _, _, adapter = loaded
    positive, _ = pack["DreamLayerEncode"].execute(clip=clip, plan=plan, adapter=adapter).args
    assert error(positive[0][0], reference["both/embedding"]) < 1e-5


@pytest.mark.parametrize("case", _CASES)
def test_latents_are_those_of_the_core(pack, core, loaded, plan, reference, case, monkeypatch):
    model, clip, _, _, adapter = loaded
    adapter = None if case in ("training_free", "refined") else adapter
    positive, negative = pack["DreamLayerEncode"].execute(clip=clip, plan=plan, adapter=adapter).args
    patched = pack["DreamLayerPatchModel"].execute(model=model, adapter=adapter, **settings(case)).args[0]
    if case == "split":  # as ComfyUI does where memory is short
        monkeypatch.setattr(type(model.model), "memory_required", lambda *args, **kwargs: 1e30)
    found = sample(core, patched, positive, negative, guidance=1.0 if case == "unguided" else 4.0,
                   stacks=2 if case == "two_stacks" else 1)
    assert error(found, reference[f"{case}/latents"]) < 1e-3


def test_latents_of_an_sd15_shaped_model_are_those_of_the_core(core, module, reference):
    with safe_open(os.environ["DREAMLAYER_REFERENCE"], "pt") as file:
        weights = sd15.unet_weights(json.loads(file.metadata()["sd15"]))
    settings, prompts = core("weights"), core("prompts")
    adapter = settings.Adapter(
        settings=settings.AdapterSettings(**sd15.ADAPTER), layer_assign=torch.zeros(0, 768), context_layers={},
        shared_kv=sd15.adapter_weights(weights, "shared"), foreground_kv=sd15.adapter_weights(weights, "foreground"),
        cell_attention=sd15.cell_attention(weights))
    model = comfy.sd.load_diffusion_model_state_dict(weights, model_options={"dtype": torch.float32})
    patched = module("nodes.comfy_model.layer_patch").patch_model(model, adapter, core("config").LayerAttentionConfig())
    embedding = prompts.LayeredEmbedding(
        sd15.embeddings(), tuple(prompts.TokenSpan(*one) for one in sd15.OWN_SPANS),
        tuple(prompts.TokenSpan(*one) for one in sd15.SPANS), prompts.TokenSpan(10, 0))
    sigmas = levels(core, model)
    latents = comfy.sample.sample_custom(
        patched, sd15.noise() * (1 + sigmas[0] ** 2).sqrt() / sigmas[0], sd15.GUIDANCE,
        comfy.samplers.sampler_object("ddim"), sigmas, [[embedding.embeddings, {"dreamlayer": embedding}]],
        [[sd15.negative(), {}]], torch.zeros(sd15.ROWS, 4, sd15.CELLS, sd15.CELLS), seed=0, disable_pbar=True)
    found = model.model.process_latent_in(latents) / (1 + sigmas[-1] ** 2).sqrt()
    assert error(found, reference["sd15/latents"]) < 1e-3


def test_the_unpatched_model_does_something_else(pack, core, loaded, plan, reference):
    model, clip, _, _, adapter = loaded
    positive, negative = pack["DreamLayerEncode"].execute(clip=clip, plan=plan, adapter=adapter).args
    assert error(sample(core, model, positive, negative), reference["both/latents"]) > 0.1


def test_harmonised_picture_and_layers_are_those_of_the_core(pack, core, module, loaded, plan, reference):
    model, clip, vae, decoder, adapter = loaded
    positive, negative = pack["DreamLayerEncode"].execute(clip=clip, plan=plan, adapter=adapter).args
    patched = pack["DreamLayerPatchModel"].execute(model=model, adapter=adapter).args[0]
    harmonize, sockets = module("nodes.comfy_model.harmonize"), module("nodes.sockets")
    recorder = harmonize.Recorder(levels(core, patched))
    recording = patched.clone()
    recording.add_wrapper_with_key("predict_noise", "test", recorder.predict_noise)
    scale = model.model.latent_format.scale_factor
    samples = sample(core, recording, positive, negative) / scale
    about = sockets.LatentLayers(plan=plan, rows=4, width=_WIDTH, height=_HEIGHT)
    decoded = pack["DreamLayerDecode"].execute(
        vae=vae, decoder=decoder, samples={"samples": samples, "dreamlayer": about}, views="1").args
    alphas = 1 - decoded[2]
    # What a sampler leaves by rounding grows in the decoders; a step of 8 bits is 4e-3.
    expected = reference["both/alphas"][:, 0]
    # Below 8/255 alpha is cut off: what lies at the cut may fall on either side.
    clear = ((expected - 8 / 255).abs() > 4e-3) & ((alphas - 8 / 255).abs() > 4e-3)
    assert clear.float().mean() > 0.95 and (alphas - expected)[clear].abs().max() < 4e-3
    # Where a layer is transparent its colours mean nothing.
    shown = ((decoded[1][..., :3].movedim(-1, 1) - reference["both/colors"]) * (expected * clear)[:, None]).abs()
    assert shown.max() < 8e-3
    trajectory = sockets.SampledTrajectory(
        latents=recorder.trajectory(), sigmas=levels(core, patched), rows=4, positive=positive, negative=negative, cfg=4.0,
        sampler="ddim", seed=0, layers=about)
    latents = harmonize.harmonize(
        patched, trajectory, alphas[1:][None, :, None], core("config").HarmonizationConfig(), 1.0)
    latents = latents / (1 + trajectory.sigmas[-1] ** 2).sqrt()
    picture = vae.decode(latents)[0, :, :_WIDTH]
    assert (picture.movedim(-1, 0) - reference["both/harmonized"][0]).abs().max() < 8e-3
