"""What calling NumPy costs: its smallest operation, on one element. There is no link to transfer over on a CPU."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .case import KERNELS, LaunchCase


def launch_refuses(case: LaunchCase, target: Target) -> str | None:
    return None if target.kind == "cpu" else "NumPy computes on the CPU only"


@kernel("launch", "numpy", "numpy.fill", launch_refuses)
def launch(case: LaunchCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    fills = [(output[i : i + 1].fill, float(i)) for i in range(KERNELS)]

    def run() -> Array:
        for fill, value in fills:
            fill(value)
        return output

    return run
