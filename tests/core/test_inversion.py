from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch

from dreamlayer_core.attention.inversion import inversion_mask
from dreamlayer_core.attention.shared import joint_attention
from dreamlayer_core.config import InversionConfig, InversionMethod, LayerAttentionConfig, SamplingConfig
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.errors import Cancelled, InputError
from dreamlayer_core.guidance import Guided
from dreamlayer_core.inversion import (
    BdiaStepper,
    Inversion,
    bdia_source,
    bdia_step,
    ddim_source,
    fixed_point_source,
    invert,
    relative_error,
    sample_back,
)
from dreamlayer_core.pipeline import DreamLayer
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.sampling import FINAL, Step, Trajectory
from dreamlayer_core.schedule import NoiseSchedule, PredictionType

from .tiny import CACA_DOWNSCALE, CONTEXT_THRESHOLD

ROWS, CELLS = 4, 3


def _attend(tokens: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return joint_attention(tokens, tokens, tokens, ROWS, mask=mask, heads=2)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(2 * ROWS, CELLS, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("queries", ["all", "global"])
def test_the_global_row_does_not_depend_on_other_rows(tokens, queries):
    mask = inversion_mask(ROWS, queries=queries)
    disturbed = tokens.clone()
    others = [row for row in range(2 * ROWS) if row % ROWS != ROWS - 1]
    disturbed[others] = 5 * torch.randn(len(others), CELLS, 8, generator=torch.Generator().manual_seed(1))
    whole = [ROWS - 1, 2 * ROWS - 1]
    assert torch.equal(_attend(disturbed, mask)[whole], _attend(tokens, mask)[whole])
    assert not torch.allclose(_attend(disturbed, None)[whole], _attend(tokens, None)[whole], atol=1e-2)


@pytest.mark.parametrize("queries", ["all", "global"])
def test_the_global_row_is_inverted_as_if_it_were_alone(tokens, queries):
    masked = _attend(tokens, inversion_mask(ROWS, queries=queries))
    whole = tokens[ROWS - 1 :: ROWS]
    assert torch.allclose(masked[ROWS - 1 :: ROWS], joint_attention(whole, whole, whole, 1, heads=2), atol=1e-6)


def test_all_hides_other_rows_from_every_query():
    assert inversion_mask(ROWS).tolist() == [[False] * 3 + [True]] * ROWS


def test_global_hides_other_rows_from_the_global_row_only():
    mask = inversion_mask(ROWS, queries="global")
    assert mask[:-1].all() and torch.equal(mask[-1:], inversion_mask(ROWS)[:1])


# ---- the loops, on the tiny UNet

PROMPTS = LayerPrompts("a green hill", ("a red ball",), negative="blur")
STEPS = 8


def _clean(stacks: int = 1, rows: int = 3, *, alike: bool = True) -> torch.Tensor:
    one = torch.randn(stacks, rows, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    return one[:, :1].expand_as(one).contiguous() if alike else one


@contextmanager
def _guided(model: DreamLayer, guidance: float = 1.0, *, masked: bool = True) -> Generator[Guided, None, None]:
    config = LayerAttentionConfig(downscale=CACA_DOWNSCALE, context_threshold=CONTEXT_THRESHOLD)
    embeddings = model.encode([PROMPTS])
    mask = inversion_mask if masked else None
    with torch.no_grad(), layer_attention(model.unet, embeddings, config, model.adapter, mask=mask) as run:
        yield Guided(model, run, embeddings, [PROMPTS], SamplingConfig(guidance=guidance))


@pytest.fixture(scope="module", params=["v_prediction", "epsilon"])
def model(request: pytest.FixtureRequest, tiny_dreamlayer: DreamLayer) -> DreamLayer:
    if request.param == "v_prediction":
        return tiny_dreamlayer
    return replace(tiny_dreamlayer, adapter=None, schedule=NoiseSchedule(prediction_type="epsilon"))


@cache
def _round_trip(
    model: DreamLayer, method: InversionMethod, guidance: float = 1.0, iterations: int = 12
) -> tuple[Inversion, torch.Tensor, Trajectory]:
    with _guided(model, guidance) as denoise:
        found = invert(denoise, _clean(), model.schedule, STEPS, InversionConfig(method=method, iterations=iterations))
        return found, *sample_back(denoise, found, keep_all=True)


@pytest.mark.parametrize("method", ["exact", "replay"])
@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_the_global_row_comes_back(model: DreamLayer, method: InversionMethod, guidance: float) -> None:
    _, back, _ = _round_trip(model, method, guidance)
    assert relative_error(back[:, -1:], _clean()[:, -1:]) < 1e-6


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_exact_passes_the_same_latents_on_both_ways(model: DreamLayer, guidance: float) -> None:
    found, _, trajectory = _round_trip(model, "exact", guidance)
    assert trajectory.latents.keys() == found.trajectory.latents.keys()
    assert all(torch.equal(trajectory.latents[t], z) for t, z in found.trajectory.latents.items())


def test_replay_keeps_the_global_row_on_its_path_and_no_other(model: DreamLayer) -> None:
    found, back, trajectory = _round_trip(model, "replay", 7.5)
    assert all(torch.equal(trajectory.latents[t][:, -1], z[:, -1]) for t, z in found.trajectory.latents.items())
    assert torch.equal(back[:, -1], _clean()[:, -1])
    assert relative_error(back[:, :1], _clean()[:, :1]) > 1e-3


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_what_costs_more_drifts_less(model: DreamLayer, guidance: float) -> None:
    drift = {method: relative_error(_round_trip(model, method, guidance)[1], _clean())
             for method in ("ddim", "fixed-point", "exact")}
    assert drift["ddim"] > 1e-2  # else there is nothing to be measured
    assert drift["exact"] < drift["fixed-point"] < drift["ddim"]
    if guidance == 1:
        assert drift["fixed-point"] < drift["ddim"] / 2


def test_a_fixed_point_is_one_step_of_ddim_away(model: DreamLayer) -> None:
    found, _, _ = _round_trip(model, "fixed-point")
    kept, timesteps = found.trajectory.latents, model.schedule.timesteps(STEPS)
    assert found.residuals.keys() == set(timesteps)
    with _guided(model) as denoise:
        for t, s in zip(timesteps, [*timesteps[1:], FINAL], strict=True):
            stepped = model.schedule.ddim_step(denoise(kept[t], t), kept[t], t, s)
            assert relative_error(stepped, kept[s]) < 3 * found.residuals[t] + 1e-6


def test_one_iteration_is_plain_ddim_inversion(model: DreamLayer) -> None:
    once, _, _ = _round_trip(model, "fixed-point", iterations=1)
    plain, _, _ = _round_trip(model, "ddim")
    assert torch.equal(once.noise, plain.noise)
    assert plain.residuals == {}


def test_the_tolerance_ends_the_iteration() -> None:
    calls, schedule = list[int](), NoiseSchedule()

    def denoise(latents: torch.Tensor, timestep: int) -> torch.Tensor:
        calls.append(timestep)
        return torch.tanh(latents)

    counts = dict[float, int]()
    for tolerance in (1e-1, 1e-3, 1e-6):
        calls.clear()
        fixed_point_source(denoise, _clean(), 501, 401, schedule, iterations=100, tolerance=tolerance)
        counts[tolerance] = len(calls)
    assert 1 <= counts[1e-1] < counts[1e-3] < counts[1e-6] < 100


def test_a_model_that_does_not_contract_is_approached_by_halves() -> None:
    schedule = NoiseSchedule(prediction_type="v_prediction")
    cos, sin = schedule.ddim_step(torch.zeros(1), torch.ones(1), 801, 701), -schedule.ddim_step(
        torch.ones(1), torch.zeros(1), 801, 701)

    def denoise(latents: torch.Tensor, _: int) -> torch.Tensor:
        return -3 * latents * cos / sin  # every plain iteration triples the error

    plain = clean = _clean()
    for _ in range(20):
        plain = ddim_source(schedule, denoise(plain, 0), clean, 801, 701)
    found, residual = fixed_point_source(denoise, clean, 801, 701, schedule, iterations=20, tolerance=1e-6)
    assert relative_error(plain, clean) > 1e6
    assert residual < 1e-6 and relative_error(found, clean / cos / 4) < 1e-5


def test_what_a_model_cannot_compute_is_seen() -> None:
    for method in ("ddim", "fixed-point"):
        found = invert(lambda z, _: z * torch.nan, _clean(), NoiseSchedule(), 3, InversionConfig(method=method, iterations=3))
        assert bool(found.noise.isnan().all()), "the latents passed on as they were would hide it"


# ---- the equations


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("timestep", "previous"), [(961, 921), (41, 1), (1, FINAL), (999, 0)])
def test_the_source_of_a_ddim_step(prediction_type: PredictionType, timestep: int, previous: int) -> None:
    schedule, latents = NoiseSchedule(prediction_type=prediction_type), _clean(alike=False)
    output = torch.tanh(latents.flip(-1))
    stepped = schedule.ddim_step(output, latents, timestep, previous)
    torch.testing.assert_close(
        ddim_source(schedule, output, stepped, timestep, previous), latents, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("gamma", [0.0, 0.6, 1.0])
def test_bdia_is_the_equation_of_its_paper(prediction_type: PredictionType, gamma: float) -> None:
    """z_s = z_u - (1 - γ)(z_u - z_t) - γ Δ(t -> u) + Δ(t -> s), with Δ the change that DDIM makes."""
    schedule, (t, u, s) = NoiseSchedule(prediction_type=prediction_type), (501, 601, 401)
    here, above = _clean(alike=False)[:, :1], _clean(alike=False)[:, 1:2]
    output = torch.tanh(here)
    change = {to: schedule.ddim_step(output, here, t, to) - here for to in (u, s)}
    written = above - (1 - gamma) * (above - here) - gamma * change[u] + change[s]
    torch.testing.assert_close(bdia_step(schedule, output, here, above, (u, t, s), gamma), written, rtol=1e-5, atol=1e-5)
    if gamma == 0:
        torch.testing.assert_close(written, schedule.ddim_step(output, here, t, s))


@pytest.mark.parametrize("gamma", [0.5, 0.9, 1.0])
def test_a_bdia_step_is_undone(gamma: float) -> None:
    schedule, order = NoiseSchedule(), (601, 501, 401)
    here, above = (_clean(alike=False)[:, i : i + 1].mul(2**20).round() / 2**20 for i in (0, 1))
    stepped = bdia_step(schedule, torch.tanh(here), here, above, order, gamma)
    source = bdia_source(schedule, torch.tanh(here), here, stepped, order, gamma)
    torch.testing.assert_close(source, above, rtol=0, atol=2e-6)
    assert gamma < 1 or torch.equal(source, above)


# ---- the loop


@pytest.mark.parametrize("method", ["ddim", "fixed-point", "exact", "replay"])
def test_every_latent_is_kept_and_every_step_is_told(method: InversionMethod) -> None:
    schedule, steps = NoiseSchedule(), list[Step]()
    found = invert(lambda z, _: torch.tanh(z), _clean(), schedule, 10, InversionConfig(method=method), on_step=steps.append)
    timesteps = schedule.timesteps(10)
    assert set(found.trajectory.latents) == {*timesteps, FINAL}
    assert torch.equal(found.noise, found.trajectory.latents[timesteps[0]])
    assert [(s.stage, s.index, s.total, s.timestep) for s in steps] == [
        ("invert", i, 10, t) for i, t in enumerate(reversed(timesteps))]
    assert all(torch.equal(s.latents, found.trajectory.latents[t]) for s, t in zip(
        steps, [FINAL, *timesteps[:0:-1]], strict=True))


def test_a_run_may_be_stopped() -> None:
    def stop(step: Step) -> None:
        if step.index == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        invert(lambda z, _: z, _clean(), NoiseSchedule(), 10, on_step=stop)


def test_exact_needs_two_steps_and_its_start() -> None:
    schedule = NoiseSchedule()
    with pytest.raises(InputError, match="got 1 steps for an exact inversion; give 2 or more"):
        invert(lambda z, _: z, _clean(), schedule, 1, InversionConfig(method="exact"))
    stepper = BdiaStepper(schedule, 10, _clean())
    stepper.start(_clean())
    with pytest.raises(InputError, match="at timestep 401 as the start of a BDIA run; it starts at 901"):
        stepper.step(_clean(), _clean(), 401)


@pytest.mark.parametrize("wrong", [
    {"method": "magic"}, {"guidance": float("nan")}, {"mask_queries": "some"}, {"iterations": 0}, {"tolerance": 1.0},
    {"gamma": 0.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="; give "):
        InversionConfig(**wrong)


# ---- the mask, in a UNet


def test_masked_the_global_row_is_inverted_as_if_it_were_alone(tiny_dreamlayer: DreamLayer) -> None:
    model, clean = tiny_dreamlayer, _clean(alike=False)
    other = torch.cat([clean.flip(1)[:, :2], clean[:, 2:]], 1)  # other layers, the same picture
    ends = dict[bool, list[torch.Tensor]]()
    for masked in (True, False):
        with _guided(model, masked=masked) as denoise:
            ends[masked] = [invert(denoise, z, model.schedule, 4).noise[:, -1] for z in (clean, other)]
    torch.testing.assert_close(*ends[True], rtol=1e-5, atol=1e-5)
    assert relative_error(ends[False][0][:, None], ends[False][1][:, None]) > 1e-3
    embeddings = model.encode([PROMPTS])
    with torch.no_grad(), layer_attention(model.unet, None, LayerAttentionConfig(caca=False), model.adapter) as run:
        alone = Guided(model, run, embeddings, [PROMPTS], SamplingConfig(guidance=1), global_row=True)
        found = invert(alone, clean[:, -1:], model.schedule, 4)
    torch.testing.assert_close(ends[True][0], found.noise[:, 0], rtol=1e-4, atol=1e-4)
