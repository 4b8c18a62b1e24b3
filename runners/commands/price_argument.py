"""The option that tells a command what a chip costs."""

from __future__ import annotations

import argparse


def add_price_argument(parser: argparse.ArgumentParser) -> None:
    """``--price CHIP=USD``, once per chip; ``chipassay.results.prices.read_overrides`` reads it."""
    told = "what an hour of one chip costs, in the place of the quotes of results/data/prices.csv; once per chip"
    parser.add_argument("--price", action="append", default=[], metavar="CHIP=USD", help=told)
