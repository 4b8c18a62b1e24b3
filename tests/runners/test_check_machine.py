"""What a check says of a machine, in the words that a user reads; and rules that need no baseline, on healthy and on sick fleets."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.schema import NAMES, STATUSES, TYPES, Row
from chipassay.results.table import read_rows
from chipassay.runners.check.check import check_rows
from chipassay.runners.check.siblings import baseline

H200 = sorted((Path(__file__).parents[2] / "results" / "h200-sxm-141gb").glob("*.csv"))
OWN = sorted((Path(__file__).parents[2] / "results").glob("cpu-*.csv"))
WITHOUT_BASELINE = {"dip", "time-falls", "off-its-neighbours", "slower-than-siblings", "slow-chip", "slower-chip", "bad-link", "weak-link"}


def said(rows: list[Row], rule: str) -> list[str]:
    return [finding.words for finding in check_rows(rows).machine if finding.rule == rule]


def product(tflop_per_s: float, edge: int = 4096, **more: Any) -> Row:
    flops = 2.0 * edge**3
    case: dict[str, Any] = {"op": "matmul", "dtype": "bf16", "m": edge, "n": edge, "k": edge, "kernel": "torch.mm", "cache": "cold"}
    return Row(status="ok", flops=flops, bytes=6.0 * edge**2, time_median_s=flops / tflop_per_s / 1e12, device_kind="cuda", **case | more)


def test_a_slow_gpu_of_eight_is_named_with_its_share() -> None:
    rows = [
        product(700.0 / (1.12 if index == 5 else 1.0), edge, device_index=index, host_hash="abc", chip_id="h100-sxm-80gb")
        for index in range(8)
        for edge in (2048, 4096, 8192)
    ]
    (words,) = said(rows, "slow-chip")
    assert words == "chip 5 is 12 % slow: it takes that much longer than its siblings (7 of them), median of 3 cases"


def test_chips_of_several_hosts_are_told_by_host() -> None:
    rows = [
        product(700.0 / (1.5 if (host, index) == ("beef01", 2) else 1.0), device_index=index, host_hash=host, chip_id="h100-sxm-80gb")
        for host in ("abcdef", "beef01")
        for index in range(4)
    ]
    (words,) = said(rows, "slow-chip")
    assert words.startswith("chip 2 of host beef01 is 50 % slow")


def test_hosts_that_measured_as_a_whole_are_compared_as_hosts() -> None:
    case: dict[str, Any] = {"op": "all_reduce", "size_bytes": 2**30, "group_size": 8, "backend": "nccl", "dtype": "bf16", "node_count": 1}
    rows = [
        Row(status="ok", chip_id="h100-sxm-80gb", host_hash=host, time_median_s=4e-3 * (1.3 if host == "c" else 1.0), **case)
        for host in "abcd"
    ]  # fmt: skip
    (words,) = said(rows, "slow-chip")
    assert words.startswith("host c is 30 % slow")


@given(st.permutations([1.0, 1.02, 0.98, 1.0, 1.7, 1.6, 0.99]))
@settings(derandomize=True, max_examples=50, deadline=None)
def test_the_baseline_of_siblings_does_not_depend_on_their_order(times: list[float]) -> None:
    assert baseline(times) == 1.0  # the median of the five healthy ones


def test_a_card_behind_four_lanes_is_told_so() -> None:
    """PCIe 4 x16 carries 31.5 GB/s one way and copies reach 26; with four lanes a quarter of that."""
    copy = Row(op="transfer", status="ok", chip_id="a100-pcie-80gb", path="host_to_device", host_memory="pinned", bytes=2.0**30,
               device_index=0, time_median_s=2**30 / 6.5e9)  # fmt: skip
    (words,) = said([copy], "few-lanes")
    assert words == "chip 0 is behind 4 lanes: pinned copies host to device reach 6.50 GB/s of the 31.5 GB/s of 16"


def test_an_a100_pcie_sold_as_sxm_is_found_by_its_collectives_and_memory() -> None:
    """Its matmul alone cannot tell (253 against 271); eight of them have no switch between them: NVIDIA's slide gives 24 GB/s over PCIe."""
    rows = [product(240.0, edge, chip_id="a100-sxm-80gb") for edge in (2048, 4096, 8192)]
    for size in (2**28, 2**29, 2**30):
        busbw = 21e9
        rows.append(
            Row(op="all_reduce", status="ok", chip_id="a100-sxm-80gb", size_bytes=size, group_size=8, backend="nccl", dtype="bf16",
                node_count=1, busbw_bytes_per_s=busbw, time_median_s=size * 1.75 / busbw)
        )  # fmt: skip
    (words,) = said(rows, "other-form-factor")
    assert words.startswith("this is no SXM4 card: over 6 cases its figures fit a100-pcie-")
    assert not said(rows, "collectives-over-pcie")  # a consequence, not a second fault


def test_collectives_of_an_sxm_machine_over_pcie_are_told_with_what_to_try() -> None:
    rows = [
        Row(op="all_reduce", status="ok", chip_id="h100-sxm-80gb", size_bytes=2**30, group_size=8, backend="nccl", node_count=1,
            busbw_bytes_per_s=40e9, time_median_s=2**30 * 1.75 / 40e9)
    ]  # fmt: skip
    (finding,) = [finding for finding in check_rows(rows).machine if finding.rule == "collectives-over-pcie"]
    assert "run over PCIe" in finding.words
    assert "NCCL_P2P_DISABLE" in finding.cause
    assert "topo -m" in finding.mend
    assert check_rows(rows).severity == "fault"


def test_two_cards_without_their_bridge_are_no_fault() -> None:
    row = Row(op="all_reduce", status="ok", chip_id="h100-pcie-80gb", size_bytes=2**30, group_size=2, backend="nccl", node_count=1,
              busbw_bytes_per_s=30e9, time_median_s=2**30 / 30e9)  # fmt: skip
    assert check_rows([row]).severity == "ok"
    assert check_rows([replace(row, fabric="nvlink")]).severity == "fault"


def test_a_rank_whose_links_are_all_slow_is_one_finding_not_five() -> None:
    rows = []
    for a in range(6):
        for b in range(a + 1, 6):
            time_s = 1e-3 * (3.0 if 4 in (a, b) else 1.0) * (1 + 0.002 * ((a * 7 + b * 3) % 5))
            rows.append(
                Row(op="send_recv", status="ok", chip_id="h100-sxm-80gb", backend="nccl", group_size=2, members=f"{a},{b}",
                    size_bytes=2**28, time_median_s=time_s, busbw_bytes_per_s=2**28 / time_s)
            )  # fmt: skip
    (words,) = said(rows, "bad-link")[:1]
    assert words.startswith("rank 4 is")


def test_severities_come_worst_first_and_rows_in_their_order() -> None:
    rows = [
        product(9000.0, chip_id="h100-sxm-80gb"),
        product(700.0, 8192, chip_id="my-chip"),
        product(300.0, 8192, chip_id="h100-sxm-80gb"),
    ]
    verdict = check_rows(rows)
    assert verdict.severity == "impossible"
    assert [rows.index(finding.row) for finding in verdict.findings if finding.row is not None] == [0, 2]
    assert (verdict.rows, verdict.expected) == (3, 2)


def test_an_empty_table_is_ok() -> None:
    assert check_rows([]).severity == "ok"


@pytest.mark.parametrize("path", OWN, ids=[path.name for path in OWN])
def test_our_own_cpu_measurements_are_neither_impossible_nor_faulty(path: Path) -> None:
    verdict = check_rows(read_rows(path))
    assert verdict.severity in ("ok", "note", "warning")
    assert verdict.checked > 0.9 * verdict.rows
    assert verdict.expected == 0
    assert [finding.rule for finding in verdict.machine] == ["unknown-chip"]


@given(st.floats(1e-3, 1e3))
@settings(derandomize=True, max_examples=25, deadline=None)
def test_a_factor_that_all_rows_share_trips_no_rule_without_a_baseline(factor: float) -> None:
    """A machine twice as slow in all is as even as before: only a baseline could tell."""
    rows = []
    for device in range(4):
        for power in range(10, 31, 2):
            size = 2**power
            time_s = factor * (1e-5 + size / 5e10) * (1 + 0.01 * device)
            rows.append(
                Row(op="all_reduce", status="ok", chip_id="h100-sxm-80gb", size_bytes=size, group_size=8, backend="nccl", run_id="r",
                    host_hash=f"host{device}", time_median_s=time_s, time_low_s=0.99 * time_s, time_high_s=1.01 * time_s)
            )  # fmt: skip
    verdict = check_rows(rows)
    assert not WITHOUT_BASELINE & {finding.rule for finding in (*verdict.findings, *verdict.machine)}


def test_noise_as_wide_as_the_dip_is_no_dip() -> None:
    case: dict[str, Any] = {"op": "all_reduce", "chip_id": "x", "group_size": 2, "backend": "gloo", "status": "ok"}
    sweep = [Row(size_bytes=2**20, time_median_s=1e-3, time_low_s=0.7e-3, time_high_s=1.3e-3, **case),
             Row(size_bytes=2**21, time_median_s=2.4e-3, time_low_s=1.7e-3, time_high_s=3e-3, **case)]  # fmt: skip
    assert "dip" not in {finding.rule for finding in check_rows(sweep).findings}
    sure = [replace(row, time_low_s=0.99 * (row.time_median_s or 0), time_high_s=1.01 * (row.time_median_s or 0)) for row in sweep]
    assert "dip" in {finding.rule for finding in check_rows(sure).findings}


_VALUES = {
    "str": st.sampled_from(["", "$x", "nccl", "=1+1", "\x1b[2J", "from=0;to=1", "0,1", "a,b"]) | st.text(max_size=5),
    "int": st.integers(-3, 3) | st.integers(-(2**40), 2**40),
    "float": st.floats(allow_nan=False) | st.sampled_from([0.0, -1.0, 1e-9, math.inf]),
    "bool": st.booleans(),
    "tuple[float, ...]": st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False), st.floats(allow_nan=False)),
}
_FIXED = {
    "op": st.sampled_from(["matmul", "attention", "copy", "read", "transfer", "all_reduce", "all_gather", "send_recv", "launch", "mine"]),
    "chip_id": st.sampled_from(["a100-sxm-80gb", "h100-sxm-80gb", "p100-pcie-16gb", "mi300x-192gb", "gb200", "x"]),
    "status": st.sampled_from(STATUSES),
    "dtype": st.sampled_from(["bf16", "fp32", "fp8_e4m3", "?"]),
    "path": st.sampled_from(["host_to_device", "device_to_device"]),
    "fabric": st.sampled_from(["pcie", "nvlink", "hdr200x4", "single", "?"]),
}


@st.composite
def any_row(draw: st.DrawFn) -> Row:
    """Cells of the right type and any value."""
    names = draw(st.sets(st.sampled_from(NAMES), max_size=25)) | {"op", "chip_id", "status"}
    return Row(**{name: draw(_FIXED.get(name, _VALUES[TYPES[name]])) for name in sorted(names)})


@given(st.lists(any_row(), max_size=4))
@settings(derandomize=True, max_examples=150, deadline=None)
def test_whatever_stands_in_the_cells_the_check_comes_to_a_verdict(rows: list[Row]) -> None:
    verdict = check_rows(rows)
    assert verdict.rows == len(rows) >= verdict.checked


@pytest.mark.parametrize("path", H200, ids=lambda path: path.stem)
def test_nothing_is_said_against_a_healthy_h200_but_its_wrong_kernels(path: Path) -> None:
    """Among its rows: warm ones far too small for any expectation, and large products that the power limit holds at 0.7 of the clock."""
    verdict = check_rows(read_rows(path))
    assert verdict.machine == ()
    assert {finding.rule for finding in verdict.findings if finding.severity not in ("note", "warning")} <= {"wrong-result"}
    assert {finding.rule for finding in verdict.findings if finding.severity == "warning"} <= {"dip", "not-measured"}
