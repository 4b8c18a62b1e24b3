"""One kernel on one case: wrong, failing and broken kernels become rows that read back."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest

from chipassay.kernels import tuning
from chipassay.kernels.kernel import Kernel, Refused
from chipassay.results.profile import Evidence, Quantity
from chipassay.results.schema import Row
from chipassay.results.table import TableWriter, read_rows
from chipassay.runners import emulation, measure_kernel
from chipassay.runners.devices.discover import Device
from chipassay.runners.devices.facts import DeviceFacts
from chipassay.runners.measure_kernel import KernelMeasurer
from chipassay.runners.plausibility import ABOVE_BANDWIDTH, PARTLY_CACHED, WRONG_BEFORE
from chipassay.runners.right_call import MOST_WRONG
from chipassay.runners.timing.stopping import PreciseMedian

from .fakes import FakeChip, steady

FACTS = DeviceFacts("cpu", "X", "cpu-x", 1, 10**9, 1000, "d", threads=1, native_dtypes=frozenset({"fp32"}))
REQUEST = {"op": "copy", "case": {"elements": 8, "dtype": "fp32"}, "backend": "numpy", "kernel": "test.copy", "cache": "cold", "seed": 1}


@pytest.fixture
def measure(monkeypatch):
    def go(prepare, op="copy", chip=None, facts=FACTS, case=None, **wish):
        kernel = Kernel(op=op, backend="numpy", name="test.copy", prepare=prepare, refuses=lambda case, target: None)
        monkeypatch.setattr(measure_kernel, "kernels", lambda op, backend=None: [kernel])
        chip = chip or FakeChip(steady(1e-3), clock_source="host")
        measurer = KernelMeasurer(Device(facts, chip, "cpu"))
        request = {**REQUEST, "op": op, "case": case or REQUEST["case"]}
        return measurer.measure(**request, **{"min_time_s": 0.01, "time_cap_s": 1.0, **wish})

    return go


def copies(case, arrays, inputs, output):
    def call():
        output[:] = inputs[0]
        return output

    return call


def test_a_correct_kernel_is_timed(measure):
    row = measure(copies)
    assert (row["status"], row["error"], row["time_median_s"]) == ("ok", 0.0, 1e-3)
    assert row["bandwidth_bytes_per_s"] == pytest.approx(64 / 1e-3)


@pytest.mark.parametrize(("op", "error"), [("copy", 8.0), ("triad", math.inf)])
def test_an_unwritten_output_is_incorrect_without_a_time_and_its_row_reads_back(measure, tmp_path, op, error):
    columns = measure(lambda case, arrays, inputs, output: lambda: output, op)
    assert (columns["status"], columns["error"]) == ("incorrect", error)
    assert "time_median_s" not in columns
    with TableWriter(tmp_path / "t.csv") as table:
        table.append(Row(**columns))
    assert read_rows(tmp_path / "t.csv")[0].error == error


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("no kernel image is available"), "error"), (MemoryError(), "out_of_memory"), (ValueError("a\nb"), "error")],
)
def test_what_a_kernel_raises_becomes_the_row(measure, error, status):
    def prepare(case, arrays, inputs, output):
        raise error

    row = measure(prepare)
    assert row["status"] == status
    assert type(error).__name__ in row["reason"]


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 20.00 GiB",  # torch's allocator
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",  # the driver, through torch
        "Triton Error [CUDA]: out of memory",
        "cudaErrorMemoryAllocation: out of memory",  # CuPy
        "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)",
        "none of 3 configurations runs; the first: {'BLOCK': 1}: OutOfMemoryError: CUDA out of memory.",  # a search
        "[enforce fail] DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_want_of_memory_is_told_apart_in_whatever_words_and_on_one_line(measure, words):
    def prepare(case, arrays, inputs, output):
        raise RuntimeError(words)

    row = measure(prepare)
    assert row["status"] == "out_of_memory"
    assert "\n" not in row["reason"]


def test_what_only_the_library_can_refuse_is_skipped_and_no_error(measure):
    def prepare(case, arrays, inputs, output):
        raise Refused("the BLAS has no such product")

    row = measure(prepare)
    assert (row["status"], row["reason"]) == ("skipped", "the BLAS has no such product")


def test_a_case_larger_than_memory_is_not_begun(measure, monkeypatch):
    monkeypatch.setattr(measure_kernel, "free_bytes", lambda facts: 10.0)
    row = measure(copies)
    assert row["status"] == "out_of_memory"
    assert "are free" in row["reason"]


def test_tuning_counts_as_wall_time_and_not_as_measuring(measure, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(measure_kernel.time, "perf_counter", lambda: now[0])

    def tuned(case, arrays, inputs, output):
        now[0] += 60.0
        call = copies(case, arrays, inputs, output)
        call.config = "BLOCK=64"
        return call

    row = measure(tuned)
    assert row["config"] == "BLOCK=64"
    assert row["wall_s"] == pytest.approx(60.0)
    assert row["measuring_s"] < 1.0


def tuned_copies(wrong_blocks, distrusted):
    """A kernel with three configurations of which some leave the output as it was; the search finds the smallest block fastest."""

    def prepare(case, arrays, inputs, output):
        left = [block for block in (32, 64, 128) if block not in distrusted]
        if not left:
            raise tuning.NothingRuns("every configuration gave wrong results")
        block = tuning._taken["copy"] = left[0]
        call = copies(case, arrays, inputs, output) if block not in wrong_blocks else lambda: output
        call = partial(call)
        call.config = f"BLOCK={block}"
        return call

    return prepare


@pytest.mark.parametrize(("wrong_blocks", "config"), [([], 32), ([32], 64), ([32, 64], 128)])
def test_where_the_fastest_configuration_is_wrong_the_next_one_is_timed_and_the_row_says_so(measure, monkeypatch, wrong_blocks, config):
    distrusted = []
    monkeypatch.setattr(tuning, "distrust", lambda choices: distrusted.extend(choices.values()))
    row = measure(tuned_copies(wrong_blocks, distrusted))
    assert (row["status"], row["config"], row["error"], row["time_median_s"]) == ("ok", f"BLOCK={config}", 0.0, 1e-3)
    assert distrusted == wrong_blocks
    assert (WRONG_BEFORE in (row["flags"] or "").split(";")) is bool(wrong_blocks)
    assert [f"BLOCK={block}" in row.get("reason", "") for block in wrong_blocks] == [True] * len(wrong_blocks)


def test_where_every_configuration_is_wrong_so_is_the_row(measure, monkeypatch):
    distrusted = []
    monkeypatch.setattr(tuning, "distrust", lambda choices: distrusted.extend(choices.values()))
    row = measure(tuned_copies([32, 64, 128], distrusted))
    assert (row["status"], row["config"], row["error"]) == ("incorrect", "BLOCK=128", 8.0)
    assert "time_median_s" not in row


def test_a_kernel_that_is_wrong_whatever_its_configuration_is_given_up(measure, monkeypatch):
    seen = []
    monkeypatch.setattr(tuning, "distrust", seen.append)
    row = measure(tuned_copies([32], []))
    assert row["status"] == "incorrect"
    assert len(seen) == MOST_WRONG


def test_a_row_reads_back_with_all_that_was_seen_of_the_chip(measure, tmp_path):
    clocks = itertools.cycle([1.6e9, 1.7e9])
    chip = FakeChip(steady(1e-3), device_clocks_hz=clocks, power_w=300.0, throttle_reasons=("power_cap",))
    columns = measure(copies, chip=chip, time_cap_s=2.0, sustain_s=3.0)
    with TableWriter(tmp_path / "t.csv") as table:
        table.append(Row(**columns))
    (row,) = read_rows(tmp_path / "t.csv")
    assert (row.status, row.clock_method, row.throttled, row.throttle_reasons) == ("ok", "device", True, "power_cap")
    assert len(row.sample_clocks_hz) == len(row.samples_s)
    assert row.clock_min_hz == 1.6e9
    assert row.energy_j == pytest.approx(0.3, rel=0.1)
    assert (row.sustained_s, row.sustained_time_s, row.sustained_power_w) == (pytest.approx(3.0, abs=0.2), pytest.approx(1e-3), 300.0)
    assert "throttled" in row.flags.split(";")
    # Energy and the sustained calls are measuring too.
    assert row.measuring_s > 3.0


def test_a_second_visit_only_samples(measure):
    chip = FakeChip(steady(1e-3), power_w=300.0)
    columns = measure(copies, chip=chip, time_cap_s=2.0, sustain_s=3.0, checked=True)
    assert "energy_j" not in columns
    assert "sustained_s" not in columns
    assert not any(entry.startswith("burst") for entry in chip.log)


def test_energy_takes_its_time_out_of_the_cases_share_or_is_left_out(measure):
    chip = FakeChip(iter(lambda: 0.012, None), power_w=300.0)
    measure(copies, chip=chip, time_cap_s=2.0, min_time_s=9.0)
    assert chip.now < 2.0 + 0.1
    short = FakeChip(steady(1e-3), power_w=300.0)
    assert "energy_j" not in measure(copies, chip=short, time_cap_s=1.0)


def test_without_an_energy_counter_the_sustained_power_gives_the_energy(measure, monkeypatch):
    chip = FakeChip(steady(1e-3), power_w=250.0)
    monkeypatch.setattr(chip, "energy_j", lambda: None)
    assert measure(copies, chip=chip, sustain_s=2.0)["energy_j"] == pytest.approx(0.25)
    assert "energy_j" not in measure(copies, chip=chip)


def test_what_is_above_the_memorys_bandwidth_is_flagged_and_kept(measure):
    sheet = Quantity(1e3, Evidence("published", "a sheet"))
    row = measure(copies, facts=replace(FACTS, peak_bandwidth_bytes_per_s=sheet))
    assert (row["status"], row["roofline_fraction"]) == ("ok", pytest.approx(64.0))
    assert row["flags"] == f"{ABOVE_BANDWIDTH};{PARTLY_CACHED}"


def test_what_measures_the_host_is_not_queued_ahead_and_has_no_roofline(measure):
    chip = FakeChip(steady(1e-3))

    def stores(case, arrays, inputs, output):
        def call():
            output[:] = range(len(output))
            return output

        return call

    facts = replace(FACTS, peak_bandwidth_bytes_per_s=Quantity(1e3, Evidence("published", "a sheet")))
    row = measure(stores, op="launch", chip=chip, facts=facts, case={"dtype": "fp32"})
    assert row["status"] == "ok"
    assert "call" not in chip.log
    assert (row["peak_fraction"], row["roofline_fraction"], row["flags"]) == (None, None, None)


def test_a_probe_that_breaks_costs_no_row(measure):
    """The dtype of another operation may be one that a plain product cannot have: its kernels are asked, not the probe."""
    row = measure(copies, facts=replace(FACTS, native_dtypes=frozenset()))
    assert row["status"] == "ok"
    probe = measure_kernel.EmulationProbe(FACTS, FakeChip(steady(1e-3)), lambda: 1 / 0)
    case = SimpleNamespace(limited_by="compute", dtype="fp8_e4m3", flops=1.0)
    assert probe.refuses(case, 1.0) is None


@pytest.mark.parametrize(("calls_s", "left_out"), [(0.4, False), (0.6, True)])
def test_an_emulated_case_is_checked_even_where_a_suite_caps_its_time_below_that(monkeypatch, calls_s, left_out):
    probe = emulation.EmulationProbe(replace(FACTS, native_dtypes=frozenset()), FakeChip(steady(1e-3)), lambda: 1 / 0)
    monkeypatch.setattr(probe, "_probe", lambda dtype: 1e9)
    case = SimpleNamespace(limited_by="compute", dtype="bf16", flops=1e9 * calls_s / emulation.FEWEST_CALLS)
    assert (probe.refuses(case, 0.1) is not None) == left_out


def test_a_reason_found_within_a_batch_of_samples_is_not_forgotten():
    rule = PreciseMedian(min_time_s=0.1)
    rule.start(0.0)
    reasons = []
    for i in range(150):
        rule.add(1e-3, 0.001 * (i + 1))
        reasons.append(rule.finished())
    # The rule looks again only after 10 % more samples: who feeds batches keeps the first answer.
    assert "precise" in reasons
