"""Make one self-contained HTML page from results: roofline, rate against size, bus bandwidth, the table, the environment."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chipassay.results.profile import Profile
    from chipassay.results.schema import Row

    from ..report.summary import Summary

HELP = "one HTML page that opens offline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.csv", help="results of `chipassay run`")
    parser.add_argument("-o", "--out", type=Path, default=Path("report.html"), metavar="FILE.html", help="default: report.html")
    parser.add_argument("--chip", metavar="ID", help="which chip the summary is of, when the files hold several")


def execute(arguments: argparse.Namespace) -> int:
    from chipassay.results.table import read_many

    from ..normalise import choose_chip, normalise
    from ..report import write_report
    from ..summary import summarise

    rows = read_many(arguments.files)
    several = len({row.chip_id for row in rows}) > 1 and arguments.chip is None
    profile = None if several else normalise(rows, arguments.chip)
    summary = None if profile is None else summarise(choose_chip(rows, arguments.chip), profile)
    write_report(rows, profile, summary, arguments.out)
    print(json.dumps({"report": str(arguments.out), "rows": len(rows)}) if arguments.json else f"{len(rows)} rows shown in {arguments.out}")
    return 0


def write_page(rows: Sequence[Row], profile: Profile, summary: Summary, path: Path) -> str | None:
    """Write the report; where its libraries are missing, say so instead: the measurements are safe without it."""
    from chipassay.results.errors import ChipassayError

    from ..report import write_report

    try:
        write_report(rows, profile, summary, path)
    except ChipassayError as error:
        return f"not written: {error}"
    return None
