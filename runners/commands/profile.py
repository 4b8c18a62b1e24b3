"""Normalise measured rows to the profile of one chip (JSON).

It holds models of achieved times by operation and dtype, memory and links, each number with its evidence. How far the models are off, on
the rows and on rows left out, and which shapes of well-known models they extrapolate to, is printed; --picture draws it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..say import say

HELP = "rows to a per-chip profile"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.csv", help="results of `chipassay run`, or of `chipassay import`")
    parser.add_argument("-o", "--out", type=Path, metavar="PROFILE.json", help="where to write it (default: beside the first file)")
    parser.add_argument("--chip", metavar="ID", help="which chip, when the files hold several")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw measured against modelled times: .svg or .png")


def execute(arguments: argparse.Namespace) -> int:
    import json

    from chipassay.results.table import read_many

    from ..fitting.cross_validate import all_fitted
    from ..normalise import choose, profile_of
    from ..show import profile_lines
    from ..show_fits import fit_json, fit_lines
    from ..writing import write_text

    if arguments.picture is not None:
        from ..report.fit_picture import check_name, write_picture

        check_name(arguments.picture)  # before anything long
    chosen = choose(read_many(arguments.files), arguments.chip)
    profile = profile_of(chosen)
    fitted = all_fitted(chosen, profile)
    path = arguments.out or arguments.files[0].with_suffix(".json")
    write_text(path, profile.to_json())
    if arguments.picture is not None:
        write_picture(fitted, profile.name, arguments.picture)
    if arguments.json:
        print(json.dumps({**json.loads(profile.to_json()), "fit": fit_json(chosen, profile, fitted)}, indent=2, sort_keys=True))
    else:
        drawn = [] if arguments.picture is None else [f"drawn: {arguments.picture}"]
        say(*profile_lines(profile), *fit_lines(chosen, profile, fitted), f"written to {path}", *drawn)
    return 0
