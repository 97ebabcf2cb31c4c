"""LoRAs and LayerDiffuse's attention on single layers: against ComfyUI's own LoRA loader, and against the core."""

from __future__ import annotations

import gc
from typing import Any

import comfy.sd
import comfy.supported_models
import comfy.utils
import comfy_extras.nodes_hypertile as hypertile
import folder_paths
import pytest
import torch
from graph import ROWS, apart, denoise, draw
from safetensors.torch import load_file, save_file
from test_parity import error, sample
from test_sdxl import UNET, fill

LORA, STRENGTH = "layer.safetensors", 0.7
_SAME = 1e-4


@pytest.fixture(scope="module")
def files(reference, tmp_path_factory):
    """Folders of ComfyUI's with the reference's files in them."""
    folder = tmp_path_factory.mktemp("models")
    folder_paths.add_model_folder_path("loras", str(folder))
    folder_paths.add_model_folder_path("layer_model", str(folder))
    for kind in ("lora", "layerdiffuse", "joint", "bg2fg", "fg2bg"):
        tensors = {name.removeprefix(f"{kind}/file/"): value for name, value in reference.items() if name.startswith(f"{kind}/file/")}
        save_file(tensors, folder / (LORA if kind == "lora" else f"{kind}.safetensors"))
    return folder


@pytest.fixture(scope="module")
def lora(files):
    return load_file(files / LORA)


def with_lora(graph, model: Any = None, *, layer: int = 1, strength: float = STRENGTH, name: str = LORA, clip: Any = None) -> Any:
    return graph.call("LayerLora", model=model or graph.model, layer=layer, lora_name=name, strength=strength, clip=clip)


def alone(graph, model: Any = None, **settings: Any) -> Any:
    """Patched, with rows that do not see each other."""
    return graph.patch(model, caca=False, lssa=False, **settings)


def hooks(model: Any) -> int:
    return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in model.model.diffusion_model.modules())


@pytest.mark.parametrize("layer", [0, 2, -1])
@pytest.mark.parametrize("patched", [False, True])
def test_a_row_is_that_of_comfyuis_own_loader(graph, files, lora, texts, noise, layer, patched):
    base = alone(graph) if patched else graph.model
    plain = denoise(base, texts, noise)
    found = denoise(with_lora(graph, base, layer=layer)[0], texts, noise)
    whole, _ = comfy.sd.load_lora_for_models(base, None, lora, STRENGTH, 0)
    expected, row = denoise(whole, texts, noise), layer % ROWS
    assert apart(found[row], expected[row]) < _SAME < 1e-2 < apart(found[row], plain[row])
    others = [index for index in range(ROWS) if index != row]
    assert torch.equal(found[others], plain[others])
    assert not hooks(base) and torch.equal(denoise(base, texts, noise), plain)


def test_every_picture_of_a_batch_has_it(graph, files, texts):
    noise = draw(2 * ROWS, 4, 8, 8)
    together = denoise(with_lora(graph, graph.model)[0], texts, noise)
    for rows in (slice(0, ROWS), slice(ROWS, None)):
        assert apart(together[rows], denoise(with_lora(graph, graph.model)[0], texts, noise[rows])) < _SAME


def test_before_and_after_patch_model_are_one(graph, files, texts, noise, plain):
    after = denoise(with_lora(graph, graph.patch())[0], texts, noise)
    before = denoise(graph.patch(with_lora(graph)[0]), texts, noise)
    assert torch.equal(after, before)
    assert min(apart(a, b) for a, b in zip(after, plain, strict=True)) > 1e-3  # shared keys carry it to all rows
    assert torch.equal(denoise(graph.patch(), texts, noise), plain)


def test_several_add_up_and_nothing_is_nothing(graph, files, texts, noise):
    base = alone(graph)
    one = denoise(with_lora(graph, base, layer=1, strength=0.5)[0], texts, noise)
    two = with_lora(graph, with_lora(graph, base, layer=1, strength=0.2)[0], layer=1, strength=0.3)[0]
    assert apart(denoise(two, texts, noise), one) < _SAME
    other = denoise(with_lora(graph, with_lora(graph, base, layer=1, strength=0.5)[0], layer=2)[0], texts, noise)
    assert torch.equal(other[[0, 1, 3]], one[[0, 1, 3]]) and apart(other[2], one[2]) > 1e-2
    assert with_lora(graph, base, strength=0.0)[0] is base


def test_calls_that_are_taken_apart_change_nothing(graph, files, texts, noise, monkeypatch):
    model = with_lora(graph, graph.patch())[0]
    expected = denoise(model, texts, noise)
    monkeypatch.setattr(type(graph.model.model), "memory_required", lambda *args, **kwargs: 1e30)
    assert apart(denoise(model, texts, noise), expected) < _SAME


def test_nothing_stays_after_an_error(graph, files, module, texts, noise):
    model, run = with_lora(graph, graph.patch())[0], module("nodes.comfy_model.row_patch")._RowRun
    before, expected = repr((model.model_options, model.wrappers)), denoise(model, texts, noise)

    def breaks(step, *args):
        assert not hooks(model) and any(type(one) is run for one in gc.get_objects())
        raise RuntimeError("in mid-run")

    with pytest.raises(RuntimeError, match="in mid-run"):
        denoise(model, texts, noise, callback=breaks)
    assert not hooks(model) and torch.equal(denoise(model, texts, noise), expected)
    gc.collect()
    assert not any(type(one) is run for one in gc.get_objects()) and repr((model.model_options, model.wrappers)) == before


def test_harmonising_has_what_the_whole_has(graph, files, texts, noise):
    """A run of the last row alone, as Harmonize Layers makes one."""
    single = [[[texts[0][0][0][-1:], {}]], texts[1]]
    base, last = graph.model, noise[-1:]
    plain, layer, whole = (denoise(one, single, last) for one in (
        base, with_lora(graph, layer=0)[0], with_lora(graph, layer=-1)[0]))
    expected = denoise(with_lora(graph, layer=-1)[0], texts, noise)[-1:]
    assert torch.equal(layer, plain) and apart(whole, expected) < _SAME < 1e-2 < apart(whole, plain)


def test_a_layers_text_is_that_of_comfyuis_own_loader(graph, files, lora, texts):
    _, clip = with_lora(graph, layer=2, clip=graph.clip)
    _, whole = comfy.sd.load_lora_for_models(None, graph.clip, lora, 0, STRENGTH)
    plan = graph.usual_plan()
    (plain, before), (expected, _), (found, extra) = (
        graph.call("Encode", clip=one, plan=plan, adapter=graph.adapter)[0][0] for one in (graph.clip, whole, clip))
    assert apart(found[2], expected[2]) < _SAME < 1e-3 < apart(found[2], plain[2])
    assert torch.equal(found[:2], plain[:2]) and torch.equal(texts[0][0][0], plain)
    placed = extra["dreamlayer"].global_spans[2]
    assert torch.equal(found[3, placed.start : placed.stop], found[2, 1 : 1 + placed.length])
    assert torch.equal(found[3, : placed.start], plain[3, : placed.start]) and placed == before["dreamlayer"].global_spans[2]


@pytest.fixture(scope="module")
def sdxl_texts(core):
    embedding = core("prompts").LayeredEmbedding(draw(4, 77, 128), (), (), None, draw(4, 64, seed=3))
    return ([[embedding.embeddings, {"pooled_output": embedding.pooled, "dreamlayer": embedding}]],
            [[draw(1, 77, 128, seed=9), {"pooled_output": draw(1, 64, seed=8)}]])


@pytest.mark.parametrize("form", ["ldm", "peft"])
def test_sdxl_and_other_namings(graph, form, files, noise, sdxl_texts):
    model, tensors, same = sdxl(), {}, {}
    names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
    state = model.model.diffusion_model.state_dict()
    for number, (name, ldm) in enumerate(sorted(names.items())):
        if ldm in state and state[ldm].ndim in (2, 4) and number % 3 == 0:
            out, *inputs = state[ldm].shape
            up, down = draw(out, 2, *[1] * (len(inputs) - 1), seed=number), draw(2, *inputs, seed=number + 1) * torch.Size(inputs).numel() ** -0.5
            key = "lora_unet_" + ldm.removesuffix(".weight").replace(".", "_")
            same |= {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down}
            key = f"unet.{name.removesuffix('.weight')}"
            tensors |= {f"{key}.lora_B.weight": up, f"{key}.lora_A.weight": down}
    save_file(same if form == "ldm" else tensors, files / f"{form}.safetensors")
    found = denoise(with_lora(graph, model, name=f"{form}.safetensors")[0], sdxl_texts, noise)
    whole, _ = comfy.sd.load_lora_for_models(model, None, same, STRENGTH, 0)
    expected, plain = denoise(whole, sdxl_texts, noise), denoise(model, sdxl_texts, noise)
    assert apart(found[1], expected[1]) < _SAME < 1e-2 < apart(found[1], plain[1])
    assert torch.equal(found[[0, 2, 3]], plain[[0, 2, 3]])


def sdxl() -> Any:
    config = comfy.supported_models.SDXL(dict(UNET))
    config.set_inference_dtype(torch.float32, None)
    base = config.get_model({}, "")
    fill(base.diffusion_model)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.CoreModelPatcher(base, load_device=device, offload_device=device)


def test_sdxls_patches_are_weights_of_the_foregrounds(graph, files, noise, sdxl_texts):
    model, tensors, patches = sdxl(), {}, {}
    for number, (name, weight) in enumerate(model.model.diffusion_model.state_dict().items()):
        if name.endswith(("attn1.to_q.weight", "attn2.to_v.weight", "to_out.0.weight")):
            up, down, key = draw(len(weight), 4, seed=number), 0.1 * draw(4, weight.shape[1], seed=number + 1), f"diffusion_model.{name}"
            tensors |= {f"{key}::lora::0": up, f"{key}::lora::1": down}
            patches[key] = ("diff", (up @ down,))
    save_file(tensors, files / "xl.safetensors")
    whole = model.clone()
    whole.add_patches(patches, 1.0)
    found, expected, plain = (denoise(one, sdxl_texts, noise) for one in (
        layerdiffuse(graph, "xl.safetensors", model), whole, model))
    assert torch.equal(found[[0, 3]], plain[[0, 3]])
    assert apart(found[1:3], expected[1:3]) < _SAME < 1e-2 < apart(found[1:3], plain[1:3])


# Against the core


@pytest.mark.parametrize(("case", "first"), [
    ("lora", True), ("layerdiffuse", False), ("joint", True), ("bg2fg", False), ("fg2bg", True)])
def test_latents_are_those_of_the_core(graph, core, files, reference, case, first):
    single = case not in ("lora", "layerdiffuse")
    plan = graph.plan(*("a red ball", "a shiny blue cube")[: 1 if single else 2], whole="a sunny picture", negative="gray")

    def weights(model):
        if case == "lora":
            return with_lora(graph, model, layer=2, strength=0.8, clip=graph.clip)
        return layerdiffuse(graph, f"{case}.safetensors", model, **finished(reference, case)), graph.clip

    model, clip = weights(graph.model if first else graph.patch())
    positive, negative = graph.call("Encode", clip=clip, plan=plan, adapter=graph.adapter)
    found = sample(core, graph.patch(model) if first else model, positive, negative)
    assert error(found, reference[f"{case}/latents"]) < 1e-3
    assert single or error(found, reference["both/latents"]) > 1e-2


def layerdiffuse(graph, name: str, model: Any = None, **given: Any) -> Any:
    return graph.call("LayerDiffuseAttention", model=model or graph.model, weights_name=name, **given)[0]


def finished(reference, case: str) -> dict[str, Any]:
    """The inputs that conditional weights need more."""
    picture = reference["given/picture"].movedim(0, -1)[None]
    return {"bg2fg": {"picture": picture}, "fg2bg": {"picture": picture, "given": "foreground"}}.get(case, {})


@pytest.mark.parametrize("case", ["bg2fg", "fg2bg"])
def test_a_finished_layer_goes_to_all_rows_but_its_own(graph, files, reference, noise, case):
    """Rows that do not see each other: the given one is as without, and the others are what the picture says."""
    base, own, single = alone(graph), 0 if case == "bg2fg" else 1, graph.encode(graph.plan("a red ball"))
    given, name = finished(reference, case), f"{case}.safetensors"
    plain = denoise(base, single, noise[:3])
    found = denoise(layerdiffuse(graph, name, base, **given), single, noise[:3])
    assert torch.equal(found[own], plain[own]) and not hooks(base)
    assert min(apart(found[row], plain[row]) for row in range(3) if row != own) > 1e-2
    other = denoise(layerdiffuse(graph, name, base, **{**given, "picture": 1 - given["picture"]}), single, noise[:3])
    assert apart(other[2], found[2]) > 1e-2


def test_a_finished_layer_is_fitted_and_laid_on_gray(graph, files, reference, noise):
    single, picture = graph.encode(graph.plan("a red ball")), reference["given/picture"].movedim(0, -1)[None]

    def latents(given: Any) -> Any:
        return denoise(layerdiffuse(graph, "bg2fg.safetensors", alone(graph), picture=given), single, noise[:3])

    square = picture[:, :, 16:80]
    assert apart(latents(picture), latents(square)) < _SAME  # the latents are square: its middle is what is used
    alpha = torch.zeros_like(square[..., :1])
    alpha[:, :, 32:] = 1
    gray = torch.where(alpha > 0, square, torch.tensor(0.5))
    assert apart(latents(torch.cat([square, alpha], -1)), latents(gray)) < _SAME


def test_layerdiffuse_changes_no_other_row(graph, files, texts, noise):
    base = alone(graph)
    found = denoise(layerdiffuse(graph, "layerdiffuse.safetensors", base), texts, noise)
    plain = denoise(base, texts, noise)
    assert torch.equal(found[[0, 3]], plain[[0, 3]]) and min(apart(found[row], plain[row]) for row in (1, 2)) > 1e-2


# Names


@pytest.mark.parametrize("kind", ["SD15", "SDXL", "embedded"])
def test_the_cores_names_are_comfyuis(graph, core, kind):
    """The core's rule, against ComfyUI's table."""
    config = graph.model.model.model_config.unet_config if kind == "embedded" else CONFIGS[kind]
    table = {name.removesuffix(".weight"): own.removesuffix(".weight")
             for name, own in comfy.utils.unet_to_diffusers(config).items() if name.endswith(".weight") and ".norm" not in name}
    expected = {name: own for name, own in table.items() if not name.startswith(("class_embedding", "conv_norm"))}
    found = core("unet_names").ldm_names(list(expected))
    # ComfyUI's table has a downsampler for the last stage and an upsampler for the first, which no UNet has.
    assert found == expected


CONFIGS = {
    "SD15": {"num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
             "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1},
    "SDXL": {"num_res_blocks": [2] * 3, "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10],
             "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10},
}


# What does not fit


def test_layers_that_are_not_there(graph, files, texts, noise):
    for layer in (3, 5):
        with pytest.raises(ValueError, match=rf"weights for layer {layer} of a picture with 2 foregrounds; give 0 .* to 2, or -1"):
            denoise(with_lora(graph, layer=layer)[0], texts, noise)
    with pytest.raises(ValueError, match="weights of 3 frames for a picture of 2 foregrounds"):
        denoise(layerdiffuse(graph, "joint.safetensors"), texts, noise)


def test_a_finished_layer_and_an_area_do_not_go_together(graph, files, reference, noise):
    """The area would go by the whole of the layer, and not by its own part."""
    (text, extra), negative = graph.encode(graph.plan("a red ball"))[0][0], graph.encode(graph.plan("a red ball"))[1]
    part = [[[text, extra | {"area": (8, 4, 0, 4), "strength": 1.0}]], negative]
    with pytest.raises(ValueError, match="got conditioning for an area and LayerDiffuse's conditional weights"):
        denoise(layerdiffuse(graph, "bg2fg.safetensors", **finished(reference, "bg2fg")), part, noise[:3])


def test_pictures_and_weights_that_do_not_go_together(graph, files, reference, core):
    picture = reference["given/picture"].movedim(0, -1)[None]
    for name, given, words in (
            ("bg2fg", {}, "bg2fg.safetensors: got conditional weights without a picture"),
            ("joint", {"picture": picture}, "joint.safetensors: got LayerDiffuse's weights without a control, and a picture"),
            ("bg2fg", {"picture": picture.expand(2, -1, -1, -1)}, "got 2 pictures of 3 channels as a finished layer; give one")):
        with pytest.raises((ValueError, core("errors").WeightsError), match=words):
            layerdiffuse(graph, f"{name}.safetensors", **given)


def test_files_that_do_not_fit_are_named(graph, files, core):
    weights_error, call = core("errors").WeightsError, graph.call
    with pytest.raises(weights_error, match=r"layerdiffuse.safetensors: this is LayerDiffuse's attention .*; give a LoRA"):
        with_lora(graph, name="layerdiffuse.safetensors")
    with pytest.raises(weights_error, match=rf"{LORA}: this is a LoRA.*; give LayerDiffuse's attention"):
        call("LayerDiffuseAttention", model=graph.model, weights_name=LORA)
    with pytest.raises(weights_error, match=rf"{LORA}: this is a LoRA.*which this base model lacks; give a LoRA made for this base"):
        with_lora(graph, sdxl())
    with pytest.raises(weights_error, match=r"layerdiffuse.safetensors: weights of \d+ attention layers, but this UNet has"):
        call("LayerDiffuseAttention", model=sdxl(), weights_name="layerdiffuse.safetensors")


def test_tiles_of_the_self_attention_are_refused(graph, files, texts):
    (tiled,) = hypertile.HyperTile.execute(with_lora(graph)[0], tile_size=32, swap_size=1, max_depth=1, scale_depth=False)
    with pytest.raises(ValueError, match=r"pieces of a call of \d+ latents \(HyperTile does\)"):
        denoise(tiled, texts, draw(ROWS, 4, 32, 32), steps=1)
