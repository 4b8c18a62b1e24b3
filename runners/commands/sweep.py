"""Predict many cases: the product of the lists in a TOML file, in parallel, into one CSV that is appended to as results come.

A sweep that was stopped is gone on with by the same command: rows that are there are not made again. What a case is refused for is told
in its row. --backend dask and ray use the workers of --scheduler, or start --jobs of them here; a scheduler runs what it is sent and
is sent what it runs, so connect only to your own.

The file (only model and cluster are needed; runners/sweep/sweep_file.py says all):
  model = ["llama3-8b", "llama3-70b"]
  cluster = ["64xh100-sxm-80gb", "64xh800-sxm-80gb"]
  batch = [512, 1024]
  link = ["", "h800-sxm-80gb.scaleup=900GB/s"]
  tokens = 1e12
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..say import say

HELP = "predict many cases in parallel, into one CSV"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..sweep.names import BACKENDS

    parser.add_argument(
        "sweep", type=Path, metavar="SWEEP.toml", help="lists of models, clusters, batches, ...; their product is predicted"
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE.csv", help="where rows are appended; gone on with if it is there"
    )
    parser.add_argument("--jobs", metavar="N", help="cases at a time (default: the cores that this machine has)")
    parser.add_argument(
        "--backend", choices=BACKENDS, default="loky", help="who works: processes (loky), threads, Dask or Ray (default: loky)"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of a running Dask (tcp://HOST:8786) or Ray (HOST:6379) cluster")
    parser.add_argument("--resume", action="store_true", help="refuse to begin anew: the CSV must be there")
    parser.add_argument("--sorted", action="store_true", help="in the end, put the rows into the order of the sweep")
    parser.add_argument("--quiet", action="store_true", help="no progress")


def execute(arguments: argparse.Namespace) -> int:
    from chipassay.results.errors import FileError

    from ..prediction.numbers import whole
    from ..progress import Progress
    from ..sweep.backends import check_backend, default_jobs, solved
    from ..sweep.case import missing
    from ..sweep.sweep_file import read_sweep
    from ..sweep.table import STATUSES, Appender, sort_results

    jobs = whole("--jobs", arguments.jobs, "8") or default_jobs()
    check_backend(arguments.backend, jobs, arguments.scheduler)
    cases = read_sweep(arguments.sweep)
    keys = [offer.key for case in cases for offer in case.offers]
    if arguments.resume and not arguments.out.exists():
        raise FileError(arguments.out, "is not there, so nothing can be gone on with", mend="mend its name, or leave --resume out")
    counts = dict.fromkeys(STATUSES, 0)
    with Appender(arguments.out) as table, Progress(arguments.quiet or arguments.json) as progress:
        there = {key for key, row in table.rows.items() if row["status"] != "failed"}
        rest = missing(cases, there)
        total = sum(len(case.offers) for case in rest)
        outcomes = solved(rest, jobs=min(jobs, max(1, len(rest))), backend=arguments.backend, scheduler=arguments.scheduler)
        try:
            for results in outcomes if rest else ():
                table.append(results)
                for result in results:
                    counts[result.status] += 1
                progress.advance(sum(counts.values()), total, results[0].title, results[0].short)
        except KeyboardInterrupt:
            progress.tell(f"{sum(counts.values())} of {total} rows are in {arguments.out}; the same command goes on with the rest")
            raise
        finally:
            outcomes.close()
    if arguments.sorted:
        sort_results(arguments.out, keys)
    already = len(set(keys) & there)
    if arguments.json:
        print(json.dumps({"file": str(arguments.out), "rows": len(keys), "already": already, **counts}))
    else:
        words = ", ".join(f"{count} {status}" for status, count in counts.items() if count or status == "ok")
        found = f"{arguments.out}: {len(keys)} rows of this sweep, {already} of them there before"
        say(f"{found}; now {words}" if rest else f"{found}; nothing left to do")
    return 1 if counts["failed"] else 0
