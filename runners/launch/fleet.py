"""Rank 0's side of a launched job: gathers the others, starts generations of ranks, asks them, and names the one that fails."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chipassay.results.errors import InputError, NothingMeasured

from ..workers.client import WorkerDied, WorkerTimeout
from ..workers.faults import STOPPED_S, Ending, behind, culprit, named
from .board import Board, BoardLost
from .environment import Launch
from .follow import BEAT_S
from .hello import different_asks, different_hellos, missing_transports
from .ward import Ward

SILENT_S = 10.0
"""A supervisor that says nothing for so long is lost, with its host: it says something every BEAT_S."""
GATHER_S = 2.5 * BEAT_S
"""When one rank has ended others do too: for so long all ends are gathered, to name the one that began."""
GOODBYE_S = 5.0
"""How long rank 0, which hosts the board, waits for the others to have read its last order."""


class RankLost(WorkerDied):
    """A rank that cannot be started again: its host or its supervisor is gone."""


class Fleet:
    """All ranks of the job: the same as ``Workers`` to who asks."""

    def __init__(self, board: Board, ward: Ward, launch: Launch, asked: Mapping[str, str], device: str | None, share_gpu: bool) -> None:
        """``asked``: what must be the same on all command lines; ``device``: None takes GPUs where there are any."""
        self._board, self._ward, self._launch, self._asked = board, ward, launch, asked
        self._device, self._share_gpu = device, share_gpu
        self.generation, self._running = 0, False
        self._present: dict[int, dict[str, Any]] = {}
        self._heard: dict[int, tuple[int, float]] = {}
        self._now_s, self._looked_s = 0.0, 0.0
        self._stopped_s = dict.fromkeys(range(launch.ranks), 0.0)
        self._came: list[int] = []
        self.lost: dict[int, str] = {}
        self.hellos: dict[int, dict[str, Any]] = {}

    @property
    def nodes(self) -> list[str]:
        """The host of each rank."""
        return [self._present[rank]["node"] for rank in range(self._launch.ranks)]

    def gather(self, wait_s: float) -> None:
        """Wait for all supervisors. Raises NothingMeasured where one does not come, InputError where one was asked for something else."""
        begin_s = time.monotonic()
        others = range(1, self._launch.ranks)
        while missing := self._board.silent("here", others):
            if time.monotonic() - begin_s > wait_s:
                self._came = [rank for rank in others if rank not in missing]
                raise NothingMeasured(
                    f"{named(missing).rsplit(' ', 1)[0]} of {self._launch.ranks} did not come within {wait_s:.0f} s "
                    f"(by {self._launch.launcher}, {self._launch.ranks} ranks); start them too, and see whether their hosts reach "
                    f"{self._launch.master_address}, port {self._launch.master_port}"
                )
            time.sleep(0.1)
        self._came = list(others)
        self._present = {0: {**self._ward.present, "asked": dict(self._asked)}, **self._board.told("here", others)}
        if problem := different_asks(self._present):
            raise InputError(problem)

    @contextlib.contextmanager
    def _board_or_lost(self) -> Iterator[None]:
        try:
            yield
        except BoardLost as error:
            # Where it is not this process's own: torchrun's agent hosts it.
            self.lost[0] = f"the store of torchrun's agent does not answer ({error})"
            self.kill()
            raise RankLost(self.lost_words()) from error

    def start(self, timeout_s: float) -> None:
        """A fresh generation of ranks that have met.

        Raises WorkerDied, RankLost or WorkerTimeout as ``ask`` does, InputError where they cannot work together.
        """
        with self._board_or_lost():
            self._start(timeout_s)

    def _start(self, timeout_s: float) -> None:
        self.generation += 1
        addresses = [self._present[rank]["address"] for rank in range(self._launch.ranks)]
        order = {"start": self.generation, "nodes": self.nodes, "addresses": addresses, "device": self._device}
        self._board.order(order)
        self._ward.start(self.generation, order)
        self._running = True
        self._begin_waiting()
        begin_s = time.monotonic()
        own = self._await(timeout_s, begin_s)["hello"]
        kind, others = f"hello/{self.generation}", range(1, self._launch.ranks)
        while self._board.silent(kind, others):
            self._look_or_raise(begin_s, timeout_s)
            time.sleep(0.1)
        self.hellos = {0: own, **self._board.told(kind, others)}
        if problem := different_hellos(self.hellos, self._share_gpu):
            self.kill()
            raise InputError(problem)
        self._board.order({"meet": self.generation})
        self._ward.meet()
        self._await(timeout_s, begin_s)

    @property
    def running(self) -> bool:
        """Whether there are ranks that have met."""
        return self._running

    def missing(self) -> dict[str, str]:
        """Transports that a rank lacks, and why."""
        return missing_transports(self.hellos)

    def ask(self, request: Mapping[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        """Send ``request`` to every rank and wait for the answer of the first.

        Raises WorkerTimeout after ``timeout_s`` or when a rank is stopped for STOPPED_S, WorkerDied when one ends (noticed within BEAT_S
        and named within GATHER_S), RankLost when a supervisor is silent for SILENT_S. No rank is left afterwards.
        """
        with self._board_or_lost():
            self._begin_waiting()
            if request is not None:
                self._board.order({"ask": dict(request)})
                self._ward.send(request)
            return self._await(timeout_s, time.monotonic())

    def _await(self, timeout_s: float, begin_s: float) -> dict[str, Any]:
        while True:
            answer = self._ward.answer(0.2)
            if answer is not None:
                return answer
            self._look_or_raise(begin_s, timeout_s)

    def _begin_waiting(self) -> None:
        self._looked_s = time.monotonic()
        self._stopped_s = dict.fromkeys(self._stopped_s, 0.0)

    def _look_or_raise(self, begin_s: float, timeout_s: float) -> None:
        """See how all ranks are, every BEAT_S."""
        passed_s = time.monotonic() - self._looked_s
        if passed_s < BEAT_S:
            return
        # Had this process itself been stopped, nobody else would be to blame.
        self._now_s, self._looked_s = self._now_s + min(passed_s, 2 * BEAT_S), time.monotonic()
        statuses = self._statuses()
        self._raise_if_silent(statuses)
        endings = self._endings(statuses)
        if endings:
            self._raise_dead(endings)
        for rank, status in statuses.items():
            self._stopped_s[rank] = self._stopped_s[rank] + passed_s if status["stopped"] else 0.0
        waited_s = time.monotonic() - begin_s
        if stopped := [rank for rank, so_far_s in self._stopped_s.items() if so_far_s > STOPPED_S]:
            self._give_up(waited_s, f"{named(stopped)} stopped (SIGSTOP)")
        if waited_s > timeout_s:
            stopped = [rank for rank, status in statuses.items() if status["stopped"]]
            late = behind([status["progress"] for _, status in sorted(statuses.items())])
            self._give_up(timeout_s, f"{named(stopped)} stopped (SIGSTOP)" if stopped else late)

    def _statuses(self) -> dict[int, dict[str, Any]]:
        return {0: self._ward.status(), **self._board.told("status", range(1, self._launch.ranks))}

    def _raise_if_silent(self, statuses: Mapping[int, Mapping[str, Any]]) -> None:
        for rank, status in statuses.items():
            beat, _ = self._heard.get(rank, (-1, 0.0))
            if status["beat"] != beat:
                self._heard[rank] = (status["beat"], self._now_s)
        silent = [rank for rank, (_, heard_s) in self._heard.items() if self._now_s - heard_s > SILENT_S]
        left = [rank for rank, status in statuses.items() if status.get("left")]
        self.lost |= {rank: f"rank {rank}'s host does not answer" for rank in silent}
        self.lost |= {rank: f"rank {rank} was told to end" for rank in left}
        if self.lost:
            self.kill()
            raise RankLost(self.lost_words())

    def lost_words(self) -> str:
        """Who cannot come back, in one sentence."""
        return "; ".join(words for _, words in sorted(self.lost.items()))

    def _endings(self, statuses: Mapping[int, Mapping[str, Any]]) -> dict[int, Ending]:
        current = {rank: status for rank, status in statuses.items() if status["generation"] == self.generation}
        return {rank: Ending(**status["ended"]) for rank, status in current.items() if status["ended"] is not None}

    def _raise_dead(self, endings: dict[int, Ending]) -> None:
        until_s = time.monotonic() + GATHER_S
        while all(ending.code > 0 for ending in endings.values()) and time.monotonic() < until_s:
            time.sleep(0.2)
            endings = self._endings(self._statuses())
        rank = culprit(endings)
        self.kill()
        raise WorkerDied(endings[rank].told(f"rank {rank}"))

    def _give_up(self, waited_s: float, why: str | None) -> None:
        self.kill()
        raise WorkerTimeout(f"no answer within {waited_s:.0f} s" + (f": {why}" if why else ""))

    def kill(self) -> None:
        """End the ranks of this generation."""
        self._running = False
        with contextlib.suppress(BoardLost):  # the others see the same, and end their ranks
            self._board.order({"kill": self.generation})
        self._ward.kill()

    def stop(self, code: int = 0, words: str | None = None) -> None:
        """End the job: every process ends with this exit code, and these words if any."""
        self._running = False
        try:
            self._board.order({"end": {"code": code, "words": words}})
            self._ward.stop()
            until_s = time.monotonic() + GOODBYE_S
            others: Sequence[int] = [rank for rank in self._came if rank not in self.lost]
            while (others := self._board.silent("bye", others)) and time.monotonic() < until_s:
                time.sleep(0.05)
        except BoardLost:
            pass  # the others see the same, and end by themselves
        finally:
            self._ward.stop()
            self._ward.leave()
