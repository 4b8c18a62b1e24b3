"""Starts `chipassay run` in several processes as launchers do, finds its ranks, and sees that nothing of it stays."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from chipassay.results.table import read_rows

QUICK = """
min_time_s = 0.02
time_cap_s = 0.1
[[block]]
op = ["all_reduce", "all_gather"]
on = "cpu"
ranks = "all"
dtype = ["fp32"]
size_bytes = [1024]
"""
PATIENT = QUICK.replace("0.02", "2.0").replace("0.1", "3.0").replace("[1024]", "[1024, 65536]")
RUN = [sys.executable, "-m", "chipassay.runners", "run", "--device", "cpu", "--rounds", "1"]
LAUNCHERS_OWN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "TORCHELASTIC_", "SLURM_", "OMPI_", "PMI_", "PMIX_", "SKYPILOT_")
ENDS_S = 60.0


def clean_environment(**more):
    """This process's, without what a launcher of the tests themselves may have set."""
    return {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHERS_OWN)} | {"OMP_NUM_THREADS": "1"} | more


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(folder, suite=QUICK, *more):
    (folder / "s.toml").write_text(suite)
    return [*RUN, "--suite", str(folder / "s.toml"), "--out", str(folder / "out.csv"), *more]


class Job:
    """Processes that were started together, each with what it wrote."""

    def __init__(self, commands, environments, cwd):
        self.logs = [cwd / f"log{index}" for index in range(len(commands))]
        self.processes = []
        for words, environment, log in zip(commands, environments, self.logs, strict=True):
            with log.open("w") as stream:
                self.processes.append(subprocess.Popen(words, env=environment, cwd=cwd, stdout=stream, stderr=stream))
        self.seen = set()

    @classmethod
    def shells(cls, folder, ranks, suite=QUICK, *more, words=None):
        """One process a rank, with the four variables of torch.distributed set by hand."""
        port = free_port()
        common = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        job = cls(
            [[*command(folder, suite, *more), *(words or {}).get(rank, [])] for rank in range(ranks)],
            [clean_environment(RANK=str(rank), **common) for rank in range(ranks)],
            folder,
        )
        job.port, job.out = port, folder / "out.csv"
        return job

    def descendants(self):
        for process in self.processes:
            with contextlib.suppress(psutil.Error):
                self.seen.update(psutil.Process(process.pid).children(recursive=True))
        return self.seen

    def rank(self, wanted):
        """The process that is this rank now, as psutil's; None before it is started."""
        for process in self.descendants():
            with contextlib.suppress(psutil.Error):
                if "chipassay.runners.workers.ranks" in process.cmdline() and process.environ()["RANK"] == str(wanted):
                    return process
        return None

    def until_rows(self, count, out):
        """Wait until so many rows are in the file."""
        deadline = time.monotonic() + ENDS_S
        while not out.exists() or out.read_bytes().count(b"\n") <= count:
            assert time.monotonic() < deadline, self.output()
            assert any(process.poll() is None for process in self.processes), self.output()
            time.sleep(0.05)

    def ends(self, timeout_s=ENDS_S):
        """The exit codes, once all have ended; and nothing that they started is left."""
        deadline = time.monotonic() + timeout_s
        while any(process.poll() is None for process in self.processes):
            assert time.monotonic() < deadline, self.output()
            self.descendants()
            time.sleep(0.1)
        _, alive = psutil.wait_procs(list(self.seen), timeout=2)
        alive = [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
        assert not alive, [process.cmdline() for process in alive]
        return [process.returncode for process in self.processes]

    def output(self, index=None):
        logs = self.logs if index is None else [self.logs[index]]
        return "\n".join(log.read_text() for log in logs)

    def kill(self):
        """Whatever a failed test left."""
        for process in [*self.descendants()]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        for process in self.processes:
            process.kill()
            process.wait()


def is_listened_to(port):
    return any(each.laddr and each.laddr.port == port and each.status == psutil.CONN_LISTEN for each in psutil.net_connections("tcp"))


def rows_of(folder: Path):
    return read_rows(folder / "out.csv")
