"""T_G, T_H and T'_H are noise levels: the same on every schedule, sampler and number of steps."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import get_args

import diffusers
import pytest
import torch

from dreamlayer_core.cli.request import usual_sampling
from dreamlayer_core.config import (
    EMBEDDED_SAMPLING,
    HarmonizationConfig,
    LayerAttentionConfig,
    SamplingConfig,
    SchedulerName,
)
from dreamlayer_core.errors import InputError
from dreamlayer_core.layer_run import DEFAULT_THRESHOLD
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.sampling import DdimStepper, Step, unreached
from dreamlayer_core.schedule import LAST_TIMESTEP, NoiseSchedule, exploded_signal, paper_timestep
from dreamlayer_core.schedulers import stepper_for

from .command_line import Run

# diffusers computes its noise levels by a call that numpy will no longer allow
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

PAPER, NAMES = NoiseSchedule(), get_args(SchedulerName)
OTHERS = [NoiseSchedule(beta_end=0.02), NoiseSchedule(beta_start=0.002), NoiseSchedule(train_steps=250, beta_end=0.045)]
PROMPTS = LayerPrompts("a green hill", ("a red ball",))
IRH = HarmonizationConfig()


def test_the_papers_own_timesteps_stand_for_themselves() -> None:
    assert [PAPER.paper_timestep(t) for t in range(1000)] == list(range(1000))
    sigmas = ((1 - PAPER.alphas_cumprod) / PAPER.alphas_cumprod).sqrt()
    assert [paper_timestep(exploded_signal(float(sigma))) for sigma in sigmas] == list(range(1000))


@pytest.mark.parametrize("schedule", OTHERS)
def test_a_threshold_parts_other_schedules_at_its_noise_level(schedule: NoiseSchedule) -> None:
    for threshold in (DEFAULT_THRESHOLD, IRH.high, IRH.low):
        level = float(PAPER.alphas_cumprod[threshold])
        noisier = [t for t in range(schedule.train_steps) if schedule.paper_timestep(t) >= threshold]
        wanted = [t for t in range(schedule.train_steps) if float(schedule.alphas_cumprod[t]) <= level]
        assert noisier and abs(len(noisier) - len(wanted)) <= 1  # the nearest timestep, which may be the next
        assert noisier == list(range(noisier[0], schedule.train_steps))


def test_levels_beyond_the_schedule_are_its_ends() -> None:
    assert paper_timestep(1.0) == 0
    assert {paper_timestep(signal) for signal in (0.0, 1e-30, exploded_signal(float("inf")))} == {LAST_TIMESTEP}


@pytest.mark.parametrize("steps", [20, 50])
def test_the_same_share_of_steps_fuses_on_every_schedule(steps: int) -> None:
    """Timesteps differ, as the levels do: over the same levels, as many are above T_G."""
    for other in OTHERS:
        span = range(other.train_steps)
        same = [t for t in span if other.paper_timestep(t) in range(1, LAST_TIMESTEP)]
        chosen = [min(same, key=lambda t: abs(other.paper_timestep(t) - wanted)) for wanted in PAPER.timesteps(steps)]
        found = [other.paper_timestep(t) for t in chosen]
        above = [sum(t >= DEFAULT_THRESHOLD for t in ts) for ts in (found, PAPER.timesteps(steps))]
        fused = [sum(IRH.fuses(t) for t in ts) for ts in (found, PAPER.timesteps(steps))]
        assert abs(above[0] - above[1]) <= 1 and abs(fused[0] - fused[1]) <= 1


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 8, 20, 50])
def test_trailing_timesteps_are_those_of_diffusers(steps: int) -> None:
    reference = diffusers.DDIMScheduler(timestep_spacing="trailing")  # type: ignore[attr-defined]
    reference.set_timesteps(steps)
    assert PAPER.timesteps(steps, "trailing") == reference.timesteps.tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("schedule", [*OTHERS[:2], NoiseSchedule(prediction_type="v_prediction", zero_snr=True)])
def test_every_method_has_the_noise_levels_of_the_model(name: SchedulerName, schedule: NoiseSchedule) -> None:
    stepper = stepper_for(SamplingConfig(scheduler=name, steps=8), schedule)
    assert [stepper.paper_timestep(t) for t in stepper.timesteps] == [schedule.paper_timestep(t) for t in stepper.timesteps]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [4, 5, 6, 7, 8])
def test_few_steps_reach_both_stages(name: SchedulerName, steps: int) -> None:
    stepper = stepper_for(SamplingConfig(scheduler=name, steps=steps), PAPER)
    levels = [stepper.paper_timestep(t) for t in stepper.timesteps]
    assert any(map(IRH.fuses, levels))
    note = unreached(stepper, DEFAULT_THRESHOLD)
    if name == "ddim" and steps < 7:
        assert note is not None and f"timestep {levels[0]}, below T_G 850" in note and "ddim-trailing" in note
    else:
        assert note is None and levels[0] >= DEFAULT_THRESHOLD


def test_a_threshold_that_is_never_meant_to_be_reached_needs_no_note() -> None:
    assert unreached(DdimStepper(PAPER, 50), 1000) is None


def _generate(model: DreamLayer, sampling: SamplingConfig, **options: object) -> tuple[list[Step], torch.Tensor]:
    steps = list[Step]()
    result = model.generate(
        PROMPTS, sampling=sampling, harmonization=IRH, size=(32, 32), views=1, on_step=steps.append, **options)  # type: ignore[arg-type]
    assert result.harmonized is not None and bool(result.harmonized.isfinite().all())
    return steps, result.latents


@pytest.mark.parametrize("name", NAMES)
def test_every_scheduler_makes_layers_and_a_harmonised_picture(tiny_dreamlayer: DreamLayer, name: SchedulerName) -> None:
    sampling = SamplingConfig.usual(name, steps=4, guidance=1.0)
    steps, latents = _generate(tiny_dreamlayer, sampling)
    assert [s.stage for s in steps].count("layers") == 4 and "harmonize" in [s.stage for s in steps]
    assert torch.equal(_generate(tiny_dreamlayer, sampling)[1], latents), "the same seed is the same picture"


def test_lcm_in_four_steps_uses_context_maps_and_harmonises(
    tiny_dreamlayer: DreamLayer, caplog: pytest.LogCaptureFixture
) -> None:
    paper = LayerAttentionConfig(context_threshold=DEFAULT_THRESHOLD)
    never = LayerAttentionConfig(context_threshold=1000)
    sampling = SamplingConfig.usual("lcm")
    assert (sampling.steps, sampling.guidance) == (4, 1.0)
    steps, fused = _generate(tiny_dreamlayer, sampling, attention=paper)
    assert not torch.allclose(fused, _generate(tiny_dreamlayer, sampling, attention=never)[1], atol=1e-4)
    harmonising = [s.timestep for s in steps if s.stage == "harmonize"]
    assert IRH.low <= harmonising[0] <= IRH.high and len(harmonising) == 2
    assert not caplog.records


def test_a_run_that_never_reaches_t_g_says_so(tiny_dreamlayer: DreamLayer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        _generate(tiny_dreamlayer, SamplingConfig(steps=4), attention=LayerAttentionConfig(context_threshold=850))
    assert "the first of 4 steps is at timestep 751, below T_G 850" in caplog.text


def test_settings_of_schedulers_are_checked() -> None:
    with pytest.raises(InputError, match="got 51 steps of lcm; give 1 to 50"):
        SamplingConfig(scheduler="lcm", steps=51)
    with pytest.raises(InputError, match="got the scheduler 'heun'; give one of ddim, "):
        SamplingConfig(scheduler="heun")  # type: ignore[arg-type]
    assert SamplingConfig.usual("ddim") == SamplingConfig()
    assert SamplingConfig.usual("lcm", steps=8, guidance=2) == SamplingConfig(scheduler="lcm", steps=8, guidance=2)


def test_what_a_command_line_leaves_open_suits_the_embedded_model() -> None:
    def usual(model: str = "embedded", adapter: str | None = None, scheduler: SchedulerName = "ddim", cfg: float | None = None,
              layers: tuple[str, ...] = ()) -> SamplingConfig:
        return usual_sampling(model, adapter, scheduler, None, cfg, layers)

    assert usual() == EMBEDDED_SAMPLING
    assert usual(layers=("2=7.5",)).layer_guidance == {0: 5.0, 2: 7.5}
    assert usual(layers=("0=3",)).layer_guidance == {0: 3.0}
    assert usual(cfg=4.0) == SamplingConfig(guidance=4.0)
    assert usual("some.safetensors") == usual(adapter="none") == SamplingConfig()
    assert usual(scheduler="lcm") == SamplingConfig.usual("lcm")
    assert usual(scheduler="dpm++") == replace(EMBEDDED_SAMPLING, scheduler="dpm++", steps=20)



def test_a_scheduler_is_kept_with_the_stack_and_taken_up_by_its_edits(tiny_folder: Path, tmp_path: Path) -> None:
    made, edited, changed = tmp_path / "made", tmp_path / "edited", tmp_path / "changed"
    words = ("--background", "a hill", "--foreground", "a ball", "--model", tiny_folder, "--size", "32x32", "--device", "cpu")
    first = Run(tmp_path, "generate", *words, "--scheduler", "lcm", "--views", "1", "--out", made, "--json").json()
    used = [first["settings"][name] for name in ("scheduler", "steps", "guidance")]
    assert used == ["lcm", 4, 1.0]
    moved = Run(tmp_path, "edit", made, "--layer", "1", "--move", "4,0", "--views", "1", "--out", edited, "--json").json()
    anew = Run(tmp_path, "regenerate", made, "--layer", "1", "--seed", "3", "--views", "1", "--out", changed, "--json").json()
    for report in (moved, anew):
        assert [report["settings"][name] for name in ("scheduler", "steps", "guidance")] == used
    Run(tmp_path, "generate", *words, "--scheduler", "lcm", "--steps", "3", "--out", tmp_path / "three").assert_fails(
        2, "got 3 steps, none of them from T_H 600 to T'_H 400")
