"""What a prediction costs: chips x price of an hour, and what that buys; with the lowest and the highest quote beside the median."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from chipassay.results.errors import InputError
from chipassay.results.prices import Price

from .predict import Prediction
from .text import amount

DAY_S = 86400.0


@dataclass(frozen=True)
class Cost:
    """Rent of one cluster at one price. Money for the chips alone unless the quote says more; no storage, no restarts."""

    chip_id: str
    chips: int
    price: Price
    usd_per_hour: float
    """Of all chips, at the median quote."""
    usd_per_million_tokens: float
    """At the median quote and the predicted speed."""
    usd_per_million_tokens_low: float
    usd_per_million_tokens_high: float
    """At the lowest and the highest quote, at the same speed: the spread of prices, not of the prediction."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class RunCost:
    """Days and money for so many tokens. Each interval names what it spans; ``usd_low`` to ``usd_high`` spans both."""

    tokens: float
    goodput: float
    """Share of the wall time that trains; 1: nothing fails, and no checkpoint is written."""
    days: float
    days_low: float
    days_high: float
    """By the interval of the predicted step time."""
    usd: float | None
    """None: no price is known."""
    usd_low: float | None
    usd_high: float | None
    """The shortest time at the lowest quote, the longest at the highest."""
    price: Price | None

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Days, then money with the price behind it."""
        lost = "without restarts" if self.goodput == 1 else f"at a goodput of {self.goodput:.1%}"
        days = f"{self.tokens:.4g} tokens: {amount(self.days)} days ({amount(self.days_low)} to {amount(self.days_high)}), {lost}"
        if self.usd is None or self.usd_low is None or self.usd_high is None or self.price is None:
            return days
        spread = f"{amount(self.usd_low)} to {amount(self.usd_high)} by time and price"
        return f"{days}\n  that is {amount(self.usd)} USD ({spread}) at {self.price.describe()}"


def check_price(price: Price) -> None:
    """Raise InputError for a price that is none, or that is not of an hour."""
    if price.unit != "usd_per_chip_hour":
        raise InputError(f"the price of {price.chip_id} is {price.usd:g} USD to buy one; give USD per chip and hour")
    for usd in (price.usd, price.lowest_usd, price.highest_usd):
        if not 0 < usd < math.inf:
            raise InputError(f"the price of {price.chip_id} is {usd:g} USD per chip and hour; give one above 0, such as 2.50")


def run_cost(prediction: Prediction, tokens: float, price: Price | None = None, *, goodput: float = 1.0) -> RunCost:
    """Days and money that ``tokens`` take at a predicted speed and a ``goodput`` (see ``goodput.py``).

    Raises InputError for tokens, a price or a goodput that cannot be.
    """
    if not 0 < tokens < math.inf:
        raise InputError(f"a run over {tokens:g} tokens is none; give a number above 0, for example 300e9")
    if not 0 < goodput <= 1:
        raise InputError(f"goodput is {goodput:g}; give a share of wall time above 0, at most 1")
    steps = tokens / (prediction.tokens_per_s * prediction.step_time_s)
    days, low, high = (steps * step_s / goodput / DAY_S for step_s in (prediction.step_time_s, prediction.low_s, prediction.high_s))
    if price is None:
        return RunCost(tokens, goodput, days, low, high, None, None, None, None)
    check_price(price)
    chip_hours = 24.0 * prediction.chips
    usd, usd_low, usd_high = days * price.usd, low * price.lowest_usd, high * price.highest_usd
    return RunCost(tokens, goodput, days, low, high, chip_hours * usd, chip_hours * usd_low, chip_hours * usd_high, price)


def cost_of(prediction: Prediction, price: Price) -> Cost:
    """What ``prediction`` costs at ``price``, which is of an hour of one chip. Raises InputError for a price that is none."""
    check_price(price)
    chips = prediction.chips

    def per_million_tokens(usd: float) -> float:
        return chips * usd / 3600 / prediction.tokens_per_s * 1e6

    return Cost(
        price.chip_id,
        chips,
        price,
        chips * price.usd,
        per_million_tokens(price.usd),
        per_million_tokens(price.lowest_usd),
        per_million_tokens(price.highest_usd),
    )


def describe_cost(cost: Cost) -> str:
    """The cost in one or two lines: the figure, then the price it rests on."""
    figure = (
        f"cost: {cost.usd_per_hour:,.4g} USD/h for {cost.chips} x {cost.chip_id}, {cost.usd_per_million_tokens:.3g} USD per million tokens"
    )
    if cost.price.lowest_usd < cost.price.highest_usd:
        figure += f" ({cost.usd_per_million_tokens_low:.3g} to {cost.usd_per_million_tokens_high:.3g} by quote)"
    return f"{figure}\n  price: {cost.price.describe()}"


def describe_no_price(chip_id: str) -> str:
    """What is printed in the place of a cost that is unknown."""
    return f"cost: unknown, no quote of {chip_id} is in results/data/prices.csv; give one with --price {chip_id}=USD per chip and hour"
