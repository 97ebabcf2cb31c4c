"""What several nodes check alike."""

from __future__ import annotations

from collections.abc import Callable

from ..dreamlayer_core.errors import InputError

__all__ = ["check_range", "told"]


def check_range(start: float, end: float) -> None:
    """Raises InputError unless both are shares of the sampling, in order."""
    if not 0 <= start <= end <= 1:
        raise InputError(f"got a start of {start:g} and an end of {end:g} of the sampling; give 0 <= start <= end <= 1")


def told(check: Callable[[], object]) -> bool | str:
    """For ComfyUI's validation before anything runs: True, or what is wrong."""
    try:
        check()
    except InputError as error:
        return str(error)
    return True
