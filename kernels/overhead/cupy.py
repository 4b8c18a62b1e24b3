"""Launches of our own CUDA kernel through CuPy, and transfers by the runtime's memcpyAsync. Not yet run on a GPU."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..arrays_numpy import NUMPY_DTYPES
from ..kernel import Call, Target, kernel
from .case import KERNELS, LaunchCase, TransferCase, no_link

SOURCE = r"""
extern "C" __global__ void store(float* place, float value) { *place = value; }
"""


def _not_here(target: Target) -> str | None:
    return None if target.kind in ("cuda", "rocm") else "CuPy computes on CUDA and ROCm devices only"


def launch_refuses(case: LaunchCase, target: Target) -> str | None:
    return _not_here(target)


@kernel("launch", "cupy", "cupy.store", launch_refuses)
def launch(case: LaunchCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import cupy

    store = cupy.RawModule(code=SOURCE).get_function("store")
    arguments = [(output[i : i + 1], np.float32(i)) for i in range(KERNELS)]

    def run() -> Array:
        for pair in arguments:
            store((1,), (1,), pair)
        return output

    return run


def transfer_refuses(case: TransferCase, target: Target) -> str | None:
    reason = no_link(target.kind) or _not_here(target)
    return reason or (None if case.dtype in NUMPY_DTYPES else f"CuPy has no {case.dtype} here; use the torch backend")


@kernel("transfer", "cupy", "cupy.memcpyAsync", transfer_refuses)
def transfer(case: TransferCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    """One memcpyAsync on the current stream. From and to pageable memory the driver stages it and returns when the host's side is done."""
    import cupy

    (a,), runtime = inputs, cupy.cuda.runtime
    if case.path == "device_to_device":
        return _copying(a, output, runtime.memcpyDeviceToDevice)
    host = _host_array(case)
    if case.path == "host_to_device":
        host[...] = cupy.asnumpy(a)
        return _copying(host, output, runtime.memcpyHostToDevice)
    host[...] = cupy.asnumpy(arrays.unwritten((1,), case.dtype))
    return _copying(a, host, runtime.memcpyDeviceToHost)


def _host_array(case: TransferCase) -> np.ndarray:
    if case.host_memory == "pageable":
        return np.empty(case.elements, dtype=NUMPY_DTYPES[case.dtype])
    import cupyx

    pinned: np.ndarray = cupyx.empty_pinned((case.elements,), dtype=NUMPY_DTYPES[case.dtype])
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
