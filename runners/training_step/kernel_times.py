"""Where the time of one step went on a GPU, by torch's profiler: products, attention, passes over memory, the optimizer, and waiting.

Kernels are told apart by their names, which say what library made them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chipassay.results.errors import ChipassayError

ATTENTION = ("fmha", "flash", "sdpa", "attention")
"""FlashAttention's kernels, cuDNN's, and xFormers' (torch calls them memory-efficient)."""
PRODUCTS = ("gemm", "nvjet", "cutlass", "xmma", "cublas", "splitk", "cijk_", "gemv")
"""cuBLAS of all generations, CUTLASS, and rocBLAS's and hipBLASLt's ``Cijk_``."""
OPTIMIZER = ("multi_tensor_apply", "fused_adam", "fusedadam")
"""torch's foreach kernels: the norm of the gradients, AdamW, and the copy into the training dtype."""
MARKS = ("Optimizer.", "ProfilerStep", "## ", "Context Sync", "Stream ", "Event Sync")
"""Spans that the profiler lists beside kernels: they hold kernels of their own, or waiting."""
TOO_MUCH = 1.05
"""Kernels of one stream cannot together last longer than the step; 5 % are left for clocks that differ from step to step."""


class NoKernelTimes(ChipassayError):
    """The profiler gave nothing that adds up."""


@dataclass(frozen=True)
class KernelTimes:
    """Seconds of one step on the device, by kind."""

    matmul_s: float
    attention_s: float
    memory_bound_s: float
    optimizer_s: float
    waiting_s: float
    """No kernel ran."""
    kernels: int


def kind_of(name: str) -> str:
    """The kind of a kernel by its name.

    >>> kind_of("nvjet_tst_256x128_64x4_1x2_h_bz_coopA_TNT"), kind_of("void pytorch_flash::flash_bwd_kernel<...>")
    ('matmul', 'attention')
    >>> kind_of("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma"), kind_of("void at::native::vectorized_elementwise_kernel")
    ('attention', 'memory_bound')
    """
    lower = name.lower()
    kinds = (("optimizer", OPTIMIZER), ("attention", ATTENTION), ("matmul", PRODUCTS))
    return next((kind for kind, signs in kinds if any(sign in lower for sign in signs)), "memory_bound")


def by_kind(kernels: Iterable[tuple[str, float]], step_s: float) -> KernelTimes:
    """Sum (name, seconds) of the kernels of one step that took ``step_s`` in all. Raises NoKernelTimes where they cannot be its."""
    sums = dict.fromkeys(("matmul", "attention", "memory_bound", "optimizer"), 0.0)
    count = 0
    for name, time_s in kernels:
        if name.startswith(MARKS):
            continue
        sums[kind_of(name)] += time_s
        count += 1
    busy_s = sum(sums.values())
    if not count or busy_s > TOO_MUCH * step_s:
        raise NoKernelTimes(f"{count} kernels of {busy_s:.3g} s in all were told for a step of {step_s:.3g} s")
    return KernelTimes(**{f"{kind}_s": time_s for kind, time_s in sums.items()}, waiting_s=max(0.0, step_s - busy_s), kernels=count)


def kernel_times(step: Callable[[], Any], step_s: float, synchronize: Callable[[], None]) -> KernelTimes:
    """One step under the profiler, which takes ``step_s`` without it: the profiler slows the host, not the kernels.

    Raises NoKernelTimes where it is not allowed to look, or where what it tells does not add up.
    """
    import warnings

    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    try:
        with warnings.catch_warnings(), profile(activities=[ProfilerActivity.CUDA]) as found:
            warnings.simplefilter("ignore")  # newer profilers warn of more than one cycle; here is one
            step()
            synchronize()
        events = [event for event in found.events() if event.device_type == DeviceType.CUDA]
    except Exception as error:  # a profiler fails in ways of its own (no CUPTI, no permission): the step's time is known all the same
        raise NoKernelTimes(f"torch's profiler cannot look: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
    return by_kind(((event.name, event.time_range.elapsed_us() * 1e-6) for event in events), step_s)
