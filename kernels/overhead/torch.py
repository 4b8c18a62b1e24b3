"""Launches and transfers as torch makes them. Run on an H200."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .case import KERNELS, LaunchCase, TransferCase, no_link


@kernel("launch", "torch", "torch.fill_")
def launch(case: LaunchCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    """torch has no empty kernel: filling one element is its smallest."""
    fills = [(output[i : i + 1].fill_, float(i)) for i in range(KERNELS)]

    def run() -> Array:
        for fill, value in fills:
            fill(value)
        return output

    return run


def transfer_refuses(case: TransferCase, target: Target) -> str | None:
    return no_link(target.kind)


@kernel("transfer", "torch", "torch.copy_", transfer_refuses)
def transfer(case: TransferCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    """Pinned copies are queued and return at once. Pageable ones hold the caller until the host's side is done, as ``tensor.cpu()``
    does: in a time between two events the few microseconds until the second event is issued are then part of the copy."""
    import torch

    (a,) = inputs
    if case.path == "device_to_device":
        return lambda: output.copy_(a)
    pinned = case.host_memory == "pinned"
    host = torch.empty(a.shape, dtype=a.dtype, device="cpu", pin_memory=pinned)
    if case.path == "host_to_device":
        host.copy_(a)
        return lambda: output.copy_(host, non_blocking=pinned)
    host.copy_(arrays.unwritten((1,), case.dtype))
    return lambda: host.copy_(a, non_blocking=pinned)
