"""Layer Image Prompt: on its layer, on no other, and together with what else is on a model."""

from __future__ import annotations

import comfy.clip_vision
import folder_paths
import pytest
import torch
from graph import ROWS, apart, denoise, draw
from safetensors.torch import save_file
from test_parity import sample

_SAME, _OTHER = 1e-4, 1e-2
_EMBEDDING = 24


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, reference):
    """The reference's file in a models folder."""
    folder = tmp_path_factory.mktemp("ipadapter")
    file = {name.removeprefix("image_prompt/file/"): value for name, value in reference.items() if name.startswith("image_prompt/file/")}
    save_file(file, folder / "tiny-ip-adapter.safetensors")
    save_file({"image_proj.latents": torch.zeros(1, 4, 8)} | file, folder / "plus.safetensors")
    save_file({name: value for name, value in file.items() if ".1." not in name} | {
        name: torch.zeros(64, 128) for name in file if ".1." in name}, folder / "other.safetensors")
    folder_paths.add_model_folder_path("ipadapter", str(folder))
    return "tiny-ip-adapter.safetensors"


def seen(embeddings):
    """CLIP_VISION_OUTPUT."""
    output = comfy.clip_vision.Output()
    output["image_embeds"] = embeddings
    return output


@pytest.fixture(scope="module")
def prompt(graph, adapter):
    """A model through Layer Image Prompt."""
    return lambda model, layer=1, embeddings=None, **settings: graph.call("LayerImagePrompt", **({
        "model": model, "ip_adapter_name": adapter, "layer": layer,
        "clip_vision_output": seen(draw(1, _EMBEDDING) if embeddings is None else embeddings)} | settings))[0]


@pytest.mark.parametrize("layer", [0, 2, -1])
def test_a_picture_is_its_layers(alone, texts, noise, without, prompt, layer):
    found = denoise(prompt(alone, layer), texts, noise)
    row = layer % ROWS
    others = [one for one in range(ROWS) if one != row]
    assert torch.equal(found[others], without[others]) and apart(found[row], without[row]) > _OTHER
    assert torch.equal(denoise(alone, texts, noise), without), "the model before it has nothing of it"


def test_before_or_after_patch_model_and_without_it(graph, texts, noise, plain, prompt, little_memory):
    after, before = denoise(prompt(graph.patch()), texts, noise), denoise(graph.patch(prompt(graph.model)), texts, noise)
    assert torch.equal(after, before) and apart(after, plain) > _OTHER
    unpatched, stock = denoise(prompt(graph.model), texts, noise), denoise(graph.model, texts, noise)
    assert torch.equal(unpatched[[0, 2, 3]], stock[[0, 2, 3]]) and apart(unpatched[1], stock[1]) > _OTHER
    little_memory()
    assert apart(denoise(graph.patch(prompt(graph.model)), texts, noise), after) < _SAME


def test_weights_of_the_layer_count_for_its_picture_in_any_order(alone, texts, noise, prompt, core, module):
    """A delta of an output projection acts on what the picture adds, too."""
    def source(modules, call):
        names = [name for name in modules if name.endswith("attn2.to_out.0")]
        return {name: [core("row_weights").RowDelta(rows=1, up=torch.eye(len(modules[name].weight)) * 0.3)] for name in names}

    def patch(model):
        return module("nodes.comfy_model.row_patch").patch_rows(model, source)

    before, after = denoise(prompt(patch(alone)), texts, noise), denoise(patch(prompt(alone)), texts, noise)
    assert torch.equal(before, after) and apart(before[1], denoise(prompt(alone), texts, noise)[1]) > 1e-3


def test_several_pictures_add_up(alone, texts, noise, prompt):
    both = denoise(prompt(prompt(alone, 1), 2), texts, noise)
    for row in (1, 2):
        assert torch.equal(both[row], denoise(prompt(alone, row), texts, noise)[row])
    two, one = (denoise(prompt(alone, embeddings=draw(count, _EMBEDDING, seed=7)), texts, noise) for count in (2, 1))
    assert apart(two[1], one[1]) > 1e-3


@pytest.mark.parametrize("settings", [{"strength": 0.0}, {"start_percent": 0.99, "end_percent": 1.0}])
def test_while_it_does_not_act_every_bit_stays(alone, texts, noise, without, prompt, settings):
    assert torch.equal(denoise(prompt(alone, **settings), texts, noise), without)


def test_up_to_half_way(alone, texts, noise, without, prompt):
    half, full = (denoise(prompt(alone, end_percent=end), texts, noise) for end in (0.5, 1.0))
    assert apart(half[1], without[1]) > 1e-3 and apart(half[1], full[1]) > 1e-3


@pytest.mark.parametrize(("settings", "error", "words"), [
    ({"embeddings": torch.zeros(1, 25)}, "InputError", "got embeddings of shape .1, 25., expected 24 channels a picture"),
    ({"clip_vision_output": {"image_embeds": None}}, "InputError", "got a vision model that makes no image embedding"),
    ({"ip_adapter_name": "plus.safetensors"}, "WeightsError", "plus.safetensors: an IP-Adapter of the form Plus"),
    ({"ip_adapter_name": "other.safetensors"}, "WeightsError", "other.safetensors: .*an image prompt of 64 channels for queries of"),
    ({"start_percent": 0.6, "end_percent": 0.5}, "InputError", "got a start of 0.6 and an end of 0.5"),
    ({"strength": 11.0}, "InputError", "got a strength of 11 for an image prompt"),
])
def test_told_by_the_image_prompt(alone, prompt, told, settings, error, words):
    with told(words, error=error):
        prompt(alone, **settings)


def test_a_layer_that_the_plan_lacks(alone, texts, noise, prompt, told):
    with told("layer 9 of a picture with 2 foregrounds; give 0 .the background. to 2, or -1", error="InputError"):
        denoise(prompt(alone, 9), texts, noise)


def test_image_prompts_are_those_of_the_core(core, graph, texts, prompt, reference):
    model = prompt(graph.patch(), 1, reference["image_prompt/picture"], strength=0.8)
    assert apart(sample(core, model, *texts), reference["image_prompt/latents"]) < 1e-3
