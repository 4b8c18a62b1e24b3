"""What one chip is worth in another, chip for chip: each with as much work as it needs."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from chipassay.results.profile import Profile

from ..cluster import Group, resolve_profile
from ..errors import IllegalPlan, NoPlanFits
from ..machine import Input
from ..models import Transformer, load_model
from ..plan import Plan
from ..predict import Prediction
from ..uncertainty import Z80
from .quick import Quick
from .side import Kind
from .spread import ratio_sigma

SEQUENCES_PER_CHIP = 8
"""Batch of a per-chip comparison: sequences per chip, so at least as many per data-parallel replica."""

MOST_NODES = 65536
"""Where the search for the smallest cluster that holds a model gives up."""


@dataclass(frozen=True)
class Worth:
    """What one reference chip is worth in another chip, by tokens per second per chip."""

    model: str
    reference_chip: str
    other_chip: str
    ratio: float
    """Other chips per reference chip."""
    low: float
    high: float
    """80 % interval of the ratio."""
    reference: Prediction
    other: Prediction
    definition: str
    inputs: tuple[Input, ...]
    """What both sides rest on; ``what`` begins with the chip."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)


def told_inputs(*predictions: tuple[str, Prediction]) -> tuple[Input, ...]:
    """What predictions rest on, each with its chip."""
    return tuple(Input(f"{chip}: {found.what}", found.value, found.evidence) for chip, p in predictions for found in p.inputs)


def smallest_fit(model: Transformer, kind: Kind, settings: Plan | None = None, as_of: str | None = None) -> tuple[Prediction, Group]:
    """The best plan on the fewest whole nodes (a power of two) that hold the model, at SEQUENCES_PER_CHIP, and these nodes. ``as_of``:
    only plans that use nothing published later. Raises NoPlanFits where the largest does not."""
    nodes = 1
    problem: NoPlanFits | IllegalPlan | None = None
    while nodes <= MOST_NODES:
        count = nodes * kind.chips_per_node
        try:
            return Quick(model, kind, SEQUENCES_PER_CHIP * count, settings=settings, as_of=as_of).best(count), kind.group(count)
        except (NoPlanFits, IllegalPlan) as error:
            problem = error
        nodes *= 2
    raise NoPlanFits(f"{model.name} fits on no cluster of up to {MOST_NODES} nodes of {kind.profile.chip_id}: {problem}")


def worth_of(model: Transformer, reference: Kind, other: Kind, settings: Plan | None = None, as_of: str | None = None) -> Worth:
    """What one reference chip is worth in the other: see ``per_chip_worth``."""
    a, a_group = smallest_fit(model, reference, settings, as_of)
    b, b_group = smallest_fit(model, other, settings, as_of)
    ratio = (a.tokens_per_s / a.chips) / (b.tokens_per_s / b.chips)
    spread = math.exp(Z80 * ratio_sigma(a, b, (a_group,), (b_group,)))
    chips = reference.profile.chip_id, other.profile.chip_id
    return Worth(
        model=model.name,
        reference_chip=chips[0],
        other_chip=chips[1],
        ratio=ratio,
        low=ratio / spread,
        high=ratio * spread,
        reference=a,
        other=b,
        definition=(
            f"tokens per second per chip, each in the smallest cluster of whole nodes that holds the model ({a.chips}, {b.chips} chips), "
            f"with its best plan, {SEQUENCES_PER_CHIP} sequences per chip and step"
        ),
        inputs=told_inputs((chips[0], a), (chips[1], b)),
    )


def per_chip_worth(
    model: Transformer | str,
    reference: Profile | str,
    other: Profile | str,
    *,
    reference_fabric: str | None = None,
    other_fabric: str | None = None,
) -> Worth:
    """What one reference chip is worth in the other chip: the ratio of their tokens per second per chip, each in the smallest
    cluster of whole nodes that holds the model, with its best plan, at 8 sequences per chip.
    """
    transformer = load_model(model) if isinstance(model, str) else model
    kinds = [
        Kind(chip if isinstance(chip, Profile) else resolve_profile(chip), fabric)
        for chip, fabric in ((reference, reference_fabric), (other, other_fabric))
    ]
    return worth_of(transformer, kinds[0], kinds[1])
