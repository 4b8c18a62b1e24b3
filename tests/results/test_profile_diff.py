"""Two profiles side by side: ratios, what is certain of them, and what cannot be told."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from chipassay.results.profile import Curve, Link, Quantity
from chipassay.results.profile_diff import differences, summaries, verdict_of
from chipassay.results.published import profile_from_catalogue

from .profiles_by_hand import GIGA, MEASURED, TERA, chip


def named(found, name):
    (one,) = [one for one in found if one.name == name]
    return one


def test_a_chip_is_its_own_equal_in_everything():
    found = differences(chip(), chip())
    assert {one.verdict for one in found} == {"equal"}
    assert {one.ratio for one in found} == {1.0}


def test_errors_of_both_sides_add_as_independent_ones():
    a, b = chip(spread=0.03), chip("chip-b", rate=800 * TERA, spread=0.04)
    one = named(differences(a, b), "matmul bf16")
    assert one.ratio == pytest.approx(2.0, rel=2e-3)
    # 3 % and 4 % together are 5 %, and 95 % lie within 1.96 of them.
    assert math.log(one.high / one.ratio) == pytest.approx(1.96 * 0.05, rel=1e-3)
    assert math.log(one.ratio / one.low) == pytest.approx(1.96 * 0.05, rel=1e-3)
    assert one.verdict == "higher"


def test_the_other_way_round_each_ratio_is_the_reciprocal_and_each_verdict_the_opposite():
    a, b = chip(), chip("chip-b", rate=250 * TERA, bandwidth=900 * GIGA)
    opposite = {"higher": "lower", "lower": "higher", "only A": "only B", "only B": "only A"}
    there, back = differences(a, b), differences(b, a)
    assert len(there) == len(back)
    for one in there:
        other = named(back, one.name)
        assert other.verdict == opposite.get(one.verdict, one.verdict)
        assert one.ratio is None or other.ratio == pytest.approx(1 / one.ratio)


def test_where_a_side_does_not_know_its_error_there_is_a_ratio_without_an_interval():
    one = named(differences(chip(), chip("chip-b", rate=300 * TERA, spread=None)), "matmul bf16")
    assert (one.low, one.high, one.verdict) == (None, None, "unsure")
    assert one.ratio == pytest.approx(0.75, rel=2e-3)


@pytest.mark.parametrize(
    ("ratio", "reach", "verdict"),
    [
        (1.0, 9.0, "equal"),
        (1.05, 0.1, "equal"),
        (1.05, 0.04, "higher"),
        (0.95, 0.04, "lower"),
        (1.1, 0.2, "unclear"),
        (0.7, 0.5, "unclear"),
    ],
)
def test_equal_needs_an_interval_that_holds_one_and_is_narrow(ratio, reach, verdict):
    assert verdict_of(ratio, reach) == verdict


def test_what_one_side_alone_knows_is_told_and_what_neither_knows_is_not():
    a = chip()
    b = replace(chip("chip-b"), launch_s={}, memory_ops={**a.memory_ops, "adam": Curve(0.0, 1e12, MEASURED)})
    found = differences(a, b)
    assert named(found, "launch stream").verdict == "only A"
    assert named(found, "adam").verdict == "only B"
    assert not any(one.name == "gelu" for one in found)


def test_peaks_that_differ_by_the_rounding_of_a_datasheet_are_equal():
    a = chip()
    b = replace(chip("chip-b"), peak_flops_per_s={"bf16": Quantity(500.4 * TERA, MEASURED), "fp32": Quantity(25 * TERA, MEASURED)})
    found = differences(a, b)
    assert named(found, "peak bf16").verdict == "equal"
    assert named(found, "peak fp32").verdict == "lower"


def test_chips_of_two_generations_meet_in_16_bit_whatever_it_is_called():
    found = differences(profile_from_catalogue("a100-sxm-80gb"), profile_from_catalogue("v100-sxm2-32gb"))
    one = named(found, "GPT-3 175B TP 8, MLP up, 16 bit")
    assert "bf16" in one.a.note
    assert "fp16" in one.b.note
    assert 0.3 < one.ratio < 0.6


def test_h800_is_the_h100_in_16_bit_products_and_not_in_fp64_nor_in_its_links():
    # Published: NVLink 400 of 900 GB/s and FP64 of 1 TFLOP/s, the rest untouched.
    found = differences(profile_from_catalogue("h100-sxm-80gb"), profile_from_catalogue("h800-sxm-80gb"))
    assert named(found, "peak fp64").ratio == pytest.approx(1 / 67, rel=0.01)
    assert named(found, "Llama 3 8B, MLP down, 16 bit").ratio == pytest.approx(1.0, abs=0.02)
    assert named(found, "all_reduce 8, 1 GiB").ratio < 0.65


def test_a_group_is_summed_up_by_its_verdicts_and_the_range_of_its_ratios():
    a = chip()
    slower = tuple(replace(link, busbw_bytes_per_s=link.busbw_bytes_per_s / 2, segments=()) for link in a.links)
    b = replace(chip("chip-b"), links=slower)
    (links,) = [one for one in summaries(differences(a, b)) if one.group == "links"]
    assert (links.ratio_min, links.ratio_max) == pytest.approx((0.5, 0.5))
    # Group of 2: both know their spread. Of 8 and 16: at least one does not.
    assert links.counts == {"lower": 1, "unsure": 2}


def test_differences_are_plain_json():
    found = [
        one.to_dict() for one in differences(chip(), replace(chip("chip-b"), links=(Link("all_reduce", "nccl", 8, 0.0, 1e9, MEASURED),)))
    ]
    assert json.loads(json.dumps(found, allow_nan=False))[0]["a"]["evidence"]["level"] == "measured"
