"""Batched and grouped products: what they count, how rows are shared among experts, and what their check sees."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from chipassay.kernels.arrays_numpy import NumpyArrays
from chipassay.kernels.matmul import BatchedMatmulCase, GroupedMatmulCase, check

ARRAYS = NumpyArrays()
DTYPES = ("fp64", "fp32", "fp16", "int8")


@pytest.fixture(autouse=True, params=["whole", "sampled"])
def _by_both_tests_of_the_check(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "WHOLE_FLOPS", 0.0 if request.param == "sampled" else 2.0**40)
    monkeypatch.setattr(check, "BLOCK_ELEMENTS", 30_000)  # two or three matrices of BATCH together


BATCH = {"groups": 5, "m": 40, "n": 300, "k": 24}
EXPERTS = {"groups": 6, "m": 120, "n": 70, "k": 40}
EXPERT_OF_ROW = np.repeat(np.arange(6), 20)
"""Whose row each of the 120 is where the split is even."""


def batched(case: BatchedMatmulCase) -> tuple[tuple[Any, ...], np.ndarray]:
    """Inputs and the right answer, from einsum on the host."""
    inputs = case.make_inputs(ARRAYS, seed=2)
    letters = {"nn": "gij,gjk->gik", "nt": "gij,gkj->gik", "tn": "gji,gjk->gik"}[case.layout]
    return inputs, np.einsum(letters, *(ARRAYS.float64(x) for x in inputs)).astype(case.make_output(ARRAYS).dtype)


def grouped(case: GroupedMatmulCase) -> tuple[tuple[Any, ...], np.ndarray]:
    """Inputs and the right answer, row by row."""
    inputs = case.make_inputs(ARRAYS, seed=2)
    a, weights, ends = (ARRAYS.float64(x) for x in inputs)
    rows = []
    for row in range(case.m):
        weight = weights[int(np.searchsorted(ends, row, side="right"))]
        rows.append(a[row] @ (weight.T if case.layout == "nt" else weight))
    return inputs, np.array(rows).astype(case.make_output(ARRAYS).dtype)


def test_a_batch_counts_every_matrix() -> None:
    case = BatchedMatmulCase(groups=7, m=2, n=3, k=4, dtype="fp16")
    assert (case.flops, case.bytes) == (7 * 48, 7 * 52)
    assert case.columns()["groups"] == 7


@pytest.mark.parametrize(("dtype", "layout"), list(itertools.product(DTYPES, ("nn", "nt", "tn"))))
def test_the_right_batch_passes_and_one_unwritten_element_of_any_matrix_fails(dtype: str, layout: str) -> None:
    case = BatchedMatmulCase(dtype=dtype, layout=layout, **BATCH)
    inputs, output = batched(case)
    assert case.check(ARRAYS, inputs, output, seed=0).passed
    for group in range(case.groups):
        damaged = output.copy()
        damaged[group, 17, 299] = case.make_output(ARRAYS)[group, 17, 299]
        assert not case.check(ARRAYS, inputs, damaged, seed=0).passed


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_matrices_of_a_batch_exchanged_fail(dtype: str) -> None:
    case = BatchedMatmulCase(dtype=dtype, **BATCH)
    inputs, output = batched(case)
    assert not case.check(ARRAYS, inputs, output[[0, 1, 3, 2, 4]], seed=0).passed


def test_many_small_matrices_are_checked_together() -> None:
    case = BatchedMatmulCase(groups=3000, m=4, n=5, k=3, dtype="fp32")
    inputs, output = batched(case)
    assert case.check(ARRAYS, inputs, output, seed=0).passed
    output[2999, 3, 4] = np.nan
    assert not case.check(ARRAYS, inputs, output, seed=0).passed


def test_an_even_split_shares_what_is_left_over() -> None:
    assert GroupedMatmulCase(groups=4, m=22, n=1, k=1, dtype="fp32").row_counts() == (6, 6, 5, 5)
    assert GroupedMatmulCase(groups=4, m=2, n=1, k=1, dtype="fp32").row_counts() == (1, 1, 0, 0)


def test_an_uneven_split_follows_zipf_and_leaves_one_expert_without_rows() -> None:
    counts = GroupedMatmulCase(groups=5, m=2500, n=1, k=1, split="uneven", dtype="fp32").row_counts()
    assert sorted(counts, reverse=True) == [1200, 600, 400, 300, 0]
    assert counts != tuple(sorted(counts, reverse=True))


@pytest.mark.parametrize(("groups", "m", "split"), list(itertools.product((1, 2, 3, 64, 256), (1, 7, 8192), ("even", "uneven"))))
def test_every_split_shares_all_rows(groups: int, m: int, split: str) -> None:
    case = GroupedMatmulCase(groups=groups, m=m, n=1, k=1, split=split, dtype="fp32")
    assert len(case.row_counts()) == groups
    assert min(case.row_counts()) >= 0
    assert sum(case.row_counts()) == m == case.offsets()[-1]


def test_only_weights_of_experts_that_have_rows_must_move() -> None:
    case = GroupedMatmulCase(groups=8, m=3, n=10, k=20, dtype="bf16")
    assert case.bytes == 2 * (3 * 20 + 3 * 20 * 10 + 3 * 10) + 4 * 8
    assert case.footprint_bytes == 2 * (3 * 20 + 8 * 20 * 10 + 3 * 10) + 4 * 8
    assert case.flops == 2 * 3 * 10 * 20


def test_offsets_are_the_ends_of_the_experts_rows_in_int32() -> None:
    case = GroupedMatmulCase(groups=4, m=22, n=3, k=2, dtype="fp32")
    _, _, offsets = case.make_inputs(ARRAYS, 0)
    assert offsets.dtype == np.int32
    assert offsets.tolist() == [6, 12, 17, 22]


def test_impossible_groups_are_refused() -> None:
    for wrong, message in (
        ({"groups": 0}, "at least 1"),
        ({"split": "random"}, "use one of even, uneven"),
        ({"layout": "tn"}, "use nn or nt"),
        ({"dtype": "fp8_e4m3"}, "use matmul"),
    ):
        with pytest.raises(ValueError, match=message):
            GroupedMatmulCase(**({"groups": 2, "m": 4, "n": 4, "k": 4, "dtype": "fp32"} | wrong))
    with pytest.raises(ValueError, match="at least 1"):
        BatchedMatmulCase(groups=0, m=1, n=1, k=1, dtype="fp32")
    with pytest.raises(ValueError, match="use matmul"):
        BatchedMatmulCase(groups=1, m=1, n=1, k=1, dtype="fp8_e5m2")


@pytest.mark.parametrize(("dtype", "layout", "split"), list(itertools.product(DTYPES, ("nn", "nt"), ("even", "uneven"))))
def test_the_right_grouped_product_passes_and_a_row_of_the_wrong_expert_fails(dtype: str, layout: str, split: str) -> None:
    case = GroupedMatmulCase(dtype=dtype, layout=layout, split=split, **EXPERTS)
    inputs, output = grouped(case)
    assert case.check(ARRAYS, inputs, output, seed=0).passed
    a, weights = (ARRAYS.float64(x) for x in case.operands(inputs))
    for expert, rows in case.expert_rows():  # the last row of each, as if it were the next expert's
        damaged = output.copy()
        damaged[rows.stop - 1] = a[rows.stop - 1] @ weights[(expert + 1) % case.groups]
        assert not case.check(ARRAYS, inputs, damaged, seed=0).passed


@pytest.mark.parametrize("dtype", DTYPES)
def test_unwritten_rows_of_one_expert_fail(dtype: str) -> None:
    case = GroupedMatmulCase(dtype=dtype, **EXPERTS)
    inputs, output = grouped(case)
    output[EXPERT_OF_ROW == 4] = case.make_output(ARRAYS)[EXPERT_OF_ROW == 4]
    assert not case.check(ARRAYS, inputs, output, seed=0).passed


def test_torch_arrays_are_checked_where_they_are() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from chipassay.kernels.arrays_torch import TorchArrays

    arrays = TorchArrays("cpu")
    case = GroupedMatmulCase(dtype="bf16", split="uneven", **EXPERTS)
    a, weights, _ = inputs = case.make_inputs(arrays, 1)
    output = torch.cat([a[rows].float() @ weights[expert].float() for expert, rows in case.expert_rows()]).bfloat16()
    assert case.check(arrays, inputs, output, seed=0).passed
    output[77, 3] = float("nan")
    assert not case.check(arrays, inputs, output, seed=0).passed
