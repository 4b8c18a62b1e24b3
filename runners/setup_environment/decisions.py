"""Which torch fits which machine, and when an environment is current: pure functions of ``Facts`` and ``Wish``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TORCH_ANY = "torch>=2.4"
TORCH_LAST_BEFORE_TURING = "torch==2.7.1"
"""CUDA 12.6 builds of it still hold kernels for Pascal and Volta (P100, V100); it is also the last with CUDA 11.8 builds."""
TORCH_LAST_CUDA12_DEFAULT = "torch==2.10.0"
"""From 2.11 on the default package is built for CUDA 13 (its requirements say so), which no 12.x driver runs."""
TURING = (7, 5)
ACCELERATOR_PACKAGE = re.compile(r"^(nvidia|cuda|triton|pytorch-triton|rocm|intel-sycl)([-_.]|$)")


@dataclass(frozen=True)
class Facts:
    """What one Python has installed and, for the last four, what the machine has."""

    torch: str | None = None
    device: str | None = None  # the kind of accelerator that this torch can use
    torch_cuda: str | None = None
    triton: str | None = None
    numpy: str | None = None
    nvidia: bool = False
    driver_cuda: tuple[int, int] | None = None  # the newest CUDA that the driver runs
    capability: tuple[int, int] | None = None  # compute capability, the lowest of all chips here
    amd: bool = False


@dataclass(frozen=True)
class Wish:
    """What the caller asked for."""

    venv: Path
    extras: tuple[str, ...] = ()
    torch: str = "torch==2.13.0"
    torch_index: str = ""
    torch_backend: str = ""
    pip_args: tuple[str, ...] = ()


@dataclass(frozen=True)
class Attempt:
    """One way to get torch. Attempts are tried in order until one succeeds."""

    tool: str  # "pip", or "uv", which knows the index of each accelerator's builds
    requirement: str
    index: str = ""
    backend: str = ""
    cpu_only: bool = False  # give up rather than download gigabytes for an accelerator that is not here


def reuses_torch(base: Facts, wish: Wish) -> bool:
    """Whether the torch of the Python that runs this is kept: it drives an accelerator, and no other build was asked for."""
    return base.device is not None and not wish.torch_index and not wish.torch_backend


def torch_attempts(machine: Facts, wish: Wish) -> tuple[Attempt, ...]:
    """Ways to get a torch for this machine, best first.

    >>> torch_attempts(Facts(nvidia=True, driver_cuda=(12, 8), capability=(7, 0)), Wish(Path(".venv")))[0]
    Attempt(tool='uv', requirement='torch==2.7.1', index='', backend='cu126', cpu_only=False)
    """
    no_accelerator = not (machine.nvidia or machine.amd)
    by_default = wish.torch == Wish.torch
    if wish.torch_backend:
        return (Attempt("uv", wish.torch, backend=wish.torch_backend),)
    if wish.torch_index:
        return (Attempt("pip", wish.torch, index=wish.torch_index, cpu_only=no_accelerator),)
    cpu = (Attempt("pip", wish.torch, cpu_only=True), Attempt("uv", wish.torch, backend="cpu"))
    if no_accelerator:
        return cpu
    detected = [Attempt("uv", wish.torch, backend="auto")] + [Attempt("uv", TORCH_ANY, backend="auto")] * by_default
    if not machine.nvidia:
        return (*detected, *cpu)
    before_turing = TORCH_LAST_BEFORE_TURING if by_default else wish.torch
    if machine.driver_cuda and machine.driver_cuda < (12, 0):
        return (Attempt("uv", before_turing, backend="cu118"),)
    if machine.capability and machine.capability < TURING:
        return (Attempt("uv", before_turing, backend="cu126"), Attempt("pip", before_turing))
    needs_cuda12 = by_default and machine.driver_cuda is not None and machine.driver_cuda < (13, 0)
    return (*detected, Attempt("pip", TORCH_LAST_CUDA12_DEFAULT if needs_cuda12 else wish.torch))


def accelerator_extra(installed: Facts) -> str | None:
    """The extra of chipassay that fits the torch in the environment: CuPy and NVML for the same CUDA."""
    if installed.torch is None or release(installed.torch) < (2, 4) or installed.device != "cuda":
        return None
    return {"12": "cuda12", "13": "cuda13"}.get((installed.torch_cuda or "").split(".")[0])


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version.

    >>> release("2.13.0a0+gitabc")
    (2, 13, 0)
    """
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in numbers.group().split(".")) if numbers else ()


def constraints(installed: Facts, reused: bool) -> list[str]:
    """Keeps later installs from replacing torch, or the NumPy generation that a reused torch was built for."""
    pins = [f"{name}=={version}" for name, version in (("torch", installed.torch), ("triton", installed.triton)) if version]
    if reused and installed.numpy and release(installed.numpy) < (2,):
        pins.append("numpy<2")
    return pins


def accelerator_packages(report: Mapping[str, Any]) -> list[str]:
    """Which packages of a `pip install --report` are for an accelerator: none, on a machine without one."""
    found = []
    for item in report["install"]:
        name, version = item["metadata"]["name"].lower(), item["metadata"]["version"]
        if ACCELERATOR_PACKAGE.match(name) or re.search(r"\+(cu|rocm|xpu)", version):
            found.append(f"{name} {version}")
    return found


def is_current(stamp: Mapping[str, Any] | None, key: str, extras: Sequence[str]) -> bool:
    """Whether an earlier run left the environment as it is wanted now."""
    return stamp is not None and stamp["key"] == key and set(extras) <= set(stamp["extras"])
