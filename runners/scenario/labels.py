"""Places on an axis as people say them: chips by their short names, networks by their cards, models as they were published."""

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
MODEL = re.compile(r"(gpt2|gpt3|llama[123]|megatron|mt-nlg)-(\d[\d.]*[mbt])")
FAMILIES = {
    "gpt2": "GPT-2",
    "gpt3": "GPT-3",
    "llama1": "LLaMA",
    "llama2": "Llama 2",
    "llama3": "Llama 3",
    "megatron": "Megatron",
    "mt-nlg": "MT-NLG",
}


def label(place: str) -> str:
    """A chip, a network, a cluster, a mix or a model in words; anything else as it is.

    >>> label("64xh800-sxm-80gb+64xa800-sxm-80gb"), label("roce200x8"), label("llama1-7b"), label("TP 8")
    ('64 H800 + 64 A800', '8 x 200G RoCE', 'LLaMA 7B', 'TP 8')
    """
    named = MODEL.fullmatch(place)
    if named is not None:
        return f"{FAMILIES[named[1]]} {named[2].upper()}"
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
