"""How many of one chip do the work of another: for one model, each side with its own best plan, with an interval and the evidence.

The cost of each side is its chips times the median of dated quotes (results/data/prices.csv), or times the price that --price gives.
"""

from __future__ import annotations

import argparse
import json
import re

from chipassay.results.errors import InputError

from ..say import say
from .price_argument import add_price_argument

HELP = "how many of one chip replace another"

REFERENCE = re.compile(r"(\d+)x([^@]+)(?:@(.+))?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="COUNTxCHIP[@FABRIC]", help="what is to be replaced, for example 100xh100-sxm-80gb")
    parser.add_argument("--in", dest="others", required=True, metavar="CHIP[@FABRIC],...", help="in which chips, or profiles (.json)")
    parser.add_argument("--model", required=True, metavar="M", help="a preset (llama3-8b, gpt3-175b, ...) or a Hugging Face config.json")
    parser.add_argument("--batch", type=int, metavar="N", help="sequences per step (default: the model's usual)")
    add_price_argument(parser)


def execute(arguments: argparse.Namespace) -> int:
    from chipassay.results.prices import read_overrides
    from chipassay.scaling.cluster import resolve_profile
    from chipassay.scaling.cost import describe_costs, exchange_costs
    from chipassay.scaling.exchange import exchange_rate
    from chipassay.scaling.models import load_model
    from chipassay.scaling.text import describe_exchange

    match = REFERENCE.fullmatch(arguments.reference)
    if match is None:
        raise InputError(f"{arguments.reference!r} is not COUNTxCHIP[@FABRIC]; write for example 100xh100-sxm-80gb")
    count, chip, fabric = int(match[1]), match[2], match[3]
    model, reference = load_model(arguments.model), resolve_profile(chip)
    others = []
    for other in (part.strip() for part in arguments.others.split(",")):
        if "+" in other:
            raise InputError(f"{other!r}: a mix of chips is not modelled yet; name one chip at a time, joined by commas")
        name, _, other_fabric = other.partition("@")
        others.append((resolve_profile(name), other_fabric or None))
    overrides = read_overrides(arguments.price, [reference.chip_id, *(profile.chip_id for profile, _ in others)])
    found = [
        exchange_rate(model, reference, count, profile, global_batch=arguments.batch, reference_fabric=fabric, other_fabric=other_fabric)
        for profile, other_fabric in others
    ]
    costs = [exchange_costs(exchange, overrides) for exchange in found]
    if arguments.json:
        told = [
            {**exchange.to_dict(), "costs": [None if cost is None else cost.to_dict() for cost in pair]}
            for exchange, pair in zip(found, costs, strict=True)
        ]
        print(json.dumps(told, default=str))
    else:
        sides = [f"{describe_exchange(exchange)}\n{describe_costs(exchange, pair)}" for exchange, pair in zip(found, costs, strict=True)]
        say("\n\n".join(sides))
    return 0
