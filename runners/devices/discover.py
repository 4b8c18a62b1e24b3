"""Which device is measured here: a GPU through torch, else through CuPy, else the CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..timing.engine import Timer
from .clock import open_clock
from .cpu import CpuTimer, cpu_facts
from .facts import DeviceFacts
from .gpu import gpu_facts
from .gpu_timers import CupyGpuTimer, TorchGpuTimer


@dataclass(frozen=True)
class Device:
    """A chip that can be measured now."""

    facts: DeviceFacts
    timer: Timer
    array_device: str
    """How torch names it: ``cuda:0``, ``cpu``, ..."""


def discover(kind: str | None = None) -> Device:
    """The device to measure; ``kind`` forces ``cpu``. A GPU is preferred, and the first one is taken."""
    if kind != "cpu":
        for backend in ("torch", "cupy"):
            facts = gpu_facts(backend)
            if facts is not None:
                clock, words = open_clock(facts)
                facts = replace(facts, clock=words)
                timer: Timer = TorchGpuTimer(facts, clock=clock) if backend == "torch" else CupyGpuTimer(facts, clock=clock)
                name = "cuda" if facts.kind == "rocm" else facts.kind
                return Device(facts, timer, name if name == "mps" else f"{name}:0")
    facts = cpu_facts()
    limit_threads(facts.threads or 1)
    return Device(facts, CpuTimer(facts), "cpu")


def limit_threads(threads: int) -> None:
    """Let torch use exactly the cores that the facts name, so that the row's ``threads`` is true."""
    try:
        import torch
    except (ImportError, OSError):
        return
    torch.set_num_threads(threads)
