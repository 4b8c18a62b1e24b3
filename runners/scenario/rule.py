"""From numbers and their intervals to a verdict: one rule for all claims. Knows nothing of chips.

A case says ``yes`` where its whole 80 % interval lies within the claim's limits, ``no`` where all of it lies outside, else ``open``: to
hold takes as much as to fail. A claim is supported where all cases say yes, not supported where all say no; else it depends on what tells
cases of different outcomes apart, and where some are open also on how exact the prediction is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .records import OUTCOME_WORDS, SPREAD, Limits, Outcome, Verdict


def outcome(low: float, high: float, limits: Limits) -> Outcome:
    """What one case says of the claim.

    >>> outcome(2.0, 2.9, Limits(at_least=3)), outcome(2.8, 3.9, Limits(at_least=3)), outcome(3.1, 4.2, Limits(at_least=3))
    ('no', 'open', 'yes')
    """
    if limits.at_least <= low and high <= limits.at_most:
        return "yes"
    return "no" if high < limits.at_least or low > limits.at_most else "open"


def leans(value: float, limits: Limits) -> bool:
    """Whether the claim holds by the value alone."""
    return limits.at_least <= value <= limits.at_most


def verdict(axes: Sequence[Mapping[str, str]], outcomes: Sequence[Outcome]) -> Verdict:
    """The verdict over all cases; ``axes`` says where each lies.

    >>> verdict([{"chip": "a"}, {"chip": "b"}], ["yes", "no"]).describe()
    'depends on the chip'
    """
    found = set(outcomes)
    if found == {"yes"}:
        return Verdict("supported", (), tuple(outcomes))
    if found == {"no"}:
        return Verdict("not supported", (), tuple(outcomes))
    on = () if found == {"open"} else deciding(axes, outcomes)
    return Verdict("depends", (*on, SPREAD) if "open" in found else on, tuple(outcomes))


def deciding(axes: Sequence[Mapping[str, str]], outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """The axes along which an outcome changes while the others stay, the most telling first.

    Where cases are so sparse that none does, all that differ.
    """
    names = list(dict.fromkeys(name for place in axes for name in place))
    varied = [name for name in names if len({place.get(name) for place in axes}) > 1]

    def changes(axis: str) -> float:
        """Share of the places on all other axes at which the outcome changes along this one."""
        beside: dict[tuple[tuple[str, str], ...], set[Outcome]] = {}
        for place, found in zip(axes, outcomes, strict=True):
            beside.setdefault(tuple(sorted((name, at) for name, at in place.items() if name != axis)), set()).add(found)
        return sum(len(several) > 1 for several in beside.values()) / len(beside)

    share = {name: changes(name) for name in varied}
    changing = sorted((name for name in varied if share[name]), key=lambda name: -share[name])
    return tuple(changing or varied)


def along(axis: str, axes: Sequence[Mapping[str, str]], outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Each place on an axis, and in how many of its cases the claim holds.

    >>> along("chip", [{"chip": "a"}, {"chip": "b"}, {"chip": "b"}], ["yes", "no", "open"])
    {'a': 'holds', 'b': 'does not hold in 1, is undecided in 1 of 2'}
    """
    told = {}
    for at in dict.fromkeys(place[axis] for place in axes if axis in place):
        here = [found for place, found in zip(axes, outcomes, strict=True) if place.get(axis) == at]
        kinds = [kind for kind in OUTCOME_WORDS if kind in here]
        counted = ", ".join(f"{OUTCOME_WORDS[kind]} in {here.count(kind)}" for kind in kinds)
        told[at] = OUTCOME_WORDS[kinds[0]] if len(kinds) == 1 else f"{counted} of {len(here)}"
    return told


def describe_rule(measure: str, limits: Limits, figure: Mapping[str, str]) -> str:
    """The rule in one sentence. ``figure``: the limits as text, by name."""
    ends = []
    if "at_least" in figure:
        ends.append(f"at least {figure['at_least']}")
    if "at_most" in figure:
        ends.append(f"at most {figure['at_most']}")
    if not ends:
        return "No limits are stated: the answer is a number."
    return (
        f"The claim holds in a case whose whole 80 % interval ({measure}) is {' and '.join(ends)}, does not hold where the whole interval "
        "lies outside, and is undecided where a part does."
    )
