"""The best plans for training a model on a cluster: by time, cost, energy, or on the fewest chips that are fast enough.

Every way to split the work is weighed: tensor, pipeline, data, context and expert parallelism, ZeRO, microbatches, schedules,
recomputation, and how the ranks lie on the network; on all chips and on fewer. --fix holds fields of the plan. Each plan that lost says
what it loses by. Clusters of several kinds of chips (8xA+8xB) are planned by time alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chipassay.results.errors import ChipassayError, FileError, InputError, UnknownName

from ..say import say
from .link_argument import add_link_argument, mixed_worth_dict, mixed_worth_words, worth_dict, worth_words
from .price_argument import add_price_argument

if TYPE_CHECKING:
    from chipassay.scaling.cluster import Cluster, Group
    from chipassay.scaling.mixed.answer import MixedAnswer, MixedOption
    from chipassay.scaling.models import Transformer
    from chipassay.scaling.planner.answer import PlanAnswer
    from chipassay.scaling.predict import Prediction

HELP = "the best plans for a model on a cluster, and why the others lost"
FORMATS = ("table", "markdown", "csv")
OBJECTIVES = ("time", "cost", "energy", "chips")
FRONTS = ("cost", "chips", "memory")
TOP = "10"
SPARE = "5%"
"""What a search leaves free where nobody says (scaling/spare.py)."""
MOST_MIXED_BATCH = 2**16
"""Sequences: the time and memory that it takes to share them out over several kinds of chips grow with their number."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="M", help="a preset (llama3-8b, gpt3-175b, ...) or a Hugging Face config.json")
    parser.add_argument(
        "--cluster", required=True, metavar="C", help="COUNTxCHIP[@FABRIC], for example 64xh100-sxm-80gb@ndr400x8, or a cluster's .toml"
    )
    parser.add_argument(
        "--batch",
        metavar="N",
        help="sequences per step over the whole cluster (default: about four million tokens; by time at least one a chip)",
    )
    parser.add_argument("--objective", default="time", metavar="WHAT", help="time (default), cost, energy or chips: what is to be small")
    parser.add_argument("--top", default=TOP, metavar="N", help=f"how many plans to show (default: {TOP})")
    parser.add_argument("--dtype", metavar="D", help="fp32, tf32, fp16, bf16 or fp8 (default: the best of the chip)")
    parser.add_argument("--seq-len", metavar="N", help="tokens of a sequence, in place of the model's own")
    need = parser.add_argument_group("only plans that are fast enough (needed by --objective chips)")
    need.add_argument("--tokens-per-s", metavar="R", help="plans that make at least so many")
    need.add_argument("--days", metavar="D", help="plans that train --tokens in at most so many days, without restarts")
    need.add_argument("--tokens", metavar="N", help="tokens of the run, for example 300e9; also tells days and money of the best plan")
    what = parser.add_argument_group("which plans")
    what.add_argument(
        "--fix", default="", metavar="P", help="fields that every plan must have, for example tp=8,zero=1,optimizer=adam-8bit"
    )
    what.add_argument("--overlap-tp", action="store_true", help="also plans that hide tensor-parallel traffic behind the products")
    what.add_argument(
        "--spare-memory",
        default=SPARE,
        metavar="SHARE",
        help="memory that every plan leaves free on each chip (default: 5%%; measured peaks were up to 4.8%% above the predicted ones)",
    )
    what.add_argument("--every", action="store_true", help="every divisor and every combination, worth trying or not")
    add_price_argument(parser)
    add_link_argument(parser)
    show = parser.add_argument_group("what to show")
    show.add_argument("--front", metavar="WHAT", help="also the plans that none beats in both time and: cost, chips or memory")
    show.add_argument("--format", default="table", metavar="F", help="table (default), markdown or csv")
    show.add_argument("--out", type=Path, metavar="FILE.csv", help="write the plans to a file, too")


def execute(arguments: argparse.Namespace) -> int:
    from chipassay.scaling.cluster import parse_cluster
    from chipassay.scaling.models import load_model
    from chipassay.scaling.what_if import apply, parse_changes

    from ..prediction.numbers import whole

    for what, value, known in (
        ("objective", arguments.objective, OBJECTIVES),
        ("format", arguments.format, FORMATS),
        ("front", arguments.front, FRONTS),
    ):
        if value is not None and value not in known:
            raise UnknownName(what, value, known)
    if arguments.out is not None and not arguments.out.parent.is_dir():
        raise FileError(arguments.out, "its folder does not exist", mend="make it, or give --out another path")
    model = load_model(arguments.model)
    length = whole("--seq-len", arguments.seq_len, "4096")
    if length is not None:
        model = model.with_seq_len(length)
    cluster = apply(parse_changes(arguments.link), parse_cluster(arguments.cluster))
    if len(cluster.groups) > 1:
        return _mixed(arguments, model, cluster)
    answer = _answer(arguments, model, cluster.groups[0])
    stopped, before = answer.interrupted, None
    if arguments.link and not stopped:
        before = _without_link(arguments, model, answer.best.prediction.plan.global_batch)
        stopped = before is None
    if arguments.out is not None:
        from ..planning.columns import csv_text
        from ..writing import write_text

        write_text(arguments.out, csv_text(answer))
    _tell(arguments, answer, cluster.groups[0], before)
    return 130 if stopped else 0


def _without_link(arguments: argparse.Namespace, model: Transformer, batch: int) -> Prediction | ChipassayError | None:
    """The best plan of the chips as they are, by the same batch; why there is none; or None if it was not waited for."""
    from chipassay.scaling.cluster import parse_cluster

    try:
        found = _answer(arguments, model, parse_cluster(arguments.cluster).groups[0], batch=batch, top=1, against=None)
    except KeyboardInterrupt:
        return None
    except ChipassayError as error:
        return error
    return None if found.interrupted else found.best.prediction


def _answer(arguments: argparse.Namespace, model: Transformer, group: Group, **otherwise: Any) -> PlanAnswer:
    """The best plans on the group. ``otherwise``: what to ask of the planner in the place of what the flags say."""
    from chipassay.results.prices import read_overrides
    from chipassay.scaling.planner.planner import plan_best
    from chipassay.scaling.planner.space import space_of

    from ..prediction.answer import default_price
    from ..prediction.numbers import whole
    from ..progress import Progress

    chip_id = group.profile.chip_id
    price = read_overrides(arguments.price, [chip_id]).get(chip_id) or default_price(group)
    rate = _needed_rate(arguments)
    if arguments.objective == "chips" and rate is None:
        raise InputError("--objective chips needs to know how fast is fast enough; give --tokens-per-s, or --tokens and --days")
    spare = _spare(arguments.spare_memory)
    space = space_of(arguments.fix, dtype=arguments.dtype, overlap_tp=arguments.overlap_tp, full=arguments.every, spare=spare)
    batch, top = whole("--batch", arguments.batch, "512"), whole("--top", arguments.top, TOP) or 1
    asked = {"top": top, "against": arguments.front, "batch": batch, **otherwise}
    with Progress(quiet=not sys.stderr.isatty()) as progress:
        return plan_best(
            model,
            group,
            asked.pop("batch"),
            objective=arguments.objective,
            space=space,
            price=price,
            tokens_per_s=rate,
            report=lambda done, total, words: progress.advance(done, total, words, ""),
            **asked,
        )


def _spare(text: str) -> float:
    """The share of the memory that stays free."""
    from chipassay.scaling.spare import parse_spare

    try:
        return parse_spare(text)
    except InputError as error:
        raise InputError(f"--spare-memory {error}") from error


def _needed_rate(arguments: argparse.Namespace) -> float | None:
    """Tokens per second that plans must reach."""
    from ..prediction.numbers import number

    rate = number("--tokens-per-s", arguments.tokens_per_s, "1e6")
    days, tokens = number("--days", arguments.days, "30"), number("--tokens", arguments.tokens, "300e9")
    if days is None:
        return rate
    if tokens is None:
        raise InputError("--days needs to know of how many tokens; give --tokens, for example --tokens 300e9")
    if rate is not None:
        raise InputError("--days and --tokens-per-s both say how fast is fast enough; give one of them")
    return tokens / (days * 86400)


def _tell(arguments: argparse.Namespace, answer: PlanAnswer, group: Group, before: Prediction | ChipassayError | None) -> None:
    """``before``: the best plan without what ``--link`` changes."""
    from ..planning import columns, words
    from ..prediction.numbers import number

    if arguments.json:
        worth = {} if before is None else {"link": worth_dict(group, answer.best.prediction, before)}
        print(json.dumps({**answer.to_dict(), **worth}, allow_nan=False, default=str))
    elif arguments.format == "csv":
        say(columns.csv_text(answer).rstrip("\n"))
    elif arguments.format == "markdown":
        say(words.markdown(answer, arguments.cluster))
    else:
        _tell_table(answer, arguments.cluster)
        if before is not None:
            say(*worth_words(group, answer.best.prediction, before))
        tokens = number("--tokens", arguments.tokens, "300e9")
        say(words.day_words(answer) if tokens is None else words.run_words(answer, tokens))
        also = "" if arguments.seq_len is None else f" --seq-len {arguments.seq_len}"
        also += "".join(f" --link {change}" for change in arguments.link)
        say(f"The first in full: chipassay predict --model {arguments.model} {words.best_as_arguments(answer, arguments.cluster)}{also}")
    if arguments.out is not None and not arguments.json:
        say(f"written: {arguments.out}")


def _tell_table(answer: PlanAnswer, cluster: str) -> None:
    import shutil

    from ..planning.columns import table
    from ..planning.words import WIDTH, front_title, interval, losers, noted, standing, title
    from ..validation.table import Section, layout

    sections = []
    for heading, candidates in ((title(answer, cluster), answer.candidates), (front_title(answer), answer.front)):
        if candidates:
            headings, lines = table(answer, candidates)
            numeric = tuple(index for index, name in enumerate(headings) if name not in ("split", "also"))
            sections.append(Section(heading, headings, tuple(lines), numeric))
    width = max(WIDTH, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH
    text = layout(sections, interval(answer), width)
    say(text.rstrip("\n"))
    say(standing(answer), *noted(answer))
    if len(answer.candidates) > 1:
        say("Why the others lost:", *losers(answer))


def _mixed(arguments: argparse.Namespace, model: Transformer, cluster: Cluster) -> int:
    """Several kinds of chips: by time alone."""
    from ..prediction.numbers import number, whole

    if arguments.objective != "time":
        raise InputError(f"several kinds of chips are planned by time, not by {arguments.objective}; give one kind, or --objective time")
    for flag in ("--front", "--fix", "--days", "--tokens-per-s", "--overlap-tp", "--out"):
        if getattr(arguments, flag[2:].replace("-", "_")):
            raise InputError(f"{flag} is not known to the planner of several kinds of chips; leave it out, or give a cluster of one kind")
    if arguments.spare_memory != SPARE:
        raise InputError(
            f"--spare-memory is {SPARE} for the planner of several kinds of chips; leave it out, or give a cluster of one kind"
        )
    if arguments.format != "table":
        raise InputError(f"several kinds of chips are told as text or by --json, not as {arguments.format}; leave --format out")
    if whole("--top", arguments.top, TOP) != int(TOP):
        raise InputError(
            "--top is not known to the planner of several kinds of chips, which tells the best of each choice of kinds; leave it out"
        )
    from chipassay.results.prices import read_overrides

    from ..planning.mixed import told
    from ..prediction.answer import default_price

    batch = whole("--batch", arguments.batch, "512", most=MOST_MIXED_BATCH)
    tokens = number("--tokens", arguments.tokens, "300e9")
    quoted = {group.profile.chip_id: price for group in cluster.groups[::-1] if (price := default_price(group)) is not None}
    prices = {**quoted, **read_overrides(arguments.price, (group.profile.chip_id for group in cluster.groups))}
    answer = _mixed_answer(arguments, model, cluster, batch)
    stopped, before = answer.interrupted, None
    if arguments.link and not stopped:
        before = _mixed_without_link(arguments, model, batch)
        stopped = before is None
    if arguments.json:
        worth = {} if before is None else {"link": mixed_worth_dict(cluster, answer.best, before)}
        print(json.dumps({**answer.to_dict(), **worth}, allow_nan=False, default=str))
    else:
        say(*told(answer, model.name, arguments.cluster, prices, tokens))
        if before is not None:
            say(*mixed_worth_words(cluster, answer.best, before))
    return 130 if stopped else 0


def _mixed_answer(arguments: argparse.Namespace, model: Transformer, cluster: Cluster, batch: int | None) -> MixedAnswer:
    from chipassay.scaling.mixed.search import plan_mixed

    from ..progress import Progress

    with Progress(quiet=not sys.stderr.isatty()) as progress:
        return plan_mixed(
            model,
            cluster,
            batch,
            dtype=arguments.dtype,
            every=arguments.every,
            report=lambda done, total, words: progress.advance(done, total, words, ""),
            best_so_far=True,
        )


def _mixed_without_link(arguments: argparse.Namespace, model: Transformer, batch: int | None) -> MixedOption | ChipassayError | None:
    """The best plan of the chips as they are; why there is none; or None if it was not waited for."""
    from chipassay.scaling.cluster import parse_cluster

    try:
        found = _mixed_answer(arguments, model, parse_cluster(arguments.cluster), batch)
    except KeyboardInterrupt:
        return None
    except ChipassayError as error:
        return error
    return None if found.interrupted else found.best
