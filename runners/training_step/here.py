"""All cases, one after the other: each row is told as soon as there is one, whatever becomes of the next."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from chipassay.results.errors import ChipassayError, InputError, NothingMeasured, UnknownName
from chipassay.scaling.cluster import Group
from chipassay.scaling.plan import Recompute

from ..devices.discover import Device, discover
from .attention_choice import choose
from .cases import asked_cases, default_cases
from .deadline import BudgetSpent, Deadline
from .measure import Case, WrongTraining, measure_step
from .prediction import default_dtype, largest_microbatch, one_chip, plan_of, predicted
from .row import case_columns, compared, measured_columns, predicted_columns
from .trainer import Trainer

Row = Mapping[str, Any]
Tell = Callable[[Row], None]

REASON_LINES = 2
"""Of a library's error: the compiler names itself in the first, CUDA explains from the second on at length."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command's flags ask for."""

    models: tuple[str, ...] | None = None
    """None: what suits the chip."""
    microbatch: int | None = None
    seq_len: int | None = None
    steps: int = 10
    recompute: Recompute = "none"
    compiled: bool = False
    dtype: str | None = None
    """None: what the scaling model would train in."""
    profile: str | None = None
    """A chip id or the path of a profile .json; None: the shipped profile of the chip that is found."""
    device: str | None = None
    budget_s: float | None = None


def train_here(asked: Asked, tell: Tell, make: Callable[..., Trainer] = Trainer) -> list[Row]:
    """Measure every case on the chip at hand, and hand each row to ``tell`` as soon as it is known.

    Raises NothingMeasured without torch, and what wrong flags raise, before anything is measured.
    """
    deadline = Deadline(asked.budget_s)
    device = _device(asked.device)
    group, unknown = _group(asked.profile, device)
    dtype = asked.dtype or _dtype(group, device)
    kind = device.facts.kind
    if asked.models is None:
        cases = default_cases(kind, device.facts.memory_bytes)
    else:
        cases = asked_cases(kind, asked.models, asked.microbatch, asked.seq_len, asked.recompute, asked.compiled)
    rows: list[Row] = []
    with _Loop(asked, device, group, unknown, dtype, deadline, make) as loop:
        while cases:
            case = cases.pop(0)
            row = loop.row(case)
            rows.append(row)
            tell(row)
            smaller = loop.after_memory_ran_out(case, row)
            cases[:0] = [] if smaller is None else [smaller]
    return rows


class _Loop:
    """What is the same for all cases of one run."""

    def __init__(
        self,
        asked: Asked,
        device: Device,
        group: Group | None,
        unknown: str,
        dtype: str,
        deadline: Deadline,
        make: Callable[..., Trainer],
    ) -> None:
        self._asked, self._device, self._group, self._unknown = asked, device, group, unknown
        self._dtype, self._deadline, self._make = dtype, deadline, make

    def __enter__(self) -> _Loop:
        return self

    def __exit__(self, *_: object) -> None:
        self._let_go()

    def row(self, case: Case) -> Row:
        """The row of one case: measured, or with the reason why not."""
        import torch

        row = case_columns(case, self._dtype, replace(case.model, vocab_multiple=1).parameters)
        facts = self._device.facts
        row |= {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), "torch": torch.__version__}
        row |= {"chip": facts.chip_id, "device": facts.name, "not_predicted": self._unknown or None}
        if self._deadline.left_s <= 0:
            return {**row, "status": "skipped", "reason": f"the budget of {self._deadline.budget_s:g} s was over before"}
        try:
            with self._deadline.alarm():
                self._measure(case, row)
        except BudgetSpent:
            row |= {"status": "stopped", "reason": f"the budget of {self._deadline.budget_s:g} s ended while it was measured"}
        except WrongTraining as error:
            row |= {"status": "wrong", "reason": str(error)}
        except ChipassayError as error:
            row |= {"status": "error", "reason": str(error)}
        except Exception as error:  # libraries raise types of their own; one case must not cost the others
            short = "out of memory" in str(error).lower()
            words = " ".join(str(error).split("\n")[:REASON_LINES])
            reason = self._memory_words(case) if short else f"{type(error).__name__}: {words}"
            row |= {"status": "out_of_memory" if short else "error", "reason": reason}
        self._let_go()  # outside the handlers, whose errors hold the frames with the tensors
        return compared(row)

    def after_memory_ran_out(self, case: Case, row: Row) -> Case | None:
        """The next case to try where memory did not suffice: with the nearest microbatch that fits. None: there is none, or no need."""
        if row["status"] != "out_of_memory":
            return None
        size = self._nearest(case)
        return None if size is None else replace(case, microbatch=size)

    def _measure(self, case: Case, row: dict[str, Any]) -> None:
        """Fill in the row: first what is predicted, which stays where the measurement fails."""
        device = self._device
        choice = choose(case.model, case.microbatch, self._dtype, device.array_device, device.timer)
        plan = plan_of(case.microbatch, self._dtype, choice.generation(device.facts.compute_capability), case.recompute, case.compiled)
        row |= {"attention": choice.name}
        if self._group is not None:
            try:
                row |= predicted_columns(predicted(case.model, plan, self._group), self._group.profile.chip_id)
            except InputError as error:
                row |= {"not_predicted": str(error)}
        measured = measure_step(case, self._dtype, device, choice, steps=self._asked.steps, deadline=self._deadline, make=self._make)
        peak = device.facts.peak_flops_per_s.get(self._dtype)
        row |= {**measured_columns(case, measured, None if peak is None else peak.value), "status": "ok"}

    def _nearest(self, case: Case) -> int | None:
        """The largest smaller microbatch that fits: by the scaling model, or where it knows nothing the half."""
        half = case.microbatch // 2
        if not half:
            return None
        if self._group is None:
            return half
        plan = plan_of(half, self._dtype, "flash", case.recompute, case.compiled)
        try:
            return largest_microbatch(case.model, plan, self._group)
        except InputError:
            return half

    def _memory_words(self, case: Case) -> str:
        size = self._nearest(case)
        words = f"a microbatch of {case.microbatch} does not fit into this device's memory"
        if size is None:
            return f"{words}, nor does a smaller one; take --recompute full, fewer tokens (--seq-len) or a smaller model"
        return f"{words}; the nearest that does by the scaling model is {size}, which is tried next"

    def _let_go(self) -> None:
        import torch

        gc.collect()  # hooks and weights hold each other
        if torch.cuda.is_available():
            with contextlib.suppress(RuntimeError):  # a GPU that went away says so to the next case, which tells it
                torch.cuda.empty_cache()


def _device(kind: str | None) -> Device:
    try:
        import torch
    except (ImportError, OSError) as error:
        raise NothingMeasured("torch is not installed, and it is what trains; pip install torch") from error
    device = discover(kind)
    if device.array_device.startswith("cuda") and not torch.cuda.is_available():
        raise NothingMeasured("this torch sees no GPU; install one for this driver, or give --device cpu")
    return device


def _group(profile: str | None, device: Device) -> tuple[Group | None, str]:
    """One chip by its profile, or why there is none. A profile that was asked for must be there."""
    if profile is not None:
        return one_chip(profile), ""
    try:
        return one_chip(device.facts.chip_id), ""
    except UnknownName:
        return None, f"no profile of {device.facts.chip_id} is shipped; measure one, and give it with --profile FILE"


def _dtype(group: Group | None, device: Device) -> str:
    if group is not None:
        return default_dtype(group)
    if device.facts.kind == "cpu":
        return "fp32"
    capability = device.facts.compute_capability
    return "fp16" if capability is not None and capability < (8, 0) else "bf16"
