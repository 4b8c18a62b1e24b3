"""What `run` and `bench` share: their arguments, the run itself, and its first line."""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from chipassay.results.errors import InputError

from ..say import say

if TYPE_CHECKING:
    from ..devices.facts import DeviceFacts
    from ..launch.environment import Launch
    from ..options import Outcome, RunOptions

MOST_ROUNDS = 32
"""So that each visit keeps a few samples of those that a row stores."""
DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?")


def duration_s(text: str) -> float:
    """Seconds in ``90``, ``90s``, ``5m`` or ``1h``.

    >>> duration_s("5m"), duration_s("90")
    (300.0, 90.0)
    """
    match = DURATION.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; write 90s, 5m or 1h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]]


def names(text: str) -> tuple[str, ...]:
    """Names joined by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def rounds(text: str) -> int:
    """A number of visits."""
    if not text.isdigit() or not 1 <= int(text) <= MOST_ROUNDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of visits; write 1 to {MOST_ROUNDS}")
    return int(text)


def ranks(text: str) -> int:
    """A number of ranks."""
    if not text.isdigit() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of ranks; write 2 or more")
    return int(text)


def gpus(text: str) -> tuple[int, ...] | str:
    """``all``, or numbers joined by commas.

    >>> gpus("all"), gpus("5,0")
    ('all', (5, 0))
    """
    if text == "all":
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and part.isascii() for part in parts) or len(set(parts)) < len(parts):
        raise argparse.ArgumentTypeError(f"{text!r} names no GPUs; write all, or different numbers such as 0,5")
    return tuple(map(int, parts))


def either(first: str, second: str) -> Callable[[str], tuple[str, ...]]:
    """A reader of one or both of two words, joined by a comma."""

    def read(text: str) -> tuple[str, ...]:
        found = names(text)
        for name in found:
            if name not in (first, second):
                raise argparse.ArgumentTypeError(f"{name!r} is neither {first} nor {second}")
        return found

    return read


def add_run_arguments(parser: argparse.ArgumentParser, budget_s: float | None) -> None:
    """The arguments that say what to measure."""
    parser.add_argument(
        "--suite",
        help="quick, standard, full, collectives, siblings, sustained, check, shapes, or a .toml "
        "(default: quick; under a launcher: collectives)",
    )
    parser.add_argument("--only", type=names, default=(), metavar="OP,...", help="only these operations: matmul, attention, copy, ...")
    parser.add_argument("--backend", type=names, default=(), metavar="NAME,...", help="only these backends: torch, triton, cupy, numpy")
    parser.add_argument(
        "--cache", type=either("cold", "warm"), default=(), metavar="STATE,...", help="cold, warm or both (default: the suite's)"
    )
    parser.add_argument(
        "--launch", type=either("stream", "graph"), default=(), metavar="WAY,...", help="stream, graph or both (default: the suite's)"
    )
    parser.add_argument(
        "--sustain",
        type=duration_s,
        default=0.0,
        metavar="TIME",
        help="then run each kernel back to back for so long (30s): what heat and power leave of its rate",
    )
    parser.add_argument(
        "--gpus",
        type=gpus,
        metavar="all|N,...",
        help="measure each of these GPUs alone, one after the other (default: the first; a collective takes all)",
    )
    parser.add_argument("--device", choices=["cpu"], help="measure the CPU although a GPU is there")
    parser.add_argument("--budget", type=duration_s, default=budget_s, metavar="TIME", help="share out this much time: 90s, 5m, 1h")
    parser.add_argument("--out", type=Path, metavar="FILE.csv", help="where the rows go (default: results/<chip>-<utc>.csv)")
    parser.add_argument("--resume", action="store_true", help="go on with the file of --out: only what is not in it is measured")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random inputs (default: 1)")
    parser.add_argument("--rounds", type=rounds, default=2, metavar="N", help="visits to each case, spread over the run (default: 2)")
    parser.add_argument(
        "--ranks",
        type=ranks,
        metavar="N",
        help="local ranks of a collective (default: one a GPU; 2 on a CPU, where it may be any number)",
    )
    parser.add_argument(
        "--wait", type=duration_s, default=60.0, metavar="TIME", help="how long launched ranks wait for each other to come (default: 60s)"
    )
    parser.add_argument("--share-gpu", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--no-tune", action="store_true", help="take known or predicted configurations of our kernels, search for none")
    parser.add_argument("--quiet", action="store_true", help="no progress display")


def announce(facts: DeviceFacts, count: int, path: Path) -> None:
    """The first line says what is measured; on a CPU, that there was no GPU to measure."""
    if facts.kind == "cpu":
        line = f"No GPU is measured: the CPU stands in through the fallbacks ({facts.name}, {facts.threads} cores)."
    else:
        line = f"Measuring {facts.name} ({facts.chip_id}, {facts.count} here)."
    say(line, to=sys.stderr)
    for note in facts.notes:
        say(f"note: {note}", to=sys.stderr)
    say(f"{count} cases, written one by one to {path}", to=sys.stderr)


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """SIGTERM, which Slurm and torchrun send before they kill, ends a run as Ctrl-C does: the file is whole and no process stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the first is being obeyed
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def measure(arguments: argparse.Namespace) -> Outcome:
    """Make the run that the arguments ask for.

    In a job that a launcher started over several processes rank 0 makes it; the others help, and this call ends their process by
    SystemExit with the exit code of rank 0.
    """
    from ..launch.job import launch_of_this_process
    from ..options import RunOptions

    if arguments.resume and arguments.out is None:
        raise InputError("--resume needs the file to go on with: --out FILE.csv")
    launch = launch_of_this_process(sys.argv[1:], arguments.ranks)
    if launch is not None and arguments.ranks is not None:
        raise InputError(f"--ranks is for local ranks; {launch.launcher} has started {launch.ranks} already")
    if launch is not None and arguments.share_gpu:
        raise InputError("--share-gpu is for local ranks")
    options = RunOptions(
        suite=arguments.suite or ("quick" if launch is None else "collectives"),
        only=arguments.only,
        backends=arguments.backend,
        cache=arguments.cache,
        launch=arguments.launch,
        sustain_s=arguments.sustain,
        budget_s=arguments.budget,
        ranks=arguments.ranks,
        share_gpu=arguments.share_gpu,
        out=arguments.out,
        resume=arguments.resume,
        device_kind=arguments.device,
        seed=arguments.seed,
        rounds=arguments.rounds,
        tune=not arguments.no_tune,
    )
    if arguments.gpus is not None and (launch is not None or arguments.ranks is not None):
        raise InputError("--gpus measures single GPUs without a launcher and without --ranks")
    with ended_in_order():
        if arguments.gpus is not None:
            return _run_each(options, arguments)
        return _run(options, launch, arguments)


def _run_each(options: RunOptions, arguments: argparse.Namespace) -> Outcome:
    from ..each_gpu import run_each

    def tell(words: str) -> None:
        if not arguments.quiet:
            say(words, to=sys.stderr)

    return run_each(arguments.gpus, options, lambda own: _run(own, None, arguments), tell)


def _run(options: RunOptions, launch: Launch | None, arguments: argparse.Namespace) -> Outcome:
    from ..launch.job import join, lead
    from ..progress import Progress
    from ..run import Run

    if launch is not None and launch.rank:
        code, words = join(launch, options, arguments.wait)
        if words:
            say(f"chipassay: {words}", to=sys.stderr)
        raise SystemExit(code)
    crew = None if launch is None else lead(launch, options, arguments.wait)
    if launch is not None and crew is not None:
        hosts = len(set(crew.job().node_of))
        say(f"{launch.ranks} ranks on {hosts} host{'s' * (hosts > 1)}, started by {launch.launcher}", to=sys.stderr)
    with Progress(quiet=arguments.quiet) as progress:
        return Run(options, announce, progress.report, progress.tell, crew).execute()


def closing_lines(outcome: Outcome) -> list[str]:
    """How the run went: rows by status, time spent measuring, what was left out."""
    counts: dict[str, int] = {}
    for row in outcome.rows:
        counts[row.status or "unknown"] = counts.get(row.status or "unknown", 0) + 1
    share = outcome.measuring_s / outcome.wall_s if outcome.wall_s else 0.0
    lines = [
        f"{outcome.path}: {', '.join(f'{count} {status}' for status, count in sorted(counts.items()))}; "
        f"{outcome.wall_s:.0f} s, {100 * share:.0f} % of it in warm-up and timed samples"
    ]
    reasons: dict[str, int] = {}
    for row in outcome.rows:
        if row.status != "ok":
            words = f"{row.status}, {row.op}: {row.reason}"
            reasons[words] = reasons.get(words, 0) + 1
    lines += [f"  {count} x {words}" for words, count in reasons.items()]
    if outcome.interrupted:
        lines.append(f"interrupted; go on with: chipassay run --out {outcome.path} --resume")
    return lines
