"""The parent's side: start children, ask them, notice when one dies or hangs, and leave none behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

STDERR_TAIL_BYTES = 2000
STOP_GRACE_S = 2.0
"""How long a child may take to end by itself once its input is closed."""


class WorkerDied(Exception):
    """A child ended without an answer; the message says how, with the last words of its standard error."""


class WorkerTimeout(Exception):
    """A child gave no answer in time; it has been killed."""


class Workers:
    """Children that get the same requests; the first one answers. One child measures a chip, several are ranks."""

    def __init__(self, commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]]) -> None:
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._logs = [tempfile.TemporaryFile() for _ in commands]  # noqa: SIM115 (closed in stop)
        self._children = [
            subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **environment},
                text=True,
                encoding="utf-8",
                # A group of its own: Ctrl-C reaches the parent alone, which then ends the children in order.
                start_new_session=True,
            )
            for rank, (command, environment, log) in enumerate(zip(commands, environments, self._logs, strict=True))
        ]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        output = self._children[0].stdout
        assert output is not None
        with contextlib.suppress(ValueError):
            for line in output:
                self._answers.put(json.loads(line))
        self._answers.put(None)

    def ask(self, request: Mapping[str, Any] | None, timeout_s: float) -> dict[str, Any]:
        """Send ``request`` to every child (None: only listen) and wait for the answer of the first.

        Raises WorkerDied or WorkerTimeout; in both cases all children are gone afterwards.
        """
        if request is not None:
            for child in self._children:
                assert child.stdin is not None
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.write(json.dumps(request) + "\n")
                    child.stdin.flush()
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                answer = self._answers.get(timeout=0.2)
            except queue.Empty:
                self._raise_if_dead()
                if time.monotonic() > deadline:
                    self.kill()
                    raise WorkerTimeout(f"no answer within {timeout_s:.0f} s") from None
                continue
            if answer is None:
                self._raise_if_dead(wait_s=STOP_GRACE_S)
                self.kill()
                raise WorkerDied("it closed its output")
            return answer

    def _raise_if_dead(self, wait_s: float = 0.0) -> None:
        deadline = time.monotonic() + wait_s
        while True:
            for rank, child in enumerate(self._children):
                if child.poll() is not None:
                    words = self._last_words(rank)
                    self.kill()
                    raise WorkerDied(_how_it_ended(rank, len(self._children), child.returncode) + words)
            if time.monotonic() >= deadline:
                return
            time.sleep(0.05)

    def _last_words(self, rank: int) -> str:
        log = self._logs[rank]
        log.seek(0, os.SEEK_END)
        log.seek(max(0, log.tell() - STDERR_TAIL_BYTES))
        lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return f": {lines[-1].strip()}" if lines else ""

    def stop(self) -> None:
        """Let the children end by themselves, then make sure of it."""
        for child in self._children:
            if child.stdin is not None:
                with contextlib.suppress(OSError):
                    child.stdin.close()
        deadline = time.monotonic() + STOP_GRACE_S
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        """End the children now, with whatever they started."""
        for child in self._children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
        for child in self._children:
            # A process stuck in a driver whose chip fell off the bus does not die of this: it must not take the parent along.
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(STOP_GRACE_S)
            for stream in (child.stdin, child.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


def _how_it_ended(rank: int, ranks: int, code: int) -> str:
    who = "the measuring process" if ranks == 1 else f"rank {rank}"
    if code == -signal.SIGKILL:
        return f"{who} was killed (signal 9: often the system, out of memory)"
    if code < 0:
        return f"{who} crashed ({signal.Signals(-code).name})"
    return f"{who} ended with exit code {code}"


def start_worker(device_kind: str | None, tuned: Path | None = None, tuning: str = "search") -> Workers:
    """One child that measures kernels on the chip.

    ``tuned``: the folder where tuned choices are kept; ``tuning``: what becomes of those that are not there, a key of
    ``workers.kernels.TUNING``.
    """
    command = [sys.executable, "-m", "chipassay.runners.workers.kernels"]
    return Workers([[*command, device_kind or "", str(tuned or ""), tuning]], [{}])


def start_ranks(ranks: int, device_kind: str, timeout_s: float) -> Workers:
    """``ranks`` children on this machine that meet through a file and talk over loopback."""
    meeting = os.path.join(tempfile.mkdtemp(prefix="chipassay-"), "meeting")
    command = [sys.executable, "-m", "chipassay.runners.workers.ranks", device_kind, meeting, str(timeout_s)]
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    environments = [
        {
            "RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "LOCAL_RANK": str(rank),
            # Nothing listens beyond this machine; gloo and NCCL take the interface from these.
            "GLOO_SOCKET_IFNAME": loopback,
            "NCCL_SOCKET_IFNAME": loopback,
        }
        for rank in range(ranks)
    ]
    return Workers([command] * ranks, environments)
