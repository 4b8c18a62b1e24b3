"""Matrix products without tensor cores in our CUDA C++ (``simt.cu``), through CuPy. Not yet run on a GPU.

fp16 on chips before sm_70: products run at fp32's rate when sums are kept in fp32 (``cupy.matmul.simt``), and at up to twice that when
pairs of sums are kept in fp16 (P100: 21.2 against 10.6 TFLOP/s, NVIDIA's Tesla P100 whitepaper, table 1). What the second costs: chains
of L sums in fp16, each added to the rest in fp32, leave a random error of about u sqrt(L / 6) of the sum's size (``chain_error``), and u
is 2^-11; sums in fp32 leave thousandths of that. The case of fp16 means sums in fp32, and its check allows no more. So
``cupy.matmul.half2`` takes the longest chain that the check allows (from L = 8 on it gains anything) and refuses where there is none:
below k of about 28,000. The doubled rate of a P100 is no rate of training with sums in fp32, and no row says so.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES, UNIT_ROUNDOFF
from ..cuda.program import Program
from ..kernel import Call, Target, kernel
from ..rounding import accumulation_error
from .case import MatmulCase

THREADS = 256
SIDE = 128
PITCH = SIDE + 4
BITS = {"fp64": 64, "fp32": 32, "fp16": 16}
BK = {"fp64": 4, "fp32": 8, "fp16": 16}
"""Elements along k in a buffer: 16 or 32 bytes, so that a thread brings one or two times 16 bytes of A and B at once."""

CHAINS = (16, 8)
"""Lengths of fp16 sums: at 8, 8 pair instructions and 4 to widen and add do the work of 16; at 4 nothing is gained."""
DEVIATIONS = 6.0
"""How many standard deviations of a chain's error must be allowed: of 10^8 normal numbers none is expected beyond."""

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


def chain(k: int) -> int | None:
    """The longest chain of fp16 sums whose errors the check of fp16 with fp32 sums allows at this k, by ``rounding.py``; None: none.

    |a| |b| of k standard normal numbers each is about k.

    >>> chain(16384), chain(28672), chain(53248)
    (None, 8, 16)
    """
    allowed = accumulation_error("fp16", k) * k
    return next((length for length in CHAINS if DEVIATIONS * chain_error(k, length) <= allowed), None)


def refuses(case: MatmulCase, target: Target) -> str | None:
    if target.kind != "cuda":
        return "this CUDA C++ is for NVIDIA's chips only; use cupy.matmul"
    return None if case.dtype in BITS else f"no kernel without tensor cores for {case.dtype}; it computes {', '.join(BITS)}"


def refuses_half2(case: MatmulCase, target: Target) -> str | None:
    reason = refuses(case, target)
    if reason is not None or case.dtype != "fp16":
        return reason or f"sums in pairs of fp16 are for fp16, not for {case.dtype}"
    if target.compute_capability is not None and target.compute_capability not in FAST_HALF:
        return "pairs of fp16 are worth it only on chips without tensor cores that compute them at twice fp32's rate: 5.3, 6.0 and 6.2"
    if chain(case.k) is None:
        return f"at k={case.k} even short sums in fp16 are further off than fp16 with fp32 sums may be; use cupy.matmul.simt"
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
    length = chain(case.k)
    assert length is not None, "refused"
    run = launcher(case, program(case, half2=length), inputs, output)
    run.config = f"fp16_sums={length}"  # type: ignore[attr-defined]
    return run


def every_program(on: tuple[int, int]) -> list[Program]:
    """Variants that a chip of this compute capability may be given, for the compiler's proof."""
    found = []
    for dtype, (layout, n) in itertools.product(BITS, (("nn", 28672), ("nt", 28672), ("tn", 28672), ("nn", 28671))):
        case = MatmulCase(m=n, n=n, k=n, dtype=dtype, layout=layout)
        found.append(program(case))
        if refuses_half2(case, Target("cuda", on)) is None:
            found.append(program(case, half2=chain(case.k) or 0))
    return found
