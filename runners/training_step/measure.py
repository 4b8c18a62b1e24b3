"""One case measured: train, check that it learns, time steps back to back, then the parts of a step, and its memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chipassay.results.errors import ChipassayError
from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import Recompute

from ..devices.discover import Device
from ..timing.condition import Condition, summarise
from ..timing.engine import CONDITION_EVERY_S
from ..timing.statistics import median, median_interval
from .attention_choice import AttentionChoice, chosen
from .deadline import BudgetSpent, Deadline
from .kernel_times import KernelTimes, NoKernelTimes, kernel_times
from .trainer import LEARNING_RATE, Trainer

WARM_UP_STEPS = 3
"""Discarded, at least: the first makes the optimizer's state and compiles, the second settles the allocator, the third heats."""
WARM_UP_S = 2.0
"""At least, on a GPU: so long it takes until power and clocks are those of a run that goes on (NVML's power is the mean of a second)."""
LEAST_STEPS = 3
PART_ROUNDS = 3
"""So often the parts of a step are timed one by one; their median is told."""
PARTS_COST_STEPS = PART_ROUNDS + 2
"""What parts and profile take after the timed steps, in steps."""
FIRST_LOSS_WITHIN = 0.5
"""Of ln(vocab): logits of standard deviation 0.5 add 0.125."""


class WrongTraining(ChipassayError):
    """The training does not do what training does: its times say nothing."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is trained. ``model``: as ``as_trained`` makes it."""

    model: Transformer
    microbatch: int
    recompute: Recompute = "none"
    compiled: bool = False

    @property
    def words(self) -> str:
        """The case in a few words."""
        parts = [self.model.name, f"{self.microbatch} x {self.model.seq_len} tokens"]
        parts += ["full recomputation"] if self.recompute == "full" else []
        return ", ".join([*parts, "torch.compile" if self.compiled else "eager"])


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one case came to."""

    times_s: tuple[float, ...]
    """Of each timed step, in order."""
    warm_up_steps: int
    parts_s: tuple[float, float, float] | None
    """Medians of the forward pass, the backward pass and the optimizer, each waited for: together a little more than a step, in which
    they follow each other without a wait. None: the budget was over before."""
    first_loss: float
    last_loss: float
    state_bytes: int
    kept_bytes: int | None
    """Tensors between the forward and the backward pass, beside the states: activations, and what the loss keeps. None like the peak,
    or like the parts."""
    peak_bytes: int | None
    """Tensors at the fullest moment of a step. None: the device does not count."""
    reserved_bytes: int | None
    """What torch's allocator held at most."""
    device_bytes: int | None
    """What the device had given away at the end, to whomever."""
    condition: dict[str, Any] = field(default_factory=dict)
    kernels: KernelTimes | None = None
    kernels_unknown: str = ""

    @property
    def step_s(self) -> float:
        return median(self.times_s)

    @property
    def interval_s(self) -> tuple[float, float]:
        """95 % interval of the median."""
        return median_interval(self.times_s)


def measure_step(
    case: Case,
    dtype: str,
    device: Device,
    choice: AttentionChoice,
    *,
    steps: int,
    deadline: Deadline,
    learning_rate: float = LEARNING_RATE,
    make: Callable[..., Trainer] = Trainer,
) -> Measured:
    """Train ``case`` for warm-up and ``steps`` timed steps, fewer where the budget is short.

    Raises WrongTraining where the loss is not what it must be, BudgetSpent, and what torch raises where memory is short.
    """
    timer = device.timer
    memory = _Memory(device)
    with chosen(choice, dtype):
        trainer = make(
            case.model,
            case.microbatch,
            dtype,
            device.array_device,
            choice.call(case.model),
            recompute=case.recompute,
            compiled=case.compiled,
            learning_rate=learning_rate,
        )
        losses: list[Any] = []
        losses.append(trainer.step())  # compiles, and is no part of the seconds that follow
        begin_s, warm_s = timer.now_s(), 0.0
        hot_s = WARM_UP_S if timer.clock_source == "device" else 0.0
        while len(losses) < WARM_UP_STEPS or timer.now_s() - begin_s < hot_s:
            deadline.check()
            warm_s = timer.time_each(lambda: losses.append(trainer.step()), 1)[0]
        discarded = len(losses)
        check_first_loss(float(losses[0]), case.model.padded_vocab(1))
        count = steps_within(steps, warm_s, deadline.left_s)
        conditions = [timer.condition()]
        times_s = timer.time_each(_watched(trainer, losses, conditions, device), count)
        conditions.append(timer.condition())
        held = memory.read()
        last_loss = check_last_loss(float(losses[0]), float(losses[-1]))
        parts, kept = _parts(trainer, device, deadline, memory)
        kernels, unknown = _kernels(trainer, median(times_s), device, deadline)
        return Measured(
            times_s=tuple(times_s),
            warm_up_steps=discarded,
            parts_s=parts,
            first_loss=float(losses[0]),
            last_loss=last_loss,
            state_bytes=trainer.state_bytes,
            kept_bytes=None if kept is None else kept - trainer.state_bytes,
            peak_bytes=held[0],
            reserved_bytes=held[1],
            device_bytes=held[2],
            condition=summarise(conditions),
            kernels=kernels,
            kernels_unknown=unknown,
        )


def steps_within(steps: int, step_s: float, left_s: float) -> int:
    """How many of ``steps`` fit into what is left of the budget, the parts after them too; LEAST_STEPS at least.

    >>> steps_within(10, 1.0, 100.0), steps_within(10, 1.0, 12.0), steps_within(10, 1.0, 2.0)
    (10, 7, 3)
    """
    fitting = math.inf if math.isinf(left_s) else left_s / max(step_s, 1e-9) - PARTS_COST_STEPS
    return min(steps, max(LEAST_STEPS, int(min(fitting, steps))))


def check_first_loss(loss: float, vocab: int) -> None:
    """Raise WrongTraining where a model of random weights is not about as good as a guess: ln(vocab)."""
    if not abs(loss - math.log(vocab)) <= FIRST_LOSS_WITHIN:  # not a number fails too
        raise WrongTraining(f"the first loss is {loss:.3f}, but of {vocab} random tokens it must be about {math.log(vocab):.3f}")


def check_last_loss(first: float, last: float) -> float:
    """Raise WrongTraining where a batch that was trained on again and again is not known better than before; else the last loss."""
    if not last < first:
        raise WrongTraining(f"the loss of one batch went from {first:.3f} to {last:.3f} while it was trained on; it must fall")
    return last


def _watched(trainer: Trainer, losses: list[Any], conditions: list[Condition], device: Device) -> Callable[[], None]:
    """A step that also looks at the chip now and then, while it works on what is queued. A CPU would have to stop for the look."""
    timer, looks = device.timer, device.timer.clock_source == "device"
    last_s = timer.now_s()

    def step() -> None:
        nonlocal last_s
        losses.append(trainer.step())
        if looks and timer.now_s() - last_s >= CONDITION_EVERY_S:
            conditions.append(timer.condition())
            last_s = timer.now_s()

    return step


def _parts(trainer: Trainer, device: Device, deadline: Deadline, memory: _Memory) -> tuple[tuple[float, float, float] | None, int | None]:
    """(medians of forward, backward and update, bytes allocated between the first two); None where the budget ends meanwhile."""
    time_each = device.timer.time_each
    rounds: list[tuple[float, float, float]] = []
    loss: list[Any] = []
    kept = None
    try:
        for _ in range(PART_ROUNDS):
            deadline.check()
            forward_s = time_each(lambda: loss.append(trainer.forward()), 1)[0]
            kept = memory.allocated()
            backward_s = time_each(lambda: trainer.backward(loss.pop()), 1)[0]
            rounds.append((forward_s, backward_s, time_each(trainer.update, 1)[0]))
    except BudgetSpent:
        return None, None
    forward, backward, update = zip(*rounds, strict=True)
    return (median(forward), median(backward), median(update)), kept


def _kernels(trainer: Trainer, step_s: float, device: Device, deadline: Deadline) -> tuple[KernelTimes | None, str]:
    if device.facts.kind not in ("cuda", "rocm"):
        return None, f"torch's profiler tells no kernels of {device.facts.kind}"
    import torch

    try:
        deadline.check()
        return kernel_times(trainer.step, step_s, torch.cuda.synchronize), ""
    except NoKernelTimes as error:
        return None, str(error)
    except BudgetSpent:
        return None, "the budget was over before"


class _Memory:
    """torch's counters of a GPU's memory from now on; what was there before is not counted."""

    def __init__(self, device: Device) -> None:
        self._counted = device.facts.kind in ("cuda", "rocm")
        if self._counted:
            import torch

            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()

    def allocated(self) -> int | None:
        """Tensors now."""
        if not self._counted:
            return None
        import torch

        return torch.cuda.memory_allocated() - self._before

    def read(self) -> tuple[int | None, int | None, int | None]:
        """(tensors at most, held by the allocator at most, given away by the device now)."""
        if not self._counted:
            return None, None, None
        import torch

        free, total = torch.cuda.mem_get_info()
        return torch.cuda.max_memory_allocated() - self._before, torch.cuda.max_memory_reserved(), total - free
