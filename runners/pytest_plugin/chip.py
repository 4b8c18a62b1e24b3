"""The device under test, as a test wants it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pytest

from chipassay.results.profile import Quantity

from ..devices.discover import Device
from ..devices.facts import DeviceFacts

GPU = "gpu"
"""In ``skip_unless``: any kind but ``cpu``."""


class Chip:
    """What the ``chip`` fixture gives."""

    def __init__(self, device: Device) -> None:
        self.device = device

    @property
    def facts(self) -> DeviceFacts:
        """All that is known of it."""
        return self.device.facts

    @property
    def kind(self) -> str:
        """``cpu``, ``cuda``, ``rocm``, ``xpu``, ``mps``, ``npu``."""
        return self.facts.kind

    @property
    def name(self) -> str:
        """As the driver calls it."""
        return self.facts.name

    @property
    def chip_id(self) -> str:
        """Its id in the catalogue (``chipassay profiles``), or one made of its name."""
        return self.facts.chip_id

    @property
    def count(self) -> int:
        """How many of its kind are here; benchmarks run on the first."""
        return self.facts.count

    @property
    def torch_device(self) -> str:
        """For ``torch.zeros(8, device=chip.torch_device)``."""
        return self.device.array_device

    @property
    def peak_flops_per_s(self) -> Mapping[str, Quantity]:
        """Dense peaks by dtype, each a value with its evidence; empty where they are not known."""
        return self.facts.peak_flops_per_s

    @property
    def peak_bandwidth_bytes_per_s(self) -> Quantity | None:
        """Of the memory, with its evidence; None where it is not known."""
        return self.facts.peak_bandwidth_bytes_per_s

    @cached_property
    def _arrays(self) -> Any:
        from chipassay.kernels.backends import make_arrays, why_not

        return make_arrays("torch" if why_not("torch", self.facts.target) is None else "cupy", self.device.array_device)

    def synchronize(self) -> None:
        """Wait until the device has done all that was queued. A CPU queues nothing."""
        if self.kind != "cpu":
            self._arrays.synchronize()

    def evict_cache(self) -> None:
        """Push everything out of the last-level cache."""
        self.device.timer.evict_cache()
        self.synchronize()

    def supports(self, dtype: str) -> bool:
        """Whether it computes in ``dtype`` (``bf16``, ``fp8_e4m3``) itself. False for what it is known to emulate or to lack."""
        native = self.facts.native_dtypes
        return native is None or dtype in native

    def skip_unless(self, *kinds: str, dtype: str | None = None, count: int = 1) -> None:
        """Skip the test, with the reason, unless the device is of one of ``kinds`` (none: any), has ``dtype``, and is one of ``count``.

        The marker ``@pytest.mark.chip("cuda", dtype="bf16")`` does the same before the test begins.
        """
        __tracebackhide__ = True
        if kinds and self.kind not in kinds and not (GPU in kinds and self.kind != "cpu"):
            pytest.skip(f"needs {' or '.join(kinds)}; the device under test is {self.kind} ({self.name})")
        if dtype is not None and not self.supports(dtype):
            pytest.skip(f"needs {dtype}, which {self.name} does not compute in hardware")
        if self.count < count:
            pytest.skip(f"needs {count} chips; {self.count} of {self.name} {'is' if self.count == 1 else 'are'} here")
