"""The plans that a run's row allows: one where it says all, else every combination of what it leaves open, by stated choices."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace

from chipassay.scaling.models import Transformer
from chipassay.scaling.plan import Plan, Recompute

from .rows import Run
from .software import Software, software_of
from .tables import Unusable

TENSOR_SIZES = (1, 2, 4, 8)
PIPELINE_SIZES = (1, 2, 4, 6, 8, 12, 16, 24, 32, 64)
CONTEXT_SIZES = (1, 2, 4, 8)
LONG_SEQUENCE = 32768
"""Tokens from which on sequences are usually cut over chips."""
MICROBATCHES = (1, 2, 4, 8, 16, 32, 64)
INTERLEAVES = (1, 2, 3, 4, 6, 8, 12)
RECOMPUTE_CHOICES: tuple[Recompute, ...] = ("none", "selective", "operators", "full")
CHIP_COUNTS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
TRAINING_COUNTS = (256, 1024, 2048)
"""What is tried where a field is open. The best of what fits is taken: who publishes a run has tuned it."""
MOST_PLANS = 4000

BATCH_TOKENS = ((0.8, 0.5e6), (4.0, 1e6), (20.0, 2e6), (250.0, 3.2e6), (float("inf"), 4e6))
"""Billions of parameters up to which a batch of so many tokens is usual: GPT-3 (arXiv 2005.14165) table 2.1; beyond, Llama 2's."""

WORDS: tuple[tuple[str, Recompute], ...] = (
    (r"selective \(?op|per-op", "operators"),
    ("block|uniform|full|layer", "full"),
    ("none", "none"),
    ("custom backward", "operators"),
    ("selective", "selective"),
)


@dataclass(frozen=True)
class Choices:
    """Plans of one run, and what was chosen among."""

    plans: tuple[Plan, ...]
    open_fields: tuple[str, ...]
    batch_scale: float = 1.0
    """Sequences of the plans' step over those of the row's: not 1 where the row's do not divide."""


def zero_stage(run: Run, software: Software) -> int:
    """The stage that the row says, else the framework's. ``1 or 2`` is 1; a note of SHARD_GRAD_OP (FSDP without sharded weights) is 2."""
    if "SHARD_GRAD_OP" in run.notes:
        return 2
    said = re.match(r"\d", run.zero_stage)
    if said is None:
        return software.zero_stage
    stage = int(said[0])
    if stage > 3:
        raise Unusable(f"ZeRO stage {run.zero_stage} is not known")
    # Llama 3's "2-like" with a pipeline: sharded optimizer and gradients, reduced once a step as in stage 1.
    return 1 if stage == 2 and (run.pp or 1) > 1 else stage


def recomputes(run: Run, software: Software, model: Transformer) -> tuple[tuple[Recompute, float], ...]:
    """(what is recomputed, share of the layers), one or those to choose from.

    torchtitan's "selective layer" is every other layer whole, its plain "selective" one by operator (torchtitan docs/performance.md);
    elsewhere "selective" is Korthikanti's attention core.
    """
    said = f"{run.recompute} {run.notes}" if run.recompute.startswith("selective") else run.recompute
    if "selective layer" in said:
        return (("full", 0.5),)
    if run.recompute.startswith("selective") and re.search("torchtitan", run.framework):
        return (("operators", 1.0),)
    blocks = re.search(r"block (\d+) layers", run.recompute)
    if blocks and run.pp:
        return (("full", min(1.0, int(blocks[1]) * run.pp / model.layers)),)
    for pattern, how in WORDS:
        if re.search(pattern, run.recompute):
            return ((how, 1.0),)
    if not run.recompute and software.recompute is not None:
        return ((software.recompute, 1.0),)
    return tuple((how, 1.0) for how in RECOMPUTE_CHOICES)


def batch_of(run: Run, model: Transformer) -> int | None:
    """Sequences of one step; NVIDIA's BERT tables write one for each length. None where the row is empty."""
    if not run.global_batch_seqs:
        return None
    by_length = re.search(rf"(\d+)K \(seq{model.seq_len}\)", run.global_batch_seqs)
    if by_length:
        return int(by_length[1]) * 1024
    if not run.global_batch_seqs.isdigit() or int(run.global_batch_seqs) < 1:
        raise Unusable(f"a batch of {run.global_batch_seqs!r} is no number of sequences")
    return int(run.global_batch_seqs)


def usual_batch(model: Transformer) -> int:
    """Sequences of a usual batch for a model of that size."""
    tokens = next(tokens for most, tokens in BATCH_TOKENS if model.parameters / 1e9 <= most)
    return max(1, round(tokens / model.seq_len))


def _degrees(run: Run, software: Software, chips: int, model: Transformer) -> tuple[list[tuple[int, int, int, int]], list[str]]:
    """((tp, pp, cp, dp), ...) whose product is the chips, and the open fields."""
    searched = software.kind == "3d"
    tps: tuple[int, ...] = (run.tp,) if run.tp else (TENSOR_SIZES if searched else (1,))
    pps: tuple[int, ...] = (run.pp,) if run.pp else (PIPELINE_SIZES if searched else (1,))
    cps: tuple[int, ...] = (run.cp or 1,)
    opened = [name for name, value in (("tp", run.tp), ("pp", run.pp)) if value is None]
    if run.cp is None and run.dp is None and model.seq_len >= LONG_SEQUENCE:
        cps = CONTEXT_SIZES
        opened.append("cp")
    known = (run.tp or 1) * (run.pp or 1) * (run.cp or 1)
    if run.tp and run.pp and run.dp and known * run.dp != chips:
        if run.cp is not None or chips % (known * run.dp):
            raise Unusable(f"tp {run.tp} x pp {run.pp} x cp {run.cp or 1} x dp {run.dp} is not the {chips} chips of the row")
        cps = (chips // (known * run.dp),)  # what is left of the chips cuts the sequences
    found = [
        (tp, pp, cp, chips // (tp * pp * cp))
        for tp, pp, cp in itertools.product(tps, pps, cps)
        if chips % (tp * pp * cp) == 0 and pp <= model.layers and model.heads % tp == 0
    ]
    if run.dp is not None:
        found = [one for one in found if one[3] == run.dp] or found
    if not found:
        raise Unusable(f"no tp and pp divide {chips} chips and the model's {model.heads} heads")
    return found, opened


def chip_counts(run: Run) -> tuple[int, ...]:
    """The chips of the run; where it does not say, the product of its degrees, or those to choose from: a throughput per chip was measured
    on few, a whole training was done on many."""
    if run.num_chips:
        return (run.num_chips,)
    if run.dp and run.tp and run.pp:
        return (run.dp * run.tp * run.pp * (run.cp or 1),)
    return TRAINING_COUNTS if run.tokens_b else CHIP_COUNTS


def choices_of(run: Run, model: Transformer, chips: int, dtype: str | None) -> Choices:
    """The plans of the row on that many chips. Unusable where its fields contradict each other."""
    software = software_of(run)
    degrees, opened = _degrees(run, software, chips, model)
    hows = recomputes(run, software, model)
    if len(hows) > 1:
        opened.append("recompute")
    batch = batch_of(run, model)
    if batch is None:
        opened.append("global_batch_seqs")
    if run.microbatch is None and not software.by_stages:
        opened.append("microbatch")
    stage = zero_stage(run, software)
    plans = []
    scale = 1.0
    for (tp, pp, cp, dp), (how, share) in itertools.product(degrees, hows):
        for microbatch, rounds, interleaves in _cuts(run, software, model, batch, pp, dp):
            whole = rounds * microbatch * dp
            scale = whole / batch if batch is not None else 1.0
            if len(interleaves) > 1 and "vpp_interleave" not in opened:
                opened.append("vpp_interleave")
            one = Plan(
                global_batch=whole,
                dp=dp,
                tp=tp,
                pp=pp,
                cp=cp,
                ep=run.ep or _usual_ep(model, dp * cp),
                microbatch=microbatch,
                zero_stage=stage if not (stage >= 2 and pp > 1) else 1,
                recompute=how,
                recompute_share=share,
                sequence_parallel=tp > 1 and _sequence_parallel(run, software, tp, model),
                schedule=software.schedule if pp > 1 else "1f1b",
                attention=software.attention,
                fused=software.fused,
                host=software.host,
                context_parallel=software.context_parallel,
                offload=software.offload,
                gradient_bytes=software.gradient_bytes,
                overlap_dp=software.overlap_dp,
                overlap_tp=software.overlap_tp and tp > 1,
                overlap_pp=software.overlap_pp,
                dtype=dtype,
            )
            plans += [replace(one, interleave=interleave) for interleave in interleaves]
    if not plans:
        raise Unusable(f"no microbatch divides a batch of {batch} over the row's replicas")
    return Choices(tuple(plans[:MOST_PLANS]), tuple(opened), scale)


def _cuts(run: Run, software: Software, model: Transformer, batch: int | None, pp: int, dp: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """(microbatch, microbatches of a step, interleaves): those that divide the row's batch, else the nearest whole number of them."""
    replica = max(1, batch // dp if batch is not None else round(usual_batch(model) / dp))
    if software.by_stages and pp > 1 and not run.microbatch:
        interleave = run.vpp_interleave or (2 if "Interleaved" in run.notes else 1)
        size = max(1, replica // (pp * interleave))
        return [(size, max(1, replica // size), (interleave,))]
    sizes = (run.microbatch,) if run.microbatch else tuple(size for size in MICROBATCHES if size <= replica)
    cuts = [(size, max(1, replica // size)) for size in sizes]
    whole = [(size, rounds) for size, rounds in cuts if batch is not None and size * rounds * dp == batch]
    return [(size, rounds, _interleaves(run, software, model, pp, rounds)) for size, rounds in whole or cuts]


def _usual_ep(model: Transformer, replicas: int) -> int:
    """Experts over as many chips as divide both, a node of 8 at most."""
    count = 1 if model.experts is None else model.experts.count
    return max(ep for ep in (1, 2, 4, 8) if count % ep == 0 and replicas % ep == 0)


def _interleaves(run: Run, software: Software, model: Transformer, pp: int, rounds: int) -> tuple[int, ...]:
    if pp == 1:
        return (1,)
    if run.vpp_interleave:
        return (run.vpp_interleave,)
    if software.schedule != "1f1b" or "DeepSpeed" in run.framework or "1F1B" in run.notes.replace("Interleaved 1F1B", ""):
        return (1,)
    return tuple(v for v in INTERLEAVES if v == 1 or (model.layers % (pp * v) == 0 and rounds % pp == 0))


def _sequence_parallel(run: Run, software: Software, tp: int, model: Transformer) -> bool:
    if run.seq_parallel:
        return run.seq_parallel.lower().startswith("y")
    return (run.year or 2024) >= 2023 and software.kind == "3d" and model.seq_len % tp == 0
