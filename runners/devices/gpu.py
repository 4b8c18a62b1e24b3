"""GPUs: what they are and how they are timed, by events on the chip. Through torch, or CuPy where torch is missing.

Not yet run on a GPU: written against the libraries' documented interfaces.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from chipassay.kernels.backends import torch_runs_on_cuda
from chipassay.results.catalogue import Chip, identify
from chipassay.results.profile import Quantity

from ..timing.engine import Condition
from .facts import DeviceFacts, slug
from .nvml import nvml_condition

HEAD_START_CYCLES = 200_000
"""The stream is held for about 0.1 ms before each sample, so that the call is queued when its start event fires."""
CACHE_IF_UNKNOWN_BYTES = 256 * 2**20
"""Largest last-level cache of the listed GPUs (MI300X's Infinity Cache): assumed where the driver does not tell."""


def gpu_facts(backend: str) -> DeviceFacts | None:
    """The GPU that ``backend`` (``torch`` or ``cupy``) sees, None if it sees none."""
    return _torch_facts() if backend == "torch" else _cupy_facts()


def _facts(kind: str, name: str, count: int, memory_bytes: int, cache_bytes: int | None, driver: str, **more: Any) -> DeviceFacts:
    chip = identify(name, memory_bytes)
    notes = () if chip else (f"{name} with {memory_bytes / 1e9:.0f} GB is not in the catalogue: its peaks are unknown",)
    cache_bytes = max(cache_bytes or 0, int(chip.l2_bytes or 0) if chip else 0) or CACHE_IF_UNKNOWN_BYTES
    return DeviceFacts(
        kind=kind,
        name=name,
        chip_id=chip.id if chip else slug(name),
        count=count,
        memory_bytes=memory_bytes,
        cache_bytes=cache_bytes,
        driver=driver,
        peak_flops_per_s=catalogue_peaks(chip) if chip else {},
        peak_bandwidth_bytes_per_s=catalogue_bandwidth(chip) if chip else None,
        native_dtypes=frozenset(chip.peak_flops_per_s) if chip else None,
        notes=notes,
        **more,
    )


def catalogue_peaks(chip: Chip) -> dict[str, Quantity]:
    """Dense datasheet peaks by dtype, with their evidence."""
    return {dtype: Quantity(peak, chip.evidence) for dtype, peak in chip.peak_flops_per_s.items()}


def catalogue_bandwidth(chip: Chip) -> Quantity | None:
    """Datasheet memory bandwidth, with its evidence."""
    bandwidth = chip.memory_bandwidth_bytes_per_s
    return None if bandwidth is None else Quantity(bandwidth, chip.evidence)


def _torch_facts() -> DeviceFacts | None:
    try:
        import torch
    except (ImportError, OSError):
        return None
    if torch.cuda.is_available():
        if torch_runs_on_cuda() is not None:
            return None
        properties = torch.cuda.get_device_properties(0)
        rocm = getattr(torch.version, "hip", None)
        return _facts(
            "rocm" if rocm else "cuda",
            properties.name,
            torch.cuda.device_count(),
            int(properties.total_memory),
            getattr(properties, "L2_cache_size", None),
            f"hip {rocm}" if rocm else _nvidia_driver(),
            compute_capability=None if rocm else (properties.major, properties.minor),
        )
    for kind in ("xpu", "npu"):
        module = getattr(torch, kind, None)
        if module is not None and module.is_available():
            properties = module.get_device_properties(0)
            return _facts(kind, properties.name, module.device_count(), int(properties.total_memory), None, f"torch.{kind}")
    if torch.backends.mps.is_available():
        return _facts("mps", "Apple GPU", 1, int(torch.mps.recommended_max_memory()), None, "Metal")
    return None


def _cupy_facts() -> DeviceFacts | None:
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
    except Exception:  # no CuPy, no driver and no device all raise types of their own here: there is no GPU to use
        return None
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    rocm = bool(cupy.cuda.runtime.is_hip)
    return _facts(
        "rocm" if rocm else "cuda",
        properties["name"].decode(),
        count,
        int(properties["totalGlobalMem"]),
        int(properties.get("l2CacheSize", 0)),
        _nvidia_driver() if not rocm else "hip",
        compute_capability=None if rocm else (properties["major"], properties["minor"]),
    )


def _nvidia_driver() -> str:
    try:
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        return version if isinstance(version, str) else version.decode()
    except Exception:  # the binding is optional and raises its own types; the driver's version is a note, not a need
        return "unknown (install nvidia-ml-py)"


class TorchGpuTimer:
    """Times calls on a GPU that torch drives, with its events."""

    clock_source = "device"

    def __init__(self, facts: DeviceFacts, index: int = 0) -> None:
        import torch

        name = "cuda" if facts.kind == "rocm" else facts.kind
        self._module = getattr(torch, name)
        device = f"{name}:{index}" if name != "mps" else name
        self._eviction = torch.empty(2 * facts.cache_bytes, dtype=torch.uint8, device=device)
        self._hold: Callable[[int], None] | None = getattr(torch.cuda, "_sleep", None) if name == "cuda" else None
        uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None) if facts.kind == "cuda" else None
        self._read_condition = nvml_condition(None if uuid is None else str(uuid))

    def now_s(self) -> float:
        return time.perf_counter()

    def time_call(self, call: Callable[[], Any]) -> float:
        start, end = self._module.Event(enable_timing=True), self._module.Event(enable_timing=True)
        if self._hold is not None:
            self._hold(HEAD_START_CYCLES)
        start.record()
        call()
        end.record()
        self._module.synchronize()
        return float(start.elapsed_time(end)) * 1e-3

    def time_each(self, call: Callable[[], Any], count: int) -> list[float]:
        marks = [self._module.Event(enable_timing=True) for _ in range(count + 1)]
        marks[0].record()
        for mark in marks[1:]:
            call()
            mark.record()
        self._module.synchronize()
        return [float(begin.elapsed_time(end)) * 1e-3 for begin, end in itertools.pairwise(marks)]

    def evict_cache(self) -> None:
        self._eviction.zero_()

    def condition(self) -> Condition:
        return self._read_condition()


class CupyGpuTimer:
    """Times calls on a GPU that only CuPy drives (old chips that new torch no longer supports)."""

    clock_source = "device"

    def __init__(self, facts: DeviceFacts, index: int = 0) -> None:
        import cupy

        self._cupy = cupy
        cupy.cuda.Device(index).use()
        self._eviction = cupy.empty(2 * facts.cache_bytes, dtype=cupy.uint8)
        self._read_condition = nvml_condition(self._uuid(index))

    def _uuid(self, index: int) -> str | None:
        raw = self._cupy.cuda.runtime.getDeviceProperties(index).get("uuid")
        if raw is None:
            return None
        digits = bytes(raw).hex()
        return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def now_s(self) -> float:
        return time.perf_counter()

    def time_call(self, call: Callable[[], Any]) -> float:
        start, end = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(start, end)) * 1e-3

    def time_each(self, call: Callable[[], Any], count: int) -> list[float]:
        marks = [self._cupy.cuda.Event() for _ in range(count + 1)]
        marks[0].record()
        for mark in marks[1:]:
            call()
            mark.record()
        marks[-1].synchronize()
        return [float(self._cupy.cuda.get_elapsed_time(begin, end)) * 1e-3 for begin, end in itertools.pairwise(marks)]

    def evict_cache(self) -> None:
        self._eviction.fill(0)

    def condition(self) -> Condition:
        return self._read_condition()
