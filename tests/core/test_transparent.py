"""The transparent decoder against diffusers' own blocks, and its views, sizes and published shape."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block, get_up_block
from torch import Tensor, nn

from dreamlayer_core.errors import InputError, WeightsError
from dreamlayer_core.transparent import VIEWS, TransparentDecoder, TransparentDecoderConfig, infer_config

SMALL = TransparentDecoderConfig(widths=(8, 8, 16, 24), latent_block=2, attention_blocks=2)
SHAPES = [
    SMALL,
    TransparentDecoderConfig(widths=(8, 16, 8), latent_block=0, attention_blocks=0, layers_per_block=1),
    TransparentDecoderConfig(widths=(8, 8, 16, 16, 24), latent_block=3, attention_blocks=3, norm_groups=2),
    TransparentDecoderConfig(widths=(16, 16, 32), latent_block=2, attention_blocks=3, head_dim=16, latent_channels=16),
]


class Reference(nn.Module):
    """The same UNet assembled from diffusers' blocks, as LayerDiffuse did."""

    def __init__(self, config: TransparentDecoderConfig) -> None:
        super().__init__()
        widths, last = config.widths, len(config.widths) - 1
        shared: dict[str, Any] = {
            "temb_channels": None,
            "resnet_eps": 1e-5,
            "resnet_act_fn": "silu",
            "resnet_groups": config.norm_groups,
            "attention_head_dim": config.head_dim,
            "resnet_time_scale_shift": "default",
        }
        self.latent_block = config.latent_block
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.latent_conv_in = nn.Conv2d(config.latent_channels, widths[max(config.latent_block - 1, 0)], 1)
        self.down_blocks = nn.ModuleList(
            get_down_block(
                "AttnDownBlock2D" if index > last - config.attention_blocks else "DownBlock2D",
                num_layers=config.layers_per_block,
                in_channels=widths[max(index - 1, 0)],
                out_channels=widths[index],
                add_downsample=index < last,
                downsample_padding=1,
                downsample_type="conv",
                **shared,
            )
            for index in range(last + 1)
        )
        self.mid_block = UNetMidBlock2D(in_channels=widths[-1], attn_groups=None, add_attention=True, **shared)
        self.up_blocks = nn.ModuleList(
            get_up_block(
                "AttnUpBlock2D" if index < config.attention_blocks else "UpBlock2D",
                num_layers=config.layers_per_block + 1,
                in_channels=widths[max(last - index - 1, 0)],
                out_channels=widths[last - index],
                prev_output_channel=widths[min(last - index + 1, last)],
                add_upsample=index < last,
                upsample_type="conv",
                **shared,
            )
            for index in range(last + 1)
        )
        self.conv_norm_out = nn.GroupNorm(config.norm_groups, widths[0])
        self.conv_out = nn.Conv2d(widths[0], 4, 3, padding=1)

    def forward(self, rgb: Tensor, latent: Tensor) -> Tensor:
        x = self.conv_in(rgb)
        skips = (x,)
        for index, block in enumerate(self.down_blocks):
            if index == self.latent_block:
                x = x + self.latent_conv_in(latent)
            x, made = block(x, None)
            skips += made
        x = self.mid_block(x, None)
        for block in self.up_blocks:
            number = len(block.resnets)
            x, skips = block(x, skips[-number:], None), skips[:-number]
        return self.conv_out(nn.functional.silu(self.conv_norm_out(x)))


def filled(module: nn.Module) -> nn.Module:
    """No parameter at its start: norms and the zero convolution must count too."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module.eval()


@pytest.fixture(scope="module")
def decoder() -> TransparentDecoder:
    model = TransparentDecoder(SMALL)
    filled(model)
    return model


def picture(config: TransparentDecoderConfig, width: int, height: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    scale = config.latent_scale
    rgb = torch.rand(batch, 3, height, width, generator=generator)
    return rgb, torch.randn(batch, config.latent_channels, height // scale, width // scale, generator=generator)


@pytest.mark.parametrize("config", SHAPES)
def test_it_computes_what_diffusers_blocks_compute(config: TransparentDecoderConfig) -> None:
    reference = filled(Reference(config))
    ours = TransparentDecoder.from_state_dict(reference.state_dict(), config)
    rgb, latent = picture(config, 48, 32, batch=2)
    with torch.no_grad():
        expected, found = reference(rgb, latent), ours(rgb, latent)
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_published_shape_has_its_number_of_tensors_and_parameters() -> None:
    with torch.device("meta"):
        decoder = TransparentDecoder(TransparentDecoderConfig())
        reference = Reference(TransparentDecoderConfig())
    state = decoder.state_dict()
    assert len(state) == 538
    assert sum(tensor.numel() for tensor in state.values()) == 104_104_804
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in reference.state_dict().items()
    }
    assert infer_config(state) == TransparentDecoderConfig()


def test_the_shape_is_read_from_the_tensors() -> None:
    config = TransparentDecoderConfig(widths=(32, 32, 64, 96), latent_block=2, attention_blocks=1, layers_per_block=3)
    with torch.device("meta"):
        state = TransparentDecoder(config).state_dict()
    assert infer_config(state) == config


def test_before_training_the_latent_does_not_matter() -> None:
    decoder = TransparentDecoder(SMALL)
    rgb, latent = picture(SMALL, 16, 16)
    with torch.no_grad():
        assert torch.equal(decoder(rgb, latent), decoder(rgb, -latent))
    decoder(rgb, latent).sum().backward()
    gradient = decoder.latent_conv_in.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("size", [(32, 16), (36, 20), (4, 4)])
def test_any_size_gives_rgba_of_that_size(decoder: TransparentDecoder, size: tuple[int, int], views: int) -> None:
    rgb, latent = picture(SMALL, *size, batch=2)
    rgba = decoder.decode(rgb, latent, views=views)
    assert rgba.shape == (2, 4, size[1], size[0])
    assert rgba.min() >= 0 and rgba.max() <= 1
    assert not rgba.requires_grad


def test_one_view_is_the_clamped_estimate_with_alpha_moved_last(decoder: TransparentDecoder) -> None:
    rgb, latent = picture(SMALL, 32, 16)
    with torch.no_grad():
        raw = decoder(rgb, latent).clamp(0, 1)
    rgba = decoder.decode(rgb, latent, views=1)
    assert torch.equal(rgba[:, 3], raw[:, 0])
    assert torch.equal(rgba[:, :3], raw[:, 1:])


def test_eight_views_turn_with_the_picture(decoder: TransparentDecoder) -> None:
    rgb, latent = picture(SMALL, 32, 16)
    straight = decoder.decode(rgb, latent, views=8)
    turned = decoder.decode(torch.rot90(rgb, 1, (2, 3)), torch.rot90(latent, 1, (2, 3)), views=8)
    torch.testing.assert_close(turned, torch.rot90(straight, 1, (2, 3)), rtol=1e-4, atol=1e-4)
    once = decoder.decode(rgb, latent, views=1)
    assert (once - straight).abs().max() > 1e-3


def test_eight_views_are_the_lower_median_of_all_flips_and_turns(decoder: TransparentDecoder) -> None:
    rgb, latent = picture(SMALL, 16, 16)
    estimates: list[Tensor] = []
    for mirrored in (False, True):
        for turns in range(4):
            seen = [torch.rot90(x.flip(3) if mirrored else x, turns, (2, 3)) for x in (rgb, latent)]
            back = torch.rot90(decoder.decode(*seen, views=1), -turns, (2, 3))
            estimates.append(back.flip(3) if mirrored else back)
    expected = torch.stack(estimates).median(dim=0).values
    torch.testing.assert_close(decoder.decode(rgb, latent, views=8), expected)
    mean = torch.stack([estimates[0], estimates[4]]).mean(dim=0)
    torch.testing.assert_close(decoder.decode(rgb, latent, views=2), mean)


@pytest.mark.parametrize("views", [2, 4])
def test_fewer_views_mirror_with_the_picture(decoder: TransparentDecoder, views: int) -> None:
    rgb, latent = picture(SMALL, 32, 16)
    straight = decoder.decode(rgb, latent, views=views)
    torch.testing.assert_close(decoder.decode(rgb.flip(3), latent.flip(3), views=views), straight.flip(3))


def test_padding_does_not_change_what_lies_far_from_it() -> None:
    config = TransparentDecoderConfig(widths=(8, 8), latent_block=1, attention_blocks=0, layers_per_block=1)
    decoder = TransparentDecoder(config)
    filled(decoder)
    # group norms see the whole picture, so only a constant one can be compared
    rgb, latent = torch.full((1, 3, 64, 64), 0.5), torch.full((1, 4, 32, 32), 0.1)
    whole = decoder.decode(rgb, latent, views=1)
    cut = TransparentDecoder.from_state_dict(decoder.state_dict(), config).decode(
        rgb[..., :62, :62], latent[..., :31, :31], views=1
    )
    torch.testing.assert_close(cut[..., :30, :30], whole[..., :30, :30], rtol=0, atol=0.05)


def test_half_precision_weights_take_full_precision_pictures(decoder: TransparentDecoder) -> None:
    half = TransparentDecoder.from_state_dict({name: x.bfloat16() for name, x in decoder.state_dict().items()}, SMALL)
    rgb, latent = picture(SMALL, 16, 16)
    rgba = half.decode(rgb, latent, views=1)
    assert rgba.dtype == torch.bfloat16
    torch.testing.assert_close(rgba.float(), decoder.decode(rgb, latent, views=1), rtol=0, atol=0.1)


def test_wrong_tensors_are_named(decoder: TransparentDecoder) -> None:
    state = decoder.state_dict()
    with pytest.raises(WeightsError, match=r"missing conv_norm_out\.bias"):
        TransparentDecoder.from_state_dict({n: x for n, x in state.items() if n != "conv_norm_out.bias"})
    with pytest.raises(WeightsError, match="unexpected extra"):
        TransparentDecoder.from_state_dict(state | {"extra": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"conv_in\.weight has shape \(8, 4, 3, 3\), expected \(8, 3, 3, 3\)"):
        TransparentDecoder.from_state_dict(state | {"conv_in.weight": torch.zeros(8, 4, 3, 3)})
    with pytest.raises(WeightsError, match="not a transparent decoder: 1 tensors"):
        TransparentDecoder.from_state_dict({"weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="not a transparent decoder of this kind"):
        TransparentDecoder.from_state_dict(state | {"latent_conv_in.weight": torch.zeros(5, 4, 1, 1)})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"widths": (8,)}, "give 2 to 12 widths"),
        (
            {"widths": (6, 8), "latent_block": 1, "attention_blocks": 1},
            r"got widths \[6\]; each must be a multiple of norm_groups=4",
        ),
        ({"widths": (8, 12), "attention_blocks": 1, "latent_block": 0}, "multiple of head_dim=8"),
        ({"widths": (8, 8), "latent_block": 2, "attention_blocks": 1}, "for 2 blocks"),
        ({"norm_groups": 0}, "positive numbers"),
    ],
)
def test_impossible_shapes_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TransparentDecoderConfig(**changed)


def test_pictures_that_do_not_fit_are_refused(decoder: TransparentDecoder) -> None:
    rgb, latent = picture(SMALL, 16, 16)
    with pytest.raises(InputError, match="got 3 views; give one of 1, 2, 4, 8"):
        decoder.decode(rgb, latent, views=3)
    with pytest.raises(InputError, match=r"\(1, 4, 16, 16\); give \(batch, 3, height, width\)"):
        decoder.decode(torch.zeros(1, 4, 16, 16), latent)
    with pytest.raises(InputError, match="15x16 picture"):
        decoder.decode(rgb[..., :15], latent)
    with pytest.raises(InputError, match=r"expected \(1, 4, 4, 4\)"):
        decoder.decode(rgb, latent[..., :3])
