"""Normalise measured rows to the profile of one chip (JSON).

It holds achieved rates by operation and dtype, memory and links, each number with its evidence.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..say import say

HELP = "rows to a per-chip profile"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.csv", help="results of `chipassay run`")
    parser.add_argument("-o", "--out", type=Path, metavar="PROFILE.json", help="where to write it (default: beside the first file)")
    parser.add_argument("--chip", metavar="ID", help="which chip, when the files hold several")


def execute(arguments: argparse.Namespace) -> int:
    from chipassay.results.table import read_many

    from ..normalise import normalise
    from ..show import profile_lines
    from ..writing import write_text

    profile = normalise(read_many(arguments.files), arguments.chip)
    path = arguments.out or arguments.files[0].with_suffix(".json")
    write_text(path, profile.to_json())
    if arguments.json:
        print(profile.to_json())
    else:
        say(*profile_lines(profile), f"written to {path}")
    return 0
