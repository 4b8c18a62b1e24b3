"""Which algorithm ran: what the environment settles, and what NCCL's log says in the forms of its versions."""

from __future__ import annotations

import pytest

from chipassay.collectives.algorithm import algorithm_from_log, known_algorithm
from chipassay.collectives.pattern import patterns
from chipassay.collectives.wire import wire_bytes

CALL = "n0:30:30 [0] NCCL INFO {}: opCount 2 sendbuff 0x7f1 recvbuff 0x7f2 count {} datatype 7 op 0 root 0 comm 0x5 [nranks={}] stream 0x6"


@pytest.mark.parametrize(
    ("value", "op", "algorithm"),
    [
        ("Ring", "all_reduce", "ring"),
        ("RING", "broadcast", "ring"),
        ("Tree", "all_reduce", "tree"),
        ("Tree", "all_gather", "unknown"),  # a ring before 2.24, a failure since
        ("Ring,Tree", "all_reduce", "unknown"),
        ("^Tree", "all_reduce", "unknown"),
        ("allreduce:ring", "all_reduce", "ring"),
        ("allreduce:ring", "all_gather", "unknown"),
        ("ring;allreduce:tree", "all_reduce", "tree"),
        ("ring;allreduce:tree", "all_gather", "ring"),
        ("ring;allreduce:tree,nvls", "all_reduce", "unknown"),
        ("NVLS", "all_reduce", "unknown"),
        ("", "all_reduce", "unknown"),
        ("nonsense", "all_reduce", "unknown"),
        ("Ring", "all_to_all", "direct"),
        ("Ring", "barrier", "unknown"),
    ],
)
def test_what_nccl_algo_settles_for_any_version(value, op, algorithm):
    assert known_algorithm("nccl", op, {"NCCL_ALGO": value}) == algorithm


@pytest.mark.parametrize(("version", "algorithm"), [((2, 23, 4), "unknown"), ((2, 24, 3), "nvls"), ((2, 28), "nvls")])
def test_nvls_is_believed_only_of_versions_that_fail_without_it(version, algorithm):
    assert known_algorithm("nccl", "all_reduce", {"NCCL_ALGO": "NVLS"}, version) == algorithm


def test_nothing_is_known_of_nccl_by_default_but_its_sends():
    assert {op for op in patterns() if known_algorithm("nccl", op, {}) != "unknown"} == {
        "all_to_all",
        "all_to_all_v",
        "gather_to_root",
        "scatter_from_root",
        "send_recv",
    }


def test_rccl_and_mpi_are_not_guessed():
    assert known_algorithm("rccl", "all_reduce", {"NCCL_ALGO": "Ring"}) == "unknown"
    assert known_algorithm("rccl", "send_recv", {}) == "direct"
    assert known_algorithm("mpi", "all_reduce", {"NCCL_ALGO": "Ring"}) == "unknown"


def test_all_that_is_known_of_gloo_has_a_wire_rate():
    known = {op: known_algorithm("gloo", op, {}) for op in patterns()}
    assert known["all_reduce"] == "ring"
    assert {op for op, algorithm in known.items() if algorithm == "unknown"} == {"reduce", "barrier"}
    assert all(wire_bytes(op, algorithm, 4, 8) for op, algorithm in known.items() if algorithm != "unknown")


def test_a_log_of_2_20_to_2_22_names_neither_function_nor_algorithm():
    # The second line is of NVIDIA/nccl issue 1453.
    log = f"""{CALL.format("AllReduce", 65536, 16)}
[0] h100clust-worker-1:497888:497888 [0] NCCL INFO 262144 Bytes -> Algo 0 proto 1 time 54.707825
{CALL.format("AllGather", 1024, 16)}
[0] h100clust-worker-1:497888:497888 [0] NCCL INFO 65536 Bytes -> Algo 1 proto 2 time 30.1"""
    assert algorithm_from_log(log) == {("all_reduce", 262144): "tree", ("all_gather", 65536): "ring"}


def test_a_line_of_which_the_function_is_not_told_is_left_out():
    # NVIDIA/nccl issue 1595.
    assert algorithm_from_log("[0] NCCL INFO 805306368 Bytes -> Algo 1 proto 2 time 3970.683594") == {}


def test_a_log_of_2_23_counts_the_total_of_an_all_gather():
    # Counts of a public log of 4 ranks: 2359808 floats each are 37756928 bytes in all.
    log = f"""{CALL.format("AllGather", 2359808, 4)}
2: node-0:309:309 [0] NCCL INFO AllGather: 37756928 Bytes -> Algo 1 proto 2 time 2860.208008"""
    assert algorithm_from_log(log) == {("all_gather", 2359808 * 4 * 4): "ring"}


def test_a_log_since_2_24_counts_one_ranks_part():
    log = f"""{CALL.format("AllGather", 1024, 8)}
n0:30:30 [0] NCCL INFO AllGather: 4096 Bytes -> Algo NVLS proto SIMPLE channel{{Lo..Hi}}={{0..15}}
{CALL.format("ReduceScatter", 1024, 8)}
n0:30:30 [0] NCCL INFO ReduceScatter: 4096 Bytes -> Algo PAT proto SIMPLE channel{{Lo..Hi}}={{0..0}}
n0:30:30 [0] NCCL INFO AllReduce: 33554432 Bytes -> Algo RING proto SIMPLE channel{{Lo..Hi}}={{0..31}}
n0:30:30 [0] NCCL INFO Broadcast: 4096 Bytes -> Algo RING proto LL channel{{Lo..Hi}}={{0..0}}"""
    assert algorithm_from_log(log) == {
        ("all_gather", 32768): "nvls",
        ("reduce_scatter", 32768): "pat",
        ("all_reduce", 33554432): "ring",
        ("broadcast", 4096): "ring",
    }


def test_a_part_of_which_the_ranks_are_not_told_is_left_out():
    assert algorithm_from_log("x NCCL INFO AllGather: 4096 Bytes -> Algo RING proto SIMPLE channel{Lo..Hi}={0..1}") == {}


def test_kernels_on_symmetric_memory_and_copy_engines_are_named_as_such():
    log = f"""n0:30:30 [0] NCCL INFO AllReduce [Symmetric]: 8388608 Bytes -> Kernel AllReduce_RSxLDMC_AGxSTMC nchannels 8 nthreads 512
{CALL.format("AllGather", 1024, 8)}
n0:30:30 [0] NCCL INFO AllGather [Copy Engine]: 4096 Bytes -> cudaMemcpyBatch"""
    assert algorithm_from_log(log) == {("all_reduce", 8388608): "symmetric", ("all_gather", 32768): "copy_engine"}


def test_what_a_log_contradicts_is_unknown():
    line = "n0:1:1 [0] NCCL INFO AllReduce: 4096 Bytes -> Algo {} proto LL channel{{Lo..Hi}}={{0..0}}\n"
    assert algorithm_from_log(line.format("TREE") + line.format("TREE")) == {("all_reduce", 4096): "tree"}
    assert algorithm_from_log(line.format("TREE") + line.format("RING") + line.format("TREE")) == {("all_reduce", 4096): "unknown"}


def test_other_lines_say_nothing():
    assert algorithm_from_log("n0:1:1 [0] NCCL INFO Channel 00/24 : 0 1 2 3\nStep 10 loss 3.4\n") == {}
