"""Hold the scaling model against published training runs, or with --here against steps trained on this chip: how far off is it?

Predicts every run of the shipped table (or of --runs, a CSV with the same columns). What a source leaves open is searched over, and widens
the interval. An error is the predicted over the measured step time, minus 1, whatever was measured; medians count each source once.

With --here it trains a few models for some steps on one chip of this machine, with torch, and sets the measured step, its parts and its
memory beside what the model says from the chip's profile. A minute on a GPU; each row is told, and added to --out, as soon as it is known.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chipassay.results.errors import InputError, NothingMeasured

from .measuring import duration_s, names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chipassay.scaling.validation.validate import Outcome

HELP = "how far off is the scaling model on published training runs, or on this chip?"
PUBLISHED_FLAGS = ("runs", "source", "chip", "picture", "mixed")
SIZING_FLAGS = ("microbatch", "seq_len", "recompute", "compile")
HERE_FLAGS = ("model", *SIZING_FLAGS, "steps", "dtype", "profile", "device", "budget")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, metavar="FILE.csv", help="training runs in place of the shipped ones, with the same columns")
    parser.add_argument("--source", metavar="TEXT", help="only sources that hold this text, in any case")
    parser.add_argument("--chip", metavar="ID", help="only this chip: a catalogue id such as a100-sxm-80gb")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.csv",
        help="write every run with its prediction, interval, error and reason; with --here each row is added to it",
    )
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw predicted against measured (.png or .svg)")
    parser.add_argument("--mixed", action="store_true", help="the shipped runs on clusters of several kinds of chips instead")
    here = parser.add_argument_group("a training step on this chip")
    here.add_argument("--here", action="store_true", help="train a few steps with torch on one chip of this machine instead")
    here.add_argument(
        "--model", type=names, metavar="M,M", help="presets, .toml or config.json (default: what suits the chip; on a CPU toys)"
    )
    here.add_argument("--microbatch", metavar="N", help="sequences at once (default: about 8,192 tokens)")
    here.add_argument("--seq-len", metavar="N", help="tokens of a sequence (default: the model's)")
    here.add_argument("--steps", metavar="N", help="timed steps of each model, after some that are discarded (default: 10)")
    here.add_argument(
        "--recompute", choices=("none", "full"), help="full: each layer is computed again in the backward pass (default: none)"
    )
    here.add_argument("--compile", action="store_true", help="layers and loss through torch.compile, in place of eager kernels")
    here.add_argument("--dtype", choices=("bf16", "fp16", "tf32", "fp32"), help="(default: what `predict` takes for the chip)")
    here.add_argument("--profile", metavar="P", help="a chip id, or a profile .json just measured (default: the chip's shipped profile)")
    here.add_argument("--device", choices=("cpu",), help="cpu: though there is a GPU")
    here.add_argument("--budget", type=duration_s, metavar="TIME", help="stop in order after this much time: 100s, 5m")


def execute(arguments: argparse.Namespace) -> int:
    if arguments.here:
        return _here(arguments)
    for name in HERE_FLAGS:
        if getattr(arguments, name):
            raise InputError(f"--{name.replace('_', '-')} is for steps on this chip; add --here")
    from chipassay.scaling.validation.rows import TRAINING_RUNS, read_runs
    from chipassay.scaling.validation.validate import validate

    from ..report.validation_picture import check_name, write_picture
    from ..validation.records import as_records, write_csv

    if arguments.mixed:
        return _mixed(arguments)
    if arguments.picture is not None:
        check_name(arguments.picture)  # a mistake in the name is told before the work is done
    runs = read_runs(arguments.runs or TRAINING_RUNS)
    if arguments.source is not None:
        runs = tuple(run for run in runs if arguments.source.lower() in run.source.lower())
        if not runs:
            raise InputError(f"--source {arguments.source!r}: no source of the table holds that text")
    outcomes = list(validate(runs))
    if arguments.chip is not None:
        outcomes = _of_chip(outcomes, arguments.chip.lower())
    if arguments.out is not None:
        write_csv(outcomes, arguments.out)
    if arguments.picture is not None:
        write_picture(outcomes, arguments.picture)
    if arguments.json:
        print(json.dumps(as_records(outcomes), allow_nan=False))
    else:
        _tell(outcomes)
    return 0


def _here(arguments: argparse.Namespace) -> int:
    """Steps on this chip. 0: some were measured and none was wrong; 1: one was wrong; 3: nothing was measured."""
    import sys

    from ..prediction.numbers import whole
    from ..say import say
    from ..training_step.here import Asked, train_here
    from ..training_step.row import append, check_file
    from ..training_step.words import closing, told

    for name in PUBLISHED_FLAGS:
        if getattr(arguments, name):
            raise InputError(f"--{name} is for published runs; leave it out, or leave out --here")
    for name in SIZING_FLAGS:
        if arguments.model is None and getattr(arguments, name):
            raise InputError(f"--{name.replace('_', '-')} needs --model: the models that are chosen by themselves have their own")
    asked = Asked(
        models=arguments.model,
        microbatch=whole("--microbatch", arguments.microbatch, "4"),
        seq_len=whole("--seq-len", arguments.seq_len, "4096"),
        steps=whole("--steps", arguments.steps, "10") or Asked.steps,
        recompute=arguments.recompute or "none",
        compiled=arguments.compile,
        dtype=arguments.dtype,
        profile=arguments.profile,
        device=arguments.device,
        budget_s=arguments.budget,
    )
    if arguments.out is not None:
        check_file(arguments.out)  # told before the work is done

    def tell(row: Mapping[str, Any]) -> None:
        if arguments.out is not None:
            append(arguments.out, row)
        say(*told(row), to=sys.stderr if arguments.json else None)

    rows = train_here(asked, tell)
    if arguments.json:
        print(json.dumps({"rows": rows}, allow_nan=False))
    else:
        say(closing(rows))
    if any(row["status"] == "wrong" for row in rows):
        return 1
    return 0 if any(row["status"] == "ok" for row in rows) else NothingMeasured.exit_code


def _mixed(arguments: argparse.Namespace) -> int:
    """The table of mixed clusters; it has its own columns."""
    from chipassay.scaling.mixed.validate import validate_mixed

    from ..say import say
    from ..validation import mixed

    for name in ("runs", "chip", "picture"):
        if getattr(arguments, name) is not None:
            raise InputError(f"--{name} is for clusters of one kind of chip; leave it out, or leave out --mixed")
    outcomes = list(validate_mixed())
    if arguments.source is not None:
        outcomes = [outcome for outcome in outcomes if arguments.source.lower() in outcome.run.source.lower()]
        if not outcomes:
            raise InputError(f"--source {arguments.source!r}: no source of the table of mixed clusters holds that text")
    if arguments.out is not None:
        mixed.write_csv(outcomes, arguments.out)
    if arguments.json:
        print(json.dumps([mixed.as_record(outcome) for outcome in outcomes], allow_nan=False))
    else:
        say(mixed.describe(outcomes))
    return 0


def _of_chip(outcomes: Sequence[Outcome], chip_id: str) -> list[Outcome]:
    from chipassay.results.errors import UnknownName

    known = {outcome.chip_id for outcome in outcomes if outcome.chip_id}
    if chip_id not in known:
        raise UnknownName("chip of these runs", chip_id, known)
    return [outcome for outcome in outcomes if outcome.chip_id == chip_id]


def _tell(outcomes: Sequence[Outcome]) -> None:
    import os
    import shutil
    import sys

    from ..validation.table import layout
    from ..validation.words import closing, sections

    on_terminal = sys.stdout.isatty()
    width = max(60, shutil.get_terminal_size().columns) if on_terminal else None
    text = layout(sections(outcomes), closing(outcomes), width, colour=on_terminal and "NO_COLOR" not in os.environ)
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
