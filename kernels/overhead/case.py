"""Launch and transfer: what is counted, what is moved, and the proof that it happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES, Case, Check

KERNELS = 256
"""Kernels in one call of ``launch``: so many that the few microseconds around them (the first launch, the last event) are a small part of
the call, so few that a stream that is held takes them all before the host has to wait for room."""

PATHS = ("host_to_device", "device_to_host", "device_to_device")
HOST_MEMORY = ("pageable", "pinned")

BLOCK_ELEMENTS = 2**23
"""Elements compared at a time: 64 MB as float64."""


@dataclass(frozen=True, kw_only=True)
class LaunchCase(Case):
    """KERNELS kernels of one thread each, one after the other in one stream. The i-th stores the number i: an empty kernel could not
    prove that it ran, and a store is the least that can. Nothing waits for the store but the end of its kernel.

    The time of the call divided by KERNELS is what one more kernel costs a program. Which cost it is depends on the row's ``launch``:

    * ``stream``: the host issues each kernel by itself, as eager code does, and nothing holds the chip back. Where issuing takes longer
      than running (a few microseconds from Python against one or two on the chip) this is the library's cost on the host; else the chip's.
    * ``graph``: the whole chain is replayed with one request, so this is the chip's own cost: from the end of one kernel to the start of
      the next that waits for it, and the start itself. What remains when the host is out of the way.
    * ``call``, on a CPU: what calling the library's smallest operation costs.

    No FLOPs. Bytes: the numbers stored, so ``bytes`` over the size of an element is the number of kernels.

    >>> LaunchCase(dtype="fp32").bytes
    1024.0
    """

    op: ClassVar[str] = "launch"
    limited_by: ClassVar[str] = "overhead"

    def __post_init__(self) -> None:
        if self.dtype != "fp32":
            raise ValueError(f"launch of {self.dtype}: what is stored says nothing of a launch; write dtype='fp32'")

    @property
    def flops(self) -> float:
        return 0.0

    @property
    def bytes(self) -> float:
        return float(KERNELS * DTYPE_BYTES[self.dtype])

    @property
    def footprint_bytes(self) -> float:
        return self.bytes

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """None."""
        return ()

    def make_output(self, arrays: Arrays) -> Array:
        return arrays.unwritten((KERNELS,), self.dtype)

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """The error is the number of kernels that did not store their number; none may be missing."""
        expected = arrays.from_host(np.arange(KERNELS, dtype=np.float64))
        return Check(error=float(arrays.xp.count_nonzero(arrays.wide(output) != expected)), limit=0.0)


@dataclass(frozen=True, kw_only=True)
class TransferCase(Case):
    """A copy of ``elements`` over the link between host and device, or from device memory to the same device's memory.

    ``host_memory`` is ``pageable`` (what an allocator gives) or ``pinned`` (page-locked, which the device reads by itself); a copy within
    the device has none.

    Bytes are those that cross the link: the array once. Within the device they are read and written, twice, as ``copy`` counts them and
    as NVIDIA's bandwidthTest sample does.

    >>> TransferCase(elements=1000, path="host_to_device", host_memory="pinned", dtype="int8").bytes
    1000.0
    >>> TransferCase(elements=1000, path="device_to_device", dtype="int8").bytes
    2000.0
    """

    op: ClassVar[str] = "transfer"
    limited_by: ClassVar[str] = "link"

    elements: int
    path: str
    host_memory: str | None = None

    def __post_init__(self) -> None:
        if self.elements < 1:
            raise ValueError(f"transfer of {self.elements} elements: there must be at least 1")
        if self.path not in PATHS:
            raise ValueError(f"transfer path {self.path!r}: use one of {', '.join(PATHS)}")
        if self.path == "device_to_device" and self.host_memory is not None:
            raise ValueError(f"transfer device_to_device with host_memory {self.host_memory!r}: no host memory takes part; leave it out")
        if self.path != "device_to_device" and self.host_memory not in HOST_MEMORY:
            raise ValueError(f"transfer {self.path} with host_memory {self.host_memory!r}: use one of {', '.join(HOST_MEMORY)}")

    @property
    def flops(self) -> float:
        return 0.0

    @property
    def bytes(self) -> float:
        times = 2 if self.path == "device_to_device" else 1
        return float(times * self.elements * DTYPE_BYTES[self.dtype])

    @property
    def footprint_bytes(self) -> float:
        arrays = 1 if self.path == "device_to_host" else 2
        return float(arrays * self.elements * DTYPE_BYTES[self.dtype])

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """What is to arrive, on the device; a kernel that reads host memory puts a copy there first."""
        return (arrays.normal((self.elements,), self.dtype, seed),)

    def make_output(self, arrays: Arrays) -> Array:
        """The device's buffer; empty where the copy ends in host memory, which the kernel allocates and poisons."""
        return arrays.unwritten((0 if self.path == "device_to_host" else self.elements,), self.dtype)

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """The error is the number of elements that differ; none may. What arrived on the host goes back to the device to be compared."""
        (a,) = inputs
        arrays.synchronize()  # a copy into pinned memory may still be under way
        if len(output) != self.elements:
            return Check(error=float("nan"), limit=0.0)
        differ = 0
        for start in range(0, self.elements, BLOCK_ELEMENTS):
            sent, came = (piece[start : start + BLOCK_ELEMENTS] for piece in (a, output))
            if isinstance(came, np.ndarray):
                came = arrays.from_host(came)
            differ += int(arrays.xp.count_nonzero(arrays.wide(sent) != arrays.wide(came)))
        return Check(error=float(differ), limit=0.0)


def no_link(target_kind: str) -> str | None:
    """Why a transfer has no meaning on the target; None where it has."""
    if target_kind == "cpu":
        return "on a CPU host and device are one memory and no link lies between them; the op copy measures that memory"
    return None
