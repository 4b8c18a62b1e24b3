"""The links of a chip inside its node, best source first: NVIDIA's NCCL tables, published sweeps, else by rule from a relative."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

from chipassay.results.catalogue import Chip, load_chips
from chipassay.results.link import Link
from chipassay.results.links import link_for
from chipassay.results.published import collective_links
from chipassay.results.published_rows import load_published

from .link_published import anchored_ratio, figure_links, sweep_links
from .link_relatives import PCIE, RELATIVES, Relative, bridge_relative, pattern_reference, pcie_relative
from .link_rules import ONE_FIGURE, by_link, by_pattern, scaled, send_recv
from .link_tables import SUSPECT, believed

SUPERCHIP = "Superchip"
"""A chip with its processor, alone in its node: other chips are beyond a network."""
NODE = (2, 4, 8)
"""Group sizes of the tables; a profile derives those between by ``link_for``."""
RACKS = {("gb200", 72): "coreweave"}
"""Groups beyond the tables of which one large all-reduce is published (results/data/published.csv), and a word of its source."""

Key = tuple[str, int]


@lru_cache(maxsize=128)
def links_of(chip_id: str) -> tuple[Link, ...]:
    """The best links known of a chip inside its node, by pattern and group size; empty where it has none (a CPU, a chip of its own).

    Raises InputError where the tables that are needed are not installed (the extra ``aiconfigurator``).
    """
    chip = load_chips().get(chip_id.lower())
    if chip is None:
        return ()
    found: dict[Key, Link] = {}
    for source in (believed(chip.id), sweep_links(chip.id), figure_links(chip.id)):
        _add(found, source)
    for link in [*found.values()]:
        _add(found, _other_patterns(chip, link))
    for relative, group_sizes in _relatives(chip):
        _add(found, _from(relative, chip, group_sizes))
    if not found and chip.form_factor != SUPERCHIP:
        _add(found, collective_links(chip))
    _add(found, [send_recv(pair) for key, pair in found.items() if key == ("all_to_all", 2)])
    _add(found, [_rack(chip, group_size, tuple(found.values())) for (rack, group_size) in RACKS if rack == chip.id])
    return tuple(_told(chip, found[key]) for key in sorted(found))


def _add(found: dict[Key, Link], links: Iterable[Link]) -> None:
    """The first link of each pattern and group stays: sources come best first."""
    for link in links:
        found.setdefault((link.pattern, link.group_size), link)


def _relatives(chip: Chip) -> list[tuple[Relative, tuple[int, ...]]]:
    """Whose links stand in for which groups of the chip."""
    domain = chip.link_domain_size or 1
    if chip.id in RELATIVES:
        return [(RELATIVES[chip.id], tuple(size for size in NODE if size <= domain))]
    if domain > 2 or chip.vendor != "NVIDIA" or chip.form_factor == SUPERCHIP or chip.id == PCIE:
        return []
    pair, rest = bridge_relative(chip), pcie_relative(chip)
    return [*([(pair, (2,))] if pair else []), *([(rest, NODE)] if rest else [])]


def _from(relative: Relative, chip: Chip, group_sizes: tuple[int, ...]) -> list[Link]:
    joins = chip.link if relative.ratio is None else "PCIe"
    found = []
    for link in links_of(relative.chip_id):
        ratio = relative.ratio_for(chip, link.group_size)
        if ratio and link.group_size in group_sizes and link.pattern != "send_recv":
            made = by_link(link, relative.chip_id, ratio, relative.why, joins, relative.sigma, relative.level)
            reason = SUSPECT.get((chip.id, link.group_size))
            if reason:
                source = f"{made.evidence.source}; left out: its own table, {reason}"
                made = replace(made, evidence=replace(made.evidence, source=source))
            found.append(made)
    return found


def _other_patterns(chip: Chip, own: Link) -> list[Link]:
    """What is not known of a chip whose all-reduce is: the other patterns, as they are to it on a chip that was measured in all."""
    if own.pattern != "all_reduce":
        return []
    of = pattern_reference(chip)
    known = {link.pattern: link for link in believed(of) if link.group_size == own.group_size}
    reference = known.pop("all_reduce", None)
    return [by_pattern(own, link, reference, of) for link in known.values()] if reference else []


def _rack(chip: Chip, group_size: int, known: tuple[Link, ...]) -> Link:
    """A group beyond the tables: latencies as they grow with the group, the bandwidth so that the published message fits."""
    word = RACKS[chip.id, group_size]
    row = next(
        row
        for row in load_published()
        if (row.chip_id, row.op, row.group_size) == (chip.id, "all_reduce", group_size) and word in row.source
    )
    derived = link_for(known, "all_reduce", group_size)
    if derived is None:
        raise ValueError(f"{chip.id}: no all-reduce to derive a group of {group_size} from")
    faster = anchored_ratio(derived, row.rate_per_s, row.work)
    return scaled(derived, 1.0, faster, ONE_FIGURE, "derived", f"bandwidth of one large message, {row.source}")


def _told(chip: Chip, link: Link) -> Link:
    """The link with a word where it is above the wire."""
    wire = chip.link_bytes_per_s_one_way
    if not wire or link.transport == "PCIe" or link.busbw_bytes_per_s <= wire:
        return link
    source = f"{link.evidence.source}; above the wire's {wire / 1e9:.4g} GB/s one way: the switch reduces (NVLink SHARP)"
    return replace(link, evidence=replace(link.evidence, source=source))
