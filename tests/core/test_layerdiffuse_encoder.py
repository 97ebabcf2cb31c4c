from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dreamlayer_core.errors import InputError, WeightsError
from dreamlayer_core.layerdiffuse_encoder import OFFSET_SCALES, TransparentEncoder, load_transparent_encoder, pad_colors

from .layerdiffuse_reference import drawn, encoder_shapes, offset, padded_colors

WIDTHS = (4, 4, 8, 8, 16, 16, 32, 32)


def _rgba(height: int, width: int, seed: int = 0) -> Tensor:
    """A soft disc of noise on transparency."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    color = torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))
    return torch.cat([color, (3 - 5 * (x.square() + y.square()).sqrt()).clamp(0, 1)[None]])


def _saved(folder: Path, name: str, widths: tuple[int, ...] = WIDTHS) -> tuple[Path, dict[str, Tensor]]:
    tensors = drawn(encoder_shapes(widths))
    save_file(tensors, path := folder / f"{name}.safetensors")
    return path, tensors


@pytest.mark.parametrize(("name", "scale"), OFFSET_SCALES.items())
@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_offsets_are_as_written_out_at_both_scales(name: str, scale: float, size: tuple[int, int], tmp_path: Path) -> None:
    path, tensors = _saved(tmp_path, name)
    encoder, pictures = load_transparent_encoder(path), [_rgba(*size), _rgba(*size, seed=1)]
    found = encoder(torch.stack(pictures)) / scale
    expected = torch.stack([offset(tensors, picture, scale) for picture in pictures]) / scale
    assert encoder.latent_scale == 8 and found.shape == (2, 4, size[0] // 8, size[1] // 8)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 7), (16, 9), (12, 30)])
def test_colors_are_padded_as_written_out(size: tuple[int, int]) -> None:
    rgba = torch.rand(4, *size, generator=torch.Generator().manual_seed(3))
    rgba[3] = (rgba[3] * 2 - 1).clamp(0, 1)
    torch.testing.assert_close(pad_colors(rgba[None, :3], rgba[None, 3:])[0], padded_colors(rgba), rtol=1e-5, atol=1e-5)


def test_padding_keeps_what_is_opaque_and_runs_out_under_transparency() -> None:
    rgba = _rgba(32, 32)
    padded = pad_colors(rgba[None, :3], rgba[None, 3:])[0]
    opaque = (rgba[3] == 1).expand(3, -1, -1)
    torch.testing.assert_close(padded[opaque], rgba[:3][opaque])
    flat = torch.cat([torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(3, 32, 32), rgba[3:]])
    torch.testing.assert_close(pad_colors(flat[None, :3], flat[None, 3:])[0], flat[:3], rtol=0, atol=1e-5)
    assert not pad_colors(rgba[None, :3], torch.zeros(1, 1, 32, 32)).any()


def test_the_published_file_loads_strictly(tmp_path: Path) -> None:
    shapes = encoder_shapes()
    assert len(shapes) == 18 and sum(torch.Size(shape).numel() for shape in shapes.values()) == 1_181_764
    save_file({name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()},
              path := tmp_path / "vae_transparent_encoder.safetensors")
    encoder = load_transparent_encoder(path)
    assert {p.dtype for p in encoder.parameters()} == {torch.float16} and encoder.latent_scale == 8
    assert not encoder(_rgba(16, 16)[None]).any()


def test_a_renamed_file_needs_a_scale(tmp_path: Path) -> None:
    path, _ = _saved(tmp_path, "mine")
    with pytest.raises(WeightsError, match=r"mine\.safetensors: .* give the scale \(1 or 300\), or the file its published name"):
        load_transparent_encoder(path)
    assert load_transparent_encoder(path, scale=300).scale == 300


@pytest.mark.parametrize(("change", "words"), [
    ({"blocks.4.bias": torch.zeros(3)}, r"blocks\.4\.bias has shape \(3,\)"),
    ({"blocks.2.weight": torch.zeros(4, 5, 3, 3)}, r"blocks\.2\.weight has shape"),
    ({"more": torch.zeros(1)}, "this is .* give LayerDiffuse's transparent encoder"),
    ({"blocks.40.bias": torch.zeros(1)}, r"unexpected blocks\.40\.bias"),
    ({"blocks.0.weight": torch.zeros(4)}, r"missing blocks\.0\.weight"),
    ({"blocks.0.bias": torch.full((4,), torch.inf)}, "4 NaN or infinite"),
])
def test_damaged_files_are_named(change: dict[str, Tensor], words: str, tmp_path: Path) -> None:
    path, tensors = _saved(tmp_path, "vae_transparent_encoder")
    save_file({**tensors, **change}, path)
    with pytest.raises(WeightsError, match=rf"vae_transparent_encoder\.safetensors: .*{words}"):
        load_transparent_encoder(path)


def test_an_encoder_has_widths() -> None:
    with pytest.raises(InputError, match="no widths"):
        TransparentEncoder((), scale=1)
