"""Rows that cannot be, or not quite, and the words for it."""

from __future__ import annotations

import pytest

from chipassay.results.profile import Evidence, Quantity
from chipassay.runners import plausibility
from chipassay.runners.devices.facts import DeviceFacts
from chipassay.runners.plausibility import flags, roofline_fraction

SHEET = Evidence("published", "a sheet")
FACTS = DeviceFacts(
    "cuda", "X", "x", 1, 10**9, 10 * 10**6, "d",
    peak_flops_per_s={"bf16": Quantity(1e15, SHEET)}, peak_bandwidth_bytes_per_s=Quantity(1e12, SHEET), peak_clock_hz=1.8e9,
)  # fmt: skip
LARGE = 1e9
"""Bytes far beyond the cache."""


def row(time_s=1e-3, flops=0.0, bytes=LARGE, cache="cold", **more):
    samples = (time_s, time_s * 1.0001)
    return {
        "time_median_s": time_s, "flops": flops, "bytes": bytes, "cache": cache, "dtype": "bf16",
        "clock_source": "device", "samples_s": samples, **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("limited_by", "columns", "fraction"),
    [
        ("memory", row(time_s=2e-3), 0.5),
        ("compute", row(time_s=2e-3, flops=1e12), 0.5),
        ("compute", row(time_s=2e-3, flops=1e11), 0.5),  # 0.1 ms of arithmetic, 1 ms of bytes
        ("compute", row(time_s=4e-3, flops=2e12), 0.5),
        ("memory", row(time_s=2e-3, cache="warm"), 0.5),  # what does not fit is traffic, warm or not
        ("memory", row(time_s=2e-3, bytes=1e6, cache="warm"), None),
        ("compute", row(time_s=2e-3, flops=1e12, bytes=1e6, cache="warm"), 0.5),
        ("overhead", row(), None),
        ("link", row(), None),
    ],
)
def test_the_roofline_is_the_larger_of_arithmetic_and_traffic(limited_by, columns, fraction):
    assert roofline_fraction(FACTS, limited_by, columns) == (None if fraction is None else pytest.approx(fraction))


def test_one_known_peak_is_enough_and_none_is_not():
    only_memory = DeviceFacts("cuda", "X", "x", 1, 1, 1, "d", peak_bandwidth_bytes_per_s=Quantity(1e12, SHEET))
    assert roofline_fraction(only_memory, "compute", row(time_s=2e-3, flops=1e12)) == pytest.approx(0.5)
    assert roofline_fraction(DeviceFacts("cuda", "X", "x", 1, 1, 1, "d"), "memory", row()) is None


@pytest.mark.parametrize(
    ("limited_by", "columns", "words"),
    [
        ("compute", row(flops=0.9e12), None),
        ("compute", row(flops=1.09e12), None),  # within what a clock above the sheet's allows
        ("compute", row(flops=1.2e12), plausibility.ABOVE_RATE),
        ("compute", row(flops=0.9e12, clock_hz=1.8e9, clock_method="device"), None),
        ("compute", row(flops=0.9e12, clock_hz=1.4e9, clock_method="device"), plausibility.ABOVE_RATE),
        ("compute", row(flops=0.9e12, clock_hz=1.4e9, clock_method="nvml"), None),  # a look between calls proves nothing
        ("memory", row(time_s=1.1e-3), None),
        ("memory", row(time_s=0.9e-3), plausibility.ABOVE_BANDWIDTH),
        ("memory", row(time_s=0.9e-3, cache="warm"), None),
        ("memory", row(time_s=60e-6, bytes=39e6), plausibility.PARTLY_CACHED),
        ("memory", row(time_s=60e-6, bytes=41e6), None),
        ("memory", row(time_s=30e-6, bytes=39e6), f"{plausibility.ABOVE_BANDWIDTH};{plausibility.PARTLY_CACHED}"),
        ("compute", row(time_s=60e-6, bytes=39e6), None),
        ("compute", row(throttled=True), plausibility.THROTTLED),
        ("compute", row(clock_hz=1.2e9), plausibility.SLOW_CLOCK),
        ("link", row(time_s=1e-5), None),
    ],
)
def test_what_is_doubtful_is_said_and_nothing_else(limited_by, columns, words):
    assert flags(FACTS, limited_by, columns) == words


@pytest.mark.parametrize(
    ("samples_s", "doubtful"),
    [
        ((5.12e-6, 6.144e-6, 5.12e-6), True),  # steps of a microsecond
        ((5.12e-6, 5.152e-6, 5.184e-6), False),  # of 32 ns
        ((5.12e-6, 5.12e-6, 5.12e-6), True),  # unknown: what the maker states
        ((51.2e-6, 51.2e-6, 51.2e-6), False),
    ],
)
def test_a_timer_too_coarse_for_the_time_is_told(samples_s, doubtful):
    found = flags(FACTS, "compute", row(time_s=samples_s[0]) | {"samples_s": samples_s, "bytes": 1.0})
    assert (found == plausibility.COARSE_TIMER) is doubtful


def test_the_hosts_clock_is_fine_enough_for_any_call():
    assert flags(FACTS, "overhead", row(time_s=1e-6, clock_source="host")) is None


@pytest.mark.parametrize(("share", "doubtful"), [(0.01, False), (0.5, True)])
def test_calls_that_were_often_not_queued_in_time_are_doubtful(share, doubtful):
    assert (flags(FACTS, "compute", row(), share) == plausibility.NOT_QUEUED) is doubtful
    # A transfer from pageable memory waits for the host by its nature.
    assert flags(FACTS, "link", row(), share) is None
