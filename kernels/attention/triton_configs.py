"""Tiles that the Triton attention kernels try, by chip and width of the head, and which of them fit.

Tables are of fp16 and bf16 and hold only what compiles without spilled registers with Triton 3.6 and 3.9 (test_triton_attention.py);
Triton 3.4 spills some of it, and there too the search takes the fastest. Chips of no table take the one of the chip whose instructions
they share, less what their shared memory cannot hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..case import DTYPE_BYTES
from ..kernel import Target
from .case import AttentionCase
from .triton_parts import cut, padded

Config = dict[str, int]

NAMES = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages")

Table = Mapping[str, Mapping[int, Sequence[tuple[int, int, int, int]]]]
"""Chip -> width class (64, 128, 192 with narrower values, 256) -> values of NAMES."""

FORWARD: Table = {
    "sm_80": {
        64: ((128, 64, 8, 3), (64, 64, 4, 3)),
        128: ((128, 32, 8, 2), (64, 64, 4, 3)),
        192: ((128, 32, 8, 3), (64, 32, 4, 2)),
        256: ((64, 64, 8, 2), (64, 32, 8, 3)),
    },
    "sm_90": {
        64: ((128, 128, 8, 3), (64, 128, 4, 2)),
        128: ((128, 64, 8, 3), (64, 64, 4, 3)),
        192: ((128, 64, 8, 2), (64, 64, 4, 2)),
        256: ((128, 32, 8, 2), (64, 64, 8, 2)),
    },
    "sm_100": {
        64: ((128, 128, 8, 3), (128, 64, 4, 2), (128, 64, 8, 3)),
        128: ((128, 128, 8, 2), (128, 64, 8, 3)),
        192: ((128, 64, 8, 3), (128, 64, 8, 2)),
        256: ((128, 32, 8, 2), (64, 32, 8, 2)),
    },
    "gfx942": {
        64: ((128, 64, 4, 2), (128, 64, 4, 1), (256, 64, 8, 1)),
        128: ((128, 64, 4, 2), (128, 64, 4, 1), (64, 32, 8, 1)),
        192: ((128, 64, 4, 2), (64, 64, 4, 1), (64, 32, 4, 1)),
        256: ((128, 32, 4, 2), (64, 64, 4, 1), (64, 32, 8, 1)),
    },
}

TMA: Table = {
    "sm_90": {
        64: ((128, 128, 8, 3), (64, 128, 4, 3)),
        128: ((128, 128, 8, 2), (128, 64, 8, 3), (64, 128, 4, 2)),
        192: ((128, 64, 8, 3), (64, 64, 4, 2)),
        256: ((128, 64, 8, 2), (64, 64, 8, 2)),
    },
    "sm_100": {
        64: ((128, 128, 8, 3), (128, 64, 8, 3)),
        128: ((128, 128, 8, 2), (128, 64, 8, 3)),
        192: ((128, 64, 8, 3), (128, 64, 8, 2)),
        256: ((128, 64, 8, 2), (128, 32, 8, 2)),
    },
}

SPECIALIZED: Table = {
    "sm_90": {
        # Not (128, 128, 4, 3): on an H200 with Triton 3.6 it is right over 193 keys and wrong over 4,096, where its stages come round.
        64: ((128, 128, 4, 2), (128, 64, 4, 3)),
        128: ((128, 128, 4, 2), (128, 64, 4, 3)),
        192: ((128, 64, 4, 2), (128, 64, 4, 3)),
        256: ((128, 64, 4, 2), (128, 32, 4, 2)),
    },
    "sm_100": {
        64: ((128, 128, 8, 2), (128, 128, 4, 2)),
        128: ((128, 128, 8, 2), (128, 64, 8, 2)),
    },
}
"""num_warps counts the consumers before they are divided; the compiler adds warps that load. On sm_100 heads of 192 and 256 spill or
need more than its tensor memory."""

TF32: Mapping[int, Sequence[tuple[int, int, int, int]]] = {
    64: ((64, 32, 8, 2), (128, 32, 8, 2)),
    128: ((64, 32, 8, 2), (32, 32, 8, 2)),
    192: ((32, 32, 8, 2), (32, 16, 8, 2)),
    256: ((32, 32, 8, 2), (32, 16, 8, 2)),
}
"""On every chip that has it."""

FP32: Mapping[int, Sequence[tuple[int, int, int, int]]] = {
    64: ((64, 32, 8, 2), (32, 32, 8, 2)),
    128: ((32, 32, 8, 2), (32, 16, 8, 2)),
    192: ((16, 16, 8, 1),),
    256: ((16, 16, 8, 1),),
}
"""On every chip; outside tensor cores, where each thread holds its part of both operands."""

MASKED_SPILLS: Mapping[tuple[str, int], Sequence[tuple[int, int, int, int]]] = {
    ("sm_80", 128): ((64, 64, 4, 3),),
    ("sm_80", 256): ((64, 64, 8, 2),),
    ("sm_90", 256): ((64, 64, 8, 2),),
    ("sm_100", 256): ((64, 32, 8, 2),),
    ("gfx942", 64): ((128, 64, 4, 2), (128, 64, 4, 1)),
    ("gfx942", 128): ((128, 64, 4, 2), (128, 64, 4, 1)),
    ("gfx942", 192): ((128, 64, 4, 2), (64, 64, 4, 1)),
    ("gfx942", 256): ((128, 32, 4, 2), (64, 64, 4, 1)),
}
"""Of FORWARD, what spills where sizes are no multiples of the tile or a window needs masks of its own: there it is left out."""

SHARED_KIB = {(7, 0): 96, (7, 5): 64, (8, 0): 163, (8, 6): 99, (8, 7): 163, (8, 9): 99, (9, 0): 227}
SHARED_KIB |= {(10, 0): 227, (10, 3): 227, (12, 0): 99, (12, 1): 99}
"""Most shared memory of a block, KiB: CUDA C++ Programming Guide, table of technical specifications per compute capability."""
LEAST_SHARED_KIB = 64
"""What chips that are not listed surely have: MI200 and MI300 have that much (AMD CDNA 3 ISA, section 11), newer NVIDIA chips more."""


def width_class(head_dim: int, head_dim_v: int) -> int:
    """Which column of a table serves a head.

    >>> width_class(64, 64), width_class(96, 128), width_class(192, 128), width_class(160, 160)
    (64, 128, 192, 256)
    """
    width, width_v = sum(cut(head_dim)), padded(head_dim_v)
    if max(width, width_v) <= 64:
        return 64
    if max(width, width_v) <= 128:
        return 128
    return 192 if width <= 192 and width_v <= 128 else 256


def table_chip(target: Target) -> str:
    """The chip whose table serves the target: the one with the same matrix instructions.

    >>> table_chip(Target("cuda", (9, 0))), table_chip(Target("cuda", (12, 0))), table_chip(Target("rocm", architecture="gfx90a"))
    ('sm_90', 'sm_80', 'gfx942')
    """
    if target.kind == "rocm":
        return "gfx942"
    major = (target.compute_capability or (8, 0))[0]
    return {9: "sm_90", 10: "sm_100"}.get(major, "sm_80")


def shared_limit(target: Target) -> int:
    """Bytes of shared memory that a block can have."""
    if target.kind == "cpu":
        return 2**31
    return 1024 * SHARED_KIB.get(target.compute_capability or (0, 0), LEAST_SHARED_KIB)


def shared_bytes(config: Mapping[str, int], bytes_per_key: int, bytes_per_query: int) -> int:
    """What the tiles in flight take: BLOCK_N keys and values a stage, and the queries where tensor cores read them in shared memory."""
    return config["num_stages"] * config["BLOCK_N"] * bytes_per_key + config["BLOCK_M"] * bytes_per_query


def tiles_for(
    case: AttentionCase, rows: Sequence[tuple[int, int, int, int]], spills: Sequence[tuple[int, int, int, int]] = ()
) -> list[Config]:
    """The rows of a table as configurations, without those in ``spills`` where the case needs masks beside the causal one."""

    def masked(tile: tuple[int, int, int, int]) -> bool:
        return case.window is not None or case.seq_q % tile[0] != 0 or case.seq_kv % tile[1] != 0

    return [dict(zip(NAMES, tile, strict=True)) for tile in rows if not (tile in spills and masked(tile))]


def forward_configs(table: Table, target: Target, case: AttentionCase) -> list[Config]:
    """Candidates for the forward pass that fit the target's shared memory; never none, for the smallest is kept and may fail."""
    chip, width = table_chip(target), width_class(case.head_dim, case.dim_v)
    element_bytes = DTYPE_BYTES[case.dtype]
    rows = (FP32 if case.dtype == "fp32" else TF32)[width] if element_bytes == 4 else table.get(chip, {}).get(width, ())
    made = tiles_for(case, rows, MASKED_SPILLS.get((chip, width), ()) if table is FORWARD else ())
    limit = shared_limit(target)
    per_key = (sum(cut(case.head_dim)) + padded(case.dim_v)) * element_bytes
    per_query = sum(cut(case.head_dim)) * element_bytes if chip in ("sm_90", "sm_100") else 0
    if chip == "gfx942":  # one stage of the loop is in registers there
        return [c for c in made if shared_bytes({**c, "num_stages": c["num_stages"] - 1}, per_key, 0) <= limit] or made[-1:]
    return [config for config in made if shared_bytes(config, per_key, per_query) <= limit] or made[-1:]


DECODE: Table = {
    "nvidia": {
        64: ((16, 64, 4, 3), (64, 64, 4, 3)),
        128: ((16, 64, 4, 3), (16, 128, 4, 2), (64, 64, 4, 2)),
        256: ((16, 32, 4, 3), (64, 32, 8, 2)),
        576: ((16, 32, 8, 2), (16, 16, 4, 2), (64, 32, 8, 2)),
    },
    "sm_100": {
        64: ((16, 64, 4, 3), (64, 64, 4, 3)),
        128: ((16, 64, 4, 3), (16, 128, 4, 2), (64, 64, 4, 2)),
        256: ((16, 32, 4, 3), (64, 32, 8, 2)),
        576: ((16, 32, 8, 2), (16, 16, 4, 2), (64, 16, 8, 2)),
    },
    "gfx942": {
        64: ((16, 128, 4, 2), (64, 64, 4, 2)),
        128: ((16, 64, 4, 2), (64, 64, 4, 2)),
        256: ((16, 32, 4, 2), (64, 32, 8, 2)),
        576: ((16, 16, 4, 2), (64, 16, 8, 2)),
    },
}
"""As the tables above; BLOCK_M is 16 for few query heads on a key/value head and 64 for many. 576 is multi-head latent attention."""

DECODE_WIDE_ELEMENTS: Mapping[int, Sequence[tuple[int, int, int, int]]] = {
    64: ((16, 64, 4, 2), (16, 32, 4, 2)),
    128: ((16, 32, 4, 2),),
    256: ((16, 16, 4, 2),),
    576: ((16, 16, 8, 1),),
}
"""fp32 and tf32, on every chip."""

PROGRAMS = (2, 1, 4)
"""Programs wanted on each multiprocessor: more hide more latency, and leave more parts to combine."""


def decode_configs(case: AttentionCase, target: Target) -> list[Config]:
    """Candidates for decoding that fit the target's shared memory; none where no tile does or the head is too wide."""
    width = next((w for w in (64, 128, 256, 576) if max(sum(cut(case.head_dim)), padded(case.dim_v)) <= w), None)
    if width is None:
        return []
    element_bytes = DTYPE_BYTES[case.dtype]
    chip = table_chip(target) if table_chip(target) in DECODE else "nvidia"
    rows = case.heads // case.kv_heads * case.seq_q
    tiles = DECODE_WIDE_ELEMENTS[width] if element_bytes == 4 else DECODE[chip][width]
    most_rows = max(tile[0] for tile in tiles)
    tiles = [tile for tile in tiles if tile[0] == (16 if rows <= 16 else most_rows)]
    made = [{**dict(zip(NAMES, tile, strict=True)), "PROGRAMS": programs} for programs in PROGRAMS for tile in tiles]
    per_key = (sum(cut(case.head_dim)) + padded(case.dim_v)) * element_bytes
    extra_stage = 1 if chip == "gfx942" else 0  # one stage of the loop is in registers there
    limit = shared_limit(target)
    return [c for c in made if shared_bytes({**c, "num_stages": c["num_stages"] - extra_stage}, per_key, 0) <= limit]
