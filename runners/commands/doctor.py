"""Say what can be measured on this machine, with which backend, and for each backend that cannot run here the reason and the mend."""

from __future__ import annotations

import argparse
import json
import sys

HELP = "what this machine can measure, and why not the rest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=["cpu"], help="look at the CPU although a GPU is there")


def execute(arguments: argparse.Namespace) -> int:
    from chipassay.results.units import rate, size

    from ..devices.facts import DeviceFacts
    from ..examine import collective_reasons, examine

    facts, backends = examine(arguments.device)
    collectives = collective_reasons(facts)
    if arguments.json:
        print(json.dumps({"facts": facts.to_dict(), "backends": backends, "collectives": collectives}))
        return _code(backends)
    print(_headline(facts))
    print(f"  chip id    {facts.chip_id}")
    print(f"  memory     {size(facts.memory_bytes)}, last-level cache {size(facts.cache_bytes)}")
    print(f"  driver     {facts.driver}")
    for dtype, peak in sorted(facts.peak_flops_per_s.items()):
        print(f"  peak       {dtype} {rate(peak.value)} ({peak.evidence.level}: {peak.evidence.source})")
    for note in facts.notes:
        print(f"  note       {note}")
    print("backends")
    for backend, reason in backends.items():
        print(f"  {'no ' if reason else 'yes'} {backend:<8} {reason or ''}".rstrip())
    print("collectives")
    for transport, reason in collectives.items():
        print(f"  {'no ' if reason else 'yes'} {transport:<8} {reason or ''}".rstrip())
    print(f"python {sys.version.split()[0]}; measure with: chipassay bench")
    assert isinstance(facts, DeviceFacts)
    return _code(backends)


def _headline(facts: object) -> str:
    from ..devices.facts import DeviceFacts

    assert isinstance(facts, DeviceFacts)
    if facts.kind == "cpu":
        return f"{facts.name}, {facts.threads} cores: no GPU is seen, the CPU would be measured"
    return f"{facts.count} x {facts.name} ({facts.kind})"


def _code(backends: dict[str, str | None]) -> int:
    return 0 if any(reason is None for reason in backends.values()) else 3
