"""The step: terms that sum, move the way they must, and are refused where they cannot be known."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from chipassay.results.errors import InputError
from chipassay.results.fabrics import find_fabric
from chipassay.results.profile import Curve, Profile, Quantity
from chipassay.scaling.cluster import make_group, parse_cluster
from chipassay.scaling.communication import Placement, collective_s, data_placement, tensor_placement
from chipassay.scaling.errors import IllegalPlan, MissingCell, NotModelled
from chipassay.scaling.machine import prepare, training_dtype
from chipassay.scaling.memory import activation_bytes_per_token, in_flight, memory_by_kind
from chipassay.scaling.models import load_model
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import predict
from chipassay.scaling.text import describe_prediction


def _toys() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scaling_toys", Path(__file__).with_name("toys.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


toys = _toys()
PLANS = [
    Plan(global_batch=64, dp=64, zero_stage=3, recompute="full"),
    Plan(global_batch=64, tp=8, dp=8, zero_stage=1, sequence_parallel=True),
    Plan(global_batch=64, tp=4, pp=4, dp=4, interleave=2),
    Plan(global_batch=64, tp=8, pp=8, attention="unfused", recompute="selective", dtype="fp16"),
    Plan(global_batch=64, pp=5, tp=1, dp=1),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.describe())
def test_the_breakdown_sums_exactly_to_the_step(plan: Plan) -> None:
    p = predict("llama3-8b", f"{plan.chips}xh100-sxm-80gb", plan)
    assert math.fsum(p.breakdown_s.values()) == p.step_time_s
    assert math.fsum(p.memory_bytes.values()) == p.memory_total_bytes
    assert all(value >= 0 for value in p.breakdown_s.values())
    assert p.low_s < p.step_time_s < p.high_s
    assert p.tokens_per_s == pytest.approx(64 * 8192 / p.step_time_s)
    assert p.hfu >= p.mfu >= p.mfu_causal > 0


def test_one_chip_of_round_numbers_takes_what_can_be_worked_out_by_hand() -> None:
    model = load_model("gpt2")
    profile = toys.toy_profile(overhead_s=0.0, bandwidth=1e18)  # memory so fast that only the products count
    p = predict(model, make_group(1, profile), Plan(global_batch=8, microbatch=8))
    tokens = 8 * 1024
    products = 6 * tokens * (12 * model.layer_matmul_parameters + model.hidden * model.vocab)
    attention = 3.5 * 12 * 4 * 8 * 12 * 1024**2 * 64 / 2  # causal; backward 2.5 times forward
    assert p.breakdown_s["matmul"] == pytest.approx(products / 1e14, rel=1e-9)
    assert p.breakdown_s["attention"] == pytest.approx(attention / 0.5e14, rel=1e-9)
    assert p.breakdown_s["data_parallel"] == p.breakdown_s["tensor_parallel"] == p.breakdown_s["pipeline_bubble"] == 0


def test_full_recomputation_adds_one_forward_pass_of_the_layers() -> None:
    plan = Plan(global_batch=64, dp=8, zero_stage=3)
    kept, recomputed = (predict("llama2-7b", "8xh100-sxm-80gb", replace(plan, recompute=how)) for how in ("none", "full"))
    assert kept.breakdown_s["recompute"] == 0
    assert 0.25 < recomputed.breakdown_s["recompute"] / kept.step_time_s < 0.34
    assert recomputed.memory_bytes["activations"] < kept.memory_bytes["activations"]
    assert recomputed.hfu / recomputed.mfu == pytest.approx(4 / 3, rel=0.02)


def test_the_bubble_follows_the_1f1b_formula_and_interleaving_divides_it() -> None:
    """Narayanan et al. 2021, section 2.2: the bubble is (p - 1) / (v m) of the ideal time."""
    model = replace(load_model("gpt3-175b"), vocab=1)  # without logits all stages are alike
    shares = []
    for interleave in (1, 3):
        p = predict(model, "64xa100-sxm-80gb", Plan(global_batch=64, tp=8, pp=8, interleave=interleave))
        ideal = sum(p.breakdown_s[kind] for kind in ("matmul", "attention", "memory_bound", "tensor_parallel", "pipeline_send"))
        shares.append(p.breakdown_s["pipeline_bubble"] / ideal)
    assert shares[0] == pytest.approx(7 / 64, rel=0.02)
    assert shares[1] == pytest.approx(7 / 64 / 3, rel=0.02)


def test_activations_follow_korthikanti() -> None:
    """Korthikanti et al. 2022, table 2: sbh(10 + 24/t + 5as/ht), with sequence parallelism sbh(34/t + 5as/ht)."""
    m = load_model("gpt3-175b")
    scores = 5 * m.heads * m.seq_len / 8
    without = activation_bytes_per_token(m, 2, 8, False, False, False)
    spread = activation_bytes_per_token(m, 2, 8, True, False, False)
    selective = activation_bytes_per_token(m, 2, 8, True, False, True)
    # dropout is counted on the residual path (2h) and on the scores, and the 19h MLP term holds one of those masks
    assert without == pytest.approx(m.hidden * (10 + 24 / 8) + scores, rel=1e-9)
    assert spread == pytest.approx(m.hidden * 34 / 8 + scores, rel=1e-9)
    assert selective == pytest.approx(m.hidden * 34 / 8, rel=1e-9)


def test_the_first_stage_holds_as_many_microbatches_as_there_are_stages() -> None:
    assert in_flight(Plan(global_batch=64, pp=8)) == 8
    assert in_flight(Plan(global_batch=4, pp=8)) == 4
    assert in_flight(Plan(global_batch=64, pp=8, interleave=3)) == pytest.approx(8 * (1 + 7 / 24))


def test_each_zero_stage_shards_one_thing_more() -> None:
    machine = prepare(toys.toy_profile())
    model = load_model("llama2-7b")
    held = [memory_by_kind(model, Plan(global_batch=64, dp=64, zero_stage=stage), machine) for stage in range(4)]
    assert held[0]["optimizer"] == pytest.approx(12 * model.parameters, rel=1e-9)
    assert held[1]["optimizer"] == pytest.approx(held[0]["optimizer"] / 64)
    assert held[2]["gradients"] < held[1]["gradients"] / 60
    assert held[3]["weights"] == pytest.approx(held[2]["weights"] / 64)


def test_a_ring_over_nodes_runs_at_the_slower_of_link_and_nics() -> None:
    machine = prepare(toys.toy_profile(links=(toys.toy_link(8, 400e9, 0.0),)))
    fabric = replace(find_fabric("hdr200x8"), latency_s=0.0)
    inside = collective_s("all_reduce", 1e9, Placement(8, 8, 1), machine, fabric)
    across = collective_s("all_reduce", 1e9, Placement(16, 8, 1), machine, fabric)
    shared = collective_s("all_reduce", 1e9, Placement(16, 1, 8), machine, fabric)
    assert inside == pytest.approx(1e9 * 2 * 7 / 8 / 400e9)
    assert across == pytest.approx(1e9 * 2 * 15 / 16 / 192e9)
    assert shared == pytest.approx(1e9 * 2 * 15 / 16 / 24e9)  # one of eight groups that share the node's NICs


def test_groups_lie_over_nodes_as_neighbours_first() -> None:
    assert tensor_placement(8, 8) == Placement(8, 8, 1)
    assert tensor_placement(16, 8) == Placement(16, 8, 1)
    assert data_placement(16, 4, 8) == Placement(16, 2, 4)
    assert data_placement(16, 8, 8) == Placement(16, 1, 8)
    assert data_placement(2, 1, 8) == Placement(2, 2, 1)


def test_a_slower_network_never_helps() -> None:
    plan = Plan(global_batch=256, dp=64, zero_stage=3)
    times = [predict("llama3-8b", f"64xh100-sxm-80gb@{name}", plan).step_time_s for name in ("ndr400x8", "hdr200x8", "eth100x1", "eth25x1")]
    assert times == sorted(times)
    assert times[-1] > 2 * times[0]


def test_a_model_too_large_says_so_and_names_the_largest_part() -> None:
    p = predict("llama3-70b", "8xh100-sxm-80gb", Plan(global_batch=8, tp=8))
    assert not p.fits
    assert p.largest_memory == "optimizer"
    assert "does NOT fit" in describe_prediction(p)


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (Plan(global_batch=64, tp=3, dp=1), "tp 3 does not divide"),
        (Plan(global_batch=64, dp=7), "does not divide into dp 7"),
        (Plan(global_batch=64, pp=33), "more than the 32 layers"),
        (Plan(global_batch=64, pp=4, interleave=3), "do not divide into pp 4 x interleave 3"),
        (Plan(global_batch=6, pp=4, interleave=2), "multiple of pp 4"),
        (Plan(global_batch=64, interleave=2), "needs a pipeline"),
        (Plan(global_batch=64, dp=2, zero_stage=4), "zero_stage is 4"),
        (Plan(global_batch=0), "global_batch is 0"),
    ],
)
def test_an_illegal_plan_is_refused_with_its_reason(plan: Plan, problem: str) -> None:
    with pytest.raises(IllegalPlan, match=problem):
        predict("llama3-8b", make_group(plan.chips, toys.toy_profile(links=(toys.toy_link(),))), plan)


def test_a_plan_must_use_the_whole_cluster() -> None:
    with pytest.raises(IllegalPlan, match="16"):
        predict("llama3-8b", "16xh100-sxm-80gb", Plan(global_batch=64, dp=8))


def test_a_mix_of_chips_parses_but_is_not_predicted_yet() -> None:
    cluster = parse_cluster("8xh100-sxm-80gb@ndr400x8+16xv100-sxm2-32gb@edr100x4")
    assert cluster.count == 24
    with pytest.raises(NotModelled, match="2 kinds of chips"):
        predict("llama3-8b", cluster, Plan(global_batch=24, dp=24))


@pytest.mark.parametrize("text", ["h100-sxm-80gb", "0xh100-sxm-80gb", "8x", "8xh100-sxm-80gb@", "x8", ""])
def test_a_cluster_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_cluster(text)


def test_several_nodes_without_a_network_are_refused() -> None:
    with pytest.raises(InputError, match="need a network"):
        parse_cluster("16xh100-sxm-80gb@none")


def test_a_profile_file_stands_in_the_place_of_a_chip(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    toys.toy_profile().save(path)
    group = parse_cluster(f"4x{path}@eth25x1").groups[0]
    assert (group.profile.name, group.count, group.chips_per_node, group.fabric.name) == ("Toy", 4, 1, "eth25x1")


@pytest.mark.parametrize(
    ("chip_id", "dtype"),
    [("v100-sxm2-32gb", "fp16"), ("p100-pcie-16gb", "fp32"), ("h100-sxm-80gb", "bf16"), ("t4-pcie-16gb", "fp16")],
)
def test_the_training_dtype_is_the_best_that_the_chip_runs_itself(chip_id: str, dtype: str) -> None:
    assert parse_cluster(f"1x{chip_id}").groups[0].profile is not None
    assert training_dtype(parse_cluster(f"1x{chip_id}").groups[0].profile) == dtype


def test_a_dtype_that_is_only_emulated_is_not_trained_in() -> None:
    profile = toys.toy_profile(dtype="fp32")
    emulated = replace(profile, matmul={**profile.matmul, "bf16": Curve(1e-6, 2e13, toys.MEASURED)})
    assert training_dtype(emulated) == "fp32"


def test_a_missing_attention_is_assumed_and_labelled() -> None:
    p = predict("gpt2", make_group(1, toys.toy_profile(attention=False)), Plan(global_batch=8))
    found = next(entry for entry in p.inputs if entry.what == "attention")
    assert found.evidence.level == "assumed"


def test_the_interval_is_wider_on_weaker_evidence() -> None:
    measured = predict("gpt2", make_group(1, toys.toy_profile()), Plan(global_batch=8))
    assumed = predict("gpt2", make_group(1, toys.toy_profile(attention=False)), Plan(global_batch=8))
    assert assumed.high_s / assumed.low_s > measured.high_s / measured.low_s


@pytest.mark.parametrize(
    ("profile", "missing"),
    [
        (toys.toy_profile(memory_bytes=None), "memory size is unknown"),
        (replace(toys.toy_profile(), memory=None), "no memory bandwidth"),
        (replace(toys.toy_profile(), matmul={}, peak_flops_per_s={}), "no matmul rate and no peak"),
    ],
)
def test_what_nothing_can_stand_in_for_is_refused_by_name(profile: Profile, missing: str) -> None:
    with pytest.raises(MissingCell, match=missing):
        predict("gpt2", make_group(1, profile), Plan(global_batch=8))


def test_a_profile_of_one_catalogued_chip_takes_its_links_from_the_catalogue() -> None:
    profile = toys.toy_profile(chip_id="a100-sxm-80gb")
    p = predict("gpt2-xl", make_group(8, profile), Plan(global_batch=64, dp=8))
    found = next(entry for entry in p.inputs if entry.what == "link in the node")
    assert found.evidence.level == "published"


def test_ranks_of_one_cpu_are_no_link_between_chips() -> None:
    shared = replace(toys.toy_link(2), transport="gloo")
    group = make_group(4, toys.toy_profile(links=(shared,)))
    assert group.chips_per_node == 1
    network = next(entry for entry in group.inputs if entry.what == "network between nodes")
    assert network.evidence.level == "assumed"


def test_a_prediction_is_plain_data_for_json() -> None:
    p = predict("llama3-8b", "8xh100-sxm-80gb", Plan(global_batch=64, dp=8, zero_stage=3))
    data = json.loads(json.dumps(p.to_dict()))
    assert data["plan"]["dp"] == 8
    assert data["inputs"][0]["evidence"]["level"] in ("measured", "published", "derived", "assumed")


def test_the_memory_size_enters_the_fit_and_not_the_time() -> None:
    small, large = (replace(toys.toy_profile(), memory_bytes=Quantity(size, toys.MEASURED)) for size in (1e9, 1e12))
    times = [predict("gpt2", make_group(1, profile), Plan(global_batch=8)) for profile in (small, large)]
    assert times[0].step_time_s == times[1].step_time_s
    assert [p.fits for p in times] == [False, True]


def test_a_prediction_takes_less_than_two_milliseconds() -> None:
    plan = Plan(global_batch=64, tp=8, dp=8)
    predict("llama3-70b", "64xh100-sxm-80gb", plan)
    spent = []
    for _ in range(30):
        start = time.perf_counter()
        predict("llama3-70b", "64xh100-sxm-80gb", plan)
        spent.append(time.perf_counter() - start)
    assert min(spent) < 2e-3
