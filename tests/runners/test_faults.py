"""Ranks that are killed, stopped, or run out of memory, in local runs and in launched jobs: one row tells, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import sys
import time

import psutil
import pytest

from .launched import PATIENT, Job, clean_environment, command, is_listened_to, rows_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="process states are read as Linux tells them"),
]
pytest.importorskip("torch")


@pytest.fixture
def start(tmp_path):
    jobs = []

    def go(how, ranks=3):
        if how == "launched":
            job = Job.shells(tmp_path, ranks, PATIENT)
        else:
            job = Job([command(tmp_path, PATIENT, "--ranks", str(ranks))], [clean_environment()], tmp_path)
        jobs.append(job)
        return job

    yield go
    for job in jobs:
        job.kill()


def signalled(job, folder, after_rows, rank, number):
    """Send a signal to a rank while the row after these is measured, or while its ranks are started."""
    job.until_rows(after_rows, folder / "out.csv")
    time.sleep(0.5)
    deadline = time.monotonic() + 20
    while (process := job.rank(rank)) is None:
        assert time.monotonic() < deadline, job.output()
        time.sleep(0.1)
    process.send_signal(number)


@pytest.mark.parametrize("how", ["local", "launched"])
def test_a_killed_and_a_stopped_rank_cost_a_row_each_which_name_them(start, tmp_path, how):
    job = start(how)
    signalled(job, tmp_path, 1, 2, signal.SIGKILL)
    signalled(job, tmp_path, 2, 1, signal.SIGSTOP)
    begin_s = time.monotonic()
    job.until_rows(3, tmp_path / "out.csv")
    # STOPPED_S is 5 s, seen every second.
    assert time.monotonic() - begin_s < 12
    assert set(job.ends()) == {0}
    rows = rows_of(tmp_path)
    assert [row.status for row in rows] == ["ok", "error", "timeout", "ok"], job.output()
    assert rows[1].reason == "rank 2 was killed (signal 9)"
    assert "rank 1 is stopped (SIGSTOP)" in rows[2].reason
    assert how == "local" or not is_listened_to(job.port)


@pytest.mark.parametrize("how", ["local", "launched"])
def test_told_to_end_all_processes_end_at_once_and_the_file_is_whole(start, tmp_path, how):
    job = start(how)
    job.until_rows(1, tmp_path / "out.csv")
    job.descendants()
    begin_s = time.monotonic()
    for process in job.processes:
        process.send_signal(signal.SIGTERM)
    assert set(job.ends(timeout_s=10)) == {130}, job.output()
    assert time.monotonic() - begin_s < 8
    assert [row.status for row in rows_of(tmp_path)] == ["ok"]


def test_when_the_command_itself_is_killed_its_ranks_go_with_it(start, tmp_path):
    job = start("local")
    job.until_rows(1, tmp_path / "out.csv")
    ranks = [process for process in job.descendants() if "chipassay.runners.workers.ranks" in process.cmdline()]
    assert len(ranks) == 3
    job.processes[0].kill()
    job.processes[0].wait()
    _, alive = psutil.wait_procs(ranks, timeout=5)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_a_supervisor_that_says_nothing_ends_the_job_with_what_there_is(start, tmp_path):
    job = start("launched")
    job.until_rows(1, tmp_path / "out.csv")
    time.sleep(0.5)
    job.descendants()
    os.kill(job.processes[2].pid, signal.SIGSTOP)
    try:
        job.until_rows(4, tmp_path / "out.csv")
        deadline = time.monotonic() + 10
        while any(process.poll() is None for process in job.processes[:2]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        os.kill(job.processes[2].pid, signal.SIGCONT)
    # It finds rank 0 gone.
    assert job.ends() == [0, 0, 3], job.output()
    rows = rows_of(tmp_path)
    # Its rank went on with the row it had been given.
    assert [row.status for row in rows] == ["ok", "ok", "error", "skipped"]
    assert rows[2].reason == "rank 2's host does not answer"
    assert rows[3].reason == "a rank was lost before: rank 2's host does not answer"
