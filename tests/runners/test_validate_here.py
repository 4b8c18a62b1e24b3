"""`chipassay validate --here`: real steps on a CPU beside their prediction, row by row, whatever happens to one of them."""

from __future__ import annotations

import csv
import json
import math
import time
from dataclasses import replace

import pytest

from chipassay.results.errors import FileError
from chipassay.runners.cli import main
from chipassay.runners.training_step import here
from chipassay.runners.training_step.cases import SETS, SMALLER_SETS, asked_cases, default_cases
from chipassay.runners.training_step.deadline import BudgetSpent, Deadline
from chipassay.runners.training_step.here import Asked, train_here
from chipassay.runners.training_step.kernel_times import NoKernelTimes, by_kind, kernel_times
from chipassay.runners.training_step.measure import Case, WrongTraining, check_first_loss, check_last_loss
from chipassay.runners.training_step.prediction import largest_microbatch, one_chip, plan_of, predicted
from chipassay.runners.training_step.row import COLUMNS, append, case_columns, check_file
from chipassay.runners.training_step.trainer import Trainer, as_trained
from chipassay.runners.training_step.words import closing, told
from chipassay.scaling.models import load_model

torch = pytest.importorskip("torch")

TINY = """
layers = 2
hidden = 32
heads = 4
kv_heads = 2
ffn_hidden = 64
vocab = 300
seq_len = 16
gated = true
rms_norm = true
tied_embeddings = true
"""
CPU = ("--device", "cpu", "--profile", "cpu-zen-4-2c")


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """Two threads that wait for each other on a busy machine take seconds for a millisecond's work."""
    monkeypatch.setattr("chipassay.runners.devices.discover.limit_threads", lambda threads: torch.set_num_threads(1))


def run(capsys, *arguments):
    code = main(["validate", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def trained(asked: Asked, make=Trainer):
    seen: list = []
    rows = train_here(replace(asked, device="cpu", profile=asked.profile or "cpu-zen-4-2c"), seen.append, make)
    assert rows == seen
    return rows


# The command


def test_a_step_is_told_beside_its_prediction_and_kept(capsys, tiny, tmp_path) -> None:
    out = tmp_path / "steps.csv"
    for dtype in ("bf16", "fp32"):
        code, text, _ = run(capsys, "--here", "--model", tiny, "--steps", 4, "--dtype", dtype, "--out", out, *CPU)
        assert code == 0
        assert f"tiny, 32 x 16 tokens, {dtype}, eager, flash attention" in text
        assert "4 steps" in text
        assert "predicted (80 %:" in text
        assert "1 of 1 beside a prediction" in text
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["dtype"] for row in rows] == ["bf16", "fp32"]
    for row in rows:
        assert list(row) == list(COLUMNS)
        assert row["status"] == "ok"
        assert float(row["step_low_s"]) <= float(row["step_s"]) <= float(row["step_high_s"])
        assert float(row["step_error"]) == pytest.approx(float(row["predicted_step_s"]) / float(row["step_s"]) - 1, abs=1e-4)
        assert float(row["last_loss"]) < float(row["first_loss"])


def test_bytes_of_weights_gradients_and_optimizer_are_those_predicted(tiny) -> None:
    for dtype in ("bf16", "fp16", "fp32"):
        (row,) = trained(Asked(models=(tiny,), steps=3, dtype=dtype, microbatch=2, profile="h100-sxm-80gb"))
        assert row["status"] == "ok", row["reason"]
        # The rest is AdamW's count of steps, 4 bytes for each of 14 tensors.
        assert row["state_bytes"] == row["predicted_state_bytes"] + 4 * 14


def test_json_is_one_object_with_all_rows_and_words_go_elsewhere(capsys, tiny) -> None:
    code, out, err = run(capsys, "--json", "--here", "--model", f"{tiny},{tiny}", "--steps", 3, "--recompute", "full", *CPU)
    rows = json.loads(out)["rows"]
    assert code == 0
    assert [row["recompute"] for row in rows] == ["full", "full"]
    assert rows[0]["predicted_recompute_s"] > 0
    assert set(rows[0]) == set(COLUMNS)
    assert "full recomputation" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--here", "--mixed"], "--mixed is for published runs"),
        (["--here", "--source", "x"], "--source is for published runs"),
        (["--model", "gpt2"], "--model is for steps on this chip; add --here"),
        (["--seq-len", "8"], "--seq-len is for steps on this chip; add --here"),
        (["--here", "--microbatch", "2", *CPU], "--microbatch needs --model"),
        (["--here", "--model", "mixtral-8x7b", *CPU], "has experts, which is not trained here"),
        (["--here", "--model", "gpt2", "--steps", "0", *CPU], "--steps 0"),
        (["--here", "--model", ",", *CPU], "--model names no model"),
        (["--here", "--model", "gpt2", "--profile", "nothing-like-it", "--device", "cpu"], "unknown"),
    ],
)
def test_flags_that_do_not_go_together_are_refused_before_anything_runs(capsys, monkeypatch, arguments, words) -> None:
    monkeypatch.setattr(here, "measure_step", lambda *_, **__: pytest.fail("something was measured"))
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert words in err


def test_a_file_with_other_columns_is_refused_before_anything_runs(capsys, monkeypatch, tmp_path, tiny) -> None:
    monkeypatch.setattr(here, "measure_step", lambda *_, **__: pytest.fail("something was measured"))
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    code, _, err = run(capsys, "--here", "--model", tiny, "--out", other, *CPU)
    assert code == 2
    assert "other columns" in err
    assert other.read_text() == "a,b\n1,2\n"


def test_a_wrong_training_ends_the_command_with_1(capsys, monkeypatch, tiny) -> None:
    monkeypatch.setattr(Trainer, "update", lambda _: None)
    code, out, _ = run(capsys, "--here", "--model", tiny, "--steps", 3, *CPU)
    assert code == 1
    assert "wrong: the loss of one batch went from" in out


def test_a_chip_without_a_profile_is_measured_all_the_same(capsys, monkeypatch, tiny) -> None:
    real = here.discover

    def other(kind):
        device = real(kind)
        return replace(device, facts=replace(device.facts, chip_id="gpu-of-tomorrow"))

    monkeypatch.setattr(here, "discover", other)
    code, out, _ = run(capsys, "--here", "--model", tiny, "--steps", 3, "--device", "cpu")
    assert code == 0
    assert "no prediction: no profile of gpu-of-tomorrow is shipped; measure one" in out
    assert "1 of 1 measured; none beside a prediction" in out


def test_a_dtype_that_the_profile_lacks_is_trained_without_a_prediction(tiny) -> None:
    (row,) = trained(Asked(models=(tiny,), steps=3, dtype="fp16"))
    assert row["status"] == "ok"
    assert row["predicted_step_s"] is None
    assert "fp16" in row["not_predicted"]


# The loop: what one case costs the others


class ShortOfMemory(Trainer):
    """Memory for two sequences."""

    def __init__(self, model, microbatch, *rest, **more) -> None:
        if microbatch > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        super().__init__(model, microbatch, *rest, **more)


class Crashing(Trainer):
    def step(self):
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmay be late\nmore")


class Hanging(Trainer):
    def step(self):
        while True:
            time.sleep(0.01)


def test_where_memory_is_short_it_says_so_and_takes_the_nearest_microbatch_that_fits(tiny) -> None:
    rows = trained(Asked(models=(tiny, tiny), steps=3, microbatch=8), ShortOfMemory)
    assert [(row["microbatch"], row["status"]) for row in rows] == [
        (8, "out_of_memory"), (4, "out_of_memory"), (2, "ok"), (8, "out_of_memory"), (4, "out_of_memory"), (2, "ok"),
    ]  # fmt: skip
    assert rows[0]["reason"] == (
        "a microbatch of 8 does not fit into this device's memory; the nearest that does by the scaling model is 4, which is tried next"
    )


def test_where_memory_is_short_the_prediction_is_told_too(tiny) -> None:
    row = trained(Asked(models=(tiny,), steps=3, microbatch=4), ShortOfMemory)[0]
    assert told(row)[-1].startswith("  predicted: it takes ")
    assert told(row)[-1].endswith("GB, which fits")


def test_where_one_sequence_does_not_fit_the_mend_is_named(tiny) -> None:
    class None_(Trainer):
        def __init__(self, *_, **__) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

    (row,) = trained(Asked(models=(tiny,), steps=3, microbatch=1), None_)
    assert row["status"] == "out_of_memory"
    assert "take --recompute full" in row["reason"]


def test_the_scaling_model_names_the_microbatch_that_fits() -> None:
    model = as_trained(load_model("llama3.2-1b").with_seq_len(4096))
    group = one_chip("h100-sxm-80gb")
    size = largest_microbatch(model, plan_of(64, "bf16", "flash", "none", False), group)
    assert size in (2, 4)
    assert predicted(model, plan_of(size, "bf16", "flash", "none", False), group).prediction.fits
    assert not predicted(model, plan_of(2 * size, "bf16", "flash", "none", False), group).prediction.fits
    assert largest_microbatch(as_trained(load_model("llama3-70b")), plan_of(2, "bf16", "flash", "full", False), group) is None


def test_a_crash_costs_one_row(tiny) -> None:
    made: list = []

    def make(*arguments, **more):
        made.append(1)
        return (Crashing if len(made) == 1 else Trainer)(*arguments, **more)

    rows = trained(Asked(models=(tiny, tiny), steps=3), make)
    assert [row["status"] for row in rows] == ["error", "ok"]
    assert rows[0]["predicted_step_s"] == rows[1]["predicted_step_s"] > 0
    assert rows[0]["step_error"] is None
    assert rows[0]["reason"] == "RuntimeError: CUDA error: an illegal memory access was encountered may be late"


def test_what_hangs_is_stopped_by_the_budget_and_what_follows_is_skipped(tiny) -> None:
    rows = trained(Asked(models=(tiny, tiny), steps=3, budget_s=3.0), Hanging)
    assert [row["status"] for row in rows] in (["stopped", "skipped"], ["skipped", "skipped"])  # a busy machine begins late
    assert "the budget of 3 s" in rows[0]["reason"]
    assert "was over before" in rows[1]["reason"]


def test_an_alarm_ends_with_its_block() -> None:
    deadline = Deadline(0.05)
    with pytest.raises(BudgetSpent), deadline.alarm():
        time.sleep(5.0)
    with Deadline(0.2).alarm():
        pass
    time.sleep(0.25)  # nothing rings
    with pytest.raises(BudgetSpent):
        deadline.check()
    Deadline(None).check()


# Checks of the training


@pytest.mark.parametrize("loss", [math.nan, math.inf, 0.0, math.log(1000) + 0.6, math.log(1000) - 0.6])
def test_a_first_loss_that_is_no_guess_is_wrong(loss) -> None:
    with pytest.raises(WrongTraining, match="must be about 6"):
        check_first_loss(loss, 1000)


@pytest.mark.parametrize("last", [7.0, 8.0, math.nan, math.inf])
def test_a_loss_that_does_not_fall_is_wrong(last) -> None:
    with pytest.raises(WrongTraining):
        check_last_loss(7.0, last)


# The prediction


@pytest.mark.parametrize("recompute", ["none", "full"])
@pytest.mark.parametrize("name", ["gpt3-1.3b", "llama3.2-1b"])
def test_predicted_parts_sum_to_the_step_and_backward_is_about_twice_forward(name, recompute) -> None:
    model = as_trained(load_model(name).with_seq_len(2048))
    found = predicted(model, plan_of(4, "bf16", "flash", recompute, False), one_chip("h100-sxm-80gb"))
    assert found.forward_s + found.backward_s + found.optimizer_s == pytest.approx(found.prediction.step_time_s)
    again = 1 if recompute == "full" else 0
    assert 1.6 + 0.8 * again < found.backward_s / found.forward_s < 2.4 + again
    held = found.prediction.memory_bytes
    assert found.allocated_bytes == pytest.approx(sum(held.values()) - held["reserved"])


def test_fused_passes_are_predicted_faster_and_smaller_than_eager_ones() -> None:
    model, group = as_trained(load_model("llama3.2-1b").with_seq_len(4096)), one_chip("h100-sxm-80gb")
    eager, compiled = (predicted(model, plan_of(2, "bf16", "flash", "none", fused), group) for fused in (False, True))
    assert compiled.prediction.step_time_s < eager.prediction.step_time_s
    assert compiled.allocated_bytes < eager.allocated_bytes


# Cases, rows, kernels


@pytest.mark.parametrize(("sets", "memory_bytes"), [(SETS, 79e9), (SMALLER_SETS, 24e9)])
def test_models_that_are_chosen_by_themselves_are_predicted_to_fit(sets, memory_bytes) -> None:
    chip = "h100-sxm-80gb" if sets is SETS else "rtx-4090-24gb"
    cases = default_cases("cuda", int(memory_bytes))
    assert [case.model.name for case in cases] == [name for name, *_ in sets]
    for case in cases:
        plan = plan_of(case.microbatch, "bf16", "flash", case.recompute, case.compiled)
        assert predicted(case.model, plan, one_chip(chip)).prediction.fits, case.words


def test_a_microbatch_that_is_not_given_has_about_as_many_tokens_on_every_model() -> None:
    cases = asked_cases("cuda", ["gpt3-1.3b", "llama3.2-1b"], None, None, "none", False)
    assert [(case.microbatch, case.model.seq_len) for case in cases] == [(4, 2048), (1, 8192)]


def test_rows_are_added_one_by_one_under_one_header(tmp_path, tiny) -> None:
    path = tmp_path / "new" / "rows.csv"
    check_file(path)
    row = case_columns(Case(model=as_trained(load_model(tiny)), microbatch=2), "bf16", 1234)
    for count in (1, 2):
        append(path, {**row, "status": "ok", "compiled": True, "reason": 'a "quoted", word'})
        check_file(path)
        rows = list(csv.DictReader(path.open()))
        assert [(r["parameters"], r["compiled"], r["reason"], r["step_s"]) for r in rows] == [
            ("1234", "yes", 'a "quoted", word', "")
        ] * count
    with pytest.raises(FileError):
        check_file(tmp_path)


def test_kernels_are_summed_by_kind_and_the_rest_is_waiting() -> None:
    kernels = [
        ("nvjet_tst_128x256", 0.5), ("sm90_xmma_gemm_bf16", 0.1), ("flash_fwd_kernel", 0.1), ("triton_poi_fused_add_0", 0.05),
        ("multi_tensor_apply_kernel<FusedAdamMathFunctor>", 0.05), ("Optimizer.step#AdamW.step", 0.05), ("Memset (Device)", 0.02),
    ]  # fmt: skip
    found = by_kind(kernels, 1.0)
    assert (found.matmul_s, found.attention_s, found.optimizer_s) == pytest.approx((0.6, 0.1, 0.05))
    assert found.memory_bound_s == pytest.approx(0.07)
    assert found.waiting_s == pytest.approx(0.18)
    assert found.kernels == 6


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_a_profiler_that_cannot_look_says_so_and_breaks_nothing() -> None:
    with pytest.raises(NoKernelTimes):
        kernel_times(lambda: None, 1.0, lambda: None)


@pytest.mark.parametrize("kernels", [[], [("gemm", 1.2)]])
def test_kernels_that_cannot_be_one_steps_are_not_told(kernels) -> None:
    with pytest.raises(NoKernelTimes):
        by_kind(kernels, 1.0)


def test_words_of_a_row_with_kernels_name_both_sides(tiny) -> None:
    (row,) = trained(Asked(models=(tiny,), steps=3, microbatch=2, recompute="full"))
    gpu = {
        **row, "matmul_s": 0.5, "attention_s": 0.1, "memory_bound_s": 0.2, "optimizer_kernels_s": 0.05, "waiting_s": 0.01,
        "kept_bytes": 7e9, "peak_bytes": 20e9, "device_bytes": 23e9, "peak_error": 0.1, "power_w": 650.0, "temperature_c": 61.0,
        "throttled": True, "throttle_reasons": "power_cap",
    }  # fmt: skip
    text = "\n".join(told(gpu))
    for words in (
        "products 500 ms (",
        "recomputed, of these three (",
        "no kernel 10 ms (",
        "kept for the backward pass 7 GB (activations ",
        "peak 20 GB",
        "+10.0%",
        "650 W",
        "power_cap",
    ):
        assert words in text
    assert "of the peak memory 10.0%" in closing([gpu])


@pytest.mark.gpu
@pytest.mark.slow
def test_on_a_gpu_it_trains_with_a_fused_kernel_and_counts_its_memory(capsys) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    code, out, _ = run(capsys, "--json", "--here", "--model", "gpt3-125m", "--steps", 5)
    (row,) = json.loads(out)["rows"]
    assert code == 0
    assert row["attention"].split()[0] in ("cudnn", "flash", "efficient")
    assert row["state_bytes"] < row["state_bytes"] + row["kept_bytes"] < row["peak_bytes"] < row["device_bytes"]
    assert row["matmul_s"] > row["optimizer_kernels_s"] > 0, row["kernels_unknown"]
