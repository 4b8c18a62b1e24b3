"""Matrix products on tensor cores from sm_70 on in our CUDA C++ (``mma.cu``), through CuPy. Run on an H200; int8 and Volta's have not.

mma.sync of quad pairs on sm_70, of whole warps from sm_75 on, with asynchronous copies from sm_80 on. Chips from sm_90 on have faster
instructions (wgmma, tcgen05), which Triton and cuBLAS use: there this kernel shows what code written for an A100 reaches.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES
from ..cuda.program import Program, capability, fastest
from ..kernel import Call, Target, kernel
from .case import MatmulCase
from .cupy_simt import layout_defines
from .product import refuses_fp16_sums

NEEDS = {"fp16": (7, 0), "int8": (7, 5), "bf16": (8, 0), "tf32": (8, 0)}
"""The compute capability from which on mma.sync has the dtype in the shapes used here (PTX ISA, "mma", target ISA notes)."""

Config = Mapping[str, int]

BK_BYTES = 64

ASYNC_CONFIGS: tuple[Config, ...] = (
    {"BM": 128, "BN": 128, "WM": 64, "WN": 64, "STAGES": 4},
    {"BM": 128, "BN": 256, "WM": 64, "WN": 64, "STAGES": 3},
    {"BM": 256, "BN": 128, "WM": 64, "WN": 64, "STAGES": 3},
    {"BM": 64, "BN": 64, "WM": 32, "WN": 32, "STAGES": 5},
)
"""Tile sizes to choose from where copies are asynchronous: large ones reuse more, the last one gives small products more blocks.
All fit the 99 KiB of sm_86, sm_89 and sm_120."""

CONFIGS: tuple[Config, ...] = (
    {"BM": 128, "BN": 128, "WM": 64, "WN": 64, "STAGES": 2},
    {"BM": 64, "BN": 64, "WM": 32, "WN": 32, "STAGES": 2},
)
"""Where data passes through registers."""

RAGGED_CONFIGS = CONFIGS[1:]
"""Where it does so element by element: those of a small tile fit into registers."""


def line_bytes(along_k: bool, side: int, itemsize: int) -> int:
    """From one line of an operand's tile to the next in shared memory, as ``mma.cu`` has it."""
    return BK_BYTES + 16 if along_k else side * itemsize + (32 if itemsize == 4 else 16)


def program(case: MatmulCase, config: Config, on: tuple[int, int]) -> Program:
    """The CUDA program for a case on a chip of this compute capability."""
    itemsize, layout = DTYPE_BYTES[case.dtype], layout_defines(case)
    bk = BK_BYTES // itemsize
    stage = sum(
        line_bytes(along_k, side, itemsize) * (side if along_k else bk)
        for along_k, side in ((case.layout[0] == "n", config["BM"]), (case.layout[1] == "t", config["BN"]))
    )
    threads = config["BM"] // config["WM"] * (config["BN"] // config["WN"]) * 32
    defines: tuple[tuple[str, int | str], ...] = (("DTYPE", case.dtype.upper()), *layout, *config.items())
    warp = "matmul/mma_warp.cu" if on >= (7, 5) else "matmul/mma_warp_volta.cu"
    files = ("matmul/tile_order.cu", "matmul/mma_operand.cu", warp, "matmul/mma.cu")
    return Program("matmul", files, defines, threads, config["STAGES"] * stage)


def configs(case: MatmulCase, on: tuple[int, int]) -> tuple[Config, ...]:
    """What can be chosen for a case on a chip of this compute capability."""
    vectors = dict(layout_defines(case))
    if not (vectors["A_VECTOR"] and vectors["B_VECTOR"]):
        return RAGGED_CONFIGS
    return ASYNC_CONFIGS if on >= (8, 0) else CONFIGS


def refuses(case: MatmulCase, target: Target) -> str | None:
    if target.kind != "cuda":
        return "mma.sync is an instruction of NVIDIA's chips"
    reason = refuses_fp16_sums(case)
    if reason is not None:
        return reason
    if case.dtype not in NEEDS:
        return f"no mma.sync kernel for {case.dtype}; it computes {', '.join(NEEDS)}"
    needs = NEEDS[case.dtype]
    if target.compute_capability is not None and target.compute_capability < needs:
        return f"{case.dtype} with mma.sync needs compute capability {needs[0]}.{needs[1]}"
    if case.dtype == "int8" and case.layout != "nt":
        return "tensor cores take four int8 at once that are neighbours along k: both operands have them in layout nt only"
    return None


def named(config: Config) -> str:
    """A configuration as the ``config`` column has it."""
    return ";".join(f"{name}={value}" for name, value in config.items())


@kernel("matmul", "cupy", "cupy.matmul.mma", refuses)
def matmul(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    sizes = (np.int32(case.m), np.int32(case.n), np.int32(case.k))
    on, launches = capability(), {}

    def start(config: Config, into: Array) -> None:
        name = named(config)
        if name not in launches:
            launches[name] = program(case, config, on).load()
        launches[name](-(-case.m // config["BM"]) * -(-case.n // config["BN"]), (*inputs, into, *sizes))

    choices = configs(case, on)
    # Tried out on an output of its own, so that what the check sees comes from the call that is timed.
    scratch = arrays.unwritten((case.m, case.n), case.output_dtype) if len(choices) > 1 else output
    choice = fastest(choices, lambda config: start(config, scratch))

    def run() -> Array:
        start(choice, output)
        return output

    run.config = named(choice)  # type: ignore[attr-defined]
    return run


def every_program(on: tuple[int, int]) -> list[Program]:
    """Variants that a chip of this compute capability may be given, for the compiler's proof; ragged rows in one layout."""
    found = []
    for dtype, (layout, n) in itertools.product(NEEDS, (("nn", 1024), ("nt", 1024), ("tn", 1024), ("nt", 1023))):
        case = MatmulCase(m=n, n=n, k=n, dtype=dtype, layout=layout)
        if refuses(case, Target("cuda", on)) is None:
            found += [program(case, config, on) for config in configs(case, on)]
    return found
