"""Working a scenario out: cases of each question, the verdict by its limits, and the sentence with the numbers put in."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import Template

from chipassay.results.errors import InputError, UnknownName
from chipassay.scaling.text import amount

from .labels import label
from .records import Answer, Case, Limits, Question, Scenario, Verdict
from .rule import along, describe_rule, outcome, verdict

WORD = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")
WORDS = ("range", "least", "most", "low", "high", "least_at", "most_at", "cases", "yes", "no", "open")
"""What a sentence can name: the values' range, the ends of their intervals, where they lie, and how many cases say what. ``by_AXIS`` gives
the range of the values at each place on an axis."""


MOST_EXACT = 1e7
"""Whole numbers below it are counts."""
SMALL = 0.1
"""Below it one digit is enough."""
IMPOSSIBLE = "impossible"
"""The value of a case that no number does."""
SHOWN = 2
"""Reasons of such cases that a sentence tells; the table has all."""


def figure(value: float) -> str:
    """A value with three digits that matter; what is counted, in full.

    >>> figure(2.456), figure(118.2), figure(4096.0), figure(math.inf)
    ('2.46', '118', '4,096', 'impossible')
    """
    if not math.isfinite(value):
        return IMPOSSIBLE
    if float(value).is_integer() and abs(value) < MOST_EXACT:
        return f"{value:,.0f}"
    return f"{value:.1g}" if 0 < abs(value) < SMALL else amount(value)


def check_words(answer: str, axes: Sequence[str]) -> None:
    """Raise InputError for a $word that cannot be filled in. ``axes``: those that the kind of question has."""
    known = [*WORDS, *(f"by_{axis}" for axis in axes)]
    if "$" in WORD.sub("", answer):
        raise InputError("a $ is followed by no word; write $$ for the sign itself")
    for match in WORD.finditer(answer):
        word = match[1] or match[2]
        if word is not None and word not in known:
            raise UnknownName("word", word, known)


def answers(scenario: Scenario, started: Callable[[int, Question], None] = lambda place, question: None) -> Iterator[Answer]:
    """The answers of a scenario, one after the other. ``started`` is called before each, with its place from 0."""
    for place, question in enumerate(scenario.questions):
        started(place, question)
        yield answer(question, scenario)


def answer(question: Question, scenario: Scenario) -> Answer:
    """One question worked out."""
    from .read import kind_module

    return judged(question, tuple(kind_module(question.kind).cases(question, scenario)))


def judged(question: Question, cases: tuple[Case, ...]) -> Answer:
    """The cases of a question and what they say of it."""
    if not cases:
        raise InputError(f"question {question.id}: no case could be worked out; give more models or chips")
    axes = [case.axes for case in cases]
    if question.limits.given:
        found = verdict(axes, [outcome(case.value, case.low, case.high, question.limits) for case in cases])
    else:
        found = Verdict("answered")
    by_axis = {axis: along(axis, axes, found.outcomes) for axis in found.on if any(axis in place for place in axes)}
    ends = {name: figure(end) for name in ("at_least", "at_most") if math.isfinite(end := getattr(question.limits, name))}
    rule = describe_rule(question.measure, question.limits, ends)
    if found.outcomes:
        rule += f" {_counted(question.limits, cases, found)}"
    return Answer(question, cases, found, rule, _sentence(question, cases, found), by_axis)


def _counted(limits: Limits, cases: Sequence[Case], found: Verdict) -> str:
    """How many cases say what, and how many are sure of it."""
    holding = [case for case, says in zip(cases, found.outcomes, strict=True) if says == "yes"]
    sure = sum(limits.at_least <= case.low and case.high <= limits.at_most for case in holding)
    whole = f" ({sure} of them with the whole interval)" if holding else ""
    against, between = found.outcomes.count("no"), found.outcomes.count("open")
    return f"Of {len(cases)} cases it holds in {len(holding)}{whole}, does not in {against}, {between} are open."


def _words(cases: Sequence[Case], found: Verdict) -> dict[str, str]:
    """The $words of a question's sentences."""
    finite = [case for case in cases if math.isfinite(case.value)]
    words = dict.fromkeys(WORDS, IMPOSSIBLE)
    words |= {"cases": str(len(cases)), **{kind: str(found.outcomes.count(kind)) for kind in ("yes", "no", "open")}}
    if finite:
        words["range"] = spanned(finite)
        least, most = min(finite, key=lambda case: case.value), max(finite, key=lambda case: case.value)
        ends = {
            "least": least.value,
            "most": most.value,
            "low": min(case.low for case in finite),
            "high": max(case.high for case in finite),
        }
        words |= {name: figure(value) for name, value in ends.items()} | {"least_at": place(least), "most_at": place(most)}
    for axis in dict.fromkeys(name for case in cases for name in case.axes):
        words[f"by_{axis}"] = "; ".join(f"{label(at)} {spanned(here)}" for at, here in by_place(axis, cases).items())
    return words


def _sentence(question: Question, cases: Sequence[Case], found: Verdict) -> str:
    """The question's sentence with numbers; what no number does is told after it."""
    sentence = Template(question.answer).safe_substitute(_words(cases, found))
    without = [case for case in cases if not math.isfinite(case.value)]
    if without and len(without) < len(cases):
        reasons = "; ".join(dict.fromkeys(f"{place(case)}: {case.reason}" for case in without[:SHOWN]))
        sentence += f" In {len(without)} of {len(cases)} cases no number does it ({reasons}{'; ...' if len(without) > SHOWN else ''})."
    return sentence


def headline(answer: Answer) -> str:
    """The finding in one short sentence, for titles."""
    return Template(answer.question.headline).safe_substitute(_words(answer.cases, answer.verdict))


def place(case: Case) -> str:
    """Where a case lies, in words."""
    return ", ".join(label(at) for at in case.axes.values() if at)


def by_place(axis: str, cases: Sequence[Case]) -> Mapping[str, list[Case]]:
    """The cases at each place on an axis, in their order."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        if axis in case.axes:
            found.setdefault(case.axes[axis], []).append(case)
    return found


def spanned(cases: Sequence[Case]) -> str:
    """The range of their values in words."""
    finite = [case.value for case in cases if math.isfinite(case.value)]
    if not finite:
        return IMPOSSIBLE
    least, most = figure(min(finite)), figure(max(finite))
    some = "" if len(finite) == len(cases) else f" or {IMPOSSIBLE}"
    return (least if least == most else f"{least} to {most}") + some
