"""List the chips of the catalogue with their datasheet peaks, or show the profile that is used for one of them."""

from __future__ import annotations

import argparse
import json

from ..say import say

HELP = "the chips that ship with a profile"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("chip", nargs="?", metavar="CHIP", help="show this chip's profile with the evidence of each number")


def execute(arguments: argparse.Namespace) -> int:
    from chipassay.results.catalogue import load_chips
    from chipassay.results.published import profile_from_catalogue

    from ..show import profile_lines

    if arguments.chip is not None:
        profile = profile_from_catalogue(arguments.chip)
        if arguments.json:
            print(profile.to_json())
        else:
            say(*profile_lines(profile))
        return 0
    chips = load_chips()
    if arguments.json:
        print(json.dumps({chip.id: {"name": chip.name, "peak_flops_per_s": dict(chip.peak_flops_per_s)} for chip in chips.values()}))
        return 0
    width = max(map(len, chips))
    print(f"{'chip':<{width}}  {'bf16 or fp16':>13}  {'memory':>8}  {'bandwidth':>10}  {'link one way':>12}   (dense datasheet figures)")
    for chip in chips.values():
        peak = chip.peak_flops_per_s.get("bf16") or chip.peak_flops_per_s.get("fp16")
        cells = (
            f"{peak / 1e12:.0f} TFLOP/s" if peak else "unknown",
            f"{chip.memory_bytes / 1e9:.0f} GB" if chip.memory_bytes else "unknown",
            f"{chip.memory_bandwidth_bytes_per_s / 1e9:.0f} GB/s" if chip.memory_bandwidth_bytes_per_s else "unknown",
            f"{chip.link_bytes_per_s_one_way / 1e9:.0f} GB/s" if chip.link_bytes_per_s_one_way else "none known",
        )
        print(f"{chip.id:<{width}}  {cells[0]:>13}  {cells[1]:>8}  {cells[2]:>10}  {cells[3]:>12}")
    return 0
