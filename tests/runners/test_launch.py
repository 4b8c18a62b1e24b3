"""The same command under torchrun, mpiexec and in shells: one file, one exit code, and every mistake told before anything is measured."""

from __future__ import annotations

import importlib.util
import re
import shutil
import socket
import sys
from pathlib import Path

import pytest

from chipassay.runners.launch.hello import different_asks, different_hellos, missing_transports

from .launched import QUICK, Job, clean_environment, command, free_port, is_listened_to, rows_of

pytest.importorskip("torch")
slow = pytest.mark.slow
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@pytest.fixture
def started():
    jobs = []

    def keep(job):
        jobs.append(job)
        return job

    yield keep
    for job in jobs:
        job.kill()


@slow
def test_torchrun_writes_one_file_and_only_rank_0_speaks(started, tmp_path):
    port = free_port()
    words = command(tmp_path)[3:]
    launcher = [*TORCHRUN, "--nproc-per-node=3", "--master-addr=127.0.0.1", f"--master-port={port}", "-m", "chipassay.runners"]
    job = started(Job([[*launcher, *words]], [clean_environment()], tmp_path))
    assert job.ends() == [0], job.output()
    rows = rows_of(tmp_path)
    assert [(row.op, row.status, row.group_size, row.node_count) for row in rows] == [
        ("all_reduce", "ok", 3, 1),
        ("all_gather", "ok", 3, 1),
    ]
    assert job.output().count("No GPU is measured") == 1
    assert not is_listened_to(port)


@slow
def test_a_rank_that_does_not_come_is_named_by_all_that_did(started, tmp_path):
    port = free_port()
    common = {"WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environments = [clean_environment(RANK=str(rank), **common) for rank in range(2)]
    job = started(Job([command(tmp_path, QUICK, "--wait", "8s")] * 2, environments, tmp_path))
    assert job.ends() == [3, 3], job.output()
    for index in range(2):
        assert "chipassay: rank 2 of 3 did not come within 8 s (by RANK and WORLD_SIZE, 3 ranks)" in job.output(index)
    assert not (tmp_path / "out.csv").exists()
    assert not is_listened_to(port)


@slow
def test_ranks_that_are_asked_for_different_things_are_refused_by_all(started, tmp_path):
    job = started(Job.shells(tmp_path, 2, QUICK, words={1: ["--backend", "gloo"]}))
    assert job.ends() == [2, 2], job.output()
    for index in range(2):
        assert "was started with --backend gloo, rank 0" in job.output(index)
        assert "give all ranks the same command" in job.output(index)


@slow
def test_a_taken_port_is_told_with_the_mend(started, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = clean_environment(RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        job = started(Job([command(tmp_path)], [environment], tmp_path))
        assert job.ends() == [2]
    assert f"rank 0 cannot listen on 127.0.0.1, port {port} (Address already in use); choose another MASTER_PORT" in job.output()


@slow
@pytest.mark.skipif(MPIEXEC is None, reason="needs mpiexec: pip install mpich")
def test_mpiexec_starts_ranks_that_speak_mpi_and_gloo(started, tmp_path):
    if importlib.util.find_spec("mpi4py") is None:
        pytest.skip("needs mpi4py")
    suite = QUICK + 'backends = ["torch", "mpi4py"]\n'
    words = [MPIEXEC, "-n", "2", *command(tmp_path, suite)]
    job = started(Job([words], [clean_environment(MASTER_PORT=str(free_port()))], tmp_path))
    assert job.ends() == [0], job.output()
    assert {(row.op, row.backend, row.status) for row in rows_of(tmp_path)} == {
        (op, backend, "ok") for op in ("all_reduce", "all_gather") for backend in ("gloo", "mpi")
    }, job.output()


HELLO = {
    "chipassay": "0.1.0",
    "torch": "2.13.0",
    "nccl": "2.29.3",
    "host": "aa",
    "chip": "GPU-1",
    "facts": {"kind": "cuda", "chip_id": "h100-sxm-80gb"},
    "missing": {"torch.distributed": None, "cupy.nccl": None},
}


def hellos(**second):
    return {0: HELLO, 1: {**HELLO, "host": "bb", **second}}


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        ({"torch": "2.12.1"}, r"rank 1 \(host bb\) has torch 2.12.1, rank 0 \(host aa\) torch 2.13.0; install the same version"),
        ({"chipassay": "0.0.9"}, "rank 1 .* has chipassay 0.0.9"),
        ({"nccl": "2.21.5"}, "rank 1 .* has nccl 2.21.5"),
        ({"facts": {"kind": "cpu", "chip_id": "cpu"}}, "rank 1 .* has a device of kind cpu, rank 0 .* a device of kind cuda"),
        ({"facts": {"kind": "cuda", "chip_id": "t4"}}, "rank 1 .* has chip t4, .* measure each kind of chip in a job of its own"),
        ({"host": "aa"}, "ranks 0 and 1 drive the same GPU of host aa; start one rank per GPU"),
    ],
)
def test_ranks_that_differ_are_told_with_both_values(second, complaint):
    assert re.search(complaint, different_hellos(hellos(**second)))


def test_ranks_alike_are_no_problem():
    assert different_hellos(hellos()) is None
    assert different_hellos(hellos(chip="GPU-2", host="aa")) is None
    assert different_hellos(hellos(host="aa"), share_gpu=True) is None
    same = {"node": "aa", "asked": {"backend": ""}}
    assert different_asks({0: same, 1: same}) is None


def test_cpus_of_one_job_may_differ_in_cores():
    cpu = {**HELLO, "chip": None, "nccl": None, "facts": {"kind": "cpu", "chip_id": "cpu-zen4-2c"}}
    assert different_hellos({0: cpu, 1: {**cpu, "facts": {"kind": "cpu", "chip_id": "cpu-zen4-4c"}}}) is None


def test_a_transport_that_one_rank_lacks_is_none_of_the_jobs():
    lacking = hellos(missing={"torch.distributed": None, "cupy.nccl": "cupy is not installed"})
    assert missing_transports(lacking) == {"cupy.nccl": "rank 1: cupy is not installed"}
