"""What published runs reached on a chip, and what is said of a plan that is predicted beyond all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chipassay.scaling.models import load_model
from chipassay.scaling.plan import Plan
from chipassay.scaling.planner.measured import HIGHEST_MFU, beyond_measured, load_highest, work_out, written
from chipassay.scaling.planner.planner import plan_best
from chipassay.scaling.predict import predict, single_group


def test_the_table_is_that_of_the_published_runs() -> None:
    """After new runs: python -m chipassay.scaling.planner.measured"""
    assert HIGHEST_MFU.read_text(encoding="utf-8") == written(work_out())


def test_a_known_run_by_hand() -> None:
    """Korthikanti et al. 2022, table 5: 1T weights on 512 A100, 56.3 % of the peak, attention counted in full."""
    highest = load_highest()["a100-sxm-80gb", "fp16"]
    assert highest.run == "kort22-1T-selsp"
    assert 0.55 < highest.mfu_causal < 0.563


def test_an_mfu_beyond_all_that_was_measured_is_told_and_one_within_is_not() -> None:
    found = predict("llama3-8b", "16xa100-sxm-80gb", Plan(global_batch=64, dp=16, zero_stage=3))
    highest = load_highest()["a100-sxm-80gb", "bf16"].mfu_causal
    above, within = (replace(found, mfu_causal=highest * ratio) for ratio in (1.01, 0.99))
    assert "is above the highest of" in beyond_measured(above, "a100-sxm-80gb")
    assert f"{100 * highest:.1f} %" in beyond_measured(above, "a100-sxm-80gb")
    assert beyond_measured(within, "a100-sxm-80gb") == ""


@pytest.mark.parametrize("changed", [{"mfu_causal": None}, {"dtype": "int8"}])
def test_nothing_is_said_where_nothing_is_known(changed: dict) -> None:
    found = replace(predict("llama3-8b", "16xa100-sxm-80gb", Plan(global_batch=64, dp=16, zero_stage=3)), **{"mfu_causal": 0.9, **changed})
    assert beyond_measured(found, "a100-sxm-80gb") == ""


def test_the_planner_says_it_of_its_best() -> None:
    group = single_group("16xa100-sxm-80gb")
    answer = plan_best(load_model("llama3-8b"), group, 512, top=1)
    assert answer.best.prediction.mfu_causal is not None
    assert bool(answer.notes) == (answer.best.prediction.mfu_causal > load_highest()["a100-sxm-80gb", "bf16"].mfu_causal)
    assert answer.to_dict()["notes"] == list(answer.notes)
