"""`--link`: predictions of a chip that is otherwise than it is."""

from __future__ import annotations

import json
import re

import pytest

import chipassay.scaling.planner.planner as planning
from chipassay.runners.cli import main

PLAN = ("--plan", "tp=8,dp=2,zero=1,sp=yes,recompute=full", "--batch", "64")


def predicted(capsys, cluster: str, *arguments: str) -> dict:
    assert main(["predict", "--json", "--model", "llama3-8b", "--cluster", cluster, *PLAN, *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_predict_gives_an_h800_the_link_of_an_h100(capsys) -> None:
    found = predicted(capsys, "16xh800-sxm-80gb", "--link", "h800-sxm-80gb.scaleup=900GB/s")
    assert found["step_time_s"] == pytest.approx(predicted(capsys, "16xh100-sxm-80gb")["step_time_s"], rel=0.01)
    assert "what if h800-sxm-80gb.scaleup" in {one["what"] for one in found["inputs"]}


def test_a_change_of_a_chip_that_takes_no_part_is_refused(capsys) -> None:
    code = main(["predict", "--model", "llama3-8b", "--cluster", "16xh800-sxm-80gb", "--link", "h100-sxm-80gb.nics=4"])
    assert code == 2
    assert "unknown chip of this cluster 'h100-sxm-80gb'; did you mean h800-sxm-80gb?" in capsys.readouterr().err


def test_predict_and_plan_say_what_more_adapters_are_worth(capsys) -> None:
    asked = ("--model", "llama3-8b", "--cluster", "16xh800-sxm-80gb", "--batch", "64", "--link", "h800-sxm-80gb.nics=1")
    assert main(["predict", *asked, "--plan", "dp=16,zero=3,recompute=full"]) == 0
    said = capsys.readouterr().out
    assert "what if h800-sxm-80gb.nics: 1, not 8" in said
    assert re.search(r"without that, by the same plan: step .* on 16 chips: what was changed makes training [\d.]+ % slower", said)
    assert main(["plan", *asked, "--fix", "dp=16", "--top", "1"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"without that, by .*: step .* on 16 chips: what was changed makes ", said)


def test_what_the_change_is_worth_is_the_ratio_of_both_speeds(capsys) -> None:
    found = predicted(capsys, "16xh800-sxm-80gb", "--link", "h800-sxm-80gb.scaleup=900GB/s")["link"]
    here, there = predicted(capsys, "16xh100-sxm-80gb"), predicted(capsys, "16xh800-sxm-80gb")
    assert found["speedup"] == pytest.approx(there["step_time_s"] / here["step_time_s"], rel=0.01)
    assert found["step_time_s_without"] == pytest.approx(there["step_time_s"])
    assert found["changes"] == ["h800-sxm-80gb.scaleup: 900 GB/s both ways together (450 one way) per chip, not 400 (200 one way)"]


def test_a_change_to_what_the_catalogue_says_is_told_to_be_none(capsys) -> None:
    asked = ["predict", "--model", "llama3-8b", "--cluster", "16xh800-sxm-80gb", *PLAN, "--link", "h800-sxm-80gb.scaleup=400GB/s"]
    assert main(asked) == 0
    assert "--link changes nothing: the catalogue says so already" in capsys.readouterr().out


def test_a_change_without_which_nothing_fits_says_so(capsys) -> None:
    asked = ["predict", "--model", "llama3-8b", "--cluster", "16xh800-sxm-80gb", "--plan", "dp=16,zero=1", "--batch", "64"]
    assert main([*asked, "--link", "h800-sxm-80gb.memory=400GiB"]) == 0
    assert "but it does not fit" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["predict", "plan"])
def test_a_change_without_which_there_is_no_plan_says_why(capsys, command: str) -> None:
    asked = [command, "--model", "llama3-70b", "--cluster", "8xh800-sxm-80gb", "--batch", "64", "--link", "h800-sxm-80gb.memory=400GiB"]
    assert main(asked) == 0
    assert "without that: llama3-70b does not fit on 8xh800-sxm-80gb" in capsys.readouterr().out
    assert main([*asked, "--json"]) == 0
    assert "does not fit" in json.loads(capsys.readouterr().out)["link"]["why_not_without"]


def test_an_interrupt_of_the_search_without_the_change_keeps_the_answer_with_it(capsys, monkeypatch) -> None:
    real, calls = planning.plan_best, []

    def interrupted_second(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(planning, "plan_best", interrupted_second)
    code = main(["plan", "--model", "llama3-8b", "--cluster", "16xh800-sxm-80gb", "--link", "h800-sxm-80gb.nics=4", "--top", "1"])
    out = capsys.readouterr().out
    assert code == 130
    assert "best plans by time" in out
    assert "without that" not in out
