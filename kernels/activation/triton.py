"""GELU and SwiGLU in Triton, one pass each; ``memory/triton_stream.py`` says how. Run on an H200."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from ..memory.refusing import not_triton
from ..memory.triton_stream import elementwise, grid, launch_options
from ..triton_tools import inlined, jit
from .case import GELU_CUBIC, GELU_FACTOR, GeluCase, SwigluCase

if TYPE_CHECKING:
    import triton.language as tl


@inlined
def gelu(x, factor, cubic):  # type: ignore[no-untyped-def]
    """x / 2 (1 + tanh(z)) as x / (1 + exp(-2 z)): the same, and precise where tanh(z) nears -1."""
    return x / (1.0 + tl.exp(-2.0 * factor * x * (1.0 + cubic * x * x)))


@jit
def gelu_block(x, y, elements, factor, cubic, BLOCK: tl.constexpr, STREAM: tl.constexpr):  # type: ignore[no-untyped-def]
    """y = gelu(x)."""
    EVICT: tl.constexpr = "evict_first" if STREAM else ""
    WRITE: tl.constexpr = ".cs" if STREAM else ""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    x, y, places = x + start, y + start, tl.arange(0, BLOCK)
    if start + BLOCK <= elements:
        values = tl.load(x + places, eviction_policy=EVICT).to(tl.float32)
        tl.store(y + places, gelu(values, factor, cubic).to(y.dtype.element_ty), cache_modifier=WRITE)
    else:
        inside = places < elements - start
        values = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
        tl.store(y + places, gelu(values, factor, cubic).to(y.dtype.element_ty), mask=inside)


@jit
def swiglu_block(a, b, c, elements, BLOCK: tl.constexpr, STREAM: tl.constexpr):  # type: ignore[no-untyped-def]
    """c = a / (1 + exp(-a)) b."""
    EVICT: tl.constexpr = "evict_first" if STREAM else ""
    WRITE: tl.constexpr = ".cs" if STREAM else ""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    a, b, c, places = a + start, b + start, c + start, tl.arange(0, BLOCK)
    if start + BLOCK <= elements:
        x = tl.load(a + places, eviction_policy=EVICT).to(tl.float32)
        y = tl.load(b + places, eviction_policy=EVICT).to(tl.float32)
        tl.store(c + places, (x / (1.0 + tl.exp(-x)) * y).to(c.dtype.element_ty), cache_modifier=WRITE)
    else:
        inside = places < elements - start
        x = tl.load(a + places, mask=inside, other=0.0).to(tl.float32)
        y = tl.load(b + places, mask=inside, other=0.0).to(tl.float32)
        tl.store(c + places, (x / (1.0 + tl.exp(-x)) * y).to(c.dtype.element_ty), mask=inside)


@kernel("gelu", "triton", "triton.gelu", not_triton)
def gelu_call(case: GeluCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (x,) = inputs

    def launch(config: dict[str, int], y: Array) -> None:
        constants = launch_options(config)
        gelu_block()[grid(case.elements, config)](x, y, case.elements, GELU_FACTOR, GELU_CUBIC, **constants)

    return elementwise("triton.gelu", case.dtype, case.elements, output, launch)


@kernel("swiglu", "triton", "triton.swiglu", not_triton)
def swiglu_call(case: SwigluCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    a, b = inputs

    def launch(config: dict[str, int], c: Array) -> None:
        swiglu_block()[grid(case.elements, config)](a, b, c, case.elements, **launch_options(config))

    return elementwise("triton.swiglu", case.dtype, case.elements, output, launch)
