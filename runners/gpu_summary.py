"""What a run of one GPU came to, as Markdown: which kernels are right, which goals are reached, the best of each operation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from chipassay.results.operations import NARROW_SUMS, limited_by, place, time_per_kernel_s
from chipassay.results.safe_text import printable
from chipassay.results.schema import Row
from chipassay.results.units import bandwidth, rate, seconds

from .goals import goal_lines, goals, possible

SHOWN_REASONS = 3
"""Different reasons told for each kernel that is not right."""


def summary_markdown(checks: Sequence[Row], rows: Sequence[Row], shapes: Sequence[Row]) -> str:
    """The whole summary."""
    known = [row for row in (*rows, *checks) if row.device_name]
    title = f"# {_words(known[0].device_name)} ({_words(known[0].chip_id)})" if known else "# No device"
    parts = [title, _about(rows or checks), "## Is every kernel right?", *check_lines([*checks, *rows])]
    parts += ["", "## Goals", *goal_lines(goals(rows, _searched(shapes)))]
    parts += ["", "## Best of each operation", *best_lines([*rows, *shapes])]
    return "\n".join(parts) + "\n"


def _about(rows: Sequence[Row]) -> str:
    libraries = sorted({part for row in rows for part in (row.libraries or "").split(";") if part})
    dates = sorted(row.measured_at_utc for row in rows if row.measured_at_utc)
    driver = next((row.driver for row in rows if row.driver), "unknown")
    when = f"{dates[0]} to {dates[-1]}" if dates else "never"
    return f"\n{when}; driver {_words(driver)}; {_words(', '.join(libraries) or 'no library')}\n"


def _words(text: object) -> str:
    """Text of a row for a cell, a title or a code of Markdown: it ends none of them and brings no HTML."""
    return printable(text).replace("|", "/").replace("`", "'").replace("<", "&lt;")


def check_lines(rows: Sequence[Row]) -> list[str]:
    """Per kernel how many cases were right, wrong, broken or left out, with the reasons of those that were not right."""
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    reasons: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for row in rows:
        key = (row.op or "", row.kernel or row.backend or "")
        counts[key][row.status or "unknown"] += 1
        if row.status != "ok":
            reasons[key][f"{row.status}: {row.reason}"] = None
    lines = ["| operation | kernel | right | wrong | broken | left out | why |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for key, count in sorted(counts.items()):
        broken = count["error"] + count["timeout"] + count["out_of_memory"]
        why = _words(" ".join("; ".join(list(reasons[key])[:SHOWN_REASONS]).split()))
        lines.append(
            f"| {_words(key[0])} | `{_words(key[1])}` | {count['ok']} | {count['incorrect']} | {broken} | {count['skipped']} | {why} |"
        )
    return lines


def _searched(shapes: Sequence[Row]) -> dict[str, float]:
    best: dict[str, float] = {}
    for row in shapes:
        if row.op == "matmul" and row.status == "ok" and row.dtype and row.rate_flops_per_s and possible(row):
            best[row.dtype] = max(best.get(row.dtype, 0.0), row.rate_flops_per_s)
    return best


def best_lines(rows: Sequence[Row]) -> list[str]:
    """For each operation, dtype and direction the best rate (or bandwidth, or time) and which kernel, on which shape, reached it."""
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        usual = row.cache == "cold" or limited_by(row) == "overhead"
        if row.status == "ok" and row.time_median_s and usual and possible(row):
            groups[row.op or "", row.dtype or "", _variant(row)].append(row)
    lines = ["| operation | dtype | best | of peak | kernel | case |", "| --- | --- | --- | --- | --- | --- |"]
    for (op, dtype, variant), group in sorted(groups.items(), key=lambda pair: (place(pair[0][0]), pair[0])):
        best, shown = _best(group)
        share = "" if best.peak_fraction is None else f"{100 * best.peak_fraction:.1f} %"
        title = _words(f"{op}{' ' + variant if variant else ''}")
        lines.append(f"| {title} | {_words(dtype)} | {shown} | {share} | `{_words(best.kernel)}` | {_words(_case(best))} |")
    return lines


def _variant(row: Row) -> str:
    """What tells rows of an operation and dtype so far apart that one best of them would mean nothing."""
    return " ".join(
        filter(
            None,
            (
                row.direction,
                row.path,
                row.host_memory,
                row.math_mode if row.math_mode in NARROW_SUMS else None,
                row.launch if row.op == "launch" else None,
            ),
        )
    )


def _best(group: Sequence[Row]) -> tuple[Row, str]:
    kind = limited_by(group[0])
    if kind == "compute":
        best = max(group, key=lambda row: row.rate_flops_per_s or 0.0)
        return best, rate(best.rate_flops_per_s or 0.0)
    if kind in ("memory", "link"):
        best = max(group, key=lambda row: row.bandwidth_bytes_per_s or 0.0)
        return best, bandwidth(best.bandwidth_bytes_per_s or 0.0)
    best = min(group, key=lambda row: row.time_median_s or 0.0)
    each_s = time_per_kernel_s(best)
    return best, f"{seconds(each_s)} a kernel" if each_s else seconds(best.time_median_s or 0.0)


CASE_COLUMNS = (
    "groups", "m", "n", "k", "layout", "scaling", "split", "batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim", "head_dim_v",
    "causal", "window", "rows", "width", "table_rows", "host_memory", "elements",
)  # fmt: skip


def _case(row: Row) -> str:
    return " ".join(f"{name}={getattr(row, name)}" for name in CASE_COLUMNS if getattr(row, name) not in (None, False))
