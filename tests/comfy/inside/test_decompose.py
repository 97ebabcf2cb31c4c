"""Invert Image and Decompose, called as ComfyUI calls them: the core's latents, and what people put in."""

from __future__ import annotations

import asyncio

import comfy.model_management
import comfy.sample
import comfy.samplers
import execution
import pytest
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete
from graph import apart, denoise

METHODS = {
    "replay": {},
    "ddim": {"method": "ddim", "cfg": 3.0},
    "unmasked": {"method": "ddim", "masked": False},
    "global_queries": {"method": "ddim", "mask_queries": "global"},
    "fixed_point": {"method": "fixed-point", "iterations": 3},
    "exact": {"method": "exact"},
}
BOX = "20, 12, 30, 24"


@pytest.fixture(scope="module")
def picture(reference):
    """IMAGE of 60x45, which fills no whole cells."""
    return image(reference["pictures"][:1])


@pytest.fixture(scope="module")
def invert(graph, texts, patched):
    """Invert Image on the usual plan: the inversion and the noise."""
    plan = graph.usual_plan()

    def run(picture: torch.Tensor, model=None, **settings):
        usual = {"plan": plan, "positive": texts[0], "negative": texts[1], "steps": 2}
        return graph.call("InvertImage", model=model or patched, vae=graph.vae, image=picture, **(usual | settings))

    return run


@pytest.fixture(scope="module")
def decompose(graph, texts, patched):
    """Decompose: layered latent, trajectory, context maps."""

    def run(inversion, model=None, cfg: float = 4.0, **settings):
        usual = {"positive": texts[0], "negative": texts[1], "cfg": cfg}
        return graph.call("Decompose", model=model or patched, inversion=inversion, **(usual | settings))

    return run


def image(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.movedim(1, -1).contiguous()


def encoded(graph, inversion):
    """LATENT of every row as it went in."""
    return graph.model.model.process_latent_out(inversion.inversion.trajectory.latents[-1].flatten(0, 1))


# ---- as the core


@pytest.mark.parametrize("name", METHODS)
def test_noise_and_layers_are_those_of_the_core(graph, invert, decompose, reference, picture, name) -> None:
    inversion, _ = invert(picture, steps=6, **METHODS[name])
    assert apart(inversion.inversion.noise, reference[f"decompose/{name}/noise"]) < 1e-3
    found = graph.model.model.process_latent_in(decompose(inversion)[0]["samples"])
    assert apart(found, reference[f"decompose/{name}/latents"].flatten(0, 1)) < 1e-3


@pytest.mark.parametrize("split", [False, True], ids=["together", "one by one"])
def test_steered_pictures_of_a_batch_are_those_of_the_core(
    graph, invert, decompose, reference, split, monkeypatch
) -> None:
    one = {"width": 60, "height": 45}
    (box,) = graph.call("ContextSteering", layer=1, boxes=BOX, **one)
    masks = reference["mask"].expand(2, -1, -1)  # a mask a picture: of each part its own
    (both,) = graph.call("ContextSteering", layer=2, mask=masks, steering=box, **one)
    model = graph.patch(steering=both)
    if split:  # as ComfyUI does where memory is short
        monkeypatch.setattr(type(model.model), "memory_required", lambda *args, **kwargs: 1e30)
    inversion, _ = invert(image(reference["pictures"]), model, steps=6)
    assert apart(inversion.inversion.noise, reference["decompose/steered/noise"]) < 1e-3
    found = graph.model.model.process_latent_in(decompose(inversion, model)[0]["samples"])
    assert apart(found, reference["decompose/steered/latents"].flatten(0, 1)) < 1e-3


# ---- the round trip


def test_replayed_the_whole_is_the_picture_bit_for_bit(graph, invert, decompose, picture) -> None:
    inversion, _ = invert(picture)
    latent = decompose(inversion)[0]
    assert torch.equal(latent["samples"][-1], encoded(graph, inversion)[-1])
    whole = graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=latent, views="1")[4]
    assert whole.shape == picture.shape


@pytest.mark.parametrize("cfg", [1.0, 7.5])
def test_exact_finds_the_picture_in_every_row_again(graph, invert, decompose, picture, cfg) -> None:
    inversion, _ = invert(picture, method="exact", cfg=cfg, masked=False, iterations=2)
    assert apart(decompose(inversion, cfg=cfg)[0]["samples"], encoded(graph, inversion)) < 1e-5


def test_the_noise_goes_into_other_samplers(graph, texts, patched, invert, decompose, picture) -> None:
    inversion, noise = invert(picture, method="ddim", steps=4)
    latent, run, _ = decompose(inversion)
    levels = torch.cat([run.sigmas[:-1], inversion.inversion.schedule.sigmas[:1]])
    found = comfy.sample.sample_custom(
        patched, torch.zeros_like(noise["samples"]), 4.0, comfy.samplers.sampler_object("ddim"), levels, *texts,
        noise["samples"], disable_pbar=True, seed=0)
    assert apart(found / (1 + levels[-1] ** 2).sqrt(), latent["samples"]) < 1e-4


# ---- what it leads to


def test_layers_and_harmonized_picture_have_the_pictures_size(graph, patched, invert, decompose, picture) -> None:
    latent, run, maps = decompose(invert(picture, steps=10)[0])
    assert run.layers.plan.names == ("ball", "cube")
    layers, images, *_ = graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=latent, views="1")
    assert images.shape == (3, 45, 60, 4) and maps.shape == (2, 45, 60, 3) and float(maps.std()) > 0
    harmonized = graph.call("Harmonize", model=patched, trajectory=run, layers=layers)[0]["samples"]
    assert harmonized.shape == (1, *latent["samples"].shape[1:]) and bool(torch.isfinite(harmonized).all())


def test_one_layer_of_it_can_be_sampled_anew(graph, patched, invert, decompose, picture) -> None:
    latent, run, _ = decompose(invert(picture, steps=4)[0])
    changed, *_ = graph.call("RegenerateLayer", model=patched, clip=graph.clip, trajectory=run, layer="1", prompt="a green tree", seed=3)
    same = [torch.equal(*rows) for rows in zip(changed["samples"], latent["samples"], strict=True)]
    assert same == [True, False, True, False]


def test_a_batch_is_taken_apart_picture_by_picture(reference, graph, invert, decompose) -> None:
    pictures = image(reference["pictures"])
    both, alone = invert(pictures)[0], invert(pictures[1:])[0]
    assert apart(both.inversion.noise[1:], alone.inversion.noise) < 1e-3
    latent = decompose(both)[0]
    assert latent["samples"].shape[0] == 8
    assert graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=latent, views="1")[3].shape == pictures.shape


def test_transparency_counts_as_white(graph, invert, picture) -> None:
    alpha = torch.ones(1, 45, 60, 1)
    alpha[:, :, :30] = 0.25
    white = picture * alpha + (1 - alpha)
    with_alpha, flat = (invert(one)[0].inversion.noise for one in (torch.cat([picture, alpha], -1), white))
    assert torch.equal(with_alpha, flat)


def test_an_example_scene_is_what_its_layers_and_words_say(graph) -> None:
    picture, plan, layers = graph.call("Scene", seed=12, foregrounds=3)
    assert picture.shape == (1, 128, 128, 3)
    assert [layer["prompt"] for layer in layers["layers"]] == [*plan.prompts.layers] and plan.rows == 5
    difference, psnr, _ = graph.call("RecomposeCheck", layers=layers, image=picture)
    assert psnr > 18 and float(difference.amax(-1).median()) == 0, "only shadows and reflections are missing"
    assert graph.encode(plan)[0][0][0].shape[0] == 5


# ---- as a run goes


def test_nothing_of_a_run_stays_on_the_model(graph, texts, patched, invert, decompose, picture, noise) -> None:
    before = denoise(patched, texts, noise)
    decompose(invert(picture)[0])
    assert apart(denoise(patched, texts, noise), before) == 0
    assert "dreamlayer_mask" not in patched.model_options["transformer_options"]


def test_progress_of_every_step(invert, decompose, picture, monkeypatch) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "comfy.utils.ProgressBar.update_absolute", lambda bar, value, total=None, preview=None: seen.append((value, total)))
    inversion = invert(picture, steps=3, method="fixed-point", iterations=2)[0]
    decompose(inversion)
    assert seen == [(1, 3), (2, 3), (3, 3)] * 2


@pytest.mark.parametrize("node", ["InvertImage", "Decompose"])
def test_it_can_be_cancelled(invert, decompose, picture, node, monkeypatch) -> None:
    inversion = invert(picture)[0]

    def cancel(*args) -> None:
        comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr("comfy.utils.ProgressBar.update_absolute", cancel)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        invert(picture) if node == "InvertImage" else decompose(inversion)


# ---- what cannot be


def test_pictures_that_do_not_work(invert, told, picture) -> None:
    with told("got a size of 12x45; give sides of 16 to 4096 pixels"):
        invert(picture[:, :, :12])
    with told("NaN or infinite pixels"):
        invert(picture * torch.nan)


def test_prompts_that_do_not_fit(graph, texts, invert, decompose, told, picture) -> None:
    other = graph.plan("a red ball")
    with told("got prompts for 3 layers and a latent for 2; give Encode Layers and Invert Image the same plan"):
        invert(picture, plan=other)
    with told("not layered"):
        invert(picture, positive=texts[1])
    inversion = invert(picture)[0]
    with told("got prompts for 2 layers and a latent for 3"):
        decompose(inversion, positive=graph.encode(other)[0])


def test_a_model_of_other_noise_levels(graph, invert, decompose, told, picture) -> None:
    inversion = invert(picture)[0]
    changed = ModelSamplingDiscrete().patch(graph.patch(), "v_prediction", zsnr=True)[0]
    with told("other noise levels; give Invert Image and Decompose the same model"):
        decompose(inversion, changed)


@pytest.mark.parametrize(("change", "said"), [
    ({}, ""),
    ({"method": "exact", "steps": 1}, "got 1 steps for an exact inversion; give 2 or more"),
    ({"method": "euler"}, "got an inversion by 'euler'; give one of ddim, fixed-point, exact, replay"),
    ({"steps": 0}, "got 0 steps; give 1 to 1000"),
    ({"gamma": 0.2}, "smaller than min of 0.5"),
])
def test_told_at_validation(pack, change, said) -> None:
    settings = {"method": "replay", "steps": 4, "cfg": 1.0, "masked": True, "mask_queries": "all", "iterations": 3,
                "tolerance": 1e-6, "gamma": 1.0}
    texts = {"positive": ["Encode", 0], "negative": ["Encode", 1]}
    graph = {
        "LoadEmbeddedModel": {},
        "Scene": {"seed": 1, "foregrounds": 2},
        "Encode": {"clip": ["LoadEmbeddedModel", 1], "plan": ["Scene", 1]},
        "InvertImage": {"model": ["LoadEmbeddedModel", 0], "vae": ["LoadEmbeddedModel", 2], "image": ["Scene", 0],
                        "plan": ["Scene", 1], **texts, **settings, **change},
        "Decompose": {"model": ["LoadEmbeddedModel", 0], "inversion": ["InvertImage", 0], "cfg": 2.0, **texts},
    }
    prompt = {name: {"class_type": f"DreamLayer{name}", "inputs": inputs} for name, inputs in graph.items()}
    prompt["Shown"] = {"class_type": "PreviewImage", "inputs": {"images": ["Decompose", 2]}}
    valid, _, _, errors = asyncio.run(execution.validate_prompt("test", prompt, None))
    assert valid == (not said)
    assert said in str(errors).replace("\\'", "'")
