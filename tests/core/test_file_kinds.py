"""Files are told by their headers: names and shapes as published and as trainers write them, in files of full size without content."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dreamlayer_core.errors import WeightsError
from dreamlayer_core.file_kinds import FileKind, expect, identify
from dreamlayer_core.model_files import ADAPTER, EMBEDDED, LAYER_DECODER
from dreamlayer_core.transparent import TransparentDecoder, TransparentDecoderConfig

from .tiny import tiny_model

Shape = tuple[int, ...]
BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F8_E4M3": 1, "U8": 1, "I64": 8, "F64": 8}


def write(path: Path, shapes: Mapping[str, Shape], dtype: str = "F16", short: int = 0, **metadata: str) -> Path:
    """A safetensors file of these tensors, all zero and without blocks on the disk; ``short`` bytes too small."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    content = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        file.truncate(8 + len(content) + end - short)
    return path


@pytest.fixture
def kind_of(tmp_path: Path):
    return lambda shapes, **options: identify(write(tmp_path / "named-for-nothing.bin", shapes, **options))


def ldm(width: int, channels: int = 4, vae: str = "first_stage_model", text: str = "cond_stage_model") -> dict[str, Shape]:
    """What tells a checkpoint, out of its thousand tensors."""
    return {
        "model.diffusion_model.input_blocks.0.0.weight": (320, channels, 3, 3),
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": (640, width),
        **({f"{vae}.decoder.conv_in.weight": (512, 4, 3, 3)} if vae else {}),
        **({f"{text}.transformer.text_model.final_layer_norm.weight": (768,)} if text else {}),
    }


@pytest.mark.parametrize(("shapes", "name", "family", "phrase"), [
    (ldm(768), "checkpoint", "sd15", "a checkpoint of SD1"),
    (ldm(1024), "checkpoint", "sd21", "a checkpoint of SD2"),
    (ldm(2048, text="conditioner"), "checkpoint", "sdxl", "a checkpoint of SDXL"),
    (ldm(1280, text="conditioner"), "refiner-checkpoint", "refiner", "a checkpoint of SDXL's refiner"),
    (ldm(96), "checkpoint", None, "a checkpoint of Stable Diffusion"),
    (ldm(768, 9), "inpainting-checkpoint", "sd15", "an inpainting checkpoint of SD1"),
    (ldm(768, 8), "editing-checkpoint", "sd15", "an editing checkpoint of SD1"),
    (ldm(1024, 5), "depth-checkpoint", "sd21", "a depth checkpoint of SD2"),
    (ldm(1024, 7), "7-channel-checkpoint", "sd21", "a 7-channel checkpoint of SD2"),
    (ldm(768, vae=""), "incomplete-checkpoint", "sd15", "a checkpoint of SD1 without its VAE"),
    (ldm(768, text=""), "incomplete-checkpoint", "sd15", "a checkpoint of SD1 without its text encoder"),
    (ldm(768, vae="", text=""), "unet", "sd15", "a UNet of SD1 alone"),
    ({"input_blocks.0.0.weight": (320, 9, 3, 3), "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768)},
     "inpainting-unet", "sd15", "an inpainting UNet of SD1 alone"),
    ({"conv_in.weight": (320, 4, 3, 3), "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048)},
     "unet", "sdxl", "a UNet of SDXL alone"),
    ({"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": (4608, 1536)}, "other-model", None,
     "a model that is not Stable Diffusion 1, 2 or XL but SD3 or a model like it"),
    ({"double_blocks.0.img_attn.qkv.weight": (9216, 3072)}, "other-model", None,
     "a model that is not Stable Diffusion 1, 2 or XL but Flux or a model like it"),
    (ldm(1024) | {"model.diffusion_model.input_blocks.1.1.time_stack.0.attn2.to_k.weight": (320, 1024)}, "other-model", None,
     "a model that is not Stable Diffusion 1, 2 or XL but Stable Video Diffusion"),
    ({"blocks.0.self_attn.q.weight": (8, 8), "blocks.16.self_attn.q.weight": (8, 8)}, "other-model", None,
     "a model that is not Stable Diffusion 1, 2 or XL"),
    ({"decoder.conv_in.weight": (512, 4, 3, 3), "encoder.conv_in.weight": (128, 3, 3, 3)}, "vae", None, "a VAE"),
    ({"first_stage_model.decoder.conv_in.weight": (512, 16, 3, 3)}, "vae", None, "a VAE of 16 latent channels"),
    ({"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)}, "text-encoder", None, "a text encoder"),
    ({"vision_model.encoder.layers.0.mlp.fc1.weight": (8, 8)}, "clip-vision", None, "a CLIP vision model"),
    ({"encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8)}, "language-model", None, "a language model or a T5 text encoder"),
    ({"control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768)}, "controlnet", "sd15",
     "a ControlNet for SD1"),
    ({"controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3), "down_blocks.0.resnets.0.conv1.weight": (320, 320, 3, 3),
      "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight": (640, 2048)}, "controlnet", "sdxl",
     "a ControlNet for SDXL"),
    ({"ip_adapter.1.to_k_ip.weight": (320, 768), "image_proj.norm.weight": (768,)}, "ip-adapter", "sd15", "an IP-Adapter for SD1"),
    ({"ip_adapter.0.to_q_lora.down.weight": (128, 640), "ip_adapter.1.to_k_ip.weight": (640, 2048)}, "ip-adapter", "sdxl",
     "an IP-Adapter for SDXL"),
    ({"down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": (320, 320)}, "motion-module", None,
     "a motion module of AnimateDiff"),
    ({"emb_params": (4, 768)}, "textual-inversion", "sd15", "a textual inversion for SD1"),
    ({"emb_params": ()}, "textual-inversion", None, "a textual inversion"),
    ({"<cat-toy>": (1024,)}, "textual-inversion", "sd21", "a textual inversion for SD2"),
    ({"clip_g": (2, 1280), "clip_l": (2, 768)}, "textual-inversion", "sdxl", "a textual inversion for SDXL"),
    ({"something": (2,)}, "unknown", None, "a safetensors file of an unknown kind with something"),
    ({}, "unknown", None, "a safetensors file of an unknown kind with no tensors"),
])
def test_models_are_told_by_names_and_shapes(kind_of, shapes, name, family, phrase) -> None:
    found: FileKind = kind_of(shapes)
    assert (found.name, found.family, found.describe()) == (name, family, phrase)
    assert found.dtypes == (("F16",) if shapes else ())


KOHYA = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
PEFT = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2"


@pytest.mark.parametrize(("width", "family", "base"), [(768, "sd15", "SD1"), (1024, "sd21", "SD2"), (2048, "sdxl", "SDXL")])
@pytest.mark.parametrize(("down", "up"), [
    (f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight"),
    (f"{KOHYA}.hada_w1_b", f"{KOHYA}.hada_w1_a"),
    ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_v.lora_down.weight", "lora_te_x.lora_up.weight"),
    (f"{PEFT}.to_k.lora_A.weight", f"{PEFT}.to_k.lora_B.weight"),
    (f"base_model.model.{PEFT}.to_v.lora_A.default.weight", f"base_model.model.{PEFT}.to_v.lora_B.default.weight"),
    (f"{PEFT}.to_k.lora.down.weight", f"{PEFT}.to_k.lora.up.weight"),
    (f"{PEFT}.processor.to_k_lora.down.weight", f"{PEFT}.processor.to_k_lora.up.weight"),
])
def test_loras_tell_their_base_however_they_are_named(kind_of, width, family, base, down, up) -> None:
    found = kind_of({up: (640, 8), down: (8, width)})
    assert (found.name, found.family, found.describe()) == ("lora", family, f"a LoRA for {base}")


@pytest.mark.parametrize(("name", "metadata", "family", "phrase"), [
    ("lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", {}, "sdxl", "a LoRA for SDXL"),
    ("lora_unet_x.lora_down.weight", {"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "sdxl", "a LoRA for SDXL"),
    ("lora_unet_x.lora_down.weight", {"ss_base_model_version": "sd_v1"}, "sd15", "a LoRA for SD1"),
    ("lora_unet_x.lora_down.weight", {}, None, "a LoRA"),
    ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", {}, None, "a LoRA for Flux or a model like it"),
    ("transformer.transformer_blocks.0.attn.add_k_proj.lora_A.weight", {}, None, "a LoRA for SD3 or a model like it"),
])
def test_loras_without_matrices_for_text(kind_of, name, metadata, family, phrase) -> None:
    found = kind_of({name: (8, 64)}, **metadata)
    assert (found.name, found.family, found.describe()) == ("lora", family, phrase)


# Of the sites of attention in Stable Diffusion 1.5, the channels; LayerDiffuse's order: down, up, the middle last.
SITES = [side for side in (320, 320, 640, 640, 1280, 1280, *(1280,) * 3, *(640,) * 3, *(320,) * 3, 1280) for _ in range(2)]


def layerdiffuse_attention(frames: int, control: bool = False) -> dict[str, Shape]:
    """Names and shapes of the SD1.5 attention files."""
    shapes: dict[str, Shape] = {}
    for site, side in enumerate(SITES):
        text = side if site % 2 == 0 else 768
        for part, inner in (("q", side), ("k", text), ("v", text), ("out", side)):
            for frame in range(frames):
                lora = f"hookers.layers.{site}.to_{part}_lora.{frame}"
                shapes |= {f"{lora}.down.weight": (256, inner), f"{lora}.up.weight": (side, 256)}
        for part in "iqkvo":
            shapes |= {f"hookers.layers.{site}.temporal_{part}.weight": (side, side), f"hookers.layers.{site}.temporal_{part}.bias": (side,)}
        shapes |= {f"hookers.layers.{site}.temporal_n.{part}": (side,) for part in ("weight", "bias")}
    return shapes | ({"kwargs_encoder.blocks_0.0.weight": (16, 3, 3, 3)} if control else {})


ENCODER = {f"blocks.{2 * n}.{part}": (8, 8, 3, 3) if part == "weight" else (8,) for n in range(9) for part in ("weight", "bias")}


def decoder_shapes() -> dict[str, Shape]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in TransparentDecoder(TransparentDecoderConfig()).state_dict().items()}


@pytest.mark.parametrize(("shapes", "name", "family"), [
    (layerdiffuse_attention(1), "layerdiffuse-attention", "sd15"),
    (layerdiffuse_attention(3), "layerdiffuse-joint", "sd15"),
    (layerdiffuse_attention(2, control=True), "layerdiffuse-conditional", "sd15"),
    (decoder_shapes(), "layerdiffuse-decoder", None),
    (ENCODER, "layerdiffuse-encoder", None),
    ({"diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q.weight::lora::0": (1280, 256)}, "layerdiffuse-xl", "sdxl"),
    ({"diffusion_model.input_blocks.0.0.weight::diff::0": (320, 8, 3, 3)}, "layerdiffuse-xl-conditional", "sdxl"),
])
def test_layerdiffuse_files_are_told_apart(tmp_path: Path, shapes, name, family) -> None:
    path = write(tmp_path / "any", shapes)
    assert (identify(path).name, identify(path).family) == (name, family)
    assert expect(path, name) == identify(path)
    others = ("layerdiffuse-encoder", "lora") if name != "layerdiffuse-encoder" else ("vae", "lora")
    with pytest.raises(WeightsError, match="^" + str(path) + r": this is .*; give .* or a LoRA$"):
        expect(path, *others)


@pytest.mark.parametrize(("shapes", "keys", "parameters"), [
    (layerdiffuse_attention(1), 640, 175_098_496), (layerdiffuse_attention(3), 1152, 277_138_048),
    (decoder_shapes(), 538, 104_104_804)])
def test_they_are_of_the_published_size(shapes, keys, parameters) -> None:
    assert (len(shapes), sum(math.prod(shape) for shape in shapes.values())) == (keys, parameters)


def test_our_own_files(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    assert (identify(model / ADAPTER).name, identify(model / ADAPTER).describe()) == ("dreamlayer-adapter", "a DreamLayer adapter")
    assert identify(model / LAYER_DECODER).name == "dreamlayer-transparent-decoder"
    assert identify(model / "unet/diffusion_pytorch_model.safetensors").name == "unet"
    assert identify(model / "vae/diffusion_pytorch_model.safetensors").name == "vae"
    assert identify(model / "text_encoder/model.safetensors").name == "text-encoder"
    assert identify(model).describe() == "a folder"


@pytest.mark.skipif(not EMBEDDED.is_dir(), reason="the embedded model is not there")
def test_the_embedded_model() -> None:
    assert identify(EMBEDDED / ADAPTER).family == "dreamlayer-embedded"
    (unet,) = (EMBEDDED / "unet").glob("*.safetensors")
    assert identify(unet).describe() == "a UNet of the embedded model alone"


@pytest.mark.parametrize(("dtype", "stored"), [("F8_E4M3", ", stored in fp8"), ("U8", ", stored in 8 bits or fewer"),
                                               ("BF16", ""), ("F64", ""), ("I64", "")])
def test_small_storage_is_told_and_refused(tmp_path: Path, dtype: str, stored: str) -> None:
    path = write(tmp_path / "x", ldm(768), dtype)
    assert identify(path).describe() == f"a checkpoint of SD1{stored}"
    assert identify(path).is_quantized is bool(stored)
    if stored:
        with pytest.raises(WeightsError, match=f"this is a checkpoint of SD1{stored}; give it in float16, bfloat16 or float32$"):
            expect(path, "checkpoint")


def test_a_file_of_7_gb_is_told_at_once(tmp_path: Path) -> None:
    shapes = ldm(2048, text="conditioner") | {f"model.diffusion_model.x{n}.weight": (1280, 1280) for n in range(2600)}
    path = write(tmp_path / "x", shapes)
    assert path.stat().st_size > 7e9 and path.stat().st_blocks * 512 < 1e6
    before = time.process_time()
    assert identify(path).name == "checkpoint"
    assert time.process_time() - before < 0.5


@pytest.mark.parametrize(("content", "name", "said"), [
    (b"", "empty", "this is an empty file (0 bytes); fetch it again; expected a VAE"),
    (b"GGUF\x03\0\0\0", "gguf", "this is a GGUF file; give a VAE in a safetensors file"),
    (b"PK\x03\x04" + b"\0" * 26 + b"archive/data.pkl", "pickle", "this is a pickled PyTorch checkpoint, which is never opened; give a"),
    (b"\x80\x02}q\x00.", "pickle", "this is a pickled PyTorch checkpoint"),
    (b"PK\x03\x04 layers/readme.txt", "zip", "this is a zip archive, which is never opened; give a VAE in a safetensors file"),
    (b"\n <!DOCTYPE html>", "web-page", "this is a web page in place of the file; fetch it again; expected a VAE"),
    (b'{"error": "no access"}', "json", "this is a JSON text in place of the file; fetch it again"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "lfs-pointer", "fetch the file itself with git lfs pull"),
    (b"hello", "no-safetensors", "this is not a safetensors file (5 bytes); give a VAE in a safetensors file"),
    (b"\xff" * 64, "no-safetensors", "this is not a safetensors file (64 bytes)"),
    ((2**60).to_bytes(8, "little") + b"{", "truncated", "it ends within its header, at 9 bytes; fetch it again"),
    ((4).to_bytes(8, "little") + b"{{}}", "damaged", "a safetensors file with a damaged header; fetch it again"),
    ((9).to_bytes(8, "little") + b'{"x": []}', "damaged", "a safetensors file with a damaged header"),
    ((58).to_bytes(8, "little") + b'{"x":{"dtype":"F16","shape":[1e999],"data_offsets":[0,4]}}', "damaged", "a safetensors file with a damaged header"),
    ((8).to_bytes(8, "little") + b'{"x": 1}'[:8], "damaged", "a safetensors file with a damaged header"),
    ((200_000).to_bytes(8, "little") + b'{"x":' + b"[" * 199_995, "damaged", "a safetensors file with a damaged header"),
])
def test_what_is_no_safetensors_file_is_told_for_what_it_is(tmp_path: Path, content: bytes, name: str, said: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert identify(path).name == name
    with pytest.raises(WeightsError) as caught:
        expect(path, "vae")
    assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value) and "\n" not in str(caught.value)


def test_a_truncated_file_is_told_with_its_sizes(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", ldm(768)).stat().st_size
    path = write(tmp_path / "short", ldm(768), short=7)
    assert identify(path).describe() == f"a truncated safetensors file: its header promises {whole} bytes, it has {whole - 7}"
    assert identify(write(path, ldm(768), short=-4)).name == "damaged"


def test_what_is_not_there_or_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="x: no such file; check its name, or fetch it; expected a VAE or a LoRA$"):
        expect(tmp_path / "x", "vae", "lora")
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(WeightsError, match="this is a model folder in diffusers' layout; give a VAE in a safetensors file"):
        expect(tmp_path, "vae")
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe")
        assert identify(tmp_path / "pipe").describe() == "no regular file"
    assert identify("a\0b").name == "unreadable"
    (tmp_path / "loop").symlink_to("loop")
    assert identify(tmp_path / "loop").name == "unreadable"
    if os.geteuid():
        (tmp_path / "locked").touch(mode=0)
        assert identify(tmp_path / "locked").name == "unreadable"


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"x": Trap()}, tmp_path / "model.safetensors")
    assert identify(tmp_path / "model.safetensors").name == "pickle"
    assert not (tmp_path / "sprung").exists()


def test_what_the_safetensors_library_writes_is_read(tmp_path: Path) -> None:
    save_file({"<a>": torch.zeros(768, dtype=torch.bfloat16), "<b>": torch.zeros(768)}, tmp_path / "x", {"format": "pt"})
    assert identify(tmp_path / "x") == FileKind(
        name="textual-inversion", phrase="a textual inversion for SD1", family="sd15", dtypes=("BF16", "F32"))
