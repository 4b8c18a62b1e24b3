"""What a group's bytes travel over, and what that can carry: the class of the transport decides what to expect of a collective."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from chipassay.results.catalogue import Chip
from chipassay.results.errors import ChipassayError
from chipassay.results.fabrics import FABRIC_NAME, find_fabric
from chipassay.results.schema import Row
from chipassay.results.systems import load_systems

from ..collective.link import link_bytes_per_s

NETWORK, UNKNOWN = "network", "unknown"
BRIDGE = "bridge"
"""Word of links that are sold apart from the cards: two cards have one, or talk over PCIe."""
WORDS = (
    ("nvlink", ("nvlink", "nvswitch", "nvl72")),
    ("xgmi", ("xgmi", "infinity fabric")),
    ("pcie", ("pcie", "pci-e", "pci express")),
    (NETWORK, ("network", "infiniband", "roce", "efa", "ethernet", "tcp")),
)
"""Class of a transport -> words of a fabric or link by which it is known."""


@dataclass(frozen=True)
class Transport:
    """The class of what joins a group. ``told``: whether the row says so, or it is taken from the chip."""

    kind: str
    told: bool


def kind_of(name: str) -> str | None:
    """The class that a fabric's or link's name means; None for a name of another class.

    >>> kind_of("NVLink4+NVSwitch3"), kind_of("PCIe only"), kind_of("efa400x8"), kind_of("HCCS")
    ('nvlink', 'pcie', 'network', None)
    """
    low = name.lower()
    return next((kind for kind, words in WORDS if any(word in low for word in words)), NETWORK if FABRIC_NAME.fullmatch(low) else None)


def transport(row: Row, chip: Chip) -> Transport:
    """What joins the row's group: as its fabric says, else the chip's own link where that can join so many, else PCIe.

    UNKNOWN where that link is a bridge, which may or may not be there."""
    if (row.node_count or 1) > 1:
        return Transport(NETWORK, True)
    told = kind_of(row.fabric or "")
    if told is not None:
        return Transport(told, True)
    if (row.group_size or row.chip_count or 1) <= (chip.link_domain_size or 1):
        if BRIDGE in chip.link:
            return Transport(UNKNOWN, False)
        return Transport(kind_of(chip.link) or chip.link, False)
    return Transport("pcie", False)


@dataclass(frozen=True)
class Carrier:
    """What one rank can get in: bytes per second and the words for it."""

    bytes_per_s: float
    name: str


def carrier(row: Row, chip: Chip) -> Carrier | None:
    """The most that the busiest direction of a rank's links inside the node can carry, by the catalogue; None where that is unknown."""
    joins = transport(row, chip)
    if joins.kind == NETWORK:
        return None
    ranks = row.group_size or 2
    link = link_bytes_per_s(chip.id, ranks, 1)
    if joins.kind == "pcie" and joins.told:
        link = None
    if link is not None:
        return Carrier(link, chip.link)
    if joins.kind != "pcie" or not chip.pcie_bytes_per_s:
        return None
    # Cards in bridged pairs and more of them than a bridge joins: a rank's bytes may come over both.
    bridge = 0.0 if joins.told else chip.link_bytes_per_s_one_way or 0.0
    return Carrier(chip.pcie_bytes_per_s + bridge, "PCIe and its bridge" if bridge else "PCIe")


def node_carrier(row: Row, chip: Chip) -> Carrier | None:
    """What all network adapters of a node take in: of the fabric that the row names, else of the best node known with this chip."""
    found = named_fabric(row.fabric)
    if found is not None:
        return Carrier(found[0] * found[1], row.fabric or "")
    return _best_node(chip.id)


@lru_cache(maxsize=128)
def _best_node(chip_id: str) -> Carrier | None:
    known = [
        Carrier(system.nics * system.nic_bytes_per_s_one_way, f"the adapters of {system.id}, the fastest node known of this chip,")
        for system in load_systems().values()
        if system.chip_id == chip_id and system.nics and system.nic_bytes_per_s_one_way
    ]
    return max(known, key=lambda carrier: carrier.bytes_per_s, default=None)


def named_fabric(name: str | None) -> tuple[int, float] | None:
    """(adapters of a node, bytes/s of one) of a fabric's short name; None for another text.

    >>> named_fabric("hdr200x4"), named_fabric("network")
    ((4, 25000000000.0), None)
    """
    if not name or not re.fullmatch(FABRIC_NAME, name.lower()):
        return None
    try:
        fabric = find_fabric(name.lower())
    except ChipassayError:
        return None
    return fabric.nics, fabric.nic_bytes_per_s_one_way
