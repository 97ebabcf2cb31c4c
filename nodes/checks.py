"""What several nodes check alike."""

from __future__ import annotations

from collections.abc import Callable

from ..dreamlayer_core.errors import InputError

__all__ = ["told"]


def told(check: Callable[[], object]) -> bool | str:
    """For ComfyUI's validation before anything runs: True, or what is wrong."""
    try:
        check()
    except InputError as error:
        return str(error)
    return True
