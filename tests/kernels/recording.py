"""Turns a launch of Triton kernels into the jobs that compile what would be launched: the very constants, types and alignments.

``launched(run, name, chip)`` calls ``run``, which launches kernels on tensors of torch's ``meta`` device (they have shapes and strides and
no memory); nothing runs, each launch becomes a ``Job``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any
from unittest import mock

from chipassay.kernels.arrays_torch import TORCH_DTYPES
from chipassay.kernels.triton_tools import TRITON_DTYPES

from .compiling import Job

LARGEST_I32 = 2**31 - 1


def launched(run: Callable[[], Any], name: str, chip: str) -> list[Job]:
    """The jobs of all launches that ``run`` makes, called ``name``, ``name 2``, ..."""
    interface: Any = importlib.import_module("triton.runtime.jit").KernelInterface
    jobs: list[Job] = []

    def take(function: Any, grid: Any) -> Callable[..., None]:
        def record(*arguments: Any, **named: Any) -> None:
            jobs.append(_job(function, arguments, named, name if not jobs else f"{name} {len(jobs) + 1}", chip))

        return record

    with mock.patch.object(interface, "__getitem__", take):
        run()
    return jobs


def _job(function: Any, arguments: tuple[Any, ...], named: dict[str, Any], name: str, chip: str) -> Job:
    values = dict(zip(function.arg_names, arguments, strict=False))
    values |= {arg: value for arg, value in named.items() if arg in function.arg_names}
    options = {option: value for option, value in named.items() if option not in function.arg_names}
    types: dict[str, str] = {}
    constants: dict[str, Any] = {}
    unaligned = []
    for parameter in function.params:
        value = values[parameter.name]
        if parameter.is_constexpr or value is None or (type(value) is int and value == 1):
            constants[parameter.name] = value
            continue
        types[parameter.name] = _type(value)
        if type(value) is int and value % 16:
            unaligned.append(parameter.name)
    return Job(name, f"{function.fn.__module__}:{function.fn.__name__}", chip, types, constants, options, tuple(unaligned))


def _type(value: Any) -> str:
    if type(value) is int:
        return "i32" if abs(value) <= LARGEST_I32 else "i64"
    if type(value) is float:
        return "fp32"
    if hasattr(value, "block_shape"):  # a tensor descriptor
        return f"tensordesc<{_element(value.base.dtype)}{list(value.block_shape)}>"
    return f"*{_element(value.dtype)}"


def _element(dtype: Any) -> str:
    ours = {theirs: ours for ours, theirs in TORCH_DTYPES.items() if ours != "tf32"}
    return TRITON_DTYPES[ours[str(dtype).removeprefix("torch.")]]
