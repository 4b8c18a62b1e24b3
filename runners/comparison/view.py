"""What a reader is shown of a comparison, whatever the format: a head, a few short tables, notes, and one closing sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chipassay.results.compare.comparison import VERDICTS, Comparison, Settings, Verdict

from .asked import broken_count, failures, silent, threshold_words
from .words import (
    case_words,
    change,
    closing,
    counted,
    counts_words,
    gate_words,
    interval,
    known,
    reasons,
    side_words,
    sum_alike,
    time_words,
)

if TYPE_CHECKING:
    import pandas

OPS_SHOWN = 40
"""Lines of the table by operation; benchmarks of other tools may have thousands of names."""
REASONS_SHOWN = 10
NOTES_SHOWN = 20


@dataclass(frozen=True)
class Section:
    """One table. ``numeric``: columns that stand to the right; ``total``: how many ``things`` there are, shown or not."""

    title: str
    headings: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    total: int = 0
    things: str = "rows"

    @property
    def more(self) -> str:
        """What is not shown, in words."""
        left_out = self.total - len(self.lines)
        return f"{left_out:,} more {self.things}; --format csv has all" if left_out > 0 else ""

    def cut(self, count: int) -> Section:
        """With so many lines at most."""
        return replace(self, lines=self.lines[:count])


@dataclass(frozen=True)
class View:
    """A comparison as text, every cell of it untrusted: each format escapes it in its own way."""

    head: tuple[tuple[str, str], ...]
    counts: Mapping[Verdict, int]
    summary: Section
    rows: tuple[Section, ...]
    """The single rows that matter: broken, worst, best."""
    others: tuple[Section, ...]
    """What got no verdict and why."""
    notes: tuple[str, ...]
    closing: str
    gate: str = ""
    failed: bool = False


def view(comparison: Comparison, top: int, fail_on: Sequence[str] = ()) -> View:
    """``top``: worst, best and broken rows shown of each."""
    from chipassay.results.compare.summary import best, by_op, counts, worst

    found, settings = counts(comparison), comparison.settings
    slowest = _records(worst(comparison, max(top, 1)), "SLOWER")
    fastest = _records(best(comparison, max(top, 1)), "FASTER")
    broken = broken_count(comparison)
    rows = (
        _broken(comparison, top, broken),
        _changes("Slower", slowest[:top], found.get("SLOWER", 0)),
        _changes("Faster", fastest[:top], found.get("FASTER", 0)),
    )
    open_ = comparison.pairs[comparison.pairs["verdict"] == "UNCLEAR"]
    others = (_apart(open_, top), _why(comparison, "UNCLEAR"), _why(comparison, "NOT-COMPARABLE"), _unmatched(comparison))
    failing, why = failures(comparison, fail_on), silent(comparison, fail_on)
    return View(
        head=(
            ("base", f"{comparison.base.name}: {side_words(comparison.base)}"),
            ("new", f"{comparison.new.name}: {side_words(comparison.new)}"),
            ("compared", _settings(settings)),
            ("verdicts", counts_words(found) + (f"; {counted(broken, 'row')} broken" if broken else "")),
        ),
        counts=found,
        summary=_by_op(by_op(comparison)),
        rows=tuple(section for section in rows if section.lines),
        others=tuple(section for section in others if section.lines),
        notes=_notes(comparison.notes),
        closing=closing(found, broken, slowest),
        gate=gate_words(failing, fail_on, why) if fail_on else "",
        failed=bool(failing or why),
    )


def _settings(settings: Settings) -> str:
    what = "shares of peak" if settings.normalised else "times"
    ignored = f", partners may differ in {' and '.join(settings.ignored)}" if settings.ignored else ""
    return f"{what}, thresholds {threshold_words(settings.thresholds)}, alpha {settings.alpha:g}{ignored}"


def _records(frame: pandas.DataFrame, verdict: str) -> list[dict[str, Any]]:
    return _dicts(frame[frame["verdict"] == verdict])


def _dicts(frame: pandas.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in record.items()} for record in frame.to_dict("records")]


def _by_op(summary: pandas.DataFrame) -> Section:
    """One line an operation and dtype; where they are too many, those that changed most."""
    verdicts = [verdict for verdict in VERDICTS if verdict in summary.columns and summary[verdict].sum()]
    shown = summary
    if len(summary) > OPS_SHOWN:
        order = (summary["geomean_ratio"].astype(float) - 1).abs().sort_values(ascending=False, na_position="last", kind="stable")
        shown = summary.loc[order.index[:OPS_SHOWN]].sort_index()
    lines = [
        (
            str(known(line["op"]) or ""),
            str(known(line["dtype"]) or ""),
            f"{int(line['pairs']):,}",
            change(line["geomean_ratio"]),
            *(f"{int(line[verdict]):,}" if line[verdict] else "" for verdict in verdicts),
        )
        for line in shown.to_dict("records")
    ]
    return Section(
        "By operation (geometric mean of the ratios)",
        ("op", "dtype", "pairs", "change", *verdicts),
        tuple(lines),
        numeric=tuple(range(2, 4 + len(verdicts))),
        total=len(summary),
        things="that changed less",
    )


def _changes(title: str, pairs: Sequence[Mapping[str, Any]], total: int) -> Section:
    lines = [
        (
            case_words(pair) + _where(pair),
            time_words(pair["base_time_s"]),
            time_words(pair["new_time_s"]),
            change(pair["ratio"]),
            interval(pair["ratio_low"], pair["ratio_high"]),
            str(known(pair["reason"]) or ""),
        )
        for pair in pairs
    ]
    return Section(
        f"{title} ({total:,})",
        ("case", "base", "new", "change", "95 % interval", "to know"),
        tuple(lines),
        numeric=(1, 2, 3, 4),
        total=total,
    )


def _apart(pairs: pandas.DataFrame, top: int) -> Section:
    """Of those that are UNCLEAR the ones that differ by more than matters, the farthest apart first: a tool that tells no samples may have
    slowed down by half, and nobody can prove it."""
    import numpy as np
    import pandas

    size = pandas.Series(np.abs(np.log(pairs["ratio"].to_numpy(dtype=float))), index=pairs.index)
    over = size[size > np.log1p(pairs["threshold"].astype(float))].sort_values(ascending=False, kind="stable")
    return _changes("Unclear, but apart by more than the threshold", _dicts(pairs.loc[over.index[:top]]), len(over))


def _where(pair: Mapping[str, Any]) -> str:
    """Which of a machine's chips, where rows tell."""
    index = known(pair.get("device_index"))
    return "" if index is None else f" on chip {int(index)}"


def _broken(comparison: Comparison, top: int, total: int) -> Section:
    frame = comparison.pairs[comparison.pairs["broken"].fillna(False).astype(bool)].head(top)
    lines = [(case_words(pair) + _where(pair), str(known(pair["reason"]) or "")) for pair in _dicts(frame)]
    return Section(f"Broken: ok in the base, not in the new ({total:,})", ("case", "reason"), tuple(lines), total=total)


def _why(comparison: Comparison, verdict: str) -> Section:
    pairs = comparison.pairs
    chosen = pairs.loc[pairs["verdict"] == verdict, "reason"]
    return _grouped(f"{verdict} ({len(chosen):,})", "pairs", reasons(chosen))


def _unmatched(comparison: Comparison) -> Section:
    frame = comparison.unmatched
    shared = ["side", "op", "status", "reason"]
    counted_ = frame[shared].astype(object).fillna("").value_counts(sort=False)
    words = [_alone(*map(str, values)) for values in counted_.index]
    told = sum_alike(words, [int(count) for count in counted_])
    return _grouped(f"Without a partner ({len(frame):,})", "rows", told)


def _alone(side: str, op: str, status: str, reason: str) -> str:
    """What is known of a row without a partner."""
    return f"only in the {side}: {op}" + ("" if status == "ok" else f", {status}" + (f" ({reason})" if reason else ""))


def _grouped(title: str, what: str, told: Sequence[tuple[str, int]]) -> Section:
    lines = tuple((f"{count:,}", reason) for reason, count in told[:REASONS_SHOWN])
    return Section(title, (what, "reason"), lines, numeric=(0,), total=len(told), things="reasons")


def _notes(notes: Sequence[str]) -> tuple[str, ...]:
    more = len(notes) - NOTES_SHOWN
    return (*notes[:NOTES_SHOWN], *((f"{more:,} more notes; --format json has all.",) if more > 0 else ()))
