"""Pieces of a contact sheet: text, pictures on a checkerboard, heat maps and cards. All return a picture."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .png import image_from_tensor

__all__ = ["Color", "badge", "beside", "card", "checkered", "fit", "heat_map", "heat_scale", "pile", "text"]

Color = tuple[int, int, int]
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_CHECKER = ((250, 250, 250), (230, 230, 230))
_CARD, _BORDER, _RADIUS = (255, 255, 255), (224, 224, 220), 14
# Dark violet over red to pale yellow: brighter is more, in gray and to colour-blind eyes too.
_HEAT = ((4, 2, 18), (52, 15, 98), (132, 38, 117), (212, 66, 86), (250, 146, 74), (253, 246, 190))
# Where the built-in font lacks a script, any of these that the system has.
_FALLBACKS = (
    "NotoSansCJK-Regular.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "Arial Unicode.ttf",
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "arial.ttf",
)
_NO_FONT = "(no font here for this text)"


def text(words: str, width: int, *, size: int, color: Color, lines: int = 1, spacing: float = 1.3) -> Image.Image:
    """Words wrapped into at most `lines` lines of `width` pixels; what is left out shows as an ellipsis.

    The picture is as wide as its longest line.
    """
    font, shown = _font_for(" ".join(_printable(words).split()), size)
    wrapped = _wrap(shown, width, font, lines) or [""]
    step, longest = round(size * spacing), max(font.getlength(line) for line in wrapped)
    picture = Image.new("RGBA", (min(width, math.ceil(longest) + 2), step * len(wrapped)))
    draw = ImageDraw.Draw(picture)
    for index, line in enumerate(wrapped):
        # By the baseline, so that text in a fallback font stands on one line with text beside it.
        draw.text((0, index * step + size), line, fill=color, font=font, anchor="ls")
    return picture


def _printable(words: str) -> str:
    return "".join(" " if unicodedata.category(c).startswith(("C", "Z")) else c for c in words)


def _wrap(words: str, width: int, font: _Font, lines: int) -> list[str]:
    wrapped: list[str] = []
    rest = words
    while rest and len(wrapped) < lines:
        count = _fitting(rest, width, font)
        wrapped.append(rest[:count].rstrip())
        rest = rest[count:].lstrip()
    if rest:
        wrapped[-1] = _shortened(wrapped[-1], width, font)
    return wrapped


def _fitting(words: str, width: int, font: _Font) -> int:
    """How many characters go on one line: whole words, or part of a word that is longer than a line."""
    if font.getlength(words) <= width:
        return len(words)
    low, high = 1, len(words)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if font.getlength(words[:middle]) <= width else (low, middle)
    space = words.rfind(" ", 0, low + 1)
    return space if space > 0 else low


def _shortened(line: str, width: int, font: _Font) -> str:
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line.rstrip(" ,.;:") + "…"


def _font_for(words: str, size: int) -> tuple[_Font, str]:
    """The font that lacks the fewest of the characters, and the words without those that it lacks."""
    best, missing = _built_in(size), _missing(words, _built_in(size))
    for name in _FALLBACKS if missing else ():
        font = _installed(name, size)
        lacks = missing if font is None else _missing(words, font)
        if font is not None and len(lacks) < len(missing):
            best, missing = font, lacks
    shown = "".join(c for c in words if c not in missing)
    return (best, " ".join(shown.split())) if shown.strip() or not missing else (_built_in(size), _NO_FONT)


@lru_cache(maxsize=32)
def _built_in(size: int) -> _Font:
    return ImageFont.load_default(size)


@lru_cache(maxsize=64)
def _installed(name: str, size: int) -> _Font | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def _missing(words: str, font: _Font) -> set[str]:
    nothing = _shape("\U0010fffe", font)
    return {c for c in set(words) if not c.isspace() and _shape(c, font) == nothing}


@lru_cache(maxsize=4096)
def _shape(character: str, font: _Font) -> bytes:
    picture = Image.new("L", (64, 64))
    ImageDraw.Draw(picture).text((0, 0), character, fill=255, font=font)
    return picture.tobytes()


def fit(picture: Tensor, width: int, height: int) -> Image.Image:
    """A picture (3 or 4, h, w) scaled to fit the given pixels, its proportions kept, transparency on a checkerboard."""
    image = image_from_tensor(picture).convert("RGBA")
    scale = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    # Lanczos keeps detail when shrinking but rings when enlarging.
    how = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    return checkered(image.resize(size, how))


def checkered(image: Image.Image, cell: int = 12) -> Image.Image:
    board = Image.new("RGBA", image.size, _CHECKER[0])
    draw = ImageDraw.Draw(board)
    for top in range(0, image.height, cell):
        for left in range(top % (2 * cell), image.width, 2 * cell):
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), fill=_CHECKER[1])
    return Image.alpha_composite(board, image)


def heat_map(values: Tensor, under: Image.Image) -> Image.Image:
    """Values (h, w) in [0, 1] as colours over a gray copy of `under`, which shows what they belong to."""
    heat = image_from_tensor(values.detach().float().cpu().expand(3, -1, -1)).getchannel(0)
    heat = heat.resize(under.size, Image.Resampling.BICUBIC)
    cover = heat.point([round(110 + 130 * value / 255) for value in range(256)])
    gray = under.convert("L").convert("RGB")
    return Image.composite(_colored(heat), gray, cover).convert("RGBA")


def heat_scale(width: int, height: int) -> Image.Image:
    """The colours of `heat_map` from 0 to 1, left to right."""
    ramp = Image.linear_gradient("L").rotate(90).resize((width, height))
    return _colored(ramp).convert("RGBA")


def _colored(gray: Image.Image) -> Image.Image:
    colored = gray.copy()
    colored.putpalette(_heat_palette())
    return colored.convert("RGB")


@lru_cache(maxsize=1)
def _heat_palette() -> bytes:
    steps = 255 // (len(_HEAT) - 1)
    palette: list[int] = []
    for value in range(256):
        low = min(value // steps, len(_HEAT) - 2)
        part = value / steps - low
        palette += (round(a + (b - a) * part) for a, b in zip(_HEAT[low], _HEAT[low + 1], strict=True))
    return bytes(palette)


def badge(number: int, size: int, color: Color) -> Image.Image:
    """A number in a disc."""
    fine = 4  # Pillow draws discs without antialiasing
    disc = Image.new("RGBA", (size * fine, size * fine))
    ImageDraw.Draw(disc).ellipse((0, 0, size * fine - 1, size * fine - 1), fill=color)
    disc = disc.resize((size, size), Image.Resampling.LANCZOS)
    font = _built_in(round(size * (0.58 if number < 100 else 0.42)))
    ImageDraw.Draw(disc).text((size / 2, size / 2), str(number), fill=(255, 255, 255), font=font, anchor="mm")
    return disc


def pile(pieces: Sequence[Image.Image], gaps: Sequence[int]) -> Image.Image:
    """Pieces below each other; `gaps[i]` pixels come before piece i + 1."""
    width = max(piece.width for piece in pieces)
    page = Image.new("RGBA", (width, sum(piece.height for piece in pieces) + sum(gaps)))
    top = 0
    for piece, gap in zip(pieces, (*gaps, 0), strict=True):
        page.alpha_composite(piece, (0, top))
        top += piece.height + gap
    return page


def beside(pieces: Sequence[Image.Image], gap: int, *, centered: bool = False) -> Image.Image:
    """Pieces next to each other, aligned at the top or centred on each other."""
    height = max(piece.height for piece in pieces)
    page = Image.new("RGBA", (sum(piece.width for piece in pieces) + gap * (len(pieces) - 1), height))
    left = 0
    for piece in pieces:
        page.alpha_composite(piece, (left, (height - piece.height) // 2 if centered else 0))
        left += piece.width + gap
    return page


def card(content: Image.Image, width: int, height: int, padding: int) -> Image.Image:
    """Content on white paper with round corners and a hairline border."""
    paper = Image.new("RGBA", (width, height))
    ImageDraw.Draw(paper).rectangle((0, 0, width - 1, height - 1), fill=_CARD, outline=_BORDER)
    corners, size = _round_corners(), _RADIUS
    for x, left in ((0, 0), (size, width - size)):
        for y, top in ((0, 0), (size, height - size)):
            paper.paste(corners.crop((x, y, x + size, y + size)), (left, top))
    paper.alpha_composite(content, (padding, padding))
    return paper


@lru_cache(maxsize=1)
def _round_corners() -> Image.Image:
    """The smallest card, all corner; drawn large because Pillow draws curves without antialiasing."""
    fine, size = 4, 2 * _RADIUS
    tile = Image.new("RGBA", (size * fine, size * fine))
    edge = (0, 0, size * fine - 1, size * fine - 1)
    ImageDraw.Draw(tile).rounded_rectangle(edge, _RADIUS * fine, fill=_CARD, outline=_BORDER, width=fine)
    return tile.resize((size, size), Image.Resampling.LANCZOS)
