"""Pixels to and from eight-bit pictures. The only place where floats become bytes."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import IO

import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from ..errors import FormatError, InputError
from .limits import PixelBudget

__all__ = ["image_from_tensor", "png_bytes", "read_png", "tensor_from_image", "write_png"]

# Everything that Pillow is known to raise on a damaged PNG.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, struct.error, zlib.error)
_READABLE = frozenset({"1", "L", "LA", "P", "RGB", "RGBA"})


def image_from_tensor(picture: Tensor) -> Image.Image:
    """An RGB or RGBA picture of a tensor (3 or 4, h, w); values outside [0, 1] are clamped, then rounded."""
    if picture.ndim != 3 or picture.shape[0] not in (3, 4):
        raise InputError(f"got a picture of shape {tuple(picture.shape)}; give (3, h, w) or (4, h, w)")
    scaled = picture.detach().to("cpu", torch.float32).clamp(0, 1).mul(255).round()
    rows = scaled.to(torch.uint8).permute(1, 2, 0).contiguous()
    mode = "RGB" if picture.shape[0] == 3 else "RGBA"
    return Image.frombytes(mode, (picture.shape[2], picture.shape[1]), rows.numpy().tobytes())


def tensor_from_image(image: Image.Image) -> Tensor:
    """RGBA (4, h, w), float32 in [0, 1], of a picture of any eight-bit mode."""
    values = torch.frombuffer(bytearray(image.convert("RGBA").tobytes()), dtype=torch.uint8)
    return values.reshape(image.height, image.width, 4).permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def png_bytes(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_png(picture: Tensor, path: Path) -> None:
    """Write (3 or 4, h, w) as a PNG; the colour under alpha 0 is kept."""
    image_from_tensor(picture).save(path, "PNG")


def read_png(source: Path | IO[bytes], what: str, budget: PixelBudget) -> Tensor:
    """RGBA (4, h, w) of a PNG. Raises `FormatError` if it is missing, damaged, too large or not a PNG."""
    try:
        # Image.open would guess among all of Pillow's formats and warn of sizes that the budget allows.
        with PngImageFile(source) as image:
            budget.take(what, image.width, image.height)
            if image.mode not in _READABLE:
                raise FormatError(f"{what} has pixels of mode {image.mode}; save it as an eight-bit PNG")
            return tensor_from_image(image)
    except _DAMAGE as error:
        raise FormatError(f"{what} is missing, truncated or not a PNG ({error}); save it again") from error
