import random
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageCms

from dreamlayer_core.errors import FormatError, InputError
from dreamlayer_core.picture_files import Picture, read_mask, read_picture

SIZE = (6, 4)  # width, height


def _noise(mode: str, size: tuple[int, int] = SIZE) -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, size, random.Random(0).randbytes(size[0] * size[1] * channels))


def _saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def _levels(pixels: torch.Tensor) -> list[int]:
    return (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).flatten().tolist()


def _rgb(image: Image.Image) -> list[int]:
    return list(image.convert("RGB").tobytes())


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm", "a.tga", "a.webp"])
def test_colour_pictures_come_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    image = _noise("RGB")
    picture = read_picture(_saved(image, tmp_path / name, **({"lossless": True} if name.endswith("webp") else {})))
    assert picture.size == SIZE and picture.pixels.shape == (3, 4, 6) and picture.pixels.dtype == torch.float32
    assert _levels(picture.pixels) == _rgb(image)
    assert picture.notes == ()


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_gray_and_palettes_become_colour(mode: str, tmp_path: Path) -> None:
    image = _noise("RGB").convert(mode)
    picture = read_picture(_saved(image, tmp_path / "a.png"))
    assert _levels(picture.pixels) == _rgb(image)
    assert picture.notes == (f"mode {mode} made RGB",)


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_sixteen_bits_of_gray_are_kept(name: str, tmp_path: Path) -> None:
    values = [0, 1, 256, 32768, 65534, 65535]
    image = Image.frombytes("I;16", (6, 1), b"".join(v.to_bytes(2, "little") for v in values))
    picture = read_picture(_saved(image, tmp_path / name))
    assert (picture.pixels * 65535).round().tolist() == [[values]] * 3
    assert torch.equal(read_mask(tmp_path / name), picture.pixels[0])


def test_floats_are_taken_between_black_and_white_only(tmp_path: Path) -> None:
    path = tmp_path / "a.tiff"
    Image.new("F", SIZE, 0.25).save(path)
    assert bool((read_picture(path).pixels == 0.25).all())
    Image.new("F", SIZE, 300).save(path)
    with pytest.raises(InputError, match="values of mode F beyond black and white; save it with 8 or 16 bits"):
        read_picture(path)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    image = Image.new("CMYK", SIZE, (255, 0, 0, 0))
    for name in ("a.tiff", "a.jpg"):
        pixels = read_picture(_saved(image, tmp_path / name)).pixels
        assert bool((pixels[0] < 0.02).all() and (pixels[1:] > 0.98).all())  # cyan


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_on_white(mode: str, tmp_path: Path) -> None:
    image = _noise(mode)
    picture = read_picture(_saved(image, tmp_path / "a.png"))
    color = torch.tensor(_rgb(image)).reshape(4, 6, 3) / 255
    alpha = torch.tensor(list(image.getchannel("A").tobytes())).reshape(4, 6, 1) / 255
    expected = color * alpha + (1 - alpha)
    torch.testing.assert_close(picture.pixels, expected.permute(2, 0, 1), rtol=0, atol=1e-6)
    assert picture.notes[-1] == "transparency laid on white"


def test_a_transparent_palette_colour_is_white(tmp_path: Path) -> None:
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.putpixel((0, 0), 0)
    picture = read_picture(_saved(image, tmp_path / "a.png", transparency=0))
    assert picture.pixels[:, 0, 0].tolist() == [1, 1, 1]
    assert _levels(picture.pixels[:, 1:, 1:])[:3] == [200, 0, 0]


def test_an_opaque_alpha_changes_nothing(tmp_path: Path) -> None:
    image = _noise("RGB")
    opaque = image.copy()
    opaque.putalpha(255)
    picture = read_picture(_saved(opaque, tmp_path / "a.png"))
    assert _levels(picture.pixels) == _rgb(image) and picture.notes == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright_as_their_exif_says(orientation: int, tmp_path: Path) -> None:
    turns = [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
             Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_90, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_270]
    upright = _noise("RGB")
    stored = upright if orientation == 1 else upright.transpose(turns[orientation - 2])
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = read_picture(_saved(stored, tmp_path / "a.png", exif=exif))
    assert picture.size == SIZE
    assert _levels(picture.pixels) == _rgb(upright)
    assert picture.notes == (("turned as its EXIF says",) if orientation > 1 else ())


def test_the_first_frame_is_taken(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", SIZE, color) for color in ("red", "blue"))
    red.save(tmp_path / "a.gif", save_all=True, append_images=[blue])
    picture = read_picture(tmp_path / "a.gif")
    assert _levels(picture.pixels) == _rgb(red)
    assert "first frame of several" in picture.notes


def _profile(*, swapped: bool) -> bytes:
    """sRGB; or a space of another name whose red is sRGB's green."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if not swapped:
        return data
    data = data.replace(b"rXYZ", b"qXYZ").replace(b"gXYZ", b"rXYZ").replace(b"qXYZ", b"gXYZ")
    return data.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_embedded_profile_brings_colours_to_srgb(mode: str, tmp_path: Path) -> None:
    image = Image.new(mode, SIZE, (255, 0, 0) if mode == "RGB" else (255, 0, 0, 128))
    picture = read_picture(_saved(image, tmp_path / "a.png", icc_profile=_profile(swapped=True)))
    red, green, blue = picture.pixels[:, 0, 0].tolist()
    assert green > 0.95 and max(red, blue) < (0.1 if mode == "RGB" else 0.6)
    assert "colours brought to sRGB by the embedded profile" in picture.notes


@pytest.mark.parametrize("packed", ["palette", "keyed", "palette, keyed"])
def test_a_profile_is_of_the_colours_of_a_palette_and_leaves_keyed_transparency(packed: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4), (255, 0, 0))
    image.paste((0, 0, 255), (4, 0, 8, 4))
    image, key = (image.quantize(2), 0) if "palette" in packed else (image, (0, 0, 255))
    path = _saved(image, tmp_path / "a.png", icc_profile=_profile(swapped=True), **({"transparency": key} if "keyed" in packed else {}))
    picture = read_picture(path)
    colors = {tuple(round(v) for v in picture.pixels[:, 0, x].tolist()) for x in (0, 7)}
    assert colors <= {(0, 1, 0), (0, 0, 1), (1, 1, 1)} and len(colors) == 2
    assert ((1, 1, 1) in colors) == ("transparency laid on white" in picture.notes) == ("keyed" in packed)
    assert "colours brought to sRGB by the embedded profile" in picture.notes


def _linear_gray() -> bytes:
    """The smallest ICC profile of gray: light in proportion to the value."""
    white, curve = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061), b"curv\0\0\0\0\0\0\0\0"
    text = "linear".encode("utf-16-be")
    name = b"mluc\0\0\0\0" + struct.pack(">II", 1, 12) + b"enUS" + struct.pack(">II", len(text), 28) + text
    parts, offset, table, body = {b"wtpt": white, b"kTRC": curve, b"desc": name}, 128 + 4 + 3 * 12, b"", b""
    for tag, part in parts.items():
        table += tag + struct.pack(">II", offset + len(body), len(part))
        body += part
    head = struct.pack(">I", offset + len(body)) + b"\0" * 4 + struct.pack(">I", 0x04200000) + b"mntrGRAYXYZ " + b"\0" * 12 + b"acsp"
    head += b"\0" * 28 + struct.pack(">iii", 63190, 65536, 54061)
    return head + b"\0" * (128 - len(head)) + struct.pack(">I", 3) + table + body


def test_gray_has_profiles_too(tmp_path: Path) -> None:
    picture = read_picture(_saved(Image.new("L", SIZE, 55), tmp_path / "a.png", icc_profile=_linear_gray()))
    assert "colours brought to sRGB by the embedded profile" in picture.notes
    torch.testing.assert_close(picture.pixels, torch.full((3, 4, 6), 0.502), atol=0.01, rtol=0)  # 0.2157 of the light


@pytest.mark.parametrize("profile", [_profile(swapped=False), b"no profile"])
def test_srgb_and_broken_profiles_change_nothing(profile: bytes, tmp_path: Path) -> None:
    image = _noise("RGB")
    assert _levels(read_picture(_saved(image, tmp_path / "a.png", icc_profile=profile)).pixels) == _rgb(image)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_truncated_files_are_refused_or_read_whole(kind: str, tmp_path: Path) -> None:
    buffer, path = BytesIO(), tmp_path / "a"
    _noise("RGB", (40, 30)).save(buffer, kind)
    whole = buffer.getvalue()
    path.write_bytes(whole)
    assert read_picture(path).size == (40, 30)
    for length in (0, 1, 5, 20, len(whole) // 3, len(whole) * 2 // 3):
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match="truncated, damaged or no picture .*; save it again as PNG or JPEG"):
            read_picture(path)


def test_bytes_that_are_broken_anywhere_raise_our_errors_only(tmp_path: Path) -> None:
    path, generator = tmp_path / "a", random.Random(1)
    for kind in ("PNG", "JPEG", "TIFF", "GIF"):
        buffer = BytesIO()
        _noise("RGB", (12, 9)).save(buffer, kind)
        for _ in range(40):
            data = bytearray(buffer.getvalue())
            for _ in range(3):
                data[generator.randrange(len(data))] = generator.randrange(256)
            path.write_bytes(data)
            try:
                assert isinstance(read_picture(path), Picture)
            except (FormatError, InputError) as error:
                assert str(path) in str(error)


@pytest.mark.parametrize("content", [b"", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>", b"PK\x03\x04"])
def test_what_is_no_picture_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for read in (read_picture, read_mask):
        with pytest.raises(FormatError, match="a.png: truncated, damaged or no picture"):
            read(tmp_path / "a.png")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="b.png: no such picture; give"):
        read_picture(tmp_path / "b.png")
    with pytest.raises(FormatError, match="no such mask; give"):
        read_mask(tmp_path)


@pytest.mark.parametrize("size", [(9000, 9000), (20000, 20000)])
def test_too_large_pictures_are_refused_before_they_are_decoded(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("1", size).save(tmp_path / "a.tiff", compression="group4")
    with pytest.raises(InputError, match="; give one of 67 megapixels at most"):
        read_picture(tmp_path / "a.tiff")


def test_a_mask_is_alpha_or_brightness(tmp_path: Path) -> None:
    image, path = _noise("RGBA"), tmp_path / "a.png"
    alpha = torch.tensor(list(image.getchannel("A").tobytes())).reshape(4, 6) / 255
    torch.testing.assert_close(read_mask(_saved(image, path)), alpha)
    image.putalpha(255)
    gray = torch.tensor(list(image.convert("L").tobytes())).reshape(4, 6) / 255
    torch.testing.assert_close(read_mask(_saved(image, path)), gray)
    assert sorted(read_mask(_saved(Image.new("1", SIZE, 1), path)).unique().tolist()) == [1]
