"""A prediction: a step with its memory, utilisation and interval, told apart from what cannot be predicted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from chipassay.results.errors import InputError
from chipassay.results.profile import Quantity
from chipassay.results.shipped import find_profile
from chipassay.scaling.cluster import make_group, parse_cluster
from chipassay.scaling.errors import IllegalPlan, NotModelled
from chipassay.scaling.machine import prepare
from chipassay.scaling.models import Transformer, load_model
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import assumptions, hardware_flops_per_token, predict
from chipassay.scaling.step import KINDS
from chipassay.scaling.text import describe_prediction

from .toy_models import DENSE, GPT, MODELS
from .toys import MEASURED, only_products, parts_of, plain, toy_group, toy_link, toy_profile, with_profile

PLANS = [
    Plan(global_batch=64, dp=64, zero_stage=3, recompute="full"),
    Plan(global_batch=64, tp=8, dp=8, zero_stage=1, sequence_parallel=True),
    Plan(global_batch=64, tp=4, pp=4, dp=4, interleave=2),
    Plan(global_batch=64, tp=8, pp=8, attention="unfused", recompute="selective", dtype="fp16"),
    Plan(global_batch=64, pp=5, tp=1, dp=1),
    Plan(global_batch=64, dp=8, cp=8, context_parallel="all-gather"),
    Plan(global_batch=64, pp=4, dp=2, schedule="dualpipe", optimizer="adam-8bit"),
]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.describe())
def test_the_breakdown_sums_exactly_to_the_step(plan: Plan) -> None:
    p = predict("llama3-8b", f"{plan.chips}xh100-sxm-80gb", plan)
    assert tuple(p.breakdown_s) == KINDS
    assert math.fsum(p.breakdown_s.values()) == p.step_time_s
    assert math.fsum(p.memory_bytes.values()) == p.memory_total_bytes
    assert all(value >= 0 for value in p.breakdown_s.values())
    assert p.low_s < p.step_time_s < p.high_s
    assert p.tokens_per_s == pytest.approx(64 * 8192 / p.step_time_s)
    assert p.hfu is not None
    assert p.mfu is not None
    assert p.mfu_causal is not None
    assert p.hfu >= p.mfu >= p.mfu_causal > 0


def test_one_ideal_chip_takes_what_can_be_worked_out_by_hand() -> None:
    """Eight sequences of GPT-2: 6 FLOPs a weight and token at 100 TFLOP/s; the causal half of attention, and half a tile, at 50."""
    model = load_model("gpt2")
    tokens = 8 * 1024
    products = 6 * tokens * (12 * 12 * 768**2 + 768 * 50257)
    attention = 3.5 * 12 * 4 * 8 * 12 * 1024 * (1024 + 128) / 2 * 64
    p = predict(model, only_products(1), plain(microbatch=8))
    assert p.breakdown_s["matmul"] == pytest.approx(products / 1e14, rel=1e-9)
    assert p.breakdown_s["attention"] == pytest.approx(attention / 0.5e14, rel=1e-9)
    assert p.step_time_s == pytest.approx((products + 2 * attention) / 1e14, rel=1e-9)


def test_utilisation_is_model_flops_over_the_peak_of_all_chips() -> None:
    """The toy's peak is 125 TFLOP/s; 6 FLOPs a weight and 12 l h s of attention for each token (PaLM, arXiv 2204.02311, appendix B)."""
    model = load_model("gpt2")
    p = predict(model, toy_group(8), Plan(global_batch=64, dp=8))
    flops = 64 * 1024 * (6 * (12 * 12 * 768**2 + 768 * 50257) + 12 * 12 * 768 * 1024)
    causal = 64 * 1024 * (6 * (12 * 12 * 768**2 + 768 * 50257) + 6 * 12 * 768 * 1024)
    assert p.mfu == pytest.approx(flops / (p.step_time_s * 8 * 1.25e14), rel=1e-9)
    assert p.mfu_causal == pytest.approx(causal / (p.step_time_s * 8 * 1.25e14), rel=1e-9)
    assert p.hfu == p.mfu


def test_without_a_known_peak_there_is_no_utilisation() -> None:
    p = predict(GPT, with_profile(toy_group(1), peak_flops_per_s={}), Plan(global_batch=8))
    assert (p.mfu, p.mfu_causal, p.hfu) == (None, None, None)


@pytest.mark.parametrize("name", ["dense", "bidirectional", "latent", "experts and shared ones", "windows in most layers"])
def test_full_recomputation_counts_every_layer_once_more_in_hfu(name: str) -> None:
    """Four passes of the layers for three; the logits, of those positions that have them, are not computed again."""
    model = MODELS[name]
    layers = model.forward_flops_per_token(causal=False) - model.head_flops_per_token
    again = hardware_flops_per_token(model, Plan(global_batch=8, recompute="full")) - model.training_flops_per_token(causal=False)
    assert again == pytest.approx(layers)
    half = hardware_flops_per_token(model, Plan(global_batch=8, recompute="full", recompute_share=0.5))
    assert half - model.training_flops_per_token(causal=False) == pytest.approx(layers / 2)


def test_selective_recomputation_counts_the_core_where_it_is_done() -> None:
    """Korthikanti et al. 2022 (arXiv 2205.05198), appendix A: 4 b s^2 h more for each layer, once."""
    plan = Plan(global_batch=8, recompute="selective")
    model = load_model("gpt3-175b")
    base = model.training_flops_per_token(causal=False)
    assert hardware_flops_per_token(model, plan) == base
    unfused = hardware_flops_per_token(model, replace(plan, attention="unfused"))
    assert unfused - base == pytest.approx(4 * 2048 * 12288 * 96)


@pytest.mark.parametrize("model", [DENSE, MODELS["latent"]], ids=["dense", "latent"])
def test_what_an_ideal_chip_recomputes_is_what_hfu_counts(model: Transformer) -> None:
    """On a chip that only multiplies, all FLOPs at one rate (unfused attention): the step follows HFU's FLOPs."""
    kept, again = (plain(attention="unfused", recompute=how) for how in ("none", "full"))
    before, after = (sum(parts_of(model, plan, only_products()).values()) for plan in (kept, again))
    flops = [hardware_flops_per_token(model, plan) for plan in (kept, again)]
    assert after / before == pytest.approx(flops[1] / flops[0], rel=1e-9)


def test_a_pipeline_is_played_through_and_stragglers_follow_the_sum() -> None:
    plan = Plan(global_batch=64, pp=5, tp=1, dp=1)
    group = toy_group(5)
    p, batch = predict("llama3-8b", group, plan), parts_of(load_model("llama3-8b"), plan, group)
    sums = [sum(value for kind, value in parts.items() if kind != "stragglers") for parts in (p.breakdown_s, batch)]
    assert p.breakdown_s["stragglers"] / sums[0] == pytest.approx(batch["stragglers"] / sums[1])
    assert sums[0] == pytest.approx(sums[1], rel=0.05)


def test_a_model_too_large_says_so_and_names_the_largest_part() -> None:
    p = predict("llama3-70b", "8xh100-sxm-80gb", Plan(global_batch=8, tp=8))
    assert not p.fits
    assert p.largest_memory == "optimizer"
    assert "does NOT fit" in describe_prediction(p)


def test_the_memory_size_enters_the_fit_and_not_the_time() -> None:
    small, large = (predict("gpt2", toy_group(1, memory_bytes=size), Plan(global_batch=8)) for size in (1e9, 1e12))
    assert small.step_time_s == large.step_time_s
    assert [small.fits, large.fits] == [False, True]


def test_a_plan_that_all_but_fills_the_chip_fits_barely() -> None:
    """The model of memory was up to 4.6 % off on measured peaks: what leaves less than that free may not run."""
    p = predict("llama3-8b", "8xh100-sxm-80gb", Plan(global_batch=64, dp=8, zero_stage=3))
    roomy, full = (replace(p, memory_total_bytes=share * p.memory_limit_bytes, fits=True) for share in (0.90, 0.97))
    assert "GB: fits\n" in describe_prediction(roomy)
    assert "GB: fits barely (" in describe_prediction(full)


def test_a_prediction_is_plain_data_for_json() -> None:
    p = predict("llama3-8b", "8xh100-sxm-80gb", Plan(global_batch=64, dp=8, zero_stage=3))
    data = json.loads(json.dumps(p.to_dict()))
    assert data["plan"]["dp"] == 8
    assert data["inputs"][0]["evidence"]["level"] in ("measured", "published", "derived", "assumed")


def test_the_same_question_has_the_same_answer() -> None:
    plan = Plan(global_batch=64, tp=2, pp=2, dp=2)
    assert predict("llama3-8b", "8xh100-sxm-80gb", plan) == predict("llama3-8b", "8xh100-sxm-80gb", plan)


# Evidence


def test_a_missing_attention_is_assumed_labelled_and_less_sure() -> None:
    measured, assumed = (predict("gpt2", toy_group(1, attention=known), Plan(global_batch=8)) for known in (True, False))
    assert next(entry for entry in assumed.inputs if entry.what == "attention").evidence.level == "assumed"
    assert assumed.high_s / assumed.low_s > measured.high_s / measured.low_s


def test_constants_are_named_where_a_plan_uses_them_and_only_there() -> None:
    eager = Plan(global_batch=8, dp=8, tp=8, overlap_tp=True)
    graph = Plan(global_batch=8, host="graph")
    named = [{entry.what for entry in assumptions(plan)} for plan in (eager, graph)]
    assert {"host time per kernel", "cost of overlap", "hidden share of overlapped TP traffic"} <= named[0]
    assert "host time per kernel" not in named[1]
    assert "cost of overlap" not in named[1]
    assert "cost of overlap" in {entry.what for entry in assumptions(Plan(global_batch=8, tp=8, overlap_tp=True))}
    assert next(entry.value for entry in assumptions(eager) if entry.what == "host time per kernel") == "50 us"


def test_a_profile_of_one_catalogued_chip_takes_its_links_from_the_catalogue() -> None:
    p = predict("gpt2-xl", make_group(8, toy_profile(chip_id="a100-sxm-80gb")), Plan(global_batch=64, dp=8))
    assert next(entry for entry in p.inputs if entry.what == "link in the node").evidence.level == "published"


def test_ranks_of_one_cpu_are_no_link_between_chips() -> None:
    group = make_group(4, toy_profile(links=(replace(toy_link(2), transport="gloo"),)))
    assert group.chips_per_node == 1
    assert next(entry for entry in group.inputs if entry.what == "network between nodes").evidence.level == "assumed"


# Physical sense on shipped profiles


@pytest.mark.parametrize(
    "chip_id",
    [
        "v100-sxm2-32gb",
        "a100-sxm-80gb",
        "h100-sxm-80gb",
        "h200-sxm-141gb",
        "b200-sxm-180gb",
        "mi300x-192gb",
        "l4-pcie-24gb",
        "t4-pcie-16gb",
    ],
)
@pytest.mark.parametrize("name", ["gpt2", "llama3-8b", "gpt3-175b"])
def test_no_chip_is_used_beyond_its_peak(chip_id: str, name: str) -> None:
    plan = Plan(global_batch=64, microbatch=8, host="graph")
    p = predict(name, make_group(1, find_profile(chip_id)), plan)
    assert p.mfu is not None
    assert 0.05 < p.mfu < 0.9


@pytest.mark.parametrize(("dp", "published"), [(64, 0.43), (128, 0.41)])
def test_llama_3_405b_is_used_as_its_makers_print(dp: int, published: float) -> None:
    """Llama 3 (arXiv 2407.21783), table 4: TP 8, PP 16, 2,048 sequences of 8,192 on 8,192 and 16,384 H100. The first and the last of 16
    stages hold a layer less than 8: as long as 128 layers, of which 126 count."""
    model = replace(load_model("llama3-405b"), layers=128)
    plan = Plan(global_batch=2048, tp=8, pp=16, dp=dp, interleave=8, sequence_parallel=True, zero_stage=1)
    p = predict(model, f"{plan.chips}xh100-sxm-80gb", plan)
    assert p.mfu is not None
    assert p.mfu * 126 / 128 == pytest.approx(published, rel=0.12)


def test_deepseek_v3_takes_the_hours_that_its_makers_print_and_some_more() -> None:
    """DeepSeek-V3 (arXiv 2412.19437), table 1: 180 thousand H800 hours for each trillion tokens, on 2,048 H800 by PP 16, EP 64, DualPipe
    (section 3.2). Its tokens leave for at most four nodes, and in 8 bits; here for any, and in 16: slower, but not by half."""
    plan = Plan(global_batch=15360, dp=128, pp=16, ep=64, schedule="dualpipe", zero_stage=1, dtype="fp8")
    p = predict("deepseek-v3", "2048xh800-sxm-80gb", plan)
    hours = 1e12 / p.tokens_per_s * 2048 / 3600
    assert 180e3 * 0.95 < hours < 180e3 * 1.5


def test_the_memory_of_a_step_that_ran_fits() -> None:
    """The same run kept all activations of 16 microbatches in 80 GB: FSDP shards optimizer and gradients, not weights (section 3.3.2)."""
    plan = Plan(global_batch=2048, tp=8, pp=16, dp=128, sequence_parallel=True, zero_stage=2)
    assert predict("llama3-405b", "16384xh100-sxm-80gb", plan).fits


def test_a_faster_generation_is_faster_by_less_than_its_peaks_say() -> None:
    """H100 over A100: peaks 3.2 times, memory 1.64 times; a step is bound by some of both."""
    plan = Plan(global_batch=128, dp=8, zero_stage=3, recompute="full")
    old, new = (predict("llama3-8b", f"8x{chip}", plan).step_time_s for chip in ("a100-sxm-80gb", "h100-sxm-80gb"))
    assert 1.64 < old / new < 3.2


def test_a_slower_network_never_helps() -> None:
    plan = Plan(global_batch=256, dp=64, zero_stage=3)
    times = [predict("llama3-8b", f"64xh100-sxm-80gb@{name}", plan).step_time_s for name in ("ndr400x8", "hdr200x8", "eth100x1", "eth25x1")]
    assert times == sorted(times)
    assert times[-1] > 2 * times[0]


# Refusals


@pytest.mark.parametrize(
    ("plan", "problem"),
    [
        (Plan(global_batch=64, tp=3, dp=1), "tp 3 does not divide the 32 .*nearest"),
        (Plan(global_batch=64, dp=7), "64 does not divide into dp 7.*nearest"),
        (Plan(global_batch=64, pp=33), "pp 33 is more than the 32 layers.*at most 32"),
        (Plan(global_batch=64, pp=4, interleave=9), "interleave 9 is more than the . layers of a stage; the nearest"),
        (Plan(global_batch=6, pp=4, interleave=2), "multiple of pp 4.*nearest"),
        (Plan(global_batch=64, interleave=2), "interleave 2 needs a pipeline; give"),
        (Plan(global_batch=64, dp=2, zero_stage=4), "zero_stage is 4; give 0, 1, 2 or 3"),
        (Plan(global_batch=0), "global_batch is 0; give at least 1"),
        (Plan(global_batch=8, recompute="some"), "recompute is 'some'; give one of none"),  # type: ignore[arg-type]
        (Plan(global_batch=8, recompute_share=0.0), r"recompute_share is 0\.0; give a share above 0"),
    ],
)
def test_an_illegal_plan_is_refused_with_its_field_and_the_mend(plan: Plan, problem: str) -> None:
    with pytest.raises(IllegalPlan, match=problem):
        predict("llama3-8b", make_group(plan.chips, toy_profile(links=(toy_link(),))), plan)


def test_a_plan_must_use_the_whole_cluster() -> None:
    with pytest.raises(IllegalPlan, match="the cluster has 16; dp 16 would use them all"):
        predict("llama3-8b", "16xh100-sxm-80gb", Plan(global_batch=64, dp=8))


def test_a_mix_of_chips_parses_but_is_not_predicted_yet() -> None:
    cluster = parse_cluster("8xh100-sxm-80gb@ndr400x8+16xv100-sxm2-32gb@edr100x4")
    assert cluster.count == 24
    with pytest.raises(NotModelled, match=r"2 kinds of chips.*one kind at a time"):
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
    toy_profile().save(path)
    group = parse_cluster(f"4x{path}@eth25x1").groups[0]
    assert (group.profile.name, group.count, group.chips_per_node, group.fabric.name) == ("Toy", 4, 1, "eth25x1")
    assert prepare(replace(group.profile, memory_bytes=Quantity(1.0, MEASURED))).memory_bytes == 1.0
