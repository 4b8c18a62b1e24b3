"""The main job in one go: measure the chip that is here, make its profile and a report, and say what the chip is worth."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from ..say import say
from .measuring import add_run_arguments, closing_lines, measure

HELP = "measure, profile, report: what is this chip worth?"

BUDGET_S = 200.0
"""Leaves room, within four minutes, for starting processes and making the report on a 2-core machine."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_arguments(parser, budget_s=BUDGET_S)
    parser.add_argument("--report", type=Path, default=Path("report.html"), metavar="FILE.html", help="default: report.html")


def execute(arguments: argparse.Namespace) -> int:
    outcome = measure(arguments)
    code = outcome.exit_code
    if not any(row.status == "ok" for row in outcome.rows):
        say(*closing_lines(outcome))
        return code
    from ..normalise import normalise
    from ..summary import summarise, summary_lines
    from ..writing import write_text
    from .report import write_page

    profile = normalise(outcome.rows)
    profile_path = outcome.path.with_suffix(".json")
    write_text(profile_path, profile.to_json())
    summary = summarise(outcome.rows, profile)
    unwritten = write_page(outcome.rows, profile, summary, arguments.report)
    if arguments.json:
        files = {"rows": str(outcome.path), "profile": str(profile_path), "report": None if unwritten else str(arguments.report)}
        print(json.dumps({"chip_id": profile.chip_id, "files": files, "summary": asdict(summary)}))
        return code
    say("", f"{profile.name} ({profile.chip_id})", *summary_lines(summary), "")
    say(*closing_lines(outcome))
    say(f"profile: {profile_path}", f"report:  {unwritten or arguments.report}")
    return code
