"""Where an exchange stops being possible: no number beyond it does more, and what is said to stop it does."""

from __future__ import annotations

import re

import pytest

from chipassay.scaling.exchange import Trade, set_up

CASES = (
    ("llama3-8b", "h100-sxm-80gb", 64, "v100-sxm2-32gb", 64),
    ("gpt2-xl", "h100-sxm-80gb", 16, "h800-sxm-80gb", 64),
    ("gpt2-xl", "h100-sxm-80gb", 16, "gb200", 64),
    ("mixtral-8x7b", "h100-sxm-80gb", 64, "a100-sxm-80gb", 64),
    ("llama2-13b", "a100-sxm-80gb", 64, "gb200", 128),
)
"""Small batches, so that all numbers can be looked at."""
FASTER = 1.04
"""What Ceiling says that another number may be faster by."""


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]} on {case[3]}", scope="module")
def trade(request: pytest.FixtureRequest) -> Trade:
    model, reference, count, other, batch = request.param
    return set_up(model, reference, count, other, global_batch=batch)


def test_no_number_of_chips_is_faster_than_the_most_there_is(trade: Trade) -> None:
    top = trade.exchange(limits=True).ceiling
    assert top is not None
    fleet = trade.other
    fleet.look(fleet.counts)
    assert max(map(fleet.speed, fleet.counts)) <= FASTER * top.tokens_per_s
    assert top.tokens_per_s == fleet.speed(top.chips)
    assert max(fleet.speed(count) for count in fleet.counts if count > top.chips) < FASTER * top.tokens_per_s


def test_from_the_number_told_on_the_reference_is_faster_and_before_it_is_not(trade: Trade) -> None:
    top = trade.exchange(limits=True).ceiling
    assert top is not None
    fleet = trade.reference
    if top.beyond is None:
        fleet.look(fleet.counts)
        assert max(map(fleet.speed, fleet.counts)) <= FASTER * top.tokens_per_s
        return
    assert fleet.speed(top.beyond) > top.tokens_per_s
    before = [count for count in fleet.counts if trade.aim.chips <= count < top.beyond]
    fleet.look(before)
    faster = [count for count in before if fleet.speed(count) > top.tokens_per_s]
    assert len(before) > 96 or not faster  # of more numbers not all are looked at


def test_a_number_beyond_the_limit_has_no_exchange(trade: Trade) -> None:
    top = trade.exchange(limits=True).ceiling
    assert top is not None
    if top.beyond is None:
        return
    found = Trade(trade.reference, trade.reference.up_to(top.beyond), trade.other).exchange()
    if found.count is None:
        assert "reaches it" in found.reason
        assert found.nearest_ratio is not None
        assert found.nearest_ratio <= FASTER
    else:  # the most there is is told by closed forms, which pipelines played through may miss by as much
        assert trade.other.speed(found.count) >= top.tokens_per_s / FASTER


def test_what_is_said_to_stop_it_does(trade: Trade) -> None:
    top = trade.exchange(limits=True).ceiling
    assert top is not None
    fleet = trade.other
    told = re.findall(r"(\d+)% ([a-z ]+?)(?= and \d|, and more)", top.reason)
    if not told:
        assert top.chips == fleet.counts[-1] or "divides over no larger number" in top.reason
        return
    estimate = fleet.estimate(top.chips)
    assert estimate is not None
    total = sum(estimate.parts_s.values())
    shares = sorted((seconds / total for kind, seconds in estimate.parts_s.items()), reverse=True)
    assert all(any(abs(share - int(percent) / 100) <= 0.005 for share in shares) for percent, _ in told)
    # More chips: what is told takes a larger share of the step, or they divide the work so badly that they are slower.
    more = next((fleet.estimate(count) for count in fleet.counts if count >= 2 * top.chips and fleet.speed(count)), None)
    if more is not None:
        assert more.tokens_per_s <= FASTER * estimate.tokens_per_s


@pytest.mark.parametrize(
    ("model", "one", "count", "other"),
    [
        ("llama3-8b", "h100-sxm-80gb", 64, "a100-sxm-80gb"),
        ("gpt3-13b", "h100-sxm-80gb", 32, "h800-sxm-80gb"),
        ("gpt2-xl", "a100-sxm-80gb", 8, "v100-sxm2-32gb"),
    ],
)
def test_there_and_back_is_as_many_up_to_the_nodes_that_are_rounded_up_to(model: str, one: str, count: int, other: str) -> None:
    there = set_up(model, one, count, other)
    many = there.exchange().count
    assert many is not None
    back = set_up(model, other, many, one)
    again = back.exchange().count
    assert again is not None
    # So many times faster than it had to be, as whole nodes are; and so much the batch may be moved each way.
    spare = back.aim.tokens_per_s / there.aim.tokens_per_s
    assert count / 1.1 <= again <= count * spare * 1.1 + 8


@pytest.mark.parametrize(("model", "count"), [("llama1-13b", 750), ("gpt3-175b", 1720), ("mt-nlg-530b", 1896)])
def test_no_smaller_number_is_as_fast_however_unevenly_speed_grows(model: str, count: int) -> None:
    """Numbers that divide the batch badly make speed fall as chips are added: a bisection alone stops above such a dip."""
    trade = set_up(model, "h100-sxm-80gb", count, "h800-sxm-80gb", global_batch=2048)
    exchange = trade.exchange()
    assert exchange.count is not None
    smaller = [some for some in trade.other.counts if 0.6 * exchange.count <= some < exchange.count]
    trade.other.look(smaller)
    assert max(map(trade.other.speed, smaller)) < 1.01 * exchange.reference.tokens_per_s


def test_chips_of_the_reference_that_divide_the_work_badly_stand_idle() -> None:
    """Of 1,896 H100 all at work train MT-NLG 530B at 0.59 of the rate of 1,848."""
    trade = set_up("mt-nlg-530b", "h100-sxm-80gb", 1896, "h800-sxm-80gb", global_batch=2048)
    fleet = trade.reference
    fleet.look(fleet.counts)
    most = max(fleet.speed(count) for count in fleet.counts if 0.75 * 1896 <= count <= 1896)
    assert fleet.up_to(1896).tokens_per_s > 0.99 * most
