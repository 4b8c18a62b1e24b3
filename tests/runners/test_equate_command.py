"""`chipassay equate`: the question read, the answer told as text, Markdown, CSV and JSON, and what is said of bad input."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from chipassay.runners.cli import main

ASKED = ("64xh100-sxm-80gb", "--in", "h800-sxm-80gb", "--model", "llama3-8b")
TWO = ("32xh100-sxm-80gb", "--in", "a800-sxm-80gb,h800-sxm-80gb", "--model", "gpt2-xl,llama3-8b")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["equate", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict]:
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_one_pair_tells_the_number_its_interval_the_limit_both_plans_and_the_evidence(capsys) -> None:
    code, out, _ = run(capsys, *ASKED)
    assert code == 0
    for words in (
        "as fast as 64 x h100-sxm-80gb:",
        "llama3-8b: 64 x h100-sxm-80gb = ",
        "the smallest number in whole nodes",
        "no number of h800-sxm-80gb is as fast",
        "is worth",
        "64xh100-sxm-80gb@ndr400x8: ",
        "--price h800-sxm-80gb=USD",
        "USD per chip and hour (median of",
        "what this rests on:",
        "  derived  ",
    ):
        assert words in out
    [found] = as_json(capsys, *ASKED)
    table = out.split("\n  chips: how many")[0]
    assert f"{found['count']:,}" in table
    assert max(map(len, table.splitlines())) <= 100
    assert found["count_low"] <= found["count"] <= found["count_high"]
    assert found["reference_run"]["chips"] == 64


def test_tokens_become_days_money_and_energy_of_both_sides(capsys) -> None:
    prices = ("--price", "h100-sxm-80gb=4", "--price", "h800-sxm-80gb=2")
    [found] = as_json(capsys, *ASKED, "--tokens", "1e12", *prices)
    for side, usd in (("reference", 4), ("other", 2)):
        of_run, told = found["run"][side], found[f"{side}_run"]
        assert of_run["days"] == pytest.approx(1e12 / told["tokens_per_s"] / 86400)
        assert of_run["usd"] == pytest.approx(of_run["days"] * 24 * told["chips"] * usd)
        assert of_run["kwh"] == pytest.approx(of_run["days"] * 24 * told["watts"] / 1000)
    code, out, _ = run(capsys, *ASKED, "--tokens", "1e12", *prices)
    assert code == 0
    assert "days" in out.splitlines()[1]
    assert "the same tokens on h800-sxm-80gb cost" in out


def test_several_models_and_chips_are_one_table_with_a_line_each(capsys) -> None:
    code, out, _ = run(capsys, *TWO)
    assert code == 0
    table = out.split("\n  chips: how many")[0].splitlines()[2:]
    assert [line.split()[0] for line in table if not line.startswith(" ")] == ["gpt2-xl", "llama3-8b"]
    assert len(table) == 2 * (1 + 2)
    assert "--json has them all" in out


def test_csv_has_a_row_for_each_pair_in_si_units(capsys) -> None:
    code, out, _ = run(capsys, *TWO, "--tokens", "1e11", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert [(row["model"], row["other_chip"]) for row in rows] == [
        (model, chip) for model in ("gpt2-xl", "llama3-8b") for chip in ("a800-sxm-80gb", "h800-sxm-80gb")
    ]
    for row in rows:
        assert int(row["count"]) % 8 == 0
        assert float(row["count_low"]) <= int(row["count"]) <= float(row["count_high"])
        assert math.isclose(float(row["other_days"]), 1e11 / float(row["other_tokens_per_s"]) / 86400)
        assert row["other_usd_per_hour"] == ""  # no quote to rent one


def test_markdown_is_a_table_with_its_reasons_below(capsys) -> None:
    code, out, _ = run(capsys, *ASKED, "--format", "markdown")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "**As fast as 64 x h100-sxm-80gb**"
    bars = {line.count("|") for line in lines if line.startswith("|")}
    assert len(bars) == 1
    assert any(line.startswith("- llama3-8b, h800-sxm-80gb: the smallest number") for line in lines)


@pytest.mark.parametrize(
    ("same", "words"),
    [
        ("power", "for the same power, at"),
        ("rent", "for the same rent, at"),
        ("cost", "for the same cost"),
        ("energy", "for the same energy"),
    ],
)
def test_other_things_than_time_may_be_the_same(capsys, same: str, words: str) -> None:
    code, out, _ = run(capsys, *ASKED, "--same", same, "--price", "h800-sxm-80gb=2", "--price", "h100-sxm-80gb=3")
    assert code == 0
    assert words in out


def test_a_month_takes_its_software_and_refuses_what_came_later(capsys) -> None:
    code, out, _ = run(capsys, *ASKED, "--as-of", "2023-05")
    assert code == 0
    assert "flash1 attention" in out
    assert "software as of 2023-05" in out
    assert "no quote of h100-sxm-80gb dated by 2023-05" in out
    code, _, err = run(capsys, *ASKED, "--as-of", "2021-05")
    assert code == 2
    assert "came in 2022, after 2021-05" in err


def test_a_wider_link_is_worth_something(capsys) -> None:
    cut = ("64xh100-sxm-80gb", "--in", "h800-sxm-80gb", "--model", "gpt3-175b", "--batch", "512")
    [without] = as_json(capsys, *cut)
    [wider] = as_json(capsys, *cut, "--link", "h800-sxm-80gb.scaleup=900GB/s-both")
    assert wider["count"] <= without["count"]


def test_a_number_of_the_same_chip_is_its_own_answer(capsys) -> None:
    [found] = as_json(capsys, "100xh100-sxm-80gb", "--in", "h100-sxm-80gb", "--model", "llama3-8b")
    assert (found["count_low"], found["count"], found["count_high"], found["speed"]) == (100, 100, 100, 1)


def test_what_nobody_gave_is_told(capsys) -> None:
    code, out, _ = run(capsys, "64xh100-sxm-80gb", "--in", "a100-sxm-80gb")
    assert code == 0
    words = " ".join(out.split())
    assert "gpt3-175b: 64 x h100-sxm-80gb = " in words
    assert "batch: 2,048 sequences of 2,048 tokens (about four million tokens, as no --batch was given" in words
    assert "no --tokens were given: speed and rent, not days and money" in words
    code, out, _ = run(capsys, *ASKED, "--tokens", "1e12", "--batch", "512", "--format", "markdown")
    assert code == 0
    assert "- batch: 512 sequences of 8,192 tokens (a side may move it" in out
    assert "no --tokens" not in out


@pytest.mark.parametrize("same", ["cost", "rent", "power", "energy"])
def test_where_nothing_is_the_same_the_nearest_number_is_told_with_what_it_costs(capsys, same: str) -> None:
    one, other = ("t4-pcie-16gb", "b200-sxm-180gb") if same == "power" else ("h100-sxm-80gb", "p100-sxm2-16gb")
    asked = (
        f"1x{one}",
        "--in",
        other,
        "--model",
        "gpt2-large",
        "--batch",
        "64",
        "--same",
        same,
        "--price",
        f"{other}=9",
        "--price",
        f"{one}=2",
    )
    [found] = as_json(capsys, *asked)
    assert found["count"] is None
    assert found["nearest_ratio"] > 1
    assert found["other_run"]["chips"] == found["nearest_count"]
    name = {"cost": "usd_per_token", "rent": "usd_per_hour", "power": "watts", "energy": "joules_per_token"}[same]
    assert found["nearest_ratio"] == pytest.approx(found["other_run"][name] / found["reference_run"][name])
    code, out, _ = run(capsys, *asked)
    assert code == 0
    assert f"none ({found['nearest_count']})" in out
    assert f"nearest: {found['nearest_count']} with {found['nearest_ratio']:.4g} times its {same}" in out


class Stopped:
    """A method that an interrupt stops at the call after so many."""

    def __init__(self, method, calls: int) -> None:
        self.method, self.calls = method, calls

    def __get__(self, owner, _):
        def call(*arguments, **named):
            self.calls -= 1
            if self.calls < 0:
                raise KeyboardInterrupt
            return self.method(owner, *arguments, **named)

        return call


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_an_interrupt_leaves_what_is_answered_so_far_and_says_what_is_not(capsys, monkeypatch, form: str) -> None:
    from chipassay.scaling.exchange.trade import Trade

    monkeypatch.setattr(Trade, "exchange", Stopped(Trade.exchange, 1))
    code, out, err = run(capsys, *TWO, "--format", form)
    assert code == 130
    assert "interrupted" in err
    if form == "json":
        found = json.loads(out)
        assert [one.get("unfinished", False) for one in found] == [False, True, True, True]
        assert found[0]["count"] is not None
        assert found[3]["refusal"] == "not begun"
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [bool(row["count"]) for row in rows] == [True, False, False, False]
        assert rows[1]["reason"].startswith("not finished: ")
    else:
        assert out.count("unfinished") == 3
        assert "not begun" in out
    if form == "table":
        assert out.startswith("interrupted: 3 of 4 are not answered\n")


def test_an_interrupt_in_the_middle_tells_between_which_numbers_the_answer_lies(capsys, monkeypatch) -> None:
    from chipassay.scaling.exchange.quick import Quick

    [whole] = as_json(capsys, *ASKED)
    monkeypatch.setattr(Quick, "best", Stopped(Quick.best, 5))
    code, out, _ = run(capsys, *ASKED, "--json")
    assert code == 130
    [found] = json.loads(out)
    assert found["unfinished"]
    numbers = [int(word.replace(",", "")) for word in found["refusal"].split() if word.replace(",", "").isdigit()]
    assert "are as fast and" in found["refusal"]
    assert numbers[-1] <= whole["count"] <= numbers[-2] + 8


def test_of_several_pairs_one_without_an_answer_says_why_and_the_others_stand(capsys) -> None:
    code, out, _ = run(capsys, "8xh100-sxm-80gb", "--in", "a800-sxm-80gb", "--model", "gpt2-xl,llama3-405b")
    assert code == 0
    assert "llama3-405b, a800-sxm-80gb: llama3-405b does not fit on 8xh100-sxm-80gb" in out
    assert "gpt2-xl: 8 x h100-sxm-80gb = " in out
    code, _, err = run(capsys, "8xh100-sxm-80gb", "--in", "a800-sxm-80gb", "--model", "llama3-405b")
    assert code == 1
    assert "does not fit" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("h100-sxm-80gb", "--in", "h800-sxm-80gb", "--model", "gpt2"), "is not COUNTxCHIP"),
        (("8xh100-sxm-80gb+h800-sxm-80gb", "--in", "h800-sxm-80gb", "--model", "gpt2"), "put the mix into --in"),
        (("8xh100-sxm-80gb", "--in", ",", "--model", "gpt2"), "--in ',' names nothing; write for example --in h800-sxm-80gb"),
        (("8xh100-sxm-80gb", "--in", "h800-sxm-80gb", "--model", ","), "--model ',' names nothing"),
        (("8xh100-sxm-80gb", "--in", "h800", "--model", "gpt2"), "did you mean h800-"),
        (("0xh100-sxm-80gb", "--in", "h800-sxm-80gb", "--model", "gpt2"), "give at least 1"),
        (("1000000xh100-sxm-80gb", "--in", "h800-sxm-80gb", "--model", "gpt2"), "give at most 131,072"),
        ((*ASKED, "--batch", "12.5"), "give a whole number"),
        ((*ASKED, "--batch", "1e20"), "--batch 1e20: give at most 1,048,576"),
        ((*ASKED, "--tokens", "many"), "--tokens 'many' is not a number"),
        ((*ASKED, "--as-of", "May"), "such as 2023-05"),
        ((*ASKED, "--as-of", "2015-12"), "the oldest chips here are of 2016; give 2016-01 or later"),
        ((*ASKED, "--link", "a800-sxm-80gb.nics=4"), "unknown chip of this cluster 'a800-sxm-80gb'"),
        ((*ASKED, "--same", "rent"), "no quote of h800-sxm-80gb is known; give it with --price h800-sxm-80gb=USD"),
        (
            (*ASKED, "--same", "cost", "--as-of", "2023-05"),
            "no quote of h100-sxm-80gb and h800-sxm-80gb dated by 2023-05 is known; give them with --price h100-sxm-80gb=USD "
            "--price h800-sxm-80gb=USD, per chip and hour",
        ),
        (("8xh100-sxm-80gb", "--in", "h800-sxm-80gb:-1", "--model", "gpt2"), "a share is a whole number of chips from 1"),
        (("8xh100-sxm-80gb", "--in", "h800-sxm-80gb", "--model", "gpt2-xx"), "did you mean gpt2"),
        ((*ASKED, "--picture", "curve.bmp"), "--picture writes .png or .svg"),
        (("8xh100-sxm-80gb", "--in", "h800-sxm-80gb+v100-sxm2-32gb:3", "--model", "gpt2"), "1 share for 2 kinds"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_sentence_with_the_mend(capsys, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_pictures_are_of_chips_for_one_model_and_of_sizes_for_several(capsys, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures are drawn by matplotlib")
    one, several = tmp_path / "one.svg", tmp_path / "several.svg"
    code, out, _ = run(capsys, *ASKED, "--picture", one)
    assert code == 0
    assert f"written: {one}" in out
    drawn = one.read_text()
    assert "How many chips train llama3-8b as fast as 64 h100-sxm-80gb" in drawn
    assert "tokens per second" in drawn
    assert run(capsys, "8xh100-sxm-80gb", "--in", "a800-sxm-80gb", "--model", "gpt2-xl,llama3-405b", "--picture", several)[0] == 0
    drawn = several.read_text()
    assert "by size of model" in drawn
    assert "406 billion" in drawn
    assert "cannot run it" in drawn


def test_quotes_of_one_chip_on_both_sides_do_not_tell_the_sides_apart(capsys) -> None:
    _, out, _ = run(capsys, "64xh100-sxm-80gb", "--in", "h100-sxm-80gb@roce200x8,a100-sxm-80gb", "--model", "llama3-8b")
    ratios = [line for line in out.splitlines() if "the same tokens on" in line]
    assert ["by quote" in line for line in ratios] == [False, True]
