"""Rows to profile."""

from __future__ import annotations

import pytest

from chipassay.results.errors import InputError, UnknownName
from chipassay.results.schema import Row
from chipassay.runners.normalise import best_rows, normalise


def matmul(edge, rate, **more):
    flops = 2.0 * edge**3
    given = {
        "op": "matmul", "m": edge, "n": edge, "k": edge, "dtype": "fp32", "cache": "cold", "kernel": "torch.mm", "status": "ok",
        "flops": flops, "time_median_s": 1e-5 + flops / rate, "rate_flops_per_s": flops / (1e-5 + flops / rate),
        "chip_id": "cpu-x-2c", "device_name": "X", "run_id": "r1", "measured_at_utc": "2026-01-02T03:04:05+00:00", "method_version": 1,
    }  # fmt: skip
    return Row(**{**given, **more})


def all_reduce(size_bytes, latency_s=5e-5, busbw=2e9, ranks=4, **more):
    factor = 2 * (ranks - 1) / ranks
    time_s = latency_s + size_bytes * factor / busbw
    given = {
        "op": "all_reduce", "size_bytes": size_bytes, "group_size": ranks, "backend": "gloo", "cache": "cold", "status": "ok",
        "time_median_s": time_s, "algbw_bytes_per_s": size_bytes / time_s, "busbw_bytes_per_s": size_bytes * factor / time_s,
        "chip_id": "cpu-x-2c", "device_name": "X",
    }  # fmt: skip
    return Row(**{**given, **more})


def test_rates_overheads_and_links_come_back():
    rows = [matmul(edge, 2e11) for edge in (128, 256, 512, 1024)] + [all_reduce(size) for size in (8, 4096, 2**20, 2**26)]
    profile = normalise(rows)
    assert profile.matmul["fp32"].rate == pytest.approx(2e11, rel=1e-6)
    assert profile.matmul["fp32"].overhead_s == pytest.approx(1e-5, rel=1e-6)
    (link,) = profile.links
    assert (link.pattern, link.transport, link.group_size) == ("all_reduce", "gloo", 4)
    assert link.busbw_bytes_per_s == pytest.approx(2e9, rel=1e-6)
    assert link.latency_s == pytest.approx(5e-5, rel=1e-6)


def test_every_fitted_number_says_it_was_measured_when_and_by_which_run():
    evidence = normalise([matmul(256, 1e11), matmul(512, 1e11)]).matmul["fp32"].evidence
    assert (evidence.level, evidence.date) == ("measured", "2026-01-02")
    assert "r1" in evidence.source
    assert "torch.mm" in evidence.source


def test_the_fastest_correct_kernel_of_a_case_counts():
    slow, fast = matmul(256, 1e10, kernel="slow"), matmul(256, 1e11, kernel="fast")
    wrong = matmul(256, 1e13, kernel="wrong", status="incorrect")
    assert [row.kernel for row in best_rows([slow, fast, wrong])] == ["fast"]


def copy(size_bytes, rate, **more):
    given = {
        "op": "copy", "bytes": float(size_bytes), "cache": "cold", "status": "ok", "time_median_s": 1e-6 + size_bytes / rate,
        "elements": size_bytes // 8, "chip_id": "cpu-x-2c", "device_name": "X", "last_level_cache_bytes": 2**25,
    }  # fmt: skip
    return Row(**{**given, **more})


def test_what_partly_stays_in_the_cache_does_not_flatter_the_memory():
    rows = [copy(2**16, 3e10), copy(2**24, 9e10), copy(2**26, 6e10), copy(2**28, 3e10), copy(2**30, 3e10)]
    assert normalise(rows).memory.rate == pytest.approx(3e10, rel=1e-3)
    assert normalise([copy(2**16, 3e10), copy(2**24, 9e10)]).memory is None


def test_what_is_warm_does_not_enter_the_profile():
    assert "fp32" not in normalise([matmul(256, 1e11, cache="warm"), all_reduce(8)]).matmul


def test_the_peak_of_a_chip_that_no_datasheet_knows_is_the_one_its_rows_were_held_against():
    profile = normalise([matmul(512, 1e11, peak_fraction=0.5)])
    peak = profile.peak_flops_per_s["fp32"]
    assert peak.evidence.level == "derived"
    assert peak.value == pytest.approx(2 * (2.0 * 512**3) / (1e-5 + 2.0 * 512**3 / 1e11))


def test_a_catalogued_chip_has_its_datasheet_peaks():
    profile = normalise([matmul(512, 1e13, chip_id="a100-sxm-80gb", dtype="bf16")])
    assert profile.peak_flops_per_s["bf16"].value == 312e12
    assert profile.peak_flops_per_s["bf16"].evidence.level == "published"


def test_rows_of_two_chips_need_a_choice():
    rows = [matmul(256, 1e11), matmul(256, 2e11, chip_id="other")]
    with pytest.raises(InputError, match=r"2 chips .*--chip"):
        normalise(rows)
    assert normalise(rows, "other").chip_id == "other"
    with pytest.raises(UnknownName, match="did you mean other"):
        normalise(rows, "othr")


def test_rows_without_a_measurement_make_no_profile():
    with pytest.raises(InputError, match="no row with status ok"):
        normalise([matmul(256, 1e11, status="error", time_median_s=None)])
