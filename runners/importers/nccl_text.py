"""What nccl-tests and rccl-tests print, in all versions since 2017, through mpirun, srun and NCCL's own log lines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError
from chipassay.results.schema import Row

from .importer import Hints, Imported, provenance, repeats_apart, variant_of
from .nccl_lines import (
    CHOSEN,
    LIBRARY,
    LOG,
    NAMED,
    RANK,
    STARTS,
    TIMES,
    VALUE,
    VERSION,
    by_shape,
    in_name,
    leading_values,
    printed,
    without_prefix,
)
from .nccl_rows import NOTHING, rows_of
from .nccl_terms import Measurement, Rank, Setup, library_version
from .source import integer, number, quoted, text_of
from .unmapped import Unmapped


@dataclass
class _Table:
    """The columns of a header: those of the case, then one block for each way of placing the buffers."""

    has_root: bool
    has_chosen: bool
    blocks: list[list[str]]
    in_place: list[bool]
    time_power: int
    """Power of ten of the unit of time."""

    @property
    def width(self) -> int:
        # A timestamp is two words.
        return sum(len(block) + block.count("timestamp") for block in self.blocks)


@dataclass
class _Line:
    """A line of the table, perhaps not yet complete."""

    number: int
    front: list[str]
    values: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)


@dataclass
class _Section:
    """One run of one test: all that is between its greeting and the next one's."""

    setup: Setup
    table: _Table | None = None
    header_line: int | None = None
    measurements: list[Measurement] = field(default_factory=list)
    out_of_bounds: int = 0
    tool_version: str | None = None


class Reader:
    """Goes through the lines once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.unmapped = Unmapped()
        self.sections: list[_Section] = [_Section(Setup(None))]
        self._line: _Line | None = None
        self._named: str | None = None
        self._places: list[bool] = []

    def read(self, hints: Hints) -> Imported:
        for position, raw in enumerate(re.split(r"\r\n|\n|\r", text_of(self.path)), 1):
            self._take(position, without_prefix(raw))
        self._finish_line()
        rows: list[Row] = []
        for section in self.sections:
            if section.measurements:
                rows += self._rows(section, hints)
        if not rows and not self.unmapped.sentences():
            raise FileError(
                self.path, "no line of a table in there", mend="give what nccl-tests printed, with the header that names the columns"
            )
        return Imported(repeats_apart(rows), self.unmapped.sentences())

    def _take(self, position: int, line: str) -> None:
        section = self.sections[-1]
        named = NAMED.search(line)
        if named and "concluded" not in line:
            self._named = named[1]
        logged = LOG.search(line)
        if logged:
            library = LIBRARY.search(logged[0])
            if library and library[2]:
                backend = "rccl" if "RCCL" in logged[0] else section.setup.backend
                section.setup = replace(section.setup, library_version=library[2], backend=backend)
            line = line[: logged.start()]
        bare = line.lstrip("# \t")
        words = bare.split()
        if not words:
            return
        if bare.startswith(STARTS) or VERSION.match(bare):
            self._finish_line()
            if section.table is not None:
                self.sections.append(section := _Section(Setup(None)))
            self._greeting(section, bare, named[1] if named else None)
        elif (rank := RANK.search(bare)) is not None:
            found = Rank(integer(rank[1]) or 0, integer(rank[2]) or 0, rank[3], integer(rank[4]) or 0, rank[5].strip() or None)
            backend = "rccl" if (found.name or "").startswith(("AMD", "Radeon")) else section.setup.backend
            section.setup = replace(section.setup, ranks=(*section.setup.ranks, found), backend=backend)
        elif words[0] in ("out-of-place", "in-place") and not any(word.isdigit() for word in words):
            self._places = [place == "in-place" for place in re.findall(r"out-of-place|in-place", bare)]
        elif words[0] in ("size", "bytes") and "type" in words and "algbw" in words:
            self._header(section, position, words)
        elif bare.startswith("Out of bounds values"):
            self._finish_line()
            section.out_of_bounds = integer(bare.split(":")[-1].split()[0]) or 0 if bare.split(":")[-1].split() else 0
        elif bare.startswith("Blocking Enabled"):
            section.setup = replace(section.setup, blocking=True)
        else:
            self._values(section, position, words)

    def _greeting(self, section: _Section, bare: str, named: str | None) -> None:
        setup = section.setup
        test = named if bare.startswith("Collective") else setup.test
        if bare.startswith("Collective"):
            self._named = None
        elif test is None and bare.startswith("nThread"):
            test, self._named = self._named, None

        def told(name: str) -> int | None:
            match = re.search(rf"(?<!\w){name}: (\d+)", bare)
            return integer(match[1]) if match else None

        version, library = VERSION.match(bare), LIBRARY.search(bare)
        section.tool_version = version[1] if version else section.tool_version
        if library and library[1]:
            setup = replace(setup, library_version=library_version(integer(library[1]) or 0))
        calls = re.search(r"(?<!warmup )(?<!agg )iters: (\d+)", bare)
        many = told("agg iters") or 1
        section.setup = replace(
            setup,
            test=test,
            backend="rccl" if bare.startswith("rccl") else setup.backend,
            warmup_count=told("warmup iters") if "warmup" in bare else setup.warmup_count,
            calls=(integer(calls[1]) or 0) * many or None if calls else setup.calls,
            graphs=told("graph") if "graph:" in bare else setup.graphs,
            unalign=told("unalign") if "unalign:" in bare else setup.unalign,
        )

    def _header(self, section: _Section, position: int, words: Sequence[str]) -> None:
        self._finish_line()
        if section.measurements and self._named:
            self.sections.append(section := _Section(Setup(None)))
        blocks: list[list[str]] = []
        for word in words:
            if word in TIMES:
                blocks.append([])
            if blocks and word not in CHOSEN:
                blocks[-1].append(word)
        places = self._places if len(self._places) == len(blocks) else [index % 2 == 1 for index in range(len(blocks))]
        # Until March 2019 "bytes N ..." with milliseconds (nccl-tests b188a15), then "size count ..." with microseconds (cbe7f65).
        section.table = _Table("root" in words, set(CHOSEN) <= set(words), blocks, places, -3 if words[0] == "bytes" else -6)
        section.header_line = section.header_line or position
        self._places = []
        if section.setup.test is None and self._named:
            section.setup, self._named = replace(section.setup, test=self._named), None

    def _values(self, section: _Section, position: int, words: list[str]) -> None:
        begins = len(words) >= 3 and words[0].isdigit() and words[1].isdigit() and not VALUE.fullmatch(words[2])
        if begins:
            self._finish_line()
            if section.table is None:
                self.unmapped.add("lines of numbers without a header that names their columns", f"line {position}")
                return
            # Hypercube prints an empty redop, so the words that follow the type are told apart by what they are.
            after = 3
            if words[after:] and not VALUE.fullmatch(words[after]):
                after += 1
            root = section.table.has_root and re.fullmatch(r"-?\d+", words[after] if words[after:] else "")
            after += bool(root)
            self._line = _Line(position, words[:after])
            words = words[after:]
        if self._line is None:
            return
        values = leading_values(words)
        if section.table is not None and section.table.has_chosen and len(words) == len(values) + len(CHOSEN):
            self._line.chosen = words[len(values) :]
        elif begins and len(values) < len(words):
            self.unmapped.add("lines with other words behind their figures", f"line {position}")
        if begins or self._line.chosen or len(values) == len(words):
            self._line.values += values
        assert section.table is not None
        if len(self._line.values) >= section.table.width:
            self._finish_line()

    def _finish_line(self) -> None:
        line, self._line = self._line, None
        section = self.sections[-1]
        if line is None or section.table is None:
            return
        where, values = f"line {line.number}", list(line.values)
        for names, in_place in zip(section.table.blocks, section.table.in_place, strict=True):
            needed = len(names) + names.count("timestamp")
            if len(values) < needed:
                # rccl-tests prints SKIP for the time of nothing.
                self.unmapped.add(NOTHING if line.front[0] == "0" else "lines of the table that are cut short", where)
                return
            cells: dict[str, str] = {}
            for name in names:
                cells.setdefault(name, values.pop(0))
                if name == "timestamp":
                    values.pop(0)
            measurement = self._measurement(line, where, in_place, cells, section.table.time_power)
            if measurement is not None:
                section.measurements.append(measurement)
        if values:
            self.unmapped.add("lines with values beyond the columns of the header", where)

    def _measurement(self, line: _Line, where: str, in_place: bool, cells: dict[str, str], time_power: int) -> Measurement | None:
        size, count = integer(line.front[0]), integer(line.front[1])
        cpu = "cputime" in cells
        time_s = printed(cells["cputime" if cpu else "time"], time_power)
        if size is None or time_s is None:
            self.unmapped.add("lines of the table whose size or time is no number", where)
            return None
        for name in sorted(cells.keys() - {"time", "cputime", "algbw", "busbw", "#wrong", "error", "res"}):
            self.unmapped.add(f"values of column {quoted(name)}", where)
        extra = line.front[3:]
        roots = [integer(word) for word in extra if VALUE.fullmatch(word)]
        algorithm, *chosen = [None if word == "N/A" else word.lower() for word in line.chosen] or [None]
        delta = number(cells.get("error", cells.get("res", "")).rstrip("*"))
        return Measurement(
            where=where,
            size_bytes=size,
            count=count,
            dtype=line.front[2],
            redop=next((word for word in extra if not VALUE.fullmatch(word)), None),
            root=roots[0] if roots else None,
            in_place=in_place,
            time_s=time_s,
            algbw=printed(cells.get("algbw", ""), 9),
            busbw=printed(cells.get("busbw", ""), 9),
            wrong=number(cells.get("#wrong", "").rstrip("*")),
            delta=delta,
            cpu_time=cpu,
            algorithm=algorithm,
            config=variant_of(zip(CHOSEN[1:], chosen, strict=False)) if all(chosen) else None,
        )

    def _rows(self, section: _Section, hints: Hints) -> list[Row]:
        setup = section.setup
        test = setup.test or self._named or in_name(self.path) or by_shape(section.measurements)
        if test is None:
            raise FileError(
                self.path,
                "which collective was run is not told",
                line=section.header_line,
                mend="keep the line with the command (all_reduce_perf ...), or put the test's name into the file's name",
            )
        base: dict[str, Any] = provenance(self.path, f"{setup.backend}-tests", section.tool_version)
        rows = rows_of(replace(setup, test=test), section.measurements, base, hints, self.unmapped)
        if section.out_of_bounds and not any(row.status == "incorrect" for row in rows):
            self.unmapped.add("values out of bounds that no line shows", f"table of line {section.header_line}", section.out_of_bounds)
        return rows
