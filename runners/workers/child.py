"""One child process: JSON lines in and out, its last words, and an end that leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any

STDERR_TAIL_BYTES = 2000
STOP_GRACE_S = 2.0
"""How long a child may take to end by itself once its input is closed."""


class Child:
    """A process that measures. ``answers`` holds what it answered, then None once its output is closed."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, answering: bool = True, inherited: Sequence[int] = ()
    ) -> None:
        """``answering``: what it answers is kept; ``inherited``: file descriptors that it gets beside the three usual ones."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the object)
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if answering else subprocess.DEVNULL,
            stderr=self._log,
            env={**os.environ, **environment},
            text=True,
            encoding="utf-8",
            pass_fds=tuple(inherited),
            # A group of its own: Ctrl-C reaches the parent alone, which then ends the children in order.
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        if answering:
            threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        output = self._process.stdout
        assert output is not None
        with contextlib.suppress(ValueError):
            for line in output:
                self.answers.put(json.loads(line))
        self.answers.put(None)

    def send(self, request: Mapping[str, Any]) -> None:
        """Write a request; one that is gone does not get it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def exit_code(self) -> int | None:
        """As Popen gives it: negative for a signal, None while it runs."""
        return self._process.poll()

    def last_words(self) -> str:
        """The last line of its standard error."""
        self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, self._log.tell() - STDERR_TAIL_BYTES))
        lines = [line for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""

    def close(self) -> None:
        """Say that nothing more will be asked."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def wait(self, timeout_s: float) -> None:
        """Until it has ended, or so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, timeout_s))

    def signal_group(self) -> None:
        """End it and whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> None:
        """After ``signal_group``: collect it."""
        # A process stuck in a driver whose chip fell off the bus does not die of this: it must not take the parent along.
        self.wait(STOP_GRACE_S)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
