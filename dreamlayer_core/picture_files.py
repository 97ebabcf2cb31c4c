"""Reading a user's picture or mask, whatever a camera, a scanner or an editor has made of it. Pillow only.

What is done to it, so that it is what a viewer shows: turned as its EXIF says; a palette, gray and CMYK become RGB, by the
embedded colour profile where there is one; 16 bits of gray are kept (Pillow itself cuts 16 bits of colour to 8);
transparency is laid on white; of several frames the first is taken. ``Picture.notes`` says which of these it was.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from .composite import white_fill
from .errors import FormatError, InputError

__all__ = ["LARGEST_PICTURE", "Picture", "read_mask", "read_picture"]

LARGEST_PICTURE = 2**26  # pixels: 800 MB as floats
# Pillow's other readers run programs (EPS), or are of formats that nobody keeps pictures in.
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "GIF", "PPM", "TGA")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
_DEEP_GRAY = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """``pixels`` (3, h, w) in [0, 1] fp32, sRGB; ``notes``: what was done to the file's own pixels, for people."""

    pixels: Tensor
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[-1], self.pixels.shape[-2]


def read_picture(path: str | Path) -> Picture:
    """A picture as viewers show it. Raises FormatError for a file that is missing, truncated or no picture, InputError
    for one that is too large or has values that cannot be placed between black and white."""
    image, notes = _open(Path(path), "picture")
    if (deep := _deep_gray(image, Path(path))) is not None:
        return Picture(pixels=deep.expand(3, -1, -1).clone(), notes=(*notes, f"mode {image.mode} taken as gray"))
    if image.mode not in ("RGB", "RGBA"):
        notes.append(f"mode {image.mode} made RGB")
    image, with_profile = _to_srgb(_unpacked(image))
    notes += ["colours brought to sRGB by the embedded profile"] if with_profile else []
    values = _eight_bit(image, "RGBA" if _has_alpha(image) else "RGB", Path(path))
    if len(values) == 3:
        return Picture(pixels=values, notes=tuple(notes))
    color, alpha = values[:3], values[3:]
    if bool((alpha == 1).all()):
        return Picture(pixels=color.contiguous(), notes=tuple(notes))
    return Picture(pixels=white_fill(color, alpha), notes=(*notes, "transparency laid on white"))


def read_mask(path: str | Path) -> Tensor:
    """A mask (h, w) in [0, 1]: the alpha of a file that is transparent somewhere, else its brightness (white is 1).

    Raises as ``read_picture``.
    """
    image, _ = _open(Path(path), "mask")
    if (deep := _deep_gray(image, Path(path))) is not None:
        return deep[0]
    if _has_alpha(image):
        alpha = _eight_bit(image, "RGBA", Path(path))[3]
        if not bool((alpha == 1).all()):
            return alpha
    return _eight_bit(image, "L", Path(path))[0]


def _open(path: Path, what: str) -> tuple[Image.Image, list[str]]:
    """The first frame of a file, decoded and turned upright, and notes."""
    if not path.is_file():
        raise FormatError(f"{path}: no such {what}; give a PNG, JPEG, WebP, TIFF or BMP file")
    Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of sizes that are checked here
            with Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN]) as image:
                _check_size(path, image)
                notes = ["first frame of several"] if getattr(image, "n_frames", 1) > 1 else []
                image.load()
                upright = ImageOps.exif_transpose(image)
                turned = image.getexif().get(0x0112, 1) not in (0, 1)
    except InputError:  # a ValueError, too
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{path}: {error}; give one of {LARGEST_PICTURE // 10**6} megapixels at most") from error
    except _DAMAGE as error:
        reason = "not a picture of a kind that is read here" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise FormatError(f"{path}: truncated, damaged or no picture ({reason}); save it again as PNG or JPEG") from error
    return upright, [*notes, "turned as its EXIF says"] if turned else notes


def _check_size(path: Path, image: Image.Image) -> None:
    if image.width * image.height > LARGEST_PICTURE:
        raise InputError(
            f"{path}: a picture of {image.width}x{image.height} pixels; give one of {LARGEST_PICTURE // 10**6} megapixels "
            "at most")


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info


def _deep_gray(image: Image.Image, path: Path) -> Tensor | None:
    """(1, h, w) of 16 bits or floats of gray; None for other pictures."""
    if image.mode in _DEEP_GRAY:
        values = torch.frombuffer(bytearray(image.convert("I").tobytes()), dtype=torch.int32).to(torch.float32) / 65535
    elif image.mode == "F":
        values = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.float32)
    else:
        return None
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise InputError(f"{path}: values of mode {image.mode} beyond black and white; save it with 8 or 16 bits")
    return values.reshape(1, image.height, image.width)


def _unpacked(image: Image.Image) -> Image.Image:
    """Palettes and keyed transparency as colours and alpha: a profile is of colours, and its transform drops the key."""
    packed = image.mode in ("P", "PA") or (image.mode in ("1", "L", "RGB") and "transparency" in image.info)
    return image.convert("RGBA" if _has_alpha(image) else "RGB") if packed else image


def _to_srgb(image: Image.Image) -> tuple[Image.Image, bool]:
    """By the embedded profile, unless it is sRGB already or useless."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("L", "RGB", "RGBA", "CMYK"):
        return image, False
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image, False  # to itself it would change a level here and there
        alpha = image.getchannel("A") if image.mode == "RGBA" else None
        opaque = image.convert("RGB") if alpha is not None else image
        converted = ImageCms.profileToProfile(opaque, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image, False  # viewers ignore a broken profile, too
    if converted is None:
        return image, False
    if alpha is not None:
        converted.putalpha(alpha)
    return converted, True


def _eight_bit(image: Image.Image, mode: str, path: Path) -> Tensor:
    """(channels, h, w) in [0, 1] of any picture that Pillow can bring to this eight-bit mode."""
    try:
        converted = image.convert(mode)
    except ValueError as error:
        raise FormatError(f"{path}: pixels of mode {image.mode} ({error}); save it as an RGB picture") from error
    values = torch.frombuffer(bytearray(converted.tobytes()), dtype=torch.uint8)
    planes = values.reshape(converted.height, converted.width, len(mode)).permute(2, 0, 1)
    return planes.contiguous().to(torch.float32).div(255)
