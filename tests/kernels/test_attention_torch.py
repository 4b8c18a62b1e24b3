"""torch's attention kernels: what they refuse on which chip, and what a GPU is not needed to see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from chipassay.kernels.attention import AttentionCase, DecodeCase
from chipassay.kernels.backends import make_arrays
from chipassay.kernels.kernel import Refused, Target, kernels
from chipassay.kernels.torch_settings import torch_as_it_was

torch = pytest.importorskip("torch", reason="torch is not installed")

ALL = {"flash", "cudnn", "efficient", "math"}
HOPPER, BLACKWELL, AMPERE, VOLTA = (Target("cuda", (major, 0)) for major in (9, 10, 8, 7))
ADA, CPU = Target("cuda", (8, 9)), Target("cpu")
SHAPE: dict[str, Any] = {"batch": 1, "heads": 8, "kv_heads": 8, "seq_q": 64, "seq_kv": 64, "head_dim": 128, "dtype": "bf16"}


@pytest.fixture(autouse=True)
def _torch_switches_restored() -> Iterator[None]:
    with torch_as_it_was():
        yield


def sdpa(target: Target, **change: Any) -> set[str]:
    case = AttentionCase(**{**SHAPE, **change})
    offered = {k.name for k in kernels(op="attention", backend="torch") if k.refuses(case, target) is None}
    return {name.removeprefix("torch.sdpa.") for name in offered if name.startswith("torch.sdpa.")}


def test_every_backend_has_gradients_where_it_has_the_forward_pass() -> None:
    for target in (CPU, VOLTA, AMPERE, HOPPER, BLACKWELL):
        assert sdpa(target) == sdpa(target, direction="backward")
    assert sdpa(HOPPER) == ALL


def test_values_narrower_than_keys_go_to_the_backends_that_take_them() -> None:
    latent = {"head_dim": 192, "head_dim_v": 128}
    assert sdpa(HOPPER, **latent, direction="backward") == {"cudnn", "efficient", "math"}
    assert sdpa(AMPERE, **latent) == {"efficient", "math"}
    assert sdpa(CPU, **latent) == {"math"}
    assert sdpa(HOPPER, head_dim=256, head_dim_v=128) == {"cudnn", "efficient", "math"}
    assert sdpa(HOPPER, head_dim=256, head_dim_v=128, direction="backward") == {"efficient", "math"}


def test_wide_heads_are_offered_where_the_chip_has_them() -> None:
    assert sdpa(HOPPER, head_dim=256, direction="backward") == ALL
    assert sdpa(ADA, head_dim=256, direction="backward") == {"flash", "efficient", "math"}
    assert sdpa(ADA, head_dim=208, direction="backward") == {"efficient", "math"}
    assert sdpa(ADA, head_dim=208) == {"flash", "efficient", "math"}


def test_flex_attention_is_not_compiled_for_what_sdpa_does() -> None:
    (flex,) = (k for k in kernels(op="attention", backend="torch") if k.name == "torch.flex_attention")
    assert "without a window" in (flex.refuses(AttentionCase(**SHAPE, causal=True), HOPPER) or "")


def test_memory_efficient_attention_is_no_tf32_row() -> None:
    assert sdpa(HOPPER, dtype="tf32") == {"math"}
    assert sdpa(HOPPER, dtype="fp32") == {"efficient", "math"}


def test_an_sdpa_backend_that_torch_refuses_says_why() -> None:
    case = AttentionCase(**{**SHAPE, "dtype": "fp32", "head_dim_v": 64})
    (flash,) = (k for k in kernels(op="attention", backend="torch") if k.name == "torch.sdpa.flash")
    assert flash.refuses(case, CPU) is not None
    arrays = make_arrays("torch", "cpu")
    with pytest.raises(Refused, match=r"^this torch does not take the case: Flash attention requires .* same last dimension"):
        flash.prepare(case, arrays, case.make_inputs(arrays, 0), case.make_output(arrays))


def test_a_window_is_left_to_flex_attention() -> None:
    case = AttentionCase(**SHAPE, causal=True, window=16)
    for target in (CPU, HOPPER):
        for kernel in kernels(op="attention", backend="torch"):
            reason = kernel.refuses(case, target)
            assert (reason is None) == (kernel.name == "torch.flex_attention" and target is HOPPER), (kernel.name, reason)


def test_absorbed_latent_decoding_goes_to_the_unfused_backend_alone() -> None:
    case = DecodeCase(batch=2, heads=16, kv_heads=1, seq_kv=64, head_dim=576, head_dim_v=512, dtype="bf16")
    assert {k.name for k in kernels(op="decode", backend="torch") if k.refuses(case, HOPPER) is None} == {"torch.sdpa.math"}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("change", [{}, {"kv_heads": 2}, {"head_dim": 20, "causal": True}, {"seq_kv": 30, "head_dim_v": 16}])
def test_gradients_are_those_of_torchs_engine_each_time(dtype: str, change: dict[str, Any]) -> None:
    case = AttentionCase(**{**SHAPE, "dtype": dtype, "direction": "backward", **change})
    arrays = make_arrays("torch", "cpu")
    q, k, v, d_o = inputs = case.make_inputs(arrays, 0)
    for kernel in kernels(op="attention", backend="torch"):
        if kernel.refuses(case, CPU) is not None:
            continue
        call = kernel.prepare(case, arrays, inputs, case.make_output(arrays))
        first, second = call(), call()
        assert not any(x.requires_grad for x in (*inputs, *first))
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        grouped = {"enable_gqa": True} if case.group > 1 else {}
        result = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=case.causal, **grouped)
        for found, again, expected in zip(first, second, torch.autograd.grad(result, leaves, d_o), strict=True):
            assert torch.equal(found, again)
            assert torch.equal(found, expected)


def test_the_mask_of_flex_attention_is_the_window_of_the_case() -> None:
    pytest.importorskip("torch.nn.attention.flex_attention", reason="flex_attention needs torch 2.5")
    from chipassay.kernels.attention.torch_flex import block_mask

    i, j, zero = torch.arange(300)[:, None], torch.arange(300)[None, :], torch.tensor(0)
    for window in (None, 1, 16, 300):
        case = AttentionCase(**{**SHAPE, "seq_q": 300, "seq_kv": 300}, causal=True, window=window)
        mask = block_mask(case, "cpu")
        seen = (j <= i) if window is None else (j <= i) & (i - j < window)
        assert torch.equal(mask.mask_mod(zero, zero, i, j), seen)
        tiles = torch.nn.functional.pad(seen, (0, 84, 0, 84)).reshape(3, 128, 3, 128).any(dim=3).any(dim=1)
        assert torch.equal(mask.to_dense()[0, 0].bool(), tiles)
