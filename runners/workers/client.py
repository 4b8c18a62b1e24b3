"""The parent's side: start children, ask them, notice when one dies, stops or hangs, and leave none behind."""

from __future__ import annotations

import os
import queue
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..collective.heartbeat import VARIABLE, beats
from .child import STOP_GRACE_S, Child
from .faults import STOPPED_S, Ending, behind, culprit, is_stopped, named, oom_kills

LOOK_S = 1.0
"""Between two looks at whether a child is stopped."""
GATHER_S = 0.3
"""When one child has ended the others follow: for so long all ends are gathered, to name the one that began."""


class WorkerDied(Exception):
    """A child ended without an answer; the message says how, with the last words of its standard error."""


class WorkerTimeout(Exception):
    """A child gave no answer in time, or was stopped; it has been killed."""


class Workers:
    """Children that get the same requests; the first one answers. One child measures a chip, several are ranks."""

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        environments: Sequence[Mapping[str, str]],
        folder: tempfile.TemporaryDirectory[str] | None = None,
    ) -> None:
        """``folder``: goes with the children; in its file ``progress`` they count how far they have come."""
        self._folder = folder
        self._oom_kills = oom_kills()
        self._children = [
            Child(command, environment, answering=rank == 0)
            for rank, (command, environment) in enumerate(zip(commands, environments, strict=True))
        ]

    def ask(self, request: Mapping[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        """Send ``request`` to every child (None: only listen) and wait for the answer of the first.

        Raises WorkerDied, or WorkerTimeout after ``timeout_s`` or when one is stopped for STOPPED_S; in both cases all children are gone
        afterwards.
        """
        if request is not None:
            for child in self._children:
                child.send(request)
        begin_s = time.monotonic()
        looked_s, stopped_s = begin_s, dict.fromkeys(range(len(self._children)), 0.0)
        while True:
            try:
                answer = self._children[0].answers.get(timeout=0.2)
            except queue.Empty:
                self._raise_if_dead()
                now_s = time.monotonic()
                if now_s - looked_s > LOOK_S:
                    for rank, child in enumerate(self._children):
                        stopped_s[rank] = stopped_s[rank] + now_s - looked_s if is_stopped(child.pid) else 0.0
                    looked_s = now_s
                    if stopped := [rank for rank, so_far_s in stopped_s.items() if so_far_s > STOPPED_S]:
                        self._give_up(now_s - begin_s, self._stopped(stopped))
                if now_s - begin_s > timeout_s:
                    self._give_up(timeout_s, self._why())
                continue
            if answer is None:
                self._raise_if_dead(wait_s=STOP_GRACE_S)
                self.kill()
                raise WorkerDied("it closed its output")
            return answer

    def _give_up(self, waited_s: float, why: str | None) -> None:
        self.kill()
        raise WorkerTimeout(f"no answer within {waited_s:.0f} s" + (f": {why}" if why else ""))

    def _why(self) -> str | None:
        if stopped := [rank for rank, child in enumerate(self._children) if is_stopped(child.pid)]:
            return self._stopped(stopped)
        progress = None if self._folder is None else Path(self._folder.name) / "progress"
        return behind(beats(progress, len(self._children))) if progress is not None and progress.exists() else None

    def _stopped(self, ranks: Sequence[int]) -> str:
        return f"{named(ranks) if len(self._children) > 1 else 'the measuring process is'} stopped (SIGSTOP)"

    def _raise_if_dead(self, wait_s: float = 0.0) -> None:
        deadline = time.monotonic() + wait_s
        while not self._endings():
            if time.monotonic() >= deadline:
                return
            time.sleep(0.05)
        if len(self._children) > 1:
            time.sleep(GATHER_S)
        endings = self._endings()
        rank = culprit(endings)
        self.kill()
        raise WorkerDied(endings[rank].told("the measuring process" if len(self._children) == 1 else f"rank {rank}"))

    def _endings(self) -> dict[int, Ending]:
        codes = {rank: child.exit_code() for rank, child in enumerate(self._children)}
        if all(code is None for code in codes.values()):
            return {}
        out_of_memory = oom_kills() > self._oom_kills
        return {rank: Ending(code, self._children[rank].last_words(), out_of_memory) for rank, code in codes.items() if code is not None}

    def stop(self) -> None:
        """Let the children end by themselves, then make sure of it."""
        for child in self._children:
            child.close()
        deadline = time.monotonic() + STOP_GRACE_S
        for child in self._children:
            child.wait(deadline - time.monotonic())
        self.kill()

    def kill(self) -> None:
        """End the children now, with whatever they started."""
        for child in self._children:
            child.signal_group()
        for child in self._children:
            child.reap()
        if self._folder is not None:
            self._folder.cleanup()


def start_worker(
    device_kind: str | None, tuned: Path | None = None, tuning: str = "search", environment: Mapping[str, str] | None = None
) -> Workers:
    """One child that measures kernels on the chip.

    ``tuned``: the folder where tuned choices are kept; ``tuning``: what becomes of those that are not there, a key of
    ``workers.kernels.TUNING``; ``environment``: what its environment has beside this process's.
    """
    command = [sys.executable, "-m", "chipassay.runners.workers.kernels"]
    return Workers([[*command, device_kind or "", str(tuned or ""), tuning]], [environment or {}])


def rank_command(device_kind: str, timeout_s: float, meeting: str = "") -> list[str]:
    """What starts one rank; its environment says which. ``meeting``: where it meets the others; empty: the first request tells."""
    return [sys.executable, "-m", "chipassay.runners.workers.ranks", device_kind, str(timeout_s), meeting]


def start_ranks(ranks: int, device_kind: str, timeout_s: float, *, share_gpu: bool = False) -> Workers:
    """``ranks`` children on this machine that meet through a file and talk over loopback. Their first answer is that they are ready.

    ``share_gpu``: all drive the first GPU, each as if on a host of its own, since NCCL refuses two ranks on one GPU of a host.
    """
    folder = tempfile.TemporaryDirectory(prefix="chipassay-", ignore_cleanup_errors=True)
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    environments = [
        {
            "RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_RANK": "0" if share_gpu else str(rank),
            "LOCAL_WORLD_SIZE": str(ranks),
            # Nothing listens beyond this machine; gloo and NCCL take the interface from these.
            "GLOO_SOCKET_IFNAME": loopback,
            "NCCL_SOCKET_IFNAME": loopback,
            VARIABLE: os.path.join(folder.name, "progress"),
            **({"NCCL_HOSTID": f"chipassay-{rank}"} if share_gpu else {}),
        }
        for rank in range(ranks)
    ]
    command = rank_command(device_kind, timeout_s, Path(folder.name, "meeting").as_uri())
    return Workers([command] * ranks, environments, folder)
