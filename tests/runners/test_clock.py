"""The chip's clock from stamps of its counters: arithmetic on simulated chips, and the stamp kernels compiled for real ones."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipassay.runners.devices import clock as clock_module
from chipassay.runners.devices.clock import FEWEST_TICKS, calibrated, clock_hz, open_clock, smallest_step
from chipassay.runners.devices.facts import DeviceFacts
from chipassay.runners.devices.stamp_triton import assembly

H100 = DeviceFacts("cuda", "Fake", "fake", 1, 10**9, 1000, "d")


class SimulatedChip:
    """Multiprocessors whose cycle counters started at different times, and one nanosecond timer with a tick."""

    library = "test"

    def __init__(self, hz, tick_ns, units=20, seed=0):
        self.hz, self.tick_ns, self.units = hz, tick_ns, units
        self.random = random.Random(seed)
        self.offsets = [self.random.randrange(10**12) for _ in range(units)]
        self.now_ns = 10**15 + self.random.random()
        self.buffers = np.zeros((2, units, 3), dtype=np.int64)

    def stamp(self, which):
        # One program lands on each multiprocessor, in any order; now and then two on one.
        landed = self.random.sample(range(self.units), self.units)
        landed[0] = landed[-1]
        for program, unit in enumerate(landed):
            self.now_ns += self.random.random() * 20
            cycles = self.offsets[unit] + int(self.now_ns * self.hz / 1e9)
            self.buffers[which, program] = unit, cycles, int(self.now_ns // self.tick_ns) * self.tick_ns

    def fetch(self):
        return self.buffers.copy()

    def wait(self, seconds):
        self.now_ns += seconds * 1e9


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    hz=st.floats(2e8, 3e9),
    tick_ns=st.sampled_from([1, 10, 32, 1000, 1024]),
    span_ticks=st.floats(1.2 * FEWEST_TICKS, 1e6),
    seed=st.integers(0, 100),
)
def test_the_clock_is_right_within_what_the_tick_allows(hz, tick_ns, span_ticks, seed):
    chip = SimulatedChip(hz, tick_ns, seed=seed)
    chip.stamp(0)
    chip.wait(span_ticks * tick_ns * 1e-9)
    chip.stamp(1)
    found = clock_hz(*chip.fetch(), tick_ns)
    assert found == pytest.approx(hz, rel=1.0 / FEWEST_TICKS + 1e-3)


@pytest.mark.parametrize("tick_ns", [32, 1024])
def test_an_interval_too_short_for_the_timer_gives_no_clock(tick_ns):
    chip = SimulatedChip(1.8e9, tick_ns)
    chip.stamp(0)
    chip.wait(0.5 * FEWEST_TICKS * tick_ns * 1e-9)
    chip.stamp(1)
    assert clock_hz(*chip.fetch(), tick_ns=tick_ns) is None


def test_multiprocessors_that_only_one_stamp_saw_do_not_count():
    before = np.array([[0, 100, 0], [7, 10**9, 0]])
    after = np.array([[8, 5, 10**6], [0, 100 + 1_500_000, 10**6]])
    assert clock_hz(before, after, 1) == 1.5e9
    assert clock_hz(before[1:], after, 1) is None


@pytest.mark.parametrize("cycles", [0, -5, 10**12])
def test_counters_that_stand_still_run_back_or_race_are_no_clock(cycles):
    assert clock_hz(np.array([[0, 0, 0]]), np.array([[0, cycles, 10**6]]), 1) is None


@pytest.mark.parametrize("tick_ns", [1, 32, 1000])
def test_the_tick_is_learned_from_the_readings(tick_ns):
    chip = SimulatedChip(1.4e9, tick_ns)
    clock = calibrated(chip, wait=chip.wait)
    assert clock.tick_ns == tick_ns
    clock.before()
    chip.wait(1e-3)
    clock.after()
    assert clock.read() == pytest.approx(1.4e9, rel=0.01)


def test_a_timer_that_never_moves_is_no_clock():
    chip = SimulatedChip(1.4e9, 10**18)
    assert calibrated(chip, wait=chip.wait) is None
    assert smallest_step(np.array([5, 5])) is None


def test_what_cannot_be_read_is_told_with_its_reasons(monkeypatch):
    assert open_clock(DeviceFacts("xpu", "X", "x", 1, 1, 1, "d")) == (None, "the counters of a xpu device are not read yet")

    def no_library(facts, index):
        raise ImportError("No module named 'triton'")

    dead = SimulatedChip(1e3, 1)
    monkeypatch.setattr(clock_module, "_triton_stamper", no_library)
    monkeypatch.setattr(clock_module, "_cupy_stamper", lambda facts, index: dead)
    found, words = open_clock(H100)
    assert found is None
    assert words == (
        "cannot be read on the chip (Triton: ImportError (No module named 'triton'); CuPy: the counters do not read like a clock)"
    )


def test_the_first_library_that_reads_a_clock_is_taken(monkeypatch):
    chip = SimulatedChip(1.4e9, 32)
    monkeypatch.setattr(clock_module, "calibrated", lambda stamper: calibrated(stamper, wait=chip.wait))
    monkeypatch.setattr(clock_module, "_triton_stamper", lambda facts, index: chip)
    found, words = open_clock(H100)
    assert found.stamper is chip
    assert words == "read on the chip around each call, through Triton; its timer steps by 32 ns"


def test_amd_chips_with_other_counters_are_refused():
    assert "HW_REG_XCC_ID" in assembly("rocm", "gfx942")["ASSEMBLY"]
    assert "HW_REG_XCC_ID" not in assembly("rocm", "gfx90a")["ASSEMBLY"]
    with pytest.raises(NotImplementedError, match="gfx1100"):
        assembly("rocm", "gfx1100")


COUNTERS = {
    "sm_80": ("%smid", "%clock64", "%globaltimer"),
    "sm_90": ("%smid", "%clock64", "%globaltimer"),
    "sm_100": ("%smid", "%clock64", "%globaltimer"),
    "gfx942": ("HW_REG_HW_ID", "HW_REG_XCC_ID", "s_memtime", "s_memrealtime"),
}


def test_the_triton_stamp_compiles_for_each_generation_and_reads_the_counters():
    pytest.importorskip("triton")
    from ..kernels.compiling import CHIPS, Job, broken_limits, cannot_compile, compile_all

    chips = [chip for chip in COUNTERS if cannot_compile(chip) is None]
    jobs = [
        Job(
            name=chip,
            kernel="chipassay.runners.devices.stamp_triton:stamp",
            chip=chip,
            types={"out": "*i64"},
            constants=assembly("rocm", chip) if CHIPS[chip].backend == "hip" else assembly("cuda", None),
            options={"num_warps": 1},
            # The second of two buffers need not begin at a multiple of 16 bytes.
            unaligned=("out",),
        )
        for chip in chips
    ]
    made = compile_all(jobs)
    assert chips
    for job in jobs:
        assert broken_limits(job, made[job.name]) == []
        assert [name for name in COUNTERS[job.chip] if name not in made[job.name].text] == []


@pytest.mark.skipif(sys.platform != "linux", reason="NVRTC's wheel is looked for under its Linux name")
@pytest.mark.parametrize("arch", [60, 70, 80, 90, 100])
def test_the_cuda_stamp_and_hold_compile_with_nvrtc(arch):
    ctypes = pytest.importorskip("ctypes")
    from chipassay.runners.devices.stamp_cupy import SOURCE

    library = nvrtc(ctypes)
    if library is None:
        pytest.skip("no NVRTC is here: it comes with CuPy's wheels (nvidia-cuda-nvrtc)")
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), SOURCE.encode(), b"stamp.cu", 0, None, None)
    options = (ctypes.c_char_p * 1)(f"--gpu-architecture=sm_{arch}".encode())
    code = library.nvrtcCompileProgram(program, 1, options)
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    words = log.value.decode()
    if code and "invalid value for --gpu-architecture" in words:
        pytest.skip(f"this NVRTC has no sm_{arch}")
    assert code == 0, words


def nvrtc(ctypes):
    """NVRTC of the system or of a wheel of NVIDIA's, None if there is none."""
    from pathlib import Path

    wheels = [str(found) for folder in sys.path for found in sorted(Path(folder or ".").glob("nvidia/*/lib/libnvrtc.so.*[0-9]"))]
    for name in ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", *wheels):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
