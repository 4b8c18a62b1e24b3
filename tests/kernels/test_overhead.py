"""Launch and transfer: what they count, what their checks let through, and each copy with its true direction."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.backends import make_arrays
from chipassay.kernels.kernel import Target, kernels
from chipassay.kernels.overhead import LaunchCase, TransferCase
from chipassay.kernels.overhead import case as overhead_case

from .compiling import Compiled, Job, broken_limits, cannot_compile, compile_all
from .cupy_on_cpu import COMPILER, CUPY, GuardedArrays, RawModule

ARRAYS = NumpyArrays()
LAUNCH = LaunchCase(dtype="fp32")


def transfer(path: str = "host_to_device", host_memory: str | None = "pageable", **more: Any) -> TransferCase:
    fields = {"elements": 1000, "dtype": "int8", "path": path, "host_memory": None if path == "device_to_device" else host_memory}
    return TransferCase(**{**fields, **more})


def test_a_launch_counts_one_stored_number_a_kernel_and_no_arithmetic() -> None:
    assert (LAUNCH.flops, LAUNCH.bytes / 4, LAUNCH.limited_by) == (0.0, overhead_case.KERNELS, "overhead")


def test_a_launch_stores_one_type_of_number() -> None:
    with pytest.raises(ValueError, match=r"launch of bf16: .*write dtype='fp32'"):
        LaunchCase(dtype="bf16")


@pytest.mark.parametrize("lost", [0, 1, 100, overhead_case.KERNELS - 1])
def test_every_kernel_that_did_not_run_is_counted(lost: int) -> None:
    (kernel,) = kernels("launch", "numpy")
    output = kernel.prepare(LAUNCH, ARRAYS, (), LAUNCH.make_output(ARRAYS))()
    assert LAUNCH.check(ARRAYS, (), output, seed=0).passed
    output[lost] = LAUNCH.make_output(ARRAYS)[lost]
    assert LAUNCH.check(ARRAYS, (), output, seed=0).error == 1
    ran_twice = np.roll(np.arange(overhead_case.KERNELS, dtype=np.float32), 1)
    assert LAUNCH.check(ARRAYS, (), ran_twice, seed=0).error == overhead_case.KERNELS


def test_a_call_launches_again_what_was_overwritten_since() -> None:
    for backend in ("numpy", "torch"):
        if backend == "torch":
            pytest.importorskip("torch", reason="torch is not installed")
        arrays = make_arrays(backend, "cpu")
        (kernel,) = kernels("launch", backend)
        output = LAUNCH.make_output(arrays)
        call = kernel.prepare(LAUNCH, arrays, (), output)
        call()
        LAUNCH.refresh(arrays, output)
        assert not LAUNCH.check(arrays, (), output, seed=0).passed
        assert LAUNCH.check(arrays, (), call(), seed=0).passed


def test_a_transfer_over_the_link_counts_the_array_once_and_within_the_device_twice() -> None:
    assert transfer("host_to_device").bytes == transfer("device_to_host").bytes == 1000
    assert transfer("device_to_device").bytes == 2000
    assert transfer("device_to_host", dtype="fp32").bytes == 4000
    assert transfer().limited_by == "link"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"elements": 0}, "transfer of 0 elements: there must be at least 1"),
        ({"path": "up"}, "transfer path 'up': use one of host_to_device"),
        ({"host_memory": None}, "transfer host_to_device with host_memory None: use one of pageable, pinned"),
    ],
)
def test_a_transfer_that_means_nothing_is_refused(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        transfer(**fields)


def test_a_transfer_within_the_device_has_no_host_memory() -> None:
    with pytest.raises(ValueError, match="no host memory takes part; leave it out"):
        TransferCase(elements=8, path="device_to_device", host_memory="pinned", dtype="int8")


def test_a_cpu_has_no_link_to_transfer_over_and_every_backend_says_so() -> None:
    assert not kernels("transfer", "numpy")
    for kernel in kernels("transfer"):
        reason = kernel.refuses(transfer(), Target("cpu"))
        assert reason is not None
        assert "the op copy measures that memory" in reason
        assert kernel.refuses(transfer(), Target("cuda", (9, 0))) is None


@pytest.mark.parametrize("path", overhead_case.PATHS)
@pytest.mark.parametrize("dtype", ["int8", "bf16", "fp8_e4m3"])
def test_torch_moves_every_element_the_right_way(path: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU both ends are main memory; direction, poison and check are the same."""
    pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.setattr(overhead_case, "BLOCK_ELEMENTS", 256)  # several blocks and a ragged one
    case, arrays = transfer(path, dtype=dtype), make_arrays("torch", "cpu")
    (kernel,) = kernels("transfer", "torch")
    inputs, buffer = case.make_inputs(arrays, seed=3), case.make_output(arrays)
    output = kernel.prepare(case, arrays, inputs, buffer)()
    assert case.check(arrays, inputs, output, seed=3).passed
    assert output.data_ptr() != inputs[0].data_ptr()
    for place in (0, 511, 999):
        wrong = output.clone()
        wrong[place] = arrays.unwritten((1,), dtype)[0]
        assert case.check(arrays, inputs, wrong, seed=3).error == 1
    assert not case.check(arrays, inputs, output[:-1], seed=3).passed


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
@pytest.mark.skipif(sys.platform != "linux", reason="fibers and guard pages as Linux has them")
def test_our_cuda_kernel_stores_every_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "cupy", CUPY)
    monkeypatch.setattr(RawModule, "folder", tmp_path)
    monkeypatch.setattr(RawModule, "made", {})
    arrays = GuardedArrays("cuda")
    (kernel,) = kernels("launch", "cupy")
    output = kernel.prepare(LAUNCH, arrays, (), LAUNCH.make_output(arrays))()
    assert LAUNCH.check(arrays, (), output, seed=0).passed


CHIPS_TO_COMPILE_FOR = ("sm_80", "sm_90", "sm_100", "gfx942")


@pytest.fixture(scope="module")
def compiled() -> dict[str, Compiled]:
    pytest.importorskip("triton", reason="Triton is not installed")
    chips = [chip for chip in CHIPS_TO_COMPILE_FOR if cannot_compile(chip) is None]
    return compile_all([job(chip) for chip in chips])


def job(chip: str) -> Job:
    return Job(chip, "chipassay.kernels.overhead.triton:store", chip, {"place": "*fp32", "value": "fp32"}, {}, {"num_warps": 1})


@pytest.mark.parametrize("chip", CHIPS_TO_COMPILE_FOR)
def test_the_triton_kernel_compiles_to_a_store_and_little_else(compiled: dict[str, Compiled], chip: str) -> None:
    reason = cannot_compile(chip)
    if reason is not None:
        pytest.skip(reason)
    assert broken_limits(job(chip), compiled[chip]) == []
    assert compiled[chip].shared_bytes == 0
    stores = [line for line in compiled[chip].text.splitlines() if "st.global" in line or "global_store" in line]
    assert len(stores) == 1


class OnDevice:
    """What a copy needs of a cupy.ndarray, in main memory."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.nbytes, self.shape, self.dtype = values, values.nbytes, values.shape, values.dtype
        self.data = SimpleNamespace(ptr=values.ctypes.data)

    def __len__(self) -> int:
        return len(self.values)


@pytest.mark.parametrize("path", overhead_case.PATHS)
@pytest.mark.parametrize("host_memory", overhead_case.HOST_MEMORY)
def test_cupy_moves_every_element_the_right_way(path: str, host_memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the runtime's memcpyAsync as a plain copy that notes its direction and stream."""
    asked: list[tuple[int, int]] = []

    def copy(destination: int, source: int, size_bytes: int, direction: int, stream: int) -> None:
        asked.append((direction, stream))
        ctypes.memmove(destination, source, size_bytes)

    runtime = SimpleNamespace(memcpyAsync=copy, memcpyHostToDevice=1, memcpyDeviceToHost=2, memcpyDeviceToDevice=3)
    cuda = SimpleNamespace(runtime=runtime, get_current_stream=lambda: SimpleNamespace(ptr=7))
    cupy = SimpleNamespace(cuda=cuda, asnumpy=lambda array: array.values if isinstance(array, OnDevice) else array)
    pinned: list[tuple[int, ...]] = []

    def empty_pinned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        pinned.append(shape)
        return np.empty(shape, dtype)

    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(empty_pinned=empty_pinned))
    case = transfer(path, host_memory)
    (a,), buffer = case.make_inputs(ARRAYS, seed=0), case.make_output(ARRAYS)
    (kernel,) = kernels("transfer", "cupy")
    output = kernel.prepare(case, ARRAYS, (OnDevice(a),), OnDevice(buffer))()
    arrived = output.values if isinstance(output, OnDevice) else output
    assert case.check(ARRAYS, (a,), arrived, seed=0).passed
    assert asked == [({"host_to_device": 1, "device_to_host": 2, "device_to_device": 3}[path], 7)]
    assert pinned == ([(1000,)] if host_memory == "pinned" and path != "device_to_device" else [])
