"""A scenario, its questions, the cases that a question is worked out for, and its answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from chipassay.scaling.machine import Input

Outcome = Literal["yes", "no", "open"]
"""Of one case: its whole interval lies within the limits; the whole of it lies outside; a part does."""


OUTCOME_WORDS: Mapping[Outcome, str] = {"yes": "holds", "no": "does not hold", "open": "is undecided"}
SPREAD = "the spread of the prediction"
"""What a claim depends on where cases are undecided."""

AXIS_NAMES: Mapping[str, str] = {
    "tp": "width of tensor parallelism",
    "top_chip": "top chip",
    "days": "number of days",
    "count": "number of chips",
}


def axis_name(axis: str) -> str:
    """An axis in words."""
    return AXIS_NAMES.get(axis, axis)


@dataclass(frozen=True)
class Run:
    """A published training run, whose tokens and batch stand for its model."""

    model: str
    tokens: float
    batch: int | None
    """Sequences of one step; None: about four million tokens."""
    source: str


@dataclass(frozen=True)
class Limits:
    """What a claim says of the value. A claim without limits is a question whose answer is a number."""

    at_least: float = -math.inf
    at_most: float = math.inf

    @property
    def given(self) -> bool:
        return self.at_least > -math.inf or self.at_most < math.inf


@dataclass(frozen=True)
class Question:
    """One claim, and how it is worked out."""

    id: str
    kind: str
    """The name of a module in ``kinds/``."""
    claim: str
    sources: tuple[str, ...]
    """Where the claim is to be read."""
    measure: str
    """What the value is, in words: ``H800 for 100 H100``."""
    limits: Limits
    headline: str
    """The finding in a few words, as ``answer``."""
    answer: str
    """A sentence with $words for the numbers; see ``answer.py``."""
    reading: str
    """How the words of the claim became limits and cases; may be empty."""
    options: Mapping[str, Any]
    """The fields of its kind, as checked by ``read.py``."""


@dataclass(frozen=True, eq=False)
class Scenario:
    """A file of questions."""

    name: str
    path: Path
    title: str
    summary: str
    as_of: str | None
    """YYYY-MM: the software of then, and chips of later are refused; None: today."""
    prices_until: str | None
    """YYYY-MM: quotes of later are not used; None: the latest ones are."""
    price_like: Mapping[str, tuple[str, str]]
    """Chip that nobody quotes -> the chip whose price stands for its own, and why that is assumed."""
    questions: tuple[Question, ...]
    runs: Mapping[str, Run]
    watch: Callable[[str], None] = lambda words: None
    """Told what is being worked on, where a case takes long."""


@dataclass(frozen=True)
class Case:
    """The value of one question for one model, chip, network, ..."""

    axes: Mapping[str, str]
    """Name of each dimension -> where on it."""
    value: float
    """Infinite where no number does it by the best estimate; ``reason`` says why."""
    low: float
    high: float
    """80 % interval. ``low`` is infinite where no number does it at either end of it, ``high`` where none does at the upper end."""
    numbers: Mapping[str, float | str | None] = field(default_factory=dict)
    """What else is known of it, by heading with its unit."""
    reason: str = ""
    inputs: tuple[Input, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Verdict:
    """What all cases together say of the claim."""

    word: Literal["supported", "not supported", "depends", "answered", "unfinished"]
    """``answered``: the question has no limits. ``unfinished``: not all cases were worked out."""
    on: tuple[str, ...] = ()
    """What it depends on: names of axes, or ``the spread of the prediction``."""
    outcomes: tuple[Outcome, ...] = ()
    """Of each case."""

    def describe(self) -> str:
        """The verdict in words.

        >>> Verdict("depends", ("chip", "model")).describe()
        'depends on the chip and the model'
        """
        if self.word != "depends":
            return self.word
        named = [name if name.startswith("the ") else f"the {axis_name(name)}" for name in self.on]
        return "depends on " + (" and ".join(filter(None, [", ".join(named[:-1]), named[-1]])))


@dataclass(frozen=True)
class Answer:
    """A question with its cases and what they say."""

    question: Question
    cases: tuple[Case, ...]
    verdict: Verdict
    rule: str
    """How the verdict was come to, in one sentence."""
    headline: str
    """The finding in one short sentence, for titles."""
    sentence: str
    by_axis: Mapping[str, Mapping[str, str]]
    """Where the verdict depends on an axis: each place on it, and what holds there."""
    notes: tuple[str, ...] = ()
    """What its kind has to tell beside the sentence."""
    assumed: tuple[str, ...] = ()
    """What was taken for granted: tokens, batches, networks, software, prices, and the evidence of it all."""

    @property
    def counted(self) -> str:
        """How many cases say what, shortly; empty without limits.

        >>> case = Case({}, 1.0, 1.0, 1.0)
        >>> question = Question("q", "exchange", "c", (), "m", Limits(at_least=3), "", "", "", {})
        >>> Answer(question, (case, case), Verdict("depends", (), ("yes", "open")), "", "", "", {}).counted
        'holds in 1, is undecided in 1 of 2'
        """
        outcomes = self.verdict.outcomes
        counted = ", ".join(f"{words} in {outcomes.count(kind)}" for kind, words in OUTCOME_WORDS.items() if kind in outcomes)
        return f"{counted} of {len(outcomes)}" if outcomes else ""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON: what is infinite is None."""
        question = asdict(self.question) | {
            "limits": {name: _finite(value) for name, value in asdict(self.question.limits).items()},
            "options": {name: str(value) for name, value in self.question.options.items()},
        }
        cases = []
        for place, case in enumerate(self.cases):
            outcome = self.verdict.outcomes[place] if self.verdict.outcomes else None
            told = asdict(case) | {name: _finite(getattr(case, name)) for name in ("value", "low", "high")}
            cases.append(told | {"outcome": outcome})
        return {
            "question": question,
            "verdict": self.verdict.describe(),
            "depends_on": list(self.verdict.on),
            "rule": self.rule,
            "headline": self.headline,
            "sentence": self.sentence,
            "notes": list(self.notes),
            "assumed": list(self.assumed),
            "by_axis": {axis: dict(places) for axis, places in self.by_axis.items()},
            "cases": cases,
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
