"""The option that asks what would be if a chip had another link, network, memory or power."""

from __future__ import annotations

import argparse


def add_link_argument(parser: argparse.ArgumentParser) -> None:
    """``--link CHIP.FIELD=VALUE``, more than once; ``chipassay.scaling.what_if.parse_changes`` reads it."""
    told = (
        "what if: CHIP.scaleup=450GB/s (one way per chip; datasheets' both ways: 900GB/s-both), .nics=4, .nic=400Gb/s, "
        ".oversubscription=2, .memory=141GiB, .bandwidth=4.8TB/s or .power=500W; once per change"
    )
    parser.add_argument("--link", action="append", default=[], metavar="CHIP.FIELD=VALUE", help=told)
