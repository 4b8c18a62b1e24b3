"""AMP's runs on V100s and T4s (Li et al. 2022, arXiv 2210.07297), as its repository says that they were made."""

from __future__ import annotations

import bisect
import itertools
import re
from dataclasses import replace

from chipassay.results.evidence import Evidence
from chipassay.results.fabrics import find_fabric
from chipassay.results.profile import Link
from chipassay.results.shipped import find_profile

from ..cluster import Cluster, Group, make_group
from ..models import load_model
from ..plan import Plan, Recompute
from ..validation.tables import Unusable
from .even import alike_pipelines
from .records import MixedPlan
from .setups import Setup

# DeepSpeed's Megatron-LM v1.1.5. By its scripts (DachengLi1/AMP@505f804, examples/
# ds_pretrain_gpt2_pipe.sh and ds_config.json): fp16, gradients reduced in fp32, no recomputation, none of the fused kernels that options
# would turn on. DeepSpeed's pipeline engine (runtime/pipe/engine.py) reduces gradients after the last pass and sends between passes.
SETTINGS = Plan(
    global_batch=32, attention="unfused", fused=False, gradient_bytes=4, overlap_dp=False, overlap_pp=False, host="eager", loss="torch"
)
TWICE: Recompute = "full"
"""Every layer runs its forward pass twice, once to print the shape of its result (megatron/model/transformer.py of DachengLi1/AMP, class
ParallelTransformerLayerPipe, in the commits 708e87f and 505f804 from the machines of the runs, and in all later ones): as much work as
recomputing it."""
HOST_S = {
    ("v100-sxm2-16gb", 1): 1.76e-3, ("v100-sxm2-16gb", 2): 2.55e-3, ("v100-sxm2-16gb", 4): 2.17e-3,
    ("t4-pcie-16gb", 1): 1.9e-3, ("t4-pcie-16gb", 2): 1.9e-3, ("t4-pcie-16gb", 4): 2.06e-3,
}  # fmt: skip
"""Chip, TP -> what the host takes for one forward pass of one layer. AMP measured both of a layer of one sequence: 3.9, 5.25 and 4.5 ms on
V100s, 5.7, 5.95 and 5.55 ms on T4s (DachengLi1/AMP@62fc27d, src/known_cost/gpt2_P3_*.npy and gpt2_G4_*.npy, medians). The chips and their
all-reduces need 2.1, 1.7 and 1.5 ms, and 6.7, 5.0 and 4.2: host and chip joined as in ``step`` make the measured time. One T4 alone is
slower than its host, whose time there is taken from two."""
LAUNCHES = 18
"""Kernels of that pass as the model counts them."""
FRONT = 3
"""Units before the first layer in DeepSpeed's list: the cast, the embedding, a transposition; three more follow the last."""
MASK_BYTES = 2.0 * 1024 * 1024
"""The attention mask of all sequences, in fp16 (``_exec_send_activations``)."""
JUMBO_SHARE = 8949 / 9039
"""Payload of a TCP segment over what it takes of the wire at 9,001 bytes, AWS's frames inside a network (Amazon EC2 user guide, "Network
MTU"): 9,001 less 52 of IP, TCP and its time stamps, plus 38 of Ethernet. The processors fill 10 Gbit/s; 50 Gbit/s they are not known to."""
LINKS = {"v100-sxm2-16gb": 170e9 / 8, "t4-pcie-16gb": 50e9 / 8}
"""Bytes/s between the chips of a node as the authors give them (src/het_cluster.py, the same source)."""
FABRICS = {"v100-sxm2-16gb": "eth10x1", "t4-pcie-16gb": "eth50x1"}


def amp_group(chip: str, count: int) -> Group:
    """So many of the V100s or T4s of AMP's clusters, in their nodes of four and on their network."""
    inside = Evidence("published", "src/het_cluster.py of DachengLi1/AMP@62fc27d: bandwidth in a node")
    links = tuple(
        replace(link, busbw_bytes_per_s=min(link.busbw_bytes_per_s, LINKS[chip]), segments=(), evidence=inside) for link in _links(chip)
    )
    network = find_fabric(FABRICS[chip])
    if FABRICS[chip] == "eth10x1":
        network = replace(network, bus_share=JUMBO_SHARE, evidence=Evidence("derived", "TCP at 9,001 bytes a frame"))
    return make_group(count, replace(find_profile(chip), links=links), network, 4)


def _links(chip: str) -> tuple[Link, ...]:
    """The all-reduces that the chip's profile knows, up to a node of four."""
    return tuple(link for link in find_profile(chip).links if link.pattern == "all_reduce" and link.group_size <= 4)


def amp_setup(split: str, cluster: Cluster) -> Setup:
    """A plan in AMP's words on nodes of four chips: ranks in the order of the groups, stages slowest (DeepSpeed's
    PipeModelDataParallelTopology). Raises Unusable for words that are none of theirs."""
    found = re.search(r"tp=(\d+) dp=(\d+) pp=(\d+) microbatch (\d+) global batch (\d+); layer partition over 30 units \[([\d, ]+)\]", split)
    if found is None:
        raise Unusable(f"the split {split!r} cannot be read")
    tp, dp, pp, microbatch, batch = (int(number) for number in found.groups()[:5])
    cuts = [int(number) for number in found[6].split(",")]
    model = replace(load_model("gpt2-medium"), vocab=52256)
    held = [_between(first, last, FRONT, FRONT + model.layers) for first, last in itertools.pairwise(cuts)]
    ends = list(itertools.accumulate(group.count for group in cluster.groups))
    alike: dict[tuple[int, ...], int] = {}
    for replica in range(dp):
        kinds = tuple(bisect.bisect(ends, (stage * dp + replica) * tp) for stage in range(pp))
        alike[kinds] = alike.get(kinds, 0) + 1
    pipelines = alike_pipelines(alike, held, tp, TWICE, microbatch, batch // (dp * microbatch))
    chips = [group.profile.chip_id for group in cluster.groups]
    hosts = {chip: HOST_S[chip, tp] / LAUNCHES for chip in chips}
    settings = replace(SETTINGS, global_batch=batch)
    plan = MixedPlan(pipelines, settings, tied_bytes=2.0, mask_bytes=MASK_BYTES)
    return Setup(model, cluster, dict.fromkeys(chips, "fp16"), hosts, plan)


def _between(first: int, last: int, low: int, high: int) -> int:
    """Numbers of [first, last) that lie in [low, high)."""
    return max(0, min(last, high) - max(first, low))


def mix_setup(split: str) -> Setup:
    """A plan on AMP's mix: three p3.8xlarge, then one g4dn.12xlarge."""
    return amp_setup(split, Cluster((amp_group("v100-sxm2-16gb", 12), amp_group("t4-pcie-16gb", 4))))
