"""The answers of a scenario as tables and prose, for a terminal of 100 columns and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from chipassay.results.safe_text import printable

from ..comparison.markdown import escaped
from ..profile_text import WIDTH, Table, markdown, text, wrapped
from .answer import figure, interval_of, value_of
from .labels import label
from .records import OUTCOME_WORDS, Answer, Case, Outcome, Scenario, axis_name

SHORT = 12
"""Cases that a table on a terminal shows; the page, Markdown and JSON have all."""


def short_table(answer: Answer) -> Table:
    """The first cases for a terminal: what varies, the value, the claim, and as many other numbers as there is room for."""
    every = table_of(answer)
    axes = len({axis for case in answer.cases for axis in case.axes})
    headings = [*every.headings[:axes], "value", *every.headings[axes + 1 :]]
    shown = [tuple(label(cell) if place < axes else cell for place, cell in enumerate(line)) for line in every.lines[:SHORT]]
    always = {axes, axes + 1, *([axes + 2] if answer.verdict.outcomes else [])}
    kept: list[int] = []
    for place in range(len(headings)):
        width = sum(max(len(line[other]) for line in (headings, *shown)) + 2 for other in (*kept, place))
        if place in always or (len({line[place] for line in every.lines}) > 1 and width <= WIDTH):
            kept.append(place)
    numeric = tuple(kept.index(place) for place in every.numeric if place in kept)
    return Table("", tuple(headings[place] for place in kept), tuple(tuple(line[place] for place in kept) for line in shown), numeric)


def table_of(answer: Answer) -> Table:
    """The cases of an answer as a table: the axes, the value with its interval, what it says of the claim, other numbers, the reason."""
    cases = ranked(answer)
    axes = list(dict.fromkeys(axis for case, _ in cases for axis in case.axes))
    names = list(dict.fromkeys(name for case, _ in cases for name in case.numbers))
    reasons = any(case.reason for case, _ in cases)
    judged = bool(answer.verdict.outcomes)
    headings = [
        *map(axis_name, axes),
        answer.question.measure,
        "80 % interval",
        *(["claim"] if judged else []),
        *names,
        *(["why"] if reasons else []),
    ]
    lines = []
    for case, outcome in cases:
        line = [*(case.axes.get(axis, "") for axis in axes), value_of(case), interval_of(case)]
        line += [OUTCOME_WORDS[outcome]] if outcome else []
        line += [_number(case.numbers.get(name)) for name in names]
        lines.append(tuple(printable(cell) for cell in (*line, *([case.reason] if reasons else []))))
    first = len(axes)
    numeric = [first] + [first + 2 + judged + place for place, name in enumerate(names) if _is_number(cases, name)]
    return Table("", tuple(printable(heading) for heading in headings), tuple(lines), tuple(numeric))


def ranked(answer: Answer) -> list[tuple[Case, Outcome | None]]:
    """The cases with their outcomes; where nothing is claimed the unbeaten first, then by value."""
    if not answer.verdict.outcomes:
        return [(case, None) for case in sorted(answer.cases, key=lambda case: (not case.numbers.get("unbeaten"), case.value))]
    return list(zip(answer.cases, answer.verdict.outcomes, strict=True))


def _is_number(cases: Sequence[tuple[Case, Outcome | None]], name: str) -> bool:
    return any(isinstance(case.numbers.get(name), float) for case, _ in cases)


def _number(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else figure(value)


def depends(by_axis: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """A line for each axis that the verdict depends on: where the claim holds."""
    for axis, places in by_axis.items():
        together: dict[str, list[str]] = {}
        for at, says in places.items():
            together.setdefault(says, []).append(label(at))
        yield f"by {axis_name(axis)}: " + "; ".join(f"{says}: {', '.join(at)}" for says, at in together.items())


def details(answer: Answer) -> Iterator[str]:
    """What stands under the sentence: what its kind tells, where the claim holds, how it was read and judged, and what was assumed."""
    yield from answer.notes
    yield from depends(answer.by_axis)
    if answer.question.reading:
        yield f"Read as: {answer.question.reading}"
    if answer.question.limits.given:
        yield answer.rule
    yield from answer.assumed


def told(answer: Answer) -> list[str]:
    """One answer for a terminal."""
    question = answer.question
    lines = ["", f"{question.id}: {answer.verdict.describe()}"]
    lines += wrapped(f'"{question.claim}"', 2)
    for source in question.sources:
        lines += wrapped(f"source: {source}", 2)
    lines += wrapped(answer.sentence, 2)
    for line in details(answer):
        lines += wrapped(line, 2)
    lines += [f"  {line}" if line else line for line in text(short_table(answer))]
    if len(answer.cases) > SHORT:
        lines.append(f"  ... {len(answer.cases) - SHORT} more cases; --format markdown, --json and --html have all")
    return lines


def head(scenario: Scenario) -> list[str]:
    """What stands above the answers."""
    dated = [] if scenario.as_of is None else [f"Software and chips of {scenario.as_of}."]
    quoted = [] if scenario.prices_until is None else [f"Prices quoted until {scenario.prices_until}."]
    return [scenario.title, *wrapped(" ".join([scenario.summary, *dated, *quoted]))]


def summary(answers: Sequence[Answer]) -> Table:
    """One line a claim."""
    lines = [(answer.question.id, answer.verdict.describe(), answer.counted) for answer in answers]
    width = 3 if any(line[-1] for line in lines) else 2
    return Table("Verdicts", ("question", "verdict", "cases")[:width], tuple(line[:width] for line in lines))


def unfinished(scenario: Scenario, answers: Sequence[Answer]) -> str:
    """What is missing where it was interrupted, in a sentence; empty where nothing is."""
    whole = {answer.question.id for answer in answers if answer.verdict.word != "unfinished"}
    missing = [question.id for question in scenario.questions if question.id not in whole]
    return f"UNFINISHED: interrupted; without a full answer: {', '.join(missing)}." if missing else ""


def as_markdown(scenario: Scenario, answers: Sequence[Answer]) -> list[str]:
    """The whole scenario in GitHub's Markdown."""
    lines = [f"# {escaped(scenario.title)}", "", escaped(" ".join(head(scenario)[1:]))]
    lines += ["", f"**{escaped(missing)}**"] if (missing := unfinished(scenario, answers)) else []
    lines += markdown(summary(answers))
    for answer in answers:
        question = answer.question
        lines += ["", f"## {escaped(question.claim)}", "", f"**{escaped(answer.verdict.describe())}.** {escaped(answer.sentence)}", ""]
        lines += [f"- {escaped(line)}" for line in details(answer)]
        lines += [*(f"- Source of the claim: {escaped(source)}" for source in question.sources), ""]
        lines += markdown(table_of(answer))
    return lines
