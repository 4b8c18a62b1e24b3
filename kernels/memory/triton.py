"""Copy and triad in Triton: one program a block, ragged end masked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..triton_tools import jit, launcher, options, refuses_target
from .case import TRIAD_SCALAR, CopyCase, TriadCase

if TYPE_CHECKING:
    import triton.language as tl

BLOCK = 4096
"""Elements a program: 16 bytes or more for each of its 128 threads, several times over."""


@jit
def copy_block(a, c, elements, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """c = a."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < elements
    tl.store(c + place, tl.load(a + place, mask=inside), mask=inside)


@jit
def triad_block(a, b, c, elements, scalar, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """c = a + scalar b, computed in fp32 and rounded once."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < elements
    x = tl.load(a + place, mask=inside).to(tl.float32)
    y = tl.load(b + place, mask=inside).to(tl.float32)
    tl.store(c + place, (x + scalar * y).to(c.dtype.element_ty), mask=inside)


def copy_refuses(case: CopyCase, target: Target) -> str | None:
    if case.dtype.startswith("fp8"):
        return f"no Triton kernel for {case.dtype}"
    return refuses_target(target)


@kernel("copy", "triton", "triton.copy", copy_refuses)
def copy(case: CopyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (a,) = inputs
    grid = (-(-case.elements // BLOCK),)
    block = copy_block()
    return launcher(lambda out: block[grid](a, out, case.elements, BLOCK=BLOCK, **options()), output)


def triad_refuses(case: TriadCase, target: Target) -> str | None:
    if case.dtype not in ("fp32", "fp16", "bf16"):
        return f"the Triton triad adds in fp32, so it takes fp32, fp16 and bf16, not {case.dtype}"
    return refuses_target(target)


@kernel("triad", "triton", "triton.triad", triad_refuses)
def triad(case: TriadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    a, b = inputs
    grid = (-(-case.elements // BLOCK),)
    block = triad_block()
    return launcher(lambda out: block[grid](a, b, out, case.elements, TRIAD_SCALAR, BLOCK=BLOCK, **options()), output)
