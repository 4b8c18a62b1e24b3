"""The closing summary as plain data: who computes it knows nothing of HTML, and the page nothing of how it was computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from chipassay.results.profile import Level


@dataclass(frozen=True)
class Card:
    """One key figure. ``value`` is formatted (results.units); ``evidence`` tells how the figure itself is known."""

    title: str
    value: str
    note: str = ""
    evidence: Level | None = None


class Input(NamedTuple):
    """One input of the exchange rate: what it is, how it is known, and from where."""

    what: str
    level: Level
    source: str


@dataclass(frozen=True)
class Summary:
    """What the measurements come to. ``sentence`` is the exchange rate, or why there is none."""

    cards: tuple[Card, ...] = ()
    sentence: str = ""
    inputs: tuple[Input, ...] = ()
    warnings: tuple[str, ...] = ()
    """What is wrong with the machine, a sentence each: a straggler, a bad link."""
