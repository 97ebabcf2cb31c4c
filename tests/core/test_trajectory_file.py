"""trajectory.safetensors: what is saved comes back bit for bit, and nothing else is taken for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file  # pyright: ignore
from torch import Tensor

from dreamlayer_core.errors import FormatError, InputError, OutputError, WeightsError
from dreamlayer_core.formats import StoredTrajectory, TrajectorySettings, load_stack, load_trajectory, save_stack
from dreamlayer_core.formats import trajectory as trajectory_module
from dreamlayer_core.formats.trajectory import read_trajectory, write_trajectory
from dreamlayer_core.layers import Layer, LayerStack
from dreamlayer_core.sampling import FINAL, Trajectory

SETTINGS = TrajectorySettings(model="abc", family="tiny", steps=3, guidance=5.0)


def _stored(seed: int = 0) -> StoredTrajectory:
    latents = torch.randn(4, 1, 3, 4, 5, 6, generator=torch.Generator().manual_seed(seed)).unbind(0)
    return StoredTrajectory(trajectory=Trajectory(dict(zip([667, 334, 1, FINAL], latents, strict=True))), settings=SETTINGS)


def _stack() -> LayerStack:
    picture = torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(1))
    layers = tuple(Layer(name=name, color=picture, alpha=torch.ones(1, 16, 24)) for name in ("background", "a ball"))
    return LayerStack(width=24, height=16, layers=layers)


def _metadata(path: Path) -> dict[str, str]:
    size = int.from_bytes(path.read_bytes()[:8], "little")
    return json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]


def test_what_is_saved_with_a_stack_comes_back_bit_for_bit(tmp_path: Path) -> None:
    stored = _stored()
    folder = save_stack(_stack(), tmp_path / "s", trajectory=stored)
    for source in (folder, folder / "stack.json"):
        found = load_trajectory(source)
        assert found is not None and found.settings == replace(SETTINGS, timesteps=(667, 334, 1, FINAL))
        assert list(found.trajectory.latents) == list(stored.trajectory.latents)
        assert all(torch.equal(found.trajectory.latents[t], z) for t, z in stored.trajectory.latents.items())
    assert len(load_stack(folder).layers) == 2
    numbers = 4 * 3 * 4 * 5 * 6
    assert (folder / "trajectory.safetensors").stat().st_size < 4 * numbers + 1000


def test_half_precision_becomes_fp32_and_loses_nothing(tmp_path: Path) -> None:
    half = Trajectory({t: z.half() for t, z in _stored().trajectory.latents.items()})
    write_trajectory(replace(_stored(), trajectory=half), tmp_path / "t.safetensors")
    back = read_trajectory(tmp_path / "t.safetensors").trajectory.latents
    assert all(z.dtype == torch.float32 and torch.equal(z.half(), half.latents[t]) for t, z in back.items())


def test_stacks_without_one_have_none_and_overwriting_takes_the_old_one_away(tmp_path: Path) -> None:
    folder = save_stack(_stack(), tmp_path / "s", trajectory=_stored())
    assert load_trajectory(folder / "stack.ora") is None and load_trajectory(folder / "stack.psd") is None
    save_stack(_stack(), folder, trajectory=_stored(1), overwrite=True)
    found = load_trajectory(folder)
    assert found is not None and torch.equal(found.trajectory.latents[1], _stored(1).trajectory.latents[1])
    save_stack(_stack(), folder, overwrite=True)
    assert load_trajectory(folder) is None and not (folder / "trajectory.safetensors").exists()


def test_trajectories_of_another_model_are_told(tmp_path: Path) -> None:
    _stored().require_model("abc", "tiny")
    with pytest.raises(InputError, match=r"of another model \(tiny abc, not sd15 def\).*--from-pixels"):
        _stored().require_model("def", "sd15")
    with pytest.raises(InputError, match="one stack"):
        write_trajectory(replace(_stored(), trajectory=Trajectory({1: torch.zeros(2, 3, 4, 5, 6)})), tmp_path / "t")
    with pytest.raises(InputError, match="one stack"):
        write_trajectory(replace(_stored(), trajectory=Trajectory()), tmp_path / "t")
    with pytest.raises(WeightsError, match="NaN"):
        write_trajectory(
            replace(_stored(), trajectory=Trajectory({1: torch.full((1, 3, 4, 5, 6), torch.nan)})), tmp_path / "t")
    assert not (tmp_path / "t").exists()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _pickle(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 a pickle in a zip")


def _of(change: Callable[[Tensor], Tensor]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        metadata = _metadata(path)
        save_file({"latents": change(load_file(path)["latents"]).contiguous()}, path, metadata)

    return damage


def _said(**values: object) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        metadata = _metadata(path)
        settings = {**json.loads(metadata["settings"]), **values}
        save_file(load_file(path), path, {**metadata, "settings": json.dumps(settings)})

    return damage


@pytest.mark.parametrize(("damage", "message"), [
    (_cut, "truncated"),
    (_pickle, "never opened"),
    (Path.unlink, "in "),
    (_of(lambda z: z[:3]), "for 4 timesteps"),
    (_of(lambda z: z[0]), "no trajectory"),
    (_of(lambda z: z.half()), "no trajectory"),
    (_of(lambda z: torch.full_like(z, torch.inf)), "infinite"),
    (_said(timesteps=[1, 1, 2, 3]), "no trajectory"),
    (_said(timesteps=[5, 4, 3, -9]), "no trajectory"),
    (_said(steps="many"), "steps"),
    (_said(more=1), "more"),
    (lambda path: save_file(load_file(path), path, {"format": "pt"}), "no trajectory"),
])
def test_damaged_files_are_told(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    folder = save_stack(_stack(), tmp_path / "s", trajectory=_stored(), formats=("png",))
    damage(folder / "trajectory.safetensors")
    with pytest.raises(FormatError, match=message):
        load_trajectory(folder)


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, most = tmp_path / "t.safetensors", 4 * (4 * 3 * 4 * 5 * 6) + 2**16
    monkeypatch.setattr(trajectory_module, "_MOST_BYTES", most - 1)
    with pytest.raises(OutputError, match=f"would have {most} bytes, .* at most {most - 1} .*--no-trajectory"):
        save_stack(_stack(), tmp_path / "s", trajectory=_stored())
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(trajectory_module, "_MOST_BYTES", most)
    write_trajectory(_stored(), path)
    assert path.stat().st_size <= most and len(read_trajectory(path).trajectory.latents) == 4


def test_files_beyond_the_limit_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_trajectory(_stored(), tmp_path / "t.safetensors")
    monkeypatch.setattr(trajectory_module, "_MOST_BYTES", 100)
    with pytest.raises(FormatError, match="at most 100"):
        read_trajectory(tmp_path / "t.safetensors")
