"""A kernel's call for a case, checked: what will be timed computes what it should.

Where a tuned kernel is wrong its next best configuration gets a turn, a few times: compilers have faults of their own (Triton 3.6 on an
H200 gave kernels that were wrong, and the fastest of a search), and a search, which times alone, cannot see them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from chipassay.kernels import tuning
from chipassay.kernels.arrays import Array, Arrays, Output
from chipassay.kernels.case import Case
from chipassay.kernels.kernel import Call, Kernel

from .devices.graphs import CaptureFailed, Replay, captured

MOST_WRONG = 3
"""Configurations with wrong results after which a kernel is believed to be wrong itself: each costs a search, of what is compiled."""


@dataclass(frozen=True)
class RightCall:
    """The call, its output, and the columns of the row that are known by now: with a ``status`` where it is not to be timed."""

    call: Call
    output: Output
    columns: dict[str, Any]
    choices: Mapping[str, tuning.Config]
    """What was tuned for it."""
    wrong: tuple[str, ...] = ()
    """Configurations that were chosen before it, and gave wrong results."""


def right_call(case: Case, kernel: Kernel, arrays: Arrays, *, seed: int, graph: bool, checked: bool) -> RightCall:
    """Prepare, capture where it is to be a graph, and check, unless it was ``checked`` earlier in this run.

    Raises what ``prepare`` and the call raise.
    """
    found = _attempt(case, kernel, arrays, seed, graph, checked)
    wrong: list[str] = []
    while found.columns.get("status") == "incorrect" and found.choices and len(wrong) < MOST_WRONG:
        wrong.append(str(found.columns["config"] or dict(found.choices)))
        tuning.distrust(found.choices)
        told = found.columns
        # Its arrays go before new ones come: there may be room for one set alone.
        del found
        try:
            found = _attempt(case, kernel, arrays, seed, graph, checked)
        except Exception:  # no other configuration is left, or none runs: what stands is that the kernel was wrong
            return RightCall(lambda: None, None, told, {}, tuple(wrong))
    if wrong and "status" not in found.columns:
        reason = f"wrong results before it, with {' and with '.join(wrong)}"[:500]
        return replace(found, columns={**found.columns, "reason": reason}, wrong=tuple(wrong))
    return found


def _attempt(case: Case, kernel: Kernel, arrays: Arrays, seed: int, graph: bool, checked: bool) -> RightCall:
    inputs, output = case.make_inputs(arrays, seed), case.make_output(arrays)
    with tuning.taken() as choices:
        call = kernel.prepare(case, arrays, inputs, output)
    # Tuned kernels say with which choices they run.
    columns: dict[str, Any] = {"config": getattr(call, "config", None)}
    if graph:
        try:
            call = captured(call, kernel.backend)
        except CaptureFailed as error:
            columns |= {"status": "skipped", "reason": str(error)}
    if "status" not in columns and not checked:
        columns |= _checked(case, arrays, inputs, call, seed)
    return RightCall(call, output, columns, choices)


def _checked(case: Case, arrays: Arrays, inputs: tuple[Array, ...], call: Call, seed: int) -> dict[str, Any]:
    """The error of one call and its limit, with a status only where it is too large."""
    if isinstance(call, Replay):
        # Capturing ran the call before: only what the replay itself writes counts.
        call.spoil(case.make_output(arrays))
        # Where a call goes on from the state it finds (a step of Adam), that is the first one again.
        case.begin(inputs, call.output)
    output: Output = call()
    check = case.check(arrays, inputs, output, seed)
    # NaN in the output is an error without bound.
    error = math.inf if math.isnan(check.error) else check.error
    columns = {"error": error, "error_limit": check.limit}
    if check.passed:
        return columns
    return {**columns, "status": "incorrect", "reason": f"error {error:.3g} above its limit {check.limit:.3g}; not timed"}
