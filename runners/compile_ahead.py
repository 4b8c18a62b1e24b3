"""Compiling kernels in many processes before the first is measured, where one process would do so between two measurements.

Triton and CuPy keep what they compile on disk. So processes beside the measuring one prepare each case once and end before anything is
timed; the measuring process then finds its code there. Whatever goes wrong here costs time only: what was not compiled is compiled when
its turn comes. Run on an H200.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .budget import TUNING_S, compiles
from .tasks import Task
from .workers.client import WorkerDied, Workers, WorkerTimeout

PROCESSES_AT_MOST = 8
"""Each holds a context on the device (half a gigabyte) and compiles in several threads."""
FEWEST_CORES = 4
"""With fewer the processes' own start, an import of torch each, takes what they save."""
WORTHWHILE = 16
"""Fewer cases than this compile sooner than the processes start."""
BUDGET_SHARE = 0.3


def to_compile(tasks: Sequence[Task]) -> list[dict[str, Any]]:
    """What to ask for: each case and kernel once, however it is launched."""
    names = ("op", "case", "backend", "kernel")
    found = [
        {name: task.request[name] for name in names} for task in tasks if task.reason is None and task.ranks == 1 and compiles(task.columns)
    ]
    return list({repr(request): request for request in found}.values())


def processes(cases: int, cores: int) -> int:
    """How many processes compile so many cases; 0 where it is not worth starting any.

    >>> processes(200, cores=16), processes(200, cores=2), processes(5, cores=16)
    (8, 0, 0)
    """
    return 0 if cases < WORTHWHILE or cores < FEWEST_CORES else min(PROCESSES_AT_MOST, cores)


def compile_ahead(requests: Sequence[Mapping[str, Any]], count: int, start: Callable[[], Workers], start_s: float, until_s: float) -> int:
    """Compile in ``count`` processes until all is done or ``until_s`` (monotonic) has come; how many cases were prepared.

    ``start`` starts one process, which has ``start_s`` to say that it is ready.
    """
    pending, lock = iter(requests), threading.Lock()
    running: list[tuple[threading.Thread, Workers]] = []
    done: list[Mapping[str, Any]] = []

    def ask(workers: Workers, request: Mapping[str, Any] | None, most_s: float) -> None:
        workers.ask(request, max(0.0, min(most_s, until_s - time.monotonic())))

    def shared() -> Iterator[Mapping[str, Any]]:
        while time.monotonic() < until_s:
            with lock:
                request = next(pending, None)
            if request is None:
                return
            yield request

    def serve(workers: Workers) -> None:
        try:
            ask(workers, None, start_s)
            for request in shared():
                ask(workers, {"compile": request}, TUNING_S)
                done.append(request)
        except (WorkerDied, WorkerTimeout, OSError, ValueError):
            pass  # the others go on, and what nobody compiles the measuring process does
        finally:
            workers.kill()

    try:
        for _ in range(count):
            workers = start()
            running.append((threading.Thread(target=serve, args=(workers,), daemon=True), workers))
            running[-1][0].start()
    except OSError:
        pass  # no more processes: those that started do it
    try:
        for thread, _ in running:
            thread.join()
    finally:  # Ctrl-C
        for thread, workers in running:
            if thread.is_alive():
                workers.kill()
    return len(done)
