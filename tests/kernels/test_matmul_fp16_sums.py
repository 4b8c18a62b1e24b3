"""Products of fp16 whose sums are kept in fp16 (HGEMM): a mode of its own, with its own limit and its own kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed, and its kernels ask for its version")

import torch

from chipassay.kernels.backends import make_arrays
from chipassay.kernels.kernel import Target, cases, kernels
from chipassay.kernels.matmul import MatmulCase
from chipassay.kernels.torch_settings import set_arithmetic, torch_as_it_was


def test_sums_in_fp16_are_a_mode_of_their_own_that_other_kernels_refuse() -> None:
    case = MatmulCase(m=64, n=64, k=64, dtype="fp16", math_mode="fp16_accum")
    takes = {
        k.name
        for target in (Target("cpu"), Target("cuda", (6, 0)), Target("cuda", (9, 0)), Target("rocm"))
        for k in kernels("matmul")
        if k.refuses(case, target) is None
    }
    assert takes == {"torch.mm", "cupy.matmul.half2"}
    plain = MatmulCase(m=64, n=64, k=64, dtype="fp16")
    assert "cupy.matmul.half2" not in {k.name for k in kernels("matmul") if k.refuses(plain, Target("cuda", (6, 0))) is None}


def test_preparing_sums_in_fp16_sets_the_switch_and_the_next_kernel_unsets_it() -> None:
    if not hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"):
        pytest.skip("torch before 2.7 has no such switch")
    with torch_as_it_was():
        set_arithmetic("fp16", fp16_sums=True)
        assert torch.backends.cuda.matmul.allow_fp16_accumulation
        set_arithmetic("fp16")
        assert not torch.backends.cuda.matmul.allow_fp16_accumulation


@pytest.mark.parametrize(("op", "dtype"), [("matmul", "bf16"), ("batched_matmul", "fp16")])
def test_only_a_product_of_fp16_has_sums_in_fp16(op: str, dtype: str) -> None:
    sides: dict[str, Any] = {"m": 8, "n": 8, "k": 8, "dtype": dtype} | ({"groups": 2} if op == "batched_matmul" else {})
    with pytest.raises(ValueError, match="only matmul of fp16 has it"):
        cases()[op](**sides, math_mode="fp16_accum")


@pytest.mark.parametrize("k", [64, 2048])
def test_sums_rounded_to_fp16_pass_as_such_and_never_as_sums_in_fp32(k: int) -> None:
    arrays = make_arrays("numpy", "cpu")
    sides: dict[str, Any] = {"m": 30, "n": 50, "k": k, "dtype": "fp16"}
    case = MatmulCase(**sides, math_mode="fp16_accum")
    inputs = case.make_inputs(arrays, 0)
    total = np.zeros((30, 50), dtype=np.float16)
    for i in range(k):
        total = (total + np.outer(inputs[0][:, i].astype(np.float32), inputs[1][i].astype(np.float32))).astype(np.float16)
    assert case.check(arrays, inputs, total, 0).passed
    assert not MatmulCase(**sides).check(arrays, inputs, total, 0).passed
    total[3, 4] += np.float16(6 * k**0.5)
    assert not case.check(arrays, inputs, total, 0).passed
