"""The exchange rate: how many of one chip do the work of another, for one model, each side with its own best plan."""

from __future__ import annotations

from .counts import largest_within, legal_counts, smallest_reaching
from .fleet import Fleet
from .limits import Ceiling
from .rate import exchange_rate, set_up
from .record import SAMES, WHAT, Exchange, Same
from .run import Run
from .side import Side, parse_side, side_of
from .spread import SHARED_MODEL_SIGMA, ratio_sigma, twins
from .trade import Point, Trade
from .worth import MOST_NODES, SEQUENCES_PER_CHIP, Worth, per_chip_worth, smallest_fit

__all__ = [
    "MOST_NODES",
    "SAMES",
    "SEQUENCES_PER_CHIP",
    "SHARED_MODEL_SIGMA",
    "WHAT",
    "Ceiling",
    "Exchange",
    "Fleet",
    "Point",
    "Run",
    "Same",
    "Side",
    "Trade",
    "Worth",
    "exchange_rate",
    "largest_within",
    "legal_counts",
    "parse_side",
    "per_chip_worth",
    "ratio_sigma",
    "set_up",
    "side_of",
    "smallest_fit",
    "smallest_reaching",
    "twins",
]
