"""What every supervisor but rank 0's does: start and stop its rank as it is told, and tell how it is."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import Any

from chipassay.results.errors import NothingMeasured

from .board import Board, BoardLost
from .ward import Ward

BEAT_S = 1.0
"""A supervisor says so often how its rank is: some two small messages a second and rank while others measure."""
LOST_S = 20.0
"""A supervisor whose board does not answer for so long ends, and its rank with it: a host that is cut off learns nothing else."""


class Watchdog:
    """Ends this process and its rank when nothing was heard for LOST_S: a call to a host that is gone may never return."""

    def __init__(self, ward: Ward, rank: int, limit_s: float = LOST_S) -> None:
        self._ward, self._rank, self._limit_s = ward, rank, limit_s
        self._heard_s = time.monotonic()
        self._over = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def heard(self) -> None:
        self._heard_s = time.monotonic()

    def end(self) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(BEAT_S):
            if time.monotonic() - self._heard_s > self._limit_s:
                self._ward.leave()
                print(f"chipassay: rank {self._rank}: rank 0's host does not answer for {self._limit_s:.0f} s", file=sys.stderr, flush=True)
                os._exit(NothingMeasured.exit_code)


def follow(board: Board, ward: Ward, asked: dict[str, Any], rank: int) -> tuple[int, str | None]:
    """Obey rank 0 until it ends the job: the exit code, and the error in words.

    ``asked``: what this process's command line asks for that must be the same on all ranks. Raises NothingMeasured when rank 0 goes
    without a word.
    """
    watchdog = Watchdog(ward, rank)
    try:
        board.tell("status", ward.status())
        board.tell("here", {**ward.present, "asked": asked})
        while True:
            order = board.next_order(BEAT_S)
            watchdog.heard()
            if order is not None and "end" in order:
                ward.stop()
                board.tell("bye", {})
                return order["end"]["code"], order["end"]["words"]
            if order is not None:
                obey(order, ward)
            answer = ward.answer(0.0)
            if answer is not None and "hello" in answer:
                board.tell(f"hello/{ward.generation}", answer["hello"])
            board.tell("status", ward.status())
    except BoardLost as error:
        raise NothingMeasured(f"rank {rank}: rank 0 has ended without a word ({error})") from error
    except KeyboardInterrupt:
        with contextlib.suppress(BoardLost):
            board.tell("status", {**ward.status(), "left": True})
            board.tell("bye", {})
        raise
    finally:
        watchdog.end()
        ward.leave()


def obey(order: dict[str, Any], ward: Ward) -> None:
    """One order of rank 0's: ``start`` a generation, ``meet``, ``kill``, or ``ask`` the rank to measure."""
    if "start" in order:
        ward.start(order["start"], order)
    elif "meet" in order:
        ward.meet()
    elif "kill" in order:
        ward.kill()
    else:
        ward.send(order["ask"])
