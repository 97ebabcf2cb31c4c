"""Which halves of the guidance a call of the UNet is for: for additions deep inside of it, which see tensors alone."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

from .layer_run import Half

__all__ = ["calling_for", "current_halves"]

_HALVES: ContextVar[tuple[Half, ...]] = ContextVar("halves", default=("conditional",))


@contextmanager
def calling_for(halves: tuple[Half, ...]) -> Generator[None]:
    """Say it of the calls inside; each half has equally many stacks of the batch."""
    token = _HALVES.set(halves)
    try:
        yield
    finally:
        _HALVES.reset(token)


def current_halves() -> tuple[Half, ...]:
    """What was said of the call that is under way; without a word, the conditional half alone."""
    return _HALVES.get()
