"""How sure a ratio is: what two sides of one silicon have wrong together cancels, and what is only supposed makes no side surer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from chipassay.scaling.exchange import Run, ratio_sigma, set_up, side_of
from chipassay.scaling.exchange.spread import TWINS_SIGMA
from chipassay.scaling.what_if import parse_changes

MODEL, CHIPS, BATCH = "llama3-70b", 128, 512
UNCUT = "h800-sxm-80gb.scaleup=900GB/s-both"


def run(chip: str, *changes: str) -> Run:
    """The best plan of a chip, with what is otherwise of it."""
    found = set_up(MODEL, "h100-sxm-80gb", CHIPS, side_of(chip, None, parse_changes(changes)), global_batch=BATCH).other.run(CHIPS)
    assert found is not None
    return found


def sigma(one: Run, other: Run) -> float:
    return ratio_sigma(one.prediction, other.prediction, one.groups, other.groups)


def test_a_chip_and_itself_are_as_fast_for_certain_and_the_order_is_no_matter() -> None:
    cut, uncut, full = run("h800-sxm-80gb"), run("h800-sxm-80gb", UNCUT), run("h100-sxm-80gb")
    assert sigma(cut, cut) == sigma(uncut, uncut) == 0
    for one, other in ((cut, uncut), (cut, full), (uncut, full)):
        assert sigma(one, other) == pytest.approx(sigma(other, one))


def test_two_chips_of_one_silicon_differ_by_what_single_chips_do_and_by_their_traffic_alone() -> None:
    full, cut, uncut, other = (run(chip, *changes) for chip, *changes in (
        ("h100-sxm-80gb",), ("h800-sxm-80gb",), ("h800-sxm-80gb", UNCUT), ("a100-sxm-80gb",),
    ))  # fmt: skip
    assert TWINS_SIGMA < sigma(full, uncut) < sigma(full, cut) < 0.12 < sigma(full, other)


def test_a_chip_with_another_link_is_still_the_same_silicon() -> None:
    """Its kernels are as they were; only the traffic, and the share of the step that it leaves them, may be off."""
    cut, uncut = run("h800-sxm-80gb"), run("h800-sxm-80gb", UNCUT)
    assert 0 < sigma(cut, uncut) < TWINS_SIGMA
    nics = run("h800-sxm-80gb", "h800-sxm-80gb.nics=2")
    assert 0 < sigma(cut, nics) < TWINS_SIGMA


@pytest.mark.parametrize("change", ["bandwidth=4.8TB/s", "power=500W"])
def test_a_chip_whose_kernels_would_run_otherwise_is_another_chip(change: str) -> None:
    assert sigma(run("h800-sxm-80gb"), run("h800-sxm-80gb", f"h800-sxm-80gb.{change}")) > TWINS_SIGMA


def test_a_link_that_is_supposed_is_no_surer_than_the_one_that_is_known() -> None:
    """1 % more than the H800's own link: the same plan, the same shares of the step."""
    full, known, supposed = run("h100-sxm-80gb"), run("h800-sxm-80gb"), run("h800-sxm-80gb", "h800-sxm-80gb.scaleup=404GB/s-both")
    assert supposed.text == known.text
    assert sigma(full, supposed) > sigma(full, known)


def test_the_interval_of_a_what_if_is_carried_into_the_number() -> None:
    trade = set_up(MODEL, "h100-sxm-80gb", CHIPS, side_of("h800-sxm-80gb", None, parse_changes([UNCUT])), global_batch=BATCH)
    found = trade.exchange()
    assert found.count == CHIPS  # the same chip in all but its name
    assert found.speed == pytest.approx(1, rel=1e-4)  # profiles round to six digits, the change of the link does not
    assert found.count_low is not None
    assert found.count_high is not None
    assert found.count_low < found.count < found.count_high
    assert found.speed_high is not None
    assert math.log(found.speed_high / found.speed) == pytest.approx(1.2816 * sigma(trade.aim, run("h800-sxm-80gb", UNCUT)), rel=1e-6)


def test_where_the_host_rules_one_step_and_not_the_other_little_cancels() -> None:
    """Of 9 published pairs like that only 3 lay within what two chips of one silicon differ by otherwise."""
    pair = set_up("gpt2-xl", "a100-sxm-80gb", 8, "a100-sxm-40gb", global_batch=64)
    plain = pair.other.run(8)
    assert plain is not None
    breakdown = dict(plain.prediction.breakdown_s)
    ruled = replace(plain.prediction, breakdown_s={**breakdown, "host": breakdown["host"] + plain.prediction.step_time_s})
    free = replace(plain.prediction, breakdown_s={**breakdown, "host": 0.0})
    assert ratio_sigma(ruled, free, plain.groups, plain.groups) > 2 * TWINS_SIGMA
    assert ratio_sigma(free, free, plain.groups, pair.aim.groups) < 2 * TWINS_SIGMA
