"""The same measured on each of a machine's GPUs alone, one after the other: siblings should be alike. Not yet run on several GPUs.

The process that measures one GPU sees no other, so everything else is as on a machine with one. A GPU that gives no answer costs its
own rows only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from chipassay.results.errors import InputError, NothingMeasured

from .crew import LocalCrew
from .devices.facts import DeviceFacts
from .options import Outcome, RunOptions, already_exists, default_path

VISIBLE = {"cuda": "CUDA_VISIBLE_DEVICES", "rocm": "HIP_VISIBLE_DEVICES"}
"""Device kind -> environment variable that names the GPUs a process may see (CUDA C++ Programming Guide, HIP documentation)."""


def only(index: int, kind: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What the environment of a process must hold so that it sees only the GPU which this one counts as ``index``.

    >>> only(1, "cuda", {}), only(1, "cuda", {"CUDA_VISIBLE_DEVICES": "4,5"})
    ({'CUDA_VISIBLE_DEVICES': '1'}, {'CUDA_VISIBLE_DEVICES': '5'})
    """
    variable = VISIBLE[kind]
    listed = [part.strip() for part in environ.get(variable, "").split(",") if part.strip()]
    return {variable: listed[index] if listed else str(index)}


def device_index(index: int, kind: str, environ: Mapping[str, str]) -> int:
    """The driver's own number of that GPU, where the environment names it by number; else what this process counts it as.

    >>> device_index(1, "cuda", {"CUDA_VISIBLE_DEVICES": "4,5"}), device_index(1, "cuda", {"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"})
    (5, 1)
    """
    name = only(index, kind, environ)[VISIBLE[kind]]
    return int(name) if name.isdecimal() else index


def run_each(
    wanted: tuple[int, ...] | str,
    options: RunOptions,
    run: Callable[[RunOptions], Outcome],
    tell: Callable[[str], None],
    environ: Mapping[str, str] = os.environ,
) -> Outcome:
    """One run per GPU into one file; ``run`` makes one. The budget is shared out evenly among those that are left.

    Raises InputError where there is no such GPU, FileError where the file exists, and, after the others were measured, NothingMeasured
    where one gave no answer.
    """
    begin_s = time.monotonic()
    facts = _look(options)
    if facts.kind not in VISIBLE:
        raise InputError(f"--gpus is for NVIDIA and AMD GPUs; what is measured here is {facts.name} ({facts.kind})")
    indices = tuple(range(facts.count)) if isinstance(wanted, str) else wanted
    if absent := [index for index in indices if index >= facts.count]:
        raise InputError(f"--gpus {absent[0]}: there are {facts.count}, counted from 0")
    out = options.out or default_path(facts.chip_id)
    if out.exists() and not options.resume:
        raise already_exists(out)
    outcomes: list[Outcome] = []
    silent: list[str] = []
    for position, index in enumerate(indices):
        tell(f"GPU {index} ({position + 1} of {len(indices)})")
        left_s = None if options.budget_s is None else options.budget_s - (time.monotonic() - begin_s)
        own = replace(
            options,
            out=out,
            resume=options.resume or position > 0,
            budget_s=None if left_s is None else max(1.0, left_s / (len(indices) - position)),
            device_index=device_index(index, facts.kind, environ),
            device_environment=only(index, facts.kind, environ),
        )
        try:
            outcomes.append(run(own))
        except NothingMeasured as error:
            silent.append(f"GPU {index}: {error}")
            tell(silent[-1])
            continue
        if outcomes[-1].interrupted:
            break
    if silent:
        raise NothingMeasured("; ".join(silent) + (f"; the rows of the others are in {out}" if outcomes else ""))
    return _joined(outcomes, facts, time.monotonic() - begin_s)


def _look(options: RunOptions) -> DeviceFacts:
    """What is here. The look ends before anything is measured."""
    crew = LocalCrew(options)
    crew.stop()
    return crew.facts


def _joined(outcomes: Sequence[Outcome], facts: DeviceFacts, wall_s: float) -> Outcome:
    return Outcome(
        path=outcomes[0].path,
        rows=tuple(row for outcome in outcomes for row in outcome.rows),
        facts=facts,
        wall_s=wall_s,
        measuring_s=sum(outcome.measuring_s for outcome in outcomes),
        interrupted=any(outcome.interrupted for outcome in outcomes),
    )
