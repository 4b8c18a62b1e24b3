"""What a source measured, as seconds of one step: throughputs, FLOP rates and durations turned round by the source's own counting."""

from __future__ import annotations

import re

from chipassay.scaling.machine import Machine
from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import Plan

from .rows import Run
from .tables import Unusable

PARAMETERS_ALONE = r"no attention/vocab terms|\d\*P\*tokens|old ~3% low|\bby 6N\b"
"""Notes of sources that count FLOPs by parameters alone, attention left out."""
BOUNDS_ALONE = "inequality test only|use as a bound|compare only ratios"
"""Notes of rows whose value is no measurement of one run."""


PADDING = {512: 2.001, 384: 1.742, 128: 1.210}
"""Sequence length -> positions over real tokens of BERT's Wikipedia text (Krell et al. 2021, arXiv 2107.02027, table 1: the speed-up that
packing could reach). Rows that leave padding out count sequences at their full length all the same."""


def positions_per_token(run: Run, model: Transformer) -> float:
    """Positions that a source counts for each one computed: above 1 where the padding was left out and yet counted."""
    if model.causal or "unpadding" not in run.notes:
        return 1.0
    return PADDING.get(model.seq_len, 1.0)


def flops_per_token(run: Run, model: Transformer, plan: Plan) -> float:
    """FLOPs of one trained token as the source counts them.

    Model FLOPs are three forward passes' worth. Hardware FLOPs add what is recomputed: the layers once more with full recomputation (not
    the logits: Narayanan et al. 2021, arXiv 2104.04473, appendix). With the selective one Korthikanti et al. 2022 (arXiv 2205.05198,
    appendix A) count the attention twice, s/3h in place of s/6h, which is more than the one core that is repeated. Attention counts in
    full unless the notes say causal.
    """
    hardware = run.measured_metric == "tflops_per_gpu_hw"
    full = hardware and plan.recompute == "full"
    if re.search(PARAMETERS_ALONE, run.notes) and run.params_b:
        return (8.0 if full or "8*P" in run.notes or "old ~3% low" in run.notes else 6.0) * run.params_b * 1e9
    causal = re.search(r"(?<!non-)causal (attention )?counting", run.notes) is not None
    forward = model.forward_flops_per_token(causal=causal)
    flops = 3.0 * forward
    if full:
        flops += forward - 2.0 * model.hidden * model.vocab
    elif hardware and plan.recompute == "selective" and plan.attention == "unfused":
        flops += 3.0 * 4.0 * model.seq_len * model.q_width * model.layers * (0.5 if causal else 1.0)
    return flops


def measured_step_s(run: Run, model: Transformer, plan: Plan, machine: Machine, batch_scale: float = 1.0) -> float:
    """Seconds that a step of the plan took, by the row. ``batch_scale``: sequences of the plan's step over those of the row's.

    Raises Unusable where the value cannot be turned into a step time.
    """
    if re.search(BOUNDS_ALONE, run.notes) and run.measured_metric != "gpu_hours":
        raise Unusable("the source gives a bound or a ratio, no measurement of one run")
    value, metric = run.measured_value, run.measured_metric
    if metric == "step_time_s" and not run.global_batch_seqs:
        raise Unusable("a step time without its batch (global_batch_seqs)")
    tokens = float(plan.global_batch) * model.seq_len
    if metric == "step_time_s":
        return value * batch_scale
    if metric == "tokens_per_s_per_gpu":
        return tokens / (value / positions_per_token(run, model) * plan.chips)
    if metric in ("tflops_per_gpu_hw", "tflops_per_gpu_model"):
        return flops_per_token(run, model, plan) * tokens / (value * 1e12 * plan.chips)
    if metric == "mfu":
        if machine.peak_flops_per_s is None:
            raise Unusable(f"the peak of {machine.chip_id} in {machine.dtype} is unknown, so an MFU tells no time")
        share = value / 100.0 if value > 1.0 else value
        return flops_per_token(run, model, plan) * tokens / (share * machine.peak_flops_per_s * plan.chips)
    if metric in ("days", "gpu_hours"):
        if not run.tokens_b:
            raise Unusable(f"{metric} without the number of tokens (tokens_b)")
        chip_s = value * 86400.0 * plan.chips if metric == "days" else value * 3600.0
        return chip_s * tokens / (run.tokens_b * 1e9) / plan.chips
    raise Unusable(f"{metric}: not a transformer's training step")
