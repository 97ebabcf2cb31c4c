"""Training: the loop resumes exactly, and the four stages run one after another into a model that loads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from dreamlayer_core.config import SamplingConfig
from dreamlayer_core.errors import FormatError, InputError, WeightsError
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.training.base import compile_blocks
from dreamlayer_core.training.data import SceneCache, render_scenes
from dreamlayer_core.training.loop import LoopConfig, load_ema, train
from dreamlayer_core.training.muon import Muon, orthogonalize
from dreamlayer_core.training.options import TrainOptions
from dreamlayer_core.training.stages import run_adapter, run_base, run_decoder, run_vae

from .tiny import seeded


class _Line(nn.Module):
    def __init__(self, width=1):
        super().__init__()
        self.linear = nn.Linear(3 if width == 1 else width, width)

    def forward(self, batch):
        return {"loss": (self.linear(batch) - batch.sum(1, keepdim=True)).square().mean()}


class _LineStage:
    def __init__(self, width=1):
        torch.manual_seed(0)
        self.module = _Line(width)
        self.sampled, self.exported = [], None

    def batch(self, generator, size):
        return torch.randn(size, self.module.linear.in_features, generator=generator)

    def sample(self, path):
        self.sampled.append(path.name)

    def export(self, folder):
        self.exported = self.module.linear.weight.detach().clone()


def _settings(out, **changes):
    values = {"out": out, "steps": 60, "learning_rate": 0.05, "batch": 8, "warmup": 5, "precision": "no",
              "save_every": 10, "sample_every": 30, "log_every": 10, "ema": 0.9}
    return LoopConfig(**(values | changes))


@pytest.mark.parametrize("muon", [False, True])
def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path, muon):
    width = 32 if muon else 1
    whole, first, second = _LineStage(width), _LineStage(width), _LineStage(width)
    train(whole, _settings(tmp_path / "whole", muon=muon))
    # The learning rate follows config.steps, so the first half is cut off by time, not by steps.
    train(first, _settings(tmp_path / "cut", minutes=0.0, muon=muon))
    assert first.exported is not None
    cut = _CutAfter(25, width)
    with pytest.raises(KeyboardInterrupt):
        train(cut, _settings(tmp_path / "cut", resume=True, muon=muon))
    train(second, _settings(tmp_path / "cut", resume=True, muon=muon))
    assert torch.equal(whole.exported, second.exported)
    assert whole.sampled == ["sample-0000030.png", "sample-0000060.png", "sample-0000060.png"]


class _CutAfter(_LineStage):
    def __init__(self, steps, width=1):
        super().__init__(width)
        self.left = steps

    def batch(self, generator, size):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().batch(generator, size)


def test_muon_takes_orthogonal_steps_for_matrices_and_adamw_steps_for_the_rest():
    torch.manual_seed(0)
    assert torch.linalg.svdvals(orthogonalize(torch.randn(2, 32, 96)).float()).sub(1).abs().max() < 0.4
    parameters = {"kernel": torch.randn(32, 64, 3, 3), "bias": torch.randn(32), "table": torch.randn(77, 32)}
    makers = {"muon": Muon, "adamw": torch.optim.AdamW}
    after: dict[str, dict[str, torch.Tensor]] = {}
    for name, make in makers.items():
        own = {key: nn.Parameter(value.clone()) for key, value in parameters.items()}
        for key, value in own.items():
            value.grad = torch.randn(parameters[key].shape, generator=torch.Generator().manual_seed(len(key)))
        make(list(own.values()), lr=0.01, weight_decay=0.0).step()
        after[name] = {key: value.detach() for key, value in own.items()}
    for key in ("bias", "table"):
        assert torch.equal(after["muon"][key], after["adamw"][key])
    step = (after["muon"]["kernel"] - parameters["kernel"]).flatten(1) / 0.01
    assert 0.1 < step.square().mean().sqrt() < 0.3  # 0.2 by design
    singular = torch.linalg.svdvals(step)
    assert singular.max() / singular.min() < 2  # AdamW's are spread over far more


def test_it_learns_and_logs(tmp_path):
    stage = _LineStage()
    train(stage, _settings(tmp_path))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(losses) == 6 and losses[-1] < 0.1 * losses[0]
    module = _Line()
    assert load_ema(module, tmp_path / "checkpoint.safetensors") == 60
    assert torch.equal(module.linear.weight, stage.exported)


def test_an_earlier_run_is_never_overwritten(tmp_path):
    train(_LineStage(), _settings(tmp_path))
    with pytest.raises(InputError, match="--resume"):
        train(_LineStage(), _settings(tmp_path))


def test_a_checkpoint_of_another_stage_is_refused(tmp_path):
    train(_LineStage(), _settings(tmp_path))
    other = _LineStage()
    other.module.more = nn.Linear(2, 2)
    with pytest.raises(WeightsError, match="more.weight"):
        train(other, _settings(tmp_path, resume=True))


@pytest.mark.parametrize("size", [0, 5, -7])
def test_a_damaged_checkpoint_is_named(tmp_path, size):
    train(_LineStage(), _settings(tmp_path))
    checkpoint = tmp_path / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:size])
    for load in (lambda: train(_LineStage(), _settings(tmp_path, resume=True)), lambda: load_ema(_Line(), checkpoint)):
        with pytest.raises(WeightsError, match=r"checkpoint.safetensors: .*; delete it to start anew, or give another --out"):
            load()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    render_scenes(folder, 12, chunk=6)
    return folder


def test_rendered_scenes_read_back(scenes):
    cache = SceneCache(scenes)
    assert len(cache) == 12 and cache.pictures.shape == cache.backgrounds.shape == (12, 128, 128, 3)
    assert len(cache.objects) == cache.first[-1] == sum(len(r["objects"]) for r in cache.records)
    words = [cache.captions(0, np.random.default_rng(seed)) for seed in range(8)]
    assert len({w.whole for w in words}) > 1
    for word in words:
        assert word.background in word.whole and len(word.foregrounds) == len(cache.records[0]["objects"])
    counts = [len(cache.by_foregrounds(count)) for count in range(5)]
    assert sum(counts) == 12 and counts[0] == 0
    with pytest.raises(InputError, match="give another folder"):
        render_scenes(scenes, 12, chunk=6, side=64)


@pytest.mark.parametrize(("name", "size"), [("chunk-00001.npz", 9000), ("chunk-00001.npz", 0), ("flat-2/pictures.npy", 9000),
                                            ("flat-2/records.json", 50)])
def test_damaged_scenes_are_named(scenes, tmp_path, name, size):
    folder = shutil.copytree(scenes, tmp_path / "copy")
    if name.startswith("chunk"):
        shutil.rmtree(folder / "flat-2", ignore_errors=True)
    else:
        SceneCache(folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:size])
    with pytest.raises(FormatError, match=rf"{name.split('/')[0]}: cannot be read .*; delete it"):
        SceneCache(folder)


def test_damaged_words_on_what_scenes_are_are_named(tmp_path):
    (tmp_path / "scenes.json").write_text('{"side": 1')
    with pytest.raises(FormatError, match=r"scenes.json: cannot be read .*; give another folder"):
        render_scenes(tmp_path, 1)


@pytest.mark.filterwarnings("ignore")  # torch.compile warns about its own ways
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_have_the_gradients_of_eager_ones():
    with seeded(0):
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=(32,), layers_per_block=1, norm_num_groups=8, cross_attention_dim=32,
            down_block_types=("CrossAttnDownBlock2D",), mid_block_type=None, up_block_types=("UpBlock2D",),
            attention_head_dim=2)
        latents, text = torch.randn(2, 4, 8, 8), torch.randn(2, 7, 32)
    unet.set_attn_processor(AttnProcessor())

    def gradients() -> dict[str, torch.Tensor]:
        unet.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            unet(latents, 500, text).sample.float().square().sum().backward()
        return {name: p.grad.clone() for name, p in unet.named_parameters()}

    eager = gradients()
    compile_blocks(unet)
    compiled = gradients()
    assert set(compiled) == set(eager)
    for name, gradient in eager.items():
        if gradient.norm() > 1e-3:  # of the rest, rounding is all there is
            torch.testing.assert_close(compiled[name] / gradient.norm(), gradient / gradient.norm(), atol=0.05, rtol=0, msg=name)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes that are smaller than the VAE's crops."""
    folder = tmp_path_factory.mktemp("small")
    render_scenes(folder, 1, side=32)
    return folder


def _vae(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "export/vae/diffusion_pytorch_model.safetensors")


def test_a_seed_is_a_run_with_its_first_weights_and_noise_resumed_or_not(small, tmp_path):
    options = TrainOptions(data=small, out=tmp_path / "whole", model=None, steps=4, batch=2, learning_rate=0.1, minutes=None, resume=False,
                           seed=3, precision="no")
    run_vae(options)
    run_vae(replace(options, out=tmp_path / "parts", minutes=1e-9))  # not one step
    run_vae(replace(options, out=tmp_path / "parts", resume=True))
    run_vae(replace(options, out=tmp_path / "other", seed=4))
    whole, parts, other = (_vae(tmp_path / name) for name in ("whole", "parts", "other"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert not torch.equal(whole["encoder.conv_in.weight"], other["encoder.conv_in.weight"])


def test_two_processes_train_one_model_on_batches_of_their_own(small, tmp_path):
    for processes in (1, 2):
        line = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(processes),
                "-m", "dreamlayer_core", "train", "vae", "--data", str(small), "--out", str(tmp_path / str(processes)),
                "--steps", "2", "--batch", "2", "--precision", "no"]
        ran = subprocess.run([sys.executable, *line], env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
                             capture_output=True, text=True, timeout=300, check=False)
        assert ran.returncode == 0, ran.stderr[-2000:]
    one, two = _vae(tmp_path / "1"), _vae(tmp_path / "2")
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert 0 < apart < 1e-2  # the same first weights, two small steps by other gradients


def test_the_recipe_makes_a_model(scenes, tmp_path):
    """Two steps of every stage: not a good model, but a whole one."""

    def options(name: str, model: Path | None) -> TrainOptions:
        return TrainOptions(data=scenes, out=tmp_path / name, model=model, steps=2, batch=4, learning_rate=None,
                            minutes=None, resume=False, seed=0, precision="bf16")

    run_vae(options("vae", None))
    run_vae(options("finer", tmp_path / "vae/export"))
    first, finer = (load_file(tmp_path / name / "export/vae/diffusion_pytorch_model.safetensors") for name in ("vae", "finer"))
    changed = {name.split(".")[0] for name in first if not torch.equal(first[name], finer[name])}
    assert changed == {"decoder", "post_quant_conv"}  # what encodes stays: a UNet lives on its latents
    run_base(options("base", tmp_path / "vae/export"))
    before = {part: load_file(next((tmp_path / "base/export" / part).glob("*.safetensors"))) for part in ("text_encoder", "unet")}
    run_base(replace(options("base", tmp_path / "base/export"), steps=3, resume=True, freeze_text=True))
    after = {part: load_file(next((tmp_path / "base/export" / part).glob("*.safetensors"))) for part in before}
    assert {part for part in before if any(not torch.equal(old, after[part][name]) for name, old in before[part].items())} == {"unet"}
    run_decoder(options("decoder", tmp_path / "base/export"))
    run_decoder(options("sharper", tmp_path / "decoder/export"))
    first, sharper = (load_file(tmp_path / name / "export/layer_decoder.safetensors") for name in ("decoder", "sharper"))
    apart = [float((first[name].float() - sharper[name].float()).abs().max()) for name in first]
    assert 0 < max(apart) < 1e-3  # gone on from the first one, by two small steps
    run_adapter(options("two", tmp_path / "decoder/export"), foregrounds=(1,))
    run_adapter(options("more", tmp_path / "two/export"), foregrounds=(2, 3))
    model = DreamLayer.from_files(tmp_path / "more/export")
    assert model.adapter is not None and model.adapter.settings.num_context_layers == 2
    two = DreamLayer.from_files(tmp_path / "two/export")
    assert not torch.equal(model.adapter.layer_assign, two.adapter.layer_assign)
    result = model.generate(LayerPrompts("snow", ("a red ball",)), sampling=SamplingConfig(steps=2), views=1)
    assert result.stacks[0].width == 128
    for name, steps in (("vae", "2"), ("base", "3"), ("decoder", "2"), ("two", "2"), ("more", "2")):
        assert list((tmp_path / name).glob("sample-*.png"))
        with safe_open(tmp_path / name / "checkpoint.safetensors", "pt") as file:
            assert file.metadata() == {"step": steps}
