"""What cannot be: a clear error that names the value, what is expected, and the next step; before anything runs if possible."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import execution
import pytest
import torch
from graph import apart, denoise, draw

import nodes as comfy_nodes

# Before anything runs


def workflow(**changes: Any) -> dict[str, Any]:
    """A graph in API format; ``Sampler__seed=1`` changes an input."""
    linked: dict[str, dict[str, Any]] = {
        "LoadEmbeddedModel": {},
        "Prompts": {"background": "grass", "foregrounds": "1", "foregrounds.name_1": "ball", "foregrounds.prompt_1": "a ball",
                    "foregrounds.weight_1": 1.0},
        "Encode": {"clip": ["LoadEmbeddedModel", 1], "plan": ["Prompts", 0]},
        "EmptyLatent": {"plan": ["Prompts", 0], "width": 64, "height": 64, "batch_size": 1},
        "PatchModel": {"model": ["LoadEmbeddedModel", 0], "caca": True, "lssa": True, "strength": 1.0, "context_threshold": -1,
                       "start_percent": 0.0, "end_percent": 1.0, "smoothing": 0.0, "context_downscale": 0},
        "Sampler": {"model": ["PatchModel", 0], "seed": 1, "steps": 2, "cfg": 2.0, "sampler_name": "euler",
                    "scheduler": "simple", "positive": ["Encode", 0], "negative": ["Encode", 1],
                    "latent_image": ["EmptyLatent", 0], "denoise": 1.0, "layer_seeds": ""},
        "Decode": {"vae": ["LoadEmbeddedModel", 2], "decoder": ["LoadEmbeddedModel", 3], "samples": ["Sampler", 0],
                   "views": "1"},
        "Harmonize": {"model": ["PatchModel", 0], "trajectory": ["Sampler", 1], "layers": ["Decode", 0], "high": 600,
                      "low": 400, "strength": 1.0},
    }
    for place, value in changes.items():
        node, name = place.split("__")
        linked[node][name.replace("_of_", ".")] = value
    made = {name: {"class_type": f"DreamLayer{name}", "inputs": inputs} for name, inputs in linked.items()}
    made["VAEDecode"] = {"class_type": "VAEDecode", "inputs": {"samples": ["Harmonize", 0], "vae": ["LoadEmbeddedModel", 2]}}
    made["PreviewImage"] = {"class_type": "PreviewImage", "inputs": {"images": ["VAEDecode", 0]}}
    return made


def validated(prompt: dict[str, Any]) -> str:
    """What ComfyUI says of a graph; nothing where it would run it."""
    valid, error, _, node_errors = asyncio.run(execution.validate_prompt("test", prompt, None))
    assert valid == (not node_errors)
    return "" if valid else f"{error} {node_errors}"


def test_a_good_graph_is_accepted(pack):
    assert validated(workflow()) == ""
    assert validated(workflow(Sampler__layer_seeds="0: 3, 1: 4\n2:5")) == ""


@pytest.mark.parametrize(("change", "said"), [
    ({"Sampler__layer_seeds": "1=7"}, "got the layer seed '1=7'; give rows and seeds such as"),
    ({"Sampler__layer_seeds": "ball: 7"}, "got the layer seed 'ball: 7'"),
    ({"Sampler__layer_seeds": "1: 7, 1: 8"}, "got two seeds for row 1, 7 and 8; give one"),
    ({"Harmonize__high": 300}, "got T_H 300 and T'_H 400; give 0 <= T'_H <= T_H"),
    ({"Prompts__foregrounds": "30"}, "got no foreground prompts; give 1 to 16"),
    ({"Prompts__foregrounds": "0"}, "got no foreground prompts; give 1 to 16"),
    ({"Prompts__foregrounds": "many"}, "got no foreground prompts; give 1 to 16"),
    ({"EmptyLatent__width": 1}, "smaller than min of 16"),
    ({"EmptyLatent__height": 5000}, "bigger than max of 4096"),
    ({"EmptyLatent__batch_size": 0}, "smaller than min of 1"),
    ({"Decode__views": "3"}, "'3' not in"),
    ({"Sampler__sampler_name": "eulre"}, "'eulre' not in"),
    ({"Sampler__positive": ["Prompts", 0]}, "received_type(DREAMLAYER_PLAN) mismatch input_type(CONDITIONING)"),
    ({"Decode__decoder": ["LoadEmbeddedModel", 2]}, "received_type(VAE) mismatch input_type(DREAMLAYER_DECODER)"),
])
def test_told_at_validation(pack, change, said):
    assert said in validated(workflow(**change)).replace('\\"', "'").replace("\\'", "'")


# Latents


@pytest.mark.parametrize(("change", "said"), [
    (lambda samples: samples.fill_(torch.nan), "NaN or infinite values; lower the CFG"),
    (lambda samples: samples.index_fill_(0, torch.tensor(1), torch.inf), "NaN or infinite"),
    (lambda samples: samples[:0], "got 0 latents for pictures of 4 rows"),
    (lambda samples: samples[:3], "got 3 latents for pictures of 4 rows.*do not take single rows out"),
    (lambda samples: samples[0], "without pictures.*connect Empty Layered Latent"),
    (lambda samples: None, "without pictures"),
])
def test_broken_latents(graph, texts, patched, told, change, said):
    latent = graph.latent()
    broken = latent | {"samples": change(latent["samples"].clone())}
    with told(said):
        graph.sample(patched, texts, broken)
    with told(said):
        graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=broken)


def test_latents_that_are_not_layered(graph, texts, patched, told):
    for node, inputs in (("Sampler", {"model": patched, "seed": 1, "steps": 1, "cfg": 1.0, "sampler_name": "euler",
                                      "scheduler": "simple", "positive": texts[0], "negative": texts[1]}),
                         ("Decode", {"vae": graph.vae, "decoder": graph.decoder})):
        name = "latent_image" if node == "Sampler" else "samples"
        with told("not layered; connect Empty Layered Latent or Encode RGBA Layers"):
            graph.call(node, **inputs, **{name: {"samples": torch.zeros(4, 4, 8, 8)}})


def test_a_model_that_makes_nan_is_told_when_decoding(graph, texts, told):
    broken = graph.call("LoadEmbeddedModel")[0]
    next(broken.model.parameters()).fill_(torch.nan)
    sampled = graph.sample(graph.patch(broken), texts, graph.latent())[0]
    with told("NaN or infinite values; lower the CFG, or run the model in fp32"):
        graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=sampled)


# Plans


@pytest.mark.parametrize("count", [0, 17, 30])
def test_numbers_of_foregrounds(graph, told, count):
    with told(f"got {count} foreground prompts; give 1 to 16"):
        graph.plan(*["a ball"] * count)


def test_no_foregrounds(graph, told):
    """What ComfyUI makes of a choice that there is not."""
    with told("got no foreground prompts; give 1 to 16"):
        graph.call("Prompts", background="grass")
    with told("got many foreground prompts; give 1 to 16"):
        graph.call("Prompts", background="grass", foregrounds={"foregrounds": "many"})


def test_sixteen_foregrounds_work(graph, told):
    plan = graph.plan(*[f"a ball {number}" for number in range(16)])
    noise = draw(18, 4, 8, 8)
    assert torch.isfinite(denoise(graph.patch(), graph.encode(plan), noise, steps=1)).all()


@pytest.mark.parametrize(("width", "height"), [(1, 64), (64, 15), (5000, 64), (64, 4097)])
def test_sizes(graph, told, width, height):
    with told(f"got a size of {width}x{height}; give sides of 16 to 4096 pixels"):
        graph.latent(width=width, height=height)


def test_a_plan_of_3_layers_meets_a_latent_of_4(graph, patched, told):
    three, four = graph.plan("a ball", "a cube"), graph.plan("a ball", "a cube", "a tree")
    texts, latent = graph.encode(three), graph.latent(four)
    with told("got prompts for 3 layers and a latent for 4; give Encode Layers and Empty Layered Latent the same plan"):
        graph.sample(patched, texts, latent)
    with told("got a latent of 5 rows for prompts of 4", "the same plan"):
        comfy_nodes.KSampler().sample(patched, 1, 1, 1.0, "euler", "simple", *texts, latent)


def test_prompts_of_several_plans(graph, texts, patched, told):
    other = graph.encode(graph.plan("a ball"))
    with told(r"got conditionings of \[3, 4\] rows in one run; combine those of one plan"):
        denoise(patched, (texts[0] + other[0], texts[1]), draw(12, 4, 8, 8), steps=1)


def test_prompts_that_are_not_layered(graph, texts, patched, told):
    with told("got conditioning that is not layered; connect Encode Layers to positive"):
        graph.sample(patched, (texts[1], texts[1]), graph.latent())


@pytest.mark.parametrize(("seeds", "said"), [
    ("4: 1", "got a seed for row 4; this picture's rows are 0 .background. to 3"), ("x: 1", "got the layer seed 'x: 1'"),
    ("1: -3", "got the layer seed '1: -3'; give rows and seeds"), ("2", "got the layer seed '2'"),
    ("2: 1, 2: 1", "got two seeds for row 2")])
def test_layer_seeds(graph, texts, patched, told, seeds, said):
    with told(said):
        graph.sample(patched, texts, graph.latent(), layer_seeds=seeds)


def test_nothing_to_sample(graph, texts, patched, told):
    with told("got a denoise of 0.0, which leaves nothing to sample; give more than 0"):
        graph.sample(patched, texts, graph.latent(), denoise=0.0)


def test_no_text_encoder(graph, told):
    with told("got no text encoder", "Load CLIP"):
        graph.call("Encode", clip=None, plan=graph.usual_plan())


# Models and adapters


def test_patched_twice(graph, patched, told):
    with told("patched already; connect the model from before the other Patch Model"):
        graph.patch(patched)
    with told("patched already"):
        graph.patch(patched.clone(), adapter=None)


def test_start_after_end(graph, told):
    with told("got a start of 0.6 and an end of 0.4"):
        graph.patch(start_percent=0.6, end_percent=0.4)


def test_no_such_stage(graph, told):
    with told(r"got a CACA stage of downscale 3.*\[2, 4, 8\]; choose one of these"):
        graph.patch(adapter=None, context_downscale=3)


def test_a_model_of_another_kind(graph, told, monkeypatch):
    monkeypatch.setattr(graph.model.model.model_config, "unet_config", {"image_model": "flux"})
    with told("got a model of kind BaseModel; DreamLayer works on Stable Diffusion's UNets"):
        graph.patch()


def test_an_adapter_of_another_family(graph, texts, told):
    weights = graph.adapter.weights
    wider = {name: torch.zeros(len(weight), 2 * weight.shape[1]) for name, weight in weights.shared_kv.items()}
    for changes, said in (
        ({"shared_kv": wider}, "shared_kv.*expected"),
        ({"shared_kv": {f"other.{name}": weight for name, weight in weights.shared_kv.items()}}, "shared_kv"),
        ({"settings": replace(weights.settings, prediction_type="epsilon")},
         "an adapter for models of prediction type 'epsilon'.*give an adapter made for this base model"),
        ({"settings": replace(weights.settings, context_features=96)}, "read 96 channels.*has 128; give an adapter"),
    ):
        with told(said):
            graph.patch(adapter=replace(graph.adapter, weights=replace(weights, **changes)))
    narrow = replace(graph.adapter, weights=replace(weights, layer_assign=weights.layer_assign[:, :64]))
    with told(r"layer-assign embeddings of shape \(9, 64\).*made for another text encoder"):
        graph.call("Encode", clip=graph.clip, plan=graph.usual_plan(), adapter=narrow)


def test_a_decoder_of_another_scale(graph, core, module, texts, patched, told):
    transparent, sockets = core("transparent"), module("nodes.sockets")
    other = transparent.TransparentDecoder(
        transparent.TransparentDecoderConfig(widths=(32, 32, 32, 32), latent_block=3, attention_blocks=1))
    assert other.config.latent_scale == 8
    patcher = type(graph.decoder.patcher)(other, graph.decoder.patcher.load_device, graph.decoder.patcher.offload_device)
    decoder = sockets.LoadedDecoder(patcher=patcher, latent_scale=other.config.latent_scale)
    with told("got a layer decoder for 8 pixels per latent cell and a VAE with 4; load the decoder that was made for"):
        graph.call("Decode", vae=graph.vae, decoder=decoder, samples=graph.latent())


# Layers


def layers(graph, count: int, width: int = 8, height: int = 8) -> Any:
    return graph.call("ImagesToLayers", images=draw(count, height, width, 4).sigmoid())[0]


@pytest.mark.parametrize("count", [1, 18])
def test_numbers_of_layers_to_encode(graph, told, count):
    with told(f"got {count - 1} foreground layers over the lowest one; give 1 to 16"):
        graph.call("EncodeLayers", vae=graph.vae, layers=layers(graph, count))


def test_layers_that_are_not_the_plans(graph, told):
    with told("got 2 foreground layers and a plan for 1; give Layer Prompts as many"):
        graph.call("EncodeLayers", vae=graph.vae, layers=layers(graph, 3), plan=graph.plan("a ball"))


def test_layers_of_5000_pixels(graph, told):
    with told("got layers on a canvas of 5000x2; give sides of at most 4096 pixels"):
        graph.call("EncodeLayers", vae=graph.vae, layers=layers(graph, 2, width=5000, height=2))


def test_layers_of_1_pixel_work(graph, patched):
    (latent,) = graph.call("EncodeLayers", vae=graph.vae, layers=layers(graph, 3, 1, 1), plan=graph.usual_plan())
    assert latent["samples"].shape == (4, 4, 8, 8)
    sampled = graph.sample(patched, graph.encode(), latent, denoise=0.5)[0]
    images = graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=sampled, views="1")[1]
    assert images.shape == (3, 1, 1, 4) and torch.isfinite(images).all()


def test_layers_that_are_not_the_trajectorys(graph, texts, patched, told):
    trajectory = graph.sample(patched, texts, graph.latent())[1]
    with told(r"got 1 pictures of \[3\] foregrounds for a trajectory of 1 with 2; connect the layers that Decode Layers made"):
        graph.call("Harmonize", model=patched, trajectory=trajectory, layers=layers(graph, 4, 64, 64))
    with told("no step of the sampled trajectory lies from T_H 700 to T'_H 600 .its timesteps are 999, 499.; widen the range"):
        graph.call("Harmonize", model=patched, trajectory=trajectory, layers=layers(graph, 3, 64, 64), high=700, low=600)
    with told("give 0 <= T'_H <= T_H"):
        graph.call("Harmonize", model=patched, trajectory=trajectory, layers=layers(graph, 3, 64, 64), high=100, low=600)


def test_errors_leave_the_model_usable(graph, texts, patched, told):
    noise = draw(4, 4, 8, 8)
    before = denoise(patched, texts, noise)
    with told("rows"):
        denoise(patched, texts, draw(5, 4, 8, 8))
    assert apart(denoise(patched, texts, noise), before) == 0
