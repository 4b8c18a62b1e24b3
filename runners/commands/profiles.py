"""Make one self-contained HTML page from results: roofline, rate against size, bus bandwidth, the table, the environment."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "one HTML page that opens offline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.csv", help="results of `chipassay run`")
    parser.add_argument("-o", "--out", type=Path, default=Path("report.html"), metavar="FILE.html", help="default: report.html")


def execute(arguments: argparse.Namespace) -> int:
    return 0
