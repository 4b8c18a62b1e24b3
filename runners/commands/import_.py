"""Bring the results of other tools into a results CSV.

A file is recognised by what is in it; put its KIND before the files to say it yourself, and for tables that are named and not files:

  chipassay import nccl.log nvbench.json -o rows.csv
  chipassay import deepbench DeepBench_NV_P100.xlsx --chip p100-pcie-16gb -o p100.csv
  chipassay import aiconfigurator h200_sxm/gemm -o h200.csv

What finds no place in a row is counted and told.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chipassay.results.schema import Row

HELP = "other tools' results to a results CSV"

TOLD = 10
"""Sentences about unmapped things, and groups of rows, that are printed in full; --json has them all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="*", metavar="[KIND] FILE", help="files to read, after their KIND where it is not to be found out")
    parser.add_argument("-o", "--out", metavar="FILE.csv", help="where the rows go; - for the standard output")
    parser.add_argument("--append", action="store_true", help="add to FILE.csv, if it is there already")
    parser.add_argument("--chip", metavar="ID", help="which chip it was, where a file does not tell or its name could mean several")
    parser.add_argument("--nodes", type=int, metavar="N", help="how many hosts took part, where a file does not tell")
    parser.add_argument("--fabric", metavar="NAME", help="what joins the chips (nvlink, pcie, network, ...), where a file does not tell")
    parser.add_argument("--strict", action="store_true", help="exit 1 if anything found no place in a row")
    parser.add_argument("--list", action="store_true", help="print the kinds and end")


def execute(arguments: argparse.Namespace) -> int:
    import json
    import sys

    from chipassay.results.errors import InputError

    from ..importers.importer import Hints, importers

    if arguments.list:
        kinds = {kind: importer.title for kind, importer in sorted(importers().items())}
        width = max(map(len, kinds))
        print(json.dumps(kinds) if arguments.json else "\n".join(f"{kind:<{width}}  {title}" for kind, title in kinds.items()))
        return 0
    kind, paths = _sources(arguments.sources)
    _check(arguments)
    hints = Hints(chip_id=arguments.chip, node_count=arguments.nodes, fabric=arguments.fabric)
    rows: list[Row] = []
    unmapped: list[str] = []
    for path in paths:
        imported = _importer(kind, path).read(path, hints)
        rows += imported.rows
        unmapped += imported.unmapped if len(paths) == 1 else [f"{path}: {sentence}" for sentence in imported.unmapped]
    if not rows:
        problem = f"; {unmapped[0]}" if unmapped else ""
        raise InputError(f"{', '.join(map(str, paths))}: nothing in there has a place in a row{problem}")
    _write(rows, arguments.out)
    told = {"rows": len(rows), "out": arguments.out, "groups": _groups(rows), "unmapped": unmapped}
    # The rows themselves have the standard output where it was asked for.
    print(json.dumps(told) if arguments.json else "\n".join(_lines(told)), file=sys.stderr if arguments.out == "-" else sys.stdout)
    return 1 if arguments.strict and unmapped else 0


def _sources(sources: Sequence[str]) -> tuple[str | None, list[Path]]:
    """The KIND, where it was given, and the files. Raises InputError where there is none."""
    from chipassay.results.errors import InputError

    from ..importers.importer import importers

    kind = sources[0] if sources and sources[0] in importers() else None
    files = list(sources[1:] if kind else sources)
    if not files:
        raise InputError(f"no file to import{' after ' + kind if kind else ''}; see chipassay import --help, or --list for the kinds")
    return kind, [Path(file) for file in files]


def _check(arguments: argparse.Namespace) -> None:
    """Raises InputError for options that cannot be meant, before anything long is read."""
    from chipassay.results.errors import FileError, InputError

    if arguments.out is None:
        raise InputError("where should the rows go? give -o FILE.csv")
    if arguments.nodes is not None and arguments.nodes < 1:
        raise InputError(f"--nodes {arguments.nodes}: give the number of hosts, 1 or more")
    if arguments.out != "-" and Path(arguments.out).exists() and not arguments.append:
        raise FileError(arguments.out, "is there already", mend="choose another name, or add to it with --append")


def _importer(kind: str | None, path: Path) -> Any:
    """The importer of that kind, or the one that knows the file. Raises FileError where nobody does."""
    from chipassay.results.errors import FileError

    from ..importers.importer import find_importer, importers, recognise
    from ..reading import is_ours

    if kind is not None:
        return find_importer(kind)
    importer = recognise(path)
    if importer is None:
        if path.stat().st_size == 0:
            raise FileError(path, "is empty", mend="give the output of a run that printed something")
        problem = "is a results CSV already" if is_ours(path) else f"is no known kind of file; known: {', '.join(sorted(importers()))}"
        raise FileError(path, problem, mend="leave it out" if is_ours(path) else "name its KIND before it if you know it")
    return importer


def _write(rows: Sequence[Row], out: str) -> None:
    import csv
    import sys

    from chipassay.results.cells import row_to_cells
    from chipassay.results.schema import NAMES
    from chipassay.results.table import TableWriter

    if out == "-":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(NAMES)
        writer.writerows(map(row_to_cells, rows))
        return
    with TableWriter(out) as table:
        table.extend(rows)


def _groups(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How many rows there are of each chip, operation and element type, in the order of telling."""
    from collections import Counter

    from chipassay.results.operations import place

    counts = Counter((row.chip_id, row.op or "", row.dtype) for row in rows)
    ordered = sorted(counts.items(), key=lambda item: (str(item[0][0]), place(item[0][1]), str(item[0][2])))
    return [{"chip_id": chip, "op": op, "dtype": dtype, "rows": count} for (chip, op, dtype), count in ordered]


def _lines(told: dict[str, Any]) -> list[str]:
    """The report for people: rows by chip, operation and type; what found no place; where it was written."""
    from chipassay.results.catalogue import load_chips
    from chipassay.results.safe_text import printable

    groups, unmapped = told["groups"], told["unmapped"]
    lines = [f"{group['rows']:>8} {group['chip_id'] or 'unknown chip'}  {group['op']}  {group['dtype'] or ''}".rstrip() for group in groups]
    lines[TOLD:] = [f"         and {len(lines) - TOLD} more groups"] if len(lines) > TOLD else []
    strangers = sorted({group["chip_id"] for group in groups if group["chip_id"] and group["chip_id"] not in load_chips()})
    # A CPU is never in the catalogue of chips: nothing to say about it.
    lines += [f"{chip} is not in the catalogue (name another with --chip)" for chip in strangers if not chip.startswith("cpu-")]
    if unmapped:
        lines += ["no place in a row:", *(f"  {sentence}" for sentence in unmapped[:TOLD])]
        lines += [f"  and {len(unmapped) - TOLD} more kinds of things"] if len(unmapped) > TOLD else []
    lines.append(f"{told['rows']} rows written to {told['out'] if told['out'] != '-' else 'the standard output'}")
    # Names come from the files, and a file may hold what steers a terminal.
    return [printable(line) for line in lines]
