"""From a suite's blocks of collectives to tasks."""

from __future__ import annotations

from typing import Any

from chipassay.collectives.pattern import patterns
from chipassay.kernels.kernel import cases
from chipassay.runners.collective.request import CollectiveRequest
from chipassay.runners.collective.tasks import Job, backend_names, collective_tasks
from chipassay.runners.suites import Suite, Wanted

HERE = Job("cpu", (0, 0, 0, 0))
TWO_NODES = Job("cpu", (0, 0, 1, 1))


def suite(**settings: Any) -> Suite:
    wanted = {"op": "all_reduce", "axes": {"dtype": "fp32", "size_bytes": 1 << 20}, "cache": "cold", "ranks": "all", **settings}
    return Suite("s", 0.1, (Wanted(**wanted),))


def members(settings: dict[str, Any], job: Job = HERE) -> list[str | None]:
    return [task.columns["members"] for task in collective_tasks(suite(**settings), job)]


def test_all_ranks_are_not_spelt_out_so_that_jobs_of_one_size_can_be_compared():
    (task,) = collective_tasks(suite(), HERE)
    assert (task.columns["members"], task.columns["group_size"], task.ranks, task.reason) == (None, 4, 4, None)


def test_groups_of_some_ranks_are_named():
    assert members({"ranks": 2}) == ["0,1"]
    assert members({"ranks": 2, "at_once": True}) == ["0,1|2,3"]
    assert members({"ranks": 2, "placement": "across"}, TWO_NODES) == ["0,2"]


def test_pairs_are_a_row_each():
    assert members({"op": "send_recv", "ranks": "pairs"}) == ["0,1", "0,2", "0,3", "1,2", "1,3", "2,3"]


def test_a_group_that_cannot_be_made_is_a_row_that_says_why():
    (task,) = collective_tasks(suite(ranks=8), HERE)
    assert task.reason == "a group of 8 needs as many ranks; there are 4"
    (task,) = collective_tasks(suite(ranks=2, placement="across"), HERE)
    assert task.reason == "all ranks are on one node: no group reaches across"


def test_rows_that_differ_in_their_group_alone_are_different_cases():
    refused = [*collective_tasks(suite(ranks=8), HERE), *collective_tasks(suite(ranks=16), HERE)]
    refused += collective_tasks(suite(ranks=2, placement="across"), HERE)
    refused += collective_tasks(suite(ranks=4, at_once=True), HERE)
    assert len({task.key for task in refused}) == 4


def test_every_transport_a_kind_of_device_has_can_be_asked_for_by_three_names():
    assert {"gloo", "torch.distributed", "torch"} <= backend_names("cpu")
    assert {"nccl", "torch.distributed", "torch"} <= backend_names("cuda")
    assert "cupy.nccl" not in backend_names("cpu")


def test_torch_carries_collectives_unless_another_is_asked_for():
    (task,) = collective_tasks(suite(), HERE)
    assert (task.columns["backend"], task.columns["kernel"]) == ("gloo", "torch.distributed.all_reduce")
    assert [task.columns["backend"] for task in collective_tasks(suite(), HERE, ("gloo",))] == ["gloo"]
    assert collective_tasks(suite(), HERE, ("numpy",)) == []


def test_a_request_survives_json():
    import json

    (task,) = collective_tasks(suite(ranks=2, at_once=True), HERE)
    request = CollectiveRequest.from_json(json.loads(json.dumps(dict(task.request))))
    assert request.members == ((0, 1), (2, 3))
    assert request == CollectiveRequest(**task.request)


def test_compute_beside_communication_is_two_rows_each_timing_one_of_them():
    product = {"m": 512, "n": 512, "k": 512, "dtype": "bf16"}
    one, other = collective_tasks(suite(beside=product), HERE)
    assert (one.columns["op"], one.columns["beside"]) == ("all_reduce", "matmul 512x512x512 bf16")
    assert (other.columns["op"], other.columns["m"], other.columns["beside"]) == ("matmul", 512, "all_reduce 1 MiB fp32 gloo")
    assert [task.request["timed"] for task in (one, other)] == ["collective", "beside"]


def test_no_collective_shares_its_name_with_an_operation_of_one_chip():
    assert not set(patterns()) & set(cases())


def test_placement_of_buffers_is_told_only_where_there_are_two():
    assert [task.columns["in_place"] for task in collective_tasks(suite(), HERE)] == [True]
    assert [task.columns["in_place"] for task in collective_tasks(suite(in_place=False), HERE)] == [False]
    assert [task.columns["in_place"] for task in collective_tasks(suite(op="all_to_all"), HERE)] == [None]
    (task,) = collective_tasks(suite(op="all_to_all", in_place=True), HERE)
    assert (task.columns["in_place"], task.reason) == (True, "all_to_all is not defined in place")
