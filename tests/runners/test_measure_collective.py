"""One rank's side, with one rank and a fake chip: what is checked, what a sample is, and how a row ends that has no time."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from chipassay.runners.collective import measure, places, ready
from chipassay.runners.collective.bursts import PlainBurst, Together
from chipassay.runners.collective.heartbeat import Heartbeat, beats
from chipassay.runners.devices.graphs import CaptureFailed
from chipassay.runners.timing.stopping import PreciseMedian

from .fakes import FakeChip, steady
from .lone import REQUEST, lone_job, measurer


@pytest.fixture(autouse=True)
def job(tmp_path, monkeypatch):
    with lone_job(tmp_path, monkeypatch):
        yield


def together(chip, maker):
    return Together(maker.control, chip, maker.heartbeat, 1)


@pytest.mark.parametrize(("call_s", "turns"), [(1e-5, 200), (1e-3, 2), (1.5e-3, 1), (1.0, 1)])
def test_a_burst_lasts_two_milliseconds_or_one_call(call_s, turns, monkeypatch):
    chip = FakeChip(steady(call_s))
    maker, _ = measurer(chip, monkeypatch)
    settled = together(chip, maker).settle(PlainBurst(chip, lambda: None))
    assert settled.turns == turns
    assert settled.turn_s == pytest.approx(call_s)


def test_one_interrupted_burst_does_not_make_all_others_short(monkeypatch):
    def durations():
        yield 1e-5
        yield 1.0
        yield from steady(1e-5)

    chip = FakeChip(durations())
    maker, _ = measurer(chip, monkeypatch)
    assert together(chip, maker).settle(PlainBurst(chip, lambda: None)).turns == 200


@pytest.mark.parametrize("turns", [1, 7, 64])
def test_ranks_stop_one_burst_after_the_rule_was_satisfied(turns, monkeypatch):
    chip = FakeChip(steady(1e-3))
    maker, _ = measurer(chip, monkeypatch)
    sampled = together(chip, maker).sample([PlainBurst(chip, lambda: None)], [turns], PreciseMedian(min_time_s=0.1))
    # The rule wants 10 samples and 0.1 s, and the burst that was under way is finished.
    wanted = max(10, -(-100 // turns))
    assert wanted < len(sampled.taken[0].mean_s) <= 1.1 * wanted + 2
    assert sampled.stop_reason == "precise"
    assert sampled.taken[0].mean_s == pytest.approx([1e-3] * len(sampled.taken[0].mean_s))


def test_a_row_has_the_mean_of_a_burst_as_its_sample(monkeypatch):
    maker, _ = measurer(FakeChip(steady(5e-4)), monkeypatch)
    row = maker.measure(REQUEST)
    assert row["status"] == "ok"
    assert row["calls_per_sample"] == 4
    assert row["time_median_s"] == pytest.approx(5e-4)
    assert row["rank_times_s"] == (pytest.approx(5e-4),)
    assert (row["error"], row["elements"], row["size_bytes"]) == (0.0, 1000, 4000)
    assert row["algbw_bytes_per_s"] == pytest.approx(4000 / 5e-4)
    assert row["method_version"] == measure.COLLECTIVE_METHOD_VERSION


def test_wrong_elements_are_counted_with_their_rank_and_nothing_is_timed(monkeypatch):
    def wrong(call, received):
        received[[5, 17]] += 1

    chip = FakeChip(steady(1e-3))
    maker, _ = measurer(chip, monkeypatch, wrong)
    row = maker.measure(REQUEST)
    assert (row["status"], row["error"]) == ("incorrect", 2.0)
    assert row["reason"] == "wrong elements: 2 on rank 0; not timed"
    assert "time_median_s" not in row
    assert not chip.log


def test_what_goes_wrong_only_later_is_found_after_the_samples(monkeypatch):
    def wrong(call, received):
        if call > 10:
            received[0] = 0.5

    maker, _ = measurer(FakeChip(steady(1e-3)), monkeypatch, wrong)
    row = maker.measure(REQUEST)
    assert row["status"] == "incorrect"
    assert row["reason"] == "wrong elements: 1 on rank 0; found after the samples, which are not kept"
    assert "time_median_s" not in row


def test_a_call_that_does_nothing_is_wrong_everywhere_out_of_place(monkeypatch):
    maker, group = measurer(FakeChip(steady(1e-3)), monkeypatch)
    group.all_reduce = lambda send, receive: None
    assert maker.measure(replace(REQUEST, in_place=False))["error"] == 1000


def test_memory_is_asked_for_before_it_is_taken(monkeypatch):
    monkeypatch.setattr(places, "free_bytes", lambda facts: 1e9)
    maker, group = measurer(FakeChip(steady(1e-3)), monkeypatch)
    row = maker.measure(replace(REQUEST, size_bytes=10**9))
    # The buffer and a fifth, the tile, and what gloo receives into.
    assert row["status"] == "out_of_memory"
    assert row["reason"] == "rank 0 needs 2.21 GB; 1 GB are free"
    assert group.calls == 0


def test_a_rank_that_gets_no_memory_after_all_tells_the_others(monkeypatch):
    def no_pool(*arguments):
        raise MemoryError("no more")

    monkeypatch.setattr(ready, "Pool", no_pool)
    maker, _ = measurer(FakeChip(steady(1e-3)), monkeypatch)
    row = maker.measure(REQUEST)
    assert (row["status"], row["reason"]) == ("out_of_memory", "rank 0: MemoryError: no more")


def test_a_barrier_has_a_time_only(monkeypatch):
    maker, _ = measurer(FakeChip(steady(1e-3)), monkeypatch)
    row = maker.measure(replace(REQUEST, op="barrier", dtype="int8", size_bytes=0, in_place=False))
    assert (row["status"], row["size_bytes"], row["time_median_s"]) == ("ok", 0, pytest.approx(1e-3))
    assert not {"error", "algbw_bytes_per_s", "busbw_bytes_per_s", "wire_bytes_per_s"} & row.keys()


def test_cold_messages_that_do_not_fill_the_cache_begin_each_burst_after_an_eviction(monkeypatch):
    chip = FakeChip(steady(1e-5))
    maker, _ = measurer(chip, monkeypatch)
    maker.facts = replace(maker.facts, cache_bytes=10**7)
    row = maker.measure(replace(REQUEST, cache="cold", size_bytes=8))
    bursts = [index for index, word in enumerate(chip.log) if word.startswith("burst")]
    assert all(chip.log[index - 1] == "evict" for index in bursts)
    assert row["calls_per_sample"] <= 256


def test_sums_in_place_are_refilled_between_bursts_never_inside(monkeypatch):
    chip, refills = FakeChip(steady(2.5e-4)), []
    maker, group = measurer(chip, monkeypatch)
    refill = ready.Pool.refill

    def counted(pool, slots=None):
        refills.append((group.calls, chip.log.copy()))
        refill(pool, slots)

    monkeypatch.setattr(ready.Pool, "refill", counted)
    monkeypatch.setattr(ready.Layout, "rounds_until_refill", 20)
    row = maker.measure(replace(REQUEST, dtype="fp16"))
    assert (row["status"], row["calls_per_sample"]) == ("ok", 8)
    # Two of them for the checks; the others every second burst of 8 calls.
    assert len(refills) - 2 == pytest.approx((row["sample_count"] + 3) / 2, abs=2)


class Captured:
    """Stands in for a device graph: capturing runs the calls, and a replay runs them again."""

    def __init__(self):
        self.replays = 0

    def __call__(self, turn, backend):
        assert backend == "torch"
        turn()

        def launch():
            self.replays += 1
            turn()

        return SimpleNamespace(launch=launch)


def test_a_graph_of_many_calls_is_checked_and_timed_as_it_is_replayed(monkeypatch):
    graph, chip = Captured(), FakeChip(steady(1e-3))
    monkeypatch.setattr(ready, "captured", graph)
    maker, group = measurer(chip, monkeypatch)
    maker.facts = replace(maker.facts, cache_bytes=2 * 10**6)
    row = maker.measure(replace(REQUEST, launch="graph"))
    assert row["status"] == "ok"
    # 128 calls in a graph: a replay of 1 ms, two of them a sample.
    assert row["calls_per_sample"] == 256
    assert row["time_median_s"] == pytest.approx(1e-3 / 128)
    assert group.calls == 128 * (graph.replays + 1)


@pytest.mark.parametrize("warmups", [0, 1, 3])
@pytest.mark.parametrize(("cache", "cache_bytes"), [("cold", 10**6), ("cold", 2 * 10**5), ("warm", 10**6), ("warm", 2000)])
def test_the_buffers_that_a_graph_was_captured_on_are_those_that_are_checked(cache, cache_bytes, warmups, monkeypatch):
    held = []

    def capture(turn, backend):
        for _ in range(warmups):
            turn()
        group.all_reduce = lambda send, receive: held.append((send, receive))
        turn()
        # A graph has the addresses of its capture, wherever the turns are by then.
        return SimpleNamespace(launch=lambda: [receive.copy_(send) for send, receive in held])

    monkeypatch.setattr(ready, "captured", capture)
    maker, group = measurer(FakeChip(steady(1e-3)), monkeypatch)
    maker.facts = replace(maker.facts, cache_bytes=cache_bytes)
    row = maker.measure(replace(REQUEST, launch="graph", cache=cache, in_place=False))
    assert row["status"] == "ok", row
    assert len({receive.data_ptr() for _, receive in held}) == len(held)


def test_a_library_that_is_not_there_after_all_is_a_skipped_row(monkeypatch):
    def no_library(site):
        raise ImportError("libnccl.so.2: cannot open shared object file")

    maker, _ = measurer(FakeChip(steady(1e-3)), monkeypatch)
    fine = measure.transports()["lone"]
    monkeypatch.setattr(measure, "transports", lambda: {"lone": replace(fine, open=no_library)})
    row = maker.measure(REQUEST)
    assert (row["status"], row["reason"]) == ("skipped", "rank 0: ImportError: libnccl.so.2: cannot open shared object file")
    monkeypatch.setattr(measure, "transports", lambda: {"lone": fine})
    assert maker.measure(REQUEST)["status"] == "ok"


def test_the_transport_is_asked_what_this_very_chip_lacks(monkeypatch):
    asks = []
    maker, group = measurer(FakeChip(steady(1e-3)), monkeypatch)
    lacking = replace(measure.transports()["lone"], lacks=lambda ask: asks.append(ask) or "this chip is too old")
    monkeypatch.setattr(measure, "transports", lambda: {"lone": lacking})
    maker.facts = replace(maker.facts, compute_capability=(8, 0))
    row = maker.measure(replace(REQUEST, dtype="fp8_e4m3"))
    assert (row["status"], row["reason"]) == ("skipped", "rank 0: this chip is too old")
    assert [(ask.compute_capability, ask.reduces, ask.dtype) for ask in asks] == [((8, 0), True, "fp8_e4m3")]
    assert group.calls == 0


def test_a_graph_that_captured_nothing_is_wrong(monkeypatch):
    monkeypatch.setattr(ready, "captured", lambda turn, backend: SimpleNamespace(launch=lambda: None))
    maker, _ = measurer(FakeChip(steady(1e-3)), monkeypatch)
    assert maker.measure(replace(REQUEST, launch="graph", in_place=False))["status"] == "incorrect"


def test_a_refused_capture_is_a_skipped_row_with_the_librarys_words(monkeypatch):
    def refused(turn, backend):
        raise CaptureFailed("the call cannot be captured as a graph: operation not permitted")

    monkeypatch.setattr(ready, "captured", refused)
    maker, _ = measurer(FakeChip(steady(1e-3)), monkeypatch)
    row = maker.measure(replace(REQUEST, launch="graph"))
    assert row["status"] == "skipped"
    assert row["reason"] == "rank 0: the call cannot be captured as a graph: operation not permitted"


def test_the_parent_can_read_how_far_a_rank_has_come(tmp_path, monkeypatch):
    path = tmp_path / "progress"
    monkeypatch.setenv("CHIPASSAY_PROGRESS", str(path))
    maker, _ = measurer(FakeChip(steady(1e-3)), monkeypatch)
    row = maker.measure(REQUEST)
    assert beats(path, 1)[0] > row["sample_count"]


def test_each_rank_has_eight_bytes_of_its_own(tmp_path):
    path = tmp_path / "progress"
    hearts = [Heartbeat(rank, 3, str(path)) for rank in range(3)]
    for rank in (2, 0, 2):
        hearts[rank].beat()
    assert path.read_bytes() == bytes([1, *[0] * 15, 2, *[0] * 7])
    assert beats(path, 3) == (1, 0, 2)


def test_the_transport_itself_brings_ranks_together_before_each_burst_outside_its_time(monkeypatch):
    chip = FakeChip(steady(1e-3))
    maker, group = measurer(chip, monkeypatch)
    row = maker.measure(REQUEST)
    assert row["time_median_s"] == pytest.approx(1e-3)
    # Bursts that settle it and those that are samples, at least.
    assert row["sample_count"] < group.barriers < group.calls


def test_transports_are_given_back_once(monkeypatch):
    maker, _ = measurer(FakeChip(steady(1e-3)), monkeypatch)
    maker.measure(REQUEST)
    closed = []
    monkeypatch.setattr(type(maker.opened["lone"]), "close", lambda opened: closed.append(opened))
    given = maker.opened["lone"]
    maker.close()
    maker.close()
    assert closed == [given]
