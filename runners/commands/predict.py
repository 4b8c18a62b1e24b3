"""Predict a training step: time, tokens per second, MFU, memory, the breakdown, cost, energy, and what it all rests on.

Without --plan the best of the usual plans on all chips is taken; `chipassay plan` weighs many more.
A measured profile .json may stand in the place of a chip id: 64xresults/mine.json
The cost is chips times the median of dated quotes (results/data/prices.csv), or times the price that --price or a cluster's file gives.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..say import say
from .link_argument import add_link_argument, worth_dict, worth_words
from .price_argument import add_price_argument

if TYPE_CHECKING:
    from chipassay.results.errors import ChipassayError
    from chipassay.scaling.energy import Site
    from chipassay.scaling.goodput import Operation
    from chipassay.scaling.predict import Prediction

    from ..prediction.answer import Question

HELP = "how long a training step takes on a cluster"
FAILURE_FLAGS = ("failures_per_chip_hour", "restart", "checkpoint_bandwidth")
"""Each of them asks for the goodput too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="M", help="a preset (llama3-8b, gpt3-175b, ...) or a Hugging Face config.json")
    parser.add_argument(
        "--cluster", required=True, metavar="C", help="COUNTxCHIP[@FABRIC], for example 64xh100-sxm-80gb@ndr400x8, or a cluster's .toml"
    )
    parser.add_argument(
        "--plan",
        metavar="P",
        help="how the work is split, for example tp=8,pp=2,dp=4,zero=1,sp=yes (default: the best of the usual ones; "
        "`chipassay plan` finds the best of all)",
    )
    parser.add_argument(
        "--batch",
        metavar="N",
        help="sequences per step over the whole cluster (default: about four million tokens, at least one for each chip)",
    )
    parser.add_argument(
        "--seq-len", metavar="N", help="tokens of a sequence (default: the model's; a config.json's is the longest it can take)"
    )
    parser.add_argument("--tokens", metavar="N", help="also: days, money and energy for this many tokens, for example 300e9")
    add_price_argument(parser)
    add_link_argument(parser)
    show = parser.add_argument_group("also show")
    show.add_argument("--explain", action="store_true", help="every term: its formula, the numbers put in, its seconds and its source")
    show.add_argument("--sensitivity", action="store_true", help="which input would move the step most")
    show.add_argument(
        "--curve",
        nargs="?",
        const="",
        metavar="N,N,...",
        help="the step over numbers of chips (default: the cluster's, halved down to a node)",
    )
    show.add_argument("--weak", action="store_true", help="with --curve: the batch grows with the chips")
    show.add_argument("--picture", type=Path, metavar="FILE.png", help="draw where the step's time goes (.png or .svg)")
    show.add_argument("--trace", type=Path, metavar="FILE.json", help="write one step as a trace for ui.perfetto.dev or chrome://tracing")
    show.add_argument("--html", type=Path, metavar="FILE.html", help="write one page with all of this, which opens offline")
    run = parser.add_argument_group("long runs: failures, checkpoints, energy (defaults are published ones, and told)")
    run.add_argument("--goodput", action="store_true", help="the share of wall time that trains; days and money of --tokens with it")
    run.add_argument("--failures-per-chip-hour", metavar="R", help="unplanned interruptions, for example 2e-5")
    run.add_argument("--restart", metavar="S", help="seconds from a failure until training goes on, beside reading the checkpoint")
    run.add_argument("--checkpoint-bandwidth", metavar="GB/S", help="what all chips together write to storage")
    run.add_argument("--pue", metavar="X", help="power of the building over that of the machines")
    run.add_argument("--usd-per-kwh", metavar="USD", help="price of electricity")
    run.add_argument("--kg-co2-per-kwh", metavar="KG", help="emissions of the grid")


def execute(arguments: argparse.Namespace) -> int:
    from ..prediction.answer import answer
    from ..prediction.files import check_names, write_files
    from ..prediction.words import told

    check_names(arguments.picture, arguments.trace, arguments.html)  # a mistake in a name is told before the work is done
    question = _question(arguments)
    found = answer(question)
    before = _without_link(arguments, question, found.prediction.plan.global_batch) if arguments.link else None
    write_files(found, arguments.picture, arguments.trace, arguments.html)
    if arguments.json:
        worth = {} if before is None else {"link": worth_dict(question.group, found.prediction, before)}
        print(json.dumps({**found.to_dict(), **worth}, allow_nan=False, default=str))
    else:
        asked = {"terms": arguments.explain, "sensitivity": arguments.sensitivity, "curve": arguments.curve is not None}
        for paragraph in told(found, **asked):
            say(paragraph)
        if before is not None:
            say(*worth_words(question.group, found.prediction, before))
        for path in (arguments.picture, arguments.trace, arguments.html):
            if path is not None:
                say(f"written: {path}")
    return 0 if found.prediction.fits else 1


def _question(arguments: argparse.Namespace) -> Question:
    """What the flags ask for; numbers are read before any work is done."""
    from chipassay.results.errors import InputError
    from chipassay.results.prices import read_overrides
    from chipassay.scaling.cluster import parse_cluster
    from chipassay.scaling.models import load_model
    from chipassay.scaling.plan_text import parse_plan
    from chipassay.scaling.predict import single_group
    from chipassay.scaling.what_if import apply, parse_changes

    from ..prediction.answer import Question, batch_of
    from ..prediction.numbers import counts, number, whole

    if arguments.weak and arguments.curve is None:
        raise InputError("--weak says how the batch of a curve grows; add --curve")
    batch, tokens = whole("--batch", arguments.batch, "512"), number("--tokens", arguments.tokens, "300e9")
    curve = counts("--curve", arguments.curve) if arguments.curve else None
    operation, site = _operation(arguments), _site(arguments)
    changes = parse_changes(arguments.link)
    model = load_model(arguments.model)
    seq_len = whole("--seq-len", arguments.seq_len, "4096")
    if seq_len is not None:
        model = model.with_seq_len(seq_len)
    group = single_group(apply(changes, parse_cluster(arguments.cluster)))
    overrides = read_overrides(arguments.price, [group.profile.chip_id])
    page = arguments.html is not None
    return Question(
        model=model,
        group=group,
        plan=None if arguments.plan is None else parse_plan(arguments.plan, batch_of(model, group, batch)),
        batch=batch,
        tokens=tokens,
        price=overrides.get(group.profile.chip_id),
        operation=operation,
        site=site,
        terms=arguments.explain or page,
        sensitivity=arguments.sensitivity or page,
        curve=arguments.curve is not None or page,
        curve_counts=curve,
        weak=arguments.weak,
    )


def _without_link(arguments: argparse.Namespace, question: Question, batch: int) -> Prediction | ChipassayError:
    """The step on the chips as they are, of the same batch, by the plan that was given, else by their own best; or why there is none."""
    from chipassay.results.errors import ChipassayError
    from chipassay.scaling.cluster import parse_cluster
    from chipassay.scaling.predict import predict, single_group
    from chipassay.scaling.search import best_plan

    group = single_group(parse_cluster(arguments.cluster))
    try:
        return best_plan(question.model, group, batch) if question.plan is None else predict(question.model, group, question.plan)
    except ChipassayError as error:
        return error


def _operation(arguments: argparse.Namespace) -> Operation | None:
    from chipassay.scaling.goodput import Operation

    from ..prediction.numbers import number

    asked = arguments.goodput or arguments.html is not None or any(getattr(arguments, name) is not None for name in FAILURE_FLAGS)
    rate = number("--failures-per-chip-hour", arguments.failures_per_chip_hour, "2e-5", least=0)
    restart_s = number("--restart", arguments.restart, "600", least=0)
    gigabytes_per_s = number("--checkpoint-bandwidth", arguments.checkpoint_bandwidth, "100")
    if not asked:
        return None
    storage = None if gigabytes_per_s is None else gigabytes_per_s * 1e9
    return Operation(failures_per_chip_hour=rate, restart_s=restart_s, storage_bytes_per_s=storage)


def _site(arguments: argparse.Namespace) -> Site:
    from chipassay.scaling.energy import Site

    from ..prediction.numbers import number

    return Site(
        pue=number("--pue", arguments.pue, "1.2", least=1),
        usd_per_kwh=number("--usd-per-kwh", arguments.usd_per_kwh, "0.10", least=0),
        kg_co2_per_kwh=number("--kg-co2-per-kwh", arguments.kg_co2_per_kwh, "0.35", least=0),
    )
