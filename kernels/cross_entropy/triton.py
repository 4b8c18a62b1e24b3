"""Cross-entropy in Triton: one pass over the logits, with a running maximum, and nothing but the loss written. Run on an H200.

Backward reads the logits once more and writes their gradient: log-sum-exp of each row is at hand from the forward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from ..memory.refusing import not_triton
from ..memory.triton_rows import next_power
from ..memory.triton_stream import choose, launch_options, size_class
from ..triton_tools import jit, launcher, named
from .case import CrossEntropyCase

if TYPE_CHECKING:
    import triton.language as tl

LAYOUTS: tuple[dict[str, int], ...] = tuple(
    {"BLOCK": block, "STAGES": stages, "num_warps": warps}
    for block, warps in ((4096, 8), (8192, 8), (2048, 4), (8192, 16), (16384, 16), (4096, 4))
    for stages in (1, 3)
)
"""Pieces of a row that a program handles at a time, and how many are under way: with 3 the next two are loaded while one is computed."""


@jit
def loss_rows(x, targets, losses, width, LOSS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr):  # type: ignore[no-untyped-def]
    """losses[row] = log(sum(exp(x))) - x[target] (LOSS), or the logarithm alone.

    The maximum is one number for all lanes, so that each element costs one exponential; the sums stay apart until the end.
    """
    row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    x += row * width
    top = float("-inf")
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in tl.range(0, width, BLOCK, num_stages=STAGES):
        column = start + lane
        values = tl.load(x + column, mask=column < width, other=float("-inf"), eviction_policy="evict_first").to(tl.float32)
        new_top = tl.maximum(top, tl.max(values, 0))
        total = total * tl.exp(top - new_top) + tl.exp(values - new_top)
        top = new_top
    loss = tl.log(tl.sum(total, 0)) + top
    if LOSS:
        loss -= tl.load(x + tl.load(targets + row)).to(tl.float32)
    tl.store(losses + row, loss)


@jit
def gradient_block(x, targets, log_sums, dx, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """dx = exp(x - log_sum) - (column == target), BLOCK columns of one row."""
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x, dx, target, log_sum = x + row * width, dx + row * width, tl.load(targets + row), tl.load(log_sums + row)
    values = tl.load(x + column, mask=column < width, other=0.0, eviction_policy="evict_first").to(tl.float32)
    out = tl.exp(values - log_sum) - tl.where(column == target, 1.0, 0.0)
    tl.store(dx + column, out.to(dx.dtype.element_ty), mask=column < width, cache_modifier=".cs")


def forward_layouts(width: int) -> list[dict[str, int]]:
    """What the tuner tries; the interpreter takes the first."""
    return [layout for layout in LAYOUTS if layout["BLOCK"] <= width] or [{"BLOCK": next_power(width), "STAGES": 1, "num_warps": 4}]


def backward_layouts(width: int) -> list[dict[str, int]]:
    """The same without stages: there is no loop."""
    return [
        {name: value for name, value in layout.items() if name != "STAGES"} for layout in forward_layouts(width) if layout["STAGES"] == 1
    ]


@kernel("cross_entropy", "triton", "triton.cross_entropy", not_triton)
def cross_entropy(case: CrossEntropyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    x, targets = inputs
    rows, width = case.rows, case.width
    key: dict[str, str | int | bool] = {"dtype": case.dtype, "rows": size_class(rows), "width": width}

    def forward(config: dict[str, int], losses: Array) -> None:
        loss_rows()[(rows,)](x, targets, losses, width, LOSS=not case.backward, **launch_options(config))

    if not case.backward:
        config = choose("triton.cross_entropy", key, forward_layouts(width), output, forward)
        return named(launcher(lambda losses: forward(config, losses), output), config)

    log_sums = torch.empty(rows, dtype=torch.float32, device=x.device)
    forward(forward_layouts(width)[0], log_sums)

    def backward(config: dict[str, int], dx: Array) -> None:
        grid = (rows, -(-width // config["BLOCK"]))
        gradient_block()[grid](x, targets, log_sums, dx, width, **launch_options(config))

    config = choose("triton.cross_entropy.backward", key, backward_layouts(width), output, backward)
    return named(launcher(lambda dx: backward(config, dx), output), config)
