from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from dreamlayer_core.errors import InputError
from dreamlayer_core.schedule import GivenSchedule, NoiseSchedule, PredictionType

TYPES: tuple[PredictionType, ...] = ("epsilon", "v_prediction")


def _reference(prediction_type: PredictionType) -> Any:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type=prediction_type)


def _draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("steps", [1, 7, 30, 50, 501])
def test_ddim_is_that_of_diffusers(prediction_type: PredictionType, steps: int) -> None:
    schedule, reference = NoiseSchedule(prediction_type=prediction_type), _reference(prediction_type)
    reference.set_timesteps(steps)
    timesteps = schedule.timesteps(steps)
    assert timesteps == reference.timesteps.tolist()
    latents = _draw(2, 4, 3, 3)
    for index, (t, previous) in enumerate(zip(timesteps, [*timesteps[1:], -1], strict=True)):
        output = _draw(2, 4, 3, 3, seed=index + 1)
        step = schedule.ddim_step(output, latents, t, previous)
        torch.testing.assert_close(step, reference.step(output, t, latents).prev_sample, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("steps", [*range(1, 60), 333, 500, 501, 998, 999, 1000])
def test_timesteps_fall_strictly_and_stay_in_range(steps: int) -> None:
    timesteps = NoiseSchedule().timesteps(steps)
    assert len(timesteps) == steps
    assert timesteps == sorted(set(timesteps), reverse=True)
    assert timesteps[-1] >= 0 and timesteps[0] <= 999


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_unusable_steps_are_named(steps: int) -> None:
    with pytest.raises(InputError, match=f"got {steps} steps; give 1 to 1000"):
        NoiseSchedule().timesteps(steps)


def test_noising_and_velocity_are_those_of_diffusers() -> None:
    schedule, reference = NoiseSchedule(prediction_type="v_prediction"), _reference("v_prediction")
    clean, noise, timesteps = _draw(3, 4, 2, 2), _draw(3, 4, 2, 2, seed=1), torch.tensor([0, 500, 999])
    torch.testing.assert_close(
        schedule.add_noise(clean, noise, timesteps), reference.add_noise(clean, noise, timesteps), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        schedule.target(clean, noise, timesteps), reference.get_velocity(clean, noise, timesteps), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("timestep", [0, 1, 400, 999])
def test_a_perfect_output_gives_back_picture_and_noise(prediction_type: PredictionType, timestep: int) -> None:
    schedule, clean, noise = NoiseSchedule(prediction_type=prediction_type), _draw(4, 3, 3), _draw(4, 3, 3, seed=1)
    noisy, target = schedule.add_noise(clean, noise, timestep), schedule.target(clean, noise, timestep)
    found = schedule.clean_and_noise(target, noisy, timestep)
    torch.testing.assert_close(found[0], clean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], noise, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("timestep", [1, 400, 999])
def test_the_output_is_found_from_the_picture_that_it_means(prediction_type: PredictionType, timestep: int) -> None:
    schedule, output, noisy = NoiseSchedule(prediction_type=prediction_type), _draw(4, 3, 3), _draw(4, 3, 3, seed=1)
    clean, _ = schedule.clean_and_noise(output, noisy, timestep)
    torch.testing.assert_close(schedule.output(clean, noisy, timestep), output, rtol=1e-3, atol=1e-3)


def test_a_models_own_noise_levels_make_the_same_schedule() -> None:
    usual, clean, noise = NoiseSchedule(), _draw(4, 3, 3), _draw(4, 3, 3, seed=1)
    signal = usual.alphas_cumprod
    given = GivenSchedule(sigmas=((1 - signal) / signal).sqrt())
    torch.testing.assert_close(given.alphas_cumprod, signal, rtol=1e-5, atol=0)
    noisy = given.add_noise(clean, noise, 700)
    torch.testing.assert_close(noisy, usual.add_noise(clean, noise, 700))
    torch.testing.assert_close(given.exploding(noisy, 700), clean + given.sigmas[700] * noise)


def test_timesteps_may_differ_over_the_leading_axes() -> None:
    schedule, clean, noise = NoiseSchedule(), _draw(2, 3, 4, 2, 2), _draw(2, 3, 4, 2, 2, seed=1)
    together = schedule.add_noise(clean, noise, torch.tensor([10, 900]))
    assert torch.equal(together[0], schedule.add_noise(clean[0], noise[0], 10))
    assert torch.equal(together[1], schedule.add_noise(clean[1], noise[1], 900))


def test_the_share_of_signal_falls_from_one_to_nothing() -> None:
    signal = NoiseSchedule().alphas_cumprod
    assert signal.shape == (1000,) and bool((signal[1:] < signal[:-1]).all())
    assert signal[0] > 0.999 and signal[-1] < 0.005
