"""What `chipassay validate` tells: tables by source, chip and regime, rankings, ratios, what could not be predicted, and the headline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chipassay.scaling.validation.summary import (
    ChipRatio,
    Summary,
    by_chip,
    by_regime,
    by_source,
    chip_ratios,
    headline,
    plan_rankings,
)
from chipassay.scaling.validation.validate import Outcome

from .table import Section

HEADINGS = ("", "n", "median", "p90", "bias", "rank", "inside 80 %", "sample")
NUMERIC = (1, 2, 3, 4, 5, 6)
LONGEST_NAME = 90
"""Characters of a source that a terminal's line has room for."""


def percent(share: float) -> str:
    """A share as percent.

    >>> percent(0.0512), percent(-0.2)
    ('5.1 %', '-20.0 %')
    """
    return f"{100 * share:.1f} %"


def short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."


def _line(one: Summary) -> tuple[str, ...]:
    return (
        short(one.name),
        str(one.n),
        percent(one.median),
        percent(one.p90),
        percent(one.bias),
        "" if one.rank is None else f"{one.rank:.3f}",
        f"{100 * one.inside:.0f} %",
        _sample(one),
    )


def _sample(one: Summary) -> str:
    """Whether a constant was calibrated on it, and what is left of its error if not."""
    if not one.in_sample:
        return "out"
    return "in" if one.left_out is None else f"in; left out {percent(one.left_out)}"


def table(title: str, first: str, summaries: Sequence[Summary]) -> Section:
    """Summaries as a table."""
    return Section(title=title, headings=(first, *HEADINGS[1:]), numeric=NUMERIC, lines=tuple(_line(one) for one in summaries))


def ratio_table(ratios: Sequence[ChipRatio]) -> Section:
    """Chip against chip as a table."""
    lines = tuple(
        (short(one.name), str(one.n), f"{one.measured:.2f}", f"{one.predicted:.2f}", percent(one.error))
        for one in sorted(ratios, key=lambda one: -one.n)
    )
    headings = ("throughput per chip, under one code base", "pairs", "measured", "predicted", "error")
    return Section(title="Chips against each other", headings=headings, numeric=(1, 2, 3, 4), lines=lines)


def unusable_table(outcomes: Sequence[Outcome]) -> Section:
    """Reasons for which runs could not be predicted, and how many each has."""
    reasons = Counter((short(outcome.run.source), outcome.reason) for outcome in outcomes if not outcome.usable)
    lines = tuple((str(n), source, reason) for (source, reason), n in reasons.most_common())
    return Section(title="Not predicted", headings=("n", "source", "reason"), numeric=(0,), lines=lines)


def sections(outcomes: Sequence[Outcome]) -> tuple[Section, ...]:
    """Every table, those without lines left out."""
    rankings = plan_rankings(outcomes)
    made = (
        table("By source (|error| of the step time)", "source", by_source(outcomes)),
        table("By chip", "chip", by_chip(outcomes)),
        table("By regime", "regime", by_regime(outcomes)),
        table("Plans of one model on one cluster", "cluster", rankings),
        ratio_table(chip_ratios(outcomes)),
        unusable_table(outcomes),
    )
    return tuple(section for section in made if section.lines)


def closing(outcomes: Sequence[Outcome]) -> str:
    """The headline."""
    mean = headline(outcomes)
    scored, usable = sum(outcome.scored for outcome in outcomes), sum(outcome.usable for outcome in outcomes)
    counted = f"{usable} of {len(outcomes)} runs predicted, {scored} scored"
    if mean is None:
        return f"{counted}: nothing to judge the model by."
    sources = len({outcome.run.source for outcome in outcomes if outcome.in_headline})
    ranked = sorted(one.rank for one in plan_rankings(outcomes) if one.rank is not None)
    inside = [one for one in by_source(outcomes) if one.in_sample]
    how = "leave-one-source-out" if all(one.left_out is not None for one in inside) else "partly in sample"
    how = how if inside else "no constant calibrated on any"
    words = f"{counted}. Mean over {sources} sources of the median |error|, {how}: {percent(mean)}."
    if ranked:
        words += f" Median rank correlation of plans on one cluster: {ranked[len(ranked) // 2]:.3f}."
    return words
