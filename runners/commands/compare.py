"""Hold results against each other: what became faster, what slower, what stayed the same, and what cannot be told.

A side is a file, a folder (its files are runs of that side, and pooled), or paths joined by commas: results of `chipassay run`, or what
`chipassay import` reads. Each side after the first is compared with the first. A gate for CI: --fail-on slower,unmatched.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chipassay.results.compare.comparison import ALPHA, THRESHOLDS, Settings
from chipassay.results.errors import FileError, InputError

from ..comparison.asked import FORMATS, chance, exit_code, failing, ignored, threshold_words, thresholds
from .measuring import duration_s, names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chipassay.results.compare.comparison import Comparison

    from ..comparison.view import View

HELP = "what became faster or slower between results, and is it certain?"
SUFFIXES = {".md": "markdown", ".csv": "csv", ".json": "json", ".html": "html", ".htm": "html"}
"""What a file's name says of the format, where --format does not."""
TOP = 10
MOST_TOP = 10_000
MOST_RUNS = 12


def top(text: str) -> int:
    """A number of rows to show."""
    if not (text.isascii() and text.isdecimal()) or int(text) > MOST_TOP:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows; write 0 to {MOST_TOP}")
    return int(text)


def runs(text: str) -> int:
    """An even number of runs."""
    if not (text.isascii() and text.isdecimal()) or int(text) % 2 or not 4 <= int(text) <= MOST_RUNS:
        raise argparse.ArgumentTypeError(f"{text!r} is not an even number of runs; write 4 to {MOST_RUNS}")
    return int(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sides", nargs="*", metavar="SIDE", help="base, then one or more to compare with it")
    parser.add_argument(
        "--threshold",
        type=thresholds,
        default={},
        metavar="SHARE",
        help="the smallest change that matters: 3%%, or by kind compute=2%%,collective=10%% "
        f"(default: {threshold_words(THRESHOLDS).replace('%', '%%')})",
    )
    parser.add_argument("--alpha", type=chance, metavar="P", help="chance of any false alarm where nothing changed (default: 0.01)")
    parser.add_argument("--normalise", action="store_true", help="compare shares of peak in place of times: for different chips")
    parser.add_argument(
        "--ignore",
        type=names,
        default=(),
        metavar="COLUMN,...",
        help="partners may differ in these (backend,kernel: torch against Triton)",
    )
    parser.add_argument("--only", type=names, default=(), metavar="OP,...", help="only these operations")
    parser.add_argument("--format", choices=FORMATS, help="default: table, or what the name after -o says")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write there in place of printing; html needs it")
    parser.add_argument(
        "--fail-on",
        type=failing,
        default=(),
        metavar="WHAT,...",
        help="end with 1 on any of slower (broken rows, too), unclear, broken, unmatched, not-comparable",
    )
    parser.add_argument("--top", type=top, default=TOP, metavar="N", help=f"worst and best rows to show (default: {TOP})")
    own = parser.add_argument_group("the machine against itself")
    own.add_argument("--self-test", action="store_true", help="measure the same code several times: how often do verdicts lie here?")
    own.add_argument("--suite", default="quick", help="what to measure (default: quick)")
    own.add_argument("--budget", type=duration_s, metavar="TIME", help="for all runs together: 60s, 5m (default: 5m)")
    own.add_argument("--runs", type=runs, metavar="N", help="how many, half of them a side (default: 6)")
    own.add_argument("--device", choices=["cpu"], help="measure the CPU although a GPU is there")


def execute(arguments: argparse.Namespace) -> int:
    settings = Settings(
        alpha=arguments.alpha or ALPHA,
        thresholds={**THRESHOLDS, **arguments.threshold},
        normalised=arguments.normalise,
        ignored=ignored(arguments.ignore),
    )
    wanted = _format(arguments)
    if wanted == "html" and arguments.out is None:
        raise InputError("--format html needs a file: -o comparison.html")
    return _self_test(arguments, settings, wanted) if arguments.self_test else _compare(arguments, settings, wanted)


def _format(arguments: argparse.Namespace) -> str:
    named = "json" if arguments.json else arguments.format
    return named or ("table" if arguments.out is None else SUFFIXES.get(arguments.out.suffix.lower(), "table"))


def _compare(arguments: argparse.Namespace, settings: Settings, wanted: str) -> int:
    from ..comparison.compared import compare_sides
    from ..comparison.view import view

    if len(arguments.sides) < 2:
        raise InputError("a comparison needs two sides: chipassay compare BASE NEW (or --self-test: this machine against itself)")
    comparisons = compare_sides(arguments.sides, settings, arguments.only)
    if arguments.json:
        exit_code(comparisons, arguments.fail_on)  # where it raises, the error is the one JSON object

    shown = [view(comparison, arguments.top, arguments.fail_on) for comparison in comparisons]
    if wanted == "markdown":
        from ..comparison.markdown import markdown

        _say(markdown(shown), arguments.out)
    elif wanted == "table":
        _table(shown, arguments.out)
    else:
        _data(comparisons, wanted, arguments.out)
    if wanted in ("csv", "json", "html") or arguments.out is not None:
        _summary(shown)
    return exit_code(comparisons, arguments.fail_on)


def _self_test(arguments: argparse.Namespace, settings: Settings, wanted: str) -> int:
    from ..comparison import self_test as own
    from ..comparison.false_alarms import self_test
    from ..launch.job import launch_of_this_process
    from ..options import RunOptions
    from .measuring import ended_in_order

    if arguments.sides or arguments.fail_on:
        raise InputError("--self-test compares this machine with itself: it takes neither sides nor --fail-on")
    if wanted in ("csv", "html"):
        raise InputError(f"--self-test is told as table, markdown or json, not as {wanted}")
    if launch_of_this_process(sys.argv[1:], None) is not None:
        raise InputError("--self-test starts its own processes; call it without a launcher")
    options = RunOptions(suite=arguments.suite, only=arguments.only, device_kind=arguments.device)
    with ended_in_order():
        rows = own.measure_runs(options, arguments.runs or own.RUNS, arguments.budget or own.BUDGET_S, own.to_stderr)
    test = self_test(rows, settings)
    if wanted == "json":
        from ..comparison.data import dumped

        _say(dumped({**own.as_dict(test), "summary": own.closing(test)}) + "\n", arguments.out)
    elif wanted == "markdown":
        from ..comparison.markdown import markdown

        _say(markdown([own.self_test_view(test)]), arguments.out)
    else:
        _table([own.self_test_view(test)], arguments.out)
    return 0


def _table(views: Sequence[View], out: Path | None) -> None:
    from ..comparison.terminal import terminal

    on_terminal = out is None and sys.stdout.isatty()
    width = None
    if on_terminal:
        import os
        import shutil

        width = max(60, shutil.get_terminal_size().columns)
        on_terminal = "NO_COLOR" not in os.environ
    _say(terminal(views, width, colour=on_terminal), out)


def _say(text: str, out: Path | None) -> None:
    if out is None:
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return
    from ..writing import write_text

    write_text(out, text)


def _data(comparisons: Sequence[Comparison], wanted: str, out: Path | None) -> None:
    if wanted == "html" and out is not None:
        from ..comparison.html import write_html

        write_html(comparisons, out)
        return
    from ..comparison.data import write_csv, write_json

    write = write_csv if wanted == "csv" else write_json
    if out is None:
        write(comparisons, sys.stdout)
        return
    try:
        with out.open("w", encoding="utf-8", newline="") as file:
            write(comparisons, file)
    except OSError as error:
        raise FileError(out, f"cannot be written ({error.strerror})", mend="choose another place with -o") from error


def _summary(views: Sequence[View]) -> None:
    """The verdict on standard error, where standard output or a file holds the rest."""
    from ..say import say

    for view in views:
        say(*filter(None, (view.closing, view.gate)), to=sys.stderr)
