"""One kernel on one case: wrong, failing and broken kernels become rows that read back."""

from __future__ import annotations

import math

import pytest

from chipassay.kernels.kernel import Kernel
from chipassay.results.schema import Row
from chipassay.results.table import TableWriter, read_rows
from chipassay.runners import measure_kernel
from chipassay.runners.devices.discover import Device
from chipassay.runners.devices.facts import DeviceFacts
from chipassay.runners.measure_kernel import KernelMeasurer
from chipassay.runners.timing.stopping import PreciseMedian

from .fakes import FakeChip, steady

FACTS = DeviceFacts("cpu", "X", "cpu-x", 1, 10**9, 1000, "d", threads=1, native_dtypes=frozenset({"fp32"}))
REQUEST = {"op": "copy", "case": {"elements": 8, "dtype": "fp32"}, "backend": "numpy", "kernel": "test.copy", "cache": "cold", "seed": 1}


@pytest.fixture
def measure(monkeypatch):
    def go(prepare, op="copy"):
        kernel = Kernel(op=op, backend="numpy", name="test.copy", prepare=prepare, refuses=lambda case, target: None)
        monkeypatch.setattr(measure_kernel, "kernels", lambda op, backend=None: [kernel])
        measurer = KernelMeasurer(Device(FACTS, FakeChip(steady(1e-3), clock_source="host"), "cpu"))
        return measurer.measure(**{**REQUEST, "op": op}, min_time_s=0.01, time_cap_s=1.0)

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


def test_a_case_larger_than_memory_is_not_begun(measure, monkeypatch):
    monkeypatch.setattr(measure_kernel, "free_bytes", lambda facts: 10.0)
    row = measure(copies)
    assert row["status"] == "out_of_memory"
    assert "are free" in row["reason"]


def test_a_reason_found_within_a_batch_of_samples_is_not_forgotten():
    rule = PreciseMedian(min_time_s=0.1)
    rule.start(0.0)
    reasons = []
    for i in range(150):
        rule.add(1e-3, 0.001 * (i + 1))
        reasons.append(rule.finished())
    # The rule looks again only after 10 % more samples: who feeds batches keeps the first answer.
    assert "precise" in reasons
