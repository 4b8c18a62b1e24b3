"""Answer the questions of a scenario: public claims about chips, worked out and judged by limits that its file states.

Without a name the shipped scenarios are listed. A path to a .toml works as well; runners/scenario/read.py says what it holds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..say import say

if TYPE_CHECKING:
    from ..scenario.records import Answer, Scenario

HELP = "what public claims about chips are worth"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="a shipped scenario, or a .toml (default: list the shipped ones)")
    parser.add_argument("--only", metavar="ID,ID,...", help="these questions alone")
    parser.add_argument("--format", choices=("text", "markdown"), default="text", help="how to print it (default: text)")
    parser.add_argument("--html", type=Path, metavar="FILE.html", help="write one page with pictures and tables, which opens offline")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="write each question's picture there (made if need be) as .png, fit to be printed"
    )


def execute(arguments: argparse.Namespace) -> int:
    from ..scenario.read import load_scenario, only, shipped_names

    if arguments.name is None:
        return _list([load_scenario(name) for name in shipped_names()], arguments.json)
    from chipassay.results.errors import FileError

    from ..progress import Progress
    from ..scenario.answer import answers
    from ..scenario.words import unfinished

    if arguments.html is not None and arguments.html.suffix.lower() != ".html":
        raise FileError(arguments.html, "--html writes .html", mend="end the name in it")
    if arguments.html is not None and not arguments.html.parent.is_dir():
        raise FileError(arguments.html, "its folder does not exist", mend="make it, or give --html another path")
    if arguments.pictures is not None:
        try:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            why = f"cannot be made a folder ({error.strerror})"
            raise FileError(arguments.pictures, why, mend="give --pictures another path") from error
    scenario = only(load_scenario(arguments.name), arguments.only)
    found: list[Answer] = []
    interrupted = False
    total = len(scenario.questions)
    with Progress(quiet=not sys.stderr.isatty()) as progress:
        try:
            for one in answers(scenario, lambda place, words: progress.advance(place, total, words, "")):
                found.append(one)  # noqa: PERF402 - what was found before an interrupt is kept
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        say(unfinished(scenario, found), to=sys.stderr)
    if found:
        _tell(arguments, scenario, found)
    return 130 if interrupted else 0


def _tell(arguments: argparse.Namespace, scenario: Scenario, found: Sequence[Answer]) -> None:
    """Writes and prints the answers that there are."""
    from ..scenario.words import as_markdown, head, summary, told, unfinished

    if arguments.html is not None:
        from ..report.scenario_page import page_text

        _write(arguments.html, page_text(scenario, found))
    if arguments.pictures is not None:
        from ..report.scaling_pictures import write_figure
        from ..report.scenario_pictures import draw_answer

        for answer in found:
            write_figure(draw_answer(answer), arguments.pictures / f"{scenario.name}-{answer.question.id}.png")
    missing = unfinished(scenario, found)
    if arguments.json:
        named = {"name": scenario.name, "title": scenario.title, "unfinished": missing or None}
        print(json.dumps(named | {"answers": [one.to_dict() for one in found]}, allow_nan=False))
        return
    if arguments.format == "markdown":
        say(*as_markdown(scenario, found))
    else:
        from ..profile_text import text, wrapped

        say(*head(scenario), *(line for answer in found for line in told(answer)), *text(summary(found)), *wrapped(missing))
    for path in (arguments.html, arguments.pictures):
        if path is not None:
            say(f"written: {path}")


def _list(scenarios: Sequence[Scenario], as_json: bool) -> int:
    if as_json:
        print(json.dumps([{"name": one.name, "title": one.title, "questions": [q.id for q in one.questions]} for one in scenarios]))
        return 0
    for one in scenarios:
        say(f"{one.name}: {one.title} ({len(one.questions)} question{'s' if len(one.questions) != 1 else ''})")
    return 0


def _write(path: Path, words: str) -> None:
    from chipassay.results.errors import FileError

    try:
        path.write_text(words, encoding="utf-8")
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror})", mend="give --html another path") from error
