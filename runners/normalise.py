"""Rows to profile: the best correct implementation of each case, fitted by operation and dtype."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chipassay.results.best import best_rows
from chipassay.results.catalogue import Chip, load_chips
from chipassay.results.errors import InputError, UnknownName
from chipassay.results.profile import Evidence, Profile, Quantity
from chipassay.results.schema import Row

from .normalise_attention import attention_curves, attention_rows, attentions
from .normalise_facts import host_links, launches, peaks, sustained_power
from .normalise_links import links, loads, overlaps
from .normalise_memory import memory_curve, memory_op_rows, memory_ops, stream_rows, with_cache
from .normalise_products import product_curves, product_rows, products
from .normalise_rows import doubt, evidence_of

NOTHING = "no row with status ok: there is nothing to make a profile of"


@dataclass(frozen=True)
class Chosen:
    """The rows of one chip that each part of its profile is made of."""

    best: tuple[Row, ...]
    """Of each case the fastest correct implementation."""
    plain: tuple[Row, ...]
    """Those launched as programs launch, with nothing beside them: all but links are made of these."""
    products: Mapping[str, Sequence[Row]]
    attentions: Mapping[str, Sequence[Row]]
    streams: Sequence[Row]
    memory_ops: Mapping[str, Sequence[Row]]
    left_out: Mapping[str, int]
    """Why rows were not believed -> how many."""

    @property
    def chip_id(self) -> str:
        return self.best[0].chip_id or "unknown"

    @property
    def chip(self) -> Chip | None:
        """As the catalogue has it."""
        return load_chips().get(self.chip_id)


def choose_chip(rows: Sequence[Row], chip_id: str | None) -> list[Row]:
    """The rows of one chip. Raises InputError when there are several and none is named, UnknownName when it is not there."""
    chips = sorted({row.chip_id or "unknown" for row in rows})
    if chip_id is None:
        if len(chips) > 1:
            raise InputError(f"the rows are of {len(chips)} chips ({', '.join(chips)}); choose one with --chip")
        return list(rows)
    if chip_id not in chips:
        raise UnknownName("chip", chip_id, chips)
    return [row for row in rows if row.chip_id == chip_id]


def choose(rows: Sequence[Row], chip_id: str | None = None) -> Chosen:
    """What a profile is made of. Raises as ``normalise`` does."""
    measured = [row for row in choose_chip(rows, chip_id) if row.status == "ok" and row.time_median_s]
    if not measured:
        raise InputError(NOTHING)
    chip = load_chips().get(measured[0].chip_id or "")
    doubts = [doubt(row, chip) for row in measured]
    best = best_rows(row for row, why in zip(measured, doubts, strict=True) if why is None or row.group_size is not None)
    if not best:
        raise InputError(f"no row that can be: all {len(measured)} are {doubts[0]}; is it the right chip?")
    plain = [row for row in best if row.launch != "graph" and row.beside is None]
    memory = with_cache(plain, chip)
    return Chosen(
        best=tuple(best),
        plain=tuple(plain),
        products=product_rows(plain),
        attentions=attention_rows(plain),
        streams=stream_rows(memory),
        memory_ops=memory_op_rows(memory),
        left_out=Counter(why for why in doubts if why is not None),
    )


def normalise(rows: Sequence[Row], chip_id: str | None = None, *, hold_out: bool = True) -> Profile:
    """The profile of the chip that ``rows`` measured: cold, and launched as programs launch; only links are told of graphs, too.

    Raises InputError when the rows are of several chips and none is chosen, or when none of them holds a measurement.
    """
    return profile_of(choose(rows, chip_id), hold_out=hold_out)


def profile_of(chosen: Chosen, *, hold_out: bool = True, by_shape: bool = True) -> Profile:
    """The profile of chosen rows. ``hold_out``: models by shape are also fitted with shapes left out, for their error; it takes as long
    again. ``by_shape``: false leaves those models away, for readers of curves alone."""
    best, chip = chosen.best, chosen.chip
    found_links = tuple(links(best, evidence_of))
    if not chosen.plain and not found_links:
        raise InputError(NOTHING)
    memory = memory_curve(chosen.streams)
    measured = evidence_of(best)
    memory_bytes = best[0].device_memory_bytes
    return Profile(
        chip_id=chosen.chip_id,
        name=best[0].device_name or "unknown",
        matmul=product_curves(chosen.products),
        attention=attention_curves(chosen.plain),
        memory=memory,
        products=products(chosen.products, chosen.chip_id, memory, hold_out) if by_shape else {},
        attentions=attentions(chosen.attentions, chosen.chip_id, hold_out) if by_shape else {},
        memory_ops=memory_ops(chosen.memory_ops, memory),
        launch_s=launches(best),
        host_link_bytes_per_s=host_links(chosen.plain),
        sustained_power_w=sustained_power(best),
        links=found_links,
        loads=tuple(loads(best, found_links, evidence_of)),
        overlaps=tuple(overlaps(best, evidence_of)),
        peak_flops_per_s=peaks(best, chip),
        peak_bandwidth_bytes_per_s=(
            Quantity(chip.memory_bandwidth_bytes_per_s, chip.evidence) if chip and chip.memory_bandwidth_bytes_per_s else None
        ),
        memory_bytes=None if memory_bytes is None else Quantity(float(memory_bytes), Evidence("measured", "device query", measured.date)),
        power_w=Quantity(chip.power_w, chip.evidence) if chip and chip.power_w else None,
    )


__all__ = ["Chosen", "choose", "choose_chip", "evidence_of", "normalise", "profile_of"]
