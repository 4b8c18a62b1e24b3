"""What the link cannot carry is marked, whatever algorithm ran."""

from __future__ import annotations

import pytest

from chipassay.runners.collective.link import LOG_TAIL_BYTES, above_link, link_bytes_per_s, nccl_log, wire_columns

H100 = "h100-sxm-80gb"
ONE_WAY = 450e9
"""NVLink 4: 18 links of 25 GB/s each way (NVIDIA H100 datasheet: 900 GB/s both ways)."""


def test_the_links_rate_is_the_catalogues_one_way_rate_within_a_node():
    assert link_bytes_per_s(H100, 8, 1) == ONE_WAY
    assert link_bytes_per_s(H100, 16, 2) is None
    assert link_bytes_per_s("cpu-zen-4-2c", 2, 1) is None


def test_a_group_larger_than_the_links_domain_has_no_link_rate():
    assert link_bytes_per_s(H100, 10**6, 1) is None


@pytest.mark.parametrize(("share", "flagged"), [(1.01, False), (1.03, True)])
def test_a_ring_above_the_links_rate_by_more_than_rounding_is_flagged(share, flagged):
    # A ring of 8 carries 14/8 S out of each rank (nccl-tests doc/PERFORMANCE.md).
    size_bytes = 10**9
    time_s = 14 / 8 * size_bytes / (share * ONE_WAY)
    columns = wire_columns("all_reduce", "nccl", 8, size_bytes, time_s, {"NCCL_ALGO": "Ring"}, {"nccl": "2.27.3"})
    assert columns == {"algorithm": "ring", "wire_bytes_per_s": pytest.approx(share * ONE_WAY)}
    assert above_link("all_reduce", 8, size_bytes, time_s, columns["wire_bytes_per_s"], ONE_WAY) is flagged


def test_a_busbw_that_only_a_switch_can_give_is_not_flagged():
    # In the switch S + S/8 leave each rank, 480 GB/s of busbw on NVLink 4 (NVIDIA/nccl-tests issue 239).
    columns = wire_columns("all_reduce", "nccl", 8, 10**9, 14 / 8 * 1e9 / 480e9, {}, {})
    assert columns == {"algorithm": "unknown", "wire_bytes_per_s": None}
    assert not above_link("all_reduce", 8, 10**9, 14 / 8 * 1e9 / 480e9, None, ONE_WAY)


def test_less_time_than_the_least_bytes_need_is_flagged_even_where_the_algorithm_is_unknown():
    assert above_link("all_reduce", 8, 10**9, 1e9 / (1.1 * ONE_WAY), None, ONE_WAY)


LOGGING = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "TUNING,COLL"}


def test_what_nccl_logs_of_the_call_tells_its_algorithm(tmp_path):
    log = tmp_path / "nccl"
    line = "n1:7:7 [0] NCCL INFO AllReduce: {} Bytes -> Algo {} proto SIMPLE channel{{Lo..Hi}}={{0..31}}\n"
    log.write_text(line.format(1000, "TREE") * (LOG_TAIL_BYTES // 80) + line.format(8000, "NVLS") + line.format(2000, "RING"))
    environ = {**LOGGING, "NCCL_DEBUG_FILE": str(log)}
    told = {size: wire_columns("all_reduce", "nccl", 8, size, 1e-3, environ, {})["algorithm"] for size in (2000, 8000, 4000)}
    assert told == {2000: "ring", 8000: "nvls", 4000: "unknown"}


def test_a_log_that_is_missing_or_lacks_the_choice_tells_nothing(tmp_path):
    environ = {**LOGGING, "NCCL_DEBUG_FILE": str(tmp_path / "nowhere")}
    assert wire_columns("all_reduce", "nccl", 8, 1000, 1e-3, environ, {})["algorithm"] == "unknown"
    assert nccl_log({**environ, "NCCL_DEBUG_SUBSYS": "INIT"}) is None
    assert nccl_log({**environ, "NCCL_DEBUG": "WARN"}) is None
    assert nccl_log(LOGGING) is None


def test_the_log_of_this_process_is_found_by_its_name():
    import os

    log = nccl_log({**LOGGING, "NCCL_DEBUG_FILE": "/tmp/nccl.%p"})
    assert log is not None
    assert log.name == f"nccl.{os.getpid()}"
