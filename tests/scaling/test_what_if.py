"""What-ifs: an H800 with the link of an H100 is an H100, the catalogue's own figures change nothing, better is no slower."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.results.catalogue import find_chip
from chipassay.results.errors import InputError, UnknownName
from chipassay.scaling.cluster import Group, parse_cluster
from chipassay.scaling.plan import Plan
from chipassay.scaling.predict import Prediction, predict, single_group
from chipassay.scaling.what_if import KINDS, apply, apply_to, parse_changes

TENSOR = Plan(global_batch=64, tp=8, dp=2, zero_stage=1, recompute="full", sequence_parallel=True)
PLANS = (
    TENSOR,
    Plan(global_batch=64, dp=16, zero_stage=3, recompute="full"),
    Plan(global_batch=64, tp=2, pp=4, dp=2, zero_stage=1, recompute="full"),
)


def changed(text: str, cluster: str = "16xh800-sxm-80gb") -> Group:
    return single_group(apply(parse_changes([text]), parse_cluster(cluster)))


def step_s(group: Group, plan: Plan = TENSOR) -> float:
    return predict("llama3-8b", group, plan).step_time_s


def told(found: Prediction, what: str) -> str:
    return next(one.value for one in found.inputs if one.what == what)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.describe())
def test_an_h800_with_the_links_of_an_h100_trains_as_an_h100(plan: Plan) -> None:
    assert step_s(changed("h800-sxm-80gb.scaleup=900GB/s"), plan) == pytest.approx(step_s(_group("16xh100-sxm-80gb"), plan), rel=0.01)


def test_an_h800_is_slower_than_that_where_tensor_parallel_traffic_counts() -> None:
    assert step_s(_group("16xh800-sxm-80gb")) > 1.05 * step_s(changed("h800-sxm-80gb.scaleup=450GB/s/direction"))


def _group(cluster: str) -> Group:
    return single_group(parse_cluster(cluster))


def test_a_link_is_told_both_ways_together_unless_it_says_one_way() -> None:
    texts = ("900GB/s", "900GB/s-both", "450GB/s/direction", "450GB/s-one-way", "450 GB/s/direction", "7.2Tb/s")
    assert {parse_changes([f"h800-sxm-80gb.scaleup={text}"])[0].value for text in texts} == {450e9}


def test_an_adapter_is_told_one_way_unless_it_says_both() -> None:
    texts = ("400Gb/s", "400Gb/s/direction", "800Gb/s-both", "50GB/s")
    assert {parse_changes([f"h800-sxm-80gb.nic={text}"])[0].value for text in texts} == {50e9}


@pytest.mark.parametrize(
    ("chip", "both_ways"), [("h100-sxm-80gb", 900), ("h800-sxm-80gb", 400), ("a100-sxm-80gb", 600), ("a800-sxm-80gb", 400)]
)
def test_the_figures_of_datasheets_are_those_of_the_catalogue(chip: str, both_ways: int) -> None:
    group = _group(f"16x{chip}")
    assert apply_to(parse_changes([f"{chip}.scaleup={both_ways}GB/s"]), group) is group


def test_a_link_beyond_all_of_that_silicon_is_told() -> None:
    found = predict("llama3-8b", changed("h800-sxm-80gb.scaleup=900GB/s/direction"), TENSOR)
    assert "no chip of this silicon (Hopper GH100) has more than the 900 of h" in told(found, "what if h800-sxm-80gb.scaleup")
    assert "silicon" not in told(predict("llama3-8b", changed("h800-sxm-80gb.scaleup=900GB/s"), TENSOR), "what if h800-sxm-80gb.scaleup")


def test_the_prediction_says_what_was_changed_in_both_ways_of_counting_and_that_it_is_assumed() -> None:
    found = predict("llama3-8b", changed("h800-sxm-80gb.scaleup=900GB/s"), TENSOR)
    assert told(found, "what if h800-sxm-80gb.scaleup") == ("900 GB/s both ways together (450 one way) per chip, not 400 (200 one way)")
    assert next(one.evidence.level for one in found.inputs if one.what == "link in the node") == "assumed"


@pytest.mark.parametrize(
    "text",
    [
        "scaleup=400GB/s",
        "scaleup=200GB/s/direction",
        "nics=8",
        "nic=400Gb/s",
        "oversubscription=1",
        "memory=80GiB",
        "bandwidth=3.35TB/s",
        "power=700W",
    ],
)
def test_what_the_catalogue_says_already_changes_nothing(text: str) -> None:
    assert changed(f"h800-sxm-80gb.{text}") == _group("16xh800-sxm-80gb")


@settings(derandomize=True, max_examples=25, deadline=None)
@given(st.floats(1.0, 16.0), st.floats(1.0, 4.0), st.sampled_from(PLANS), st.sampled_from(["h800-sxm-80gb", "a800-sxm-80gb"]))
def test_a_faster_link_never_slows_a_plan(first: float, more: float, plan: Plan, chip: str) -> None:
    one_way = find_chip(chip).link_bytes_per_s_one_way
    assert one_way is not None
    slow, fast = (changed(f"{chip}.scaleup={one_way * ratio / 1e9:.6f}GB/s/direction", f"16x{chip}") for ratio in (first, first * more))
    assert step_s(fast, plan) <= step_s(slow, plan) * (1 + 1e-9)


@settings(derandomize=True, max_examples=15, deadline=None)
@given(st.integers(1, 16), st.integers(1, 16), st.sampled_from(PLANS))
def test_more_network_adapters_never_slow_a_plan(nics: int, more: int, plan: Plan) -> None:
    few, many = (step_s(changed(f"h800-sxm-80gb.nics={count}"), plan) for count in (nics, nics + more))
    assert many <= few * (1 + 1e-9)


def test_an_oversubscribed_network_is_no_faster_and_bears_its_name() -> None:
    group = changed("h800-sxm-80gb.oversubscription=4", "64xh800-sxm-80gb")
    plan = Plan(global_batch=64, dp=64, zero_stage=3, recompute="full")
    assert group.name == "64xh800-sxm-80gb@ndr400x8/4"
    assert step_s(group, plan) > step_s(_group("64xh800-sxm-80gb"), plan)
    assert step_s(group, plan) == pytest.approx(step_s(_group("64xh800-sxm-80gb@ndr400x8/4"), plan))


def test_changed_adapters_are_those_of_the_fabric_of_that_name() -> None:
    asked = changed("h800-sxm-80gb.nics=4,h800-sxm-80gb.nic=200Gb/s")
    named = _group("16xh800-sxm-80gb@ndr200x4")
    assert asked.name == named.name
    assert step_s(asked) == pytest.approx(step_s(named))
    assert told(predict("llama3-8b", asked, TENSOR), "network between nodes").startswith("ndr200x4: 96 GB/s")


def test_more_memory_lets_a_plan_fit_that_did_not() -> None:
    plan = Plan(global_batch=64, dp=16, zero_stage=1)
    assert not predict("llama3-8b", _group("16xh800-sxm-80gb"), plan).fits
    assert predict("llama3-8b", changed("h800-sxm-80gb.memory=400GiB"), plan).fits


def test_memory_bandwidth_and_power_make_a_step_faster() -> None:
    before = step_s(_group("16xh800-sxm-80gb"))
    assert step_s(changed("h800-sxm-80gb.bandwidth=6.7TB/s")) < before
    assert step_s(changed("h800-sxm-80gb.power=350W")) > before


def test_cards_on_pcie_alone_have_its_rate_as_their_link() -> None:
    plan = Plan(global_batch=16, tp=8, recompute="full")
    wide = changed("a10-pcie-24gb.scaleup=600GB/s", "8xa10-pcie-24gb")
    found = predict("gpt3-350m", wide, plan)
    words = told(found, "what if a10-pcie-24gb.scaleup")
    assert words.startswith("600 GB/s both ways together (300 one way) per chip, not 63 (31.5 one way)")
    assert found.step_time_s < 0.8 * predict("gpt3-350m", "8xa10-pcie-24gb", plan).step_time_s


def test_only_the_named_kind_of_a_mixed_cluster_is_changed() -> None:
    cluster = parse_cluster("8xh800-sxm-80gb+8xa800-sxm-80gb")
    found = apply(parse_changes(["a800-sxm-80gb.memory=40GiB"]), cluster)
    assert found.groups[0] is cluster.groups[0]
    assert found.groups[1].profile.memory_bytes is not None
    assert found.groups[1].profile.memory_bytes.value == 40 * 2**30


def test_a_change_of_another_chip_is_refused_for_a_cluster_and_passed_over_for_a_group() -> None:
    changes = parse_changes(["h100-sxm-80gb.nics=4"])
    with pytest.raises(UnknownName, match="did you mean h800-sxm-80gb"):
        apply(changes, parse_cluster("16xh800-sxm-80gb"))
    group = _group("16xh800-sxm-80gb")
    assert apply_to(changes, group) is group


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("h800-sxm-80gb", "is not CHIP.FIELD=VALUE"),
        ("h800-sxm-80gb.scaleup", "is not CHIP.FIELD=VALUE"),
        ("scaleup=9GB/s", "is not CHIP.FIELD=VALUE"),
        ("h800-sxm-80gb.scalup=9GB/s", "did you mean scaleup"),
        ("h800-sxm-80gb.scaleup=900", "the unit is 'missing'"),
        ("h800-sxm-80gb.scaleup=900gb/s", "the unit is 'gb/s'"),
        ("h800-sxm-80gb.scaleup=fast", "no number with a unit"),
        ("h800-sxm-80gb.memory=80GiB-both", "said of links alone"),
        ("h800-sxm-80gb.nics=2.5", "whole number of at least 1"),
        ("h800-sxm-80gb.nics=4W", "can be none"),
        ("h800-sxm-80gb.nics=99999999", "at most 1024"),
        ("h800-sxm-80gb.scaleup=1e400GB/s", "a finite number above 0"),
        ("h800-sxm-80gb.oversubscription=0.5", "of at least 1"),
        ("h800-sxm-80gb.power=0W", "above 0"),
        ("h800-sxm-80gb.power=1e999W", "above 0"),
        ("h800-sxm-80gb.nics=4,H800-sxm-80gb.nics=2", "changed already"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(text: str, part: str) -> None:
    with pytest.raises(InputError, match=part):
        parse_changes([text])


@pytest.mark.parametrize(
    ("text", "cluster", "part"),
    [
        ("a100-pcie-80gb.scaleup=300GB/s", "8xa100-pcie-80gb", "joins 2 of the 8 chips"),
        ("mlu590.scaleup=300GB/s", "8xmlu590", "does not know its link's bandwidth"),
        ("h800-sxm-80gb.nics=4", "8xh800-sxm-80gb@none", "no network between nodes"),
    ],
)
def test_a_change_that_has_no_meaning_for_the_chip_is_refused(text: str, cluster: str, part: str) -> None:
    with pytest.raises(InputError, match=part):
        changed(text, cluster)


def test_every_field_shows_an_example_that_it_accepts() -> None:
    for field, kind in KINDS.items():
        assert parse_changes([f"h100-sxm-80gb.{field}={kind.example.split()[0]}"])[0].field == field
