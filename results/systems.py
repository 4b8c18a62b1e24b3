"""Node types as sold: how many of which chip, what joins them, and which network adapters a node has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

from .catalogue import GIGA, load_chips, row_evidence
from .datafile import DATA, Line, read_lines
from .errors import FileError, UnknownName
from .evidence import Evidence

SYSTEMS_CSV = DATA / "systems.csv"
GBIT = 1e9 / 8

COLUMNS = (
    *("id", "chip_id", "chips_per_node", "topology", "link_gb_per_s_one_way", "nics", "nic_gbit_per_s_each"),
    *("total_inter_node_gbit_per_s", "fabric", "port_latency_us", "cpu", "evidence", "source", "notes"),
)


@dataclass(frozen=True)
class System:
    """One node type or rack as sold. None and empty are unknown."""

    id: str
    chip_id: str
    chips_per_node: int
    topology: str
    link_bytes_per_s_one_way: float | None
    """Per chip, inside the node: of its own link, else of PCIe."""
    nics: int | None
    nic_bytes_per_s_one_way: float | None
    """Of one adapter."""
    node_bytes_per_s_one_way: float | None
    """Of all adapters of the node together."""
    port_latency_s: float | None
    """The maker's figure for one port of the fabric, not what a collective sees."""
    fabric: str
    cpu: str
    evidence: Evidence
    notes: str


def _system(line: Line) -> System:
    chips_per_node = line.whole_or_none("chips_per_node")
    if not chips_per_node:
        raise FileError(line.path, "a system needs at least one chip per node", line=line.number, field="chips_per_node")
    if line.required("chip_id") not in load_chips():
        raise FileError(line.path, f"{line.text('chip_id')!r} is no chip of the catalogue", line=line.number, field="chip_id")
    nics, each = line.whole_or_none("nics"), line.number_or_none("nic_gbit_per_s_each", GBIT)
    together = line.number_or_none("total_inter_node_gbit_per_s", GBIT)
    if (nics is None) != (each is None):
        mend = "fill both nics and nic_gbit_per_s_each, or neither"
        raise FileError(line.path, "half of the adapters is unknown", line=line.number, field="nics", mend=mend)
    if nics is not None and each is not None and not math.isclose(together or 0.0, nics * each):
        problem = f"{line.text('nics')} adapters of {line.text('nic_gbit_per_s_each')} Gbit/s are {nics * each / GBIT:g}"
        raise FileError(line.path, problem, line=line.number, field="total_inter_node_gbit_per_s", mend=f"write {nics * each / GBIT:g}")
    return System(
        id=line.required("id"),
        chip_id=line.text("chip_id"),
        chips_per_node=chips_per_node,
        topology=line.text("topology"),
        link_bytes_per_s_one_way=line.number_or_none("link_gb_per_s_one_way", GIGA),
        nics=nics,
        nic_bytes_per_s_one_way=each,
        node_bytes_per_s_one_way=together,
        port_latency_s=line.number_or_none("port_latency_us", 1e-6),
        fabric=line.text("fabric"),
        cpu=line.text("cpu"),
        evidence=row_evidence(line),
        notes=line.text("notes"),
    )


@lru_cache(maxsize=4)
def load_systems(path: Path = SYSTEMS_CSV) -> Mapping[str, System]:
    """All systems by id, in the order of the table: the maker's reference node of a chip stands before the clouds' ones.

    Raises FileError, with line and column, where a cell does not fit its column or the others of its row.

    >>> load_systems()["dgx-h100"].node_bytes_per_s_one_way
    400000000000.0
    """
    systems: dict[str, System] = {}
    for line in read_lines(path, COLUMNS):
        system = _system(line)
        if system.id in systems:
            raise FileError(path, f"{system.id!r} stands here twice", line=line.number, field="id")
        systems[system.id] = system
    return MappingProxyType(systems)


def find_system(system_id: str) -> System:
    """The system of that id; UnknownName with the nearest ids where there is none."""
    systems = load_systems()
    try:
        return systems[system_id.lower()]
    except KeyError:
        raise UnknownName("system", system_id, systems) from None


def default_system(chip_id: str) -> System | None:
    """The first system of the table with this chip and known NICs, or the first with this chip; None where there is none."""
    systems = [system for system in load_systems().values() if system.chip_id == chip_id]
    return next((system for system in systems if system.nics), systems[0] if systems else None)
