"""Data whose sum over ranks is exact in every order of summation, so that the check needs no tolerance.

Idea from nccl-tests (verifiable/): all partial sums are integers that the mantissa holds. Here the shares come from
Hermite's identity, floor(y/n) + floor((y+1)/n) + ... + floor((y+n-1)/n) = y: rank r puts in one of these terms.
"""

from __future__ import annotations

import numpy as np

EXACT_INTEGERS_UP_TO = {
    "fp64": 2**53,
    "fp32": 2**24,
    "fp16": 2**11,
    "bf16": 2**8,
    "fp8_e4m3": 2**4,
    "fp8_e5m2": 2**3,
    "int8": 2**7 - 1,
}
"""Largest integer below which every integer is representable (mantissa bits + 1, IEEE 754-2019 table 3.5; bf16: 8 bits)."""

_MASK = np.uint64(0xFFFFFFFFFFFFFFFF)


def mixed(elements: int, seed: int) -> np.ndarray:
    """A 64-bit hash of each element's index and the seed (the splitmix64 finaliser: Steele, Lea, Flood, OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        z = np.arange(elements, dtype=np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) & int(_MASK))
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def exact_sum(elements: int, dtype: str, seed: int) -> np.ndarray:
    """The sum each element must have: an integer in the upper half of what ``dtype`` holds exactly, as float64.

    >>> bool((exact_sum(1000, "bf16", 1) <= 256).all() and (exact_sum(1000, "bf16", 1) >= 128).all())
    True
    """
    top = min(EXACT_INTEGERS_UP_TO[dtype], 2**48)
    low = np.uint64(top // 2)
    return (low + mixed(elements, seed) % np.uint64(top - int(low) + 1)).astype(np.float64)


def exact_share(rank: int, ranks: int, elements: int, dtype: str, seed: int) -> np.ndarray:
    """What ``rank`` puts in; summed over all ranks, in any order and any grouping, it gives ``exact_sum`` exactly.

    >>> shares = [exact_share(r, 3, 5, "fp16", 7) for r in range(3)]
    >>> bool((sum(shares) == exact_sum(5, "fp16", 7)).all())
    True
    """
    turn = (mixed(elements, seed + 1) + np.uint64(rank)) % np.uint64(ranks)
    return np.floor((exact_sum(elements, dtype, seed) + turn.astype(np.float64)) / ranks)


def exact_message(of: int, elements: int, dtype: str, seed: int) -> np.ndarray:
    """What rank ``of`` has to say, as float64: integers from 0 to the largest that ``dtype`` holds exactly.

    >>> bool((exact_message(0, 9, "int8", 1) != exact_message(1, 9, "int8", 1)).any())
    True
    """
    top = min(EXACT_INTEGERS_UP_TO[dtype], 2**48)
    return (mixed(elements, seed + 2 + of) % np.uint64(top + 1)).astype(np.float64)
