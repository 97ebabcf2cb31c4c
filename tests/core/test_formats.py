"""Saved stacks: exact, complete, all or nothing, and safe to read from strangers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from psd_tools import PSDImage
from torch import Tensor

from dreamlayer_core.composite import flatten
from dreamlayer_core.errors import FormatError, InputError, OutputError
from dreamlayer_core.formats import flatten_saved, image_from_tensor, load_stack, save_stack, tensor_from_image
from dreamlayer_core.formats.atomic import staged_folder
from dreamlayer_core.formats.document import layer_file
from dreamlayer_core.formats.drawing import text
from dreamlayer_core.formats.overview import draw_overview
from dreamlayer_core.layers import Layer, LayerStack

torch.set_num_threads(1)

NAMES = ("background", "猫 / ねこ 🐱", 'a\\b:c*?"<>|', "..", "twice", "twice", "", "हिन्दी\ttab")
SOURCES = ("", "stack.json", "stack.ora", "stack.psd")


def eight_bit(*shape: int, seed: int) -> Tensor:
    values = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    return values.float() / 255


def make_stack(names: tuple[str, ...] = NAMES, width: int = 21, height: int = 17) -> LayerStack:
    """Every pixel random, the colour under alpha 0 too; an opaque background; the layers differ in their settings."""
    layers = [
        Layer(
            name=name,
            color=eight_bit(3, height, width, seed=index),
            alpha=eight_bit(1, height, width, seed=100 + index) * (torch.arange(width) > 3),
            prompt=f"prompt of {name}",
            seed=None if index == 2 else 2**40 + index,
            visible=index != 3,
            opacity=51 / 255 if index == 4 else 1.0,
            blend_mode="multiply" if index == 5 else "normal",
        )
        for index, name in enumerate(names)
    ]
    stack = LayerStack(width=width, height=height, layers=tuple(layers), global_prompt="all of it")
    return stack.with_layer(0, alpha=torch.ones(1, height, width))


def save(stack: LayerStack, folder: Path, **options: object) -> Path:
    return save_stack(stack, folder, settings={"steps": 50}, timings={"total": 1.5}, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make_stack()` with everything; not to be changed."""
    stack = make_stack()
    return save(stack, tmp_path_factory.mktemp("stack") / "deep" / "out", harmonized=flatten(stack) * 0.5)


def assert_same_pixels(first: LayerStack, second: LayerStack) -> None:
    assert (first.width, first.height, len(first.layers)) == (second.width, second.height, len(second.layers))
    for one, other in zip(first.layers, second.layers, strict=True):
        assert torch.equal(image_bytes(one.rgba), image_bytes(other.rgba)), one.name


def image_bytes(picture: Tensor) -> Tensor:
    return (picture * 255).round().to(torch.uint8)


def test_every_eight_bit_value_survives_the_conversion() -> None:
    values = (torch.arange(256).float() / 255).reshape(1, 16, 16).expand(4, -1, -1)
    assert torch.equal(tensor_from_image(image_from_tensor(values)), values)


@pytest.mark.parametrize("source", SOURCES)
def test_a_saved_stack_loads_as_it_was(saved: Path, source: str) -> None:
    stack, loaded = make_stack(), load_stack(saved / source)
    assert_same_pixels(stack, loaded)
    for one, other in zip(stack.layers, loaded.layers, strict=True):
        assert (one.name, one.visible, one.blend_mode, one.x, one.y) == (
            (other.name, other.visible, other.blend_mode, other.x, other.y)
        )
        assert one.opacity == pytest.approx(other.opacity, abs=1e-6)
    assert (flatten(stack) - flatten(loaded)).abs().max() < 1e-5
    if source in ("", "stack.json"):
        assert [(x.prompt, x.seed) for x in loaded.layers] == [(x.prompt, x.seed) for x in stack.layers]
        assert loaded.global_prompt == "all of it"


def test_placed_layers_keep_their_picture(tmp_path: Path) -> None:
    stack = make_stack(("ground", "a", "b")).with_layer(1, x=6, y=-5).with_layer(2, x=-4, y=3)
    folder = save(stack, tmp_path / "out")
    for source in SOURCES:
        loaded = load_stack(folder / source)
        assert (flatten(stack) - flatten(loaded)).abs().max() < 1e-6
        if source in ("stack.ora", "stack.psd"):
            assert [(x.x, x.y, x.width) for x in loaded.layers] == [(0, 0, 21), (6, -5, 21), (-4, 3, 21)]
            assert_same_pixels(stack, loaded)


def test_saving_again_what_was_loaded_gives_the_same_files(saved: Path, tmp_path: Path) -> None:
    again = save(load_stack(saved), tmp_path / "again", harmonized=flatten(make_stack()) * 0.5)
    names = [path.relative_to(saved) for path in saved.rglob("*.*")]
    assert len(names) == 6 + len(NAMES)
    assert all((saved / name).read_bytes() == (again / name).read_bytes() for name in names)


def test_the_folder_holds_everything_and_stack_json_says_so(saved: Path) -> None:
    stack, folder = make_stack(), saved
    document = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
    assert (document["version"], document["size"]) == (1, {"width": 21, "height": 17})
    assert document["settings"] == {"steps": 50} and document["timings"] == {"total": 1.5}
    assert [entry["name"] for entry in document["layers"]] == list(NAMES)
    for entry, layer in zip(document["layers"], stack.layers, strict=True):
        assert (entry["prompt"], entry["seed"], entry["box"]) == (layer.prompt, layer.seed, list(layer.box or ()))
        with Image.open(folder / entry["file"]) as picture:
            assert (picture.mode, picture.size) == ("RGBA", (21, 17))
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    files = {entry["file"] for entry in document["layers"]} | set(document["files"].values())
    assert written == files | {"stack.json"} and len(files) == len(NAMES) + 5
    with Image.open(folder / "composite.png") as merged, Image.open(folder / "harmonized.png") as result:
        assert torch.equal(image_bytes(tensor_from_image(merged)[:3]), image_bytes(flatten(stack)))
        assert torch.equal(image_bytes(tensor_from_image(result)[:3]), image_bytes(flatten(stack) * 0.5))


def test_file_names_are_safe_and_told_apart() -> None:
    files = [layer_file(index, len(NAMES), name) for index, name in enumerate(NAMES)]
    assert files[:4] == [
        "layers/00-background.png",
        "layers/01-猫-ねこ.png",
        "layers/02-a-b-c.png",
        "layers/03-layer.png",
    ]
    assert files[4:7] == ["layers/04-twice.png", "layers/05-twice.png", "layers/06-layer.png"]
    assert files[7] == "layers/07-हिन्दी-tab.png"
    assert len(layer_file(3, 600, "長" * 300).encode()) < 90 and layer_file(3, 600, "x") == "layers/003-x.png"


def test_flatten_saved_merges_any_document(saved: Path) -> None:
    for source in SOURCES:
        assert (flatten_saved(saved / source) - flatten(make_stack())).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["ora", "psd"])
def test_a_stack_without_layer_pictures_loads_from_the_other_file(tmp_path: Path, kind: str) -> None:
    stack = make_stack()
    folder = save(stack, tmp_path / "out", formats=(kind,), harmonized=flatten(stack))
    assert not (folder / "layers").exists()
    loaded = load_stack(folder)
    assert_same_pixels(stack, loaded)
    assert [(x.name, x.prompt, x.seed) for x in loaded.layers] == [(x.name, x.prompt, x.seed) for x in stack.layers]


def test_a_stack_without_any_layers_says_so(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="saved without layers"):
        load_stack(save(make_stack(), tmp_path / "out", formats=()))


def test_photoshop_finds_names_pictures_and_the_hidden_result(tmp_path: Path) -> None:
    stack = make_stack(("background", "猫 🐱", "x" * 400))
    folder = save(stack, tmp_path / "out", harmonized=flatten(stack) * 0.5)
    document = PSDImage.open(folder / "stack.psd")
    assert [layer.name for layer in document] == ["background", "猫 🐱", "x" * 255, "harmonized"]
    assert [layer.visible for layer in document] == [True, True, True, False]
    merged = document.topil()
    assert merged is not None and document.has_thumbnail() and document.has_preview()
    assert torch.equal(image_bytes(tensor_from_image(merged)[:3]), image_bytes(flatten(stack)))
    ours, theirs = flatten(stack), tensor_from_image(document.composite(ignore_preview=True))[:3]
    assert (ours - theirs).abs().max() <= 2.01 / 255  # it rounds each layer to eight bits


def test_krita_and_gimp_find_what_openraster_asks_for(tmp_path: Path) -> None:
    stack = make_stack(("background", 'a "<&>\x07é'), width=300, height=40)
    folder = save(stack, tmp_path / "out", harmonized=flatten(stack))
    raw = (folder / "stack.ora").read_bytes()
    assert raw[30:38] == b"mimetype" and raw[38:54] == b"image/openraster"
    with zipfile.ZipFile(BytesIO(raw)) as archive:
        assert archive.testzip() is None
        with (
            Image.open(archive.open("mergedimage.png")) as merged,
            Image.open(archive.open("Thumbnails/thumbnail.png")) as thumbnail,
        ):
            assert torch.equal(image_bytes(tensor_from_image(merged)[:3]), image_bytes(flatten(stack)))
            assert thumbnail.size == (256, 34)
        tree = archive.read("stack.xml").decode("utf-8")
    assert tree.index("harmonized") < tree.index("background") and 'visibility="hidden"' in tree
    assert load_stack(folder / "stack.ora").layers[1].name == 'a "<&>\ufffdé'


def test_a_hidden_top_layer_is_left_out_only_if_it_is_the_result(tmp_path: Path) -> None:
    stack = make_stack(("a", "b", "c")).with_layer(2, visible=False)
    for source in ("stack.ora", "stack.psd"):
        folder = save(stack, tmp_path / source)
        assert [layer.name for layer in load_stack(folder / source).layers] == ["a", "b", "c"]


# Writing: all or nothing


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "novel.txt").write_text("mine")
    for overwrite in (False, True):  # what is no saved stack is not overwritten either
        with pytest.raises(OutputError):
            save(make_stack(), tmp_path / "out", overwrite=overwrite)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "novel.txt"]


def test_overwriting_swaps_the_whole_folder(tmp_path: Path) -> None:
    folder = save(make_stack(("a", "b")), tmp_path / "out")
    with pytest.raises(OutputError, match="already exists"):
        save(make_stack(("one",)), folder)
    assert_same_pixels(load_stack(folder), make_stack(("a", "b")))
    save(make_stack(("one",)), folder, overwrite=True)
    assert [path.name for path in (folder / "layers").iterdir()] == ["00-one.png"]
    assert list(tmp_path.iterdir()) == [folder]


def test_overwriting_keeps_files_that_no_run_has_written(tmp_path: Path) -> None:
    folder = save(make_stack(("a", "b")), tmp_path / "out", harmonized=torch.zeros(3, 17, 21))
    mine = {"notes.txt", "layers/sketch.png", "layers/deep/er.png", "stack.kra"}
    for name in mine:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    save(make_stack(("one",)), folder, overwrite=True)
    new = save(make_stack(("one",)), tmp_path / "new")
    written = {path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file()}
    kept = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert kept.keys() == written | mine and all(kept[name].read_text() == name for name in mine)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "out"]


def test_overwriting_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    folder = save(make_stack(("a", "b")), tmp_path / "out")
    (tmp_path / "link").symlink_to(folder, target_is_directory=True)
    save(make_stack(("one",)), tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink() and len(load_stack(folder).layers) == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupt_leaves_nothing_of_the_new_and_all_of_the_old(tmp_path: Path, overwrite: bool) -> None:
    target = tmp_path / "new" / "out"
    if overwrite:
        target = save(make_stack(("a",)), tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt), staged_folder(target, overwrite=overwrite, mark="stack.json", written=()) as staging:
        (staging / "layers").mkdir()
        (staging / "layers" / "half.png").write_bytes(b"x")
        raise KeyboardInterrupt
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    too_wide = Layer(name="long", color=torch.zeros(3, 1, 30001), alpha=torch.ones(1, 1, 30001))
    with pytest.raises(InputError, match="30000"):  # found when the PSD is written, after the PNGs
        save(LayerStack(width=30001, height=1, layers=(too_wide,)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_written_raise_output_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "nul\0l", tmp_path / ("n" * 300)):
        with pytest.raises(OutputError):
            save(make_stack(("a",)), target)
        with pytest.raises(OutputError):
            save(make_stack(("a",)), target, overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="an administrator may write anywhere")
def test_a_folder_without_write_permission_raises_an_output_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError):
        save(make_stack(("a",)), tmp_path / "out")
    tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"harmonized": torch.zeros(3, 17, 20)}, "(3, 17, 21)"),
        ({"harmonized": torch.full((3, 17, 21), torch.nan)}, "NaN"),
        ({"context_maps": torch.zeros(2, 4, 4)}, "(1, h, w)"),
        ({"context_maps": torch.full((1, 4, 4), torch.inf)}, "infinite"),
        ({"formats": ("png", "gif")}, "png, psd, ora"),
        ({"formats": "png"}, "png, psd, ora"),
    ],
)
def test_values_that_do_not_fit_are_refused_before_writing(
    tmp_path: Path, options: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        save(make_stack(("a", "b")), tmp_path / "out", **options)
    assert said in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), object(), {"deep": [torch.zeros(1)]}, "\udcff"])
def test_settings_that_are_no_json_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(InputError, match="settings"):
        save_stack(make_stack(("a",)), tmp_path / "out", settings={"value": value})
    assert list(tmp_path.iterdir()) == []


def test_psd_tools_is_loaded_only_when_a_psd_is(tmp_path: Path) -> None:
    program = "import sys, dreamlayer_core.formats; sys.exit('psd_tools' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0


# The overview


def test_the_overview_shows_every_layer_and_setting() -> None:
    stack = make_stack(("background", "cup", "spoon"), width=64, height=48)
    sheet = draw_overview(stack, settings={"steps": 50})
    assert sheet.mode == "RGB" and sheet.width <= 1600
    others = [
        draw_overview(stack, settings={"steps": 51}),
        draw_overview(stack.with_layer(2, prompt="another"), settings={"steps": 50}),
        draw_overview(stack.with_layer(2, name="fork"), settings={"steps": 50}),
        draw_overview(stack, settings={"steps": 50}, harmonized=flatten(stack)),
        draw_overview(stack, settings={"steps": 50}, context_maps=torch.rand(2, 4, 4)),
    ]
    assert all(other.size != sheet.size or other.tobytes() != sheet.tobytes() for other in others)


@pytest.mark.parametrize(("width", "height", "count"), [(1, 1, 1), (90, 10, 2), (10, 90, 7), (33, 32, 70)])
def test_the_overview_takes_any_shape_and_number(width: int, height: int, count: int) -> None:
    names = tuple(("", "🐱", "長い名前" * 40, "word " * 99)[index % 4] for index in range(count))
    stack = make_stack(names, width=width, height=height)
    maps = torch.rand(count - 1, 3, 5) if count > 1 else None
    sheet = draw_overview(stack, harmonized=flatten(stack), context_maps=maps, settings={"a": None, "b": [1], "c": ""})
    assert sheet.width <= 1600 and sheet.height < 16000


def test_text_stays_in_its_lines() -> None:
    one = text("word", 300, size=20, color=(0, 0, 0), lines=3)
    three = text("many words " * 50, 300, size=20, color=(0, 0, 0), lines=3)
    unbroken = text("x" * 500, 300, size=20, color=(0, 0, 0), lines=2)
    assert max(three.width, unbroken.width) <= 300 and three.height == 3 * one.height == 1.5 * unbroken.height
    assert one.getbbox() is not None and text("", 300, size=20, color=(0, 0, 0)).getbbox() is None
