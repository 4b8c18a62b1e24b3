"""Each launcher's variables, as its documentation names them, and what contradicts them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.errors import InputError
from chipassay.runners.launch.environment import find_launch, first_host
from chipassay.runners.launch.skypilot import torchrun_command

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_RESTART_COUNT": "1",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "RANK": "5",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "8",
    "LOCAL_WORLD_SIZE": "4",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29400",
}
SRUN = {
    "SLURM_JOB_ID": "4712",
    "SLURM_STEP_ID": "3",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "16",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_JOB_NODELIST": "gpu[01-08]",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_RANK": "1",
}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2", "PMI_FD": "6"}
SHELL = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "host-a", "MASTER_PORT": "29501"}


def placed(environ):
    found = find_launch(environ)
    return found.launcher, found.rank, found.ranks, found.local_rank, found.master_address, found.master_port


def test_torchrun_tells_all_and_its_agent_hosts_the_store():
    assert placed(TORCHRUN) == ("torchrun", 5, 8, 1, "10.0.0.1", 29400)
    found = find_launch(TORCHRUN)
    assert found.agent_store
    assert found.attempt == 1
    assert found.several_hosts


def test_torchrun_started_by_srun_once_a_node_counts_its_own_ranks():
    assert placed({**SRUN, "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", **TORCHRUN})[:3] == ("torchrun", 5, 8)


def test_srun_gives_the_first_host_of_the_step_and_a_port_of_the_job_and_step():
    assert placed(SRUN) == ("srun", 9, 16, 1, "gpu07", 24715)


def test_srun_takes_address_and_port_that_the_batch_script_exports():
    assert placed({**SRUN, "MASTER_ADDR": "10.1.1.1", "MASTER_PORT": "1234"})[4:] == ("10.1.1.1", 1234)


def test_an_srun_step_on_one_node_says_so():
    assert not find_launch({**SRUN, "SLURM_STEP_NUM_NODES": "1"}).several_hosts
    assert find_launch(SRUN).several_hosts


def test_a_batch_scripts_own_shell_is_no_task_of_a_step():
    assert find_launch({name: value for name, value in SRUN.items() if "STEP" not in name} | {"SLURM_PROCID": "0"}) is None


def test_an_interactive_shell_of_one_task_is_no_launch():
    assert find_launch({**SRUN, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) is None


def test_open_mpi_over_hosts_asks_for_the_first_hosts_name():
    with pytest.raises(InputError, match="-x MASTER_ADDR=HOST"):
        find_launch(OPEN_MPI)
    assert placed({**OPEN_MPI, "MASTER_ADDR": "a"}) == ("mpirun", 1, 4, 1, "a", 29500)


def test_mpich_on_one_host_needs_no_name():
    assert placed(MPICH) == ("mpirun", 1, 2, 1, "127.0.0.1", 29500)


def test_pmix_without_a_size_takes_the_world_size():
    assert placed({"PMIX_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "a"})[:3] == ("mpirun", 1, 2)


def test_shells_tell_what_torch_distributed_reads():
    assert placed(SHELL) == ("RANK and WORLD_SIZE", 1, 2, None, "host-a", 29501)


def test_a_world_of_one_and_nothing_at_all_are_no_launch():
    assert find_launch({**SHELL, "RANK": "0", "WORLD_SIZE": "1"}) is None
    assert find_launch({"PATH": "/bin", "MASTER_ADDR": "left-over"}) is None


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({**SRUN, "WORLD_SIZE": "8"}, "WORLD_SIZE=8 contradicts SLURM_STEP_NUM_TASKS=16"),
        ({**SRUN, **SHELL, "WORLD_SIZE": "16"}, "RANK=1 contradicts SLURM_PROCID=9"),
        ({**MPICH, "WORLD_SIZE": "4"}, "WORLD_SIZE=4 contradicts PMI_SIZE=2"),
        ({**SHELL, "RANK": "2"}, "RANK=2 is no rank of WORLD_SIZE=2; ranks count from 0 to 1"),
        ({"RANK": "1"}, "RANK=1 is set and WORLD_SIZE is not"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2 is set and RANK is not"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "MASTER_ADDR is not; set it to rank 0's host"),
        ({**SHELL, "RANK": "one"}, "RANK='one' is no count"),
        ({**SHELL, "MASTER_PORT": "99999"}, "MASTER_PORT=99999 is no port"),
    ],
)
def test_a_contradiction_names_the_variables(environ, complaint):
    with pytest.raises(InputError, match=complaint):
        find_launch(environ)


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 200), st.integers(0, 5), st.integers(0, 4))
def test_the_first_host_of_a_node_list_is_the_first_that_it_expands_to(first, more, width):
    names = [f"n{number:0{width + 1}d}" for number in range(first, first + more + 1)]
    listed = names[0] if not more else f"n[{names[0][1:]}-{names[-1][1:]}]"
    assert first_host(f"{listed},other[1-3]") == names[0]


def test_a_broken_node_list_is_told():
    with pytest.raises(InputError, match="no Slurm node list"):
        first_host(",a")


SKY = {
    "SKYPILOT_NUM_NODES": "2",
    "SKYPILOT_NODE_RANK": "0",
    "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
    "SKYPILOT_NUM_GPUS_PER_NODE": "8",
}


def test_a_skypilot_task_over_nodes_becomes_torchrun_once():
    command = torchrun_command(SKY, ["run", "--only", "all_reduce"], None)
    assert command[1:3] == ["-m", "torch.distributed.run"]
    assert {"--nnodes=2", "--nproc-per-node=8", "--master-addr=10.0.0.1"} <= set(command)
    assert command[-5:] == ["-m", "chipassay.runners", "run", "--only", "all_reduce"]
    assert torchrun_command({**SKY, "RANK": "3", "WORLD_SIZE": "16"}, ["run"], None) is None
    assert torchrun_command({**SKY, "SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_IPS": "10.0.0.1"}, ["run"], None) is None


def test_a_skypilot_task_whose_nodes_do_not_match_is_told():
    with pytest.raises(InputError, match="SKYPILOT_NUM_NODES=3 contradicts"):
        torchrun_command({**SKY, "SKYPILOT_NUM_NODES": "3"}, ["run"], None)
