"""Predictions and exchange rates as plain text, for a terminal or a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .spare import SPARE_SHARE

if TYPE_CHECKING:
    from .exchange import Worth
    from .machine import Input
    from .predict import Prediction
    from .search import Ranked


def seconds(value_s: float) -> str:
    """A duration in the unit a reader expects.

    >>> seconds(0.000704), seconds(0.0123), seconds(4.5), seconds(90000)
    ('704 us', '12.3 ms', '4.5 s', '25 h')
    """
    if value_s < 1e-3:
        return f"{value_s * 1e6:.3g} us"
    if value_s < 1:
        return f"{value_s * 1e3:.3g} ms"
    if value_s < 600:
        return f"{value_s:.3g} s"
    if value_s < 36000:
        return f"{value_s / 60:.3g} min"
    return f"{value_s / 3600:.3g} h"


def amount(value: float) -> str:
    """A ratio or a count with three digits that matter, up to 10^15 without an exponent.

    >>> amount(2.618), amount(10384.4), amount(0.0042)
    ('2.62', '10,400', '0.0042')
    """
    if 1000 <= value < 1e15:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


SOURCE_WIDTH = 100
"""Characters of a source in text: as much as says which one it is. JSON and pages have all of it."""


LEAST_BYTES = 5e6
"""Less than that would be told as 0.00 GB."""


MEMORY_ERROR = SPARE_SHARE
"""The most that memory was off on the measured peaks of tests/scaling/memory_measured.csv, rounded up."""


def shortened(text: str, width: int = SOURCE_WIDTH) -> str:
    """A text of one line, cut behind a word where it is longer (within one, if that word is long).

    >>> shortened("The datasheet of 2020, table 1", 20), shortened("short", 20)
    ('The datasheet of ...', 'short')
    """
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    kept = text[: width - 4]
    words = kept if text[width - 4] == " " else kept.rpartition(" ")[0]
    return f"{(words if len(words) > 0.8 * len(kept) else kept).rstrip(' ,;:(')} ..."


def ranked(inputs: Sequence[Input]) -> list[Input]:
    """Weakest evidence first; what is told twice, once."""
    order = ("assumed", "derived", "published", "measured")
    return sorted(dict.fromkeys(inputs), key=lambda found: order.index(found.evidence.level))


def describe_inputs(inputs: Sequence[Input]) -> str:
    """One line per input, weakest evidence first."""
    return "\n".join(
        f"  {found.evidence.level:<9}  {found.what}: {found.value} ({shortened(found.evidence.source)})" for found in ranked(inputs)
    )


def fitting(prediction: Prediction) -> str:
    """Whether a plan fits, and how surely."""
    if not prediction.fits:
        return "does not fit"
    return "fits" if prediction.memory_total_bytes <= (1 - MEMORY_ERROR) * prediction.memory_limit_bytes else "fits barely"


def describe_prediction(prediction: Prediction, why_not: str = "") -> str:
    """Time, speed, memory and what the prediction rests on. ``why_not``: what ``fits.fits_report`` says of a plan that does not fit."""
    p = prediction
    lines = [
        f"{p.model} on {p.cluster}, {p.dtype}: {p.plan.describe()}",
        f"step time {seconds(p.step_time_s)} (80 %: {seconds(p.low_s)} to {seconds(p.high_s)}), {amount(p.tokens_per_s)} tokens/s",
    ]
    if p.mfu is not None and p.hfu is not None and p.mfu_causal is not None:
        lines.append(f"MFU {p.mfu:.1%} (attention counted causal: {p.mfu_causal:.1%}), HFU {p.hfu:.1%}")
    else:
        lines.append("MFU unknown: the peak of this chip is unknown")
    lines.append("where the time goes:")
    for kind, value_s in sorted(p.breakdown_s.items(), key=lambda item: -item[1]):
        if value_s > 0:
            lines.append(f"  {kind:<16} {value_s / p.step_time_s:6.1%}  {seconds(value_s)}")
    verdict = fitting(p)
    if not p.fits:
        verdict = f"does NOT fit: {why_not or f'most of it {p.largest_memory}'}"
    elif verdict != "fits":
        verdict += f" (where memory was measured, such figures were up to {MEMORY_ERROR:.0%} off)"
    lines.append(f"memory per chip {p.memory_total_bytes / 1e9:.1f} of {p.memory_limit_bytes / 1e9:.1f} GB: {verdict}")
    for kind, value in sorted(p.memory_bytes.items(), key=lambda item: -item[1]):
        if value >= LEAST_BYTES:
            lines.append(f"  {kind:<16} {value / 1e9:8.2f} GB")
    lines += ["what this rests on:", describe_inputs(p.inputs)]
    return "\n".join(lines)


def describe_ranked(ranked: Ranked) -> str:
    """The best plans, one line each."""
    lines = [f"{ranked.plans_seen} plans tried, {ranked.plans_fitting} fit in memory"]
    for place, p in enumerate(ranked.predictions, 1):
        mfu = "" if p.mfu is None else f", MFU {p.mfu:.1%}"
        lines.append(f"{place:>3}. {seconds(p.step_time_s)}, {amount(p.tokens_per_s)} tokens/s{mfu}: {p.plan.describe()}")
    return "\n".join(lines)


def worth_sentence(worth: Worth) -> str:
    """The one sentence that a benchmark closes with."""
    return (
        f"For training {worth.model}, one {worth.reference_chip} is worth {amount(worth.ratio)} of {worth.other_chip} "
        f"(80 %: {amount(worth.low)} to {amount(worth.high)})."
    )


def describe_worth(worth: Worth) -> str:
    """The sentence, how it is defined, both plans, and what it rests on."""
    lines = [worth_sentence(worth), f"Defined as: {worth.definition}."]
    lines += [
        f"  {p.cluster}: {amount(p.tokens_per_s / p.chips)} tokens/s per chip, {p.dtype}, {p.plan.describe()}"
        for p in (worth.reference, worth.other)
    ]
    lines += ["What this rests on:", describe_inputs(worth.inputs)]
    return "\n".join(lines)
