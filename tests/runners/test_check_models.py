"""A row against its chip's model of shapes: good rows of a real GPU pass, wrong ones are told, and what no model knows stays unknown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipassay.results.published_cases import load_published_kernels
from chipassay.results.schema import Row
from chipassay.results.table import read_rows
from chipassay.runners.check.check import check_rows, examine
from chipassay.runners.check.expected import expectation
from chipassay.runners.check.expected_models import published_share

FOLDER = Path(__file__).parents[2] / "results" / "h200-sxm-141gb"
FILES = ("checks", "tables", "standard", "shapes", "full")
AGAINST_EXPECTED = {
    *("compute-far-below", "compute-slow", "kernel-slow", "memory-far-below", "memory-slow", "copy-far-below", "copy-slow"),
    *("far-better-than-expected",),
}
LONG_S = 20e-6
"""Shorter calls are launches as much as work, and those go with the host."""

needs_rows = pytest.mark.skipif(not FOLDER.is_dir(), reason="the rows of the H200 are in a checkout alone")


def rows_of(name: str) -> list[Row]:
    return list(read_rows(FOLDER / f"{name}.csv"))


def long_products() -> list[Row]:
    """The H200's fastest kernel of each product in the types that models train in, where the model is what they are held against."""
    found = []
    for name in FILES:
        table = examine(rows_of(name)).table
        for index, row in enumerate(table.rows):
            one = table.expectations[index]
            known = one is not None and "model of shapes" in one.source and table.best[index]
            if known and row.op == "matmul" and row.dtype in ("bf16", "fp16", "fp8_e4m3") and (row.time_median_s or 0.0) > LONG_S:
                found.append(row)
    return found


def slowed(row: Row, times: float) -> Row:
    """The row as if it had taken so many times as long."""
    assert row.time_median_s is not None
    assert row.rate_flops_per_s is not None
    return replace(row, time_median_s=row.time_median_s * times, rate_flops_per_s=row.rate_flops_per_s / times, flags=None)


@needs_rows
@pytest.mark.parametrize("name", FILES)
def test_good_rows_of_a_real_gpu_raise_no_alarm(name: str) -> None:
    verdict = check_rows(rows_of(name))
    assert verdict.expected > 40
    assert not {finding.rule for finding in verdict.findings} & AGAINST_EXPECTED
    assert not verdict.machine


@needs_rows
def test_products_that_take_40_percent_longer_than_they_should_are_told() -> None:
    """Each alone: no neighbour or sibling helps. 1 / 0.6: the rate is 40 % too low."""
    products = long_products()
    assert len(products) > 400
    for row in products:
        rules = {finding.rule for finding in check_rows([slowed(row, 1 / 0.6)]).findings}
        assert rules & AGAINST_EXPECTED, (row.dtype, row.m, row.n, row.k, row.layout)


@needs_rows
def test_products_that_are_twice_too_fast_are_told() -> None:
    told = [{one.severity for one in check_rows([slowed(row, 0.5)]).findings} & {"warning", "impossible"} for row in long_products()]
    assert sum(map(bool, told)) > 0.98 * len(told)


@needs_rows
def test_a_whole_slow_chip_is_a_warning_on_nearly_every_product() -> None:
    slow = [slowed(row, 1 / 0.6) for row in long_products()]
    verdict = check_rows(slow)
    judged = {id(finding.row) for finding in verdict.findings if finding.rule in AGAINST_EXPECTED}
    assert len(judged) > 0.5 * len(slow)


def matmul(m: int, n: int, k: int, **more: Any) -> Row:
    given = {"chip_id": "h100-sxm-80gb", "dtype": "bf16", "cache": "cold", "layout": "nt", "rate_flops_per_s": 1e12}
    return Row(op="matmul", status="ok", m=m, n=n, k=k, **given | more)


def test_what_is_expected_follows_the_shape_not_the_flops_alone() -> None:
    """As many FLOPs, once as a cube, once so thin that reading the weights decides."""
    cube, thin = expectation(matmul(1024, 1024, 1024)), expectation(matmul(16, 8192, 8192))
    assert cube is not None
    assert thin is not None
    assert thin.value < 16 * 3.35e12
    assert cube.value > 1.5 * thin.value
    assert thin.source.startswith("profile: model of shapes, ")


def test_a_layout_that_is_not_told_may_be_any() -> None:
    """The H200's library takes 4.7 times as long for int8 in nn as in nt."""
    told, untold = (expectation(matmul(4096, 4096, 4096, chip_id="h200-sxm-141gb", dtype="int8", layout=one)) for one in ("nt", None))
    assert told is not None
    assert untold is not None
    assert untold.low < told.low / 3


def test_operands_that_may_wait_in_a_cache_may_be_faster() -> None:
    cold, untold = (expectation(matmul(16, 4096, 4096, cache=cache)) for cache in ("cold", None))
    assert cold is not None
    assert untold is not None
    assert untold.high > 1.5 * cold.high
    assert untold.low == cold.low


def test_thin_products_of_a_chip_that_was_never_measured_thin_stay_unknown() -> None:
    assert expectation(matmul(16, 8192, 8192, chip_id="h800-sxm-80gb")) is None
    assert expectation(matmul(4096, 8192, 8192, chip_id="h800-sxm-80gb")) is not None


def test_without_a_model_the_line_by_flops_is_used_and_said() -> None:
    found = expectation(matmul(3000, 3000, 3000, chip_id="gaudi2"))
    assert found is not None
    assert found.source.startswith("profile: line by FLOPs, ")


def test_the_less_a_model_knows_the_wider_its_interval() -> None:
    own, kin = (expectation(matmul(5000, 5000, 5000, chip_id=chip)) for chip in ("h200-sxm-141gb", "b100-sxm-192gb"))
    assert own is not None
    assert kin is not None
    assert (own.level, kin.level) == ("measured", "derived")
    assert own.low / own.value > 0.8 > 0.5 > kin.low / kin.value


def test_where_published_products_are_far_below_a_table_they_are_normal_too() -> None:
    """SimuMax's B200 is at two thirds of the table that the model is of."""
    assert 0.5 < published_share("b200-sxm-180gb", "bf16") < 0.7
    shapes = [one for one in load_published_kernels() if (one.chip_id, one.op, one.suspect) == ("b200-sxm-180gb", "matmul", "") and one.m]
    rows = [
        matmul(one.m or 1, one.n or 1, one.k or 1, chip_id=one.chip_id, layout=one.layout, rate_flops_per_s=one.rate_flops_per_s)
        for one in shapes
        if one.dtype == "bf16" and one.rate_flops_per_s
    ]
    slow = [row for row in rows if (found := expectation(row)) is not None and (row.rate_flops_per_s or 0.0) < found.low]
    assert len(rows) > 400
    assert len(slow) < 0.06 * len(rows)


def memory(op: str, backend: str, gb_per_s: float, **more: Any) -> Row:
    case = {"dtype": "bf16", "bytes": 2.0**30, "cache": "cold", "last_level_cache_bytes": 50 * 2**20}
    return Row(op=op, status="ok", chip_id="h200-sxm-141gb", backend=backend, bandwidth_bytes_per_s=gb_per_s * 1e9, **case | more)


def test_an_operation_in_one_pass_is_held_against_its_own_line() -> None:
    """On the H200 the softmax of one pass reached 3.81 TB/s (results/h200-sxm-141gb/standard.csv)."""
    found = expectation(memory("softmax", "triton", 3810.0))
    assert found is not None
    assert found.value == pytest.approx(3.81e12, rel=0.03)
    assert found.source.startswith("profile: line by bytes, ")
    assert [one.rule for one in check_rows([memory("softmax", "triton", 0.6 * 3810.0)]).findings] == ["memory-slow"]


def test_a_library_that_passes_the_memory_several_times_is_no_fault_of_the_chip() -> None:
    assert expectation(memory("softmax", "torch", 1070.0)) is None
    assert expectation(memory("decode", "triton", 1360.0)) is None


def attention(kernel: str, tflop_per_s: float, chip_id: str = "h200-sxm-141gb") -> Row:
    case = {"batch": 4, "heads": 32, "kv_heads": 8, "seq_q": 6000, "seq_kv": 6000, "head_dim": 96, "causal": True, "direction": "forward"}
    flops = 2.0 * 4 * 32 * 6000**2 * 96
    return Row(
        op="attention", status="ok", chip_id=chip_id, dtype="bf16", kernel=kernel, flops=flops, rate_flops_per_s=tflop_per_s * 1e12, **case
    )


def test_attention_is_held_against_the_fastest_kernel_and_others_may_be_half_as_fast() -> None:
    fast, other = expectation(attention("torch.sdpa.cudnn", 500.0)), expectation(attention("torch.sdpa.flash", 300.0))
    assert fast is not None
    assert other is not None
    assert fast.value == other.value
    assert other.low == pytest.approx(0.55 * fast.low)
    assert expectation(attention("torch.sdpa.math", 30.0)) is None


def test_a_message_between_chips_has_the_interval_of_the_link() -> None:
    row = Row(op="all_gather", status="ok", chip_id="h200-sxm-141gb", size_bytes=2**28, group_size=4, backend="nccl", node_count=1,
              fabric="nvlink", busbw_bytes_per_s=3.4e11)  # fmt: skip
    found, small = expectation(row), expectation(replace(row, size_bytes=2**13))
    assert found is not None
    assert small is not None
    assert found.source.startswith("profile: model of messages, ")
    assert found.low / found.value > 0.7
    assert small.low / small.value < 0.5
    assert check_rows([row]).severity == "ok"
