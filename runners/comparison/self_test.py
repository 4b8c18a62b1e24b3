"""The same code measured again and again on this machine, for a comparison of the machine with itself."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chipassay.results.errors import NothingMeasured

from .asked import threshold_words
from .words import counted

if TYPE_CHECKING:
    from chipassay.results.schema import Row

    from ..options import RunOptions
    from .false_alarms import Alarms, SelfTest
    from .view import View

RUNS = 6
"""Three runs a side: two would tell what lies between runs from a single difference."""
BUDGET_S = 300.0
"""The quick suite on a small CPU: 50 cases, each a second in each run."""


MOST_NEEDED = 0.5
"""A threshold above which a comparison tells nothing that one could not see without it."""


def measure_runs(options: RunOptions, count: int, budget_s: float, tell: Callable[[str], None]) -> list[list[Row]]:
    """Rows of ``count`` runs, A and B in turns, each in processes of its own, with an equal share of ``budget_s``: runs must be alike.

    Raises NothingMeasured where no row is ok, KeyboardInterrupt when the user ends it.
    """
    from ..run import Run

    runs: list[list[Row]] = []
    with tempfile.TemporaryDirectory(prefix="chipassay-self-test-") as folder:
        for position in range(count):
            own = replace(options, rounds=1, tune=False, out=Path(folder) / f"run-{position + 1}.csv", budget_s=budget_s / count)
            outcome = Run(own, lambda facts, cases, path: None, lambda done, total, task, row: None).execute()
            if outcome.interrupted:
                raise KeyboardInterrupt
            good = sum(row.status == "ok" for row in outcome.rows)
            cases = counted(len(outcome.rows), "case")
            tell(f"run {position + 1} of {count} ({'AB'[position % 2]}): {good} of {cases} in {outcome.wall_s:.0f} s")
            if not good:
                reason = next((f"{row.status}: {row.reason}" for row in outcome.rows), "there was no case")
                raise NothingMeasured(f"no case could be measured ({reason}); give more time by --budget, or fewer cases by --only")
            runs.append(list(outcome.rows))
    return runs


def to_stderr(words: str) -> None:
    """Progress that does not mix with the result."""
    from ..say import say

    say(words, to=sys.stderr)


def closing(test: SelfTest) -> str:
    """What to do about it, in one or two sentences."""
    over = _over(test.single)
    here = f"On this machine ({', '.join(test.chips)})"
    if worst := [alarms for alarms in over if alarms.needed > MOST_NEEDED]:
        most = max(alarms.shift_most for alarms in worst)
        return (
            f"{here} nothing can be compared ({', '.join(alarms.kind for alarms in worst)}): runs of the same code differed by up to "
            f"{_share(most)}. Find what else runs on it, fix its clock, or give it more time."
        )
    if not over:
        first = f"{here} the usual thresholds hold for single runs ({threshold_words(test.settings.thresholds)})."
    else:
        option = ",".join(f"{alarms.kind}={100 * alarms.needed:g}%" for alarms in over)
        first = f"{here} do not trust a single-run difference under {_needed(over)}: --threshold {option}."
    pooled = _over(test.pooled)
    half = test.runs // 2
    if not pooled:
        return f"{first} With {half} runs pooled a side the usual thresholds hold."
    return f"{first} With {half} runs pooled a side: not under {_needed(pooled)}."


def _needed(found: list[Alarms]) -> str:
    return " and ".join(f"{_share(alarms.needed)} ({alarms.kind})" for alarms in found)


def _share(value: float) -> str:
    """A relative difference.

    >>> _share(0.053), _share(58.2)
    ('5.3 %', '59.2 times')
    """
    return f"{100 * value:.1f} %" if value < 1 else f"{1 + value:.3g} times"


def _over(found: tuple[Alarms, ...]) -> list[Alarms]:
    """Kinds whose false alarms call for more than the threshold in use."""
    return [alarms for alarms in found if alarms.threshold is not None and alarms.needed > alarms.threshold]


def self_test_view(test: SelfTest) -> View:
    """A self-test as any other comparison is shown."""
    from .view import View

    half = test.runs // 2
    return View(
        head=(
            ("chips", ", ".join(test.chips)),
            ("runs", f"{test.runs} of the same code, A and B in turns, {counted(test.cases, 'case')} compared"),
            ("thresholds", f"{threshold_words(test.settings.thresholds)}, alpha {test.settings.alpha:g}"),
        ),
        counts={},
        summary=_section(f"One run against one ({test.single[-1].pairs:,} pairs of rows)", test.single),
        rows=(_section(f"{half} runs against {half}, pooled ({test.pooled[-1].pairs:,} pairs of rows)", test.pooled),),
        others=(),
        notes=(
            *_partial(test),
            "False alarms and their interval are over comparisons that use each run once; shifts and the threshold needed for under 1 % "
            "of false alarms are over all pairs of runs. Rows of one run move together, so the true interval is wider.",
        ),
        closing=closing(test),
    )


def _partial(test: SelfTest) -> list[str]:
    if test.everywhere == test.cases:
        return []
    left_out = f"{test.cases - test.everywhere:,} of {counted(test.cases, 'case')}"
    return [f"{left_out} were not measured in every run: give more time by --budget, or fewer cases by --only."]


def _section(title: str, found: tuple[Alarms, ...]) -> Any:
    from .view import Section

    lines = tuple(
        (
            alarms.kind,
            f"{alarms.false:,} of {alarms.judged:,}",
            f"{100 * alarms.low:.1f} to {100 * alarms.high:.1f} %",
            f"{alarms.unclear:,}",
            _share(alarms.shift_median),
            _share(alarms.shift_most),
            "" if alarms.threshold is None else f"{100 * alarms.threshold:g} %",
            "" if alarms.threshold is None else _share(alarms.needed),
        )
        for alarms in found
    )
    headings = ("kind", "false alarms", "95 % interval", "unclear", "shift, median", "largest", "threshold", "needed")
    return Section(title, headings, lines, numeric=tuple(range(1, len(headings))))


def as_dict(test: SelfTest) -> dict[str, Any]:
    """A self-test for JSON: shares as fractions, null where unknown."""
    from dataclasses import asdict

    def told(found: tuple[Alarms, ...]) -> list[dict[str, Any]]:
        return [{**asdict(alarms), "rate": alarms.rate} for alarms in found]

    settings = test.settings
    return {
        "chips": list(test.chips),
        "runs": test.runs,
        "cases": test.cases,
        "cases_in_every_run": test.everywhere,
        "alpha": settings.alpha,
        "thresholds": dict(settings.thresholds),
        "single": told(test.single),
        "pooled": told(test.pooled),
    }
