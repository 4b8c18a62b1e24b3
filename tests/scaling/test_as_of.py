"""As of a month: chips that came later are refused, the software is that of its time, quotes are no younger."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipassay.results.errors import InputError
from chipassay.scaling.as_of import (
    SOFTWARE,
    TECHNIQUES,
    check_date,
    check_known,
    check_released,
    later_techniques,
    later_used,
    left_out,
    of_its_time,
    settings_as_of,
    software_as_of,
)
from chipassay.scaling.exchange import exchange_rate, set_up
from chipassay.scaling.grid import grid
from chipassay.scaling.models import load_model
from chipassay.scaling.plan import ATTENTIONS, Plan
from chipassay.scaling.plans import Plans


@pytest.mark.parametrize(
    ("month", "attention"),
    [
        ("2020-06", "unfused"),
        ("2022-05", "unfused"),
        ("2022-06", "flash1"),
        ("2023-05", "flash1"),
        ("2023-07", "flash2"),
        ("2024-06", "flash2"),
        ("2024-07", "flash"),
        ("2026-01", "flash"),
    ],
)
def test_attention_is_what_was_published_by_then(month: str, attention: str) -> None:
    """arXiv 2205.14135 (27 May 2022), 2307.08691 (17 July 2023), 2407.08608 (11 July 2024)."""
    assert software_as_of(month).attention == attention


def test_classes_of_software_are_in_order_and_each_names_its_source() -> None:
    assert [one.since for one in SOFTWARE] == sorted(one.since for one in SOFTWARE)
    order = [ATTENTIONS.index(one.attention) for one in SOFTWARE]
    assert order == sorted(order, reverse=True)
    assert all(re.search(r"arXiv:\d{4}\.\d{5}", one.source) for one in SOFTWARE)


def test_what_else_all_plans_share_is_kept() -> None:
    found = settings_as_of("2021-01", Plan(global_batch=8, optimizer="adam-8bit", attention="flash2", overlap_tp=True))
    assert (found.optimizer, found.attention, found.overlap_tp) == ("adam-8bit", "unfused", False)


@pytest.mark.parametrize("month", ["2023", "2023-13", "2023-00", "23-05", "2023-05-01", "May 2023", "", "1023-05"])
def test_what_is_no_month_is_refused(month: str) -> None:
    with pytest.raises(InputError, match="such as 2023-05"):
        check_date(month)


@given(st.from_regex(r"(19|20)[0-9]{2}-(0[1-9]|1[0-2])", fullmatch=True))
def test_every_month_has_its_software(month: str) -> None:
    assert software_as_of(month).since <= month


def test_a_later_chip_is_refused_with_one_of_the_time() -> None:
    check_released(["h100-sxm-80gb", "h800-sxm-80gb"], "2023-05")
    with pytest.raises(InputError, match=r"h200-sxm-141gb came in 2024, after 2023-05; name one of that time, such as h100"):
        check_released(["h100-sxm-80gb", "h200-sxm-141gb"], "2023-05")
    with pytest.raises(InputError, match="the catalogue knows no year of it"):
        check_released(["cpu-2-cores"], "2023-05")


def test_an_exchange_as_of_a_month_runs_that_software_and_names_it() -> None:
    old = exchange_rate("llama3-8b", "a100-sxm-80gb", 16, "v100-sxm2-32gb", global_batch=128, as_of="2021-06")
    assert old.reference.plan.attention == "unfused"
    assert old.other is not None
    assert old.other.plan.attention == "unfused"
    assert any(one.what == "software as of 2021-06" for one in old.inputs)
    new = exchange_rate("llama3-8b", "a100-sxm-80gb", 16, "v100-sxm2-32gb", global_batch=128, as_of="2026-06")
    assert new.reference.tokens_per_s > old.reference.tokens_per_s


def test_quotes_are_those_dated_by_then_and_a_missing_one_is_told() -> None:
    early = set_up("llama3-8b", "h100-sxm-80gb", 8, "a100-sxm-80gb", as_of="2023-12")
    price = early.aim.prices[0]
    assert price is not None
    assert price.date_last <= "2023-12-31"
    none = exchange_rate("llama3-8b", "h100-sxm-80gb", 8, "h800-sxm-80gb", as_of="2023-05")
    assert any("no quote of h100-sxm-80gb dated by 2023-05" in note for note in none.notes)


@pytest.mark.parametrize(
    ("month", "latest"),
    [
        ("2018-06", "data parallelism"),
        ("2019-09", "tensor parallelism"),
        ("2023-05", "sharding"),
        ("2024-09", "context"),
        ("2024-10", "operator"),
    ],
)
def test_plans_use_what_was_published_by_then(month: str, latest: str) -> None:
    """Megatron-LM September 2019, ZeRO October 2019, interleaving April 2021, ring attention October 2023, torchtitan October 2024."""
    settings = Plan(global_batch=256, attention="unfused")
    plans = grid(load_model("llama3-8b"), 64, 8, 256, settings, recomputes=("none", "selective", "operators", "full"))
    found = of_its_time(plans, month)
    assert len(found) > 0
    used = [one.name for one in TECHNIQUES if one.uses(found).any()]
    assert used == [one.name for one in TECHNIQUES if one.since <= month and one.uses(plans).any()]
    assert latest == "data parallelism" or latest in used[-1]
    assert bool(found.sequence_parallel.any()) == (month >= "2022-05")
    assert bool(found.zero_stage.any()) == (month >= "2019-10")
    assert found.chips.tolist() == [64] * len(found)


def test_techniques_are_in_order_and_each_names_its_paper() -> None:
    assert [one.since for one in TECHNIQUES] == sorted(one.since for one in TECHNIQUES)
    assert all(re.search(r"arXiv:\d{4}\.\d{5}", one.source) for one in TECHNIQUES)
    assert later_techniques("2026-01") == ()


def test_the_plans_of_an_exchange_are_of_its_month() -> None:
    """Of Llama 3 8B on 16 H100 the best plan of today cuts sequences over chips, which in May 2023 nobody did beside fused attention."""
    today = exchange_rate("llama3-8b", "h100-sxm-80gb", 16, "a100-sxm-80gb")
    then = exchange_rate("llama3-8b", "h100-sxm-80gb", 16, "a100-sxm-80gb", as_of="2023-05")
    assert today.reference.plan.cp > 1
    assert then.other is not None
    assert then.worth is not None
    for found in (then.reference, then.other, then.worth.reference, then.worth.other):
        assert found.plan.cp == 1
        assert found.plan.recompute != "operators"
    assert then.reference.tokens_per_s < today.reference.tokens_per_s


def test_before_zero_the_optimizer_is_whole_on_each_chip() -> None:
    found = exchange_rate("bert-large", "v100-sxm2-32gb", 16, "p100-sxm2-16gb", as_of="2018-06")
    assert found.other is not None
    assert [(one.plan.dp > 1, one.plan.zero_stage, one.plan.tp) for one in (found.reference, found.other)] == [(True, 0, 1)] * 2


def test_a_month_before_all_that_is_known_is_refused_and_one_after_it_is_told() -> None:
    check_known("2016-01")
    with pytest.raises(
        InputError, match="as of 2015-12: nothing that old is known, the oldest chips here are of 2016; give 2016-01 or later"
    ):
        check_known("2015-12")
    [told] = left_out(["h100-sxm-80gb"], "2035-01")
    assert re.fullmatch(r"nothing newer than 20\d\d-\d\d is known: no chip, software or quote", told)
    assert any("nothing newer than" in note for note in exchange_rate("gpt2", "h100-sxm-80gb", 8, "h100-sxm-80gb", as_of="2035-01").notes)


def test_what_is_left_out_as_later_is_told() -> None:
    told = " ".join(left_out(["h100-sxm-80gb", "h800-sxm-80gb", "a100-sxm-80gb"], "2023-12"))
    for words in ("FlashAttention-3 (2024-07)", "recomputation by operator (2024-10)", "quotes of h100-sxm-80gb are dated later"):
        assert words in told
    assert "FlashAttention-2" not in told
    assert "of h800-sxm-80gb the catalogue knows the year alone" not in told  # by December the year is over
    assert "of h800-sxm-80gb the catalogue knows the year alone, 2023: it may have come after 2023-05" in left_out(
        ["h800-sxm-80gb"], "2023-05"
    )


def test_what_a_plan_uses_before_its_time_is_named_with_its_month() -> None:
    plans = Plans.of([Plan(global_batch=8, dp=4, cp=2, zero_stage=1, recompute="operators")])
    assert later_used(plans, "2023-05") == ("context parallelism (2023-10)", "recomputation by operator (2024-10)")
    assert later_used(plans, "2024-01") == ("recomputation by operator (2024-10)",)
    assert later_used(plans, "2024-10") == ()
