"""The cluster: how many of which chip, how many in a node, and what joins the nodes. ``64xh100-sxm-80gb@ndr400x8``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from chipassay.results.catalogue import find_chip, load_chips
from chipassay.results.errors import InputError
from chipassay.results.fabrics import Fabric, fabric_of, find_fabric
from chipassay.results.profile import Evidence, Profile, load_profile
from chipassay.results.shipped import find_profile
from chipassay.results.systems import default_system

from .machine import SHARED_MEMORY_TRANSPORTS, Input

GROUP = re.compile(r"(?P<count>\d+)x(?P<chip>[^@+]+)(?:@(?P<fabric>[^@+]+))?")
ASSUMED_FABRIC = "eth100x1"
ASSUMED_CHIPS_PER_NODE = 8
MOST_CHIPS = 2**20
"""Of one kind in a cluster that is asked for; the search over more would go on for hours."""


@dataclass(frozen=True)
class Group:
    """Chips of one kind in nodes of one kind."""

    count: int
    profile: Profile
    chips_per_node: int
    fabric: Fabric
    inputs: tuple[Input, ...]
    usd_per_chip_hour: float | None = None
    """What its owner says that an hour of a chip costs; None: by the table of prices."""

    @property
    def nodes(self) -> int:
        return -(-self.count // self.chips_per_node)

    @property
    def name(self) -> str:
        fabric = f"@{self.fabric.name}" if self.nodes > 1 else ""
        return f"{self.count}x{self.profile.chip_id}{fabric}"

    def with_count(self, count: int) -> Group:
        """As many chips of the same kind in the same nodes."""
        return replace(self, count=count)


@dataclass(frozen=True)
class Cluster:
    """One or more groups of chips."""

    groups: tuple[Group, ...]

    @property
    def count(self) -> int:
        return sum(group.count for group in self.groups)

    @property
    def name(self) -> str:
        return "+".join(group.name for group in self.groups)


def _chips_per_node(profile: Profile) -> tuple[int, Evidence]:
    """Chips in one node, and from where that is known."""
    if profile.chip_id not in load_chips():
        measured = [
            link.group_size
            for link in profile.links
            if link.transport.lower() not in SHARED_MEMORY_TRANSPORTS and link.placement == "inside"
        ]
        if measured:
            return max(measured), Evidence("measured", "the largest group whose collectives the profile holds")
        return 1, Evidence("assumed", "no link between chips was measured: one chip to a node")
    chip = find_chip(profile.chip_id)
    system = default_system(chip.id)
    if system is not None:
        return system.chips_per_node, Evidence("published", f"{system.id}: {system.evidence.source}")
    domain = chip.link_domain_size or 1
    if domain > 2:
        return domain, Evidence("derived", f"the link joins {domain} chips")
    return ASSUMED_CHIPS_PER_NODE, Evidence(
        "assumed", f"{ASSUMED_CHIPS_PER_NODE} cards to a server; no system with this chip is catalogued"
    )


def default_fabric(profile: Profile) -> tuple[Fabric, Evidence]:
    """The network of the node type that the catalogue has for a chip, else an assumed one, and from where it is known."""
    system = default_system(profile.chip_id)
    fabric = fabric_of(system) if system is not None else None
    if fabric is not None and system is not None:
        return fabric, fabric.evidence
    assumed = find_fabric(ASSUMED_FABRIC)
    reason = "no network of this chip is known: one 100 Gbit/s Ethernet NIC per node assumed"
    return replace(assumed, evidence=Evidence("assumed", reason)), Evidence("assumed", reason)


def network_input(fabric: Fabric, evidence: Evidence) -> Input:
    """The network as predictions name it among their inputs."""
    value = f"{fabric.name}: {fabric.node_bytes_per_s / 1e9:.4g} GB/s per node, {fabric.latency_s * 1e6:.3g} us a hop"
    if fabric.oversubscription > 1:
        value += f", {fabric.oversubscription:g}:1 beyond {fabric.pod_nodes} node{'s' if fabric.pod_nodes > 1 else ''}"
    return Input("network between nodes", value, evidence)


def make_group(count: int, profile: Profile, fabric: str | Fabric | None = None, chips_per_node: int | None = None) -> Group:
    """``count`` chips of a profile, in the nodes and on the network that its catalogue row implies unless given."""
    if count < 1:
        raise InputError(f"a cluster of {count} {profile.chip_id} has no chip; give at least 1")
    per_node, per_node_evidence = _chips_per_node(profile)
    if chips_per_node is not None:
        per_node, per_node_evidence = chips_per_node, Evidence("assumed", "given by the caller")
    if fabric is None:
        found, evidence = default_fabric(profile)
    else:
        found = find_fabric(fabric) if isinstance(fabric, str) else fabric
        evidence = Evidence(found.evidence.level, f"given by the caller; share of the line rate: {found.evidence.source}")
    inputs = [Input("chips per node", str(per_node), per_node_evidence)]
    if count > per_node:
        if found.node_bytes_per_s <= 0:
            raise InputError(f"{count} chips in nodes of {per_node} need a network, but the fabric is none; name one such as hdr200x8")
        inputs.append(network_input(found, evidence))
    return Group(count, profile, per_node, found, tuple(inputs))


def resolve_profile(chip: str, profiles: Mapping[str, Profile] | None = None) -> Profile:
    """The profile of a chip id: one of ``profiles``, a profile .json by its path, or the shipped one of the chip."""
    if profiles and chip in profiles:
        return profiles[chip]
    if chip.endswith(".json"):
        return load_profile(Path(chip))
    return find_profile(chip.lower())


def parse_cluster(text: str, profiles: Mapping[str, Profile] | None = None) -> Cluster:
    """A cluster from ``COUNTxCHIP[@FABRIC]``, mixes joined by ``+``, or from the path of a ``.toml`` (see cluster_file.py). CHIP is a
    catalogue id, a key of ``profiles``, or the path of a profile .json.

    >>> parse_cluster("64xh100-sxm-80gb").name
    '64xh100-sxm-80gb@ndr400x8'
    """
    if text.endswith(".toml"):
        from .cluster_file import load_cluster

        return load_cluster(Path(text), profiles)
    groups = []
    for part in text.split("+"):
        match = GROUP.fullmatch(part.strip())
        if match is None:
            raise InputError(
                f"cluster {part.strip()!r} cannot be read; write COUNTxCHIP or COUNTxCHIP@FABRIC, as in 64xh100-sxm-80gb@ndr400x8"
            )
        if float(match["count"]) > MOST_CHIPS:
            raise InputError(f"cluster {part.strip()!r} is larger than any there is; give at most {MOST_CHIPS:,} chips of a kind")
        groups.append(make_group(int(match["count"]), resolve_profile(match["chip"].strip(), profiles), match["fabric"]))
    return Cluster(tuple(groups))
