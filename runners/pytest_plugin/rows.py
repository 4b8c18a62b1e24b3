"""The row of a benchmark: who measured what, where, and what came of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pytest

from chipassay.kernels.backends import BACKENDS, library_versions
from chipassay.results.operations import limited_by
from chipassay.results.schema import SCHEMA_VERSION, Row

from ..devices.facts import DeviceFacts, host_hash
from ..importers.importer import variant_of
from ..measure_kernel import OUT_OF_MEMORY
from ..plausibility import flags, roofline_fraction
from ..timing.columns import result_columns
from ..timing.engine import Samples
from .correct import Checked
from .options import Options

REASON_LENGTH = 500


@dataclass(frozen=True)
class Place:
    """Which test of which run: what names the row beside the options."""

    kernel: str
    """The test, by its path from pytest's root folder, without the parameters."""
    variant: str | None
    """The parameters."""
    run_id: str

    @classmethod
    def of(cls, node: pytest.Item, run_id: str) -> Place:
        callspec = getattr(node, "callspec", None)
        if callspec is None:
            return cls(node.nodeid, None, run_id)
        plain = all(isinstance(value, str | int | float | bool | None) for value in callspec.params.values())
        # Objects have no stable text: then it is what pytest calls the set of parameters.
        pairs = callspec.params.items() if plain else [("id", callspec.id)]
        return cls(node.nodeid.removesuffix(f"[{callspec.id}]"), variant_of(pairs), run_id)


def measured_row(place: Place, facts: DeviceFacts, options: Options, samples: Samples, error: Checked) -> Row:
    """A benchmark that went well."""
    found = result_columns(samples)
    time_s = found["time_median_s"]
    rate = options.flops / time_s if options.flops and time_s else None
    bandwidth = options.bytes / time_s if options.bytes and time_s else None
    return Row(
        **_known(place, facts, options),
        **found,
        libraries=_libraries(options.columns.get("backend")),
        rate_flops_per_s=rate,
        bandwidth_bytes_per_s=bandwidth,
        error=error.error,
        error_limit=error.limit,
        round_count=1,
        status="ok",
        **_held_against_peaks(facts, options, found, rate, bandwidth, samples.unqueued_count / len(samples.times_s)),
    )


def failed_row(place: Place, facts: DeviceFacts | None, options: Options, status: str, reason: str) -> Row:
    """A benchmark that gave no number. ``facts``: None where the test ended before the device was looked for."""
    return Row(**_known(place, facts, options), cache=options.cache, status=status, reason=reason)


def status_of(error: BaseException) -> tuple[str, str]:
    """A row's status and reason for what a test raised.

    >>> status_of(AssertionError("3 is not 4")), status_of(RuntimeError("CUDA out of memory."))[0]
    (('incorrect', 'AssertionError: 3 is not 4'), 'out_of_memory')
    """
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, AssertionError):
        status = "incorrect"
    else:
        out_of_memory = isinstance(error, MemoryError) or any(words in reason.lower() for words in OUT_OF_MEMORY)
        status = "out_of_memory" if out_of_memory else "error"
    return status, reason[:REASON_LENGTH]


def _known(place: Place, facts: DeviceFacts | None, options: Options) -> dict[str, Any]:
    """The columns that are known before anything is measured."""
    columns: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": place.run_id,
        "measured_at_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "host_hash": host_hash(),
        "op": options.op,
        "dtype": options.dtype,
        "flops": options.flops,
        "bytes": options.bytes,
        "kernel": place.kernel,
        "variant": place.variant,
    }
    if facts is not None:
        columns |= {
            "chip_id": facts.chip_id,
            "device_name": facts.name,
            "device_kind": facts.kind,
            "device_memory_bytes": facts.memory_bytes,
            "last_level_cache_bytes": facts.cache_bytes,
            "chip_count": 1,
            "node_count": 1,
            "fabric": "single",
            "driver": facts.driver,
            "threads": facts.threads,
            "launch": "call" if facts.kind == "cpu" else "stream",
            "native": None if facts.native_dtypes is None or options.dtype is None else options.dtype in facts.native_dtypes,
        }
    return columns | {name: value for name, value in options.columns.items() if value is not None}


def _libraries(backend: str | None) -> str:
    """Versions of Python and of the array libraries that the test has loaded, or of its backend alone where it told one."""
    names = [name for name in ([backend] if backend in BACKENDS else BACKENDS) if name in sys.modules]
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in names:
        versions |= library_versions(name)
    return ";".join(f"{name}={version}" for name, version in versions.items())


def _held_against_peaks(
    facts: DeviceFacts, options: Options, found: Mapping[str, Any], rate: float | None, bandwidth: float | None, unqueued_share: float
) -> dict[str, Any]:
    """Shares of the peaks and doubts, as far as the test told the work of a call."""
    limit = limited_by(Row(op=options.op, flops=options.flops, bytes=options.bytes, **_edges(options)))
    achieved, peak = {
        "compute": (rate, facts.peak_flops_per_s.get(options.dtype or "")),
        "memory": (bandwidth, facts.peak_bandwidth_bytes_per_s),
    }.get(limit, (None, None))
    known = limit not in ("compute", "memory") or achieved is not None
    columns = {
        **found,
        "dtype": options.dtype if known else None,
        "flops": options.flops or 0.0,
        "bytes": options.bytes or 0.0,
    }
    # Where the work is not told nothing can be held against a peak, but doubts about the timing remain; those are arithmetic's, too.
    limit = limit if known else "compute"
    return {
        "peak_fraction": achieved / peak.value if achieved and peak else None,
        "peak_evidence": peak.evidence.level if achieved and peak else None,
        "roofline_fraction": (roofline_fraction(facts, limit, columns) or None) if known else None,
        "flags": flags(facts, limit, columns, unqueued_share),
    }


def _edges(options: Options) -> dict[str, Any]:
    return {name: options.columns[name] for name in ("m", "group_size") if name in options.columns}
