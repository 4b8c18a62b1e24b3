"""What the command line asks of a comparison: thresholds, columns to ignore, and what makes it fail."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from chipassay.results.errors import InputError, UnknownName

if TYPE_CHECKING:
    from chipassay.results.compare.comparison import Comparison

FORMATS = ("table", "markdown", "csv", "json", "html")
FAIL_ON = ("slower", "unclear", "broken", "unmatched", "not-comparable")
"""What ``--fail-on`` may name: a verdict, a row that was ok and no longer is, a case that only one side has."""
PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def percent(text: str) -> float:
    """The fraction that ``3%`` is. The sign is asked for: ``3`` might be meant as either.

    >>> percent("3%"), percent("0.5 %")
    (0.03, 0.005)
    """
    match = PERCENT.fullmatch(text.strip())
    if match is None or not 0 < float(match[1]) < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0% and 100%; write 3%")
    return float(match[1]) / 100


def thresholds(text: str) -> dict[str, float]:
    """Thresholds by kind of metric: ``3%`` for all, or ``compute=2%,collective=10%`` for some.

    >>> thresholds("compute=2%,collective=10%")
    {'compute': 0.02, 'collective': 0.1}
    >>> sorted(set(thresholds("3%").values()))
    [0.03]
    """
    from chipassay.results.compare.comparison import THRESHOLDS

    if "=" not in text:
        return dict.fromkeys(THRESHOLDS, percent(text))
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        kind, equals, value = part.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"{part!r} is not KIND=SHARE; write compute=2%")
        if kind.strip() not in THRESHOLDS:
            raise argparse.ArgumentTypeError(f"{kind.strip()!r} is no kind of metric; known: {', '.join(THRESHOLDS)}")
        found[kind.strip()] = percent(value)
    return found


def threshold_words(thresholds: Mapping[str, float]) -> str:
    """Thresholds, those that are alike together.

    >>> threshold_words({"compute": 0.03, "memory": 0.03, "link": 0.05})
    '3 % compute and memory, 5 % link'
    """
    groups: dict[float, list[str]] = {}
    for kind, value in thresholds.items():
        groups.setdefault(value, []).append(kind)
    if len(groups) == 1:
        return f"{100 * next(iter(groups)):g} %"
    return ", ".join(f"{100 * value:g} % {' and '.join(kinds)}" for value, kinds in groups.items())


def chance(text: str) -> float:
    """A small probability: ``0.01`` or ``1%``.

    >>> chance("0.01"), chance("1%")
    (0.01, 0.01)
    """
    try:
        value = percent(text) if "%" in text else float(text)
    except (ValueError, argparse.ArgumentTypeError):
        value = 0.0
    if not 0 < value < 0.5:
        raise argparse.ArgumentTypeError(f"{text!r} is not a chance between 0 and 0.5; write 0.01")
    return value


def failing(text: str) -> tuple[str, ...]:
    """Names of FAIL_ON joined by commas."""
    found = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for name in found:
        if name not in FAIL_ON:
            raise argparse.ArgumentTypeError(f"{name!r} is nothing to fail on; known: {', '.join(FAIL_ON)}")
    if not found:
        raise argparse.ArgumentTypeError(f"is empty; name what to fail on: {', '.join(FAIL_ON)}")
    return found


def ignored(names: Sequence[str]) -> tuple[str, ...]:
    """Columns that partners may differ in. Raises UnknownName for one that does not name cases, InputError for ``op``."""
    from chipassay.results.schema import KEY_NAMES

    for name in names:
        if name not in KEY_NAMES:
            raise UnknownName("column to ignore", name, KEY_NAMES)
    if "op" in names:
        raise InputError("--ignore op would compare different operations; name other columns")
    return tuple(names)


def failures(comparison: Comparison, fail_on: Sequence[str]) -> dict[str, int]:
    """What of ``fail_on`` there is, counted. Broken rows fail ``slower``, too: one that no longer runs must not pass for one as fast."""
    from chipassay.results.compare.summary import counts

    found = counts(comparison)
    there: Mapping[str, int] = {
        "slower": found.get("SLOWER", 0),
        "unclear": found.get("UNCLEAR", 0),
        "broken": broken_count(comparison),
        "unmatched": int((comparison.unmatched["status"] == "ok").sum()),
        "not-comparable": found.get("NOT-COMPARABLE", 0),
    }
    names = [name for name in FAIL_ON if name in fail_on or (name == "broken" and "slower" in fail_on)]
    return {name: there[name] for name in names if there[name]}


def broken_count(comparison: Comparison) -> int:
    """Pairs whose base row was ok and whose new one is not."""
    return int(comparison.pairs["broken"].fillna(False).astype(bool).sum())


def compared_count(comparison: Comparison) -> int:
    """Pairs that got a verdict in which the two sides were held against each other."""
    return int((comparison.pairs["verdict"] != "NOT-COMPARABLE").sum())


def told_count(comparison: Comparison) -> int:
    """Pairs that tell how exact they are, so that a change can be found in them at all."""
    pairs = comparison.pairs
    return int(((pairs["verdict"] != "NOT-COMPARABLE") & pairs["ratio_high"].notna()).sum())


def silent(comparison: Comparison, fail_on: Sequence[str]) -> str:
    """Why a gate cannot say anything of a comparison, and the mend; empty where it can."""
    if not fail_on:
        return ""
    if not compared_count(comparison):
        what = "only pairs that are NOT-COMPARABLE" if len(comparison.pairs) else "not a single pair"
        return f"{what}; compare files with the same cases, measured the same way"
    if "slower" in fail_on and not told_count(comparison):
        return "no pair with samples or an interval on both sides; save samples (pytest-benchmark: --benchmark-json), or pool several runs"
    return ""


def exit_code(comparisons: Sequence[Comparison], fail_on: Sequence[str]) -> int:
    """0, or 1 where something of ``fail_on`` is there.

    Raises InputError where a gate was asked for and a side has nothing to find it in: what can fail on nothing must not pass.
    """
    if any(failures(comparison, fail_on) for comparison in comparisons):
        return 1
    for comparison in comparisons:
        if why := silent(comparison, fail_on):
            raise InputError(f"--fail-on cannot say anything: {comparison.base.name} and {comparison.new.name} have {why}")
    return 0
