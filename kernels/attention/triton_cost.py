"""What a pass of attention cut into tiles would cost on a chip: only the order in which candidates are tried, and which never are.

Not yet compared with a GPU; what is reported is always measured. The chips' numbers are those of the matrix products (matmul).
"""

from __future__ import annotations

from collections.abc import Mapping

from ..case import DTYPE_BYTES
from ..kernel import Target
from ..matmul.triton_cost import L2_BYTES_PER_CLOCK, RATE, TURN_CLOCKS, Machine
from .case import AttentionCase
from .triton_parts import cut, padded

EXPONENTIALS_PER_CLOCK = 16
"""Of one multiprocessor: CUDA C++ Programming Guide, "Arithmetic Instructions", base-2 exponentials; a CDNA compute unit's transcendentals
are a quarter of its 64 lanes too."""
SHORT_TILE_RATE = 0.5
"""Of a tile of fewer than 64 rows where tensor cores work at full rate for 64 (wgmma, tcgen05): it is left to mma.sync; assumed."""
FULL_RATE_ROWS = 64


def forward_cost(case: AttentionCase, config: Mapping[str, int], target: Target) -> float:
    """Clocks of the forward pass: S from the head's width, O from the values'."""
    dims = sum(cut(case.head_dim)) + padded(case.dim_v)
    return _clocks(case, config, target, dims, over_keys=False)


def backward_cost(case: AttentionCase, name: str, config: Mapping[str, int], target: Target) -> float:
    """Clocks of a pass of the backward pass: ``keys`` computes S, dP, dV and dK, ``queries`` S, dP and dQ."""
    width, width_v = sum(cut(case.head_dim)), padded(case.dim_v)
    over_keys = name == "keys"
    return _clocks(case, config, target, 2 * (width + width_v) if over_keys else 2 * width + width_v, over_keys)


def tiles_of(case: AttentionCase, block_m: int, block_n: int, over_keys: bool) -> int:
    """Tiles of scores that one head's programs compute, those that the mask cuts among them.

    >>> whole = AttentionCase(batch=1, heads=1, kv_heads=1, seq_q=128, seq_kv=256, head_dim=64, dtype="bf16")
    >>> tiles_of(whole, 64, 64, over_keys=False)
    8
    >>> half = AttentionCase(batch=1, heads=1, kv_heads=1, seq_q=256, seq_kv=256, head_dim=64, dtype="bf16", causal=True)
    >>> tiles_of(half, 64, 64, over_keys=False), tiles_of(half, 64, 128, over_keys=True)
    (10, 6)
    """
    if not case.causal:
        return -(-case.seq_q // block_m) * -(-case.seq_kv // block_n)
    tiles = 0
    window = case.window or case.seq_q
    if over_keys:
        for first in range(0, case.seq_kv, block_n):
            last = min(case.seq_q, first + block_n - 1 + window)
            tiles += -(-last // block_m) - first // block_m
    else:
        for first in range(0, case.seq_q, block_m):
            last = min(case.seq_kv, first + block_m)
            tiles += -(-last // block_n) - max(0, first - window + 1) // block_n
    return tiles


def _clocks(case: AttentionCase, config: Mapping[str, int], target: Target, dims: int, over_keys: bool) -> float:
    """A roofline of one multiprocessor, in turns of all of them.

    A tile takes the longer of its products, its exponentials and loading what it reads from the second-level cache; a program as many tiles
    as the mean. Programs take turns, unless a causal mask makes them unequal: then short ones fill the gaps.
    """
    machine = Machine.for_target(target)
    block_m, block_n = config["BLOCK_M"], config["BLOCK_N"]
    held, streamed = (block_n, block_m) if over_keys else (block_m, block_n)
    short = machine.family in ("sm_90", "sm_100") and held < FULL_RATE_ROWS
    rate = machine.flops_per_clock * RATE[case.dtype] * (SHORT_TILE_RATE if short else 1)
    products = 2 * block_m * block_n * dims / rate
    exponentials = block_m * block_n / EXPONENTIALS_PER_CLOCK
    loads = streamed * (sum(cut(case.head_dim)) + padded(case.dim_v)) * DTYPE_BYTES[case.dtype] / L2_BYTES_PER_CLOCK
    tile = max(products, exponentials, loads)
    tiles = tiles_of(case, block_m, block_n, over_keys) * case.batch * case.heads
    programs = -(-(case.seq_kv if over_keys else case.seq_q) // held) * case.batch * (case.kv_heads if over_keys else case.heads)
    turns = programs / machine.multiprocessors if case.causal else -(-programs // machine.multiprocessors)
    return max(turns, 1.0) * (tiles / programs * tile + TURN_CLOCKS)
