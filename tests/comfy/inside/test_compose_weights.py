"""The patched model and what else changes weights: LoRA, merging, another patched model; and undoing it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.sd
import comfy.utils
import comfy_extras.nodes_model_merging as merging
import torch
from graph import apart, denoise, draw

_SAME, _OTHER = 1e-4, 1e-2


def kv_keys(model) -> dict[str, str]:
    """Adapter's name -> the model's key of each K and V weight."""
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    return {name.removesuffix(".weight"): f"diffusion_model.{key}" for name, key in names.items()
            if name.endswith((".to_k.weight", ".to_v.weight"))}


def small_lora(model, rank: int = 2) -> dict[str, torch.Tensor]:
    """On every K and V."""
    lora = {}
    for number, key in enumerate(sorted(kv_keys(model).values())):
        out, width = comfy.utils.get_attr(model.model, key).shape
        name = "lora_unet_" + key.removeprefix("diffusion_model.").removesuffix(".weight").replace(".", "_")
        lora |= {f"{name}.lora_up.weight": 0.1 * draw(out, rank, seed=number),
                 f"{name}.lora_down.weight": draw(rank, width, seed=1000 + number), f"{name}.alpha": torch.tensor(rank)}
    return lora


def with_lora(model, lora, strength=0.5):
    return comfy.sd.load_lora_for_models(model, None, lora, strength, 0)[0]


def with_weights(adapter: Any, change: Any) -> Any:
    """The adapter with `change(name, weight)` of its K and V, those of foregrounds moved as much as the shared ones."""
    shared = {name: change(name, weight.float()) for name, weight in adapter.weights.shared_kv.items()}
    moved = {name: weight.float() + shared[name] - adapter.weights.shared_kv[name].float()
             for name, weight in adapter.weights.foreground_kv.items()}
    return replace(adapter, weights=replace(adapter.weights, shared_kv=shared, foreground_kv=moved))


def test_lora_before_and_after(graph, texts, noise, plain):
    lora, keys = small_lora(graph.model), kv_keys(graph.model)

    def moved(name, weight):
        part = "lora_unet_" + keys[name].removeprefix("diffusion_model.").removesuffix(".weight").replace(".", "_")
        return weight + 0.5 * lora[f"{part}.lora_up.weight"] @ lora[f"{part}.lora_down.weight"]

    before = denoise(graph.patch(with_lora(graph.model, lora)), texts, noise)
    after = denoise(with_lora(graph.patch(), lora), texts, noise)
    expected = denoise(graph.patch(adapter=with_weights(graph.adapter, moved)), texts, noise)
    assert apart(before, expected) < _SAME and apart(after, expected) < _SAME
    assert apart(before, plain) > _OTHER


def test_lora_on_the_conditioning(graph, texts, noise, plain):
    """Hooks change weights between the two sides of the guidance."""
    lora = small_lora(graph.model)
    hooked = comfy.hooks.set_hooks_for_conditioning(texts[0], comfy.hooks.create_hook_lora(lora, 0.5, 0.0))
    found = denoise(graph.patch(), (hooked, texts[1]), noise, cfg=1.0)
    assert apart(found, denoise(with_lora(graph.patch(), lora), texts, noise, cfg=1.0)) < _SAME
    guided = denoise(graph.patch(), (hooked, texts[1]), noise)
    assert torch.isfinite(guided).all() and apart(guided, plain) > _OTHER
    assert torch.equal(denoise(graph.patch(), texts, noise), plain)


def test_merged_with_another_model(graph, texts, noise, plain):
    other = graph.call("LoadEmbeddedModel")[0]
    for number, weight in enumerate(other.model.parameters()):
        weight.mul_(1 + 0.05 * draw(*weight.shape, seed=number))
    second = other.model.state_dict()
    merged = merging.ModelMergeSimple().merge(graph.patch(), other, 0.7)[0]
    found = denoise(merged, texts, noise)

    by_hand = graph.call("LoadEmbeddedModel")[0]
    for name, weight in by_hand.model.named_parameters():
        weight.copy_(0.7 * weight + 0.3 * second[name])
    keys = kv_keys(graph.model)
    adapter = with_weights(graph.adapter, lambda name, weight: 0.7 * weight + 0.3 * second[keys[name]])
    assert apart(found, denoise(graph.patch(by_hand, adapter=adapter), texts, noise)) < _SAME
    assert apart(found, plain) > _OTHER


def test_merged_into_an_unpatched_model_it_is_weights_alone(graph, texts, noise):
    merged = merging.ModelMergeSimple().merge(graph.model, graph.patch(), 0.5)[0]
    half = graph.patch(strength=0.5, caca=False, lssa=False)  # for rows that are no foregrounds
    found, expected = denoise(merged, texts, noise), denoise(half, texts, noise)
    assert apart(found[[0, 3]], expected[[0, 3]]) < _SAME
    assert apart(found[[1, 2]], expected[[1, 2]]) > _OTHER


def test_strength_0_without_attention_is_the_stock_model(graph, texts, noise):
    off = graph.patch(strength=0.0, caca=False, lssa=False)
    assert torch.equal(denoise(off, texts, noise), denoise(graph.model, texts, noise))


def test_all_off_is_a_plain_clone(graph):
    off = graph.patch(adapter=None, caca=False, lssa=False)
    assert not off.wrappers and not off.patches and off.model is graph.model.model


def test_two_patched_models_do_not_know_of_each_other(graph, texts, noise):
    first, second = graph.patch(lssa=False), graph.patch(caca=False, strength=0.5)
    alone = denoise(first, texts, noise), denoise(second, texts, noise)
    again = denoise(first, texts, noise), denoise(second, texts, noise)
    assert torch.equal(again[0], alone[0]) and torch.equal(again[1], alone[1])
    assert apart(*alone) > _OTHER


def test_the_base_model_stays_bit_identical(graph, texts, noise):
    comfy.model_management.unload_all_models()
    before = {name: weight.clone() for name, weight in graph.model.model.state_dict().items()}
    stock = denoise(graph.model, texts, noise)
    patched = graph.patch()
    denoise(patched, texts, noise)
    patched.detach()
    assert all(torch.equal(before[name], weight) for name, weight in graph.model.model.state_dict().items())
    assert torch.equal(denoise(graph.model, texts, noise), stock)
    assert not graph.model.wrappers and not graph.model.patches and graph.model.get_attachment("dreamlayer") is None


def test_a_row_alone_goes_by_the_weights_of_the_base(graph, module, texts, noise, plain):
    """As harmonizing samples it: to the bit, also with a LoRA on top; and the MODEL that it was taken from stays what it is."""
    patch, lora = module("nodes.comfy_model.layer_patch"), small_lora(graph.model)
    one, picture = ([[texts[0][0][0][:1], {}]], [[texts[1][0][0][:1], {}]]), draw(1, 4, 16, 16)
    base = denoise(graph.model, one, picture)
    patched = graph.patch()
    assert apart(denoise(patched, one, picture), base) > _OTHER
    assert torch.equal(denoise(patch.without_adapter(patched), one, picture), base)
    assert torch.equal(denoise(patched, texts, noise), plain)
    with_both = patch.without_adapter(with_lora(patched, lora))
    assert torch.equal(denoise(with_both, one, picture), denoise(with_lora(graph.model, lora), one, picture))
    merged = merging.ModelMergeSimple().merge(patched, graph.model, 0.5)[0]
    assert apart(denoise(patch.without_adapter(merged), one, picture), base) < _SAME
    assert patch.without_adapter(graph.model) is graph.model
