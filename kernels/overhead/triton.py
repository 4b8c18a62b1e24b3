"""Launches by Triton: a kernel of one program that stores one number. Run on an H200."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..triton_tools import jit, refuses_target
from .case import KERNELS, LaunchCase

if TYPE_CHECKING:
    import triton.language as tl


@jit
def store(place, value):  # type: ignore[no-untyped-def]
    """One number to one place. The number is a float: Triton compiles anew for an int that is 1."""
    tl.store(place, value)


def launch_refuses(case: LaunchCase, target: Target) -> str | None:
    return refuses_target(target)


@kernel("launch", "triton", "triton.store", launch_refuses)
def launch(case: LaunchCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    compiled = store()[(1,)]
    places = [(output[i : i + 1], float(i)) for i in range(KERNELS)]

    def run() -> Array:
        for place, value in places:
            compiled(place, value, num_warps=1)
        return output

    return run
