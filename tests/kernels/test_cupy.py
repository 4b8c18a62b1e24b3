"""The CuPy kernels without a GPU: what Python prepares with NumPy in CuPy's place, what the CUDA source computes on ``cuda_on_cpu.h``."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from chipassay.kernels.attention import AttentionCase, cupy_flash
from chipassay.kernels.case import Case
from chipassay.kernels.cuda.program import INTRINSICS, KERNELS, OPTIONS
from chipassay.kernels.kernel import Target, kernels
from chipassay.kernels.matmul import BatchedMatmulCase, MatmulCase, cupy_mma, cupy_simt
from chipassay.kernels.memory import CopyCase, ReadCase, ScaleCase, TriadCase
from chipassay.kernels.memory import cupy as stream

from .cupy_on_cpu import COMPILER, CUPY, GuardedArrays, RawModule

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="fibers and guard pages as Linux has them"),
]


@pytest.fixture(autouse=True)
def _cupy_on_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setitem(sys.modules, "cupy", CUPY)
    monkeypatch.setattr(RawModule, "folder", tmp_path_factory.getbasetemp())


def run(name: str, case: Case, capability: tuple[int, int], order: int = 1, seed: int = 0) -> tuple[GuardedArrays, Any, Any]:
    """Arrays, inputs and output of a kernel that must accept the case on such a chip."""
    (kernel,) = (k for k in kernels(op=case.op, backend="cupy") if k.name == name)
    reason = kernel.refuses(case, Target("cuda", capability))
    assert reason is None, reason
    RawModule.capability, RawModule.order = capability[0] * 10 + capability[1], order
    arrays = GuardedArrays("cuda")
    inputs, buffer = case.make_inputs(arrays, seed), case.make_output(arrays)
    return arrays, inputs, kernel.prepare(case, arrays, inputs, buffer)()


def assert_right(name: str, case: Case, capability: tuple[int, int], order: int = 1) -> None:
    arrays, inputs, output = run(name, case, capability, order)
    check = case.check(arrays, inputs, output, 0)
    assert check.passed, check


UNFUSED = "cupy.attention.unfused"


@pytest.mark.parametrize(
    ("name", "case"),
    [
        *(("cupy.matmul", MatmulCase(m=30, n=50, k=20, dtype="fp32", layout=layout)) for layout in ("nn", "nt", "tn")),
        ("cupy.matmul", MatmulCase(m=30, n=50, k=20, dtype="tf32")),
        ("cupy.matmul", BatchedMatmulCase(groups=3, m=30, n=50, k=20, dtype="fp64")),
        (UNFUSED, AttentionCase(batch=2, heads=6, kv_heads=2, seq_q=40, seq_kv=40, head_dim=8, causal=True, window=9, dtype="fp32")),
        (UNFUSED, AttentionCase(batch=2, heads=4, kv_heads=4, seq_q=40, seq_kv=70, head_dim=8, head_dim_v=5, dtype="fp64")),
    ],
    ids=str,
)
def test_library_kernels_are_right_with_numpy_in_place_of_cupy(name: str, case: Case) -> None:
    assert_right(name, case, (8, 0))


def test_fp32_never_means_tf32() -> None:
    linalg = CUPY._core._routines_linalg
    for dtype, expected in (("tf32", linalg.COMPUTE_TYPE_TF32), ("fp32", linalg.COMPUTE_TYPE_DEFAULT)):
        run("cupy.matmul", MatmulCase(m=2, n=2, k=2, dtype=dtype), (8, 0))
        assert linalg.chosen[np.float32] == expected


@pytest.mark.parametrize("elements", [1, 7, 1024, 40_003])
@pytest.mark.parametrize("dtype", ["int8", "bf16", "fp16", "fp32", "fp64"])
def test_copy_is_right_as_cpp(dtype: str, elements: int) -> None:
    assert_right("cupy.copy.16byte", CopyCase(elements=elements, dtype=dtype), (6, 0))


@pytest.mark.parametrize("elements", [1, 7, 40_003])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32", "fp64"])
def test_scale_and_triad_are_right_as_cpp(dtype: str, elements: int) -> None:
    for case in (ScaleCase(elements=elements, dtype=dtype), TriadCase(elements=elements, dtype=dtype)):
        assert_right(f"cupy.{case.op}.16byte", case, (6, 0))


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("elements", [1, 7, 40_003])
@pytest.mark.parametrize("dtype", ["fp16", "fp32", "fp64"])
def test_read_is_right_as_cpp(dtype: str, elements: int, order: int) -> None:
    assert_right("cupy.read.16byte", ReadCase(elements=elements, dtype=dtype), (6, 0), order)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("dtype", "layout", "m", "n", "k"),
    [
        ("fp32", "nn", 130, 264, 40),
        ("fp32", "nt", 128, 128, 8),
        ("fp32", "tn", 256, 136, 24),
        ("fp32", "nt", 129, 130, 41),
        ("fp32", "tn", 1, 1, 1),
        ("fp64", "nn", 130, 200, 30),
        ("fp64", "nt", 61, 131, 7),
        ("fp16", "tn", 136, 144, 40),
        ("fp16", "nn", 131, 77, 51),
    ],
)
def test_matmul_without_tensor_cores_is_right(dtype: str, layout: str, m: int, n: int, k: int, order: int) -> None:
    assert_right("cupy.matmul.simt", MatmulCase(m=m, n=n, k=k, layout=layout, dtype=dtype), (6, 0), order)


@pytest.fixture
def first_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose without timing: the first configuration, made small enough for a CPU."""
    monkeypatch.setattr(cupy_mma, "fastest", lambda choices, run: choices[0])
    monkeypatch.setattr(cupy_flash, "fastest", lambda choices, run: choices[0])
    monkeypatch.setattr(cupy_mma, "ASYNC_CONFIGS", ({"BM": 64, "BN": 64, "WM": 32, "WN": 32, "STAGES": 3},))
    monkeypatch.setattr(cupy_mma, "CONFIGS", ({"BM": 64, "BN": 64, "WM": 32, "WN": 32, "STAGES": 2},))


@pytest.mark.usefixtures("first_config")
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("capability", "dtype", "layout", "m", "n", "k"),
    [
        ((8, 0), "fp16", "nn", 72, 136, 200),
        ((8, 0), "fp16", "nt", 64, 64, 32),
        ((8, 0), "fp16", "tn", 136, 72, 72),
        ((8, 0), "fp16", "nn", 65, 67, 69),
        ((8, 0), "bf16", "nn", 72, 80, 136),
        ((8, 0), "bf16", "tn", 33, 131, 47),
        ((8, 0), "tf32", "nn", 68, 132, 84),
        ((8, 0), "tf32", "nt", 68, 132, 84),
        ((8, 0), "tf32", "tn", 100, 60, 44),
        ((8, 0), "tf32", "tn", 3, 5, 7),
        ((8, 0), "int8", "nt", 70, 90, 176),
        ((7, 5), "int8", "nt", 70, 90, 176),
        ((7, 5), "int8", "nt", 65, 63, 33),
        ((7, 5), "fp16", "tn", 136, 72, 72),
        ((7, 5), "fp16", "nn", 1, 1, 1),
        ((7, 0), "fp16", "nn", 72, 136, 72),
        ((7, 0), "fp16", "nt", 136, 72, 72),
        ((7, 0), "fp16", "tn", 136, 72, 72),
        ((7, 0), "fp16", "nt", 65, 67, 69),
    ],
)
def test_matmul_with_mma_is_right(capability: tuple[int, int], dtype: str, layout: str, m: int, n: int, k: int, order: int) -> None:
    assert_right("cupy.matmul.mma", MatmulCase(m=m, n=n, k=k, layout=layout, dtype=dtype), capability, order)


@pytest.mark.usefixtures("first_config")
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("capability", [(7, 0), (7, 5), (8, 0)])
@pytest.mark.parametrize(
    "shape",
    [
        {"heads": 2, "kv_heads": 1, "seq_q": 70, "seq_kv": 70, "head_dim": 64, "causal": True},
        {"heads": 1, "kv_heads": 1, "seq_q": 65, "seq_kv": 131, "head_dim": 48},
        {"heads": 1, "kv_heads": 1, "seq_q": 130, "seq_kv": 130, "head_dim": 32, "causal": True, "window": 20},
        {"heads": 2, "kv_heads": 2, "seq_q": 5, "seq_kv": 90, "head_dim": 17, "head_dim_v": 35},
        {"heads": 1, "kv_heads": 1, "seq_q": 1, "seq_kv": 1, "head_dim": 1},
        {"heads": 1, "kv_heads": 1, "seq_q": 40, "seq_kv": 40, "head_dim": 192, "head_dim_v": 128, "causal": True},
    ],
    ids=str,
)
def test_attention_with_mma_is_right(shape: dict[str, Any], capability: tuple[int, int], order: int) -> None:
    for dtype in ("fp16", "bf16") if capability >= (8, 0) else ("fp16",):
        assert_right("cupy.attention.mma", AttentionCase(batch=2, dtype=dtype, **shape), capability, order)


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "shape",
    [
        {"heads": 2, "kv_heads": 1, "seq_q": 70, "seq_kv": 70, "head_dim": 64, "causal": True},
        {"heads": 1, "kv_heads": 1, "seq_q": 33, "seq_kv": 101, "head_dim": 128},
        {"heads": 1, "kv_heads": 1, "seq_q": 100, "seq_kv": 100, "head_dim": 33, "causal": True, "window": 20},
        {"heads": 2, "kv_heads": 2, "seq_q": 5, "seq_kv": 90, "head_dim": 17, "head_dim_v": 80},
        {"heads": 1, "kv_heads": 1, "seq_q": 1, "seq_kv": 1, "head_dim": 1},
    ],
    ids=str,
)
def test_attention_without_tensor_cores_is_right(shape: dict[str, Any], dtype: str) -> None:
    for order in (1, -1):
        assert_right("cupy.attention.simt", AttentionCase(batch=2, dtype=dtype, **shape), (6, 0), order)


def test_half2_is_as_far_off_as_its_chains_are_which_only_sums_in_fp16_may_be() -> None:
    case = MatmulCase(m=64, n=64, k=512, dtype="fp16", math_mode="fp16_accum")
    RawModule.capability, RawModule.order = 60, 1
    arrays = GuardedArrays("cuda")
    inputs, output = case.make_inputs(arrays, 0), case.make_output(arrays)
    cupy_simt.launcher(case, cupy_simt.program(case, half2=cupy_simt.CHAIN), inputs, output)()
    a, b = (array.astype(np.float64) for array in inputs)
    off = float(np.std(output.astype(np.float64) - a @ b))
    assert cupy_simt.chain_error(case.k, cupy_simt.CHAIN) / 2 < off < cupy_simt.chain_error(case.k, cupy_simt.CHAIN)
    assert case.check(arrays, inputs, output, 0).passed
    assert not MatmulCase(m=64, n=64, k=512, dtype="fp16").check(arrays, inputs, output, 0).passed


@pytest.mark.parametrize(("layout", "k"), [("nn", 45), ("nt", 200), ("tn", 1)])
def test_half2_is_right_on_ragged_shapes(layout: str, k: int) -> None:
    assert_right("cupy.matmul.half2", MatmulCase(m=70, n=133, k=k, dtype="fp16", layout=layout, math_mode="fp16_accum"), (6, 0), 1)


MUTATIONS = [
    # what a careless change would break: a text of the source and what it becomes
    ("cupy.matmul.simt", "fp32", (6, 0), "            __syncthreads();\n        }\n    }\n\n#pragma", "        }\n    }\n\n#pragma"),
    ("cupy.matmul.simt", "fp32", (6, 0), "if (r >= m) continue;", "if (r >= m - 1) continue;"),
    ("cupy.matmul.mma", "fp16", (8, 0), "copies_wait<STAGES - 2>();", "copies_wait<STAGES - 1>();"),
    ("cupy.matmul.mma", "fp16", (8, 0), "__syncthreads();  // tile i", "// tile i"),
    ("cupy.matmul.mma", "fp16", (8, 0), "lane / 8 % 2 * 16", "lane / 16 % 2 * 16"),
    ("cupy.matmul.mma", "fp16", (7, 0), "o = at + 4 * side + 2 * above()", "o = at + 8 * side + above()"),
    ("cupy.matmul.mma", "fp16", (7, 5), "if (s + 1 < n)", "if (s + 1 <= n)"),
]


@pytest.mark.usefixtures("first_config")
@pytest.mark.parametrize(("name", "dtype", "capability", "text", "becomes"), MUTATIONS)
def test_a_broken_source_is_seen(
    name: str, dtype: str, capability: tuple[int, int], text: str, becomes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = RawModule.__init__

    def broken(self: RawModule, code: str, options: tuple[str, ...]) -> None:
        assert code.count(text) == 1
        original(self, code.replace(text, becomes), options)

    monkeypatch.setattr(RawModule, "__init__", broken)
    # Rows of 16 bytes, and an odd number of columns where a store beyond them is to be seen.
    odd = "s + 1" in text
    case = MatmulCase(m=72, n=71 if odd else 72, k=136, layout="nt", dtype=dtype)

    def both_orders() -> None:
        for order in (1, -1):
            assert_right(name, case, capability, order)

    with pytest.raises(AssertionError):
        both_orders()


def test_fp16_on_the_cpu_is_numpys_for_every_bit_pattern() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    scale = stream.program("scale", "fp16").load()
    output = np.zeros_like(bits)
    scale(1, (bits, output, np.float32(1), np.uint64(len(bits))))
    numbers = bits.view(np.float16)
    assert np.array_equal(output.view(np.float16), numbers, equal_nan=True)
    scale(1, (bits, output, np.float32(0.7), np.uint64(len(bits))))
    with np.errstate(invalid="ignore"):  # not-a-numbers that signal
        expected = (np.float32(0.7) * numbers.astype(np.float32)).astype(np.float16)
    assert np.array_equal(output.view(np.float16), expected, equal_nan=True)


def test_a_barrier_that_not_all_reach_is_an_error() -> None:
    code = "".join(f"{(KERNELS / INTRINSICS).read_text(encoding='utf-8')}")
    code += 'extern "C" __global__ void stuck(float* x) { if (threadIdx.x < 7) __syncthreads(); *x = 1; }'
    RawModule.order = 1
    with pytest.raises(AssertionError, match="wait"):
        RawModule(code, OPTIONS).get_function("stuck")((1,), (32,), (np.zeros(1, np.float32),))
