"""What a plan is judged by: time, money, energy or chips for one token. Less is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from chipassay.results.errors import UnknownName
from chipassay.results.prices import Price

from ..cluster import Group
from ..energy import HOST_SHARE, PUE, chip_w_in, energy_of
from ..errors import MissingCell
from ..models import Transformer
from ..plans import Array, Plans
from ..predict import Prediction
from ..step import KINDS, straggler_share

Objective = Literal["time", "cost", "energy", "chips"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
COMPUTE = ("matmul", "attention", "memory_bound", "recompute")
"""Kinds that ``Compute.least_step_s`` is made of, beside stragglers."""


@dataclass(frozen=True)
class Judge:
    """Turns steps into what is to be small. ``of`` and ``of_many`` agree; ``least`` is never above them."""

    objective: Objective
    seq_len: int
    group: Group
    usd_per_chip_hour: float | None
    watts: Mapping[str, float] | None
    """Of one chip by kind of the breakdown, the host's and the building's in it; None: the chip's power is unknown."""

    def of_many(self, plans: Plans, parts_s: Mapping[str, Array]) -> Array:
        """Seconds, USD or joules per token of steps by their parts."""
        tokens = plans.global_batch * self.seq_len
        if self.objective == "energy":
            joules: Array = sum(self._watts[kind] * seconds for kind, seconds in parts_s.items())  # type: ignore[assignment]
            return joules * plans.chips / tokens
        step_time_s: Array = sum(parts_s.values())  # type: ignore[assignment]
        return self._from_time(step_time_s / tokens, plans.chips)

    def least(self, plans: Plans, least_step_s: Array) -> Array:
        """The same for steps of which only the compute is known."""
        tokens = plans.global_batch * self.seq_len
        if self.objective == "energy":
            later = straggler_share(plans.chips)
            compute_w = min(self._watts[kind] for kind in COMPUTE)
            return least_step_s * (compute_w + later * self._watts["stragglers"]) / (1 + later) * plans.chips / tokens
        return self._from_time(least_step_s / tokens, plans.chips)

    def of(self, prediction: Prediction) -> float:
        """Seconds, USD or joules per token of one prediction."""
        if self.objective == "energy":
            return energy_of(prediction, self.group.profile).joules_per_token
        return float(self._from_time(1 / prediction.tokens_per_s, prediction.chips))

    def usd_per_token(self, s_per_token: Any, chips: Any) -> Any:
        """At the price of the judge, which must have one."""
        if self.usd_per_chip_hour is None:
            raise MissingCell(f"no price of {self.group.profile.chip_id} is known; give one per chip and hour")
        return s_per_token * chips * (self.usd_per_chip_hour / 3600)

    def _from_time(self, s_per_token: Any, chips: Any) -> Any:
        return self.usd_per_token(s_per_token, chips) if self.objective == "cost" else s_per_token

    @property
    def _watts(self) -> Mapping[str, float]:
        if self.watts is None:
            raise MissingCell(f"profile {self.group.profile.chip_id}: its power is unknown, so energy cannot be judged; add power_w")
        return self.watts


def judge(objective: str, model: Transformer, group: Group, dtype: str, price: Price | None) -> Judge:
    """The judge for an objective. Raises UnknownName for one that is none, MissingCell where it needs a price or power that is unknown."""
    if objective not in OBJECTIVES:
        raise UnknownName("objective", objective, OBJECTIVES)
    if objective == "cost" and price is None:
        chip_id = group.profile.chip_id
        raise MissingCell(
            f"no quote of {chip_id} is known, so plans cannot be judged by cost; give --price {chip_id}=USD per chip and hour"
        )
    watts = wall_watts(group, dtype) if objective == "energy" else None
    return Judge(objective, model.seq_len, group, None if price is None else price.usd, watts)


def wall_watts(group: Group, dtype: str) -> dict[str, float]:
    """Watts from the wall for one chip by kind of the breakdown, as ``energy_of`` counts them: its own, the node's, the building's."""
    profile = group.profile
    if profile.power_w is None:
        raise MissingCell(f"profile {profile.chip_id}: its rated power is unknown, so plans cannot be judged by energy; add power_w")
    host_w = HOST_SHARE * profile.power_w.value
    return {kind: PUE * (chip_w_in(profile, kind, dtype).value + host_w) for kind in KINDS}
