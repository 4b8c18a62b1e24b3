"""The cluster of a run: its chip's words looked up (chips.csv), the profile bent where the part differs, its network read from text."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from chipassay.results.catalogue import load_chips
from chipassay.results.datafile import Line
from chipassay.results.errors import UnknownName
from chipassay.results.fabrics import find_fabric
from chipassay.results.profile import Curve, Evidence, Profile, Quantity
from chipassay.results.shipped import find_profile
from chipassay.results.systems import default_system
from chipassay.scaling.cluster import Group, make_group

from .rows import Run
from .tables import Unusable, first_match

COLUMNS = (
    "pattern",
    "chip_id",
    "memory_gb",
    "compute_share",
    "bandwidth_share",
    "power_w",
    "links_of",
    "chips_per_node",
    "fabric",
    "reason",
)

KINDS = (
    ("EFA", ("efa",)),
    ("Omni-?Path", ("opa", "edr")),
    ("Slingshot", ("slingshot", "roce")),
    ("EDR", ("edr",)),
    ("FDR", ("fdr",)),
    ("HDR", ("hdr",)),
    ("NDR", ("ndr",)),
    ("XDR", ("xdr",)),
    ("RoCE|RDMA", ("roce",)),
    ("Ethernet|TCP", ("eth",)),
)
"""Word of a link's description -> kinds of fabric that stand for it, the first that is known."""
KIND_BY_RATE = ((56, "fdr"), (100, "edr"), (200, "hdr"), (400, "ndr"), (float("inf"), "xdr"))
"""InfiniBand's generation by the Gbit/s of one port, where a row says no word."""
RATE = r"(?P<rate>\d+(?:\.\d+)?)\s*(?P<unit>[GT])b(?:/s|ps|it/s)?"
COUNTED = re.compile(r"\d\s*x\s*\d|per (node|GPU|NPU|chip|accelerator)", re.IGNORECASE)
"""A description that says how many ports of that rate there are."""
PER_PORT_GBIT = 100.0
"""A node's total is taken as ports of at least so much each, as far as there is a chip for each."""


def _kind(text: str, gbit: float) -> str:
    for word, kinds in KINDS:
        if re.search(word, text, re.IGNORECASE):
            for kind in kinds:
                try:
                    find_fabric(f"{kind}100x1")
                except UnknownName:
                    continue
                return kind
    return next(kind for most, kind in KIND_BY_RATE if gbit <= most)


@lru_cache(maxsize=256)
def fabric_name(text: str, chips_per_node: int) -> str | None:
    """The fabric that a link's description means, None where it gives no rate.

    >>> fabric_name("8x200Gb HDR IB (Selene)", 8), fabric_name("400Gb/s RDMA per GPU (RoCE)", 8), fabric_name("1600 Gb/s per node RoCE", 8)
    ('hdr200x8', 'roce400x8', 'roce200x8')
    >>> fabric_name("Omni-Path 100Gb (4 links per node)", 4), fabric_name("not stated", 8)
    ('edr100x4', None)
    """
    counted = re.search(r"(?P<count>\d+)\s*x\s*" + RATE, text)
    found = counted or re.search(RATE, text)
    if found is None:
        return None
    gbit = float(found["rate"]) * (1000 if found["unit"] == "T" else 1)
    links = re.search(r"(\d+) (?:links|NICs|ports|rails) per node", text)
    if counted:
        nics = int(counted["count"])
    elif links:
        nics = int(links[1])
    elif re.search(r"per (GPU|NPU|chip|accelerator)", text):
        nics = chips_per_node
    else:
        nics = max(1, min(chips_per_node, 8, int(-(-gbit // PER_PORT_GBIT))))
        gbit /= nics
    return f"{_kind(text, gbit)}{gbit:g}x{nics}"


def _scaled(curve: Curve, share: float) -> Curve:
    return replace(curve, rate=curve.rate * share)


@lru_cache(maxsize=64)
def _variant(
    chip_id: str, memory_gb: float | None, compute: float, bandwidth: float, power_w: float | None, links_of: str, reason: str
) -> Profile:
    """The chip's profile, with the memory and the shares of its rates that this part has."""
    profile = find_profile(chip_id)
    if memory_gb is None and power_w is None and not links_of and compute == bandwidth == 1.0:
        return profile
    evidence = Evidence("derived", reason)
    memory = Quantity(memory_gb * 1e9, evidence) if memory_gb is not None else profile.memory_bytes
    peak = profile.peak_bandwidth_bytes_per_s
    return replace(
        profile,
        matmul={dtype: _scaled(curve, compute) for dtype, curve in profile.matmul.items()},
        attention={dtype: _scaled(curve, compute) for dtype, curve in profile.attention.items()},
        memory=None if profile.memory is None else _scaled(profile.memory, bandwidth),
        products={
            dtype: replace(
                model,
                rate_flops_per_s=model.rate_flops_per_s * compute,
                bandwidth_bytes_per_s=model.bandwidth_bytes_per_s * bandwidth,
            )
            for dtype, model in profile.products.items()
        },
        attentions={
            dtype: replace(
                model,
                rate_flops_per_s=model.rate_flops_per_s * compute,
                bandwidth_bytes_per_s=model.bandwidth_bytes_per_s * bandwidth,
            )
            for dtype, model in profile.attentions.items()
        },
        memory_ops={name: _scaled(curve, bandwidth) for name, curve in profile.memory_ops.items()},
        peak_flops_per_s={
            dtype: Quantity(one.value * compute, evidence if compute != 1 else one.evidence)
            for dtype, one in profile.peak_flops_per_s.items()
        },
        peak_bandwidth_bytes_per_s=None if peak is None else Quantity(peak.value * bandwidth, evidence),
        memory_bytes=memory,
        links=tuple(link for link in find_profile(links_of).links if link.group_size <= 4) if links_of else profile.links,
        power_w=profile.power_w if power_w is None else Quantity(power_w, evidence),
    )


def chip_line(run: Run) -> Line | None:
    """The line of chips.csv that the chip's words mean; None where they are a chip's id. Unusable where they mean none."""
    line = first_match("chips.csv", COLUMNS, run.chip)
    if run.chip.lower() in load_chips():
        return line if line is not None and line.text("chip_id") == run.chip.lower() else None
    if line is None:
        raise Unusable(f"the chip {run.chip!r} is not known")
    if not line.text("chip_id"):
        raise Unusable(line.text("reason"))
    return line


def profile_of(run: Run) -> Profile:
    """The profile of the run's chip."""
    line = chip_line(run)
    if line is None:
        return find_profile(run.chip)
    return _variant(
        line.text("chip_id"),
        line.number_or_none("memory_gb"),
        line.number_or_none("compute_share") or 1.0,
        line.number_or_none("bandwidth_share") or 1.0,
        line.number_or_none("power_w"),
        line.text("links_of"),
        line.text("reason"),
    )


def group_of(run: Run, count: int) -> Group:
    """That many of the run's chips, in its nodes and on its network."""
    line = chip_line(run)
    profile = profile_of(run)
    system = default_system(profile.chip_id)
    per_node = (line.whole_or_none("chips_per_node") if line is not None else None) or run.chips_per_node
    if per_node is None and system is not None:
        per_node = system.chips_per_node
    fabric = fabric_name(run.inter_node_link, per_node or 8)
    usual = line.text("fabric") if line is not None else ""
    if usual and not COUNTED.search(run.inter_node_link):
        fabric = usual
    return _group(profile, count, per_node, fabric)


_GROUPS: dict[tuple[int, int, int | None, str | None], Group] = {}


def _group(profile: Profile, count: int, per_node: int | None, fabric: str | None) -> Group:
    """Profiles are no keys of a cache by their value: they hold mappings. By identity they are, as shipped ones are made once."""
    key = (id(profile), count, per_node, fabric)
    if key not in _GROUPS:
        _GROUPS[key] = make_group(count, profile, fabric, per_node)
    return _GROUPS[key]
