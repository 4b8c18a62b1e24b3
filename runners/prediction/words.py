"""The answer as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from chipassay.scaling.cost import describe_cost, describe_no_price
from chipassay.scaling.plan_text import write_plan
from chipassay.scaling.text import describe_prediction, ranked

if TYPE_CHECKING:
    from chipassay.scaling.machine import Input

    from .answer import Answer

WIDTH = 120


def told(answer: Answer, *, terms: bool, sensitivity: bool, curve: bool) -> Iterator[str]:
    """Paragraphs: the prediction, then what it costs and draws, then what else is wanted in text (a page may have asked for more)."""
    yield _asked(answer)
    yield describe_prediction(answer.prediction, answer.why_not)
    chip_id = answer.question.group.profile.chip_id
    yield describe_no_price(chip_id) if answer.cost is None else describe_cost(answer.cost)
    yield f"energy: unknown, {answer.energy_unknown}" if answer.energy is None else answer.energy.describe()
    if answer.energy is not None:
        yield _resting(answer.energy.inputs)
    if answer.goodput is not None:
        yield answer.goodput.describe()
        yield _resting(answer.goodput.inputs)
    if answer.run is not None:
        yield answer.run.describe()
    elif answer.question.tokens is not None:
        yield f"{answer.question.tokens:.4g} tokens: never, failures come faster than training goes on after them"
    if terms and answer.terms is not None:
        from chipassay.scaling.explain.text import describe_terms

        yield describe_terms(answer.terms)
    if sensitivity and answer.sensitivity is not None:
        yield answer.sensitivity.describe()
    if curve and answer.curve is not None:
        yield answer.curve.describe()


def _asked(answer: Answer) -> str:
    """What one step is, and the plan as arguments where it was searched for: so it can be asked for again, and changed."""
    plan, seq_len = answer.prediction.plan, answer.question.model.seq_len
    text = f"a step: {plan.global_batch:,} sequences of {seq_len:,} tokens"
    if answer.question.plan is not None:
        return text
    found = f"the best of the usual plans (`chipassay plan` weighs more): --batch {plan.global_batch} --plan {write_plan(plan)}"
    return f"{text}; {found}"


def _resting(inputs: Sequence[Input]) -> str:
    """What a figure rests on, in a line or two: each number with its evidence, weakest first. JSON and pages have the sources."""
    text = "by " + "; ".join(f"{found.what} {found.value} ({found.evidence.level})" for found in ranked(inputs))
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
