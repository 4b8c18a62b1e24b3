"""Predict a training step: time, tokens per second, MFU, memory, the breakdown, and what it all rests on.

Without --plan the best plan is searched for. A measured profile .json may stand in the place of a chip id: 64xresults/mine.json
The cost is chips times the median of dated quotes (results/data/prices.csv), or times the price that --price gives.
"""

from __future__ import annotations

import argparse
import json

from chipassay.results.errors import InputError

from ..say import say
from .price_argument import add_price_argument

HELP = "how long a training step takes on a cluster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="M", help="a preset (llama3-8b, gpt3-175b, ...) or a Hugging Face config.json")
    parser.add_argument("--cluster", required=True, metavar="C", help="COUNTxCHIP[@FABRIC], for example 64xh100-sxm-80gb@ndr400x8")
    parser.add_argument("--plan", metavar="P", help="how the work is split, for example tp=8,pp=2,dp=4,microbatch=1 (default: the best)")
    parser.add_argument("--batch", type=int, metavar="N", help="sequences per step over the whole cluster (default: the model's usual)")
    parser.add_argument("--tokens", type=float, metavar="N", help="also: days for this many tokens, for example 300e9")
    add_price_argument(parser)


def execute(arguments: argparse.Namespace) -> int:
    from chipassay.results.prices import price_of, read_overrides
    from chipassay.scaling.cluster import parse_cluster
    from chipassay.scaling.cost import cost_of, describe_cost, describe_no_price
    from chipassay.scaling.models import load_model
    from chipassay.scaling.plan_text import parse_plan
    from chipassay.scaling.predict import predict
    from chipassay.scaling.search import best_plan, default_global_batch
    from chipassay.scaling.text import describe_prediction

    if arguments.tokens is not None and not 0 < arguments.tokens < float("inf"):
        raise InputError(f"--tokens {arguments.tokens:g}: give a number of tokens above 0, for example 300e9")
    model, cluster = load_model(arguments.model), parse_cluster(arguments.cluster)
    chip_ids = [group.profile.chip_id for group in cluster.groups]
    overrides = read_overrides(arguments.price, chip_ids)
    batch = arguments.batch or default_global_batch(model, cluster.count)
    if arguments.plan is None:
        prediction = best_plan(model, cluster, batch)
    else:
        prediction = predict(model, cluster, parse_plan(arguments.plan, batch))
    days = None if arguments.tokens is None else arguments.tokens / prediction.tokens_per_s / 86400
    price = price_of(chip_ids[0], overrides)
    cost = None if price is None else cost_of(prediction, price)
    if arguments.json:
        costs = None if cost is None else cost.to_dict()
        print(json.dumps({**prediction.to_dict(), "tokens": arguments.tokens, "days": days, "cost": costs}, default=str))
        return 0 if prediction.fits else 1
    say(describe_prediction(prediction))
    say(describe_no_price(chip_ids[0]) if cost is None else describe_cost(cost))
    if days is not None:
        low, high = (days * bound / prediction.step_time_s for bound in (prediction.low_s, prediction.high_s))
        say(f"{arguments.tokens:.4g} tokens: {days:.3g} days ({low:.3g} to {high:.3g}), without restarts")
    if days is not None and cost is not None:
        rates = (cost.usd_per_million_tokens, cost.usd_per_million_tokens_low, cost.usd_per_million_tokens_high)
        total, low, high = (arguments.tokens / 1e6 * usd for usd in rates)
        say(f"  that is {total:,.4g} USD" + (f" ({low:,.4g} to {high:,.4g} by quote)" if low < high else ""))
    return 0 if prediction.fits else 1
