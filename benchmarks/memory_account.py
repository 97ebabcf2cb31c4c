"""What tensors hold at most, without computing them: an allocator's account of a run at shapes that need no such machine.

Under PyTorch's fake tensors a run of any size takes seconds. Counted is every storage from its birth to its death, each
rounded up to what CUDA's caching allocator gives out; not counted are workspaces inside one operation, fragmentation and
what a driver takes for itself.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["MemoryAccount"]

_BLOCK = 512  # bytes


class MemoryAccount(TorchDispatchMode):
    """``peak`` bytes of the tensors that are made while it is on; with what was there before, only if told by ``hold``."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = set[int]()

    def hold(self, module: torch.nn.Module) -> int:
        """Count a module's weights as there already; their bytes."""
        before = self.now
        for tensor in (*module.parameters(), *module.buffers()):
            self._count(tensor)
        return self.now - before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._count(leaf)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = -(-storage.nbytes() // _BLOCK) * _BLOCK
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
