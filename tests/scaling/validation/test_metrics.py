"""What sources measure, as seconds of a step: each by figures that the sources themselves print together."""

from __future__ import annotations

import pytest

from chipassay.results.shipped import find_profile
from chipassay.scaling.machine import prepare
from chipassay.scaling.plan import Plan
from chipassay.scaling.validation.metrics import measured_step_s
from chipassay.scaling.validation.models import model_of
from chipassay.scaling.validation.tables import Unusable

from .runs import run_of

A100 = prepare(find_profile("a100-sxm-80gb"), "fp16")


def step_s(run, plan=None, scale=1.0):
    plan = plan or Plan(global_batch=int(run.global_batch_seqs or 4), tp=8, microbatch=4, recompute="full", attention="unfused")
    return measured_step_s(run, model_of(run)[0], plan, A100, scale)


def test_a_step_time_is_itself(tmp_path) -> None:
    assert step_s(run_of(tmp_path)) == 1.42


def test_tokens_per_second_and_gpu_are_turned_into_the_step_of_the_plan(tmp_path) -> None:
    run = run_of(tmp_path, measured_metric="tokens_per_s_per_gpu", measured_value="512")
    assert step_s(run) == pytest.approx(4 * 2048 / (512 * 8))


def test_hardware_tflops_count_the_recomputed_pass_as_megatron_does(tmp_path) -> None:
    # Megatron-LM README (2021): 174.6B, 1,024 A100, batch 1536: "around 32 seconds", 138 TFLOP/s per GPU. The two agree within rounding.
    run = run_of(
        tmp_path, layers="96", hidden="12288", heads="96", ffn_hidden="49152", params_b="174.6", global_batch_seqs="1536", num_chips="1024",
        measured_metric="tflops_per_gpu_hw", measured_value="138",
    )  # fmt: skip
    plan = Plan(global_batch=1536, tp=8, pp=16, dp=8, recompute="full", attention="unfused")
    assert step_s(run, plan) == pytest.approx(32, rel=0.02)


def test_an_mfu_leaves_the_recomputed_pass_out(tmp_path) -> None:
    # Korthikanti et al. 2022, table 5: the 22B step of 1.10 s is 41.5 % of 312 TFLOP/s on 8 A100, and 43.7 % in hardware FLOPs.
    run = run_of(tmp_path, measured_metric="mfu", measured_value="41.5", recompute="selective", seq_parallel="y")
    plan = Plan(global_batch=4, tp=8, microbatch=4, recompute="selective", attention="unfused", sequence_parallel=True)
    assert step_s(run, plan) == pytest.approx(1.10, rel=0.02)
    hardware = run_of(tmp_path, measured_metric="tflops_per_gpu_hw", measured_value=str(0.437 * 312), recompute="selective")
    assert step_s(hardware, plan) == pytest.approx(1.10, rel=0.02)


def test_a_share_below_one_is_an_mfu_and_not_a_percentage(tmp_path) -> None:
    percent, share = (run_of(tmp_path, measured_metric="mfu", measured_value=value) for value in ("41.5", "0.415"))
    assert step_s(percent) == pytest.approx(step_s(share))


def test_model_tflops_of_llm_foundry_and_its_tokens_per_second_agree(tmp_path) -> None:
    # llm-foundry benchmarks: 70B, 512 H100: 1,007 tokens/s per GPU and 408 model TFLOP/s (6N + 12Lds).
    sizes = {
        "model_family": "MPT", "params_b": "64.862", "layers": "80", "hidden": "8192", "heads": "64", "ffn_hidden": "32768",
        "vocab": "50368", "seq_len": "2048", "num_chips": "512", "global_batch_seqs": "4096", "framework": "llm-foundry",
    }  # fmt: skip
    plan = Plan(global_batch=4096, dp=512, microbatch=8, zero_stage=3, recompute="full")
    tokens = run_of(tmp_path, **sizes, measured_metric="tokens_per_s_per_gpu", measured_value="1007")
    tflops = run_of(tmp_path, **sizes, measured_metric="tflops_per_gpu_model", measured_value="408")
    assert step_s(tokens, plan) == pytest.approx(step_s(tflops, plan), rel=0.02)


def test_gpu_hours_and_days_are_of_the_tokens_that_they_bought(tmp_path) -> None:
    # 1,000 GPU hours on 8 GPUs are 125 hours; a batch of 4 x 2048 tokens is a millionth of 8.192e9 tokens.
    hours = run_of(tmp_path, measured_metric="gpu_hours", measured_value="1000", tokens_b="8.192")
    assert step_s(hours) == pytest.approx(125 * 3600 / 1e6)
    days = run_of(tmp_path, measured_metric="days", measured_value=str(125 / 24), tokens_b="8.192")
    assert step_s(days) == pytest.approx(125 * 3600 / 1e6)


def test_sequences_that_were_not_padded_hold_half_the_positions_that_are_counted(tmp_path) -> None:
    bert = {"model_family": "BERT-Large", "layers": "24", "hidden": "1024", "heads": "16", "ffn_hidden": "4096", "seq_len": "512"}
    given = {"measured_metric": "tokens_per_s_per_gpu", "measured_value": "1000", **bert}
    whole, unpadded = run_of(tmp_path, **given), run_of(tmp_path, **given, notes="this release uses unpadding")
    assert step_s(unpadded) == pytest.approx(2.001 * step_s(whole))


def test_a_batch_that_was_rounded_scales_the_measured_step(tmp_path) -> None:
    assert step_s(run_of(tmp_path), scale=0.5) == pytest.approx(0.71)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"measured_metric": "days"}, "without the number of tokens"),
        ({"measured_metric": "images_per_s_total"}, "not a transformer's training step"),
        ({"global_batch_seqs": ""}, "without its batch"),
        ({"notes": "Use as an inequality test only"}, "a bound or a ratio"),
    ],
)
def test_a_value_that_tells_no_step_time_is_refused_with_its_reason(tmp_path, cells, reason) -> None:
    with pytest.raises(Unusable, match=reason):
        step_s(run_of(tmp_path, **cells))
