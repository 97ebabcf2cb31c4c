"""Classifier-free guidance: in an interval of noise levels, and of each layer by itself."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.pipelines.latent_consistency_models.pipeline_latent_consistency_text2img import (
    LatentConsistencyModelPipeline,
)
from torch import Tensor

from dreamlayer_core.config import FAST, HarmonizationConfig, LayerAttentionConfig, SamplingConfig
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.editing import RunSettings, edit_layers, harmonize_stack
from dreamlayer_core.errors import InputError
from dreamlayer_core.guidance import Guided
from dreamlayer_core.pipeline import DreamLayer, LayeredResult
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.regeneration import regenerate_layer
from dreamlayer_core.sampling import FINAL, initial_noise

from .command_line import Run
from .tiny import seeded

PROMPTS = LayerPrompts("a green hill", ("a red ball", "a blue box"), whole="a ball and a box", negative="blur")
QUICK = SamplingConfig(steps=4, guidance=3.0)  # timesteps 751, 501, 251, 1
WHOLE = 3  # row of the whole picture


def _output(model: DreamLayer, sampling: SamplingConfig, timestep: int, stacks: int = 1) -> Tensor:
    noise = initial_noise((4, 4, 16, 16), 5, stacks=stacks)
    embeddings = model.encode([PROMPTS] * stacks)
    with torch.no_grad(), layer_attention(model.unet, embeddings, None, model.adapter) as run:
        return Guided(model, run, embeddings, [PROMPTS] * stacks, sampling)(noise, timestep)


@contextmanager
def _rows_seen(model: DreamLayer) -> Generator[list[int]]:
    """How many rows every call of the UNet has."""
    seen = list[int]()
    unet: Any = model.unet
    hook = unet.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    try:
        yield seen
    finally:
        hook.remove()


def _generate(model: DreamLayer, sampling: SamplingConfig, **options: Any) -> LayeredResult:
    return model.generate(PROMPTS, seed=5, sampling=sampling, views=1, **options)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("stacks", [1, 2])
def test_every_row_has_its_own_guidance(tiny_dreamlayer: DreamLayer, joint: bool, stacks: int) -> None:
    """Against the equation, with the halves taken from runs of guidance 0 and 1."""
    scales = {0: 1.5, 2: 7.0, WHOLE: 0.0}
    negative, positive = (_output(tiny_dreamlayer, SamplingConfig(guidance=g), 751, stacks) for g in (0.0, 1.0))
    found = _output(
        tiny_dreamlayer, SamplingConfig(guidance=3.0, layer_guidance=scales, joint_guidance=joint), 751, stacks)
    for stack in range(stacks):
        for row in range(4):
            scale = scales.get(row, 3.0)
            expected = negative[stack, row] + scale * (positive[stack, row] - negative[stack, row])
            torch.testing.assert_close(found[stack, row], expected, rtol=1e-4, atol=1e-4)


def test_one_guidance_for_all_rows_is_that_guidance_to_the_bit(tiny_dreamlayer: DreamLayer) -> None:
    plain = _output(tiny_dreamlayer, QUICK, 751)
    each = replace(QUICK, guidance=1.0, layer_guidance=dict.fromkeys(range(4), 3.0))
    assert torch.equal(_output(tiny_dreamlayer, each, 751), plain)


@pytest.fixture(scope="module")
def distilled(tiny_dreamlayer: DreamLayer) -> DreamLayer:
    """With a UNet that is told the guidance scale."""
    with seeded(4):
        unet = cast(Any, type(tiny_dreamlayer.unet)).from_config({**tiny_dreamlayer.unet.config, "time_cond_proj_dim": 32})
    unet.load_state_dict(cast(Any, tiny_dreamlayer.unet).state_dict(), strict=False)
    return replace(tiny_dreamlayer, unet=unet.eval().requires_grad_(False))


def test_a_unet_with_distilled_guidance_is_told_the_scales(distilled: DreamLayer) -> None:
    """One half, and each row as diffusers' own pipeline of latent consistency models tells it."""
    model, unet, off = distilled, cast(Any, distilled.unet), LayerAttentionConfig(caca=False, lssa=False)
    scales, noise, embeddings = [1.5, 8.0, 3.0, 8.0], initial_noise((4, 4, 16, 16), 5), model.encode([PROMPTS])
    sampling = SamplingConfig(guidance=8.0, layer_guidance={0: 1.5, 2: 3.0})
    with torch.no_grad(), _rows_seen(model) as seen, layer_attention(model.unet, embeddings, off, None) as run:
        found = Guided(model, run, embeddings, [PROMPTS], sampling)(noise, 751)[0]
        assert seen == [4]
    told = LatentConsistencyModelPipeline.get_guidance_scale_embedding(cast(Any, None), torch.tensor(scales) - 1, 32)
    with torch.no_grad():
        expected = unet(noise[0], 751, embeddings[0].embeddings, timestep_cond=told).sample
        other = unet(noise[0], 751, embeddings[0].embeddings, timestep_cond=told[[0] * 4]).sample
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert float((other - expected)[1:].abs().amax((1, 2, 3)).min()) > 0.01


@pytest.mark.parametrize(("sampling", "words"), [
    (replace(QUICK, guidance_interval=(400, 800)), "it does not heed the negative prompt and the guidance interval"),
    (replace(QUICK, guidance=1.0), "it does not heed the negative prompt, and is told a guidance of 1, which is next to none")])
def test_what_distilled_guidance_does_not_heed_is_said(
    distilled: DreamLayer, tiny_dreamlayer: DreamLayer, caplog: pytest.LogCaptureFixture, sampling: SamplingConfig, words: str
) -> None:
    _generate(distilled, sampling)
    assert words in caplog.text
    caplog.clear()
    _generate(tiny_dreamlayer, sampling)
    assert "distilled" not in caplog.text


@pytest.mark.parametrize(("interval", "guided"), [
    ((0, 1000), [751, 501, 251, 1]), ((501, 751), [751, 501]), ((251, 500), [251]), ((2, 250), []), ((0, 0), [])])
def test_outside_the_interval_the_conditional_half_is_alone(
    tiny_dreamlayer: DreamLayer, interval: tuple[int, int], guided: list[int]
) -> None:
    sampling = replace(QUICK, guidance_interval=interval)
    for timestep in (751, 501, 251, 1):
        with _rows_seen(tiny_dreamlayer) as seen:
            found = _output(tiny_dreamlayer, sampling, timestep)
        inside = timestep in guided
        assert seen == [8 if inside else 4]
        same = replace(QUICK, guidance=3.0 if inside else 1.0)
        assert torch.equal(found, _output(tiny_dreamlayer, same, timestep))


def test_an_interval_of_everything_is_the_ordinary_run(tiny_dreamlayer: DreamLayer) -> None:
    runs = [_generate(tiny_dreamlayer, replace(QUICK, guidance_interval=interval), harmonization=HarmonizationConfig())
            for interval in (None, (0, 1000))]
    assert torch.equal(runs[0].latents, runs[1].latents)
    assert runs[0].harmonized is not None and runs[1].harmonized is not None
    assert torch.equal(runs[0].harmonized, runs[1].harmonized)


def test_the_harmonisation_keeps_to_the_interval(tiny_dreamlayer: DreamLayer) -> None:
    """Layers: 751 and 501 guided. Harmonised from 501 on: guided there alone."""
    with _rows_seen(tiny_dreamlayer) as seen:
        _generate(tiny_dreamlayer, replace(QUICK, guidance_interval=(400, 800)), harmonization=HarmonizationConfig())
    assert seen == [8, 8, 4, 4, 2, 1, 1]


@pytest.fixture(scope="module")
def made(tiny_dreamlayer: DreamLayer) -> LayeredResult:
    return _generate(tiny_dreamlayer, QUICK, keep_all=True)


def _settings(sampling: SamplingConfig) -> RunSettings:
    return RunSettings(sampling=sampling, views=1, negative=PROMPTS.negative)


def test_the_harmonised_picture_has_the_guidance_of_the_whole(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    """Also of a stack whose hidden layers leave its rows."""
    stack = made.stacks[0].with_layer(1, visible=False)
    edited = edit_layers(tiny_dreamlayer, made.trajectory, stack, [])

    def harmonized(sampling: SamplingConfig) -> Tensor:
        return harmonize_stack(tiny_dreamlayer, edited, _settings(sampling))

    found = harmonized(replace(QUICK, layer_guidance={WHOLE: 6.0, 2: 50.0}))
    assert torch.equal(found, harmonized(replace(QUICK, guidance=6.0)))
    assert not torch.equal(found, harmonized(QUICK))


def test_a_regenerated_layer_has_its_own_guidance_whatever_is_hidden_below(
    tiny_dreamlayer: DreamLayer, made: LayeredResult
) -> None:
    """The others are replayed, so that their guidance does not show."""
    stack = made.stacks[0].with_layer(1, visible=False)

    def regenerated(sampling: SamplingConfig) -> Tensor:
        settings = replace(_settings(sampling), harmonization=None)
        path = regenerate_layer(tiny_dreamlayer, made.trajectory, stack, 2, seed=9, settings=settings).trajectory
        return path.latents[FINAL]

    found = regenerated(replace(QUICK, layer_guidance={2: 6.0, WHOLE: 6.0, 1: 0.0}))
    assert torch.equal(found, regenerated(replace(QUICK, guidance=6.0)))
    assert not torch.equal(found, regenerated(QUICK))


def test_rows_of_a_run_keep_their_guidance() -> None:
    config = SamplingConfig(guidance=2.0, layer_guidance={1: 3.0, 3: 4.0})
    assert config.row_guidance(4) == [2.0, 3.0, 2.0, 4.0]
    assert config.of_rows([0, 3, -1, 1]).row_guidance(4) == [2.0, 4.0, 2.0, 3.0]
    assert config.of_rows(()).layer_guidance == {}


@pytest.mark.parametrize(("options", "said"), [
    ({"layer_guidance": {2: 101.0}}, "a guidance of 101.0 for layer 2; give 0 to 100"),
    ({"layer_guidance": {2: float("nan")}}, "a guidance of nan"),
    ({"layer_guidance": {-1: 5.0}}, "for layer -1"),
    ({"guidance_interval": (800, 400)}, "guidance from timestep 800 to 400; give 0 <= low <= high <= 1000"),
    ({"guidance_interval": (0, 1001)}, "0 to 1001")])
def test_impossible_guidance_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SamplingConfig(**options)


def test_guidance_of_a_layer_that_is_not_there(tiny_dreamlayer: DreamLayer) -> None:
    with pytest.raises(InputError, match="a guidance for layer 4; the rows of this picture are 0 to 3"):
        _generate(tiny_dreamlayer, replace(QUICK, layer_guidance={4: 2.0}))


# ---- the command line

LAYERS = ("--background", "a hill", "--foreground", "a red ball", "--no-harmonize", "--views", "1", "--steps", "6")


def _settings_of(folder: Path, *options: str | Path) -> dict[str, Any]:
    return Run(folder, "generate", *LAYERS, *options, "--json", "--out", folder / "made").json()["settings"]


def _noted(settings: dict[str, Any], *names: str) -> Sequence[object]:
    return [settings[name] for name in names]


GUIDANCE = ("guidance_interval", "layer_guidance", "cross_keys")


def test_the_fast_preset_and_its_parts_are_noted(tiny_folder: Path, tmp_path: Path) -> None:
    assert FAST.guidance_interval is not None
    low, high = FAST.guidance_interval
    for number, (options, expected) in enumerate([
            ((), [None, {}, LayerAttentionConfig.cross_keys]),
            (("--fast",), [[low, high], {}, FAST.cross_keys]),
            (("--fast", "--guidance-interval", "100,900", "--layer-cfg", "1=7.5", "--layer-cfg", "2=3"),
             [[100, 900], {"1": 7.5, "2": 3.0}, FAST.cross_keys])]):
        home = tmp_path / str(number)
        home.mkdir()
        assert _noted(_settings_of(home, "--model", tiny_folder, *options), *GUIDANCE) == expected


def test_a_stack_is_worked_on_as_it_was_made(tiny_folder: Path, tmp_path: Path) -> None:
    """What is noted by number goes with its layer."""
    _settings_of(tmp_path, "--model", tiny_folder, "--fast", "--layer-cfg", "1=7.5")
    line = (tmp_path / "made", "--views", "1", "--no-harmonize", "--json", "--out")
    again = Run(tmp_path, "regenerate", *line, tmp_path / "r", "--layer", "1", "--seed", "3").json()["settings"]
    added = Run(tmp_path, "add", *line, tmp_path / "a", "--prompt", "a cup", "--position", "1").json()["settings"]
    assert _noted(again, *GUIDANCE) == [list(FAST.guidance_interval or ()), {"1": 7.5}, FAST.cross_keys]
    anew = Run(tmp_path, "regenerate", *line, tmp_path / "c", "--layer", "1", "--seed", "3", "--cfg", "8").json()["settings"]
    assert (anew["guidance"], anew["layer_guidance"]) == (8, {})  # another guidance is that of all layers
    assert _noted(added, *GUIDANCE) == [list(FAST.guidance_interval or ()), {"2": 7.5}, FAST.cross_keys]


@pytest.mark.parametrize(("options", "words"), [
    (("--layer-cfg", "3=2"), ("guidance for layer 3",)), (("--layer-cfg", "x=2"), ("'x=2'", "LAYER=SCALE")),
    (("--guidance-interval", "high"), ("'high'", "LOW,HIGH")), (("--guidance-interval", "800,400"), ("800 to 400",))])
def test_unusable_guidance_is_told_before_the_model_is_loaded(
    tmp_path: Path, options: tuple[str, ...], words: tuple[str, ...]
) -> None:
    Run(tmp_path, "generate", *LAYERS, *options, "--model", tmp_path / "no-model").assert_fails(2, *words)
