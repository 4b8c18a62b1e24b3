"""Numbers of chips of one kind by closed forms: many of them are priced in one go, and of each the fastest few plans are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np

from ..as_of import of_its_time
from ..errors import IllegalPlan, NoPlanFits
from ..grid import grid, nearest_batch
from ..machine import Machine
from ..models import Transformer
from ..plan import Plan
from ..plans import COLUMNS, Plans
from ..predict import Prediction, predict_ready
from ..ready import ready
from ..search import PLAYED, Priced, no_plan_fits, price
from ..step import step
from .side import Kind

AT_ONCE = 24
"""Numbers priced together: so many that NumPy's cost per call does not count, so few that their plans take little memory."""


class Quick:
    """One kind of chip at one batch; each number of chips is priced once."""

    def __init__(
        self, model: Transformer, kind: Kind, batch: int, tolerance: float = 0.0, settings: Plan | None = None, as_of: str | None = None
    ) -> None:
        """``batch`` may be moved by ``tolerance``. ``as_of`` (YYYY-MM): only plans that use nothing published later."""
        self.model, self.kind, self.batch, self.tolerance, self.as_of = model, kind, batch, tolerance, as_of
        self.settings = settings or Plan(global_batch=batch)
        self._known: dict[int, Priced | NoPlanFits | IllegalPlan] = {}
        """The fastest few plans of each number, or why there is none: all of them would take much memory."""

    def look(self, counts: Iterable[int]) -> None:
        """Price these numbers together. Only the plan tells a step how many chips there are, so that plans on different numbers of
        chips can stand in one batch."""
        new = [count for count in dict.fromkeys(counts) if count not in self._known]
        alone = [count for count in new if count == 1]  # without a link
        for counted in (alone, *(several for several in _parts([count for count in new if count > 1]))):
            if counted:
                self._look(counted)

    def priced(self, count: int) -> Priced:
        """The fastest few plans of so many chips, all at work. Raises IllegalPlan or NoPlanFits where there is none."""
        self.look((count,))
        found = self._known[count]
        if isinstance(found, Exception):
            raise found.with_traceback(None)  # or each time it is raised adds to it
        return found

    def best(self, count: int) -> Prediction:
        """The fastest plan of so many chips, predicted: of the fastest few one by one, since played through pass by pass their order may
        change. Raises as ``priced``."""
        found, group = self.priced(count), self.kind.group(count)
        predictions = [predict_ready(self.model, found.plans.plan(index), found.machine, group) for index in range(len(found.plans))]
        return max(predictions, key=lambda prediction: prediction.tokens_per_s)

    def speed(self, count: int) -> float:
        """Tokens per second; 0 where they cannot run."""
        self.look((count,))
        found = self._known[count]
        return 0.0 if isinstance(found, Exception) else self.model.seq_len / found.fastest(1)[1][0]

    def parts_s(self, count: int) -> Mapping[str, float]:
        """The step of the fastest plan by kind, in seconds."""
        priced = self.priced(count)
        index = priced.fastest(1)[0][0]
        parts = step(self.model, priced.plans.take(slice(index, index + 1)), priced.machine, self.kind.group(count)).parts_s
        return {name: float(seconds[0]) for name, seconds in parts.items()}

    @property
    def speeds(self) -> dict[int, float]:
        """Of all numbers priced so far."""
        return {count: self.speed(count) for count in self._known}

    def _look(self, counts: list[int]) -> None:
        machine = self._machine if counts[0] > 1 else ready(self.kind.group(1), self.settings.dtype)
        shared = replace(self.settings, global_batch=self.batch, dtype=machine.dtype)
        grids: dict[int, Plans] = {}
        for count in counts:
            plans = grid(self.model, count, self.kind.chips_per_node, self.batch, shared, batch_tolerance=self.tolerance)
            if self.as_of is not None:
                plans = of_its_time(plans, self.as_of)
            if len(plans):
                grids[count] = plans
                continue
            nearest = nearest_batch(self.model, count, self.kind.chips_per_node, self.batch)
            when = "" if self.as_of is None else f" by what was published in {self.as_of}"
            self._known[count] = IllegalPlan(
                f"no split of {count} chips divides a global batch of {self.batch}{when}; the nearest that one does is {nearest}"
            )
        if not grids:
            return
        plans = Plans(shared, **{name: np.concatenate([getattr(one, name) for one in grids.values()]) for name in COLUMNS})
        priced = price(self.model, plans, machine, self.kind.group(max(grids)))
        start = 0
        for count, own in grids.items():
            part = slice(start, start + len(own))
            start += len(own)
            times, needed = priced.step_time_s[part], priced.needed_bytes[part]
            found = replace(priced, plans=own, step_time_s=times, needed_bytes=needed)
            if not found.fitting:
                self._known[count] = no_plan_fits(self.model, self.kind.group(count), found)
                continue
            best = np.asarray(found.fastest(PLAYED)[0])
            self._known[count] = replace(found, plans=own.take(best), step_time_s=times[best], needed_bytes=needed[best])

    @cached_property
    def _machine(self) -> Machine:
        return ready(self.kind.group(max(2, self.kind.chips_per_node)), self.settings.dtype)


def _parts(counts: list[int]) -> list[list[int]]:
    return [counts[start : start + AT_ONCE] for start in range(0, len(counts), AT_ONCE)]
