"""The links of chips: NVIDIA's tables as they were fitted, sizes and groups left out, rules from relatives, and physics."""

from __future__ import annotations

import importlib.util
import statistics

import pytest

from chipassay.results.catalogue import find_chip, load_chips
from chipassay.results.evidence import Evidence
from chipassay.results.link import Link, Segment
from chipassay.results.links import link_for
from chipassay.results.published_beside import measured_beside
from chipassay.runners.shipped.link_accuracy import (
    PATTERNS,
    begun_large,
    by_rule,
    group_left_out,
    median_off,
    patterns_by_rule,
    root_mean_square,
    sizes_left_out,
)
from chipassay.runners.shipped.link_published import BEGINS_LARGE_SIGMA
from chipassay.runners.shipped.link_relatives import RELATIVES
from chipassay.runners.shipped.link_rules import CUT, OF_PATTERN, OTHER, OVER_PCIE, SAME, by_link, by_pattern, scaled, send_recv
from chipassay.runners.shipped.link_tables import SUSPECT, TABLES, believed, points_of, table_links
from chipassay.runners.shipped.links import links_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("aiconfigurator_core") is None, reason="aiconfigurator-core, the extra aiconfigurator, is not installed"
)

A100, H100, H200, B200, B300 = "a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm-141gb", "b200-sxm-180gb", "b300-sxm-288gb"
A800, H800, RTX = "a800-sxm-80gb", "h800-sxm-80gb", "rtx-pro-6000-blackwell-server"
SIZES = [2.0**exponent for exponent in range(3, 35)]
GOAL = 0.08
"""Median error of all-reduce, all-gather and reduce-scatter from 2 to 8 chips."""


def by_key(chip_id: str) -> dict[tuple[str, int], Link]:
    return {(link.pattern, link.group_size): link for link in links_of(chip_id)}


def bus(link: Link, size_bytes: float) -> float:
    return size_bytes * link.bus_factor / link.time_s(size_bytes)


# What was left out


@pytest.mark.parametrize("chip_id", [A100, H100, B200])
def test_a_size_that_the_fit_has_not_seen_is_within_the_goal(chip_id: str) -> None:
    cells = {(pattern, n): sizes_left_out(chip_id, pattern, n) for pattern in PATTERNS for n in (2, 4, 8)}
    assert all(median_off(errors) <= GOAL for errors in cells.values())
    assert median_off(error for errors in cells.values() for error in errors) <= GOAL / 2


def test_four_chips_from_two_and_eight_are_within_the_goal() -> None:
    errors = {
        chip_id: [error for pattern in PATTERNS for error in group_left_out(chip_id, pattern, 4)]
        for chip_id in (A100, H100, H200, B200, B300, RTX)
    }
    assert median_off(error for chip in errors.values() for error in chip) <= GOAL
    assert all(median_off(chip) < 0.1 for chip in errors.values())


def test_large_messages_agree_with_the_machines_of_others() -> None:
    """1 GiB over 8 chips by nccl-tests: vTrain's A100 node 229.35e9, Azure's ND A100 v4 228.10e9 and ND H100 v5 466.35e9 B/s."""
    for chip_id, published in ((A100, 229.35e9), (A100, 228.1e9), (H100, 466.35e9)):
        assert bus(by_key(chip_id)["all_reduce", 8], 2.0**30) == pytest.approx(published, rel=0.06)


# The tables


def test_a_table_is_read_as_nvidia_wrote_it() -> None:
    """all_reduce of half, 8 chips, 268435456 elements on an H100: 2111 us."""
    points = points_of(H100)["all_reduce", 8]
    assert len(points) == 21
    assert max(points) == pytest.approx((2.0**29, 2.1111e-3), rel=1e-3)
    link = by_key(H100)["all_reduce", 8]
    assert link.evidence.level == "published"
    assert "2.29.2" in link.evidence.source
    assert link.time_s(2.0**29) == pytest.approx(2.1111e-3, rel=0.03)


def test_what_only_moves_bytes_is_one_sweep_of_all_its_types() -> None:
    assert by_key(H100)["all_gather", 8].points == 42
    assert by_key(H100)["reduce_scatter", 8].points == 21


def test_a_table_that_is_not_believed_is_left_out_and_the_reason_told() -> None:
    assert ("l40s-pcie-48gb", 8) in SUSPECT
    assert {link.group_size for link in believed("l40s-pcie-48gb")} == {2}
    link = by_key("l40s-pcie-48gb")["all_reduce", 8]
    assert link.evidence.level == "derived"
    assert "disturbed" in link.evidence.source


@pytest.mark.parametrize("chip_id", sorted(TABLES))
def test_tables_have_all_four_patterns_and_fits_close_to_them(chip_id: str) -> None:
    links = {(link.pattern, link.group_size): link for link in table_links(chip_id)}
    assert {pattern for pattern, _ in links} == {*PATTERNS, "all_to_all"}
    for key, points in points_of(chip_id).items():
        if (chip_id, key[1]) not in SUSPECT:
            off = [abs(links[key].time_s(size) / time - 1) for size, time in points]
            assert statistics.median(off) < 0.06, key


# Rules


def line(latency_s: float, busbw: float, first_bytes: float = 0.0) -> Segment:
    return Segment(first_bytes, latency_s, busbw, 0.0, 0.0, 0.0, 8, 10.0)


TWO_LINES = Link(
    "all_reduce", "nccl", 8, 3e-5, 2e11, Evidence("published", "a table"), 21, 0.03,
    segments=(line(2e-5, 1e10), line(3e-5, 2e11, 2.0**17)), first_bytes=512.0, last_bytes=2.0**29,
)  # fmt: skip


def test_a_cut_link_takes_for_a_message_what_its_parent_takes_for_one_larger_by_the_cut() -> None:
    cut = by_link(TWO_LINES, "parent", 2 / 3, "8 of 12 links", "NVLink", CUT)
    for size in SIZES:
        assert cut.time_s(size) == pytest.approx(TWO_LINES.time_s(size * 1.5))
    assert cut.evidence.level == "derived"
    assert "8 of 12 links" in cut.evidence.source
    assert cut.evidence.source.endswith("a table")
    assert cut.sigma(2.0**29) == pytest.approx(CUT.bandwidth, rel=0.1)
    assert cut.sigma(1024.0) == pytest.approx(CUT.latency, rel=0.1)


def test_latencies_and_bandwidths_scale_each_by_its_own() -> None:
    made = scaled(TWO_LINES, 3.0, 0.5, SAME, "derived", "a rule")
    assert made.small_latency_s == pytest.approx(3 * TWO_LINES.small_latency_s)
    assert made.busbw_bytes_per_s == pytest.approx(0.5 * TWO_LINES.busbw_bytes_per_s)
    assert [made.time_s(size) for size in SIZES] == sorted(made.time_s(size) for size in SIZES)


def test_what_is_made_from_a_guess_is_a_guess() -> None:
    guess = Link("all_reduce", "x", 8, 1e-5, 1e11, Evidence("assumed", "nobody knows"), segments=(line(1e-5, 1e11),))
    assert scaled(guess, 1.0, 1.0, SAME, "derived", "rule").evidence.level == "assumed"
    assert by_pattern(guess, TWO_LINES, TWO_LINES, "another").evidence.level == "assumed"


def test_a_message_of_send_and_receive_is_half_the_buffer_of_an_all_to_all_of_two() -> None:
    pair = by_key(A100)["all_to_all", 2]
    sent = send_recv(pair)
    for size in SIZES:
        assert sent.time_s(size) == pytest.approx(pair.time_s(2 * size))


@pytest.mark.parametrize(
    ("of", "chip_id", "sigma"),
    [
        (H100, H200, SAME),
        (B200, B300, SAME),
        (B200, "gb200", SAME),
        (A100, H100, OTHER),
        (A100, B200, OTHER),
        (RTX, "l40s-pcie-48gb", OVER_PCIE),
    ],
)
def test_a_rule_is_as_far_off_as_it_says(of: str, chip_id: str, sigma) -> None:
    errors = by_rule(of, chip_id)
    assert root_mean_square(errors["small"]) < 1.25 * sigma.latency
    assert root_mean_square(errors["large"]) < 1.25 * sigma.bandwidth


@pytest.mark.parametrize(("of", "chip_id"), [(A100, H100), (H100, B200)])
def test_patterns_by_the_all_reduce_are_as_far_off_as_they_say(of: str, chip_id: str) -> None:
    errors = patterns_by_rule(of, chip_id)
    assert root_mean_square(errors["small"]) < 1.25 * OF_PATTERN.latency
    assert root_mean_square(errors["large"]) < 1.25 * OF_PATTERN.bandwidth


@pytest.mark.parametrize("chip_id", [H100, B200, B300])
def test_a_sweep_that_begins_large_is_off_at_small_messages_by_less_than_said(chip_id: str) -> None:
    assert root_mean_square(begun_large(chip_id)) < BEGINS_LARGE_SIGMA


# Physics


@pytest.mark.parametrize(("parent", "cut", "ratio"), [(A100, A800, 200 / 300), (H100, H800, 200 / 450)])
def test_a_chip_with_fewer_links_is_slower_in_every_pattern_and_size(parent: str, cut: str, ratio: float) -> None:
    whole, less = by_key(parent), by_key(cut)
    assert whole.keys() == less.keys()
    for key, link in less.items():
        assert link.small_latency_s == whole[key].small_latency_s
        assert link.busbw_bytes_per_s == pytest.approx(ratio * whole[key].busbw_bytes_per_s)
        assert all(link.time_s(size) >= whole[key].time_s(size) for size in SIZES)
        assert all(link.time_s(size) > whole[key].time_s(size) for size in SIZES if size >= 2.0**24)
        assert link.sigma(2.0**30) > whole[key].sigma(2.0**30)


@pytest.mark.parametrize("chip_id", sorted(load_chips()))
def test_links_obey_what_any_link_must(chip_id: str) -> None:
    chip = find_chip(chip_id)
    for link in links_of(chip_id):
        times = [link.time_s(size) for size in SIZES]
        assert times == sorted(times)
        assert link.evidence.source
        assert link.transport
        wire = chip.pcie_bytes_per_s if link.transport == "PCIe" else chip.link_bytes_per_s_one_way
        fastest = max(bus(link, size) for size in SIZES)
        if wire and fastest > wire:
            assert link.pattern == "all_reduce"
            assert "above the wire" in link.evidence.source


def test_generations_stand_in_their_order() -> None:
    """Large all-reduces of eight chips."""
    order = ["p100-pcie-16gb", "l40s-pcie-48gb", "p100-sxm2-16gb", "v100-sxm2-16gb", A800, H800, A100, H100, B200]
    speeds = [bus(by_key(chip_id)["all_reduce", 8], 2.0**30) for chip_id in order]
    assert speeds == sorted(speeds)


def test_a_chip_alone_in_its_node_and_a_cpu_have_no_links() -> None:
    assert links_of("gh200-96gb") == ()
    assert links_of("cpu-zen-4-2c") == ()


@pytest.mark.parametrize("chip_id", sorted(RELATIVES))
def test_links_by_rule_are_labelled_and_know_their_error(chip_id: str) -> None:
    links = links_of(chip_id)
    assert links
    assert all(link.evidence.level in ("derived", "assumed", "published") for link in links)
    assert all(link.sigma(2.0**20) for link in links)


# What was published of chips by rule


def test_published_figures_stand_beside_the_derived_and_inside_their_intervals() -> None:
    (found,) = measured_beside(A800, links_of(A800))
    assert found.measured_bytes_per_s == pytest.approx(151.9e9)
    assert found.derived_bytes_per_s == pytest.approx(151.9e9, rel=0.05)
    h800 = {beside.what.split(",")[0]: beside for beside in measured_beside(H800, links_of(H800))}
    assert h800["all_reduce of 8"].derived_bytes_per_s == pytest.approx(h800["all_reduce of 8"].measured_bytes_per_s, rel=2 * CUT.bandwidth)


def test_a_rack_of_72_is_within_its_interval_at_sizes_nobody_gave_it() -> None:
    """GB200 NVL72 by coreweave/nccl-tests pull request 43, out of place: size in bytes and microseconds."""
    link = by_key("gb200")["all_reduce", 72]
    for size, microseconds in ((536870912, 1806.7), (1073741824, 3108.8), (2147483648, 5589.1), (4294967296, 10094)):
        low, high = link.interval_s(size)
        assert low < microseconds * 1e-6 < high


def test_a_group_larger_than_the_bridge_talks_as_the_larger_groups_do() -> None:
    """Three A100 PCIe under bridges of two: 20e9 B/s (nccl-tests issue 178)."""
    link = link_for(links_of("a100-pcie-80gb"), "all_reduce", 3)
    assert link.transport == "PCIe"
    assert bus(link, 2.0**32) == pytest.approx(20e9, rel=0.15)
