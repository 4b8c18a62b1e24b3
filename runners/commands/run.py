"""Measure the chip that is here and write one row per measurement, each on the disk before the next begins."""

from __future__ import annotations

import argparse
import json

from ..say import say
from .measuring import add_run_arguments, closing_lines, measure

HELP = "measure this machine's chip into a CSV"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser, budget_s=None)


def execute(arguments: argparse.Namespace) -> int:
    outcome = measure(arguments)
    if arguments.json:
        statuses = [row.status for row in outcome.rows]
        print(
            json.dumps(
                {
                    "file": str(outcome.path),
                    "chip_id": outcome.facts.chip_id,
                    "rows": {status: statuses.count(status) for status in sorted(set(map(str, statuses)))},
                    "wall_s": outcome.wall_s,
                    "measuring_s": outcome.measuring_s,
                    "interrupted": outcome.interrupted,
                }
            )
        )
    else:
        say(*closing_lines(outcome))
    return outcome.exit_code
