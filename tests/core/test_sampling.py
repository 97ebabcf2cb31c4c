from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from dreamlayer_core.config import HarmonizationConfig
from dreamlayer_core.errors import Cancelled, InputError
from dreamlayer_core.sampling import (
    FINAL,
    DdimStepper,
    DiffusersStepper,
    Replay,
    Step,
    Stepper,
    Trajectory,
    harmonize,
    initial_noise,
    sample_layers,
)
from dreamlayer_core.schedule import NoiseSchedule, PredictionType

# diffusers computes its noise levels by a call that numpy will no longer allow
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

SHAPE = (4, 4, 3, 5)  # rows, channels, height, width


def _scheduler(name: str, prediction_type: str = "epsilon", **options: Any) -> Any:
    return getattr(diffusers, name)(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type=prediction_type, **options)


def _ddim(prediction_type: str = "epsilon") -> Any:
    return _scheduler("DDIMScheduler", prediction_type, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def _model(latents: Tensor, timestep: int) -> Tensor:
    """Some smooth function of both, that mixes cells."""
    return torch.tanh(latents.roll(1, -1) * 0.7 + latents.flip(-2) * 0.2 + timestep / 1000)


def _oracle(picture: Tensor, seen: list[int] | None = None) -> Callable[[Tensor, int], Tensor]:
    """A perfect ε model of data that is this one picture."""
    schedule = NoiseSchedule()

    def denoise(latents: Tensor, timestep: int) -> Tensor:
        if seen is not None:
            seen.append(timestep)
        signal = schedule.alphas_cumprod[timestep]
        return (latents - signal.sqrt() * picture) / (1 - signal).sqrt()

    return denoise


SCHEDULERS: dict[str, Callable[[], Any]] = {
    "DDIM": _ddim,
    "Euler": lambda: _scheduler("EulerDiscreteScheduler"),
    "Euler, Karras": lambda: _scheduler("EulerDiscreteScheduler", use_karras_sigmas=True),
    "DPM++ 2M": lambda: _scheduler("DPMSolverMultistepScheduler"),
    "DPM++ 2M, Karras": lambda: _scheduler("DPMSolverMultistepScheduler", use_karras_sigmas=True),
    "UniPC": lambda: _scheduler("UniPCMultistepScheduler"),
    "DPM++ 2S": lambda: _scheduler("DPMSolverSinglestepScheduler"),
}


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_ddim_of_diffusers_is_ours(prediction_type: PredictionType) -> None:
    noise = initial_noise(SHAPE, 0)
    ours = sample_layers(_model, noise, DdimStepper(NoiseSchedule(prediction_type=prediction_type), 20))
    theirs = sample_layers(_model, noise, DiffusersStepper(lambda: _ddim(prediction_type), 20))
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_run_is_that_of_the_scheduler_alone(name: str) -> None:
    scheduler, noise = SCHEDULERS[name](), initial_noise(SHAPE, 0)
    scheduler.set_timesteps(30)
    latents = noise * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = _model(scheduler.scale_model_input(latents, t), round(float(t)))
        latents = scheduler.step(output, t, latents).prev_sample
    stepper = DiffusersStepper(SCHEDULERS[name], 30)
    assert len(stepper.timesteps) == 30
    found = sample_layers(_model, noise, stepper)[0]
    torch.testing.assert_close(found, latents, rtol=1e-4, atol=1e-4)
    assert torch.equal(sample_layers(_model, noise, stepper)[0], found), "a second run is the same as the first"


@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_is_stored_has_the_variance_of_what_is_noised_anew(name: str) -> None:
    """A model that knows z_0: what it leaves of the noise is the schedule's share, with every scheduler."""
    stack, schedule = torch.zeros(SHAPE), NoiseSchedule()
    stepper = DiffusersStepper(SCHEDULERS[name], 30)
    _, trajectory = sample_layers(_oracle(stack), initial_noise(SHAPE, 0), stepper, keep_all=True)
    for t in stepper.timesteps:
        share = float((1 - schedule.alphas_cumprod[t]).sqrt())
        assert float(trajectory.latents[t].std()) == pytest.approx(share, rel=0.1, abs=0.02)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_sampling_and_harmonisation_find_the_picture(name: str) -> None:
    stack, noise = initial_noise(SHAPE, 1), initial_noise(SHAPE, 0)
    stepper = DiffusersStepper(SCHEDULERS[name], 30)
    latents, trajectory = sample_layers(_oracle(stack), noise, stepper, keep=HarmonizationConfig())
    assert (latents - stack).abs().max() < 0.2
    picture = harmonize(_oracle(stack[:, :1]), trajectory, torch.zeros(1, 2, 1, 3, 5), stepper)
    assert picture.shape == (1, 4, 3, 5)
    assert (picture - stack[:, 0]).abs().max() < 0.2


def test_ancestral_noise_comes_from_the_generator() -> None:
    def run(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        stepper = DiffusersStepper(lambda: _scheduler("EulerAncestralDiscreteScheduler"), 10, generator)
        return sample_layers(_model, initial_noise(SHAPE, 0), stepper)[0]

    assert torch.equal(run(1), run(1))
    assert not torch.allclose(run(1), run(2))


@pytest.mark.parametrize("name", ["HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "PNDMScheduler"])
def test_schedulers_that_revisit_a_noise_level_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} visits a noise level twice; use"):
        DiffusersStepper(lambda: _scheduler(name), 20)


@pytest.mark.parametrize("name", ["EDMEuler", "IPNDM", "FlowMatchEulerDiscrete", "CMStochasticIterative", "SCM"])
def test_schedulers_without_a_diffusion_schedule_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}Scheduler has no alphas_cumprod.*; use one that has, such as DDIM"):
        DiffusersStepper(getattr(diffusers, f"{name}Scheduler"), 20)


def test_a_layers_seed_changes_its_row_alone() -> None:
    plain, changed = initial_noise(SHAPE, 3), initial_noise(SHAPE, 3, {2: 99})
    same = [bool(torch.equal(plain[0, row], changed[0, row])) for row in range(4)]
    assert same == [True, True, False, True]
    assert torch.equal(changed[0, 2], initial_noise(SHAPE, 99)[0, 2])


def test_adding_a_layer_leaves_the_noise_of_the_others() -> None:
    three, four = initial_noise((3, *SHAPE[1:]), 3)[0], initial_noise(SHAPE, 3)[0]
    assert torch.equal(three[:2], four[:2]) and torch.equal(three[2], four[3])


def test_stack_s_is_seeded_by_s_more() -> None:
    two = initial_noise(SHAPE, 3, {1: 8}, stacks=2)
    assert torch.equal(two[0], initial_noise(SHAPE, 3, {1: 8})[0])
    assert torch.equal(two[1], initial_noise(SHAPE, 4, {1: 9})[0])


def test_every_seed_and_row_has_noise_of_its_own() -> None:
    seeds = [0, 1, -1, 4096, 2**20, 2**32, 2**52, 2**63, 2**64 - 1]
    rows = torch.cat([initial_noise((9, 4, 8, 8), seed)[0] for seed in seeds]).flatten(1)
    alike = torch.corrcoef(rows) - torch.eye(len(rows))
    assert alike.abs().max() < 0.4
    assert abs(float(rows.mean())) < 0.03 and abs(float(rows.std()) - 1) < 0.03


def test_a_seed_for_no_row_is_named() -> None:
    with pytest.raises(InputError, match="a seed for layer 4; the rows of this picture are 0 to 3"):
        initial_noise(SHAPE, 0, {4: 1})


def test_latents_are_kept_within_the_range_and_as_the_model_saw_them() -> None:
    schedule, seen = NoiseSchedule(), dict[int, Tensor]()

    def denoise(latents: Tensor, timestep: int) -> Tensor:
        seen[timestep] = latents
        return _model(latents, timestep)

    keep = HarmonizationConfig(high=601, low=401)  # both bounds are visited
    _, trajectory = sample_layers(denoise, initial_noise(SHAPE, 0), DdimStepper(schedule, 50), keep=keep)
    assert list(trajectory.latents) == [t for t in schedule.timesteps(50) if 401 <= t <= 601]
    assert {401, 601} <= set(trajectory.latents)
    assert all(torch.equal(trajectory.latents[t], seen[t]) for t in trajectory.latents)


def test_nothing_is_kept_unless_asked() -> None:
    assert sample_layers(_model, initial_noise(SHAPE, 0), DdimStepper(NoiseSchedule(), 5))[1].latents == {}


def test_a_run_without_a_step_to_keep_stops_before_it_starts() -> None:
    seen: list[int] = []
    with pytest.raises(InputError, match=r"got 1 steps, none of them from T_H 600 to T'_H 400; take more steps"):
        sample_layers(_oracle(torch.zeros(SHAPE), seen), initial_noise(SHAPE, 0), DdimStepper(NoiseSchedule(), 1),
                      keep=HarmonizationConfig())
    assert seen == []


def test_on_step_hears_of_every_step_and_may_stop_the_run() -> None:
    steps: list[Step] = []
    seen: list[int] = []

    def on_step(step: Step) -> None:
        steps.append(step)
        if step.index == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        sample_layers(_oracle(torch.zeros(SHAPE), seen), initial_noise(SHAPE, 0), DdimStepper(NoiseSchedule(), 10),
                      on_step=on_step)
    assert [(s.stage, s.index, s.total, s.timestep) for s in steps] == [
        ("layers", i, 10, t) for i, t in enumerate([901, 801, 701, 601])]
    assert seen == [901, 801, 701]


def _whole_run(stepper: Stepper, seed: int = 0) -> tuple[Tensor, Trajectory]:
    return sample_layers(_model, initial_noise(SHAPE, seed), stepper, keep_all=True)


def test_a_whole_trajectory_has_every_step_and_the_end() -> None:
    stepper = DdimStepper(NoiseSchedule(), 10)
    latents, trajectory = _whole_run(stepper)
    assert list(trajectory.latents) == [*stepper.timesteps, FINAL]
    assert torch.equal(trajectory.latents[FINAL], latents)
    kept = sample_layers(_model, initial_noise(SHAPE, 0), stepper, keep=HarmonizationConfig())[1].latents
    cut = trajectory.between(HarmonizationConfig()).latents
    assert cut.keys() == kept.keys() and all(torch.equal(cut[t], kept[t]) for t in cut)
    with pytest.raises(InputError, match="between T'_H 402 and T_H 450"):
        trajectory.between(HarmonizationConfig(high=450, low=402))


@pytest.mark.parametrize("name", SCHEDULERS)
def test_replayed_rows_come_out_as_stored_and_the_others_see_them(name: str) -> None:
    seen = list[Tensor]()

    def mixing(latents: Tensor, timestep: int) -> Tensor:
        seen.append(latents[:, [2, 0]].clone())
        return _model(latents, timestep) + 0.1 * latents.mean(1, keepdim=True)

    def run(seed: int, replay: Replay | None = None) -> tuple[Tensor, Trajectory, list[Tensor]]:
        seen.clear()
        stepper = DiffusersStepper(SCHEDULERS[name], 10)
        return *sample_layers(mixing, initial_noise(SHAPE, seed), stepper, replay=replay, keep_all=True), list(seen)

    stored, trajectory, shown = run(0)
    latents, kept, again = run(9, Replay.of(trajectory, (2, 0)))
    assert torch.equal(latents[:, [2, 0]], stored[:, [2, 0]])
    assert all(torch.equal(z[:, [2, 0]], trajectory.latents[t][:, [2, 0]]) for t, z in kept.latents.items())
    assert all(torch.equal(*pair) for pair in zip(shown, again, strict=True)), "what the model was shown"
    assert not torch.allclose(latents[:, 1], run(9)[0][:, 1], atol=1e-3), "row 1 has not seen the replayed ones"


def test_replaying_all_rows_returns_the_stored_end_whatever_the_model_says() -> None:
    stepper = DdimStepper(NoiseSchedule(), 6)
    stored, trajectory = _whole_run(stepper)
    latents, _ = sample_layers(
        _oracle(torch.zeros(SHAPE)), initial_noise(SHAPE, 4), stepper, replay=Replay.of(trajectory, range(4)))
    assert torch.equal(latents, stored)


def test_only_known_cells_are_replayed() -> None:
    stepper = DdimStepper(NoiseSchedule(), 6)
    stored, trajectory = _whole_run(stepper)
    known = torch.zeros(1, 1, 1, 3, 5, dtype=torch.bool)
    known[..., 2:] = True
    whole = Replay.of(trajectory, (1,))
    latents, _ = sample_layers(
        _model, initial_noise(SHAPE, 4), stepper, replay=Replay(whole.rows, whole.latents, known))
    same = latents[0, 1] == stored[0, 1]
    assert bool(same[..., 2:].all()) and not bool(same[..., :2].any())


def test_a_run_without_replay_is_the_run_it_was() -> None:
    stepper = DdimStepper(NoiseSchedule(), 6)
    nothing = sample_layers(_model, initial_noise(SHAPE, 0), stepper)
    assert torch.equal(_whole_run(stepper)[0], nothing[0])


def test_what_cannot_be_replayed_is_refused_before_the_first_step() -> None:
    stepper, seen = DdimStepper(NoiseSchedule(), 4), list[int]()
    _, trajectory = _whole_run(stepper)

    def run(replay: Replay, steps: int = 4, shape: tuple[int, int, int, int] = SHAPE) -> None:
        sample_layers(_oracle(torch.zeros(shape), seen), initial_noise(shape, 0), DdimStepper(NoiseSchedule(), steps),
                      replay=replay)

    with pytest.raises(InputError, match=r"at timestep 667 \(2 of 4 are missing\)"):
        run(Replay.of(trajectory, (1,)), steps=3)
    with pytest.raises(InputError, match="as rows"):
        run(Replay.of(trajectory, (1,)), shape=(4, 4, 3, 4))
    with pytest.raises(InputError, match="rows that exist"):
        run(Replay.of(trajectory, (3,)), shape=(3, 4, 3, 5))
    with pytest.raises(InputError, match="row 4 to replay of a trajectory of 4 rows"):
        Replay.of(trajectory, (4,))
    with pytest.raises(InputError, match="each row once"):
        Replay((1, 1), trajectory.latents)
    with pytest.raises(InputError, match="to replay; give"):
        Replay((1,), trajectory.latents)
    with pytest.raises(InputError, match="a mask"):
        Replay((0, 1, 2, 3), trajectory.latents, torch.ones(1, 4, 3, 5, dtype=torch.bool))
    assert seen == []


def _naive_harmonize(
    denoise: Callable[[Tensor, int], Tensor], kept: dict[int, Tensor], alphas: Tensor, stepper: DdimStepper
) -> Tensor:
    """Eq. 12 as it is written: a sum of products, one stack and one step after the other."""
    pictures: list[Tensor] = []
    for stack in range(len(alphas)):
        picture = kept[max(kept)][stack, 0]
        for t in stepper.timesteps:
            if t > max(kept):
                continue
            if t in kept:
                visible = torch.ones_like(alphas[stack, 0])
                fused = torch.zeros_like(picture)
                for f in reversed(range(alphas.shape[1])):
                    fused = fused + kept[t][stack, f + 1] * alphas[stack, f] * visible
                    visible = visible * (1 - alphas[stack, f])
                picture = fused + picture * visible
            row = picture[None, None]
            picture = stepper.step(denoise(row, t), row, t)[0, 0]
        pictures.append(picture)
    return torch.stack(pictures)


def test_harmonisation_equals_the_equation_written_out() -> None:
    stepper: Stepper = DdimStepper(NoiseSchedule(), 20)
    noise = initial_noise((5, 4, 3, 5), 0, stacks=2)
    alphas = torch.rand(2, 3, 1, 3, 5, generator=torch.Generator().manual_seed(1))
    _, trajectory = sample_layers(_model, noise, stepper, keep=HarmonizationConfig())
    found = harmonize(_model, trajectory, alphas, stepper)
    naive = _naive_harmonize(_model, trajectory.latents, alphas, DdimStepper(NoiseSchedule(), 20))
    torch.testing.assert_close(found, naive, rtol=1e-5, atol=1e-5)


def test_harmonisation_starts_at_the_first_kept_step_and_goes_to_the_end() -> None:
    stepper, seen = DdimStepper(NoiseSchedule(), 10), list[int]()
    _, trajectory = sample_layers(_model, initial_noise(SHAPE, 0), stepper, keep=HarmonizationConfig())
    steps: list[Step] = []
    harmonize(_oracle(torch.zeros(4, 3, 5), seen), trajectory, torch.ones(1, 2, 1, 3, 5), stepper, on_step=steps.append)
    assert list(trajectory.latents) == [501, 401]
    assert seen == [s.timestep for s in steps] == [501, 401, 301, 201, 101, 1]
    assert [(s.stage, s.index, s.total) for s in steps] == [("harmonize", i, 6) for i in range(6)]
    assert all(s.latents.shape == (1, 1, 4, 3, 5) for s in steps)


def test_below_the_range_the_picture_denoises_freely() -> None:
    """Where an opaque foreground was laid in, later steps may still change it."""
    stepper = DdimStepper(NoiseSchedule(), 50)
    layers, other = torch.zeros(SHAPE), torch.full((4, 3, 5), 2.0)
    _, trajectory = sample_layers(_oracle(layers), initial_noise(SHAPE, 0), stepper, keep=HarmonizationConfig())
    picture = harmonize(_oracle(other), trajectory, torch.ones(1, 2, 1, 3, 5), stepper)
    assert (picture - 2).abs().max() < 0.2


def test_harmonisation_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="no latents were kept"):
        harmonize(_model, Trajectory(), torch.ones(1, 2, 1, 3, 5), DdimStepper(NoiseSchedule(), 5))
