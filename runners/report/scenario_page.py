"""A scenario as one page (.html) that opens without a network: the verdicts, then each claim with its picture, cases and sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chipassay.results.units import short
from chipassay.scaling.text import ranked

from ..profile_text import Table
from ..scenario.records import Answer, Scenario
from ..scenario.words import details, head, table_of, unfinished
from . import facts
from .page import TEMPLATES, page_environment
from .prediction_page import _svg

MARKS = {"supported": "supported", "not supported": "not", "depends": "depends", "answered": "supported", "unfinished": "depends"}
RULE = (
    "A claim holds in a case where the whole 80 % interval of the number lies within it, does not hold where the whole interval lies "
    "outside, and is undecided where a part does. It is supported where it holds in every case that was worked out, not supported where it "
    "holds in none and none is undecided; otherwise it depends on what tells the cases apart, and where some are undecided on how exact "
    "the prediction is."
)


@dataclass(frozen=True)
class Told:
    """A question as the page shows it."""

    id: str
    headline: str
    claim: str
    verdict: str
    mark: str
    sentence: str
    counted: str
    """How many cases say what; empty without limits."""
    details: tuple[str, ...]
    sources: tuple[str, ...]
    picture: str
    table: Table


def page_text(scenario: Scenario, answers: Sequence[Answer]) -> str:
    """The page. Raises ChipassayError where a library is missing; the same answers give the same text."""
    environment = page_environment()
    from markupsafe import Markup

    return environment.get_template("scenario.html.j2").render(
        title=scenario.title,
        sentence=_sentence(answers),
        summary=" ".join(head(scenario)[1:]),
        unfinished=unfinished(scenario, answers),
        rule=RULE,
        judged=any(answer.question.limits.given for answer in answers),
        questions=[_told(answer) for answer in answers],
        runs=_runs(scenario),
        inputs=ranked([found for answer in answers for case in answer.cases for found in case.inputs]),
        version=facts.chipassay_version(),
        style=Markup((TEMPLATES / "style.css").read_text(encoding="utf-8").strip()),
        safe=Markup,
    )


def _sentence(answers: Sequence[Answer]) -> str:
    """What the first question comes to, and how many claims hold: all that who reads no further should know."""
    if not answers:
        return ""
    words: Counter[str] = Counter(answer.verdict.word for answer in answers if answer.question.limits.given)
    said = {
        "supported": "supported",
        "not supported": "not supported",
        "depends": "true of some cases or undecided",
        "unfinished": "unfinished",
    }
    counted = ", ".join(f"{words[word]} {told}" for word, told in said.items() if words[word])
    first = f"{answers[0].headline.rstrip('.')}."
    return f"{first} Of {sum(words.values())} claims: {counted}." if sum(words.values()) > 1 else first


def _told(answer: Answer) -> Told:
    from .scenario_pictures import draw_answer

    question = answer.question
    picture = _svg(draw_answer(answer), f"picture-{question.id}", answer.headline, answer.sentence)
    return Told(
        id=question.id,
        headline=answer.headline,
        claim=question.claim,
        verdict=answer.verdict.describe(),
        mark=MARKS[answer.verdict.word],
        sentence=answer.sentence,
        counted=answer.counted,
        details=tuple(details(answer)),
        sources=question.sources,
        picture=picture,
        table=table_of(answer),
    )


def _runs(scenario: Scenario) -> Table | None:
    """The runs that some question needs."""
    lines: Iterator[tuple[str, ...]] = (
        (run.model, short(run.tokens), "" if run.batch is None else f"{run.batch:,}", run.source) for run in scenario.runs.values()
    )
    kept = tuple(lines)
    return Table("Runs", ("model", "tokens", "sequences per step", "source"), kept, (1, 2)) if kept else None
