"""Attention forward on tensor cores from sm_70 on in our CUDA C++ (``flash.cu``), through CuPy.

Run on an H200; Volta's instructions have not.

mma.sync throughout: on chips from sm_90 on it shows what code written for an A100 reaches.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..arrays import Array, Arrays
from ..cuda.program import Program, capability, fastest
from ..kernel import Call, Target, kernel
from .case import AttentionCase

Config = Mapping[str, int]

NEEDS = {"fp16": (7, 0), "bf16": (8, 0)}
"""The compute capability from which on mma.sync has the dtype (PTX ISA, "mma", target ISA notes)."""

WIDEST = 256
"""Columns of keys or values: what a thread holds of 16 queries' outputs fills half its registers then."""

SEES_ALL = 2**30
"""A window longer than any sequence here."""


def padded(width: int) -> int:
    """Columns in shared memory: whole instructions of 16.

    >>> padded(64), padded(65)
    (64, 80)
    """
    return -(-width // 16) * 16


def program(case: AttentionCase, config: Config, on: tuple[int, int]) -> Program:
    """The CUDA program for a case on a chip of this compute capability."""
    dim, dim_v, (bq, bkv) = padded(case.head_dim), padded(case.dim_v), (config["BQ"], config["BKV"])
    volta = on < (7, 5)
    defines = (
        ("DTYPE", case.dtype.upper()),
        ("DIM", dim),
        ("DIM_V", dim_v),
        ("VECTOR", int(case.head_dim % 8 == 0 and case.dim_v % 8 == 0)),
        ("CAUSAL", int(case.causal)),
        ("BQ", bq),
        ("BKV", bkv),
    )
    shared = (bq + bkv) * (2 * dim + 16) + bkv * (2 * dim_v + 16) + (bq * (2 * bkv + 16) if volta else 0)
    warp = "attention/flash_warp_volta.cu" if volta else "attention/flash_warp.cu"
    return Program("attention", (warp, "attention/flash.cu"), defines, bq // 16 * 32, shared)


def configs(case: AttentionCase, on: tuple[int, int]) -> tuple[Config, ...]:
    """What can be chosen for a case: with wide heads fewer keys at a time, so that registers and the 64 KiB of sm_75 suffice."""
    if max(case.head_dim, case.dim_v) > 128:
        return ({"BQ": 64 if on >= (8, 0) else 32, "BKV": 32},)
    if on < (8, 0):
        return ({"BQ": 64, "BKV": 64}, {"BQ": 128, "BKV": 32})
    return ({"BQ": 128, "BKV": 64}, {"BQ": 64, "BKV": 64}, {"BQ": 128, "BKV": 32})


def refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind != "cuda":
        return "mma.sync is an instruction of NVIDIA's chips"
    if case.backward:
        return "this kernel computes attention forward only"
    if case.dtype not in NEEDS:
        return f"no mma.sync attention for {case.dtype}; it computes {', '.join(NEEDS)}"
    needs = NEEDS[case.dtype]
    if target.compute_capability is not None and target.compute_capability < needs:
        return f"{case.dtype} with mma.sync needs compute capability {needs[0]}.{needs[1]}"
    if max(case.head_dim, case.dim_v) > WIDEST:
        return f"heads wider than {WIDEST} do not fit into a thread's registers; use cupy.attention.unfused"
    return None


def named(config: Config) -> str:
    """A configuration as the ``config`` column has it."""
    return ";".join(f"{name}={value}" for name, value in config.items())


@kernel("attention", "cupy", "cupy.attention.mma", refuses)
def attention(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    on, launches, heads = capability(), {}, case.batch * case.heads
    sizes = (heads, case.group, case.seq_q, case.seq_kv, case.head_dim, case.dim_v, case.window or SEES_ALL)
    numbers = (*(np.int32(size) for size in sizes), np.float32(case.scale))

    def start(config: Config, into: Array) -> None:
        name = named(config)
        if name not in launches:
            launches[name] = program(case, config, on).load()
        launches[name](-(-case.seq_q // config["BQ"]) * heads, (*inputs, into, *numbers))

    choices = configs(case, on)
    # Tried out on an output of its own, so that what the check sees comes from the call that is timed.
    scratch = arrays.unwritten(output.shape, case.dtype) if len(choices) > 1 else output
    choice = fastest(choices, lambda config: start(config, scratch))

    def run() -> Array:
        start(choice, output)
        return output

    run.config = named(choice)  # type: ignore[attr-defined]
    return run


def every_program(on: tuple[int, int]) -> list[Program]:
    """Variants that a chip of this compute capability may be given, for the compiler's proof: common and ragged widths."""
    found = []
    for dtype, dim, dim_v, causal in (
        ("fp16", 64, 64, False),
        ("fp16", 128, 128, True),
        ("bf16", 128, 128, False),
        ("bf16", 80, 80, True),
        ("fp16", 192, 128, True),
        ("fp16", 256, 256, True),
        ("fp16", 65, 63, True),
    ):
        case = AttentionCase(batch=1, heads=1, kv_heads=1, seq_q=64, seq_kv=64, head_dim=dim, head_dim_v=dim_v, causal=causal, dtype=dtype)
        if refuses(case, Target("cuda", on)) is None:
            found += [program(case, config, on) for config in configs(case, on)]
    return found
