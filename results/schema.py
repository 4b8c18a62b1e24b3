"""The row: every column of a results CSV, its type, its meaning, in one place.

The table in ``results/SCHEMA.md`` is generated from here: ``python -m chipassay.results.schema > results/SCHEMA.md``.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

SCHEMA_VERSION = 1
"""Raised whenever a column changes meaning, so that old files can be told apart."""

SAMPLES_KEPT = 128
"""Raw samples stored per row at most; a longer measurement keeps an evenly spaced subset, in time order."""

STATUSES = ("ok", "skipped", "out_of_memory", "incorrect", "timeout", "error")


def column(group: str, doc: str, *, key: bool = False) -> Any:
    """A dataclass field with its place in the table and its meaning. Key columns together name one case."""
    return field(default=None, metadata={"group": group, "doc": doc, "key": key})


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One measurement, or the stated reason why there is none. ``None`` means unknown or not applicable."""

    # identity
    schema_version: int | None = column("identity", "version of this table of columns")
    run_id: str | None = column("identity", "one call of `chipassay run`, resumed parts included")
    measured_at_utc: str | None = column("identity", "when the row was finished, ISO 8601")
    host_hash: str | None = column("identity", "which machine, as a hash: the name itself is not stored")
    chip_id: str | None = column("identity", "id in the chip catalogue (`chipassay profiles`), or one derived from the device name")
    device_name: str | None = column("identity", "what the driver calls the chip")
    device_kind: str | None = column("identity", "`cpu`, `cuda`, `rocm`, `xpu`, `mps`, `npu`")
    device_memory_bytes: int | None = column("identity", "memory of one chip (a CPU: what this process may use of the machine's)")
    last_level_cache_bytes: int | None = column("identity", "size of the chip's last-level cache")
    device_index: int | None = column(
        "identity", "which of the machine's chips it was, as the driver counts them, where one was measured alone"
    )
    chip_count: int | None = column("identity", "chips (ranks) that took part")
    node_count: int | None = column("identity", "hosts that took part")
    fabric: str | None = column(
        "identity", "what joins the chips: `single`, `shared-memory`, `pcie`, `nvlink`, `network` (several hosts), ... or unknown"
    )

    # case
    op: str | None = column("case", "operation: `matmul`, `attention`, `copy`, `triad`, `all_reduce`, ...", key=True)
    m: int | None = column("case", "matmul: rows of A and of the output", key=True)
    n: int | None = column("case", "matmul: columns of B and of the output", key=True)
    k: int | None = column("case", "matmul: the summed axis", key=True)
    layout: str | None = column("case", "matmul: `nn`, `nt`, `tn`, how A and B lie in memory (n = as written, t = transposed)", key=True)
    scaling: str | None = column("case", "fp8 matmul: what shares a scale: `per_tensor`, `row_wise`", key=True)
    groups: int | None = column("case", "batched and grouped matmul: matrices in the batch, or experts", key=True)
    split: str | None = column("case", "grouped matmul: rows among the experts, `even` or `uneven`", key=True)
    batch: int | None = column("case", "attention: sequences", key=True)
    heads: int | None = column("case", "attention: query heads", key=True)
    kv_heads: int | None = column("case", "attention: key/value heads (fewer than `heads` in GQA)", key=True)
    seq_q: int | None = column("case", "attention: query positions", key=True)
    seq_kv: int | None = column("case", "attention: key/value positions", key=True)
    head_dim: int | None = column("case", "attention: width of one head of queries and keys", key=True)
    head_dim_v: int | None = column("case", "attention: width of one head of values, where it differs (MLA)", key=True)
    causal: bool | None = column("case", "attention: masked so that a position sees only earlier ones", key=True)
    window: int | None = column("case", "attention: a position sees itself and this many less one before it (sliding window)", key=True)
    direction: str | None = column("case", "`forward` or `backward`", key=True)
    rows: int | None = column("case", "norms, softmax, cross-entropy, gather: independent rows (tokens)", key=True)
    width: int | None = column("case", "norms, softmax, cross-entropy, gather: elements in a row (hidden size, vocabulary)", key=True)
    table_rows: int | None = column("case", "gather: rows of the table that is read from (vocabulary)", key=True)
    path: str | None = column("case", "transfer: `host_to_device`, `device_to_host`, `device_to_device`", key=True)
    host_memory: str | None = column("case", "transfer: `pageable` or `pinned`", key=True)
    elements: int | None = column(
        "case", "memory operations and collectives: elements in one array (collectives: counted as size_bytes counts)", key=True
    )
    size_bytes: int | None = column(
        "case", "collectives: message size S by the field's definition (the total for all-gather and reduce-scatter)", key=True
    )
    group_size: int | None = column("case", "collectives: ranks in the group", key=True)
    members: str | None = column(
        "case", "collectives: which ranks of the job form the group, `0-3`, several at once as `0-3|4-7`; empty: all of them", key=True
    )
    in_place: bool | None = column("case", "collectives: output buffer is (part of) the input buffer, or the reverse", key=True)
    variant: str | None = column(
        "case",
        "benchmarks of your own and rows of other tools: what else names the case, `name=value` joined by `;`",
        key=True,
    )
    beside: str | None = column(
        "case",
        "what ran at the same time on the same chips, and was not timed: `matmul 4096x4096x4096 bf16`, `all_reduce 64 MiB bf16`",
        key=True,
    )
    dtype: str | None = column("case", "element type: `fp64`, `fp32`, `fp16`, `bf16`, `fp8_e4m3`, `int8`, ...", key=True)
    math_mode: str | None = column(
        "case",
        "which arithmetic, where a dtype has several: `ieee` (fp32 that is not TF32), `fast_accum` (fp8 with sums of fewer bits), "
        "`fp16_accum` (fp16 with sums in fp16)",
        key=True,
    )
    native: bool | None = column("case", "false: the chip only emulates this dtype")

    # implementation
    backend: str | None = column(
        "implementation", "`torch`, `triton`, `cupy`, `numpy`; collectives: the transport, `gloo`, `nccl`, `mpi`", key=True
    )
    kernel: str | None = column("implementation", "which implementation, for example `torch.mm`", key=True)
    config: str | None = column("implementation", "tuned choices of the kernel, `name=value` joined by `;`")
    libraries: str | None = column("implementation", "versions, `name=version` joined by `;`")
    driver: str | None = column("implementation", "driver version, or the kernel and its release on a CPU")
    threads: int | None = column("implementation", "CPU threads per rank")

    # method
    tool: str | None = column("method", "which program measured, where it was not chipassay: `nccl-tests`, `nvbench`, ...")
    tool_version: str | None = column("method", "its version, as far as its output tells")
    source_hash: str | None = column("method", "the file that the row was imported from: the first 16 digits of its SHA-256")
    method_version: int | None = column("method", "version of the way of measuring; rows of different versions are not comparable")
    cache: str | None = column("method", "`cold` (last-level cache evicted before each sample) or `warm`", key=True)
    launch: str | None = column("method", "`stream`, `graph` (device graph replay), or `call` (a function call on a CPU)", key=True)
    clock_source: str | None = column("method", "`device` (events on the chip) or `host` (monotonic clock around a synchronised call)")
    data: str | None = column(
        "method", "values in the inputs: `normal`, `uniform_integers` (int8), `odd_integers` (read), `exact_integers` (collectives)"
    )
    warmup_count: int | None = column("method", "calls made before the first sample that counts")
    sample_count: int | None = column("method", "samples taken")
    calls_per_sample: int | None = column("method", "collectives: calls back to back that make one sample, whose time is their mean")
    round_count: int | None = column("method", "visits to the case, minutes apart, whose samples are pooled")
    stop_reason: str | None = column("method", "`precise`, `plateau`, `time_cap`, `sample_cap`")

    # result
    time_median_s: float | None = column("result", "median time of one call (another statistic where `time_statistic` says so)")
    time_statistic: str | None = column("result", "what `time_median_s` is where a tool tells no median: `mean`, `min`; empty: the median")
    time_low_s: float | None = column("result", "lower end of the 95 % interval of the median, drift between blocks of samples included")
    time_high_s: float | None = column("result", "upper end of the 95 % interval of the median")
    sample_clocks_hz: tuple[float, ...] | None = column(
        "result", "chip clock during each of samples_s, read on the chip around the call; 0 where it could not be"
    )
    time_min_s: float | None = column("result", "fastest sample")
    time_p05_s: float | None = column("result", "5th percentile")
    time_p25_s: float | None = column("result", "25th percentile")
    time_p75_s: float | None = column("result", "75th percentile")
    time_p95_s: float | None = column("result", "95th percentile")
    samples_s: tuple[float, ...] | None = column(
        "result", f"raw samples in time order, joined by spaces; at most {SAMPLES_KEPT}, evenly spaced"
    )
    slowest_rank_time_s: float | None = column(
        "result", "collectives: the slowest rank's median (`time_median_s`: each sample's mean over ranks, as nccl-tests)"
    )
    fastest_rank_time_s: float | None = column("result", "collectives: the fastest rank's median")
    median_rank_time_s: float | None = column("result", "collectives: the median over ranks of their medians")
    rank_times_s: tuple[float, ...] | None = column("result", "collectives: each rank's median, in the order of members")
    straggler_rank: int | None = column(
        "result", "collectives: the rank (of the job) whose own work on the same bytes, without the others, takes longest"
    )
    straggler_hash: str | None = column("result", "collectives: which host and chip that is, as a hash")
    straggler_ratio: float | None = column("result", "collectives: its time for that work over the median of the ranks; 1: no straggler")
    alone_time_s: float | None = column("result", "with `beside`: the same call's median with nothing beside it, in turns with the other")
    flops: float | None = column("result", "floating-point operations of one call, by the textbook count")
    bytes: float | None = column("result", "bytes that one call must move: inputs read once, outputs written once")
    rate_flops_per_s: float | None = column("result", "flops / time_median_s")
    bandwidth_bytes_per_s: float | None = column("result", "bytes / time_median_s")
    algbw_bytes_per_s: float | None = column("result", "collectives: size_bytes / time_median_s")
    busbw_bytes_per_s: float | None = column("result", "collectives: algbw times the bus factor of the pattern and group")
    algorithm: str | None = column("result", "collectives: `ring`, `tree`, `nvls` (in the switch), `direct`, `binomial`, ..., `unknown`")
    wire_bytes_per_s: float | None = column(
        "result", "collectives: bytes one rank's busiest direction carried per second by that algorithm; empty where it is unknown"
    )
    peak_fraction: float | None = column("result", "share of the dense datasheet peak (rate for compute, bandwidth for memory operations)")
    roofline_fraction: float | None = column(
        "result", "share of what the roofline allows: max(flops / peak rate, bytes / peak bandwidth) / time_median_s"
    )
    peak_evidence: str | None = column("result", "evidence of that peak: `published`, `derived`, `assumed`")
    error: float | None = column("result", "largest error against the float64 reference, in the unit of error_limit")
    error_limit: float | None = column("result", "the error above which the row is `incorrect`")
    energy_j: float | None = column("result", "energy of one call: power while calls run back to back, times their mean time")
    sustained_s: float | None = column("result", "how long calls were run back to back for the sustained figures (`--sustain`)")
    sustained_time_s: float | None = column("result", "mean time of a call in the last third of that")
    sustained_clock_hz: float | None = column("result", "median chip clock in the last third of that")
    sustained_power_w: float | None = column("result", "median power in the last third of that")
    sustained_temperature_c: float | None = column("result", "highest temperature in the last third of that")
    flags: str | None = column("result", "what makes the row doubtful, in words joined by `;`: above a physical limit, ...")

    # condition
    clock_hz: float | None = column("condition", "median chip clock while sampling, where it can be read")
    clock_method: str | None = column(
        "condition", "how it was read: `device` (counters on the chip around each call), `nvml` (between calls), `chain` (a CPU's adder)"
    )
    clock_min_hz: float | None = column("condition", "lowest chip clock seen while sampling")
    throttled: bool | None = column("condition", "the chip reported a slowdown (power, heat) or its clock fell while sampling")
    throttle_reasons: str | None = column("condition", "what the driver named as the reasons, joined by `;`")
    power_w: float | None = column("condition", "median power while sampling")
    temperature_c: float | None = column("condition", "highest temperature while sampling")
    measuring_s: float | None = column("condition", "wall time spent on this row in the timing engine: warm-up, cache flush, samples")
    wall_s: float | None = column("condition", "wall time spent on this row in all: inputs, reference check and timing")

    # status
    status: str | None = column("status", "`ok`, `skipped`, `out_of_memory`, `incorrect`, `timeout`, `error`")
    reason: str | None = column("status", "why there is no number, or what to know about it")


COLUMNS: tuple[Field[Any], ...] = fields(Row)
NAMES: tuple[str, ...] = tuple(f.name for f in COLUMNS)
KEY_NAMES: tuple[str, ...] = tuple(f.name for f in COLUMNS if f.metadata["key"])
TYPES: dict[str, str] = {f.name: str(f.type).replace(" | None", "") for f in COLUMNS}


def case_key(row: Row) -> tuple[Any, ...]:
    """What makes two rows measurements of the same thing: the values of all key columns.

    >>> case_key(Row(op="copy", dtype="fp32", time_median_s=1.0)) == case_key(Row(op="copy", dtype="fp32"))
    True
    """
    return tuple(getattr(row, name) for name in KEY_NAMES)


def markdown() -> str:
    """The docs table of all columns, as kept in ``results/SCHEMA.md``."""
    lines = [
        "# The results table",
        "",
        f"Schema version {SCHEMA_VERSION}. Generated from `results/schema.py`; do not edit by hand.",
        "",
        "One row is one measurement, or the stated reason why there is none. An empty cell is unknown or not applicable. "
        "Numbers are SI units named in the column; floats keep full precision. Columns marked *key* together name one case. "
        "Columns of your own may be added if their names begin with `x_`.",
        "",
    ]
    group = None
    for f in COLUMNS:
        if f.metadata["group"] != group:
            group = f.metadata["group"]
            lines += ["", f"## {group.capitalize()}", "", "| column | type | meaning |", "| --- | --- | --- |"]
        key = " *key*" if f.metadata["key"] else ""
        lines.append(f"| `{f.name}` | {TYPES[f.name]}{key} | {f.metadata['doc']} |")
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
