"""Memory of the device under test: what is free, and what the libraries' pools can give back. Run on an H200."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

from chipassay.kernels.backends import why_not

from .facts import DeviceFacts
from .host import free_memory_bytes


def free_bytes(facts: DeviceFacts) -> float | None:
    """Free memory of the device; None where its library does not tell."""
    if facts.kind == "cpu":
        return free_memory_bytes()
    if why_not("torch", facts.target) is None:
        import torch

        if facts.kind == "mps":
            return float(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
        module = getattr(torch, "cuda" if facts.kind == "rocm" else facts.kind)
        ask: Callable[[], tuple[int, int]] | None = getattr(module, "mem_get_info", None)
        return None if ask is None else float(ask()[0])
    if facts.kind in ("cuda", "rocm"):
        import cupy

        return float(cupy.cuda.runtime.memGetInfo()[0])
    return None


def release_pools() -> None:
    """Give back what the libraries' memory pools hold unused: each counts what the other keeps as taken."""
    # On a chip that no longer answers this raises too; whether it answers is asked next.
    with contextlib.suppress(Exception):
        torch: Any = sys.modules.get("torch")
        cupy: Any = sys.modules.get("cupy")
        for name in ("cuda", "xpu", "npu"):
            module = getattr(torch, name, None)
            if module is not None and module.is_initialized():
                module.empty_cache()
        if torch is not None and torch.backends.mps.is_available():
            torch.mps.empty_cache()
        if cupy is not None:
            cupy.get_default_memory_pool().free_all_blocks()
            cupy.get_default_pinned_memory_pool().free_all_blocks()
