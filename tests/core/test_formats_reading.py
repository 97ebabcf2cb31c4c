"""Layer documents from strangers: other programs' groups and masks, damage, bombs and path tricks."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from psd_tools import PSDImage
from psd_tools.constants import BlendMode

from dreamlayer_core.composite import flatten
from dreamlayer_core.errors import FormatError
from dreamlayer_core.formats import Limits, load_stack, save_stack
from dreamlayer_core.layers import Layer, LayerStack

torch.set_num_threads(1)

SOURCES = ("", "stack.ora", "stack.psd")
RED, CLEAR_BLUE = (255, 0, 0, 255), (0, 0, 255, 128)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three layers of noise, saved with everything; not to be changed."""
    generator = torch.Generator().manual_seed(0)
    pixels = [(torch.rand(3, 12, 20, generator=generator), torch.rand(1, 12, 20, generator=generator)) for _ in "abc"]
    layers = tuple(Layer(name=name, color=c, alpha=a) for name, (c, a) in zip("abc", pixels, strict=True))
    stack = LayerStack(width=20, height=12, layers=layers)
    return save_stack(stack, tmp_path_factory.mktemp("stack") / "saved", harmonized=flatten(stack))


@pytest.fixture
def saved(original: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(original, tmp_path / "saved")


def png(size: tuple[int, int], color: tuple[int, ...] = RED, mode: str = "RGBA") -> bytes:
    buffer = BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG")
    return buffer.getvalue()


def openraster(path: Path, pile: str, files: dict[str, bytes] | None = None, size: str = 'w="8" h="6"') -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "image/openraster")
        archive.writestr("stack.xml", f"<image {size}><stack>{pile}</stack></image>")
        for name, data in (files or {"data/a.png": png((8, 6))}).items():
            archive.writestr(name, data)
    return path


def edit_document(folder: Path, **changes: Any) -> None:
    document = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
    for key, value in changes.items():
        target = document["layers"][0] if key in document["layers"][0] else document
        target[key] = value
    (folder / "stack.json").write_text(json.dumps(document), encoding="utf-8")


# What other programs write


def test_groups_of_openraster_are_dissolved_with_their_place_and_visibility(tmp_path: Path) -> None:
    pile = """<layer name="top" src="data/a.png" x="1"/>
      <stack x="2" y="1"><stack visibility="hidden" x="1"><layer name="in" src="data/a.png" y="1"/></stack>
      <layer name="mid" src="data/a.png" composite-op="svg:multiply" opacity="0.25"/></stack>
      <layer src="data/a.png"/>"""
    stack = load_stack(openraster(tmp_path / "a.ora", pile))
    found = [(x.name, x.x, x.y, x.visible, x.opacity, x.blend_mode) for x in stack.layers]
    assert found == [
        ("", 0, 0, True, 1.0, "normal"),
        ("mid", 2, 1, True, 0.25, "multiply"),
        ("in", 3, 2, False, 1.0, "normal"),
        ("top", 1, 0, True, 1.0, "normal"),
    ]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_openraster_layers_of_every_eight_bit_mode_are_read(tmp_path: Path, mode: str) -> None:
    buffer = BytesIO()
    Image.new("RGBA", (8, 6), (255, 255, 255, 255)).convert(mode).save(buffer, "PNG")
    stack = load_stack(openraster(tmp_path / "a.ora", '<layer src="data/a.png"/>', {"data/a.png": buffer.getvalue()}))
    assert torch.equal(stack.layers[0].rgba, torch.ones(4, 6, 8))


@pytest.mark.parametrize(
    ("pile", "said"),
    [
        ('<stack opacity="0.5" name="g"><layer src="data/a.png"/></stack>', "group 'g'"),
        ('<stack composite-op="svg:screen" name="g"><layer src="data/a.png"/></stack>', "group 'g'"),
        ('<layer src="data/a.png" composite-op="svg:color"/>', "svg:color"),
        ('<layer src="data/missing.png"/>', "data/missing.png"),
        ("<layer/>", "lacks ''"),
        ('<layer src="data/a.png" x="left"/>', "x='left'"),
        ('<layer src="data/a.png" x="1e300"/>', "1e300"),
        ('<layer src="data/a.png" opacity="nan"/>', "opacity='nan'"),
        ("", "0 layers"),
        ("<layer", "damaged"),
        ("<stack>" * 100 + '<layer src="data/a.png"/>' + "</stack>" * 100, "64 deep"),
    ],
)
def test_openraster_that_cannot_be_kept_says_why(tmp_path: Path, pile: str, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        load_stack(openraster(tmp_path / "a.ora", pile))
    assert said in str(caught.value)


def photoshop(mode: str = "RGBA") -> PSDImage:
    document = PSDImage.new(mode, (8, 6))
    document.create_pixel_layer(Image.new("RGBA", (8, 6), RED), name="ground")
    return document


def test_groups_and_masks_of_photoshop_are_dissolved(tmp_path: Path) -> None:
    document = photoshop("RGB")  # in a document without alpha psd-tools turns a layer's alpha into a mask
    group = document.create_group(name="group")
    group.create_pixel_layer(Image.new("RGBA", (4, 3), CLEAR_BLUE), name="in", left=1, top=2)
    group.visible = False
    document.save(tmp_path / "a.psd")
    stack = load_stack(tmp_path / "a.psd")
    assert [(x.name, x.visible, x.x, x.y) for x in stack.layers] == [("ground", True, 0, 0), ("in", False, 1, 2)]
    wanted = torch.tensor(CLEAR_BLUE).view(4, 1, 1).expand(4, 3, 4) / 255
    assert torch.equal(stack.layers[1].rgba, wanted)


def test_photoshop_settings_without_counterpart_say_so(tmp_path: Path) -> None:
    def clip(document: PSDImage) -> None:
        document.create_pixel_layer(Image.new("RGBA", (4, 3), RED), name="cut").clipping = True

    def blend(document: PSDImage) -> None:
        document[0].blend_mode = BlendMode.DISSOLVE

    def fade(document: PSDImage) -> None:
        document.create_group([document[0]], name="faded").opacity = 100

    for change, said in ((clip, "clipped"), (blend, "DISSOLVE"), (fade, "'faded'")):
        document = photoshop()
        change(document)
        document.save(tmp_path / "a.psd")
        with pytest.raises(FormatError, match=said):
            load_stack(tmp_path / "a.psd")


def test_photoshop_colours_other_than_rgb_say_so(tmp_path: Path) -> None:
    document = PSDImage.new("CMYK", (8, 6))
    document.create_pixel_layer(Image.new("CMYK", (8, 6)), name="ink")
    document.save(tmp_path / "a.psd")
    with pytest.raises(FormatError, match="CMYK"):
        load_stack(tmp_path / "a.psd")


# Damage


@pytest.mark.parametrize("name", ["stack.json", "stack.ora", "stack.psd", "layers/01-b.png"])
def test_truncated_files_are_format_errors(saved: Path, name: str) -> None:
    data, source = (saved / name).read_bytes(), saved if name.startswith("layers") else saved / name
    # The last third of this PSD is its merged picture, the last bytes of a PNG its end mark: the layers are whole.
    end = {"stack.psd": len(data) * 2 // 3, "layers/01-b.png": len(data) - 40}.get(name, len(data) - 3)
    for part in (0, 1, 8, 26, 40, end // 4, end // 2, end * 3 // 4, end):
        (saved / name).write_bytes(data[:part])
        with pytest.raises(FormatError):
            load_stack(source)


def test_a_psd_cut_in_its_merged_picture_still_has_its_layers(saved: Path) -> None:
    before = load_stack(saved / "stack.psd")
    (saved / "stack.psd").write_bytes((saved / "stack.psd").read_bytes()[:-40])
    after = load_stack(saved / "stack.psd")
    assert all(torch.equal(a.rgba, b.rgba) for a, b in zip(before.layers, after.layers, strict=True))


@pytest.mark.parametrize("name", ["stack.json", "stack.ora", "stack.psd", "layers/01-b.png"])
def test_flipped_bytes_raise_format_errors_or_nothing(saved: Path, name: str) -> None:
    data, source = (saved / name).read_bytes(), saved if name.startswith("layers") else saved / name
    places = torch.randint(0, len(data), (60,), generator=torch.Generator().manual_seed(1)).tolist()
    for place in (*range(0, 40, 3), *places):
        (saved / name).write_bytes(data[:place] + bytes([data[place] ^ 0xA5]) + data[place + 1 :])
        try:
            load_stack(source)
        except FormatError:
            pass


@pytest.mark.parametrize("name", ["missing", "missing/stack.json", "missing.ora", "missing.psd", "stack.gif"])
def test_what_is_not_there_is_a_format_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(FormatError):
        load_stack(tmp_path / name)


def test_a_zip_file_is_not_openraster(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.ora", "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
    with pytest.raises(FormatError, match="not OpenRaster"):
        load_stack(tmp_path / "a.ora")


def test_a_layer_of_another_kind_of_picture_is_refused(saved: Path) -> None:
    Image.new("RGB", (20, 12)).save(saved / "layers" / "01-b.png", "JPEG")
    with pytest.raises(FormatError, match="01-b"):
        load_stack(saved)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 2}, "version 2"),
        ({"format": "other"}, "format"),
        ({"layers": []}, "0 layers"),
        ({"size": {"width": 0, "height": 12}}, "0x12"),
        ({"size": {"width": 21, "height": 12}}, "20x12"),
        ({"size": {"width": "wide", "height": 12}}, "size.width"),
        ({"opacity": 2}, "opacity"),
        ({"blend_mode": "dissolve"}, "dissolve"),
        ({"name": 7}, "name"),
        ({"file": None, "files": {}}, "without layers"),
        ({"file": None, "files": {"ora": "stack.json"}}, "OpenRaster"),
    ],
)
def test_a_stack_json_that_makes_no_sense_says_where(saved: Path, changes: dict[str, Any], said: str) -> None:
    edit_document(saved, **changes)
    with pytest.raises(FormatError) as caught:
        load_stack(saved)
    assert said in str(caught.value)


def test_fields_of_later_versions_are_passed_over(saved: Path) -> None:
    edit_document(saved, seen_by="a later program")
    assert len(load_stack(saved).layers) == 3


# Bombs and tricks


@pytest.mark.parametrize("limits", [Limits(layers=2), Limits(side=19), Limits(pixels=3 * 20 * 12 - 1)])
@pytest.mark.parametrize("source", SOURCES)
def test_limits_are_the_same_for_every_format(original: Path, source: str, limits: Limits) -> None:
    with pytest.raises(FormatError):
        load_stack(original / source, limits=limits)
    assert len(load_stack(original / source, limits=Limits(layers=4, side=20, pixels=4 * 20 * 12)).layers) == 3


def test_metadata_is_limited(original: Path) -> None:
    for source in ("stack.json", "stack.ora"):
        with pytest.raises(FormatError, match="more than 100 bytes"):
            load_stack(original / source, limits=Limits(metadata=100))


def test_a_picture_that_claims_to_be_huge_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    small = png((8, 6))
    header = b"IHDR" + struct.pack(">II", 60000, 60000) + small[24:29]
    huge = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    with pytest.raises(FormatError, match="60000x60000"):
        load_stack(openraster(tmp_path / "a.ora", '<layer src="data/a.png"/>', {"data/a.png": huge}))


def test_a_file_that_unpacks_to_more_than_any_picture_is_refused(tmp_path: Path) -> None:
    bomb = openraster(tmp_path / "a.ora", '<layer src="data/a.png"/>', {"data/a.png": bytes(2**22)})
    assert bomb.stat().st_size < 2**16
    with pytest.raises(FormatError, match="not a picture"):
        load_stack(bomb, limits=Limits(pixels=2**16))


def test_xml_entities_are_refused(tmp_path: Path) -> None:
    entities = '<!ENTITY a "xxxxxxxxxx"><!ENTITY b "&a;&a;&a;&a;">'
    bomb = f'<!DOCTYPE i [{entities}]><image w="8" h="6"><stack name="&b;"/></image>'
    with zipfile.ZipFile(tmp_path / "a.ora", "w") as archive:
        archive.writestr("mimetype", "image/openraster")
        archive.writestr("stack.xml", bomb)
    with pytest.raises(FormatError, match="document type"):
        load_stack(tmp_path / "a.ora")


@pytest.mark.parametrize("name", ["../secret.png", "layers/../../secret.png", "layers", "", "nul\0l.png", "x" * 5000])
def test_files_outside_the_folder_are_not_read(saved: Path, name: str) -> None:
    (saved.parent / "secret.png").write_bytes(png((20, 12)))
    for path in (name, str(saved.parent / "secret.png")):
        edit_document(saved, file=path)
        with pytest.raises(FormatError, match="the stack names a file"):
            load_stack(saved)


def test_links_out_of_the_folder_are_not_followed(saved: Path) -> None:
    (saved.parent / "secret.png").write_bytes(png((20, 12)))
    (saved / "layers" / "01-b.png").unlink()
    (saved / "layers" / "01-b.png").symlink_to(saved.parent / "secret.png")
    with pytest.raises(FormatError, match="not in"):
        load_stack(saved)
