"""The GPU timers against stand-ins for torch's and CuPy's event interfaces: no GPU is here to run them on."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from chipassay.runners.devices import gpu
from chipassay.runners.devices.facts import DeviceFacts

FACTS = DeviceFacts("xpu", "Fake", "fake", 1, 10**9, 1000, "d")


class Stream:
    """A device queue whose work takes time only when it is synchronised."""

    def __init__(self):
        self.now_ms, self.queue, self.log = 0.0, [], []

    def work(self, ms):
        self.queue.append(ms)

    def synchronize(self):
        self.log.append("synchronize")


class Event:
    """Stamps the queue's length so far, as an event on the device would."""

    stream: Stream

    def __init__(self, enable_timing=True):
        assert enable_timing

    def record(self):
        self.at_ms = sum(self.stream.queue)

    def synchronize(self):
        self.stream.synchronize()

    def elapsed_time(self, end):
        return end.at_ms - self.at_ms


@pytest.fixture
def stream(monkeypatch):
    made = Stream()
    monkeypatch.setattr(Event, "stream", made, raising=False)
    return made


@pytest.fixture
def torch_timer(stream, monkeypatch):
    torch = pytest.importorskip("torch")
    real = torch.empty
    monkeypatch.setattr(torch, "xpu", SimpleNamespace(Event=Event, synchronize=stream.synchronize))
    monkeypatch.setattr(torch, "empty", lambda *shape, **more: real(*shape, **{**more, "device": "cpu"}))
    return gpu.TorchGpuTimer(FACTS)


@pytest.fixture
def cupy_timer(stream, monkeypatch):
    import numpy

    runtime = SimpleNamespace(getDeviceProperties=lambda index: {})
    cuda = SimpleNamespace(
        Event=Event,
        Device=lambda index: SimpleNamespace(use=lambda: None),
        runtime=runtime,
        get_elapsed_time=lambda begin, end: begin.elapsed_time(end),
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, empty=numpy.empty, uint8=numpy.uint8))
    return gpu.CupyGpuTimer(FACTS)


@pytest.mark.parametrize("timer", ["torch_timer", "cupy_timer"])
def test_a_call_is_timed_by_events_in_seconds_and_waited_for(timer, stream, request):
    timer = request.getfixturevalue(timer)
    stream.work(50.0)  # what is still queued from before is not in the time
    assert timer.time_call(lambda: stream.work(2.0)) == pytest.approx(2e-3)
    assert stream.log == ["synchronize"]
    assert timer.clock_source == "device"


@pytest.mark.parametrize("timer", ["torch_timer", "cupy_timer"])
def test_calls_back_to_back_are_timed_one_by_one_with_a_single_wait(timer, stream, request):
    timer = request.getfixturevalue(timer)
    durations = iter([1.0, 2.0, 3.0])
    assert timer.time_each(lambda: stream.work(next(durations)), 3) == pytest.approx([1e-3, 2e-3, 3e-3])
    assert stream.log == ["synchronize"]


@pytest.mark.parametrize("timer", ["torch_timer", "cupy_timer"])
def test_twice_the_cache_is_overwritten_to_evict_it(timer, request):
    timer = request.getfixturevalue(timer)
    assert timer._eviction.nbytes == 2 * FACTS.cache_bytes
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
