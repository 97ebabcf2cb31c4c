"""The chain of nodes as a graph calls them, and stock samplers with the patched model."""

from __future__ import annotations

import math

import comfy.cli_args
import comfy.sample
import comfy.samplers
import comfy.utils
import comfy_extras.nodes_custom_sampler as custom
import folder_paths
import latent_preview
import pytest
import torch
from graph import ROWS, apart, draw
from safetensors.torch import save_file

import nodes as comfy_nodes

_SAME = 1e-4


def unit_noise(core, latent, seed):
    """What Layered KSampler starts from, for the model's own latents."""
    return core("sampling").initial_noise((ROWS, 4, *(2 * side for side in latent["samples"].shape[-2:])), seed).flatten(0, 1)


# From words to layers and back


@pytest.fixture(scope="module")
def run(graph, texts, patched):
    """A picture of 100x70 from its words."""
    with torch.inference_mode():
        latent = graph.latent(width=100, height=70)
        sampled, trajectory, maps = graph.sample(patched, texts, latent, steps=3)
        names = "layers", "images", "masks", "composite", "whole"
        decoded = graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=sampled, views="1")
        return {"latent": latent, "sampled": sampled, "trajectory": trajectory, "maps": maps} | dict(
            zip(names, decoded, strict=True))


def test_plan_in_words(graph):
    plan, text, _ = graph.call("Prompts", background="grass", whole="", negative="blur", foregrounds={
        "foregrounds": "2", "name_1": "a/b", "prompt_1": "a ball", "weight_1": 1.2, "name_2": "", "prompt_2": "a cube"})
    assert plan.rows == ROWS and plan.names == ("a/b", "layer 2") and plan.weights == (1.2, 1.0)
    assert text == "background: grass\na/b: a ball (weight 1.2)\nlayer 2: a cube\nnegative: blur"


def test_sampled_rows(run):
    """Of whole cells of the UNet's deepest stage: 128x128 pixels."""
    assert run["latent"]["samples"].shape == (ROWS, 4, 16, 16), "in cells of 8 pixels, for any model"
    assert run["sampled"]["samples"].shape == (ROWS, 4, 32, 32)
    assert torch.isfinite(run["sampled"]["samples"]).all()
    assert "downscale_ratio_spacial" not in run["sampled"]
    assert len(run["trajectory"].latents) == 3 and run["trajectory"].latents[0].shape == (ROWS, 4, 32, 32)


def test_context_maps(run):
    maps = run["maps"]
    assert maps.shape == (2, 70, 100, 3) and 0 <= maps.min() and maps.max() <= 1
    assert maps.std() > 0.05 and apart(maps[0], maps[1]) > 0.01


def test_decoded_layers(run):
    images, masks = run["images"], run["masks"]
    assert images.shape == (3, 70, 100, 4) and masks.shape == (3, 70, 100)
    assert 0 <= images.min() and images.max() <= 1
    assert torch.equal(masks, 1 - images[..., 3]) and (images[0, ..., 3] == 1).all()
    assert run["whole"].shape == run["composite"].shape == (1, 70, 100, 3)
    assert images[1:, ..., 3].std() > 0.01, "there is something to see"


def test_composite_is_equation_1(run):
    background, *foregrounds = run["images"].double()
    expected = background[..., :3]
    for layer in foregrounds:
        color, alpha = layer[..., :3], layer[..., 3:]
        expected = alpha * color + (1 - alpha) * expected
    assert (run["composite"][0] - expected).abs().max() < 1e-5


def test_layer_document(graph, run):
    document = run["layers"]
    assert tuple(document["canvas"]) == (100, 70)
    assert [layer["name"] for layer in document["layers"]] == ["background", "ball", "cube"]
    assert [layer.get("prompt") for layer in document["layers"]] == [
        "green grass under a blue sky", "a red ball", "a shiny blue cube"]
    image, mask = graph.call("Flatten", layers=document)
    assert (image - run["composite"]).abs().max() < 1e-5 and mask.max() == 0


def test_harmonised_picture(graph, run, patched):
    (latent,) = graph.call("Harmonize", model=patched, trajectory=run["trajectory"], layers=run["layers"], high=1000, low=600)
    assert latent["samples"].shape == (1, 4, 32, 32)
    (picture,) = comfy_nodes.VAEDecode().decode(graph.vae, latent)
    assert picture.shape == (1, 128, 128, 3) and torch.isfinite(picture).all()
    (weak,) = graph.call(
        "Harmonize", model=patched, trajectory=run["trajectory"], layers=run["layers"], high=1000, low=600, strength=0.0)
    assert apart(weak["samples"], latent["samples"]) > 1e-3


def test_layers_back_to_latents(graph, run, texts, patched):
    (latent,) = graph.call("EncodeLayers", vae=graph.vae, layers=run["layers"])
    about = latent["dreamlayer"]
    assert latent["samples"].shape == (ROWS, 4, 24, 32), "70 pixels are padded to 96, 100 to 128"
    assert (about.rows, about.width, about.height, about.plan.names) == (ROWS, 100, 70, ("ball", "cube"))
    whole = graph.vae.decode(latent["samples"][-1:])[0, :70, :100]
    assert (whole - run["composite"][0]).abs().mean() < 0.1
    again = graph.sample(patched, texts, latent, denoise=0.5)[0]
    decoded = graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=again, views="1")
    assert [layer["name"] for layer in decoded[0]["layers"]] == ["background", "ball", "cube"]
    assert decoded[1].shape == (3, 70, 100, 4)


@pytest.mark.parametrize("size", [(16, 16), (17, 130)])
def test_any_size(graph, texts, patched, size):
    width, height = size
    latent = graph.latent(width=width, height=height)
    sampled, _, maps = graph.sample(patched, texts, latent, steps=1)
    decoded = graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=sampled, views="1")
    assert maps.shape == (2, height, width, 3)
    assert decoded[1].shape == (3, height, width, 4) and decoded[3].shape == (1, height, width, 3)


def test_views(graph, run):
    inputs = {"vae": graph.vae, "decoder": graph.decoder, "samples": run["sampled"]}
    alphas = {views: graph.call("Decode", views=views, **inputs)[1][..., 3] for views in ("2", "4", "8")}
    assert (alphas["8"] - run["images"][..., 3]).abs().mean() < 0.1
    assert all(torch.isfinite(alpha).all() and (alpha - run["images"][..., 3]).abs().max() > 1e-4
               for alpha in alphas.values())


# Seeds and batches


def test_same_inputs_same_outputs(graph, texts, patched):
    first, second = (graph.sample(patched, texts, graph.latent(), layer_seeds="2: 8") for _ in range(2))
    assert torch.equal(first[0]["samples"], second[0]["samples"]) and torch.equal(first[2], second[2])


def test_a_layers_seed(graph, texts, patched):
    """Where rows do not see each other it changes its row alone; where they do, its row is drawn anew."""
    alone = graph.patch(adapter=None, caca=False, lssa=False)
    before, after = (graph.sample(alone, texts, graph.latent(), layer_seeds=seeds)[0]["samples"] for seeds in ("", "1: 9"))
    assert (after - before)[[0, 2, 3]].abs().max() < 1e-4
    assert apart(after[1], before[1]) > 0.1
    joint = graph.sample(patched, texts, graph.latent())[0]["samples"]
    reseeded = graph.sample(patched, texts, graph.latent(), layer_seeds="1:9")[0]["samples"]
    assert apart(reseeded[1], joint[1]) > 0.1 and apart(reseeded[0], joint[0]) > 1e-4


def test_a_batch_is_its_single_pictures(graph, texts, patched):
    both = graph.sample(patched, texts, graph.latent(batch=2))
    for number, seed in enumerate((5, 6)):
        one = graph.sample(patched, texts, graph.latent(), seed=seed)
        rows = slice(ROWS * number, ROWS * (number + 1))
        assert apart(both[0]["samples"][rows], one[0]["samples"]) < _SAME
        assert (both[2][2 * number : 2 * number + 2] - one[2]).abs().max() < 1e-3
    decoded = graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=both[0], views="1")
    assert decoded[1].shape == (6, 64, 64, 4) and decoded[3].shape == decoded[4].shape == (2, 64, 64, 3)
    (latent,) = graph.call("Harmonize", model=patched, trajectory=both[1], layers=decoded[0], high=1000, low=900)
    assert latent["samples"].shape == (2, 4, 16, 16)


# Other samplers


def test_stock_samplers_give_the_same(graph, core, texts, patched, monkeypatch):
    latent = graph.latent()
    noise = unit_noise(core, latent, 5)
    expected = graph.sample(patched, texts, latent)[0]["samples"]
    monkeypatch.setattr(comfy.sample, "prepare_noise", lambda *args: noise)
    (stock,) = comfy_nodes.KSampler().sample(patched, 5, 2, 3.0, "euler", "simple", *texts, latent)
    assert torch.equal(stock["samples"], expected)
    assert stock["dreamlayer"] is latent["dreamlayer"], "it can be decoded"

    class Noise:
        seed = 5

        def generate_noise(self, latent):
            return noise

    guider = custom.CFGGuider.execute(patched, *texts, 3.0).args[0]
    levels = custom.BasicScheduler.execute(patched, "simple", 2, 1.0).args[0]
    advanced = custom.SamplerCustomAdvanced.execute(
        Noise(), guider, comfy.samplers.sampler_object("euler"), levels, latent).args[0]
    assert torch.equal(advanced["samples"], expected)


@pytest.fixture(scope="module")
def small(graph, module):
    """One foreground on 8x8 cells: (texts, latent)."""
    plan = graph.plan("a red ball", negative="gray")
    about = module("nodes.sockets").LatentLayers(plan=plan, rows=3, width=32, height=32)
    with torch.inference_mode():
        return graph.encode(plan), {"samples": torch.zeros(3, 4, 8, 8), "dreamlayer": about}


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_every_sampler(graph, patched, small, sampler):
    """All of them sample, and what they leave can be harmonised, or is said to be of no use for that."""
    texts, latent = small
    sampled, trajectory, _ = graph.sample(patched, texts, latent, steps=3, sampler_name=sampler, scheduler="normal")
    assert torch.isfinite(sampled["samples"]).all() and sampled["samples"].std() > 0.1
    document = graph.call("ImagesToLayers", images=draw(2, 32, 32, 4).sigmoid())[0]
    inputs = {"model": patched, "trajectory": trajectory, "layers": document, "high": 1000, "low": 300}
    if trajectory.latents:
        (latent,) = graph.call("Harmonize", **inputs)
        assert torch.isfinite(latent["samples"]).all()
    else:
        assert sampler in ("dpm_fast", "dpm_adaptive")
        with pytest.raises(ValueError, match=rf"{sampler}.*choose another"):
            graph.call("Harmonize", **inputs)


@pytest.mark.parametrize("scheduler", comfy.samplers.KSampler.SCHEDULERS)
def test_every_scheduler(graph, patched, small, scheduler):
    texts, latent = small
    sampled, trajectory, _ = graph.sample(patched, texts, latent, steps=4, scheduler=scheduler)
    assert torch.isfinite(sampled["samples"]).all() and len(trajectory.latents) >= 4


@pytest.mark.parametrize("sampler", ["heun", "heunpp2", "dpmpp_2s_ancestral"])
def test_trajectory_is_what_steps_start_from(graph, patched, small, sampler):
    """Of samplers that look ahead as well."""
    texts, latent = small
    trajectory = graph.sample(patched, texts, latent, steps=4, sampler_name=sampler, scheduler="normal")[1]
    starts = []
    kept = comfy.samplers.KSAMPLER.sample

    def spied(self, model_wrap, sigmas, extra_args, callback, *args, **kwargs):
        return kept(self, model_wrap, sigmas, extra_args, lambda i, clean, x, total: starts.append(x.clone()), *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.samplers.KSAMPLER, "sample", spied)
        graph.sample(patched, texts, latent, steps=4, sampler_name=sampler, scheduler="normal")
    assert len(starts) == len(trajectory.latents) == 4
    assert all(apart(found, start) < _SAME for found, start in zip(trajectory.latents, starts, strict=True))


def test_preview_shows_all_rows(graph, texts, patched, monkeypatch):
    shown = []
    monkeypatch.setattr(comfy.cli_args.args, "preview_method", latent_preview.LatentPreviewMethod.Latent2RGB)
    comfy.utils.set_progress_bar_global_hook(lambda value, total, preview, node_id=None: shown.append((value, total, preview)))
    try:
        graph.sample(patched, texts, graph.latent(width=64, height=128))
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
    assert [(value, total) for value, total, _ in shown] == [(1, 2), (2, 2)]
    kind, picture, _ = shown[-1][2]
    assert kind == "JPEG" and picture.size == (2 * 16, 2 * 32)


# Prompts


def encoded(graph, *, background="grass", prompt="a red ball", weight=1.0, clip=None, adapter=True, **texts):
    plan = graph.call("Prompts", background=background, **texts, foregrounds={
        "foregrounds": "1", "name_1": "ball", "prompt_1": prompt, "weight_1": weight})[0]
    positive, negative = graph.call(
        "Encode", clip=clip or graph.clip, plan=plan, adapter=graph.adapter if adapter else None)
    return positive[0][1]["dreamlayer"], negative[0][0]


def test_a_layers_weight_is_that_of_its_words(graph):
    weighted = encoded(graph, weight=1.3)[0].embeddings
    assert torch.allclose(weighted, encoded(graph, prompt="(a red ball:1.3)")[0].embeddings, atol=1e-5)
    plain = encoded(graph)[0].embeddings
    assert torch.equal(weighted[0], plain[0]) and apart(weighted[1], plain[1]) > 1e-3


def test_rows_are_plain_encodings(graph):
    """Without an adapter a layer's row is what CLIP Text Encode makes of its text."""
    rows, negative = encoded(graph, adapter=False, negative="gray (blur:0.8)")
    for found, text in ((rows.embeddings[0], "grass"), (rows.embeddings[1], "a red ball"), (negative[0], "gray (blur:0.8)")):
        (expected,) = comfy_nodes.CLIPTextEncode().encode(graph.clip, text)
        assert torch.equal(found, expected[0][0][0])


def test_long_prompts_are_not_cut(graph):
    rows, negative = encoded(graph, background="green grass, blue sky, " * 30, negative="gray " * 100)
    own, placed = rows.own_spans[0], rows.global_spans[0]
    assert own.length > 2 * 75 and own.length == placed.length and own.start == placed.start == 1
    assert rows.embeddings.shape[1] % 77 == 0 and rows.embeddings.shape[1] == negative.shape[1]
    assert torch.equal(rows.embeddings[0, 1 : own.stop], rows.embeddings[-1, 1 : placed.stop])
    ball = rows.global_spans[1]
    assert ball.start == placed.stop and ball.length == rows.own_spans[1].length
    assert torch.equal(rows.embeddings[-1, ball.start : ball.stop], rows.embeddings[1, 1 : 1 + ball.length])
    short = encoded(graph)[0]
    assert rows.embeddings.shape[1] == 77 * math.ceil((own.length + ball.length + 2) / 77) > short.embeddings.shape[1]


def test_long_prompts_sample(graph, patched):
    plan = graph.plan("a red ball", "a shiny blue cube", background="green grass, blue sky, " * 30)
    assert torch.isfinite(graph.sample(patched, graph.encode(plan), graph.latent(plan))[0]["samples"]).all()


def test_embeddings(graph, tmp_path, monkeypatch):
    """A textual inversion takes as many places as it has vectors, inside its layer's span."""
    save_file({"emb_params": draw(3, 128)}, tmp_path / "painted.safetensors")
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "embeddings", ([str(tmp_path)], {".safetensors"}))
    clip = graph.call("LoadEmbeddedModel")[1]
    plain, found = (encoded(graph, prompt=f"a red ball{more}", clip=clip)[0] for more in ("", " embedding:painted"))
    assert found.own_spans[1].length == plain.own_spans[1].length + 3
    assert found.global_spans[1].length == found.own_spans[1].length
    assert apart(found.embeddings[1], plain.embeddings[1]) > 0.01


def test_clip_skip(graph):
    skipped = graph.clip.clone()
    skipped.clip_layer(-2)
    rows = encoded(graph, clip=skipped, adapter=False)[0]
    (expected,) = comfy_nodes.CLIPTextEncode().encode(skipped, "a red ball")
    assert torch.equal(rows.embeddings[1], expected[0][0][0])
    assert apart(rows.embeddings[1], encoded(graph, adapter=False)[0].embeddings[1]) > 0.01
