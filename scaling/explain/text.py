"""The terms as text of at most WIDTH columns: kinds with their sums, under each its formulas, their terms and the sources."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..text import seconds, shortened

if TYPE_CHECKING:
    from .term import Term

WIDTH = 100
SOURCE = "    source: "
LEAST_SHARE = 0.0005
"""Terms below this share of the step are told together."""


def describe_terms(terms: Sequence[Term]) -> str:
    """Formula, numbers, seconds and source of each term."""
    total_s = sum(term.seconds for term in terms)
    lines = [f"the step of {seconds(total_s)}, term by term (x layers of the slowest stage x microbatches):"]
    for kind in dict.fromkeys(term.kind for term in terms):
        own = [term for term in terms if term.kind == kind]
        if any(term.seconds for term in own):
            sum_s = sum(term.seconds for term in own)
            lines += [f"{kind}: {_time(sum_s)}, {sum_s / total_s:.1%}", *_kind(own, total_s)]
    return "\n".join(lines)


def _kind(terms: Sequence[Term], total_s: float) -> list[str]:
    small = [term for term in terms if 0 < abs(term.seconds) < LEAST_SHARE * total_s]
    small = small if len(small) > 1 else []
    told = [term for term in terms if term not in small]
    lines = []
    for formula in dict.fromkeys(term.formula for term in told):
        lines += _wrapped(formula, "  = ", "    ")
        for term in told:
            if term.formula == formula:
                time = _time(term.seconds) if term.seconds else ""
                lines += _wrapped(f"{term.what}: {term.numbers}", f"    {time:>8}  ", " " * 14)
    if small:
        names = ", ".join(dict.fromkeys(term.what for term in small))
        lines += _wrapped(f"{len(small)} smaller ones: {names}", f"    {_time(sum(term.seconds for term in small)):>8}  ", " " * 14)
    sources = dict.fromkeys(part for term in told for part in term.sources)
    return [*lines, *(f"{SOURCE}{shortened(part, WIDTH - len(SOURCE))}" for part in sources)]


def _wrapped(text: str, first: str, further: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=further)


def _time(value_s: float) -> str:
    return f"-{seconds(-value_s)}" if value_s < 0 else seconds(value_s)
