"""What the chip computes: matrix products, attention, passes over memory, what is recomputed, and the clocks behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..layer import LOGIT_BYTES, core_times, pass_times, product_times
from ..operations import Core, Pass, Product, layer_operations
from ..plan import Plan
from ..text import seconds
from .case import Case, head_work
from .term import FLOPS_PER_MULTIPLY, Term, one, size_words, whole

TP_SOURCE = "cut over TP as in Shoeybi et al. 2019 (arXiv 1909.08053)"
ATTENTION_SOURCE = "Dao et al. 2022 (arXiv 2205.14135)"
UNFUSED_SOURCE = "scores through memory, as before FlashAttention"
RECOMPUTE_FORMULA = {
    "none": "",
    "selective": "the attention core again (unfused; a fused one recomputes in its own backward pass)",
    "operators": "passes over memory, half the products and an unfused core again",
    "full": "the whole forward pass again",
}


def compute_terms(case: Case) -> Iterator[Term]:
    """Terms of the kinds matmul, attention, memory_bound and recompute."""
    for block in case.model.blocks:
        operations = layer_operations(case.cut, block)
        share = block.count / case.model.layers
        many = case.microbatches * case.layers * share
        where = "" if len(case.model.blocks) == 1 else f" ({block.count} of {case.model.layers} layers)"
        yield from _products("matmul", operations.products, case, many, where)
        if operations.cores:
            yield from _cores(operations.cores, case, many, where)
        else:
            yield from _products("attention", operations.score_products, case, many, where)
            yield from _passes("attention", operations.scores, case, many, where)
        yield from _passes("memory_bound", operations.passes, case, many, where)
    yield from _ends(case)
    yield from _clocks(case)
    yield from _recompute(case)


def _rated(flops: float, *times_s: float) -> str:
    """TFLOP/s of one amount of work in several times."""
    return " / ".join(f"{flops / time_s / 1e12:.0f}" for time_s in times_s)


def _products(kind: str, products: Sequence[Product], case: Case, many: float, where: str) -> Iterator[Term]:
    """A line for each product of a layer: forward, gradient of its input, gradient of its weights."""
    times = product_times(products, case.machine, case.cut)
    model = case.machine.linear_products if kind == "matmul" else case.machine.products
    for product, *each in zip(products, *times, strict=True):
        passes_s = [one(time) for time in each]
        m, n, k, groups = (one(size) for size in (product.m, product.n, product.k, product.groups))
        size = f"{whole(m)} x {whole(n)} x {whole(k)}" + (f" x {whole(groups)} groups" if groups > 1 else "")
        yield Term(
            kind,
            f"{product.name}{where}",
            "m x n x k: 2 m n k FLOPs at the rate of the shape; forward / gradient of input / of weights",
            f"{size}: {_rated(FLOPS_PER_MULTIPLY * m * n * k * groups, *passes_s)} TFLOP/s, {seconds(sum(passes_s))} {case.often()}",
            many * sum(passes_s),
            f"{TP_SOURCE}; {model.evidence.level}: {model.evidence.source}",
        )


def _cores(cores: Sequence[Core], case: Case, many: float, where: str) -> Iterator[Term]:
    evidence = case.machine.attentions.evidence
    model, plan = case.model, case.plan
    for core in cores:
        forward_s, backward_s = (one(time) for time in core_times((core,), case.machine, case.cut))
        heads, kv_heads = one(core.heads), one(core.kv_heads)
        seen = f", window {core.window}" if core.window else ", causal" if model.causal else ""
        over = f", over {plan.cp} chips" if plan.cp > 1 else ""
        yield Term(
            "attention",
            f"{plan.attention} attention{where}",
            "one fused call forward, one backward at the rate of the shape",
            f"{plan.microbatch} x {model.seq_len} tokens, {whole(heads)} heads ({whole(kv_heads)} of keys) of {whole(core.head_dim)}"
            f"{seen}{over}: {seconds(forward_s)} + {seconds(backward_s)} {case.often()}",
            many * (forward_s + backward_s),
            f"{ATTENTION_SOURCE}; {evidence.level}: {evidence.source}",
        )


def _passes(kind: str, passes: Sequence[Pass], case: Case, many: float, where: str) -> Iterator[Term]:
    evidence = case.machine.memory.evidence
    for each in passes:
        forward_s, backward_s, kernels, kernels_back = (one(value) for value in pass_times((each,), case.machine))
        moved = one(each.forward_bytes) + one(each.backward_bytes)
        total_s = forward_s + backward_s
        rate = f" at {moved / total_s / 1e9:.0f} GB/s" if total_s else ""
        yield Term(
            kind,
            f"{each.name}{where}",
            "kernels x overhead + bytes / bandwidth of the operation",
            f"{size_words(moved)}{rate} in {kernels:.0f} + {kernels_back:.0f} kernels, {seconds(total_s)} {case.often()}",
            many * total_s,
            f"{UNFUSED_SOURCE + '; ' if kind == 'attention' else ''}{evidence.level}: {evidence.source}",
        )


def _ends(case: Case) -> Iterator[Term]:
    """Embedding and logits, where the slowest stage has them."""
    work = head_work(case.ends)
    model, memory = case.model, case.machine.memory.evidence
    columns = model.padded_vocab(case.plan.tp) / case.plan.tp
    tokens = one(case.cut.tokens) * model.predicted_share
    often = f"x {case.heads:g} x {case.microbatches}"
    if case.heads:
        flops = FLOPS_PER_MULTIPLY * tokens * columns * model.hidden
        formula = "2 tokens vocabulary / tp hidden FLOPs, three times"
        if model.mtp_depth:
            formula += "; with the projection of further tokens"
            share = model.mtp_depth / (1 + model.mtp_depth)
            flops += share * FLOPS_PER_MULTIPLY * one(case.cut.tokens) * 2 * model.hidden**2 / case.plan.tp
        source = case.machine.products.evidence
        yield Term(
            "matmul",
            "logits",
            formula,
            f"{whole(tokens)} x {whole(columns)} x {model.hidden}: {_rated(3 * flops, one(work.matmul_s))} TFLOP/s, "
            f"{seconds(one(work.matmul_s))} {often}",
            case.microbatches * case.heads * one(work.matmul_s),
            f"logits lie on the last stage, as in Megatron-LM; {source.level}: {source.source}",
        )
        yield Term(
            "memory_bound",
            "loss and last norm",
            f"{LOGIT_BYTES} bytes for each logit / bandwidth, and the norm's rows",
            f"{tokens * columns:.4g} logits, {seconds(one(work.memory_s))} {often}",
            case.microbatches * case.heads * one(work.memory_s),
            f"bytes as counted in layer.py; {memory.level}: {memory.source}",
        )
    if case.embeddings:
        time_s = one(case.ends.embedding_forward.memory_s) + one(case.ends.embedding_backward.memory_s)
        yield Term(
            "memory_bound",
            "embedding",
            "one row for each token, read and written each way / bandwidth",
            f"{whole(one(case.cut.rows))} rows of {model.hidden}, {seconds(time_s)} x {case.embeddings:g} x {case.microbatches}",
            case.microbatches * case.embeddings * time_s,
            f"{memory.level}: {memory.source}",
        )


def _clocks(case: Case) -> Iterator[Term]:
    """What a long run's power leaves of the rates above: a remark, for every rate has it in it."""
    share, power = case.machine.sustained, case.group.profile.power_w
    if share < 1 and power is not None:
        constant = case.machine.full_clock
        yield Term(
            "matmul",
            "clocks of a long run",
            f"(power / ({constant.value:g} W for each TFLOP/s of a large product))^(1/3)",
            f"{power.value:.0f} W: {share:.3f} of the rate of short runs, in all rates of products; attention by its own rate",
            0.0,
            f"Mudge 2001 (IEEE Computer 34(4)); {constant.evidence.level}: {constant.evidence.source}",
        )


def _recompute(case: Case) -> Iterator[Term]:
    plan: Plan = case.plan
    again_s: Any = one(case.sides[1].recompute_s)
    if plan.recompute != "none":
        share = f" in {plan.recompute_share:.0%} of the layers" if plan.recompute_share < 1 else ""
        yield Term(
            "recompute",
            f"{plan.recompute} recomputation",
            RECOMPUTE_FORMULA[plan.recompute] + share,
            f"{seconds(again_s)} {case.often()}",
            case.microbatches * case.layers * again_s,
            "Korthikanti et al. 2022 (arXiv 2205.05198)" if plan.recompute != "operators" else "torchtitan's choice of operators",
        )
