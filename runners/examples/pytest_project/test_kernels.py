"""Benchmarks that are tests: two on the chip through torch, a GPU or the CPU, and one of plain NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from chipassay.runners.pytest_plugin.chip import Chip
    from chipassay.runners.pytest_plugin.chip_benchmark import ChipBenchmark


def standardised(rows: np.ndarray) -> np.ndarray:
    """Each row less its mean, over its deviation. Yours would be imported from your package."""
    return (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)


@pytest.fixture
def torch(chip: Chip) -> Any:
    """torch, imported only by the tests that need it."""
    return pytest.importorskip("torch")


@pytest.mark.parametrize("size", [256, 512])
def test_matmul(torch: Any, chip: Chip, chip_benchmark: ChipBenchmark, size: int) -> None:
    a, b = (torch.randn(size, size, device=chip.torch_device) for _ in range(2))
    chip_benchmark.options(
        op="matmul",
        dtype=a.dtype,
        m=size,
        n=size,
        k=size,
        flops=2 * size**3,
        bytes=3 * a.nbytes,
        reference=a.cpu().double() @ b.cpu().double(),
        tolerance=1e-5,
    )(torch.mm, a, b)


def test_copy(torch: Any, chip: Chip, chip_benchmark: ChipBenchmark) -> None:
    # Four bytes for each of the cache's, so that it is the memory that is measured.
    source = torch.arange(chip.facts.cache_bytes, dtype=torch.int32, device=chip.torch_device)
    target = torch.empty_like(source)
    chip_benchmark.options(op="copy", dtype="int32", bytes=2 * source.nbytes, check=lambda copied: torch.equal(copied, source))(
        target.copy_, source
    )


@pytest.mark.chip("cuda", "rocm", dtype="bf16")
def test_matmul_in_bf16(torch: Any, chip: Chip, chip_benchmark: ChipBenchmark) -> None:
    a = torch.randn(4096, 4096, device=chip.torch_device, dtype=torch.bfloat16)
    chip_benchmark.options(op="matmul", dtype=a.dtype, m=4096, n=4096, k=4096, flops=2 * 4096**3, bytes=3 * a.nbytes)(torch.mm, a, a)


def test_standardised(chip_benchmark: ChipBenchmark) -> None:
    rows = np.random.default_rng(0).normal(3.0, 2.0, size=(512, 1024))
    # NumPy computes on the host, whichever chip is under test.
    result = chip_benchmark.options(op="standardised", dtype=rows.dtype, bytes=2 * rows.nbytes, device="cpu")(standardised, rows)
    assert np.allclose(result.mean(axis=1), 0.0)
    assert np.allclose(result.std(axis=1), 1.0)
