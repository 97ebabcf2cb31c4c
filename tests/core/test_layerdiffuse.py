from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from dreamlayer_core.adapter import LayerAdapter
from dreamlayer_core.config import LayerAttentionConfig
from dreamlayer_core.diffusers_unet import layer_attention
from dreamlayer_core.errors import InputError, WeightsError
from dreamlayer_core.layerdiffuse import Given, LayerDiffuse, LayerDiffuseAttention, LayerDiffusePatches
from dreamlayer_core.layerdiffuse_files import load_layerdiffuse, read_layerdiffuse
from dreamlayer_core.layerdiffuse_unet import layerdiffuse_additions, layerdiffuse_attention
from dreamlayer_core.unet_names import ldm_names

from .layerdiffuse_reference import (
    ENCODER_WIDTHS,
    SITES,
    Reference,
    Shapes,
    attention_shapes,
    control_signals,
    drawn,
    encoder_shapes,
    frame_change,
    slow_layers,
    xl_shapes,
)
from .tiny import CHANNELS, seeded, tiny_adapter, tiny_embedding

OFF, LSSA = LayerAttentionConfig(caca=False, lssa=False), LayerAttentionConfig(caca=False)
WIDTHS = [32] * 4 + [64] * 20 + [32] * 6 + [64] * 2  # of the UNet of these tests
CONTROL = (4, 4, 8, 8, 16, 16, 32, 32)
TIME = 500


def _file(frames: int, control: tuple[int, ...] | None = None) -> dict[str, Tensor]:
    return drawn(attention_shapes(frames, widths=WIDTHS, context=CHANNELS, rank=6, control=control))


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    """SD1.5's structure, with groups of channels that stay well conditioned where a stage has one cell."""
    with seeded(6):
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=(32, 64, 64, 64), layers_per_block=2, norm_num_groups=8,
            cross_attention_dim=CHANNELS, attention_head_dim=8)
    return unet.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def single() -> dict[str, Tensor]:
    return _file(1)


@pytest.fixture(scope="module")
def xl() -> UNet2DConditionModel:
    """SDXL's structure: transformers of several blocks in the deeper two of three stages."""
    with seeded(5):
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=(32, 32, 64), layers_per_block=2, transformer_layers_per_block=(1, 1, 2),
            norm_num_groups=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=CHANNELS,
            attention_head_dim=4)
    return unet.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def patches() -> dict[str, Tensor]:
    return drawn(xl_shapes((32, 64), (1, 2), CHANNELS, 4))


def _inputs(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 4, 8, 8, generator=generator), torch.randn(rows, 7, CHANNELS, generator=generator)


def _stock(unet: UNet2DConditionModel, latents: Tensor, text: Tensor) -> Tensor:
    with torch.no_grad():
        return cast(Any, unet)(latents, TIME, text).sample


def _slow(unet: UNet2DConditionModel, reference: Reference, latents: Tensor, text: Tensor) -> Tensor:
    with slow_layers(unet, reference):
        return _stock(unet, latents, text)


def _layered(
    unet: UNet2DConditionModel, weights: LayerDiffuse, latents: Tensor, text: Tensor,
    config: LayerAttentionConfig = OFF, adapter: LayerAdapter | None = None,
) -> Tensor:
    """Two stacks of a background, two foregrounds and the global row."""
    additions = layerdiffuse_additions(unet, weights, 2)
    with layer_attention(unet, [tiny_embedding([1, 2])] * 2, config, adapter, additions=additions) as run:
        run.begin(TIME, (8, 8))
        return _stock(unet, latents, text)


def _close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def _hooks(unet: UNet2DConditionModel) -> int:
    modules: Any = cast(Any, unet).modules()
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


# ---- foreground rows


@pytest.mark.parametrize("config", [OFF, LSSA], ids=["rows alone", "lssa"])
def test_one_frame_acts_on_foregrounds_as_written_out(
    config: LayerAttentionConfig, unet: UNet2DConditionModel, single: dict[str, Tensor]
) -> None:
    latents, text = _inputs(8)
    reference = Reference(height=4, change=frame_change(single, {1: 0, 2: 0}), tensors=single, temporal_rows=range(1, 3),
                          joins=config.lssa)
    found = _layered(unet, read_layerdiffuse(single), latents, text, config)
    _close(found, _slow(unet, reference, latents, text))
    assert float((found - _stock(unet, latents, text))[[1, 2, 5, 6]].abs().amax((1, 2, 3)).min()) > 0.1


@pytest.mark.parametrize("base", ["sd15", "sdxl"])
def test_other_rows_and_the_unet_afterwards_are_stock_bit_for_bit(
    base: str, request: pytest.FixtureRequest, unet: UNet2DConditionModel, xl: UNet2DConditionModel
) -> None:
    bound, tensors = (unet, "single") if base == "sd15" else (xl, "patches")
    weights = read_layerdiffuse(request.getfixturevalue(tensors))
    latents, text = _inputs(8)
    stock = _stock(bound, latents, text)
    found = _layered(bound, weights, latents, text)
    assert torch.equal(found[[0, 3, 4, 7]], stock[[0, 3, 4, 7]]) and not torch.isclose(found[1], stock[1]).all()
    assert torch.equal(_stock(bound, latents, text), stock) and not _hooks(bound)


def test_it_adds_to_an_adapters_foreground_weights(unet: UNet2DConditionModel, single: dict[str, Tensor]) -> None:
    adapter = LayerAdapter.from_weights(tiny_adapter(unet, downscale=4, context_features=64, noise=0.3))
    latents, text = _inputs(8)
    frames = frame_change(single, {1: 0, 2: 0})

    def change(projection: str, row: int) -> Tensor | None:
        own, name = frames(projection, row), projection.replace(".", "/")
        if name not in adapter.shared:
            return own
        kept = adapter.shared if own is None else adapter.foreground
        return kept[name] - cast(Any, unet.get_submodule(projection)).weight + (0 if own is None else own)

    reference = Reference(height=4, change=change, tensors=single, temporal_rows=range(1, 3), joins=True)
    _close(_layered(unet, read_layerdiffuse(single), latents, text, LSSA, adapter), _slow(unet, reference, latents, text))


@pytest.mark.parametrize("config", [OFF, LSSA], ids=["rows alone", "lssa"])
def test_xl_patches_are_merged_weights_on_foregrounds(
    config: LayerAttentionConfig, xl: UNet2DConditionModel, patches: dict[str, Tensor]
) -> None:
    name = "diffusion_model.middle_block.1.transformer_blocks.1.attn1.to_q.weight"
    tensors = {key: value for key, value in patches.items() if not key.startswith(name)}
    tensors[f"{name}::diff::0"] = torch.randn(64, 64, generator=torch.Generator().manual_seed(1)) / 8
    alpha = "diffusion_model.output_blocks.5.1.transformer_blocks.0.attn2.to_v.weight"
    tensors[f"{alpha}::lora::2"] = torch.tensor(2.0)
    weights, latents, text = read_layerdiffuse(tensors), *_inputs(8)

    def merged(key: str) -> Tensor:
        if key == name:
            return tensors[f"{name}::diff::0"]
        return tensors[f"{key}::lora::0"] @ tensors[f"{key}::lora::1"] * (0.5 if key == alpha else 1)

    keys = {key.split("::")[0] for key in tensors}
    named = {module: key for module, ldm in ldm_names([name for name, _ in cast(Any, xl).named_modules()]).items()
             if (key := f"diffusion_model.{ldm}.weight") in keys}
    assert len(named) == len(keys)
    reference = Reference(
        height=4, change=lambda projection, row: merged(named[projection]) if row in (1, 2) else None, tensors={},
        temporal_rows=range(0), joins=config.lssa)
    found = _layered(xl, weights, latents, text, config)
    _close(found, _slow(xl, reference, latents, text))
    if not config.lssa:
        changed = copy.deepcopy(xl)
        for module, key in named.items():
            cast(Any, changed.get_submodule(module)).weight.data += merged(key)
        _close(found[[1, 2]], _stock(changed, latents, text)[[1, 2]])


# ---- LayerDiffuse's own way


@pytest.mark.parametrize("frames", [1, 3])
def test_frames_are_the_rows_of_a_picture(frames: int, unet: UNet2DConditionModel) -> None:
    tensors, (latents, text) = _file(frames), _inputs(2 * frames)
    reference = Reference(height=frames, change=frame_change(tensors, {f: f for f in range(frames)}), tensors=tensors,
                          temporal_rows=range(frames), together=True)
    stock = _stock(unet, latents, text)
    with layerdiffuse_attention(unet, cast(LayerDiffuseAttention, read_layerdiffuse(tensors))):
        found = _stock(unet, latents, text)
    _close(found, _slow(unet, reference, latents, text))
    assert torch.equal(_stock(unet, latents, text), stock) and not _hooks(unet)


@pytest.mark.parametrize("seed", [0, 1], ids=["fg2bg", "bg2fg"])
def test_conditional_weights_go_by_a_picture(seed: int, unet: UNet2DConditionModel) -> None:
    """The two files are alike but for their values: what the picture and the frames show is all that differs."""
    tensors = drawn(attention_shapes(2, widths=WIDTHS, context=CHANNELS, rank=6, control=CONTROL), seed)
    (latents, text), picture = _inputs(4), torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(2))
    reference = Reference(height=2, change=frame_change(tensors, {0: 0, 1: 1}), tensors=tensors, temporal_rows=range(2),
                          together=True, signals=control_signals(tensors, picture))
    weights = cast(LayerDiffuseAttention, read_layerdiffuse(tensors))
    stock = _stock(unet, latents, text)
    with layerdiffuse_attention(unet, weights, picture):
        found, again = _stock(unet, latents, text), _stock(unet, latents, text)
    _close(found, _slow(unet, reference, latents, text))
    assert torch.equal(found, again)  # the control is made once
    assert torch.equal(_stock(unet, latents, text), stock) and not _hooks(unet)
    with layerdiffuse_attention(unet, weights, 1 - picture):
        assert float((_stock(unet, latents, text) - found).abs().max()) > 0.01


def test_an_error_inside_also_undoes(unet: UNet2DConditionModel) -> None:
    weights = cast(LayerDiffuseAttention, read_layerdiffuse(_file(2, CONTROL)))
    latents, text = _inputs(2)
    with pytest.raises(InputError, match=r"a stage of 1 cells, but a control picture with stages of \[4, 16, 64, 256\]"), \
            layerdiffuse_attention(unet, weights, torch.rand(3, 128, 128)):
        _stock(unet, latents, text)
    assert not _hooks(unet)


def test_a_picture_goes_with_conditional_weights_alone(unet: UNet2DConditionModel, single: dict[str, Tensor]) -> None:
    conditional, picture = cast(LayerDiffuseAttention, read_layerdiffuse(_file(2, CONTROL))), torch.rand(3, 64, 64)
    with pytest.raises(InputError, match="without a control, and a picture for it"), \
            layerdiffuse_attention(unet, cast(LayerDiffuseAttention, read_layerdiffuse(single)), picture):
        pass
    with pytest.raises(InputError, match="conditional weights without a picture"), layerdiffuse_attention(unet, conditional):
        pass
    with pytest.raises(InputError, match="conditional weights without a picture"):
        layerdiffuse_additions(unet, conditional)
    with pytest.raises(InputError, match="without a control, and a picture for it"):
        layerdiffuse_additions(unet, read_layerdiffuse(single), picture=picture)


def test_weights_of_another_base_are_refused(unet: UNet2DConditionModel, xl: UNet2DConditionModel) -> None:
    for tensors, model, words in (
        (_file(1), xl, "weights of 32 attention layers, but this UNet has"),
        (drawn(attention_shapes(1, widths=WIDTHS, context=48, rank=6)), unet,
         r"attn2\.to_k: a delta of \(32, 48\) for a weight of \(32, 32\)"),
        (drawn(xl_shapes((32, 64), (1, 3), CHANNELS, 4)), xl, "which this model lacks"),
    ):
        with pytest.raises(WeightsError, match=words):
            _layered(model, read_layerdiffuse(tensors), *_inputs(8))
        assert not _hooks(model)


# ---- files


def _meta(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta", dtype=torch.float16) for name, shape in shapes.items()}


def _sd15() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(cross_attention_dim=768).half()


def _sdxl() -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(
            block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10), cross_attention_dim=2048,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(5, 10, 20),
            use_linear_projection=True).half()


@pytest.mark.parametrize(("frames", "control", "keys", "parameters"), [
    (1, None, 640, 175_098_496), (3, None, 1152, 277_138_048), (2, ENCODER_WIDTHS, 1180, 281_425_568)])
def test_published_sd15_files_load_strictly_and_fit(
    frames: int, control: tuple[int, ...] | None, keys: int, parameters: int
) -> None:
    shapes = attention_shapes(frames, control=control)
    assert len(shapes) == keys and sum(torch.Size(shape).numel() for shape in shapes.values()) == parameters
    weights, unet = read_layerdiffuse(_meta(shapes)), _sd15()
    assert isinstance(weights, LayerDiffuseAttention) and weights.frames == frames
    assert sum(p.numel() for p in weights.parameters()) == parameters
    picture = None if control is None else torch.empty(3, 512, 512, device="meta")
    with layerdiffuse_attention(unet, weights, picture):
        assert _hooks(unet) == 32 * (5 if control is None else 6)


def test_the_published_sdxl_file_loads_strictly_and_fits() -> None:
    shapes = xl_shapes()
    # 743,352,688 bytes are published: these tensors in fp16, and a header of exactly these names.
    assert len(shapes) == 1120 and 2 * sum(torch.Size(shape).numel() for shape in shapes.values()) == 743_178_240
    weights, unet = read_layerdiffuse(_meta(shapes)), _sdxl()
    assert isinstance(weights, LayerDiffusePatches)
    with layer_attention(unet, [tiny_embedding([1])], OFF, additions=layerdiffuse_additions(unet, weights)):
        assert _hooks(unet) == 560


def test_files_are_read_in_their_own_dtype(single: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in single.items()}, tmp_path / "w.safetensors")
    weights = load_layerdiffuse(tmp_path / "w.safetensors")
    assert {p.dtype for p in weights.parameters()} == {torch.float16}
    assert not any(p.requires_grad for p in weights.parameters())


def test_half_precision_weights_come_to_the_unet(unet: UNet2DConditionModel) -> None:
    tensors, (latents, text) = _file(3), _inputs(3)
    half = read_layerdiffuse({name: tensor.half() for name, tensor in tensors.items()})
    rounded = read_layerdiffuse({name: tensor.half().float() for name, tensor in tensors.items()})
    outputs: list[Tensor] = []
    for weights in (half, rounded):
        with layerdiffuse_attention(unet, cast(LayerDiffuseAttention, weights)):
            outputs.append(_stock(unet, latents, text))
    assert torch.equal(*outputs)


_Change = Callable[[dict[str, Tensor]], object]


@pytest.mark.parametrize(("change", "words"), [
    (lambda t: t.pop("hookers.layers.7.temporal_q.weight"), r"missing hookers\.layers\.7\.temporal_q\.weight"),
    (lambda t: t.pop("hookers.layers.31.to_out_lora.0.up.weight"), r"missing hookers\.layers\.31\.to_out_lora\.0\.up"),
    (lambda t: t.update(stranger=torch.zeros(1)), "unexpected stranger"),
    (lambda t: t.update({"hookers.layers.3.to_v_lora.0.up.weight": torch.zeros(32, 5)}), r"to_v_lora.* has shape \(32, 5\)"),
    (lambda t: t.update({"hookers.layers.3.temporal_o.bias": torch.full((32,), torch.nan)}), "32 NaN"),
    (lambda t: t.update({"kwargs_encoder.blocks_1.0.weight": torch.zeros(8, 8, 3, 3)}), r"missing kwargs_encoder\.blocks_0"),
])
def test_damaged_files_are_named(change: _Change, words: str, single: dict[str, Tensor], tmp_path: Path) -> None:
    tensors = dict(single)
    change(tensors)
    save_file(tensors, path := tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=rf"w\.safetensors: .*{words}"):
        load_layerdiffuse(path)


@pytest.mark.parametrize(("name", "shape", "words"), [
    ("diffusion_model.input_blocks.0.0.weight::diff::0", (8, 8, 3, 3), "no patch of a linear layer"),
    ("diffusion_model.out.0.bias::diff::0", (8,), "no patch of a linear layer"),
    ("diffusion_model.a.weight::lora::0", (8, 2), "expected lora::0 and lora::1"),
])
def test_other_patches_are_named(name: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        read_layerdiffuse({name: torch.zeros(shape)})


def test_a_file_of_another_kind_is_called_what_it_is(tmp_path: Path) -> None:
    save_file(drawn(encoder_shapes((4,) * 8)), path := tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"w\.safetensors: this is LayerDiffuse's transparent encoder; give LayerDiffuse's"):
        load_layerdiffuse(path)


@pytest.mark.parametrize(("frames", "given", "order"), [
    (3, None, [1, 0, 2]), (2, "background", [1, 2]), (2, "foreground", [0, 2])], ids=["joint", "bg2fg", "fg2bg"])
def test_weights_of_several_frames_are_those_of_a_stack_of_one_foreground(
    frames: int, given: Given | None, order: list[int], unet: UNet2DConditionModel
) -> None:
    """Rows are background, foreground, whole. Joint weights have the foreground first; others leave out the row that is given."""
    tensors = drawn(attention_shapes(frames, widths=WIDTHS, context=CHANNELS, rank=6, control=CONTROL if given else None))
    weights, picture = cast(LayerDiffuseAttention, read_layerdiffuse(tensors)), torch.rand(3, 64, 64) if given else None
    latents, text = _inputs(6)
    expected, rows = _stock(unet, latents, text), [*order, *(3 + row for row in order)]
    with layerdiffuse_attention(unet, weights, picture):
        expected[rows] = _stock(unet, latents[rows], text[rows])
    additions = layerdiffuse_additions(unet, weights, picture=picture, given=given or "background")
    with layer_attention(unet, [tiny_embedding([1])] * 2, OFF, additions=additions) as run:
        run.begin(TIME, (8, 8))
        _close(_stock(unet, latents, text), expected)
    assert not _hooks(unet)
    with pytest.raises(InputError, match=rf"weights of {frames} frames for a picture of 2 foregrounds; .* one foreground, or layer_sd15_tr"):
        layerdiffuse_additions(unet, weights, 2, picture=picture)


def test_names_of_ldm_are_diffusers_own(unet: UNet2DConditionModel) -> None:
    assert len(SITES) == len(set(SITES)) == 32
    ldm = [f"{place}.transformer_blocks.0.attn{kind}" for place in (
        *(f"input_blocks.{n}.1" for n in (1, 2, 4, 5, 7, 8)), *(f"output_blocks.{n}.1" for n in range(3, 12)), "middle_block.1",
    ) for kind in (1, 2)]
    found = ldm_names([name for name, _ in cast(Any, unet).named_modules()])
    assert [found[name] for name in SITES] == ldm and found["conv_out"] == "out.2"
