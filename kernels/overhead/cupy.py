"""Launches of our own CUDA kernel through CuPy, and transfers by the runtime's memcpyAsync. Run on an H200."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..cuda.program import Program
from ..kernel import Call, Target, kernel
from .case import KERNELS, LaunchCase, TransferCase, no_link

STORE = Program("store", ("overhead/store.cu",), (), threads=1)


def _not_here(target: Target) -> str | None:
    return None if target.kind in ("cuda", "rocm") else "CuPy computes on CUDA and ROCm devices only"


def launch_refuses(case: LaunchCase, target: Target) -> str | None:
    return _not_here(target)


@kernel("launch", "cupy", "cupy.store", launch_refuses)
def launch(case: LaunchCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    store = STORE.load()
    arguments = [(output[i : i + 1], np.float32(i)) for i in range(KERNELS)]

    def run() -> Array:
        for pair in arguments:
            store(1, pair)
        return output

    return run


def transfer_refuses(case: TransferCase, target: Target) -> str | None:
    return no_link(target.kind) or _not_here(target)


@kernel("transfer", "cupy", "cupy.memcpyAsync", transfer_refuses)
def transfer(case: TransferCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    """One memcpyAsync on the current stream. From and to pageable memory the driver stages it and returns when the host's side is done."""
    import cupy

    (a,), runtime = inputs, cupy.cuda.runtime
    if case.path == "device_to_device":
        return _copying(a, output, runtime.memcpyDeviceToDevice)
    host = _host_array(case, a)
    if case.path == "host_to_device":
        host[...] = cupy.asnumpy(a)
        return _copying(host, output, runtime.memcpyHostToDevice)
    host[...] = cupy.asnumpy(arrays.unwritten((1,), case.dtype))
    return _copying(a, host, runtime.memcpyDeviceToHost)


def _host_array(case: TransferCase, like: Array) -> np.ndarray:
    if case.host_memory == "pageable":
        return np.empty(like.shape, dtype=like.dtype)
    import cupyx

    pinned: np.ndarray = cupyx.empty_pinned(like.shape, dtype=like.dtype)
    return pinned


def _pointer(array: Array) -> int:
    return int(array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr)


def _copying(source: Array, destination: Array, direction: int) -> Call:
    import cupy

    copy, stream = cupy.cuda.runtime.memcpyAsync, cupy.cuda.get_current_stream

    def run() -> Array:
        copy(_pointer(destination), _pointer(source), source.nbytes, direction, stream().ptr)
        return destination

    return run
