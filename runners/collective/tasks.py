"""From the collectives a suite wants to tasks: which transport, which ranks, which buffers, and why not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chipassay.collectives.groups import ALL, Members, chosen, words
from chipassay.collectives.pattern import Pattern, patterns
from chipassay.collectives.transport import Ask, Transport, transports
from chipassay.results.units import size

from ..suites import COLLECTIVE_DTYPE_BYTES, Suite, Wanted
from ..tasks import Task
from .request import CollectiveRequest

UNSIZED_DTYPE = "int8"
"""Stands in the row of a barrier, which carries nothing."""
COLLECTIVE_KINDS = ("cpu", "cuda", "rocm")


@dataclass(frozen=True)
class Job:
    """The ranks of a run: what kind of chip each drives and on which node each runs."""

    device_kind: str
    node_of: tuple[int, ...]
    missing: str | None = None
    """Why there are no ranks at all."""

    @property
    def ranks(self) -> int:
        return len(self.node_of)


def collective_tasks(suite: Suite, job: Job, backends: Sequence[str] = ()) -> list[Task]:
    """Tasks for collectives over the ranks of ``job``; each that cannot be made states why.

    ``backends``: only these, named by what carries the bytes (``nccl``), by the transport (``mpi4py``) or by its library (``torch``).
    None given: torch.distributed, and the others only in blocks that name them.
    """
    if job.device_kind not in COLLECTIVE_KINDS:
        return [
            _refused(wanted, f"collectives over {job.device_kind} devices are not measured yet") for wanted in suite.wanted if wanted.ranks
        ]
    tasks: list[Task] = []
    for wanted in suite.wanted:
        if wanted.ranks is None:
            continue
        for transport in transports().values():
            if transport.backend(job.device_kind) is not None and _selected(transport, job.device_kind, backends, wanted):
                tasks += _tasks(wanted, suite, job, transport)
    return tasks


def _selected(transport: Transport, device_kind: str, backends: Sequence[str], wanted: Wanted) -> bool:
    known = {transport.name, transport.name.split(".")[0], transport.backend(device_kind)}
    asked = tuple(backends) or wanted.backends or ("torch.distributed",)
    allowed = wanted.backends is None or bool(known & set(wanted.backends)) or bool(backends)
    return allowed and bool(known & set(asked))


def backend_names(device_kind: str) -> set[str]:
    """The words that ``--backend`` takes for collectives between such devices."""
    found: set[str] = set()
    for transport in transports().values():
        carrier = transport.backend(device_kind)
        if carrier is not None:
            found |= {transport.name, transport.name.split(".")[0], carrier}
    return found


def joins_others_only(backend: str, device_kind: str) -> str | None:
    """Why this backend is none for such devices although it is one for others; None: it is not known at all, or fine.

    >>> joins_others_only("nccl", "cpu")
    'nccl joins cuda devices, and this is cpu; here there are gloo, mpi'
    """
    if backend in backend_names(device_kind):
        return None
    kinds = [kind for kind in COLLECTIVE_KINDS if backend in backend_names(kind)]
    carriers = sorted({carrier for each in transports().values() if (carrier := each.backend(device_kind)) is not None})
    here = f"; here there are {', '.join(carriers)}" if carriers else ""
    return f"{backend} joins {' and '.join(kinds)} devices, and this is {device_kind}{here}" if kinds else None


def _tasks(wanted: Wanted, suite: Suite, job: Job, transport: Transport) -> Iterable[Task]:
    pattern = patterns()[wanted.op]
    if job.missing is not None:
        return [_refused(wanted, job.missing, transport.backend(job.device_kind))]
    groups = chosen(wanted.ranks or ALL, job.node_of, wanted.placement, wanted.at_once)
    if isinstance(groups, str):
        return [_refused(wanted, groups, transport.backend(job.device_kind))]
    return [_task(wanted, suite, job, transport, pattern, members, timed) for members in groups for timed in _timed(wanted)]


def _timed(wanted: Wanted) -> tuple[str, ...]:
    return ("collective",) if wanted.beside is None else ("collective", "beside")


def _task(wanted: Wanted, suite: Suite, job: Job, transport: Transport, pattern: Pattern, members: Members, timed: str) -> Task:
    dtype, cpu = wanted.axes.get("dtype", UNSIZED_DTYPE), job.device_kind == "cpu"
    ranks = len(members[0])
    elements = pattern.elements(wanted.axes.get("size_bytes", 0), COLLECTIVE_DTYPE_BYTES[dtype], ranks)
    size_bytes = elements * COLLECTIVE_DTYPE_BYTES[dtype]
    launch = "call" if cpu else wanted.launch
    carrier = transport.backend(job.device_kind)
    in_place = pattern.in_place is not None if wanted.in_place is None else wanted.in_place
    columns: dict[str, Any] = {
        "op": wanted.op,
        "dtype": dtype,
        "elements": elements,
        "size_bytes": size_bytes,
        "group_size": ranks,
        "members": None if len(members[0]) == job.ranks else words(members),
        # Where it is not defined it says nothing.
        "in_place": in_place if in_place or pattern.in_place is not None else None,
        "backend": carrier,
        "kernel": f"{transport.name}.{wanted.op}",
        "cache": wanted.cache,
        "launch": launch,
    }
    if wanted.beside is not None:
        product = wanted.beside
        shape = f"{product['m']}x{product['n']}x{product['k']}"
        if timed == "collective":
            columns["beside"] = f"matmul {shape} {product['dtype']}"
        else:
            columns = {
                **{name: columns[name] for name in ("members", "group_size", "cache", "launch")},
                "op": "matmul",
                **product,
                "layout": "nn",
                "backend": "torch",
                "kernel": "torch.mm",
                "beside": f"{wanted.op} {size(size_bytes)} {dtype} {carrier}",
            }
    ask = Ask(wanted.op, pattern.reduces, dtype, in_place, launch, job.device_kind)
    reason = transport.missing(job.device_kind) or _unplaced(pattern, wanted) or transport.lacks(ask)
    request = CollectiveRequest(
        op=wanted.op,
        dtype=dtype,
        size_bytes=wanted.axes.get("size_bytes", 0),
        transport=transport.name,
        members=members,
        in_place=in_place,
        launch=launch,
        cache=wanted.cache,
        seed=0,
        min_time_s=suite.min_time_s,
        time_cap_s=math.inf,
        beside=wanted.beside,
        timed=timed,
    )
    return Task(columns=columns, request=asdict(request), ranks=job.ranks, reason=reason)


def _unplaced(pattern: Pattern, wanted: Wanted) -> str | None:
    return f"{pattern.name} is not defined in place" if wanted.in_place and pattern.in_place is None else None


def _refused(wanted: Wanted, reason: str, backend: str | None = None) -> Task:
    """The row of a case that has no ranks: all that is known of it is what the suite says."""
    columns = {
        "op": wanted.op,
        "dtype": wanted.axes.get("dtype", UNSIZED_DTYPE),
        "size_bytes": wanted.axes.get("size_bytes", 0),
        "in_place": wanted.in_place,
        "backend": backend,
        "cache": wanted.cache,
        "group_size": wanted.ranks if isinstance(wanted.ranks, int) else None,
        "members": wanted.ranks if wanted.ranks == "pairs" else None,
    }
    return Task(columns=columns, request={"min_time_s": 0.0}, ranks=2, reason=reason)
