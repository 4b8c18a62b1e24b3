"""Profiles made from published figures: fits with known answers, and each number labelled by where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipassay.results.catalogue import find_chip, load_chips
from chipassay.results.errors import UnknownName
from chipassay.results.link import bus_factor
from chipassay.results.profile import load_profile
from chipassay.results.published import profile_from_catalogue
from chipassay.results.published_rows import fit_line, load_published, typical_over_best


@given(overhead_s=st.floats(1e-7, 1e-3), rate=st.floats(1e9, 1e15))
def test_a_line_through_exact_points_is_found_again(overhead_s: float, rate: float) -> None:
    works = [rate * overhead_s * factor for factor in (0.1, 1.0, 10.0, 100.0)]
    found_s, found_rate, spread = fit_line(works, [overhead_s + work / rate for work in works])
    assert found_s == pytest.approx(overhead_s, rel=1e-6)
    assert found_rate == pytest.approx(rate, rel=1e-6)
    assert spread < 1e-6


def test_an_overhead_is_never_negative() -> None:
    overhead_s, rate, _ = fit_line([1e9, 1e10, 1e11], [0.5e-3, 1e-2, 1e-1])
    assert overhead_s == 0
    assert rate > 0


def test_the_bus_factor_of_an_all_reduce_counts_both_halves() -> None:
    assert bus_factor("all_reduce", 8) == 2 * bus_factor("reduce_scatter", 8) == 1.75


def test_a_measured_chip_is_published_and_near_its_figures() -> None:
    h100 = profile_from_catalogue("h100-sxm-80gb")
    curve = h100.matmul["bf16"]
    assert curve.evidence.level == "published"
    assert 700e12 < curve.rate < 794.5e12  # the medians of many shapes, below the best of all
    assert h100.memory is not None
    assert h100.memory.rate == 2900e9


def test_a_cut_chip_computes_like_its_original_and_talks_over_its_own_link() -> None:
    a100, a800 = profile_from_catalogue("a100-sxm-80gb"), profile_from_catalogue("a800-sxm-80gb")
    assert a800.matmul["bf16"].rate == a100.matmul["bf16"].rate
    assert a800.matmul["bf16"].evidence.level == "derived"
    assert "a100-sxm-80gb" in a800.matmul["bf16"].evidence.source
    assert max(link.busbw_bytes_per_s for link in a800.links) < max(link.busbw_bytes_per_s for link in a100.links)


def test_the_two_sixteen_bit_dtypes_of_one_chip_agree_where_only_one_is_published_over_many_shapes() -> None:
    b200 = profile_from_catalogue("b200-sxm-180gb").matmul
    assert b200["fp16"].rate == b200["bf16"].rate
    assert b200["fp16"].evidence.level == "derived"


def test_a_best_shape_is_scaled_down_as_on_the_nearest_chip() -> None:
    b200, gb200 = (profile_from_catalogue(chip_id).matmul["bf16"] for chip_id in ("b200-sxm-180gb", "gb200"))
    assert gb200.rate / 1822e12 == pytest.approx(b200.rate / 1745e12)


def test_a_link_of_unknown_bandwidth_leaves_pcie_and_says_so() -> None:
    links = profile_from_catalogue("ascend-910a").links
    assert {link.evidence.level for link in links} == {"assumed"}
    assert {link.transport for link in links} == {"PCIe"}


def test_a_chip_nobody_published_is_assumed_and_says_so() -> None:
    s4000 = profile_from_catalogue("mtt-s4000")
    assert s4000.matmul["bf16"].evidence.level == "assumed"
    assert s4000.matmul["bf16"].rate < s4000.peak_flops_per_s["bf16"].value


def test_an_unknown_peak_stays_unknown() -> None:
    p800 = profile_from_catalogue("kunlun-p800")
    assert p800.matmul == {}
    assert p800.memory is None


@pytest.mark.parametrize("chip_id", sorted(load_chips()))
def test_no_profile_beats_its_datasheet(chip_id: str) -> None:
    profile, chip = profile_from_catalogue(chip_id), find_chip(chip_id)
    for dtype, curve in profile.matmul.items():
        assert curve.rate <= chip.peak_flops_per_s[dtype]
        assert curve.overhead_s > 0
    for dtype, curve in profile.attention.items():
        assert curve.rate <= chip.peak_flops_per_s[dtype]
    if profile.memory is not None and chip.memory_bandwidth_bytes_per_s is not None:
        assert profile.memory.rate <= chip.memory_bandwidth_bytes_per_s


@pytest.mark.parametrize("chip_id", ["h100-sxm-80gb", "kunlun-p800", "p100-pcie-16gb"])
def test_a_catalogue_profile_survives_the_trip_to_json(chip_id: str, tmp_path: Path) -> None:
    profile = profile_from_catalogue(chip_id)
    profile.save(tmp_path / "profile.json")
    assert load_profile(tmp_path / "profile.json") == profile


def test_typical_shapes_give_less_than_the_best_one() -> None:
    assert 0.6 < typical_over_best() < 1.0


def test_every_published_row_has_a_source_and_a_catalogued_chip() -> None:
    rows = load_published()
    assert len(rows) > 150
    assert all(row.source and row.chip_id in load_chips() for row in rows)


def test_an_unknown_chip_has_no_profile() -> None:
    with pytest.raises(UnknownName):
        profile_from_catalogue("h1000")
