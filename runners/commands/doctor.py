"""Say what can be measured on this machine, with which backend, and for each backend that cannot run here the reason and the mend."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..say import say

if TYPE_CHECKING:
    from ..devices.facts import DeviceFacts

HELP = "what this machine can measure, and why not the rest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=["cpu"], help="look at the CPU although a GPU is there")


def execute(arguments: argparse.Namespace) -> int:
    from ..examine import collective_reasons, examine

    facts, backends = examine(arguments.device)
    collectives = collective_reasons(facts)
    if arguments.json:
        print(json.dumps({"facts": facts.to_dict(), "backends": backends, "collectives": collectives}))
    else:
        say(*_lines(facts), "backends", *_verdicts(backends), "collectives", *_verdicts(collectives))
        say(f"python {sys.version.split()[0]}; measure with: chipassay bench")
    return 0 if any(reason is None for reason in backends.values()) else 3


def _lines(facts: DeviceFacts) -> Iterable[str]:
    from chipassay.results.units import rate, size

    if facts.kind == "cpu":
        yield f"{facts.name}, {facts.threads} cores: no GPU is seen, the CPU would be measured"
    else:
        yield f"{facts.count} x {facts.name} ({facts.kind})"
    yield f"  chip id  {facts.chip_id}"
    yield f"  memory   {size(facts.memory_bytes)}, last-level cache {size(facts.cache_bytes)}"
    yield f"  driver   {facts.driver}"
    if facts.clock is not None:
        yield f"  clock    {facts.clock}"
    sources: dict[str, list[str]] = {}
    for dtype, peak in sorted(facts.peak_flops_per_s.items()):
        sources.setdefault(f"{peak.evidence.level}: {peak.evidence.source}", []).append(f"{dtype} {rate(peak.value)}")
    for source, peaks in sources.items():
        yield f"  peaks    {', '.join(peaks)}"
        yield f"           {source}"
    for note in facts.notes:
        yield f"  note     {note}"


def _verdicts(reasons: Mapping[str, str | None]) -> Iterable[str]:
    width = max(map(len, reasons), default=0)
    for name, reason in reasons.items():
        yield f"  {'no ' if reason else 'yes'} {name:<{width}} {reason or ''}".rstrip()
