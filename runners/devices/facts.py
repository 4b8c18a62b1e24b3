"""What is known of the device before anything is measured."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chipassay.kernels.kernel import Target
from chipassay.results.profile import Evidence, Quantity


@dataclass(frozen=True)
class DeviceFacts:
    """One chip, and how many of its kind are here."""

    kind: str
    name: str
    chip_id: str
    count: int
    memory_bytes: int
    cache_bytes: int
    """Size of the last-level cache: twice as much is written to evict it."""
    driver: str
    threads: int | None = None
    compute_capability: tuple[int, int] | None = None
    architecture: str | None = None
    """What the compiler calls an AMD chip: ``gfx942``."""
    native_dtypes: frozenset[str] | None = None
    peak_flops_per_s: Mapping[str, Quantity] = field(default_factory=dict)
    peak_bandwidth_bytes_per_s: Quantity | None = None
    peak_clock_hz: float | None = None
    """The clock at which the peak rates hold."""
    clock: str | None = None
    """In words: how the chip's clock is read while it is measured, or why it cannot be."""
    fabric: str | None = None
    notes: tuple[str, ...] = ()
    """What to know about this machine, in sentences."""

    @property
    def target(self) -> Target:
        """The device as kernels see it."""
        return Target(
            kind=self.kind,
            compute_capability=self.compute_capability,
            native_dtypes=self.native_dtypes,
            architecture=self.architecture,
        )

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON types."""
        return {**asdict(self), "native_dtypes": None if self.native_dtypes is None else sorted(self.native_dtypes)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DeviceFacts:
        """The facts that ``to_dict`` wrote."""
        values = dict(data)
        if values["native_dtypes"] is not None:
            values["native_dtypes"] = frozenset(values["native_dtypes"])
        if values["compute_capability"] is not None:
            values["compute_capability"] = tuple(values["compute_capability"])
        values["peak_flops_per_s"] = {dtype: _quantity(peak) for dtype, peak in values["peak_flops_per_s"].items()}
        if values["peak_bandwidth_bytes_per_s"] is not None:
            values["peak_bandwidth_bytes_per_s"] = _quantity(values["peak_bandwidth_bytes_per_s"])
        values["notes"] = tuple(values["notes"])
        return cls(**values)


def _quantity(data: Mapping[str, Any]) -> Quantity:
    return Quantity(data["value"], Evidence(**data["evidence"]))


HOST_HASH = "CHIPASSAY_HOST_HASH"
"""Environment variable by which the ranks of a launched job are told which host is theirs."""


def host_hash() -> str:
    """Which machine, without its name: 12 hex digits of a hash over its machine id, else over its name and network address."""
    if told := os.environ.get(HOST_HASH):
        return told
    try:
        identity = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        identity = ""
    if not identity:
        node = uuid.getnode()
        # With the multicast bit set the number is no card's address but drawn anew in each process.
        identity = f"{platform.node()}/{0 if node >> 40 & 1 else node}"
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def slug(text: str) -> str:
    """A name fit for a file and a catalogue id.

    >>> slug("NVIDIA H100 80GB HBM3 (SXM)")
    'nvidia-h100-80gb-hbm3-sxm'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
