"""Predict a training step: time, tokens per second, MFU, memory, the breakdown, and what it all rests on.

Without --plan the best plan is searched for. A measured profile .json may stand in the place of a chip id: 64xresults/mine.json
"""

from __future__ import annotations

import argparse
import json

from chipassay.results.errors import InputError

from ..say import say

HELP = "how long a training step takes on a cluster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="M", help="a preset (llama3-8b, gpt3-175b, ...) or a Hugging Face config.json")
    parser.add_argument("--cluster", required=True, metavar="C", help="COUNTxCHIP[@FABRIC], for example 64xh100-sxm-80gb@ndr400x8")
    parser.add_argument("--plan", metavar="P", help="how the work is split, for example tp=8,pp=2,dp=4,microbatch=1 (default: the best)")
    parser.add_argument("--batch", type=int, metavar="N", help="sequences per step over the whole cluster (default: the model's usual)")
    parser.add_argument("--tokens", type=float, metavar="N", help="also: days for this many tokens, for example 300e9")


def execute(arguments: argparse.Namespace) -> int:
    from chipassay.scaling.cluster import parse_cluster
    from chipassay.scaling.models import load_model
    from chipassay.scaling.plan_text import parse_plan
    from chipassay.scaling.predict import predict
    from chipassay.scaling.search import best_plan, default_global_batch
    from chipassay.scaling.text import describe_prediction

    if arguments.tokens is not None and not 0 < arguments.tokens < float("inf"):
        raise InputError(f"--tokens {arguments.tokens:g}: give a number of tokens above 0, for example 300e9")
    model, cluster = load_model(arguments.model), parse_cluster(arguments.cluster)
    batch = arguments.batch or default_global_batch(model, cluster.count)
    if arguments.plan is None:
        prediction = best_plan(model, cluster, batch)
    else:
        prediction = predict(model, cluster, parse_plan(arguments.plan, batch))
    days = None if arguments.tokens is None else arguments.tokens / prediction.tokens_per_s / 86400
    if arguments.json:
        print(json.dumps({**prediction.to_dict(), "tokens": arguments.tokens, "days": days}, default=str))
        return 0 if prediction.fits else 1
    say(describe_prediction(prediction))
    if days is not None:
        low, high = (days * bound / prediction.step_time_s for bound in (prediction.low_s, prediction.high_s))
        say(f"{arguments.tokens:.4g} tokens: {days:.3g} days ({low:.3g} to {high:.3g}), without restarts")
    return 0 if prediction.fits else 1
