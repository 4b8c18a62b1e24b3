"""What only a GPU can prove: the clock on the chip, the hold, graphs, energy. Skipped where torch sees none. Run on an H200."""

from __future__ import annotations

import pytest

from chipassay.kernels.kernel import cases, kernels
from chipassay.runners.devices.discover import discover
from chipassay.runners.measure_kernel import KernelMeasurer

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA or ROCm device"),
]

COPY = {"elements": 2**26, "dtype": "fp32"}


@pytest.fixture(scope="module")
def device():
    found = discover()
    if found.facts.kind not in ("cuda", "rocm"):
        pytest.skip(f"the device found is {found.facts.kind}")
    return found


@pytest.fixture
def clock(device):
    clock = device.timer._clock
    if clock is None:
        pytest.skip(f"clock: {device.facts.clock}")
    return clock


def sleeping(cycles):
    return lambda: torch.cuda._sleep(cycles)


def test_a_kernel_of_known_cycles_takes_them_at_the_clock_that_is_read(device, clock):
    for cycles in (3_000_000, 30_000_000):
        timed = [device.timer.time_call(sleeping(cycles)) for _ in range(10)][-1]
        # The spinning kernel checks the same counter, so cycles / time is the clock, but for its start and end.
        assert timed.clock_hz * timed.time_s == pytest.approx(cycles, rel=0.03)


def test_a_short_call_has_a_clock_too(device, clock):
    call = sleeping(1000)
    clocks = [device.timer.time_call(call).clock_hz for _ in range(20)]
    assert None not in clocks
    assert max(clocks) < 1.1 * min(clocks)


def test_a_call_of_many_small_kernels_is_queued_before_it_begins(device):
    x = torch.zeros(1024, device="cuda")

    def many():
        for _ in range(100):
            x.add_(1.0)

    device.timer.start()
    timed = [device.timer.time_call(many) for _ in range(20)]
    assert all(one.queued for one in timed[10:])
    unheld = [device.timer.time_call(many, queue=False) for _ in range(10)]
    assert min(one.time_s for one in timed[10:]) <= min(one.time_s for one in unheld)


def test_eviction_makes_a_copy_that_fits_the_cache_slower(device):
    a = torch.ones(device.facts.cache_bytes // 16, dtype=torch.float32, device="cuda")
    b = torch.empty_like(a)

    def copy_s(evicted):
        if evicted:
            device.timer.evict_cache()
        return device.timer.time_call(lambda: b.copy_(a)).time_s

    warm = [copy_s(evicted=False) for _ in range(10)]
    cold = [copy_s(evicted=True) for _ in range(10)]
    assert min(cold) > 1.1 * min(warm)


@pytest.mark.parametrize("launch", ["stream", "graph"])
@pytest.mark.parametrize("backend", ["torch", "triton", "cupy"])
def test_rows_of_every_backend_are_right_with_their_clock_and_without_doubts(device, clock, backend, launch):
    measurer = KernelMeasurer(device)
    ((kernel, reason), *_) = measurer.runnable(op="copy", case=COPY, backend=backend, cache="cold", launch=launch)["kernels"]
    if reason is not None:
        pytest.skip(reason)
    wish = {"cache": "cold", "launch": launch, "seed": 1, "min_time_s": 0.2, "time_cap_s": 3.0}
    row = measurer.measure(op="copy", case=COPY, backend=backend, kernel=kernel, **wish)
    assert row["status"] == "ok", row.get("reason")
    assert (row["launch"], row["clock_method"]) == (launch, "device")
    assert len(row["sample_clocks_hz"]) == len(row["samples_s"])
    assert not {"above the memory's bandwidth", "launch cost may be in the time"} & set((row["flags"] or "").split(";"))


def test_graph_and_stream_agree_on_a_large_copy(device):
    arrays = KernelMeasurer(device)._arrays_for("torch")
    from chipassay.runners.devices.graphs import captured

    case = cases()["copy"](**COPY)
    inputs, output = case.make_inputs(arrays, 1), case.make_output(arrays)
    (kernel, *_) = kernels("copy", "torch")
    call = kernel.prepare(case, arrays, inputs, output)
    replay = captured(call, "torch")
    times_s = {}
    for name, one in (("stream", call), ("graph", replay)):
        times_s[name] = min(device.timer.time_call(one).time_s for _ in range(20))
    assert times_s["graph"] == pytest.approx(times_s["stream"], rel=0.05)


def test_the_energy_of_a_call_is_below_what_the_board_may_draw(device):
    if device.timer.energy_j() is None:
        pytest.skip("the chip counts no energy")
    from chipassay.runners.timing.steady import energy_of_call

    a = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
    time_s = [device.timer.time_call(lambda: a @ a).time_s for _ in range(5)][-1]
    found_j = energy_of_call(lambda: a @ a, device.timer, time_s, cap_s=2.0)
    assert found_j is not None
    assert 30.0 < found_j / time_s < 1500.0


def test_a_capture_that_fails_leaves_the_stream_and_the_device_as_they_were(device):
    from chipassay.runners.devices.graphs import CaptureFailed, captured

    x = torch.ones(1024, device="cuda")
    before = torch.cuda.current_stream()
    with pytest.raises(CaptureFailed):
        captured(lambda: x.sum().item(), "torch")
    assert torch.cuda.current_stream() == before
    assert captured(lambda: x.mul(2.0), "torch")().sum().item() == 2048.0


def test_a_graph_finds_what_its_call_owns_after_others_have_used_the_memory(device):
    from chipassay.runners.devices.graphs import captured

    def prepare():
        scale, out = torch.full((2**20,), 3.0, device="cuda"), torch.empty(2**20, device="cuda")
        return lambda: torch.mul(scale, 2.0, out=out)

    replay = captured(prepare(), "torch")
    for _ in range(10):
        torch.zeros(2**20, device="cuda")
    assert replay().eq(6.0).all()


@pytest.mark.parametrize("launch", ["stream", "graph"])
def test_torchs_events_time_what_cupy_launches(device, launch):
    """CuPy's current stream and torch's are the same null stream, where a graph of CuPy's is launched too."""
    cupy = pytest.importorskip("cupy")
    from chipassay.runners.devices.graphs import captured

    a = cupy.ones(2**26, dtype=cupy.float32)
    b = cupy.empty_like(a)

    def call():
        cupy.add(a, 1.0, out=b)
        return b

    one = captured(call, "cupy") if launch == "graph" else call
    torchs_s = min(device.timer.time_call(one).time_s for _ in range(10))
    own = []
    for _ in range(10):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        one()
        end.record()
        end.synchronize()
        own.append(cupy.cuda.get_elapsed_time(start, end) * 1e-3)
    assert torchs_s == pytest.approx(min(own), rel=0.1)
    # 512 MB move: no chip does so in 10 us.
    assert torchs_s > 1e-5


def test_processes_beside_the_measuring_one_compile_a_triton_kernel(device, tmp_path, monkeypatch):
    pytest.importorskip("triton")
    import time

    from chipassay.runners.compile_ahead import compile_ahead
    from chipassay.runners.workers.client import start_worker

    (name, *_) = [k.name for k in kernels("copy", "triton") if k.refuses(cases()["copy"](**COPY), device.facts.target) is None]
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    request = {"op": "copy", "case": COPY, "backend": "triton", "kernel": name}
    until_s = time.monotonic() + 120.0
    assert compile_ahead([request] * 2, 2, lambda: start_worker(None, tmp_path / "tuned", "compile"), 60.0, until_s) == 2
    assert list((tmp_path / "cache").rglob("*.cubin")) + list((tmp_path / "cache").rglob("*.hsaco"))
    assert not (tmp_path / "tuned").exists()
