"""State of an NVIDIA GPU through NVML (no root needed): clock, power, temperature, throttle reasons. Not yet run on a GPU."""

from __future__ import annotations

from collections.abc import Callable

from ..timing.engine import Condition

SLOWDOWN_REASONS = ("SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")
"""Throttle reasons that make results worse than the chip's own: idle, application clocks and sync boost are not among them."""


def nvml_condition(uuid: str | None) -> Callable[[], Condition]:
    """A function that reads the state of the GPU with this UUID; empty conditions where NVML or the UUID is missing."""
    if uuid is None:
        return Condition
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
    except Exception:  # the binding raises its own types, and is optional: no NVML means no condition columns
        return Condition
    mask = 0
    for reason in SLOWDOWN_REASONS:
        mask |= getattr(pynvml, f"nvmlClocksThrottleReason{reason}", 0) or getattr(pynvml, f"nvmlClocksEventReason{reason}", 0)

    def read() -> Condition:
        def ask(question: Callable[[], float]) -> float | None:
            try:
                return float(question())
            except pynvml.NVMLError:
                return None

        clock_mhz = ask(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
        power_mw = ask(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
        temperature_c = ask(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
        reasons = ask(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        return Condition(
            clock_hz=None if clock_mhz is None else clock_mhz * 1e6,
            power_w=None if power_mw is None else power_mw / 1e3,
            temperature_c=temperature_c,
            throttled=None if reasons is None else bool(int(reasons) & mask),
        )

    return read
