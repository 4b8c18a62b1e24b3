"""How many of one chip do the work of another: for one model or several, each side by its own best plan, with interval and evidence.

A mix of chips in one job is written a+b, or a+b:3:1 for three of the first to one of the second. --same says what is to be equal: the time,
the cost or the energy of a run, or at any time the rent or the power. --as-of takes the chips, the software and the quotes of a month.
Costs are chips times the median of dated quotes (results/data/prices.csv), or times the price that --price gives.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chipassay.results.errors import InputError

from ..say import say
from .price_argument import add_price_argument

if TYPE_CHECKING:
    from ..exchange.answer import Question

HELP = "how many of one chip replace another"

REFERENCE = re.compile(r"(\d+)x([^@]+)(?:@(.+))?")
MOST_BATCH = 2**20
"""Sequences: every number of chips that divides one is looked at."""
DEFAULT_MODEL = "gpt3-175b"
"""The model of which it was first asked how many chips of another kind it takes."""
SAMES = ("time", "cost", "rent", "power", "energy")
FORMATS = ("table", "markdown", "csv", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="COUNTxCHIP[@FABRIC]", help="what is to be replaced, for example 100xh100-sxm-80gb")
    parser.add_argument(
        "--in",
        dest="others",
        required=True,
        metavar="CHIP[@FABRIC],...",
        help="in which chips, mixes (a+b, a+b:3:1) or profiles (.json)",
    )
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="M,...",
        help=f"presets (llama3-8b, gpt3-175b, ...) or a Hugging Face config.json; several: one table (default: {DEFAULT_MODEL})",
    )
    parser.add_argument("--batch", metavar="N", help="sequences per step (default: about four million tokens)")
    parser.add_argument("--tokens", metavar="N", help="also: days and money for this many tokens, for example 300e9")
    parser.add_argument("--same", choices=SAMES, default="time", help="what is to be the same (default: time)")
    parser.add_argument("--as-of", metavar="YYYY-MM", help="the chips, the software and the quotes of that month, for example 2023-05")
    parser.add_argument(
        "--link",
        action="append",
        default=[],
        metavar="CHIP.FIELD=VALUE",
        help="what if: h800-sxm-80gb.scaleup=900GB/s-both, h800-sxm-80gb.nics=4, ...",
    )
    add_price_argument(parser)
    parser.add_argument("--format", choices=FORMATS, default="table", help="default: table, with the reasons below it")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE.png", help="draw speed over chips; of several models, chips for one over model size (or .svg)"
    )


def execute(arguments: argparse.Namespace) -> int:
    from ..exchange.answer import all_answers
    from ..exchange.rows import as_csv, markdown
    from ..exchange.words import told
    from ..prediction.files import check_names
    from ..progress import Progress

    check_names(arguments.picture, None, None)
    question = _question(arguments)
    with Progress(quiet=arguments.json) as progress:
        found, finished = all_answers(question, lambda done, words: progress.advance(done, question.pairs, words, ""))
    if arguments.picture is not None and finished:
        from ..report.exchange_pictures import draw_exchanges
        from ..report.scaling_pictures import write_figure

        write_figure(draw_exchanges(question, found), arguments.picture)
    if arguments.json or arguments.format == "json":
        print(json.dumps([answer.to_dict(question.tokens) for answer in found], allow_nan=False, default=str))
    else:
        write = {"table": told, "markdown": markdown, "csv": as_csv}[arguments.format]
        say(write(question, found).rstrip("\n"))
    if not finished:
        drawn = "" if arguments.picture is None else f"; {arguments.picture} is not drawn"
        say(f"chipassay: interrupted, what is answered so far is told{drawn}", to=sys.stderr)
        return 130
    if arguments.picture is not None and arguments.format == "table" and not arguments.json:
        say(f"written: {arguments.picture}")
    return 0


def _question(arguments: argparse.Namespace) -> Question:
    """What the flags ask for; all of them are read before any work is done."""
    from chipassay.results.prices import read_overrides
    from chipassay.scaling.as_of import check_date, check_released
    from chipassay.scaling.exchange import parse_side
    from chipassay.scaling.models import load_model
    from chipassay.scaling.what_if import check_used, parse_changes

    from ..exchange.answer import Question
    from ..prediction.numbers import number, whole

    match = REFERENCE.fullmatch(arguments.reference)
    if match is None:
        raise InputError(f"the reference {arguments.reference!r} is not COUNTxCHIP[@FABRIC]; write for example 100xh100-sxm-80gb")
    if "+" in match[2]:
        raise InputError(f"{arguments.reference!r}: the reference is one kind of chip; put the mix into --in")
    batch, tokens = whole("--batch", arguments.batch, "512", most=MOST_BATCH), number("--tokens", arguments.tokens, "300e9")
    if arguments.as_of is not None:
        check_date(arguments.as_of)
    changes = parse_changes(arguments.link)
    models = tuple(load_model(name) for name in _parts(arguments.model, "--model", "llama3-8b"))
    reference = parse_side(match[2] + (f"@{match[3]}" if match[3] else ""), changes=changes)
    others = tuple(parse_side(text, changes=changes) for text in _parts(arguments.others, "--in", "h800-sxm-80gb"))
    chip_ids = [chip_id for side in (reference, *others) for chip_id in side.chip_ids]
    check_used(changes, chip_ids)
    if arguments.as_of is not None:
        check_released(chip_ids, arguments.as_of)
    return Question(
        models=models,
        reference=reference,
        count=int(match[1]),
        others=others,
        same=arguments.same,
        batch=batch,
        tokens=tokens,
        as_of=arguments.as_of,
        changes=changes,
        prices=read_overrides(arguments.price, chip_ids),
        curve=arguments.picture is not None and len(models) == 1,
    )


def _parts(text: str, flag: str, example: str) -> list[str]:
    """Names joined by commas, each once."""
    parts = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise InputError(f"{flag} {text!r} names nothing; write for example {flag} {example}")
    return parts
