"""Sailor's runs on RTX 3090, 2080 Ti and Titan RTX (SOSP 2025), as its repository says that they were made."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from chipassay.results.evidence import Evidence
from chipassay.results.fabrics import Fabric, find_fabric
from chipassay.results.profile import Curve, Link, Quantity
from chipassay.results.shipped import find_profile

from ..cluster import Cluster, Group, make_group
from ..models import Transformer, load_model
from ..plan import Plan
from ..validation.tables import Unusable
from .records import MixedPipeline, MixedPlan, MixedStage
from .setups import Setup

# Megatron-DeepSpeed. Its layer profiles (eth-easl/sailor@cf2c8e3, Planner/simulations/profiles_tmp.json: 14.1 ms for an
# OPT-350M layer of two sequences on a V100, 4.2 ms on an A100) are those of fp32, and of tf32 where there is one, where
# Megatron's fused kernels do not run.
SETTINGS = Plan(global_batch=256, attention="unfused", fused=False, overlap_dp=False, overlap_pp=False, host="eager", loss="torch")
FABRIC = "providers/multizone_bandwidths.json of eth-easl/sailor@cf2c8e3: large messages between nodes"
NETWORK_BYTES_PER_S = {"RTX-3090": 0.1157e9, "RTX-2080": 2.8577e9, "Titan-RTX": 2.8577e9}
BETWEEN_BYTES_PER_S = 0.1148e9
"""Nodes of eight 2080s and of eight Titans, and any with 3090s; not those of the same Turing chips. Of two or four chips the table has
2.86 GB/s for the former, so that not all of it can have been measured; the pipelines through such nodes are of eight."""
TURING = {"RTX-2080": (11.8e9, 616e9, 13.45e12, 250.0), "Titan-RTX": (25.8e9, 672e9, 16.3e12, 280.0)}
"""Bytes of memory, its bytes/s, fp32 peak, watts (NVIDIA's Turing whitepaper, recalled; memory as in Sailor's cluster: the RTX 2080 has the
11 GB of a Ti)."""
LINKS = {
    "RTX-3090": {2: 20.4e9, 4: 4.28e9, 8: 1.61e9},
    "RTX-2080": {2: 3.87e9, 4: 4.72e9, 8: 4.04e9},
    "Titan-RTX": {2: 3.75e9, 4: 3.63e9, 8: 4.74e9},
}
"""Bus bandwidth between the chips of a node by their number: the forward pass of the embedding of two sequences is one all-reduce of
16.8 MB of fp32 beside a look-up (subtracted); profiles_tmp.json of eth-easl/sailor@cf2c8e3, OPT-350, key 0."""
TURING_OF_PEAK = 0.86, 0.79
"""Shares of the fp32 peak, as on a V100, and of the bandwidth, as on a T4, before a layer was timed."""
TURING_LAYER = {"RTX-2080": 52.7 / 58.0, "Titan-RTX": 45.1 / 55.1}
"""What these make of both passes of a layer of two sequences on one chip, over what Sailor measured (profiles_tmp.json, OPT-350, one
microbatch of 2, TP 1; milliseconds). Backward passes take 2.5 of forward ones there. With it layers under TP 2 and 8 are as measured, too,
at the bandwidths of ``LINKS``: within 8 %."""
TURING_REASON = "shares of fp32 peak and bandwidth with which a layer takes what Sailor measured on one chip"


@lru_cache(maxsize=8)
def sailor_group(name: str, count: int) -> Group:
    profile = find_profile("rtx-3090-24gb" if name == "RTX-3090" else "t4-pcie-16gb")
    if name in TURING:
        memory_bytes, bandwidth, peak, power_w = TURING[name]
        compute_share, bandwidth_share = (share * TURING_LAYER[name] for share in TURING_OF_PEAK)
        evidence = Evidence("derived", TURING_REASON)
        profile = replace(
            profile, chip_id=name.lower(), name=name, matmul={"fp32": Curve(5e-6, compute_share * peak, evidence)}, attention={},
            products={}, attentions={}, memory_ops={}, memory=Curve(5e-6, bandwidth_share * bandwidth, evidence),
            memory_bytes=Quantity(memory_bytes, evidence),
            peak_flops_per_s={"fp32": Quantity(peak, evidence)}, peak_bandwidth_bytes_per_s=Quantity(bandwidth, evidence),
            power_w=Quantity(power_w, evidence),
        )  # fmt: skip
    inside = Evidence("published", "embedding under TP in profiles_tmp.json of eth-easl/sailor@cf2c8e3")
    links = tuple(Link("all_reduce", "pcie", size, 3e-5, rate, inside) for size, rate in LINKS[name].items())
    profile = replace(profile, links=links)
    return make_group(count, profile, _fabric(f"{name.lower()} nodes", NETWORK_BYTES_PER_S[name]), 8)


def _fabric(name: str, bytes_per_s: float) -> Fabric:
    return Fabric(name, 1, bytes_per_s, 1.0, find_fabric("eth10x1").latency_s, Evidence("published", FABRIC))


def sailor_setup(split: str) -> Setup:
    """A plan in Sailor's words on its cluster. Raises Unusable for words that are none of its."""
    batch = re.search(r"microbatch (\d+) global batch (\d+)", split)
    stages = re.findall(r"stage\d+\[(\d+) layers\]: ([^;]+)", split)
    if batch is None or not stages:
        raise Unusable(f"the split {split!r} cannot be read")
    microbatch, global_batch = int(batch[1]), int(batch[2])
    model = opt_350m()
    counts: dict[str, int] = {}
    rows: list[list[tuple[str, int]]] = []
    for _, chips in stages:
        row = []
        for number, name, tp in re.findall(r"(\d+)x([\w-]+) \(tp(\d+)\)", chips):
            counts[name] = counts.get(name, 0) + int(number)
            row.append((name, int(tp)))
        rows.append(row)
    order = list(counts)
    dp = len(rows[0])
    # Sailor counts the embedding and the head as a layer each.
    held = [int(count) for count, _ in stages]
    held[0] -= 1
    held[-1] -= 1
    alike: dict[tuple[tuple[str, int], ...], int] = {}
    for replica in range(dp):
        chosen = tuple(row[replica] for row in rows)
        alike[chosen] = alike.get(chosen, 0) + 1
    pipelines = tuple(
        MixedPipeline(
            tuple(MixedStage(order.index(name), tp, count) for (name, tp), count in zip(chosen, held, strict=True)),
            microbatch,
            global_batch // (dp * microbatch),
            count,
        )
        for chosen, count in alike.items()
    )
    cluster = Cluster(tuple(sailor_group(name, count) for name, count in counts.items()))
    dtypes = {group.profile.chip_id: "fp32" if name in TURING else "tf32" for name, group in zip(order, cluster.groups, strict=True)}
    between = _fabric("between kinds", BETWEEN_BYTES_PER_S)
    return Setup(model, cluster, dtypes, {}, MixedPlan(pipelines, replace(SETTINGS, global_batch=global_batch)), between)


def opt_350m() -> Transformer:
    """OPT-350M as Sailor runs it: 24 layers of 1024, 16 heads; Hugging Face's module, whose attention drops nothing by default
    (eth-easl/sailor@cf2c8e3, sailor/models/opt/opt_modules.py)."""
    opt = load_model("opt-1.3b")
    return replace(opt, name="opt-350m", hidden=1024, heads=16, kv_heads=16, head_dim=64, ffn_hidden=4096, dropout=False)
