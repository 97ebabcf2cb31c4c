"""Rows that start from given latents, with a denoise strength each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dreamlayer_core.config import SamplingConfig
from dreamlayer_core.editing import RunSettings
from dreamlayer_core.errors import InputError
from dreamlayer_core.formats import load_stack, load_trajectory
from dreamlayer_core.pipeline import DreamLayer, LayeredResult
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.regeneration import regenerate_layer
from dreamlayer_core.sampling import FINAL, DdimStepper, Replay, initial_noise, sample_layers
from dreamlayer_core.schedule import NoiseSchedule, around, first_own_step
from dreamlayer_core.schedulers import stepper_for
from dreamlayer_core.starting import start_rows

from .command_line import Run

SHAPE = (4, 4, 3, 5)  # rows, channels, height, width
SCHEDULE = NoiseSchedule()
PROMPTS = LayerPrompts("a green hill", ("a red ball", "a blue box"), whole="a ball and a box")
SAMPLING = SamplingConfig(steps=4, guidance=3.0)
SETTINGS = RunSettings(sampling=SAMPLING, views=1, harmonization=None)


def _model(latents: Tensor, timestep: int) -> Tensor:
    """Some smooth function in which rows see each other."""
    return torch.tanh(latents.roll(1, -1) * 0.7 + 0.3 * latents.mean(1, keepdim=True) + timestep / 1000)


def _run(strengths: dict[int, float], steps: int = 10) -> Tensor:
    clean, noise = initial_noise(SHAPE, 1), initial_noise(SHAPE, 0)
    stepper = DdimStepper(SCHEDULE, steps)
    return sample_layers(_model, noise, stepper, replay=start_rows(SCHEDULE, clean, noise, stepper.timesteps, strengths))[0]


def test_each_row_starts_as_written_out() -> None:
    """Image to image, row by row and step by step."""
    clean, noise, own = initial_noise(SHAPE, 1), initial_noise(SHAPE, 0), {0: 8, 1: 3, 2: 10, 3: 5}  # own steps of 10
    timesteps, latents = SCHEDULE.timesteps(10), noise.clone()
    for index, (t, previous) in enumerate(zip(timesteps, [*timesteps[1:], 0], strict=True)):
        a, b = (float(SCHEDULE.alphas_cumprod[step]) for step in (t, previous))
        for row, count in own.items():
            if count < 10 and index <= 10 - count:
                latents[:, row] = a**0.5 * clean[:, row] + (1 - a) ** 0.5 * noise[:, row]
        output = _model(latents, t)
        latents = b**0.5 * (latents - (1 - a) ** 0.5 * output) / a**0.5 + (1 - b) ** 0.5 * output
    found = _run({row: count / 10 for row, count in own.items()})
    torch.testing.assert_close(found, latents, rtol=1e-4, atol=1e-4)


def test_the_ends_are_the_latents_and_the_ordinary_run_to_the_bit() -> None:
    ordinary = sample_layers(_model, initial_noise(SHAPE, 0), DdimStepper(SCHEDULE, 10))[0]
    assert torch.equal(_run(dict.fromkeys(range(4), 1.0)), ordinary)
    assert torch.equal(_run({}), ordinary)
    kept = _run({1: 0.0, 3: 0.5})
    assert torch.equal(kept[:, 1], initial_noise(SHAPE, 1)[:, 1])
    assert not torch.isclose(kept[:, 3], initial_noise(SHAPE, 1)[:, 3]).all()
    assert not torch.isclose(kept[:, 0], ordinary[:, 0]).all(), "the others see the row that is kept"


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "dpm++"])
@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")
def test_a_strong_start_is_nearer_to_the_latents(tiny_dreamlayer: DreamLayer, scheduler: Any) -> None:
    sampling = SamplingConfig(steps=6, guidance=2.0, scheduler=scheduler)
    stepper = stepper_for(sampling, tiny_dreamlayer.schedule)
    clean, noise = initial_noise((4, 4, 16, 16), 1), initial_noise((4, 4, 16, 16), 5)
    away = list[float]()
    for strength in (0.0, 0.2, 0.6, 1.0):
        replay = start_rows(tiny_dreamlayer.schedule, clean, noise, stepper.timesteps, {1: strength})
        made = tiny_dreamlayer.generate(PROMPTS, seed=5, sampling=sampling, views=1, replay=replay).latents
        away.append(float((made - clean)[:, 1].norm()))
    assert away[0] == 0 and away == sorted(away)


@pytest.fixture(scope="module")
def made(tiny_dreamlayer: DreamLayer) -> LayeredResult:
    return tiny_dreamlayer.generate(PROMPTS, seed=5, sampling=SAMPLING, views=1, keep_all=True)


def _regenerated(model: DreamLayer, made: LayeredResult, **options: Any) -> dict[int, Tensor]:
    stack = made.stacks[0].with_layer(1, visible=False)
    return regenerate_layer(
        model, made.trajectory, stack, 2, prompt="a cup", seed=9, settings=SETTINGS, **options).trajectory.latents


def test_a_regenerated_layer_may_start_from_what_it_was(tiny_dreamlayer: DreamLayer, made: LayeredResult) -> None:
    before = made.trajectory.latents[FINAL]
    half, none, all_of_it, plain = (
        _regenerated(tiny_dreamlayer, made, **options)
        for options in ({"strength": 0.5}, {"strength": 0.0}, {"strength": 1.0}, {}))
    assert torch.equal(none[FINAL][:, 2], before[:, 2])
    assert all(torch.equal(all_of_it[t], plain[t]) for t in plain)
    apart = [float((z[FINAL] - before)[:, 2].norm()) for z in (half, plain)]
    assert 0 < apart[0] < apart[1]
    for found in (half, none, plain):
        assert torch.equal(found[FINAL][:, :2], before[:, :2])


def test_the_command_keeps_as_much_of_the_layer(tiny_folder: Path, tmp_path: Path) -> None:
    words = ("--background", "a hill", "--foreground", "a red ball", "--model", tiny_folder, "--steps", "6", "--views", "1")
    assert Run(tmp_path, "generate", *words, "--no-harmonize", "--out", tmp_path / "made").code == 0
    line = ("regenerate", tmp_path / "made", "--layer", "1", "--prompt", "a cup", "--views", "1", "--no-harmonize", "--denoise")
    Run(tmp_path, *line, "1.5", "--out", tmp_path / "r").assert_fails(2, "strength of 1.5")
    assert Run(tmp_path, *line, "0", "--out", tmp_path / "r").code == 0
    before, after = (load_trajectory(tmp_path / name) for name in ("made", "r"))
    assert before is not None and after is not None
    assert torch.equal(before.trajectory.latents[FINAL][:, 1], after.trajectory.latents[FINAL][:, 1])
    assert load_stack(tmp_path / "r").layers[1].prompt == "a cup"


@pytest.mark.parametrize(("strength", "first"), [(1, 0), (0, 20), (0.5, 10), (0.29, 14), (0.01, 20), (0.99, 0)])
def test_a_row_takes_the_last_share_of_the_steps(strength: float, first: int) -> None:
    assert first_own_step(20, strength) == first


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strengths_that_cannot_be(strength: float) -> None:
    with pytest.raises(InputError, match="denoise strength of .*; give 0"):
        first_own_step(20, strength)


def test_starts_of_rows_that_are_not_there() -> None:
    with pytest.raises(InputError, match="for row 4; give rows of 0 to 3"):
        _run({4: 0.5})
    with pytest.raises(InputError, match="a start for row 2, and rows"):
        Replay((0,), {1: torch.zeros(1, 1, 4, 2, 2)}, starts={2: 1})


def test_between_two_levels_a_noised_picture_is_where_its_share_says() -> None:
    clean, noise, levels = initial_noise(SHAPE, 1), initial_noise(SHAPE, 0), (9.0, 4.0, 1.0, 0.5)
    path = [clean + sigma * noise for sigma in levels]
    for sigma in (8.9, 5.0, 4.0, 0.75, 0.5):
        below, above, share = around(levels, sigma)
        assert levels[below] <= sigma <= levels[above] and above <= below
        torch.testing.assert_close(path[below].lerp(path[above], share), clean + sigma * noise)
    assert [around(levels, sigma) for sigma in (20.0, 0.1)] == [(0, 0, 0.0), (3, 3, 0.0)]


def test_a_run_without_starts_is_the_replay_it_was() -> None:
    """Every replayed row to the end."""
    clean, noise = initial_noise(SHAPE, 1), initial_noise(SHAPE, 0)
    stepper = DdimStepper(SCHEDULE, 5)
    replay = start_rows(SCHEDULE, clean, noise, stepper.timesteps, {0: 0.0, 2: 0.5})
    found = sample_layers(_model, noise, stepper, replay=replace(replay, starts={}))[0]
    assert torch.equal(found[:, [0, 2]], clean[:, [0, 2]])
