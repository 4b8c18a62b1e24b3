"""Barrier: no rank goes on before all have come. It has no message and no size: its ``elements`` and S are 0 and only its time counts."""

from __future__ import annotations

from .pattern import Pattern, register

BARRIER = register(
    Pattern(
        name="barrier",
        bus_factor=lambda ranks: 0.0,
        sends=lambda rank, ranks, elements: (),
        receives=lambda rank, ranks, elements: (),
        call=lambda group, send, receive, elements: group.barrier(),
        sized=False,
    )
)
