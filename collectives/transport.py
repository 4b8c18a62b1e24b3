"""A transport: one library that moves data between ranks, what it can carry, and why not the rest."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .communicator import Communicator


@dataclass(frozen=True)
class Ask:
    """What is asked of a transport: one pattern in one dtype, launched one way."""

    pattern: str
    reduces: bool
    dtype: str
    in_place: bool
    launch: str
    """``call`` (on a CPU), ``stream`` or ``graph``."""
    device_kind: str
    """``cpu``, ``cuda``, ``rocm``."""
    compute_capability: tuple[int, int] | None = None
    """Of an NVIDIA chip, where it is known."""


def nccl_lacks_sums(ask: Ask) -> str | None:
    """Why NCCL or RCCL cannot add up in the dtype, whoever calls it; None: it can.

    NCCL: its user guide, "Types", and src/enqueue.cc, which refuses below SM 90. RCCL: ROCm/rccl src/include/rccl_float8.h.
    """
    if not (ask.reduces and ask.dtype.startswith("fp8")):
        return None
    if ask.device_kind == "rocm":
        return "RCCL adds up 8-bit floats in a format that depends on the chip (fnuz on gfx942)"
    if ask.device_kind == "cuda" and ask.compute_capability is not None and ask.compute_capability < (9, 0):
        return "NCCL adds up 8-bit floats from compute capability 9.0 on"
    return None


@dataclass(frozen=True)
class Site:
    """Where a transport is opened: one rank of the whole job, on its device. torch.distributed's default group is there already."""

    rank: int
    ranks: int
    device_kind: str
    device: str
    """torch's name of this rank's device: ``cpu``, ``cuda:0``."""
    share: Callable[[bytes | None, Sequence[int]], bytes] = field(repr=False)
    """(message, members) -> the message of the first of the members, on each of them, over the control channel; the others give None.
    Only the members call it."""
    timeout_s: float | None = None
    """How long a rank may wait for the others in one call; None: the library's own default."""


class Opened(Protocol):
    """A transport that is ready on this rank."""

    def group(self, members: Sequence[Sequence[int]]) -> Communicator | None:
        """The communicator of the one of these disjoint groups that this rank is in; None if it is in none.

        Every rank of the job calls it with the same groups; the same groups again give the same communicators. Ranks within a group
        rise with the ranks in the job, in whatever order they are written: torch.distributed numbers them so.
        """

    def versions(self) -> dict[str, str]:
        """Libraries and their versions, for the row."""

    def close(self) -> None:
        """Give everything back. A transport on which something failed is never closed: its process ends instead."""


@dataclass(frozen=True)
class Transport:
    """One library that carries collectives.

    ``name`` is what stands in the row's ``kernel`` before the pattern's name: ``torch.distributed``, ``cupy.nccl``, ``mpi4py``.
    """

    name: str
    backend: Callable[[str], str | None]
    """device kind -> the row's ``backend``: what carries the bytes (``gloo``, ``nccl``, ``rccl``, ``mpi``); None: not for such devices."""
    missing: Callable[[str], str | None]
    """device kind -> why it cannot be used on this machine, with the mend; None: it can. Imports nothing heavy."""
    lacks: Callable[[Ask], str | None]
    """Why it cannot carry this, in one sentence; None: it can, as far as its documentation tells."""
    open: Callable[[Site], Opened]
    """Make it ready. Every rank of the job calls it at the same time."""


_TRANSPORTS: dict[str, Transport] = {}


def register(transport: Transport) -> Transport:
    """Make a transport known by its name."""
    _TRANSPORTS[transport.name] = transport
    return transport


def transports() -> dict[str, Transport]:
    """All transports by name: every module of ``transports/`` is looked at."""
    package = importlib.import_module(f"{__package__}.transports")
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
    return dict(sorted(_TRANSPORTS.items()))
