"""Matrix products without tensor cores in our CUDA C++ (``simt.cu``), through CuPy.

Run on an H200, but for ``half2``, which is for other chips.

fp16 on chips before sm_70: products run at fp32's rate when sums are kept in fp32 (``cupy.matmul.simt``), and at up to twice that when
pairs of sums are kept in fp16 (P100: 21.2 against 10.6 TFLOP/s, NVIDIA's Tesla P100 whitepaper, table 1). What the second costs: chains
of CHAIN sums in fp16, each added to the rest in fp32, leave a random error of about u sqrt(CHAIN / 6) of the sum's size
(``chain_error``), and u is 2^-11; sums in fp32 leave thousandths of that, sums wholly in fp16 some times more. So
``cupy.matmul.half2`` is for the cases of ``math_mode`` ``fp16_accum``, and no row passes it off as fp16 with sums in fp32.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES, UNIT_ROUNDOFF
from ..cuda.program import Program
from ..kernel import Call, Target, kernel
from .case import MatmulCase
from .product import FP16_ACCUM, refuses_fp16_sums

THREADS = 256
SIDE = 128
PITCH = SIDE + 4
BITS = {"fp64": 64, "fp32": 32, "fp16": 16}
BK = {"fp64": 4, "fp32": 8, "fp16": 16}
"""Elements along k in a buffer: 16 or 32 bytes, so that a thread brings one or two times 16 bytes of A and B at once."""

CHAIN = 16
"""Length of a sum in fp16: 16 pair instructions and 4 to widen and add do the work of 32, at a third of the error of a sum of 128."""

FAST_HALF = ((5, 3), (6, 0), (6, 2))
"""Where fp16 pairs run at twice fp32's rate and there are no tensor cores: CUDA C++ Programming Guide 12, "Arithmetic Instructions"."""


def aligned(elements: int, dtype: str) -> int:
    """1 if rows of so many elements start at multiples of 16 bytes, else 0."""
    return int(elements * DTYPE_BYTES[dtype] % 16 == 0)


def layout_defines(case: MatmulCase) -> tuple[tuple[str, int], ...]:
    """How A, B and C lie in memory, as the CUDA sources ask for it."""
    return (
        ("A_TRANSPOSED", int(case.layout[0] == "t")),
        ("B_TRANSPOSED", int(case.layout[1] == "t")),
        ("A_VECTOR", aligned(case.a_shape[1], case.dtype)),
        ("B_VECTOR", aligned(case.b_shape[1], case.dtype)),
        ("C_VECTOR", int(case.n % 8 == 0)),
    )


def program(case: MatmulCase, half2: int = 0) -> Program:
    """The CUDA program for a case; ``half2`` is the length of sums in fp16, 0 for none."""
    bk = BK[case.dtype]
    shared_a, shared_b = (4, 2) if half2 else (max(DTYPE_BYTES[case.dtype], 4),) * 2
    defines = (("DTYPE", BITS[case.dtype]), ("HALF2", half2), *layout_defines(case), ("BK", bk))
    return Program("matmul", ("matmul/tile_order.cu", "matmul/simt.cu"), defines, THREADS, 2 * bk * PITCH * (shared_a + shared_b))


def chain_error(k: int, length: int) -> float:
    """Standard deviation of C's error when sums of ``length`` products of standard normal numbers are kept in fp16, k terms in all.

    A partial sum of i terms is about sqrt(i) large, and rounding spreads evenly within u of it: i u^2 / 3. Over i up to ``length``,
    and k / length such chains: u sqrt(k length / 6). (Rounding is relative to the next power of 2 and so half as large at best: this is
    the upper end.)
    """
    return UNIT_ROUNDOFF["fp16"] * math.sqrt(k * length / 6)


def refuses(case: MatmulCase, target: Target) -> str | None:
    if target.kind != "cuda":
        return "this CUDA C++ is for NVIDIA's chips only; use cupy.matmul"
    reason = refuses_fp16_sums(case)
    if reason is not None:
        return reason
    return None if case.dtype in BITS else f"no kernel without tensor cores for {case.dtype}; it computes {', '.join(BITS)}"


def refuses_half2(case: MatmulCase, target: Target) -> str | None:
    if target.kind != "cuda":
        return "this CUDA C++ is for NVIDIA's chips only; use cupy.matmul"
    if case.math_mode != FP16_ACCUM:
        return "pairs of sums in fp16 are math_mode fp16_accum of fp16, and nothing else"
    if target.compute_capability is not None and target.compute_capability not in FAST_HALF:
        return "pairs of fp16 are worth it only on chips without tensor cores that compute them at twice fp32's rate: 5.3, 6.0 and 6.2"
    return None


def launcher(case: MatmulCase, program: Program, inputs: tuple[Array, ...], output: Array) -> Call:
    """The call that runs a program on tiles of 128 x 128 of C."""
    launch, blocks = program.load(), -(-case.m // SIDE) * -(-case.n // SIDE)
    arguments = (*inputs, output, np.int32(case.m), np.int32(case.n), np.int32(case.k))

    def run() -> Array:
        launch(blocks, arguments)
        return output

    return run


@kernel("matmul", "cupy", "cupy.matmul.simt", refuses)
def matmul_simt(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    return launcher(case, program(case), inputs, output)


@kernel("matmul", "cupy", "cupy.matmul.half2", refuses_half2)
def matmul_half2(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    run = launcher(case, program(case, half2=CHAIN), inputs, output)
    run.config = f"fp16_sums={CHAIN}"  # type: ignore[attr-defined]
    return run


def every_program(on: tuple[int, int]) -> list[Program]:
    """Variants that a chip of this compute capability may be given, for the compiler's proof."""
    found = []
    for dtype, (layout, n) in itertools.product(BITS, (("nn", 28672), ("nt", 28672), ("tn", 28672), ("nn", 28671))):
        case = MatmulCase(m=n, n=n, k=n, dtype=dtype, layout=layout)
        found.append(program(case))
        if dtype == "fp16" and on in FAST_HALF:
            found.append(program(case, half2=CHAIN))
    return found
