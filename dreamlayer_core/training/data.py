"""Rendered scenes on disk, read by index: the training data of every stage."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ..errors import FormatError, InputError
from ..scenes import GROUNDS, make_scene
from ..scenes.captions import background_caption, object_caption, whole_caption
from ..scenes.scene import Split, size_word

__all__ = ["SceneCache", "SceneCaptions", "render_scenes"]

_Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class SceneCaptions:
    """One wording of a scene: its background, its foregrounds bottom to top, and the whole."""

    background: str
    foregrounds: tuple[str, ...]
    whole: str


def _to_bytes(picture: npt.NDArray[np.floating[Any]]) -> _Bytes:
    return (picture * 255).round().astype(np.uint8)


def _render_chunk(start: int, folder: Path, side: int, split: Split, chunk: int) -> None:
    target = folder / f"chunk-{start // chunk:05d}.npz"
    if target.exists():
        return
    scenes = [make_scene(seed, size=(side, side), split=split) for seed in range(start, start + chunk)]
    records: list[dict[str, Any]] = [
        {
            "ground": scene.ground,
            "backdrop": scene.backdrop,
            "objects": [[o.kind, o.color, o.material, size_word(o.scale, side)] for o in scene.objects],
        }
        for scene in scenes
    ]
    objects = [np.concatenate([s.colors, s.alphas[..., None]], -1) for s in scenes]
    partial_file = target.with_suffix(f".{os.getpid()}.tmp")
    with partial_file.open("wb") as file:
        np.savez(
            file,
            pictures=np.stack([_to_bytes(s.picture) for s in scenes]),
            backgrounds=np.stack([_to_bytes(s.background) for s in scenes]),
            objects=np.concatenate([_to_bytes(o) for o in objects]),
            records=np.frombuffer(json.dumps(records).encode(), np.uint8),
        )
    partial_file.replace(target)


@contextmanager
def _damage(path: Path, remedy: str) -> Generator[None]:
    """What is raised inside for a file that is not whole becomes a FormatError that begins with the path."""
    try:
        yield
    except (OSError, ValueError, LookupError, EOFError, BadZipFile, zlib.error) as error:
        raise FormatError(f"{path}: cannot be read ({error}); {remedy}") from error


def _array(chunk: Path, name: str) -> _Bytes:
    remedy = f"delete it, and render it again with `dreamlayer scenes --cache {chunk.parent}`"
    # opened here: numpy leaves a file open that is no archive
    with _damage(chunk, remedy), chunk.open("rb") as file, np.load(file) as archive:
        return archive[name]


def render_scenes(
    folder: Path, count: int, *, side: int = 128, split: Split = "train", workers: int = 1, chunk: int = 250
) -> None:
    """Render scenes 0..count-1 (rounded up to whole chunks) into ``folder``; what is already there is kept.

    Raises InputError if the folder holds scenes of another kind, FormatError if its ``scenes.json`` is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp, wanted = folder / "scenes.json", {"side": side, "split": split, "chunk": chunk}
    if stamp.exists():
        with _damage(stamp, "give another folder: what its scenes are is not known"):
            found = json.loads(stamp.read_text())
        if found != wanted:
            raise InputError(f"{folder} holds scenes of {found}, not of {wanted}; give another folder")
    stamp.write_text(json.dumps(wanted))
    starts = range(0, count, chunk)
    job = partial(_render_chunk, folder=folder, side=side, split=split, chunk=chunk)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for _ in pool.imap_unordered(job, starts):
            pass


class SceneCache:
    """Random access to rendered scenes; arrays are uint8 (n, h, w, 3|4), objects of scene i are
    ``objects[first[i]:first[i + 1]]``, bottom to top, straight alpha.

    The archives are unpacked once, next to themselves, into plain ``.npy`` files that are memory-mapped. Raises InputError
    for a folder without scenes, FormatError for damaged ones.
    """

    def __init__(self, folder: Path) -> None:
        chunks = sorted(folder.glob("chunk-*.npz"))
        if not chunks:
            raise InputError(f"no rendered scenes in {folder}; run `dreamlayer scenes --cache {folder}` first")
        flat = folder / f"flat-{len(chunks)}"
        if not flat.exists():
            self._unpack(chunks, flat)
        with _damage(flat, "delete it, and it is unpacked again"):
            self.pictures, self.backgrounds, self.objects = (
                cast(_Bytes, np.load(flat / f"{name}.npy", mmap_mode="r")) for name in ("pictures", "backgrounds", "objects")
            )
            self.records: list[dict[str, Any]] = json.loads((flat / "records.json").read_text())
        counts = [len(record["objects"]) for record in self.records]
        self.first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @staticmethod
    def _unpack(chunks: list[Path], flat: Path) -> None:
        shutil.rmtree(partial_folder := flat.with_suffix(".tmp"), ignore_errors=True)
        partial_folder.mkdir()
        for name in ("pictures", "backgrounds", "objects"):
            np.save(partial_folder / f"{name}.npy", np.concatenate([_array(chunk, name) for chunk in chunks]))
        records = [record for chunk in chunks for record in json.loads(_array(chunk, "records").tobytes())]
        (partial_folder / "records.json").write_text(json.dumps(records))
        partial_folder.rename(flat)

    def __len__(self) -> int:
        return len(self.records)

    def by_foregrounds(self, count: int) -> npt.NDArray[np.int64]:
        """Indices of the scenes that have ``count`` foregrounds."""
        return np.flatnonzero(np.diff(self.first) == count)

    def captions(self, index: int, rng: np.random.Generator) -> SceneCaptions:
        """A fresh wording of scene ``index``."""
        record = self.records[index]
        ground = record["ground"]
        background = background_caption(ground, record["backdrop"], GROUNDS[ground].indoors, rng)
        foregrounds = [object_caption(kind, color, material, word, rng) for kind, color, material, word in record["objects"]]
        return SceneCaptions(
            background=background, foregrounds=tuple(foregrounds), whole=whole_caption(background, foregrounds, rng)
        )
