"""The networks between nodes: short names of fabrics such as ``hdr200x8``, and what collectives reach of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType

from .datafile import DATA, read_lines
from .errors import FileError, InputError, UnknownName
from .evidence import LEVELS, Evidence
from .systems import GBIT, System

FABRICS_CSV = DATA / "fabrics.csv"

FABRIC_NAME = re.compile(
    r"(?P<kind>[a-z]+)(?P<gbit>\d+(?:\.\d+)?)x(?P<nics>\d+)(?:/(?P<oversubscription>\d+(?:\.\d+)?)(?::(?P<pod>\d+))?)?"
)
"""``hdr200x8``; oversubscribed 2:1 between all nodes ``hdr200x8/2``, or beyond pods of 32 nodes ``hdr200x8/2:32``."""

KIND_WORDS = (
    ("EDR", "edr"),
    ("FDR", "fdr"),
    ("HDR", "hdr"),
    ("NDR", "ndr"),
    ("XDR", "xdr"),
    ("EFA", "efa"),
    ("RoCE", "roce"),
    ("RDMA", "roce"),
    ("Ethernet", "eth"),
    ("TCPX", "eth"),
)
"""Word in a system's fabric column -> the kind of fabric whose shares hold for it; the first that occurs counts."""


@dataclass(frozen=True)
class Fabric:
    """What joins the nodes, as one node sees it."""

    name: str
    nics: int
    nic_bytes_per_s_one_way: float
    bus_share: float
    """Share of the line rate that a large collective's bus bandwidth reaches."""
    latency_s: float
    """Of one hop of a ring between nodes, host and NIC included."""
    evidence: Evidence
    oversubscription: float = 1.0
    """What the nodes of a pod can send together over what the pod's uplinks carry; at least 1."""
    pod_nodes: int = 0
    """Nodes that a pod joins at the full rate; 1: none, every node's uplink is oversubscribed; 0: there are no pods."""

    @property
    def node_bytes_per_s(self) -> float:
        """What all NICs of one node carry together in a large collective, one way."""
        return self.nics * self.nic_bytes_per_s_one_way * self.bus_share


NO_FABRIC = Fabric("none", 0, 0.0, 0.0, 0.0, Evidence("assumed", "no network between nodes was asked for"))


@lru_cache(maxsize=1)
def _kinds() -> Mapping[str, tuple[float, float, Evidence]]:
    """Kind -> (share of the line rate, latency in seconds, evidence)."""
    kinds: dict[str, tuple[float, float, Evidence]] = {}
    for line in read_lines(FABRICS_CSV, ("kind", "bus_share", "bus_share_evidence", "latency_us", "latency_evidence", "source")):
        share, latency_s = line.number_or_none("bus_share"), line.number_or_none("latency_us", 1e-6)
        if share is None or not 0 < share <= 1:
            raise FileError(FABRICS_CSV, "a share must lie in (0, 1]", line=line.number, field="bus_share")
        if latency_s is None:
            raise FileError(FABRICS_CSV, "empty, but every row needs it", line=line.number, field="latency_us")
        level = next(known for known in LEVELS if known == line.one_of("bus_share_evidence", LEVELS))
        line.one_of("latency_evidence", LEVELS)
        kinds[line.required("kind")] = (share, latency_s, Evidence(level, line.required("source")))
    return MappingProxyType(kinds)


def find_fabric(name: str) -> Fabric:
    """The fabric of a short name: KIND, Gbit/s of one NIC, ``x`` NICs per node, and where the switches carry less than all NICs send
    ``/`` their oversubscription, ``:`` nodes in a pod that is not oversubscribed; ``none`` for a single node.

    Raises InputError or UnknownName where the name cannot be read.

    >>> find_fabric("hdr200x8").node_bytes_per_s
    192000000000.0
    >>> find_fabric("hdr200x8/2:32").oversubscription, find_fabric("hdr200x8/2:32").pod_nodes
    (2.0, 32)
    """
    if name.lower() == "none":
        return NO_FABRIC
    match = FABRIC_NAME.fullmatch(name.lower())
    if match is None:
        raise InputError(f"fabric {name!r} cannot be read; write KIND, Gbit/s of one NIC, x, NICs per node, as in hdr200x8, or none")
    nics, gbit = int(match["nics"]), float(match["gbit"])
    if match["kind"] in fabric_kinds() and (nics < 1 or gbit <= 0):
        raise InputError(f"fabric {name!r} has no bandwidth; give at least one NIC above 0 Gbit/s, or none")
    fabric = make_fabric(match["kind"], gbit, nics, name=name.lower())
    oversubscription, pod_nodes = float(match["oversubscription"] or 1), int(match["pod"] or 1)
    if oversubscription < 1 or pod_nodes < 1:
        raise InputError(f"fabric {name!r}: an oversubscription is at least 1 and a pod has at least 1 node, as in hdr200x8/2:32")
    return replace(fabric, oversubscription=oversubscription, pod_nodes=pod_nodes) if oversubscription > 1 else fabric


def fabric_kinds() -> tuple[str, ...]:
    """The kinds of fabric whose share of the line rate and latency are known."""
    return tuple(_kinds())


def make_fabric(kind: str, gbit_per_s: float, nics: int, *, name: str | None = None) -> Fabric:
    """The fabric of ``nics`` NICs per node at ``gbit_per_s`` each, with the share and latency of its kind. UnknownName for no such kind."""
    if kind not in _kinds():
        raise UnknownName("fabric kind", kind, _kinds())
    share, latency_s, evidence = _kinds()[kind]
    return Fabric(name or f"{kind}{gbit_per_s:g}x{nics}", nics, gbit_per_s * GBIT, share, latency_s, evidence)


def fabric_of(system: System) -> Fabric | None:
    """The network of a system; None where its NICs are not published."""
    if not system.nics or not system.nic_bytes_per_s_one_way:
        return None
    kind = next((kind for word, kind in KIND_WORDS if word.lower() in system.fabric.lower()), "eth")
    fabric = make_fabric(kind, system.nic_bytes_per_s_one_way / GBIT, system.nics)
    source = (
        f"{system.id}: {system.nics} x {system.nic_bytes_per_s_one_way / GBIT:g} Gbit/s ({system.fabric}); share: {fabric.evidence.source}"
    )
    return replace(fabric, evidence=Evidence(fabric.evidence.level, source))
