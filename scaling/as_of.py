"""What could be had at a date: which chips were sold, what the software of that time could do, and what is left out for that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from chipassay.results.catalogue import load_chips
from chipassay.results.errors import InputError
from chipassay.results.evidence import Evidence
from chipassay.results.prices import load_quotes

from .machine import Input
from .plan import RECOMPUTES, Attention, Plan
from .plans import Array, Plans

DATE = re.compile(r"(?:19|20)\d{2}-(?:0[1-9]|1[0-2])")


@dataclass(frozen=True)
class Software:
    """What a well-kept training stack did from a month on."""

    since: str
    """YYYY-MM; empty: always."""
    attention: Attention
    overlap_tp: bool
    """Traffic of tensor parallelism runs beside products."""
    source: str


SOFTWARE = (
    Software("", "unfused", False, "Megatron-LM (arXiv:2104.04473, April 2021): fused kernels around an attention core that passes memory"),
    Software("2022-05", "unfused", True, "Korthikanti et al. (arXiv:2205.05198, May 2022), section 4.2.2: gathers beside the products"),
    Software("2022-06", "flash1", True, "Dao et al. (arXiv:2205.14135, 27 May 2022): FlashAttention"),
    Software("2023-07", "flash2", True, "Dao (arXiv:2307.08691, 17 July 2023): FlashAttention-2"),
    Software("2024-07", "flash", True, "Shah et al. (arXiv:2407.08608, 11 July 2024): FlashAttention-3, which uses what came with Hopper"),
)
"""Oldest first. Kernels around the products were fused in all of them (``Plan.fused``). FlashAttention itself runs from Turing or Ampere
on; for older chips the class stands for kernels of the same kind (xFormers has them for Volta and Pascal)."""


@dataclass(frozen=True)
class Technique:
    """A way of splitting the work that was published in a month."""

    since: str
    """YYYY-MM."""
    name: str
    uses: Callable[[Plans], Array]
    """Which of some plans make use of it."""
    source: str


ZERO_SINCE, SEQUENCE_PARALLEL_SINCE = "2019-10", "2022-05"
"""Rajbhandari et al. (see below), and Korthikanti et al. (arXiv:2205.05198), section 4.2.2. Plans are searched with ZeRO-1 and sequence
parallelism wherever these are possible; of earlier months they are the same plans without."""
TECHNIQUES = (
    Technique("2019-09", "tensor parallelism", lambda plans: plans.tp > 1, "Shoeybi et al. (arXiv:1909.08053, 17 September 2019)"),
    Technique(ZERO_SINCE, "ZeRO", lambda plans: plans.zero_stage > 1, "Rajbhandari et al. (arXiv:1910.02054, 4 October 2019)"),
    Technique("2021-04", "interleaved pipelines", lambda plans: plans.interleave > 1, "Narayanan et al. (arXiv:2104.04473, 9 April 2021)"),
    Technique(
        "2022-05", "selective recomputation", lambda plans: plans.recompute == RECOMPUTES.index("selective"),
        "Korthikanti et al. (arXiv:2205.05198, 10 May 2022), section 5",
    ),
    Technique(
        "2022-05", "sharding within a part of the replicas", lambda plans: plans.shard < plans.dp * plans.cp,
        "Zhang et al., MiCS (arXiv:2205.00119, 30 April 2022)",
    ),
    Technique(
        "2023-10", "context parallelism", lambda plans: plans.cp > 1,
        "Liu et al. (arXiv:2310.01889, 3 October 2023): a ring beside fused attention",
    ),
    Technique(
        "2024-10", "recomputation by operator", lambda plans: plans.recompute == RECOMPUTES.index("operators"),
        "Liang et al., torchtitan (arXiv:2410.06511, 9 October 2024)",
    ),
)  # fmt: skip
"""Oldest first. What is older than all of them: data parallelism, pipelines, full recomputation."""


def of_its_time(plans: Plans, date: str) -> Plans:
    """Those of the plans that use nothing published after a month; without sequence parallelism and ZeRO-1 where these came later."""
    kept = np.ones(len(plans), bool)
    for one in later_techniques(date):
        kept &= ~one.uses(plans)
    found = plans.take(kept)
    if date < SEQUENCE_PARALLEL_SINCE:
        found = replace(found, sequence_parallel=np.zeros_like(found.sequence_parallel))
    return found if date >= ZERO_SINCE else replace(found, zero_stage=np.zeros_like(found.zero_stage))


def later_techniques(date: str) -> tuple[Technique, ...]:
    """Published after that month.

    >>> [one.name for one in later_techniques("2023-05")]
    ['context parallelism', 'recomputation by operator']
    """
    return tuple(one for one in TECHNIQUES if one.since > check_date(date))


def later_used(plans: Plans, date: str) -> tuple[str, ...]:
    """What plans use that was published after a month, each with its own."""
    return tuple(f"{one.name} ({one.since})" for one in later_techniques(date) if one.uses(plans).any())


def check_date(date: str) -> str:
    """``date`` itself. Raises InputError where it is no YYYY-MM.

    >>> check_date("2023-05")
    '2023-05'
    """
    if not DATE.fullmatch(date):
        raise InputError(f"as of {date!r}: a month is written YYYY-MM, such as 2023-05")
    return date


def software_as_of(date: str) -> Software:
    """The last class of software that was out in a month.

    >>> software_as_of("2023-05").attention, software_as_of("2019-01").attention
    ('flash1', 'unfused')
    """
    check_date(date)
    return max((one for one in SOFTWARE if one.since <= date), key=lambda one: one.since)


def settings_as_of(date: str, settings: Plan | None = None) -> Plan:
    """What all plans of that month share, in the place of what ``settings`` say of it."""
    found = software_as_of(date)
    return replace(settings or Plan(global_batch=1), attention=found.attention, overlap_tp=found.overlap_tp)


def software_input(date: str) -> Input:
    """The class of software as predictions name what they rest on."""
    found = software_as_of(date)
    value = f"{found.attention} attention, {'with' if found.overlap_tp else 'no'} overlap of tensor-parallel traffic"
    return Input(f"software as of {date}", value, Evidence("published", found.source))


def check_known(date: str) -> None:
    """Raise InputError for a month before the oldest chip that is known."""
    oldest = min(year for chip in load_chips().values() if (year := chip.year) is not None)
    if check_date(date) < f"{oldest}-01":
        raise InputError(f"as of {date}: nothing that old is known, the oldest chips here are of {oldest}; give {oldest}-01 or later")


def check_released(chip_ids: Iterable[str], date: str) -> None:
    """Raise InputError for a chip that came later, by the years of the catalogue, or whose year nobody knows."""
    check_known(date)
    year = int(date[:4])
    chips = load_chips()
    for chip_id in chip_ids:
        known = chips[chip_id].year if chip_id in chips else None
        if known is None:
            raise InputError(f"{chip_id}: the catalogue knows no year of it, so nobody knows if it was there in {date}; leave --as-of out")
        if known > year:
            near = _sold_then(chip_id, year)
            instead = f"name one of that time, such as {near}, or " if near else ""
            raise InputError(f"{chip_id} came in {known}, after {date}; {instead}give --as-of {known}-12 or later")


def left_out(chip_ids: Iterable[str], date: str) -> tuple[str, ...]:
    """What is to be known of an answer as of a month: what of today is left out of it, what is not, and what is only known by the year."""
    software = [f"{_CAME[one.attention, one.overlap_tp]} ({one.since})" for one in SOFTWARE if one.since > check_date(date)]
    techniques = [f"{one.name} ({one.since})" for one in later_techniques(date)]
    said = []
    if date > _newest():
        said.append(f"nothing newer than {_newest()} is known: no chip, software or quote")
    if software or techniques:
        said.append(f"left out as later than {date}: {', '.join((*software, *techniques))}")
    chips = load_chips()
    for chip_id in dict.fromkeys(chip_ids):
        if chip_id not in chips:
            continue
        if str(chips[chip_id].year) == date[:4] and not date.endswith("-12"):
            said.append(f"of {chip_id} the catalogue knows the year alone, {date[:4]}: it may have come after {date}")
        dated = [quote.date for quote in load_quotes() if quote.chip_id == chip_id and quote.usd_per_chip_hour is not None]
        later = sum(not day or day[: len(date)] > date[: len(day)] for day in dated)
        if 0 < later < len(dated):
            said.append(f"{later} of {len(dated)} quotes of {chip_id} are dated later, or not at all, and left out")
    if date < _newest():
        said.append(f"rates of products, memory and links are the best published to this day: kernels of {date} may have reached less")
    return tuple(said)


_CAME = {
    ("unfused", True): "overlap of tensor-parallel traffic",
    ("flash1", True): "FlashAttention",
    ("flash2", True): "FlashAttention-2",
    ("flash", True): "FlashAttention-3",
}
"""What a class of software was the first to have."""


def _newest() -> str:
    """The month of the newest chip, software or quote that is known; of a year its last."""
    year = max(year for chip in load_chips().values() if (year := chip.year) is not None)
    return max(f"{year}-12", max(quote.date for quote in load_quotes())[:7], SOFTWARE[-1].since, TECHNIQUES[-1].since)


def _sold_then(chip_id: str, year: int) -> str:
    """The chip it was made from where that was sold by then, else the newest of its maker, fastest first."""
    chips = load_chips()
    chip = chips[chip_id]
    if chip.sibling and (chips[chip.sibling].year or year + 1) <= year:
        return chip.sibling
    older = [one for one in chips.values() if one.vendor == chip.vendor and one.year is not None and one.year <= year]
    return max(older, key=lambda one: (one.year or 0, max(one.peak_flops_per_s.values(), default=0.0), one.id)).id if older else ""
