"""torch's attention kernels: what they refuse on which chip, and what a GPU is not needed to see."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from chipassay.kernels.attention import AttentionCase, DecodeCase
from chipassay.kernels.attention.torch import makes_fp32_of_tf32
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


@pytest.mark.parametrize(
    ("capability", "dtype", "made"), [((9, 0), "float32", True), ((7, 0), "float32", False), ((9, 0), "float16", False)]
)
def test_a_row_says_where_fp32_is_made_of_three_tf32_products(
    capability: tuple[int, int], dtype: str, made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert makes_fp32_of_tf32(SimpleNamespace(device=torch.device("cuda"), dtype=getattr(torch, dtype))) is made


def rounded_to_tf32(x: np.ndarray) -> np.ndarray:
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64) + 0x1000
    return (bits & 0xFFFFE000).astype(np.uint32).view(np.float32).astype(np.float64)


def as_tensor_cores_do(a: np.ndarray, b: np.ndarray, products: int) -> np.ndarray:
    """A B of one TF32 product or of three (small by large, large by small, large by large); sums over 8 terms are cut to 24 bits, and
    every 32 terms added in fp32."""
    large = rounded_to_tf32(a), rounded_to_tf32(b)
    small = rounded_to_tf32(a - large[0]), rounded_to_tf32(b - large[1])
    pairs = [(small[0], large[1]), (large[0], small[1]), large][3 - products :]
    total = np.zeros((a.shape[0], b.shape[1]), dtype=np.float32)
    for start in range(0, a.shape[1], 32):
        part = np.zeros(total.shape)
        for k in range(start, min(start + 32, a.shape[1]), 8):
            for x, y in pairs:
                mantissa, exponent = np.frexp(part + x[:, k : k + 8] @ y[k : k + 8])
                part = np.ldexp(np.trunc(mantissa * 2**24) / 2**24, exponent)
        total = (total + part).astype(np.float32)
    return total


@pytest.mark.parametrize(("products", "passes"), [(3, True), (1, False)])
def test_three_tf32_products_pass_as_fp32_and_one_does_not(products: int, passes: bool) -> None:
    case = AttentionCase(**{**SHAPE, "heads": 1, "kv_heads": 1, "seq_q": 256, "seq_kv": 256, "dtype": "fp32"})
    arrays = make_arrays("numpy", "cpu")
    q, k, v = inputs = case.make_inputs(arrays, 0)
    scores = as_tensor_cores_do(q[0, 0], k[0, 0].T, products) * np.float32(case.scale)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    output = as_tensor_cores_do(weights, v[0, 0], products) / weights.sum(axis=1, keepdims=True)
    assert case.check(arrays, inputs, output[None, None], 0).passed is passes


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
