"""Which tiles are worth trying on which chip: the candidates of the search, those that fit the chip.

All of them compile without spilled registers in Triton 3.9 (``tests/kernels/test_triton_matmul.py``). Those of sm_90 were searched on an
H200 with Triton 3.6; the others have not run: they were chosen by the chips' limits and by reading what the compiler made of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..case import DTYPE_BYTES
from .product import FLOAT8, OUTPUT_BYTES, Product
from .triton_cost import Machine, shared_bytes

Config = dict[str, int]

# BLOCK_M, BLOCK_N, bytes of a row of A's tile, num_warps, num_stages.
TILES: dict[str, tuple[tuple[int, int, int, int, int], ...]] = {
    "interpreter": ((64, 64, 128, 4, 1),),
    "sm_70": (
        (128, 128, 64, 4, 2),
        (128, 64, 64, 4, 2),
        (64, 128, 64, 4, 2),
        (64, 64, 64, 4, 2),
        (32, 64, 64, 4, 2),
        (16, 64, 64, 4, 2),
    ),
    "sm_80": (
        (128, 256, 64, 8, 3),
        (256, 128, 64, 8, 3),
        (128, 256, 128, 8, 3),
        (256, 128, 128, 8, 3),
        (128, 128, 64, 4, 4),
        (128, 128, 128, 4, 3),
        (128, 128, 128, 8, 3),
        (64, 256, 64, 4, 4),
        (256, 64, 64, 4, 4),
        (128, 64, 64, 4, 4),
        (64, 128, 64, 4, 4),
        (128, 64, 128, 4, 4),
        (64, 128, 128, 4, 4),
        (64, 64, 64, 4, 5),
        (64, 64, 128, 4, 3),
        (32, 128, 128, 4, 4),
        (32, 64, 128, 4, 5),
        (16, 128, 128, 4, 4),
        (16, 64, 128, 4, 5),
        (16, 64, 256, 4, 4),
    ),
    "sm_90": (
        (128, 256, 128, 8, 3),
        (128, 256, 128, 8, 4),
        (256, 128, 128, 8, 3),
        (256, 128, 128, 8, 4),
        (128, 128, 128, 8, 4),
        (128, 128, 128, 4, 4),
        (128, 128, 128, 4, 3),
        (64, 256, 128, 4, 4),
        (128, 64, 128, 4, 4),
        (64, 128, 128, 4, 4),
        (64, 128, 128, 4, 6),
        (64, 64, 128, 4, 6),
        (64, 64, 256, 4, 4),
        (32, 128, 128, 4, 5),
        (32, 64, 256, 4, 4),
        (16, 128, 128, 4, 5),
        (16, 64, 128, 4, 6),
        (16, 64, 256, 4, 4),
    ),
    "sm_100": (
        (128, 256, 128, 8, 4),
        (256, 128, 128, 8, 4),
        (128, 128, 128, 4, 4),
        (128, 128, 128, 4, 6),
        (128, 128, 128, 8, 4),
        (128, 64, 128, 4, 6),
        (64, 128, 128, 4, 6),
        (64, 256, 128, 4, 4),
        (64, 64, 128, 4, 6),
        (32, 128, 128, 4, 5),
        (32, 64, 256, 4, 4),
        (16, 128, 128, 4, 5),
        (16, 64, 128, 4, 6),
        (16, 64, 256, 4, 4),
    ),
    "cdna": (
        (256, 256, 64, 8, 2),
        (256, 128, 128, 8, 2),
        (128, 256, 128, 8, 2),
        (256, 128, 64, 4, 2),
        (128, 128, 128, 4, 2),
        (128, 128, 128, 8, 2),
        (128, 128, 64, 4, 2),
        (128, 64, 128, 4, 2),
        (64, 128, 128, 4, 2),
        (64, 64, 128, 4, 2),
        (32, 128, 128, 4, 2),
        (32, 64, 256, 4, 2),
        (16, 128, 128, 4, 2),
        (16, 64, 256, 4, 2),
    ),
}
RAGGED_TILES = (
    (128, 64, 32, 8, 2),
    (64, 64, 64, 8, 2),
    (64, 64, 32, 4, 2),
    (32, 64, 64, 4, 2),
    (16, 64, 64, 4, 2),
)
"""For NVIDIA where rows of A or B do not start at multiples of 16 bytes: each element has a load of its own, and larger tiles spill."""

FP32_TILES = (
    (128, 128, 64, 8, 3),
    (128, 64, 64, 8, 3),
    (64, 128, 64, 8, 3),
    (64, 64, 64, 8, 3),
    (64, 32, 64, 4, 3),
    (32, 32, 64, 4, 3),
    (16, 32, 64, 4, 3),
)
"""fp32 is computed outside tensor cores, each thread holding its part of both operands: larger tiles spill."""

LARGEST_GROUPED_TILE = 128 * 256

MMA_SYNC = {"sm_120": "sm_80"}
"""Tensor cores programmed as those of another family."""

SMALLEST_K = {1: 32, 2: 16, 4: 16, 8: 16}
"""By bytes of an element: the fewest terms of a tl.dot on any chip."""

# BLOCK_M, BLOCK_N, num_warps, num_stages, SUBTILES, FLATTEN, SPECIALIZE, HOST; a row of A's tile has 128 bytes, as wide as TMA swizzles.
PERSISTENT_TILES: dict[str, tuple[tuple[int, int, int, int, int, int, int, int], ...]] = {
    "interpreter": ((64, 64, 4, 1, 2, 0, 0, 1),),
    # SPECIALIZE with SUBTILES=0 (C stored through pointers) is left out: on an H200 with Triton 3.6 its results were wrong, 7 of 7.
    "sm_90": (
        (128, 256, 4, 4, 2, 0, 1, 0),
        (128, 256, 4, 3, 1, 0, 1, 0),
        (128, 256, 4, 3, 2, 0, 1, 0),
        (256, 128, 4, 4, 2, 0, 1, 0),
        (128, 256, 8, 4, 2, 1, 0, 1),
        (128, 256, 8, 3, 1, 1, 0, 1),
        (128, 256, 8, 3, 1, 0, 0, 1),
        (128, 256, 8, 3, 2, 1, 0, 1),
        (256, 128, 8, 4, 2, 1, 0, 1),
        (128, 128, 4, 5, 1, 0, 1, 0),
        (128, 128, 4, 4, 1, 0, 1, 0),
        (128, 128, 8, 5, 1, 1, 0, 1),
        (128, 128, 4, 4, 1, 1, 0, 1),
        (64, 256, 4, 4, 1, 1, 0, 1),
        (128, 64, 4, 6, 1, 1, 0, 1),
        (64, 128, 4, 6, 1, 1, 0, 1),
    ),
    "sm_100": (
        (128, 256, 8, 4, 2, 1, 1, 1),
        (128, 256, 4, 4, 2, 1, 1, 1),
        (128, 256, 8, 3, 1, 1, 1, 1),
        (128, 256, 8, 4, 2, 1, 0, 1),
        (128, 256, 4, 4, 2, 1, 0, 1),
        (128, 256, 8, 3, 2, 1, 1, 1),
        (256, 128, 8, 4, 2, 1, 1, 1),
        (128, 128, 8, 5, 1, 1, 1, 1),
        (128, 128, 4, 6, 2, 1, 1, 1),
        (128, 128, 4, 5, 1, 1, 0, 1),
        (128, 64, 4, 6, 1, 1, 1, 1),
        (64, 128, 4, 6, 1, 1, 0, 1),
    ),
    "sm_120": (
        (128, 128, 4, 2, 2, 1, 0, 1),
        (128, 64, 4, 3, 1, 1, 0, 1),
        (64, 128, 4, 3, 1, 1, 0, 1),
        (64, 64, 4, 4, 1, 1, 0, 1),
    ),
}
SUBTILES_SPECIALIZED_ON_SM_90 = (3, 9)
"""Triton 3.4 and 3.6 do not compile a kernel that specialises on Hopper and stores C in parts; 3.9 does, those between were not tried."""
PRECISE_TERMS = 128
"""Sums inside Hopper's fp8 tensor cores go to fp32 after so many terms (DeepSeek-V3 technical report, arXiv 2412.19437, section 3.3.2)."""

SPLITS = (1, 2, 4, 8, 16, 32)
"""Parts of k to try for skinny shapes."""
SKINNY_M = 64


def tile_configs(case: Product, machine: Machine) -> list[Config]:
    """Tiles for one program each. The interpreter has one, small."""
    return list(_fitting(case, machine, _tiles(case, machine)))


def grouped_configs(case: Product, machine: Machine) -> list[Config]:
    """Tiles for programs that also look after the list of experts, which leaves fewer registers."""
    return [config for config in tile_configs(case, machine) if config["BLOCK_M"] * config["BLOCK_N"] <= LARGEST_GROUPED_TILE]


def _tiles(case: Product, machine: Machine) -> Iterable[Config]:
    size = DTYPE_BYTES[case.dtype]
    family = MMA_SYNC.get(machine.family, machine.family)
    tiles = TILES[family]
    if family != "interpreter" and case.dtype == "fp32":
        tiles = FP32_TILES
    elif family.startswith("sm_") and min(row_alignment(case)) < 16:
        tiles = RAGGED_TILES
    for block_m, block_n, row_bytes, warps, stages in tiles:
        block_k = max(row_bytes // size, SMALLEST_K[size])
        config = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k, "num_warps": warps, "num_stages": stages}
        config["IMPRECISE"] = _imprecise(case, machine, block_k)
        if machine.family == "cdna":
            yield {**config, "matrix_instr_nonkdim": 16, "waves_per_eu": 0, "kpack": 2 if size < 4 else 1}
        else:
            yield config


def row_alignment(case: Product) -> tuple[int, int]:
    """Bytes at whose multiples the rows of A and of B start, as they lie in memory: the largest power of two."""
    sizes = (columns * DTYPE_BYTES[dtype] for columns, dtype in zip((case.a_shape[1], case.b_shape[1]), case.input_dtypes(), strict=True))
    a, b = (size & -size for size in sizes)
    return a, b


def _imprecise(case: Product, machine: Machine, block_k: int) -> int:
    """Terms that the tensor core may sum itself: no more than one turn of the loop has, or the compiler refuses (seen on an H200)."""
    precise = machine.family == "sm_90" and case.dtype in FLOAT8 and case.math_mode != "fast_accum"
    return min(PRECISE_TERMS, block_k) if precise else 0


def _fitting(case: Product, machine: Machine, configs: Iterable[Config]) -> Iterable[Config]:
    """Those whose tiles fit the shared memory, and whose sums fit the registers."""
    family = MMA_SYNC.get(machine.family, machine.family)
    for config in configs:
        # Promoting sums to fp32 takes registers for both: half of a tile's columns more spill.
        spills = config["IMPRECISE"] > 0 and config["BLOCK_N"] == 256
        # C in four bytes takes as much shared memory on its way to the registers' layout as through TMA.
        staged = family != "interpreter" and config.get("SUBTILES") == 0 and OUTPUT_BYTES[case.output_dtype] == 4
        # mma.sync on int8 sums into a second set of registers.
        spills |= case.dtype == "int8" and family == "sm_80" and config["BLOCK_M"] * config["BLOCK_N"] > 64 * 32 * config["num_warps"]
        # Four warps hold 128 x 256 sums of tensor memory only if no scale or conversion comes between.
        wide = config["BLOCK_M"] * config["BLOCK_N"] > 128 * 128 and config["num_warps"] == 4
        spills |= family == "sm_100" and wide and DTYPE_BYTES[case.dtype] != 2
        if not spills and not staged and shared_bytes(case, config, machine) <= machine.shared_bytes:
            yield config


def persistent_configs(case: Product, machine: Machine, triton: tuple[int, int]) -> list[Config]:
    """Tiles for one program a multiprocessor, loaded through TMA; none where the chip has none."""
    size = DTYPE_BYTES[case.dtype]
    names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages", "SUBTILES", "FLATTEN", "SPECIALIZE", "HOST")
    tiles = (dict(zip(names, values, strict=True)) for values in PERSISTENT_TILES.get(machine.family, ()))
    too_new = machine.family == "sm_90" and triton < SUBTILES_SPECIALIZED_ON_SM_90
    configs = (
        {**tile, "BLOCK_K": 128 // size, "IMPRECISE": _imprecise(case, machine, 128 // size)}
        for tile in tiles
        if not (too_new and tile["SPECIALIZE"] and tile["SUBTILES"] == 2)
    )
    return list(_fitting(case, machine, configs))


def split_configs(case: Product, machine: Machine) -> list[Config]:
    """Tiles no taller than the case needs, each with every number of parts that leaves a part some turns of the loop."""
    if machine.family == "interpreter":
        return [{**config, "SPLIT": 2} for config in tile_configs(case, machine)]
    height = min(max(16, 1 << (case.m - 1).bit_length()), SKINNY_M)
    flat = [config for config in tile_configs(case, machine) if config["BLOCK_M"] <= SKINNY_M and config["BLOCK_N"] <= 128]
    tall = max(config["BLOCK_M"] for config in flat if config["BLOCK_M"] <= height)
    return [
        {**config, "SPLIT": split}
        for config in flat
        if config["BLOCK_M"] == tall
        for split in SPLITS
        if split == 1 or case.k >= 2 * split * config["BLOCK_K"]
    ]
