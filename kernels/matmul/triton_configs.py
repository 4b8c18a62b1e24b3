"""Which tiles are worth trying on which chip, and what each would cost by arithmetic: the early pruning of the search for the fastest.

``Machine`` is what the arithmetic knows of a chip, ``tile_configs``, ``split_configs`` and ``persistent_configs`` give the candidates that
fit it, and ``tile_cost`` orders them. All of them compile without spilled registers (``tests/kernels/test_triton_matmul.py``). Not yet run
on a GPU: the tables come from the chips' limits and from reading what the compiler made, not from timing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..arrays import Array
from ..case import DTYPE_BYTES
from ..kernel import Target
from ..triton_tools import multiprocessors, target_of
from .product import OUTPUT_BYTES, Product
from .triton_common import tiles_of

Config = dict[str, int]


@dataclass(frozen=True)
class Machine:
    """What decides about tiles."""

    family: str
    """``sm_80``: mma.sync; ``sm_90``: wgmma; ``sm_100``: tcgen05; ``sm_120``: mma.sync and TMA; ``cdna``: mfma; ``interpreter``."""
    multiprocessors: int
    shared_bytes: int
    """Most shared memory of one block."""
    flops_per_clock: int
    """bf16 on one multiprocessor, multiplications and additions counted apart."""
    dram_bytes_per_clock: int

    @classmethod
    def of(cls, array: Array) -> Machine:
        """The machine that a tensor is on."""
        machine = cls.for_target(target_of(array))
        return cls(machine.family, multiprocessors(array), machine.shared_bytes, machine.flops_per_clock, machine.dram_bytes_per_clock)

    @classmethod
    def for_target(cls, target: Target) -> Machine:
        """The best known chip of the target's generation, where the chip itself is not at hand.

        >>> Machine.for_target(Target("cuda", (9, 0))).multiprocessors
        132
        """
        if target.kind == "cpu":
            return MACHINES["interpreter"]
        if target.kind != "cuda":
            return MACHINES["gfx950" if target.architecture == "gfx950" else "gfx942"]
        capability = target.compute_capability or (8, 0)
        return MACHINES[max((name for name in NVIDIA if name <= capability), default=(7, 0))]


MACHINES: dict[object, Machine] = {
    (7, 0): Machine("sm_70", 80, 96 * 1024, 1024, 588),
    (7, 5): Machine("sm_70", 40, 64 * 1024, 1024, 201),
    (8, 0): Machine("sm_80", 108, 163 * 1024, 2048, 1446),
    (8, 6): Machine("sm_80", 84, 99 * 1024, 1024, 400),
    (8, 9): Machine("sm_80", 142, 99 * 1024, 1024, 343),
    (9, 0): Machine("sm_90", 132, 227 * 1024, 4096, 1692),
    (10, 0): Machine("sm_100", 148, 227 * 1024, 8192, 4324),
    (12, 0): Machine("sm_120", 170, 99 * 1024, 1024, 743),
    "gfx942": Machine("cdna", 304, 64 * 1024, 2048, 2524),
    "gfx950": Machine("cdna", 256, 160 * 1024, 4096, 3333),
    "interpreter": Machine("interpreter", 3, 2**30, 1024, 1024),
}
"""Shared memory: CUDA C++ Programming Guide, technical specifications per compute capability; AMD Instinct MI300 and MI350 ISA guides.
The rest are the makers' data sheets, peak over boost clock, of V100, T4, A100, A40, L40S, H100 SXM, B200, RTX 5090, MI300X and MI355X: no
more exact than ordering candidates needs."""

NVIDIA = [name for name in MACHINES if isinstance(name, tuple)]

L2_BYTES_PER_CLOCK = 48
"""What one multiprocessor gets of the L2 cache: 5120 bytes a clock over 108 of them (NVIDIA A100 white paper); of others assumed."""
LATENCY_CLOCKS = 700
"""From asking main memory to the answer: an order of magnitude, chosen. It decides how many bytes must be on their way."""
TURN_CLOCKS = 2 * LATENCY_CLOCKS
"""What a tile costs beside its arithmetic: the pipeline's first fill and the last stores."""
LAUNCH_CLOCKS = 5000
"""A second kernel, some 3 us: an order of magnitude, chosen."""
MOST_THREADS = 2048
"""Of a multiprocessor: CUDA C++ Programming Guide, as above."""
RATE = {"fp8_e4m3": 2.0, "fp8_e5m2": 2.0, "int8": 2.0, "fp16": 1.0, "bf16": 1.0, "tf32": 0.5, "fp32": 1 / 16, "fp64": 1 / 32}
"""Arithmetic rate as a multiple of bf16's, on tensor cores where the dtype has them: NVIDIA H100 data sheet."""

# BLOCK_M, BLOCK_N, bytes of a row of A's tile, num_warps, num_stages.
TILES: dict[str, tuple[tuple[int, int, int, int, int], ...]] = {
    "interpreter": ((32, 64, 128, 4, 1),),
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
        (128, 256, 128, 4, 4),
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
FP32_TILES = (
    (128, 128, 32, 8, 3),
    (128, 64, 64, 8, 3),
    (64, 128, 64, 8, 3),
    (64, 64, 64, 4, 3),
    (64, 32, 64, 4, 3),
    (32, 32, 64, 4, 3),
    (16, 32, 64, 4, 3),
)
"""fp32 is computed outside tensor cores, each thread holding its part of both operands: larger tiles spill."""

SMALLEST_K = {1: 32, 2: 16, 4: 16, 8: 16}
"""By bytes of an element: the fewest terms of a tl.dot on any chip."""

# BLOCK_M, BLOCK_N, num_warps, num_stages, SUBTILES, FLATTEN, SPECIALIZE, HOST; a row of A's tile has 128 bytes, as wide as TMA swizzles.
PERSISTENT_TILES: dict[str, tuple[tuple[int, int, int, int, int, int, int, int], ...]] = {
    "interpreter": ((32, 64, 4, 1, 2, 0, 0, 1),),
    "sm_90": (
        (128, 256, 4, 4, 2, 0, 1, 0),
        (128, 256, 4, 3, 1, 0, 1, 0),
        (128, 256, 4, 4, 0, 0, 1, 0),
        (256, 128, 4, 4, 2, 0, 1, 0),
        (256, 128, 4, 4, 0, 0, 1, 0),
        (128, 256, 8, 4, 2, 1, 0, 1),
        (128, 256, 8, 3, 1, 1, 0, 1),
        (128, 256, 8, 3, 1, 0, 0, 1),
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


def _tiles(case: Product, machine: Machine) -> Iterable[Config]:
    size = DTYPE_BYTES[case.dtype]
    family = {"sm_120": "sm_80"}.get(machine.family, machine.family)  # mma.sync as well
    tiles = FP32_TILES if case.dtype == "fp32" and family != "interpreter" else TILES[family]
    for block_m, block_n, row_bytes, warps, stages in tiles:
        block_k = max(row_bytes // size, SMALLEST_K[size])
        config = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k, "num_warps": warps, "num_stages": stages}
        if machine.family == "cdna":
            yield {**config, "matrix_instr_nonkdim": 16, "waves_per_eu": 0, "kpack": 2 if size < 4 else 1}
        else:
            yield config


def _fitting(case: Product, machine: Machine, configs: Iterable[Config]) -> Iterable[Config]:
    """Those whose tiles fit the shared memory."""
    return (config for config in configs if shared_bytes(case, config, machine) <= machine.shared_bytes)


def persistent_configs(case: Product, machine: Machine, triton: tuple[int, int]) -> list[Config]:
    """Tiles for one program a multiprocessor, loaded through TMA; none where the chip has none."""
    size = DTYPE_BYTES[case.dtype]
    imprecise = PRECISE_TERMS if machine.family == "sm_90" and size == 1 and case.dtype != "int8" else 0
    names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages", "SUBTILES", "FLATTEN", "SPECIALIZE", "HOST")
    tiles = (dict(zip(names, values, strict=True)) for values in PERSISTENT_TILES.get(machine.family, ()))
    too_new = machine.family == "sm_90" and triton < SUBTILES_SPECIALIZED_ON_SM_90
    configs = (
        {**tile, "BLOCK_K": 128 // size, "IMPRECISE": imprecise}
        for tile in tiles
        if not (too_new and tile["SPECIALIZE"] and tile["SUBTILES"] == 2)
    )
    return list(_fitting(case, machine, configs))


def shared_bytes(case: Product, config: Mapping[str, int], machine: Machine) -> int:
    """Shared memory of the tiles on their way, and of what C is stored through.

    Tensor cores that read shared memory themselves (wgmma, tcgen05) hold a buffer longer: elsewhere one stage less is enough.
    """
    a, b = (DTYPE_BYTES[dtype] for dtype in case.input_dtypes())
    stage = (config["BLOCK_M"] * a + config["BLOCK_N"] * b) * config["BLOCK_K"]
    less = "HOST" not in config and machine.family in ("cdna", "sm_70", "sm_80", "sm_120")
    buffers = max(config["num_stages"] - less, 1)
    parts = config.get("SUBTILES", 0)
    epilogue = config["BLOCK_M"] * config["BLOCK_N"] * OUTPUT_BYTES[case.output_dtype] // parts if parts else 0
    return stage * buffers + epilogue


def split_configs(case: Product, machine: Machine) -> list[Config]:
    """Tiles no taller than the case needs, each with every number of parts that leaves a part some turns of the loop."""
    if machine.family == "interpreter":
        return [{**config, "SPLIT": 3} for config in tile_configs(case, machine)]
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


def tile_cost(case: Product, config: Mapping[str, int], machine: Machine, batches: int = 1) -> float:
    """Clocks that the product would take: a roofline of one multiprocessor, in whole turns of all of them.

    A tile takes the longer of its arithmetic and of loading its operands from the L2 cache, and TURN_CLOCKS. The tiles take turns: 133
    tiles on 132 multiprocessors take two. Main memory must bring everything once, at its peak if enough bytes are on their way
    (Little's law: bandwidth times latency), which a few narrow tiles do not have: what splitting k is for. Good for ordering only.
    """
    parts = config.get("SPLIT", 1)
    tiles = tiles_of(case, config) * batches * parts
    k = case.k / parts
    a, b = (DTYPE_BYTES[dtype] for dtype in case.input_dtypes())
    arithmetic = 2 * config["BLOCK_M"] * config["BLOCK_N"] * k / (machine.flops_per_clock * RATE[case.dtype])
    loading = (config["BLOCK_M"] * a + config["BLOCK_N"] * b) * k / L2_BYTES_PER_CLOCK
    turns = -(-tiles // machine.multiprocessors)

    stage = (config["BLOCK_M"] * a + config["BLOCK_N"] * b) * config["BLOCK_K"]
    per_multiprocessor = min(
        machine.shared_bytes // max(shared_bytes(case, config, machine), 1), MOST_THREADS // (32 * config.get("num_warps", 4))
    )
    resident = min(tiles, machine.multiprocessors * max(per_multiprocessor, 1))
    on_their_way = resident * stage * max(config.get("num_stages", 2) - 1, 1)
    bandwidth = min(machine.dram_bytes_per_clock, on_their_way / LATENCY_CLOCKS)
    moving = case.bytes / bandwidth

    adding = LAUNCH_CLOCKS + 4 * batches * case.m * case.n * parts / machine.dram_bytes_per_clock if parts > 1 else 0
    overlapped = 1.0 / max(per_multiprocessor, 1)
    return max(turns * (max(arithmetic, loading) + TURN_CLOCKS * overlapped), moving) + adding
