"""The pytest plugin: the fixtures against a chip made of numbers."""

from __future__ import annotations

import functools
import gc
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from chipassay.results.cells import from_text
from chipassay.results.errors import InputError, UnknownName
from chipassay.results.profile import Evidence, Quantity
from chipassay.results.schema import NAMES
from chipassay.runners.devices.discover import Device
from chipassay.runners.devices.facts import DeviceFacts
from chipassay.runners.pytest_plugin import chip_benchmark as module
from chipassay.runners.pytest_plugin.chip import Chip
from chipassay.runners.pytest_plugin.chip_benchmark import ChipBenchmark, Limits
from chipassay.runners.pytest_plugin.correct import WrongResult, relative_error
from chipassay.runners.pytest_plugin.options import Options, dtype_name
from chipassay.runners.pytest_plugin.replay import ReplayFailed, replay
from chipassay.runners.pytest_plugin.where import on_host_alone

from .fakes import FakeChip, noisy, steady

SHEET = Evidence("published", "a sheet")
GPU = DeviceFacts(
    "cuda", "X1", "x1-8gb", 2, 8 * 10**9, 10**6, "driver 1", native_dtypes=frozenset({"fp32", "bf16"}),
    peak_flops_per_s={"bf16": Quantity(4e12, SHEET)}, peak_bandwidth_bytes_per_s=Quantity(1e12, SHEET),
)  # fmt: skip
HOST = DeviceFacts("cpu", "Host", "cpu-host-2c", 1, 10**9, 10**6, "Linux", threads=2)


def chip_of(timer: FakeChip, facts: DeviceFacts = GPU) -> Chip:
    return Chip(Device(facts, timer, "cpu" if facts.kind == "cpu" else "cuda:0"))


@pytest.fixture
def make(benchmark, request):
    """Makes the fixture's object over a fake chip and pytest-benchmark's real fixture, whose results stay out of our own table."""
    benchmark.disabled = False
    benchmark._add_stats = lambda stats: None
    return lambda timer, facts=GPU: ChipBenchmark(benchmark, chip_of(timer, facts), request.node, "run1", Limits(1.0, 5, False))


def test_each_cold_sample_finds_the_cache_evicted(make):
    timer = FakeChip(steady(1e-2))
    chip_benchmark = make(timer)
    chip_benchmark(int)
    assert chip_benchmark.row.cache == "cold"
    assert timer.log[-6:] == ["evict", "call"] * 3


def test_a_warm_cache_is_left_alone_and_the_row_says_so(make):
    timer = FakeChip(steady(1e-2))
    chip_benchmark = make(timer).options(cache="warm")
    chip_benchmark(int)
    assert (chip_benchmark.row.cache, timer.log.count("evict")) == ("warm", 0)


def test_what_a_call_uses_up_is_refilled_before_each_sample(make):
    timer = FakeChip(steady(1e-2))
    make(timer).options(before_sample=lambda: timer.log.append("refill"))(int)
    assert timer.log[-6:] == ["refill", "evict", "call"] * 2


def test_pytest_benchmark_gets_every_sample_to_the_last_bit(make, benchmark):
    taken = []

    def durations():
        for duration_s in noisy(1e-2, 0.1):
            taken.append(duration_s)
            yield duration_s

    chip_benchmark = make(FakeChip(durations()))
    chip_benchmark(int)
    times_s = benchmark.stats.stats.data
    assert len(times_s) >= 10
    assert times_s == taken[-len(times_s) :]
    assert chip_benchmark.row.sample_count == len(times_s)
    assert "device_clock" in str(benchmark.stats.as_dict()["options"]["timer"])


def test_the_row_says_which_chip_how_fast_and_what_share_of_its_peak(make):
    chip_benchmark = make(FakeChip(steady(1e-3)))
    chip_benchmark.options(op="matmul", dtype="bf16", m=1000, n=1000, k=1000, flops=2e9, bytes=6e6)(int)
    row = chip_benchmark.row
    assert (row.chip_id, row.device_name, row.device_kind, row.launch, row.clock_source) == ("x1-8gb", "X1", "cuda", "stream", "device")
    assert (row.op, row.dtype, row.m, row.native, row.status, row.run_id) == ("matmul", "bf16", 1000, True, "ok", "run1")
    assert row.time_median_s == pytest.approx(1e-3)
    assert row.rate_flops_per_s == pytest.approx(2e12)
    assert row.bandwidth_bytes_per_s == pytest.approx(6e9)
    assert (row.peak_fraction, row.peak_evidence) == (pytest.approx(0.5), "published")
    assert row.roofline_fraction == pytest.approx(0.5)


def test_a_memory_operation_is_held_against_the_bandwidth(make):
    chip_benchmark = make(FakeChip(steady(1e-3))).options(op="copy", dtype="fp32", bytes=2.5e8)
    chip_benchmark(int)
    assert chip_benchmark.row.peak_fraction == pytest.approx(0.25)


@pytest.mark.parametrize("told", [{}, {"op": "matmul", "dtype": "bf16"}, {"op": "copy", "dtype": "bf16"}], ids=str)
def test_work_that_is_not_told_is_held_against_nothing(make, told):
    chip_benchmark = make(FakeChip(steady(1e-6))).options(**told)
    chip_benchmark(int)
    row = chip_benchmark.row
    assert (row.peak_fraction, row.roofline_fraction, row.rate_flops_per_s, row.bandwidth_bytes_per_s) == (None, None, None, None)
    assert "peak" not in (row.flags or "")


def test_a_rate_beyond_the_peak_is_flagged(make):
    chip_benchmark = make(FakeChip(steady(1e-3))).options(op="matmul", dtype="bf16", flops=5e9)
    chip_benchmark(int)
    assert chip_benchmark.row.flags == "above the chip's peak rate"


def test_samples_that_began_before_they_were_queued_are_flagged_whatever_is_told(make):
    chip_benchmark = make(FakeChip(steady(1e-2), unqueued=frozenset(range(10_000))))
    chip_benchmark(int)
    assert chip_benchmark.row.flags == "launch cost may be in the time"


@pytest.mark.parametrize("value", [1, "a"])
def test_the_row_is_named_by_test_and_parameters(make, value, request):
    chip_benchmark = make(FakeChip(steady(1e-2)))
    chip_benchmark(int)
    assert request.node.nodeid == f"{chip_benchmark.row.kernel}[{value}]"
    assert chip_benchmark.row.variant == f"value={value}"


def test_extra_info_is_the_row_and_survives_json(make, benchmark):
    chip_benchmark = make(FakeChip(noisy(1e-2, 0.1))).options(op="matmul", m=8, flops=10, layout="nt", reference=0.0, tolerance=1.0)
    chip_benchmark(float)
    cells = json.loads(json.dumps(benchmark.extra_info))["chipassay"]
    assert {name: from_text(name, cells.get(name, "")) for name in NAMES} == {name: getattr(chip_benchmark.row, name) for name in NAMES}


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"reference": [1.0, 2.0], "tolerance": 0.1}, 0.5),
        ({"reference": lambda values: [1.0, 2.0], "tolerance": 0.1}, 0.5),
        ({"reference": [1.0, 3.0, 4.0], "tolerance": 9.0}, None),  # another shape
        ({"check": lambda result: False}, None),
        ({"check": lambda result: np.testing.assert_allclose(result, [1.0, 2.0])}, None),
    ],
    ids=["reference", "function", "shape", "false", "assertion"],
)
def test_a_wrong_result_fails_before_anything_is_timed(make, benchmark, told, error):
    timer = FakeChip(steady(1e-2))
    chip_benchmark = make(timer).options(**told)
    with pytest.raises(WrongResult, match="not timed"):
        chip_benchmark(list, [1.0, 3.0])
    assert timer.log == ["call"]
    assert benchmark.has_error
    assert not benchmark.stats.stats.data
    assert (chip_benchmark.row.status, chip_benchmark.row.error, chip_benchmark.row.time_median_s) == ("incorrect", error, None)


def test_a_right_result_leaves_its_error_in_the_row_and_comes_back(make):
    chip_benchmark = make(FakeChip(steady(1e-2))).options(reference=np.array([1.0, 2.0]), tolerance=0.3)
    assert chip_benchmark(list, [1.0, 2.5]) == [1.0, 2.5]
    assert (chip_benchmark.row.error, chip_benchmark.row.error_limit) == (0.25, 0.3)


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("a\nb"), "error"), (MemoryError(), "out_of_memory"), (RuntimeError("CUDA out of memory"), "out_of_memory")],
)
def test_what_the_function_raises_fails_the_test_and_is_in_the_row(make, error, status):
    def broken():
        raise error

    chip_benchmark = make(FakeChip(steady(1e-2)))
    with pytest.raises(type(error)):
        chip_benchmark(broken)
    assert chip_benchmark.row.status == status
    assert chip_benchmark.row.reason.startswith(type(error).__name__)


def test_disabled_it_runs_once_and_is_checked_all_the_same(make, benchmark):
    timer, calls = FakeChip(steady(1e-2)), []
    chip_benchmark = make(timer)
    benchmark.disabled = True
    with pytest.raises(WrongResult):
        chip_benchmark.options(check=lambda result: False)(calls.append, 1)
    assert (calls, timer.log, chip_benchmark.row) == ([1], [], None)


def test_a_second_use_in_a_test_is_refused(make):
    chip_benchmark, calls = make(FakeChip(steady(1e-2))), []
    chip_benchmark(int)
    with pytest.raises(Exception, match="Fixture can only be used once"):
        chip_benchmark(calls.append, 1)
    assert calls == []


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"flop": 1.0}, "did you mean flops"),
        ({"m": 2.5}, "m=2.5.*'2.5' is not a whole number"),
        ({"cache": "hot"}, "write cold or warm"),
        ({"device": "cuda:1"}, "--chipassay-device"),
        ({"reference": 1.0}, "tolerance=1e-5"),
        ({"max_time_s": -1.0}, "write seconds, more than 0"),
        ({"op": ""}, "has a name"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused_with_the_mend(told, words):
    with pytest.raises((InputError, UnknownName), match=words):
        Options().with_(told)


def test_a_function_of_the_host_is_measured_on_the_host_beside_a_gpu(make, monkeypatch):
    gpu, host = FakeChip(steady(1e-2)), FakeChip(steady(2e-2), clock_source="host")
    monkeypatch.setattr(module, "_host", lambda: chip_of(host, HOST).device)
    chip_benchmark = make(gpu).options(device="cpu")
    chip_benchmark(int)
    row = chip_benchmark.row
    assert gpu.log == []
    assert (row.device_kind, row.chip_id, row.launch, row.clock_source, row.threads) == ("cpu", "cpu-host-2c", "call", "host", 2)
    assert row.time_median_s == pytest.approx(2e-2)


def test_arrays_of_the_host_alone_are_no_work_of_a_gpu_unless_the_test_says_so(make):
    timer = FakeChip(steady(1e-2))
    chip_benchmark = make(timer)
    with pytest.raises(InputError, match=r"the chip under test is X1; .*device='cpu'"):
        chip_benchmark(np.sort, np.ones(3))
    assert timer.log == ["call"]
    assert chip_benchmark.row.status == "error"


def test_a_function_may_use_the_chip_inside(make):
    chip_benchmark = make(FakeChip(steady(1e-2))).options(device="chip")
    chip_benchmark(np.sort, np.ones(3))
    assert (chip_benchmark.row.status, chip_benchmark.row.device_kind) == ("ok", "cuda")


@pytest.mark.parametrize("kind", ["torch", "jax", "cupy"])
def test_arrays_of_a_device_are_known_by_what_their_libraries_say_of_it(kind):
    device = {"torch": SimpleNamespace(type="cuda"), "jax": SimpleNamespace(platform="gpu"), "cupy": SimpleNamespace(id=0)}[kind]
    array = SimpleNamespace(dtype="f4", shape=(1,), device=device)
    assert not on_host_alone([np.ones(1), {"out": [array]}])
    assert on_host_alone([np.ones(1), {"out": [SimpleNamespace(dtype="f4", shape=(1,), device=SimpleNamespace(type="cpu"))]}])


def test_nothing_collects_or_traces_while_samples_are_taken(make):
    seen = []
    chip_benchmark = make(FakeChip(steady(1e-2)))
    chip_benchmark._limits = replace(chip_benchmark._limits, disable_gc=True)
    # Of the environment: a coverage tool may be tracing this very test.
    before = sys.gettrace(), gc.isenabled()
    chip_benchmark(lambda: seen.append((sys.gettrace(), gc.isenabled())))
    assert set(seen[1:]) == {(None, False)}
    assert (sys.gettrace(), gc.isenabled()) == before


@pytest.mark.benchmark(max_time=0.25, min_rounds=7)
def test_limits_are_those_of_pytest_benchmarks_marker_else_of_its_command_line(request):
    limits = Limits.of(request)
    assert (limits.max_time_s, limits.min_rounds) == (0.25, 7)
    assert limits.disable_gc is request.config.getoption("benchmark_disable_gc")


def test_time_is_capped_and_few_samples_are_enough_for_a_long_call(make):
    timer = FakeChip(steady(3.0))
    chip_benchmark = make(timer).options(max_time_s=2.0)
    chip_benchmark(int)
    assert (chip_benchmark.row.sample_count, chip_benchmark.row.stop_reason) == (5, "time_cap")


def test_a_pytest_benchmark_that_times_by_other_means_is_found_out():
    stub = SimpleNamespace(stats=SimpleNamespace(stats=SimpleNamespace(data=[1.0])), pedantic=lambda *args, **kwargs: None)
    with pytest.raises(ReplayFailed, match="keeps other times"):
        replay(stub, [1e-3], "host", int)


def test_errors_are_relative_to_the_largest_of_the_reference():
    assert relative_error(np.array([1.0, 9.0]), np.array([2.0, 10.0])) == pytest.approx(0.1)
    assert relative_error((1.0, 2.0), (1.0, 4.0)) == 0.5
    assert relative_error(np.array([3 + 4j]), np.array([0j])) == 5.0
    assert relative_error(np.array([1.0, np.nan]), np.array([1.0, 1.0])) == float("inf")
    assert relative_error([], []) == 0.0


def test_arrays_of_torch_are_compared_in_float64():
    torch = pytest.importorskip("torch")
    third = torch.tensor([1 / 3], dtype=torch.bfloat16)
    # bf16 keeps 8 bits: 1/3 is 171/512 there.
    assert relative_error(third, np.array([171 / 512])) == 0.0
    assert dtype_name(third.dtype) == "bf16"


@pytest.mark.parametrize(
    ("dtype", "name"), [(np.float32, "fp32"), (np.dtype("float16"), "fp16"), ("fp8_e4m3", "fp8_e4m3"), (np.int8, "int8")]
)
def test_element_types_have_the_tables_names(dtype, name):
    assert dtype_name(dtype) == name


def test_the_chip_says_what_it_is():
    chip = chip_of(FakeChip(steady(1.0)))
    assert (chip.kind, chip.name, chip.chip_id, chip.count, chip.torch_device) == ("cuda", "X1", "x1-8gb", 2, "cuda:0")
    assert chip.peak_flops_per_s["bf16"].evidence.level == "published"
    assert (chip.supports("bf16"), chip.supports("fp8_e4m3")) == (True, False)
    chip.skip_unless("cuda", "rocm", dtype="bf16", count=2)
    chip.skip_unless("gpu")
    for needs, words in [
        (functools.partial(chip.skip_unless, "cpu"), r"needs cpu; the device under test is cuda \(X1\)"),
        (functools.partial(chip.skip_unless, dtype="fp64"), "needs fp64, which X1 does not compute in hardware"),
        (functools.partial(chip.skip_unless, count=8), "needs 8 chips; 2 of X1 are here"),
        (functools.partial(chip_of(FakeChip(steady(1.0)), HOST).skip_unless, "gpu"), "needs gpu; the device under test is cpu"),
    ]:
        with pytest.raises(pytest.skip.Exception, match=words):
            needs()
