"""How fast plans over several kinds of chips are found, and one of them is predicted.

`pytest tests/benchmarks/test_mixed_benchmarks.py --benchmark-only` prints the times.
"""

from __future__ import annotations

import pytest

from chipassay.scaling.cluster import parse_cluster
from chipassay.scaling.mixed.evaluate import cost, predict_mixed
from chipassay.scaling.mixed.kinds import kinds_of
from chipassay.scaling.mixed.records import MixedPipeline, MixedPlan, MixedStage
from chipassay.scaling.mixed.search import plan_mixed
from chipassay.scaling.mixed.tables import Tables
from chipassay.scaling.models import load_model
from chipassay.scaling.plan import Plan

SEARCHES = {
    "16 A100 and 16 V100": ("gpt3-2.7b", "16xa100-sxm-80gb+16xv100-sxm2-32gb", 256),
    "64 H100 and 64 A100": ("llama3-8b", "64xh100-sxm-80gb+64xa100-sxm-80gb", 512),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_over_two_kinds(benchmark, name):
    benchmark.group = "search over kinds of chips"
    answer = benchmark.pedantic(plan_mixed, SEARCHES[name], rounds=2)
    benchmark.extra_info.update(tried=answer.tried, solved=answer.solved)
    assert answer.best.step_time_s <= min(option.step_time_s for option in answer.without)


LARGE = {
    "round numbers": ("llama1-13b", "2048xa100-sxm-80gb+1024xv100-sxm2-32gb+1024xh100-sxm-80gb"),
    "odd numbers": ("llama1-65b", "1365xa100-sxm-80gb+1365xv100-sxm2-32gb+1366xh100-sxm-80gb"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_search_over_three_kinds_and_4096_chips(benchmark, request, name):
    if not request.config.getoption("benchmark_only"):
        pytest.skip("takes some ten seconds: asked for by --benchmark-only")
    benchmark.group = "search over kinds of chips"
    answer = benchmark.pedantic(plan_mixed, LARGE[name], rounds=1)
    benchmark.extra_info.update(tried=answer.tried, solved=answer.solved)
    assert answer.best.step_time_s > 0


@pytest.mark.parametrize("how", ["common cost", "played through"])
def test_one_mixed_plan(benchmark, how):
    benchmark.group = "one mixed plan"
    kinds, _ = kinds_of(parse_cluster("16xa100-sxm-80gb+16xv100-sxm2-32gb"))
    tables = Tables(load_model("gpt3-2.7b"), kinds, Plan(global_batch=256, zero_stage=1, sequence_parallel=True))
    stages = (MixedStage(0, 1, 12), MixedStage(0, 1, 12), MixedStage(1, 1, 8))
    plan = MixedPlan((MixedPipeline(stages, 1, 32, 8),), tables.settings)
    done = benchmark(cost if how == "common cost" else predict_mixed, tables, plan)
    assert done.fits
