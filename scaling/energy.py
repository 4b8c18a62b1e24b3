"""Energy: what a step and a run draw from the wall, chip by kind of work, then the rest of the node, then the building.

    energy = chips * sum(seconds of a kind * watts of that kind) + chips * host watts * seconds, all times PUE

The watts of a chip are those that its profile measured under load, kind by kind; where it measured none, published shares of the board's
rated power. Energy per kind is exact only as far as kinds do not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chipassay.results.errors import InputError
from chipassay.results.evidence import Evidence
from chipassay.results.profile import Profile, Quantity

from .errors import MissingCell
from .machine import Input
from .predict import Prediction
from .text import amount

KWH_J = 3.6e6

BUSY_SHARE = 0.85
BUSY = Evidence(
    "published",
    f"{BUSY_SHARE} of the board's rated power: over 600 of 700 W while an H100 trains (Morrison et al., ICLR 2025, arXiv:2503.05804)",
)
IDLE_SHARE = 0.15
WAITING_SHARE = 0.5
WAITING = Evidence(
    "assumed",
    f"{WAITING_SHARE} of the board's rated power: half way from the {IDLE_SHARE} of a chip that writes a checkpoint to the {BUSY_SHARE} of "
    "one that trains (arXiv:2503.05804)",
)
HOST_SHARE = 0.4
HOST_SHARES = (0.25, 0.53)
"""V100: 330 W per chip of the whole system (Patterson et al. 2021, arXiv:2104.10350, table 4) less BUSY_SHARE of 300 W. H100: 0.76 of a
node's 10.2 kW (Newkirk et al. 2025, arXiv:2506.14551) less BUSY_SHARE of 8 x 700 W. Each over the boards' rated power."""
HOST = Evidence(
    "derived",
    f"{HOST_SHARE} of the boards' rated power for processors, memory, network cards and fans: {HOST_SHARES[0]} for V100 (arXiv:2104.10350, "
    f"table 4), {HOST_SHARES[1]} for H100 (arXiv:2506.14551)",
)
PUE = 1.2
PUES = (1.1, 1.59)
PUE_EVIDENCE = Evidence(
    "published",
    f"of the site that trained OLMo 2 7B (arXiv:2501.00656, table 19); {PUES[0]} in the largest sites, {PUES[1]} on average in the USA "
    "(Patterson et al. 2021)",
)

KINDS: Mapping[str, tuple[str, ...]] = {
    "matmul": ("matmul",),
    "recompute": ("matmul",),
    "attention": ("attention", "matmul"),
    "memory_bound": ("copy", "triad", "rms_norm", "layer_norm"),
    "optimizer": ("adam", "copy", "triad"),
}
"""Kind of the breakdown -> operations whose measured power stands for it, the first that was measured. In all others the chip waits."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """What stands around the chips. What is None is taken from published sites, and said to be."""

    host_w_per_chip: float | None = None
    """Processors, memory, network cards and fans of a node, over its chips."""
    pue: float | None = None
    """Power of the building over that of the machines."""
    usd_per_kwh: float | None = None
    kg_co2_per_kwh: float | None = None
    """Of the grid. None: no emissions are told."""

    def __post_init__(self) -> None:
        for name, least in (("host_w_per_chip", 0), ("pue", 1), ("usd_per_kwh", 0), ("kg_co2_per_kwh", 0)):
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise InputError(f"{name} is {value:g}; give a number of at least {least}")


@dataclass(frozen=True)
class Energy:
    """Energy of one step, and of a run where its tokens were given."""

    chips: int
    step_joules: float
    """From the wall, the building included."""
    low: float
    high: float
    """The same at the lowest and the highest published figures of what was not measured or given, at the predicted step time."""
    by_kind_joules: Mapping[str, float]
    """Of the chips, by kind of the breakdown, then ``host`` and ``building``: they sum to ``step_joules``."""
    chip_w: float
    """One chip's mean power."""
    joules_per_token: float
    run_kwh: float | None
    run_usd: float | None
    run_kg_co2: float | None
    inputs: tuple[Input, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """Energy in one to two lines."""
        spread = f" ({self.low / KWH_J:.3g} to {self.high / KWH_J:.3g})" if self.low < self.high else ""
        each = f"{self.joules_per_token:.3g} J per token, {self.chip_w:.0f} W per chip"
        lines = [f"energy: {self.step_joules / KWH_J:.4g} kWh a step{spread}, {each}"]
        if self.run_kwh is not None:
            parts = [f"{amount(self.run_kwh)} kWh"]
            parts += [] if self.run_usd is None else [f"{amount(self.run_usd)} USD of electricity"]
            parts += [] if self.run_kg_co2 is None else [f"{amount(self.run_kg_co2 / 1000)} t of CO2"]
            lines.append(f"  the run: {', '.join(parts)}")
        return "\n".join(lines)


def energy_of(
    prediction: Prediction, profile: Profile, site: Site | None = None, *, tokens: float | None = None, goodput: float = 1.0
) -> Energy:
    """Energy of a predicted step on chips of ``profile``; with ``tokens``, of a run over so many at a ``goodput`` (share of wall time that
    trains; what does not train is taken to draw as much).

    Raises MissingCell where the profile knows neither a measured nor a rated power, InputError for numbers that cannot be.

    >>> from .predict import predict
    >>> from .plan import Plan
    >>> from chipassay.results.shipped import find_profile
    >>> found = predict("llama3-8b", "8xh100-sxm-80gb", Plan(global_batch=64, dp=8, zero_stage=3, recompute="full"))
    >>> 500 < energy_of(found, find_profile("h100-sxm-80gb")).chip_w < 600
    True
    """
    site = site or Site()
    if tokens is not None and not 0 < tokens < math.inf:
        raise InputError(f"a run over {tokens:g} tokens draws nothing; give a number above 0")
    if not 0 < goodput <= 1:
        raise InputError(f"goodput is {goodput:g}; give a share of wall time above 0, at most 1")
    kinds = {kind: chip_w_in(profile, kind, prediction.dtype) for kind in prediction.breakdown_s}
    chips, step_s = prediction.chips, prediction.step_time_s
    rated_w = None if profile.power_w is None else profile.power_w.value
    host = Quantity(HOST_SHARE * rated_w, HOST) if rated_w is not None and site.host_w_per_chip is None else _given(site.host_w_per_chip)
    if host is None:
        raise MissingCell(f"profile {profile.chip_id}: its rated power is unknown, so the host's is; give host_w_per_chip")

    by_kind = {kind: chips * kinds[kind].value * time_s for kind, time_s in prediction.breakdown_s.items() if time_s}
    chip_j = math.fsum(by_kind.values())
    pue = PUE if site.pue is None else site.pue
    by_kind["host"] = chips * host.value * step_s
    by_kind["building"] = (pue - 1) * (chip_j + by_kind["host"])
    joules = math.fsum(by_kind.values())

    def end(share: float, host_share: float, other_pue: float) -> float:
        waiting_j = math.fsum(
            chips * time_s * ((rated_w or 0.0) * share - kinds[kind].value)
            for kind, time_s in prediction.breakdown_s.items()
            if kinds[kind].evidence is WAITING
        )
        host_w = host_share * rated_w if site.host_w_per_chip is None and rated_w is not None else host.value
        return (chip_j + waiting_j + chips * host_w * step_s) * (other_pue if site.pue is None else pue)

    tokens_per_step = prediction.tokens_per_s * step_s
    run_kwh = None if tokens is None else joules / KWH_J * tokens / tokens_per_step / goodput
    return Energy(
        chips=chips,
        step_joules=joules,
        low=end(IDLE_SHARE, HOST_SHARES[0], PUES[0]),
        high=end(BUSY_SHARE, HOST_SHARES[1], PUES[1]),
        by_kind_joules=by_kind,
        chip_w=chip_j / chips / step_s,
        joules_per_token=joules / tokens_per_step,
        run_kwh=run_kwh,
        run_usd=None if run_kwh is None or site.usd_per_kwh is None else run_kwh * site.usd_per_kwh,
        run_kg_co2=None if run_kwh is None or site.kg_co2_per_kwh is None else run_kwh * site.kg_co2_per_kwh,
        inputs=_inputs(prediction, kinds, host, site),
    )


def _given(value: float | None) -> Quantity | None:
    return None if value is None else Quantity(value, Evidence("assumed", "given by the user"))


def chip_w_in(profile: Profile, kind: str, dtype: str) -> Quantity:
    """Watts of one chip in a kind of work: measured in the dtype, then in any, else a share of the rated power."""
    for op in KINDS.get(kind, ()):
        measured = {name: found for name, found in profile.sustained_power_w.items() if name.split()[0] == op}
        for name in (f"{op} {dtype}", *sorted(measured)):
            if name in measured:
                return measured[name]
    if profile.power_w is None:
        known = "measured" if kind in KINDS else "rated"
        raise MissingCell(f"profile {profile.chip_id}: no {known} power stands for {kind}; measure with a sustained run, or add power_w")
    share, evidence = (BUSY_SHARE, BUSY) if kind in KINDS else (WAITING_SHARE, WAITING)
    return Quantity(share * profile.power_w.value, evidence)


def _inputs(prediction: Prediction, kinds: Mapping[str, Quantity], host: Quantity, site: Site) -> tuple[Input, ...]:
    """What the energy rests on: kinds of one power together."""
    together: dict[Quantity, list[str]] = {}
    for kind, found in kinds.items():
        if prediction.breakdown_s[kind]:
            together.setdefault(found, []).append(kind)
    inputs = [Input(f"power in {', '.join(names)}", f"{found.value:.0f} W", found.evidence) for found, names in together.items()]
    inputs.append(Input("power of the host per chip", f"{host.value:.0f} W", host.evidence))
    pue = _given(site.pue) or Quantity(PUE, PUE_EVIDENCE)
    inputs.append(Input("power usage effectiveness", f"{pue.value:.3g}", pue.evidence))
    return tuple(inputs)
