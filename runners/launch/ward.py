"""The one child of a supervisor: a rank, started anew for each generation of ranks."""

from __future__ import annotations

import os
import queue
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..collective.heartbeat import VARIABLE, beats
from ..devices.facts import HOST_HASH
from ..workers.child import STOP_GRACE_S, Child
from ..workers.client import rank_command
from ..workers.faults import Ending, is_stopped, oom_kills
from .addresses import interface_of, node_hash, own_address_towards, way_out
from .board import LOG_LEVEL
from .environment import Launch

INHERITED = ("PMI_FD",)
"""Variables with the number of a descriptor through which MPICH talks to mpiexec: the rank needs it, not its supervisor."""


class Ward:
    """This supervisor's rank. ``present`` is what all supervisors are told of its host."""

    def __init__(self, launch: Launch, prefix: str, timeout_s: float, share_gpu: bool = False) -> None:
        self._launch, self._prefix, self._timeout_s, self._share_gpu = launch, prefix, timeout_s, share_gpu
        self._folder = tempfile.TemporaryDirectory(prefix="chipassay-", ignore_cleanup_errors=True)
        self._progress = Path(self._folder.name, "progress")
        self._child: Child | None = None
        self.generation, self._beat, self._oom_kills = 0, 0, 0
        self._interfaces: dict[str, str] = {}
        self.present = {"node": node_hash(), "address": own_address_towards(launch.master_address, launch.master_port)}

    def start(self, generation: int, order: Mapping[str, Any]) -> None:
        """A fresh rank, which says hello. ``order``: ``nodes`` and ``addresses`` of all ranks, and the ``device`` asked for."""
        self.kill()
        nodes, launch = order["nodes"], self._launch
        here = [rank for rank, node in enumerate(nodes) if node == nodes[launch.rank]]
        local_rank = here.index(launch.rank) if launch.local_rank is None else launch.local_rank
        way = way_out(self.present["address"], order["addresses"], launch.master_port)
        interface = interface_of(way)
        # NCCL finds its interface itself. With all ranks on one host it is told, so that it listens nowhere else.
        names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if len(here) == launch.ranks else ("GLOO_SOCKET_IFNAME",)
        self._interfaces = dict.fromkeys(names, interface) if interface is not None else {}
        environment = {
            "RANK": str(launch.rank),
            "WORLD_SIZE": str(launch.ranks),
            "LOCAL_RANK": "0" if self._share_gpu else str(local_rank),
            "LOCAL_WORLD_SIZE": str(len(here)),
            VARIABLE: str(self._progress),
            HOST_HASH: self.present["node"],
            # What the supervisor keeps to itself may be a rank's last words.
            **({LOG_LEVEL: "ERROR"} if os.environ.get(LOG_LEVEL) == "FATAL" else {}),
            **({"NCCL_HOSTID": f"chipassay-{launch.rank}"} if self._share_gpu else {}),
        }
        self._progress.unlink(missing_ok=True)
        self.generation, self._oom_kills = generation, oom_kills()
        inherited = [int(os.environ[name]) for name in INHERITED if os.environ.get(name, "").isdecimal()]
        self._child = Child(rank_command(order["device"] or "", self._timeout_s), environment, inherited=inherited)

    def meet(self) -> None:
        """Let it join the others of its generation, which all have said hello."""
        where = {
            "address": self._launch.master_address,
            "port": self._launch.master_port,
            "prefix": f"{self._prefix}/ranks/{self.generation}",
            "interfaces": self._interfaces,
        }
        self.send({"meet": where})

    def send(self, message: Mapping[str, Any]) -> None:
        if self._child is not None:
            self._child.send(message)

    def answer(self, timeout_s: float) -> dict[str, Any] | None:
        """What it answers within that time; None: nothing, or it has ended."""
        if self._child is None:
            return None
        try:
            return self._child.answers.get(timeout=timeout_s) if timeout_s else self._child.answers.get_nowait()
        except queue.Empty:
            return None

    def status(self) -> dict[str, Any]:
        """How it is: differs at every call, so that a supervisor that says nothing new is known to be gone."""
        self._beat += 1
        status: dict[str, Any] = {"beat": self._beat, "generation": self.generation, "ended": None, "stopped": False, "progress": 0}
        if self._child is None:
            return status
        code = self._child.exit_code()
        if code is not None:
            status["ended"] = asdict(Ending(code, self._child.last_words(), oom_kills() > self._oom_kills))
        else:
            status["stopped"] = is_stopped(self._child.pid)
        if self._progress.exists():
            status["progress"] = beats(self._progress, self._launch.ranks)[self._launch.rank]
        return status

    def stop(self) -> None:
        """Let it end by itself, then make sure of it."""
        if self._child is not None:
            self._child.close()
            self._child.wait(STOP_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """End it now, with whatever it started."""
        if self._child is not None:
            self._child.signal_group()
            self._child.reap()
            self._child = None

    def leave(self) -> None:
        """End it for good: nothing of it stays, on the disk either."""
        self.kill()
        self._folder.cleanup()
