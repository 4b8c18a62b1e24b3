"""The formatter of numbers: known answers, and the edges between two prefixes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipassay.results import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (197.31e9, "197.3 GFLOP/s"),
        (989.4e12, "989.4 TFLOP/s"),
        (9.994e9, "9.99 GFLOP/s"),
        (9.996e9, "10.0 GFLOP/s"),
        (999.94e9, "999.9 GFLOP/s"),
        (999.96e9, "1.00 TFLOP/s"),
        (1e18, "1.00 EFLOP/s"),
        (0.0, "0 FLOP/s"),
    ],
)
def test_a_rate_keeps_three_to_four_digits(value: float, text: str) -> None:
    assert units.rate(value) == text


def test_bandwidth_is_decimal_as_in_datasheets() -> None:
    assert units.bandwidth(24.13e9) == "24.1 GB/s"
    assert units.bandwidth(3.35e12) == "3.35 TB/s"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12.44e-6, "12.4 us"),
        (0.9999999, "1.00 s"),
        (0.001, "1.00 ms"),
        (3e-9, "3.00 ns"),
        (2e-10, "0.20 ns"),
        (90.0, "90.0 s"),
        (0.0, "0 s"),
    ],
)
def test_a_time_takes_the_largest_unit_it_fills(value: float, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8, "8 B"),
        (1000, "1000 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (16 * 2**20, "16 MiB"),
        (2**20 - 1, "1 MiB"),
        (80 * 2**30, "80 GiB"),
    ],
)
def test_a_size_is_binary_and_exact_where_it_can_be(value: int, text: str) -> None:
    assert units.size(value) == text


def test_numbers_that_are_none_say_so_instead_of_breaking_a_page() -> None:
    assert units.rate(math.nan) == "nan FLOP/s"
    assert units.seconds(math.inf) == "inf s"


@given(st.floats(min_value=1e-3, max_value=1e23))
def test_a_rate_reads_back_within_its_printed_digits(value: float) -> None:
    number, unit = units.rate(value).split(" ")
    scale = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18, "Z": 1e21}[unit.removesuffix("FLOP/s")]
    assert float(number) * scale == pytest.approx(value, rel=0.006, abs=0.0051)


@given(st.floats(min_value=1e-9, max_value=1e5))
def test_a_time_reads_back_within_its_printed_digits(value: float) -> None:
    number, unit = units.seconds(value).split(" ")
    assert float(number) * {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit] == pytest.approx(value, rel=0.006)
