"""Gather in Triton: a program takes some ids and moves a piece of each row, 16 bytes a thread. Run on an H200."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..memory.triton_rows import next_power
from ..memory.triton_stream import bits, choose, launch_options, size_class
from ..triton_tools import jit, named, refuses_target
from .case import GatherCase

if TYPE_CHECKING:
    import triton.language as tl

TILES = ((1, 2048, 4), (4, 2048, 8), (2, 4096, 8), (8, 1024, 8), (1, 1024, 4), (1, 4096, 4), (16, 512, 8), (4, 1024, 4))
"""Ids, elements of a row, warps: layouts to try, the width cut to that of a row."""


@jit
def gather_tile(table, ids, out, rows, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """BLOCK columns of ROWS rows of out[i] = table[ids[i]], integers standing for elements of any kind."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    source = tl.load(ids + row, mask=row < rows, other=0)[:, None]
    inside = (row < rows)[:, None] & (column < width)
    values = tl.load(table + source * width + column, mask=inside)
    tl.store(out + row[:, None] * width + column, values, mask=inside, cache_modifier=".cs")


def layouts(width: int) -> list[dict[str, int]]:
    """What the tuner tries.

    >>> layouts(300)[0]
    {'ROWS': 4, 'BLOCK': 512, 'num_warps': 4}
    """
    cut = next_power(width)
    found = [{"ROWS": ids * max(1, block // cut), "BLOCK": min(block, cut), "num_warps": warps} for ids, block, warps in TILES]
    return [layout for i, layout in enumerate(found) if layout not in found[:i]]


def refuses(case: GatherCase, target: Target) -> str | None:
    return refuses_target(target)


@kernel("gather", "triton", "triton.gather", refuses)
def gather(case: GatherCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    table, ids, out = bits(inputs[0]), inputs[1], bits(output)

    def launch(config: dict[str, int], out: Array) -> None:
        grid = (-(-case.rows // config["ROWS"]), -(-case.width // config["BLOCK"]))
        gather_tile()[grid](table, ids, out, case.rows, case.width, **launch_options(config))

    key: dict[str, str | int | bool] = {"dtype": case.dtype, "rows": size_class(case.rows), "width": case.width}
    config = choose("triton.gather", key, layouts(case.width), out, launch)

    def run() -> Array:
        launch(config, out)
        return output

    return named(run, config)
