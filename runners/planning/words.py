"""What is said around the table of plans."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from chipassay.scaling.constants import STRAGGLER_SIGMA
from chipassay.scaling.plan_text import write_plan
from chipassay.scaling.text import amount, seconds

from .columns import degrees, table

if TYPE_CHECKING:
    from chipassay.scaling.planner.answer import PlanAnswer

WIDTH = 100
SAME_CHIPS = STRAGGLER_SIGMA.value
BY = {"time": "by time", "cost": "by cost", "energy": "by energy", "chips": "on the fewest chips"}
AGAINST = {"cost": "money", "chips": "chips", "memory": "memory"}


def title(answer: PlanAnswer, cluster: str) -> str:
    """What was asked."""
    first = answer.best.prediction
    asked = f"{first.model} on up to {cluster}, {first.dtype}, batch {first.plan.global_batch}: best plans {BY[answer.objective]}"
    return asked + (", so far (interrupted)" if answer.interrupted else "")


def front_title(answer: PlanAnswer) -> str:
    """What the second table shows."""
    return f"Time against {AGAINST[answer.against or 'chips']}: no plan beats one of these in both"


def losers(answer: PlanAnswer) -> Iterator[str]:
    """Why each of the others is not the first."""
    for place in range(1, len(answer.candidates)):
        yield textwrap.fill(f"{place + 1}. {answer.why(place)}", WIDTH, initial_indent="  ", subsequent_indent="     ")


def standing(answer: PlanAnswer) -> str:
    """How much was looked at, and what the first place is worth."""
    looked = f"{answer.plans_seen:,} plans weighed, {answer.plans_timed:,} timed; the others do not fit, or cannot be better."
    if answer.interrupted:
        return f"{looked} Interrupted: plans that were not looked at may be better."
    if answer.proven:
        return f"{looked} None of them is better than the first."
    return f"{looked} Not all pipelines were played through: within what closed forms err, another may be a little better."


def best_as_arguments(answer: PlanAnswer, cluster: str) -> str:
    """The first plan as ``predict`` takes it; a cluster of a file is left to the reader where the plan does not use all of it."""
    first = answer.best.prediction
    told = re.sub(r"^\d+(?=x)", str(first.chips), cluster)
    return f"--cluster {told} --batch {first.plan.global_batch} --plan {write_plan(first.plan)}"


def run_words(answer: PlanAnswer, tokens: float) -> str:
    """Days and money of the first plan for so many tokens."""
    from chipassay.scaling.cost import run_cost

    return run_cost(answer.best.prediction, tokens, answer.price).describe()


def markdown(answer: PlanAnswer, cluster: str) -> str:
    """A table for a page or a pull request."""
    from ..comparison.markdown import escaped

    def rows(headings: tuple[str, ...], lines: list[tuple[str, ...]]) -> Iterator[str]:
        yield "| " + " | ".join(headings) + " |"
        yield "|" + " --- |" * len(headings)
        for line in lines:
            yield "| " + " | ".join(escaped(cell) for cell in line) + " |"

    headings, lines = table(answer, answer.candidates)
    whys = [answer.why(place) or "the best" for place in range(len(lines))]
    text = [f"**{escaped(title(answer, cluster))}**", ""]
    text += rows((*headings, "why"), [(*line, why) for line, why in zip(lines, whys, strict=True)])
    if answer.front:
        text += ["", f"**{front_title(answer)}**", "", *rows(*table(answer, answer.front))]
    return "\n".join([*text, "", standing(answer)])


def noted(answer: PlanAnswer) -> Iterator[str]:
    """The simplest of the plans that are as good as the first, and what has to be known of the first."""
    place = answer.simplest
    if place:
        one = answer.candidates[place]
        yield textwrap.fill(
            f"Number {place + 1} ({degrees(one.prediction.plan)}) cuts the work in fewer ways and is less than {SAME_CHIPS:.1%} behind, no "
            "more than two chips of one kind differ: simpler to run, and as good.".replace("%", " %"),
            WIDTH,
        )
    for note in answer.notes:
        yield textwrap.fill(f"Note: {note}", WIDTH)


def day_words(answer: PlanAnswer) -> str:
    """What the first plan does in a day, and what that costs; failures left out."""
    first = answer.best.prediction
    text = f"A day on {first.chips} chips, without failures: {amount(first.tokens_per_s * 86400 / 1e9)} billion tokens"
    if answer.price is None:
        return f"{text}; no price is known: give --price CHIP=USD per chip and hour"
    return f"{text} for {amount(24 * first.chips * answer.price.usd)} USD; price: {answer.price.describe()}"


def interval(answer: PlanAnswer) -> str:
    """How sure the first plan's figures are."""
    first = answer.best.prediction
    free = f"{100 * answer.spare:g} % of them stay free in every plan"
    slow, fast = (first.tokens_per_s * first.step_time_s / step_s for step_s in (first.high_s, first.low_s))
    parts = (
        f"step {seconds(first.step_time_s)} (80 %: {seconds(first.low_s)} to {seconds(first.high_s)})",
        f"{amount(first.tokens_per_s)} tokens/s ({amount(slow)} to {amount(fast)})",
        f"{first.memory_total_bytes / 1e9:.1f} of {first.memory_limit_bytes / 1e9:.1f} GB per chip ({free})",
    )
    return f"The first, on {first.chips} of {answer.chips_available} chips: {', '.join(parts)}"
