"""What went wrong with a process that measures, in words that name it: killed, out of memory, stopped, behind the others."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STOPPED_S = 5.0
"""A process that is stopped for so long is given up: nobody waits for a debugger in the middle of a measurement."""
PEER_WORDS = ("by peer", "connection refused", "broken pipe", "remote process", "ncclremoteerror", "socket closed", "timed out")
"""In the last words of a rank that ended because another had: gloo's, NCCL's ("a remote process exiting prematurely") and the system's."""


@dataclass(frozen=True)
class Ending:
    """How a process ended."""

    code: int
    """As subprocess gives it: negative for a signal."""
    words: str = ""
    """The last line of its standard error."""
    out_of_memory: bool = False
    """The system killed a process for memory meanwhile."""

    def told(self, who: str) -> str:
        """One sentence.

        >>> Ending(-9).told("rank 1"), Ending(-9, out_of_memory=True).told("rank 1")
        ('rank 1 was killed (signal 9)', 'rank 1 was killed by the system: out of memory')
        >>> Ending(1, "RuntimeError: no").told("rank 1"), Ending(-11).told("rank 1")
        ('rank 1 ended with exit code 1: RuntimeError: no', 'rank 1 crashed (SIGSEGV)')
        """
        if self.code == -signal.SIGKILL:
            return f"{who} was killed by the system: out of memory" if self.out_of_memory else f"{who} was killed (signal 9)"
        how = f"crashed ({signal.Signals(-self.code).name})" if self.code < 0 else f"ended with exit code {self.code}"
        return f"{who} {how}" + (f": {self.words}" if self.words else "")

    @property
    def blames_another(self) -> bool:
        """Whether it ended because another process had."""
        return self.code > 0 and any(part in self.words.lower() for part in PEER_WORDS)


def culprit(endings: dict[int, Ending]) -> int:
    """The rank whose end made the others end: one that a signal ended, else one that does not blame another.

    >>> culprit({0: Ending(1, "RuntimeError: Connection closed by peer"), 2: Ending(-9)})
    2
    """
    return min(endings, key=lambda rank: (endings[rank].code >= 0, endings[rank].blames_another, rank))


def oom_kills(pid: int | str = "self") -> int:
    """How many processes the system has killed for memory so far: in the whole machine, and in the process's control group."""
    total = _field("/proc/vmstat", "oom_kill")
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text(encoding="ascii", errors="replace").splitlines():
            _, controllers, group = line.split(":", 2)
            if not controllers:
                total += _field(f"/sys/fs/cgroup{group}/memory.events", "oom_kill")
            elif "memory" in controllers.split(","):
                total += _field(f"/sys/fs/cgroup/memory{group}/memory.oom_control", "oom_kill")
    return total


def _field(path: str, name: str) -> int:
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[:1] == [name]), 0)


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped the process."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def behind(counts: Sequence[int]) -> str | None:
    """Which ranks have come less far than the others, who wait for them; None: all have come as far.

    >>> behind([7, 6, 7]), behind([3, 3]), behind([5, 2, 2])
    ('rank 1 is behind the others', None, 'ranks 1, 2 are behind the others')
    """
    late = [rank for rank, count in enumerate(counts) if count < max(counts)]
    return f"{named(late)} behind the others" if late else None


def named(ranks: Sequence[int]) -> str:
    """``rank 2 is`` or ``ranks 2, 3 are``."""
    listed = ", ".join(map(str, ranks))
    return f"rank {listed} is" if len(ranks) == 1 else f"ranks {listed} are"
