"""All-reduce: every rank ends with the sum over all ranks."""

from __future__ import annotations

from .exact import exact_share, exact_sum
from .pattern import Pattern, register

ALL_REDUCE = register(
    Pattern(
        name="all_reduce",
        bus_factor=lambda ranks: 2 * (ranks - 1) / ranks,
        counted_bytes=lambda buffer_bytes, ranks: buffer_bytes,
        share=exact_share,
        expected=lambda rank, ranks, elements, dtype, seed: exact_sum(elements, dtype, seed),
        call=lambda distributed, tensor, group: distributed.all_reduce(tensor, group=group),
    )
)
