"""Adapter and decoder files: what is saved comes back, and every kind of wrong file is told apart."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamlayer_core.attention.context_layers import ContextAwareLayers
from dreamlayer_core.errors import InputError, OutputError, WeightsError
from dreamlayer_core.transparent import TransparentDecoder, TransparentDecoderConfig
from dreamlayer_core.weights import (
    Adapter,
    AdapterSettings,
    check_fit,
    load_adapter,
    load_transparent_decoder,
    save_adapter,
    save_transparent_decoder,
)

SETTINGS = AdapterSettings(
    base_family="tiny", cross_attention_dim=6, context_features=10, num_context_layers=2, slots=3, context_hidden=8
)
PROJECTIONS = {
    "down.0.attn1.to_k": (4, 4),
    "down.0.attn1.to_v": (4, 4),
    "up.1.attn2.to_k": (4, 6),
    "up.1.attn2.to_v": (4, 6),
}
DECODER = TransparentDecoderConfig(widths=(8, 8, 16), latent_block=1, attention_blocks=1)


def make_adapter() -> Adapter:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(5)
    layers = ContextAwareLayers(2, 10, 8, 4).state_dict()

    def weights() -> dict[str, Tensor]:
        return {name: torch.randn(shape, generator=generator) for name, shape in PROJECTIONS.items()}

    return Adapter(
        settings=SETTINGS,
        layer_assign=torch.randn(3, 6, generator=generator),
        context_layers={name: torch.randn(x.shape, generator=generator) for name, x in layers.items()},
        shared_kv=weights(),
        foreground_kv=weights(),
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "adapter.safetensors"
    save_adapter(make_adapter(), path)
    return path


@pytest.fixture
def decoder_file(tmp_path: Path) -> Path:
    path = tmp_path / "decoder.safetensors"
    save_transparent_decoder(TransparentDecoder(DECODER), path)
    return path


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def rewrite(
    path: Path,
    *,
    tensors: Callable[[dict[str, Tensor]], object] = lambda tensors: None,
    metadata: Callable[[dict[str, str]], object] = lambda metadata: None,
) -> None:
    """Edit a saved file in place, past every check."""
    content, notes = load_file(path), metadata_of(path)
    tensors(content)
    metadata(notes)
    save_file(content, path, notes)


def fails(path: Path, message: str, load: Callable[[Path], object] = load_adapter) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))


def test_an_adapter_comes_back_as_it_was(saved: Path) -> None:
    adapter, loaded = make_adapter(), load_adapter(saved, base_family="tiny")
    assert loaded.settings == SETTINGS
    assert loaded.tensors().keys() == adapter.tensors().keys()
    for name, tensor in adapter.tensors().items():
        assert torch.equal(loaded.tensors()[name], tensor), name
    check_fit(loaded, PROJECTIONS, base_family="tiny")
    assert [entry.name for entry in saved.parent.iterdir()] == [saved.name]


def test_the_file_says_what_it_is(saved: Path) -> None:
    metadata = metadata_of(saved)
    assert metadata["format"] == "dreamlayer-adapter"
    assert metadata["format_version"] == "1"
    assert metadata["base_family"] == "tiny"
    assert json.loads(metadata["settings"])["context_threshold"] == 850


def test_context_layers_come_back_as_a_working_module(saved: Path) -> None:
    adapter = load_adapter(saved)
    layers, original = adapter.make_context_layers(), ContextAwareLayers(2, 10, 8, 4)
    original.load_state_dict(dict(make_adapter().context_layers))
    maps, features = torch.rand(1, 2, 16), torch.randn(1, 16, 10)
    with torch.no_grad():
        torch.testing.assert_close(layers(maps, features), original(maps, features))
        next(layers.parameters()).zero_()
    assert next(iter(adapter.context_layers.values())).abs().sum() > 0  # its own copy


def test_half_precision_halves_the_file(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_adapter(load_adapter(saved), path, dtype=torch.float16)
    assert {tensor.dtype for tensor in load_adapter(path).tensors().values()} == {torch.float16}
    huge = replace(make_adapter(), layer_assign=torch.full((3, 6), 1e5))
    with pytest.raises(WeightsError, match="layer_assign has 18 NaN or infinite values of 18"):
        save_adapter(huge, tmp_path / "huge.safetensors", dtype=torch.float16)
    assert not (tmp_path / "huge.safetensors").exists()


def test_either_set_may_be_left_out_and_tensors_may_share_memory(tmp_path: Path) -> None:
    path, shared = tmp_path / "a.safetensors", make_adapter().shared_kv
    for left_out in ({"shared_kv": {}}, {"foreground_kv": {}}, {"foreground_kv": shared, "shared_kv": shared}):
        save_adapter(replace(make_adapter(), **left_out), path)
        check_fit(load_adapter(path), PROJECTIONS)
    training_free = replace(SETTINGS, num_context_layers=0, slots=0)
    nothing = Adapter(
        settings=training_free, layer_assign=torch.zeros(0, 6), context_layers={}, shared_kv={}, foreground_kv={}
    )
    save_adapter(nothing, path)
    assert load_adapter(path).settings == training_free


@pytest.mark.parametrize(
    "name",
    [
        "layer_assign",
        "shared_kv.up.1.attn2.to_v",
        "foreground_kv.down.0.attn1.to_k",
        "context_layers.layers.1.output.bias",
    ],
)
def test_a_missing_tensor_is_named(saved: Path, name: str) -> None:
    rewrite(saved, tensors=lambda tensors: tensors.pop(name))
    fails(saved, f"(missing {name}|{name} is missing).*incomplete")


@pytest.mark.parametrize("name", ["extra", "shared_kv.up.1.attn2.to_q", "context_layers.extra", "shared_kv."])
def test_an_unexpected_tensor_is_named(saved: Path, name: str) -> None:
    rewrite(saved, tensors=lambda tensors: tensors.update({name: torch.zeros(2, 2)}))
    fails(saved, f"unexpected {name}")


@pytest.mark.parametrize(
    "name", ["layer_assign", "foreground_kv.up.1.attn2.to_k", "context_layers.layers.0.output.weight"]
)
def test_a_wrong_shape_is_named(saved: Path, name: str) -> None:
    rewrite(saved, tensors=lambda tensors: tensors.update({name: torch.zeros(5, 5)}))
    fails(saved, rf"{name} has shape \(5, 5\), expected \(")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_counted(saved: Path, value: float) -> None:
    rewrite(saved, tensors=lambda tensors: tensors["shared_kv.up.1.attn2.to_k"][0, :2].fill_(value))
    fails(saved, r"shared_kv\.up\.1\.attn2\.to_k has 2 NaN or infinite values of 24")


def test_whole_numbers_are_no_weights(saved: Path) -> None:
    rewrite(saved, tensors=lambda tensors: tensors.update(layer_assign=torch.zeros(3, 6, dtype=torch.int8)))
    fails(saved, "a DreamLayer adapter, stored in 8 bits or fewer; give it in float16, bfloat16 or float32")


def test_another_version_is_refused(saved: Path) -> None:
    rewrite(saved, metadata=lambda metadata: metadata.update(format_version="2"))
    fails(saved, "got format_version '2', this release reads '1'; update DreamLayer")


def test_another_family_is_refused(saved: Path) -> None:
    fails(
        saved,
        "for base family 'tiny', but the model is of family 'sd15'",
        lambda p: load_adapter(p, base_family="sd15"),
    )
    with pytest.raises(WeightsError, match="family 'sd15'"):
        check_fit(load_adapter(saved), PROJECTIONS, base_family="sd15")
    rewrite(saved, metadata=lambda metadata: metadata.update(base_family="sd15"))
    fails(saved, "base family 'sd15' in the metadata, 'tiny' in the settings")


def test_a_unet_that_does_not_fit_is_told(saved: Path) -> None:
    adapter = load_adapter(saved)
    with pytest.raises(WeightsError, match=r"missing shared_kv\.mid\.attn1\.to_k"):
        check_fit(adapter, PROJECTIONS | {"mid.attn1.to_k": (4, 4)})
    with pytest.raises(WeightsError, match=r"unexpected shared_kv\.up\.1\.attn2\.to_v"):
        check_fit(adapter, {name: shape for name, shape in PROJECTIONS.items() if name != "up.1.attn2.to_v"})
    with pytest.raises(WeightsError, match=r"has shape \(4, 6\), expected \(4, 768\)"):
        check_fit(adapter, PROJECTIONS | {"up.1.attn2.to_k": (4, 768)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "no settings"),
        ('{"base_family": "tiny"}', "the setting 'caca_downscale' is missing"),
    ],
)
def test_damaged_settings_are_told(saved: Path, settings: str, message: str) -> None:
    rewrite(saved, metadata=lambda metadata: metadata.update(settings=settings))
    fails(saved, message)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"future": 1}, "'future' is unknown to this release"),
        ({"slots": "3"}, "'slots' is '3', expected <class 'int'>"),
        ({"slots": True}, "'slots' is True"),
        ({"slots": -1}, "got slots -1; give 0 to 64"),
        ({"num_context_layers": 10**9}, "got num_context_layers 1000000000"),
        ({"prediction_type": "flow"}, "got prediction_type 'flow'"),
        ({"context_heads": 3}, "got context_hidden 8 for 3 heads"),
    ],
)
def test_settings_are_checked(saved: Path, changed: dict[str, object], message: str) -> None:
    settings = json.loads(metadata_of(saved)["settings"]) | changed
    rewrite(saved, metadata=lambda metadata: metadata.update(settings=json.dumps(settings)))
    fails(saved, message)


def test_a_truncated_file_is_told_from_a_damaged_one(saved: Path) -> None:
    content = saved.read_bytes()
    for length, message in (
        (len(content) - 1, f"a truncated safetensors file: its header promises {len(content)} bytes, it has {len(content) - 1}; fetch it again"),
        (200, "it ends within its header, at 200 bytes"),
    ):
        saved.write_bytes(content[:length])
        fails(saved, message)
    saved.write_bytes(content + b"more")
    fails(saved, f"a damaged safetensors file: its header promises {len(content)} bytes, it has {len(content) + 4}")
    saved.write_bytes(content[:8] + content[8:].replace(b'"dtype":"F32"', b'"dtype":"F99"', 1))
    fails(saved, "damaged")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file .0 bytes"),
        (b"hello, this is a text of mine", "not a safetensors file"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer"),
        (b"\x80\x02}q\x00.", "pickled PyTorch checkpoint, which is never opened"),
        (b"\xff" * 64, "not a safetensors file"),
    ],
)
def test_other_files_are_not_safetensors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    fails(path, message)
    fails(path, message, load_transparent_decoder)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    path = tmp_path / "model.pt"
    torch.save({"layer_assign": Trap()}, path)
    fails(path, "a pickled PyTorch checkpoint, which is never opened")
    assert not (tmp_path / "sprung").exists()


def test_a_path_without_a_file_is_told(tmp_path: Path) -> None:
    fails(tmp_path / "none.safetensors", "no such file")
    fails(tmp_path, "a folder; give a DreamLayer adapter in a safetensors file")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hookers.layers.0.to_q_lora.0.down.weight", "LayerDiffuse's attention weights for SD1.5"),
        ("diffusion_model.x::lora::0", "LayerDiffuse's weight patches for SDXL"),
        ("model.diffusion_model.input_blocks.0.0.weight", "a UNet of Stable Diffusion alone"),
        ("lora_unet_down.lora_up.weight", "a LoRA"),
        ("text_model.final_layer_norm.weight", "a text encoder"),
        ("blocks.16.weight", "LayerDiffuse's transparent encoder"),
        ("layer_assign", "an adapter without its metadata"),
        ("something", "a safetensors file of an unknown kind with something"),
    ],
)
def test_other_weights_are_named_for_what_they_are(tmp_path: Path, name: str, message: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({name: torch.zeros(2)}, path)
    fails(path, f"this is {message}.*give a DreamLayer adapter")
    fails(path, f"this is {message}.*give a transparent decoder", load_transparent_decoder)


def test_adapters_and_decoders_are_not_mistaken(saved: Path, decoder_file: Path) -> None:
    fails(saved, "this is a DreamLayer adapter; give a transparent decoder", load_transparent_decoder)
    fails(decoder_file, "this is a transparent decoder; give a DreamLayer adapter")


def test_a_decoder_comes_back_by_its_settings(decoder_file: Path) -> None:
    decoder = load_transparent_decoder(decoder_file)
    assert decoder.config == DECODER
    assert not decoder.training
    for name, tensor in load_file(decoder_file).items():
        assert torch.equal(decoder.state_dict()[name], tensor), name
    rgb, latent = torch.rand(1, 3, 8, 8), torch.randn(1, 4, 4, 4)
    half = decoder_file.with_name("half.safetensors")
    save_transparent_decoder(decoder, half, dtype=torch.bfloat16)
    torch.testing.assert_close(
        load_transparent_decoder(half).decode(rgb, latent, views=1).float(),
        decoder.decode(rgb, latent, views=1),
        rtol=0,
        atol=0.05,
    )


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_a_decoder_without_our_metadata_is_read_by_its_shapes(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path, config = tmp_path / "published.safetensors", TransparentDecoderConfig(widths=(8, 8, 16, 24), latent_block=3)
    save_file(TransparentDecoder(config).half().state_dict(), path, metadata)
    decoder = load_transparent_decoder(path)
    assert decoder.config == config
    assert decoder.conv_in.weight.dtype == torch.float16


def test_faulty_decoders_are_told(decoder_file: Path) -> None:
    whole = decoder_file.read_bytes()
    edits: list[tuple[Callable[[dict[str, Tensor]], object], str]] = [
        (lambda tensors: tensors.pop("conv_out.bias"), r"missing conv_out\.bias"),
        (
            lambda tensors: tensors.update({"conv_out.bias": torch.zeros(3)}),
            r"conv_out\.bias has shape \(3,\), expected \(4,\)",
        ),
        (
            lambda tensors: tensors["conv_out.bias"].fill_(float("nan")),
            r"conv_out\.bias has 4 NaN or infinite values of 4",
        ),
    ]
    for edit, message in edits:
        decoder_file.write_bytes(whole)
        rewrite(decoder_file, tensors=edit)
        fails(decoder_file, message, load_transparent_decoder)
    decoder_file.write_bytes(whole)
    rewrite(decoder_file, metadata=lambda metadata: metadata.update(format_version="9"))
    fails(decoder_file, "format_version '9'", load_transparent_decoder)
    decoder_file.write_bytes(whole[:-100])
    fails(decoder_file, "truncated", load_transparent_decoder)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(WeightsError, match="layer_assign has shape"):
        save_adapter(replace(make_adapter(), layer_assign=torch.zeros(2, 6)), saved)
    assert saved.read_bytes() == before
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    with pytest.raises(OutputError, match="cannot write .* choose a writable folder"):
        save_adapter(make_adapter(), blocker / "adapter.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        save_adapter(make_adapter(), tmp_path / "folder.safetensors")
    assert not list(tmp_path.glob(".*"))


def test_a_file_is_as_readable_as_any_other(saved: Path) -> None:
    plain = saved.with_name("plain")
    plain.touch()
    assert saved.stat().st_mode == plain.stat().st_mode


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="empty base_family"):
        replace(SETTINGS, base_family=" ")
    with pytest.raises(InputError, match="got cross_attention_dim 0; give 1 to 65536"):
        replace(SETTINGS, cross_attention_dim=0)
