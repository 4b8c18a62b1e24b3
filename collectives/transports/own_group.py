"""Transports whose groups are made by their members alone, once, and kept until the transport is closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ..communicator import Communicator
from ..transport import Site


class OwnGroup(ABC):
    """What such transports share: this rank's group among disjoint ones, made at the first call."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._groups: dict[tuple[tuple[int, ...], ...], Any] = {}

    def group(self, members: Sequence[Sequence[int]]) -> Communicator | None:
        key = tuple(tuple(sorted(each)) for each in members)
        if key not in self._groups:
            own = [each for each in key if self._site.rank in each]
            self._groups[key] = self._made(own[0]) if own else None
        return self._groups[key]

    @abstractmethod
    def _made(self, members: tuple[int, ...]) -> Any:
        """A communicator of these ranks of the job, with ``close``; all of them call it at the same time."""

    def close(self) -> None:
        for group in self._groups.values():
            if group is not None:
                group.close()
        self._groups.clear()
