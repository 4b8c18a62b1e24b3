"""Is this normal, and is it possible? Hold results against physical limits, published figures of the chip, and each other.

The machine's verdict comes first, with the likely cause and what to try; then the rows, worst first. Several files are several chips or
nodes of one machine or fleet. Results of `chipassay run`, and whatever `chipassay import` reads.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

HELP = "is this normal for the chip, and is it possible at all?"
FAIL_ON = ("warning", "fault", "impossible")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="results, of one or several chips and hosts")
    parser.add_argument("--rules", type=Path, metavar="FILE.toml", help="rules to add to the shipped ones, or to put in their place by id")
    parser.add_argument(
        "--fail-on",
        choices=FAIL_ON,
        default="fault",
        metavar="SEVERITY",
        help=f"end with 1 from here on: {', '.join(FAIL_ON)} (default: fault)",
    )
    parser.add_argument("--format", choices=("table", "markdown"), default="table", help="default: table")
    parser.add_argument("--all", action="store_true", help="tell every row, not the worst of each rule alone")


def execute(arguments: argparse.Namespace) -> int:
    from ..check.check import examine
    from ..check.finding import SEVERITIES
    from ..check.rules import load_rules
    from ..check.say import as_dict, markdown, text
    from ..reading import read_any

    # A mistake in the rules is told before a large file is read.
    rules = load_rules(arguments.rules)
    examined = examine(read_any(arguments.files), rules)
    if arguments.json:
        print(json.dumps(as_dict(examined), allow_nan=False))
    else:
        print((markdown if arguments.format == "markdown" else text)(examined, arguments.all), end="")
    return int(SEVERITIES.index(examined.verdict.severity) >= SEVERITIES.index(arguments.fail_on))
