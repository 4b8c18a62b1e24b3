"""How far a sum of rounded products may be from exact: what the checks of matmul and attention allow."""

from __future__ import annotations

import math

from .case import UNIT_ROUNDOFF

HALF_SMALLEST: dict[str, float] = {"fp16": 2.0**-25}
"""Half the smallest subnormal, for the one format where normal data comes near it."""

FP8_SUM_ROUNDOFF = 2.0**-14
"""Unit roundoff of the sums that fp8 tensor cores of Ada and Hopper keep: 14 bits, the first of them hidden (DeepSeek-AI, "DeepSeek-V3
technical report", arXiv 2412.19437, section 3.3.2; SageAttention2, arXiv 2411.10958, calls it FP22: 13 mantissa bits)."""
FP8_PROMOTED_TERMS = 128
"""Products after which libraries add such a sum to one in true fp32: four instructions of 32 (ibid.; CUTLASS promotes as often)."""


def accumulation_error(dtype: str, terms: int, fast: bool = False) -> float:
    """c such that a computed dot product of ``terms`` zero-mean random numbers is within c |x| |y| (2-norms) of the exact one.

    Whatever the data, |fl(x'y) - x'y| <= gamma_k |x|'|y| with gamma_k = k u / (1 - k u) (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., section 3.1, eq. 3.5), and |x|'|y| <= |x| |y|. For random data of zero mean the partial sums themselves stay
    small and c need not grow with k (Higham and Mary, "Sharper probabilistic backward error analysis for basic linear algebra kernels
    with random data", SIAM J. Sci. Comput. 42(5), 2020): c = u min(k, 8), where a random walk has 0.4 u as its standard error.

    Tensor cores truncate instead of rounding (Fasi, Higham, Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores",
    PeerJ CS 7:e330, 2021): the error drifts with the number of instructions, k/16 to k/4. So c = u min(2 k, 8 + 2 sqrt(k)) for the
    dtypes they compute. u is that of the accumulator: fp32, or fp64 for fp64. There c = 16 u for any k, because the reference rounds as
    well, and so do the sums with random signs (``matmul/check.py``), which add more terms than the product where k is small.

    With ``fast`` fp16 is summed in fp16, rounded to nearest after each addition (so do tensor cores that accumulate in fp16, ibid.):
    c = u min(k, 8) as for fp32, with the u of fp16.

    In fp8 the tensor cores of Ada and Hopper align 32 products, which are exact, and the running sum to the largest of them and cut each
    to FP8_SUM_ROUNDOFF (v). For normal data the cuts are a random walk with a standard error of 0.4 v |x| |y|, however long (simulated in
    ``tests/kernels/test_matmul_scaled.py``), and cutting the running sum draws it towards zero, by at most v sqrt(k) / 32 for a result of
    three standard deviations:

    * ``fast`` (cuBLASLt's FAST_ACCUM): c = v min(2 k, 8 + sqrt(k) / 32);
    * else the sum moves to fp32 every FP8_PROMOTED_TERMS (p) products. Errors of different parts are independent, so beyond p terms the
      share falls: c = v min(2 k, 8, 8 sqrt(p / k)), and that of fp32 sums is added. The margin of 8 to 0.4 covers p up to 512 as well,
      for cuBLASLt does not say how often it promotes.

    >>> accumulation_error("fp32", 1) == 2**-24
    True
    >>> accumulation_error("fp8_e4m3", 4096, fast=True) / accumulation_error("fp8_e4m3", 4096) > 5
    True
    """
    if dtype == "fp64":
        return 16 * UNIT_ROUNDOFF["fp64"]
    if dtype == "fp32":
        return UNIT_ROUNDOFF["fp32"] * min(terms, 8)
    if dtype == "fp16" and fast:
        return UNIT_ROUNDOFF["fp16"] * min(terms, 8)
    tensor_core = UNIT_ROUNDOFF["fp32"] * min(2 * terms, 8 + 2 * math.sqrt(terms))
    if not dtype.startswith("fp8"):
        return tensor_core
    if fast:
        return FP8_SUM_ROUNDOFF * min(2 * terms, 8 + math.sqrt(terms) / 32)
    return FP8_SUM_ROUNDOFF * min(2 * terms, 8, 8 * math.sqrt(FP8_PROMOTED_TERMS / terms)) + tensor_core
