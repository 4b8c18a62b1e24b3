"""The answer of an exchange, and what may be held the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..machine import Input
from ..predict import Prediction
from .limits import Ceiling
from .run import Run
from .worth import Worth

if TYPE_CHECKING:
    from ..mixed.search import MixedAnswer


Same = Literal["time", "cost", "rent", "power", "energy"]
SAMES: tuple[Same, ...] = get_args(Same)
WHAT: Mapping[Same, tuple[str, str, Callable[[Run], float | None]]] = {
    "time": ("speed", "tokens/s", lambda run: run.tokens_per_s),
    "cost": ("cost of the run", "USD per million tokens", lambda run: None if run.usd_per_token is None else 1e6 * run.usd_per_token),
    "rent": ("rent", "USD/h", lambda run: run.usd_per_hour),
    "power": ("power", "kW", lambda run: None if run.watts is None else run.watts / 1e3),
    "energy": ("energy of the run", "J per token", lambda run: run.joules_per_token),
}
"""What is to be the same -> its name, its unit, its value. ``cost`` and ``energy`` are of the whole run, ``rent`` and ``power`` at any
time."""


@dataclass(frozen=True)
class Exchange:
    """How many of another side stand for a number of reference chips, on the same model, batch and tokens."""

    model: str
    same: Same
    global_batch: int
    as_of: str | None
    reference_chip: str
    reference_count: int
    other_chip: str
    """A mix by the name of ``Side``."""
    count: int | None
    """The smallest number that is as fast, or the largest that costs, rents for or draws no more: of chips in one node, in whole nodes, or
    as many as the reference's. None: there is none."""
    count_low: float | None
    count_high: float | None
    """80 % interval of the number; infinite where no number of them reaches its upper end."""
    count_exact: int | None
    """The fewest that are as fast where the last node need not be full; None where that are no fewer, and but for ``same="time"``."""
    nearest_count: int | None
    """Where there is no ``count``, the number that comes nearest: of most speed, of least cost or power. None: none can run."""
    nearest_ratio: float | None
    """Its speed, cost, rent, power or energy over the reference's."""
    speed: float | None
    """Of ``count`` chips over the reference's, or of ``nearest_count`` where there is none."""
    speed_low: float | None
    speed_high: float | None
    """80 % interval."""
    ratio: float | None
    """Other chips per reference chip at equal work per chip; see ``worth``. None for a mix."""
    reference: Prediction
    other: Prediction | None
    """The prediction for ``count`` chips, or for ``nearest_count`` where there is none; None for a mix: see ``mix``."""
    reference_run: Run = field(repr=False)
    other_run: Run | None = field(repr=False)
    mix: MixedAnswer | None = field(repr=False)
    worth: Worth | None
    ceiling: Ceiling | None
    """None: not asked for, or no number of them can run."""
    reason: str
    notes: tuple[str, ...]
    inputs: tuple[Input, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON; what is infinite is None."""
        told = {one.name: getattr(self, one.name) for one in fields(self)}
        for name in ("reference", "other", "reference_run", "other_run", "mix", "worth", "ceiling"):
            told[name] = None if told[name] is None else told[name].to_dict()
        told["inputs"] = [
            {"what": one.what, "value": one.value, "evidence": one.evidence.level, "source": one.evidence.source} for one in self.inputs
        ]
        return {name: None if isinstance(value, float) and math.isinf(value) else value for name, value in told.items()}
