"""Goodput: the share of a long run's wall time that trains, between checkpoints, failures, restarts and work done twice.

Training is synchronous: one failure stops all chips. Failures are taken to strike at random at a constant rate per chip (a Poisson
process, as in Daly 2006; Kokolis et al. 2025 find it to hold for large jobs, and small ones to fail more often than this says).

Sources: Young, "A first order approximation to the optimum checkpoint interval", CACM 17(9), 1974. Daly, "A higher order estimate of the
optimum checkpoint interval for restart dumps", Future Generation Computer Systems 22(3), 2006. Kokolis et al., "Revisiting Reliability in
Large-Scale Machine Learning Research Clusters", HPCA 2025, arXiv:2410.21680.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chipassay.results.errors import InputError
from chipassay.results.evidence import Evidence

from .failures import default_rate, rate_range
from .machine import Input
from .models import Transformer
from .plan import Plan
from .text import seconds

DAY_S = 86400.0

RESTART_S = 600.0
RESTART = Evidence(
    "published",
    "finding what failed and starting again: 5 to 20 min (Kokolis et al. 2025), often more than 10 min on 10,000 chips "
    "(Wan et al., ByteRobust, SOSP 2025, arXiv:2509.16293)",
)
PAUSE_S = 6.3
PAUSE = Evidence(
    "published",
    "copying the state to host memory: 6.3 s for 7B (PyTorch blog on asynchronous checkpoints, 2024-06-12); 0.59 s for 405B on 8,960 chips "
    "(Wan et al., ByteCheckpoint, NSDI 2025, arXiv:2407.20143, table 8)",
)
STORAGE_BYTES_PER_CHIP_S = 12.4e6
STORAGE = Evidence("derived", "405B at 14 bytes per weight, written in 51.06 s by 8,960 chips (ByteCheckpoint, table 8)")

NEWTON_STEPS = 8
"""From within a third of the root: errors square with each."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """How a long run is kept alive. What is None is taken from published runs, and said to be."""

    failures_per_chip_hour: float | None = None
    """Interruptions that nobody planned; 0: none."""
    restart_s: float | None = None
    """From a failure until training goes on, but for reading the checkpoint."""
    storage_bytes_per_s: float | None = None
    """What all chips together write to, and read from, storage that outlives a node."""
    asynchronous: bool = True
    """Training goes on while a copy in host memory is written; else it waits for the whole write."""
    pause_s: float | None = None
    """How long an asynchronous checkpoint stops training."""
    interval_s: float | None = None
    """Training between two checkpoints; None: the best."""
    planned_per_day: float = 0.0
    """Interruptions for maintenance: each costs a checkpoint and a restart, and no work is lost."""

    def __post_init__(self) -> None:
        for name, least in (("failures_per_chip_hour", 0), ("restart_s", 0), ("pause_s", 0), ("planned_per_day", 0)):
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise InputError(f"{name} is {value:g}; give a number of at least 0")
        for name in ("storage_bytes_per_s", "interval_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} is {value:g}; give a number above 0")


@dataclass(frozen=True)
class Goodput:
    """Where the wall time of a long run goes."""

    chips: int
    share: float
    """Of wall time, that trains: the effective training time ratio."""
    low: float
    high: float
    """The same at the highest and the lowest published failure rate; equal to ``share`` where the rate was given."""
    shares: Mapping[str, float]
    """``training``, ``checkpoints``, ``lost work``, ``restarts``, ``maintenance``: they sum to 1."""
    failures_per_day: float
    mean_between_failures_s: float
    """Infinite where nothing fails."""
    interval_s: float
    """Training between two checkpoints; infinite where nothing fails and none was asked for."""
    checkpoint_bytes: float
    write_s: float
    """From a snapshot until it can be relied on."""
    inputs: tuple[Input, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)

    def describe(self) -> str:
        """The share and what it is made of, in two lines."""
        spread = f" ({self.low:.1%} to {self.high:.1%} by published failure rates)" if self.low < self.high else ""
        failure, checkpoint = _every("failure", self.mean_between_failures_s), _every("checkpoint", self.interval_s)
        first = f"goodput {self.share:.1%} of wall time{spread}, {self.chips} chips: {failure}, {checkpoint}"
        spent = ", ".join(f"{name} {share:.2%}" for name, share in self.shares.items() if name != "training" and share > 0)
        return f"{first}\n  {spent or 'nothing is lost'}"


def _every(what: str, period_s: float) -> str:
    """How often, in words.

    >>> _every("failure", 3 * DAY_S), _every("checkpoint", 600.0), _every("failure", math.inf)
    ('a failure every 3 days', 'a checkpoint every 10 min', 'no failure')
    """
    if not math.isfinite(period_s):
        return f"no {what}"
    return f"a {what} every {seconds(period_s) if period_s < 2 * DAY_S else f'{period_s / DAY_S:.3g} days'}"


def best_interval_s(mean_between_failures_s: float, pause_s: float) -> float:
    """The training between two checkpoints that wastes least: the minimum of Daly's exact expectation, not of an expansion of it.

    With x = interval / M and d = pause / M, setting the derivative of (e^(x + d) - 1) / x to zero gives (1 - x) e^x = e^-d; with
    x = 1 - e^-u that is u - 1 + e^-u = d, convex and rising, so that Newton's method from above cannot miss. Young's sqrt(2 pause M) is
    the limit for short pauses, M that for long ones.

    >>> round(best_interval_s(24 * 3600, 300) / 60)  # the first case of Daly 2006, section 4: 117 min
    117
    """
    if pause_s <= 0:
        return 0.0
    if not math.isfinite(mean_between_failures_s):
        return math.inf
    d = pause_s / mean_between_failures_s
    u = d + min(1.0, math.sqrt(2 * d))
    for _ in range(NEWTON_STEPS):
        u -= (u + math.expm1(-u) - d) / -math.expm1(-u)
    return -math.expm1(-u) * mean_between_failures_s


def wall_shares(mean_between_failures_s: float, interval_s: float, pause_s: float, write_s: float, restart_s: float) -> dict[str, float]:
    """What wall time is spent on, exactly, for failures at random of mean distance M, which may strike restarts too.

    From one restart to the next, uptime has mean M and the restart, which begins again where it is struck, M (e^(R/M) - 1). Checkpoint k is
    whole at k (interval + pause) + write and counts if nothing fails until then, so that N = e^(-write/M) / (e^((interval + pause)/M) - 1)
    are kept on average. Training is N interval, checkpoints N pause, what is left of uptime is lost. With nothing written in the background
    this is Daly's expectation (2006, section 3): M e^(R/M) (e^((interval + pause)/M) - 1) for each interval.
    """
    m, cycle_s = mean_between_failures_s, interval_s + pause_s
    if not math.isfinite(m):
        training = 1.0 if not math.isfinite(interval_s) else interval_s / cycle_s
        return {"training": training, "checkpoints": 1 - training, "lost work": 0.0, "restarts": 0.0}
    if not math.isfinite(interval_s) or max(cycle_s, write_s, restart_s) / m > 700:  # beyond, e^x leaves the range of a float
        return {"training": 0.0, "checkpoints": 0.0, "lost work": 0.0, "restarts": 1.0}
    kept = math.exp(-write_s / m) / math.expm1(cycle_s / m)
    restarts_s = m * math.expm1(restart_s / m)
    total_s = m + restarts_s
    spent_s = {"training": kept * interval_s, "checkpoints": kept * pause_s, "lost work": m - kept * cycle_s, "restarts": restarts_s}
    return {name: value / total_s for name, value in spent_s.items()}


def checkpoint_bytes(model: Transformer, plan: Plan) -> float:
    """State that a run goes on from: working weights, fp32 weights beside narrower ones, and the optimizer's moments.

    >>> from .models import load_model
    >>> llama = load_model("llama3-8b")
    >>> checkpoint_bytes(llama, Plan(global_batch=1)) / llama.parameters
    14.0
    """
    moments = {"adam": 8, "adam-bf16": 4, "adam-8bit": 2, "sgd": 4}[plan.optimizer]
    weights = 4 if plan.dtype in ("fp32", "tf32") else 2 + 4
    return float(model.parameters * (weights + moments))


def goodput(chips: int, state_bytes: float, operation: Operation | None = None) -> Goodput:
    """Goodput of a run on ``chips`` chips whose checkpoints hold ``state_bytes`` (see ``checkpoint_bytes``).

    Raises InputError for fewer than one chip, and where checkpoints are asked for faster than they can be written.
    """
    operation = operation or Operation()
    if chips < 1:
        raise InputError(f"a run on {chips} chips does not train; give at least 1")
    storage = operation.storage_bytes_per_s or STORAGE_BYTES_PER_CHIP_S * chips
    moved_s = state_bytes / storage
    restart_s = (RESTART_S if operation.restart_s is None else operation.restart_s) + moved_s
    if operation.asynchronous:
        pause_s, write_s = (PAUSE_S if operation.pause_s is None else operation.pause_s), moved_s
    else:
        pause_s, write_s = moved_s, 0.0
    least_s = max(0.0, write_s - pause_s)  # the next snapshot waits until the one before it is written
    if operation.interval_s is not None and operation.interval_s < least_s:
        raise InputError(
            f"interval_s is {operation.interval_s:g}, but writing a checkpoint of {state_bytes / 1e9:.4g} GB takes {write_s:.3g} s; "
            f"give at least {math.ceil(least_s)} s, or more storage_bytes_per_s"
        )

    def at(rate: float) -> tuple[float, float, dict[str, float]]:
        m = math.inf if rate == 0 else 3600 / (rate * chips)
        interval_s = operation.interval_s or max(best_interval_s(m, pause_s), least_s)
        shares = wall_shares(m, interval_s, pause_s, write_s, restart_s)
        maintenance = min(1.0, operation.planned_per_day * (pause_s + write_s + restart_s) / DAY_S)
        return m, interval_s, {**{name: share * (1 - maintenance) for name, share in shares.items()}, "maintenance": maintenance}

    given = operation.failures_per_chip_hour
    rate = default_rate().per_chip_hour if given is None else given
    m, interval_s, shares = at(rate)
    ends = rate_range() if given is None else (rate, rate)
    return Goodput(
        chips=chips,
        share=shares["training"],
        low=at(ends[1])[2]["training"],
        high=at(ends[0])[2]["training"],
        shares=shares,
        failures_per_day=rate * chips * 24,
        mean_between_failures_s=m,
        interval_s=interval_s,
        checkpoint_bytes=state_bytes,
        write_s=moved_s,
        inputs=_inputs(operation, storage, rate, interval_s),
    )


def _inputs(operation: Operation, storage: float, rate: float, interval_s: float) -> tuple[Input, ...]:
    """What the goodput rests on, each with its evidence."""

    def told(value: float | None, source: Evidence) -> Evidence:
        return source if value is None else Evidence("assumed", "given by the user")

    restart_s = RESTART_S if operation.restart_s is None else operation.restart_s
    inputs = [
        Input("failures", f"{rate:.3g} per chip and hour", told(operation.failures_per_chip_hour, default_rate().evidence)),
        Input("restart", f"{restart_s:.4g} s, and reading the checkpoint", told(operation.restart_s, RESTART)),
        Input("checkpoint storage", f"{storage / 1e9:.3g} GB/s", told(operation.storage_bytes_per_s, STORAGE)),
    ]
    if operation.asynchronous:
        pause_s = PAUSE_S if operation.pause_s is None else operation.pause_s
        inputs.append(Input("pause of a checkpoint", f"{pause_s:.3g} s", told(operation.pause_s, PAUSE)))
    best = Evidence("derived", "the minimum of the expected waste (Daly 2006)")
    inputs.append(Input("checkpoint interval", seconds(interval_s), told(operation.interval_s, best)))
    return tuple(inputs)
