"""The plan: how one training step is split over the chips. Legal or refused, never bent into shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import IllegalPlan, NotModelled
from .models import Transformer

Recompute = Literal["none", "selective", "full"]
Attention = Literal["flash", "unfused"]
RECOMPUTES: tuple[Recompute, ...] = ("none", "selective", "full")
ATTENTIONS: tuple[Attention, ...] = ("flash", "unfused")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Degrees of parallelism and what is kept in memory. Neighbouring ranks form a TP group, then come DP, then PP."""

    global_batch: int
    """Sequences of one optimizer step, over all replicas."""
    dp: int = 1
    tp: int = 1
    pp: int = 1
    microbatch: int = 1
    """Sequences that one replica passes through the pipeline at once."""
    zero_stage: int = 0
    """0: nothing sharded over DP; 1: optimizer state; 2: gradients too; 3: weights too (FSDP)."""
    recompute: Recompute = "none"
    """``selective``: the attention core is recomputed (Korthikanti et al. 2022); ``full``: every layer from its input."""
    sequence_parallel: bool = False
    """The norms and residuals are split over the TP group too."""
    interleave: int = 1
    """Pipeline stages (virtual) that one chip holds."""
    attention: Attention = "flash"
    """``unfused``: scores and probabilities pass through memory, as before 2022."""
    overlap_dp: bool = True
    """Gradient reduction runs beside the backward pass."""
    dtype: str | None = None
    """None: the best training dtype of the chip."""

    @property
    def chips(self) -> int:
        return self.dp * self.tp * self.pp

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
        text = f"tp{self.tp} pp{self.pp} dp{self.dp}, microbatch {self.microbatch} of {self.global_batch}"
        text += f", ZeRO-{self.zero_stage}, recompute {self.recompute}"
        if self.interleave > 1:
            text += f", interleave {self.interleave}"
        if self.sequence_parallel:
            text += ", sequence parallel"
        if self.attention != "flash":
            text += f", {self.attention} attention"
        return text


def check_plan(plan: Plan, model: Transformer, chips: int) -> None:
    """Raise IllegalPlan if the plan cannot run the model on that many chips."""
    for name in ("dp", "tp", "pp", "microbatch", "global_batch", "interleave"):
        if getattr(plan, name) < 1:
            raise IllegalPlan(f"{name} is {getattr(plan, name)}; give at least 1")
    if plan.chips != chips:
        raise IllegalPlan(f"tp {plan.tp} x pp {plan.pp} x dp {plan.dp} = {plan.chips} chips, but the cluster has {chips}; make them equal")
    if model.heads % plan.tp or model.ffn_hidden % plan.tp:
        raise IllegalPlan(f"tp {plan.tp} does not divide {model.heads} heads and {model.ffn_hidden} MLP columns; choose a divisor of both")
    if plan.pp > model.layers:
        raise IllegalPlan(f"pp {plan.pp} is more than the {model.layers} layers; choose fewer stages")
    if plan.global_batch % (plan.dp * plan.microbatch):
        raise IllegalPlan(
            f"a global batch of {plan.global_batch} does not divide into dp {plan.dp} x microbatch {plan.microbatch}; choose divisors"
        )
    if plan.interleave > 1:
        if plan.pp == 1:
            raise IllegalPlan(f"interleave {plan.interleave} needs a pipeline; give pp of at least 2, or interleave 1")
        if model.layers % (plan.pp * plan.interleave):
            raise IllegalPlan(
                f"{model.layers} layers do not divide into pp {plan.pp} x interleave {plan.interleave} parts; choose divisors"
            )
        if plan.microbatches % plan.pp:
            raise IllegalPlan(
                f"interleaving needs microbatches ({plan.microbatches}) that are a multiple of pp {plan.pp}; change the batch"
            )
    if plan.sequence_parallel and model.seq_len % plan.tp:
        raise IllegalPlan(f"sequence parallelism needs a length ({model.seq_len}) that tp {plan.tp} divides; change one of them")
    if plan.zero_stage not in (0, 1, 2, 3):
        raise IllegalPlan(f"zero_stage is {plan.zero_stage}; give 0, 1, 2 or 3")
    if plan.zero_stage >= 2 and plan.pp > 1:
        raise NotModelled(f"ZeRO-{plan.zero_stage} with a pipeline of {plan.pp} is not modelled; use ZeRO-1 with it, or pp 1")
    if plan.recompute not in RECOMPUTES:
        raise IllegalPlan(f"recompute is {plan.recompute!r}; give one of {', '.join(RECOMPUTES)}")
    if plan.attention not in ATTENTIONS:
        raise IllegalPlan(f"attention is {plan.attention!r}; give one of {', '.join(ATTENTIONS)}")
