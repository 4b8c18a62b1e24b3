"""GPUs: what they are. Through torch, or CuPy where torch is missing. Run on an H200 through torch."""

from __future__ import annotations

import contextlib
import importlib
import os
from typing import Any

from chipassay.kernels.backends import torch_runs_on_cuda
from chipassay.results.catalogue import Chip, identify
from chipassay.results.profile import Quantity

from .facts import DeviceFacts, slug
from .nvml import fabric_inside

CACHE_IF_UNKNOWN_BYTES = 256 * 2**20
"""Largest last-level cache of the listed GPUs (MI300X's Infinity Cache): assumed where the driver does not tell."""


def gpu_facts(backend: str) -> DeviceFacts | None:
    """The GPU that ``backend`` (``torch`` or ``cupy``) sees, None if it sees none."""
    return _torch_facts() if backend == "torch" else _cupy_facts()


def _facts(kind: str, name: str, count: int, memory_bytes: int, cache_bytes: int | None, driver: str, **more: Any) -> DeviceFacts:
    chip = identify(name, memory_bytes)
    notes = () if chip else (f"{name} with {memory_bytes / 1e9:.0f} GB is not in the catalogue: its peaks are unknown",)
    cache_bytes = max(cache_bytes or 0, int(chip.last_cache_bytes or 0) if chip else 0) or CACHE_IF_UNKNOWN_BYTES
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
        peak_clock_hz=chip.boost_clock_hz if chip else None,
        fabric=fabric_inside(os.environ.get("CUDA_VISIBLE_DEVICES")) if kind == "cuda" and count > 1 else None,
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
            architecture=_gcn(getattr(properties, "gcnArchName", None)) if rocm else None,
        )
    with contextlib.suppress(ImportError, OSError):
        importlib.import_module("torch_npu")  # which teaches torch the device, where it is installed
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
        architecture=_gcn(properties.get("gcnArchName")) if rocm else None,
    )


def _gcn(name: str | bytes | None) -> str | None:
    """AMD's name of an architecture without the features behind it.

    >>> _gcn(b"gfx942:sramecc+:xnack-")
    'gfx942'
    """
    text = name.decode() if isinstance(name, bytes) else name
    return text.partition(":")[0] if text else None


def _nvidia_driver() -> str:
    try:
        import pynvml

        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
        return version if isinstance(version, str) else version.decode()
    except Exception:  # the binding is optional and raises its own types; the driver's version is a note, not a need
        return "unknown (install nvidia-ml-py)"
