"""What could be had at a date: which chips were sold, and what the software of that time could do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from chipassay.results.catalogue import load_chips
from chipassay.results.errors import InputError
from chipassay.results.evidence import Evidence

from .machine import Input
from .plan import Attention, Plan

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


def check_released(chip_ids: Iterable[str], date: str) -> None:
    """Raise InputError for a chip that came later, by the years of the catalogue, or whose year nobody knows."""
    year = int(check_date(date)[:4])
    chips = load_chips()
    for chip_id in chip_ids:
        known = chips[chip_id].year if chip_id in chips else None
        if known is None:
            raise InputError(f"{chip_id}: the catalogue knows no year of it, so nobody knows if it was there in {date}; leave --as-of out")
        if known > year:
            near = _sold_then(chip_id, year)
            instead = f"name one of that time, such as {near}, or " if near else ""
            raise InputError(f"{chip_id} came in {known}, after {date}; {instead}give --as-of {known}-12 or later")


def _sold_then(chip_id: str, year: int) -> str:
    """The chip it was made from where that was sold by then, else the newest of its maker, fastest first."""
    chips = load_chips()
    chip = chips[chip_id]
    if chip.sibling and (chips[chip.sibling].year or year + 1) <= year:
        return chip.sibling
    older = [one for one in chips.values() if one.vendor == chip.vendor and one.year is not None and one.year <= year]
    return max(older, key=lambda one: (one.year or 0, max(one.peak_flops_per_s.values(), default=0.0), one.id)).id if older else ""
