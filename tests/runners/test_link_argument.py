"""`--link`: predictions of a chip that is otherwise than it is."""

from __future__ import annotations

import json

import pytest

from chipassay.runners.cli import main

PLAN = ("--plan", "tp=8,dp=2,zero=1,sp=yes,recompute=full", "--batch", "64")


def predicted(capsys, cluster: str, *arguments: str) -> dict:
    assert main(["predict", "--json", "--model", "llama3-8b", "--cluster", cluster, *PLAN, *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_predict_gives_an_h800_the_link_of_an_h100(capsys) -> None:
    found = predicted(capsys, "16xh800-sxm-80gb", "--link", "h800-sxm-80gb.scaleup=900GB/s-both")
    assert found["step_time_s"] == pytest.approx(predicted(capsys, "16xh100-sxm-80gb")["step_time_s"], rel=0.01)
    assert "what if h800-sxm-80gb.scaleup" in {one["what"] for one in found["inputs"]}


def test_a_change_of_a_chip_that_takes_no_part_is_refused(capsys) -> None:
    code = main(["predict", "--model", "llama3-8b", "--cluster", "16xh800-sxm-80gb", "--link", "h100-sxm-80gb.nics=4"])
    assert code == 2
    assert "unknown chip of this cluster 'h100-sxm-80gb'; did you mean h800-sxm-80gb?" in capsys.readouterr().err
