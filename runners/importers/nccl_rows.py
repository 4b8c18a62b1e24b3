"""Measurements of nccl-tests as rows: our names, our definitions, and the printed bandwidths held against them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from chipassay.results.schema import Row

from .importer import Hints, chip_columns, variant_of
from .nccl_terms import DTYPES, ITEM_BYTES, OPS, OWN_PART_LEFT_OUT, PARTED, Measurement, Printed, Rank, Setup, bus_factor
from .source import quoted
from .unmapped import Unmapped

MOST_RANKS = 4096
"""Group sizes tried when the file does not list its ranks."""

LARGEST_DELTA = {"half": 1e-2, "float": 1e-5, "double": 1e-12}
"""Until 2022 a relative difference was printed; above this times (ranks - 1) it counted as out of bounds (``DeltaMaxValue``)."""

NOTHING = "measurements of size 0: too few bytes to give each rank a part"
CPU_TIME = "time is that of the calls on the CPU, not of the collective"
DISAGREES = "printed bandwidths do not follow from size, time and ranks"
RANKS_INFERRED = "group_size follows from the printed figures, the ranks are not listed"


def infer_ranks(test: str, measurements: Sequence[Measurement]) -> int | None:
    """The one number of ranks that fits the printed figures; None where several do, or none."""
    if test in PARTED:
        found = {m.size_bytes / (m.count * ITEM_BYTES[DTYPES[m.dtype]]) for m in measurements if m.count and m.dtype in DTYPES}
        ratio = found.pop() if len(found) == 1 else 0.0
        return int(ratio) if ratio >= 1 and ratio == int(ratio) else None
    factor = bus_factor(test)
    if factor(2) == factor(3):
        return None
    candidates: set[int] = set(range(1, MOST_RANKS + 1))
    for m in measurements:
        if m.algbw and m.busbw and m.algbw.value > m.algbw.error:
            low = (m.busbw.value - m.busbw.error) / (m.algbw.value + m.algbw.error)
            high = (m.busbw.value + m.busbw.error) / (m.algbw.value - m.algbw.error)
            candidates = {ranks for ranks in candidates if low <= factor(ranks) <= high}
    return candidates.pop() if len(candidates) == 1 else None


def rows_of(setup: Setup, measurements: Sequence[Measurement], base: dict[str, Any], hints: Hints, unmapped: Unmapped) -> list[Row]:
    """``base``: the columns of provenance. ``setup.test`` must be known here."""
    test = setup.test
    assert test is not None
    group_size, node_count, names = _group(setup)
    if len({rank.rank for rank in setup.ranks}) < len(setup.ranks):
        unmapped.add(
            "ranks listed again: runs that did not know of each other (built without MPI?), each a group of its own", "list of devices"
        )
    inferred = None
    if group_size is None:
        group_size = inferred = infer_ranks(test, measurements)
        if group_size is None:
            unmapped.add(
                "runs that do not list their ranks: group_size and busbw stay empty", measurements[0].where if measurements else "the file"
            )
    common = {
        **base,
        **chip_columns(hints, names[0] if len(names) == 1 else " + ".join(names) or None, "rocm" if setup.backend == "rccl" else "cuda"),
        "chip_count": group_size,
        "node_count": node_count or hints.node_count,
        "fabric": "single" if group_size == 1 else hints.fabric or ("network" if (node_count or hints.node_count or 1) > 1 else None),
        "op": OPS[test],
        "group_size": group_size,
        "backend": setup.backend,
        "kernel": f"{setup.backend}-tests.{test}",
        "libraries": f"{setup.backend}={setup.library_version}" if setup.library_version else None,
        "launch": "graph" if setup.graphs else "stream" if setup.graphs == 0 else None,
        "clock_source": "host",
        "warmup_count": setup.warmup_count,
        "calls_per_sample": setup.calls,
        "time_statistic": "mean",
    }
    rows = []
    for m in measurements:
        row = _row(setup, m, common, unmapped, RANKS_INFERRED if inferred else None)
        if row is not None:
            rows.append(row)
            if m.iteration_times_s:
                rows.append(_iterations(row, m))
    return rows


def _group(setup: Setup) -> tuple[int | None, int | None, list[str]]:
    """Ranks in the group, hosts they are on, different device names. Several groups run at once where NCCL_TESTS_SPLIT asks for it."""
    first_of: dict[int, Rank] = {}
    for rank in setup.ranks:
        # The same rank twice: runs that did not know of each other (no MPI), each with ranks of its own.
        first_of.setdefault(rank.rank, rank)
    if not first_of:
        return setup.rank_count, setup.node_count, []
    if setup.rank_count is None and max(first_of) + 1 != len(first_of):
        # The list was shortened: nccl-tests itself does it with "..." after 2 kB a process.
        return None, None, sorted({rank.name for rank in first_of.values() if rank.name})
    sizes = Counter(rank.group for rank in first_of.values())
    group = min(first_of.items())[1].group
    members = [rank for rank in first_of.values() if rank.group == group]
    names = sorted({rank.name for rank in first_of.values() if rank.name})
    count = setup.rank_count if setup.rank_count is not None else sizes[group]
    return count, setup.node_count or len({rank.host for rank in members}), names


def _row(setup: Setup, m: Measurement, common: dict[str, Any], unmapped: Unmapped, doubt: str | None) -> Row | None:
    if m.size_bytes == 0:
        unmapped.add(NOTHING, m.where)
        return None
    if m.time_s.value <= 0:
        unmapped.add("measurements with a time of 0", m.where)
        return None
    dtype = DTYPES.get(m.dtype)
    if dtype is None:
        unmapped.add(f"measurements of unknown type {quoted(m.dtype)}", m.where)
        return None
    group_size, time_s = common["group_size"], m.time_s.value
    flags = [doubt] if doubt else []
    algbw = None if m.cpu_time else m.size_bytes / time_s
    busbw = None if algbw is None or group_size is None else algbw * bus_factor(setup.test or "")(group_size)
    if m.cpu_time:
        flags.append(CPU_TIME)
        unmapped.add("bandwidths beside a CPU time (-C): they belong to another time, which is not printed", m.where)
    elif not _agrees(setup.test or "", m, group_size):
        flags.append(DISAGREES)
        unmapped.add(f"measurements whose {DISAGREES}: the rows have what follows from size and time", m.where)
    error, limit = m.wrong, 0.0 if m.wrong is not None else None
    if m.delta is not None:
        error, limit = m.delta, LARGEST_DELTA.get(m.dtype, 1e-200) * max((group_size or 2) - 1, 0)
    incorrect = error is not None and limit is not None and error > limit
    reason = None
    if incorrect:
        reason = f"{m.wrong:.0f} elements are wrong" if m.wrong is not None else f"a relative error of {m.delta:g}"
    return Row(
        **{
            **common,
            "variant": _variant(setup, m),
            "algorithm": m.algorithm,
            "config": ";".join(filter(None, (setup.config, m.config))) or None,
            "elements": m.size_bytes // ITEM_BYTES[dtype],
            "size_bytes": m.size_bytes,
            "in_place": m.in_place,
            "dtype": dtype,
            "sample_count": 1,
            "time_median_s": time_s,
            "algbw_bytes_per_s": algbw,
            "busbw_bytes_per_s": busbw,
            "error": error,
            "error_limit": limit,
            "flags": ";".join(flags) or None,
            "status": "incorrect" if incorrect else "ok",
            "reason": reason,
        }
    )


def _variant(setup: Setup, m: Measurement) -> str | None:
    """What sets the case apart from the usual one: a sum to or from rank 0, on aligned buffers, calls in a row without waiting."""
    found = {
        "redop": m.redop if m.redop not in (None, "", "none", "sum") else None,
        "root": m.root if m.root not in (None, -1, 0) else None,
        "time": "cpu" if m.cpu_time else None,
        "blocking": 1 if setup.blocking else None,
        "unalign": setup.unalign or None,
    }
    return variant_of((name, value) for name, value in found.items() if value is not None)


def _agrees(test: str, m: Measurement, group_size: int | None) -> bool:
    """Whether the printed bandwidths are those that follow from size and time, within the rounding of all of them."""
    shortest, longest = m.time_s.value - m.time_s.error, m.time_s.value + m.time_s.error
    slowest, fastest = m.size_bytes / longest, m.size_bytes / shortest if shortest > 0 else float("inf")

    def follows(printed: Printed | None, factor: float) -> bool:
        # A hair for what binary fractions do to a value that lies on the edge of its rounding.
        slack = 0.0 if printed is None else printed.error * 1.001 + 1e-9 * abs(printed.value)
        return printed is None or slowest * factor - slack <= printed.value <= fastest * factor + slack

    factor = None if group_size is None else bus_factor(test)(group_size)
    algbw_fits = follows(m.algbw, 1.0) or (test in OWN_PART_LEFT_OUT and (factor is None or follows(m.algbw, factor)))
    return algbw_fits and (factor is None or follows(m.busbw, factor))


def _iterations(row: Row, m: Measurement) -> Row:
    """The row of ``-I 1``: the times of single calls, by events on the device, the slowest process of each."""
    from chipassay.runners.timing.columns import time_columns

    columns = time_columns(m.iteration_times_s)
    time_s = columns["time_median_s"]
    factor = None if row.busbw_bytes_per_s is None or not row.algbw_bytes_per_s else row.busbw_bytes_per_s / row.algbw_bytes_per_s
    variant = ";".join(filter(None, (row.variant, "timing=each_call")))
    algbw = m.size_bytes / time_s
    return replace(
        row,
        **columns,
        variant=variant,
        clock_source="device",
        sample_count=len(m.iteration_times_s),
        calls_per_sample=1,
        time_statistic=None,
        algbw_bytes_per_s=algbw,
        busbw_bytes_per_s=None if factor is None else algbw * factor,
        flags=None,
    )
