"""Layer ControlNet: on its layer, on no other, and together with what core puts on a run."""

from __future__ import annotations

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ops
import comfy.utils
import pytest
import torch
from graph import ROWS, apart, denoise, draw
from test_parity import sample

import nodes as comfy_nodes

_SAME, _OTHER = 1e-4, 1e-2


@pytest.fixture(scope="module")
def net(graph):
    """One that its hint matters to."""
    control = graph.control_net()
    control.control_model.input_hint_block[14].weight.mul_(30)
    return control


@pytest.fixture(scope="module")
def hint():
    return draw(1, 64, 64, 3).sigmoid()


@pytest.fixture(scope="module")
def control(graph, texts, net, hint):
    """Positive and negative through Layer ControlNet."""
    return lambda layer=1, given=None, **settings: graph.call("LayerControlNet", **(
        {"positive": (given or texts)[0], "negative": (given or texts)[1], "control_net": net, "image": hint, "layer": layer, "strength": 0.5}
        | settings))


def on_all(net, given, hint, strength=0.5):
    return comfy_nodes.ControlNetApplyAdvanced().apply_controlnet(*given, net, hint, strength, 0.0, 1.0)


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_a_hint_is_its_layers(alone, texts, noise, without, control, net, hint, layer):
    found, all_rows = denoise(alone, control(layer), noise), denoise(alone, on_all(net, texts, hint), noise)
    row = layer % ROWS
    others = [one for one in range(ROWS) if one != row]
    assert torch.equal(found[others], without[others])
    assert apart(found[row], all_rows[row]) < _SAME and apart(found[row], without[row]) > _OTHER


def test_several_in_a_row_and_next_to_cores_own(alone, texts, noise, control, net, hint):
    both = denoise(alone, control(2, control(1)), noise)
    for row, single in ((1, control(1)), (2, control(2))):
        assert apart(both[row], denoise(alone, single, noise)[row]) < _SAME
    everywhere = on_all(net, texts, hint)
    found = [denoise(alone, given, noise) for given in (control(1, everywhere), on_all(net, control(1), hint))]
    expected, twice = denoise(alone, everywhere, noise), denoise(alone, on_all(net, everywhere, hint), noise)
    for one in found:
        assert apart(one[[0, 2, 3]], expected[[0, 2, 3]]) < _SAME and apart(one[1], twice[1]) < _SAME


def test_shared_attention_spreads_it(graph, texts, noise, plain, control, little_memory):
    """Through every way that memory takes a batch apart."""
    found = denoise(graph.patch(), control(), noise)
    assert all(apart(found[row], plain[row]) > 1e-3 for row in range(ROWS))
    little_memory()
    assert apart(denoise(graph.patch(), control(), noise), found) < _SAME


def test_without_patch_model(graph, noise, texts, control):
    found, plain = denoise(graph.model, control(), noise), denoise(graph.model, texts, noise)
    assert torch.equal(found[[0, 2, 3]], plain[[0, 2, 3]]) and apart(found[1], plain[1]) > _OTHER


def test_both_sides_of_the_guidance_stay_one_batch(alone, noise, control):
    sizes = []

    def count(executor, x, *args, **kwargs):
        sizes.append(len(x))
        return executor(x, *args, **kwargs)

    model = alone.clone()
    model.add_wrapper_with_key("diffusion_model", "test", count)
    denoise(model, control(2, control(1)), noise)
    assert set(sizes) == {2 * ROWS}


def test_every_picture_of_a_batch_has_its_hint(alone, noise, control):
    hints = [draw(1, 64, 64, 3, seed=seed).sigmoid() for seed in (1, 2)]
    found = denoise(alone, control(image=torch.cat(hints)), noise.repeat(2, 1, 1, 1)).unflatten(0, (2, ROWS))
    for picture, hint in zip(found, hints, strict=True):
        assert apart(picture[1], denoise(alone, control(image=hint), noise)[1]) < _SAME
    assert apart(found[0, 1], found[1, 1]) > 1e-3


@pytest.mark.parametrize("picture", [(1, 40, 100, 3), (1, 64, 64, 4)], ids=["another size", "with alpha"])
def test_hints_of_other_kinds(alone, texts, noise, control, net, picture):
    given = draw(*picture).sigmoid()
    found, expected = denoise(alone, control(image=given), noise), denoise(alone, on_all(net, texts, given[..., :3]), noise)
    assert apart(found[1], expected[1]) < _SAME


def test_its_share_of_the_sampling(alone, texts, noise, without, control, net):
    assert torch.equal(denoise(alone, control(start_percent=1.0), noise), without)
    half = denoise(alone, control(end_percent=0.5), noise)
    assert apart(half[1], without[1]) > 1e-3 and apart(half[1], denoise(alone, control(), noise)[1]) > 1e-3


def test_strength_0_is_no_control(texts, control):
    assert control(strength=0.0) == texts


def test_areas_have_their_part_of_the_hint(alone, noise, control, without):
    positive, negative = control()
    cut = comfy_nodes.ConditioningSetArea().append(positive, 32, 64, 0, 0, 1.0)[0]
    found = denoise(alone, (positive + cut, negative), noise)
    assert torch.isfinite(found).all() and apart(found[1], without[1]) > _OTHER


def test_copies_are_the_same_and_runs_leave_nothing(alone, noise, control, net):
    given = control(2, control(1))
    copied = [[[text, extra | {"control": extra["control"].copy().set_previous_controlnet(extra["control"].previous_controlnet.copy())}]
               for text, extra in group] for group in given]
    assert apart(denoise(alone, copied, noise), denoise(alone, given, noise)) < _SAME
    one = given[0][0][1]["control"]
    assert one is given[1][0][1]["control"] and one.inner.cond_hint is None and one.inner.timestep_range is None
    assert len(one.get_models()) == 2 and one.get_models()[0] is net.control_model_wrapped
    assert net.cond_hint is None and net.previous_controlnet is None


@pytest.mark.parametrize(("settings", "words"), [
    ({"layer": 3}, "got layer 3 of a plan with 2 foregrounds; give 0 .the background. to 2, or -1"),
    ({"start_percent": 0.6, "end_percent": 0.5}, "got a start of 0.6 and an end of 0.5"),
    ({"strength": 11.0}, "got a strength of 11 for a ControlNet; give 0"),
    ({"positive": [[torch.zeros(1, 77, 128), {}]]}, "got conditioning that is not layered; connect Encode Layers to positive"),
    ({"positive": []}, "got conditioning that is not layered"),
])
def test_told_by_the_node(control, told, settings, words):
    with told(words, error="InputError"):
        control(**settings)


def test_a_control_net_of_another_base(control, net, told):
    other = net.copy()
    other.control_model = torch.nn.ModuleDict({"attn2": torch.nn.ModuleDict({"to_k": torch.nn.Linear(768, 4)})})
    for width, words in ((768, "for text embeddings of 768 channels and prompts of 128; load a ControlNet made for the base model"),
                         (None, "got a ControlNet for no UNet of Stable Diffusion")):
        if width is None:
            other.control_model = torch.nn.Linear(2, 2)
        with told(words, error="InputError"):
            control(control_net=other)


def test_a_batch_in_pieces_is_refused(control, noise, told):
    layered = control()[0][0][1]["control"]
    with told("got 3 latents and Layer ControlNet for pictures of 4 rows", error="InputError"):
        layered.get_control(noise[:3], torch.ones(3), {"c_crossattn": torch.zeros(3, 77, 128)}, 1, {})


def decoded(graph, latent):
    return graph.call("Decode", vae=graph.vae, decoder=graph.decoder, samples=latent, views="1")[0]


def test_harmonising_knows_the_whole_pictures_hint_alone(graph, texts, control, net, hint):
    model, latent = graph.patch(), graph.latent(width=32, height=32)
    made, trajectory, _ = graph.sample(model, texts, latent, steps=4)
    layers = decoded(graph, made)

    def harmonised(conditioning):
        run = type(trajectory)(**(vars(trajectory) | {"positive": conditioning[0], "negative": conditioning[1]}))
        return graph.call("Harmonize", model=model, trajectory=run, layers=layers)[0]["samples"]

    plain = harmonised(texts)
    assert torch.equal(harmonised(control(1)), plain)
    everywhere, whole = harmonised(on_all(net, texts, hint)), harmonised(control(-1))
    assert torch.equal(whole, everywhere) and apart(whole, plain) > 1e-3
    assert torch.equal(harmonised(control(1, on_all(net, texts, hint))), everywhere)


def test_a_new_layer_moves_those_above_it(graph, texts, control):
    model, given = graph.patch(), control(2, control(1))
    made, trajectory, _ = graph.sample(model, given, graph.latent(width=32, height=32))
    added = graph.call("AddLayer", model=model, clip=graph.clip, trajectory=trajectory, prompt="a green cone", position=2, seed=3)
    top = added[1].positive[0][1]["control"]
    assert (top.row, top.rows, top.previous_controlnet.row, top.previous_controlnet.rows) == (3, 5, 1, 5)
    assert top is added[1].negative[0][1]["control"] and given[0][0][1]["control"].row == 2
    rows, old = added[0]["samples"].unflatten(0, (-1, 5)), made["samples"].unflatten(0, (-1, 4))
    assert torch.equal(rows[:, [0, 1, 3]], old[:, :3])


def test_hints_are_those_of_the_core(core, graph, texts, control, reference):
    config = graph.model.model.model_config.unet_config
    names = comfy.utils.unet_to_diffusers(config) | {f"controlnet_mid_block.{end}": f"middle_block_out.0.{end}" for end in ("weight", "bias")}
    for end in ("weight", "bias"):
        names |= {f"controlnet_down_blocks.{place}.{end}": f"zero_convs.{place}.0.{end}" for place in range(20)}
        parts = {"conv_in": 0, **{f"blocks.{block}": 2 * block + 2 for block in range(6)}, "conv_out": 14}
        names |= {f"controlnet_cond_embedding.{part}.{end}": f"input_hint_block.{place}.{end}" for part, place in parts.items()}
    module = comfy.cldm.cldm.ControlNet(hint_channels=3, operations=comfy.ops.disable_weight_init, **{
        name: value for name, value in config.items() if name not in ("out_channels", "transformer_depth_output", "dtype")})
    module.load_state_dict({names[name.removeprefix("control/file/")]: value for name, value in reference.items()
                            if name.startswith("control/file/")}, strict=True)
    net = comfy.controlnet.ControlNet(module.eval().requires_grad_(False), load_device=torch.device("cpu"))
    hint = reference["control/hint"].movedim(0, -1)[None]
    given = control(-1, control(2, control_net=net, image=hint), control_net=net, image=hint.flip(2), strength=1.0)
    assert apart(sample(core, graph.patch(), *given), reference["control/latents"]) < 1e-3
