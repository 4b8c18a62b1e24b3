"""mamf-finder: the fastest matmul by shape, from its log or from what it showed in a terminal, in all versions since August 2024.

Which dimension is summed over changed (stas00/ml-engineering 59fc831, 2025-01-04): before, "MxNxK" was printed of an (M, N) by (N, K)
product. Lines of those versions begin with the fastest call, later ones with the mean; that tells them apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError
from chipassay.results.schema import Row

from .importer import Hints, Imported, Importer, chip_columns, provenance, repeats_apart
from .source import integer, number, plain_head, quoted, text_of
from .unmapped import Unmapped

TERA = 1e12
"""TFLOPS of the tool: 10**12 FLOPs a second (its legend says so)."""

DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32", "float": "fp32", "float64": "fp64", "double": "fp64"}
DTYPES |= {"float8_e4m3fn": "fp8_e4m3", "float8_e4m3fnuz": "fp8_e4m3", "int8": "int8"}
ITEM_BYTES = {"fp64": 8, "fp32": 4, "fp16": 2, "bf16": 2, "fp8_e4m3": 1, "int8": 1}

SHAPE = r"(\d+)x(\d+)x(\d+)"
RATE = r"([\d.]+|inf|nan)"
LABEL = re.compile(SHAPE + r" \((MxNxK|MxKxN)\)")
OLD_LINE = re.compile(rf"^\s*\d+ \|\s*{RATE} TFLOPS @ {SHAPE}\s*\| best:\s*{RATE} ?TFLOPS @ {SHAPE}")
"""2024-08 to 2024-12: the fastest call only, caches warm."""
PAIR_LINE = re.compile(rf"^\s*\d+ \|\s*{RATE}\(max\) /\s*{RATE}\(median\) TFLOPS @ {SHAPE}")
"""December 2024: caches emptied between calls."""
LINE = re.compile(rf"^\s*\d+ \|\s*{RATE}\((mean|max)\)\s+{RATE}\(median\)\s+{RATE}\((?:mean|max)\) @ {SHAPE}")
"""Version 2."""
BEST_OLD = re.compile(rf"best outcome was {RATE} ?TFLOPS @ {SHAPE}")
BEST_PAIR = re.compile(rf"best outcome was {RATE}\(max\)/{RATE}\(median\) TFLOPS @ {SHAPE}")
BEST = re.compile(rf"^(mean|median|max):\s*{RATE} TFLOPS @ {SHAPE}")
PROGRESS = re.compile(r"^\s*\d+ \|\s*[\d.]+[ (]|TFLOPS @")

DEVICE = re.compile(r"\b_?\w*DeviceProperties\(name='([^']*)'.*?total_memory=(\d+)MB")
OPTION = r"--{}[ =](\d+)"
COLD = "cold"
WARM = "warm"


@dataclass(frozen=True)
class _Shape:
    """The rates of one shape, in FLOPs a second, as far as told; ``edges`` in the printed order."""

    where: str
    edges: tuple[int, int, int]
    mean: float | None = None
    median: float | None = None
    fastest: float | None = None
    cache: str = COLD


def recognises(path: Path, head: bytes) -> bool:
    """By a line of a shape, or the command in its header together with the device."""
    text = plain_head(head).decode("utf-8", "replace")
    lines = re.split(r"[\r\n]+", text)
    known = (OLD_LINE, PAIR_LINE, LINE)
    return (
        any(pattern.match(line) for line in lines for pattern in known)
        or bool(BEST_OLD.search(text) or BEST_PAIR.search(text))
        or ("mamf-finder" in text and "** Dtype:" in text)
    )


def read(path: Path, hints: Hints) -> Imported:
    """Raises FileError for a log without a shape."""
    unmapped = Unmapped()
    text = text_of(path)
    measured, best = [], []
    for position, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        where = f"line {position}"
        shape, summary = _measured(line, where, unmapped), _best(line, where)
        if shape is not None:
            measured.append(shape)
            if re.search(r"\b(?:inf|nan)\(", line.partition("@")[0]):
                unmapped.add("rates that are no number", where)
        elif summary is not None:
            best.append(summary)
        elif PROGRESS.search(line) and not OLD_LINE.match(line):
            unmapped.add("lines of a shape that are cut short, or of another form", where)
    if not measured and not best and not unmapped.sentences():
        raise FileError(path, "no shape in there", mend="give the log that mamf-finder wrote, or a run that came to its end")
    return Imported(repeats_apart(_rows(path, text, measured + _new(best, measured), hints, unmapped)), unmapped.sentences())


def _edges(*texts: str) -> tuple[int, int, int]:
    m, n, k = (integer(text) or 0 for text in texts)
    return m, n, k


def _rate(text: str) -> float | None:
    found = number(text)
    return found * TERA if found else None


def _measured(line: str, where: str, unmapped: Unmapped) -> _Shape | None:
    """A line of the progress; None for another one."""
    if match := LINE.match(line):
        first, which, middle, last, *edges = match.groups()
        mean, fastest = (first, last) if which == "mean" else (last, first)
        return _Shape(where, _edges(*edges), _rate(mean), _rate(middle), _rate(fastest))
    if match := PAIR_LINE.match(line):
        fastest, middle, *edges = match.groups()
        return _Shape(where, _edges(*edges), None, _rate(middle), _rate(fastest))
    if match := OLD_LINE.match(line):
        rate, *edges, best_rate, b1, b2, b3 = match.groups()
        if edges == [b1, b2, b3] and rate != best_rate:
            # Until August 2024 the shape was taken over only when it was the best so far; else the line names an earlier one.
            unmapped.add("lines whose rate is not that of the shape they name (a mistake of that version)", where)
            return None
        return _Shape(where, _edges(*edges), None, None, _rate(rate), WARM)
    return None


def _best(line: str, where: str) -> _Shape | None:
    """A line of the summary; None for another one."""
    if match := BEST_PAIR.search(line):
        fastest, middle, *edges = match.groups()
        return _Shape(where, _edges(*edges), None, _rate(middle), _rate(fastest))
    if match := BEST_OLD.search(line):
        rate, *edges = match.groups()
        return _Shape(where, _edges(*edges), None, None, _rate(rate), WARM)
    if match := BEST.match(line):
        which, rate, *edges = match.groups()
        told = {which: _rate(rate)}
        return _Shape(where, _edges(*edges), told.get("mean"), told.get("median"), told.get("max"))
    return None


def _new(best: list[_Shape], measured: list[_Shape]) -> list[_Shape]:
    """The shapes of the summary that no line told, what is known of one shape together."""
    told = {shape.edges for shape in measured}
    found: dict[tuple[int, int, int], _Shape] = {}
    for shape in best:
        if shape.edges not in told:
            before = found.get(shape.edges, shape)
            found[shape.edges] = _Shape(
                before.where,
                shape.edges,
                before.mean or shape.mean,
                before.median or shape.median,
                before.fastest or shape.fastest,
                shape.cache,
            )
    return list(found.values())


def _rows(path: Path, text: str, shapes: list[_Shape], hints: Hints, unmapped: Unmapped) -> list[Row]:
    version = re.search(r"benchmark version: (\d+)", text)
    named = re.search(r"\*\* Dtype: (?:torch\.)?(\w+)", text)
    dtype = DTYPES.get(named[1] if named else "")
    if dtype is None:
        where = shapes[0].where if shapes else "the file"
        told = "is not told" if named is None else f"{quoted(named[1])} is not known here"
        unmapped.add(f"shapes whose dtype {told}", where, max(len(shapes), 1))
        return []
    device = DEVICE.search(text)
    memory_bytes = integer(device[2]) if device else None
    kind = (
        "rocm"
        if re.search(r"\bhip=", text)
        else next((k for k in ("cuda", "xpu", "mps", "hpu") if re.search(rf"(?m)^\W*{k}\b", text)), None)
    )
    first = _summed_second(text)
    command = re.search(r"(?m)^.*mamf-finder.*$", text)

    def option(name: str, default: int) -> int | None:
        match = re.search(OPTION.format(name), command[0]) if command else None
        return integer(match[1]) if match else default if command else None

    common: dict[str, Any] = {
        **provenance(path, "mamf-finder", f"benchmark version {version[1]}" if version else None),
        **chip_columns(hints, device[1] if device else None, kind, None if memory_bytes is None else memory_bytes * 2**20),
        "chip_count": 1,
        "op": "matmul",
        "dtype": dtype,
        "scaling": "per_tensor" if dtype == "fp8_e4m3" else None,
        "backend": "torch",
        "kernel": "mamf-finder.torch._scaled_mm" if dtype == "fp8_e4m3" else "mamf-finder.torch.mm",
        "libraries": ";".join(re.findall(r"(?m)^(?:- )?((?:torch|cuda|hip|xpu)=[^\s,]+)", text)) or None,
        "config": "tunable_op=1" if re.search(r"PYTORCH_TUNABLEOP_ENABLED=1\b", text) else None,
        "method_version": integer(version[1]) if version else None,
        "clock_source": "host" if kind == "mps" else "device",
        "data": "normal",
        "warmup_count": option("num_warmup_iterations", 50),
        "sample_count": option("num_iterations", 100),
    }
    rows = []
    for shape in shapes:
        m, second, third = shape.edges
        n, k = (third, second) if first else (second, third)
        flops = 2.0 * m * n * k
        times = {name: flops / rate for name, rate in (("mean", shape.mean), ("median", shape.median), ("min", shape.fastest)) if rate}
        statistic = next((name for name in ("median", "mean", "min") if name in times), None)
        if statistic is None or flops == 0.0:
            unmapped.add("shapes without a rate or with an edge of 0", shape.where)
            continue
        rows.append(
            Row(
                **common,
                m=m,
                n=n,
                k=k,
                # Version 2 stores B transposed; before, only fp8 needed it.
                layout="nt" if not first or dtype == "fp8_e4m3" else "nn",
                cache=shape.cache,
                time_median_s=times[statistic],
                time_statistic=None if statistic == "median" else statistic,
                time_min_s=times.get("min"),
                flops=flops,
                bytes=float(ITEM_BYTES[dtype] * (m * k + k * n + m * n)),
                rate_flops_per_s=flops / times[statistic],
                status="ok",
            )
        )
    return rows


def _summed_second(text: str) -> bool:
    """Whether the second of three printed edges is the summed one: the label says so, or the order of an older version's lines."""
    label = LABEL.search(text)
    if label and label[4] == "MxKxN":
        return True
    lines = re.split(r"[\r\n]+", text)
    order = next((match[2] for line in lines if (match := LINE.match(line))), None) or next(
        (match[1] for line in lines if (match := BEST.match(line))), None
    )
    return order != "mean"


IMPORTER = Importer("mamf-finder", "mamf-finder (ml-engineering): logs of its matmul search", recognises, read)
