"""Pictures of single layers on the command line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from diffusers.models.controlnets.controlnet import ControlNetModel
from PIL import Image, ImageChops
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from dreamlayer_core.cli.request import LayerFile, parse_layer_files
from dreamlayer_core.errors import InputError
from dreamlayer_core.formats import load_trajectory
from dreamlayer_core.sampling import FINAL

from .command_line import Run
from .tiny import CHANNELS, seeded, tiny_unet

EMBEDDING = 24


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An IP-Adapter, its image encoder, a ControlNet and a picture."""
    folder = tmp_path_factory.mktemp("files")
    widths = {f"ip_adapter.{2 * place + 1}.to_{part}_ip.weight": (CHANNELS, CHANNELS) for place in range(10) for part in "kv"}
    shapes = {"image_proj.proj.weight": (4 * CHANNELS, EMBEDDING), "image_proj.proj.bias": (4 * CHANNELS,),
              "image_proj.norm.weight": (CHANNELS,), "image_proj.norm.bias": (CHANNELS,), **widths}
    with seeded(1):
        save_file({name: torch.randn(shape) for name, shape in shapes.items()}, folder / "ip-adapter.safetensors")
        encoder: Any = CLIPVisionModelWithProjection(CLIPVisionConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8,
            projection_dim=EMBEDDING))
        net: Any = cast(Any, ControlNetModel).from_unet(tiny_unet(), conditioning_embedding_out_channels=(8, 16, 16))
        for module in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
            nn.init.normal_(module.weight, std=0.2)
    encoder.save_pretrained(folder / "encoder")
    net.save_pretrained(folder / "controlnet")
    Image.effect_noise((60, 40), 90).convert("RGB").save(folder / "picture.png")
    return folder


@pytest.fixture(scope="module")
def generate(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a command line leaves: its report, and the latents (rows, c, h, w) of its stack."""
    def run(*arguments: str | Path) -> tuple[dict[str, Any], Tensor]:
        home = tmp_path_factory.mktemp("run")
        report = Run(home, "generate", "--model", tiny_folder, "--background", "a hill", "--foreground", "a ball", "--foreground", "a box",
                     "--steps", "2", "--no-harmonize", "--no-lssa", "--no-caca", "--views", "1", "--json", "--out", home / "out", *arguments).json()
        stored: Any = load_trajectory(home / "out")
        return report, stored.trajectory.latents[FINAL][0]

    return run


@pytest.fixture(scope="module")
def plain(generate: Any) -> Tensor:
    return generate()[1]


def test_an_image_prompt_is_its_layers(generate: Any, plain: Tensor, files: Path) -> None:
    report, found = generate("--image-prompt", f"2={files / 'picture.png'}:0.5", "--ip-adapter", files / "ip-adapter.safetensors",
                             "--image-encoder", files / "encoder")
    assert torch.equal(found[[0, 1, 3]], plain[[0, 1, 3]]) and not torch.isclose(found[2], plain[2], atol=0.05).all()
    assert report["settings"]["image_prompts"] == [f"2={files / 'picture.png'}:0.5"]
    assert report["settings"]["ip_adapter"] == str(files / "ip-adapter.safetensors") and "controls" not in report["settings"]


def test_hints_are_their_layers(generate: Any, plain: Tensor, files: Path) -> None:
    report, found = generate("--control", f"1={files / 'picture.png'}", "--control", f"global={files / 'picture.png'}:0.5",
                             "--controlnet", files / "controlnet")
    assert torch.equal(found[[0, 2]], plain[[0, 2]])
    assert all(not torch.isclose(found[row], plain[row], atol=0.05).all() for row in (1, 3))
    assert report["settings"]["controls"] == [f"1={files / 'picture.png'}:1", f"global={files / 'picture.png'}:0.5"]


@pytest.fixture(scope="module")
def painted(generate: Any, files: Path) -> tuple[Path, Tensor]:
    """A stack whose upper foreground has an image prompt, and its lower one and the whole picture a hint; and its latents."""
    picture = files / "picture.png"
    report, latents = generate(
        "--image-prompt", f"2={picture}", "--ip-adapter", files / "ip-adapter.safetensors", "--image-encoder", files / "encoder",
        "--control", f"1={picture}", "--control", f"global={picture}:0.5", "--controlnet", files / "controlnet")
    return Path(report["folder"]), latents


@pytest.mark.parametrize("layer", [1, 2])
def test_a_layer_anew_has_its_pictures_again(layer: int, painted: tuple[Path, Tensor], tmp_path: Path) -> None:
    """By its own seed and prompt it comes out as it was, and so does the whole picture."""
    folder, latents = painted
    report = Run(tmp_path, "regenerate", folder, "--layer", str(layer), "--seed", "0", "--no-harmonize", "--views", "1",
                 "--json", "--out", tmp_path / "anew").json()
    stored: Any = load_trajectory(tmp_path / "anew")
    torch.testing.assert_close(stored.trajectory.latents[FINAL][0], latents, rtol=1e-3, atol=1e-3)
    assert len(report["settings"]["controls"]) == 2 and len(report["settings"]["image_prompts"]) == 1


def test_pictures_follow_their_layers_numbers(painted: tuple[Path, Tensor], files: Path, tmp_path: Path) -> None:
    folder, picture = painted[0], files / "picture.png"
    added = Run(tmp_path, "add", folder, "--prompt", "a cube", "--position", "1", "--no-harmonize", "--views", "1", "--json",
                "--out", tmp_path / "added").json()["settings"]
    assert added["controls"] == [f"2={picture}:1", f"global={picture}:0.5"] and added["image_prompts"] == [f"3={picture}:1"]


def test_the_hint_of_a_layer_that_is_moved_goes(painted: tuple[Path, Tensor], files: Path, tmp_path: Path) -> None:
    folder, picture = painted[0], files / "picture.png"
    moved = Run(tmp_path, "edit", folder, "--layer", "1", "--move", "4,0", "--no-harmonize", "--views", "1", "--json",
                "--out", tmp_path / "moved").json()["settings"]
    assert "controls" not in moved and "controlnet" not in moved and moved["image_prompts"] == [f"2={picture}:1"]
    hidden = Run(tmp_path, "edit", folder, "--layer", "2", "--hide", "--no-harmonize", "--views", "1", "--json",
                 "--out", tmp_path / "hidden").json()["settings"]
    assert hidden["controls"] == [f"1={picture}:1"]


def test_a_picture_that_is_gone_is_told_as_the_stacks(painted: tuple[Path, Tensor], files: Path, tmp_path: Path) -> None:
    shutil.copytree(painted[0], folder := tmp_path / "stack")
    document = (folder / "stack.json").read_text().replace(str(files / "picture.png"), str(files / "lost.png"))
    (folder / "stack.json").write_text(document)
    arguments = ("edit", folder, "--layer", "1", "--opacity", "0.5", "--views", "1", "--out", tmp_path / "out")
    Run(tmp_path, *arguments).assert_fails(1, "lost.png: no such picture", "the stack notes this file: bring it back", "--model")
    assert Run(tmp_path, *arguments, "--no-harmonize", "--json").json()["settings"]["controls"][0].endswith("lost.png:1")  # none acts


def test_harmonising_again_goes_by_the_wholes_hint(tiny_folder: Path, files: Path, tmp_path: Path) -> None:
    def harmonized(name: str, *arguments: str | Path) -> Image.Image:
        report = Run(tmp_path, *arguments, "--views", "1", "--json", "--out", tmp_path / name).json()
        return Image.open(report["files"]["harmonized"]).convert("RGB")

    scene = ("generate", "--model", tiny_folder, "--background", "a hill", "--foreground", "a ball", "--steps", "4")
    plain = harmonized("plain", *scene)
    made = harmonized("made", *scene, "--control", f"global={files / 'picture.png'}", "--controlnet", files / "controlnet")
    again = harmonized("again", "edit", tmp_path / "made", "--layer", "1", "--opacity", "1")
    assert _apart(again, made) <= 1 and _apart(made, plain) > 50


def _apart(one: Image.Image, other: Image.Image) -> int:
    return int(np.asarray(ImageChops.difference(one, other)).max())


@pytest.mark.parametrize(("text", "expected"), [
    ("1=a.png", LayerFile(layer=1, file=Path("a.png"))),
    (" global = C:\\a b.png:0.25", LayerFile(layer="global", file=Path("C:\\a b.png"), strength=0.25)),
])
def test_pictures_are_read_from_the_command_line(text: str, expected: LayerFile) -> None:
    assert parse_layer_files("--control", [text], "a.png") == (expected,)


def test_what_is_no_picture_of_a_layer() -> None:
    for text in ("a.png", "x=a.png", "1=", "-1=a.png"):
        with pytest.raises(InputError, match="got --control .*; give LAYER=FILE or LAYER=FILE:STRENGTH, such as 1=a.png:0.8"):
            parse_layer_files("--control", [text], "a.png")


@pytest.mark.parametrize(("arguments", "words"), [
    (("--image-prompt", "1=p.png"), ("some of --image-prompt, --ip-adapter and --image-encoder; give all three",)),
    (("--ip-adapter", "a", "--image-encoder", "b"), ("give all three",)),
    (("--control", "1=p.png"), ("got one of --control and --controlnet; give both",)),
    (("--control", "2=p.png", "--controlnet", "c"), ("got --control for layer 2 of 2; give 0 (the background) to 1, or global",)),
    (("--control", "1=p.png:-1", "--controlnet", "c"), ("got --control with a strength of -1; give 0 (none) to 10",)),
    (("--control", "1=none.png", "--controlnet", "c"), ("none.png: no such picture",)),
    (("--control", "1={picture}", "--controlnet", "none"), ("none: no such file",)),
    (("--control", "1={picture}", "--controlnet", "{adapter}"), ("this is an IP-Adapter", "give a ControlNet")),
    (("--image-prompt", "1={picture}", "--ip-adapter", "{adapter}", "--image-encoder", "none"), ("none/config.json: cannot be read",)),
])
def test_one_line_says_what_is_wrong(
    arguments: tuple[str, ...], words: tuple[str, ...], files: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    given = [one.format(picture=files / "picture.png", adapter=files / "ip-adapter.safetensors") for one in arguments]
    run = Run(tmp_path, "generate", "--model", tiny_folder, "--background", "a hill", "--foreground", "a ball", "--steps", "1",
              "--out", tmp_path / "out", *given)
    run.assert_fails(run.code or 1, *words)
