"""How many of one chip do the work of another: for one model, each side with its own best plan, with an interval and the evidence."""

from __future__ import annotations

import argparse
import json
import re

from chipassay.results.errors import InputError

from ..say import say

HELP = "how many of one chip replace another"

REFERENCE = re.compile(r"(\d+)x([^@]+)(?:@(.+))?")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", metavar="COUNTxCHIP[@FABRIC]", help="what is to be replaced, for example 100xh100-sxm-80gb")
    parser.add_argument("--in", dest="others", required=True, metavar="CHIP[@FABRIC],...", help="in which chips, or profiles (.json)")
    parser.add_argument("--model", required=True, metavar="M", help="a preset (llama3-8b, gpt3-175b, ...) or a Hugging Face config.json")
    parser.add_argument("--batch", type=int, metavar="N", help="sequences per step (default: the model's usual)")


def execute(arguments: argparse.Namespace) -> int:
    from chipassay.scaling.exchange import exchange_rate
    from chipassay.scaling.models import load_model
    from chipassay.scaling.text import describe_exchange

    match = REFERENCE.fullmatch(arguments.reference)
    if match is None:
        raise InputError(f"{arguments.reference!r} is not COUNTxCHIP[@FABRIC]; write for example 100xh100-sxm-80gb")
    count, chip, fabric = int(match[1]), match[2], match[3]
    model = load_model(arguments.model)
    found = []
    for other in (part.strip() for part in arguments.others.split(",")):
        if "+" in other:
            raise InputError(f"{other!r}: a mix of chips is not modelled yet; name one chip at a time, joined by commas")
        name, _, other_fabric = other.partition("@")
        found.append(
            exchange_rate(
                model, chip, count, name, global_batch=arguments.batch, reference_fabric=fabric, other_fabric=other_fabric or None
            )
        )
    if arguments.json:
        print(json.dumps([exchange.to_dict() for exchange in found], default=str))
    else:
        say("\n\n".join(describe_exchange(exchange) for exchange in found))
    return 0
