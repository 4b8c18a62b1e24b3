"""A cluster told in a TOML file: chips, nodes, the network between them, and the price.

    chip = "h100-sxm-80gb"      # catalogue id, or the path of a profile .json, seen from this file
    count = 1024
    chips_per_node = 8          # the rest may be left out; this one, and the fabric, are then those of the catalogue
    fabric = "ndr400x8"         # or its kind alone, "ndr", with the two fields after it
    nic_gbit_per_s = 400
    nics_per_node = 8
    latency_us = 3.0            # of one hop of a ring between nodes; by kind unless given
    bus_share = 0.96            # of the line rate that large collectives reach; by kind unless given
    pod_nodes = 32              # nodes that switches join at the full rate
    oversubscription = 2.0      # what a pod's nodes can send over what its uplinks carry
    usd_per_chip_hour = 2.5

Several kinds of chips are tables ``[[group]]`` of these fields.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chipassay.results.errors import FileError, InputError, UnknownName
from chipassay.results.evidence import Evidence
from chipassay.results.fabrics import Fabric, fabric_kinds, find_fabric, make_fabric
from chipassay.results.profile import Profile

from .cluster import MOST_CHIPS, Cluster, Group, default_fabric, make_group, resolve_profile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Field:
    """What a field may hold: text, or a number within limits, whole or not."""

    kind: type[str] | type[int] | type[float]
    example: str
    least: float = 0.0
    most: float = math.inf
    above: bool = False
    """The least value itself is none."""


FIELDS: Mapping[str, Field] = {
    "chip": Field(str, '"h100-sxm-80gb"'),
    "count": Field(int, "64", least=1, most=MOST_CHIPS),
    "chips_per_node": Field(int, "8", least=1),
    "fabric": Field(str, '"ndr400x8"'),
    "nic_gbit_per_s": Field(float, "400", above=True),
    "nics_per_node": Field(int, "8", least=1),
    "latency_us": Field(float, "3.0"),
    "bus_share": Field(float, "0.96", most=1.0, above=True),
    "pod_nodes": Field(int, "32", least=1),
    "oversubscription": Field(float, "2.0", least=1.0),
    "usd_per_chip_hour": Field(float, "2.5"),
}
NEEDED = ("chip", "count")


def load_cluster(path: Path, profiles: Mapping[str, Profile] | None = None) -> Cluster:
    """The cluster of a file. ``profiles`` gives a profile for a chip of it.

    Raises FileError, with file and field, for one that cannot be read, a field that there is not, or a value that cannot be.
    """
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of a cluster .toml") from error
    except UnicodeDecodeError as error:
        raise FileError(path, "not text in UTF-8", mend="give the path of a cluster .toml") from error
    except tomllib.TOMLDecodeError as error:
        raise FileError(path, f"not TOML ({error})") from error
    tables = data.pop("group") if "group" in data else [data]
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise FileError(path, "group is no list of tables", mend="write each kind of chip under [[group]]")
    if tables != [data] and data:
        raise FileError(path, f"{next(iter(data))} stands outside of the groups", mend="move it under a [[group]]")
    return Cluster(tuple(_group(path, table, profiles) for table in tables))


def _group(path: Path, table: Mapping[str, Any], profiles: Mapping[str, Profile] | None) -> Group:
    for name, value in table.items():
        _check(path, name, value)
    for name in NEEDED:
        if name not in table:
            raise FileError(path, f"{name} is missing", mend=f"add it, such as {name} = {FIELDS[name].example}")
    try:
        profile = _profile(path, table["chip"], profiles)
        group = make_group(table["count"], profile, _fabric(profile, table), table.get("chips_per_node"))
    except FileError:
        raise
    except InputError as error:
        raise FileError(path, str(error)) from error
    return replace(group, usd_per_chip_hour=table.get("usd_per_chip_hour"))


def _check(path: Path, name: str, value: Any) -> None:
    """Raise FileError for a field that there is not, or a value that it cannot hold."""
    if name not in FIELDS:
        raise FileError(path, str(UnknownName("field", name, FIELDS)))
    field = FIELDS[name]
    mend = f"write one such as {name} = {field.example}"
    if field.kind is str:
        if not isinstance(value, str) or not value:
            raise FileError(path, f"{name} is {value!r} and no text", mend=mend)
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise FileError(path, f"{name} is {value!r} and no number", mend=mend)
    if field.kind is int and not isinstance(value, int):
        raise FileError(path, f"{name} is {value!r} and no whole number", mend=mend)
    if value < field.least or (field.above and value == field.least):
        raise FileError(path, f"{name} is {value!r}", mend=f"give {'more than' if field.above else 'at least'} {field.least:g}")
    if value > field.most:
        raise FileError(path, f"{name} is {value!r}", mend=f"give at most {field.most:.12g}")


def _profile(path: Path, chip: str, profiles: Mapping[str, Profile] | None) -> Profile:
    if chip.endswith(".json") and chip not in (profiles or {}):
        chip = str(path.parent / chip)
    return resolve_profile(chip, profiles)


def _fabric(profile: Profile, table: Mapping[str, Any]) -> Fabric | None:
    """The network that the fields tell; None: nothing of it is told."""
    told = [key for key in ("nic_gbit_per_s", "nics_per_node") if key in table]
    changes: dict[str, Any] = {}
    if "latency_us" in table:
        changes["latency_s"] = table["latency_us"] * 1e-6
    changes |= {key: table[key] for key in ("bus_share", "pod_nodes", "oversubscription") if key in table}
    name: str | None = table.get("fabric")
    if name is None and not told and not changes:
        return None
    if name is not None and name.lower() in fabric_kinds():
        if len(told) < 2:
            raise InputError(f"fabric {name!r} is a kind alone; add nic_gbit_per_s and nics_per_node, or write it as {name}400x8")
        fabric = make_fabric(name.lower(), table["nic_gbit_per_s"], table["nics_per_node"])
    elif told:
        kinds = ", ".join(fabric_kinds())
        raise InputError(f"{told[0]} is told beside {'no fabric' if name is None else f'fabric {name!r}'}; name the kind alone: {kinds}")
    else:
        fabric = default_fabric(profile)[0] if name is None else find_fabric(name)
    if not changes:
        return fabric
    if changes.get("oversubscription", 1) > 1 and not fabric.pod_nodes:
        changes.setdefault("pod_nodes", 1)
    told_share = {"bus_share", "latency_s"} & changes.keys()
    source = f"{', '.join(sorted(changes))}: given by the caller; else {fabric.evidence.source}"
    return replace(fabric, **changes, evidence=Evidence("assumed" if told_share else fabric.evidence.level, source))
