"""pytest-benchmark's saved JSON (``--benchmark-json``, ``--benchmark-save``): the rows that chipassay's plugin stored in it, and any
other benchmark of Python code.

The fields are those of its ``pytest_benchmark_generate_json`` and ``Metadata.as_dict``; files of 2.5 (2015) to 5.3 (2026) differ only in
what they lack: ``params``, ``ops``, the CPU.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from chipassay.results.cells import from_text
from chipassay.results.errors import FileError
from chipassay.results.schema import SAMPLES_KEPT, SCHEMA_VERSION, TYPES, Row

from .importer import Hints, Imported, Importer, provenance, repeats_apart
from .source import quoted
from .unmapped import Unmapped

TOOL = "pytest-benchmark"

OUR_KEY = "chipassay"
"""Where chipassay's pytest plugin puts a row into ``extra_info``: column name -> text of the cell."""

MEND = "give a file as pytest-benchmark saved it"


def recognises(path: Path, head: bytes) -> bool:
    """A JSON object with ``benchmarks`` that have a ``fullname`` (nvbench's have none) or a ``machine_info`` before them."""
    return (
        head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
        and b'"benchmarks"' in head
        and (b'"machine_info"' in head or (b'"fullname"' in head and b'"iterations"' in head))
    )


def read(path: Path, hints: Hints) -> Imported:
    """One row a benchmark. Raises FileError naming the benchmark and the field that is broken."""
    document = _document(path)
    benchmarks = document.get("benchmarks")
    if not isinstance(benchmarks, list):
        raise FileError(path, "is JSON but has no list of benchmarks", mend=MEND)
    unmapped = Unmapped()
    common = _common(path, document, hints)
    rows = []
    for number, benchmark in enumerate(benchmarks, 1):
        record = _Record(path, benchmark, number)
        ours = record.extra_info.get(OUR_KEY)
        for name in sorted(record.extra_info.keys() - {OUR_KEY}):
            unmapped.add(f"extra_info {quoted(name)}: no column for it", record.name)
        row = record.foreign_row(common, unmapped) if ours is None else record.our_row(ours, common, unmapped)
        if row is not None:
            rows.append(row)
    return Imported(repeats_apart(rows), unmapped.sentences())


def _document(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = json.loads(text)
        if "\\ud" in text.lower():
            # JSON can spell half of a character pair, which no CSV can hold: said here, not when the row is written.
            json.dumps(document, ensure_ascii=False).encode()
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of an existing file") from error
    except json.JSONDecodeError as error:
        raise FileError(path, f"is not whole JSON ({error.msg})", line=error.lineno, mend=MEND) from error
    except (ValueError, RecursionError) as error:
        raise FileError(path, f"is not JSON in UTF-8 ({type(error).__name__})", mend=MEND) from error
    if not isinstance(document, dict):
        raise FileError(path, "is JSON but no object", mend=MEND)
    return document


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _common(path: Path, document: Mapping[str, Any], hints: Hints) -> dict[str, Any]:
    """The columns that all benchmarks of the file share: tool, machine, Python, commit, date."""
    from chipassay.results.catalogue import identify

    from ..devices.facts import slug

    machine, commit = _mapping(document.get("machine_info")), _mapping(document.get("commit_info"))
    cpu = _mapping(machine.get("cpu"))
    # py-cpuinfo 6 renamed brand to brand_raw; before pytest-benchmark 3 there was no CPU at all.
    brands = (_text(cpu.get("brand_raw")), _text(cpu.get("brand")), hints.device_name, _text(machine.get("processor")))
    device_name = next((name for name in brands if name and name.lower() != "unknown"), _text(machine.get("machine")))
    node = _text(machine.get("node"))
    found = identify(device_name) if device_name else None
    system, release = _text(machine.get("system")), _text(machine.get("release"))
    python = _text(machine.get("python_implementation_version")) or _text(machine.get("python_version"))
    return {
        **provenance(path, TOOL, _text(document.get("version"))),
        "measured_at_utc": _utc(document.get("datetime")),
        "host_hash": hashlib.sha256(node.encode()).hexdigest()[:12] if node else None,
        "device_name": device_name,
        "chip_id": found.id if found else hints.chip_id or (f"cpu-{slug(device_name)}" if device_name else None),
        "device_kind": "cpu",
        "chip_count": 1,
        "node_count": 1,
        "fabric": "single",
        "libraries": f"{(_text(machine.get('python_implementation')) or 'python').lower()}={python}" if python else None,
        "driver": f"{system} {release}" if system and release else system,
        "reason": _commit(commit),
    }


def _utc(value: Any) -> str | None:
    """The file's time as chipassay writes times; None for what is no ISO 8601."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    # Until 4.0 the time was UTC and did not say so.
    moment = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    return moment.isoformat(timespec="seconds")


def _commit(commit: Mapping[str, Any]) -> str | None:
    identity = _text(commit.get("id"))
    if identity is None or identity in ("unknown", "unversioned"):
        return None
    branch = _text(commit.get("branch"))
    named = f"commit {identity}" + (f" of branch {branch}" if branch and branch != "(unknown)" else "")
    return named + (" with uncommitted changes" if commit.get("dirty") is True else "")


class _Record:
    """One benchmark of the file."""

    def __init__(self, path: Path, benchmark: Any, number: int) -> None:
        if not isinstance(benchmark, dict):
            raise FileError(path, f"benchmark {number} is no object", mend=MEND)
        self.path, self.benchmark = path, benchmark
        self.name = _text(benchmark.get("fullname")) or _text(benchmark.get("name")) or f"benchmark {number}"
        self.extra_info = _mapping(benchmark.get("extra_info"))
        self.stats = _mapping(benchmark.get("stats"))

    def wrong(self, problem: str, field: str | None = None) -> FileError:
        return FileError(self.path, f"{self.name}: {problem}", field=field, mend=MEND)

    def seconds(self, name: str, value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0.0 <= value <= sys.float_info.max:
            raise self.wrong(f"stats.{name} is {str(value)[:40]!r}, no time in seconds")
        return float(value)

    def statistic(self, name: str) -> float | None:
        value = self.stats.get(name)
        return None if value is None else self.seconds(name, value)

    def count(self, name: str) -> int | None:
        value = self.stats.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong(f"stats.{name} is {str(value)[:40]!r}, no count")
        return value

    def samples_s(self) -> tuple[float, ...] | None:
        """Raw times of one call in time order, where they were saved (``--benchmark-json`` and ``--benchmark-save-data`` do)."""
        data = self.stats.get("data")
        if not data:
            return None
        if not isinstance(data, list):
            raise self.wrong("stats.data is no list of times")
        return tuple(self.seconds("data", value) for value in data)

    def variant(self) -> str | None:
        params = _mapping(self.benchmark.get("params"))
        parts = (f"{name}={value if isinstance(value, str) else json.dumps(value, sort_keys=True)}" for name, value in params.items())
        return ";".join(parts) or None

    def foreign_row(self, common: Mapping[str, Any], unmapped: Unmapped) -> Row | None:
        """A benchmark that knows nothing of chipassay: a time with its spread, named by test and parameters."""
        from ..timing.columns import time_columns

        samples_s, rounds = self.samples_s(), self.count("rounds")
        if samples_s is None and self.statistic("median") is None:
            unmapped.add("benchmark without a median or raw times", self.name)
            return None
        if self.benchmark.get("cprofile"):
            unmapped.add("a cProfile: no column for it", self.name)
        spread = {"time_median_s": "median", "time_min_s": "min", "time_p25_s": "q1", "time_p75_s": "q3"}
        times = {column: self.statistic(name) for column, name in spread.items()} if samples_s is None else time_columns(samples_s)
        return Row(
            **common,
            op="benchmark",
            kernel=self.name,
            variant=self.variant(),
            launch="call",
            clock_source="host",
            sample_count=rounds if samples_s is None else len(samples_s),
            calls_per_sample=self.count("iterations"),
            status="ok",
            **times,
        )

    def our_row(self, cells: Any, common: Mapping[str, Any], unmapped: Unmapped) -> Row:
        """A row as chipassay's plugin stored it: every cell by the rules of the results CSV."""
        from ..timing.columns import time_columns
        from ..timing.statistics import thin

        if not isinstance(cells, dict):
            raise self.wrong(f"extra_info.{OUR_KEY} is no mapping of columns to cells")
        values = {}
        for name, text in cells.items():
            if name not in TYPES:
                unmapped.add(f"column {name!r}: unknown to this version of chipassay", self.name)
                continue
            if not isinstance(text, str):
                raise self.wrong(f"{str(text)[:40]!r} is not the text of a cell", name)
            try:
                values[name] = from_text(name, text)
            except ValueError as error:
                raise self.wrong(str(error), name) from error
        version = values.get("schema_version")
        if version is not None and version > SCHEMA_VERSION:
            raise FileError(
                self.path,
                f"{self.name}: schema version {version}, this chipassay reads up to {SCHEMA_VERSION}",
                mend="upgrade chipassay",
            )
        if values.get("op") is None:
            raise self.wrong("is empty", "op")
        samples_s = self.samples_s()
        if samples_s is not None and values.get("samples_s") is None:
            added = time_columns(samples_s) if values.get("time_median_s") is None else {"samples_s": thin(samples_s, SAMPLES_KEPT)}
            values = {**values, **added}
        # Our own method: the row has no tool but chipassay, the file is where it came through.
        shared = {name: common[name] for name in ("schema_version", "run_id", "source_hash", "measured_at_utc")}
        return Row(**{**shared, "status": "ok", **{name: value for name, value in values.items() if value is not None}})


IMPORTER = Importer("pytest-benchmark", "JSON of pytest-benchmark (--benchmark-json, --benchmark-save)", recognises, read)
