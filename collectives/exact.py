"""Data whose sum over ranks is exact in every order and grouping of the additions, so that the check needs no tolerance.

Idea from nccl-tests (verifiable/): all partial sums are integers that the dtype holds. Here, element by element, about half of the
ranks put in what sums up to a gain and the others what sums up to minus a loss, whoever they are in that element. The sum of any
subset then lies between -loss and gain, both of which the dtype holds: no tree, ring or switch can round or overflow (int8). Half
of the elements have all their signs turned, so that a lost sign shows too. No sum is zero, so right answers are bit patterns.
Shares of a total come from Hermite's identity, floor(y/n) + floor((y+1)/n) + ... + floor((y+n-1)/n) = y.
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
"""Largest integer below which every integer is representable (mantissa bits + 1, IEEE 754-2019 table 3.5; bf16: 8 bits; fp8: OCP OFP8
1.0, 4 and 3 bits)."""

_MASK = np.uint64(0xFFFFFFFFFFFFFFFF)
_GAIN, _LOSS, _SIGN, _TURN, _MESSAGE = range(5)
"""Streams of the hash: one for each thing that is drawn; messages take one a rank from ``_MESSAGE`` on."""
_STREAMS = 2**32


def mixed(elements: int, seed: int) -> np.ndarray:
    """A 64-bit hash of each element's index and the seed (the splitmix64 finaliser: Steele, Lea, Flood, OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        z = np.arange(elements, dtype=np.uint64) + np.uint64((seed * 0x9E3779B97F4A7C15) & int(_MASK))
        z = z * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def exact_sum(elements: int, dtype: str, seed: int) -> np.ndarray:
    """The sum each element must have, as float64: an integer that ``dtype`` holds, at least about a quarter of the largest such one.

    >>> sums = exact_sum(1000, "bf16", 1)
    >>> bool(64 <= abs(sums).min() and abs(sums).max() < 256 and sums.min() < 0 < sums.max())
    True
    """
    gain, loss = _gain_and_loss(elements, dtype, seed)
    return (_sign(elements, seed) * (gain - loss)).astype(np.float64)


def exact_share(rank: int, ranks: int, elements: int, dtype: str, seed: int) -> np.ndarray:
    """What ``rank`` puts in, as float64; summed over all ranks, in any order and any grouping, it gives ``exact_sum`` exactly.

    >>> shares = [exact_share(r, 3, 5, "fp16", 7) for r in range(3)]
    >>> bool((sum(shares) == exact_sum(5, "fp16", 7)).all())
    True
    """
    if ranks == 1:
        return exact_sum(elements, dtype, seed)
    gain, loss = _gain_and_loss(elements, dtype, seed)
    givers = (ranks + 1) // 2
    takers = ranks - givers
    # In each element the ranks take turns from another one on: which rank has which sign is nobody's habit.
    turn = ((_drawn(elements, seed, _TURN) % np.uint64(ranks)).astype(np.int64) + rank) % ranks
    share = np.where(turn < givers, (gain + turn) // givers, -((loss + turn - givers) // takers))
    return (_sign(elements, seed) * share).astype(np.float64)


def exact_message(of: int, elements: int, dtype: str, seed: int) -> np.ndarray:
    """What rank ``of`` has to say, as float64: integers of both signs up to the largest that ``dtype`` holds exactly.

    >>> bool((exact_message(0, 9, "int8", 1) != exact_message(1, 9, "int8", 1)).any())
    True
    """
    top = _top(dtype)
    return ((_drawn(elements, seed, _MESSAGE + of) % np.uint64(2 * top + 1)).astype(np.int64) - top).astype(np.float64)


def _gain_and_loss(elements: int, dtype: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What the positive and the negative ranks sum up to: gain in the upper half of what ``dtype`` holds, loss in the lowest quarter."""
    top = _top(dtype)
    gain = np.int64(top - top // 2) + (_drawn(elements, seed, _GAIN) % np.uint64(top // 2 + 1)).astype(np.int64)
    loss = np.int64(1) + (_drawn(elements, seed, _LOSS) % np.uint64(top // 4)).astype(np.int64)
    return gain, loss


def _sign(elements: int, seed: int) -> np.ndarray:
    return np.int64(1) - np.int64(2) * (_drawn(elements, seed, _SIGN) % np.uint64(2)).astype(np.int64)


def _drawn(elements: int, seed: int, stream: int) -> np.ndarray:
    return mixed(elements, seed * _STREAMS + stream)


def _top(dtype: str) -> int:
    # Far below what int64 and float64, in which the data is made, hold.
    return min(EXACT_INTEGERS_UP_TO[dtype], 2**48)
