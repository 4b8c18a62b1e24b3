"""A kernel: one implementation of one operation, with where it can run and why not elsewhere."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .arrays import Array, Arrays, Output
from .case import Case


@dataclass(frozen=True)
class Target:
    """The device a kernel would run on, as far as kernels care."""

    kind: str
    """``cpu``, ``cuda``, ``rocm``, ``xpu``, ``mps`` or ``npu``."""
    compute_capability: tuple[int, int] | None = None
    native_dtypes: frozenset[str] | None = None
    """dtypes the chip computes in hardware; None: unknown."""
    architecture: str | None = None
    """What the compiler calls the chip where it has no compute capability: ``gfx942``."""


class Refused(Exception):
    """Raised by ``prepare`` where only the library can tell that it does not take the case. The message is the reason: the row is
    skipped with it, for nothing is wrong or broken."""


Call = Callable[[], Output]
"""Runs the operation once and returns its output (the prepared buffer where the library can write into it)."""

Prepare = Callable[[Any, Arrays, tuple[Array, ...], Output], Call]
"""(case, arrays, inputs, output buffer) -> the call that will be timed. Everything that is not the operation happens here."""


@dataclass(frozen=True)
class Kernel:
    """One implementation of an operation."""

    op: str
    backend: str
    name: str
    prepare: Prepare
    refuses: Callable[[Any, Target], str | None]
    """Why this kernel cannot run the case on the target; None if it can."""


_KERNELS: list[Kernel] = []


def kernel(
    op: str, backend: str, name: str, refuses: Callable[[Any, Target], str | None] = lambda case, target: None
) -> Callable[[Prepare], Prepare]:
    """Register the decorated function as an implementation of ``op``."""

    def register(prepare: Prepare) -> Prepare:
        _KERNELS.append(Kernel(op=op, backend=backend, name=name, prepare=prepare, refuses=refuses))
        return prepare

    return register


def kernels(op: str | None = None, backend: str | None = None) -> list[Kernel]:
    """All registered kernels, or those of one operation or backend, in a stable order."""
    _discover()
    found = [k for k in _KERNELS if op in (None, k.op) and backend in (None, k.backend)]
    return sorted(found, key=lambda k: (k.op, k.backend, k.name))


def cases() -> dict[str, type[Case]]:
    """Operation name -> its Case class."""
    _discover()
    found: dict[str, type[Case]] = {}
    pending = list(Case.__subclasses__())
    while pending:
        case = pending.pop()
        pending += case.__subclasses__()
        if "op" in case.__dict__:
            found[case.op] = case
    return dict(sorted(found.items()))


_discovered = False


def _discover() -> None:
    """Import every ``kernels/<op>/<backend>.py``: being there is all the registration a kernel needs."""
    global _discovered
    if _discovered:
        return
    _discovered = True
    package = importlib.import_module(__package__ or "chipassay.kernels")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
