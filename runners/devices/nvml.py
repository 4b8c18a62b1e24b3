"""State of an NVIDIA GPU through NVML (no root needed): clock, power, energy, temperature, throttle reasons. Run on an H200.

``power_w``: of the last second on Ampere (but not A100) and newer, instantaneous on older chips and A100; energy: a counter of
millijoules since the driver was loaded, from Volta on (NVML API reference, nvmlDeviceGetPowerUsage and
nvmlDeviceGetTotalEnergyConsumption).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..timing.condition import Condition

SLOWDOWN_REASONS = {
    "SwPowerCap": "power_cap",
    "HwSlowdown": "hardware_slowdown",
    "SwThermalSlowdown": "thermal_slowdown",
    "HwThermalSlowdown": "hardware_thermal_slowdown",
    "HwPowerBrakeSlowdown": "power_brake",
}
"""NVML's reasons that make results worse than the chip's own, and how the row names them."""
SETTING_REASONS = {"ApplicationsClocksSetting": "clocks_set_by_owner", "SyncBoost": "sync_boost", "DisplayClockSetting": "display_clocks"}
"""Reasons worth knowing that are no fault of the chip. Idle is left out: between two samples it is idle."""


class Nvml:
    """One GPU as NVML sees it."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle
        named = {**SLOWDOWN_REASONS, **SETTING_REASONS}
        # The prefix changed with CUDA 12.2; bindings know one or both.
        prefixes = ("nvmlClocksEventReason", "nvmlClocksThrottleReason")
        bits = {name: next((bit for p in prefixes if (bit := getattr(library, p + name, 0))), 0) for name in named}
        self._bits = {named[name]: int(bit) for name, bit in bits.items() if bit}
        self._slowdowns = frozenset(SLOWDOWN_REASONS.values())
        # NVML API reference: the older name of the question goes away with CUDA 14. Old drivers know that one alone.
        questions = (getattr(library, f"nvmlDeviceGetCurrentClocks{name}Reasons", None) for name in ("Event", "Throttle"))
        self._ask_reasons = [question for question in questions if question is not None]

    @classmethod
    def open(cls, uuid: str | None) -> Nvml | None:
        """The NVIDIA GPU with this UUID; without one (torch tells it from 2.5 on) the only GPU there is. None where NVML is missing, or
        where nothing says which of several GPUs it is."""
        try:
            import pynvml

            pynvml.nvmlInit()
            if uuid is None:
                return cls(pynvml, pynvml.nvmlDeviceGetHandleByIndex(0)) if pynvml.nvmlDeviceGetCount() == 1 else None
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"))
        except Exception:  # the binding raises its own types, and is optional: no NVML means no condition columns
            return None

    def _ask(self, question: Callable[[Any], float]) -> float | None:
        try:
            return float(question(self._handle))
        except self._library.NVMLError:
            return None

    def condition(self) -> Condition:
        """The state now."""
        nvml = self._library
        clock_mhz = self._ask(lambda gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM))
        power_mw = self._ask(nvml.nvmlDeviceGetPowerUsage)
        temperature_c = self._ask(lambda gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU))
        mask = next((found for question in self._ask_reasons if (found := self._ask(question)) is not None), None)
        reasons = None if mask is None else tuple(name for name, bit in self._bits.items() if int(mask) & bit)
        return Condition(
            clock_hz=None if clock_mhz is None else clock_mhz * 1e6,
            clock_method=None if clock_mhz is None else "nvml",
            power_w=None if power_mw is None else power_mw / 1e3,
            temperature_c=temperature_c,
            throttled=None if reasons is None else not self._slowdowns.isdisjoint(reasons),
            throttle_reasons=reasons or (),
        )

    def energy_j(self) -> float | None:
        """Energy since the driver was loaded; None before Volta."""
        energy_mj = self._ask(self._library.nvmlDeviceGetTotalEnergyConsumption)
        return None if energy_mj is None else energy_mj / 1e3


MOST_LINKS = 18
"""NVLinks of one GPU at most (Hopper and Blackwell: 18)."""


def fabric_inside(visible: str | None) -> str | None:
    """What joins this machine's NVIDIA GPUs: ``nvlink`` where each has a link that is up, ``pcie`` where none has; None: unknown, or some
    only. ``visible``: what CUDA_VISIBLE_DEVICES holds, which NVML does not heed.

    One GPU of eight without a link is told by what its collectives reach, not here.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
        if visible:
            named = [part.strip() for part in visible.split(",") if part.strip()]
            handles = [
                pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdecimal() else pynvml.nvmlDeviceGetHandleByUUID(name)
                for name in named
            ]
        else:
            handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        linked = [_links_up(pynvml, handle) for handle in handles]
    except Exception:  # the binding raises its own types and is optional: then nothing is known of the links
        return None
    if len(linked) < 2:
        return None
    return "nvlink" if all(linked) else None if any(linked) else "pcie"


def _links_up(library: Any, handle: Any) -> bool:
    """Whether any NVLink of this GPU is up. A GPU without NVLink answers each question with an error."""
    for link in range(MOST_LINKS):
        try:
            if library.nvmlDeviceGetNvLinkState(handle, link):
                return True
        except library.NVMLError:
            continue
    return False
