"""The CuPy kernels without a GPU: their array code with NumPy in CuPy's place, their CUDA source as C++ with the threads as a loop."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.attention import AttentionCase
from chipassay.kernels.case import Case
from chipassay.kernels.kernel import kernels
from chipassay.kernels.matmul import MatmulCase
from chipassay.kernels.memory import CopyCase, TriadCase
from chipassay.kernels.memory import cupy as source

ARRAYS = NumpyArrays()


@pytest.mark.parametrize(
    "case",
    [
        *(MatmulCase(m=30, n=50, k=20, dtype="fp32", layout=layout) for layout in ("nn", "nt", "tn")),
        AttentionCase(batch=2, heads=6, kv_heads=2, seq_q=40, seq_kv=40, head_dim=8, causal=True, dtype="fp32"),
        AttentionCase(batch=2, heads=4, kv_heads=4, seq_q=40, seq_kv=70, head_dim=8, dtype="fp64"),
    ],
    ids=str,
)
def test_matmul_and_attention_are_right_with_numpy_in_place_of_cupy(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", np)
    (kernel,) = kernels(op=case.op, backend="cupy")
    inputs, buffer = case.make_inputs(ARRAYS, 0), case.make_output(ARRAYS)
    output = kernel.prepare(case, ARRAYS, inputs, buffer)()
    assert case.check(ARRAYS, inputs, output, 0).passed


THREADS_AS_A_LOOP = """
#include <cstddef>
#define __global__
struct Dim { unsigned x; };
static Dim blockIdx, blockDim, threadIdx;
typedef %s T;
%s
template <class F> void launch(unsigned blocks, unsigned threads, F call) {
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) call();
}
extern "C" void run_copy(unsigned g, unsigned t, const T* a, T* c, size_t n) { launch(g, t, [&] { copy(a, c, n); }); }
extern "C" void run_triad(unsigned g, unsigned t, const T* a, const T* b, T* c, T s, size_t n) {
    launch(g, t, [&] { triad(a, b, c, s, n); });
}
"""


@pytest.mark.parametrize("elements", [1, 3, 1024, 1027, 5000])
@pytest.mark.parametrize(("dtype", "op"), [("int8", "copy"), ("fp32", "copy"), ("fp32", "triad"), ("fp64", "triad")])
def test_the_cuda_source_is_right_as_cpp(dtype: str, op: str, elements: int, tmp_path: Path) -> None:
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    c_type = source.STORAGE[dtype] if op == "copy" else source.ARITHMETIC[dtype]
    text = THREADS_AS_A_LOOP % (c_type, source.SOURCE)
    library = tmp_path / "kernel.so"
    subprocess.run([compiler, "-x", "c++", "-std=c++14", "-shared", "-fPIC", "-o", library, "-"], input=text, text=True, check=True)

    case: Any = (CopyCase if op == "copy" else TriadCase)(elements=elements, dtype=dtype)
    inputs, output = case.make_inputs(ARRAYS, 0), case.make_output(ARRAYS)
    (grid,), (block,) = source.launch_size(elements, output.itemsize)
    number = {"fp32": ctypes.c_float, "fp64": ctypes.c_double}.get(dtype, ctypes.c_float)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*inputs, output)]
    scalar = [number(0.4)] if op == "triad" else []
    getattr(ctypes.CDLL(str(library)), f"run_{op}")(
        ctypes.c_uint(grid), ctypes.c_uint(block), *pointers, *scalar, ctypes.c_size_t(elements)
    )
    assert case.check(ARRAYS, inputs, output, 0).passed
