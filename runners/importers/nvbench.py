"""nvbench: the measurements of a run, from its JSON (--json, with the raw samples of --jsonbin beside it) or its CSV (--csv).

The benchmark's name is the operation, its axes are the variant. A case gives a row of isolated calls after the cache was emptied
(``cold``) and, where it was measured, one of calls back to back (``warm``). Tags: NVIDIA/nvbench 66212f1, ``nvbench/detail``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError
from chipassay.results.schema import Row

from .importer import Hints, Imported, Importer, chip_columns, provenance, repeats_apart, variant_of
from .nvbench_samples import sample_columns
from .source import integer, json_of, listing, mapping, number, plain_head, quoted, string
from .unmapped import Unmapped

TOOL = "nvbench"
LEAST_TIME_S = 1e-12
"""Below this a time is none: nvbench wrote 1e-20 and the like after skipped cases (its issue 103)."""

COLD = "nv/cold/time/gpu/"
CPU_ONLY = "nv/cpu_only/time/cpu/"
STATISTICS = {"median": "time_median_s", "min": "time_min_s", "q1": "time_p25_s", "q3": "time_p75_s"}

FOLLOWS = (
    "nv/cold/walltime",
    "nv/batch/walltime",
    "nv/cpu_only/walltime",
    "nv/cold/bw/global/utilization",
    "nv/cold/sm_clock_rate/scaling/percent",
    "nv/json/bin",
    "nv/json/freqs-bin",
)
"""Tags that say nothing of the case, or what follows from others."""


@dataclass(frozen=True)
class _State:
    """One case of one benchmark on one device."""

    where: str
    name: str
    device: Mapping[str, Any]
    axes: str | None
    values: Mapping[str, float]
    skipped: str | None


def recognises(path: Path, head: bytes) -> bool:
    """By the versions or devices in the JSON's head, by the first columns of the CSV."""
    head = plain_head(head)
    if head.lstrip()[:1] == b"{":
        return (b'"nvbench"' in head and b'"argv"' in head) or (b'"sm_version"' in head and b'"ptx_version"' in head)
    return b"Benchmark,Device,Device Name," in head


def read(path: Path, hints: Hints) -> Imported:
    """Raises FileError for a file without a case, naming the line."""
    from .nvbench_csv import read_csv
    from .source import text_of

    if text_of(path).lstrip()[:1] != "{":
        return read_csv(path, hints)
    unmapped = Unmapped()
    document = json_of(path)
    root = mapping(document.value)
    if document.cut_line is not None:
        unmapped.add("ends in the middle of a case", f"line {document.cut_line}")
    version = mapping(mapping(mapping(root.get("meta")).get("version")).get(TOOL))
    told = string(version.get("string"))
    base = provenance(path, TOOL, f"{told} {version['git_version']}" if told and string(version.get("git_version")) else told)
    devices = {integer(d.get("id")): d for d in map(mapping, listing(root.get("devices")))}
    rows: list[Row] = []
    for benchmark in map(mapping, listing(root.get("benchmarks"))):
        name = string(benchmark.get("name"))
        if name is None:
            unmapped.add("benchmarks without a name", "benchmarks")
            continue
        for index, state in enumerate(map(mapping, listing(benchmark.get("states"))), 1):
            where = f"{name}, case {index}"
            device = devices.get(integer(state.get("device")), {"id": state.get("device")})
            rows += _rows(_state(name, where, state, device), state, base, path, hints, unmapped)
    if not rows and not unmapped.sentences():
        raise FileError(path, "no case in there", mend="give what nvbench wrote with --json")
    return Imported(repeats_apart(rows), unmapped.sentences())


def _state(name: str, where: str, state: Mapping[str, Any], device: Mapping[str, Any]) -> _State:
    axes = variant_of((axis.get("name"), axis.get("value")) for axis in map(mapping, listing(state.get("axis_values"))))
    values = {}
    for summary in map(mapping, listing(state.get("summaries"))):
        datum = next((d for d in map(mapping, listing(summary.get("data"))) if d.get("name") == "value"), {})
        value = number(datum.get("value"))
        if value is not None:
            values[str(summary.get("tag"))] = value
    skipped = str(state.get("skip_reason") or "skipped") if state.get("is_skipped") is True else None
    return _State(where, name, device, axes, values, skipped)


def _rows(state: _State, record: Mapping[str, Any], base: dict[str, Any], path: Path, hints: Hints, unmapped: Unmapped) -> list[Row]:
    common = {**base, **case_columns(state.name, state.axes, state.device, hints)}
    values, used = dict(state.values), set(FOLLOWS)
    rows = []
    if COLD + "mean" in values or COLD + "median" in values:
        used |= {COLD + name for name in (*STATISTICS, "mean", "max")}
        used |= {"nv/cold/sample_size", "nv/cold/bw/global/bytes_per_second", "nv/cold/sm_clock_rate/mean"}
        columns = {
            **_statistics(values, COLD),
            "cache": "cold",
            "clock_source": "device",
            "sample_count": integer(values.get("nv/cold/sample_size")),
            "warmup_count": integer(record.get("cold_warmup_runs")),
            "clock_hz": values.get("nv/cold/sm_clock_rate/mean"),
            **sample_columns(path, record, state.where, unmapped),
        }
        rows.append(timed(common, columns, _moved(values, COLD, "nv/cold"), state.skipped))
    if "nv/batch/time/gpu/mean" in values:
        used |= {"nv/batch/time/gpu/mean", "nv/batch/sample_size"}
        columns = {
            "time_median_s": values["nv/batch/time/gpu/mean"],
            "time_statistic": "mean",
            "cache": "warm",
            "clock_source": "device",
            "sample_count": 1,
            "calls_per_sample": integer(values.get("nv/batch/sample_size")),
        }
        rows.append(timed(common, columns, _moved(values, COLD, "nv/cold"), state.skipped))
    if CPU_ONLY + "mean" in values or CPU_ONLY + "median" in values:
        used |= {CPU_ONLY + name for name in (*STATISTICS, "mean", "max")}
        used |= {"nv/cpu_only/sample_size", "nv/cpu_only/bw/global/bytes_per_second"}
        columns = {
            **_statistics(values, CPU_ONLY),
            "launch": "call",
            "clock_source": "host",
            "sample_count": integer(values.get("nv/cpu_only/sample_size")),
        }
        rows.append(timed(common, columns, _moved(values, CPU_ONLY, "nv/cpu_only"), state.skipped))
    for tag in sorted(values.keys() - used):
        unmapped.add(f"values of {quoted(tag)}", state.where)
    if not rows:
        if state.skipped is None:
            unmapped.add("cases without a time", state.where)
        else:
            rows.append(Row(**{**common, "status": "skipped", "reason": state.skipped}))
    return rows


def case_columns(name: str, axes: str | None, device: Mapping[str, Any], hints: Hints) -> dict[str, Any]:
    """The columns that name the case and the chip. ``device``: as the JSON has it, its ``id`` and ``name`` at least."""
    memory_bytes = integer(device.get("global_memory_size"))
    return {
        **chip_columns(hints, string(device.get("name")), "cuda", memory_bytes),
        "device_index": integer(device.get("id")),
        "last_level_cache_bytes": integer(device.get("l2_cache_size")),
        "chip_count": 1,
        "op": name,
        "variant": axes,
        "backend": "cuda",
        "kernel": f"{TOOL}.{name}",
    }


def _statistics(values: Mapping[str, float], prefix: str) -> dict[str, Any]:
    """The columns of the times; the mean stands in for a median that versions before 2026 do not tell."""
    found: dict[str, Any] = {column: values[prefix + name] for name, column in STATISTICS.items() if prefix + name in values}
    if "time_median_s" not in found:
        found |= {"time_median_s": values[prefix + "mean"], "time_statistic": "mean"}
    return found


def _moved(values: Mapping[str, float], prefix: str, group: str) -> float | None:
    """Bytes read and written in global memory: nvbench divides them by the mean time, whole bytes come back from it."""
    rate, mean_s = values.get(f"{group}/bw/global/bytes_per_second"), values.get(prefix + "mean")
    return None if rate is None or mean_s is None else float(round(rate * mean_s))


def timed(common: Mapping[str, Any], columns: Mapping[str, Any], moved: float | None, skipped: str | None = None) -> Row:
    """The row of one measurement. A time of nothing is an error, not a fast kernel."""
    time_s = columns["time_median_s"]
    if skipped is not None or time_s < LEAST_TIME_S:
        reason = skipped or f"nvbench tells a time of {time_s:g} s"
        return Row(**{**common, "cache": columns.get("cache"), "status": "skipped" if skipped else "error", "reason": reason})
    bandwidth = None if moved is None else moved / time_s
    return Row(**{**common, **columns, "bytes": moved, "bandwidth_bytes_per_s": bandwidth, "status": "ok"})


IMPORTER = Importer(TOOL, "nvbench: JSON (--json, --jsonbin) and CSV (--csv)", recognises, read)
