"""Checkpoints in one file, against the models that they were made of."""

from __future__ import annotations

import pickle
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
import torch
from torch import Tensor

from dreamlayer_core.base_options import BaseOptions
from dreamlayer_core.checkpoint_parts import SD1, SD2, SDXL
from dreamlayer_core.checkpoints import Checkpoint, find_schedule
from dreamlayer_core.errors import InputError, WeightsError
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.schedule import NoiseSchedule

from .tiny import tiny_tokenizer
from .tiny_checkpoints import NAMES, Name, TinyBase, ldm_vae_names, save_checkpoint, save_decoder, state, tiny_base

UNET, FIRST_CONV = "model.diffusion_model.", "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def bases() -> dict[Name, TinyBase]:
    return {name: tiny_base(name) for name in NAMES}


@pytest.fixture(scope="module")
def files(bases: Mapping[Name, TinyBase], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SD1.safetensors, SD2.safetensors and SDXL.safetensors, decoder.safetensors, and a tokenizer. Do not write into it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    tiny_tokenizer(folder / "tokenizer")
    save_decoder(folder / "decoder.safetensors")
    for name, base in bases.items():
        save_checkpoint(base.checkpoint(), folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="module")
def options(files: Path) -> BaseOptions:
    return BaseOptions(layer_decoder=files / "decoder.safetensors", tokenizer=files / "tokenizer")


def assert_same_weights(model: Any, expected: Any) -> None:
    ours, theirs = state(model), state(expected)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def assert_loads_as(base: TinyBase, model: DreamLayer) -> None:
    assert_same_weights(model.unet, base.unet)
    assert_same_weights(model.vae, base.vae)
    for found, encoder in zip(model.text_encoders.models, filter(None, (base.first, base.second)), strict=True):
        assert_same_weights(found, encoder)


# ---- what a file becomes


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_the_models_that_it_was_made_of(
    bases: Mapping[Name, TinyBase], files: Path, options: BaseOptions, name: Name, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("neither the network nor pickle may be used")

    for module, names in ((socket.socket, ("connect", "connect_ex")), (socket, ("getaddrinfo",)), (pickle, ("load", "loads")), (torch, ("load",))):
        for attribute in names:
            monkeypatch.setattr(module, attribute, refuse)
    model, base = DreamLayer.from_files(files / f"{name}.safetensors", options=options), bases[name]
    assert_loads_as(base, model)
    latents, text = torch.randn(2, 4, 8, 8), torch.randn(2, 77, base.unet.config["cross_attention_dim"])
    added = {"text_embeds": torch.randn(2, 64), "time_ids": torch.ones(2, 6)} if name == "SDXL" else None
    with torch.no_grad():
        outputs = [cast(Any, unet)(latents, 500, text, added_cond_kwargs=added).sample for unet in (model.unet, base.unet)]
        pictures = [cast(Any, vae).decode(latents).sample for vae in (model.vae, base.vae)]
    assert torch.equal(*outputs) and torch.equal(*pictures)
    assert model.vae.config["scaling_factor"] == base.vae.config["scaling_factor"]
    assert model.default_size == ((1024, 1024) if name == "SDXL" else (512, 512))
    assert not any(p.requires_grad or p.is_meta for part in (model.unet, model.vae, model.text_encoders) for p in cast(Any, part).parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_and_a_file_of_one_model_encode_the_same(
    bases: Mapping[Name, TinyBase], files: Path, options: BaseOptions, tmp_path: Path, name: Name
) -> None:
    folder = bases[name].save_folder(tmp_path, "v_prediction")
    from_folder = DreamLayer.from_files(folder, options=replace(options, tokenizer=None))
    from_file = DreamLayer.from_files(files / f"{name}.safetensors", options=replace(options, prediction="v_prediction"))
    assert from_folder.schedule == from_file.schedule == NoiseSchedule(prediction_type="v_prediction")
    assert_loads_as(bases[name], from_folder)
    for ours, theirs in zip(*(model.text_encoders.encode(["a red cube", "b " * 60]) for model in (from_folder, from_file)), strict=True):
        assert torch.equal(ours.embedding, theirs.embedding) and (ours.pooled is None) == (name != "SDXL")
        if ours.pooled is not None and theirs.pooled is not None:
            assert torch.equal(ours.pooled, theirs.pooled)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_and_models_may_have_any_precision(
    bases: Mapping[Name, TinyBase], options: BaseOptions, tmp_path: Path, dtype: torch.dtype
) -> None:
    stored = bases["SDXL"].checkpoint()
    path = save_checkpoint(stored, tmp_path / "half.safetensors", dtype)
    wide, narrow = DreamLayer.from_files(path, options=options), DreamLayer.from_files(path, options=options, dtype=dtype)
    weight = stored[FIRST_CONV]
    assert torch.equal(state(wide.unet)["conv_in.weight"], weight.to(dtype).float())
    assert torch.equal(state(narrow.unet)["conv_in.weight"], weight.to(dtype))
    # SDXL's VAE would overflow in fp16
    assert narrow.vae.dtype == (torch.float32 if dtype == torch.float16 else dtype)


# ---- what else is in files, and what may be missing


def with_ema(tensors: dict[str, Tensor]) -> None:
    tensors |= {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in list(tensors.items())[:150]}
    tensors |= {"model_ema.decay": torch.tensor(0.999), "model_ema.num_updates": torch.tensor(3)}


def with_training_state(tensors: dict[str, Tensor]) -> None:
    tensors |= {name: torch.rand(1000) for name in ("alphas_cumprod", "betas", "sqrt_alphas_cumprod", "posterior_variance")}
    tensors |= {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
                "cond_stage_model.logit_scale": torch.tensor(4.6), "first_stage_model.loss.logvar": torch.zeros(()),
                "first_stage_model.model_ema.decay": torch.tensor(1.0), "embedding_manager.x": torch.zeros(2)}


def without_inner_prefix(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if ".transformer.text_model." in name]:
        tensors[name.replace(".text_model.", ".")] = tensors.pop(name)


def as_sgm_saves(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if name.startswith("cond_stage_model.model.")]:
        tensors[name.replace("cond_stage_model.", "conditioner.embedders.0.")] = tensors.pop(name)


def without_the_unread_layer(tensors: dict[str, Tensor]) -> None:
    """As files are that were converted from a folder."""
    for name in [name for name in tensors if ".resblocks.23." in name]:
        tensors.pop(name)


def with_projection(tensors: dict[str, Tensor]) -> None:
    tensors["conditioner.embedders.0.transformer.text_projection.weight"] = torch.eye(64)
    tensors["conditioner.embedders.1.model.logit_scale"] = torch.tensor(4.6)
    tensors["conditioner.embedders.0.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    tensors["denoiser.sigmas"] = torch.rand(1000)


def flat_attention(tensors: dict[str, Tensor]) -> None:
    for name in [name for name in tensors if "mid.attn_1." in name and tensors[name].ndim == 4]:
        tensors[name] = tensors[name][:, :, 0, 0]


@pytest.mark.parametrize(
    ("name", "change"),
    [("SD1", with_ema), ("SD1", with_training_state), ("SD1", without_inner_prefix), ("SD2", as_sgm_saves),
     ("SD2", without_the_unread_layer), ("SDXL", with_projection), ("SD2", flat_attention)])
def test_what_fine_tunes_and_merges_have_besides_changes_nothing(
    bases: Mapping[Name, TinyBase], options: BaseOptions, tmp_path: Path, name: Name, change: Callable[[dict[str, Tensor]], None]
) -> None:
    tensors = bases[name].checkpoint()
    change(tensors)
    assert_loads_as(bases[name], DreamLayer.from_files(save_checkpoint(tensors, tmp_path / "x.safetensors"), options=options))


def test_a_vae_may_be_given_apart(bases: Mapping[Name, TinyBase], options: BaseOptions, tmp_path: Path) -> None:
    base, other = bases["SD1"], tiny_base("SD1", seed=1).vae
    bare = {name: t for name, t in base.checkpoint().items() if not name.startswith("first_stage_model.")}
    path = save_checkpoint(bare, tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match=r"bare\.safetensors: a checkpoint without its VAE; give one with --vae"):
        DreamLayer.from_files(path, options=options)
    layouts = [save_checkpoint(ldm_vae_names(state(other), prefix), tmp_path / f"vae{index}.safetensors")
               for index, prefix in enumerate(("", "first_stage_model."))]
    other.save_pretrained(tmp_path / "vae")
    for vae in (*layouts, tmp_path / "vae", tmp_path / "vae/diffusion_pytorch_model.safetensors"):
        model = DreamLayer.from_files(path, options=replace(options, vae=vae))
        assert_same_weights(model.vae, other)
        assert model.vae.config["scaling_factor"] == 0.18215
    with pytest.raises(WeightsError, match=r"bare\.safetensors: this is a checkpoint .*; give a VAE"):
        DreamLayer.from_files(path, options=replace(options, vae=path))


@pytest.mark.parametrize("part", ["time_embed", "time_embedding"])
def test_a_latent_consistency_model_is_told_its_guidance(
    bases: Mapping[Name, TinyBase], options: BaseOptions, tmp_path: Path, part: str
) -> None:
    told = torch.randn(64, 32, generator=torch.Generator().manual_seed(1))
    tensors = bases["SD1"].checkpoint()
    channels = tensors[FIRST_CONV].shape[0]
    path = save_checkpoint({**tensors, f"{UNET}{part}.cond_proj.weight": told[:channels]}, tmp_path / "lcm.safetensors")
    model = DreamLayer.from_files(path, options=options)
    assert model.has_distilled_guidance and model.unet.config["time_cond_proj_dim"] == 32
    assert torch.equal(state(model.unet)["time_embedding.cond_proj.weight"], told[:channels])


# ---- what does not fit


def drop(name: str) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.pop(name)


def put(name: str, *shape: int) -> Callable[[dict[str, Tensor]], object]:
    return lambda tensors: tensors.update({name: torch.zeros(shape)})


DAMAGE: dict[str, tuple[Name, Callable[[dict[str, Tensor]], object], str]] = {
    "no block": ("SD1", drop(f"{UNET}middle_block.1.norm.weight"), r"missing mid_block\.attentions\.0\.norm\.weight; the file is incomplete"),
    "no embedding of sizes": ("SDXL", drop(f"{UNET}label_emb.0.2.bias"), r"missing model\.diffusion_model\.label_emb\.0\.2\.bias"),
    "one block too many": ("SD1", put(f"{UNET}input_blocks.1.1.transformer_blocks.1.norm1.bias", 32), r"unexpected down_blocks\.0\."),
    "another width": ("SD2", put(f"{UNET}out.2.bias", 5), r"conv_out\.bias has shape \(5,\), expected \(4,\)"),
    "no text encoder": ("SDXL", lambda t: [t.pop(n) for n in list(t) if n.startswith("conditioner.embedders.0.")], r"no text encoder"),
    "half a text encoder": ("SD1", drop("cond_stage_model.transformer.text_model.final_layer_norm.bias"), r"missing .*final_layer_norm\.bias"),
    "no norm of OpenCLIP": ("SDXL", drop("conditioner.embedders.1.model.ln_final.bias"), r"missing text_model\.final_layer_norm\.bias"),
    "too few layers": ("SD2", lambda t: [t.pop(n) for n in list(t) if ".resblocks.22." in n], r"missing encoder\.layers\.22\."),
    "half a VAE": ("SD1", drop("first_stage_model.decoder.norm_out.bias"), r"missing decoder\.conv_norm_out\.bias"),
    "NaN": ("SD1", lambda t: t[FIRST_CONV].fill_(float("nan")), r"conv_in\.weight has \d+ NaN"),
    "inpainting": ("SD1", put(FIRST_CONV, 32, 9, 3, 3), "an inpainting checkpoint"),
    "editing": ("SD2", put(FIRST_CONV, 64, 8, 3, 3), "an editing checkpoint"),
    "depth": ("SD2", put(FIRST_CONV, 64, 5, 3, 3), "a depth checkpoint"),
    "refiner": ("SDXL", lambda t: [t.pop(n) for n in list(t) if n.startswith("conditioner.embedders.1.")],
                "SDXL's refiner, .*: give SDXL's base checkpoint"),
    "distilled": ("SDXL", lambda t: [t.pop(n) for n in list(t) if any(f"transformer_blocks.{b}." in n for b in range(4, 10))],
                  "an SDXL of fewer blocks .such as SSD-1B.*; give its folder in diffusers' layout"),
    "EDM": ("SDXL", put("edm_mean", 4), "EDM's noise levels"),
    "SD3": ("SD1", put(f"{UNET}joint_blocks.0.x_block.attn.qkv.weight", 4, 4), "SD3 or a model like it"),
    "Flux": ("SD1", put(f"{UNET}double_blocks.0.img_attn.qkv.weight", 4, 4), "Flux or a model like it"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_does_not_fit_is_named(bases: Mapping[Name, TinyBase], options: BaseOptions, tmp_path: Path, what: str) -> None:
    name, change, message = DAMAGE[what]
    tensors = {key: tensor.clone() for key, tensor in bases[name].checkpoint().items()}
    change(tensors)
    path = save_checkpoint(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError, match=message) as caught:
        DreamLayer.from_files(path, options=options)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


OTHER_FILES: dict[str, tuple[Callable[[Path, TinyBase], object], str]] = {
    "a VAE": (lambda path, base: save_checkpoint(ldm_vae_names(state(base.vae), ""), path), "this is a VAE.*; give a whole checkpoint"),
    "a LoRA": (lambda path, _: save_checkpoint({"lora_unet_x.lora_up.weight": torch.ones(2, 2)}, path), "this is a LoRA.*; give a whole checkpoint"),
    "a UNet": (lambda path, base: save_checkpoint(state(base.unet), path), "this is a UNet .*alone; give a whole checkpoint"),
    "a decoder": (lambda path, _: save_decoder(path), "this is a transparent decoder; give a whole checkpoint"),
    "GGUF": (lambda path, _: path.write_bytes(b"GGUF" + bytes(60)), "this is a GGUF file; give a whole checkpoint"),
    "half a file": (lambda path, base: path.write_bytes(save_checkpoint(base.checkpoint(), path).read_bytes()[:-99]), "this is a truncated"),
    "fp8": (lambda path, base: save_checkpoint(base.checkpoint(), path, torch.float8_e4m3fn), "stored in fp8; give it in float16"),
    "a pickle": (lambda path, base: torch.save(base.checkpoint(), path), "a pickled checkpoint; give it as safetensors, or open it .* with --allow-pickle"),
    "nothing": (lambda path, _: None, "no such model folder; give a folder in diffusers' layout, a checkpoint in one file"),
}


@pytest.mark.parametrize("what", OTHER_FILES)
def test_a_file_of_another_kind_is_called_what_it_is(bases: Mapping[Name, TinyBase], options: BaseOptions, tmp_path: Path, what: str) -> None:
    write, message = OTHER_FILES[what]
    path = tmp_path / "renamed.safetensors"
    write(path, bases["SD1"])
    with pytest.raises(WeightsError, match=message) as caught:
        DreamLayer.from_files(path, options=options)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


# ---- pickled files


class _Executes:
    """What a pickled file can do when it is opened."""

    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _execute, ()


def _execute() -> None:
    _Executes.ran = True


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_pickled_checkpoint_is_read_with_leave(
    bases: Mapping[Name, TinyBase], options: BaseOptions, tmp_path: Path, wrapped: bool
) -> None:
    tensors, path = bases["SD1"].checkpoint(), tmp_path / "x.ckpt"
    torch.save({"state_dict": tensors, "global_step": 3} if wrapped else tensors, path)
    assert_loads_as(bases["SD1"], DreamLayer.from_files(path, options=replace(options, allow_pickle=True)))


def test_code_in_a_pickled_file_never_runs(options: BaseOptions, tmp_path: Path) -> None:
    path = tmp_path / "bad.ckpt"
    torch.save({"state_dict": {}, "callback": _Executes()}, path)
    with pytest.raises(WeightsError, match=r"bad\.ckpt: holds more than tensors, or is damaged .*; give it as safetensors"):
        DreamLayer.from_files(path, options=replace(options, allow_pickle=True))
    assert not _Executes.ran
    with pytest.raises(WeightsError, match=r"\(Unsupported global: GLOBAL .*_execute") as caught:
        DreamLayer.from_files(path, options=replace(options, allow_pickle=True))
    assert "weights_only" not in str(caught.value)
    torch.save([torch.zeros(2)], path)
    with pytest.raises(WeightsError, match=r"a pickled list, expected tensors by name"):
        DreamLayer.from_files(path, options=replace(options, allow_pickle=True))


@pytest.mark.parametrize("content", [b".", b"", b"h\x05.", b"J\x01.", b"X\x01\0\0\0\xff.", b"ccollections\nOrderedDict\nK\x05R.", b"}."])
def test_a_damaged_pickled_file_is_told(options: BaseOptions, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(b"\x80\x02" + content)
    with pytest.raises(WeightsError, match=r"bad\.ckpt: holds more than tensors, or is damaged \(.+\); give it as safetensors"):
        DreamLayer.from_files(path, options=replace(options, allow_pickle=True))


# ---- what the model predicts


def test_the_prediction_is_given_or_marked_or_told(bases: Mapping[Name, TinyBase]) -> None:
    def found(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], **given: Any) -> NoiseSchedule:
        return find_schedule(tensors, metadata, SDXL, **given)

    velocity = NoiseSchedule(prediction_type="v_prediction")
    assert found({}, {}) == NoiseSchedule()
    assert found({}, {"modelspec.prediction_type": "v"}) == found({"v_pred": torch.empty(0)}, {}) == velocity
    assert found({"v_pred": torch.empty(0)}, {}, prediction="epsilon") == NoiseSchedule()
    assert found({"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}, {}) == replace(velocity, zero_snr=True)
    with pytest.raises(InputError, match="ends in noise alone"):
        found({"ztsnr": torch.empty(0)}, {}, prediction="epsilon")
    with pytest.raises(InputError, match="got a prediction of 'sample'; give epsilon or v_prediction"):
        BaseOptions(prediction=cast(Any, "sample"))


@pytest.mark.parametrize(("spread", "metadata", "expected"), [
    (0.2, {}, "v_prediction"), (0.01, {}, "epsilon"), (0.2, {"modelspec.prediction_type": "epsilon"}, "epsilon")])
def test_the_768_model_of_sd2_shows_in_its_weights(spread: float, metadata: dict[str, str], expected: str) -> None:
    bias = torch.randn(320, generator=torch.Generator().manual_seed(0)) * spread
    tensors = {f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias": bias}
    assert find_schedule(tensors, metadata, SD2).prediction_type == expected
    assert find_schedule(tensors, metadata, SD1).prediction_type == "epsilon"


def test_markers_are_read_from_the_file(bases: Mapping[Name, TinyBase], options: BaseOptions, tmp_path: Path) -> None:
    tensors = bases["SD2"].checkpoint()
    bias = tensors[f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"]
    marked = {**tensors, f"{UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias": torch.linspace(-1, 1, len(bias))}
    model = DreamLayer.from_files(save_checkpoint(marked, tmp_path / "v.safetensors"), options=options)
    assert model.schedule.prediction_type == "v_prediction" and model.default_size == (768, 768)
    told = save_checkpoint(tensors, tmp_path / "told.safetensors", modelspec__prediction_type="v")
    assert Checkpoint(told, options).schedule.prediction_type == "v_prediction"


# ---- the tokenizer and the decoder


def test_a_tokenizer_comes_from_what_was_fetched(files: Path, options: BaseOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("DREAMLAYER_MODELS", str(tmp_path / "models"))
    path, missing = files / "SD1.safetensors", replace(options, tokenizer=None)
    with pytest.raises(WeightsError, match=r"no vocab\.json .*models pull clip-tokenizer.*--tokenizer") as caught:
        DreamLayer.from_files(path, options=missing)
    assert str(tmp_path / "models") in str(caught.value)
    snapshot = tmp_path / "hub/models--openai--clip-vit-large-patch14/snapshots/abc"
    shutil.copytree(files / "tokenizer", snapshot)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs/main").write_text("abc")
    assert len(DreamLayer.from_files(path, options=missing).text_encoders.ids("ab")) == 2


def test_a_tokenizer_that_does_not_fit_is_refused(files: Path, options: BaseOptions, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no tokenizer\.json, nor vocab\.json with merges\.txt"):
        DreamLayer.from_files(files / "SD1.safetensors", options=replace(options, tokenizer=tmp_path))
    tokenizer = cast(Any, tiny_tokenizer(tmp_path / "large"))
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(tmp_path / "large")
    with pytest.raises(WeightsError, match="515 tokens, but the text encoder knows 514"):
        DreamLayer.from_files(files / "SD1.safetensors", options=replace(options, tokenizer=tmp_path / "large"))


def test_a_checkpoint_needs_a_transparent_decoder(files: Path, options: BaseOptions) -> None:
    with pytest.raises(WeightsError, match=r"SD1\.safetensors: a checkpoint in one file has no transparent decoder; give one with --layer-dec"):
        DreamLayer.from_files(files / "SD1.safetensors", options=replace(options, layer_decoder=None))
    with pytest.raises(WeightsError, match="this is a checkpoint"):
        DreamLayer.from_files(files / "SD1.safetensors", options=replace(options, layer_decoder=files / "SD1.safetensors"))
