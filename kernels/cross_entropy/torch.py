"""Cross-entropy as torch does it: log-probabilities of the whole vocabulary in fp32, written to memory, then one of each row.

So it moves several times the bytes that count, and 16-bit logits are widened first, as training code does for their precision.
"""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from ..memory.refusing import not_torch
from .case import CrossEntropyCase

IGNORED_TARGET = -100
"""torch's default ``ignore_index``."""
SUM = 2
"""torch's number for ``reduction="sum"``."""


@kernel("cross_entropy", "torch", "torch.cross_entropy", not_torch)
def cross_entropy(case: CrossEntropyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch
    from torch.nn import functional

    x, targets = inputs
    wide = torch.float64 if case.dtype == "fp64" else torch.float32
    if not case.backward:
        return lambda: functional.cross_entropy(x.to(wide), targets, reduction="none")
    kept, one = torch.log_softmax(x.to(wide), dim=1), torch.ones((), dtype=wide, device=x.device)
    count = one * case.rows
    aten = torch.ops.aten

    def run() -> Array:
        picked = aten.nll_loss_backward(one, kept, targets, None, SUM, IGNORED_TARGET, count)
        return aten._log_softmax_backward_data(picked, kept, 1, wide).to(x.dtype)

    return run
