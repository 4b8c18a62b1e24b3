"""How sure a ratio of two predictions is: what both sides have wrong together cancels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from chipassay.results.catalogue import load_chips
from chipassay.results.profile import Profile

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
"""Of two chips of one silicon: the root mean square of the errors' differences between A100 of 40 GB and of 80 GB, 101 such pairs. Of the
published pairs of one shape and one cut on such chips (A100, V100, Blackwell) 80 % of 59 in one regime lie in the 80 % interval that this
makes, 83 % of the 41 that compute rules; of 9 of which the host rules one, a third do."""
TRAFFIC = ("tensor_parallel", "context_parallel", "expert_parallel", "pipeline_send", "data_parallel")
TRAFFIC_SIGMA = math.hypot(LEVEL_SIGMA["derived"], MODEL_SIGMA["network"])
"""Of the log of the time of traffic: of a derived link, and of the model where traffic rules."""
IN_NODE, BETWEEN_NODES, MEMORY = (
    TOGETHER.index(kinds)
    for kinds in (
        ("tensor_parallel", "context_parallel", "expert_parallel"),
        ("data_parallel", "pipeline_send"),
        ("memory_bound", "optimizer"),
    )
)

Found = Prediction | MixedPrediction


def twins(one: str, other: str) -> bool:
    """Whether two chips are one silicon: the same, made from one another or from a third with parts switched off or added (``sibling`` in
    the catalogue), or alike but for their memory.

    >>> twins("h800-sxm-80gb", "h100-sxm-80gb"), twins("h800-sxm-80gb", "h200-sxm-141gb"), twins("a100-sxm-40gb", "a100-sxm-80gb")
    (True, True, True)
    >>> twins("h100-sxm-80gb", "a100-sxm-80gb"), twins("h100-sxm-80gb", "h100-pcie-80gb")
    (False, False)
    """
    chips = load_chips()
    if one == other or one not in chips or other not in chips:
        return one == other
    first, second = _origin(one), _origin(other)
    return first == second or _silicon(first) == _silicon(second)


def _origin(chip_id: str) -> str:
    """The chip that it was made from, or itself."""
    chips = load_chips()
    while chips[chip_id].sibling in chips:
        chip_id = chips[chip_id].sibling
    return chip_id


def _silicon(chip_id: str) -> tuple[object, ...]:
    """What chips have in common that differ in memory alone; a chip of unknown speed is like no other."""
    chip = load_chips()[chip_id]
    return (chip.vendor, chip.architecture, chip.form_factor, tuple(sorted(chip.peak_flops_per_s.items())) or chip_id)


def ratio_sigma(a: Found, b: Found, a_groups: Sequence[Group], b_groups: Sequence[Group]) -> float:
    """Standard deviation of the log of the ratio of two predicted speeds.

    Two chips of one silicon in one dtype run the same kernels, so what is unsure of these is on both sides and cancels as far as it has
    the same share of the step (``_of_one_silicon``), unless the host rules one of the steps and not the other. Otherwise the model's own
    errors are correlated in one regime (SHARED) and independent in two, the host's error is common, and the other inputs are independent.
    Of a mix nothing is known to cancel but the model's error.
    """
    if not isinstance(a, Prediction) or not isinstance(b, Prediction):
        return _sigma((_model(a), _model(b)), _rho(a, b), [_input_sigma(a, a_groups), _input_sigma(b, b_groups)])
    one, other = a_groups[0], b_groups[0]
    regimes = {regime(a.breakdown_s), regime(b.breakdown_s)}
    if twins(one.profile.chip_id, other.profile.chip_id) and a.dtype == b.dtype and ("host" not in regimes or len(regimes) == 1):
        return _of_one_silicon(a, b, one, other)
    inputs = [_weighed(found, groups[0]) for found, groups in ((a, a_groups), (b, b_groups))]
    host = TOGETHER.index(("host",))
    common = inputs[0].pop(host) - inputs[1].pop(host)
    return _sigma((_model(a), _model(b)), _rho(a, b), [common, *inputs[0], *inputs[1]])


def _of_one_silicon(a: Prediction, b: Prediction, one: Group, other: Group) -> float:
    """Of two chips that are one silicon, or one chip of which one side is asked what if.

    What single chips of a silicon differ by (TWINS_SIGMA), unless both sides are the same kernels on the same memory; the kernels' error
    where they have unlike shares of the step; and the traffic. Its links are the same circuits, some of them switched off: the better known
    link's error is on both sides, and what the other is less sure of (derived from its twin, or supposed) is its own. Two networks between
    nodes are independent, one cancels. The model's error of traffic is correlated (SHARED), and the same where all of the traffic is.
    """
    shares = [_shares(found) for found in (a, b)]
    sigmas = [
        [weighed / share if share else 0.0 for weighed, share in zip(_weighed(found, group), part, strict=True)]
        for found, group, part in ((a, one, shares[0]), (b, other, shares[1]))
    ]
    traffic = [sum(found.breakdown_s.get(kind, 0.0) for kind in TRAFFIC) / found.step_time_s for found in (a, b)]
    same_network = one.fabric == other.fabric
    same_traffic = same_network and one.profile.links == other.profile.links
    differ = TWINS_SIGMA if _kernels(one.profile) != _kernels(other.profile) else 0.0
    kernels = math.hypot(MODEL_SIGMA["compute"], LEVEL_SIGMA["derived"]) * (traffic[0] - traffic[1])
    model = MODEL_SIGMA["network"] * _correlated(traffic[0], traffic[1], 1.0 if same_traffic else SHARED)

    def nested(place: int) -> tuple[float, float, float]:
        """What both sides have wrong of an input, and what each has of its own."""
        first, second = sigmas[0][place], sigmas[1][place]
        # An input that a side does not use has no error there: what the other's twin would have is common to both.
        common = min(first, second) if shares[0][place] and shares[1][place] else 0.0
        own = [math.sqrt(sigma**2 - common**2) * part[place] for sigma, part in zip((first, second), shares, strict=True)]
        return common * (shares[0][place] - shares[1][place]), own[0], own[1]

    found = [differ, kernels, model, *nested(IN_NODE)]
    found += nested(BETWEEN_NODES) if same_network else (sigmas[side][BETWEEN_NODES] * shares[side][BETWEEN_NODES] for side in (0, 1))
    if _supposed(one) != _supposed(other):
        found += nested(MEMORY)[1:]
    return math.hypot(*found)


def _kernels(profile: Profile) -> Profile:
    """A chip as its kernels see it: how much memory it has, and what it is joined by, are no matter to them."""
    return replace(profile, links=(), memory_bytes=None)


def _supposed(group: Group) -> bool:
    """Whether the speed of a chip's memory is asked what if."""
    return group.profile.memory is not None and group.profile.memory.evidence.level == "assumed"


def _shares(found: Prediction) -> list[float]:
    """Of the step, in the order of TOGETHER."""
    total = math.fsum(found.breakdown_s.values())
    return [sum(found.breakdown_s[kind] for kind in kinds) / total for kinds in TOGETHER]


def _correlated(first: float, second: float, rho: float) -> float:
    """Standard deviation of the difference of two correlated errors."""
    return math.sqrt(max(0.0, first**2 + second**2 - 2 * rho * first * second))


def _sigma(model: tuple[float, float], rho: float, inputs: Sequence[float]) -> float:
    return math.hypot(_correlated(*model, rho), *inputs)


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
