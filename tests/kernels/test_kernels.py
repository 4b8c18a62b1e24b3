"""Every registered kernel: right where it runs, and refused with a reason where it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chipassay.kernels import kernel as kernel_module
from chipassay.kernels.arrays import each
from chipassay.kernels.attention import AttentionCase
from chipassay.kernels.backends import BACKENDS, installed, make_arrays, why_not
from chipassay.kernels.case import Case
from chipassay.kernels.kernel import Kernel, Target, cases, kernels
from chipassay.kernels.matmul import MatmulCase
from chipassay.kernels.memory import CopyCase
from chipassay.kernels.torch_settings import set_arithmetic, torch_as_it_was

from .every_case import gathered

CPU = Target("cpu")
TARGETS = (
    CPU,
    Target("cuda", (6, 0)),
    Target("cuda", (7, 0)),
    Target("cuda", (8, 0)),
    Target("cuda", (9, 0)),
    Target("cuda", (12, 0)),
    Target("rocm"),
    Target("xpu"),
    Target("mps"),
    Target("npu"),
)

any_case: st.SearchStrategy[Case] = st.one_of(*gathered("STRATEGIES").values())


@pytest.fixture(autouse=True)
def _torch_switches_restored() -> Iterator[None]:
    if not installed("torch"):
        yield
        return
    with torch_as_it_was():
        yield


def on_cpu(case: Case) -> list[Kernel]:
    return [k for k in kernels(op=case.op) if why_not(k.backend, CPU) is None and k.refuses(case, CPU) is None]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(case=any_case, seed=st.integers(0, 2**31))
def test_every_cpu_kernel_is_right_for_any_shape(case: Case, seed: int) -> None:
    for kernel in on_cpu(case):
        arrays = make_arrays(kernel.backend, "cpu")
        assert arrays.refuses(case.dtype) is None
        inputs, buffer = case.make_inputs(arrays, seed), case.make_output(arrays)
        output = kernel.prepare(case, arrays, inputs, buffer)()
        check = case.check(arrays, inputs, output, seed)
        assert check.passed, f"{kernel.name}: {check}"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(case=any_case)
def test_preparing_leaves_the_output_for_the_call_to_write(case: Case) -> None:
    """Else the check would find there what a call forgot. A step in place is what needs a state to start from: Adam's."""
    assume(type(case).begin is Case.begin)
    for kernel in on_cpu(case):
        arrays = make_arrays(kernel.backend, "cpu")
        inputs, buffer = case.make_inputs(arrays, 0), case.make_output(arrays)
        kernel.prepare(case, arrays, inputs, buffer)
        for left, fresh in zip(each(buffer), each(case.make_output(arrays)), strict=True):
            assert np.array_equal(arrays.float64(left), arrays.float64(fresh), equal_nan=True), kernel.name


@settings(max_examples=100, deadline=None, derandomize=True)
@given(case=any_case, target=st.sampled_from(TARGETS))
def test_every_kernel_accepts_or_gives_its_reason(case: Case, target: Target) -> None:
    if not installed("torch"):
        pytest.skip("torch is not installed, and its kernels ask for its version")
    for kernel in kernels(op=case.op):
        reason = kernel.refuses(case, target)
        assert reason is None or len(reason) > 10


NOT_ON_A_CPU = {"transfer": "no link lies between a CPU and its memory"}
"""Operation -> why no kernel does it on a CPU; all others can be done there by NumPy alone."""


@pytest.mark.parametrize("op", sorted(cases()))
def test_every_operation_can_be_done_on_a_gpu_by_torch_and_on_a_cpu_by_numpy_alone(op: str) -> None:
    found = {k.backend for k in kernels(op=op)}
    assert found <= set(BACKENDS)
    assert "torch" in found
    if op in NOT_ON_A_CPU:
        assert "numpy" not in found
        return
    case = cases()[op](dtype="fp32", **gathered("SMALL")[op])
    assert [k for k in kernels(op=op, backend="numpy") if k.refuses(case, CPU) is None]


def test_kernels_and_cases_are_listed_in_a_stable_order_without_doubles() -> None:
    listed = [(k.op, k.backend, k.name) for k in kernels()]
    assert listed == sorted(set(listed))
    assert set(cases()) == {k.op for k in kernels()} == set(gathered("STRATEGIES"))


def test_the_readme_example_is_a_right_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    kernels()  # found before the list is swapped, so that the example does not stay in it
    monkeypatch.setattr(kernel_module, "_KERNELS", [])
    (example,) = re.findall(r"```python\n(.*?)```", (Path(kernel_module.__file__).parent / "README.md").read_text(encoding="utf-8"), re.S)
    assert 12 <= len(example.splitlines()) <= 25
    exec(compile(example, "README.md", "exec"), {"__name__": "chipassay.kernels.memory.example", "__package__": "chipassay.kernels.memory"})
    (clone,) = kernels()
    case, arrays = CopyCase(elements=1000, dtype="bf16"), make_arrays("torch", "cpu")
    inputs, buffer = case.make_inputs(arrays, 0), case.make_output(arrays)
    assert clone.refuses(case, CPU) is None
    assert case.check(arrays, inputs, clone.prepare(case, arrays, inputs, buffer)(), 0).passed


def names(case: Case, target: Target, backend: str) -> set[str]:
    return {k.name for k in kernels(op=case.op, backend=backend) if k.refuses(case, target) is None}


def test_sdpa_backends_are_offered_only_where_torch_has_them() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    half = AttentionCase(batch=1, heads=2, kv_heads=2, seq_q=8, seq_kv=8, head_dim=64, dtype="bf16")
    assert names(half, CPU, "torch") == {"torch.sdpa.flash", "torch.sdpa.math"}
    assert names(half, Target("cuda", (9, 0)), "torch") == {f"torch.sdpa.{name}" for name in ("flash", "cudnn", "efficient", "math")}
    assert names(half, Target("cuda", (7, 0)), "torch") == {"torch.sdpa.math"}
    full = AttentionCase(batch=1, heads=2, kv_heads=2, seq_q=8, seq_kv=8, head_dim=64, dtype="fp32")
    assert names(full, Target("cuda", (9, 0)), "torch") == {"torch.sdpa.efficient", "torch.sdpa.math"}


def test_tf32_is_offered_on_nvidia_tensor_cores_only() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    case = MatmulCase(m=64, n=64, k=64, dtype="tf32")
    assert names(case, Target("cuda", (8, 0)), "torch") == {"torch.mm", "torch.mm.cublaslt"}
    for target in (CPU, Target("cuda", (7, 5)), Target("rocm"), Target("mps")):
        assert not names(case, target, "torch")


def test_int8_goes_to_the_kernel_that_sums_in_int32() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    case = MatmulCase(m=64, n=64, k=64, dtype="int8")
    assert names(case, Target("cuda", (8, 0)), "torch") == {"torch._int_mm"}
    odd = MatmulCase(m=64, n=63, k=64, dtype="int8")
    assert not names(odd, Target("cuda", (8, 0)), "torch")
    assert names(odd, CPU, "torch") == {"torch._int_mm"}


def test_preparing_a_matmul_sets_the_arithmetic_and_leaving_restores_it() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    before = torch.get_float32_matmul_precision()
    with torch_as_it_was():
        set_arithmetic("tf32")
        assert torch.backends.cuda.matmul.allow_tf32
        set_arithmetic("fp32")
        assert not torch.backends.cuda.matmul.allow_tf32
        assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
        set_arithmetic("tf32")
    assert torch.get_float32_matmul_precision() == before
    assert torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction


def test_an_sdpa_kernel_uses_its_backend_or_fails() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    case = AttentionCase(batch=1, heads=2, kv_heads=2, seq_q=64, seq_kv=64, head_dim=16, dtype="fp32")
    arrays = make_arrays("torch", "cpu")
    inputs, buffer = case.make_inputs(arrays, 0), case.make_output(arrays)
    called: dict[str, set[str]] = {}
    for kernel in kernels(op="attention", backend="torch"):
        if kernel.refuses(case, CPU) is None:
            call = kernel.prepare(case, arrays, inputs, buffer)
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
                call()
            called[kernel.name] = {event.key for event in profile.key_averages()}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in called["torch.sdpa.flash"]
    assert "aten::_scaled_dot_product_attention_math" in called["torch.sdpa.math"]


@pytest.mark.parametrize(("op", "dtype"), [("read", "fp32"), ("copy", "int8"), ("copy", "fp32"), ("matmul", "fp32")])
def test_the_data_column_says_what_the_inputs_hold(op: str, dtype: str) -> None:
    case = cases()[op](dtype=dtype, **gathered("SMALL")[op])
    arrays = make_arrays("numpy", "cpu")
    values = arrays.float64(case.make_inputs(arrays, 0)[0])
    holds = {"odd_integers": (values % 2 == 1).all(), "uniform_integers": (values % 1 == 0).all() and (values % 2 == 0).any()}
    assert [name for name, true in {**holds, "normal": (values % 1 != 0).any()}.items() if true] == [case.data]


@pytest.mark.parametrize("op", ["matmul", "batched_matmul", "grouped_matmul", "attention", "decode"])
def test_triton_offers_no_fp16_products_where_it_would_leave_the_tensor_cores_idle(op: str) -> None:
    case = cases()[op](dtype="fp16", **gathered("SMALL")[op])
    for capability in ((7, 0), (7, 5)):
        assert not names(case, Target("cuda", capability), "triton")
    assert names(case, Target("cuda", (8, 0)), "triton")
