"""The GPU timers against stand-ins for torch's and CuPy's event interfaces, so that no GPU is needed.

The stand-in is a device with a queue: the host's clock moves while it issues work, the device's while it works, and waiting joins them.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from chipassay.runners.devices import gpu, gpu_timers, hold, stamp_cupy
from chipassay.runners.devices.facts import DeviceFacts

ISSUE_S = 10e-6
"""What issuing one piece of work costs the host."""


class Machine:
    """A host and a device with one stream."""

    def __init__(self):
        self.host_s, self.free_s, self.log = 0.0, 0.0, []

    def work(self, seconds, name="work"):
        """Issue something that runs for so long."""
        self.host_s += ISSUE_S
        self.free_s = max(self.free_s, self.host_s) + seconds
        self.log.append(name)

    def synchronize(self):
        self.host_s = max(self.host_s, self.free_s)
        self.log.append("wait")

    def spin(self, cycles):
        self.work(cycles / hold.CYCLES_PER_S, "hold")


class Event:
    """Passed when the device has done all that was issued before it. With the methods of torch's events and of CuPy's."""

    machine: Machine

    def __init__(self, enable_timing=True):
        assert enable_timing

    def record(self):
        self.at_s = max(self.machine.free_s, self.machine.host_s)
        self.machine.log.append("event")

    def query(self):
        return self.machine.host_s >= self.at_s

    done = property(query)

    def elapsed_time(self, end):
        return (end.at_s - self.at_s) * 1e3


class Clock:
    """Stands in for the counters on the chip."""

    def __init__(self, machine):
        self.machine = machine

    def before(self):
        self.machine.work(1e-6, "stamp")

    after = before

    def read(self):
        return 1.5e9


@pytest.fixture
def machine(monkeypatch):
    made = Machine()
    monkeypatch.setattr(Event, "machine", made, raising=False)
    monkeypatch.setattr(gpu_timers, "time", SimpleNamespace(perf_counter=lambda: made.host_s))
    return made


def torch_timer(kind, machine, monkeypatch, clock=None):
    torch = pytest.importorskip("torch")
    real = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, **more: real(*shape, **{**more, "device": "cpu"}))
    module = SimpleNamespace(
        Event=Event, synchronize=machine.synchronize, _sleep=machine.spin, get_device_properties=lambda index: SimpleNamespace(uuid=None)
    )
    monkeypatch.setattr(torch, "cuda" if kind == "rocm" else kind, module, raising=False)
    return gpu_timers.TorchGpuTimer(DeviceFacts(kind, "Fake", "fake", 1, 10**9, 1000, "d"), clock=clock)


def cupy_timer(kind, machine, monkeypatch, clock=None):
    import numpy

    cuda = SimpleNamespace(
        Event=Event,
        Device=lambda index=0: SimpleNamespace(use=lambda: None, synchronize=machine.synchronize),
        runtime=SimpleNamespace(getDeviceProperties=lambda index: {}),
        get_elapsed_time=lambda begin, end: begin.elapsed_time(end),
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, empty=numpy.empty, uint8=numpy.uint8))
    monkeypatch.setattr(stamp_cupy, "cupy_hold", lambda: machine.spin)
    timer = gpu_timers.CupyGpuTimer(DeviceFacts(kind, "Fake", "fake", 1, 10**9, 1000, "d"), clock=clock)
    machine.log.clear()  # of the trial whether the kernel that holds compiles
    return timer


HELD = [(torch_timer, "cuda"), (torch_timer, "rocm"), (cupy_timer, "cuda")]
UNHELD = [(torch_timer, "xpu"), (torch_timer, "npu"), (torch_timer, "mps")]


@pytest.mark.parametrize(("make", "kind"), [*HELD, *UNHELD])
def test_a_call_is_timed_by_events_in_seconds_and_waited_for(make, kind, machine, monkeypatch):
    timer = make(kind, machine, monkeypatch)
    machine.work(50e-3)  # what is still queued from before is not in the time
    assert timer.time_call(lambda: machine.work(2e-3)).time_s == pytest.approx(2e-3)
    assert machine.log[-1] == "wait"
    assert timer.clock_source == "device"


def many_small(machine, count=100):
    for _ in range(count):
        machine.work(1e-6)


@pytest.mark.parametrize(("make", "kind"), HELD)
def test_a_call_of_many_kernels_is_wholly_queued_once_its_queueing_time_is_known(make, kind, machine, monkeypatch):
    timer = make(kind, machine, monkeypatch)
    first, *others = [timer.time_call(lambda: many_small(machine)) for _ in range(3)]
    # The first hold was made for a single launch: its time holds most of the millisecond of issuing, and it says so.
    assert not first.queued
    assert first.time_s > 0.8e-3
    assert all(timed.queued for timed in others)
    assert [timed.time_s for timed in others] == pytest.approx([100e-6] * 2)


@pytest.mark.parametrize(("make", "kind"), HELD)
def test_a_call_that_waits_for_the_device_is_never_queued_and_its_hold_is_given_up(make, kind, machine, monkeypatch):
    timer = make(kind, machine, monkeypatch)

    def waits():
        machine.work(1e-6)
        machine.synchronize()

    held_s = []
    for _ in range(30):
        begin_s = machine.host_s
        assert not timer.time_call(waits).queued
        held_s.append(machine.host_s - begin_s)
    assert max(held_s) < hold.LONGEST_S + 1e-3
    # It is given up: each call now costs what a single launch would.
    assert held_s[-1] < 2 * hold.SHORTEST_S
    # Another call starts anew.
    timer.start()
    assert [timer.time_call(lambda: many_small(machine)).queued for _ in range(3)] == [False, True, True]


@pytest.mark.parametrize(("make", "kind"), HELD)
def test_where_issuing_is_what_is_measured_nothing_is_held(make, kind, machine, monkeypatch):
    timer = make(kind, machine, monkeypatch)
    for _ in range(3):
        timed = timer.time_call(lambda: many_small(machine), queue=False)
    assert "hold" not in machine.log
    assert timed.time_s == pytest.approx(100 * ISSUE_S, rel=0.02)
    assert timed.queued


@pytest.mark.parametrize(("make", "kind"), UNHELD)
def test_a_device_that_cannot_be_held_says_that_launch_cost_may_be_in_the_time(make, kind, machine, monkeypatch):
    assert not make(kind, machine, monkeypatch).time_call(lambda: many_small(machine)).queued


def test_one_slow_call_does_not_hold_the_stream_long_for_ever(machine, monkeypatch):
    timer = torch_timer("cuda", machine, monkeypatch)

    def compiles():
        machine.host_s += 3.0
        machine.work(1e-6)

    timer.time_call(compiles)
    for _ in range(hold.REMEMBERED):
        timer.time_call(lambda: machine.work(1e-6))
    begin_s = machine.host_s
    timer.time_call(lambda: machine.work(1e-6))
    assert machine.host_s - begin_s < 2 * hold.SHORTEST_S


@pytest.mark.parametrize(("make", "kind"), [(torch_timer, "cuda"), (cupy_timer, "cuda")])
def test_the_clock_is_stamped_outside_the_events_and_around_the_hold(make, kind, machine, monkeypatch):
    timer = make(kind, machine, monkeypatch, Clock(machine))
    timed = timer.time_call(lambda: machine.work(20e-6))
    assert machine.log == ["stamp", "hold", "event", "work", "event", "stamp", "wait"]
    assert (timed.clock_hz, timed.time_s) == (1.5e9, pytest.approx(20e-6))


@pytest.mark.parametrize(("make", "kind"), [*HELD, *UNHELD])
def test_calls_back_to_back_are_timed_one_by_one_with_a_single_wait(make, kind, machine, monkeypatch):
    timer = make(kind, machine, monkeypatch)
    durations = iter([1e-3, 2e-3, 3e-3])
    assert timer.time_each(lambda: machine.work(next(durations)), 3) == pytest.approx([1e-3, 2e-3, 3e-3], abs=1.5 * ISSUE_S)
    assert machine.log.count("wait") == 1


@pytest.mark.parametrize(("make", "kind"), [*HELD, *UNHELD])
def test_a_burst_is_timed_as_a_whole_with_its_clock_and_a_single_wait(make, kind, machine, monkeypatch):
    timer = make(kind, machine, monkeypatch, Clock(machine))
    timed = timer.time_burst(lambda: machine.work(1e-3), 5)
    assert (timed.time_s, timed.clock_hz) == (pytest.approx(5e-3, abs=1.5 * ISSUE_S), 1.5e9)
    assert machine.log.count("wait") == 1


@pytest.mark.parametrize(("make", "kind"), [*HELD, *UNHELD])
def test_the_chip_can_be_looked_at_while_it_works_on_a_burst(make, kind, machine, monkeypatch):
    busy = []
    timer = make(kind, machine, monkeypatch)
    timer.time_burst(lambda: machine.work(1e-3), 5, lambda: busy.append(machine.free_s > machine.host_s))
    assert busy == [True]


@pytest.mark.parametrize("make", [torch_timer, cupy_timer])
def test_twice_the_cache_is_overwritten_to_evict_it(make, machine, monkeypatch):
    timer = make("cuda", machine, monkeypatch)
    assert timer._eviction.nbytes == 2 * 1000
    timer.evict_cache()
    assert not timer._eviction.any()


@pytest.mark.parametrize(
    ("name", "gib", "chip_id"),
    [
        ("NVIDIA H100 80GB HBM3", 79.1, "h100-sxm-80gb"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "a100-sxm-40gb"),
        ("Tesla V100-SXM2-16GB", 15.8, "v100-sxm2-16gb"),
        ("Tesla P100-PCIE-16GB", 15.9, "p100-pcie-16gb"),
        ("NVIDIA Something New", 64.0, "nvidia-something-new"),
    ],
)
def test_a_gpu_is_recognised_by_name_and_memory_or_named_after_its_driver_name(name, gib, chip_id):
    facts = gpu._facts("cuda", name, 1, int(gib * 2**30), None, "d")
    assert facts.chip_id == chip_id
    assert bool(facts.peak_flops_per_s) == (chip_id != "nvidia-something-new")
    assert facts.cache_bytes > 0


def test_the_clock_at_which_the_peaks_hold_comes_with_them():
    assert gpu._facts("cuda", "NVIDIA H100 80GB HBM3", 1, int(79.1 * 2**30), None, "d").peak_clock_hz == 1830e6
