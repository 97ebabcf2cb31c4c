"""The patched model together with what else core puts on a model or a conditioning."""

from __future__ import annotations

import comfy.patcher_extension
import comfy_extras.nodes_easycache as easycache
import comfy_extras.nodes_freelunch as freelunch
import comfy_extras.nodes_hypertile as hypertile
import comfy_extras.nodes_pag as pag
import comfy_extras.nodes_sag as sag
import pytest
import torch
from comfy.ldm.modules.attention import optimized_attention
from graph import ROWS, apart, denoise, draw, sigmas

import nodes as comfy_nodes

_SAME, _OTHER = 1e-4, 1e-2
_ON = comfy.patcher_extension.WrappersMP


@pytest.fixture(scope="module")
def others(graph):
    return graph.encode(graph.plan("a big green tree", "a small yellow star", negative="gray"))


# Ranges of the method


def test_from_the_end_on_it_never_acts(graph, texts, noise):
    never = denoise(graph.patch(start_percent=1.0, end_percent=1.0), texts, noise)
    assert torch.equal(never, denoise(graph.patch(caca=False, lssa=False), texts, noise))


def test_up_to_half_way_it_acts_on_half_of_the_steps(graph, texts, noise):
    levels = sigmas(graph.model)
    half = denoise(graph.patch(end_percent=0.5), texts, noise)
    first = denoise(graph.patch(), texts, noise, levels=levels[:2])
    expected = denoise(
        graph.patch(caca=False, lssa=False), texts, torch.zeros_like(noise), levels=levels[1:], start=first)
    assert apart(half, expected) < _SAME


# Conditioning


def area(conditioning, across, down, left, top, strength=1.0):
    """In cells of the latent."""
    return comfy_nodes.ConditioningSetArea().append(conditioning, *(8 * n for n in (across, down, left, top)), strength)[0]


def combined(*conditionings):
    return [entry for one in conditionings for entry in one]


def test_an_area_of_everything_is_no_area(graph, texts, noise, plain):
    found = denoise(graph.patch(), (area(texts[0], 8, 8, 0, 0), texts[1]), noise)
    assert apart(found, plain) < _SAME


def test_each_area_has_its_own_context_maps(graph, texts, others, noise, little_memory):
    """Two halves of the picture side by side are sampled as if each were alone."""
    patched = graph.patch()
    halves = combined(area(texts[0], 4, 8, 0, 0), area(others[0], 4, 8, 4, 0)), texts[1]
    found = denoise(patched, halves, noise, steps=1, cfg=1.0)
    for one, part in ((texts, slice(0, 4)), (others, slice(4, 8))):
        alone = denoise(patched, one, noise[..., part], steps=1, cfg=1.0)
        assert apart(found[..., part], alone) < _SAME
    guided = denoise(patched, halves, noise)
    little_memory()
    assert apart(denoise(patched, halves, noise), guided) < _SAME


def test_areas_of_several_sizes(graph, texts, others, noise, plain, little_memory):
    positive = combined(texts[0], area(others[0], 4, 8, 4, 0), area(others[0], 8, 4, 0, 4))
    found = denoise(graph.patch(), (positive, texts[1]), noise)
    little_memory()
    assert apart(denoise(graph.patch(), (positive, texts[1]), noise), found) < _SAME
    assert apart(found, plain) > _OTHER


def test_two_plans_combined(graph, texts, others, noise, plain, little_memory):
    positive = combined(texts[0], others[0])
    found = denoise(graph.patch(), (positive, texts[1]), noise, steps=1, cfg=1.0)
    each = [denoise(graph.patch(), (one[0], texts[1]), noise, steps=1, cfg=1.0) for one in (texts, others)]
    assert apart(found, sum(each) / 2) < _SAME
    guided = denoise(graph.patch(), (positive, texts[1]), noise)
    little_memory()
    assert apart(denoise(graph.patch(), (positive, texts[1]), noise), guided) < _SAME


def test_a_plain_prompt_beside_the_layers(graph, texts, noise, little_memory):
    positive = combined(texts[0], texts[1])
    found = denoise(graph.patch(), (positive, texts[1]), noise)
    little_memory()
    assert apart(denoise(graph.patch(), (positive, texts[1]), noise), found) < _SAME


def test_timestep_ranges(graph, texts, others, noise, plain):
    patched, levels = graph.patch(), sigmas(graph.model)
    in_turn = comfy_nodes.ConditioningSetTimestepRange().set_range
    positive = combined(in_turn(texts[0], 0.0, 0.5)[0], in_turn(others[0], 0.5, 1.0)[0])
    found = denoise(patched, (positive, texts[1]), noise)
    first = denoise(patched, texts, noise, levels=levels[:2])
    expected = denoise(
        patched, (others[0], texts[1]), torch.zeros_like(noise), levels=levels[1:], start=first)
    assert apart(found, expected) < _SAME
    assert apart(found, plain) > _OTHER


def test_a_timestep_without_prompts(graph, texts, noise, little_memory):
    late = comfy_nodes.ConditioningSetTimestepRange().set_range(texts[0], 0.5, 1.0)[0]
    found = denoise(graph.patch(), (late, texts[1]), noise)
    little_memory()
    assert apart(denoise(graph.patch(), (late, texts[1]), noise), found) < _SAME


def test_layered_prompts_zeroed_out_as_negative(graph, texts, noise):
    zeroed = comfy_nodes.ConditioningZeroOut().zero_out
    found = denoise(graph.patch(), (texts[0], zeroed(texts[0])[0]), noise)
    assert apart(found, denoise(graph.patch(), (texts[0], zeroed(texts[1])[0]), noise)) < _SAME


# Other patches


def test_ip_adapter_style_patch(graph, texts, noise, plain):
    """Tokens that a patch appends are as good as tokens of the prompts."""
    tokens = draw(1, 4, texts[0][0][0].shape[-1])

    def append(n, context, value, extra):
        context, value = (torch.cat([one, tokens.expand(len(one), -1, -1)], 1) for one in (context, value))
        return n, context, value

    patched = graph.patch()
    patched.set_model_attn2_patch(append)
    longer = [[[torch.cat([text, tokens.expand(len(text), -1, -1)], 1), extra] for text, extra in side] for side in texts]
    found = denoise(patched, texts, noise)
    assert apart(found, denoise(graph.patch(), tuple(longer), noise)) < _SAME
    assert apart(found, plain) > _OTHER


def test_values_of_their_own(graph, texts, noise, plain):
    """A patch may give values other tokens than keys. Projections of values have no bias: twice the tokens, twice the output."""
    def doubled(n, context, value, extra):
        return n, context, 2 * value

    def twice(q, k, v, extra):
        return 2 * optimized_attention(q, k, v, extra["n_heads"])

    patched, expected = graph.patch(), graph.patch()
    patched.set_model_attn2_patch(doubled)
    for number in range(12):
        for place in ("input", "middle", "output"):
            expected.set_model_attn2_replace(twice, place, number)
    found = denoise(patched, texts, noise)
    assert apart(found, denoise(expected, texts, noise)) < _SAME
    assert apart(found, plain) > _OTHER


@pytest.mark.parametrize("index", [None, 0])
def test_replaced_cross_attention_still_counts(graph, texts, noise, plain, index):
    def stock(q, k, v, extra):
        return optimized_attention(q, k, v, extra["n_heads"])

    def nothing(q, k, v, extra):
        return 0 * stock(q, k, v, extra)

    def patched(replacement):
        model = graph.model.clone()
        for block in (("input", 4), ("middle", 0)):
            model.set_model_attn2_replace(replacement, *block, index)
        return graph.patch(model)

    assert apart(denoise(patched(stock), texts, noise), plain) < _SAME
    assert apart(denoise(patched(nothing), texts, noise), plain) > 1e-3


def test_replaced_self_attention_excludes_lssa(graph, texts, noise):
    model = graph.model.clone()
    model.set_model_attn1_replace(lambda q, k, v, extra: v, "output", 3)
    with pytest.raises(ValueError, match=r"output block 3.*remove that node, or switch LSSA off"):
        denoise(graph.patch(model), texts, noise)
    found = denoise(graph.patch(model, lssa=False), texts, noise)
    assert apart(found, denoise(graph.patch(lssa=False), texts, noise)) > _OTHER


def test_hypertile_excludes_lssa(graph, texts):
    noise = draw(ROWS, 4, 16, 16)
    (tiled,) = hypertile.HyperTile.execute(graph.model, tile_size=32, swap_size=1, max_depth=1, scale_depth=False)
    with pytest.raises(ValueError, match=r"HyperTile.*switch LSSA off"):
        denoise(graph.patch(tiled), texts, noise, steps=1)
    assert torch.isfinite(denoise(graph.patch(tiled, lssa=False), texts, noise, steps=1)).all()


def test_merged_tokens_exclude_attention_between_the_rows_of_a_cell(graph, texts, noise):
    """As token merging does at the layers that it acts on: half of the queries, and every answer twice."""
    merging = graph.model.clone()
    merging.set_model_attn1_patch(lambda q, k, v, extra: (q[:, ::2], k, v))  # one token stays one
    merging.set_model_attn1_output_patch(lambda n, extra: n if n.shape[1] == 1 else n.repeat_interleave(2, dim=1))
    with pytest.raises(ValueError, match=r"queries of \d+ tokens and keys of \d+ \(token merging.*switch LSSA off"):
        denoise(graph.patch(merging), texts, noise)
    without = (graph.encode(adapter=False), noise)
    assert torch.isfinite(denoise(graph.patch(merging, adapter=False), *without)).all()


def test_tokens_without_a_map_are_told(graph, texts, noise):
    patched = graph.patch()
    patched.set_model_attn1_patch(lambda n, context, value, extra: (
        n, torch.cat([context, context], 1), torch.cat([value, value], 1)))
    with pytest.raises(ValueError, match=r"tokens in place of \d+.*switch CACA off"):
        denoise(patched, texts, noise)


@pytest.mark.parametrize("node", [freelunch.FreeU, freelunch.FreeU_V2])
def test_free_u(graph, texts, noise, plain, node):
    before = denoise(graph.patch(node.execute(graph.model, 1.3, 1.4, 0.9, 0.2).args[0]), texts, noise)
    after = denoise(node.execute(graph.patch(), 1.3, 1.4, 0.9, 0.2).args[0], texts, noise)
    assert apart(before, after) < _SAME
    assert apart(before, plain) > _OTHER


@pytest.fixture(scope="module")
def larger_noise():
    """The middle block has more than one token."""
    return draw(ROWS, 4, 16, 16)


@pytest.mark.parametrize("adapter", [True, None])
def test_perturbed_attention_guidance(graph, texts, larger_noise, adapter):
    """Its replacement comes in the middle of a step, behind ours."""
    noise = larger_noise
    patched = graph.patch(adapter=adapter)
    guided = pag.PerturbedAttentionGuidance.execute(patched, 2.0).args[0]
    perturbed = patched.clone()
    perturbed.set_model_attn1_replace(lambda q, k, v, extra: v, "middle", 0)
    clean, worse = (denoise(one, texts, noise, steps=1, cfg=1.0) for one in (patched, perturbed))
    assert apart(clean, worse) > 1e-4
    assert apart(denoise(guided, texts, noise, steps=1, cfg=1.0), clean + 2 * (clean - worse)) < _SAME


def test_self_attention_guidance(graph, texts, larger_noise, little_memory):
    """It calls the model for the unconditional rows alone, with the maps of this step."""
    guided = sag.SelfAttentionGuidance.execute(graph.patch(), 0.5, 2.0).args[0]
    found = denoise(guided, texts, larger_noise)
    assert apart(found, denoise(graph.patch(), texts, larger_noise)) > 1e-3
    little_memory()
    assert apart(denoise(guided, texts, larger_noise), found) < _SAME


def test_wrappers_around_the_model(graph, texts, noise, plain):
    calls = []

    def around(executor, *args, **kwargs):
        calls.append("model")
        return executor(*args, **kwargs)

    def function(apply, args):
        calls.append("function")
        return apply(args["input"], args["timestep"], **args["c"])

    patched = graph.patch()
    patched.add_wrapper_with_key(_ON.DIFFUSION_MODEL, "test", around)
    patched.set_model_unet_function_wrapper(function)
    assert torch.equal(denoise(patched, texts, noise), plain)
    assert calls == ["function", "model"] * 2


def test_cached_steps(graph, texts, noise, plain):
    """Like DeepCache: what the model gave at a step serves the next."""
    kept = {}

    def cached(executor, *args, **kwargs):
        return kept["output"] if kept else kept.setdefault("output", executor(*args, **kwargs))

    patched = graph.patch()
    patched.add_wrapper_with_key(_ON.DIFFUSION_MODEL, "test", cached)
    first = denoise(graph.patch(), texts, noise, levels=sigmas(graph.model)[:2])
    seen = []
    found = denoise(patched, texts, noise, callback=lambda step, clean, latent, total: seen.append(latent.clone()))
    assert apart(seen[1], graph.model.model.process_latent_in(first)) < _SAME
    assert torch.isfinite(found).all() and apart(found, plain) > _OTHER


@pytest.mark.parametrize("threshold", [0.0, 3.0])
def test_easy_cache(graph, texts, noise, threshold):
    cached = easycache.EasyCacheNode.execute(graph.patch(), threshold, 0.0, 1.0, False).args[0]
    found, full = denoise(cached, texts, noise, steps=6), denoise(graph.patch(), texts, noise, steps=6)
    assert torch.isfinite(found).all()
    assert (apart(found, full) < _SAME) if threshold == 0 else (apart(found, full) > _OTHER)


# ControlNet


@pytest.fixture(scope="module")
def control(graph):
    return graph.control_net()


def test_control_net(graph, texts, noise, plain, control, little_memory):
    picture = draw(1, 64, 64, 3).sigmoid()
    apply = comfy_nodes.ControlNetApplyAdvanced().apply_controlnet
    controlled = apply(*texts, control, picture, 0.5, 0.0, 1.0)
    found = denoise(graph.patch(), controlled, noise)
    assert torch.isfinite(found).all() and apart(found, plain) > _OTHER
    late = apply(*texts, control, picture, 0.5, 1.0, 1.0)
    assert torch.equal(denoise(graph.patch(), late, noise), plain)
    little_memory()
    assert apart(denoise(graph.patch(), controlled, noise), found) < _SAME


def test_several_devices_are_not_used(graph, texts, noise, plain):
    """Rows of a picture attend to each other on one device."""
    def as_with_two_cards(executor, *args, **kwargs):
        executor.class_obj.model_options["multigpu_clones"] = {}
        return executor(*args, **kwargs)

    patched = graph.patch()
    patched.add_wrapper_with_key(_ON.OUTER_SAMPLE, "test", as_with_two_cards)
    assert torch.equal(denoise(patched, texts, noise), plain)
