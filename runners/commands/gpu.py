"""Everything on one GPU in one go: check every kernel, tune, measure, and write rows, profile, report and summary into a folder.

Stages share the budget in order; what one leaves, the next has. Run it again with the same folder and it goes on where it ended.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from ..say import say
from .measuring import announce, duration_s, names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chipassay.results.schema import Row

    from ..options import Outcome

HELP = "one GPU in one go: check every kernel, tune, measure, profile, report (`make gpu`)"

BUDGET_S = 530.0
"""9 minutes with room for starting and for the last case."""
CLOSING_S = 15.0
"""For the profile, the report and the summary."""
STAGES = (("checks", "check", 0.25), ("rows", None, 0.85), ("shapes", "shapes", 1.0))
"""(file, suite, share of the time that is left, the last of the chosen ones having it all); None: the suite of --suite."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where everything goes; a second call goes on with it")
    parser.add_argument("--suite", default="standard", help="what is measured after the checks (default: standard)")
    every = ",".join(name for name, _, _ in STAGES)
    parser.add_argument("--stages", type=stages, default=stages(every), metavar="STAGE,...", help=f"only some of {every} (default: all)")
    parser.add_argument(
        "--budget", type=duration_s, default=BUDGET_S, metavar="TIME", help="for all of it (default: 530s, under 9 minutes)"
    )
    parser.add_argument("--device", choices=["cpu"], help="go through the same stages on the CPU")
    parser.add_argument("--quiet", action="store_true", help="no progress display")


def stages(text: str) -> tuple[str, ...]:
    """Names of stages joined by commas."""
    found = names(text)
    known = [name for name, _, _ in STAGES]
    for name in found:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is no stage; write some of {','.join(known)}")
    return found


def execute(arguments: argparse.Namespace) -> int:
    end_s = time.monotonic() + max(1.0, arguments.budget - CLOSING_S)
    outcomes: list[Outcome] = []
    chosen = [stage for stage in STAGES if stage[0] in arguments.stages]
    try:
        for name, suite, share in chosen:
            left_s = end_s - time.monotonic()
            outcomes.append(_stage(name, suite or arguments.suite, left_s if name == chosen[-1][0] else share * left_s, arguments))
            if outcomes[-1].interrupted:
                break
    finally:
        _close(arguments)
    if outcomes and outcomes[-1].interrupted:
        say(f"interrupted; go on with: chipassay gpu --out {arguments.out}", to=sys.stderr)
        return 130
    return _exit_code([row for outcome in outcomes for row in outcome.rows])


def _close(arguments: argparse.Namespace) -> None:
    """Profile, report and summary of all that is in the folder: of an interrupted run too, and of stages that ran in earlier calls."""
    from ..gpu_summary import summary_markdown

    found = {name: _rows_of(arguments.out / f"{name}.csv") for name, _, _ in STAGES}
    if not any(found.values()):
        return
    files = _write(found["rows"], arguments.out) if found["rows"] else {}
    text = summary_markdown(found["checks"], found["rows"], found["shapes"])
    (arguments.out / "summary.md").write_text(text, encoding="utf-8")
    if arguments.json:
        counts = {name: Counter(str(row.status) for row in rows) for name, rows in found.items() if rows}
        print(json.dumps({"folder": str(arguments.out), "rows": counts, "files": files}))
    else:
        say(text, *(f"{what}: {where}" for what, where in files.items()))


def _rows_of(path: Path) -> list[Row]:
    from chipassay.results.table import latest, read_rows

    return latest(read_rows(path)) if path.is_file() and b"\n" in path.read_bytes() else []


def _stage(name: str, suite: str, budget_s: float, arguments: argparse.Namespace) -> Outcome:
    from ..options import RunOptions
    from ..progress import Progress
    from ..run import Run

    options = RunOptions(
        suite=suite,
        out=arguments.out / f"{name}.csv",
        resume=True,
        budget_s=max(1.0, budget_s),
        device_kind=arguments.device,
        rounds=1,
        tune=name != "checks",  # odd shapes want right answers, not fast ones
    )
    with Progress(quiet=arguments.quiet) as progress:
        return Run(options, announce, progress.report, progress.tell).execute()


def _write(rows: Sequence[Row], folder: Path) -> dict[str, str]:
    """Profile and report of what was measured; a reason in place of a path where there is none."""
    path = folder / "rows.csv"
    if not any(row.status == "ok" for row in rows):
        return {"rows": str(path), "profile": "none: no row is ok", "report": "none: no row is ok"}
    from ..normalise import normalise
    from ..summary import summarise
    from ..writing import write_text
    from .report import write_page

    profile = normalise(rows)
    write_text(folder / "profile.json", profile.to_json())
    unwritten = write_page(rows, profile, summarise(rows, profile), folder / "report.html")
    return {"rows": str(path), "profile": str(folder / "profile.json"), "report": unwritten or str(folder / "report.html")}


def _exit_code(rows: Sequence[Row]) -> int:
    """1 when a kernel is wrong or breaks, 3 when nothing was measured."""
    if not any(row.status == "ok" for row in rows):
        return 3
    return int(any(row.status in ("incorrect", "error", "timeout") for row in rows))
