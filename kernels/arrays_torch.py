"""PyTorch as an array library, on whatever device it drives."""

from __future__ import annotations

import functools
import importlib
from typing import Any

import numpy as np

from .arrays import RANDOM_BLOCK_ELEMENTS, Array, copy_random_pieces, float64_speed

TORCH_DTYPES = {
    "fp64": "float64",
    "fp32": "float32",
    "tf32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
    "int8": "int8",
    "int32": "int32",
}

TF32_MASK = -(2**13)
"""Keeps sign, exponent and the 10 leading mantissa bits of an fp32: what TF32 hardware reads."""


class TorchArrays:
    """Tensors on one device; ``device`` is torch's name for it (``cpu``, ``cuda:1``), and ``rocm`` is torch's ``cuda``."""

    name = "torch"

    def __init__(self, device: str) -> None:
        import torch

        if device.startswith("npu"):
            importlib.import_module("torch_npu")  # which teaches torch the device
        self.torch: Any = torch
        self.xp: Any = torch
        self.device = torch.device(device.replace("rocm", "cuda"))
        self._wide_device = self.device if self._has_float64() else torch.device("cpu")
        self._blocks: dict[str, Array] = {}
        self._rng = np.random.default_rng(0)

    def _has_float64(self) -> bool:
        """Metal has none, Ascend no products of it; of Intel's GPUs those for graphics have none."""
        if self.device.type == "xpu":
            return bool(getattr(self.torch.xpu.get_device_properties(self.device), "has_fp64", True))
        return self.device.type not in ("mps", "npu")

    @functools.cached_property
    def float64_speed(self) -> str:
        if self._wide_device.type == "cpu":
            return "host"
        return float64_speed(self)

    def refuses(self, dtype: str) -> str | None:
        if not hasattr(self.torch, TORCH_DTYPES.get(dtype, "?")):
            return f"PyTorch {self.torch.__version__} has no {dtype}"
        if dtype == "fp64" and self.device.type == "mps":
            return "Metal has no fp64"
        return None

    def dtype(self, name: str) -> Any:
        """torch's dtype for one of ours."""
        return getattr(self.torch, TORCH_DTYPES[name])

    def normal(self, shape: tuple[int, ...], dtype: str, seed: int) -> Array:
        torch, where = self.torch, {"device": self.device, "generator": self.torch.Generator(self.device).manual_seed(seed)}
        if dtype == "int8":
            return torch.randint(-8, 8, shape, dtype=torch.int8, **where)
        if dtype == "int32":
            return torch.randint(-(2**15), 2**15, shape, dtype=torch.int32, **where)
        if dtype == "tf32":
            values = torch.randn(shape, dtype=torch.float32, **where)
            values.view(torch.int32).bitwise_and_(TF32_MASK)
            values.chipassay_dtype = "tf32"  # torch calls it float32: refill has to know better
            return values
        if dtype.startswith("fp8"):
            return torch.randn(shape, dtype=torch.float16, **where).to(self.dtype(dtype))
        return torch.randn(shape, dtype=self.dtype(dtype), **where)

    def integers(self, shape: tuple[int, ...], low: int, high: int, seed: int) -> Array:
        generator = self.torch.Generator(self.device).manual_seed(seed)
        return self.torch.randint(low, high, shape, dtype=self.torch.int64, device=self.device, generator=generator)

    def unwritten(self, shape: tuple[int, ...], dtype: str) -> Array:
        kind = self.dtype(dtype)
        lowest = float("nan") if kind.is_floating_point else self.torch.iinfo(kind).min
        if dtype.startswith("fp8"):
            return self.torch.full(shape, lowest, dtype=self.torch.float16, device=self.device).to(kind)
        return self.torch.full(shape, lowest, dtype=kind, device=self.device)

    def refill(self, array: Array) -> None:
        name = getattr(array, "chipassay_dtype", None) or self._name(array.dtype)
        if name not in self._blocks:
            self._blocks[name] = self.normal((RANDOM_BLOCK_ELEMENTS,), name, seed=0)
        copy_random_pieces(array.view(-1), self._blocks[name], self._rng, growing=self.device.type != "cpu")

    def _name(self, dtype: Any) -> str:
        return next(ours for ours, theirs in TORCH_DTYPES.items() if getattr(self.torch, theirs, None) == dtype)

    def wide(self, array: Array) -> Array:
        return array.detach().to(self._wide_device).to(self.torch.float64)

    def from_host(self, array: np.ndarray) -> Array:
        return self.torch.from_numpy(array).to(self._wide_device)

    def float64(self, array: Array) -> np.ndarray:
        return array.detach().to("cpu").to(self.torch.float64).numpy()

    def synchronize(self) -> None:
        if self.device.type != "cpu":
            getattr(self.torch, self.device.type).synchronize()
