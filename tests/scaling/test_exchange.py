"""Exchange: equal chips are worth one, the number found reaches the aim, and what cannot be replaced says so."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.errors import InputError, UnknownName
from chipassay.results.prices import given_price
from chipassay.results.profile import Curve, Profile, Quantity
from chipassay.scaling.cluster import make_group
from chipassay.scaling.errors import MissingCell
from chipassay.scaling.exchange import exchange_rate, largest_within, legal_counts, per_chip_worth, set_up, smallest_reaching
from chipassay.scaling.models import load_model
from chipassay.scaling.search import best_plan
from chipassay.scaling.text import describe_worth, worth_sentence
from tests.scaling.toys import MEASURED, toy_link, toy_profile


def cpu_profile(rate: float = 9e10, memory_bytes: float = 20e9) -> Profile:
    """A small CPU machine as `chipassay profile` describes one: fp32, a gloo link between its own ranks, no datasheet."""
    return Profile(
        chip_id="cpu-2-cores",
        name="CPU",
        matmul={"fp32": Curve(1e-5, rate, MEASURED), "bf16": Curve(1e-5, rate / 5, MEASURED)},
        attention={"fp32": Curve(2e-5, rate / 3, MEASURED)},
        memory=Curve(1e-6, 2e10, MEASURED),
        links=(replace(toy_link(2, 1e9, 1e-3), transport="gloo"),),
        memory_bytes=Quantity(memory_bytes, MEASURED),
    )


def test_a_chip_is_worth_exactly_one_of_itself() -> None:
    worth = per_chip_worth("llama3-8b", "h100-sxm-80gb", "h100-sxm-80gb")
    assert (worth.low, worth.ratio, worth.high) == (1, 1, 1)


def test_worth_read_backwards_is_the_inverse() -> None:
    there = per_chip_worth("llama3-8b", "h100-sxm-80gb", "a800-sxm-80gb")
    back = per_chip_worth("llama3-8b", "a800-sxm-80gb", "h100-sxm-80gb")
    assert there.ratio == pytest.approx(1 / back.ratio)
    assert there.low == pytest.approx(1 / back.high)


def test_the_published_order_of_the_chips_is_kept() -> None:
    """A100 : V100 was 2.1 on the same code (Megatron-LM), H100 : A100 2.2 (FSDP); the model may miss by a third, not by order."""
    worth = {
        chip: per_chip_worth("llama3-8b", "h100-sxm-80gb", chip).ratio for chip in ("a100-sxm-80gb", "a800-sxm-80gb", "v100-sxm2-32gb")
    }
    assert worth["a100-sxm-80gb"] == pytest.approx(2.2, rel=0.34)
    assert worth["v100-sxm2-32gb"] / worth["a100-sxm-80gb"] == pytest.approx(2.1, rel=0.34)
    assert worth["a100-sxm-80gb"] <= worth["a800-sxm-80gb"]  # the same chip with a cut link is never better


def test_twice_the_chip_is_worth_half_as_many() -> None:
    link = toy_link(busbw=1e15, latency_s=0.0)
    slow = toy_profile(rate=1e14, bandwidth=1e12, overhead_s=0.0, links=(link,), chip_id="slow")
    fast = toy_profile(rate=2e14, bandwidth=2e12, overhead_s=0.0, links=(link,), chip_id="fast")
    assert per_chip_worth("llama2-7b", fast, slow).ratio == pytest.approx(2, rel=1e-2)


def test_a_small_cpu_gets_an_honest_number_with_its_assumed_network_named() -> None:
    cpu = cpu_profile()
    worth = per_chip_worth("llama3-8b", "h100-sxm-80gb", cpu)
    assert 3000 < worth.ratio < 40000  # 737 TFLOP/s over 0.09 is 8,200
    assert worth.low < worth.ratio < worth.high
    assert worth.other.chips > 1  # 16 bytes a weight and 20 GB a machine
    assert worth.other.dtype == "fp32"
    network = next(entry for entry in worth.inputs if entry.what == "cpu-2-cores: network between nodes")
    assert network.evidence.level == "assumed"
    assert "llama3-8b" in worth_sentence(worth)
    assert "assumed" in describe_worth(worth)


@settings(deadline=None)
@given(rate=st.floats(1e9, 1e16), memory_gb=st.floats(4, 2000))  # in less, the logits and embeddings of a stage alone do not fit
def test_worth_is_finite_for_chips_of_any_speed_and_size(rate: float, memory_gb: float) -> None:
    worth = per_chip_worth("gpt2-xl", "h100-sxm-80gb", cpu_profile(rate, memory_gb * 1e9))
    assert 0 < worth.low <= worth.ratio <= worth.high < math.inf


def test_a_chip_of_unknown_speed_is_refused_by_the_missing_cell() -> None:
    with pytest.raises(MissingCell, match="kunlun-p800"):
        per_chip_worth("llama3-8b", "h100-sxm-80gb", "kunlun-p800")


def test_the_number_found_reaches_the_reference_and_is_in_whole_nodes() -> None:
    exchange = exchange_rate("llama3-8b", "h100-sxm-80gb", 32, "a800-sxm-80gb")
    assert exchange.count is not None
    assert exchange.other is not None
    assert exchange.count % 8 == 0
    assert exchange.other.tokens_per_s >= exchange.reference.tokens_per_s
    assert exchange.other.plan.global_batch == pytest.approx(exchange.global_batch, rel=0.05)
    fewer = best_plan("llama3-8b", "64xa800-sxm-80gb", exchange.global_batch)
    assert exchange.count > 64
    assert fewer.tokens_per_s < exchange.reference.tokens_per_s
    assert exchange.count_low is not None
    assert exchange.count_high is not None
    assert exchange.count_low < exchange.count < exchange.count_high
    assert json.loads(json.dumps(exchange.to_dict()))["count"] == exchange.count


@pytest.mark.parametrize("same", ["time", "rent", "power"])
def test_a_chip_exchanged_for_itself_is_as_many_for_certain(same: str) -> None:
    exchange = exchange_rate("llama3-8b", "h100-sxm-80gb", 64, "h100-sxm-80gb", same=same)  # type: ignore[arg-type]
    assert (exchange.count_low, exchange.count, exchange.count_high) == (64, 64, 64)
    assert (exchange.speed_low, exchange.speed, exchange.speed_high) == (1, 1, 1)


def test_there_and_back_is_as_many_up_to_whole_nodes() -> None:
    there = exchange_rate("llama3-8b", "h100-sxm-80gb", 64, "a800-sxm-80gb").count
    assert there is not None
    back = exchange_rate("llama3-8b", "a800-sxm-80gb", there, "h100-sxm-80gb").count
    assert back is not None
    assert 64 <= back <= 64 + 8


@settings(max_examples=6, deadline=None)
@given(compute=st.floats(1, 3), memory=st.floats(1, 3), link=st.floats(1, 10))
def test_a_chip_with_faster_everything_is_never_worth_less(compute: float, memory: float, link: float) -> None:
    plain = toy_profile(links=(toy_link(),), chip_id="plain")
    better = toy_profile(rate=1e14 * compute, bandwidth=1e12 * memory, links=(toy_link(busbw=1e11 * link),), chip_id="better")
    counts = [exchange_rate("llama3-8b", "h100-sxm-80gb", 16, chip, global_batch=256).count for chip in (plain, better)]
    assert counts[0] is not None
    assert counts[1] is not None
    assert counts[1] <= counts[0]


def test_a_number_that_divides_badly_leaves_chips_idle_and_says_so() -> None:
    """GPT-3 has 96 layers and heads: 100 chips hold it only with ZeRO-3, 96 with a pipeline."""
    exchange = exchange_rate("gpt3-175b", "h100-sxm-80gb", 100, "h100-sxm-80gb")
    assert exchange.reference.chips == 96
    assert exchange.reference_run.usd_per_hour == pytest.approx(100 * exchange.reference_run.prices[0].usd)  # type: ignore[union-attr]
    assert any("96 of the 100" in note for note in exchange.notes)


@pytest.mark.parametrize(("model", "count"), [("gpt3-175b", 100), ("llama3-8b", 100), ("gpt2-xl", 3), ("llama3-8b", 12)])
@pytest.mark.parametrize("same", ["time", "cost", "rent", "power", "energy"])
def test_a_number_is_its_own_answer_though_it_fills_no_whole_nodes(model: str, count: int, same: str) -> None:
    exchange = exchange_rate(model, "h100-sxm-80gb", count, "h100-sxm-80gb", same=same)  # type: ignore[arg-type]
    assert (exchange.count_low, exchange.count, exchange.count_high, exchange.speed) == (count, count, count, 1)


def test_fewer_chips_than_a_node_has_may_be_enough() -> None:
    exchange = exchange_rate("gpt2-xl", "a100-sxm-80gb", 8, "b200-sxm-180gb", global_batch=256)
    assert exchange.count is not None
    assert 1 <= exchange.count < 8
    assert "of chips in one node of 8" in exchange.reason
    fleet = set_up("gpt2-xl", "a100-sxm-80gb", 8, "b200-sxm-180gb", global_batch=256).other
    assert all(fleet.speed(count) < exchange.reference.tokens_per_s for count in range(1, exchange.count))


def test_as_many_as_the_reference_are_tried_though_they_fill_no_whole_nodes() -> None:
    """Without a link that matters 12 chips that differ in it alone are as fast, and nobody needs 16."""
    exchange = exchange_rate("gpt2-xl", "h100-sxm-80gb", 12, "h200-sxm-141gb", global_batch=192)
    assert exchange.count is not None
    assert exchange.count <= 12
    trade = set_up("gpt2-xl", "h100-sxm-80gb", 12, "h200-sxm-141gb", global_batch=192)
    assert 12 in trade.other.counts
    assert all(count % 8 == 0 for count in trade.other.counts if count > 8 and count != 12)


def test_of_very_many_chips_one_number_of_nodes_in_each_percent_is_tried() -> None:
    trade = set_up("gpt2-xl", "h100-sxm-80gb", 20_000, "a100-sxm-80gb", global_batch=2**20)
    counts = trade.other.counts
    assert 20_000 in counts  # the reference's own, whatever the steps
    large = [count for count in counts if count > 2**14]
    assert all(count % 8 == 0 for count in large)
    assert len(large) < 1.05 * math.log(2**20 / 2**14) / math.log(1.01)
    assert all(after < 1.03 * before for before, after in itertools.pairwise(large))
    exchange = trade.exchange()
    assert exchange.count is not None
    assert "in whole nodes of 8, tried in steps of 1 %," in exchange.reason
    assert exchange.count_exact is None


def test_a_number_rounded_up_to_whole_nodes_says_how_many_would_do() -> None:
    trade = set_up("llama3-8b", "h100-sxm-80gb", 32, "a800-sxm-80gb", global_batch=480)
    exchange = trade.exchange()
    assert exchange.count is not None
    assert exchange.count_exact is not None
    assert exchange.count - 8 < exchange.count_exact < exchange.count
    assert f"rounded up to these: {exchange.count_exact} would be enough" in exchange.reason
    run = trade.other.run(exchange.count_exact)
    assert run is not None
    assert run.tokens_per_s >= exchange.reference.tokens_per_s * (1 - 1e-9)


def test_as_many_that_are_nearly_as_fast_are_told() -> None:
    """GPT-2 XL needs no link that was cut: 100 H800 miss the speed of 100 H100 by little, and the next numbers divide the batch badly."""
    trade = set_up("gpt2-xl", "h100-sxm-80gb", 100, "h800-sxm-80gb")
    exchange = trade.exchange()
    assert exchange.count is not None
    assert exchange.count > 100
    share = trade.other.up_to(100).tokens_per_s / exchange.reference.tokens_per_s
    assert 0.95 < share < 1
    assert f"100, as many as the reference's, reach {share:.3g} of it" in exchange.reason


def test_the_curve_goes_through_the_reference_and_the_answer() -> None:
    trade = set_up("gpt3-175b", "h100-sxm-80gb", 100, "a100-sxm-80gb")
    exchange = trade.exchange()
    assert exchange.count is not None
    first, second = trade.curve(2 * exchange.count)
    assert max(point.tokens_per_s for point in first if point.chips <= 100) == pytest.approx(exchange.reference.tokens_per_s)
    assert exchange.other is not None
    assert max(point.tokens_per_s for point in second if point.chips <= exchange.count) >= exchange.other.tokens_per_s
    for points in (first, second):
        assert all(a.chips < b.chips and a.tokens_per_s < b.tokens_per_s for a, b in itertools.pairwise(points))


def test_many_numbers_priced_together_are_as_each_by_itself() -> None:
    together, alone = (set_up("mixtral-8x7b", "h100-sxm-80gb", 64, "a800-sxm-80gb", global_batch=256).other for _ in range(2))
    some = [1, 3, 8, 16, 24, 64, 96, 128, 640]
    together.look(some)
    assert [together.speed(count) for count in some] == [alone.speed(count) for count in some]
    assert [together.estimate(count) for count in some] == [alone.estimate(count) for count in some]


def test_a_cut_link_leaves_less_doubt_than_another_silicon() -> None:
    """What is unsure of the H100's kernels is as unsure of the H800's, and cancels; the A800 has its own."""
    spreads = {
        chip: (worth := per_chip_worth("llama3-8b", "h100-sxm-80gb", chip)).high / worth.low for chip in ("h800-sxm-80gb", "a800-sxm-80gb")
    }
    assert 1 < spreads["h800-sxm-80gb"] < spreads["a800-sxm-80gb"]


def test_on_the_same_power_chips_that_divide_the_work_badly_stand_idle() -> None:
    """GPT-3 has 96 layers: of 100 chips 96 do more than all, on either side."""
    trade = set_up("gpt3-175b", "h100-sxm-80gb", 100, "h800-sxm-80gb", as_of="2024-12")
    exchange = trade.exchange("power")
    assert exchange.count == 100
    all_at_work = trade.other.run(100)
    assert all_at_work is not None
    assert exchange.other_run is not None
    assert exchange.other_run.prediction.chips == 96
    assert exchange.other_run.tokens_per_s > 1.1 * all_at_work.tokens_per_s
    assert exchange.other_run.watts is not None
    assert exchange.reference_run.watts is not None
    assert exchange.other_run.watts <= exchange.reference_run.watts


@pytest.mark.parametrize(("usd", "count"), [(4.0, 64), (2.0, 128), (3.0, 80)])
def test_for_the_same_rent_there_are_as_many_as_the_money_pays(usd: float, count: int) -> None:
    prices = {"h100-sxm-80gb": given_price("h100-sxm-80gb", 4.0), "a800-sxm-80gb": given_price("a800-sxm-80gb", usd)}
    exchange = exchange_rate("llama3-8b", "h100-sxm-80gb", 64, "a800-sxm-80gb", same="rent", prices=prices)
    assert exchange.count == count  # 256 USD/h, in nodes of 8
    assert exchange.other_run is not None
    assert exchange.other_run.usd_per_hour == pytest.approx(count * usd)


def test_for_the_same_cost_a_run_costs_no_more_and_the_next_number_does() -> None:
    prices = {"h100-sxm-80gb": given_price("h100-sxm-80gb", 4.0), "a800-sxm-80gb": given_price("a800-sxm-80gb", 1.2)}
    trade = set_up("llama3-8b", "h100-sxm-80gb", 64, "a800-sxm-80gb", global_batch=512, prices=prices)
    exchange = trade.exchange("cost")
    assert exchange.count is not None
    aim, found = exchange.reference_run.usd_per_token, trade.other.run(exchange.count)
    assert aim is not None
    assert found is not None
    assert found.usd_per_token is not None
    assert found.usd_per_token <= aim
    assert exchange.count_low is not None
    assert exchange.count_high is not None
    assert exchange.count_low <= exchange.count <= exchange.count_high
    dear = {**prices, "a800-sxm-80gb": given_price("a800-sxm-80gb", 40.0)}
    nothing = exchange_rate("llama3-8b", "h100-sxm-80gb", 64, "a800-sxm-80gb", global_batch=512, same="cost", prices=dear)
    assert nothing.count is None
    assert "the cost of the run is" in nothing.reason
    assert "times the reference's at the least" in nothing.reason
    near = trade.other.run(nothing.nearest_count or 0)
    assert near is not None
    assert near.usd_per_token is not None
    # Dearer chips make each number's run dearer by one factor, so the nearest number is that of the least cost at any price.
    assert nothing.nearest_ratio == pytest.approx(near.usd_per_token * 40.0 / 1.2 / aim)
    assert nothing.nearest_ratio > 1
    assert "80 % interval" not in nothing.reason
    just = 40.0 * 1.02 / nothing.nearest_ratio  # USD an hour at which it costs 2 % more
    prices = {**prices, "a800-sxm-80gb": given_price("a800-sxm-80gb", just)}
    hardly = exchange_rate("llama3-8b", "h100-sxm-80gb", 64, "a800-sxm-80gb", global_batch=512, same="cost", prices=prices)
    assert hardly.nearest_ratio == pytest.approx(1.02)
    assert hardly.reason.endswith("that is within the 80 % interval of the speed: these may do it")


def test_power_and_energy_are_held_to_the_reference() -> None:
    trade = set_up("llama3-8b", "h100-sxm-80gb", 64, "h800-sxm-80gb", global_batch=512)
    power, energy = trade.exchange("power"), trade.exchange("energy")
    assert power.other_run is not None
    assert power.other_run.watts is not None
    assert power.reference_run.watts is not None
    assert power.other_run.watts <= power.reference_run.watts
    assert 64 * 700 < power.reference_run.watts < 2 * 64 * 700  # chips of 700 W, their hosts and the building
    if energy.count is not None:
        assert energy.other_run is not None
        assert energy.other_run.joules_per_token <= energy.reference_run.joules_per_token  # type: ignore[operator]


def test_the_reference_from_which_on_nothing_is_possible_is_faster_than_the_most_there_is() -> None:
    trade = set_up("llama3-8b", "h100-sxm-80gb", 64, "v100-sxm2-32gb", global_batch=256)
    top = trade.exchange(limits=True).ceiling
    assert top is not None
    assert top.beyond is not None
    assert trade.reference.speed(top.beyond) > top.tokens_per_s
    assert max(trade.other.speed(count) for count in trade.other.counts[:: len(trade.other.counts) // 20]) <= 1.05 * top.tokens_per_s
    assert "sequences" in top.reason


def test_where_eight_sequences_leave_nothing_to_split_the_cut_link_never_reaches_it() -> None:
    exchange = exchange_rate("gpt2", "h100-sxm-80gb", 8, "h800-sxm-80gb", global_batch=8)
    assert exchange.count is None
    assert exchange.ceiling is not None
    assert 0.5 < exchange.ceiling.share < 1
    assert exchange.ceiling.beyond == 8
    assert "at a batch of 8 sequences" in exchange.reason


def test_a_model_that_nothing_holds_says_what_it_would_need() -> None:
    tiny = replace(cpu_profile(), memory_bytes=Quantity(1e8, MEASURED))
    with pytest.raises(Exception, match="fits on no cluster"):
        exchange_rate("llama3-8b", "h100-sxm-80gb", 8, tiny)


def test_a_what_if_of_a_link_changes_the_answer_and_is_told() -> None:
    from chipassay.scaling.what_if import parse_changes

    def count(*texts: str) -> tuple[int | None, str]:
        found = exchange_rate("gpt3-13b", "a100-sxm-80gb", 64, "a800-sxm-80gb", global_batch=512, changes=parse_changes(texts))
        return found.count, " ".join(one.what for one in found.inputs)

    cut, _ = count("a800-sxm-80gb.scaleup=20GB/s/direction")
    whole, told = count("a800-sxm-80gb.scaleup=600GB/s")
    assert cut is not None
    assert whole is not None
    assert whole <= cut
    assert whole <= 64 + 8
    assert "what if a800-sxm-80gb.scaleup" in told


def test_what_cannot_be_asked_is_refused_with_the_mend() -> None:
    with pytest.raises(UnknownName, match="did you mean time"):
        exchange_rate("llama3-8b", "h100-sxm-80gb", 8, "a800-sxm-80gb", same="tim")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give at least 1"):
        exchange_rate("llama3-8b", "h100-sxm-80gb", 0, "a800-sxm-80gb")
    with pytest.raises(MissingCell, match="--price a800-sxm-80gb=USD"):
        exchange_rate("llama3-8b", "h100-sxm-80gb", 8, "a800-sxm-80gb", same="rent")
    with pytest.raises(InputError, match="name one kind of chip"):
        exchange_rate("llama3-8b", "h100-sxm-80gb+a800-sxm-80gb", 8, "a800-sxm-80gb")


def test_an_exchange_is_plain_json_even_where_its_interval_has_no_end() -> None:
    exchange = replace(exchange_rate("llama3-8b", "h100-sxm-80gb", 16, "a800-sxm-80gb"), count_high=math.inf)
    told = json.loads(json.dumps(exchange.to_dict(), allow_nan=False))
    assert told["count_high"] is None
    assert told["other_run"]["chips"] == exchange.count


def test_a_number_that_divides_no_power_of_two_is_exchanged_at_a_batch_near_the_usual_one() -> None:
    exchange = exchange_rate("llama3-8b", "h100-sxm-80gb", 100, "a100-sxm-80gb")
    assert exchange.reference.chips == 100
    assert exchange.global_batch == pytest.approx(512, rel=0.05)
    assert exchange.count is not None


def test_where_no_number_reaches_it_the_reason_and_the_ratio_remain() -> None:
    exchange = exchange_rate("llama3-8b", "h100-sxm-80gb", 8, cpu_profile())
    assert exchange.count is None
    assert exchange.reason.startswith("no number of cpu-2-cores reaches it: ")
    assert exchange.ratio is not None
    assert exchange.ratio > 1000
    assert exchange.ceiling is not None
    assert 0 < exchange.ceiling.share < 1
    assert exchange.speed == pytest.approx(exchange.ceiling.share, rel=0.05)
    assert exchange.ceiling.beyond == 8  # of whole nodes: already so many are faster


@given(
    counts=st.lists(st.integers(1, 500), min_size=1, max_size=60, unique=True).map(sorted),
    start=st.integers(0, 80),
    aim=st.floats(0.1, 600),
    exponent=st.sampled_from((1.0, 0.8, 0.3, 0.01)),
    least=st.sampled_from((0, 50)),
    most=st.sampled_from((1e9, 100.0)),
)
def test_the_first_count_that_reaches_the_aim_is_found(
    counts: list[int], start: int, aim: float, exponent: float, least: int, most: float
) -> None:
    """Speeds grow with the chips in any measure, too few cannot run, and somewhere it may go no further."""
    asked: list[int] = []

    def speed(index: int) -> float:
        asked.append(index)
        return min(most, counts[index] ** exponent) if counts[index] >= least else 0.0

    found = smallest_reaching(counts, start, speed, aim)
    assert len(asked) == len(set(asked)) <= 16  # 60 numbers: 6 halvings, and 6 doublings to a bracket
    assert found == next((index for index in range(len(counts)) if speed(index) >= aim), None)


def test_a_speed_near_enough_is_taken_without_asking_for_the_number_before_it() -> None:
    asked: list[int] = []

    def speed(index: int) -> float:
        asked.append(index)
        return 100.0 + index

    assert smallest_reaching(list(range(1, 50)), 4, speed, 103.0, near=0.02) == 4
    assert asked == [4]


@given(least=st.integers(1, 40), aim=st.floats(0.5, 60), slope=st.floats(0.1, 3))
def test_the_largest_count_within_a_limit_is_the_last_before_it(least: int, aim: float, slope: float) -> None:
    """Too few cannot be used; from there on the value falls for a while and rises again."""
    counts = list(range(1, 400))

    def value(count: int) -> float:
        return math.inf if count < least else 10 / (count - least + 1) + slope * count

    found, cheapest = largest_within(counts, value, aim)
    within = [count for count in counts if value(count) <= aim]
    assert cheapest is not None
    if found is None:
        # Only a dip between two samples may be missed.
        assert not within or max(within) / min(within) < 2
    else:
        assert value(found) <= aim
        assert found == counts[-1] or value(found + 1) > aim


def test_legal_counts_are_whole_nodes_that_some_split_uses() -> None:
    counts = legal_counts(load_model("llama3-8b"), make_group(1, toy_profile(links=(toy_link(),))), 64)
    assert counts == sorted(counts)
    assert all(count % 8 == 0 for count in counts)
    assert 64 in counts


def test_loading_the_model_needs_neither_torch_nor_pandas() -> None:
    code = "import sys, chipassay.scaling.text; sys.exit(bool({'torch', 'pandas', 'numpy', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
