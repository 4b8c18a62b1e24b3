"""torch's matrix products: where each is offered, with which version, and through which call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")

import torch

from chipassay.kernels import torch_settings
from chipassay.kernels.arrays_torch import TorchArrays
from chipassay.kernels.kernel import Kernel, Refused, Target
from chipassay.kernels.kernel import kernels as registered
from chipassay.kernels.matmul import BatchedMatmulCase, GroupedMatmulCase, MatmulCase, grouped_torch, scaled_torch
from chipassay.kernels.torch_settings import torch_as_it_was
from chipassay.kernels.torch_trial import ask

CPU = Target("cpu")
P100, A100, L4, H100, B200 = (Target("cuda", capability) for capability in ((6, 0), (8, 0), (8, 9), (9, 0), (10, 0)))
FP8 = MatmulCase(m=64, n=64, k=64, dtype="fp8_e4m3", layout="nt")
BF16_EXPERTS = GroupedMatmulCase(groups=4, m=64, n=64, k=64, dtype="bf16")


@pytest.fixture(autouse=True)
def _torch_switches_restored() -> Iterator[None]:
    with torch_as_it_was():
        yield


def kernel(op: str, name: str) -> Kernel:
    (found,) = (k for k in registered(op, "torch") if k.name == name)
    return found


def like(case: MatmulCase, **changes: Any) -> MatmulCase:
    return MatmulCase(**({"m": case.m, "n": case.n, "k": case.k, "dtype": case.dtype, "layout": case.layout} | changes))


@pytest.mark.parametrize("target", [CPU, L4, H100, B200, Target("rocm", architecture="gfx950"), Target("xpu")])
def test_fp8_is_offered_where_chips_have_it(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaled_torch, "torch_version", lambda: (2, 11))
    assert kernel("matmul", "torch.scaled_mm").refuses(FP8, target) is None
    assert "torch.scaled_mm" in (kernel("matmul", "torch.mm").refuses(FP8, target) or "")


@pytest.mark.parametrize(
    ("case", "target", "version", "reason"),
    [
        (FP8, H100, (2, 4), "needs torch 2.5"),
        (FP8, A100, (2, 11), "compute capability 8.9"),
        (FP8, Target("mps"), (2, 11), "no fp8 products for mps"),
        (FP8, CPU, (2, 9), "need torch 2.10"),
        (FP8, Target("rocm", architecture="gfx942"), (2, 11), "gfx942 has not"),
        (like(FP8, layout="nn"), H100, (2, 11), "layout nt, not nn"),
        (like(FP8, n=72), H100, (2, 11), "multiples of 16"),
        (like(FP8, scaling="row_wise"), L4, (2, 6), "row-wise scales need torch 2.7"),
        (like(FP8, math_mode="fast_accum"), B200, (2, 11), "Ada and Hopper"),
        (like(FP8, math_mode="fast_accum"), CPU, (2, 11), "Ada and Hopper"),
        (like(FP8, dtype="bf16"), H100, (2, 11), "multiplies fp8, not bf16"),
    ],
)
def test_fp8_is_refused_with_the_reason(
    case: MatmulCase, target: Target, version: tuple[int, int], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaled_torch, "torch_version", lambda: version)
    assert reason in (kernel("matmul", "torch.scaled_mm").refuses(case, target) or "accepted")


@pytest.mark.parametrize("target", [L4, H100])
def test_fast_accumulation_is_offered_on_ada_and_hopper(target: Target) -> None:
    assert kernel("matmul", "torch.scaled_mm").refuses(like(FP8, math_mode="fast_accum"), target) is None


@pytest.mark.parametrize(
    ("case", "target", "version", "reason"),
    [
        (BF16_EXPERTS, H100, (2, 7), "needs torch 2.8"),
        (BF16_EXPERTS, B200, (2, 8), "9.0 only"),
        (BF16_EXPERTS, A100, (2, 9), "9.0 only"),
        (BF16_EXPERTS, P100, (2, 11), "compute capability 8.0"),
        (BF16_EXPERTS, Target("mps"), (2, 11), "use torch.mm.loop"),
        (GroupedMatmulCase(groups=4, m=64, n=64, k=64, dtype="fp16"), H100, (2, 9), "not fp16"),
        (GroupedMatmulCase(groups=4, m=64, n=60, k=64, dtype="bf16"), H100, (2, 11), "multiples of 16 bytes"),
        (GroupedMatmulCase(groups=4, m=64, n=64, k=60, dtype="bf16"), H100, (2, 11), "multiples of 16 bytes"),
    ],
)
def test_grouped_products_are_refused_with_the_reason(
    case: GroupedMatmulCase, target: Target, version: tuple[int, int], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouped_torch, "torch_version", lambda: version)
    assert reason in (kernel("grouped_matmul", "torch.grouped_mm").refuses(case, target) or "accepted")
    assert kernel("grouped_matmul", "torch.mm.loop").refuses(case, target) is None


@pytest.mark.parametrize(("target", "version"), [(H100, (2, 8)), (B200, (2, 9)), (A100, (2, 10)), (CPU, (2, 10))])
def test_grouped_products_are_offered_as_torch_learns_them(
    target: Target, version: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouped_torch, "torch_version", lambda: version)
    assert kernel("grouped_matmul", "torch.grouped_mm").refuses(BF16_EXPERTS, target) is None


@pytest.mark.parametrize("scaling", ["per_tensor", "row_wise"])
def test_fp8_goes_through_the_public_call_and_without_one_through_the_private(scaling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(torch.nn.functional, "scaled_mm"):
        pytest.skip("torch.nn.functional.scaled_mm came with torch 2.10")
    case, arrays = like(FP8, scaling=scaling), TorchArrays("cpu")
    inputs = case.make_inputs(arrays, 0)
    prepare = kernel("matmul", "torch.scaled_mm").prepare
    public = prepare(case, arrays, inputs, case.make_output(arrays))
    assert public.config == "api=torch.nn.functional.scaled_mm"
    assert case.check(arrays, inputs, public(), 0).passed
    monkeypatch.delattr(torch.nn.functional, "scaled_mm")
    buffer = case.make_output(arrays)
    private = prepare(case, arrays, inputs, buffer)
    assert private.config == "api=torch._scaled_mm"
    assert private().data_ptr() == buffer.data_ptr()
    assert case.check(arrays, inputs, buffer, 0).passed


def test_the_loop_over_experts_skips_those_without_rows() -> None:
    case, arrays = GroupedMatmulCase(groups=5, m=40, n=8, k=8, split="uneven", dtype="fp32"), TorchArrays("cpu")
    inputs = case.make_inputs(arrays, 0)
    call = kernel("grouped_matmul", "torch.mm.loop").prepare(case, arrays, inputs, case.make_output(arrays))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        output = call()
    (products,) = (event.count for event in profile.key_averages() if event.key == "aten::mm")
    assert products == 4
    assert case.check(arrays, inputs, output, 0).passed


@pytest.mark.parametrize("case", [BatchedMatmulCase(groups=2, m=4, n=4, k=4, dtype="tf32"), BF16_EXPERTS])
def test_preparing_sets_the_arithmetic_of_batches_and_groups_too(case: Any) -> None:
    arrays = TorchArrays("cpu")
    torch.set_float32_matmul_precision("medium")
    for found in registered(case.op, "torch"):
        found.prepare(case, arrays, case.make_inputs(arrays, 0), case.make_output(arrays))
        assert torch.get_float32_matmul_precision() == ("high" if case.dtype == "tf32" else "highest")
        assert not torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction


def test_cublaslt_is_asked_for_and_given_up_by_the_next_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["as torch began"]

    def preferred(choice: Any = None) -> Any:
        asked.extend([choice] if choice is not None else [])
        return asked[-1]

    monkeypatch.setattr(torch.backends.cuda, "preferred_blas_library", preferred)
    monkeypatch.setattr(torch_settings, "_first_blas_library", lambda: "as torch began")
    case, arrays = MatmulCase(m=4, n=4, k=4, dtype="fp32"), TorchArrays("cpu")
    arguments = (case, arrays, case.make_inputs(arrays, 0), case.make_output(arrays))
    assert kernel("matmul", "torch.mm.cublaslt").refuses(case, H100) is None
    with torch_as_it_was():
        kernel("matmul", "torch.mm.cublaslt").prepare(*arguments)
        assert asked[-1] == "cublaslt"
        kernel("matmul", "torch.mm").prepare(*arguments)
        assert asked[-1] == "as torch began"
        kernel("matmul", "torch.mm.cublaslt").prepare(*arguments)
    assert asked[-1] == "as torch began"


def test_cublaslt_is_offered_on_cuda_only_and_for_what_it_does() -> None:
    refuses = kernel("matmul", "torch.mm.cublaslt").refuses
    assert "cuBLASLt is for CUDA" in (refuses(like(FP8, dtype="bf16"), Target("rocm")) or "")
    assert "torch._int_mm" in (refuses(like(FP8, dtype="int8"), H100) or "")
    assert refuses(like(FP8, dtype="fp64"), H100) is None
    assert refuses(like(FP8, dtype="tf32"), Target("cuda", (7, 0))) is not None


def test_what_the_blas_does_not_take_is_refused_with_what_would_work() -> None:
    def fail(words: str) -> None:
        raise RuntimeError(words)

    cublas = "CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling `cublasLtMatmul with transpose_mat1 0 transpose_mat2 0 m 4096`"
    with pytest.raises(Refused, match=r"no such product on this chip \(CUBLAS_STATUS_NOT_SUPPORTED\); write layout='nt'"):
        ask(lambda: fail(cublas), "write layout='nt'")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        ask(lambda: fail("CUDA error: an illegal memory access was encountered"))
    ask(lambda: None)


def test_asking_leaves_the_output_unwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device, which is no CPU: what is asked must not be told to write into the buffer."""
    calls: list[dict[str, Any]] = []
    for name in ("_int_mm", "_scaled_mm", "mm"):
        monkeypatch.setattr(torch, name, lambda *_, **options: calls.append(options))
    monkeypatch.delattr(torch.nn.functional, "scaled_mm", raising=False)
    on_chip = torch.empty(64, 64, device="meta")
    cases = ((FP8, "torch.scaled_mm"), (like(FP8, dtype="int8"), "torch._int_mm"), (like(FP8, dtype="bf16"), "torch.mm"))
    for op_case, name in cases:
        run = kernel("matmul", name).prepare(op_case, TorchArrays("cpu"), (on_chip,) * 4, on_chip)
        assert "out" not in calls[-1]
        run()
        assert calls[-1]["out"] is on_chip
