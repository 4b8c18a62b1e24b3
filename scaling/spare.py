"""Memory that a search leaves free on every chip: figures of memory err, and a plan that fits by a hair may not run."""

from __future__ import annotations

from chipassay.results.errors import InputError
from chipassay.results.evidence import Evidence

SPARE_SHARE = 0.05
"""Share of a chip's memory that every search leaves free unless it is told otherwise. A plan that someone names is not refused for it."""
SPARE_EVIDENCE = Evidence("measured", "the worst of 29 measured peaks lies 4.8 % above its prediction (tests/scaling/memory_measured.csv)")
MOST_SPARE = 0.5
"""More is a slip of the pen: a chip of which half must stay free is another chip."""


def parse_spare(text: str) -> float:
    """The share of ``5%`` or ``0.05``. Raises InputError for what is none, or cannot be kept free.

    >>> parse_spare("4%"), parse_spare("0.1")
    (0.04, 0.1)
    """
    figure = text.strip()
    try:
        value = float(figure.removesuffix("%")) / (100 if figure.endswith("%") else 1)
    except ValueError:
        raise InputError(f"{text!r} is no share of a memory; write for example 5% or 0.05") from None
    return check_spare(value)


def usable_bytes(memory_bytes: float, spare: float = SPARE_SHARE) -> float:
    """Bytes of a chip that a plan found by a search may need. ``spare``: the share that stays free.

    >>> usable_bytes(80e9)
    76000000000.0
    """
    return (1 - check_spare(spare)) * memory_bytes


def check_spare(spare: float) -> float:
    """The share as it is. Raises InputError for one that cannot be kept free."""
    if not 0 <= spare <= MOST_SPARE:
        raise InputError(f"a share of {spare:g} of the memory cannot be kept free; give one from 0 to {MOST_SPARE:g}")
    return spare
