"""Saving and loading on a server: real files, and nothing left behind when something is wrong."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import folder_paths
import pytest
import torch
from comfy_extras.nodes_compositor import AddLayer
from PIL import Image

FORMATS = ("psd", "ora", "png folder")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """ComfyUI's input, output and temp folder."""
    made = SimpleNamespace(**{name: tmp_path / name for name in ("input", "output", "temp")})
    for name, path in vars(made).items():
        path.mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(path))
    return made


def rgba(width: int = 12, height: int = 8, frames: int = 1, seed: int = 0) -> torch.Tensor:
    """Eight-bit values, visible everywhere."""
    values = torch.randint(0, 256, (frames, height, width, 4), generator=torch.Generator().manual_seed(seed))
    values[..., 3].clamp_(min=1)
    return values / 255


def document(*names: str, **options) -> dict:
    ground = rgba(20, 16)
    ground[..., 3] = 1
    layers = AddLayer.execute(image=ground, name="ground").args[0]
    for index, name in enumerate(names):
        made = {"image": rgba(seed=index + 1), "name": name, "x": 3 * index, "y": 2 * index}
        layers = AddLayer.execute(layers=layers, **made | options).args[0]
    return layers


def pictures(pack, layers: dict) -> torch.Tensor:
    """The layers on their canvas in eight bits, premultiplied: what is under alpha 0 does not matter."""
    images = pack["DreamLayerLayersToImages"].execute(layers=layers).args[0]
    images = images.mul(255).round().int()
    return torch.cat([images[..., :3] * (images[..., 3:] > 0), images[..., 3:]], dim=-1)


def save(pack, layers, format: str, prefix: str = "dreamlayer/layers", **inputs):
    return pack["DreamLayerSaveLayers"].execute(layers=layers, filename_prefix=prefix, format=format, **inputs)


def load(pack, file: str):
    assert pack["DreamLayerLoadLayers"].validate_inputs(file=file) is True
    return pack["DreamLayerLoadLayers"].execute(file=file).args


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_input_and_output_is_explained(pack) -> None:
    for name in ("DreamLayerSaveLayers", "DreamLayerLoadLayers"):
        schema = pack[name].GET_SCHEMA()
        assert schema.description and schema.display_name and schema.search_aliases
        assert all(part.tooltip and part.id for part in (*schema.inputs, *schema.outputs))


@pytest.mark.parametrize("format", ["psd", "ora"])
def test_a_file_comes_back_as_it_was(pack, folders, format) -> None:
    layers = document("cup", "spoon")
    layers["layers"][1] |= {"opacity": 51 / 255, "visible": False}
    layers["layers"][2] |= {"blend_mode": "multiply"}
    path = Path(save(pack, layers, format).args[1])
    assert files_in(folders.output) == [f"dreamlayer/layers_00001_.{format}"]
    assert path == folders.output / "dreamlayer" / f"layers_00001_.{format}"

    back, image, mask = load(pack, f"dreamlayer/layers_00001_.{format} [output]")
    assert torch.equal(pictures(pack, back), pictures(pack, layers))
    assert back["canvas"] == (20, 16)
    found = [(item["name"], item["visible"], round(item["opacity"], 6), item["blend_mode"]) for item in back["layers"]]
    assert found == [
        ("ground", True, 1.0, "normal"), ("cup", False, 0.2, "normal"), ("spoon", True, 1.0, "multiply"),
    ]  # fmt: skip
    torch.testing.assert_close(image, pack["DreamLayerFlatten"].execute(layers=layers).args[0])
    assert image.shape == (1, 16, 20, 3) and not mask.any()


def test_a_transparent_file_is_loaded_with_its_mask(pack) -> None:
    cup = AddLayer.execute(image=rgba(), name="cup").args[0]
    save(pack, cup, "ora")
    _, image, mask = load(pack, "dreamlayer/layers_00001_.ora [output]")
    assert image.shape[-1] == 4
    torch.testing.assert_close(mask, 1 - cup["layers"][0]["image"][..., 3])


def test_a_png_folder_holds_every_layer(pack, folders, core) -> None:
    layers = document("cup", "spoon")
    path = Path(save(pack, layers, "png folder").args[1])
    assert files_in(folders.output / "dreamlayer") == [
        f"layers_00001_/{name}"
        for name in (
            "composite.png", "layers/00-ground.png", "layers/01-cup.png", "layers/02-spoon.png", "overview.png",
            "stack.json",
        )
    ]  # fmt: skip
    stack = core("formats").load_stack(path)
    found = torch.stack([layer.rgba for layer in stack.layers]).permute(0, 2, 3, 1).mul(255).round().int()
    found[..., :3] *= found[..., 3:] > 0
    assert torch.equal(found, pictures(pack, layers))


@pytest.mark.parametrize("format", FORMATS)
def test_the_editor_s_settings_are_in_the_saved_pixels(pack, core, format) -> None:
    layers = document("cup", rotation=30.0, width=9, flip_h=True)
    path = save(pack, layers, format).args[1]
    flat = core("formats").flatten_saved(path).permute(1, 2, 0)[None]
    torch.testing.assert_close(flat, pack["DreamLayerFlatten"].execute(layers=layers).args[0], atol=2 / 255, rtol=0)


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_is_overwritten(pack, folders, format) -> None:
    ending = "" if format == "png folder" else f".{format}"
    for number in (1, 2, 3):
        path = Path(save(pack, document("cup"), format, "a").args[1])
        assert path.name == f"a_{number:05}_{ending}"
    before = {name: (folders.output / name).read_bytes() for name in files_in(folders.output)}
    # With a % in the name ComfyUI's counter does not see what is there.
    (folders.output / f"%x_00001_{ending}").write_text("mine")
    assert Path(save(pack, document("spoon"), format, "%x").args[1]).name == f"%x_00002_{ending}"
    assert all((folders.output / name).read_bytes() == content for name, content in before.items())
    assert (folders.output / f"%x_00001_{ending}").read_text() == "mine"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["a/b\\c", "../../etc/passwd", "🐱", "CON", ".", "长名" * 200, 'a"<&>\n', "\x00nul"])
def test_any_layer_name_is_safe(pack, folders, core, format, name) -> None:
    path = Path(save(pack, document(name), format).args[1])
    assert {p.relative_to(folders.output).parts[0] for p in folders.output.rglob("*")} == {"dreamlayer"}
    assert len(core("formats").load_stack(path).layers) == 2
    if name == "🐱":
        assert core("formats").load_stack(path).layers[1].name == "🐱"


def test_what_the_browser_is_told(pack, folders) -> None:
    for format in FORMATS:
        shown = save(pack, document("cup"), format).ui
        (image,) = shown["images"]
        assert image["type"] == "temp" and Image.open(folders.temp / image["filename"]).size == (20, 16)
        assert len(shown["files"]) == (5 if format == "png folder" else 1)
        for file in shown["files"]:
            assert file["type"] == "output" and (folders.output / file["subfolder"] / file["filename"]).is_file()
    assert save(pack, document("cup"), "ora", "top").ui["files"][0]["subfolder"] == ""


def test_a_folder_keeps_the_workflow(pack, monkeypatch) -> None:
    node = pack["DreamLayerSaveLayers"]
    hidden = SimpleNamespace(prompt={"1": {"class_type": "X"}}, extra_pnginfo={"workflow": {"nodes": []}, "../x": 1})
    monkeypatch.setattr(node, "hidden", hidden, raising=False)
    path = Path(save(pack, document(), "png folder").args[1])
    assert json.loads((path / "workflow.json").read_text()) == {"nodes": []}
    assert json.loads((path / "prompt.json").read_text()) == hidden.prompt
    monkeypatch.setattr("comfy.cli_args.args.disable_metadata", True)
    path = Path(save(pack, document(), "png folder").args[1])
    assert not (path / "workflow.json").exists()


@pytest.mark.parametrize("format", FORMATS)
def test_a_finished_picture_is_kept_besides(pack, core, format) -> None:
    finished = rgba(20, 16, seed=9)[..., :3]
    layers = document("cup")
    path = Path(save(pack, layers, format, composite=finished).args[1])
    if format == "png folder":
        pixels = core("formats").tensor_from_image(Image.open(path / "harmonized.png"))[:3].permute(1, 2, 0)
        torch.testing.assert_close(pixels[None], finished)
    assert [layer.name for layer in core("formats").load_stack(path).layers] == ["ground", "cup"]
    plain = pack["DreamLayerFlatten"].execute(layers=layers).args[0]
    flat = core("formats").flatten_saved(path).permute(1, 2, 0)[None]
    torch.testing.assert_close(flat, plain, atol=1 / 255, rtol=0)


@pytest.mark.parametrize("format", FORMATS)
def test_one_file_per_picture_of_a_batch(pack, folders, core, format) -> None:
    item = {"image": rgba(frames=3), "name": "cup", "type": "raster", "z_index": 0, "frames": "pictures"}
    layers = {"version": 1, "canvas": (12, 8), "layers": [item]}
    found = save(pack, layers, format, composite=rgba(frames=3, seed=4))
    paths = found.args[1].splitlines()
    assert len(set(paths)) == 3 and len(found.ui["images"]) == 3
    for path, image in zip(paths, item["image"], strict=True):
        layer = core("formats").load_stack(path).layers[0].on_canvas(12, 8)
        torch.testing.assert_close(layer.rgba.permute(1, 2, 0), image)
    with pytest.raises(core("errors").InputError, match="2 composites for 3 pictures"):
        save(pack, layers, format, composite=rgba(frames=2))


BAD_SAVES = {
    "no layers": ({"layers": {"version": 1, "layers": []}}, "without layers"),
    "NaN": ({"layers": document("cup") | {"layers": [{"image": rgba() * float("nan")}]}}, "NaN"),
    "outside": ({"prefix": "../../elsewhere/x"}, "inside the output folder"),
    "absolute": ({"prefix": "/etc/x"}, "inside the output folder"),
    "no name": ({"prefix": " "}, "inside the output folder"),
    "only dots": ({"prefix": "a/.."}, "inside the output folder"),
    "a null byte": ({"prefix": "a\x00/b"}, "inside the output folder"),
    "another size": ({"composite": rgba(5, 5)}, "20x16"),
    "a finished picture of NaN": ({"composite": rgba(20, 16) * float("nan")}, "NaN"),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("inputs", "said"), BAD_SAVES.values(), ids=BAD_SAVES.keys())
def test_bad_input_leaves_no_file(pack, folders, core, tmp_path, format, inputs, said) -> None:
    with pytest.raises(core("errors").InputError, match=said):
        save(pack, **{"layers": document("cup"), "format": format} | inputs)
    assert files_in(tmp_path) == []


def test_an_unknown_format_is_told(pack, core) -> None:
    with pytest.raises(core("errors").InputError, match="psd, ora, png folder"):
        save(pack, document(), "gif")


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_leaves_no_file(pack, folders, core, monkeypatch, format) -> None:
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    core("formats.psd")
    writer = {"psd": ("psd", "_with_merged"), "ora": ("ora", "_put"), "png folder": ("folder", "write_png")}[format]
    monkeypatch.setattr(core(f"formats.{writer[0]}"), writer[1], full)
    with pytest.raises(core("errors").OutputError, match="No space left"):
        save(pack, document("cup"), format)
    assert files_in(folders.output) == []


def test_what_would_fail_at_the_end_is_told_before_the_run(pack, monkeypatch) -> None:
    validate = pack["DreamLayerSaveLayers"].validate_inputs
    assert validate() is True and validate(filename_prefix="a/b", format="psd") is True
    assert "output folder" in validate(filename_prefix="../a", format="psd")
    assert "psd, ora, png folder" in validate(filename_prefix="a", format="gif")
    monkeypatch.setitem(sys.modules, "psd_tools", None)
    assert "pip install psd-tools" in validate(filename_prefix="a", format="psd")
    assert validate(filename_prefix="a", format="ora") is True


def test_without_psd_tools_the_other_formats_work(pack, folders, core, monkeypatch) -> None:
    save(pack, document("cup"), "psd", "before")
    monkeypatch.delitem(sys.modules, core("formats.psd").__name__)
    for name in [name for name in sys.modules if name.split(".")[0] == "psd_tools"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(core("errors").OutputError, match="pip install psd-tools"):
        save(pack, document("cup"), "psd", "x")
    with pytest.raises(core("errors").FormatError, match="pip install psd-tools"):
        load(pack, "before_00001_.psd [output]")
    for format in ("ora", "png folder"):
        save(pack, document("cup"), format, "x")
    assert [name for name in files_in(folders.output) if name.endswith((".psd", ".partial"))] == ["before_00001_.psd"]


def test_the_combo_lists_files_with_layers(pack, folders) -> None:
    save(pack, document(), "ora", "a")
    (folders.input / "deep").mkdir()
    for name in ("a.ora", "deep/b.PSD", "c.png", "d.psd.txt"):
        shutil.copy(folders.output / "a_00001_.ora", folders.input / name)
    (combo,) = pack["DreamLayerLoadLayers"].define_schema().inputs
    assert combo.options == ["a.ora", "deep/b.PSD"]
    assert pack["DreamLayerLoadLayers"].validate_inputs(file="deep/b.PSD") is True


@pytest.mark.parametrize(
    "file",
    [
        "missing.psd",
        "../output/a_00001_.ora",
        "/etc/passwd",
        "",
        "note.txt",
        "folder.psd",
        "a\x00.psd",
        5,
        "x.psd [temp]",
    ],
)
def test_a_file_that_is_not_there_is_refused_before_the_run(pack, folders, core, file) -> None:
    save(pack, document(), "ora", "a")
    (folders.input / "note.txt").write_text("layers")
    (folders.input / "folder.psd").mkdir()
    node = pack["DreamLayerLoadLayers"]
    said = node.validate_inputs(file=file)
    assert isinstance(said, str) and ".psd or .ora" in said
    with pytest.raises(core("errors").InputError):
        node.execute(file=file)


def test_a_wire_is_not_refused_before_the_run(pack) -> None:
    assert pack["DreamLayerLoadLayers"].validate_inputs() is True


def test_only_another_content_runs_again(pack, folders) -> None:
    node = pack["DreamLayerLoadLayers"]
    save(pack, document("cup"), "ora", "a")
    file = folders.output / "a_00001_.ora"
    first = node.fingerprint_inputs(file="a_00001_.ora [output]")
    file.touch()
    assert node.fingerprint_inputs(file="a_00001_.ora [output]") == first
    file.write_bytes(file.read_bytes() + b"\0")
    assert node.fingerprint_inputs(file="a_00001_.ora [output]") != first


def ora_of(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"mimetype": b"image/openraster", **members}.items():
            archive.writestr(name, content)


STACK_XML = b'<image w="%d" h="8"><stack><layer name="a" src="%s"/></stack></image>'


@pytest.mark.parametrize("kind", ["psd", "ora"])
@pytest.mark.parametrize("damage", ["empty", "halved", "cut short", "other magic", "noise"])
def test_damaged_files_are_told_in_words(pack, folders, core, kind, damage) -> None:
    save(pack, document("cup"), kind, "a")
    whole = (folders.output / f"a_00001_.{kind}").read_bytes()
    content = {
        "empty": b"",
        "halved": whole[: len(whole) // 2],
        "cut short": whole[:100],
        "other magic": b"GIF89a" + (whole[6:] if kind == "psd" else whole[6:-200]),
        "noise": bytes(range(256)) * 40,
    }[damage]
    (folders.input / f"bad.{kind}").write_bytes(content)
    with pytest.raises(core("errors").FormatError, match="bad."):
        load(pack, f"bad.{kind}")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"stack.xml": b" " * (2**24 + 1)}, "more than 16777216 bytes"),
        ({"stack.xml": STACK_XML % (10**6, b"a.png")}, "1000000x8"),
        ({"stack.xml": STACK_XML % (12, b"../../a.png")}, "lacks"),
        ({"stack.xml": b'<!DOCTYPE x [<!ENTITY a "b">]>' + STACK_XML % (12, b"a.png")}, "document type"),
        ({"stack.xml": STACK_XML % (12, b"a.png"), "a.png": b"no picture"}, "not a PNG"),
    ],
)
def test_tricks_are_refused(pack, folders, core, members, said) -> None:
    ora_of(folders.input / "bomb.ora", **members)
    with pytest.raises(core("errors").FormatError, match=said):
        load(pack, "bomb.ora")
