"""Answers in words: the table, then for each its reason, its limit, both plans, prices, and what all of it rests on."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from chipassay.scaling.exchange import Exchange, Run
from chipassay.scaling.machine import Input
from chipassay.scaling.text import amount, describe_inputs, ranked, worth_sentence

from .answer import Answer, Question
from .rows import FIGURES, common_notes, limit_sentence, table, terms, title

WIDTH = 130
"""Of the lines that say what the table's figures are."""


def told(question: Question, answers: Sequence[Answer]) -> str:
    """All of it, for a terminal. Of several answers only the assumed inputs are listed."""
    unfinished = sum(answer.unfinished for answer in answers)
    parts = [f"interrupted: {unfinished} of {len(answers)} are not answered"] if unfinished else []
    parts += [f"{title(question)}:", table(question, answers), *_wrapped((FIGURES, *terms(question, answers)))]
    common = common_notes(answers)
    parts += ["", *(line for answer in answers for line in (*_paragraph(answer, common), ""))]
    if common:
        parts += ["for all of them:", *(f"  note: {note}" for note in common), ""]
    inputs = [one for answer in answers if answer.exchange is not None for one in answer.exchange.inputs]
    if not inputs:
        return "\n".join(parts).rstrip()
    parts.append("what this rests on:")
    if len(answers) == 1:
        parts.append(describe_inputs(inputs))
        return "\n".join(parts)
    assumed = [one for one in ranked(inputs) if one.evidence.level == "assumed"]
    parts += [describe_inputs(assumed)] if assumed else []
    parts.append(f"  and {_counted(inputs)}: --json has them all")
    return "\n".join(parts)


def _wrapped(sentences: Sequence[str]) -> list[str]:
    return [line for said in sentences for line in textwrap.wrap(said, WIDTH, initial_indent="  ", subsequent_indent="    ")]


def _counted(inputs: Sequence[Input]) -> str:
    levels = [one.evidence.level for one in ranked(inputs)]
    counts = [f"{levels.count(level)} {level}" for level in ("derived", "published", "measured") if level in levels]
    return ", ".join(counts) or "nothing else"


def _paragraph(answer: Answer, common: Sequence[str]) -> list[str]:
    e = answer.exchange
    if e is None:
        return [f"{answer.model.name}, {answer.other}: {answer.refusal}"]
    lines = [f"{_verdict(e)}", f"  {e.reason}"]
    if limit := limit_sentence(e):
        lines.append(f"  {limit}")
    if e.worth is not None:
        fewest = f"{e.worth.reference.chips:,} and {e.worth.other.chips:,} chips"
        lines.append(f"  on the fewest nodes that hold the model ({fewest}), at equal work per chip: {worth_sentence(e.worth)}")
    runs = [run for run in (e.reference_run, e.other_run) if run is not None]
    lines += [f"  {run.name}: {amount(run.tokens_per_s)} tokens/s, {' and '.join(run.dtypes)}, {run.text}" for run in runs]
    lines += _mixes(e)
    lines += [f"  note: {note}" for note in e.notes if note not in common]
    lines += _prices(e)
    return lines


def _verdict(e: Exchange) -> str:
    """The answer in one line."""
    first = f"{e.model}: {e.reference_count:,} x {e.reference_chip}"
    if e.count is None:
        line = f"{first} cannot be replaced by {e.other_chip}" + ("" if e.same == "time" else f" for the same {e.same}")
        if e.nearest_count is None or e.nearest_ratio is None:
            return line
        what = {"time": "of its speed", "cost": "times its cost", "rent": "times its rent", "power": "times its power"}
        return f"{line}; nearest: {e.nearest_count:,} with {e.nearest_ratio:.4g} {what.get(e.same, 'times its energy')}"
    line = f"{first} = {e.count:,} x {e.other_chip}"
    if e.same != "time" and e.speed is not None:
        line += f" for the same {e.same}, at {e.speed:.3g} of the speed"
        if e.speed_low != e.speed_high:
            line += f" (80 %: {e.speed_low:.3g} to {e.speed_high:.3g})"
    return line


def _mixes(e: Exchange) -> list[str]:
    """What the chips of a mix do otherwise: even split, and each smaller choice of kinds."""
    if e.mix is None:
        return []
    best = e.mix.best.tokens_per_s
    lines = []
    if e.mix.even_split is not None:
        even = e.mix.even_split
        lines.append(f"  split evenly, as if all were alike: {even.tokens_per_s / best:.3g} of that speed")
    lines += [f"  {' and '.join(one.kinds)} alone: {one.tokens_per_s / best:.3g} of that speed" for one in e.mix.without]
    return lines


def _prices(e: Exchange) -> list[str]:
    told: dict[str, None] = {}
    for run in (e.reference_run, e.other_run):
        if run is not None:
            for group, price in zip(run.groups, run.prices, strict=True):
                if price is not None:
                    told[f"  {group.profile.chip_id}: {price.describe()}"] = None
    lines = list(told)
    if (ratio := _ratio_of_cost(e.reference_run, e.other_run)) is not None:
        lines.append(f"  {ratio}")
    return lines


def _ratio_of_cost(reference: Run, other: Run | None) -> str | None:
    if other is None or other.usd_per_token is None or reference.usd_per_token is None:
        return None
    ratio = other.usd_per_token / reference.usd_per_token
    ends = reference.usd_per_hour_ends, other.usd_per_hour_ends
    said = f"the same tokens on {'+'.join(g.profile.chip_id for g in other.groups)} cost {ratio:.3g} times the reference's"
    chips = [{group.profile.chip_id for group in run.groups} for run in (reference, other)]
    if ends[0] is None or ends[1] is None or ends[0][0] == ends[0][1] or chips[0] == chips[1]:
        return said  # of the same chip the quotes tell landlords apart, not the two sides
    time = reference.tokens_per_s / other.tokens_per_s
    return f"{said} ({time * ends[1][0] / ends[0][1]:.3g} to {time * ends[1][1] / ends[0][0]:.3g} by quote)"
