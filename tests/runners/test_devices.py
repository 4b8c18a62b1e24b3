"""What the host says of itself, and how chips are recognised."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from chipassay.results.catalogue import find_chip
from chipassay.results.profile import Evidence, Quantity
from chipassay.runners.devices import cpu, discover, memory
from chipassay.runners.devices.facts import DeviceFacts, host_hash, slug
from chipassay.runners.devices.gpu import catalogue_peaks
from chipassay.runners.devices.host import native_dtypes, processor, usable_cores

EPYC = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t: fpu avx512f avx512_bf16\n"
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd asimdhp bf16 i8mm\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd40\n"


def test_an_x86_cpu_is_read_by_family_and_model():
    found = processor(EPYC)
    assert (found.name, found.vendor, found.family, found.model) == ("AMD EPYC", "AuthenticAMD", 25, 17)
    assert "avx512_bf16" in found.flags


def test_an_arm_cpu_is_read_by_implementer_and_part():
    found = processor(GRAVITON)
    assert (found.vendor, found.family, found.model) == ("ARM", 8, 0xD40)
    assert native_dtypes(found.flags) == {"fp64", "fp32", "fp16", "bf16", "int8"}


def test_a_cpu_without_bf16_units_has_no_native_bf16():
    assert "bf16" not in (native_dtypes(frozenset({"avx2", "fma"})) or ())
    assert native_dtypes(frozenset()) is None


def test_a_container_quota_limits_the_cores():
    assert usable_cores("100000 100000") == 1
    assert usable_cores("max 100000") >= 1
    assert usable_cores("50000 100000") == 1


def test_facts_survive_the_pipe():
    facts = DeviceFacts(
        "cuda", "X", "x", 8, 1, 2, "d", compute_capability=(9, 0), native_dtypes=frozenset({"bf16"}),
        architecture="gfx942", peak_clock_hz=1.8e9, clock="words",
        peak_flops_per_s={"bf16": Quantity(1e15, Evidence("published", "sheet"))}, notes=("n",),
    )  # fmt: skip
    assert DeviceFacts.from_dict(json.loads(json.dumps(facts.to_dict()))) == facts
    assert facts.target.architecture == "gfx942"


def test_the_host_is_hashed_not_named():
    import platform

    assert len(host_hash()) == 12
    assert platform.node() not in host_hash()
    assert host_hash() == host_hash()


def test_peaks_carry_their_evidence():
    peak = catalogue_peaks(find_chip("h100-sxm-80gb"))["bf16"]
    assert peak.value == pytest.approx(989.4e12)
    assert peak.evidence.level in ("published", "measured")


def test_names_become_file_names():
    assert slug("Intel(R) Xeon(R) @ 2.0GHz") == "intel-r-xeon-r-2-0ghz"


def test_the_clock_chain_measures_a_clock_a_cpu_can_have():
    pytest.importorskip("torch")
    core = cpu.find_core()
    if core is None or core.fp_add_latency_cycles is None:
        pytest.skip("the addition latency of this CPU is not in the catalogue")
    assert 0.5e9 < cpu.chain_clock_hz(core) < 8e9


def test_a_cpus_condition_says_how_its_clock_was_read():
    timer = cpu.CpuTimer(DeviceFacts("cpu", "X", "x", 1, 1, 1000, "d"))
    found = timer.condition()
    assert (found.clock_hz is None) == (found.clock_method is None)
    assert found.clock_method in (None, "chain")
    assert timer.energy_j() is None


def test_a_burst_of_calls_on_a_cpu_is_timed_as_a_whole(monkeypatch):
    timer = cpu.CpuTimer(DeviceFacts("cpu", "X", "x", 1, 1, 1000, "d"))
    now = [0]
    monkeypatch.setattr(cpu.time, "perf_counter_ns", lambda: now[0])

    def call():
        now[0] += 1_000_000

    assert timer.time_burst(call, 5).time_s == pytest.approx(5e-3)
    assert timer.time_call(call).time_s == pytest.approx(1e-3)


@pytest.mark.parametrize("readable", [True, False])
def test_a_gpu_is_found_with_its_clock_or_the_reason_why_it_has_none(monkeypatch, readable):
    facts = DeviceFacts("cuda", "X", "x", 1, 1, 1000, "d")
    clock = object() if readable else None
    monkeypatch.setattr(discover, "gpu_facts", lambda backend: facts if backend == "torch" else None)
    monkeypatch.setattr(discover, "open_clock", lambda facts: (clock, "words"))
    monkeypatch.setattr(discover, "TorchGpuTimer", lambda facts, clock: SimpleNamespace(clock=clock))
    found = discover.discover()
    assert found.facts.clock == "words"
    assert found.timer.clock is clock


@pytest.mark.parametrize("kind", ["cuda", "rocm", "xpu", "npu"])
def test_free_memory_is_asked_of_whichever_module_drives_the_device(monkeypatch, kind):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(memory, "why_not", lambda backend, target: None)
    module = SimpleNamespace(mem_get_info=lambda: (5, 9))
    monkeypatch.setattr(torch, "cuda" if kind == "rocm" else kind, module, raising=False)
    facts = DeviceFacts(kind, "X", "x", 1, 1, 1, "d")
    assert memory.free_bytes(facts) == 5.0
    del module.mem_get_info
    assert memory.free_bytes(facts) is None


def test_pools_of_a_device_that_was_used_are_released(monkeypatch):
    torch = pytest.importorskip("torch")
    released = []
    used = SimpleNamespace(is_initialized=lambda: True, empty_cache=lambda: released.append("xpu"))
    monkeypatch.setattr(torch, "xpu", used)
    memory.release_pools()
    assert released == ["xpu"]


def test_an_unknown_cpu_has_no_clock_rather_than_a_guess():
    assert cpu.chain_clock_hz(None) is None
