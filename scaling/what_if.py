"""What if a chip had another link, network, memory or power? ``h800-sxm-80gb.scaleup=900GB/s`` as a changed cluster.

    CHIP.scaleup=900GB/s        the link between the chips of a node, per chip, both ways together: so datasheets count it (H100 900,
                                H800 400, A100 600, A800 400 GB/s); one way alone: 450GB/s/direction
    CHIP.nics=4                 network adapters of a node
    CHIP.nic=400Gb/s            one adapter, one way, as adapters are named (b: bits, B: bytes)
    CHIP.oversubscription=2     what nodes can send over what the uplinks carry
    CHIP.memory=141GiB          datasheets' GB of memory are GiB
    CHIP.bandwidth=4.8TB/s      of the memory
    CHIP.power=500W             of the board

A link is changed by its ratio to the catalogue's, which holds one way: collectives reach the share of it that they reached before,
latencies stay. What was asked for is told with both ways of counting it, and where it is more than any chip of that silicon has.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from chipassay.results.catalogue import find_chip, load_chips
from chipassay.results.errors import InputError, UnknownName
from chipassay.results.evidence import Evidence
from chipassay.results.fabrics import FABRIC_NAME, Fabric
from chipassay.results.profile import Quantity
from chipassay.results.systems import GBIT

from .cluster import Cluster, Group, network_input
from .machine import Input
from .scaled import INPUTS, with_own_links

VALUE = re.compile(r"(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-z/]*?)(?P<way>-both|-one-way|/direction)?")
BOTH = "-both"
RATES: Mapping[str, float] = {
    "MB/s": 1e6,
    "GB/s": 1e9,
    "TB/s": 1e12,
    "GiB/s": 2.0**30,
    "TiB/s": 2.0**40,
    "Gb/s": GBIT,
    "Gbit/s": GBIT,
    "Tb/s": 1e3 * GBIT,
    "Tbit/s": 1e3 * GBIT,
}
"""Unit -> bytes per second. Capitals count: Gb is gigabits, GB gigabytes."""
SIZES: Mapping[str, float] = {"MiB": 2.0**20, "GB": 1e9, "GiB": 2.0**30, "TB": 1e12, "TiB": 2.0**40}
NUMBERS: Mapping[str, float] = {"": 1.0}
MOST_NICS = 1024
"""Of one node: more is a slip of the finger, for no node has a fiftieth of it."""


@dataclass(frozen=True)
class Kind:
    """What a change may hold."""

    units: Mapping[str, float]
    example: str
    way: str = ""
    """How a figure is counted that does not say it: as the sum of both directions, or one way; empty: there are no directions."""
    whole: bool = False
    least: float = 0.0
    most: float = math.inf


KINDS: Mapping[str, Kind] = {
    "scaleup": Kind(RATES, "900GB/s (both ways together, as datasheets count; one way: 450GB/s/direction)", way=BOTH),
    "nics": Kind(NUMBERS, "4", whole=True, least=1, most=MOST_NICS),
    "nic": Kind(RATES, "400Gb/s", way="-one-way"),
    "oversubscription": Kind(NUMBERS, "2", least=1),
    "memory": Kind(SIZES, "141GiB (datasheets' GB of memory are GiB)"),
    "bandwidth": Kind(RATES, "4.8TB/s"),
    "power": Kind({"W": 1.0, "kW": 1e3}, "500W"),
}
NETWORK = ("nics", "nic", "oversubscription")
ASKED = "what if "
"""Begins the name of an input that was asked for."""
SAME = 1e-4
"""Relative difference up to which a figure is the one that was known: profiles round theirs to six digits."""


@dataclass(frozen=True)
class Change:
    """One thing that is otherwise than the catalogue says, for one kind of chip."""

    chip_id: str
    field: str
    value: float
    """In SI units; rates are bytes per second one way."""

    @property
    def name(self) -> str:
        return f"{self.chip_id}.{self.field}"


def parse_changes(texts: Iterable[str]) -> tuple[Change, ...]:
    """The changes of ``CHIP.FIELD=VALUE``, several in one text joined by commas.

    Raises InputError for what cannot be read or stands there twice, UnknownName for a field that there is not.

    >>> [change.value for change in parse_changes(["h800-sxm-80gb.scaleup=900GB/s", "h800-sxm-80gb.nics=4"])]
    [450000000000.0, 4.0]
    """
    changes: dict[str, Change] = {}
    for text in (part.strip() for joined in texts for part in joined.split(",")):
        if not text:
            continue
        change = _change(text)
        if change.name in changes:
            raise InputError(f"{text!r}: {change.name} is changed already; give it once")
        changes[change.name] = change
    return tuple(changes.values())


def _change(text: str) -> Change:
    place, equals, value = (part.strip() for part in text.partition("="))
    chip_id, dot, field = place.rpartition(".")
    if not (chip_id and dot and equals and value):
        raise InputError(f"{text!r} is not CHIP.FIELD=VALUE; write for example h800-sxm-80gb.scaleup=900GB/s")
    if field not in KINDS:
        raise UnknownName("field of a chip", field, KINDS)
    return Change(chip_id.lower(), field, _value(text, value, KINDS[field]))


def _value(text: str, value: str, kind: Kind) -> float:
    match = VALUE.fullmatch(value)
    mend = f"write for example {kind.example}"
    if match is None:
        raise InputError(f"{text!r}: {value!r} is no number with a unit; {mend}")
    if match["unit"] not in kind.units:
        known = ", ".join(kind.units) if kind.units is not NUMBERS else "none"
        raise InputError(f"{text!r}: the unit is {match['unit'] or 'missing'!r}, and can be {known}; {mend}")
    if match["way"] and not kind.way:
        raise InputError(f"{text!r}: {match['way']!r} is said of links alone; {mend}")
    number = float(match["number"]) * kind.units[match["unit"]] / (2 if (match["way"] or kind.way) == BOTH else 1)
    if not math.isfinite(number) or number <= 0 or not kind.least <= number <= kind.most or (kind.whole and not number.is_integer()):
        what = "a whole number" if kind.whole else "a finite number"
        span = "above 0" if not kind.least else f"of at least {kind.least:g}"
        span += "" if math.isinf(kind.most) else f" and at most {kind.most:g}"
        raise InputError(f"{text!r}: give {what} {span}; {mend}")
    return number


def apply(changes: Iterable[Change], cluster: Cluster) -> Cluster:
    """The cluster with the changes made. What is changed is ``assumed`` from then on, and the inputs say so; a change to what the
    catalogue says changes nothing. Raises InputError where a chip is not in the cluster, or a change cannot be made to it.

    >>> from .cluster import parse_cluster
    >>> apply(parse_changes(["h800-sxm-80gb.nics=4"]), parse_cluster("64xh800-sxm-80gb")).name
    '64xh800-sxm-80gb@ndr400x4'
    """
    wanted = tuple(changes)
    check_used(wanted, [group.profile.chip_id for group in cluster.groups])
    return Cluster(tuple(apply_to(wanted, group) for group in cluster.groups))


def check_used(changes: Iterable[Change], chip_ids: Iterable[str]) -> None:
    """Raise UnknownName for a change to a chip that is not among these."""
    known = {chip_id.lower() for chip_id in chip_ids}
    for change in changes:
        if change.chip_id not in known:
            raise UnknownName("chip of this cluster", change.chip_id, known)


def apply_to(changes: Iterable[Change], group: Group) -> Group:
    """The group with those of the changes made that are of its chip."""
    for change in changes:
        if change.chip_id == group.profile.chip_id.lower():
            group = _network(change, group) if change.field in NETWORK else _CHANGED[change.field](change, group)
    return group


def _same(value: float, known: float) -> bool:
    return math.isclose(value, known, rel_tol=SAME)


def _told(change: Change, value: str, before: str) -> Input:
    return Input(f"{ASKED}{change.name}", f"{value}, not {before}", Evidence("assumed", "asked for: what if"))


def _assumed(evidence: Evidence, change: Change, ratio: float) -> Evidence:
    return Evidence("assumed", f"what if {change.field} were {ratio:.4g} times what it is: {evidence.source}")


def _scaleup(change: Change, group: Group) -> Group:
    before = link_bytes_per_s(group)
    ratio = change.value / before
    if _same(ratio, 1.0):
        return group
    wider = INPUTS["bandwidth in the node"][1](with_own_links(group), ratio)
    links = tuple(replace(link, evidence=_assumed(link.evidence, change, ratio)) for link in wider.profile.links)
    value = f"{_both_ways(change.value)} GB/s both ways together ({change.value / 1e9:.4g} one way) per chip"
    told = _told(change, value, f"{_both_ways(before)} ({before / 1e9:.4g} one way){_beyond(change.value, group)}")
    return replace(wider, profile=replace(wider.profile, links=links), inputs=(*group.inputs, told))


def _both_ways(bytes_per_s: float) -> str:
    return f"{2 * bytes_per_s / 1e9:.4g}"


def _beyond(bytes_per_s: float, group: Group) -> str:
    """What to say of a link that is wider than that of every chip of the same silicon; else nothing."""
    chips = load_chips()
    silicon = chips[group.profile.chip_id].architecture
    widest = max((chip for chip in chips.values() if chip.architecture == silicon), key=lambda chip: chip.link_bytes_per_s_one_way or 0.0)
    most = widest.link_bytes_per_s_one_way
    if not most or bytes_per_s <= most * (1 + SAME):
        return ""
    return f"; no chip of this silicon ({silicon}) has more than the {_both_ways(most)} of {widest.id}: is the figure meant so?"


def changes_of(group: Group) -> tuple[str, ...]:
    """What was changed of the group by ``apply``, each in a sentence: what it is now, and what it was.

    >>> from .cluster import parse_cluster
    >>> changes_of(apply(parse_changes(["h800-sxm-80gb.nics=4"]), parse_cluster("64xh800-sxm-80gb")).groups[0])
    ('h800-sxm-80gb.nics: 4, not 8',)
    """
    return tuple(f"{found.what.removeprefix(ASKED)}: {found.value}" for found in group.inputs if found.what.startswith(ASKED))


def link_bytes_per_s(group: Group) -> float:
    """What the catalogue says of the link that joins all chips of a node: per chip, one way. InputError where there is no such link."""
    chip_id = group.profile.chip_id
    if chip_id not in load_chips():
        raise InputError(f"{chip_id} is not in the catalogue, so its link is unknown; change the links in its profile instead")
    chip = find_chip(chip_id)
    domain, line = chip.link_domain_size or 1, chip.link_bytes_per_s_one_way
    joined = min(group.count, group.chips_per_node)
    if line and domain >= joined:
        return line
    if domain == 1 and chip.pcie_bytes_per_s:
        return chip.pcie_bytes_per_s
    if line:
        raise InputError(
            f"{chip_id}: its link joins {domain} of the {joined} chips in a node, so scaleup has no one figure; name a chip whose does"
        )
    raise InputError(
        f"{chip_id}: the catalogue does not know its link's bandwidth, so a change of it has no ratio; give a profile with links"
    )


def _network(change: Change, group: Group) -> Group:
    fabric = group.fabric
    if not fabric.nics:
        raise InputError(
            f"{change.name}: {group.name} has no network between nodes; name one, as in {group.count}x{change.chip_id}@ndr400x8"
        )
    before = {"nics": float(fabric.nics), "nic": fabric.nic_bytes_per_s_one_way, "oversubscription": fabric.oversubscription}[change.field]
    if _same(change.value, before):
        return group
    evidence = _assumed(fabric.evidence, change, change.value / before)
    if change.field == "nics":
        fabric = replace(fabric, nics=int(change.value))
    elif change.field == "nic":
        fabric = replace(fabric, nic_bytes_per_s_one_way=change.value)
    else:
        fabric = replace(fabric, oversubscription=change.value, pod_nodes=fabric.pod_nodes or 1)
    fabric = replace(fabric, name=_name(fabric), evidence=evidence)
    value, old = (f"{x / GBIT:.4g} Gbit/s one way" if change.field == "nic" else f"{x:g}" for x in (change.value, before))
    inputs = (network_input(fabric, evidence) if found.what == "network between nodes" else found for found in group.inputs)
    return replace(group, fabric=fabric, inputs=(*inputs, _told(change, value, old)))


def _name(fabric: Fabric) -> str:
    """The short name of a changed fabric."""
    match = FABRIC_NAME.fullmatch(fabric.name)
    kind = match["kind"] if match else fabric.name
    name = f"{kind}{fabric.nic_bytes_per_s_one_way / GBIT:g}x{fabric.nics}"
    if fabric.oversubscription > 1:
        name += f"/{fabric.oversubscription:g}" + (f":{fabric.pod_nodes}" if fabric.pod_nodes > 1 else "")
    return name


def _memory(change: Change, group: Group) -> Group:
    known = group.profile.memory_bytes
    if known is not None and _same(change.value, known.value):
        return group
    before = "known" if known is None else f"{known.value / 2**30:.4g} GiB"
    told = _told(change, f"{change.value / 2**30:.4g} GiB ({change.value / 1e9:.4g} GB)", before)
    return replace(group, profile=replace(group.profile, memory_bytes=Quantity(change.value, told.evidence)), inputs=(*group.inputs, told))


def _bandwidth(change: Change, group: Group) -> Group:
    known = group.profile.peak_bandwidth_bytes_per_s
    if known is None:
        raise InputError(
            f"{change.name}: the profile does not know the peak bandwidth, so a change of it has no ratio; add it to the profile"
        )
    ratio = change.value / known.value
    if _same(ratio, 1.0):
        return group
    faster = INPUTS["memory bandwidth"][1](group, ratio)
    profile, told = faster.profile, _told(change, f"{change.value / 1e12:.4g} TB/s", f"{known.value / 1e12:.4g} TB/s")
    profile = replace(
        profile,
        peak_bandwidth_bytes_per_s=Quantity(change.value, told.evidence),
        memory=None if profile.memory is None else replace(profile.memory, evidence=_assumed(profile.memory.evidence, change, ratio)),
    )
    return replace(faster, profile=profile, inputs=(*group.inputs, told))


def _power(change: Change, group: Group) -> Group:
    known = group.profile.power_w
    if known is not None and _same(change.value, known.value):
        return group
    told = _told(change, f"{change.value:g} W", "known" if known is None else f"{known.value:g} W")
    return replace(group, profile=replace(group.profile, power_w=Quantity(change.value, told.evidence)), inputs=(*group.inputs, told))


_CHANGED: Mapping[str, Callable[[Change, Group], Group]] = {
    "scaleup": _scaleup,
    "memory": _memory,
    "bandwidth": _bandwidth,
    "power": _power,
}
