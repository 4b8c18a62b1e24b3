"""What supervisors tell each other: JSON under keys of torch's TCPStore. Rank 0 gives orders, all tell how they are."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from chipassay.results.errors import NothingMeasured

from .addresses import listening
from .environment import Launch

LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"
"""Of torch's C++ side, read when it is loaded."""


class BoardLost(Exception):
    """The store no longer answers: rank 0 has ended."""


class Board:
    """One supervisor's end. Every supervisor must read the orders in turn."""

    def __init__(self, store: Any, launch: Launch) -> None:
        self._store, self._rank, self._ranks = store, launch.rank, launch.ranks
        self.prefix = f"chipassay/{launch.attempt}"
        """Of all keys: torchrun's agent keeps keys of its own in the same store."""
        self._orders = 0

    def order(self, message: Mapping[str, Any]) -> None:
        """Rank 0: the next order to all others."""
        self._set(f"order/{self._orders}", message)
        self._orders += 1

    def next_order(self, timeout_s: float) -> dict[str, Any] | None:
        """The next order, as soon as it is given; None if none is in time. Raises BoardLost."""
        key = f"{self.prefix}/order/{self._orders}"
        try:
            self._store.wait([key], timedelta(seconds=timeout_s))
        except RuntimeError:
            # Nothing yet, or nobody there: a question that needs no waiting tells.
            if not self._try(lambda: self._store.check([key])):
                return None
        self._orders += 1
        return json.loads(self._try(lambda: self._store.get(key)))

    def tell(self, kind: str, message: Mapping[str, Any]) -> None:
        """What this rank says of itself, in place of what it said before. Raises BoardLost."""
        self._set(f"{kind}/{self._rank}", message)

    def told(self, kind: str, ranks: Sequence[int] | None = None) -> dict[int, dict[str, Any]]:
        """What these ranks (None: all) said; all must have said something. Raises BoardLost."""
        asked = range(self._ranks) if ranks is None else ranks
        keys = [f"{self.prefix}/{kind}/{rank}" for rank in asked]
        values = self._try(lambda: self._store.multi_get(keys)) if keys else []
        return {rank: json.loads(value) for rank, value in zip(asked, values, strict=True)}

    def silent(self, kind: str, ranks: Sequence[int]) -> list[int]:
        """Those of the ranks that have not said anything of this kind. Raises BoardLost."""
        return [rank for rank in ranks if not self._try(partial(self._store.check, [f"{self.prefix}/{kind}/{rank}"]))]

    def _set(self, key: str, message: Mapping[str, Any]) -> None:
        self._try(lambda: self._store.set(f"{self.prefix}/{key}", json.dumps(message)))

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except RuntimeError as error:
            raise BoardLost(str(error).splitlines()[0]) from error


def open_board(launch: Launch, wait_s: float) -> Board:
    """The board of the job: rank 0 hosts it, unless torchrun's agent does.

    Raises InputError where rank 0 cannot listen, NothingMeasured where it is not reached within ``wait_s``.
    """
    # The first ranks knock before rank 0 listens, which is no news; and what ends in an error is said below in one sentence, without
    # torch's pages of C++ frames.
    os.environ.setdefault(LOG_LEVEL, "FATAL")
    try:
        from torch.distributed import TCPStore
    except ImportError as error:
        raise NothingMeasured("collectives need torch: install chipassay[torch] on every host") from error

    timeout = timedelta(seconds=wait_s)
    address, port = launch.master_address, launch.master_port
    if launch.rank == 0 and not launch.agent_store:
        server = listening(address, port, launch.several_hosts)
        store = TCPStore(address, port, is_master=True, wait_for_workers=False, timeout=timeout, master_listen_fd=server.detach())
        return Board(store, launch)
    try:
        return Board(TCPStore(address, port, is_master=False, timeout=timeout), launch)
    except RuntimeError as error:
        raise NothingMeasured(
            f"rank {launch.rank} of {launch.ranks} did not reach rank 0 at {address}, port {port} within {wait_s:.0f} s; "
            "start it too, and let hosts reach each other there"
        ) from error
