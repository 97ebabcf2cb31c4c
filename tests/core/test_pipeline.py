import pickle
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, cast

import diffusers
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file  # pyright: ignore
from torch import Tensor

from dreamlayer_core.adapter import LayerAdapter
from dreamlayer_core.composite import clean_layer
from dreamlayer_core.config import HarmonizationConfig, LayerAttentionConfig, SamplingConfig
from dreamlayer_core.errors import Cancelled, InputError, WeightsError
from dreamlayer_core.harmonization import resize_alpha
from dreamlayer_core.pipeline import DreamLayer, LayeredResult
from dreamlayer_core.prompts import LayerPrompts
from dreamlayer_core.sampling import DdimStepper, DiffusersStepper, Step, initial_noise
from dreamlayer_core.weights import save_adapter, save_transparent_decoder

from .tiny import CACA_DOWNSCALE, CONTEXT_THRESHOLD, SCHEDULE, tiny_adapter, tiny_decoder, tiny_model, tiny_unet

PROMPTS = LayerPrompts("a green hill", ("a red ball", "a blue box"), whole="a ball and a box", negative="blur")
OTHER = LayerPrompts("a wall", ("a cup", "a very tall vase with a flower in it"))
QUICK = SamplingConfig(steps=4, guidance=3.0)
# for a pipeline without its adapter
FREE = LayerAttentionConfig(downscale=CACA_DOWNSCALE, context_threshold=CONTEXT_THRESHOLD)


def _generate(model: DreamLayer, prompts: LayerPrompts | list[LayerPrompts] = PROMPTS, **options: Any) -> LayeredResult:
    settings: dict[str, Any] = {"seed": 5, "sampling": QUICK, "views": 1, **options}
    return model.generate(prompts, **settings)


def _is_stock(unet: UNet2DConditionModel) -> bool:
    return {type(p).__module__.split(".")[0] for p in unet.attn_processors.values()} == {"diffusers"}


@pytest.fixture(scope="module")
def plain(tiny_dreamlayer: DreamLayer) -> LayeredResult:
    return _generate(tiny_dreamlayer, harmonization=HarmonizationConfig())


# ---- what comes out


def test_a_result_has_every_part_in_its_range(plain: LayeredResult) -> None:
    (stack,) = plain.stacks
    assert (stack.width, stack.height, stack.global_prompt) == (64, 64, PROMPTS.whole)
    assert [layer.name for layer in stack.layers] == ["background", "a red ball", "a blue box"]
    assert [layer.prompt for layer in stack.layers] == list(PROMPTS.layers)
    assert plain.latents.shape == (1, 4, 4, 16, 16)
    assert plain.context_maps is not None and plain.context_maps.shape == (1, 2, 8, 8)
    assert plain.harmonized is not None and plain.harmonized.shape == plain.global_picture.shape == (1, 3, 64, 64)
    pictures = [plain.harmonized, plain.global_picture, plain.context_maps, *(layer.rgba for layer in stack.layers)]
    assert all(0 <= float(p.min()) and float(p.max()) <= 1 for p in pictures)
    assert bool((stack.background.alpha == 1).all())
    assert all(layer.alpha.std() > 0.001 for layer in stack.foregrounds)
    assert set(plain.timings) == {"encode", "sample", "decode", "harmonize"}


def test_layers_are_decoded_one_by_one_from_unscaled_latents(
    tiny_dreamlayer: DreamLayer, plain: LayeredResult
) -> None:
    (stack,) = plain.stacks
    with torch.no_grad():
        for row, layer in enumerate(stack.layers):
            latent = plain.latents[:, row] / 0.5  # the tiny VAE's scaling factor
            picture = (cast(Any, tiny_dreamlayer.vae).decode(latent).sample / 2 + 0.5).clamp(0, 1)
            rgba = torch.cat([picture, torch.ones_like(picture[:, :1])], 1)
            if row:
                rgba = tiny_dreamlayer.decoder.decode(picture, latent, views=1)
                rgba = torch.cat(clean_layer(rgba[:, :3], rgba[:, 3:]), 1)
            torch.testing.assert_close(layer.rgba, rgba[0], rtol=1e-5, atol=1e-5)


def test_the_same_seed_gives_the_same_pictures(tiny_dreamlayer: DreamLayer, plain: LayeredResult) -> None:
    again = _generate(tiny_dreamlayer, harmonization=HarmonizationConfig())
    assert torch.equal(again.latents, plain.latents)
    assert again.harmonized is not None and plain.harmonized is not None
    assert torch.equal(again.harmonized, plain.harmonized)
    assert not torch.allclose(_generate(tiny_dreamlayer, seed=6).latents, plain.latents, atol=0.1)


def test_harmonisation_is_a_pass_of_its_own(tiny_dreamlayer: DreamLayer, plain: LayeredResult) -> None:
    without = _generate(tiny_dreamlayer)
    assert without.harmonized is None
    assert torch.equal(without.latents, plain.latents)


@pytest.mark.parametrize("size", [(100, 76), (64, 32), (17, 90), (65, 63)])
def test_pictures_have_exactly_the_size_asked_for(tiny_dreamlayer: DreamLayer, size: tuple[int, int]) -> None:
    width, height = size
    result = _generate(
        tiny_dreamlayer, size=size, sampling=SamplingConfig(steps=2), harmonization=HarmonizationConfig())
    (stack,) = result.stacks
    assert (stack.width, stack.height) == size
    assert all(layer.rgba.shape == (4, height, width) for layer in stack.layers)
    assert result.harmonized is not None
    assert result.harmonized.shape == result.global_picture.shape == (1, 3, height, width)
    assert all(side % 8 == 0 for side in result.latents.shape[-2:])


@pytest.mark.parametrize("foregrounds", range(1, 9))
def test_one_to_eight_foregrounds(tiny_dreamlayer: DreamLayer, foregrounds: int) -> None:
    prompts = LayerPrompts("a hill", tuple(f"thing {i}" for i in range(foregrounds)))  # eight need two windows
    result = _generate(tiny_dreamlayer, prompts, size=(32, 32), sampling=SamplingConfig(steps=2),
                       harmonization=HarmonizationConfig())
    assert len(result.stacks[0].layers) == foregrounds + 1
    assert result.latents.shape[1] == foregrounds + 2
    assert bool(torch.isfinite(result.latents).all())


@pytest.mark.parametrize("texts", [("", ""), ("   ", "ball"), ("一只红色的狐狸 🦊", "ein Würfel")])
def test_empty_and_foreign_prompts_work(tiny_dreamlayer: DreamLayer, texts: tuple[str, str]) -> None:
    result = _generate(tiny_dreamlayer, LayerPrompts(texts[0], texts), size=(32, 32), sampling=SamplingConfig(steps=2))
    assert bool(torch.isfinite(result.latents).all())
    assert [layer.name for layer in result.stacks[0].foregrounds] == [
        t.strip() or f"layer {i}" for i, t in enumerate(texts, 1)]


# ---- properties of a run


def test_guidance_in_one_batch_or_in_two_is_the_same_picture(tiny_dreamlayer: DreamLayer, plain: LayeredResult) -> None:
    two = _generate(tiny_dreamlayer, sampling=replace(QUICK, joint_guidance=False), harmonization=HarmonizationConfig())
    torch.testing.assert_close(two.latents, plain.latents, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(two.context_maps, plain.context_maps, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(two.harmonized, plain.harmonized, rtol=1e-4, atol=1e-3)


def test_guidance_of_one_needs_no_unconditional_half(tiny_dreamlayer: DreamLayer) -> None:
    ordinary = _generate(tiny_dreamlayer, sampling=replace(QUICK, guidance=1.0))
    nearly = _generate(tiny_dreamlayer, sampling=replace(QUICK, guidance=1.0 + 1e-7))
    torch.testing.assert_close(ordinary.latents, nearly.latents, rtol=1e-3, atol=1e-3)


def test_several_pictures_in_a_batch_are_those_made_alone(tiny_dreamlayer: DreamLayer) -> None:
    seeds = {"layer_seeds": {1: 77}, "harmonization": HarmonizationConfig()}
    both = _generate(tiny_dreamlayer, [PROMPTS, OTHER], **seeds)
    alone = [_generate(tiny_dreamlayer, PROMPTS, **seeds),
             _generate(tiny_dreamlayer, OTHER, seed=6, **{**seeds, "layer_seeds": {1: 78}})]
    for index, single in enumerate(alone):
        torch.testing.assert_close(both.latents[index], single.latents[0], rtol=1e-4, atol=1e-3)
        assert both.harmonized is not None and single.harmonized is not None
        torch.testing.assert_close(both.harmonized[index], single.harmonized[0], rtol=1e-4, atol=1e-3)
        for first, second in zip(both.stacks[index].layers, single.stacks[0].layers, strict=True):
            assert (first.name, first.seed) == (second.name, second.seed)
            torch.testing.assert_close(first.rgba, second.rgba, rtol=1e-3, atol=1e-2)


def test_a_layers_recorded_seed_draws_its_noise_again(tiny_dreamlayer: DreamLayer) -> None:
    steps: list[Step] = []
    result = _generate(tiny_dreamlayer, [PROMPTS, OTHER], layer_seeds={2: 40}, on_step=steps.append)
    assert [layer.seed for layer in result.stacks[0].layers] == [5, 5, 40]
    assert [layer.seed for layer in result.stacks[1].layers] == [6, 6, 41]
    for stack, made in enumerate(result.stacks):
        seeds = {row: layer.seed for row, layer in enumerate(made.layers) if layer.seed is not None}
        again = initial_noise((4, 4, 16, 16), 5 + stack, seeds)
        assert torch.equal(steps[0].latents[stack], again[0])


def test_a_layers_seed_changes_only_its_noise(tiny_dreamlayer: DreamLayer) -> None:
    first: list[Step] = []
    second: list[Step] = []
    _generate(tiny_dreamlayer, on_step=first.append, sampling=SamplingConfig(steps=1))
    _generate(tiny_dreamlayer, on_step=second.append, sampling=SamplingConfig(steps=1), layer_seeds={1: 123})
    same = [torch.equal(a, b) for a, b in zip(first[0].latents[0], second[0].latents[0], strict=True)]
    assert same == [True, False, True, True]


def test_permuting_foregrounds_permutes_the_layers(tiny_dreamlayer: DreamLayer) -> None:
    model = replace(tiny_dreamlayer, adapter=None)  # layer-assign embeddings know a layer's place
    seeds = {0: 1, 1: 2, 2: 3, 3: 4}
    noise_of_rows = _noise(seeds)
    order = [0, 2, 1, 3]
    turned = LayerPrompts(PROMPTS.background, PROMPTS.foregrounds[::-1], whole=PROMPTS.whole, negative=PROMPTS.negative)
    plain = _sampled(model, PROMPTS, noise_of_rows)
    permuted = _sampled(model, turned, noise_of_rows[:, order])
    torch.testing.assert_close(permuted, plain[:, order], rtol=1e-3, atol=1e-3)


def _noise(seeds: dict[int, int]) -> Tensor:
    return initial_noise((len(seeds), 4, 16, 16), 0, seeds)


def _sampled(model: DreamLayer, prompts: LayerPrompts, noise: Tensor) -> Tensor:
    """A run from given noise: a stepper whose run starts there."""

    class Given(DdimStepper):
        def start(self, noise: Tensor, given: Tensor = noise) -> Tensor:
            return given

    return _generate(model, prompts, attention=FREE, stepper=Given(model.schedule, 4)).latents


def test_a_neutral_adapter_gives_the_training_free_pictures(tiny_dreamlayer: DreamLayer) -> None:
    neutral = LayerAdapter.from_weights(tiny_adapter(tiny_dreamlayer.unet, noise=0, num_context_layers=0))
    with_it = _generate(replace(tiny_dreamlayer, adapter=neutral), harmonization=HarmonizationConfig())
    without = _generate(replace(tiny_dreamlayer, adapter=None), attention=FREE, harmonization=HarmonizationConfig())
    torch.testing.assert_close(with_it.latents, without.latents, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(with_it.harmonized, without.harmonized, rtol=1e-3, atol=1e-3)


def test_with_everything_off_every_row_is_an_ordinary_picture(tiny_dreamlayer: DreamLayer) -> None:
    """Bit by bit what a plain loop over the stock UNet makes of the same batch."""
    model = replace(tiny_dreamlayer, adapter=None)
    off = LayerAttentionConfig(caca=False, lssa=False)
    found = _generate(model, attention=off)
    assert found.context_maps is None
    (embedding,) = model.encode([PROMPTS])
    text = torch.cat([model.negative([PROMPTS], 4, embedding.length).embeddings, embedding.embeddings])
    latents = initial_noise((4, 4, 16, 16), 5)[0]
    timesteps = model.schedule.timesteps(4)
    with torch.no_grad():
        for t, previous in zip(timesteps, [*timesteps[1:], -1], strict=True):
            negative, positive = cast(Any, model.unet)(torch.cat([latents, latents]), t, text).sample.chunk(2)
            latents = model.schedule.ddim_step(negative + 3.0 * (positive - negative), latents, t, previous)
    assert torch.equal(found.latents[0], latents)


def test_each_part_of_the_method_shows(tiny_dreamlayer: DreamLayer) -> None:
    results = [
        _generate(tiny_dreamlayer, attention=LayerAttentionConfig(caca=caca, lssa=lssa)).latents
        for caca in (False, True) for lssa in (False, True)]
    apart = [float((a - b).abs().max()) for i, a in enumerate(results) for b in results[:i]]
    assert min(apart) > 0.02


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "DDIMScheduler"])
@pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")
def test_any_scheduler_of_diffusers_may_sample(tiny_dreamlayer: DreamLayer, name: str) -> None:
    def make() -> Any:
        spacing = {"timestep_spacing": "leading", "steps_offset": 1, "beta_schedule": "scaled_linear", **SCHEDULE}
        own = {"clip_sample": False, "set_alpha_to_one": False} if name == "DDIMScheduler" else {}
        return getattr(diffusers, name)(**spacing, **own)

    stepper = DiffusersStepper(make, 5)
    result = _generate(tiny_dreamlayer, stepper=stepper, harmonization=HarmonizationConfig(), size=(32, 32))
    ours = _generate(tiny_dreamlayer, stepper=DdimStepper(tiny_dreamlayer.schedule, 5), size=(32, 32),
                     harmonization=HarmonizationConfig())
    assert bool(torch.isfinite(result.latents).all())
    assert result.harmonized is not None and result.harmonized.std() > 0.001
    if name == "DDIMScheduler":
        torch.testing.assert_close(result.latents, ours.latents, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(result.harmonized, ours.harmonized, rtol=1e-3, atol=1e-3)


def test_half_precision_runs(tiny_folder: Path) -> None:
    model = DreamLayer.from_files(tiny_folder, dtype=torch.bfloat16)
    assert {p.dtype for part in (model.unet, model.vae, model.adapter) for p in cast(Any, part).parameters()} == {
        torch.bfloat16}
    result = _generate(model, size=(32, 32), harmonization=HarmonizationConfig(), sampling=QUICK)
    assert result.latents.dtype == torch.float32 and bool(torch.isfinite(result.latents).all())
    assert result.stacks[0].foregrounds[0].color.dtype == torch.float32


# ---- harmonisation


def test_harmonisation_is_one_row_under_the_global_prompt(tiny_dreamlayer: DreamLayer, plain: LayeredResult) -> None:
    """The whole pass again, by a plain loop over the base's UNet: the adapter takes no part."""
    model, steps = tiny_dreamlayer, list[Step]()
    _generate(model, on_step=steps.append)
    unet = tiny_unet()
    (embedding,) = model.encode([PROMPTS])
    text = torch.cat([model.negative([PROMPTS], 1, embedding.length).embeddings, embedding.embeddings[-1:]])
    (kept,) = (s for s in steps if 400 <= s.timestep <= 600)
    with torch.no_grad():
        alphas = resize_alpha(model.decode(plain.latents, views=1)[2], (16, 16))[0]
        layers = kept.latents[0, :-1]
        latents = layers[:1]
        for latent, alpha in zip(layers[1:], alphas, strict=True):
            latents = latents * (1 - alpha) + latent * alpha
        timesteps = [t for t in model.schedule.timesteps(4) if t <= kept.timestep]
        for t, previous in zip(timesteps, [*timesteps[1:], -1], strict=True):
            negative, positive = cast(Any, unet)(torch.cat([latents, latents]), t, text).sample.chunk(2)
            latents = model.schedule.ddim_step(negative + 3.0 * (positive - negative), latents, t, previous)
        torch.testing.assert_close(plain.harmonized, model.decode_pictures(latents), rtol=1e-3, atol=1e-3)


def test_on_step_hears_both_passes_and_may_cancel_either(tiny_dreamlayer: DreamLayer) -> None:
    heard: list[Step] = []
    _generate(tiny_dreamlayer, harmonization=HarmonizationConfig(), on_step=heard.append)
    timesteps = [(s.stage, s.timestep) for s in heard]
    assert timesteps == [*(("layers", t) for t in (751, 501, 251, 1)), *(("harmonize", t) for t in (501, 251, 1))]
    for stop in (0, 2, 5):
        count = iter(range(100))

        def on_step(step: Step, stop: int = stop, count: Any = count) -> None:
            if next(count) == stop:
                raise Cancelled("stopped by a test")

        with pytest.raises(Cancelled, match="stopped by a test"):
            _generate(tiny_dreamlayer, harmonization=HarmonizationConfig(), on_step=on_step)
        assert _is_stock(tiny_dreamlayer.unet)
    assert next(count) == 6


# ---- what cannot be done


def _never(step: Step) -> NoReturn:
    raise AssertionError("the run should have stopped before its first step")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (0, 64)}, "a size of 0x64; give sides of 16 to 4096"),
        ({"size": (64, 100_000)}, "a size of 64x100000"),
        ({"views": 3}, "got 3 views; give one of 1, 2, 4, 8"),
        ({"layer_seeds": {9: 1}}, "a seed for layer 9; the rows of this picture are 0 to 3"),
        ({"attention": LayerAttentionConfig(downscale=16)}, "downscale 16"),
        ({"sampling": SamplingConfig(steps=1), "harmonization": HarmonizationConfig()}, "got 1 steps, none of them"),
        ({"prompts": [PROMPTS, LayerPrompts("a", ("b",))]}, r"pictures of \[1, 2\] foregrounds in one batch"),
        ({"prompts": []}, "got no prompts"),
    ],
)
def test_unusable_settings_stop_a_run_before_it_starts(
    tiny_dreamlayer: DreamLayer, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _generate(tiny_dreamlayer, on_step=_never, **options)
    assert _is_stock(tiny_dreamlayer.unet)


# ---- loading


def test_a_model_loads_without_network_or_pickle(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("neither the network nor pickle may be used")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    model = DreamLayer.from_files(tiny_folder)
    assert model.adapter is not None and not model.unet.training
    assert not any(p.requires_grad for p in model.unet.parameters())
    assert _generate(model, size=(32, 32), sampling=SamplingConfig(steps=1)).latents.shape == (1, 4, 4, 8, 8)


def test_the_adapter_may_be_left_out_or_replaced(tiny_folder: Path, tmp_path: Path) -> None:
    assert DreamLayer.from_files(tiny_folder, use_adapter=False).adapter is None
    own = replace(tiny_adapter(tiny_unet(), num_context_layers=1))
    save_adapter(own, tmp_path / "mine.safetensors")
    model = DreamLayer.from_files(tiny_folder, adapter=tmp_path / "mine.safetensors")
    assert model.adapter is not None and model.adapter.settings.num_context_layers == 1


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _without_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    tensors.pop("conv_out.weight")
    save_file(tensors, path, {"format": "pt"})


def _with_nan(path: Path) -> None:
    tensors = load_file(path)
    tensors["conv_out.weight"][0] = float("nan")
    save_file(tensors, path, {"format": "pt"})


def _pickled(path: Path) -> None:
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()


UNET = "unet/diffusion_pytorch_model.safetensors"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated unet": (lambda f: _cut(f / UNET), "unet: cannot be loaded .*; fetch or export it again"),
    "incomplete unet": (lambda f: _without_a_tensor(f / UNET), "unet: missing conv_out.weight"),
    "NaN in the unet": (lambda f: _with_nan(f / UNET), "unet: conv_out.weight has 288 NaN"),
    "pickled unet": (lambda f: _pickled(f / UNET), "unet: cannot be loaded"),
    "no unet weights": (lambda f: (f / UNET).unlink(), "unet: cannot be loaded"),
    "unet config": (lambda f: (f / "unet/config.json").write_text("[]"), "unet/config.json: not a JSON object"),
    "vae in the unet's place": (
        lambda f: shutil.copy(f / "vae/diffusion_pytorch_model.safetensors", f / UNET), "unet: "),
    "truncated vae": (lambda f: _cut(f / "vae/diffusion_pytorch_model.safetensors"), "vae: cannot be loaded"),
    "truncated text encoder": (lambda f: _cut(f / "text_encoder/model.safetensors"), "text_encoder: cannot be loaded"),
    "no vocabulary": (
        lambda f: [p.unlink() for p in (f / "tokenizer").glob("*.json")], "tokenizer: no tokenizer.json, nor"),
    "damaged vocabulary": (lambda f: (f / "tokenizer/tokenizer.json").write_text("{"), "tokenizer: cannot be loaded"),
    "truncated vocabulary": (
        lambda f: ((f / "tokenizer/tokenizer.json").unlink(), (f / "tokenizer/vocab.json").write_text('{"a": 0,')),
        "tokenizer: cannot be loaded .*; fetch or export it again"),
    "truncated decoder": (lambda f: _cut(f / "layer_decoder.safetensors"), "layer_decoder.safetensors: this is a truncated"),
    "no decoder": (lambda f: (f / "layer_decoder.safetensors").unlink(), "no layer_decoder.safetensors in it"),
    "truncated adapter": (lambda f: _cut(f / "adapter.safetensors"), "adapter.safetensors: this is a truncated"),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), "no scheduler in it; a model folder holds unet, vae"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_wrong_with_a_model_folder_is_named(copy: Path, what: str) -> None:
    damage, message = DAMAGE[what]
    damage(copy)
    with pytest.raises(WeightsError, match=message) as caught:
        DreamLayer.from_files(copy)
    assert str(copy) in str(caught.value) and "\n" not in str(caught.value)


def test_parts_that_do_not_fit_are_named(copy: Path) -> None:
    save_adapter(tiny_adapter(tiny_unet(), prediction_type="epsilon"), copy / "adapter.safetensors")
    with pytest.raises(WeightsError, match=r"adapter.safetensors: an adapter for .* type 'epsilon', .* 'v_prediction'"):
        DreamLayer.from_files(copy)
    save_adapter(tiny_adapter(tiny_unet(), downscale=16), copy / "adapter.safetensors")
    with pytest.raises(WeightsError, match="adapter.safetensors: an adapter for another base model: .* downscale 16"):
        DreamLayer.from_files(copy)
    other = tiny_decoder()
    config = replace(other.config, latent_block=3)
    save_transparent_decoder(type(other)(config), copy / "layer_decoder.safetensors")
    with pytest.raises(WeightsError, match="a transparent decoder for 8 pixels per latent cell, but the VAE has 4"):
        DreamLayer.from_files(copy)


def test_a_missing_adapter_that_was_asked_for_is_an_error(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="none.safetensors: no such file"):
        DreamLayer.from_files(tiny_folder, adapter=tmp_path / "none.safetensors")


def test_the_tiny_model_is_the_same_every_time(tiny_folder: Path, tmp_path: Path) -> None:
    tiny_model(tmp_path)
    for path in ("adapter.safetensors", UNET, "layer_decoder.safetensors"):
        first, second = load_file(tiny_folder / path), load_file(tmp_path / path)
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
