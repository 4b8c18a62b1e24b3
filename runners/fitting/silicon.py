"""What a fit knows of a chip beforehand: its datasheet, which says where the parameters may lie."""

from __future__ import annotations

from dataclasses import dataclass

from chipassay.results.catalogue import load_chips


@dataclass(frozen=True)
class Silicon:
    """Figures of one chip in one dtype; None is unknown, and then nothing bounds the parameter but the rows."""

    peak_flops_per_s: float | None = None
    bandwidth_bytes_per_s: float | None = None
    multiprocessors: int | None = None
    cache_bytes: float | None = None
    architecture: str = ""

    @classmethod
    def of(cls, chip_id: str, dtype: str) -> Silicon:
        """By the catalogue; all unknown for a chip that is not in it."""
        chip = load_chips().get(chip_id)
        if chip is None:
            return cls()
        peak, bandwidth = chip.peak_flops_per_s.get(dtype), chip.memory_bandwidth_bytes_per_s
        return cls(peak, bandwidth, chip.core_count, chip.last_cache_bytes, chip.architecture)
