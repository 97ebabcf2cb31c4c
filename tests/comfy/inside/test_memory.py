"""What a run leaves behind, and what it does where memory is short."""

from __future__ import annotations

import gc
from collections.abc import Callable

import comfy.cli_args
import comfy.model_management
import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.utils
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from graph import ROWS, apart, denoise, draw, sigmas

import nodes as comfy_nodes

_SAME = 1e-4
_OUT_OF_MEMORY = comfy.model_management.OOM_EXCEPTION


@pytest.fixture
def noise():
    return draw(ROWS, 4, 8, 8)


@pytest.fixture
def remains(module) -> Callable[[], list[object]]:
    """What lives of any run."""
    kinds = (module("dreamlayer_core.layer_run").LayerRun, module("nodes.comfy_model.run").PatchedRun,
             module("nodes.comfy_model.calls").Chunk, module("nodes.comfy_model.calls").UnetCall)

    def found() -> list[object]:
        gc.collect()
        return [one for one in gc.get_objects() if type(one) in kinds]

    return found


def options(model) -> str:
    return repr((model.model_options, model.wrappers, sorted(model.patches), model.callbacks, model.injections))


# Nothing stays


def test_nothing_of_a_run_remains(patched, texts, noise, remains):
    before = options(patched)
    seen = []
    denoise(patched, texts, noise, callback=lambda *args: seen.append(len(remains())))
    assert min(seen) > 0, "the test itself sees a run"
    assert remains() == [] and options(patched) == before
    assert patched.model.current_patcher is None


def test_a_run_that_breaks_leaves_the_model_as_it_was(patched, texts, noise, remains):
    before, expected = options(patched), denoise(patched, texts, noise)

    def breaks(step, *args):
        if step == 0:
            raise RuntimeError("in mid-run")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="in mid-run"):
            denoise(patched, texts, noise, callback=breaks)
        assert options(patched) == before
    assert remains() == []
    assert torch.equal(denoise(patched, texts, noise), expected)


def test_an_error_inside_the_unet(patched, texts, noise, remains, monkeypatch):
    expected, stock = denoise(patched, texts, noise), UNetModel._forward

    def breaks(self, *args, **kwargs):
        stock(self, *args, **kwargs)
        raise RuntimeError("in the UNet")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="in the UNet"):
        patch.setattr(UNetModel, "_forward", breaks)
        denoise(patched, texts, noise)
    assert remains() == []
    assert torch.equal(denoise(patched, texts, noise), expected)


@pytest.fixture
def interrupt_at_progress():
    """Clicking on Cancel while a bar moves. Gives how far it came."""
    steps: list[int] = []

    def hook(value, total, preview, node_id=None):
        steps.append(value)
        comfy.model_management.interrupt_current_processing()

    comfy.utils.set_progress_bar_global_hook(hook)
    yield steps
    comfy.utils.set_progress_bar_global_hook(None)
    comfy.model_management.interrupt_current_processing(False)


def test_sampling_stops_within_a_step(graph, patched, texts, remains, interrupt_at_progress):
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        graph.sample(patched, texts, graph.latent(), steps=5)
    assert interrupt_at_progress == [1]
    assert remains() == []


def test_harmonising_and_decoding_stop_as_well(graph, patched, texts):
    latent, trajectory, _ = graph.sample(patched, texts, graph.latent(), steps=3)
    decode = {"vae": graph.vae, "decoder": graph.decoder, "samples": latent, "views": "1"}
    document = graph.call("Decode", **decode)[0]
    steps: list[int] = []

    def hook(value, total, preview, node_id=None):
        steps.append(value)
        comfy.model_management.interrupt_current_processing()

    comfy.utils.set_progress_bar_global_hook(hook)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            graph.call("Harmonize", model=patched, trajectory=trajectory, layers=document, high=1000, low=0)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            graph.call("Decode", **decode)
        assert steps == [1, 1]
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
        comfy.model_management.interrupt_current_processing(False)


# Less at once


@pytest.fixture
def room(monkeypatch):
    """room(n): more than n rows in a call of the UNet run out of memory, half way. Gives the sizes of all calls."""
    stock = UNetModel._forward

    def limit(rows: int) -> list[int]:
        sizes: list[int] = []

        def limited(self, x, *args, **kwargs):
            sizes.append(len(x))
            output = stock(self, x, *args, **kwargs)
            if len(x) > rows:
                raise _OUT_OF_MEMORY("injected")
            return output

        monkeypatch.setattr(UNetModel, "_forward", limited)
        return sizes

    return limit


def test_halves_in_two_calls(graph, patched, texts, noise, monkeypatch):
    expected = denoise(patched, texts, noise)
    monkeypatch.setattr(type(graph.model.model), "memory_required", lambda *args, **kwargs: 1e30)
    assert apart(denoise(patched, texts, noise), expected) < _SAME


def test_halves_in_two_calls_twice_at_a_noise_level(graph, patched, texts, noise, monkeypatch):
    """Samplers with a corrector: the second time the unconditional rows need the maps of the second time."""
    def twice(model, x, sigmas, extra_args=None, callback=None, disable=None):
        level = sigmas[0] * x.new_ones(len(x))
        first = model(x, level, **extra_args)
        return model(x.flip(-1) + first, level, **extra_args)

    def corrected():
        levels = sigmas(patched)
        return comfy.sample.sample_custom(
            patched, noise, 3.0, comfy.samplers.KSAMPLER(twice), levels, *texts, torch.zeros_like(noise), seed=0)

    expected = corrected()
    monkeypatch.setattr(type(graph.model.model), "memory_required", lambda *args, **kwargs: 1e30)
    assert apart(corrected(), expected) < _SAME


@pytest.mark.parametrize(("rows", "calls"), [
    (24, [24, 24]),
    # What was too much is tried once in a run, then never again.
    (12, [24, 12, 12, 12, 12]),
    (8, [24, 12, 4, 8, 4, 8, 4, 8, 4, 8]),
    (4, [24, 12, 4, 8, 4, 4, 4, 4, 4, *[4] * 6]),
])
def test_out_of_memory_falls_back_to_smaller_calls(patched, texts, room, rows, calls):
    """A batch of three pictures of four rows, and their unconditional ones."""
    noise = draw(3 * ROWS, 4, 8, 8)
    expected = denoise(patched, texts, noise)
    sizes = room(rows)
    assert apart(denoise(patched, texts, noise), expected) < _SAME
    assert sizes == calls


def test_rows_of_a_picture_stay_together(patched, texts, noise, room, remains):
    room(ROWS - 1)
    with pytest.raises(_OUT_OF_MEMORY):
        denoise(patched, texts, noise)
    assert remains() == []


def test_out_of_memory_with_control_and_areas(graph, patched, texts, room):
    """Everything that has rows is cut with the latents."""
    noise = draw(2 * ROWS, 4, 8, 8)
    other = graph.encode(graph.plan("a big green tree", "a small yellow star", negative="gray"))[0]
    area = comfy_nodes.ConditioningSetArea().append
    conditioning = (texts[0] + area(other, 32, 64, 32, 0, 1.0)[0], texts[1])

    def controlled(executor, x, timesteps, context, y, control, transformer_options, **kwargs):
        control = {"input": [draw(1, 64, 1, 1)], "middle": [x.mean((1, 2, 3), keepdim=True).expand(-1, 160, -1, -1)]}
        return executor(x, timesteps, context, y, control, transformer_options, **kwargs)

    model = patched.clone()
    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "test", controlled)
    expected = denoise(model, conditioning, noise)
    room(ROWS)
    assert apart(denoise(model, conditioning, noise), expected) < _SAME
    assert apart(denoise(patched, conditioning, noise), expected) > 1e-3


def test_out_of_memory_with_pictures_of_single_layers(graph, patched, texts, room, core, module):
    """Hints and image prompts find their rows in every part."""
    noise = draw(2 * ROWS, 4, 8, 8)
    given = graph.call("LayerControlNet", positive=texts[0], negative=texts[1], control_net=graph.control_net(),
                       image=draw(2, 64, 64, 3).sigmoid(), layer=1, strength=0.5)
    names = module("nodes.comfy_model.sites").find_modules(patched)
    layers = sorted((name for name in names if name.endswith("attn2")), key=lambda name: name.startswith("mid_block"))
    widths = [patched.model.diffusion_model.get_submodule(names[name]).to_q.weight.shape[0] for name in layers]
    keys, values = ([draw(2, 4, width, seed=seed) for width in widths] for seed in (1, 2))
    prompt = core("image_prompts").ImagePrompt(keys=tuple(keys), values=tuple(values), context=texts[0][0][0].shape[-1])
    model = module("nodes.comfy_model.image_prompts").patch_image_prompt(patched, prompt, 2)
    expected = denoise(model, given, noise)
    room(ROWS)
    assert apart(denoise(model, given, noise), expected) < _SAME
    assert apart(denoise(model, texts, noise), expected) > 1e-3 and apart(denoise(patched, given, noise), expected) > 1e-3


def test_maps_of_smaller_calls_reach_the_node(graph, patched, texts, room):
    latent = graph.latent(batch=2)
    expected = graph.sample(patched, texts, latent)[2]
    room(ROWS)
    assert (graph.sample(patched, texts, latent)[2] - expected).abs().max() < 1e-3


# Whose weights where


def test_the_adapter_is_loaded_and_offloaded_by_comfyui(graph, texts, noise):
    patched = graph.patch()
    (adapter,) = patched.get_nested_additional_models()
    assert (adapter.load_device, adapter.offload_device) == (graph.model.load_device, graph.model.offload_device)
    denoise(patched, texts, noise)
    loaded = comfy.model_management.loaded_models()
    assert any(one.is_clone(adapter) for one in loaded)
    assert adapter.loaded_size() == adapter.model_size() > 0
    patched.detach()
    comfy.model_management.unload_all_models()
    assert adapter.loaded_size() == 0
    assert {weight.device for weight in adapter.model.parameters()} == {torch.device(adapter.offload_device)}


@pytest.mark.parametrize("budget", [1, 200_000])
def test_low_memory_mode(graph, texts, noise, monkeypatch, budget):
    """Weights are fetched, and patched, one by one; the adapter's modules cannot be, so they are loaded whole."""
    comfy.model_management.unload_all_models()
    expected = denoise(graph.patch(), texts, noise)
    comfy.model_management.unload_all_models()

    def sparing(self, extra_memory, force_patch_weights=False):
        return self.model.partially_load(self.device, budget, force_patch_weights=force_patch_weights)

    monkeypatch.setattr(comfy.model_management.LoadedModel, "model_use_more_vram", sparing)
    patched = graph.patch()
    (adapter,) = patched.get_nested_additional_models()
    found = denoise(patched, texts, noise)
    assert patched.model.model_lowvram and patched.lowvram_patch_counter() > 0
    assert not adapter.model.model_lowvram and adapter.loaded_size() == adapter.model_size()
    assert apart(found, expected) < _SAME
    comfy.model_management.unload_all_models()
    assert not patched.model.model_lowvram


@pytest.mark.parametrize(("option", "dtype", "limit"), [
    ("fp16_unet", torch.float16, 0.01), ("bf16_unet", torch.bfloat16, 0.08), ("fp8_e4m3fn_unet", torch.float8_e4m3fn, 0.3)])
def test_other_precisions(graph, texts, noise, monkeypatch, option, dtype, limit):
    expected = denoise(graph.patch(), texts, noise)
    monkeypatch.setattr(comfy.cli_args.args, option, True)
    model = graph.call("LoadEmbeddedModel")[0]
    assert model.model_dtype() == dtype
    found = denoise(graph.patch(model), texts, noise)
    stock = apart(denoise(model, texts, noise), denoise(graph.model, texts, noise))
    assert apart(found, expected) < max(limit, 3 * stock)


def test_computing_in_bfloat16(graph, texts, noise):
    half = graph.model.clone()
    half.set_model_compute_dtype(torch.bfloat16)
    found = denoise(graph.patch(half), texts, noise)
    assert 1e-4 < apart(found, denoise(graph.patch(), texts, noise)) < 0.1
