"""Make one self-contained HTML page from results: best rates against peak and expectation, pictures, the check, every row."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..say import say

if TYPE_CHECKING:
    from chipassay.results.compare.comparison import Comparison
    from chipassay.results.profile import Profile
    from chipassay.results.schema import Row

    from ..check.finding import Verdict
    from ..report.summary import Summary

HELP = "one HTML page that opens offline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="results of `chipassay run`, or any file that `chipassay import` reads"
    )
    parser.add_argument("-o", "--out", type=Path, default=Path("report.html"), metavar="FILE.html", help="default: report.html")
    parser.add_argument("--chip", metavar="ID", help="which chip the summary is of, when the files hold several")
    parser.add_argument(
        "--base",
        action="append",
        default=[],
        metavar="BASE",
        help="compare with these results, as `chipassay compare BASE FILE` does; may be repeated",
    )
    parser.add_argument("--no-check", action="store_true", help="leave out the check of the rows (`chipassay check`)")


def execute(arguments: argparse.Namespace) -> int:
    from ..comparison.words import counted
    from ..normalise import choose_chip, normalise
    from ..reading import read_any
    from ..report import write_report
    from ..summary import summarise

    rows = read_any(arguments.files)
    comparisons = [_against(base, arguments.files) for base in arguments.base]
    several = len({row.chip_id for row in rows}) > 1 and arguments.chip is None
    measured = any(row.status == "ok" and row.time_median_s for row in rows)
    profile = None if several or not measured else normalise(rows, arguments.chip)
    summary = None if profile is None else summarise(choose_chip(rows, arguments.chip), profile)
    verdict = None if arguments.no_check else checked(rows)
    write_report(rows, profile, summary, arguments.out, comparisons=comparisons, verdict=verdict)
    if arguments.json:
        severity = None if verdict is None else verdict.severity
        print(json.dumps({"report": str(arguments.out), "rows": len(rows), "comparisons": len(comparisons), "check": severity}))
    else:
        beside = f", compared with {' and '.join(arguments.base)}" if comparisons else ""
        say(f"{counted(len(rows), 'row')} shown in {arguments.out}{beside}")
    return 0


def _against(base: str, files: Sequence[Path]) -> Comparison:
    """The files of the report, taken together, against a base."""
    from chipassay.results.compare.comparison import Settings

    from ..comparison.compared import compare_sides

    return compare_sides([base, ",".join(map(str, files))], Settings())[0]


def checked(rows: Sequence[Row]) -> Verdict:
    """What a check of the rows comes to."""
    from ..check.check import check_rows

    return check_rows(rows)


def write_page(rows: Sequence[Row], profile: Profile, summary: Summary, path: Path) -> str | None:
    """Write the report; where its libraries are missing, say so instead: the measurements are safe without it."""
    from chipassay.results.errors import ChipassayError

    from ..report import write_report

    try:
        write_report(rows, profile, summary, path, verdict=checked(rows))
    except ChipassayError as error:
        return f"not written: {error}"
    return None
