"""AdamW in Triton: one pass, in place, computed in fp32; ``memory/triton_stream.py`` says how. Run on an H200."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arrays import Array, Arrays, Output
from ..kernel import Call, kernel
from ..memory.refusing import not_triton
from ..memory.triton_stream import CONFIGS, elementwise, grid, launch_options
from ..triton_tools import jit
from .case import BETA1, BETA2, DECAY, EPSILON, ROOT_FACTOR, STEP_SIZE, AdamCase

if TYPE_CHECKING:
    import triton.language as tl


@jit
def adam_block(  # type: ignore[no-untyped-def]
    p, m, v, g, elements, beta1, rest1, beta2, rest2, decay, step_size, root_factor, epsilon, BLOCK: tl.constexpr, STREAM: tl.constexpr
):
    """One step of BLOCK parameters p and their moments m and v with gradients g; rest1 = 1 - beta1, rest2 = 1 - beta2."""
    EVICT: tl.constexpr = "evict_first" if STREAM else ""
    WRITE: tl.constexpr = ".cs" if STREAM else ""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    p, m, v, g, places = p + start, m + start, v + start, g + start, tl.arange(0, BLOCK)
    if start + BLOCK <= elements:
        gradient = tl.load(g + places, eviction_policy=EVICT).to(tl.float32)
        first = beta1 * tl.load(m + places, eviction_policy=EVICT) + rest1 * gradient
        second = beta2 * tl.load(v + places, eviction_policy=EVICT) + rest2 * gradient * gradient
        old = tl.load(p + places, eviction_policy=EVICT).to(tl.float32)
        new = decay * old - step_size * first / (tl.sqrt(second) * root_factor + epsilon)
        tl.store(m + places, first, cache_modifier=WRITE)
        tl.store(v + places, second, cache_modifier=WRITE)
        tl.store(p + places, new.to(p.dtype.element_ty), cache_modifier=WRITE)
    else:
        inside = places < elements - start
        gradient = tl.load(g + places, mask=inside, other=0.0).to(tl.float32)
        first = beta1 * tl.load(m + places, mask=inside, other=0.0) + rest1 * gradient
        second = beta2 * tl.load(v + places, mask=inside, other=0.0) + rest2 * gradient * gradient
        old = tl.load(p + places, mask=inside, other=0.0).to(tl.float32)
        new = decay * old - step_size * first / (tl.sqrt(second) * root_factor + epsilon)
        tl.store(m + places, first, mask=inside)
        tl.store(v + places, second, mask=inside)
        tl.store(p + places, new.to(p.dtype.element_ty), mask=inside)


LAYOUTS = tuple(config for config in CONFIGS if config["BLOCK"] <= 16 * 32 * config["num_warps"])
"""Four arrays at once: with 32 elements a thread its registers spill on sm_80."""

CONSTANTS = (BETA1, 1 - BETA1, BETA2, 1 - BETA2, DECAY, STEP_SIZE, ROOT_FACTOR, EPSILON)
"""In the order of the kernel's arguments, computed in fp64."""


@kernel("adam", "triton", "triton.adamw", not_triton)
def adam(case: AdamCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    gradients = inputs[1]
    case.begin(inputs, output)

    def launch(config: dict[str, int], p: Array, m: Array, v: Array) -> None:
        adam_block()[grid(case.elements, config)](p, m, v, gradients, case.elements, *CONSTANTS, **launch_options(config))

    return elementwise("triton.adamw", case.dtype, case.elements, output, launch, LAYOUTS)
