"""`chipassay predict`: what each flag shows, in text and as JSON, and what is said of bad input."""

from __future__ import annotations

import json
import math

import pytest

from chipassay.runners.cli import main
from tests.scaling.toys import toy_link, toy_profile

MODEL = ("--model", "llama3-8b")
CLUSTER = ("--cluster", "16xh100-sxm-80gb")
PLAN = ("--plan", "tp=2,pp=2,dp=4,zero=1,recompute=full", "--batch", "64")
KNOWN = (*MODEL, *CLUSTER, *PLAN)


def run(capsys, *arguments):
    code = main(["predict", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def as_json(capsys, *arguments):
    code, out, _ = run(capsys, "--json", *arguments)
    return code, json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_without_flags_it_tells_time_memory_cost_and_energy_and_nothing_more(capsys) -> None:
    code, out, _ = run(capsys, *KNOWN)
    assert code == 0
    for words in ("step time", "80 %", "where the time goes", "memory per chip", "what this rests on", "cost: ", "energy: ", "W (assumed)"):
        assert words in out
    for words in ("goodput", "term by term", "which input", "efficiency", "context_parallel", "gathered"):
        assert words not in out


def test_explain_tells_terms_whose_seconds_sum_to_the_step(capsys) -> None:
    _, found = as_json(capsys, *KNOWN, "--explain")
    assert sum(term["seconds"] for term in found["explain"]) == pytest.approx(found["step_time_s"], rel=1e-9)
    _, out, _ = run(capsys, *KNOWN, "--explain")
    for words in ("term by term", "mlp up: 8192 x 14336 x 4096: ", "TFLOP/s", "group of 2 in a node", "closed form", "source: "):
        assert words in out


def test_days_money_and_energy_of_a_run_count_the_time_that_does_not_train(capsys) -> None:
    run_of = (*KNOWN, "--tokens", "1e12", "--price", "h100-sxm-80gb=2")
    plain, alive = as_json(capsys, *run_of)[1], as_json(capsys, *run_of, "--goodput")[1]
    share = alive["goodput"]["share"]
    assert 0 < share < 1
    assert alive["days"] == pytest.approx(plain["days"] / share)
    assert alive["run"]["usd"] == pytest.approx(alive["days"] * 24 * 16 * 2)
    assert alive["energy"]["run_kwh"] == pytest.approx(plain["energy"]["run_kwh"] / share)
    assert plain["goodput"] is None


@pytest.mark.parametrize(
    "flags", [("--failures-per-chip-hour", "0"), ("--restart", "60"), ("--checkpoint-bandwidth", "10")], ids=lambda flags: flags[0]
)
def test_a_flag_of_long_runs_asks_for_the_goodput(capsys, flags) -> None:
    _, found = as_json(capsys, *KNOWN, *flags)
    assert found["goodput"]["share"] <= 1
    assert "goodput" in run(capsys, *KNOWN, *flags)[1]


def test_what_is_infinite_is_null_in_json(capsys) -> None:
    _, found = as_json(capsys, *KNOWN, "--failures-per-chip-hour", "0")
    assert found["goodput"]["mean_between_failures_s"] is None


def test_a_run_that_fails_all_the_time_never_ends(capsys) -> None:
    hopeless = (*KNOWN, "--tokens", "1e12", "--failures-per-chip-hour", "50")
    assert "1e+12 tokens: never" in run(capsys, *hopeless)[1]
    _, found = as_json(capsys, *hopeless)
    assert found["run"] is found["days"] is found["energy"]["run_kwh"] is None


def test_a_measured_chip_whose_power_is_unknown_is_predicted_without_energy_and_cost(capsys, tmp_path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(toy_profile(links=(toy_link(),)).to_json())
    told = (*MODEL, "--cluster", f"8x{path}", "--plan", "tp=8", "--batch", "8", "--explain", "--sensitivity")
    code, out, _ = run(capsys, *told)
    assert code in (0, 1)
    assert "energy: unknown, profile toy: " in out
    assert "cost: unknown" in out
    assert as_json(capsys, *told)[1]["energy"] is None


def test_checkpoints_at_a_given_bandwidth_take_their_bytes_over_it(capsys) -> None:
    _, found = as_json(capsys, *KNOWN, "--checkpoint-bandwidth", "10")
    assert found["goodput"]["write_s"] == pytest.approx(found["goodput"]["checkpoint_bytes"] / 10e9)


def test_electricity_and_emissions_are_told_where_the_site_is(capsys) -> None:
    site = ("--tokens", "1e12", "--pue", "1", "--usd-per-kwh", "0.1", "--kg-co2-per-kwh", "0.4")
    _, found = as_json(capsys, *KNOWN, *site)
    energy = found["energy"]
    assert energy["run_usd"] == pytest.approx(0.1 * energy["run_kwh"])
    assert energy["run_kg_co2"] == pytest.approx(0.4 * energy["run_kwh"])
    assert energy["by_kind_joules"]["building"] == 0


def test_sensitivity_and_curve_are_told_where_they_are_asked_for(capsys) -> None:
    _, out, _ = run(capsys, *KNOWN, "--sensitivity", "--curve", "8,16,17")
    assert "which input moves the step" in out
    assert "17 chips are no multiple of the 4" in out
    _, found = as_json(capsys, *KNOWN, "--sensitivity", "--curve", "8,16")
    assert [point["chips"] for point in found["curve"]["points"]] == [8, 16]
    assert found["curve"]["points"][1]["step_time_s"] == pytest.approx(found["step_time_s"])
    assert any(one["name"] == "matrix products" for one in found["sensitivity"])


def test_a_weak_curve_gives_smaller_numbers_their_share_of_the_batch(capsys) -> None:
    _, found = as_json(capsys, *KNOWN, "--curve", "8,16", "--weak")
    assert [point["plan"]["global_batch"] for point in found["curve"]["points"]] == [32, 64]


def test_a_curve_without_numbers_halves_the_cluster_s(capsys) -> None:
    _, found = as_json(capsys, *KNOWN, "--curve")
    assert [point["chips"] for point in found["curve"]["points"]] == [8, 16]


def test_a_trace_is_one_step_with_a_process_per_stage_and_operations_inside_its_passes(capsys, tmp_path) -> None:
    path = tmp_path / "step.json"
    _, found = as_json(capsys, *KNOWN, "--trace", path)
    events = json.loads(path.read_text())["traceEvents"]
    assert {event["pid"] for event in events} == {0, 1}
    passes = [event for event in events if event.get("cat") in ("forward", "backward")]
    assert len(passes) == 2 * 2 * 16  # stages, directions, microbatches
    waits_s = sum(found["breakdown_s"][kind] for kind in ("data_parallel", "optimizer", "stragglers"))
    assert max(event["ts"] + event["dur"] for event in passes) / 1e6 == pytest.approx(found["step_time_s"] - waits_s, rel=1e-6)
    inside = {event["name"] for event in events if event.get("cat") == "operation"}
    assert {"mlp up", "attention", "tensor parallel", "recomputed"} <= inside


def test_a_step_without_a_pipeline_has_a_trace_too(capsys, tmp_path) -> None:
    path = tmp_path / "step.json"
    run(capsys, *MODEL, "--cluster", "8xh100-sxm-80gb", "--plan", "dp=8,zero=3", "--batch", "16", "--trace", path)
    assert {event["pid"] for event in json.loads(path.read_text())["traceEvents"]} == {0}


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_picture_is_written(capsys, tmp_path, ending) -> None:
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    path = tmp_path / f"step.{ending}"
    _, out, _ = run(capsys, *KNOWN, "--picture", path)
    assert f"written: {path}" in out
    assert path.stat().st_size > 1000


def test_a_cluster_s_file_gives_the_price_unless_the_command_line_does(capsys, tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('chip = "h100-sxm-80gb"\ncount = 16\nusd_per_chip_hour = 2.5\n')
    told = (*MODEL, "--cluster", path, *PLAN)
    assert as_json(capsys, *told)[1]["cost"]["usd_per_hour"] == pytest.approx(40)
    assert as_json(capsys, *told, "--price", "h100-sxm-80gb=1")[1]["cost"]["usd_per_hour"] == pytest.approx(16)


def test_a_plan_that_does_not_fit_is_told_the_nearest_that_does_and_ends_with_1(capsys) -> None:
    small = ("--model", "llama3-70b", *CLUSTER, "--plan", "tp=8,dp=2", "--batch", "64")
    code, out, _ = run(capsys, *small)
    assert code == 1
    assert "does NOT fit: " in out
    assert "the nearest plan that fits: " in out
    code, found = as_json(capsys, *small)
    assert code == 1
    assert "most of it" in found["why_not"]
    assert math.isfinite(found["step_time_s"])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--batch", "-4"), "--batch -4: give a number above 0, for example 512"),
        (("--batch", "0.5"), "--batch 0.5: give a whole number"),
        (("--batch", "1e22"), "--batch 1e22: give at most 1,000,000,000"),
        (("--seq-len", "1e20"), "--seq-len 1e20: give at most 1,000,000,000"),
        (("--plan", "tp=99999999999999999999"), "plan field tp: 99999999999999999999 is more than any plan has"),
        (("--cluster", "9999999999999999999999xh100-sxm-80gb"), "is larger than any there is; give at most 1,048,576"),
        (("--batch", "many"), "--batch 'many' is not a number"),
        (("--tokens", "nan"), "--tokens nan: give a number above 0"),
        (("--price", "h100-sxm-80gb=-2"), "a price must be above 0"),
        (("--curve", "64,x"), "--curve 'x' is not a number"),
        (("--curve", ","), "names no number of chips"),
        (("--curve", "0"), "--curve 0: give a number above 0"),
        (("--failures-per-chip-hour", "-1"), "--failures-per-chip-hour -1: give a number of at least 0"),
        (("--restart", "soon"), "--restart 'soon' is not a number"),
        (("--checkpoint-bandwidth", "0"), "--checkpoint-bandwidth 0: give a number above 0"),
        (("--pue", "0.9"), "--pue 0.9: give a number of at least 1"),
        (("--usd-per-kwh", "-0.1"), "--usd-per-kwh -0.1: give a number of at least 0"),
        (("--picture", "step.pdf"), "step.pdf: --picture writes .png or .svg; end the name in it"),
        (("--trace", "step.txt"), "--trace writes .json"),
        (("--html", "nowhere/page.html"), "its folder does not exist"),
        (("--cluster", "nowhere.toml"), "nowhere.toml"),
        (("--model", "nowhere.json"), "nowhere.json"),
        (("--plan", "cpp=2"), "unknown plan field 'cpp'; did you mean pp, cp"),
        (("--plan", "tp=3,dp=5"), "tp 3"),
        (("--cluster", "8xh100-sxm-80gb+8xa100-sxm-80gb"), "not modelled yet"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_values_end_with_2_and_a_sentence_that_says_what_would_do(capsys, arguments, complaint) -> None:
    code, out, err = run(capsys, *KNOWN, *arguments)
    assert code == 2
    assert complaint in err
    assert out == ""


def test_a_plan_that_was_searched_for_is_told_as_arguments_that_give_the_same_step(capsys) -> None:
    code, out, _ = run(capsys, *MODEL, *CLUSTER, "--batch", "64")
    assert code == 0
    told = next(line for line in out.splitlines() if line.startswith("a step: 64 sequences of 8,192 tokens; the best of the usual plans"))
    arguments = told.partition("weighs more): ")[2].split()
    searched = as_json(capsys, *MODEL, *CLUSTER, "--batch", "64")[1]
    assert as_json(capsys, *MODEL, *CLUSTER, *arguments)[1]["step_time_s"] == searched["step_time_s"]


def test_another_sequence_length_is_predicted_without_another_file(capsys) -> None:
    long, short = (as_json(capsys, *KNOWN, *more)[1] for more in ((), ("--seq-len", "4096")))
    assert long["tokens_per_s"] * long["step_time_s"] == pytest.approx(64 * 8192)
    assert short["tokens_per_s"] * short["step_time_s"] == pytest.approx(64 * 4096)
    assert "a step: 64 sequences of 4,096 tokens" in run(capsys, *KNOWN, "--seq-len", "4096")[1]
    assert "--seq-len 0: give a number above 0, for example 4096" in run(capsys, *KNOWN, "--seq-len", "0")[2]


def test_a_weak_curve_without_a_curve_is_told(capsys) -> None:
    code, _, err = run(capsys, *KNOWN, "--weak")
    assert code == 2
    assert "add --curve" in err
