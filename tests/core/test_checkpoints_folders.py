"""Folders in diffusers' layout as they are published, of SD1, SD2 and SDXL."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import load_file, save_file

from dreamlayer_core.base_options import BaseOptions
from dreamlayer_core.errors import WeightsError
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.schedule import NoiseSchedule

from .tiny import tiny_tokenizer
from .tiny_checkpoints import save_decoder, state, tiny_base

UNET, TEXT = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of SDXL's structure, with a transparent decoder in it. Do not write into it."""
    folder = tiny_base("SDXL").save_folder(tmp_path_factory.mktemp("sdxl") / "model")
    save_decoder(folder / "layer_decoder.safetensors")
    return folder


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "copy"))


def _weights(model: DreamLayer) -> dict[str, torch.Tensor]:
    parts: dict[str, Any] = {"unet": model.unet, "vae": model.vae, "text": model.text_encoders}
    return {f"{part}.{name}": tensor for part, module in parts.items() for name, tensor in state(module).items()}


def _as_published(folder: Path) -> None:
    """Text encoders were saved with an inner prefix, and with their positions."""
    tensors = {f"text_model.{name.removeprefix('text_model.')}": t for name, t in load_file(folder / TEXT).items()}
    save_file({**tensors, "text_model.embeddings.position_ids": torch.arange(77)[None]}, folder / TEXT, {"format": "pt"})


def _halves_alone(folder: Path) -> None:
    for path in folder.glob("*/*.safetensors"):
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))


def _halves_beside(folder: Path) -> None:
    shutil.copy(folder / UNET, folder / UNET.replace(".safetensors", ".fp16.safetensors"))


@pytest.mark.parametrize("change", [_as_published, _halves_alone, _halves_beside])
def test_folders_as_they_are_published_are_read(source: Path, copy: Path, change: Callable[[Path], None]) -> None:
    change(copy)
    expected, found = (_weights(DreamLayer.from_files(folder)) for folder in (source, copy))
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in expected)


def test_pickled_weights_are_read_with_leave(source: Path, copy: Path) -> None:
    for path in (copy / UNET, copy / TEXT):
        torch.save(load_file(path), path.with_name("pytorch_model.bin" if path == copy / TEXT else "diffusion_pytorch_model.bin"))
        path.unlink()
    with pytest.raises(WeightsError, match="text_encoder: cannot be loaded"):
        DreamLayer.from_files(copy)
    found, expected = _weights(DreamLayer.from_files(copy, options=BaseOptions(allow_pickle=True))), _weights(DreamLayer.from_files(source))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_what_is_elsewhere_may_be_given(copy: Path, tmp_path: Path) -> None:
    for part in ("tokenizer", "tokenizer_2", "vae"):
        shutil.move(copy / part, tmp_path / part)
    (copy / "layer_decoder.safetensors").rename(tmp_path / "decoder.safetensors")
    given = BaseOptions(tokenizer=tmp_path / "tokenizer", vae=tmp_path / "vae", layer_decoder=tmp_path / "decoder.safetensors")
    model = DreamLayer.from_files(copy, options=given)
    assert model.vae.config["scaling_factor"] == 0.13025
    assert [encoder.pad_token_id for encoder in cast("list[Any]", list(model.text_encoders.encoders))] == [513, 0]
    with pytest.raises(WeightsError, match="no vae in it; a model folder holds unet, vae"):
        DreamLayer.from_files(copy, options=replace(given, vae=None))
    with pytest.raises(WeightsError, match=r"copy: no layer_decoder\.safetensors in it; give one with --layer-decoder"):
        DreamLayer.from_files(copy, options=replace(given, layer_decoder=None))


def _other_tokens(folder: Path) -> None:
    words = json.loads((folder / "tokenizer_2/vocab.json").read_text(encoding="utf-8"))
    words["a"], words["b"] = words["b"], words["a"]
    shutil.rmtree(folder / "tokenizer_2")
    tiny_tokenizer(folder / "tokenizer_2")
    (folder / "tokenizer_2/tokenizer.json").unlink()
    (folder / "tokenizer_2/vocab.json").write_text(json.dumps(words), encoding="utf-8")


def _widened(folder: Path) -> None:
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps({**config, "in_channels": 9}))
    tensors = load_file(folder / UNET)
    save_file({**tensors, "conv_in.weight": torch.zeros(32, 9, 3, 3)}, folder / UNET, {"format": "pt"})


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "the refiner": (lambda f: shutil.rmtree(f / "text_encoder"), "SDXL's refiner, .*; give SDXL's base model"),
    "one text encoder": (lambda f: shutil.rmtree(f / "text_encoder_2"), "a UNet told a pooled text, without a text_encoder_2"),
    "a transformer": (lambda f: (f / "unet").rename(f / "transformer"), "a transformer in place of a UNet, such as SD3 or Flux"),
    "inpainting": (_widened, "a UNet from 9 to 4 channels for a VAE of 4, as inpainting has them; give a text-to-image model"),
    "other tokens": (_other_tokens, r"tokenizer_2: other tokens than the first tokenizer's"),
    "SD1's text encoder": (
        lambda f: shutil.copytree(tiny_base("SD1").save_folder(f / "sd1") / "unet", f / "unet", dirs_exist_ok=True),
        "a UNet not told a pooled text, with a text_encoder_2"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_used_is_refused_with_a_reason(copy: Path, what: str) -> None:
    change, message = REFUSED[what]
    change(copy)
    with pytest.raises(WeightsError, match=message) as caught:
        DreamLayer.from_files(copy)
    assert str(caught.value).startswith(str(copy)) and "\n" not in str(caught.value)


# ---- the schedule


def _with_schedule(folder: Path, **config: Any) -> Path:
    path = folder / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return folder


def test_the_prediction_may_be_said(copy: Path) -> None:
    assert DreamLayer.from_files(copy, options=BaseOptions(prediction="v_prediction")).schedule.prediction_type == "v_prediction"
    _with_schedule(copy, rescale_betas_zero_snr=True)
    with pytest.raises(WeightsError, match="rescaled ones of a model that predicts noise"):
        DreamLayer.from_files(copy)
    given = DreamLayer.from_files(copy, options=BaseOptions(prediction="v_prediction")).schedule
    assert given == NoiseSchedule(prediction_type="v_prediction", zero_snr=True)


def test_a_schedule_to_noise_alone_steps_as_diffusers() -> None:
    schedule = NoiseSchedule(prediction_type="v_prediction", zero_snr=True)
    stock = cast(Any, DDIMScheduler)(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    stock.set_timesteps(4)
    assert schedule.timesteps(4, "trailing") == stock.timesteps.tolist() == [999, 749, 499, 249]
    assert schedule.alphas_cumprod[-1] == 0
    torch.testing.assert_close(schedule.alphas_cumprod, stock.alphas_cumprod, rtol=1e-5, atol=1e-7)
    draw = torch.Generator().manual_seed(0)
    ours = theirs = torch.randn(1, 4, 8, 8, generator=draw)
    for t, previous in zip(stock.timesteps.tolist(), [749, 499, 249, -1], strict=True):
        output = torch.randn(ours.shape, generator=draw)
        ours, theirs = schedule.ddim_step(output, ours, t, previous), stock.step(output, t, theirs).prev_sample
        torch.testing.assert_close(ours, theirs)


