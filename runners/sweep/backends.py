"""Cases solved here one after the other, in parallel through joblib, or on a Dask or Ray cluster; outcomes as they come."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from chipassay.results.errors import InputError

from .case import Case, solve
from .table import Result

NEEDS = {"loky": ("joblib",), "threading": ("joblib",), "dask": ("joblib", "distributed"), "ray": ("joblib", "ray")}
ON_A_CLUSTER = ("dask", "ray")
CONNECT_S = 20
"""How long a scheduler, or the first of its workers, is waited for."""
WATCH_S = 1.0
"""How often a worker process looks whether its parent still lives."""
SLICE = 4
"""Cases per worker that are sent at once where a backend gives nothing back before all are done (Ray's)."""


def default_jobs() -> int:
    """The cores that this process may use; 1 where joblib is missing."""
    if find_spec("joblib") is None:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_backend(backend: str, jobs: int, scheduler: str | None) -> None:
    """Raise InputError where a backend's packages are missing, or a scheduler is named that it has not."""
    if scheduler is not None and backend not in ON_A_CLUSTER:
        raise InputError(f"--scheduler {scheduler}: {backend} runs on this machine alone; add --backend dask or --backend ray")
    if backend == "loky" and jobs == 1:
        return
    missing = [name for name in NEEDS[backend] if find_spec(name) is None]
    if missing:
        install = "pip install ray joblib" if backend == "ray" else "pip install 'chipassay[sweep]'"
        other = " or use --jobs 1" if backend == "loky" else ", or use --backend loky"
        raise InputError(f"--backend {backend} needs {' and '.join(missing)}, which is not installed; {install}{other}")


def solved(cases: Sequence[Case], *, jobs: int, backend: str = "loky", scheduler: str | None = None) -> Generator[list[Result], None, None]:
    """The rows of each case as it is done, in any order. Close the iterator to stop the workers.

    ``scheduler``: the address of a running Dask or Ray cluster; None: one of ``jobs`` workers is started here for the time.
    Raises InputError for a cluster that cannot be reached or has no workers.
    """
    check_backend(backend, jobs, scheduler)
    if backend == "loky" and jobs == 1:
        yield from map(solve, cases)
    elif backend == "ray":
        yield from _on_ray(cases, jobs, scheduler)
    elif backend == "dask":
        with _dask_client(jobs, scheduler):
            yield from _in_parallel(cases, "dask", -1, wait_for_workers_timeout=CONNECT_S)
    else:
        watched = {"initializer": _end_with, "initargs": (os.getpid(),)} if backend == "loky" else {}
        yield from _in_parallel(cases, backend, jobs, **watched)


def _end_with(parent: int) -> None:
    """Run in a worker process: end it once its parent is gone, where it would wait for ever for a lock that the parent held."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_parallel(cases: Sequence[Case], backend: str, jobs: int, **settings: Any) -> Iterator[list[Result]]:
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend=backend, n_jobs=jobs, **settings):
        outcomes: Generator[list[Result], None, None] | None = None
        try:
            with _children_deaf_to_interrupts():
                outcomes = Parallel(return_as="generator_unordered")(delayed(solve)(case) for case in cases)
            yield from outcomes
        except (TimeoutError, ModuleNotFoundError) as error:
            raise InputError(f"--backend {backend}: {_line(error)}; start workers that have this chipassay installed") from error
        finally:
            if outcomes is not None:
                outcomes.close()


@contextlib.contextmanager
def _dask_client(jobs: int, scheduler: str | None) -> Iterator[None]:
    """A client of a running scheduler, or of one with ``jobs`` worker processes on this machine, as the default one."""
    from distributed import Client, LocalCluster

    with contextlib.ExitStack() as stack:
        if scheduler is None:
            with _children_deaf_to_interrupts():
                cluster = LocalCluster(
                    n_workers=jobs,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    # Without a dashboard it still serves its state, by default on a port that a second sweep would find taken.
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                    silence_logs=logging.CRITICAL,
                )
            stack.enter_context(cluster)
            address: Any = cluster
        else:
            address = scheduler
        try:
            stack.enter_context(Client(address, timeout=CONNECT_S))
        except (OSError, TimeoutError, ValueError) as error:
            raise InputError(f"--scheduler {scheduler}: {_line(error)}; give the address of a Dask scheduler, tcp://HOST:8786") from error
        yield


@contextlib.contextmanager
def _children_deaf_to_interrupts() -> Iterator[None]:
    """Processes started here leave Ctrl-C, which a terminal sends to all, to this one: it ends them, and they do not each complain."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _on_ray(cases: Sequence[Case], jobs: int, scheduler: str | None) -> Iterator[list[Result]]:
    if scheduler is not None:
        _check_answers(scheduler)
    import ray
    from joblib import Parallel, delayed, parallel_config
    from ray.util.joblib import register_ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody, unless the user has said so
    local = {"num_cpus": jobs, "include_dashboard": False} if scheduler is None else {"address": scheduler}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"--scheduler {scheduler}: {_line(error)}; give the address of a Ray cluster, HOST:6379 or auto") from error
    try:
        register_ray()
        workers = jobs if scheduler is None else max(1, int(ray.cluster_resources().get("CPU", 1)))
        with parallel_config(backend="ray", n_jobs=workers), Parallel() as parallel:
            left = iter(cases)
            while some := list(itertools.islice(left, SLICE * workers)):
                yield from parallel(delayed(solve)(case) for case in some)
    finally:
        ray.shutdown()


def _check_answers(scheduler: str) -> None:
    """Raise InputError where nothing listens at HOST:PORT: Ray itself would try for minutes, and say so in its own logs."""
    host, _, port = scheduler.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # "auto", which Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"--scheduler {scheduler}: {_line(error)}; give the address of a Ray cluster, HOST:6379 or auto") from error


def _line(error: Exception) -> str:
    """The first line of an error's words."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0].rstrip(".;")
