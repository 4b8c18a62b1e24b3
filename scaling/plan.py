"""The plan: how one training step is split over the chips. Legal or refused, never bent into shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .models import Transformer

Recompute = Literal["none", "selective", "operators", "full"]
Attention = Literal["flash", "flash2", "flash1", "unfused"]
Schedule = Literal["gpipe", "1f1b", "interleaved", "zero-bubble", "dualpipe"]
ContextParallel = Literal["ring", "all-gather"]
Host = Literal["eager", "graph"]
Optimizer = Literal["adam", "adam-bf16", "adam-8bit", "sgd"]
Offload = Literal["none", "optimizer", "all"]
Loss = Literal["fused", "in-place", "torch"]
RECOMPUTES: tuple[Recompute, ...] = ("none", "selective", "operators", "full")
ATTENTIONS: tuple[Attention, ...] = ("flash", "flash2", "flash1", "unfused")
SCHEDULES: tuple[Schedule, ...] = ("gpipe", "1f1b", "interleaved", "zero-bubble", "dualpipe")
CONTEXT_PARALLELS: tuple[ContextParallel, ...] = ("ring", "all-gather")
HOSTS: tuple[Host, ...] = ("eager", "graph")
OPTIMIZERS: tuple[Optimizer, ...] = ("adam", "adam-bf16", "adam-8bit", "sgd")
LOSSES: tuple[Loss, ...] = ("fused", "in-place", "torch")
OFFLOADS: tuple[Offload, ...] = ("none", "optimizer", "all")
ORDER = "tp-cp-ep-dp-pp"
"""Megatron-LM's default: neighbouring ranks form a TP group, then come CP, EP (part of DP), DP and PP."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Degrees of parallelism, what is kept in memory, and what the software does."""

    global_batch: int
    """Sequences of one optimizer step, over all replicas."""
    dp: int = 1
    """Replicas of the data-parallel dimension; expert parallelism lies within it (and within CP)."""
    tp: int = 1
    pp: int = 1
    cp: int = 1
    """Context parallelism: chips over which each sequence is cut."""
    ep: int = 1
    """Expert parallelism: chips over which the experts of a layer are spread. It takes no chips of its own: it divides dp * cp."""
    expert_tp: int = 0
    """TP degree of the experts; 0: that of the layers (Megatron-LM's default)."""
    microbatch: int = 1
    """Sequences that one replica passes through the pipeline at once."""
    zero_stage: int = 0
    """0: nothing sharded over DP; 1: optimizer state; 2: gradients too; 3: weights too (FSDP)."""
    shard: int = 0
    """Chips over which ZeRO shards (hybrid sharding, HSDP), replicas beyond; 0: all of dp * cp."""
    recompute: Recompute = "none"
    """``selective``: the attention core (Korthikanti et al. 2022); ``operators``: everything but every second matrix product and the
    attention core (torchtitan's per-operator choice); ``full``: every layer from its input."""
    recompute_share: float = 1.0
    """Share of the layers that ``recompute`` is done for."""
    sequence_parallel: bool = False
    """The norms and residuals are split over the TP group too."""
    interleave: int = 1
    """Pipeline stages (virtual) that one chip holds."""
    schedule: Schedule = "1f1b"
    """``1f1b`` with an interleave above 1 is ``interleaved``."""
    attention: Attention = "flash"
    """``flash``: the profile's fused kernel, the best there is; ``flash2``: FlashAttention-2 (2023), which does not use what chips gained
    since the A100; ``flash1``: the first (2022); ``unfused``: scores and probabilities pass through memory, as before 2022."""
    fused: bool = True
    """Bias, activation, dropout and residual run as few kernels, as Megatron-LM's; False: one kernel each, as eager PyTorch."""
    host: Host = "eager"
    """``eager``: every kernel is launched from Python; ``graph``: captured graphs, whose launches cost nothing."""
    context_parallel: ContextParallel = "ring"
    loss: Loss = "in-place"
    """How the cross entropy keeps its logits: ``fused`` in their own width, ``in-place`` once more in fp32 (Megatron-LM), ``torch``: as
    PyTorch's own, several times in fp32."""
    optimizer: Optimizer = "adam"
    """``adam``: fp32 moments and weights; ``adam-bf16``: moments in bf16; ``adam-8bit``: in 8 bit; ``sgd``: one fp32 moment."""
    offload: Offload = "none"
    """What lives in the host's memory: the optimizer's state (and its step), or the weights and gradients too."""
    gradient_bytes: int = 0
    """Bytes of one reduced gradient; 0: 4 in bf16 and fp8 with ZeRO 0 and 1 (Megatron-LM), else those of the dtype."""
    overlap_dp: bool = True
    """Gradient reduction and weight gathering run beside the passes."""
    overlap_tp: bool = False
    """TP traffic is cut into pieces that run beside the products."""
    overlap_pp: bool = True
    """Pipeline sends run beside the passes."""
    scatter_gather: bool = True
    """Pipeline sends cross nodes split over the TP group, and are gathered there (Narayanan et al. 2021, section 4.1)."""
    order: str = ORDER
    """Dimensions from the fastest changing rank to the slowest."""
    dtype: str | None = None
    """fp32, tf32, fp16, bf16, or fp8 (products of the linear layers in fp8, the rest in bf16); None: the best of the chip."""

    @property
    def chips(self) -> int:
        return self.dp * self.tp * self.pp * self.cp

    @property
    def microbatches(self) -> int:
        """Microbatches per replica and step."""
        return self.global_batch // (self.dp * self.microbatch)

    def layers_per_stage(self, model: Transformer) -> int:
        """Layers of the fullest stage."""
        return -(-model.layers // self.pp)

    def describe(self) -> str:
        """The plan in one line.

        >>> Plan(global_batch=64, tp=8, dp=2, sequence_parallel=True, zero_stage=1).describe()
        'tp8 pp1 dp2, microbatch 1 of 64, ZeRO-1, recompute none, sequence parallel'
        """
        text = f"tp{self.tp} pp{self.pp} dp{self.dp}"
        text += "".join(f" {name}{getattr(self, name)}" for name in ("cp", "ep") if getattr(self, name) > 1)
        if self.expert_tp not in (0, self.tp):
            text += f" (experts tp{self.expert_tp})"
        text += f", microbatch {self.microbatch} of {self.global_batch}, ZeRO-{self.zero_stage}"
        if self.shard:
            text += f" over {self.shard} chips"
        text += f", recompute {self.recompute}"
        if self.recompute != "none" and self.recompute_share < 1:
            text += f" in {self.recompute_share:.0%} of the layers"
        if self.interleave > 1:
            text += f", interleave {self.interleave}"
        if self.sequence_parallel:
            text += ", sequence parallel"
        if self.schedule not in ("1f1b", "interleaved"):
            text += f", {self.schedule}"
        if self.attention != "flash":
            text += f", {self.attention} attention"
        if self.loss != "in-place":
            text += f", {self.loss} loss"
        if self.optimizer != "adam":
            text += f", {self.optimizer}"
        if self.offload != "none":
            text += f", offload {self.offload}"
        return text
