"""How fast the scaling model answers: many plans, one prediction, an exchange, the command from its start.

`pytest tests/benchmarks/test_scaling_benchmarks.py --benchmark-only` prints the times; the saved JSON also holds plans per second.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from chipassay.results.prices import given_price
from chipassay.scaling.cluster import parse_cluster
from chipassay.scaling.exchange import exchange_rate
from chipassay.scaling.grid import grid
from chipassay.scaling.memory import memory_by_kind
from chipassay.scaling.models import load_model
from chipassay.scaling.plan import Plan
from chipassay.scaling.planner.objective import OBJECTIVES
from chipassay.scaling.planner.planner import plan_best
from chipassay.scaling.predict import predict_ready
from chipassay.scaling.ready import ready
from chipassay.scaling.search import price, search

PLANS = {
    "fully sharded": ("llama3-8b", "64xh100-sxm-80gb", Plan(global_batch=512, dp=64, zero_stage=3)),
    "4 stages": ("llama3-70b", "64xh100-sxm-80gb", Plan(global_batch=128, tp=8, pp=4, dp=2, zero_stage=1, sequence_parallel=True)),
    # Narayanan et al. 2021 (arXiv 2104.04473)
    "16 stages, interleaved": (
        "gpt3-175b",
        "1024xa100-sxm-80gb",
        Plan(global_batch=1536, tp=8, pp=16, dp=8, interleave=3, recompute="full", attention="unfused"),
    ),
}


@pytest.fixture(scope="module")
def gpt3():
    model, group = load_model("gpt3-175b"), parse_cluster("1024xa100-sxm-80gb").groups[0]
    return model, ready(group), group


def say_rate(benchmark, plans):
    benchmark.extra_info.update(plans=plans, cores=os.cpu_count())
    if benchmark.stats is not None:
        benchmark.extra_info["plans_per_s"] = round(plans / benchmark.stats.stats.median)


@pytest.mark.parametrize("memory", ["those that fit timed", "all timed"])
def test_every_plan_of_gpt3_on_1024_chips(benchmark, gpt3, memory):
    model, machine, group = gpt3
    if memory == "all timed":
        machine = replace(machine, memory_bytes=1e15)
    plans = grid(model, group.count, group.chips_per_node, 1536, full=True)
    benchmark.group = "gpt3-175b on 1024 a100-sxm-80gb, memory and time"
    priced = benchmark(price, model, plans, machine, group)
    say_rate(benchmark, len(plans))
    assert priced.fitting == len(plans) if memory == "all timed" else 0 < priced.fitting < len(plans)


def test_memory_alone(benchmark, gpt3):
    model, machine, group = gpt3
    plans = grid(model, group.count, group.chips_per_node, 1536, full=True).take(slice(0, 100_000))
    needed = benchmark(memory_by_kind, model, plans, machine)
    say_rate(benchmark, len(plans))
    assert np.all(np.isfinite(sum(needed.values())))


def test_the_grid_alone(benchmark, gpt3):
    model, _, group = gpt3
    plans = benchmark(grid, model, group.count, group.chips_per_node, 1536, full=True)
    say_rate(benchmark, len(plans))
    assert len(plans) > 100_000


def test_a_search(benchmark, gpt3):
    model, machine, group = gpt3
    ranked = benchmark(search, model, group, machine, 1536)
    say_rate(benchmark, ranked.plans_seen)
    assert ranked.best.fits


PLANNED = {
    "gpt3-175b on 1024": ("gpt3-175b", "1024xh100-sxm-80gb", 1536),
    "gpt3-175b on 16384": ("gpt3-175b", "16384xh100-sxm-80gb", 1536),
    "llama3-405b on 16384": ("llama3-405b", "16384xh100-sxm-80gb", 2048),
    "deepseek-v3 on 2048": ("deepseek-v3", "2048xh800-sxm-80gb", 2048),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", PLANNED)
def test_the_best_plan_on_up_to_so_many_chips(benchmark, name, objective):
    model, cluster, batch = PLANNED[name]
    asked = {"objective": objective, "price": given_price("any", 2.5), "tokens_per_s": 1e5 if objective == "chips" else None}
    arguments = (load_model(model), parse_cluster(cluster).groups[0], batch)
    benchmark.group = "the planner, best of all numbers of chips"
    answer = benchmark.pedantic(plan_best, arguments, asked, rounds=3, iterations=1)
    say_rate(benchmark, answer.plans_seen)
    assert answer.best.prediction.fits


@pytest.mark.parametrize("name", PLANS)
def test_one_prediction(benchmark, name):
    model, cluster, plan = PLANS[name]
    benchmark.group = "one prediction"
    group = parse_cluster(cluster).groups[0]
    prediction = benchmark(predict_ready, load_model(model), plan, ready(group), group)
    assert prediction.step_time_s > 0


def test_an_exchange(benchmark):
    exchange = benchmark(exchange_rate, "gpt3-175b", "h100-sxm-80gb", 100, "a800-sxm-80gb")
    assert exchange.worth.ratio > 1


@pytest.mark.parametrize(
    "arguments",
    [
        "predict --model gpt3-175b --cluster 1024xa100-sxm-80gb --plan tp=8,pp=16,dp=8 --batch 1536",
        "predict --model gpt3-175b --cluster 1024xa100-sxm-80gb --batch 1536",
        "equate 100xh100-sxm-80gb --in a800-sxm-80gb --model llama3-8b",
        "equate 100xh100-sxm-80gb --model gpt3-175b --in h800-sxm-80gb,a800-sxm-80gb,a100-sxm-80gb,a100-sxm-40gb,v100-sxm2-32gb,"
        "h200-sxm-141gb,b200-sxm-180gb,mi300x-192gb",
    ],
    ids=["predict a plan", "predict the best", "equate", "equate eight kinds"],
)
def test_the_command_from_its_start(benchmark, arguments):
    benchmark.group = "command, with the start of Python"
    command = [sys.executable, "-m", "chipassay.runners.cli", *arguments.split()]
    done = benchmark.pedantic(subprocess.run, (command,), {"capture_output": True, "check": True}, rounds=3)
    assert done.stdout
