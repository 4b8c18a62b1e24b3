"""The files that nccl-tests writes with -J, and rccl-tests with -x (JSON records, one a line or in a list, and CSV)."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError

from .importer import Hints, Imported, provenance, repeats_apart
from .nccl_rows import rows_of
from .nccl_terms import OPS, Measurement, Printed, Rank, Setup, library_version
from .source import integer, json_of, listing, mapping, number, quoted, string, text_of
from .unmapped import Unmapped

LAST_DIGIT = 1e-6
"""nccl-tests writes times in microseconds and bandwidths in GB/s with %lf."""

RCCL_NAMES = {test.replace("_", ""): test for test in OPS}
"""rccl-tests' record names (AllReduce) in lower case -> those of its programs."""

AVERAGES = {"0": "rank 0's", "2": "the fastest rank's", "3": "the slowest rank's"}
"""What -a makes of the ranks' times where it is not their mean."""


def read_json(path: Path, hints: Hints) -> Imported:
    """Rows of a file written with ``-J``."""
    unmapped = Unmapped()
    document = json_of(path)
    root = mapping(document.value)
    if document.cut_line is not None:
        unmapped.add("ends in the middle of a result: the run was cut short", f"line {document.cut_line}")
    config, args = mapping(root.get("config")), [str(arg) for arg in listing(root.get("args"))]
    backend = "rccl" if "rccl_version" in root else "nccl"
    test = _test_of(args)
    if test is None:
        raise FileError(path, "which collective was run is not told: args names none", mend="give the file that nccl-tests wrote with -J")
    code = integer(root.get("nccl_version", root.get("rccl_version")))
    ranks, count = _ranks(config)
    average = next((after for arg, after in itertools.pairwise(args) if arg in ("-a", "--average")), None)
    calls = integer(config.get("iterations"))
    setup = Setup(
        test=test,
        ranks=ranks,
        rank_count=count,
        backend=backend,
        library_version=library_version(code) if code else None,
        warmup_count=integer(config.get("warmup_iters")),
        calls=calls * (integer(config.get("aggregated_iterations")) or 1) if calls else None,
        graphs=integer(config.get("graph")),
        blocking=config.get("blocking_collectives") in (True, "true", 1),
        unalign=integer(config.get("unalign")),
        config=f"time={AVERAGES[average]}" if average in AVERAGES else None,
    )
    measurements = []
    for index, result in enumerate(listing(root.get("results")), 1):
        found = [_placed(mapping(result), f"result {index}", place, unmapped) for place in ("out_of_place", "in_place")]
        measurements += [m for m in found if m is not None]
    for error in listing(root.get("errors")):
        if string(error):
            unmapped.add(f"errors {quoted(error)}", "errors")
    if not measurements and not unmapped.sentences():
        raise FileError(path, "holds no result", mend="give the file of a run that came to an end")
    base = provenance(path, f"{backend}-tests", None)
    return Imported(repeats_apart(rows_of(setup, measurements, base, hints, unmapped)), unmapped.sentences())


def _test_of(args: Sequence[str]) -> str | None:
    for arg in args:
        match = re.search(r"([a-z_]+?)_perf", arg)
        if match and match[1].strip("_") in OPS:
            return match[1].strip("_")
    return None


def _ranks(config: Mapping[str, Any]) -> tuple[tuple[Rank, ...], int | None]:
    """The listed ranks and how many there are. Versions 1 to 3 of the format list the first rank of each process only."""
    ranks = []
    for entry in map(mapping, listing(config.get("devices"))):
        rank = integer(entry.get("rank"))
        if rank is not None:
            ranks.append(
                Rank(
                    rank=rank,
                    group=integer(entry.get("group")) or 0,
                    host=str(entry.get("hostname")),
                    device=integer(entry.get("device")) or 0,
                    name=string(entry.get("device_info")),
                )
            )
    of_process = (integer(config.get("nthreads")) or 1) * (integer(config.get("ngpus")) or 1)
    numbers = sorted({rank.rank for rank in ranks})
    if not numbers or len({rank.group for rank in ranks}) > 1:
        return tuple(ranks), None
    step = numbers[1] - numbers[0] if len(numbers) > 1 else of_process
    return tuple(ranks), len(numbers) * step


def _placed(result: Mapping[str, Any], where: str, place: str, unmapped: Unmapped) -> Measurement | None:
    body = mapping(result.get(place))
    if not body:
        return None
    size, time_us = integer(result.get("size")), number(body.get("time", body.get("cpu_time")))
    if size is None or time_us is None:
        unmapped.add(f"results {place} without size or time", where)
        return None
    for name in sorted(body.keys() - {"time", "cpu_time", "alg_bw", "bus_bw", "nwrong"}):
        unmapped.add(f"values {quoted(name)}", where)
    each = mapping(result.get(f"{place}_per_iter"))
    skipped = integer(each.get("skipped_iterations")) or 0
    times_us = [number(time) for time in listing(each.get("times_us"))][max(skipped, 0) :]
    if any(time is None or time <= 0 for time in times_us):
        unmapped.add(f"lists of times of single calls {place} that are not all above 0", where)
        times_us = []
    return Measurement(
        where=where,
        size_bytes=size,
        count=integer(result.get("count")),
        dtype=str(result.get("type")),
        redop=string(result.get("redop")),
        root=integer(result.get("root")),
        in_place=place == "in_place",
        time_s=Printed(time_us / 1e6, LAST_DIGIT / 2 * 1e-6),
        algbw=_gigabytes(body.get("alg_bw")),
        busbw=_gigabytes(body.get("bus_bw")),
        wrong=number(body.get("nwrong")),
        cpu_time="cpu_time" in body and "time" not in body,
        iteration_times_s=tuple(time / 1e6 for time in times_us if time is not None),
    )


def _gigabytes(value: Any, digits: float = LAST_DIGIT) -> Printed | None:
    found = number(value)
    return None if found is None else Printed(found * 1e9, digits / 2 * 1e9)


def read_rccl_records(path: Path, hints: Hints) -> Imported:
    """Rows of a file written with rccl-tests' ``-x`` (``--output_file``), JSON or CSV."""
    unmapped = Unmapped()
    groups: dict[tuple[Any, ...], list[Measurement]] = {}
    for where, record in _records(path, unmapped):
        test = RCCL_NAMES.get(str(record.get("name", record.get("collective", ""))).lower())
        size, time_us = integer(record.get("size")), number(record.get("time"))
        if test is None or size is None or time_us is None:
            unmapped.add("records without a known collective, size or time", where)
            continue
        ranks, per_rank = integer(record.get("ranks")), integer(record.get("gpusPerRank", record.get("gpusperrank")))
        count = integer(record.get("gpus")) or (ranks * (per_rank or 1) if ranks else None)
        measurement = Measurement(
            where=where,
            size_bytes=size,
            count=None,
            dtype=str(record.get("type")),
            redop=string(record.get("redop")),
            root=None,
            in_place=integer(record.get("inPlace", record.get("inplace"))) == 1,
            # Doubles as JSON writes them, two digits and more in CSV: rounding is told by the text alone, so a wide margin is left.
            time_s=Printed(time_us / 1e6, 0.005e-6),
            algbw=_gigabytes(record.get("algBw", record.get("algbw")), 0.01),
            busbw=_gigabytes(record.get("busBw", record.get("busbw")), 0.01),
            wrong=number(record.get("#wrong", record.get("wrong"))),
        )
        groups.setdefault((test, count, integer(record.get("nodes"))), []).append(measurement)
    if not groups and not unmapped.sentences():
        raise FileError(path, "holds no record", mend="give the file of a run that came to an end")
    base = provenance(path, "rccl-tests", None)
    rows = []
    for (test, count, nodes), measurements in groups.items():
        rows += rows_of(Setup(test, rank_count=count, node_count=nodes, backend="rccl"), measurements, base, hints, unmapped)
    return Imported(repeats_apart(rows), unmapped.sentences())


def _records(path: Path, unmapped: Unmapped) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text = text_of(path)
    begin = text.lstrip()[:1]
    if begin == "[":
        document = json_of(path, "[")
        if document.cut_line is not None:
            unmapped.add("ends in the middle of a record", f"line {document.cut_line}")
        for index, record in enumerate(listing(document.value), 1):
            yield f"record {index}", mapping(record)
    elif begin == "{":
        for position, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    yield f"line {position}", mapping(json.loads(line))
                except (ValueError, RecursionError):
                    unmapped.add("lines that are no whole record", f"line {position}")
    else:
        yield from _csv_records(path, text, unmapped)


def _csv_records(path: Path, text: str, unmapped: Unmapped) -> Iterator[tuple[str, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    try:
        header = [name.strip() for name in next(reader)]
        for cells in reader:
            where = f"line {reader.line_num}"
            names = header
            if len(cells) == len(header) + 1 and "nodes" not in header and "ranks" in header:
                # Builds with MPI left nodes out of the header, not out of the lines, until May 2026 (ROCm/rocm-systems pull 6004).
                at = header.index("ranks")
                names = [*header[:at], "nodes", *header[at:]]
            if len(cells) != len(names):
                unmapped.add("lines with another number of cells than the header", where)
                continue
            yield where, dict(zip(names, cells, strict=True))
    except (csv.Error, StopIteration) as error:
        raise FileError(path, f"broken CSV ({error})", line=reader.line_num, mend="give the file as rccl-tests wrote it") from error
