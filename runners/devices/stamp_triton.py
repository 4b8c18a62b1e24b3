"""The stamp kernel in Triton, for torch images: NVIDIA's counters in PTX, AMD's in GCN assembly. Run on an H200; AMD's have not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chipassay.kernels.triton_tools import jit, options, refuses_target

from .facts import DeviceFacts

if TYPE_CHECKING:
    import triton.language as tl

PTX = "mov.u32 $0, %smid; mov.u32 $1, 0; mov.u64 $2, %clock64; mov.u64 $3, %globaltimer;"
"""PTX ISA, "Special Registers": the multiprocessor, its cycle counter, and the nanosecond timer of the chip."""

GCN = "s_getreg_b32 $0, hwreg(HW_REG_HW_ID, 8, 8)\ns_getreg_b32 $1, {part}\ns_memtime $2\ns_memrealtime $3\ns_waitcnt lgkmcnt(0)"
"""CDNA3 ISA, "Scalar Memory": s_memtime counts the shader clock, s_memrealtime a constant 100 MHz. Bits 8 to 15 of HW_ID tell the
compute unit within its shader engine, and the engine."""
XCC_ID = "hwreg(HW_REG_XCC_ID, 0, 4)"
"""Which die of an MI300: from gfx940 on."""
NO_DIES = "hwreg(HW_REG_HW_ID, 31, 1)"
"""The chips before have one die; the bit that stands in for its number is constant while one process runs."""
REALTIME_TICK_NS = 10

PARTS = 65536
"""Above any number of units within a part."""


@jit
def stamp(  # type: ignore[no-untyped-def]
    out, ASSEMBLY: tl.constexpr, CONSTRAINTS: tl.constexpr, TICK_NS: tl.constexpr, PARTS: tl.constexpr
):
    """out[program] = (unit, cycles, nanoseconds)."""
    unit, part, cycles, ticks = tl.inline_asm_elementwise(
        ASSEMBLY, CONSTRAINTS, [], dtype=(tl.int32, tl.int32, tl.int64, tl.int64), is_pure=False, pack=1
    )
    mine = out + 3 * tl.program_id(0)
    tl.store(mine, unit.to(tl.int64) + part.to(tl.int64) * PARTS)
    tl.store(mine + 1, cycles)
    tl.store(mine + 2, ticks * TICK_NS)


def assembly(kind: str, architecture: str | None) -> dict[str, str | int]:
    """The kernel's constants for a chip. Raises NotImplementedError for an AMD chip whose counters are others.

    >>> assembly("cuda", None)["TICK_NS"], assembly("rocm", "gfx942")["TICK_NS"]
    (1, 10)
    """
    if kind == "cuda":
        return {"ASSEMBLY": PTX, "CONSTRAINTS": "=r,=r,=l,=l", "TICK_NS": 1, "PARTS": PARTS}
    if architecture is None or not architecture.startswith(("gfx90a", "gfx94", "gfx95")):
        raise NotImplementedError(f"the counters of {architecture or 'this AMD chip'} are not read yet")
    text = GCN.format(part=NO_DIES if architecture.startswith("gfx90a") else XCC_ID)
    return {"ASSEMBLY": text, "CONSTRAINTS": "=&s,=&s,=&s,=&s", "TICK_NS": REALTIME_TICK_NS, "PARTS": PARTS}


class TritonStamper:
    """Stamps on torch's current stream of one device."""

    library = "triton"

    def __init__(self, facts: DeviceFacts, index: int = 0) -> None:
        import torch

        # A chip that Triton does not know may end its compiler, and this process with it.
        if (reason := refuses_target(facts.target)) is not None:
            raise NotImplementedError(reason)
        self._programs = torch.cuda.get_device_properties(index).multi_processor_count
        self._constants = assembly(facts.kind, facts.architecture)
        self._buffers = torch.zeros((2, self._programs, 3), dtype=torch.int64, device=f"cuda:{index}")
        self._kernel = stamp()

    def stamp(self, which: int) -> None:
        # One warp a program, one program a multiprocessor: the scheduler spreads them over the idle chip.
        self._kernel[(self._programs,)](self._buffers[which], **self._constants, num_warps=1, **options())

    def fetch(self) -> np.ndarray:
        return self._buffers.cpu().numpy()
