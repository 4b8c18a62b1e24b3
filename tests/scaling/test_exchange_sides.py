"""Sides of an exchange: chips by the node, mixes in their shares, and mixes at work."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipassay.results.errors import InputError, UnknownName
from chipassay.results.prices import given_price
from chipassay.scaling.exchange import exchange_rate, parse_side, set_up, side_of
from chipassay.scaling.what_if import parse_changes

MIX = "a800-sxm-80gb+v100-sxm2-32gb"


def test_one_chip_is_had_by_the_node() -> None:
    side = parse_side("h100-sxm-80gb@ndr400x4")
    assert side.unit == (8,)
    assert side.groups(16)[0].name == "16xh100-sxm-80gb@ndr400x4"


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        (MIX, (8, 8)),
        (f"{MIX}:3:1", (24, 8)),
        (f"{MIX}:2:4", (8, 16)),
        ("h100-sxm-80gb@ndr400x8+a800-sxm-80gb@hdr200x4:16:8", (16, 8)),
        ("a800-sxm-80gb+v100-sxm2-32gb+p100-sxm2-16gb:1:1:2", (8, 8, 16)),
        ("h100-sxm-80gb+a800-sxm-80gb@hdr200x4/2:4", (8, 8)),
        ("h100-sxm-80gb+a800-sxm-80gb@hdr200x4/2:4:3:1", (24, 8)),
    ],
)
def test_a_mix_is_had_in_its_shares_by_whole_nodes(text: str, unit: tuple[int, ...]) -> None:
    side = parse_side(text)
    assert side.unit == unit
    assert side.cluster(2 * sum(unit)).count == 2 * sum(unit)


@given(shares=st.lists(st.integers(1, 1000), min_size=2, max_size=2))
def test_the_unit_is_whole_nodes_in_the_shares_and_as_small_as_can_be(shares: list[int]) -> None:
    first, second = parse_side(f"{MIX}:{shares[0]}:{shares[1]}").unit
    assert first % 8 == 0
    assert second % 8 == 0
    assert first * shares[1] == second * shares[0]
    assert math.gcd(first // 8, second // 8) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{MIX}:3", "has 1 share for 2 kinds"),
        (f"{MIX}:1:2:3", "has 3 shares for 2 kinds"),
        (f"{MIX}:-1:1", "a whole number of chips from 1"),
        ("a800-sxm-80gb:3", "is one kind of chip, so it has no shares; leave :3 out"),
        (f"{MIX}:3:0", "a whole number of chips from 1"),
        (f"{MIX}:1:2000", "a whole number of chips from 1"),
        ("a800-sxm-80gb+", "names no chip in one place"),
        ("+", "names no chip in one place"),
        ("a800-sxm-80gb+a800-sxm-80gb", "names a800-sxm-80gb twice"),
    ],
)
def test_a_mix_that_cannot_be_is_refused_with_the_mend(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        parse_side(text)


def test_a_chip_that_is_none_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="h800-sxm-80gb"):
        parse_side("h800-sxm+v100-sxm2-32gb")


def test_a_number_that_is_no_multiple_of_the_unit_is_refused() -> None:
    with pytest.raises(InputError, match="give a multiple of 16"):
        parse_side(MIX).groups(24)


def test_changes_go_to_the_chip_they_name() -> None:
    side = side_of(MIX, changes=parse_changes(["a800-sxm-80gb.nics=2", "v100-sxm2-32gb.power=250W"]))
    first, second = side.groups(32)
    assert first.fabric.nics == 2
    assert second.profile.power_w is not None
    assert second.profile.power_w.value == 250
    assert side.groups(16)[0].fabric.nics != 2  # one node has no network to change


def test_a_mix_that_is_as_fast_has_both_kinds_in_their_shares_and_says_what_each_would_do_alone() -> None:
    exchange = exchange_rate("gpt2-large", "h100-sxm-80gb", 4, MIX, global_batch=64)
    assert exchange.count is not None
    assert exchange.count % 16 == 0
    assert exchange.other_run is not None
    assert [group.count for group in exchange.other_run.groups] == [exchange.count // 2] * 2
    assert exchange.other_run.tokens_per_s >= exchange.reference.tokens_per_s
    assert exchange.other_run.watts is not None
    assert exchange.mix is not None
    assert {kinds for option in exchange.mix.without for kinds in option.kinds} == set(MIX.split("+"))
    assert exchange.ratio is None
    assert any("no way to train one" in note for note in exchange.notes)
    assert exchange.count_low is not None
    assert exchange.count_high is not None
    assert exchange.count_low <= exchange.count <= exchange.count_high
    assert exchange.to_dict()["mix"]["best"]["tokens_per_s"] == exchange.other_run.tokens_per_s


def test_a_kind_that_does_not_help_is_left_out_of_the_work_and_of_the_power_but_paid_for() -> None:
    """A P100 is a twentieth of an A800; a model of 1.5 billion weights fits on the A800 alone."""
    fleet = set_up(
        "gpt2-xl", "h100-sxm-80gb", 8, "p100-sxm2-16gb+a800-sxm-80gb", global_batch=64,
        prices={chip: given_price(chip, 1.0) for chip in ("p100-sxm2-16gb", "a800-sxm-80gb")},
    ).other  # fmt: skip
    run = fleet.run(16)
    assert run is not None
    assert [group.profile.chip_id for group, _ in run.working] == ["a800-sxm-80gb"]
    assert run.dtypes == ("bf16",)
    assert run.usd_per_hour == 16
    assert run.watts is not None
    assert 8 * 400 < run.watts < 8 * 800
    assert run.prediction.chips <= 8
    assert "of the 16 work" in run.text


def test_the_interval_of_a_mix_holds_numbers_that_reach_its_ends() -> None:
    """Few numbers are worked out, so the ends are in proportion to one a little above: as fast as they must be, and no far miss."""
    trade = set_up("gpt2-large", "h100-sxm-80gb", 8, MIX, global_batch=256)
    exchange = trade.exchange()
    assert exchange.count is not None
    assert exchange.count_low is not None
    assert exchange.count_high is not None
    assert exchange.count_low <= exchange.count <= exchange.count_high
    assert exchange.speed is not None
    assert exchange.speed_high is not None
    spread = exchange.speed_high / exchange.speed
    aim = exchange.reference.tokens_per_s
    for end, wanted in ((exchange.count_low, aim / spread), (exchange.count_high, aim * spread)):
        if math.isfinite(end) and end != exchange.count:
            assert end % trade.other.side.unit_chips == 0
            assert trade.other.speed(int(end)) >= 0.97 * wanted
            before = int(end) - trade.other.side.unit_chips
            assert not before or trade.other.speed(before) < 1.05 * wanted
