"""Two things at once: what runs beside outlasts what is timed, or the burst does not count."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from chipassay.runners.collective import measure
from chipassay.runners.collective.bursts import LATE_AT_MOST, PlainBurst, Ran, Together
from chipassay.runners.collective.overlap import OverlapBurst, StreamBackground, ThreadBackground, matrix_product
from chipassay.runners.timing.stopping import PreciseMedian

from .fakes import FakeChip, steady
from .lone import FACTS, REQUEST, lone_job, measurer

BESIDE = {"m": 8, "n": 4, "k": 16, "dtype": "fp32"}


@pytest.fixture
def job(tmp_path, monkeypatch):
    with lone_job(tmp_path, monkeypatch):
        yield


def test_a_thread_that_still_calls_when_the_timed_ends_has_outlasted_it():
    allowed = threading.Event()
    background = ThreadBackground(lambda: allowed.wait(10))
    background.begin(1)
    background.mark()
    allowed.set()
    assert background.finish()


def test_a_thread_that_ended_before_the_timed_has_not_outlasted_it():
    background = ThreadBackground(lambda: None)
    background.begin(3)
    background._thread.join(10)
    background.mark()
    assert not background.finish()


def test_what_the_thread_raises_is_raised_by_the_rank():
    def fails():
        raise RuntimeError("connection closed by peer")

    background = ThreadBackground(fails)
    background.begin(1)
    background.mark()
    with pytest.raises(RuntimeError, match="closed by peer"):
        background.finish()


class Counted:
    """Runs beside until it has made ``enough`` calls in one burst."""

    def __init__(self, enough):
        self.enough, self.counts = enough, []

    def begin(self, count):
        self.counts.append(count)

    def mark(self):
        pass

    def finish(self):
        return self.counts[-1] >= self.enough


def test_bursts_that_were_not_outlasted_do_not_count_and_get_more_beside_them(job, monkeypatch):
    chip, background = FakeChip(steady(1e-3)), Counted(enough=10)
    maker, _ = measurer(chip, monkeypatch)
    timed = PlainBurst(chip, lambda: None)
    together = Together(maker.control, chip, maker.heartbeat, 1)
    sampled = together.sample([OverlapBurst(timed, background, 1.0), timed], [2, 2], PreciseMedian(min_time_s=0.01))
    # 2 turns begin with 2 calls beside them, and each time half as many more, rounded up.
    assert background.counts[:5] == [2, 3, 5, 8, 12]
    assert set(background.counts[4:]) == {12}
    assert len(sampled.taken[0].mean_s) == len(background.counts) - 4
    assert len(sampled.taken[1].mean_s) in (len(background.counts), len(background.counts) - 1)


def test_what_never_outlasts_ends_the_measurement_as_an_error(job, monkeypatch):
    monkeypatch.setattr(measure.OverlapBurst, "run", lambda burst, turns: Ran(1e-3, outlasted=False))
    chip = FakeChip(steady(1e-3))
    maker, _ = measurer(chip, monkeypatch)
    row = maker.measure(replace(REQUEST, beside=BESIDE))
    assert (row["status"], row["reason"]) == ("error", measure.NEVER_OUTLASTED)
    assert len([word for word in chip.log if word.startswith("burst")]) < 3 * LATE_AT_MOST


def slower_beside(monkeypatch, factor):
    """Whatever is timed takes ``factor`` times as long with something beside it."""

    def run(burst, turns):
        return Ran(factor * burst._timed.run(turns).time_s)

    monkeypatch.setattr(measure.OverlapBurst, "run", run)


def test_a_collective_beside_a_product_has_its_time_alone_in_the_same_row(job, monkeypatch):
    slower_beside(monkeypatch, 1.5)
    maker, _ = measurer(FakeChip(steady(1e-3)), monkeypatch)
    row = maker.measure(replace(REQUEST, beside=BESIDE))
    assert (row["op"], row["status"]) == ("all_reduce", "ok")
    assert (row["time_median_s"], row["alone_time_s"]) == (pytest.approx(1.5e-3), pytest.approx(1e-3))


def test_a_product_beside_a_collective_is_a_row_of_the_product(job, monkeypatch):
    slower_beside(monkeypatch, 2.0)
    maker, _ = measurer(FakeChip(steady(1e-3)), monkeypatch)
    row = maker.measure(replace(REQUEST, beside=BESIDE, timed="beside"))
    assert {name: row[name] for name in ("op", "m", "n", "k", "dtype", "layout", "kernel")} == {
        "op": "matmul",
        "m": 8,
        "n": 4,
        "k": 16,
        "dtype": "fp32",
        "layout": "nn",
        "kernel": "torch.mm",
    }
    assert row["flops"] == 2 * 8 * 4 * 16
    assert row["rate_flops_per_s"] == pytest.approx(2 * 8 * 4 * 16 / 2e-3)
    assert row["alone_time_s"] == pytest.approx(1e-3)
    assert not {"busbw_bytes_per_s", "size_bytes", "error"} & row.keys()


def test_a_product_that_torch_lacks_is_a_skipped_row(job, monkeypatch):
    def lacks(*shape):
        raise NotImplementedError("no product of 8-bit floats")

    monkeypatch.setattr(measure, "matrix_product", lacks)
    maker, _ = measurer(FakeChip(steady(1e-3)), monkeypatch)
    row = maker.measure(replace(REQUEST, beside=BESIDE))
    assert row["status"] == "skipped"
    assert row["reason"] == "rank 0: the matrix product beside it cannot be made: NotImplementedError: no product of 8-bit floats"


def test_both_really_run_at_once(job, monkeypatch):
    from chipassay.runners.devices.cpu import CpuTimer

    maker, _ = measurer(CpuTimer(replace(FACTS, cache_bytes=1000)), monkeypatch)
    row = maker.measure(replace(REQUEST, beside={**BESIDE, "m": 256, "n": 256, "k": 256}, min_time_s=0.02, time_cap_s=1.0))
    assert row["status"] == "ok", row
    assert row["sample_count"] >= 3
    assert row["alone_time_s"] > 0


def test_the_product_is_the_product():
    product = matrix_product(3, 5, 7, "fp64", "cpu", 1)
    out = product()
    assert tuple(out.shape) == (3, 5)
    assert (out == product()).all()


@pytest.mark.parametrize("timed", ["collective", "beside"])
def test_ranks_come_together_before_either_of_the_two_begins(timed, job, monkeypatch):
    begun = []

    class Beside(Counted):
        def begin(self, count):
            super().begin(count)
            begun.append(group.barriers)

    chip = FakeChip(steady(1e-3))
    maker, group = measurer(chip, monkeypatch)
    monkeypatch.setattr(measure, "ThreadBackground", lambda call: Beside(0))
    burst = chip.time_burst

    def time_burst(call, count, meanwhile=None):
        begun.append(group.barriers)
        return burst(call, count, meanwhile)

    chip.time_burst = time_burst
    row = maker.measure(replace(REQUEST, beside=BESIDE, timed=timed))
    assert row["status"] == "ok"
    # One barrier before each burst; where something runs beside, before its beginning, which then shows twice.
    assert sorted(set(begun)) == list(range(1, group.barriers + 1))
    assert row["sample_count"] < len(begun) - len(set(begun)) <= row["sample_count"] + 3


class StandInForCuda:
    """Streams and events as torch.cuda has them, on a clock of plain numbers: each stream is busy until its own time."""

    def __init__(self):
        self.busy_until = {"main": 0.0, "side": 0.0}
        self.current = "main"

    def Event(self, enable_timing):
        cuda = self

        class Event:
            def record(self):
                self.at = cuda.busy_until[cuda.current]

            def elapsed_time(self, later):
                return later.at - self.at

        return Event()

    def Stream(self):
        return SimpleNamespace(wait_stream=lambda other: None)

    def current_stream(self):
        return None

    @contextlib.contextmanager
    def stream(self, side):
        self.current = "side"
        yield
        self.current = "main"

    def synchronize(self):
        pass

    def work(self, duration):
        self.busy_until[self.current] += duration


@pytest.mark.parametrize(("calls", "outlasted"), [(3, True), (1, False)])
def test_on_a_gpu_the_side_streams_end_is_compared_with_the_timed_ones(calls, outlasted, monkeypatch):
    cuda = StandInForCuda()
    monkeypatch.setattr("torch.cuda", cuda)
    background = StreamBackground(lambda: cuda.work(2.0))
    background.begin(calls)
    cuda.work(5.0)
    background.mark()
    assert background.finish() is outlasted
    assert cuda.busy_until == {"main": 5.0, "side": 2.0 * calls}
