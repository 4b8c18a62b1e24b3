"""What the arithmetic knows of a chip, and what a product cut into tiles would cost on it: the early pruning of the search for the fastest.

Not yet compared with a GPU: the tables come from data sheets. A wrong one makes the search longer, or lets it miss a candidate that the
arithmetic thinks hopeless (``tuning.COSTLIER``); what is reported is always measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..arrays import Array
from ..case import DTYPE_BYTES
from ..kernel import Target
from ..triton_tools import multiprocessors, target_of
from .grouped_case import GroupedMatmulCase
from .product import FLOAT8, OUTPUT_BYTES, Product
from .triton_common import tiles_of


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

    def resident(self, case: Product, config: Mapping[str, int]) -> int:
        """How many programs with these tiles run on one multiprocessor at a time, at most: by shared memory and threads."""
        if self.family == "interpreter":
            return 1
        by_memory = self.shared_bytes // (shared_bytes(case, config, self) + RESERVED_BYTES)
        by_threads = MOST_THREADS // (config["num_warps"] * (64 if self.family == "cdna" else 32) * REGISTERS_SHARE)
        return max(1, min(by_memory, by_threads))

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
REGISTERS_SHARE = 4
"""With the 128 registers a thread and more that a tile takes, 65536 of them are enough for a quarter of those threads."""
RESERVED_BYTES = 1024
"""Of shared memory, kept by the system for each block: CUDA C++ Programming Guide, section on compute capability 9.0."""
RATE = {"fp8_e4m3": 2.0, "fp8_e5m2": 2.0, "int8": 2.0, "fp16": 1.0, "bf16": 1.0, "tf32": 0.5, "fp32": 1 / 16, "fp64": 1 / 32}
"""Arithmetic rate as a multiple of bf16's, on tensor cores where the dtype has them: NVIDIA H100 data sheet."""


def shared_bytes(case: Product, config: Mapping[str, int], machine: Machine) -> int:
    """Shared memory of the tiles on their way, and of what C is stored through.

    Tensor cores that read shared memory themselves (wgmma, tcgen05) hold a buffer longer: elsewhere one stage less is enough.
    """
    a, b = (DTYPE_BYTES[dtype] for dtype in case.input_dtypes())
    stage = (config["BLOCK_M"] * a + config["BLOCK_N"] * b) * config["BLOCK_K"]
    less = machine.family not in ("sm_90", "sm_100") or config["BLOCK_M"] < 64 or case.dtype == "fp32"
    buffers = max(config["num_stages"] - less, 1)
    parts = config.get("SUBTILES", 0)
    if machine.family == "sm_100" and case.dtype in FLOAT8 and parts == 2 and config["num_warps"] == 8:
        parts = 1  # each half of the scaled tile changes its layout on the way
    epilogue = config["BLOCK_M"] * config["BLOCK_N"] * OUTPUT_BYTES[case.output_dtype] // parts if parts else 0
    return stage * buffers + epilogue


def tile_cost(case: Product, config: Mapping[str, int], machine: Machine, batches: int = 1) -> float:
    """Clocks that the product would take: a roofline of one multiprocessor, in whole turns of all of them. Good for ordering only.

    A tile takes the longer of its arithmetic and of loading its operands from the L2 cache, and TURN_CLOCKS unless another tile on the
    same multiprocessor hides them. The tiles take turns: 133 tiles on 132 multiprocessors take two. Main memory must bring everything
    once, at its peak if enough bytes are on their way (Little's law: bandwidth times latency), which a few narrow tiles do not have:
    what splitting k is for.
    """
    parts = config.get("SPLIT", 1)
    cost = _clocks(case, config, machine, tiles_of(case, config) * batches * parts, case.k / parts)
    adding = LAUNCH_CLOCKS + 4 * batches * case.m * case.n * parts / machine.dram_bytes_per_clock
    return cost + (adding if parts > 1 else 0)


def grouped_cost(case: GroupedMatmulCase, config: Mapping[str, int], machine: Machine) -> float:
    """``tile_cost`` of a grouped product: each expert has tiles of its own, full or not."""
    columns = -(-case.n // config["BLOCK_N"])
    return _clocks(case, config, machine, sum(-(-rows // config["BLOCK_M"]) for rows in case.row_counts()) * columns, case.k)


def _clocks(case: Product, config: Mapping[str, int], machine: Machine, tiles: int, k: float) -> float:
    """Clocks for so many tiles with so many terms each."""
    a, b = (DTYPE_BYTES[dtype] for dtype in case.input_dtypes())
    arithmetic = 2 * config["BLOCK_M"] * config["BLOCK_N"] * k / (machine.flops_per_clock * RATE[case.dtype])
    term_bytes = config["BLOCK_M"] * a + config["BLOCK_N"] * b
    loading = term_bytes * k / L2_BYTES_PER_CLOCK
    turns = -(-tiles // machine.multiprocessors)
    resident = machine.resident(case, config)
    in_turns = turns * (max(arithmetic, loading) + TURN_CLOCKS / resident)

    stages_ahead = max(config.get("num_stages", 2) - 1, 1)
    on_their_way = min(tiles, machine.multiprocessors * resident) * term_bytes * config["BLOCK_K"] * stages_ahead
    return max(in_turns, case.bytes / min(machine.dram_bytes_per_clock, on_their_way / LATENCY_CLOCKS))
