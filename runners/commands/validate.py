"""Hold the scaling model against published training runs: how far off is it, by source, by chip, and in ranking plans?

Predicts every run of the shipped table (or of --runs, a CSV with the same columns). What a source leaves open is searched over, and widens
the interval. An error is the predicted over the measured step time, minus 1, whatever was measured; medians count each source once.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from chipassay.results.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chipassay.scaling.validation.validate import Outcome

HELP = "how far off is the scaling model on published training runs?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, metavar="FILE.csv", help="training runs in place of the shipped ones, with the same columns")
    parser.add_argument("--source", metavar="TEXT", help="only sources that hold this text, in any case")
    parser.add_argument("--chip", metavar="ID", help="only this chip: a catalogue id such as a100-sxm-80gb")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="write every run with its prediction, interval, error and reason")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw predicted against measured (.png or .svg)")
    parser.add_argument("--mixed", action="store_true", help="the shipped runs on clusters of several kinds of chips instead")


def execute(arguments: argparse.Namespace) -> int:
    from chipassay.scaling.validation.rows import TRAINING_RUNS, read_runs
    from chipassay.scaling.validation.validate import validate

    from ..report.validation_picture import check_name, write_picture
    from ..validation.records import as_records, write_csv

    if arguments.mixed:
        return _mixed(arguments)
    if arguments.picture is not None:
        check_name(arguments.picture)  # a mistake in the name is told before the work is done
    runs = read_runs(arguments.runs or TRAINING_RUNS)
    if arguments.source is not None:
        runs = tuple(run for run in runs if arguments.source.lower() in run.source.lower())
        if not runs:
            raise InputError(f"--source {arguments.source!r}: no source of the table holds that text")
    outcomes = list(validate(runs))
    if arguments.chip is not None:
        outcomes = _of_chip(outcomes, arguments.chip.lower())
    if arguments.out is not None:
        write_csv(outcomes, arguments.out)
    if arguments.picture is not None:
        write_picture(outcomes, arguments.picture)
    if arguments.json:
        print(json.dumps(as_records(outcomes), allow_nan=False))
    else:
        _tell(outcomes)
    return 0


def _mixed(arguments: argparse.Namespace) -> int:
    """The table of mixed clusters; it has its own columns."""
    from chipassay.scaling.mixed.validate import validate_mixed

    from ..say import say
    from ..validation import mixed

    for name in ("runs", "chip", "picture"):
        if getattr(arguments, name) is not None:
            raise InputError(f"--{name} is for clusters of one kind of chip; leave it out, or leave out --mixed")
    outcomes = list(validate_mixed())
    if arguments.source is not None:
        outcomes = [outcome for outcome in outcomes if arguments.source.lower() in outcome.run.source.lower()]
        if not outcomes:
            raise InputError(f"--source {arguments.source!r}: no source of the table of mixed clusters holds that text")
    if arguments.out is not None:
        mixed.write_csv(outcomes, arguments.out)
    if arguments.json:
        print(json.dumps([mixed.as_record(outcome) for outcome in outcomes], allow_nan=False))
    else:
        say(mixed.describe(outcomes))
    return 0


def _of_chip(outcomes: Sequence[Outcome], chip_id: str) -> list[Outcome]:
    from chipassay.results.errors import UnknownName

    known = {outcome.chip_id for outcome in outcomes if outcome.chip_id}
    if chip_id not in known:
        raise UnknownName("chip of these runs", chip_id, known)
    return [outcome for outcome in outcomes if outcome.chip_id == chip_id]


def _tell(outcomes: Sequence[Outcome]) -> None:
    import os
    import shutil
    import sys

    from ..validation.table import layout
    from ..validation.words import closing, sections

    on_terminal = sys.stdout.isatty()
    width = max(60, shutil.get_terminal_size().columns) if on_terminal else None
    text = layout(sections(outcomes), closing(outcomes), width, colour=on_terminal and "NO_COLOR" not in os.environ)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
