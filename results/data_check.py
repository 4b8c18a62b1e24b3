"""A check of all data that ships: tables, measured rows, profiles. ``python -m chipassay.results.data_check`` tells what is wrong.

The readers name what does not fit a table's columns. What is checked here is what a reader cannot know: whether figures agree with each
other, with the catalogue, and with what is possible.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .architectures import load_architectures
from .catalogue import load_chips
from .cells import FORMULA
from .chips_check import chips_problems
from .cpus import find_cpu
from .datafile import DATA, Line, read_lines
from .errors import FileError
from .evidence import LEVELS, Evidence
from .expected import load_expected
from .fabrics import find_fabric
from .link import bus_factor
from .prices import PRICES_CSV, load_quotes
from .profile import load_profile
from .published_cases import COLLECTIVES_CSV, KERNELS_CSV, PublishedCollective, load_published_collectives, load_published_kernels
from .published_rows import PUBLISHED_CSV, load_published
from .rows_check import rows_problems
from .safe_text import printable
from .systems import SYSTEMS_CSV, load_systems

RESULTS = Path(__file__).parent

ABOVE_PEAK = 1.02
"""A rate may exceed the datasheet's peak by so much: clocks above the boost clock that it is for, rounded figures."""
ROUNDING = 0.02
"""Figures that are printed with two or three digits agree no better."""
MOST_PER_CHIP = 200e9
"""Bytes/s of network per chip, one way, that no node has yet: 1.6 Tbit/s."""


def sources_problems() -> Iterator[str]:
    """Rows of a table that say nothing of where they come from."""
    for path in sorted(DATA.glob("*.csv")):
        for line in read_lines(path, ("source",)):
            line.required("source")
            for name, cell in line.cells.items():
                if name.endswith("evidence") and cell not in LEVELS:
                    yield _at(line, f"{name} is {cell!r}, not one of {', '.join(LEVELS)}")


def systems_problems() -> Iterator[str]:
    """Links of a node that are wider than their chip's, where the chip has any."""
    for system in load_systems().values():
        chip = load_chips()[system.chip_id]
        own = chip.link_bytes_per_s_one_way or chip.pcie_bytes_per_s
        if system.link_bytes_per_s_one_way is not None and own is not None and system.link_bytes_per_s_one_way != own:
            told = f"{system.link_bytes_per_s_one_way / 1e9:g}, but {chip.id} has {own / 1e9:g}"
            yield f"{SYSTEMS_CSV.name} ({system.id}): link_gb_per_s_one_way is {told}"
        if system.node_bytes_per_s_one_way is not None and system.node_bytes_per_s_one_way > MOST_PER_CHIP * system.chips_per_node:
            told = f"{system.node_bytes_per_s_one_way / system.chips_per_node / 1e9:g} GB/s per chip: bytes for bits?"
            yield f"{SYSTEMS_CSV.name} ({system.id}): total_inter_node_gbit_per_s gives {told}"


def prices_problems() -> Iterator[str]:
    """Quotes of what is dated before the chip was there."""
    for quote in load_quotes():
        year = load_chips()[quote.chip_id].year
        if quote.date and year is not None and int(quote.date[:4]) < year:
            yield f"{PRICES_CSV.name} ({quote.chip_id}, {quote.provider}): dated {quote.date}, but the chip is of {year}"


def published_problems() -> Iterator[str]:
    """Summaries above the dense peak."""
    for row in load_published(PUBLISHED_CSV):
        yield from _above_peak(PUBLISHED_CSV, row.chip_id, row.op, row.dtype, row.rate_per_s)


def kernels_problems() -> Iterator[str]:
    """Figures above the peak, rates and times of different work, rows of nothing nameable, unless the row says what is wrong with it."""
    for row in load_published_kernels(KERNELS_CSV):
        if bool(row.chip_id) == bool(row.chip_name):
            yield f"{KERNELS_CSV.name}: {row.op} from {row.source}: needs a chip_id, or else a chip_name"
        if row.suspect:
            continue
        if row.rate_flops_per_s:
            yield from _above_peak(KERNELS_CSV, row.chip_id, row.op, row.dtype, row.rate_flops_per_s)
        if row.rate_flops_per_s and row.time_s and row.flops:
            # DeepBench cuts times to whole microseconds.
            slack = ROUNDING + 1e-6 / row.time_s
            if not 1 / (1 + slack) <= row.rate_flops_per_s * row.time_s / row.flops <= 1 + slack:
                yield f"{KERNELS_CSV.name}: {row.m}x{row.n}x{row.k} from {row.source}: rate x time is not 2 m n k"


def collectives_problems() -> Iterator[str]:
    """Bandwidths, sizes and times that do not agree by the field's definitions, unless the row says so."""
    for row in load_published_collectives(COLLECTIVES_CSV):
        where = f"{COLLECTIVES_CSV.name}: {row.op} of {row.size_bytes} B among {row.group_size} from {row.source}"
        if row.chip_id and row.chip_name:
            yield f"{where}: has a chip_id and a chip_name"
        if (row.node_count or 1) > 1 and row.fabric != "network":
            yield f"{where}: several nodes and no network"
        if not row.suspect and not _agrees(row):
            yield f"{where}: busbw, algbw, size and time do not agree"


def _agrees(row: PublishedCollective) -> bool:
    factor = bus_factor(row.op, row.group_size) if row.group_size else 0.0
    told = [row.busbw_bytes_per_s / factor if row.busbw_bytes_per_s and factor else None, row.algbw_bytes_per_s]
    told.append(row.size_bytes / row.time_s if row.size_bytes and row.time_s else None)
    known = [value for value in told if value is not None]
    # Bandwidths are printed to a hundredth of a GB/s.
    return not known or max(known) - min(known) <= ROUNDING * max(known) + 1e7


def _above_peak(path: Path, chip_id: str, op: str, dtype: str, rate: float) -> Iterator[str]:
    peak = load_chips()[chip_id].peak_flops_per_s.get(dtype) if chip_id and op in ("matmul", "grouped_matmul", "attention") else None
    if peak is not None and rate > ABOVE_PEAK * peak:
        yield f"{path.name}: {chip_id} {op} {dtype} {rate:.4g} FLOP/s is above the dense peak {peak:.4g}"


def other_tables_problems() -> Iterator[str]:
    """What the readers of the remaining tables find."""
    # A look for one reads the whole table.
    find_cpu("AuthenticAMD", 25, 97)
    load_architectures()
    find_fabric("hdr200x8")
    for row in load_expected():
        if row.metric == "rate_flops_per_s":
            yield from _above_peak(DATA / "expected.csv", row.chip_id, row.op, row.dtype, row.value)


def profiles_problems() -> Iterator[str]:
    """Profiles that do not load, numbers without a source, tuned choices that are no JSON objects."""
    for path in sorted(RESULTS.glob("*.json")):
        profile = load_profile(path)
        if profile.chip_id not in load_chips() and not profile.chip_id.startswith("cpu-"):
            yield f"{path.name}: {profile.chip_id!r} is no chip of the catalogue"
        numbers = [*profile.matmul.values(), *profile.attention.values(), *profile.links, *profile.loads, *profile.overlaps]
        numbers += [*profile.peak_flops_per_s.values(), profile.peak_bandwidth_bytes_per_s, profile.memory_bytes, profile.power_w]
        for number in (*numbers, profile.memory):
            evidence: Evidence | None = getattr(number, "evidence", None)
            if evidence is not None and (evidence.level not in LEVELS or not evidence.source):
                yield f"{path.name}: a number without a source ({evidence.level})"
    for path in sorted(RESULTS.glob("tuned/*.json")):
        try:
            if not isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
                yield f"tuned/{path.name}: not a JSON object"
        except ValueError as error:
            yield f"tuned/{path.name}: not JSON ({error})"


def text_problems() -> Iterator[str]:
    """Cells that a spreadsheet would run or a terminal obey, rows that stand twice, lines that do not end."""
    for path in sorted((*DATA.glob("*.csv"), *RESULTS.glob("*.csv"))):
        content = path.read_bytes()
        if b"\r" in content or not content.endswith(b"\n"):
            yield f"{path.name}: lines do not end with \\n alone"
        with path.open(newline="", encoding="utf-8") as file:
            seen: set[tuple[str, ...]] = set()
            for number, cells in enumerate(csv.reader(file), 1):
                if tuple(cells) in seen:
                    yield f"{path.name}, row {number}: stands there twice"
                seen.add(tuple(cells))
                for cell in cells:
                    if cell.startswith(FORMULA) or printable(cell) != cell:
                        yield f"{path.name}, row {number}: {printable(cell, 60)!r} begins like a formula or holds hidden characters"


def _at(line: Line, problem: str) -> str:
    return f"{line.path.name}, line {line.number} ({line.cells.get('id') or line.cells.get('chip_id')}): {problem}"


CHECKS: tuple[Callable[[], Iterable[str]], ...] = (
    text_problems,
    sources_problems,
    chips_problems,
    systems_problems,
    prices_problems,
    published_problems,
    kernels_problems,
    collectives_problems,
    other_tables_problems,
    profiles_problems,
    lambda: (problem for path in sorted(RESULTS.glob("*.csv")) for problem in rows_problems(path)),
)


def problems() -> list[str]:
    """Everything that is wrong with the shipped data, a sentence each; empty when it is in order."""
    found: list[str] = []
    for check in CHECKS:
        try:
            found += check()
        except FileError as error:
            found.append(str(error))
    return found


if __name__ == "__main__":
    told = problems()
    print("\n".join(told) or "all shipped data is in order")
    sys.exit(1 if told else 0)
