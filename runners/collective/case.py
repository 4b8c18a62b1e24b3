"""A request as one rank sees it, and how a measurement ends on all ranks where one cannot go on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from chipassay.collectives.communicator import Communicator
from chipassay.collectives.pattern import Pattern, patterns

from ..measure_kernel import OUT_OF_MEMORY
from .buffers import Layout, torch_dtype
from .control import Control
from .request import CollectiveRequest


class Ended(Exception):
    """The measurement ends here, on every rank, with the columns of its row."""

    def __init__(self, status: str, reason: str, **columns: Any) -> None:
        super().__init__(reason)
        self.columns = {**columns, "status": status, "reason": reason[:500]}


def end_together(control: Control, problem: str, status: str) -> None:
    """Raises Ended on all ranks where one of them has a problem (an empty text: none); out of memory by the words of it."""
    problems = {rank: text for rank, text in enumerate(control.texts(problem)) if text}
    if problems:
        rank, text = next(iter(problems.items()))
        no_memory = any(part in text.lower() for part in ("memoryerror", *OUT_OF_MEMORY))
        raise Ended("out_of_memory" if no_memory else status, f"rank {rank}: {text}")


def words_of(error: Exception) -> str:
    """What went wrong, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]


@dataclass(frozen=True)
class Case:
    """A request as this rank sees it."""

    request: CollectiveRequest
    pattern: Pattern
    communicator: Communicator | None
    """None: the rank is in no group."""
    layout: Layout
    participants: tuple[int, ...]
    """Ranks of the job that are in a group, in the order of the groups."""

    @classmethod
    def of(cls, request: CollectiveRequest, communicator: Communicator | None) -> Case:
        """The case that ``request`` is for a rank with this communicator."""
        pattern, group_size = patterns()[request.op], len(request.members[0])
        elements = pattern.elements(request.size_bytes, torch_dtype(request.dtype).itemsize, group_size)
        rank = 0 if communicator is None else communicator.rank
        layout = Layout(pattern, rank, group_size, elements, request.dtype, request.in_place)
        return cls(request, pattern, communicator, layout, tuple(itertools.chain.from_iterable(request.members)))

    @property
    def size_bytes(self) -> int:
        return self.layout.elements * self.layout.itemsize

    @property
    def flops(self) -> float:
        """Of the product beside it."""
        beside = self.request.beside or {}
        return 2.0 * beside["m"] * beside["n"] * beside["k"]

    @property
    def product_is_timed(self) -> bool:
        return self.request.beside is not None and self.request.timed == "beside"
