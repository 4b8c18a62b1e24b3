"""Terms of a prediction: they sum to it, by kind, and say what was put in."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from chipassay.results.errors import InputError
from chipassay.scaling.cluster import Group, parse_cluster
from chipassay.scaling.errors import IllegalPlan
from chipassay.scaling.explain import Term, explain
from chipassay.scaling.explain.text import WIDTH, describe_terms
from chipassay.scaling.legal import check_plan
from chipassay.scaling.machine import prepare
from chipassay.scaling.models import Transformer, load_model
from chipassay.scaling.plan import ATTENTIONS, CONTEXT_PARALLELS, HOSTS, OFFLOADS, OPTIMIZERS, RECOMPUTES, SCHEDULES, Plan
from chipassay.scaling.plan_text import parse_plan
from chipassay.scaling.predict import predict_ready
from chipassay.scaling.ready import ready
from chipassay.scaling.text import seconds
from tests.scaling.toys import toy_link, toy_profile

CASES = (
    ("llama3-8b", "1xh100-sxm-80gb", "recompute=full,host=graph", 4),
    ("llama3-8b", "64xh100-sxm-80gb", "dp=64,zero=3,shard=8,recompute=operators", 256),
    ("llama3-8b", "64xh100-sxm-80gb", "dp=64,zero=2,overlap_dp=no", 256),
    ("llama3-70b", "64xh100-sxm-80gb", "tp=8,pp=2,dp=4,zero=1,sp=yes,recompute=selective", 256),
    ("llama3-70b", "64xh100-sxm-80gb", "tp=8,cp=8,sp=yes,recompute=full,overlap_tp=yes", 64),
    ("llama3-70b", "64xh100-sxm-80gb", "tp=8,cp=4,pp=2,context_parallel=all-gather", 64),
    ("gpt3-175b", "512xa100-sxm-80gb", "tp=8,pp=8,dp=8,vpp=2,attention=unfused,recompute=selective,recompute_share=0.5", 512),
    ("mixtral-8x7b", "64xh100-sxm-80gb", "tp=2,pp=2,dp=16,ep=8,zero=1,sp=yes,recompute=full", 256),
    ("deepseek-v3", "1024xh800-sxm-80gb", "pp=16,dp=64,ep=64,zero=1,schedule=dualpipe,dtype=fp8", 4096),
    ("gpt2", "8xa100-sxm-40gb", "pp=4,dp=2,offload=optimizer,fused=no,schedule=gpipe", 64),
    ("gpt2", "8xa100-sxm-40gb", "pp=4,dp=2,schedule=zero-bubble,overlap_pp=no", 64),
)


def explained(model: str, cluster: str, plan_text: str, batch: int) -> tuple[tuple[Term, ...], dict[str, float]]:
    group, plan = parse_cluster(cluster).groups[0], parse_plan(plan_text, batch)
    case = load_model(model), plan, ready(group, plan.dtype), group
    return explain(*case), dict(predict_ready(*case).breakdown_s)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[2]}")
def test_the_terms_of_every_kind_sum_to_the_breakdown(case) -> None:
    terms, breakdown_s = explained(*case)
    step_s = sum(breakdown_s.values())
    for kind, value_s in breakdown_s.items():
        assert sum(term.seconds for term in terms if term.kind == kind) == pytest.approx(value_s, abs=1e-9 * step_s), kind
    assert {term.kind for term in terms} <= set(breakdown_s)


@st.composite
def plans(draw) -> tuple[Transformer, Plan]:
    """Plans on 32 chips, legal or not, with every field that a term depends on."""
    model = load_model(draw(st.sampled_from(["gpt2", "llama3-8b", "mixtral-8x7b", "bert-large"])))
    tp, pp, cp = (draw(st.sampled_from(degrees)) for degrees in ((1, 2, 4, 16), (1, 2, 4), (1, 2)))
    dp = max(1, 32 // (tp * pp * cp))
    flags = {
        name: draw(st.booleans()) for name in ("sequence_parallel", "fused", "overlap_dp", "overlap_tp", "overlap_pp", "scatter_gather")
    }
    choices = {
        "recompute": RECOMPUTES, "schedule": SCHEDULES, "attention": ATTENTIONS, "context_parallel": CONTEXT_PARALLELS, "host": HOSTS,
        "optimizer": OPTIMIZERS, "offload": OFFLOADS, "zero_stage": (0, 1, 2, 3), "microbatch": (1, 2), "recompute_share": (0.5, 1.0),
        "shard": (0, max(1, dp // 2)), "ep": (1, 4) if model.experts else (1,), "expert_tp": (0, 1) if model.experts else (0,),
        "interleave": (1, 2),
    }  # fmt: skip
    chosen = {name: draw(st.sampled_from(values)) for name, values in choices.items()}
    return model, Plan(global_batch=dp * 16, dp=dp, tp=tp, pp=pp, cp=cp, **flags, **chosen)


@settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(plans())
def test_the_terms_sum_to_the_breakdown_of_any_legal_plan(found: tuple[Transformer, Plan]) -> None:
    model, plan = found
    group = parse_cluster("32xh100-sxm-80gb").groups[0]
    try:
        check_plan(plan, model, 32)
    except InputError:
        assume(False)
    case = model, plan, ready(group), group
    terms, p = explain(*case), predict_ready(*case)
    for kind, value_s in p.breakdown_s.items():
        assert sum(term.seconds for term in terms if term.kind == kind) == pytest.approx(value_s, abs=1e-9 * p.step_time_s), kind


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[2]}")
def test_the_text_fits_its_columns_and_every_term_has_a_source(case) -> None:
    terms, _ = explained(*case)
    assert [line for line in describe_terms(terms).splitlines() if len(line) > WIDTH] == []
    assert [term.what for term in terms if not (term.formula and term.numbers and term.source)] == []


def toy_terms(plan: Plan, count: int) -> dict[str, Term]:
    """Terms by name on chips of 1e14 FLOP/s, 1e12 bytes/s and a link of 1e11 bytes/s, nothing else."""
    profile = toy_profile(rate=1e14, bandwidth=1e12, overhead_s=0.0, links=(toy_link(busbw=1e11, latency_s=0.0),), memory_bytes=1e15)
    group = Group(count, profile, 8, parse_cluster("8xh100-sxm-80gb").groups[0].fabric, ())
    return {term.what: term for term in explain(load_model("llama3-8b"), plan, prepare(profile), group)}


def test_a_product_shows_its_shape_and_the_rate_it_reaches() -> None:
    found = toy_terms(Plan(global_batch=8, tp=4, host="graph"), 4)["mlp up"]
    # 8192 tokens; two matrices of 14336 columns over 4 chips; 4096 deep. 100 TFLOP/s less what reading its operands takes.
    assert found.numbers.startswith("8192 x 7168 x 4096: ")
    assert found.numbers.endswith("x 32 layers x 8")
    flops = 3 * 2 * 8192 * 7168 * 4096
    assert found.seconds >= 32 * 8 * flops / 1e14
    assert found.seconds == pytest.approx(32 * 8 * flops / 1e14, rel=0.1)


def test_a_collective_shows_its_bytes_its_place_and_how_often_it_runs() -> None:
    found = toy_terms(Plan(global_batch=8, tp=8, host="graph"), 8)["TP all_reduce"]
    # 8192 tokens x 4096 x 2 bytes, 7/4 of it over 1e11 bytes/s; twice forward and twice backward in each of 32 layers, 8 times.
    assert found.numbers == "all_reduce of 67.11 MB, group of 8 in a node: 1.17 ms each, bus 100 GB/s, x 1024"
    assert found.seconds == pytest.approx(1024 * 67108864 * 1.75 / 1e11, rel=1e-6)


def test_what_overlap_hides_is_a_term_of_its_own_less_what_it_costs() -> None:
    found = toy_terms(Plan(global_batch=64, dp=8, host="graph"), 8)
    # All of the gradients' reduction but a tenth hides behind the long backward pass, and costs 0.13 of what it hides.
    assert found["hidden beside passes"].seconds == pytest.approx(-0.9 * 0.87 * found["gradients"].seconds)
    assert f"{seconds(0.9 * found['gradients'].seconds)} run beside the passes" in found["hidden beside passes"].numbers
    assert "hidden beside passes" not in toy_terms(Plan(global_batch=64, dp=8, host="graph", overlap_dp=False), 8)


def test_the_bubble_shows_the_simulation_and_the_closed_form() -> None:
    found = toy_terms(Plan(global_batch=16, pp=4, host="graph"), 4)["bubble of 1f1b"]
    assert "p 4, v 1, m 16" in found.numbers
    assert "closed form" in found.numbers
    assert "Narayanan" in found.source


def test_graphs_leave_no_term_for_the_host() -> None:
    kinds = {term.kind for term in toy_terms(Plan(global_batch=8, host="graph"), 1).values()}
    assert "host" not in kinds
    assert "host" in {term.kind for term in toy_terms(Plan(global_batch=8), 1).values()}


def test_a_plan_that_cannot_run_is_refused_as_the_prediction_refuses_it() -> None:
    with pytest.raises(IllegalPlan, match="tp 3"):
        toy_terms(Plan(global_batch=8, tp=3), 3)
