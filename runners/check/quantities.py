"""All quantities that rules may be about, by name."""

from __future__ import annotations

from collections.abc import Mapping

from . import conditions, limits, machine, siblings, sweeps
from .quantity import Quantity

QUANTITIES: Mapping[str, Quantity] = {
    **limits.QUANTITIES,
    **conditions.QUANTITIES,
    **sweeps.QUANTITIES,
    **siblings.QUANTITIES,
    **machine.QUANTITIES,
}
