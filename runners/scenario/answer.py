"""Working a scenario out: cases of each question, the verdict by its limits, and the sentence with the numbers put in."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from string import Template

from chipassay.results.errors import InputError, UnknownName
from chipassay.scaling.text import amount

from .assumed import assumed
from .labels import label
from .records import Answer, Case, Limits, Question, Scenario, Verdict
from .rule import along, describe_rule, leans, outcome, verdict

WORD = re.compile(r"\$(?:\$|(\w+)|\{(\w+)\})")
WORDS = ("range", "least", "most", "low", "high", "least_at", "most_at", "cases", "yes", "no", "open")
"""What a sentence can name: the values' range, the ends of their intervals, where they lie, and how many cases say what. ``by_AXIS`` gives
the range of the values at each place on an axis."""


MOST_EXACT = 1e7
"""Whole numbers below it are counts."""
SMALL = 0.1
"""Below it one digit is enough."""
IMPOSSIBLE, PERHAPS = "impossible", "perhaps impossible"
"""The value of a case that no number does: at either end of the interval, or by the best estimate only."""
NEVER, UNLIKELY = "no number does it", "no number does it by the best estimate, though one may within the interval"
SHOWN = 2
"""Reasons of such cases that a sentence tells; the table has all."""


def value_of(case: Case) -> str:
    """The value of a case in words.

    >>> value_of(Case({}, math.inf, 900.0, math.inf)), value_of(Case({}, math.inf, math.inf, math.inf))
    ('perhaps impossible', 'impossible')
    """
    return PERHAPS if math.isinf(case.value) and math.isfinite(case.low) else figure(case.value)


def interval_of(case: Case) -> str:
    """Its interval in words; nothing where no number does it at either end."""
    return f"{figure(case.low)} to {figure(case.high)}" if math.isfinite(case.low) else ""


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


def check_words(answer: str, axes: Sequence[str], more: Sequence[str] = ()) -> None:
    """Raise InputError for a $word that cannot be filled in. ``axes``: those that the kind of question has; ``more``: its own words."""
    known = [*WORDS, *(f"by_{axis}" for axis in axes), *more]
    if "$" in WORD.sub("", answer):
        raise InputError("a $ is followed by no word; write $$ for the sign itself")
    for match in WORD.finditer(answer):
        word = match[1] or match[2]
        if word is not None and word not in known:
            raise UnknownName("word", word, known)


def answers(scenario: Scenario, watch: Callable[[int, str], None] = lambda place, words: None) -> Iterator[Answer]:
    """The answers of a scenario, one after the other. ``watch`` is called before each case with the question's place from 0 and what is
    worked on. An interrupt ends them: the question that was worked on comes last, with the cases that it has, as unfinished.
    """
    from .read import kind_module

    now = 0
    watched = replace(scenario, watch=lambda words: watch(now, f"{scenario.questions[now].id}: {words}"))
    for now, question in enumerate(scenario.questions):
        cases: list[Case] = []
        watch(now, f"{question.id}: case 1")
        try:
            for case in kind_module(question.kind).cases(question, watched):
                cases.append(case)
                watch(now, f"{question.id}: case {len(cases) + 1}")
            told = judged(question, tuple(cases), scenario)
        except KeyboardInterrupt:
            if cases:
                yield judged(question, tuple(cases), scenario, finished=False)
            raise
        yield told


def answer(question: Question, scenario: Scenario) -> Answer:
    """One question worked out."""
    (found,) = answers(replace(scenario, questions=(question,)))
    return found


def judged(question: Question, cases: tuple[Case, ...], scenario: Scenario | None = None, finished: bool = True) -> Answer:
    """The cases of a question and what they say of it. Without ``scenario`` what is assumed is not told. What is not ``finished`` has no
    verdict. Raises InputError where there is no case."""
    from .read import kind_module

    if not cases:
        raise InputError(f"question {question.id}: no case could be worked out; give more models or chips")
    axes = [case.axes for case in cases]
    if question.limits.given:
        found = verdict(axes, [outcome(case.low, case.high, question.limits) for case in cases])
    else:
        found = Verdict("answered")
    by_axis = {axis: along(axis, axes, found.outcomes) for axis in found.on if any(axis in place for place in axes)}
    ends = {name: figure(end) for name in ("at_least", "at_most") if math.isfinite(end := getattr(question.limits, name))}
    rule = describe_rule(question.measure, question.limits, ends)
    if found.outcomes:
        rule += f" {_counted(question.limits, cases, found)}"
    if not finished:
        found, by_axis = replace(found, word="unfinished", on=()), {}
    module = kind_module(question.kind)
    words = _words(cases, found) | (module.words(cases) if hasattr(module, "words") else {})
    notes = tuple(module.notes(cases)) if hasattr(module, "notes") else ()
    taken = () if scenario is None else tuple(assumed(question, scenario, cases))
    sentence = Template(question.answer).safe_substitute(words) + (_without(cases) if found.outcomes else "")
    headline = Template(question.headline).safe_substitute(words)
    return Answer(question, cases, found, rule, headline, sentence, by_axis, notes, taken)


def _counted(limits: Limits, cases: Sequence[Case], found: Verdict) -> str:
    """How many cases say what, and to which side the undecided ones lean."""
    open_ = [case for case, says in zip(cases, found.outcomes, strict=True) if says == "open"]
    counts = [found.outcomes.count(kind) for kind in ("yes", "no", "open")]
    told = f"Of {len(cases)} cases it holds in {counts[0]}, does not in {counts[1]}, is undecided in {counts[2]}"
    return (
        f"{told} (of these it holds by the best estimate in {sum(leans(case.value, limits) for case in open_)})." if open_ else f"{told}."
    )


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


def _without(cases: Sequence[Case]) -> str:
    """What stands behind the sentence: in how many cases no number does it, and why."""
    told = ""
    without = [case for case in cases if not math.isfinite(case.value)]
    for words, some in ((NEVER, [c for c in without if math.isinf(c.low)]), (UNLIKELY, [c for c in without if math.isfinite(c.low)])):
        if some and len(without) < len(cases):
            reasons = list(dict.fromkeys(f"{place(case)}: {case.reason}" for case in some))
            more = "; ..." if len(reasons) > SHOWN else ""
            told += f" In {len(some)} of {len(cases)} cases {words} ({'; '.join(reasons[:SHOWN])}{more})."
    return told


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
    without = {value_of(case) for case in cases if not math.isfinite(case.value)}
    other = IMPOSSIBLE if IMPOSSIBLE in without else PERHAPS
    if not finite:
        return other
    least, most = figure(min(finite)), figure(max(finite))
    return (least if least == most else f"{least} to {most}") + (f" or {other}" if without else "")
