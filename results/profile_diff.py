"""Two profiles side by side: where one chip is the other's equal, where not, by how much, and whether what is known can tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .coverage import DATASHEET, cells
from .profile import Profile
from .profile_figures import Figure, reference_figures

Verdict = Literal["equal", "higher", "lower", "unclear", "unsure", "only A", "only B"]
VERDICTS: tuple[Verdict, ...] = ("equal", "higher", "lower", "unclear", "unsure", "only A", "only B")
"""Of B against A. ``equal``: the interval holds 1 and is narrow, or one figure stands for both; ``unclear``: it holds 1 and is wider than
TELLING either way; ``unsure``: at least one side does not know its error, so that no interval can be given."""

TELLING = 0.25
"""An interval that reaches further than this beyond 1 is too wide to call two chips equal: judgement, about the step from one chip to the
next cheaper one of a series."""

ONE_FIGURE = 0.005
"""Two values this close, one at least made by a rule, are one figure: rules carry the last digit in which datasheets differ, as 989 and
989.4."""


@dataclass(frozen=True)
class Difference:
    """One figure of both chips; ``ratio`` is B over A with its 95 % interval."""

    a: Figure
    b: Figure
    ratio: float | None
    low: float | None
    high: float | None
    verdict: Verdict

    @property
    def group(self) -> str:
        """The group of cells or shapes that it belongs to."""
        return self.a.group

    @property
    def name(self) -> str:
        """What was compared."""
        return self.a.name

    @property
    def unit(self) -> str:
        """Unit of both values."""
        return self.a.unit

    @property
    def one_figure(self) -> bool:
        """Whether one value stands for both sides: one was derived from the other, or both from a third."""
        return _one_figure(self.a, self.b)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "group": self.group,
            "name": self.name,
            "unit": self.unit,
            "verdict": self.verdict,
            "ratio": self.ratio,
            "low": self.low,
            "high": self.high,
            **{side: as_dict(figure) for side, figure in (("a", self.a), ("b", self.b))},
        }


@dataclass(frozen=True)
class GroupSummary:
    """What came out of one group: how often each verdict, and between which ratios."""

    group: str
    counts: dict[Verdict, int]
    ratio_min: float | None
    ratio_max: float | None


def differences(a: Profile, b: Profile) -> tuple[Difference, ...]:
    """Every cell and every named shape that at least one side knows, in the order of telling."""
    left, right = ({(figure.group, figure.name): figure for figure in all_figures(one)} for one in (a, b))
    # A group stays together although the sides know different cells of it.
    groups = list(dict.fromkeys(group for group, _ in [*left, *right]))
    keys = sorted(dict.fromkeys([*left, *right]), key=lambda key: groups.index(key[0]))
    found = []
    for key in keys:
        known = left.get(key) or right[key]
        bare = Figure(known.group, known.name, known.unit)
        difference = _difference(left.get(key, bare), right.get(key, bare))
        if difference is not None:
            found.append(difference)
    return tuple(found)


def all_figures(profile: Profile) -> tuple[Figure, ...]:
    """Cells, then named shapes, then what the datasheet says."""
    own = cells(profile)
    reached = [cell for cell in own if cell.group != DATASHEET]
    return (*reached, *reference_figures(profile), *(cell for cell in own if cell.group == DATASHEET))


def summaries(found: Sequence[Difference]) -> tuple[GroupSummary, ...]:
    """Group by group, in their order."""
    told = []
    for group in dict.fromkeys(one.group for one in found):
        own = [one for one in found if one.group == group]
        ratios = [one.ratio for one in own if one.ratio is not None]
        counts = {verdict: count for verdict in VERDICTS if (count := sum(one.verdict == verdict for one in own))}
        told.append(GroupSummary(group, counts, min(ratios, default=None), max(ratios, default=None)))
    return tuple(told)


def as_dict(figure: Figure) -> dict[str, Any]:
    """A figure for JSON: with its interval and share, and evidence that is null where it is unknown."""
    evidence = figure.evidence
    return {
        "group": figure.group,
        "name": figure.name,
        "unit": figure.unit,
        "value": figure.value,
        "share_of_datasheet": figure.share,
        "interval": figure.interval,
        "points": figure.points,
        "note": figure.note,
        "evidence": None if evidence is None else {"level": evidence.level, "source": evidence.source, "date": evidence.date},
    }


def _difference(a: Figure, b: Figure) -> Difference | None:
    if not a.value or not b.value:
        if a.value is None and b.value is None:
            return None
        if a.value is not None and b.value is not None:  # a nought on one side: no ratio
            return Difference(a, b, None, None, None, "equal" if a.value == b.value else "higher" if b.value > a.value else "lower")
        return Difference(a, b, None, None, None, "only B" if a.value is None else "only A")
    ratio = b.value / a.value
    if a.reach is None or b.reach is None:
        return Difference(a, b, ratio, None, None, "equal" if _one_figure(a, b) else "unsure")
    # The errors of the two are independent, unless one figure stands for both; then the interval is wider than it need be.
    reach = math.hypot(a.reach, b.reach)
    verdict = "equal" if _one_figure(a, b) else verdict_of(ratio, reach)
    return Difference(a, b, ratio, ratio / math.exp(reach), ratio * math.exp(reach), verdict)


def _one_figure(a: Figure, b: Figure) -> bool:
    if not a.value or not b.value:
        return False
    by_rule = {"derived", "assumed"} & {a.level, b.level}
    return a.value == b.value or (bool(by_rule) and abs(math.log(b.value / a.value)) <= ONE_FIGURE)


def verdict_of(ratio: float, reach: float) -> Verdict:
    """``ratio`` is B over A, ``reach`` half the width of the 95 % interval of its log.

    >>> verdict_of(1.02, 0.05), verdict_of(0.5, 0.1), verdict_of(1.1, 0.5), verdict_of(1.0, 0.5)
    ('equal', 'lower', 'unclear', 'equal')
    """
    change = math.log(ratio)
    if ratio == 1.0:
        return "equal"
    if abs(change) > reach:
        return "higher" if change > 0 else "lower"
    return "equal" if abs(change) + reach <= math.log1p(TELLING) else "unclear"
