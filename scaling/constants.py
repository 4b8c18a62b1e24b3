"""The numbers of the model that no profile holds, each with its meaning, and the published runs on which it was calibrated, if any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chipassay.results.evidence import Evidence

from .text import seconds


@dataclass(frozen=True)
class Constant:
    """One number of the model."""

    name: str
    value: float
    meaning: str
    evidence: Evidence
    fitted_on: tuple[str, ...] = ()
    """Sources of published runs (as the ``source`` column begins) on which it was calibrated; empty: on none."""
    prior: float | None = None
    """What was taken before any run was looked at: where a fit begins that leaves a source out."""
    is_time: bool = False
    """In seconds; else a bare number."""

    @property
    def told(self) -> str:
        """The value as it is shown."""
        return seconds(self.value) if self.is_time else f"{self.value:.3g}"


@dataclass(frozen=True)
class AttentionKernel:
    """A generation of attention kernels: its rate as a share of the profile's, which is the best library's."""

    share: float
    later_share: float
    """The same on NVIDIA's chips after Ampere and Ada, whose new instructions it does not use."""
    evidence: Evidence


ATTENTION_KERNELS: Mapping[str, AttentionKernel] = {
    "flash": AttentionKernel(1.0, 1.0, Evidence("derived", "the kernels of the profile")),
    "flash2": AttentionKernel(
        1.0,
        0.62,
        Evidence("published", "FlashAttention-2 on H100, causal, heads of 128: 294 TFLOP/s (its repository) where the profile's take 476"),
    ),
    "flash1": AttentionKernel(
        0.59,
        0.31,
        Evidence(
            "derived",
            "half of FlashAttention-2 (Dao 2023, arXiv 2307.08691, abstract: about twice as fast), whose 182 TFLOP/s on A100 are 1.17 of "
            "the profile's and whose 294 on H100 are 0.62",
        ),
    ),
}
"""The profile's attention is the best library's; older software had older kernels."""

HOST_S_PER_KERNEL = Constant(
    "host time per kernel",
    50e-6,
    "seconds of Python and driver per kernel of an eager framework, while the chip runs ahead or waits",
    Evidence("derived", "3.4 ms for a layer of eager Megatron-DeepSpeed, forward, recomputed and backward"),
    ("vTrain (MICRO 2024, arXiv 2312.12391) measured validation data, single node",),
    prior=16e-6,
    is_time=True,
)
HOST_KERNELS_PER_PASS = Constant(
    "host work around a pass",
    33.0,
    "what the host does for each pass of a microbatch beside its layers (data, loss, schedule), in kernels",
    Evidence("derived", "1.6 ms a pass in eager Megatron-DeepSpeed on one A100 node"),
    ("vTrain (MICRO 2024, arXiv 2312.12391) measured validation data, single node",),
    prior=10.0,
)
HOST_SHARPNESS = Constant(
    "host beside chip",
    2.4,
    "exponent of the norm that joins the time of the host and that of the chip within a pass",
    Evidence("derived", "small models on one A100 node: between the sum of both (1) and the larger of them"),
    ("vTrain (MICRO 2024, arXiv 2312.12391) measured validation data, single node",),
    prior=16.0,
)
DP_HIDDEN_SHARE = Constant(
    "hidden share of data-parallel traffic",
    0.9,
    "share of gradient reduction and weight gathering that can run beside the passes: all but the first and last buckets",
    Evidence("assumed", "buckets of 25 MB and more in a few hundred MB"),
)
TP_HIDDEN_SHARE = Constant(
    "hidden share of overlapped TP traffic",
    0.7,
    "share of TP traffic that runs beside the products where they are cut in pieces",
    Evidence("assumed", "four pieces, of which the last stays exposed"),
)
OVERLAP_COST = Constant(
    "cost of overlap",
    0.13,
    "seconds that compute loses per second of communication beside it: multiprocessors and bandwidth that the collective takes",
    Evidence("published", "Galvatron, overlap_coefficient.json: compute and communication side by side take 1.126 times as long"),
)
STRAGGLER_SIGMA = Constant(
    "spread between chips",
    0.012,
    "standard deviation of the log speed of chips of one kind; every step waits for the slowest of them",
    Evidence(
        "derived",
        "published runs of 8 to 3,072 A100 (0.012 to 0.020 fit alike); Sinha et al. 2022 (arXiv 2208.11035) measured chips 8 % apart",
    ),
    ("Megatron-LM SC21", "Korthikanti et al. 2022", "vTrain (MICRO 2024, arXiv 2312.12391) measured validation data, multi-node"),
    prior=0.02,
)

FULL_CLOCK_W_PER_TFLOPS = Constant(
    "power of full clocks",
    1.75,
    "watts that tensor cores would take for each TFLOP/s of 16-bit products at the clocks of short runs",
    Evidence("derived", "share of short-run rates in published runs on A100 (0.95), H100 (0.80) and B200 (0.72)"),
    ("MosaicML llm-foundry MPT training benchmarks: H100 80GB BF16", "SimuMax v1.2 B200 formal summary", "Megatron-LM SC21"),
    prior=1.0,
)

HOST_ADAM_S_PER_WEIGHT = Constant(
    "Adam on the host",
    0.22e-9,
    "seconds that the processors of one node take to update one weight with Adam",
    Evidence("assumed", "about 0.22 s for a billion weights, as DeepSpeed's CPUAdam is said to take: 30 bytes a weight at 136 GB/s"),
)

CALIBRATED: tuple[Constant, ...] = (
    HOST_S_PER_KERNEL,
    HOST_KERNELS_PER_PASS,
    HOST_SHARPNESS,
    DP_HIDDEN_SHARE,
    TP_HIDDEN_SHARE,
    OVERLAP_COST,
    STRAGGLER_SIGMA,
    FULL_CLOCK_W_PER_TFLOPS,
)
