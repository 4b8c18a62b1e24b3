"""Whether the ranks of a job are alike in what a measurement depends on: asked before anything is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ALIKE = {
    "chipassay": "install the same version on every host",
    "torch": "install the same version on every host",
    "kind": "see `chipassay doctor` on that host, or measure with --device cpu on all",
    "nccl": "install the same version on every host",
    "chip": "measure each kind of chip in a job of its own",
}
"""What must be the same on all ranks, and the mend."""
WORDS = {"kind": "a device of kind", "chip": "chip"}


def different_asks(present: Mapping[int, Mapping[str, Any]]) -> str | None:
    """What a rank's command line asks for that rank 0's does not, with the mend; None: nothing.

    >>> different_asks({0: {"node": "aa", "asked": {"backend": "gloo"}}, 1: {"node": "bb", "asked": {"backend": ""}}})
    'rank 1 (host bb) was started without --backend, rank 0 (host aa) with --backend gloo; give all ranks the same command'
    """
    first = present[0]
    for rank, other in present.items():
        for name, value in first["asked"].items():
            if other["asked"].get(name) != value:
                there, here = _given(name, other["asked"].get(name)), _given(name, value)
                return (
                    f"rank {rank} (host {other['node']}) was started {there}, rank 0 (host {first['node']}) {here}; "
                    "give all ranks the same command"
                )
    return None


def _given(name: str, value: str | None) -> str:
    return f"with --{name} {value}" if value else f"without --{name}"


def different_hellos(hellos: Mapping[int, Mapping[str, Any]], share_gpu: bool = False) -> str | None:
    """In what a rank differs from rank 0, or which two drive one chip, with the mend; None: all is well."""
    first = _compared(hellos[0])
    for rank, hello in hellos.items():
        for name, value in _compared(hello).items():
            if value != first[name]:
                words = WORDS.get(name, name)
                return (
                    f"rank {rank} (host {hello['host']}) has {words} {value}, rank 0 (host {hellos[0]['host']}) {words} {first[name]}; "
                    f"{ALIKE[name]}"
                )
    seen: dict[tuple[str, str], int] = {}
    for rank, hello in hellos.items():
        if hello["chip"] is None or share_gpu:
            continue
        other = seen.setdefault((hello["host"], hello["chip"]), rank)
        if other != rank:
            return f"ranks {other} and {rank} drive the same GPU of host {hello['host']}; start one rank per GPU"
    return None


def _compared(hello: Mapping[str, Any]) -> dict[str, Any]:
    facts = hello["facts"]
    # CPUs stand for nothing but themselves: hosts may differ in how many cores are lent.
    chip = None if facts["kind"] == "cpu" else facts["chip_id"]
    return {"chipassay": hello["chipassay"], "torch": hello["torch"], "kind": facts["kind"], "nccl": hello["nccl"], "chip": chip}


def missing_transports(hellos: Mapping[int, Mapping[str, Any]]) -> dict[str, str]:
    """Transports that a rank lacks, by name, and why."""
    found: dict[str, str] = {}
    for rank, hello in hellos.items():
        for name, reason in hello["missing"].items():
            if reason is not None:
                found.setdefault(name, f"rank {rank}: {reason}")
    return found
