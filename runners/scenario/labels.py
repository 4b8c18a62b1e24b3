"""Places on an axis as people say them: chips by their short names, networks by their cards."""

from __future__ import annotations

import re

from chipassay.results.catalogue import load_chips
from chipassay.results.fabrics import FABRIC_NAME

COUNTED = re.compile(r"\d+x")
NETWORKS = {
    "ndr": "InfiniBand",
    "hdr": "InfiniBand",
    "edr": "InfiniBand",
    "xdr": "InfiniBand",
    "roce": "RoCE",
    "eth": "Ethernet",
    "efa": "EFA",
}


def label(place: str) -> str:
    """A chip, a network, a cluster or a mix in words; anything else as it is.

    >>> label("64xh800-sxm-80gb+64xa800-sxm-80gb"), label("roce200x8"), label("llama1-7b")
    ('64 H800 + 64 A800', '8 x 200G RoCE', 'llama1-7b')
    """
    match = FABRIC_NAME.fullmatch(place)
    if match is not None:
        return f"{match['nics']} x {match['gbit']}G {NETWORKS.get(match['kind'], match['kind'])}"
    parts = []
    for part in place.split("+"):
        count, _, chip = part.partition("x") if COUNTED.match(part) else ("", "", part)
        chip, at, network = chip.partition("@")
        if chip not in load_chips():
            return place
        parts.append(f"{count} {chip_label(chip)}".strip() + (f" on {label(network)}" if at else ""))
    return " + ".join(parts)


def chip_label(chip_id: str) -> str:
    """The short name of a chip, with what tells it from the usual one of that name.

    >>> chip_label("h100-sxm-80gb"), chip_label("h100-pcie-80gb"), chip_label("a100-sxm-40gb"), chip_label("rtx-a6000-48gb")
    ('H100', 'H100 PCIe', 'A100 40 GB', 'RTX A6000')
    """
    name, *rest = chip_id.split("-")
    if name == "rtx":
        return " ".join(["RTX", *(part.upper() for part in rest if not part.endswith("gb"))])
    told = name.upper()
    if "pcie" in rest and any(other.startswith(f"{name}-sxm") for other in load_chips()):
        told += " PCIe"
    return f"{told} 40 GB" if rest and rest[-1] == "40gb" else told
