"""How sure a ratio of two predictions is: what both sides have wrong together cancels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chipassay.results.catalogue import load_chips

from ..cluster import Group
from ..mixed.records import MixedPrediction
from ..predict import Prediction
from ..ready import ready
from ..uncertainty import LEVEL_SIGMA, MODEL_SIGMA, TOGETHER, Z80, input_sigmas, regime

SHARED = 0.7
"""Correlation of the model's errors (of the log of step times) on two chips in one regime. Of the published runs (validation/), 774
pairs are of one code base and one model on two chips: errors have a root mean square of 0.24, their differences of 0.19, which makes 0.68.
Of pairs of different silicon 85 % of 444 in one regime and 77 % of 275 in two then lie in their 80 % intervals."""
SHARED_MODEL_SIGMA = MODEL_SIGMA["compute"] * math.sqrt(2 * (1 - SHARED))
"""The model's error in a ratio of two steps that compute rules."""
TWINS_SIGMA = 0.08
"""Of two chips of one silicon: the root mean square of the errors' differences between A100 of 40 GB and of 80 GB, 101 such pairs."""
TRAFFIC = ("tensor_parallel", "context_parallel", "expert_parallel", "pipeline_send", "data_parallel")
TRAFFIC_SIGMA = math.hypot(LEVEL_SIGMA["derived"], MODEL_SIGMA["network"])
"""Of the log of the time of traffic: of a derived link, and of the model where traffic rules."""

Found = Prediction | MixedPrediction


def twins(one: str, other: str) -> bool:
    """Whether two chips are one silicon: the same, or one the other with parts switched off or added (``sibling`` in the catalogue).

    >>> twins("h800-sxm-80gb", "h100-sxm-80gb"), twins("h100-sxm-80gb", "a100-sxm-80gb")
    (True, False)
    """
    chips = load_chips()
    return one == other or any(first in chips and chips[first].sibling == second for first, second in ((one, other), (other, one)))


def ratio_sigma(a: Found, b: Found, a_groups: Sequence[Group], b_groups: Sequence[Group]) -> float:
    """Standard deviation of the log of the ratio of two predicted speeds.

    Two chips of one silicon in one dtype run the same kernels, so what is unsure of these is on both sides and cancels as far as it has
    the same share of the step; what is left is how single chips differ and the traffic, which cancels only for the same chips on the
    same network. Otherwise the model's own errors are correlated in one regime (SHARED) and independent in two, the host's error is
    common, and the other inputs are independent. Of a mix nothing is known to cancel but the model's error.
    """
    if not isinstance(a, Prediction) or not isinstance(b, Prediction):
        return _sigma([_model(a), _model(b)], _rho(a, b), [_input_sigma(a, a_groups), _input_sigma(b, b_groups)])
    one, other = a_groups[0], b_groups[0]
    if twins(one.profile.chip_id, other.profile.chip_id) and a.dtype == b.dtype:
        traffic = [sum(found.breakdown_s.get(kind, 0.0) for kind in TRAFFIC) / found.step_time_s for found in (a, b)]
        compute = math.hypot(MODEL_SIGMA["compute"], LEVEL_SIGMA["derived"]) * (traffic[0] - traffic[1])
        if one.profile == other.profile and one.fabric == other.fabric:
            return math.hypot(compute, TRAFFIC_SIGMA * (traffic[0] - traffic[1]))
        differ = 0.0 if one.profile.chip_id == other.profile.chip_id else TWINS_SIGMA
        return math.hypot(differ, compute, *(TRAFFIC_SIGMA * share for share in traffic))
    inputs = [_weighed(found, groups[0]) for found, groups in ((a, a_groups), (b, b_groups))]
    host = TOGETHER.index(("host",))
    common = inputs[0].pop(host) - inputs[1].pop(host)
    return _sigma([_model(a), _model(b)], _rho(a, b), [common, *inputs[0], *inputs[1]])


def _sigma(model: Sequence[float], rho: float, inputs: Sequence[float]) -> float:
    first, second = model
    return math.sqrt(first**2 + second**2 - 2 * rho * first * second + math.fsum(one**2 for one in inputs))


def _model(found: Found) -> float:
    return MODEL_SIGMA[regime(found.breakdown_s)]


def _rho(a: Found, b: Found) -> float:
    return SHARED if regime(a.breakdown_s) == regime(b.breakdown_s) else 0.0


def _weighed(found: Prediction, group: Group) -> list[float]:
    """The error of the step that each independent input brings, in the order of TOGETHER."""
    total = math.fsum(found.breakdown_s.values())
    sigmas = input_sigmas(ready(group, found.dtype), group, found.plan)
    return [sum(found.breakdown_s[kind] / total * sigmas[kind] for kind in kinds) for kinds in TOGETHER]


def _input_sigma(found: Found, groups: Sequence[Group]) -> float:
    """Of all inputs together; of a mix, what its interval holds beside the model's error."""
    if isinstance(found, Prediction):
        return math.hypot(*_weighed(found, groups[0]))
    return math.sqrt(max(0.0, (math.log(found.high_s / found.step_time_s) / Z80) ** 2 - _model(found) ** 2))
