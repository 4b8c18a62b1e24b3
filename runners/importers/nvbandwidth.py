"""nvbandwidth: copies between host and GPUs and among GPUs, from its JSON (--json) or from what it prints.

It tells bandwidths and latencies but not the size of its buffers (64 MiB before v0.7, 512 MiB since, or what -b said), so a bandwidth
comes without time and bytes. A copy within one GPU counts its bytes once there and twice here, read and written, as ``transfer`` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError
from chipassay.results.schema import Row

from .importer import Hints, Imported, Importer, chip_columns, provenance, repeats_apart, variant_of
from .source import integer, json_of, listing, mapping, number, plain_head, quoted, string, text_of
from .unmapped import Unmapped

TOOL = "nvbandwidth"
PARTS = {"read": ("read1", "read2", "total"), "write": ("write1", "write2", "total")}
"""The three matrices of a copy in both directions at once (since v0.6); in JSON up to v0.8 they are appended to one."""

DEVICE = re.compile(r"(?:Device )?(\d+): (.*?)(?: \([0-9a-fA-F]+:[0-9a-fA-F]+:[0-9a-fA-F.]+\).*)?$")
HEADING = re.compile(r"^(?:memcpy|multicast|memory latency|Device to Device Latency|.*\((?:GB/s|ns)\))")
RUNNING = re.compile(r"^Running ([\w-]+?)\.?$")
WAIVED = re.compile(r"^Waiving ([\w-]+?)\.?$|^Waived\b")
"""v0.2 names what it waives; later versions do not."""


@dataclass
class _Matrix:
    """One table of a testcase. ``cells``: rows of numbers, None where the tool says N/A."""

    name: str
    where: str
    description: str = ""
    cells: list[list[float | None]] = field(default_factory=list)
    status: str = "Passed"
    reason: str | None = None


@dataclass(frozen=True)
class _File:
    """What both forms tell."""

    version: str | None
    driver: str | None
    cuda: str | None
    devices: dict[int, str]
    matrices: list[_Matrix]


def recognises(path: Path, head: bytes) -> bool:
    """By the name it gives itself, as a key of JSON or in its first line."""
    head = plain_head(head)
    return (b'"nvbandwidth"' in head and b'"testcases"' in head) or b"nvbandwidth Version:" in head


def read(path: Path, hints: Hints) -> Imported:
    """Raises FileError for a file that holds no testcase, naming the line."""
    unmapped = Unmapped()
    text = text_of(path)
    found = _from_json(path, unmapped) if '"nvbandwidth"' in text else _from_text(text, unmapped)
    if not found.matrices and not unmapped.sentences():
        raise FileError(path, "no testcase in there", mend="give the output of a run of nvbandwidth that came to its first result")
    base = {
        **provenance(path, TOOL, found.version),
        "op": "transfer",
        "backend": "cuda",
        "driver": found.driver,
        "libraries": f"cuda={found.cuda}" if found.cuda else None,
        "clock_source": "device",
        "node_count": hints.node_count or 1,
        "fabric": hints.fabric,
    }
    rows = [row for matrix in found.matrices for row in _rows(matrix, base, found.devices, hints, unmapped)]
    return Imported(repeats_apart(rows), unmapped.sentences())


def _from_json(path: Path, unmapped: Unmapped) -> _File:
    document = json_of(path)
    root = mapping(mapping(document.value).get(TOOL))
    if document.cut_line is not None:
        unmapped.add("ends in the middle of a testcase", f"line {document.cut_line}")
    for label in ("error", "warning"):
        if string(root.get(label)):
            unmapped.add(f"{label}s {quoted(str(root[label]))}", "the file's head")
    devices = {}
    for entry in listing(root.get("GPU Device list")) or listing(root.get("GPU Device info")):
        match = DEVICE.match(str(entry))
        if match:
            devices[integer(match[1]) or 0] = match[2]
    matrices = []
    for index, case in enumerate(map(mapping, listing(root.get("testcases"))), 1):
        name, status = string(case.get("name")), str(case.get("status"))
        where = f"testcase {index}"
        if name is None:
            unmapped.add("testcases without a name", where)
            continue
        cells = [[number(cell) for cell in listing(row)] for row in listing(case.get("bandwidth_matrix"))]
        reason = string(case.get("error")) or string(case.get("reason"))
        matrices.append(_Matrix(name, where, str(case.get("bandwidth_description", "")), cells, status, reason))
        for extra in sorted(case.keys() - _JSON_KEYS):
            unmapped.add(f"values {quoted(extra)}", where)
    cuda = root.get("CUDA Runtime Version")
    return _File(string(root.get("version")), string(root.get("Driver Version")), None if cuda is None else str(cuda), devices, matrices)


_JSON_KEYS = {"name", "status", "error", "reason", "bandwidth_description", "bandwidth_matrix", "sum", "min", "max", "average"}
"""Sum, least, greatest and mean follow from the matrix."""


def _from_text(text: str, unmapped: Unmapped) -> _File:
    told: dict[str, str] = {}
    devices: dict[int, str] = {}
    matrices: list[_Matrix] = []
    name, columns, matrix = None, 0, None
    for position, line in enumerate(text.split("\n"), 1):
        line, where = line.strip(), f"line {position}"
        words = line.split()
        label, _, value = line.partition(": ")
        if label in ("nvbandwidth Version", "Driver Version", "CUDA Runtime Version"):
            told.setdefault(label, value.strip())
        elif line.startswith("Device ") and (match := DEVICE.match(line)):
            devices[integer(match[1]) or 0] = match[2]
        elif (match := RUNNING.match(line)) is not None:
            name, matrix = match[1], None
        elif (match := WAIVED.match(line)) is not None:
            if match[1] or name:
                matrices.append(_Matrix(match[1] or str(name), where, status="Waived"))
            else:
                unmapped.add("waived testcases without a name", where)
            matrix, name = None, None
        elif HEADING.match(line):
            # v0.8 prints no name before the table where the tests are named on the command line; the sum below it tells.
            matrix, columns = _Matrix(name or "", where, line), 0
            matrices.append(matrix)
        elif line.startswith("SUM ") and len(words) >= 3:
            for unnamed in matrices:
                unnamed.name = unnamed.name or re.sub(r"_(?:read|write)[12]$|_total$", "", words[1])
            matrix, name = None, None
        elif matrix is not None and words and all(word.isdigit() for word in words) and not columns:
            columns = len(words)
        elif matrix is not None and columns and len(words) == columns + 1 and words[0].isdigit():
            matrix.cells.append([number(word) for word in words[1:]])
        elif matrix is not None and columns and words and words[0].isdigit():
            unmapped.add("lines of a table with another number of columns than its head", where)
    for unnamed in [m for m in matrices if not m.name]:
        unmapped.add("tables whose testcase is not named", unnamed.where)
    matrices = [m for m in matrices if m.name]
    return _File(told.get("nvbandwidth Version"), told.get("Driver Version"), told.get("CUDA Runtime Version"), devices, _joined(matrices))


def _joined(matrices: Sequence[_Matrix]) -> list[_Matrix]:
    """The three printed tables of a testcase in both directions as one, as its JSON has them."""
    joined: list[_Matrix] = []
    for matrix in matrices:
        before = joined[-1] if joined else None
        again = before is not None and before.name == matrix.name and re.search(r"(?:Read|Write)2|Total", matrix.description)
        if before is not None and again:
            before.cells += matrix.cells
        else:
            joined.append(matrix)
    return joined


def _rows(matrix: _Matrix, base: dict[str, Any], devices: dict[int, str], hints: Hints, unmapped: Unmapped) -> Iterator[Row]:
    path, local = _path(matrix)
    common = {**base, "kernel": f"{TOOL}.{matrix.name}", "path": path, "host_memory": "pinned" if "host" in matrix.name else None}
    if matrix.status != "Passed" and not matrix.cells:
        if path is None:
            unmapped.add(f"testcases {quoted(matrix.name)} with status {quoted(matrix.status)}", matrix.where)
            return
        skipped = matrix.status == "Waived"
        reason = matrix.reason or ("waived: it does not apply to this machine" if skipped else f"nvbandwidth says {matrix.status}")
        whose = chip_columns(hints, devices.get(0), "cuda")
        yield Row(**{**common, **whose, "status": "skipped" if skipped else "error", "reason": reason})
        return
    if path is None:
        unmapped.add(f"testcases {quoted(matrix.name)} of an unknown kind", matrix.where)
        return
    if not any(matrix.cells):
        unmapped.add("testcases without numbers", matrix.where)
    for row_index, column, part, value in _cells(matrix):
        pair = _pair(matrix, row_index, column)
        if value is None or value <= 0.0:
            # Its own diagonal a table of pairs leaves out: N/A, or 0.00 in v0.2.
            if not (pair and row_index == column):
                yield Row(
                    **{
                        **common,
                        **_whose(matrix, pair, column, part, devices, hints),
                        "status": "skipped",
                        "reason": "no access between them",
                    }
                )
            continue
        yield Row(**{**common, **_whose(matrix, pair, column, part, devices, hints), **_figures(matrix, value, local), "status": "ok"})


def _path(matrix: _Matrix) -> tuple[str | None, bool]:
    """The path, and whether it stays within one GPU. None: not known."""
    name, words = matrix.name, matrix.description
    if "local" in name:
        return "device_to_device", True
    if any(both in name for both in ("device_to_device", "all_to_one", "one_to_all", "bisect")) or "GPU(row)" in words:
        return "device_to_device", False
    if name.startswith(("host_to_", "host_device")) or "CPU(row) -> GPU" in words:
        return "host_to_device", False
    if name.startswith(("device_to_host", "all_to_host")) or "CPU(row) <- GPU" in words:
        return "device_to_host", False
    return None, False


def _cells(matrix: _Matrix) -> Iterator[tuple[int, int, str | None, float | None]]:
    """Row, column, part and value of each cell."""
    width = max((len(row) for row in matrix.cells), default=0)
    kind = "write" if "write" in matrix.name else "read"
    split = "bidirectional" in matrix.name and "device_to_device" in matrix.name and width > 0 and len(matrix.cells) == 3 * width
    for index, row in enumerate(matrix.cells):
        for column, value in enumerate(row):
            yield (index % width, column, PARTS[kind][index // width], value) if split else (index, column, None, value)


def _pair(matrix: _Matrix, row: int, column: int) -> tuple[str, int, int] | None:
    """The arrow between two GPUs and their numbers; None where a cell is of one GPU (and the host, or all others)."""
    arrow = re.search(r"PU\(row\) (<->|->|<-) GPU\(column\)", matrix.description)
    between = "device_to_device" in matrix.name and "all_" not in matrix.name
    return (arrow[1] if arrow else "<->", row, column) if between else None


def _whose(
    matrix: _Matrix, pair: tuple[str, int, int] | None, column: int, part: str | None, devices: dict[int, str], hints: Hints
) -> dict[str, Any]:
    whose = chip_columns(hints, devices.get(column, devices.get(0)), "cuda")
    if pair is None:
        return {**whose, "device_index": column, "chip_count": 1, "variant": _company(matrix.name, column)}
    arrow, row, column = pair
    source, target = (column, row) if arrow == "<-" else (row, column)
    words = [f"from={source}", f"to={target}", *([f"part={part}"] if part else [])]
    return {**whose, "variant": ";".join(words), "chip_count": 2}


def _company(name: str, device: int) -> str | None:
    """What sets a copy of one GPU apart from the usual one, alone and one way."""
    found = []
    if "all_to_one" in name or "one_to_all" in name or "all_from_one" in name:
        found = [("from", "all"), ("to", device)] if "all_to_one" in name else [("from", device), ("to", "all")]
    elif "to_all" in name or "all_to" in name:
        found = [("gpus", "all")]
    return variant_of([*found, *([("ways", "both")] if "bidirectional" in name else [])])


def _figures(matrix: _Matrix, value: float, local: bool) -> dict[str, Any]:
    """A latency is a time; a bandwidth is all there is, as the buffer's size is not told. ``value``: nanoseconds or GB/s."""
    if "(ns)" in matrix.description or "latency" in matrix.name:
        return {"op": "memory_latency", "time_median_s": value / 1e9}
    return {"bandwidth_bytes_per_s": value * 1e9 * (2 if local else 1)}


IMPORTER = Importer(TOOL, "nvbandwidth: JSON (--json) and printed tables", recognises, read)
