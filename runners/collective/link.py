"""What a collective put on the link, and whether the link can carry that."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chipassay.collectives.algorithm import UNKNOWN, algorithm_from_log, known_algorithm
from chipassay.collectives.wire import least_wire_bytes, wire_bytes
from chipassay.results.catalogue import load_chips

TOLERANCE = 1.02
"""Makers round a link's rate to two or three digits."""
ABOVE_LINK = "above the link's rate"
LOGGED = "NCCL logged each call while it was timed"
LOG_TAIL_BYTES = 2**18
"""Of NCCL's log: the calls just made stand at its end."""


def link_bytes_per_s(chip_id: str, ranks: int, nodes: int) -> float | None:
    """What the chip's link carries one way by the catalogue; None where it is unknown or does not join all of so many ranks.

    >>> link_bytes_per_s("no such chip", 2, 1) is None
    True
    """
    chip = load_chips().get(chip_id)
    if chip is None or nodes > 1 or chip.link_domain_size is None or ranks > chip.link_domain_size:
        return None
    return chip.link_bytes_per_s_one_way


def wire_columns(
    op: str, backend: str | None, ranks: int, size_bytes: int, time_s: float, environ: Mapping[str, str], versions: Mapping[str, str]
) -> dict[str, Any]:
    """The columns ``algorithm`` and ``wire_bytes_per_s``.

    ``versions``: of the libraries, by name; NCCL's decides whether it obeys its environment.
    """
    parts = versions.get("nccl", "").split(".")
    version = tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else None
    algorithm = known_algorithm(backend or "", op, environ, version)
    if algorithm == UNKNOWN and (log := nccl_log(environ)) is not None:
        algorithm = algorithm_from_log(_tail(log)).get((op, size_bytes), UNKNOWN)
    carried = wire_bytes(op, algorithm, ranks, size_bytes)
    return {"algorithm": algorithm, "wire_bytes_per_s": None if carried is None else carried / time_s}


def nccl_log(environ: Mapping[str, str]) -> Path | None:
    """Where NCCL writes in this process what it chooses for each call; None: it does not (NCCL user guide, NCCL_DEBUG and following).

    >>> nccl_log({"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "TUNING,COLL", "NCCL_DEBUG_FILE": "/tmp/nccl.log"}).name
    'nccl.log'
    """
    subsystems = environ.get("NCCL_DEBUG_SUBSYS", "").upper().split(",")
    if environ.get("NCCL_DEBUG", "").upper() not in ("INFO", "TRACE") or not {"TUNING", "ALL"} & set(subsystems):
        return None
    name = environ.get("NCCL_DEBUG_FILE")
    return None if not name else Path(name.replace("%h", platform.node().split(".")[0]).replace("%p", str(os.getpid())))


def _tail(path: Path) -> str:
    """The end of the log; nothing where it cannot be read."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode("utf-8", "replace")
    except OSError:
        return ""


def above_link(op: str, ranks: int, size_bytes: int, time_s: float, wire_bytes_per_s: float | None, link: float | None) -> bool:
    """Whether the link cannot have carried it: what the algorithm puts on it, or the least that any could.

    >>> above_link("all_reduce", 8, 10**9, 1e-3, None, 450e9), above_link("all_reduce", 8, 10**9, 1e-2, None, 450e9)
    (True, False)
    """
    least = least_wire_bytes(op, ranks, size_bytes) / time_s
    return link is not None and max(least, wire_bytes_per_s or 0.0) > TOLERANCE * link
