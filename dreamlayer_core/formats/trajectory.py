"""trajectory.safetensors: the noisy latents of a saved stack, from which its layers are edited and regenerated.

fp32, so that what is replayed stays bit-identical. A file has rows x channels x h x w x (steps + 1) numbers of four bytes:
for three layers and 50 steps 3.3 MB at 128 pixels of the embedded model, 13 MB at 512 pixels of Stable Diffusion.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import DreamLayerError, FormatError, InputError, OutputError
from ..safetensors_files import FORMAT_VERSION, parse_settings, read_tensors, write_tensors
from ..sampling import Trajectory

__all__ = ["TRAJECTORY", "StoredTrajectory", "TrajectorySettings", "read_trajectory", "write_trajectory"]

TRAJECTORY = "trajectory.safetensors"
_KIND = "dreamlayer-trajectory"
_NAME = "latents"  # (timesteps, rows, c, h, w)
_MOST_BYTES = 2**32
_HEADER_BYTES = 2**16  # more than names and settings take
_MOST_TIMESTEPS = 1001
_WITHOUT = "save the stack again, or go by its pictures alone (--from-pixels)"


@dataclass(frozen=True, kw_only=True)
class TrajectorySettings:
    """The run that a trajectory was kept in; ``model`` is `DreamLayer.fingerprint`, ``family`` what it is called."""

    model: str
    family: str
    steps: int
    guidance: float
    timesteps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "timesteps", tuple(self.timesteps))  # JSON has lists


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTrajectory:
    """Kept latents of one stack (1, rows, c, h, w) by timestep, with the settings of their run."""

    trajectory: Trajectory
    settings: TrajectorySettings

    def require_model(self, fingerprint: str, family: str) -> None:
        """Raises InputError for a trajectory that another model has made."""
        if self.settings.model != fingerprint:
            raise InputError(
                f"the stack's trajectory is of another model ({self.settings.family} {self.settings.model}, not {family} "
                f"{fingerprint}); give the model that made the stack, or go by its pictures alone (--from-pixels)")


def write_trajectory(stored: StoredTrajectory, path: Path) -> None:
    """Write the latents of one stack. Raises InputError for none or several stacks, OutputError, also for too many."""
    latents = stored.trajectory.latents
    shapes = {tuple(z.shape) for z in latents.values()}
    if len(shapes) != 1 or len(shape := next(iter(shapes))) != 5 or shape[0] != 1:
        raise InputError(f"got a trajectory of shapes {sorted(shapes)} to save; give one stack, (1, rows, c, h, w)")
    needed = 4 * sum(z.numel() for z in latents.values()) + _HEADER_BYTES
    if needed > _MOST_BYTES:  # before they are copied
        raise OutputError(
            f"{path} would have {needed} bytes, and a trajectory of at most {_MOST_BYTES} is read again; take fewer steps or "
            "layers or a smaller size, or save the stack without its trajectory (--no-trajectory)")
    chosen, timesteps = stored.settings, tuple(latents)
    settings = TrajectorySettings(
        model=chosen.model, family=chosen.family, steps=chosen.steps, guidance=float(chosen.guidance), timesteps=timesteps)
    values = torch.stack([z[0].float().cpu() for z in latents.values()])
    write_tensors(path, {_NAME: values}, _KIND, settings)


def read_trajectory(path: Path) -> StoredTrajectory:
    """Read what `write_trajectory` wrote. Raises FormatError for what is missing, damaged, too large or another kind."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FormatError(f"{path} cannot be read ({error.strerror}); {_WITHOUT}") from error
    if size > _MOST_BYTES:
        raise FormatError(f"{path} has {size} bytes; a trajectory of at most {_MOST_BYTES} is read, so {_WITHOUT}")
    try:
        tensors, metadata = read_tensors(path)
        found, version = metadata.get("format"), metadata.get("format_version")
        if found != _KIND or version != FORMAT_VERSION:
            raise FormatError(f"{path} is of format {found!r}, version {version!r}, and no trajectory; {_WITHOUT}")
        settings = parse_settings(TrajectorySettings, metadata)
    except FormatError:
        raise
    except DreamLayerError as error:
        raise FormatError(f"{error}; without it, {_WITHOUT}") from error
    return StoredTrajectory(trajectory=_trajectory(path, tensors, settings), settings=settings)


def _trajectory(path: Path, tensors: dict[str, Tensor], settings: TrajectorySettings) -> Trajectory:
    values, times = tensors.get(_NAME), settings.timesteps
    whole = values is not None and len(tensors) == 1 and values.ndim == 5 and values.dtype == torch.float32
    fits = 1 <= len(times) <= _MOST_TIMESTEPS and len(set(times)) == len(times) and min(times) >= -1
    if values is None or not whole or not fits or len(values) != len(times) or 0 in values.shape:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        raise FormatError(f"{path} has {shapes} for {len(times)} timesteps, which is no trajectory; {_WITHOUT}")
    if not bool(torch.isfinite(values).all()):
        raise FormatError(f"{path} has NaN or infinite values; {_WITHOUT}")
    return Trajectory(dict(zip(times, values[:, None].unbind(0), strict=True)))
