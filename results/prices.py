"""Prices: dated quotes, and what they say together. How many, from when to when, the lowest and the highest go with every figure."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from .catalogue import find_chip, load_chips, row_evidence
from .datafile import DATA, Line, read_lines
from .errors import FileError, InputError
from .evidence import LEVELS, Evidence

PRICES_CSV = DATA / "prices.csv"

Unit = Literal["usd_per_chip_hour", "purchase_usd_per_chip"]
RANGES: dict[Unit, tuple[float, float]] = {"usd_per_chip_hour": (0.05, 100.0), "purchase_usd_per_chip": (200.0, 200_000.0)}
"""What a chip can cost: beyond it the unit was mistaken (a node's price, another currency)."""
WORDS: dict[Unit, str] = {"usd_per_chip_hour": "USD per chip and hour", "purchase_usd_per_chip": "USD per chip"}

DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")
"""YYYY, YYYY-MM or YYYY-MM-DD."""

YEARS = 2
"""The latest calendar year with a quote and the one before it count together: older quotes are history."""


@dataclass(frozen=True)
class Quote:
    """What one seller asked at one time for one chip. A quoted range is two quotes, its ends."""

    chip_id: str
    provider: str
    instance: str
    usd_per_chip_hour: float | None
    purchase_usd_per_chip: float | None
    date: str
    """YYYY, YYYY-MM or YYYY-MM-DD, as exact as it is known; empty is unknown."""
    note: str
    evidence: Evidence
    """``derived`` where a server's price was divided or a currency exchanged."""


@dataclass(frozen=True)
class Price:
    """What quotes of one chip say together, or what the user said."""

    chip_id: str
    unit: Unit
    usd: float
    """The median."""
    lowest_usd: float
    highest_usd: float
    quotes: int
    """How many quotes stand behind it; 0 for the user's own."""
    date_first: str
    date_last: str
    """Of the quotes; empty where none is dated."""
    evidence: Evidence

    def describe(self) -> str:
        """The price and what is behind it, in one line.

        >>> given_price("t4-pcie-16gb", 0.4).describe()
        '0.4 USD per chip and hour (as given)'
        """
        what = f"{self.usd:.4g} {WORDS[self.unit]}"
        if not self.quotes:
            return f"{what} (as given)"
        when = self.date_first if self.date_first == self.date_last else f"{self.date_first} to {self.date_last}"
        if self.quotes == 1:
            return f"{what} (one quote, {when or 'undated'})"
        return f"{what} (median of {self.quotes} quotes, {when or 'undated'}, from {self.lowest_usd:.4g} to {self.highest_usd:.4g})"


def _quote(line: Line) -> Quote:
    if line.required("chip_id") not in load_chips():
        mend = "add the chip to chips.csv, or write one of its ids"
        raise FileError(line.path, f"{line.text('chip_id')!r} is no chip of the catalogue", line=line.number, field="chip_id", mend=mend)
    date = line.text("date")
    if date and not DATE.fullmatch(date):
        raise FileError(line.path, f"{date!r} is no date", line=line.number, field="date", mend="write YYYY, YYYY-MM or YYYY-MM-DD")
    values = {unit: line.number_or_none(unit) for unit in RANGES}
    if list(values.values()).count(None) != 1:
        mend = "fill usd_per_chip_hour or purchase_usd_per_chip, one of them"
        raise FileError(line.path, "a quote is of renting or of buying", line=line.number, field="usd_per_chip_hour", mend=mend)
    for unit, (low, high) in RANGES.items():
        value = values[unit]
        if value is not None and not low <= value <= high:
            mend = "write US dollars for one chip, not for a node"
            raise FileError(line.path, f"{value:g} is outside {low:g} to {high:g}", line=line.number, field=unit, mend=mend)
    return Quote(
        chip_id=line.text("chip_id"),
        provider=line.required("provider"),
        instance=line.text("instance"),
        usd_per_chip_hour=values["usd_per_chip_hour"],
        purchase_usd_per_chip=values["purchase_usd_per_chip"],
        date=date,
        note=line.text("note"),
        evidence=row_evidence(line, date or None),
    )


@lru_cache(maxsize=4)
def load_quotes(path: Path = PRICES_CSV) -> tuple[Quote, ...]:
    """All quotes, in the order of the table. Raises FileError, with line and column, for a cell that cannot be."""
    columns = ("chip_id", "provider", "instance", *RANGES, "date", "note", "evidence", "source")
    return tuple(_quote(line) for line in read_lines(path, columns))


def price(
    chip_id: str, unit: Unit = "usd_per_chip_hour", *, as_of: str | None = None, quotes: Iterable[Quote] | None = None
) -> Price | None:
    """The median quote of a chip in the latest calendar year with a quote of this unit and the year before; None where there is none.

    ``as_of`` (YYYY, YYYY-MM or YYYY-MM-DD) leaves out what is dated later, and what is not dated. Undated quotes count only where
    there are no dated ones. ``quotes``: instead of the shipped ones. Raises UnknownName for a chip that is not in the catalogue.

    >>> price("h100-sxm-80gb", as_of="2023-12").describe()
    '10 USD per chip and hour (one quote, 2023-10-23)'
    """
    chip = find_chip(chip_id)
    if as_of is not None and not DATE.fullmatch(as_of):
        raise InputError(f"as_of {as_of!r} is no date; write YYYY, YYYY-MM or YYYY-MM-DD")
    asked: list[tuple[float, Quote]] = []
    for quote in load_quotes() if quotes is None else quotes:
        usd = quote.usd_per_chip_hour if unit == "usd_per_chip_hour" else quote.purchase_usd_per_chip
        # A date is compared as far as both are exact: "2026" is not later than "2026-03".
        shared = min(len(quote.date), len(as_of or quote.date))
        if quote.chip_id == chip.id and usd is not None and (as_of is None or (quote.date and quote.date[:shared] <= as_of[:shared])):
            asked.append((usd, quote))
    latest = max((int(quote.date[:4]) for _, quote in asked if quote.date), default=None)
    if latest is not None:
        asked = [(usd, quote) for usd, quote in asked if quote.date and int(quote.date[:4]) > latest - YEARS]
    if not asked:
        return None
    values = [usd for usd, _ in asked]
    dates = sorted(quote.date for _, quote in asked if quote.date) or [""]
    weakest = max((quote.evidence.level for _, quote in asked), key=LEVELS.index)
    providers = ", ".join(sorted({quote.provider for _, quote in asked}))
    source = f"median of {len(asked)} quotes of results/data/prices.csv: {providers}"
    evidence = Evidence(weakest, source, dates[-1] or None)
    return Price(chip.id, unit, statistics.median(values), min(values), max(values), len(asked), dates[0], dates[-1], evidence)


def given_price(chip_id: str, usd_per_chip_hour: float) -> Price:
    """A price that the user gives, per chip and hour."""
    usd = usd_per_chip_hour
    return Price(chip_id, "usd_per_chip_hour", usd, usd, usd, 0, "", "", Evidence("assumed", "given by the user"))


def read_overrides(given: Iterable[str], chip_ids: Iterable[str]) -> Mapping[str, Price]:
    """``CHIP=USD`` per chip and hour, for chips among ``chip_ids``, by chip id.

    Raises InputError for text of another form, a number that is no price, a chip that is not among them or is given twice.

    >>> read_overrides(["h100-sxm-80gb=2.5"], ["h100-sxm-80gb"])["h100-sxm-80gb"].usd
    2.5
    """
    known = tuple(dict.fromkeys(chip_ids))
    prices: dict[str, Price] = {}
    for text in given:
        name, equals, number = (part.strip() for part in text.partition("="))
        if not (name and equals and number):
            raise InputError(f"--price {text!r} is not CHIP=USD; write for example {known[0] if known else 'h100-sxm-80gb'}=2.50")
        chip_id = next((chip for chip in known if chip.lower() == name.lower()), None)
        if chip_id is None:
            if not name.startswith("cpu-"):
                find_chip(name)  # a name that no chip has is answered with the nearest ones
            raise InputError(f"--price {text!r}: no {name} takes part; give the price of {' or '.join(known)}")
        try:
            usd = float(number)
        except ValueError:
            raise InputError(f"--price {text!r}: {number!r} is not a number; write US dollars per chip and hour, such as 2.50") from None
        if not 0 < usd < float("inf"):
            raise InputError(f"--price {text!r}: a price must be above 0 and finite, in US dollars per chip and hour")
        if chip_id in prices:
            raise InputError(f"--price {text!r}: {chip_id} has a price already; give one per chip")
        prices[chip_id] = given_price(chip_id, usd)
    return prices


def price_of(chip_id: str, overrides: Mapping[str, Price], *, as_of: str | None = None) -> Price | None:
    """The user's price of a chip, else what quotes (dated by ``as_of``) say of an hour; None where neither is there."""
    if chip_id in overrides:
        return overrides[chip_id]
    return price(chip_id, as_of=as_of) if chip_id in load_chips() else None
