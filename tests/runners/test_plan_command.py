"""`chipassay plan`: the table, the other formats, the sentences, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

import chipassay.scaling.planner.weigh as weighing
from chipassay.runners.cli import main
from chipassay.runners.commands.plan import SPARE
from chipassay.runners.planning.columns import CSV_COLUMNS
from chipassay.scaling.plan_text import parse_plan
from chipassay.scaling.predict import predict
from chipassay.scaling.spare import SPARE_SHARE

BASE = ("--model", "llama3-8b", "--cluster", "16xh100-sxm-80gb", "--batch", "128")


def run(capsys, *arguments):
    code = main(["plan", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_table_fits_a_hundred_columns_and_says_why_the_others_lost(capsys) -> None:
    code, out, _ = run(capsys, *BASE, "--front", "memory", "--price", "h100-sxm-80gb=2.5")
    assert code == 0
    told = [line for line in out.splitlines() if not line.startswith(("The first in full", "price"))]
    assert max(map(len, told)) <= 120
    table = out[: out.index("The first, on")]
    assert max(map(len, table.splitlines())) <= 100
    for words in ("best plans by time", "USD/Mtok", "Time against memory", "Why the others lost:", "None of them is better than the first"):
        assert words in out
    assert len(re.findall(r"^  +\d+\. .* slower: ", out, re.MULTILINE)) >= 5


def test_predict_takes_the_plan_that_it_is_told(capsys) -> None:
    _, out, _ = run(capsys, *BASE, "--top", "1")
    (arguments,) = re.findall(r"chipassay (predict .*)", out)
    step = re.search(r"^1 .*?([\d.]+ s) ", out, re.MULTILINE)
    assert step is not None
    assert main(arguments.split()) == 0
    assert f"step time {step[1]}" in capsys.readouterr().out


def test_json_holds_plans_with_their_reasons_and_the_front(capsys) -> None:
    code, out, _ = run(capsys, *BASE, "--json", "--front", "chips", "--top", "3")
    found = json.loads(out)
    assert code == 0
    assert len(found["plans"]) == 3
    assert found["plans"][0]["why"] == ""
    assert "slower" in found["plans"][2]["why"]
    assert found["proven"] is True
    chips = [one["chips"] for one in found["front"]]
    assert chips == sorted(chips, reverse=True)
    first = found["plans"][0]
    again = predict("llama3-8b", "16xh100-sxm-80gb", parse_plan(first["plan_text"], 128))
    assert first["step_time_s"] == pytest.approx(again.step_time_s, rel=1e-12)
    assert sum(first["breakdown_s"].values()) == pytest.approx(first["step_time_s"])


def test_csv_goes_to_a_file_or_to_the_screen(capsys, tmp_path) -> None:
    path = tmp_path / "plans.csv"
    code, out, _ = run(capsys, *BASE, "--out", path, "--format", "csv", "--top", "4")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    assert list(rows[0]) == list(CSV_COLUMNS)
    assert [row["place"] for row in rows] == ["1", "2", "3", "4"]
    assert out.startswith(path.read_text(encoding="utf-8").rstrip("\n"))
    assert all(float(row["low_s"]) < float(row["step_time_s"]) < float(row["high_s"]) for row in rows)


def test_markdown_is_a_table_with_the_reasons(capsys) -> None:
    code, out, _ = run(capsys, *BASE, "--format", "markdown", "--top", "3")
    rows = [line for line in out.splitlines() if line.startswith("|")]
    assert code == 0
    assert len(rows) == 5
    assert len({row.count("|") for row in rows}) == 1
    assert "the best" in rows[2]


def test_days_and_money_of_a_run_are_told(capsys) -> None:
    _, out, _ = run(capsys, *BASE, "--tokens", "15e9", "--objective", "cost", "--price", "h100-sxm-80gb=2")
    assert "by cost" in out
    assert "1.5e+10 tokens: " in out
    assert "USD" in out


def test_the_fewest_chips_for_a_number_of_days(capsys) -> None:
    code, out, _ = run(capsys, *BASE, "--json", "--objective", "chips", "--tokens", "15e9", "--days", "3")
    first = json.loads(out)["plans"][0]
    assert code == 0
    assert first["chips"] < 16
    assert 15e9 / first["tokens_per_s"] <= 3 * 86400


def test_another_length_of_sequences(capsys) -> None:
    _, out, _ = run(capsys, *BASE, "--json", "--seq-len", "2048", "--fix", "dp=16")
    first = json.loads(out)["plans"][0]
    assert first["tokens_per_s"] * first["step_time_s"] == pytest.approx(128 * 2048)


def test_memory_to_spare_is_kept_and_told(capsys) -> None:
    for text, share in (("0", 0.0), ("20%", 0.2), ("0.2", 0.2)):
        found = json.loads(run(capsys, *BASE, "--json", "--spare-memory", text)[1])
        assert found["spare"] == share
        assert all(one["memory_total_bytes"] <= (1 - share) * one["memory_limit_bytes"] for one in found["plans"])
    assert "GB per chip (20 % of them stay free in every plan)" in " ".join(run(capsys, *BASE, "--spare-memory", "20%")[1].split())
    assert f"{100 * SPARE_SHARE:g}%" == SPARE


def test_a_day_of_the_first_plan_is_priced(capsys) -> None:
    _, out, _ = run(capsys, *BASE, "--top", "1", "--price", "h100-sxm-80gb=2")
    tokens = json.loads(run(capsys, *BASE, "--top", "1", "--json")[1])["plans"][0]["tokens_per_s"] * 86400
    told = re.search(r"A day on 16 chips, without failures: ([\d.]+) billion tokens for 768 USD", out)
    assert told is not None
    assert float(told[1]) == pytest.approx(tokens / 1e9, rel=0.01)


def test_the_simplest_of_equal_plans_and_an_mfu_never_measured_are_told(capsys) -> None:
    _, out, _ = run(capsys, "--model", "llama3-8b", "--cluster", "64xh100-sxm-80gb")
    said = " ".join(out.split())
    assert re.search(r"Number \d+ \(dp64\) cuts the work in fewer ways and is less than 1\.2 % behind", said)
    assert re.search(r"Note: MFU [\d.]+ % .* is above the highest of \d+ published runs on h100-sxm-80gb in bf16: 45\.6 %", said)


def test_an_interrupt_shows_the_best_so_far(capsys, monkeypatch) -> None:
    real, calls = weighing.base_plans, []

    def interrupted_later(*arguments):
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(weighing, "base_plans", interrupted_later)
    code, out, _ = run(capsys, *BASE)
    assert code == 130
    assert "so far (interrupted)" in out
    assert "plans that were not looked at may be better" in out


def test_several_kinds_of_chips_are_planned_beside_each_kind_alone(capsys) -> None:
    code, out, _ = run(capsys, "--model", "gpt3-1.3b", "--cluster", "8xa100-sxm-80gb+8xv100-sxm2-32gb", "--batch", "64")
    assert code == 0
    for words in ("the best plan by time", "even split", "a100-sxm-80gb only", "v100-sxm2-32gb only", "whole separate jobs"):
        assert words in out
    assert max(len(line) for line in out.splitlines()) <= 120


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--objective", "tim"), "unknown objective 'tim'; did you mean time?"),
        (("--front", "chip"), "unknown front 'chip'; did you mean chips?"),
        (("--format", "markdwon"), "unknown format 'markdwon'; did you mean markdown?"),
        (("--objective", "chips"), "give --tokens-per-s, or --tokens and --days"),
        (("--days", "3"), "--days needs to know of how many tokens; give --tokens"),
        (("--days", "3", "--tokens", "1e9", "--tokens-per-s", "1"), "give one of them"),
        (("--top", "0"), "--top 0: give a number above 0"),
        (("--batch", "many"), "--batch 'many' is not a number"),
        (("--fix", "tp=3"), "tp 3; the nearest that some have is"),
        (("--fix", "tpp=3"), "unknown plan field 'tpp'"),
        (("--fix", "foo=3"), "these can be fixed: attention, context_parallel, cp, dp"),
        (("--spare-memory", "much"), "--spare-memory 'much' is no share of a memory; write for example 5% or 0.05"),
        (("--spare-memory", "60%"), "cannot be kept free; give one from 0 to 0.5"),
        (("--dtype", "bf17"), "dtype is 'bf17'; give one of"),
        (("--out", "nowhere/plans.csv"), "its folder does not exist"),
        (("--tokens-per-s", "1e12"), "reaches 1e+12 tokens/s; the fastest, on 16 chips, makes"),
        (("--price", "h200=2"), "h200"),
    ],
)
def test_mistakes_are_told_in_one_sentence(capsys, arguments, words) -> None:
    code, _, err = run(capsys, *BASE, *arguments)
    assert code in (1, 2)
    assert words in err
    assert len(err.strip().splitlines()) == 1


MIXED = ("--model", "gpt3-1.3b", "--cluster", "8xa100-sxm-80gb+8xv100-sxm2-32gb", "--batch", "64")


def test_an_interrupted_plan_of_several_kinds_tells_the_best_so_far(capsys, monkeypatch) -> None:
    from chipassay.scaling.mixed.enumerate import Enumeration

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Enumeration, "nested", interrupted)
    code, out, _ = run(capsys, *MIXED)
    assert code == 130
    assert "so far (interrupted)" in out
    assert "plans that were not looked at may be better" in out
    assert "v100-sxm2-32gb only" in out


def test_several_kinds_are_told_apart_by_what_joins_them(capsys) -> None:
    _, out, _ = run(capsys, "--model", "gpt3-1.3b", "--cluster", "8xh100-sxm-80gb@ndr400x8+8xh100-sxm-80gb@eth100x1", "--batch", "64")
    kinds = [line.split()[0] for line in out.splitlines() if " of 8 " in line]
    assert kinds == ["h100-sxm-80gb@eth100x1", "h100-sxm-80gb@ndr400x8"]


def test_what_a_link_is_worth_to_several_kinds_is_told(capsys) -> None:
    code, out, _ = run(capsys, *MIXED, "--link", "v100-sxm2-32gb.nic=10Gb/s")
    assert code == 0
    assert "what if v100-sxm2-32gb.nic: 10 Gbit/s one way, not 100 Gbit/s one way" in out
    assert re.search(r"without that, by .*: step \d+ ms on \d+ chips: what was changed makes training [\d.]+ % slower", out)
    _, out, _ = run(capsys, *MIXED, "--link", "v100-sxm2-32gb.nic=10Gb/s", "--json")
    link = json.loads(out)["link"]
    assert 0 < link["speedup"] < 1
    _, out, _ = run(capsys, *MIXED, "--link", "v100-sxm2-32gb.nic=100Gb/s")
    assert "--link changes nothing" in out


def test_an_interrupt_while_several_kinds_without_the_link_are_planned_keeps_the_first_answer(capsys, monkeypatch) -> None:
    import chipassay.scaling.mixed.search as searching

    real, made = searching.even_split, []

    def interrupted_the_second_time(*arguments):
        made.append(1)
        if len(made) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(searching, "even_split", interrupted_the_second_time)
    code, out, _ = run(capsys, *MIXED, "--link", "v100-sxm2-32gb.nics=2")
    assert code == 130
    assert "the best plan by time" in out
    assert "without that" not in out


def test_what_several_kinds_cost_by_given_prices(capsys) -> None:
    _, out, _ = run(capsys, *MIXED, "--price", "a100-sxm-80gb=1", "--price", "v100-sxm2-32gb=10")
    line = next(line.split() for line in out.splitlines() if line.startswith("a100-sxm-80gb only"))
    chips, tokens_per_s, usd = int(line[2]), float(line[-4].replace(",", "")), float(line[-1])
    assert usd == pytest.approx(chips / 3600 / tokens_per_s * 1e6, rel=0.01)
    assert "the cheapest per token: a100-sxm-80gb only" in out


def test_what_a_run_on_several_kinds_takes_and_costs(capsys) -> None:
    _, out, _ = run(capsys, *MIXED, "--price", "a100-sxm-80gb=1", "--price", "v100-sxm2-32gb=10", "--tokens", "300e9")
    line = next(line.split() for line in out.splitlines() if line.startswith("a100-sxm-80gb only"))
    chips, tokens_per_s, days, usd = int(line[2]), float(line[-6].replace(",", "")), float(line[-2]), float(line[-1].replace(",", ""))
    assert days == pytest.approx(300e9 / tokens_per_s / 86400, rel=0.01)
    assert usd == pytest.approx(chips * 24 * days, rel=0.01)
    _, out, _ = run(capsys, *MIXED, "--tokens", "300e9", "--price", "a100-sxm-80gb=1")
    assert "days and USD are of a run of 300,000,000,000 tokens" in out


@pytest.mark.parametrize(
    "flag", [("--objective", "cost"), ("--fix", "tp=2"), ("--format", "csv"), ("--overlap-tp",), ("--spare-memory", "1%"), ("--top", "3")]
)
def test_what_several_kinds_cannot_be_asked_is_refused(capsys, flag) -> None:
    code, _, err = run(capsys, "--model", "gpt3-1.3b", "--cluster", "8xa100-sxm-80gb+8xv100-sxm2-32gb", *flag)
    assert code == 2
    assert "several kinds of chips" in err


def test_a_batch_too_large_to_share_out_over_several_kinds_is_refused(capsys) -> None:
    code, _, err = run(capsys, "--model", "gpt3-1.3b", "--cluster", "8xa100-sxm-80gb+8xv100-sxm2-32gb", "--batch", "65537")
    assert code == 2
    assert "--batch 65537: give at most 65,536, for example 512" in err
