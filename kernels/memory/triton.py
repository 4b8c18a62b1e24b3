"""Read, copy, scale and triad in Triton; ``triton_stream.py`` says how. Run on an H200."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..triton_tools import jit, launcher, multiprocessors, named, refuses_target
from .case import PARTIAL_SUMS, SCALAR, CopyCase, ReadCase, ScaleCase, TriadCase
from .refusing import not_triton
from .triton_stream import CONFIGS, bits, choose, elementwise, grid, launch_options, size_class

if TYPE_CHECKING:
    import triton.language as tl

READ_CONFIGS: tuple[dict[str, int], ...] = tuple(
    {"BLOCK": block, "PROGRAMS_PER_CORE": programs, "num_warps": warps}
    for block, warps in ((4096, 4), (8192, 8), (8192, 4), (16384, 8), (2048, 4))
    for programs in (8, 16, 4)
)
"""Layouts of a read to try on a GPU: each multiprocessor gets so many programs, which share the blocks."""


@jit
def read_blocks(a, sums, elements, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """sums[program] = the sum of every num_programs-th block of a."""
    program, places = tl.program_id(0), tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=sums.dtype.element_ty)
    whole = elements // BLOCK
    for block in range(program, whole, tl.num_programs(0)):
        piece = a + tl.cast(block, tl.int64) * BLOCK
        total += tl.load(piece + places, eviction_policy="evict_first").to(sums.dtype.element_ty)
    if program == whole % tl.num_programs(0):  # the ragged block
        inside = places < elements - whole * BLOCK
        total += tl.load(a + tl.cast(whole, tl.int64) * BLOCK + places, mask=inside, other=0.0).to(sums.dtype.element_ty)
    tl.store(sums + program, tl.sum(total, 0))


@jit
def copy_block(a, c, elements, BLOCK: tl.constexpr, STREAM: tl.constexpr):  # type: ignore[no-untyped-def]
    """c = a, integers standing for elements of any kind."""
    EVICT: tl.constexpr = "evict_first" if STREAM else ""
    WRITE: tl.constexpr = ".cs" if STREAM else ""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    a, c, places = a + start, c + start, tl.arange(0, BLOCK)
    if start + BLOCK <= elements:
        tl.store(c + places, tl.load(a + places, eviction_policy=EVICT), cache_modifier=WRITE)
    else:
        inside = places < elements - start
        tl.store(c + places, tl.load(a + places, mask=inside), mask=inside)


@jit
def scale_block(a, c, elements, scalar, BLOCK: tl.constexpr, STREAM: tl.constexpr):  # type: ignore[no-untyped-def]
    """c = scalar a, computed in fp32 and rounded once."""
    EVICT: tl.constexpr = "evict_first" if STREAM else ""
    WRITE: tl.constexpr = ".cs" if STREAM else ""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    a, c, places = a + start, c + start, tl.arange(0, BLOCK)
    if start + BLOCK <= elements:
        x = tl.load(a + places, eviction_policy=EVICT).to(tl.float32)
        tl.store(c + places, (scalar * x).to(c.dtype.element_ty), cache_modifier=WRITE)
    else:
        inside = places < elements - start
        x = tl.load(a + places, mask=inside).to(tl.float32)
        tl.store(c + places, (scalar * x).to(c.dtype.element_ty), mask=inside)


@jit
def triad_block(a, b, c, elements, scalar, BLOCK: tl.constexpr, STREAM: tl.constexpr):  # type: ignore[no-untyped-def]
    """c = a + scalar b, computed in fp32 and rounded once."""
    EVICT: tl.constexpr = "evict_first" if STREAM else ""
    WRITE: tl.constexpr = ".cs" if STREAM else ""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    a, b, c, places = a + start, b + start, c + start, tl.arange(0, BLOCK)
    if start + BLOCK <= elements:
        x = tl.load(a + places, eviction_policy=EVICT).to(tl.float32)
        y = tl.load(b + places, eviction_policy=EVICT).to(tl.float32)
        tl.store(c + places, (x + scalar * y).to(c.dtype.element_ty), cache_modifier=WRITE)
    else:
        inside = places < elements - start
        x = tl.load(a + places, mask=inside).to(tl.float32)
        y = tl.load(b + places, mask=inside).to(tl.float32)
        tl.store(c + places, (x + scalar * y).to(c.dtype.element_ty), mask=inside)


@kernel("read", "triton", "triton.read", not_triton)
def read(case: ReadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (a,) = inputs
    count = multiprocessors(a)

    def programs(config: dict[str, int]) -> int:
        return min(-(-case.elements // config["BLOCK"]), count * config["PROGRAMS_PER_CORE"], PARTIAL_SUMS)

    def launch(config: dict[str, int], sums: Array) -> None:
        fixed = {name: value for name, value in launch_options(config).items() if name != "PROGRAMS_PER_CORE"}
        read_blocks()[(programs(config),)](a, sums, case.elements, **fixed)

    key: dict[str, str | int | bool] = {"dtype": case.dtype, "elements": size_class(case.elements)}
    config = choose("triton.read", key, READ_CONFIGS, output, launch)
    return named(launcher(lambda sums: launch(config, sums), output[: programs(config)]), config)


def copy_refuses(case: CopyCase, target: Target) -> str | None:
    return refuses_target(target)


@kernel("copy", "triton", "triton.copy", copy_refuses)
def copy(case: CopyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    a, c = bits(inputs[0]), bits(output)

    def launch(config: dict[str, int], c: Array) -> None:
        copy_block()[grid(case.elements, config)](a, c, case.elements, **launch_options(config))

    config = choose("triton.copy", {"dtype": case.dtype, "elements": size_class(case.elements)}, CONFIGS, c, launch)

    def run() -> Array:
        launch(config, c)
        return output

    return named(run, config)


@kernel("scale", "triton", "triton.scale", not_triton)
def scale(case: ScaleCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (a,) = inputs

    def launch(config: dict[str, int], c: Array) -> None:
        scale_block()[grid(case.elements, config)](a, c, case.elements, SCALAR, **launch_options(config))

    return elementwise("triton.scale", case.dtype, case.elements, output, launch)


@kernel("triad", "triton", "triton.triad", not_triton)
def triad(case: TriadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    a, b = inputs

    def launch(config: dict[str, int], c: Array) -> None:
        triad_block()[grid(case.elements, config)](a, b, c, case.elements, SCALAR, **launch_options(config))

    return elementwise("triton.triad", case.dtype, case.elements, output, launch)
