"""Published runs on several kinds of chips: their table, and the plan that each row's words describe."""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from chipassay.results.datafile import read_lines
from chipassay.results.evidence import Evidence
from chipassay.results.fabrics import Fabric, find_fabric
from chipassay.results.profile import Curve, Link, Quantity
from chipassay.results.shipped import find_profile

from ..cluster import Cluster, Group, make_group
from ..models import Transformer, load_model
from ..plan import Plan, Recompute
from ..validation.tables import Unusable
from .records import MixedPipeline, MixedPlan, MixedStage

HETEROGENEOUS_RUNS = Path(__file__).with_name("heterogeneous_runs.csv")


@dataclass(frozen=True)
class MixedRun:
    """One row: a measured step, or a claim about a speed-up."""

    line: int
    id: str
    source: str
    model: str
    mix: str
    split: str
    metric: str
    value: str
    notes: str
    evidence: str
    scored: bool
    """Whether its error counts; a suspect row does not."""

    @property
    def measured_s(self) -> float | None:
        return float(self.value) if self.metric == "step_time_s" else None


@lru_cache(maxsize=1)
def read_mixed_runs() -> tuple[MixedRun, ...]:
    """All rows of the table.

    >>> sum(run.measured_s is not None for run in read_mixed_runs())
    52
    """
    columns = ("id", "source", "model", "mix", "split_description", "measured_metric", "measured_value", "notes", "evidence", "score")
    found = []
    for line in read_lines(HETEROGENEOUS_RUNS, columns):
        name, source, model, mix, split, metric, value, notes, evidence, score = (line.text(column) for column in columns)
        found.append(MixedRun(line.number, name, source, model, mix, split, metric, value, notes, evidence, score != "no"))
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Setup:
    """What a row describes, as the model takes it."""

    model: Transformer
    cluster: Cluster
    dtype: Mapping[str, str]
    """Chip -> training dtype."""
    host_s_per_kernel: Mapping[str, float]
    """Chip -> what its host takes to launch a kernel, where the source measured it."""
    plan: MixedPlan
    between: Fabric | None = None
    """The network between nodes of different kinds; None: the slower of theirs."""


def setup_of(run: MixedRun) -> Setup:
    """The row made ready. Raises Unusable where it describes no run of a transformer by a plan."""
    if run.id.startswith("amp-"):
        return _amp(run)
    if run.id.startswith("sailor-"):
        return _sailor(run)
    raise Unusable("a claim about a speed-up, not one run by one plan")


# AMP (Li et al. 2022, arXiv 2210.07297): DeepSpeed's Megatron-LM v1.1.5. By its scripts (DachengLi1/AMP@505f804, examples/
# ds_pretrain_gpt2_pipe.sh and ds_config.json): fp16, gradients reduced in fp32, no recomputation, none of the fused kernels that options
# would turn on. DeepSpeed's pipeline engine (runtime/pipe/engine.py) reduces gradients after the last pass and sends between passes.
_AMP_SETTINGS = Plan(
    global_batch=32, attention="unfused", fused=False, gradient_bytes=4, overlap_dp=False, overlap_pp=False, host="eager", loss="torch"
)
_AMP_TWICE: Recompute = "full"
"""Every layer runs its forward pass twice, once to print the shape of its result (megatron/model/transformer.py of DachengLi1/AMP, class
ParallelTransformerLayerPipe, in the commits 708e87f and 505f804 from the machines of the runs, and in all later ones): as much work as
recomputing it."""
_AMP_HOST_S = {
    ("v100-sxm2-16gb", 1): 1.76e-3, ("v100-sxm2-16gb", 2): 2.55e-3, ("v100-sxm2-16gb", 4): 2.17e-3,
    ("t4-pcie-16gb", 1): 1.9e-3, ("t4-pcie-16gb", 2): 1.9e-3, ("t4-pcie-16gb", 4): 2.06e-3,
}  # fmt: skip
"""Chip, TP -> what the host takes for one forward pass of one layer. AMP measured both of a layer of one sequence: 3.9, 5.25 and 4.5 ms on
V100s, 5.7, 5.95 and 5.55 ms on T4s (DachengLi1/AMP@62fc27d, src/known_cost/gpt2_P3_*.npy and gpt2_G4_*.npy, medians). The chips and their
all-reduces need 2.1, 1.7 and 1.5 ms, and 6.7, 5.0 and 4.2: host and chip joined as in ``step`` make the measured time. One T4 alone is
slower than its host, whose time there is taken from two."""
_AMP_LAUNCHES = 18
"""Kernels of that pass as the model counts them."""
_AMP_FRONT = 3
"""Units before the first layer in DeepSpeed's list: the cast, the embedding, a transposition; three more follow the last."""


_AMP_MASK_BYTES = 2.0 * 1024 * 1024
"""The attention mask of all sequences, in fp16 (``_exec_send_activations``)."""
_AMP_JUMBO_SHARE = 8949 / 9039
"""Payload of a TCP segment over what it takes of the wire at 9,001 bytes, AWS's frames inside a network (Amazon EC2 user guide, "Network
MTU"): 9,001 less 52 of IP, TCP and its time stamps, plus 38 of Ethernet. The processors fill 10 Gbit/s; 50 Gbit/s they are not known to."""
_AMP_LINKS = {"v100-sxm2-16gb": 170e9 / 8, "t4-pcie-16gb": 50e9 / 8}
"""Bytes/s between the chips of a node as the authors give them (src/het_cluster.py, the same source)."""


_AMP_FABRICS = {"v100-sxm2-16gb": "eth10x1", "t4-pcie-16gb": "eth50x1"}


def amp_group(chip: str, count: int) -> Group:
    """So many of the V100s or T4s of AMP's clusters, in their nodes of four and on their network."""
    inside = Evidence("published", "src/het_cluster.py of DachengLi1/AMP@62fc27d: bandwidth in a node")
    links = tuple(
        replace(link, busbw_bytes_per_s=min(link.busbw_bytes_per_s, _AMP_LINKS[chip]), segments=(), evidence=inside)
        for link in _links(chip)
    )
    network = find_fabric(_AMP_FABRICS[chip])
    if _AMP_FABRICS[chip] == "eth10x1":
        network = replace(network, bus_share=_AMP_JUMBO_SHARE, evidence=Evidence("derived", "TCP at 9,001 bytes a frame"))
    return make_group(count, replace(find_profile(chip), links=links), network, 4)


def _links(chip: str) -> tuple[Link, ...]:
    """The all-reduces that the chip's profile knows, up to a node of four."""
    return tuple(link for link in find_profile(chip).links if link.pattern == "all_reduce" and link.group_size <= 4)


def _amp(run: MixedRun) -> Setup:
    """Three p3.8xlarge, then one g4dn.12xlarge."""
    return amp_setup(run.split, Cluster((amp_group("v100-sxm2-16gb", 12), amp_group("t4-pcie-16gb", 4))))


def amp_setup(split: str, cluster: Cluster) -> Setup:
    """A plan in AMP's words on nodes of four chips: ranks in the order of the groups, stages slowest (DeepSpeed's
    PipeModelDataParallelTopology). Raises Unusable for words that are none of theirs."""
    found = re.search(r"tp=(\d+) dp=(\d+) pp=(\d+) microbatch (\d+) global batch (\d+); layer partition over 30 units \[([\d, ]+)\]", split)
    if found is None:
        raise Unusable(f"the split {split!r} cannot be read")
    tp, dp, pp, microbatch, batch = (int(number) for number in found.groups()[:5])
    cuts = [int(number) for number in found[6].split(",")]
    model = replace(load_model("gpt2-medium"), vocab=52256)
    held = [_between(first, last, _AMP_FRONT, _AMP_FRONT + model.layers) for first, last in itertools.pairwise(cuts)]
    ends = list(itertools.accumulate(group.count for group in cluster.groups))
    alike: dict[tuple[int, ...], int] = {}
    for replica in range(dp):
        kinds = tuple(bisect.bisect(ends, (stage * dp + replica) * tp) for stage in range(pp))
        alike[kinds] = alike.get(kinds, 0) + 1
    pipelines = tuple(
        MixedPipeline(
            tuple(MixedStage(kind, tp, count, _AMP_TWICE) for kind, count in zip(kinds, held, strict=True)),
            microbatch,
            batch // (dp * microbatch),
            count,
        )
        for kinds, count in alike.items()
    )
    chips = [group.profile.chip_id for group in cluster.groups]
    hosts = {chip: _AMP_HOST_S[chip, tp] / _AMP_LAUNCHES for chip in chips}
    settings = replace(_AMP_SETTINGS, global_batch=batch)
    plan = MixedPlan(pipelines, settings, tied_bytes=2.0, mask_bytes=_AMP_MASK_BYTES)
    return Setup(model, cluster, dict.fromkeys(chips, "fp16"), hosts, plan)


def _between(first: int, last: int, low: int, high: int) -> int:
    """Numbers of [first, last) that lie in [low, high)."""
    return max(0, min(last, high) - max(first, low))


# Sailor (SOSP 2025): Megatron-DeepSpeed. Its layer profiles (eth-easl/sailor@cf2c8e3, Planner/simulations/profiles_tmp.json: 14.1 ms for an
# OPT-350M layer of two sequences on a V100, 4.2 ms on an A100) are those of fp32, and of tf32 where there is one.
_SAILOR_SETTINGS = Plan(global_batch=256, attention="unfused", fused=True, overlap_dp=False, overlap_pp=False, host="eager", loss="torch")
_SAILOR_FABRIC = "providers/multizone_bandwidths.json of eth-easl/sailor@cf2c8e3: large messages between nodes"
_SAILOR_NETWORK_BYTES_PER_S = {"RTX-3090": 0.1157e9, "RTX-2080": 2.8577e9, "Titan-RTX": 2.8577e9}
_SAILOR_BETWEEN_BYTES_PER_S = 0.1148e9
"""Nodes of eight 2080s and of eight Titans, and any with 3090s; not those of the same Turing chips."""
_TURING = {"RTX-2080": (11.8e9, 616e9, 13.45e12, 250.0), "Titan-RTX": (25.8e9, 672e9, 16.3e12, 280.0)}
"""Bytes of memory, its bytes/s, fp32 peak, watts (NVIDIA's Turing whitepaper, recalled; memory as in Sailor's cluster: the RTX 2080 has the
11 GB of a Ti)."""
_SAILOR_LINKS = {
    "RTX-3090": {2: 20.4e9, 4: 4.28e9, 8: 1.61e9},
    "RTX-2080": {2: 3.87e9, 4: 4.72e9, 8: 4.04e9},
    "Titan-RTX": {2: 3.75e9, 4: 3.63e9, 8: 4.74e9},
}
"""Bus bandwidth between the chips of a node by their number: the forward pass of the embedding of two sequences is one all-reduce of
16.8 MB of fp32 beside a look-up (subtracted); profiles_tmp.json of eth-easl/sailor@cf2c8e3, OPT-350, key 0."""
_TURING_OF_PEAK = 0.86, 0.79
"""Shares of the fp32 peak, as on a V100, and of the bandwidth, as on a T4, before a layer was timed."""
_TURING_LAYER = {"RTX-2080": 48.4 / 58.0, "Titan-RTX": 41.2 / 55.1}
"""What these make of both passes of a layer of two sequences on one chip, over what Sailor measured (profiles_tmp.json, OPT-350, one
microbatch of 2, TP 1; milliseconds). Backward passes take 2.5 of forward ones there. With it layers under TP 2 and 8 are as measured, too,
at the bandwidths of ``_SAILOR_LINKS``: within 8 %."""
_TURING_REASON = "shares of fp32 peak and bandwidth with which a layer takes what Sailor measured on one chip"


@lru_cache(maxsize=8)
def _sailor_group(name: str, count: int) -> Group:
    profile = find_profile("rtx-3090-24gb" if name == "RTX-3090" else "t4-pcie-16gb")
    if name in _TURING:
        memory_bytes, bandwidth, peak, power_w = _TURING[name]
        compute_share, bandwidth_share = (share * _TURING_LAYER[name] for share in _TURING_OF_PEAK)
        evidence = Evidence("derived", _TURING_REASON)
        profile = replace(
            profile, chip_id=name.lower(), name=name, matmul={"fp32": Curve(5e-6, compute_share * peak, evidence)}, attention={},
            products={}, attentions={}, memory_ops={}, memory=Curve(5e-6, bandwidth_share * bandwidth, evidence),
            memory_bytes=Quantity(memory_bytes, evidence),
            peak_flops_per_s={"fp32": Quantity(peak, evidence)}, peak_bandwidth_bytes_per_s=Quantity(bandwidth, evidence),
            power_w=Quantity(power_w, evidence),
        )  # fmt: skip
    inside = Evidence("published", "embedding under TP in profiles_tmp.json of eth-easl/sailor@cf2c8e3")
    links = tuple(Link("all_reduce", "pcie", size, 3e-5, rate, inside) for size, rate in _SAILOR_LINKS[name].items())
    profile = replace(profile, links=links)
    return make_group(count, profile, _sailor_fabric(f"{name.lower()} nodes", _SAILOR_NETWORK_BYTES_PER_S[name]), 8)


def _sailor_fabric(name: str, bytes_per_s: float) -> Fabric:
    return Fabric(name, 1, bytes_per_s, 1.0, find_fabric("eth10x1").latency_s, Evidence("published", _SAILOR_FABRIC))


def _sailor(run: MixedRun) -> Setup:
    batch = re.search(r"microbatch (\d+) global batch (\d+)", run.split)
    stages = re.findall(r"stage\d+\[(\d+) layers\]: ([^;]+)", run.split)
    if batch is None or not stages:
        raise Unusable(f"the split {run.split!r} cannot be read")
    microbatch, global_batch = int(batch[1]), int(batch[2])
    model = _opt_350m()
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
    cluster = Cluster(tuple(_sailor_group(name, count) for name, count in counts.items()))
    dtypes = {group.profile.chip_id: "fp32" if name in _TURING else "tf32" for name, group in zip(order, cluster.groups, strict=True)}
    between = _sailor_fabric("between kinds", _SAILOR_BETWEEN_BYTES_PER_S)
    return Setup(model, cluster, dtypes, {}, MixedPlan(pipelines, replace(_SAILOR_SETTINGS, global_batch=global_batch)), between)


def _opt_350m() -> Transformer:
    """OPT-350M as Sailor runs it: 24 layers of 1024, 16 heads."""
    return replace(load_model("opt-1.3b"), name="opt-350m", hidden=1024, heads=16, kv_heads=16, head_dim=64, ffn_hidden=4096)
